//! `psmon usage` as people, scripts and tcollector use it, against what a plain reader of /proc sees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;
#[allow(dead_code, unreachable_pub)]
#[path = "../src/cli/usage/tcollector/check.rs"]
mod tcollector;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::{LIMIT, Victim, err, out, psmon, status, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use tcollector::Checker;

/// Runs `psmon usage`.
fn run(args: &[&str]) -> Output {
    psmon().arg("usage").args(args).stdin(Stdio::null()).output().unwrap()
}

fn rows(output: &Output) -> Vec<Json> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Processes that wait for ever, of a program of their own: a copy of `cat` under another name.
struct Waiting {
    victims: Vec<Victim>,
    _dir: TempDir,
}

impl Waiting {
    fn new(program: &str, count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(program);
        let cat = ["/usr/bin/cat", "/bin/cat"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        std::fs::copy(cat, &file).unwrap();
        let mut waiting = Self { victims: Vec::new(), _dir: dir };
        for _ in 0..count {
            // The busy file: another thread of this test may have inherited its descriptor while it was written.
            let mut child = None;
            until("it may be executed", || {
                child = Command::new(&file).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().ok();
                child.is_some()
            });
            waiting.victims.extend(child.map(Victim));
        }
        // Each has loaded what it needs, and reads what nobody writes.
        let waits = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).map_or(true, |call| call.starts_with("0 0x0 "));
        until("they wait", || {
            waiting.victims.iter().all(|victim| comm(victim.pid()).starts_with(program) && waits(victim.pid()))
        });
        waiting
    }

