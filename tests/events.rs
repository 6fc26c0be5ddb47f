//! `psmon events` and `psmon exits`: what happens to processes, as it happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use common::{NOBODY, Place, Recorder, has, is_root, psmon, skipped, until};
use psmon::source::connector::Connector;
use rustix::process::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;

/// SCHED_FIFO, `sched(7)`.
const FIFO: u64 = 1;

/// Whether the kernel tells of events here; if not, the test is said to be skipped.
fn hears(test: &str) -> bool {
    let listening = Connector::listen(std::time::Duration::from_secs(1));
    if let Err(error) = &listening {
        skipped(test, &error.to_string());
    }
    listening.is_ok()
}

/// A running view, its output in files.
struct View {
    process: Recorder,
    dir: TempDir,
}

impl View {
    /// Starts `psmon ARGS` and waits until it listens.
    fn start(args: &[&str]) -> Self {
        let mut command = psmon();
        command.args(args);
        Self::start_command(command)
    }

    fn start_command(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(dir.path().join(name)).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().unwrap();
        let mut view = Self { process: Recorder { child }, dir };
        until("it listens", || {
            assert!(view.process.is_running(), "it ended: {}", view.err());
            listens(view.process.pid())
        });
        view
    }

    fn out(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out")).unwrap()
    }

    fn err(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("err")).unwrap()
    }

    /// Lines whose event is of this process.
    fn lines_of(&self, pid: u32) -> Vec<String> {
        self.out().lines().filter(|line| words(line).get(3) == Some(&pid.to_string().as_str())).map(str::to_owned).collect()
    }

    fn objects(&self) -> Vec<Json> {
        // The last line may be half written.
        let text = self.out();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Whether this event of this process was told.
    fn tells(&self, event: &str, pid: u32) -> bool {
        self.objects().iter().any(|row| row["event"] == event && row["pid"] == pid)
    }

    fn tells_of(&self, event: &str) -> bool {
        self.objects().iter().any(|row| row["event"] == event)
    }

    fn until_end_of(&self, pid: u32) {
        until(&format!("the end of {pid}"), || self.lines_of(pid).iter().any(|line| words(line)[2] == "exit"));
    }

    /// Ends it as Ctrl-C does: its exit status, all it said.
    fn stop(mut self) -> (i32, String, String) {
        self.process.signal(Signal::INT);
        let status = self.process.wait();
        (status, self.out(), self.err())
    }

    /// Ends it, and all went well.
    fn end(self) -> String {
        let (status, out, err) = self.stop();
        assert_eq!((status, err.as_str()), (0, ""), "{out}");
        out
    }
}

