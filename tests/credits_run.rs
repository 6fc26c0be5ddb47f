//! `psmon credits --run`: a command and all its descendants, each counted once, with the real tool and the real kernel. What is
//! true the burners say themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use common::{NOBODY, Place, Target, Victim, err, has, is_root, out, psmon, skipped, status, until};
use psmon::source::connector::Connector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

/// What each way burns.
const MS: &str = "300";

fn place() -> Place {
    Place::new("")
}

/// Whether the kernel tells of births and records here; if not, the test is said to be skipped.
fn hears(test: &str) -> bool {
    is_root(test)
        && match Connector::listen(std::time::Duration::from_secs(1)) {
            Ok(_) => true,
            Err(error) => {
                skipped(test, &format!("no process events here: {error}"));
                false
            }
        }
}

/// The burners, where everybody may run them, under a name nobody else has.
fn burners(place: &Place) -> PathBuf {
    std::fs::set_permissions(place.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Target::binary(place, "burners", "psmon-burners")
}

/// Ends in the report as an object, in a file.
fn counted(mut command: Command, place: &Place, words: &[&str]) -> (Output, Json) {
    let file = place.root.path().join("report");
    let output = command.arg("--json").arg("--output").arg(&file).arg("--").args(words).stdin(Stdio::null()).output().unwrap();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}; {}", err(&output)));
    (output, report)
}

fn run() -> Command {
    let mut command = psmon();
    command.args(["credits", "--run"]);
    command
}

