//! Births and deaths, with the real daemon and the real kernel: one obituary for each process that ended, and none for one that
//! lives; what a restart finds; what a loss costs.

#![allow(clippy::unwrap_used, clippy::panic)] // a test

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{NamedRow, Place, Recorder, Segment, Victim, until};
use psmon::record::value::Value;
use psmon::source::connector::Connector;

/// Streams of events, without the table.
const HEARING: &str = "[events]\nmax_rows_per_s = 1000000\n[exits]\nmax_rows_per_s = 1000000\nps:interval = \"1s\"\n";

fn hears(test: &str) -> bool {
    match Connector::listen(std::time::Duration::from_secs(1)) {
        Ok(_) => true,
        Err(error) => {
            common::skipped(test, &format!("no process events here: {error}"));
            false
        }
    }
}

/// All rows of a stream, over all its segments, torn ones too.
fn rows(place: &Place, stream: &str) -> Vec<NamedRow> {
    place.all(stream).iter().flat_map(Segment::rows).collect()
}

/// The last tick of a stream: what it counts since the run began.
fn last_tick(place: &Place, stream: &str) -> BTreeMap<String, String> {
    place.all(stream).iter().flat_map(|segment| segment.ticks().cloned().collect::<Vec<_>>()).last().unwrap().fields.into_iter().collect()
}

fn counted(tick: &BTreeMap<String, String>, key: &str) -> u64 {
    tick[key].parse().unwrap_or_else(|_| panic!("{key}={}", tick[key]))
}

/// Starts psmond and waits until it hears.
fn start(place: &Place) -> Recorder {
    let before = place.all("exits").iter().map(|segment| segment.ticks().count()).sum::<usize>();
    let recorder = place.start();
    until("it hears", || place.all("exits").iter().map(|segment| segment.ticks().count()).sum::<usize>() > before);
    recorder
}

/// The program of `fixtures/tasks.c`.
fn tasks(place: &Place) -> PathBuf {
    let binary = place.logs().with_file_name("tasks");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tasks.c");
    let status = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&binary).arg(source).status().unwrap();
    assert!(status.success(), "cc: what links Rust programs compiles C");
    binary
}

/// Runs it; the pid and the wait status of each child.
fn run(place: &Place, words: &[&str]) -> (u32, Vec<(u32, i64)>) {
    let child = Command::new(tasks(place)).args(words).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = |line: &str| line.split_once(' ').map(|(pid, status)| (pid.parse().unwrap(), status.parse().unwrap()));
    (pid, String::from_utf8(output.stdout).unwrap().lines().map(|text| line(text).unwrap()).collect())
}

/// Of each child exactly one obituary, with its status and its parent; and one row of its exit in `events`.
fn assert_one_each(place: &Place, parent: u32, children: &[(u32, i64)]) -> Vec<NamedRow> {
    let obituaries: Vec<NamedRow> = rows(place, "exits").into_iter().filter(|row| row.number("ppid") == i64::from(parent)).collect();
    // Not in the order of their ends: one whose tasks told theirs out of order waits for the flush.
    let mut told: Vec<(u32, i64)> = obituaries.iter().map(|row| (u32::try_from(row.number("pid")).unwrap(), row.number("raw"))).collect();
    told.sort_unstable();
    let mut ended = children.to_vec();
    ended.sort_unstable();
    assert_eq!(told, ended, "neither a false, nor an early, nor a double obituary");
    assert!(obituaries.iter().all(|row| row.number("lives") == 1));
    let mine: BTreeSet<i64> = children.iter().map(|(pid, _)| i64::from(*pid)).collect();
    let exits = rows(place, "events").into_iter().filter(|row| row.word("event") == b"exit" && mine.contains(&row.number("pid"))).count();
    assert_eq!(exits, children.len());
    obituaries
}

