//! Stream `pss`, with the real daemon and real memory: who has which part of it, what that rests on, and whom reading it may hold up.

#![allow(clippy::unwrap_used, clippy::panic)] // a test

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use common::{NamedRow, Place, Segment, Target, Victim, until};
use psmon::journal::line::Tick;
use psmon::record::value::Value;
use psmon::source::procdir::Proc;
use psmon::source::smaps::{self, Memory};

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;

/// Stream `pss` each second; `more` are keys of its table.
fn place(more: &str) -> Place {
    Place::new(&format!(
        "args = \"full\"\n[events]\nenabled = false\n[exits]\nenabled = false\n[usage]\nenabled = false\n[pss]\ninterval = \"1s\"\n{more}\nps:enabled = false\n"
    ))
}

fn pss(place: &Place) -> Segment {
    Segment::read(&place.logs(), &psmon::journal::segment::Name::live("pss"))
}

fn last_tick(place: &Place) -> Option<Tick> {
    if place.file("pss.log").exists() { pss(place).ticks().last().cloned() } else { None }
}

/// The newest row of a process.
fn row(place: &Place, pid: u32) -> Option<NamedRow> {
    pss(place).rows_of(pid).pop()
}

/// Waits until everyone was read.
fn everyone_is_read(place: &Place) {
    until(&format!("everyone is read; stderr: {}", place.stderr()), || {
        last_tick(place).is_some_and(|tick| tick.count("unread") == Some(0))
    });
}

fn memory(pid: u32) -> Option<Memory> {
    smaps::take(&Proc::open("/proc".as_ref()).unwrap(), pid).memory.ok()
}

#[test]
fn the_total_is_the_plain_sum_and_each_row_what_the_kernel_says() {
    let place = place("");
    let sleeper = Victim::spawn(Command::new("sleep").arg("1021"));
    let recorder = place.start();
    everyone_is_read(&place);
    // Others come and go on this machine: at some tick nobody did.
    until("the total of a tick is within a per cent of the sum", || {
        let tick = last_tick(&place).unwrap();
        let mut pids = Vec::new();
        Proc::open("/proc".as_ref()).unwrap().list(&mut pids).unwrap();
        let plain: u64 = pids.into_iter().filter_map(memory).map(|memory| memory.pss).sum();
        plain > 0 && tick.count("pss").unwrap().abs_diff(plain) * 100 <= plain
    });
    let said = row(&place, sleeper.pid()).unwrap();
    let now = memory(sleeper.pid()).unwrap();
    // What is of files is divided by others who come and go; what is its own stays.
    assert_eq!(
        (said.number("pss_anon"), said.number("pss_dirty")),
        (now.pss_anon.unwrap().cast_signed(), now.pss_dirty.unwrap().cast_signed())
    );
    assert_eq!(said.number("pss"), said.number("pss_anon") + said.number("pss_file") + said.number("pss_shmem"));
    assert!(said.number("uss") <= said.number("pss") && said.number("pss") < said.number("rss"));
    assert_eq!((said.word("reading"), said.word("program")), (b"read".to_vec(), b"sleep".to_vec()));
    // psmond counts itself, kernel threads have nothing to count.
    assert!(row(&place, recorder.pid()).is_some_and(|row| row.number("pss") > 0));
    let tick = last_tick(&place).unwrap();
    assert!(tick.count("hidden").unwrap() > 0 && row(&place, 2).is_none());
    assert_eq!(recorder.stop(), 0);
    let gone = format!("{}@", sleeper.pid());
    assert!(!pss(&place).gone().iter().any(|(id, _)| id.starts_with(&gone)), "it lives");
    place.assert_whole();
}

