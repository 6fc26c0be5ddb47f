//! Streams `usage` and `usage_process`, with the real daemon: what programs use, their dead included.

#![allow(clippy::unwrap_used, clippy::panic)] // a test

mod common;

use std::process::Command;

use common::{NamedRow, Place, Segment, Target, Victim, until};
use psmon::journal::line::Tick;
use psmon::journal::segment::Name;
use psmon::record::value::Value;

const PAGE: i64 = 4096;

/// Both streams each second and no other sampler; `more` are keys of `[usage]`, `top` those above all tables.
fn place(top: &str, more: &str) -> Place {
    Place::new(&format!(
        "args = \"full\"\n{top}\n[pss]\nenabled = false\n[usage]\ninterval = \"1s\"\n{more}\nps:enabled = false\n"
    ))
}

const BOTH: &str = "by = [\"program\", \"process\"]";

fn segment(place: &Place, stream: &str) -> Segment {
    Segment::read(&place.logs(), &Name::live(stream))
}

fn ticks(place: &Place) -> Vec<Tick> {
    segment(place, "usage").ticks().cloned().collect()
}

/// The newest row of a program, and all of them.
fn row(place: &Place, program: &str) -> Option<NamedRow> {
    rows(place, program).pop()
}

fn rows(place: &Place, program: &str) -> Vec<NamedRow> {
    segment(place, "usage").rows().into_iter().filter(|row| row.word("program") == program.as_bytes()).collect()
}

fn row_of(place: &Place, pid: u32) -> Option<NamedRow> {
    segment(place, "usage_process").rows_of(pid).pop()
}

/// Waits until a program's row holds this.
fn until_row(place: &Place, program: &str, what: &str, is: impl Fn(&NamedRow) -> bool) -> NamedRow {
    until(
        &format!("{program}: {what}; its rows: {:#?}; stderr: {}", rows(place, program).last(), place.stderr()),
        || row(place, program).is_some_and(|row| is(&row)),
    );
    row(place, program).unwrap()
}

fn until_ticks(place: &Place, more: usize) {
    let before = ticks(place).len();
    until("more ticks of usage", || ticks(place).len() >= before + more);
}