#[test]
fn an_exec_by_another_thread_is_no_death() {
    if !hears("an_exec_by_another_thread_is_no_death") {
        return;
    }
    let place = Place::new(HEARING);
    let recorder = start(&place);
    let (parent, children) = run(&place, &["exec", "1000"]);
    assert_eq!(recorder.stop(), 0);
    assert_eq!(children.len(), 1000);
    assert!(children.iter().all(|(_, status)| *status == 0));
    let obituaries = assert_one_each(&place, parent, &children);
    // Whatever was read in time: the name it ended with is the executed one's.
    let known = obituaries.iter().filter(|row| row.word("program") == b"true").count();
    assert!(known >= 990, "the program is the one executed by the thread: {known}");
    assert_eq!(counted(&last_tick(&place, "exits"), "lost"), 0);
    place.assert_whole();
}

#[test]
fn a_first_task_that_ends_before_the_others_is_no_death() {
    if !hears("a_first_task_that_ends_before_the_others_is_no_death") {
        return;
    }
    let place = Place::new(HEARING);
    let recorder = start(&place);
    let (parent, children) = run(&place, &["leader", "1000"]);
    let (group_parent, group) = run(&place, &["group", "200"]);
    assert_eq!(recorder.stop(), 0);
    assert_eq!((children.len(), group.len()), (1000, 200));
    let obituaries = assert_one_each(&place, parent, &children);
    assert!(obituaries.iter().all(|row| row.number("code") == 7), "the code of the whole, not of its first task");
    // It lived on for two milliseconds after its first task.
    assert!(obituaries.iter().all(|row| row.number("lifetime_s") >= 2000), "no early obituary");
    let obituaries = assert_one_each(&place, group_parent, &group);
    assert!(obituaries.iter().all(|row| row.number("code") == 5));
    place.assert_whole();
}

#[test]
fn every_life_is_told_with_its_birth_its_program_and_its_end() {
    if !hears("every_life_is_told_with_its_birth_its_program_and_its_end") {
        return;
    }
    let place = Place::new(HEARING);
    let recorder = start(&place);
    let mut pids = Vec::new();
    for number in 0..50 {
        let mut child = Command::new("sh").args(["-c", &format!("exit {number}"), "life"]).spawn().unwrap();
        pids.push(child.id());
        child.wait().unwrap();
    }
    let mut killed = Command::new("sleep").arg("1007").spawn().unwrap();
    let victim = killed.id();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(recorder.stop(), 0);
    let own = i64::from(std::process::id());
    let events = rows(&place, "events");
    let exits = rows(&place, "exits");
    for (number, pid) in pids.iter().enumerate() {
        let mine: Vec<&NamedRow> = events.iter().filter(|row| row.number("pid") == i64::from(*pid)).collect();
        let kinds: Vec<Vec<u8>> = mine.iter().map(|row| row.word("event")).collect();
        assert!(
            kinds.first().unwrap() == b"fork" && kinds.last().unwrap() == b"exit" && kinds.contains(&b"exec".to_vec()),
            "{kinds:?}"
        );
        assert!(mine.iter().all(|row| row.number("ppid") == own && row.number("start") == mine[0].number("start")));
        assert_eq!(mine.last().unwrap().word("info"), number.to_string().as_bytes());
        let obituary: Vec<&NamedRow> = exits.iter().filter(|row| row.number("pid") == i64::from(*pid)).collect();
        let [obituary] = obituary[..] else { panic!("{} obituaries of {pid}", obituary.len()) };
        assert_eq!(obituary.word("how"), b"exit");
        assert_eq!(obituary.number("code"), i64::try_from(number).unwrap());
        assert_eq!((obituary.number("ppid"), obituary.number("start")), (own, mine[0].number("start")));
        assert!(obituary.number("lifetime_s") > 0);
    }
    let killed = exits.iter().find(|row| row.number("pid") == i64::from(victim)).unwrap();
    assert_eq!((killed.word("how"), killed.word("signal")), (b"signal".to_vec(), b"SIGKILL".to_vec()));
    assert_eq!(killed.get("code"), &Value::Absent);
    let tick = last_tick(&place, "exits");
    // One of somebody else may have been born between the count and the last event.
    assert!(counted(&tick, "lost") == 0 && counted(&tick, "births") >= counted(&tick, "births_kernel"), "{tick:?}");
    place.assert_whole();
}