/// Everybody was looked at (only then does the thread that watches its output begin), and the one that reads command lines has
/// asked for its priority.
fn listens(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found = (false, false);
    for task in tasks {
        let Ok(text) = std::fs::read(task.path().join("stat")) else { continue };
        let Some((stat, name)) = psmon::source::stat::parse(&text) else { continue };
        found.0 |= name == b"output";
        // What an ordinary user gets cannot be seen.
        found.1 |= name == b"capture" && (stat.policy == FIFO || stat.nice < 0 || !rustix::process::geteuid().is_root());
    }
    found.0 && found.1
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Runs it to its end; its pid.
fn run(command: &mut Command) -> u32 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

/// A shell that waits for a word on its input.
struct Waiting(Child);

impl Waiting {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn say(&mut self, word: &str) {
        let input: &mut ChildStdin = self.0.stdin.as_mut().unwrap();
        input.write_all(format!("{word}\n").as_bytes()).unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_life_is_shown_line_by_line_and_counted() {
    const CMD: &str = "sh -c read\\x20x;\\x20exit\\x203";
    if !hears("a_life_is_shown_line_by_line_and_counted") {
        return;
    }
    let view = View::start(&["events", "-S"]);
    let mut child = Waiting::start(&mut sh("read x; exit 3"));
    let pid = child.0.id();
    until("its name", || view.lines_of(pid).iter().any(|line| line.ends_with(CMD)));
    child.say("go");
    view.until_end_of(pid);
    let own = std::process::id().to_string();
    let lines = view.lines_of(pid);
    let of = |event: &str| lines.iter().filter(|line| words(line)[2] == event).map(|line| words(line)).collect::<Vec<_>>();
    assert_eq!(of("fork")[0][4], "child", "{lines:?}");
    assert_eq!(of("exec")[0][4..].join(" "), CMD);
    let exit = &of("exit")[0];
    assert_eq!((exit[4], exit[6..].join(" ").as_str()), ("3", CMD));
    assert!(exit[5].parse::<f64>().unwrap() < 60.0, "{exit:?}");
    let out = view.end();
    let all: Vec<&str> = out.lines().collect();
    assert_eq!(words(all[0]), ["Time", "Event", "PID", "Info", "Duration", "Process"]);
    assert_eq!(all.iter().filter(|line| line.starts_with("Time")).count(), 1, "a file has one header");
    let child = all.iter().position(|line| words(line).get(2..5) == Some(&["fork", &pid.to_string(), "child"])).unwrap();
    assert_eq!(words(all[child - 1])[2..5], ["fork", &own, "parent"], "the parent stands before the child");
    let (date, time) = (words(all[child])[0], words(all[child])[1]);
    assert!(date.len() == 10 && time.len() == 12 && time.as_bytes()[8] == b'.', "{date} {time}");
    let table = all.iter().position(|line| line.contains("NonzeroExit")).unwrap();
    assert_eq!(
        words(all[table]),
        ["Fork", "Exec", "Exit", "Coredump", "Comm", "Clone", "Ptrace", "Uid", "Gid", "Sid", "NonzeroExit", "Total", "Process"]
    );
    let row = all[table..].iter().find(|line| line.ends_with(CMD)).unwrap();
    assert_eq!(words(row)[..12], ["0", "1", "1", "0", "0", "0", "0", "0", "0", "0", "1", "2"]);
    let totals: Vec<u64> = all[table + 1..].iter().map(|line| words(line)[11].parse().unwrap()).collect();
    assert!(totals.is_sorted_by(|one, other| one >= other), "{totals:?}");
}

#[test]
fn quiet_is_statistics_and_nothing_else() {
    if !hears("quiet_is_statistics_and_nothing_else") {
        return;
    }
    let view = View::start(&["events", "-q", "-e", "exec", "-s", "--every", "0.1"]);
    let child = Waiting::start(sh("read x").arg0("only-here"));
    until("it is counted", || view.out().contains(" only-here\n"));
    drop(child);
    let out = view.end();
    // At the end stands that of all the time.
    let out = out.trim_end().rsplit("\n\n").next().unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("NonzeroExit"), "{out}");
    assert!(lines.iter().any(|line| words(line)[1] == "1" && words(line)[11..] == ["1", "only-here"]), "{out}");
    assert!(
        lines[1..].iter().all(|line| words(line)[0] == "0" && words(line)[2] == "0"),
        "only what was selected is counted: {out}"
    );
    assert_eq!(View::start(&["events", "-q", "-e", "none"]).end(), "No statistics gathered.\n");
    let periodic = View::start(&["events", "-q", "-e", "none", "--every", "0.1", "-D", "0.7"]);
    let mut process = periodic.process;
    assert_eq!(process.wait(), 0, "it ends by itself");
    let out = std::fs::read_to_string(periodic.dir.path().join("out")).unwrap();
    assert!(out.matches("No statistics gathered.").count() >= 3, "{out}");
}

#[test]
fn only_failures_where_only_failures_are_wanted() {
    if !hears("only_failures_where_only_failures_are_wanted") {
        return;
    }
    for args in [&["events", "--failed", "-c"][..], &["events", "-e", "exitnonzero", "-c"]] {
        let view = View::start(args);
        let clean = run(&mut sh("exit 0"));
        let code = run(&mut sh("exit 4"));
        let signal = run(&mut sh("kill -USR1 $$"));
        view.until_end_of(signal);
        assert_eq!(view.lines_of(clean), [""; 0]);
        assert_eq!(words(&view.lines_of(code)[0])[4], "4");
        assert_eq!(words(&view.lines_of(signal)[0])[4], "SIGUSR1");
        let out = view.end();
        assert!(out.lines().skip(1).all(|line| words(line)[2] == "exit" && words(line)[4] != "0"), "{out}");
    }
    let raw = View::start(&["events", "-e", "EXIT", "--raw", "--no-header"]);
    let code = run(&mut sh("exit 3"));
    raw.until_end_of(code);
    assert_eq!(words(&raw.lines_of(code)[0])[4], "768");
    assert!(!raw.end().contains("Time"));
}

#[test]
fn sessions_users_and_groups_are_shown_each_by_itself() {
    let test = "sessions_users_and_groups_are_shown_each_by_itself";
    if !hears(test) || !has(test, "setsid") {
        return;
    }
    let view = View::start(&["events", "-e", "sid"]);
    let leader = run(Command::new("setsid").arg("true"));
    until("its session", || !view.lines_of(leader).is_empty());
    assert_eq!(words(&view.lines_of(leader)[0])[2..5], ["sid", &leader.to_string(), &leader.to_string()]);
    let out = view.end();
    assert!(out.lines().skip(1).all(|line| words(line)[2] == "sid"), "{out}");
    if !is_root(test) || !has(test, "setpriv") {
        return;
    }
    let view = View::start(&["events", "-e", "uid,gid", "-x"]);
    let changed = run(Command::new("setpriv").args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "true"]));
    let of = |event: &str| view.lines_of(changed).iter().rfind(|line| words(line)[2] == event).cloned();
    until("both", || of("uid").is_some() && of("gid").is_some());
    let user = String::from_utf8(psmon::source::users::user_name(NOBODY).unwrap()).unwrap();
    let uid = of("uid").unwrap();
    assert_eq!(words(&uid)[4..6], [user.as_str(), user.as_str()], "{uid}");
    assert!(uid.contains(&format!(" {user}:{user} ")), "{uid}");
    assert!(of("gid").unwrap().contains(&format!(" {NOBODY}:{NOBODY} ")));
    assert!(words(view.end().lines().next().unwrap()).starts_with(&["Time", "Event", "PID", "UID", "EUID", "TTY"]));
}

