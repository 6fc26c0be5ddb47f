//! The main job: psmond records the process table of this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use common::{Place, Segment, Victim, until};
use psmon::record::cmd::Cmd;
use psmon::record::value::Value;

fn cmd(args: &[&[u8]]) -> Value {
    Value::Cmd(Cmd::from_args(args.iter().copied(), 0).into())
}

#[test]
fn a_process_is_recorded_from_its_birth_to_its_end() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(1);
    let child = Victim::spawn(Command::new("sleep").arg("1000.25"));
    let pid = child.pid();
    until("its row", || !place.ps().rows_of(pid).is_empty());
    let stat = psmon::source::stat::parse(&std::fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap().0;
    // Known first from its birth's event it has that stamp for its start: one tick off at most.
    let start = place.ps().rows_of(pid)[0].number("start");
    assert!(start.abs_diff(i64::try_from(stat.start).unwrap()) <= 1, "{start} {}", stat.start);
    drop(child);
    let id = format!("{pid}@{start}");
    until("its end", || place.ps().gone().contains(&(id.clone(), "exit".to_owned())));
    let own_pid = recorder.pid();
    assert_eq!(recorder.stop(), 0);

    let segment = place.ps();
    let row = &segment.rows_of(pid)[0];
    assert_eq!(row.number("start"), start);
    assert_eq!(row.number("ppid"), i64::from(std::process::id()));
    assert_eq!(row.get("cmd"), &cmd(&[b"sleep", b"1000.25"]));
    assert_eq!(row.word("program"), b"sleep");
    assert_eq!(row.word("user"), psmon::source::users::user_name(rustix::process::geteuid().as_raw()).unwrap());
    assert!(row.number("rss") > 4096 && row.number("vsz") > row.number("rss"));
    // psmond hides itself, and says that it hid something.
    assert!(segment.rows_of(own_pid).is_empty());
    for tick in segment.ticks() {
        let field = |key| tick.count(key).unwrap();
        assert_eq!(field("seen"), field("n") + field("unchanged") + field("hidden") + field("vanished"));
        assert!(field("hidden") >= 1);
    }
    assert_eq!(segment.notes("start").len(), 1);
    assert_eq!(segment.notes("stop").len(), 1);
    place.assert_whole();
}

#[test]
fn only_changes_are_written_unless_told_otherwise() {
    let place = Place::new("");
    let recorder = place.start();
    let child = Victim::spawn(Command::new("sleep").arg("1001"));
    until("its row", || !place.ps().rows_of(child.pid()).is_empty());
    for _ in 0..3 {
        place.wait_for_next_tick();
    }
    // An idle process: one row, however many samples.
    assert_eq!(place.ps().rows_of(child.pid()).len(), 1);
    assert_eq!(recorder.stop(), 0);

    let place = Place::new("ps:changes = false\n");
    let recorder = place.start();
    let segment = place.wait_for_ticks(4);
    assert_eq!(recorder.stop(), 0);
    let rows = segment.rows_of(child.pid());
    assert!(rows.len() >= 4, "every sample holds every row: {rows:?}");
    assert!(segment.ticks().all(|tick| tick.field("full") == Some("1") && tick.field("unchanged") == Some("0")));
    place.assert_whole();
}

#[test]
fn zombies_stay_and_kernel_threads_are_asked_for() {
    let place = Place::new("ps:kthreads = true\n");
    // The shell's child ends, and the shell, which execs to sleep, never waits for it.
    let parent = Victim::spawn(Command::new("sh").args(["-c", "true & exec sleep 1002"]).stdin(Stdio::null()));
    let recorder = place.start();
    let mut zombie = None;
    until("a zombie", || {
        zombie = place
            .ps()
            .rows()
            .into_iter()
            .find(|row| row.get("state") == &Value::word(b"Z") && row.number("ppid") == i64::from(parent.pid()));
        zombie.is_some()
    });
    let zombie = zombie.unwrap();
    assert!(matches!(zombie.get("cmd"), Value::Cmd(cmd) if matches!(&**cmd, Cmd::Comm(_))), "{zombie:?}");
    let kthreadd = &place.ps().rows_of(2)[0];
    assert_eq!(kthreadd.get("cmd"), &Value::Cmd(Cmd::Comm(b"kthreadd".as_slice().into()).into()));
    assert_eq!(
        (kthreadd.get("rss"), kthreadd.get("program"), kthreadd.get("swap")),
        (&Value::Absent, &Value::Absent, &Value::Absent)
    );
    assert_eq!(recorder.stop(), 0);
    let text = std::fs::read_to_string(place.file("ps.log")).unwrap();
    assert!(text.contains(" [kthreadd]\n"));
}