#[test]
fn a_restart_buries_who_died_meanwhile_once_and_counts_who_was_born_unseen() {
    if !hears("a_restart_buries_who_died_meanwhile_once_and_counts_who_was_born_unseen") {
        return;
    }
    let place = Place::new(HEARING);
    let recorder = start(&place);
    let before = Victim::spawn(Command::new("sleep").arg("1008"));
    let during = Victim::spawn(Command::new("sleep").arg("1009"));
    let after = Victim::spawn(Command::new("sleep").arg("1010"));
    let pids = [before.pid(), during.pid(), after.pid()];
    place.wait_for_next_tick();
    // A state that knows them all, then a death that is written, then the end of the recorder.
    assert_eq!(recorder.stop(), 0);
    let recorder = start(&place);
    drop(before);
    until("its obituary", || rows(&place, "exits").iter().any(|row| row.number("pid") == i64::from(pids[0])));
    recorder.kill();
    drop(during);
    for _ in 0..20 {
        Command::new("true").status().unwrap();
    }
    let recorder = start(&place);
    until("the obituary of who died unseen", || {
        rows(&place, "exits").iter().any(|row| row.number("pid") == i64::from(pids[1]))
    });
    assert_eq!(recorder.stop(), 0);
    let exits = rows(&place, "exits");
    let of = |pid: u32| exits.iter().filter(|row| row.number("pid") == i64::from(pid)).collect::<Vec<_>>();
    assert_eq!(of(pids[0]).len(), 1, "no double obituary");
    assert_eq!(of(pids[0])[0].word("how"), b"signal");
    let [unseen] = of(pids[1])[..] else { panic!("one obituary of who died unseen") };
    assert_eq!(
        (unseen.get("how"), unseen.word("sources"), unseen.word("program")),
        (&Value::Absent, b"s".to_vec(), b"sleep".to_vec())
    );
    assert!(of(pids[2]).is_empty(), "the living are not buried");
    drop(after);
    let notes: Vec<String> = place.all("exits").iter().flat_map(|segment| segment.notes("start")).collect();
    assert_eq!(notes.len(), 3);
    let unseen = |note: &String| {
        let births = note.split(' ').find_map(|pair| pair.strip_prefix("unseen_births="));
        births.unwrap_or_else(|| panic!("{note}")).parse::<u64>().unwrap()
    };
    assert!(unseen(&notes[2]) >= 20, "{}", notes[2]);
    assert!(place.all("exits").iter().flat_map(|segment| segment.notes("stop")).all(|note| note.contains("alive=")));
}

#[test]
fn a_buffer_that_is_too_small_loses_events_and_counts_them() {
    if !hears("a_buffer_that_is_too_small_loses_events_and_counts_them") {
        return;
    }
    let place = Place::new("[events]\nbuffer = \"4K\"\nkinds = [\"core\"]\nps:interval = \"1s\"\n");
    let recorder = start(&place);
    let mut lost = 0;
    for _ in 0..40 {
        // A hundred births at once, faster than a few events can be taken.
        Command::new("sh").args(["-c", "i=0; while [ $i -lt 100 ]; do (:) & i=$((i+1)); done; wait"]).status().unwrap();
        lost = counted(&last_tick(&place, "exits"), "lost");
        if lost > 0 {
            break;
        }
    }
    until("the table is brought back in line", || counted(&last_tick(&place, "exits"), "resync") > 0);
    assert_eq!(recorder.stop(), 0);
    let tick = last_tick(&place, "exits");
    assert!(counted(&tick, "lost") >= lost && counted(&tick, "lost") > 0, "{tick:?}");
    // What is missing of the births is within what is said to be lost.
    let (births, kernel) = (counted(&tick, "births"), counted(&tick, "births_kernel"));
    assert!(births < kernel && kernel - births <= counted(&tick, "lost"), "{tick:?}");
    assert!(!place.all("exits").iter().all(|segment| segment.notes("loss").is_empty()), "a loss is noted");
    place.assert_whole();
}