/// A shell that, told so, has a child that has a child and leaves it alone; that one waits for the pipe, and ends with 7.
struct Orphanage {
    shell: Waiting,
    dir: TempDir,
}

impl Orphanage {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
        assert!(status.success());
        let script = "read go; sh -c \"sh -c 'echo \\$\\$ >pid.new; mv pid.new pid; read x <pipe; exit 7' & exit 0\"; read end";
        let shell = Waiting::start(sh(script).current_dir(dir.path()));
        Self { shell, dir }
    }

    fn pid(&self) -> u32 {
        self.shell.0.id()
    }

    /// Lets the orphan be born; once it has another parent, lets it end. Its pid.
    fn play(&mut self) -> u32 {
        self.shell.say("go");
        let mut orphan = 0;
        until("the orphan is alone", || {
            let pid = std::fs::read_to_string(self.dir.path().join("pid")).unwrap_or_default();
            orphan = pid.trim().parse().unwrap_or(0);
            let stat = std::fs::read(format!("/proc/{orphan}/stat")).unwrap_or_default();
            let Some((stat, _)) = psmon::source::stat::parse(&stat) else { return false };
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
            stat.ppid != self.pid() && children.trim().is_empty()
        });
        std::fs::write(self.dir.path().join("pipe"), "x\n").unwrap();
        orphan
    }
}