#[test]
fn the_dead_keep_counting_and_nothing_goes_back() {
    let place = place("", BOTH);
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut workers: Vec<Target> = (0..3).map(|_| Target::called(&place, "worker", "worker-dead")).collect();
    for (worker, pages) in workers.iter_mut().zip([100, 200, 300]) {
        worker.does(&format!("write {pages}"));
    }
    // They ran, and show it at the next reading.
    until_row(&place, "worker-dead", "three have written", |row| {
        row.number("procs") == 3 && row.number("wchar") >= 600 * PAGE
    });
    // One after another is killed, each after it has written once more.
    for mut worker in workers {
        worker.does("write 50");
        drop(worker);
        until_ticks(&place, 1);
    }
    let last = until_row(&place, "worker-dead", "none is left", |row| row.number("procs") == 0);
    assert_eq!((last.number("started"), last.number("exited")), (3, 3));
    // 750 pages, the answers, and of each of the dead at most a KiB that its record rounds down, and system calls below 1024.
    let wrote = last.number("wchar");
    assert!((750 * PAGE - 3 * 1024..760 * PAGE).contains(&wrote), "{wrote}");
    until("it is gone", || segment(&place, "usage").gone().contains(&("worker-dead".to_owned(), "empty".to_owned())));
    // Whoever comes back goes on from there.
    let mut again = Target::called(&place, "worker", "worker-dead");
    again.does("write 100");
    let now = until_row(&place, "worker-dead", "it is back and has written", |row| {
        row.number("procs") == 1 && row.number("wchar") >= wrote + 100 * PAGE
    });
    assert_eq!((now.number("started"), now.number("exited")), (4, 3));
    for pair in rows(&place, "worker-dead").windows(2) {
        for counter in ["cpu_s", "rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "started", "exited", "min_flt", "nvcsw"] {
            assert!(pair[0].number(counter) <= pair[1].number(counter), "{counter} goes back: {pair:#?}");
        }
    }
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn a_process_is_shown_as_the_kernel_has_it() {
    let place = place("", BOTH);
    let mut worker = Target::called(&place, "worker", "worker-one");
    let recorder = place.start();
    until("its first row", || row_of(&place, worker.pid()).is_some());
    worker.does("open 30");
    worker.does("threads 5");
    worker.does("read 64");
    worker.does("naps 200");
    let fds = || i64::try_from(std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).unwrap().count()).unwrap();
    until("its descriptors and threads", || {
        row_of(&place, worker.pid()).is_some_and(|row| row.number("threads") == 6 && row.number("fds") == fds())
    });
    let row = row_of(&place, worker.pid()).unwrap();
    let io = std::fs::read_to_string(format!("/proc/{}/io", worker.pid())).unwrap();
    for line in io.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(row.number(name).to_string(), value, "{name}");
    }
    assert!(row.number("rchar") >= 64 * PAGE && row.number("nvcsw") >= 200, "{row:#?}");
    assert_eq!((row.word("program"), row.number("procs"), row.get("up")), (b"worker-one".to_vec(), 1, &Value::Absent));
    assert_eq!((row.get("started"), row.get("pss")), (&Value::Absent, &Value::Absent));
    assert!(row.number("cpu_s") > 0 && row.number("rss") > 0 && row.number("vsz") > row.number("rss"));
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn what_a_child_wrote_is_not_its_parents() {
    let place = place("", BOTH);
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut parent = Target::called(&place, "worker", "worker-parent");
    parent.does("write 10");
    // The kernel adds to the parent what a child that was waited for had written.
    parent.does("child 1000");
    parent.does("write 10");
    let said = until_row(&place, "worker-parent", "child and parent have written", |row| row.number("wchar") >= 1019 * PAGE);
    let kernel = std::fs::read_to_string(format!("/proc/{}/io", parent.pid())).unwrap();
    assert!(kernel.lines().any(|line| line.strip_prefix("wchar: ").is_some_and(|bytes| bytes.parse::<i64>().unwrap() >= 1020 * PAGE)));
    assert!(said.number("wchar") < 1030 * PAGE, "the child's is counted once: {said:#?}");
    assert!(row_of(&place, parent.pid()).is_some_and(|row| (20 * PAGE..30 * PAGE).contains(&row.number("wchar"))));
    // With several threads it is the same.
    parent.does("threads 2");
    parent.does("write 10");
    until("its third writing", || row_of(&place, parent.pid()).is_some_and(|row| row.number("wchar") >= 30 * PAGE));
    assert!(row_of(&place, parent.pid()).is_some_and(|row| row.number("wchar") < 40 * PAGE));
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn who_lives_between_two_samples_counts_too() {
    let place = place("", "");
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let binary = Target::binary(&place, "worker", "worker-flash");
    for _ in 0..100 {
        // End of input: it ends at once.
        let status = Command::new(&binary).stdin(std::process::Stdio::null()).status().unwrap();
        assert!(status.success());
    }
    let row = until_row(&place, "worker-flash", "a hundred came and went", |row| row.number("exited") == 100);
    assert_eq!((row.number("started"), row.number("procs")), (100, 0));
    // From 0.1 ms of CPU each, which ld.so alone takes.
    assert!(row.number("cpu_s") >= 10 && row.number("min_flt") > 1000, "{row:#?}");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn a_program_that_executes_another_becomes_it() {
    let place = place("", "");
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut worker = Target::called(&place, "worker", "worker-before");
    let after = Target::binary(&place, "worker", "worker-after");
    worker.does("write 100");
    until_row(&place, "worker-before", "it has written", |row| row.number("wchar") >= 100 * PAGE);
    worker.says(&format!("exec {}", after.display()));
    // What is said before that is read by the program before.
    until("it executed", || std::fs::read_link(format!("/proc/{}/exe", worker.pid())).unwrap() == after);
    // What it used in the interval of the execution is the program's before.
    until_row(&place, "worker-after", "it is there", |row| row.number("procs") == 1);
    worker.does("write 8");
    let row = until_row(&place, "worker-after", "it has written", |row| row.number("wchar") >= 8 * PAGE);
    assert_eq!((row.number("procs"), row.number("started")), (1, 1));
    assert!(row.number("wchar") < 50 * PAGE, "what it wrote before was of the program before: {row:#?}");
    until("the other is gone", || segment(&place, "usage").gone().iter().any(|(name, _)| name == "worker-before"));
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn beyond_max_programs_the_rest_is_other_and_nothing_is_lost() {
    let place = place("max_programs = 3", "");
    let mut names: Vec<String> = (0..4).map(|number| format!("worker-{number}")).collect();
    names.sort();
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let workers: Vec<Target> = names.iter().map(|name| Target::called(&place, "worker", name)).collect();
    let row = until_row(&place, "other", "it has members", |row| row.number("procs") >= 4);
    assert!(row.number("procs") >= 4);
    let shown: std::collections::BTreeSet<Vec<u8>> = segment(&place, "usage").rows().iter().map(|row| row.word("program")).collect();
    assert_eq!(shown.len(), 4, "three and the rest: {shown:?}");
    drop(workers);
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let place = place("", "");
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut worker = Target::called(&place, "worker", "worker-reload");
    worker.does("write 100");
    let before = until_row(&place, "worker-reload", "it has written", |row| row.number("wchar") >= 100 * PAGE);
    let text = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), text.replace("interval = \"1s\"\n", "interval = \"2s\"\nfull_every = \"1h\"\n")).unwrap();
    recorder.hup();
    until("the reload is noted", || place.all("usage").iter().any(|segment| !segment.notes("reload ok").is_empty()));
    worker.does("write 100");
    let after = until_row(&place, "worker-reload", "it has written again", |row| row.number("wchar") >= 200 * PAGE);
    assert!(after.number("wchar") < 210 * PAGE && after.number("started") == before.number("started"));
    assert_eq!(recorder.stop(), 0);
    Segment::assert_no_sample_missing(&place.all("usage"));
    place.assert_whole();
}

#[test]
fn an_idle_machine_says_little_and_the_sums_add_up() {
    let place = place("format = \"json\"", BOTH);
    let sleepers: Vec<Victim> = (0..20).map(|_| Victim::spawn(Command::new("sleep").arg("1023"))).collect();
    let recorder = place.start();
    until("five ticks", || ticks(&place).len() >= 5);
    let said: Vec<NamedRow> = segment(&place, "usage_process").rows_of(sleepers[0].pid());
    assert_eq!(said.len(), 1, "whoever sleeps has one row: {said:#?}");
    for tick in ticks(&place) {
        let count = |key: &str| tick.count(key).unwrap();
        assert_eq!(count("seen"), count("n") + count("unchanged") + count("hidden") + count("vanished"));
    }
    let procs = row(&place, "sleep").unwrap().number("procs");
    assert!(procs >= 20, "{procs}");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

/// What a worker with a v4 and a v6 listener, one connection to each, and a pair of unix sockets holds.
fn has_all_sockets(row: &NamedRow) -> bool {
    let count = |name: &str| row.get(name).number();
    let [tcp, tcp6, listen, listen6] = ["tcp", "tcp6", "tcp_listen", "tcp6_listen"].map(count);
    let [udp, udp6, unix, sockets] = ["udp", "udp6", "unix", "sockets"].map(count);
    (tcp, tcp6, listen, listen6) == (Some(2), Some(2), Some(1), Some(1))
        && (udp, udp6, unix, sockets) == (Some(0), Some(0), Some(2), Some(8))
}

fn open_all_sockets(worker: &mut Target) {
    for command in ["tcp", "tcp6", "pair"] {
        assert_eq!(worker.does(command), "", "{command}");
    }
}

/// Sockets in our own network namespace and in one of their own, of processes of one program each.
fn sockets_are_counted(place: &Place, recorder: common::Recorder, who: &str) {
    // Other tests run beside this one, and a program is one of the whole machine.
    let (outside, within) = (format!("here-{who}"), format!("there-{who}"));
    until("the first tick", || !ticks(place).is_empty());
    let inside = Target::binary(place, "worker", &within);
    let mut command = Command::new("unshare");
    // In a new network namespace even the loopback is down.
    command.args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\""]).arg(inside);
    let (mut here, mut there) = (Target::called(place, "worker", &outside), Target::start(&mut command));
    open_all_sockets(&mut here);
    open_all_sockets(&mut there);
    for program in [&outside, &within] {
        until_row(place, program, "its sockets", has_all_sockets);
    }
    for pid in [here.pid(), there.pid()] {
        until("the sockets of the process", || row_of(place, pid).is_some_and(|row| has_all_sockets(&row)));
    }
    // Whoever closes all of them has none.
    let pid = here.pid();
    drop(here);
    until("they are gone", || segment(place, "usage").gone().iter().any(|(name, _)| *name == outside));
    assert!(segment(place, "usage_process").gone().iter().any(|(id, _)| id.starts_with(&format!("{pid}@"))));
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn sockets_are_counted_in_and_outside_a_network_namespace_by_root() {
    let test = "sockets_are_counted_in_and_outside_a_network_namespace_by_root";
    if !common::is_root(test) || !common::has(test, "unshare") || !common::has(test, "ip") {
        return;
    }
    let place = place("", BOTH);
    let recorder = place.start();
    sockets_are_counted(&place, recorder, "root");
}

#[test]
fn sockets_are_counted_in_and_outside_a_network_namespace_with_the_capabilities_of_the_unit() {
    let test = "sockets_are_counted_in_and_outside_a_network_namespace_with_the_capabilities_of_the_unit";
    if !common::is_root(test) || !common::has(test, "unshare") || !common::has(test, "ip") || !common::has(test, "setpriv") {
        return;
    }
    let place = place("", BOTH);
    place.let_nobody_write();
    let unit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/psmond.service")).unwrap();
    let granted = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).unwrap();
    let granted: String = granted.split(' ').map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap().to_lowercase())).collect();
    let plain = common::as_nobody(&place);
    let mut command = Command::new("setpriv");
    command.arg(format!("--inh-caps=-all{granted}")).arg(format!("--ambient-caps=-all{granted}"));
    command.arg(format!("--bounding-set=-all{granted}")).args(plain.get_args()).env_remove("HOME").current_dir("/");
    let recorder = place.start_command(command);
    sockets_are_counted(&place, recorder, "unit");
}