#[test]
fn likes_fold_into_one_row_and_none_is_dropped() {
    if !hears("likes_fold_into_one_row_and_none_is_dropped") {
        return;
    }
    let place = Place::new("[events]\nmax_rows_per_s = 10\n[exits]\nmax_rows_per_s = 10\nps:interval = \"1s\"\n");
    let recorder = start(&place);
    // One that goes wrong among three hundred that do not.
    let script = "i=0; while [ $i -lt 300 ]; do (:); i=$((i+1)); done; (exit 9); exit 0";
    let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let shell = i64::from(child.id());
    child.wait().unwrap();
    assert_eq!(recorder.stop(), 0);
    let exits = rows(&place, "exits");
    let mine: Vec<&NamedRow> = exits.iter().filter(|row| row.get("ppid") == &Value::Int(shell)).collect();
    // While others end too, some may stand in a row that is of no parent.
    let of_all = exits.iter().filter(|row| row.get("ppid") == &Value::Absent);
    let (own, anybody) = (mine.iter().map(|row| row.number("lives")).sum::<i64>(), of_all.map(|row| row.number("lives")).sum::<i64>());
    assert!(own <= 301 && own + anybody >= 301, "{own} {anybody}");
    assert!(mine.len() < 100, "{} rows", mine.len());
    let failed: Vec<&&NamedRow> = mine.iter().filter(|row| row.get("code") == &Value::Int(9)).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].number("lives"), 1);
    let folded = mine.iter().find(|row| row.number("lives") > 1).unwrap();
    assert!(folded.number("lifetime_s") > 0 && folded.number("min_flt") > folded.number("lives"), "sums of what adds up");
    // Of the events what was not written is counted by its kind.
    let unwritten: u64 = place
        .all("events")
        .iter()
        .flat_map(|segment| segment.ticks().filter_map(|tick| tick.count("unwritten_fork")).collect::<Vec<_>>())
        .sum();
    let written = rows(&place, "events").iter().filter(|row| row.word("event") == b"fork").count() as u64;
    assert!(written + unwritten >= 301, "{written} {unwritten}");
    place.assert_whole();
}