#[test]
fn a_tree_is_followed_through_a_double_fork() {
    if !hears("a_tree_is_followed_through_a_double_fork") {
        return;
    }
    let mut family = Orphanage::start();
    let pid = family.pid().to_string();
    let view = View::start(&["events", "--tree", &pid, "--json"]);
    let exits = View::start(&["exits", "--tree", &pid, "--json", "-o", "pid,code,cmd"]);
    let stranger = run(&mut sh("exit 8"));
    let orphan = family.play();
    until("the end of the orphan", || {
        view.tells("exit", orphan) && exits.objects().iter().any(|row| row["pid"] == orphan)
    });
    let rows = view.objects();
    for event in ["fork", "exec", "exit"] {
        assert!(view.tells(event, orphan), "{event}: {rows:?}");
    }
    assert!(!rows.iter().any(|row| row["pid"] == stranger), "{rows:?}");
    let ended = exits.objects();
    assert!(ended.iter().any(|row| row["pid"] == orphan && row["code"] == 7), "{ended:?}");
    assert!(!ended.iter().any(|row| row["pid"] == stranger), "{ended:?}");
    view.end();
    exits.stop();
    let nobody = psmon().args(["events", "--tree", "4194305"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn a_process_group_is_shown_with_its_ends() {
    if !hears("a_process_group_is_shown_with_its_ends") {
        return;
    }
    let mut shell = Waiting::start(sh("read go; sh -c 'exit 5'; exit 6").process_group(0));
    let group = shell.0.id();
    let view = View::start(&["events", "-p", &group.to_string(), "--json"]);
    let stranger = run(&mut sh("exit 8"));
    shell.say("go");
    until("the end of the group", || view.tells("exit", group));
    let rows = view.objects();
    let ends: Vec<&Json> = rows.iter().filter(|row| row["event"] == "exit").map(|row| &row["info"]).collect();
    assert_eq!(ends, ["5", "6"], "{rows:?}");
    assert!(rows.iter().all(|row| row["pgrp"] == group && row["pid"] != stranger));
    view.end();
}

#[test]
fn json_has_all_columns_and_numbers_are_numbers() {
    if !hears("json_has_all_columns_and_numbers_are_numbers") {
        return;
    }
    let view = View::start(&["events", "-E", "--json", "-S", "--include", "told-apart"]);
    // One that is gone before its arguments are read is not found by them.
    until("an end", || {
        run(&mut sh("exit 3 # told-apart"));
        view.tells_of("exit")
    });
    let stranger = run(&mut sh("exit 0"));
    let (status, out, _) = view.stop();
    assert_eq!(status, 0);
    let objects: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (statistics, rows) = objects.split_last().unwrap();
    let columns: Vec<&str> =
        psmon::record::schema::columns(psmon::record::stream::Stream::Events).iter().map(|column| column.name).collect();
    for row in rows {
        for column in &columns {
            assert!(row.get(column).is_some(), "no {column} in {row}");
        }
        assert!(row["time"].as_str().unwrap().len() == 35 && row["pid"].is_u64() && row["start"].is_u64(), "{row}");
        assert_ne!(row["pid"], stranger);
    }
    let exit = rows.iter().find(|row| row["event"] == "exit").unwrap();
    assert_eq!((&exit["raw"], exit["info"].as_str()), (&Json::from(768), Some("3")));
    assert!(exit["duration_s"].is_f64() && exit["euid"].is_u64() && exit["pgrp"].is_u64(), "{exit}");
    assert_eq!(exit["cmd"], serde_json::json!(["sh", "-c", "exit 3 # told-apart"]));
    let counted = statistics["statistics"].as_array().unwrap().iter().find(|row| row["process"] == "sh -c exit\\x203\\x20#\\x20told-apart");
    assert!(counted.unwrap()["nonzeroexit"].as_u64().unwrap() >= 1, "{statistics}");
    assert!(statistics["duration_s"].is_f64() && statistics["lost"] == 0);
}

#[test]
fn nobody_sends_escape_sequences_or_lines_through_a_name() {
    if !hears("nobody_sends_escape_sequences_or_lines_through_a_name") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(OsStr::from_bytes(b"a\x1b[2Jb\nc\xff"));
    std::fs::write(&program, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for args in [&["events", "-S"][..], &["events", "-c", "-S"], &["events", "--json"], &["exits", "-o", "pid,program,comm,cmd"]] {
        let view = View::start(args);
        until("it is shown", || {
            run(Command::new(&program).arg(OsStr::from_bytes(b"\x1b]0;title\x07\r\xc2\x9b31m")));
            view.out().contains("title") || (args.contains(&"-c") && view.out().contains("\\x1b[2J"))
        });
        let (status, out, err) = view.stop();
        assert_eq!(status, 0, "{err}");
        assert!(out.chars().all(|symbol| symbol == '\n' || !symbol.is_control()), "{out:?}");
        assert!(args.contains(&"--json") || out.contains("\\x1b"), "{out:?}");
    }
}

#[test]
fn a_view_ends_when_nobody_reads_it() {
    if !hears("a_view_ends_when_nobody_reads_it") {
        return;
    }
    // One that has something to write, and one that has not.
    for args in [&["events", "-E"][..], &["events", "-e", "none"], &["exits"]] {
        let mut child = psmon().args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut header = [0; 4];
        out.read_exact(&mut header).unwrap();
        assert!(header.eq_ignore_ascii_case(b"time"));
        drop(out);
        let mut errors = child.stderr.take().unwrap();
        let mut process = Recorder { child };
        assert_eq!(process.wait(), 0, "{args:?}");
        let mut said = String::new();
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(said.replace("psmon: there are no exit records", ""), said, "{said}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let run = |args: &[&str]| {
        let output: Output = psmon().args(args).stdin(Stdio::null()).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, out, said) = run(&["events", "-e", "fork,exce"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(
        said.contains("'exce' is no event (did you mean 'exec'?)") && said.contains("coredump, ptrce, all, none"),
        "{said}"
    );
    for (args, word) in [
        (&["events", "-D", "-1"][..], "duration"),
        (&["events", "--include", "("], "--include"),
        (&["events", "--user", "nobody-has-this-name"], "nobody-has-this-name"),
        (&["events", "--every", "0"], "interval"),
        (&["exits", "-o", "lifetimes"], "lifetime_s"),
        (&["exits", "--count", "0"], "count"),
        (&["exits", "-r", "("], "--regex"),
    ] {
        let (status, _, said) = run(args);
        assert!(status == 2 && said.contains(word), "{args:?}: {status} {said}");
    }
    let test = "what_is_wrong_is_said";
    if is_root(test) && has(test, "unshare") {
        let command = "\"$0\" events -D 9";
        let output =
            Command::new("unshare").args(["-p", "-f", "--mount-proc", "sh", "-c", command]).arg(psmon().get_program()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(3) && said.contains("there are no events") && said.contains("namespace"),
            "{said}"
        );
    }
}

#[test]
fn an_ordinary_user_is_told_too() {
    let test = "an_ordinary_user_is_told_too";
    if !hears(test) || !is_root(test) || !has(test, "setpriv") {
        return;
    }
    // The program of the build may lie where only root may go.
    let open = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let tool = open.path().join("psmon");
    std::fs::copy(psmon().get_program(), &tool).unwrap();
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--inh-caps=-all"]).current_dir("/");
    command.arg(&tool).args(["events", "--json"]);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| File::create(dir.path().join(name)).unwrap();
    let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().unwrap();
    let view = View { process: Recorder { child }, dir };
    let mut pids = Vec::new();
    until("a whole life", || {
        if view.err().contains("refused") {
            return true;
        }
        pids.push(run(&mut sh("exit 3")));
        pids.iter().any(|pid| ["fork", "exec", "exit"].iter().all(|event| view.tells(event, *pid)))
    });
    if view.err().contains("refused") {
        skipped(test, &view.err());
        return;
    }
    view.end();
}

#[test]
fn it_works_beside_a_recorder() {
    if !hears("it_works_beside_a_recorder") {
        return;
    }
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(1);
    let view = View::start(&["events", "--json"]);
    let pid = run(&mut sh("exit 3"));
    until("its end", || view.tells("exit", pid));
    view.end();
    // The recorder goes on being told after another listener left.
    let after = run(&mut sh("exit 4"));
    let recorded = || psmon::journal::segment::Name::live("exits");
    until("both in its journal", || {
        let segment = common::Segment::read(&place.logs(), &recorded());
        [pid, after].iter().all(|pid| !segment.rows_of(*pid).is_empty())
    });
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn obituaries_come_one_by_one_and_are_filtered() {
    if !hears("obituaries_come_one_by_one_and_are_filtered") {
        return;
    }
    // Children until one of them is told of: who is gone before its arguments are read is not found by them.
    let ended = |args: &[&str], children: &mut dyn FnMut()| {
        let mut view = View::start(&[&["exits"], args].concat());
        until("it is told", || {
            children();
            !view.process.is_running()
        });
        assert_eq!(view.process.wait(), 0, "{args:?}: {}", view.err());
        view.objects()
    };
    let mut pids = Vec::new();
    let rows = ended(&["--json", "--count", "1", "-r", "exit 5 # it", "--bytes"], &mut || {
        run(&mut sh("exit 4"));
        pids.push(Json::from(run(&mut sh("exit 5 # it"))));
    });
    let row = &rows[0];
    assert!(rows.len() == 1 && pids.contains(&row["pid"]), "{rows:?}");
    assert_eq!((&row["code"], row["how"].as_str()), (&Json::from(5), Some("exit")));
    assert!(row["lifetime_s"].is_f64() && row["pcomm"].is_string() && row["sources"].is_string(), "{row}");
    assert_eq!(row["cmd"], serde_json::json!(["sh", "-c", "exit 5 # it"]));
    let me = rustix::process::geteuid().as_raw().to_string();
    let args = ["--json", "-n", "1", "-o", "pid,signal,comm", "--failed", "-u", &me, "-r", "# that", "sh", "dash", "bash"];
    pids.clear();
    let rows = ended(&args, &mut || {
        run(&mut sh("exit 0 # that"));
        pids.push(Json::from(run(&mut sh("kill -USR1 $$ # that"))));
    });
    let keys: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["pid", "signal", "comm"]);
    assert!(pids.contains(&rows[0]["pid"]) && rows[0]["signal"] == "SIGUSR1", "{rows:?}");
    let view = View::start(&["exits", "true"]);
    let pid = run(&mut Command::new("true")).to_string();
    until("its line", || view.out().lines().any(|line| words(line).get(2) == Some(&pid.as_str())));
    let (status, out, _) = view.stop();
    assert_eq!(status, 0);
    assert_eq!(words(out.lines().next().unwrap())[..4], ["TIME", "PID", "PPID", "USER"]);
    let none = psmon().args(["exits", "-D", "0.2", "no-program-has-this-name"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().ends_with("psmon: no process ended\n"));
}

/// What forkstat's lines tell: an event and the task it happened to.
fn told_by_forkstat(path: &Path) -> Vec<(&'static str, u32)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut told = Vec::new();
    for line in text.lines() {
        let words = words(line);
        let (Some(event), Some(Ok(task))) = (words.get(1), words.get(2).map(|task| task.parse())) else { continue };
        match *event {
            "fork" if words.get(3) == Some(&"child") => told.push(("fork", task)),
            "exec" => told.push(("exec", task)),
            "exit" => told.push(("exit", task)),
            _ => {}
        }
    }
    told
}

#[test]
fn forkstat_shows_nothing_that_is_missing() {
    let test = "forkstat_shows_nothing_that_is_missing";
    if !hears(test) || !is_root(test) || !has(test, "forkstat") {
        return;
    }
    let view = View::start(&["events", "-e", "fork,clone,exec,exit,thread_exit", "--json"]);
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("forkstat");
    let file = File::create(&path).unwrap();
    let child = Command::new("forkstat").args(["-l", "-e", "fork,exec,exit"]).stdout(file).stderr(Stdio::null()).spawn().unwrap();
    let mut forkstat = Recorder { child };
    until("forkstat listens", || {
        let probe = run(&mut Command::new("true"));
        told_by_forkstat(&path).contains(&("exit", probe))
    });
    let storm = run(&mut sh("i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"));
    until("its end by forkstat", || told_by_forkstat(&path).contains(&("exit", storm)));
    forkstat.signal(Signal::INT);
    forkstat.wait();
    let rows: Vec<Json> = view.end().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ours: HashSet<(&str, u32)> = rows
        .iter()
        .map(|row| {
            // forkstat tells threads from processes by /proc, where it comes too late for the short-lived.
            let event = match row["event"].as_str().unwrap() {
                "clone" => "fork",
                "thread_exit" => "exit",
                event => event,
            };
            (event, u32::try_from(row["task"].as_u64().unwrap()).unwrap())
        })
        .collect();
    let threads: HashSet<u64> = rows.iter().filter(|row| row["event"] == "clone").map(|row| row["task"].as_u64().unwrap()).collect();
    let theirs = told_by_forkstat(&path);
    // It tells ends of threads as exits, unmarked; only of those born meanwhile is it known which they are.
    let born: HashSet<u32> = theirs.iter().filter(|(event, _)| *event == "fork").map(|(_, task)| *task).collect();
    let is_due = |event: &str, task: u32| event != "exit" || (born.contains(&task) && !threads.contains(&u64::from(task)));
    let due: Vec<_> = theirs.iter().filter(|(event, task)| is_due(event, *task)).collect();
    for event in ["fork", "exec", "exit"] {
        assert!(due.iter().filter(|(told, _)| *told == event).count() >= 200, "{event}: {due:?}");
    }
    let missing: Vec<_> = due.iter().filter(|(event, task)| !ours.contains(&(*event, *task))).collect();
    assert!(missing.is_empty(), "of {} events {} are missing: {missing:?}", due.len(), missing.len());
}