#[test]
fn an_exec_and_a_new_name_show_in_the_next_samples_without_events() {
    let place = Place::new("");
    let mut child = Victim::spawn(Command::new("bash").args(["-c", "read line; exec -a renamed sleep 1003"]).stdin(Stdio::piped()));
    let recorder = place.start();
    until("the shell's row", || place.ps().rows_of(child.pid()).iter().any(|row| row.word("program") == b"bash"));
    std::io::Write::write_all(&mut child.0.stdin.take().unwrap(), b"go\n").unwrap();
    until("the row after the exec", || {
        place.ps().rows_of(child.pid()).last().is_some_and(|row| row.get("cmd") == &cmd(&[b"renamed", b"1003"]))
    });
    let rows = place.ps().rows_of(child.pid());
    assert_eq!(rows.last().unwrap().word("program"), b"sleep");
    assert_eq!(rows.first().unwrap().number("start"), rows.last().unwrap().number("start"), "an exec is no birth");
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn hostile_names_and_arguments_forge_nothing() {
    let long = "z".repeat(100_000);
    let forged = "x\n#tick 2026-11-20T00:00:00.000+00:00 seq=1 crc=00000000\n2026-11-20T00:00:00.000+00:00 1 1 forged";
    let mut huge: Vec<&[u8]> = vec![b"sh"];
    huge.resize(19, long.as_bytes());
    let lists: [&[&[u8]]; 10] = [
        &[b"-"],
        &[b"?"],
        &[b"''"],
        &[b"#tick"],
        &[b""],
        &[b"", b"a b", b""],
        &[b"[kthreadd]"],
        &[b"a\x1b[31mb\xff\\x41", b"'", b"\\+5"],
        &[forged.as_bytes()],
        &huge,
    ];
    // A shell with any argv[0] that waits for a line it never gets; what follows is its arguments.
    let start = |list: &&[&[u8]]| {
        let word = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        let mut command = Command::new("sh");
        command.arg0(word(list[0])).args(["-c", "read line"]).args(list[1..].iter().map(|arg| word(arg)));
        Victim::spawn(command.stdin(Stdio::piped()))
    };
    let victims: Vec<Victim> = lists.iter().map(start).collect();
    for format in ["text", "json"] {
        let place = Place::new(&format!("format = \"{format}\"\nargs = \"full\"\n"));
        let recorder = place.start();
        until("all rows", || victims.iter().all(|victim| !place.ps().rows_of(victim.pid()).is_empty()));
        assert_eq!(recorder.stop(), 0);
        let segment = place.ps();
        assert_eq!(segment.damaged, 0);
        for (victim, list) in victims.iter().zip(lists) {
            let kernel = std::fs::read(format!("/proc/{}/cmdline", victim.pid())).unwrap();
            let end = kernel.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let want = Cmd::from_proc(&kernel, end as u64);
            assert_eq!(segment.rows_of(victim.pid())[0].get("cmd"), &Value::Cmd(want.into()), "{list:?} as {format}");
        }
        assert!(segment.rows().iter().all(|row| row.get("program") != &Value::word(b"forged")));
        place.assert_whole();
    }
}

#[test]
fn a_process_that_renames_itself_to_a_journal_line_forges_nothing() {
    // prctl(PR_SET_NAME) through /proc/self/comm: 15 bytes, any of them.
    for name in [b"#tick 2026-11-2".as_slice(), b"a\nb\nc", b"-", b"?", b"''", b") R 1 2 3 4", b"\xff\xfe\x1b[2J", b" "] {
        let place = Place::new("ps:columns = [\"pid\", \"comm\", \"cmd\"]\n");
        let script = format!("printf '{}' > /proc/$$/comm; read line", name.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>());
        let child = Victim::spawn(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()));
        until("its name", || {
            std::fs::read(format!("/proc/{}/comm", child.pid())).unwrap_or_default().strip_suffix(b"\n") == Some(name)
        });
        let recorder = place.start();
        until("its row", || !place.ps().rows_of(child.pid()).is_empty());
        assert_eq!(recorder.stop(), 0);
        assert_eq!(place.ps().rows_of(child.pid())[0].word("comm"), name);
        place.assert_whole();
    }
}

#[test]
fn secrets_are_scrubbed_and_setproctitle_is_seen() {
    let place = Place::new("");
    let child =
        Victim::spawn(Command::new("sh").args(["-c", "read line", "x", "--password=hunter2", "--token", "abcdef"]).stdin(Stdio::piped()));
    let recorder = place.start();
    until("its row", || !place.ps().rows_of(child.pid()).is_empty());
    assert_eq!(recorder.stop(), 0);
    let text = std::fs::read_to_string(place.file("ps.log")).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("abcdef"));
    assert!(text.contains("--password=*** --token ***"));
}