#[test]
fn half_of_what_two_share_and_all_of_what_is_private() {
    let place = place("");
    let mut target = Target::new(&place, "memory");
    target.does("share 102400");
    target.does("touch 51200");
    let child: u32 = target.does("fork").parse().unwrap();
    // The child drops what it shares by copy, and has three hundred of its own.
    target.does("drop");
    target.does("touch 307200");
    let recorder = place.start();
    let shares = |pid, own: i64| {
        row(&place, pid).is_some_and(|row| {
            row.get("reading") != &Value::Absent
                && row.number("pss_shmem") == 50 * MIB
                && (own * MIB..(own + 4) * MIB).contains(&row.number("pss_anon"))
        })
    };
    until("50 + 100/2", || shares(target.pid(), 50));
    until("300 + 100/2", || shares(child, 300));
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn who_changes_is_read_again_and_who_does_not_is_kept() {
    let place = place("");
    let mut target = Target::new(&place, "memory");
    target.does("touch 2048");
    let mut idle = Target::new(&place, "memory");
    idle.does("touch 2048");
    let recorder = place.start();
    until("both", || row(&place, target.pid()).is_some() && row(&place, idle.pid()).is_some());
    everyone_is_read(&place);
    let before = row(&place, target.pid()).unwrap().number("pss_anon");
    target.does("touch 4096");
    until("what it touched", || row(&place, target.pid()).unwrap().number("pss_anon") == before + 4 * MIB);
    assert_eq!(row(&place, target.pid()).unwrap().word("reading"), b"read");
    target.does("drop");
    until("what it gave back", || row(&place, target.pid()).unwrap().number("pss_anon") < before);
    // What it executes has nothing of what it was.
    target.says("exec sleep 1022");
    until("what it executed", || {
        let row = row(&place, target.pid()).unwrap();
        row.word("program") == b"sleep" && row.number("pss_anon") < MIB && row.number("age_s") < 20
    });
    // Nothing of the other moved: no row says anything new of what is private to it.
    let anon: Vec<i64> = pss(&place).rows_of(idle.pid()).iter().map(|row| row.number("pss_anon")).collect();
    assert!(anon.windows(2).all(|pair| pair[0] == pair[1]), "{anon:?}");
    assert!(pss(&place).ticks().skip(1).any(|tick| tick.count("unchanged").unwrap() > 0));
    let (pid, id) = (idle.pid(), format!("{}@{}", idle.pid(), row(&place, idle.pid()).unwrap().number("start")));
    drop(idle);
    until("its end", || pss(&place).gone().contains(&(id.clone(), "exit".to_owned())));
    assert_eq!(recorder.stop(), 0);
    assert!(pss(&place).rows_of(pid).iter().all(|row| row.number("pss") > 0));
    place.assert_whole();
}

#[test]
fn who_is_too_dear_waits_for_max_age() {
    // At 20 µs a MiB, as is taken for granted of one never read, this costs four milliseconds: more than there ever is for all.
    let place = place("max_read_ms = 1\nbudget_ms = 1\nmax_age = \"3s\"\n");
    let mut target = Target::new(&place, "memory");
    target.does("touch 204800");
    let recorder = place.start();
    until("its row", || row(&place, target.pid()).is_some());
    let first = pss(&place).rows_of(target.pid()).remove(0);
    assert_eq!(
        (first.word("reading"), first.get("pss"), first.get("age_s")),
        (b"cooling".to_vec(), &Value::Absent, &Value::Absent)
    );
    assert!(first.number("rss") >= 200 * MIB, "what needs no lock is there");
    assert!(last_tick(&place).unwrap().count("cooling").unwrap() >= 1);
    until("its first reading", || row(&place, target.pid()).unwrap().get("pss") != &Value::Absent);
    let read = row(&place, target.pid()).unwrap();
    assert_eq!(read.word("reading"), b"read");
    assert!(read.number("pss") >= 200 * MIB);
    let waited = read.time.unix_ns - first.time.unix_ns;
    assert!(waited >= 2_000_000_000, "{waited} ns");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn a_process_whose_first_thread_has_ended_has_its_memory_still() {
    let place = place("");
    let mut target = Target::new(&place, "memory");
    target.does("touch 8192");
    target.does("leave");
    // The one that took its place answers.
    target.does("touch 8192");
    let recorder = place.start();
    until("its memory", || row(&place, target.pid()).is_some_and(|row| row.get("pss") != &Value::Absent));
    assert!(row(&place, target.pid()).unwrap().number("pss_anon") >= 16 * MIB);
    let shown = common::psmon().args(["pss", "--json", "--pid", &target.pid().to_string()]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(shown.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert!(shown["pss"].as_i64().unwrap() >= 16 * MIB, "{shown}");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn what_is_refused_is_no_zero_and_not_in_the_total() {
    if !common::is_root("what_is_refused_is_no_zero_and_not_in_the_total") {
        return;
    }
    let place = place("");
    place.let_nobody_write();
    let foreign = Victim::spawn(Command::new("sleep").arg("1023"));
    let user = common::NOBODY.to_string();
    let own = Victim::spawn(Command::new("setpriv").args([
        &format!("--reuid={user}"),
        &format!("--regid={user}"),
        "--clear-groups",
        "sleep",
        "1024",
    ]));
    let recorder = place.start_command(common::as_nobody(&place));
    everyone_is_read(&place);
    until("both", || row(&place, foreign.pid()).is_some() && row(&place, own.pid()).is_some());
    let refused = row(&place, foreign.pid()).unwrap();
    for column in ["pss", "pss_anon", "swap_pss", "uss"] {
        assert_eq!(refused.get(column), &Value::Refused, "{column}");
    }
    assert_eq!((refused.get("age_s"), refused.get("reading")), (&Value::Absent, &Value::Absent));
    assert!(refused.number("rss") > 0, "what everybody may know is there");
    assert!(row(&place, own.pid()).unwrap().number("pss") > 0);
    let tick = last_tick(&place).unwrap();
    let rows: Vec<NamedRow> = pss(&place).rows();
    assert!(tick.count("refused").unwrap() >= 1);
    assert!(
        tick.count("procs").unwrap() < rows.iter().map(|row| row.number("pid")).collect::<std::collections::BTreeSet<_>>().len() as u64
    );
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn a_zombie_has_no_memory() {
    let place = place("");
    let mut zombie = Command::new("true").spawn().unwrap();
    let recorder = place.start();
    everyone_is_read(&place);
    until("its row", || row(&place, zombie.id()).is_some());
    let said = row(&place, zombie.id()).unwrap();
    assert_eq!((said.get("pss"), said.get("reading")), (&Value::Absent, &Value::Absent));
    zombie.wait().unwrap();
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn who_never_answers_costs_itself_only() {
    let place = place("");
    let root = tempfile::tempdir().unwrap();
    let tree = root.path();
    common::made_machine(tree);
    for pid in 1..=9 {
        let dir = tree.join(format!("new-{pid}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("stat"), common::made_stat(pid)).unwrap();
        std::fs::write(dir.join("cmdline"), "made\0").unwrap();
        if pid == 7 {
            assert!(Command::new("mkfifo").arg(dir.join("smaps_rollup")).status().unwrap().success());
        } else {
            std::fs::write(dir.join("smaps_rollup"), format!("Rss: 400 kB\nPss: {pid} kB\nSwapPss: 3 kB\n")).unwrap();
        }
        std::fs::rename(dir, tree.join(pid.to_string())).unwrap();
    }
    let mut command = place.command();
    command.arg("--proc").arg(tree);
    let recorder = place.start_command(command);
    until("eight are read", || last_tick(&place).is_some_and(|tick| tick.count("procs") == Some(8)));
    until("the one that does not answer", || row(&place, 7).is_some_and(|row| row.get("pss") == &Value::Refused));
    let tick = last_tick(&place).unwrap();
    assert_eq!((tick.count("stuck"), tick.count("pss"), tick.count("swap_pss")), (Some(1), Some(38 * 1024), Some(24 * 1024)));
    // The samples go on each second.
    let seq = tick.count("seq").unwrap();
    until("three more", || last_tick(&place).unwrap().count("seq").unwrap() >= seq + 3);
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn another_interval_and_budget_leave_no_gap() {
    let place = place("");
    let sleeper = Victim::spawn(Command::new("sleep").arg("1025"));
    let recorder = place.start();
    everyone_is_read(&place);
    let config = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), config.replacen("interval = \"1s\"", "interval = \"2s\"\nbudget_ms = 1", 1)).unwrap();
    until("the reload", || place.own_log().contains("Reloaded"));
    let seq = last_tick(&place).unwrap().count("seq").unwrap();
    until("three more", || last_tick(&place).unwrap().count("seq").unwrap() >= seq + 3);
    assert_eq!(recorder.stop(), 0);
    let segments = place.all("pss");
    Segment::assert_no_sample_missing(&segments);
    let ticks: Vec<Tick> = segments.iter().flat_map(|segment| segment.ticks().cloned().collect::<Vec<_>>()).collect();
    let from: Vec<&Tick> = ticks.iter().filter(|tick| tick.count("seq").unwrap() > seq + 1).collect();
    assert!(from.iter().all(|tick| tick.time.unix_ns % 2_000_000_000 == 0), "each two seconds now");
    // The reload is followed by a full sample: what was read before it is still known.
    let full = ticks.iter().rfind(|tick| tick.field("full") == Some("1")).unwrap();
    assert!(full.count("seq").unwrap() >= seq);
    let said: Vec<NamedRow> = pss(&place).rows_of(sleeper.pid()).into_iter().filter(|row| row.time == full.time).collect();
    assert!(said.len() == 1 && said[0].number("pss") > 0, "{said:?}");
    assert!(segments.iter().all(|segment| segment.notes("gap").is_empty()));
    place.assert_whole();
}

#[test]
fn the_stream_goes_to_standard_output_too() {
    let place = place("");
    let mut command = place.command();
    command.arg("--stdout=pss").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let tick = lines.find(|line| line.as_ref().unwrap().starts_with("#tick")).unwrap().unwrap();
    assert!(tick.contains(" pss=") && tick.contains(" longest_us="), "{tick}");
    child.kill().unwrap();
    child.wait().unwrap();
}