    fn pid(&self, at: usize) -> u32 {
        self.victims[at].pid()
    }
}

fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_program_is_the_sum_of_its_processes() {
    let waiting = Waiting::new("pusum", 3);
    let programs = rows(&run(&["--json", "-o", "program,procs,fds,threads,vsz,cpu_pct", "pusum"]));
    assert_eq!(programs.len(), 1, "{programs:?}");
    let fds: usize = waiting.victims.iter().map(|victim| open_files(victim.pid())).sum();
    assert_eq!((&programs[0]["procs"], &programs[0]["fds"], &programs[0]["threads"]), (&json!(3), &json!(fds), &json!(3)));
    assert!(programs[0]["cpu_pct"].as_f64().unwrap() < 1.0, "they wait: {programs:?}");

    let processes = rows(&run(&["--json", "-P", "-o", "pid,program,fds,vsz", "--sort", "pid", "pusum"]));
    let mut pids: Vec<u32> = waiting.victims.iter().map(Victim::pid).collect();
    pids.sort_unstable();
    assert_eq!(processes.iter().map(|row| u32::try_from(row["pid"].as_u64().unwrap()).unwrap()).collect::<Vec<_>>(), pids);
    let sum: u64 = processes.iter().map(|row| row["vsz"].as_u64().unwrap()).sum();
    assert_eq!(programs[0]["vsz"].as_u64(), Some(sum));
}

#[test]
fn cpu_is_of_the_interval_and_not_of_a_life() {
    // It has used some before psmon looks, and nothing while it looks.
    let mut command = Command::new("sh");
    command.args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read line"]);
    let mut burnt = Victim::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    BufReader::new(burnt.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let pid = burnt.pid().to_string();
    let row = &rows(&run(&["--json", "-P", "-p", &pid, "--interval", "0.5", "-o", "cpu_pct,cpu_s,program"]))[0];
    assert!(row["cpu_s"].as_f64().unwrap() > 0.05 && row["cpu_pct"].as_f64().unwrap() < 10.0, "{row}");
    // A program too: no more than the machine has.
    let cpus = std::thread::available_parallelism().unwrap().get();
    for row in rows(&run(&["--json", "--interval", "0.5", "-o", "cpu_pct,program"])) {
        let most = f64::from(u32::try_from(cpus).unwrap()) * 100.0 * 1.5;
        assert!(row["cpu_pct"].as_f64().is_none_or(|pct| pct <= most), "{row}: {cpus} CPUs");
    }
}

#[test]
fn filters_orders_and_forms() {
    let waiting = Waiting::new("pufil-one", 1);
    let _two = Waiting::new("pufil-two", 2);
    let names = |args: &[&str]| -> Vec<String> {
        let found = run(&[args, &["-r", "^pufil-", "--json", "-o", "program,procs"]].concat());
        rows(&found).iter().map(|row| row["program"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["--sort", "-procs"]), ["pufil-two", "pufil-one"]);
    assert_eq!(names(&["--sort", "procs"]), ["pufil-one", "pufil-two"]);
    assert_eq!(names(&["--sort", "procs", "--top", "1"]), ["pufil-one"]);
    assert_eq!(names(&["pufil-two"]), ["pufil-two"]);
    let pid = waiting.pid(0).to_string();
    let me = rustix::process::geteuid().as_raw().to_string();
    for by in [&["-P"][..], &["--by", "process"]] {
        let found = rows(&run(&[by, &["--json", "-p", &pid, "-u", &me]].concat()));
        assert_eq!((found.len(), &found[0]["program"]), (1, &json!("pufil-one")));
    }
    assert_eq!(status(&run(&["-P", "-p", &pid, "-u", "12345678"])), 1);

    let csv = out(&run(&["--csv", "-o", "program,procs", "pufil-two"]));
    assert_eq!(csv, "program,procs\r\npufil-two,2\r\n");
    let table = out(&run(&["-o", "program,procs", "pufil-two"]));
    assert_eq!(
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>(),
        [["PROGRAM", "PROCS"], ["pufil-two", "2"]]
    );
}

#[test]
fn what_is_wrong_is_said() {
    let none = run(&["no-program-has-this-name"]);
    assert_eq!((status(&none), out(&none).as_str(), err(&none).as_str()), (1, "", "psmon: no program matches\n"));
    for wrong in [
        &["-r", "("][..],
        &["-o", "nope"],
        &["--user", "root"],
        &["--pid", "1"],
        &["--watch", "0"],
        &["--interval", "0"],
        &["--top", "0"],
        &["--csv", "--json"],
        &["--tcollector", "--json"],
        &["--cycles", "1"],
        &["--config", "/nowhere"],
        &["--programs-file", "/nowhere"],
    ] {
        let output = run(wrong);
        assert_eq!((status(&output), out(&output).as_str()), (2, ""), "{wrong:?}: {output:?}");
        assert!(!err(&output).is_empty(), "{wrong:?}");
    }
    assert_eq!(status(&run(&["--proc", "/nowhere"])), 3);
}

#[test]
fn it_is_watched_until_a_signal() {
    let _waiting = Waiting::new("puwatch", 1);
    let mut command = psmon();
    command.args(["usage", "puwatch", "--json", "-o", "program,procs", "--watch", "0.1"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut view = Victim::spawn(&mut command);
    let lines: Vec<Json> =
        BufReader::new(view.0.stdout.take().unwrap()).lines().take(3).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let times: Vec<&str> = lines.iter().map(|line| line["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0] != times[2], "{times:?}");
    assert!(lines.iter().all(|line| line["procs"] == 1));
    // Nobody reads any more: no reason to go on, and none to complain.
    let mut ended = None;
    until("it ends", || {
        ended = view.0.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[test]
fn an_hour_under_tcollector() {
    let waiting = Waiting::new("pu hour", 2);
    let mut command = psmon();
    command.args(["usage", "--tcollector", "--speed", "600", "--cycles", "240"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!((status(&output), err(&output).as_str()), (0, ""));
    let mut checker = Checker::default();
    checker.take(&out(&output));
    assert_eq!(checker.wrong, [""; 0]);
    assert_eq!(checker.seconds.len(), 240);
    let (first, last) = (checker.seconds[1], checker.seconds[239]);
    // A machine that is busy may leave out a cycle, and never one second twice.
    assert!(first % 15 == 0 && last % 15 == 0 && last - first >= 15 * 238, "{first} {last}");
    assert_eq!(checker.series["proc.stat.ps.collector type=sample"], last);
    let text = out(&output);
    let values = |series: &str| -> Vec<u64> {
        let (metric, tags) = series.split_once(' ').unwrap();
        let of = |line: &str| {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            (words[0] == metric && words[3] == tags).then(|| words[2].parse().unwrap())
        };
        text.lines().filter_map(of).collect()
    };
    assert_eq!(values("proc.stat.ps.threads image=pu_hour"), vec![2; 240]);
    let fds: usize = waiting.victims.iter().map(|victim| open_files(victim.pid())).sum();
    assert_eq!(values("proc.stat.ps.fd image=pu_hour type=open"), vec![fds as u64; 240]);
    let statm = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = waiting.victims.iter().map(|victim| statm(victim.pid()).split(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    let total = pages * rustix::param::page_size() as u64;
    assert_eq!(values("proc.stat.ps.mem image=pu_hour type=total"), vec![total; 240]);
    // The kernel may take some of it back.
    let resident = values("proc.stat.ps.mem image=pu_hour type=resident");
    assert!(resident.len() == 240 && resident.iter().all(|bytes| *bytes > 0 && *bytes < total), "{resident:?}");
}

#[test]
fn tcollector_is_told_when_not_to_start_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("psmond.toml");
    std::fs::write(&config, "[usge]\n").unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "# no rule\n").unwrap();
    let (config, empty) = (config.to_str().unwrap(), empty.to_str().unwrap());
    for never in [
        &["--config", config][..],
        &["--programs-file", "/nowhere"],
        &["--programs-file", empty],
        &["--proc", "/nowhere"],
        &["--interval", "0.5"],
        &["--interval", "10m"],
        &["-r", "("],
    ] {
        let output = run(&[&["--tcollector", "--cycles", "1"], never].concat());
        assert_eq!((status(&output), out(&output).as_str()), (13, ""), "{never:?}: {output:?}");
        assert!(err(&output).starts_with("psmon: "), "{never:?}: {output:?}");
    }
}

#[test]
fn tcollector_may_end_it_or_go_away() {
    let start = || {
        let mut command = psmon();
        command
            .args(["usage", "--tcollector", "--interval", "2", "no-program-has-this-name"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut collector = Victim::spawn(&mut command);
        let mut lines = BufReader::new(collector.0.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(
            line.starts_with("proc.stat.ps.collector ") && line.ends_with(" 1 type=sample\n"),
            "nothing matches, and it says so: {line}"
        );
        (collector, lines)
    };
    let ends = |collector: &mut Victim| {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(ended) = collector.0.try_wait().unwrap() {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut collector.0.stderr.take().unwrap(), &mut said).unwrap();
                return (ended.code(), said);
            }
            assert!(Instant::now() < limit, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    let (mut collector, mut lines) = start();
    let pid = Pid::from_raw(i32::try_from(collector.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.ends_with(" 1 type=sample\n"), "a hangup does not end it: {line}");
    kill_process(pid, Signal::TERM).unwrap();
    let (code, said) = ends(&mut collector);
    assert!(code == Some(0) && said.lines().count() == 1 && said.contains("SIGHUP"), "{said}");
    let (mut collector, _lines) = start();
    kill_process(Pid::from_raw(i32::try_from(collector.pid()).unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(ends(&mut collector), (Some(0), String::new()));
    let (mut collector, lines) = start();
    drop(lines);
    assert_eq!(ends(&mut collector), (Some(0), String::new()));
}

#[test]
fn of_the_dead_no_file_stays_open() {
    let mut command = psmon();
    command.args(["usage", "--tcollector", "--interval", "1", "--speed", "5", "no-program-has-this-name"]).stdin(Stdio::null());
    let mut collector = Victim::spawn(command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(collector.0.stdout.take().unwrap()).lines();
    let mut wait = || (0..2).for_each(|_| assert!(lines.next().unwrap().unwrap().starts_with("proc.stat.ps.collector ")));
    let open = format!("/proc/{}/fd", collector.pid());
    let files_of = |pids: &[u32]| -> usize {
        let of: Vec<String> = pids.iter().map(|pid| format!("/proc/{pid}/")).collect();
        let links = std::fs::read_dir(&open).unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| of.iter().any(|of| link.to_string_lossy().starts_with(of))).count()
    };
    let mut dead: Vec<u32> = Vec::new();
    wait();
    for _ in 0..4 {
        let living: Vec<Victim> = (0..25).map(|_| Victim::spawn(Command::new("sleep").arg("1000").stdin(Stdio::null()))).collect();
        let pids: Vec<u32> = living.iter().map(Victim::pid).collect();
        wait();
        until("it sees them", || files_of(&pids) >= 25);
        dead.extend(pids);
    }
    // A pid may be somebody else's by now.
    dead.retain(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    assert!(dead.len() > 90, "{dead:?}");
    wait();
    until("it forgets them", || files_of(&dead) == 0);
}

#[test]
fn a_rules_file_names_the_images_and_is_read_again() {
    let _waiting = Waiting::new("purules", 2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("psstat.conf");
    std::fs::write(&file, "# psstat\n\nfirst\tpurules\nwrong line of it\n").unwrap();
    let named = file.to_str().unwrap();
    let table = run(&["--programs-file", named, "--json", "-o", "program,procs"]);
    assert_eq!(rows(&table), [json!({"program": "first", "procs": 2})], "what the file does not name is in no row");
    assert!(err(&table).contains("4"), "the wrong line has a number: {table:?}");

    let mut command = psmon();
    command.args(["usage", "--tcollector", "--interval", "1", "--programs-file", named]).stdin(Stdio::null());
    let mut collector = Victim::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = BufReader::new(collector.0.stdout.take().unwrap()).lines();
    let mut checker = Checker::default();
    let mut wait_for = |image: &str| {
        let limit = Instant::now() + LIMIT;
        loop {
            let line = lines.next().unwrap().unwrap() + "\n";
            checker.take(&line);
            assert_eq!(checker.wrong, [""; 0]);
            if line.contains(&format!(" image={image}\n")) {
                return;
            }
            assert!(Instant::now() < limit, "no {image}");
        }
    };
    wait_for("first");
    // Older than the one before: a backup that was restored.
    std::fs::write(&file, "second purules\n").unwrap();
    std::fs::File::open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    wait_for("second");
    // Emptied, and gone: the rules stay.
    std::fs::write(&file, "").unwrap();
    wait_for("second");
    wait_for("second");
    std::fs::remove_file(&file).unwrap();
    wait_for("second");
    wait_for("second");
}