#[test]
fn the_same_segment_is_gone_on_with_after_a_stop_and_after_kill_9() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(2);
    assert_eq!(recorder.stop(), 0);
    let recorder = place.start();
    place.wait_for_ticks(4);
    recorder.kill();
    place.assert_whole();
    let recorder = place.start();
    place.wait_for_ticks(6);
    assert_eq!(recorder.stop(), 0);
    let segments = place.all_ps();
    assert_eq!(segments.len(), 1, "one day, one boot, one set of columns: one segment");
    Segment::assert_no_sample_missing(&segments);
    assert_eq!(segments[0].notes("start").len(), 3);
    // Each start begins with a full sample.
    assert!(segments[0].ticks().filter(|tick| tick.field("full") == Some("1")).count() >= 3);
    place.assert_whole();
}

#[test]
fn a_torn_tail_is_marked_and_recording_goes_on_in_the_same_file() {
    for tail in [
        &b"2026-11-20T00:00:00.000+00:00 1 1 half a row"[..],
        b"\0\0\0\0\0\0\0\0",
        b"#tick 2026-11-20T00:00:00.000+00:00 seq=9 crc=00000000\n",
        b"\xff\n\n\n",
    ] {
        let place = Place::of_ps("");
        let recorder = place.start();
        place.wait_for_ticks(2);
        recorder.kill();
        let before = place.last_seq();
        let mut file = std::fs::OpenOptions::new().append(true).open(place.file("ps.log")).unwrap();
        std::io::Write::write_all(&mut file, tail).unwrap();
        let recorder = place.start();
        until("samples after the tear", || place.last_seq() >= before + 2);
        assert_eq!(recorder.stop(), 0);
        let report = place.verify();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(report.torn.len(), 1, "{report:#?}");
        let segments = place.all_ps();
        assert_eq!(segments.len(), 1);
        assert!(segments[0].notes("torn")[0].ends_with(&format!("bytes={}", tail.len())), "{:?}", segments[0].notes("torn"));
        Segment::assert_no_sample_missing(&segments);
    }
}

#[test]
fn a_lost_or_damaged_state_keeps_nobody_from_recording() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(2);
    assert_eq!(recorder.stop(), 0);
    for damage in [None, Some(&b""[..]), Some(b"{\"version\":1"), Some(b"\xff\xff\xff")] {
        match damage {
            None => std::fs::remove_file(place.file("psmond.state")).unwrap(),
            Some(bytes) => std::fs::write(place.file("psmond.state"), bytes).unwrap(),
        }
        let before = place.last_seq();
        let recorder = place.start();
        until("samples after the damage", || place.last_seq() >= before + 2);
        assert_eq!(recorder.stop(), 0);
        assert!(std::fs::read_to_string(place.file("psmond.state")).unwrap().contains("\"boot_id\""));
    }
    Segment::assert_no_sample_missing(&place.all_ps());
    assert_eq!(place.all_ps()[0].notes("degraded").len(), 3, "a damaged state is told, a missing one is a first start");
    place.assert_whole();
}

#[test]
fn named_columns_and_their_order() {
    let place = Place::new("");
    let mut command = place.command();
    command.args(["-o", "pid,ppid,user,rss,vsz,pcpu,time,wchan,lstart,args", "--sort", "-rss"]);
    let recorder = place.start_command(command);
    let segment = place.wait_for_ticks(1);
    assert_eq!(recorder.stop(), 0);
    assert_eq!(
        segment.header.as_ref().unwrap().columns.join(" "),
        "time start pid ppid user rss vsz cpu_pct cpu_s wchan started cmd"
    );
    let first = segment.ticks().next().unwrap().time;
    let sizes: Vec<i64> = segment.rows().iter().filter(|row| row.time == first).map(|row| row.number("rss")).collect();
    assert!(sizes.len() > 1 && sizes.is_sorted_by(|one, other| one >= other), "{sizes:?}");
    place.assert_whole();
}

#[test]
fn a_run_without_a_sample_leaves_its_notes_all_the_same() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(2);
    assert_eq!(recorder.stop(), 0);
    let mut command = place.command();
    command.args(["-i", "3600"]);
    let recorder = place.start_command(command);
    until("the second run's lock", || {
        std::fs::read_to_string(place.file("psmond.lock")).is_ok_and(|pid| pid.trim() == recorder.pid().to_string())
    });
    assert_eq!(recorder.stop(), 0);
    let segment = place.ps();
    assert_eq!((segment.notes("start").len(), segment.notes("stop").len()), (2, 2));
    place.assert_whole();
}
