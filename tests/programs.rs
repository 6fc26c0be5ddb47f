//! Program rules, with the real daemon: who counts for what, from the start, after an execution, after a reload, and by the rules
//! file of psstat.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Place, Victim, err, out, psmon, status, until};
use psmon::record::cmd::Cmd;
use psmon::record::value::Value;
use psmon::source::connector::Connector;

/// The program of a process in its last row of stream `ps`; empty before there is one.
fn program(place: &Place, pid: u32) -> String {
    let row = place.all_ps().iter().flat_map(|segment| segment.rows_of(pid)).last();
    row.map(|row| String::from_utf8(row.word("program")).unwrap()).unwrap_or_default()
}

fn becomes(place: &Place, pid: u32, wanted: &str) {
    until(&format!("{pid} counts for {wanted}: {}", program(place, pid)), || program(place, pid) == wanted);
}

fn sleeper(seconds: &str) -> Victim {
    Victim::spawn(Command::new("sleep").arg(seconds))
}

/// A shell that executes once it is told, and the child that it bore before.
fn wrapper(seconds: &str) -> (Victim, u32) {
    let script = format!("sleep 3001 & read x; exec sleep {seconds}");
    let shell = Victim::spawn(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()));
    let pid = shell.pid();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let child = || std::fs::read_to_string(&children).unwrap().trim().parse::<u32>().ok();
    until("the shell has a child that executed", || {
        child().is_some_and(|child| std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|cmd| cmd.starts_with(b"sleep\0")))
    });
    (shell, child().unwrap())
}

struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_wrapper_becomes_another_program_at_once_and_its_children_go_along() {
    let place = Place::new(
        "[[program]]\nname = 'service-{1}'\ncmd = '^sleep 300(\\d)$'\n[[program]]\nname = 'lone'\ncmd = '^sleep 4000$'\nchildren = false\n",
    );
    let (mut shell, child) = wrapper("3002");
    let orphan = Orphan(child);
    let recorder = place.start();
    // The child's own command line matches, its parent's does not yet.
    becomes(&place, child, "service-1");
    let before = program(&place, shell.pid());
    assert!(!before.starts_with("service"), "{before}");
    shell.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    becomes(&place, shell.pid(), "service-2");
    assert_eq!(program(&place, child), "service-1", "whom a rule claims stays with it");
    drop(orphan);
    drop(shell);
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn children_join_and_stay_when_their_parent_dies() {
    let place = Place::new(
        "[[program]]\nname = 'house'\ncmd = '^sleep 5002$'\n[[program]]\nname = 'lone'\ncmd = '^sleep 5003$'\nchildren = false\n",
    );
    let recorder = place.start();
    place.wait_for_ticks(1);
    let (mut shell, child) = wrapper("5002");
    let orphan = Orphan(child);
    becomes(&place, child, "sleep");
    shell.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    becomes(&place, shell.pid(), "house");
    becomes(&place, child, "house");
    // Its parent is gone, and it was born into this house.
    drop(shell);
    place.wait_for_next_tick();
    place.wait_for_next_tick();
    assert_eq!(program(&place, child), "house");
    drop(orphan);
    let (mut shell, child) = wrapper("5003");
    let orphan = Orphan(child);
    shell.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    becomes(&place, shell.pid(), "lone");
    place.wait_for_next_tick();
    assert_eq!(program(&place, child), "sleep");
    drop(orphan);
    drop(shell);
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn new_rules_reclassify_everyone_at_once() {
    let place = Place::new("args = \"program\"\n");
    let victim = sleeper("6001");
    let recorder = place.start();
    becomes(&place, victim.pid(), "sleep");
    // Nothing of the command line was kept: it is asked for.
    let rule = "[[program]]\nname = 'first'\ncmd = '6001$'\n[[program]]\nname = 'never'\ncomm = 'sleep'\n";
    std::fs::write(place.config(), place.text(&format!("args = \"program\"\n{rule}"))).unwrap();
    becomes(&place, victim.pid(), "first");
    let last = place.all_ps().iter().flat_map(|segment| segment.rows_of(victim.pid())).last().unwrap();
    assert_eq!(
        *last.get("cmd"),
        Value::Cmd(Arc::new(Cmd::from_args([b"sleep".as_slice()], 0))),
        "what rules look at is not recorded"
    );
    // Two rules of one name feed one program, and a name may hold spaces.
    let rule = "[[program]]\nname = 'second'\ncomm = 'nobody'\n[[program]]\nname = 'second'\ncomm = 'sleep'\n";
    std::fs::write(place.config(), place.text(&format!("args = \"program\"\n{rule}"))).unwrap();
    becomes(&place, victim.pid(), "second");
    std::fs::write(place.config(), place.text("args = \"program\"\n")).unwrap();
    becomes(&place, victim.pid(), "sleep");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn scripts_name_their_programs() {
    let place = Place::new("interpreters = [\"sh\"]\n");
    let script = place.root.path().join("night job.sh");
    std::fs::write(&script, "read x\n").unwrap();
    let victim = Victim::spawn(Command::new("sh").arg("-e").arg(&script).stdin(Stdio::piped()));
    let recorder = place.start();
    becomes(&place, victim.pid(), "night job.sh");
    assert_eq!(recorder.stop(), 0);
}

fn notes(place: &Place, kind: &str) -> Vec<String> {
    place.all_ps().iter().flat_map(|segment| segment.notes(kind)).collect()
}

fn set_old(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
}

#[test]
fn the_rules_file_is_followed_and_its_rules_outlive_it() {
    let place = Place::new("programs_file = 'PLACEHOLDER'\n");
    let file = place.root.path().join("psstat.conf");
    std::fs::write(place.config(), place.text(&format!("programs_file = {file:?}\n"))).unwrap();
    std::fs::write(&file, "# image regex\n\nnew sleep\\s7001\nbroken (\n").unwrap();
    let checked = Command::new(common::psmond()).args(["--check", "-c"]).arg(place.config()).output().unwrap();
    assert!(status(&checked) == 0 && out(&checked).contains("psstat.conf:4: '(' is no regular expression"), "{checked:?}");
    let shown = psmon().args(["config", "-c"]).arg(place.config()).output().unwrap();
    assert!(err(&shown).contains("psstat.conf:4:"), "{shown:?}");

    let victim = sleeper("7001");
    let recorder = place.start();
    becomes(&place, victim.pid(), "new");
    // Replaced by an older one, as a restored backup is.
    let old = place.root.path().join("old");
    std::fs::write(&old, "older \"sleep 7001\"\n").unwrap();
    set_old(&old);
    std::fs::rename(&old, &file).unwrap();
    becomes(&place, victim.pid(), "older");
    until("it was a reload", || notes(&place, "reload ok").iter().any(|note| note.ends_with("by=programs_file")));
    // Emptied: the rules stay, and it is said.
    std::fs::write(&file, "").unwrap();
    until("that is said", || notes(&place, "reload refused").len() == 1);
    // In its place something that nobody can read, root neither.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    until("that is said too", || notes(&place, "reload refused").len() == 2);
    // A new config while it is so.
    std::fs::write(place.config(), place.text(&format!("programs_file = {file:?}\nsync = \"20s\"\n"))).unwrap();
    until("it is in force", || notes(&place, "reload ok").len() == 2);
    place.wait_for_next_tick();
    place.wait_for_next_tick();
    assert_eq!(program(&place, victim.pid()), "older");
    let refused = notes(&place, "reload refused");
    assert!(refused.iter().all(|note| note.contains("psstat.conf") && note.contains("stay")), "{refused:?}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, "again 7001\n").unwrap();
    becomes(&place, victim.pid(), "again");
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn ten_thousand_rules_and_one_that_finds_everything() {
    let place = Place::new("");
    let condition = |number: u32| match number % 10 {
        0 => format!("cmd = '^daemon{number} --x'"),
        1..5 => format!("exe = '/opt/*/daemon{number}'"),
        _ => format!("comm = 'daemon{number}'"),
    };
    let mut rules: String = (0..10_000).map(|number| format!("[[program]]\nname = 'p{number}'\n{}\n", condition(number))).collect();
    rules += "[[program]]\nname = 'mine'\ncmd = '^sleep 8001$'\n[[program]]\nname = 'rest'\ncmd = 'x*'\n";
    std::fs::write(place.config(), place.text(&rules)).unwrap();
    let checked = Command::new(common::psmond()).args(["--check", "-c"]).arg(place.config()).output().unwrap();
    assert!(
        status(&checked) == 0 && out(&checked).contains("'x*' of program 'rest' matches the empty text"),
        "{checked:?}"
    );
    let (victim, other) = (sleeper("8001"), sleeper("8002"));
    let recorder = place.start();
    becomes(&place, victim.pid(), "mine");
    becomes(&place, other.pid(), "rest");
    assert_eq!(recorder.stop(), 0);
    let large = "[[program]]\nname = 'large'\ncmd = '(\\w{100}){100}'\n";
    std::fs::write(place.config(), place.text(large)).unwrap();
    let checked = Command::new(common::psmond()).args(["--check", "-c"]).arg(place.config()).output().unwrap();
    assert!(status(&checked) == 2 && err(&checked).contains("is too large"), "{checked:?}");
}

#[test]
fn events_and_obituaries_of_short_lives_name_the_program_of_the_rules() {
    if let Err(error) = Connector::listen(Duration::from_secs(1)) {
        return common::skipped(
            "events_and_obituaries_of_short_lives_name_the_program_of_the_rules",
            &format!("no process events here: {error}"),
        );
    }
    let user = rustix::process::geteuid();
    let name =
        psmon::source::users::user_name(user.as_raw()).map_or_else(|| user.as_raw().to_string(), |name| String::from_utf8(name).unwrap());
    let place = Place::new(&format!(
        "[[program]]\nname = 'wrong'\ncmd = '^sleep 0 0$'\nuser = 'nobody-has-this-name'\n\
         [[program]]\nname = 'brief-{{user}}'\ncmd = '^sleep 0 0$'\nuser = '{name}'\n[[program]]\nname = 'house'\ncmd = 'sh 9501$'\n"
    ));
    let recorder = place.start();
    until("it hears", || place.all("exits").iter().any(|segment| segment.ticks().count() > 0));
    place.wait_for_ticks(1);
    let brief: Vec<u32> = (0..20)
        .map(|_| Command::new("sleep").args(["0", "0"]).spawn().unwrap())
        .map(|mut child| {
            child.wait().unwrap();
            child.id()
        })
        .collect();
    // Its children are born, execute and end within milliseconds, and belong to it.
    assert!(
        Command::new("sh")
            .args(["-c", "for i in 1 2 3; do /bin/echo; done; true", "sh", "9501"])
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let rows = |stream: &str| place.all(stream).iter().flat_map(common::Segment::rows).collect::<Vec<_>>();
    let counts = |stream: &str, program: &str| {
        rows(stream).iter().filter(|row| matches!(row.get("program"), Value::Word(word) if **word == *program.as_bytes())).count()
    };
    until("the obituaries are written", || {
        brief.iter().all(|pid| rows("exits").iter().any(|row| row.number("pid") == i64::from(*pid)))
    });
    until("those of the house too", || counts("exits", "house") >= 4);
    assert_eq!(recorder.stop(), 0);
    let wanted = format!("brief-{name}");
    // Whose arguments nobody could read in time is known by its executable or name.
    let known = rows("exits")
        .iter()
        .filter(|row| brief.iter().any(|pid| row.number("pid") == i64::from(*pid)) && row.word("sources").contains(&b'a'))
        .count();
    assert!(known > 0, "the arguments of none were read");
    assert!(counts("exits", &wanted) >= known && counts("exits", "wrong") == 0, "{known} {}", counts("exits", &wanted));
    // An execution and an end of each.
    assert!(counts("events", &wanted) >= 2 * known, "{known} {}", counts("events", &wanted));
    place.assert_whole();
}

#[test]
fn live_views_go_by_the_same_rules() {
    let place = Place::new("[[program]]\nname = 'viewed'\ncmd = '^sleep 9001'\n");
    let victim = sleeper("9001");
    let shown =
        psmon().args(["ps", "-o", "pid,program", "-c"]).arg(place.config()).args(["-p", &victim.pid().to_string()]).output().unwrap();
    assert!(status(&shown) == 0 && out(&shown).contains("viewed"), "{shown:?}");
}

#[test]
fn sums_of_memory_go_by_the_same_rules() {
    let place = Place::new("[[program]]\nname = 'summed'\ncmd = '^sleep 910[12]$'\n");
    let _victims = [sleeper("9101"), sleeper("9102")];
    let sums = || out(&psmon().args(["pss", "--by", "program", "--csv", "-c"]).arg(place.config()).output().unwrap());
    until("both are in one sum", || sums().lines().any(|line| line.starts_with("summed,2,")));
}

/// `psmon explain` of a process; its answer and its exit status.
fn explained(place: &Place, pid: u32, more: &[&str]) -> (String, i32) {
    let output = psmon().args(["explain", &pid.to_string(), "-c"]).arg(place.config()).args(more).output().unwrap();
    (out(&output), status(&output))
}

#[test]
fn why_a_process_counts_for_its_program() {
    let place = Place::new(
        "interpreters = ['sh']\n[[program]]\nname = 'other'\ncomm = 'nobody'\n[[program]]\nname = 'half'\ncomm = 'sleep'\ncmd = 'never'\n\
         [[program]]\nname = 'night'\ncmd = '^sleep 9201 --password=\\S+$'\nmulti = true\nchildren = false\n[[program]]\nname = 'more'\ncomm = 'sleep'\nexe = '*/sl*'\n\
         [[program]]\nname = 'later'\ncomm = 'sleep'\n",
    );
    // Only the name of the first task is said to be sleep: the arguments would not do.
    let victim = Victim::spawn(Command::new("sh").args(["-c", "exec sleep 9201"]));
    until("it executed", || std::fs::read(format!("/proc/{}/comm", victim.pid())).is_ok_and(|comm| comm == b"sleep\n"));
    let (text, code) = explained(&place, victim.pid(), &[]);
    let toml = place.config().display().to_string();
    let says = |part: &str| assert!(text.contains(part), "'{part}' is not in: {text}");
    assert_eq!(code, 0);
    says("counts for more");
    says(&format!("by         rule 4 'more' ({toml}:"));
    says("rule 1 'other'");
    says("comm is not nobody: sleep");
    says("cmd is not /never/: sleep 9201");
    assert!(!text.contains("later"), "nobody asked it: {text}");

    // A child that no rule claims belongs to its ancestor's program.
    let parent = Victim::spawn(Command::new("sh").args(["-c", "tail -f /dev/null & exec sleep 9202"]).stdin(Stdio::piped()));
    let children = format!("/proc/{0}/task/{0}/children", parent.pid());
    let child = || std::fs::read_to_string(&children).ok()?.trim().parse::<u32>().ok();
    until("it has executed, and its child too", || {
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name(parent.pid()) == "sleep\n" && child().is_some_and(|child| name(child) == "tail\n")
    });
    let child = child().unwrap();
    let _orphan = Orphan(child);
    let (text, _) = explained(&place, child, &[]);
    assert!(
        text.contains("counts for more") && text.contains(&format!("descent: no rule claims it, and {}@", parent.pid())),
        "{text}"
    );
    let (json, _) = explained(&place, child, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["by"].as_str(), json["program"].as_str(), json["ancestor"]["pid"].as_u64()),
        (Some("family"), Some("more"), Some(parent.pid().into()))
    );
    assert_eq!((json["others"][0]["conditions"][0]["value"].as_str(), json["left_out"].as_u64()), (Some("tail"), Some(0)));

    let (text, code) = explained(&place, 4_000_000, &[]);
    assert_eq!((text.as_str(), code), ("", 1));
}

#[test]
fn of_ten_thousand_rules_those_that_came_near() {
    let place = Place::new("");
    let mut rules: String = (0..2000).map(|number| format!("[[program]]\nname = 'p{number}'\ncomm = 'daemon{number}'\n")).collect();
    rules += "[[program]]\nname = 'near'\ncomm = 'sleep'\nuser = 'nobody-has-this-name'\n";
    std::fs::write(place.config(), place.text(&rules)).unwrap();
    let victim = sleeper("9301");
    until("it executed", || std::fs::read(format!("/proc/{}/comm", victim.pid())).is_ok_and(|comm| comm == b"sleep\n"));
    let (text, _) = explained(&place, victim.pid(), &[]);
    assert!(text.lines().count() < 20 && text.contains("'near'") && text.contains("  2000 more: "), "{text}");
    let (text, _) = explained(&place, victim.pid(), &["--all"]);
    assert!(text.lines().count() > 2000 && text.contains("'p1999'"), "{}", text.len());
    // What is secret stays so.
    let secret = Victim::spawn(Command::new("sh").args(["-c", "read x", "sh", "--password=hunter2"]).stdin(Stdio::piped()));
    std::fs::write(place.config(), place.text("[[program]]\nname = 'found'\ncmd = 'hunter2'\n")).unwrap();
    until("it executed", || std::fs::read(format!("/proc/{}/comm", secret.pid())).is_ok_and(|comm| comm == b"sh\n"));
    let (text, _) = explained(&place, secret.pid(), &[]);
    assert!(text.contains("counts for found") && text.contains("--password=***"), "{text}");
    assert!(!text.contains("=hunter2"), "{text}");
}
