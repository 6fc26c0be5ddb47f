//! `psmon credits` as people and scripts use it, with the real tool and the real kernel. What is true the burners say themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Output, Stdio};

use common::{NOBODY, Place, Target, Victim, err, has, is_root, out, psmon, skipped, status};
use psmon::source::connector::Connector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

fn run(args: &[&str]) -> Output {
    psmon().arg("credits").args(args).stdin(Stdio::null()).output().unwrap()
}

fn rows(output: &Output) -> Vec<Json> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
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

/// The burners, under a name that nobody else on this machine has.
fn burners(place: &Place, name: &str) -> PathBuf {
    std::fs::set_permissions(place.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Target::binary(place, "burners", name)
}

/// Burns, and answers with the seconds that were burnt as the burners say, all together.
fn burns(burners: &Path, ms: u32, way: &str) -> f64 {
    let output = Command::new(burners).arg(ms.to_string()).arg(way).output().unwrap();
    assert!(output.status.success());
    let ns: u64 = out(&output).lines().map(|line| line.split_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

/// A view that goes on; it has begun to count when the first line has come.
struct Watch {
    child: Victim,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Watch {
    fn begin(args: &[&str]) -> Self {
        let mut command = psmon();
        command.args(["credits", "--watch", "0.5"]).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Victim::spawn(&mut command);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        Self { child, lines, seen: vec![first] }
    }

    /// Ends it, and answers with all its lines. What was counted until then is in them.
    fn end(mut self, signal: Signal) -> Vec<String> {
        kill_process(Pid::from_raw(i32::try_from(self.child.pid()).unwrap()).unwrap(), signal).unwrap();
        self.seen.extend(self.lines.map(Result::unwrap));
        assert_eq!(self.child.0.wait().unwrap().code(), Some(0), "its end is as good as any");
        self.seen
    }

    fn end_rows(self) -> Vec<Json> {
        self.end(Signal::INT).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn sum(rows: &[Json], key: &str, is_meant: impl Fn(&Json) -> bool) -> f64 {
    rows.iter().filter(|row| is_meant(row)).map(|row| row[key].as_f64().unwrap()).sum()
}

#[track_caller]
fn near(found: f64, truth: f64, within: f64) {
    assert!((found - truth).abs() <= truth * within, "{found} of {truth}");
}

#[test]
fn a_burner_is_seen_with_what_it_says_it_used() {
    if !hears("a_burner_is_seen_with_what_it_says_it_used") {
        return;
    }
    let place = Place::new("");
    let burners = burners(&place, "pcseen");
    // Of all: the first line comes at once.
    let watch = Watch::begin(&["--json", "-o", "time,program,user,started,exited,cpu_s,util_s,credits,cpu_pct,total_s"]);
    let truth = burns(&burners, 600, "grand");
    let rows = watch.end_rows();
    let ours = |row: &Json| row["program"] == "pcseen";
    let found = sum(&rows, "cpu_s", ours);
    near(found, truth, 0.05);
    near(sum(&rows, "credits", ours) * 60.0, found, 0.001);
    near(sum(&rows, "util_s", ours), found * 100.0, 0.001);
    // Four came and left: the one that was started and those it forked.
    assert_eq!((sum(&rows, "started", ours), sum(&rows, "exited", ours)), (4.0, 4.0), "{rows:?}");
    let last = rows.iter().rfind(|row| ours(row)).unwrap();
    near(last["total_s"].as_f64().unwrap(), found, 0.001);
    assert!(last["time"].as_str().unwrap().starts_with("20") && last["user"] == "root", "{last}");
}

#[test]
fn those_that_live_for_a_moment_are_counted() {
    if !hears("those_that_live_for_a_moment_are_counted") {
        return;
    }
    let place = Place::new("");
    let burners = burners(&place, "pcshort");
    let watch = Watch::begin(&["--json", "--by", "program"]);
    let truth: f64 = (0..50).map(|_| burns(&burners, 10, "daemon")).sum();
    let rows = watch.end_rows();
    let ours = |row: &Json| row["program"] == "pcshort";
    near(sum(&rows, "cpu_s", ours), truth, 0.05);
    assert_eq!(sum(&rows, "exited", ours), 150.0, "50 times 3");
}

#[test]
fn users_and_control_groups_are_added_up() {
    if !hears("users_and_control_groups_are_added_up") {
        return;
    }
    let place = Place::new("");
    let burners = burners(&place, "pcuser");
    let users = Watch::begin(&["--json", "--by", "user", "--sort", "user"]);
    let groups = Watch::begin(&["--json", "--by", "cgroup"]);
    let begun = std::time::Instant::now();
    let truth = burns(&burners, 500, "user");
    let (users, groups) = (users.end_rows(), groups.end_rows());
    let most = begun.elapsed().as_secs_f64() * f64::from(u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap());
    let number = NOBODY.to_string();
    let nobody = |row: &Json| row["user"] == "nobody" || row["user"] == *number;
    let found = sum(&users, "cpu_s", nobody);
    // Others of that user may run here too.
    assert!(found > truth * 0.9 && found < truth + most, "{found} of {truth}");
    assert!(users.iter().all(|row| row.get("program").is_none() && row["user"] != "-"), "{users:?}");
    let own = std::fs::read("/proc/self/cgroup").unwrap();
    let path = String::from_utf8_lossy(psmon::source::cgroup::parse(&own).unwrap()).into_owned();
    let found = sum(&groups, "cpu_s", |row| row["cgroup"] == *path);
    assert!(found > truth * 0.95, "{found} of {truth} in {path}: {groups:?}");
    assert!(groups.iter().any(|row| row["cgroup"] == *path && row["procs"].as_u64().unwrap() > 1), "{groups:?}");
    assert!(groups.iter().all(|row| row.get("program").is_none() && row.get("user").is_none()));
}

#[test]
fn one_interval_is_no_instant() {
    let begun = std::time::Instant::now();
    let output = run(&["--interval", "0.5"]);
    assert!(begun.elapsed().as_secs_f64() > 0.5);
    assert_eq!(status(&output), 0, "{}", err(&output));
    let text = out(&output);
    let last = text.lines().last().unwrap();
    let word =
        |after: &str| last.split_once(after).unwrap_or_else(|| panic!("{last}")).1.split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(word(" of CPU in ") >= 0.49 && word("All: ") > 0.0, "{last}");
    let closure = last.split_once("; closure ").unwrap().1;
    assert!(closure.starts_with("unknown") || closure.split(' ').next().unwrap().parse::<f64>().unwrap() > 10.0, "{last}");
    assert!(text.starts_with("PROGRAM ") && text.contains("(kernel)"), "{text}");
}

#[test]
fn filters_orders_and_forms() {
    let output = run(&["--interval", "0.2", "--csv", "-o", "program,cpu_s,credits", "--sort", "program", "--top", "3"]);
    let text = out(&output);
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!((lines.len(), lines[0]), (4, "program,cpu_s,credits"), "{text}");
    assert!(
        lines[1..].is_sorted() && lines[1..].iter().all(|line| line.split(',').nth(1).unwrap().parse::<f64>().is_ok()),
        "{text}"
    );
    let rows = rows(&run(&["--interval", "0.2", "--json", "-r", "^psmon$"]));
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row["program"] == "psmon" && row["cpu_s"].as_f64().unwrap() > 0.0),
        "{rows:?}"
    );
    let output = run(&["--interval", "0.2", "no-such-program-anywhere"]);
    assert_eq!((status(&output), out(&output).as_str()), (1, ""));
    assert!(err(&output).contains("no program matches"), "{}", err(&output));
    for wrong in [
        &["-o", "nope"][..],
        &["-o", "day_credits_left"],
        &["--since", "2026-11-20"],
        &["--by", "day", "--watch"],
        &["--by", "day", "--since", "2026-11-21", "--until", "2026-11-20"],
        &["--watch", "0.01"],
        &["--csv", "--json"],
        &["--run", "--by", "user", "--", "true"],
        &["--top", "0"],
    ] {
        let output = run(wrong);
        assert_eq!((status(&output), out(&output).as_str()), (2, ""), "{wrong:?}: {}", err(&output));
    }
}

#[test]
fn the_journal_knows_the_days() {
    if !hears("the_journal_knows_the_days") {
        return;
    }
    let place = Place::new("[credits]\ninterval = \"1s\"\n");
    let burners = burners(&place, "pcdays");
    let recorder = place.start();
    place.wait_for_ticks(1);
    let first = burns(&burners, 300, "grand");
    assert_eq!(recorder.stop(), 0);
    // Another run: another segment, or the same one goes on.
    let recorder = place.start();
    place.wait_for_next_tick();
    let second = burns(&burners, 300, "daemon");
    assert_eq!(recorder.stop(), 0);
    let config = place.config();
    let of_config = run(&["--by", "day", "-c", config.to_str().unwrap(), "--json", "pcdays"]);
    assert_eq!(status(&of_config), 0, "{}", err(&of_config));
    let found = rows(&of_config);
    near(sum(&found, "cpu_s", |row| row["program"] == "pcdays" && row["user"] == "root"), first + second, 0.05);
    assert!(
        found.iter().all(|row| row["day"].as_str().unwrap().len() == 10 && row["share_pct"].as_f64().is_some()),
        "{found:?}"
    );
    let logs = place.logs();
    let logs = logs.to_str().unwrap();
    let table = run(&["--by", "day", "--log-dir", logs]);
    let text = out(&table);
    assert!(text.starts_with("DAY") && text.contains(" pcdays ") && text.contains("hours were recorded"), "{text}");
    let none = run(&["--by", "day", "--log-dir", logs, "--until", "2000-01-01"]);
    assert_eq!((status(&none), out(&none).as_str()), (1, ""));
    assert!(err(&none).contains("has no samples of stream credits"), "{}", err(&none));
    assert_eq!(status(&run(&["--by", "day", "--log-dir", "/no/such/directory"])), 3);
}

#[test]
fn signals_end_it_and_nothing_is_left_of_it() {
    for signal in [Signal::INT, Signal::TERM] {
        let lines = Watch::begin(&["--top", "1"]).end(signal);
        assert!(lines[0].starts_with("20") && lines[1].starts_with("PROGRAM "), "{lines:?}");
    }
}

#[test]
fn who_may_not_hear_is_told_what_is_missing() {
    const TEST: &str = "who_may_not_hear_is_told_what_is_missing";
    if !is_root(TEST) || !has(TEST, "setpriv") {
        return;
    }
    let place = Place::new("");
    std::fs::set_permissions(place.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.root.path().join("psmon");
    std::fs::copy(env!("CARGO_BIN_EXE_psmon"), &program).unwrap();
    // It burns all the while, so it is seen however rarely is looked.
    let mut burner = Target::called(&place, "spender", "pcdeaf");
    burner.does("spent");
    burner.says("burn 20000");
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(&program).current_dir("/");
    let output = command.args(["credits", "--json", "pcdeaf"]).stdin(Stdio::null()).output().unwrap();
    let complaint = err(&output);
    assert_eq!(status(&output), 0, "{complaint}");
    assert!(
        complaint.contains("There are no ") && complaint.contains("CAP_NET_ADMIN") && complaint.lines().count() == 1,
        "{complaint}"
    );
    let rows = rows(&output);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0]["cpu_s"].as_f64().unwrap() > 0.05, "{rows:?}");
}