/// The tool as a user that owns nothing.
fn run_as_nobody(place: &Place) -> Command {
    std::fs::set_permissions(place.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.root.path().join("psmon");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_psmon"), &program).unwrap();
    }
    // Their reports lie beside it.
    std::fs::write(place.root.path().join("report"), "").unwrap();
    std::fs::set_permissions(place.root.path().join("report"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(program).current_dir("/");
    command.args(["credits", "--run"]);
    command
}

/// What the burners say: how many they are, and their CPU in seconds.
fn truth(output: &Output) -> (u64, f64) {
    let ns: Vec<u64> = out(output).lines().map(|line| line.split_once(' ').unwrap().1.parse().unwrap()).collect();
    #[expect(clippy::cast_precision_loss, reason = "of seconds")]
    let seconds = ns.iter().sum::<u64>() as f64 / 1e9;
    (ns.len() as u64, seconds)
}

fn number(report: &Json, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"))
}

/// Per cent of the truth.
fn share(report: &Json, key: &str, seconds: f64) -> f64 {
    number(report, key) / seconds * 100.0
}

fn notes(report: &Json) -> String {
    report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

/// Ends somebody who outlives psmon.
fn end(pid: u64) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
}

#[test]
fn every_descendant_is_counted_once() {
    if !hears("every_descendant_is_counted_once") {
        return;
    }
    let place = place();
    let burners = burners(&place);
    for (ways, processes, autoreaped) in [
        (&["daemon"][..], 3, false),
        (&["ignored"], 3, true),
        (&["leader"], 2, false),
        (&["user"], 2, false),
        (&["grand"], 4, false),
        (&["daemon", "ignored", "leader", "user", "grand"], 10, true),
    ] {
        let words: Vec<&str> = [burners.to_str().unwrap(), MS].into_iter().chain(ways.iter().copied()).collect();
        let (output, report) = counted(run(), &place, &words);
        assert_eq!(status(&output), 0, "{ways:?}: {report}");
        let (said, seconds) = truth(&output);
        assert_eq!(
            (said, number(&report, "processes")),
            (processes, f64::from(u32::try_from(processes).unwrap())),
            "{ways:?}: {report}"
        );
        let total = share(&report, "cpu_s", seconds);
        assert!((98.5..=100.5).contains(&total), "{ways:?}: {total:.2} % of {seconds} s: {report}");
        // What the records say of each alone, and what wait4(2) says of all together, agree but for whom nobody waits for.
        let waited = share(&report, "wait4_cpu_s", seconds);
        assert!(if autoreaped { waited < 90.0 } else { (98.5..=100.5).contains(&waited) }, "{ways:?}: {waited:.2} %: {report}");
        let recorded = total - share(&report, "ends_cpu_s", seconds);
        assert!((98.5..=100.5).contains(&recorded), "{ways:?}: {recorded:.2} %: {report}");
        assert_eq!((report["truth"].as_str(), number(&report, "missing"), notes(&report)), (Some("records"), 0.0, String::new()));
        assert_eq!(report["programs"].as_array().unwrap().len(), 1, "all are one program: {report}");
        assert_eq!(report["programs"][0]["program"], "psmon-burners");
        let (user, system) = (number(&report, "user_s"), number(&report, "sys_s"));
        assert!((user + system - number(&report, "cpu_s")).abs() < 1e-5, "{report}");
        assert!((number(&report, "credits") * 60.0 - number(&report, "cpu_s")).abs() < 1e-5, "{report}");
        assert!(
            number(&report, "wall_s") > 0.2 && number(&report, "cpu_pct") > 1.0 && number(&report, "max_rss") > 4096.0,
            "{report}"
        );
    }
}

#[test]
fn executions_are_counted_by_their_program() {
    if !hears("executions_are_counted_by_their_program") {
        return;
    }
    let place = place();
    let burners = burners(&place);
    let copy = place.root.path().join("psmon-copied");
    std::fs::copy(&burners, &copy).unwrap();
    let script = format!("{} 100 user & {} 300 daemon; wait; exec {} 100 grand", burners.display(), copy.display(), burners.display());
    let (output, report) = counted(run(), &place, &["sh", "-c", &script]);
    assert_eq!(status(&output), 0, "{report}");
    let program = |name: &str| {
        let programs = report["programs"].as_array().unwrap();
        let found = programs.iter().find(|program| program["program"] == name).unwrap_or_else(|| panic!("{name} in {report}"));
        (found["processes"].as_u64().unwrap(), found["cpu_s"].as_f64().unwrap())
    };
    // The shell became the last of the burners.
    let (processes, cpu_s) = program("psmon-burners");
    assert!(processes == 6 && (0.19..0.25).contains(&cpu_s), "{report}");
    let (processes, cpu_s) = program("psmon-copied");
    assert!(processes == 3 && (0.29..0.35).contains(&cpu_s), "{report}");
    let (_, seconds) = truth(&output);
    let total = share(&report, "cpu_s", seconds);
    // The shell tells nothing of itself.
    assert!((98.5..=103.0).contains(&total), "{total:.2} % of {seconds} s: {report}");
}

#[test]
fn a_storm_loses_nobody() {
    if !hears("a_storm_loses_nobody") {
        return;
    }
    let place = place();
    let script = "i=0; while [ $i -lt 1000 ]; do /bin/true; (:& :) ; i=$((i+1)); done";
    let (output, report) = counted(run(), &place, &["sh", "-c", script]);
    assert_eq!((status(&output), notes(&report)), (0, String::new()));
    // Of each round one program, one subshell, and one orphan of that.
    assert_eq!((number(&report, "processes"), number(&report, "missing")), (3001.0, 0.0), "{report}");
    assert!(number(&report, "cpu_s") >= number(&report, "wait4_cpu_s"), "{report}");
}

#[test]
fn without_privileges_it_says_what_it_cannot_know() {
    let test = "without_privileges_it_says_what_it_cannot_know";
    if !is_root(test) || !has(test, "setpriv") {
        return;
    }
    let place = place();
    let burners = burners(&place);
    let burners = burners.to_str().unwrap();
    let (output, report) = counted(run_as_nobody(&place), &place, &[burners, MS, "daemon", "leader", "grand"]);
    assert_eq!(status(&output), 0, "{report}");
    let (_, seconds) = truth(&output);
    let total = share(&report, "cpu_s", seconds);
    assert!((98.5..=100.5).contains(&total), "{total:.2} % of {seconds} s: {report}");
    for said in [notes(&report), err(&output)] {
        assert!(said.contains("SIGCHLD") && said.contains("CAP_NET_ADMIN") && said.lines().count() == 1, "{said}");
    }
    // It states what then is really missing.
    let (output, report) = counted(run_as_nobody(&place), &place, &[burners, MS, "ignored", "daemon"]);
    let (_, seconds) = truth(&output);
    let total = share(&report, "cpu_s", seconds);
    assert!((40.0..60.0).contains(&total), "{total:.2} % of {seconds} s: {report}");
    assert_ne!(report["truth"], "records");
    // Without a file it stands in the report, on standard error.
    let output = run_as_nobody(&place).args(["--", "true"]).output().unwrap();
    assert!(status(&output) == 0 && out(&output).is_empty() && err(&output).contains("CAP_NET_ADMIN"), "{output:?}");
}

#[test]
fn without_events_orphans_are_counted_as_they_come() {
    let test = "without_events_orphans_are_counted_as_they_come";
    if !is_root(test) || !has(test, "unshare") {
        return;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]);
        command
    };
    if !unshare().arg("true").status().unwrap().success() {
        skipped(test, "no pid namespace can be made here");
        return;
    }
    let place = place();
    let burners = burners(&place);
    let mut command = unshare();
    command.arg(env!("CARGO_BIN_EXE_psmon")).args(["credits", "--run"]);
    let (output, report) = counted(command, &place, &[burners.to_str().unwrap(), MS, "daemon", "grand"]);
    assert_eq!((status(&output), report["truth"].as_str()), (0, Some("orphans")), "{report}");
    let (_, seconds) = truth(&output);
    let total = share(&report, "cpu_s", seconds);
    assert!((98.5..=100.5).contains(&total), "{total:.2} % of {seconds} s: {report}");
    // The command and the daemon came; whom these waited for did not.
    assert_eq!(number(&report, "processes"), 2.0, "{report}");
    assert!(err(&output).contains("SIGCHLD"), "{}", err(&output));
}