#[test]
fn the_next_sample_shows_what_events_told() {
    if !hears("the_next_sample_shows_what_events_told") {
        return;
    }
    let place = Place::new("args = \"full\"\nps:interval = \"1s\"\nfull_every = \"7d\"\n");
    let recorder = start(&place);
    let mut child = Command::new("sh")
        .args(["-c", "read x; exec sh -c 'printf renamed >/proc/$$/comm; read y; exit 4'"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    until("its row", || !place.ps().rows_of(pid).is_empty());
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    until("the new program", || {
        place.ps().rows_of(pid).last().unwrap().get("cmd") != place.ps().rows_of(pid)[0].get("cmd")
    });
    until("its event", || {
        rows(&place, "events").iter().any(|row| {
            row.number("pid") == i64::from(pid) && row.word("event") == b"comm" && row.word("info").ends_with("→renamed".as_bytes())
        })
    });
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    child.wait().unwrap();
    let id = format!("{pid}@{}", place.ps().rows_of(pid)[0].number("start"));
    until("its end", || place.ps().gone().contains(&(id.clone(), "exit".to_owned())));
    assert_eq!(recorder.stop(), 0);
    // Between full samples nobody lists /proc: that it was seen at all is the events' doing.
    assert!(place.ps().ticks().skip(1).all(|tick| tick.field("full") == Some("0")));
    place.assert_whole();
}

#[test]
fn without_events_ends_are_found_by_comparing_samples_and_that_is_said() {
    if !rustix::process::geteuid().is_root() {
        common::skipped("without_events_ends_are_found_by_comparing_samples_and_that_is_said", "a network namespace needs root");
        return;
    }
    let place = Place::new("ps:interval = \"1s\"\n");
    // The connector's socket is in the machine's first network namespace only.
    let mut command = Command::new("unshare");
    command.arg("--net").arg(common::psmond()).arg("-c").arg(place.config());
    let recorder = place.start_command(command);
    let child = Victim::spawn(Command::new("sleep").arg("1011"));
    let pid = child.pid();
    until("its row", || !place.ps().rows_of(pid).is_empty());
    drop(child);
    until("its obituary", || rows(&place, "exits").iter().any(|row| row.number("pid") == i64::from(pid)));
    assert_eq!(recorder.stop(), 0);
    let obituary = rows(&place, "exits").into_iter().find(|row| row.number("pid") == i64::from(pid)).unwrap();
    assert_eq!((obituary.get("how"), obituary.word("program")), (&Value::Absent, b"sleep".to_vec()));
    assert!(obituary.word("sources").contains(&b's'));
    let degraded = place.all("exits").iter().flat_map(|segment| segment.notes("degraded")).collect::<Vec<_>>();
    assert!(degraded.iter().any(|note| note.contains("what=events")), "{degraded:?}");
    // What nobody could count is not zero.
    assert_eq!(last_tick(&place, "exits")["births"], "?");
    assert!(place.own_log().contains("no events"), "{}", place.own_log());
    place.assert_whole();
}

#[test]
fn a_plain_user_hears_too() {
    if !rustix::process::geteuid().is_root() || !hears("a_plain_user_hears_too") {
        common::skipped("a_plain_user_hears_too", "becoming another user needs root");
        return;
    }
    let place = Place::new(HEARING);
    place.let_nobody_write();
    let recorder = place.start_command(common::as_nobody(&place));
    until("it hears or says why not", || !place.all("exits").iter().all(|segment| segment.ticks().count() == 0));
    let mut child = Command::new("sh").args(["-c", "exit 6"]).spawn().unwrap();
    let pid = i64::from(child.id());
    child.wait().unwrap();
    assert_eq!(recorder.stop(), 0);
    if place.own_log().contains("no events") {
        println!("an ordinary user gets no events from this kernel (before Linux 6.6)");
        return;
    }
    let obituary = rows(&place, "exits").into_iter().find(|row| row.number("pid") == pid).unwrap();
    assert_eq!(obituary.number("code"), 6);
    // Exit records need CAP_NET_ADMIN: what nobody could know is absent, not zero, and a note says so.
    assert_eq!(obituary.get("max_rss"), &Value::Absent);
    let notes = place.all("exits").iter().flat_map(|segment| segment.notes("degraded")).collect::<Vec<_>>();
    assert!(notes.iter().any(|note| note.contains("what=taskstats")), "{notes:?}");
}

#[test]
fn each_stream_goes_to_standard_output_too() {
    if !hears("each_stream_goes_to_standard_output_too") {
        return;
    }
    let place = Place::new("");
    let mut command = place.command();
    command.arg("--stdout=exits").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("#psmon 1 exits "), "{first}");
    assert!(lines.any(|line| line.unwrap().starts_with("#tick ")), "the tick of the start");
    let own = i64::from(std::process::id());
    let status = Command::new("sh").args(["-c", "exit 8"]).status().unwrap();
    assert_eq!(status.code(), Some(8));
    let found = lines.any(|line| {
        let line = line.unwrap();
        !line.starts_with('#') && line.split_ascii_whitespace().nth(3) == Some(&own.to_string()) && line.contains("exit\\x208")
    });
    assert!(found);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn alerts_tick_though_nothing_is_found() {
    let place = Place::new("");
    let recorder = place.start();
    until("their tick", || place.all("alerts").iter().any(|segment| segment.ticks().count() > 0));
    let mut command = place.command();
    command.arg("--stdout=alerts").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("#psmon 1 alerts "), "{first}");
    assert_eq!(lines.next().unwrap().unwrap(), "#cols time kind level program user pid start value limit text");
    let tick = lines.find_map(|line| line.ok().filter(|line| line.starts_with("#tick "))).unwrap();
    assert!(tick.contains(" n=0 open=0 "), "{tick}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}