#[test]
fn a_socket_that_two_hold_is_one_of_the_program_and_one_of_each() {
    let place = place("", BOTH);
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut worker = Target::called(&place, "worker", "worker-shared");
    open_all_sockets(&mut worker);
    // A child that lives on and holds all that its parent held.
    let child: u32 = worker.does("stay").parse().unwrap();
    until("both have them", || {
        [worker.pid(), child].iter().all(|pid| row_of(&place, *pid).is_some_and(|row| has_all_sockets(&row)))
    });
    until_row(&place, "worker-shared", "two processes with the sockets of one", |row| {
        row.number("procs") == 2 && has_all_sockets(row)
    });
    let row = row(&place, "worker-shared").unwrap();
    assert_eq!(
        row.number("fds"),
        row_of(&place, child).unwrap().number("fds") + row_of(&place, worker.pid()).unwrap().number("fds")
    );
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn who_nears_a_limit_is_told_when_it_does_and_when_it_is_over() {
    let place = place("", BOTH);
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\""]).arg(Target::binary(&place, "worker", "worker-limit"));
    let mut worker = Target::start(&mut command);
    worker.does("open 90");
    let row = until_row(&place, "worker-limit", "it is near", |row| row.get("limit_pct").number().is_some_and(|tenths| tenths >= 900));
    assert_eq!((row.word("limit"), row.number("fd_limit_pct")), (b"nofile".to_vec(), row.number("limit_pct")));
    assert_eq!(row.number("fds") * 10, row.number("limit_pct"), "of a hundred");
    let alerts = |level: &str| {
        let rows = segment(&place, "alerts").rows();
        rows.into_iter().filter(|row| row.word("program") == b"worker-limit" && row.word("level") == level.as_bytes()).collect::<Vec<_>>()
    };
    until("the alert", || !alerts("warn").is_empty());
    let alert = alerts("warn").remove(0);
    assert_eq!((alert.word("kind"), alert.number("pid")), (b"limit".to_vec(), i64::from(worker.pid())));
    assert_eq!((alert.number("value"), alert.number("limit")), (row.number("fds"), 100));
    worker.does("close 60");
    until("it is over", || !alerts("ok").is_empty());
    assert_eq!((alerts("warn").len(), alerts("ok").len()), (1, 1));
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn what_an_ended_thread_did_stays_with_its_process() {
    let place = place("", BOTH);
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut worker = Target::called(&place, "worker", "worker-threads");
    // Records of ended threads come a moment after a reading, perhaps: each step lasts until it shows, and writes itself at its end.
    for (command, pages) in [("thread 100", 100), ("child 10", 101), ("thread 50", 152), ("write 5", 158)] {
        worker.does(command);
        until_ticks(&place, 1);
        worker.does("write 1");
        // Io never causes a row by itself.
        worker.does("open 1");
        // Of each ended thread a record rounds down up to a KiB, where its end and that of a child fall into one interval.
        let least = pages * PAGE - 2048;
        until("what it wrote", || row_of(&place, worker.pid()).is_some_and(|row| row.number("wchar") >= least));
    }
    let rows = segment(&place, "usage_process").rows_of(worker.pid());
    for pair in rows.windows(2) {
        for counter in ["cpu_s", "rchar", "wchar", "syscr", "syscw", "min_flt", "nvcsw"] {
            assert!(pair[0].number(counter) <= pair[1].number(counter), "{counter} goes back: {pair:#?}");
        }
    }
    // The child's ten are not in it, nor in those of the program twice.
    assert!(rows.last().unwrap().number("wchar") < 160 * PAGE, "{rows:#?}");
    let row = until_row(&place, "worker-threads", "all of it and the child", |row| row.number("wchar") >= 167 * PAGE);
    assert!(row.number("wchar") < 172 * PAGE);
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn a_process_whose_first_task_ended_lives() {
    let place = place("", BOTH);
    let recorder = place.start();
    until("the first tick", || !ticks(&place).is_empty());
    let mut worker = Target::called(&place, "worker", "worker-leaves");
    worker.does("leave");
    worker.does("write 30");
    let row = until_row(&place, "worker-leaves", "what it wrote", |row| row.number("wchar") >= 30 * PAGE);
    assert_eq!((row.number("procs"), row.number("threads"), row.number("exited")), (1, 2, 0));
    // Its memory and descriptors are told of the task that has ended, which has none any more.
    for lost in ["rss", "vsz", "fds"] {
        assert_eq!(row.get(lost), &Value::Refused, "{lost}");
    }
    drop(worker);
    until("it is gone", || segment(&place, "usage").gone().iter().any(|(name, _)| name == "worker-leaves"));
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn alerts_need_no_stream_usage_and_end_when_nobody_looks_any_more() {
    let expected = "[[program]]\nname = \"worker-missing\"\nexe = \"/nowhere/worker-missing\"\nexpect = 1";
    let place = place("", &format!("by = [\"process\"]\n{expected}"));
    let recorder = place.start();
    let told = |program: &str, level: &str| {
        let rows = segment(&place, "alerts").rows();
        rows.into_iter()
            .filter(|row| row.word("program") == program.as_bytes() && row.word("level") == level.as_bytes())
            .collect::<Vec<_>>()
    };
    until("one that is expected is missing", || !told("worker-missing", "warn").is_empty());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\""]).arg(Target::binary(&place, "worker", "worker-gone"));
    let mut gone = Target::start(&mut command);
    gone.does("open 90");
    until("the alert", || !told("worker-gone", "warn").is_empty());
    drop(gone);
    until("none is left", || !told("worker-gone", "ok").is_empty());
    assert_eq!(
        told("worker-gone", "ok")[0].word("text"),
        b"worker-gone is clear of its limit nofile: no process of it is left."
    );
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\""]).arg(Target::binary(&place, "worker", "worker-stays"));
    let mut stays = Target::start(&mut command);
    stays.does("open 90");
    until("the other alert", || !told("worker-stays", "warn").is_empty());
    let text = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), text.replace("[usage]\n", "[usage]\nenabled = false\n")).unwrap();
    recorder.hup();
    for program in ["worker-stays", "worker-missing"] {
        until("it is not watched any more", || !told(program, "ok").is_empty());
        assert!(String::from_utf8_lossy(&told(program, "ok")[0].word("text")).contains("not watched any more"));
    }
    assert!(rows(&place, "worker-stays").is_empty(), "stream usage is off");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}