#[test]
fn the_status_is_that_of_the_command() {
    let place = place();
    let told = |words: &[&str]| {
        let output = run().arg("--").args(words).stdin(Stdio::null()).output().unwrap();
        (status(&output), out(&output), err(&output))
    };
    assert_eq!(told(&["true"]).0, 0);
    let (code, said, report) = told(&["sh", "-c", "echo said; exit 7"]);
    assert_eq!((code, said.as_str()), (7, "said\n"), "its output is its own");
    assert!(report.contains("status    7\n") && report.contains("\ncredits "), "{report}");
    assert_eq!(told(&["sh", "-c", "kill -KILL $$"]).0, 128 + 9);
    assert_eq!(told(&["sh", "-c", "kill -SEGV $$"]).0, 128 + 11);
    let (code, _, why) = told(&["psmon-no-such-program"]);
    assert!(code == 127 && why.contains("psmon-no-such-program") && why.lines().count() == 1, "{why}");
    let text = place.root.path().join("text");
    std::fs::write(&text, "exit 9\n").unwrap();
    let (code, _, why) = told(&[text.to_str().unwrap()]);
    assert!(code == 126 && why.contains("text") && why.lines().count() == 1, "{why}");
    // What names no interpreter is the shell's, as execvp(3) has it.
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(told(&[text.to_str().unwrap()]).0, 9);
    // psmon's own failures come before the command.
    let mark = place.root.path().join("mark");
    let output = run().args(["--output", "/psmon-no-such-dir/x", "--", "touch"]).arg(&mark).output().unwrap();
    assert!(status(&output) == 125 && err(&output).contains("/psmon-no-such-dir/x") && !mark.exists(), "{output:?}");
    for wrong in [&["credits", "--run"][..], &["credits", "--", "true"], &["credits", "--no-wait"]] {
        assert_eq!(status(&psmon().args(wrong).output().unwrap()), 2, "{wrong:?}");
    }
}

#[test]
fn the_command_finds_what_it_would_find_without_us() {
    // Limits, signals and descriptors: whatever the tests have.
    let script = "ulimit -n; grep -E '^Sig(Blk|Cgt)' /proc/self/status; ls /proc/self/fd | wc -l; cat; umask; pwd";
    let plain = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    let under = run().args(["--", "sh", "-c", script]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(out(&under), out(&plain));
    // Whoever ignores SIGCHLD starts us so: that is not ours to suffer from.
    let output = Command::new("sh")
        .args(["-c", "trap '' CHLD INT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_psmon"), "credits", "--run", "--"])
        .args(["sh", "-c", "grep SigIgn /proc/self/status; exit 5"])
        .output()
        .unwrap();
    assert_eq!(status(&output), 5, "{output:?}");
    let mask = u64::from_str_radix(out(&output).trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & 1 << 1, 2, "an interrupt that was ignored still is");
}

#[test]
fn children_of_before_are_none_of_the_command() {
    let place = place();
    let file = place.root.path().join("report");
    // The shell becomes psmon, and its child psmon's; to whoever reads what psmon writes it would be a deadlock.
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1009.25 >/dev/null 2>&1 & echo $!; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_psmon"), "credits", "--run"]);
    let output = command.args(["--json", "--output"]).arg(&file).args(["--", "sh", "-c", "exit 8"]).output().unwrap();
    let sleeper: u64 = out(&output).trim().parse().unwrap();
    let lives = std::path::Path::new(&format!("/proc/{sleeper}")).exists();
    end(sleeper);
    assert!(lives && status(&output) == 8, "{output:?}");
    let report: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((number(&report, "processes"), report["living"].as_array().map(Vec::len)), (1.0, Some(0)), "{report}");
}

#[test]
fn with_no_wait_those_who_live_stand_apart() {
    let place = place();
    let mut command = run();
    command.arg("--no-wait");
    let script = "setsid sleep 1007.75 >/dev/null 2>&1 & echo $!; exit 4";
    let (output, report) = counted(command, &place, &["sh", "-c", script]);
    let pid: u64 = out(&output).trim().parse().unwrap();
    let living = report["living"].as_array().unwrap().clone();
    let was_there = std::path::Path::new(&format!("/proc/{pid}")).exists();
    end(pid);
    assert!(was_there, "it is not ended");
    assert_eq!(status(&output), 4);
    assert_eq!((living.len(), living[0]["pid"].as_u64()), (1, Some(pid)), "{report}");
    let cpu_s = number(&report, "living_cpu_s");
    assert!(cpu_s > 0.0 && cpu_s < number(&report, "cpu_s"), "{report}");
    let programs: f64 = report["programs"].as_array().unwrap().iter().map(|program| program["cpu_s"].as_f64().unwrap()).sum();
    assert!((programs + number(&report, "ends_cpu_s") + cpu_s - number(&report, "cpu_s")).abs() < 1e-5, "{report}");
}

#[test]
fn an_interrupt_is_the_command_s_while_it_runs_and_ends_the_waiting_after() {
    let place = place();
    let file = place.root.path().join("report");
    let mut command = run();
    command.arg("--json").arg("--output").arg(&file);
    command.args(["--", "sh", "-c", "echo begun; read line; sleep 1007.5 >/dev/null 2>&1 & echo $!; exit 6"]);
    let mut psmon = Victim::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut lines = BufReader::new(psmon.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "begun");
    for signal in [Signal::INT, Signal::QUIT, Signal::INT] {
        send(&psmon.0, signal);
    }
    let mut input = psmon.0.stdin.take().unwrap();
    input.write_all(b"go on\n").unwrap();
    let sleeper: u64 = lines.next().unwrap().unwrap().parse().unwrap();
    // It is an orphan once the shell was reaped: from then on psmon waits for it alone.
    until("the sleeper came to psmon", || {
        let stat = std::fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(1) == Some(&psmon.pid().to_string())
    });
    assert!(psmon.0.try_wait().unwrap().is_none(), "neither the signals nor the end of the command ended it");
    let mut ended = None;
    until("an interrupt ends the waiting", || {
        send(&psmon.0, Signal::INT);
        ended = psmon.0.try_wait().unwrap();
        ended.is_some()
    });
    let lives = std::path::Path::new(&format!("/proc/{sleeper}")).exists();
    end(sleeper);
    assert!(lives, "descendants are not ended");
    assert_eq!(ended.unwrap().code(), Some(6), "still that of the command");
    let report: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((report["code"].as_u64(), report["living"][0]["pid"].as_u64()), (Some(6), Some(sleeper)), "{report}");
}

#[test]
fn whoever_ends_psmon_is_told_what_was_used_until_then() {
    let mut command = run();
    command.args(["--json", "--", "sh", "-c", "echo $$; exec sleep 1008.5 2>/dev/null"]);
    let mut psmon = Victim::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let pid: u64 = BufReader::new(psmon.0.stdout.take().unwrap()).lines().next().unwrap().unwrap().parse().unwrap();
    send(&psmon.0, Signal::TERM);
    let mut ended = None;
    until("it ends", || {
        ended = psmon.0.try_wait().unwrap();
        ended.is_some()
    });
    end(pid);
    assert_eq!(ended.unwrap().code(), Some(128 + 15));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut psmon.0.stderr.take().unwrap(), &mut said).unwrap();
    let report: Json = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((&report["code"], report["living"][0]["pid"].as_u64()), (&Json::Null, Some(pid)), "{report}");
}
