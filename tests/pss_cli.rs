//! `psmon pss` as people and scripts use it, against what a plain reader of /proc sees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{LIMIT, NOBODY, Victim, err, has, is_root, out, psmon, skipped, status, until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Runs `psmon pss`.
fn run(args: &[&str]) -> Output {
    psmon().arg("pss").args(args).stdin(Stdio::null()).output().unwrap()
}

/// Its rows and its total.
fn rows(output: &Output) -> (Vec<Json>, Json) {
    let mut objects: Vec<Json> =
        out(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let total = objects.pop().unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!((&total["stream"], &total["rec"]), (&json!("pss"), &json!("total")));
    assert!(objects.iter().all(|row| row["rec"] == "row"));
    (objects, total)
}

fn sizes(rows: &[Json]) -> Vec<u64> {
    rows.iter().filter_map(|row| row["pss"].as_u64()).collect()
}

/// Scripts that wait for ever, each a process with a name of its own, which is neither its executable's nor its first argument.
struct Scripts(TempDir, Vec<Victim>);

impl Scripts {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut scripts = Self(dir, Vec::new());
        for name in names {
            let script = scripts.0.path().join(name);
            std::fs::write(&script, "#!/bin/sh\nread line\n").unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            let mut command = Command::new(&script);
            command.arg("--password=hunter2").stdin(Stdio::piped()).stderr(Stdio::null());
            scripts.1.push(Victim::spawn(&mut command));
            let pid = scripts.pid(scripts.1.len() - 1);
            // The shell is there and waits: it has all the memory it will have.
            until("the script waits", || {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim_end() == *name
                    && std::fs::read_to_string(format!("/proc/{pid}/syscall")).map_or(true, |call| call.starts_with("0 0x0 "))
            });
        }
        scripts
    }

    fn pid(&self, at: usize) -> u32 {
        self.1[at].pid()
    }

    /// Of all of them, for `--pid`.
    fn pids(&self) -> String {
        self.1.iter().map(|victim| victim.pid().to_string()).collect::<Vec<_>>().join(",")
    }
}

/// What a plain reader adds up: every `Pss:` line of every `smaps_rollup`.
fn plain_sum() -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            sum += lines_of(&entry.path(), &["Pss"]).unwrap_or(0);
        }
    }
    sum
}

/// The sum of these lines of a process's file, in bytes.
fn lines_of(process: &Path, keys: &[&str]) -> Option<u64> {
    let text = std::fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let lines = text.lines().filter(|line| keys.iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))));
    let kib: Option<Vec<u64>> = lines.map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    kib.filter(|kib| !kib.is_empty()).map(|kib| kib.iter().sum::<u64>() * 1024)
}

#[test]
fn the_sum_is_that_of_a_plain_reader() {
    // Others use this machine too: it must agree at some moment when they are quiet.
    let mut seen = Vec::new();
    until("both agree within 1 %", || {
        let before = plain_sum();
        let (rows, total) = rows(&run(&["--json"]));
        let after = plain_sum();
        let ours = total["pss"].as_u64().unwrap();
        assert_eq!(ours, sizes(&rows).iter().sum::<u64>(), "the total is the sum of the rows");
        assert!(sizes(&rows).is_sorted());
        seen.push((before, ours, after));
        let near = |plain: u64| ours.abs_diff(plain) * 100 <= plain;
        assert!(seen.len() < 100, "{seen:?}");
        near(before) && near(after)
    });
}

#[test]
fn each_process_has_what_its_file_says() {
    let scripts = Scripts::new(&["pst-one", "pst-two"]);
    until("both agree", || {
        let (rows, total) = rows(&run(&["--json", "--pid", &scripts.pids()]));
        assert_eq!((rows.len(), &total["procs"]), (2, &json!(2)));
        rows.iter().all(|row| {
            let theirs = |keys: &[&str]| lines_of(&Path::new("/proc").join(row["pid"].to_string()), keys);
            // What is shared is shared with psmon too, while it looks: that share is a little less then.
            let (pss, plain) = (row["pss"].as_u64().unwrap(), theirs(&["Pss"]).unwrap());
            row["uss"].as_u64() == theirs(&["Private_Clean", "Private_Dirty"])
                && row["rss"].as_u64() == theirs(&["Rss"])
                && row["swap_pss"].as_u64() == theirs(&["SwapPss"])
                && pss.abs_diff(plain) * 10 <= plain
        })
    });
}

#[test]
fn names_are_exact_or_parts_or_expressions() {
    let scripts = Scripts::new(&["psn-alpha", "psn-alphabet"]);
    let named = |args: &[&str]| {
        let pids = scripts.pids();
        let output = run(&[&["--json", "--pid", &pids], args].concat());
        if status(&output) == 1 {
            assert_eq!(err(&output), "psmon: no process matches\n");
            return Vec::new();
        }
        let mut names: Vec<String> = rows(&output).0.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(named(&["-p", "psn-alpha"]), ["psn-alpha"]);
    assert_eq!(named(&["-p", "psn-alpha", "--name", "psn-alphabet"]), ["psn-alpha", "psn-alphabet"]);
    assert_eq!(named(&["--match", "n-alpha"]), ["psn-alpha", "psn-alphabet"]);
    assert_eq!(named(&["--match", "alphabe"]), ["psn-alphabet"]);
    assert_eq!(named(&["--regex", "^psn-.*a$"]), ["psn-alpha"]);
    assert_eq!(named(&["--match", "psn", "--regex", "bet$"]), ["psn-alphabet"]);
    assert_eq!(named(&["-p", "psn"]), [""; 0], "a name is the whole name");
    // Without --pid the filter alone finds them.
    let (found, total) = rows(&run(&["--json", "-p", "psn-alpha"]));
    assert_eq!((found.len(), &found[0]["pid"], &total["pss"]), (1, &json!(scripts.pid(0)), &found[0]["pss"]));
    let me = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(named(&["--user", &me]).len(), 2);
    assert_eq!(named(&["--user", "12345678"]), [""; 0]);
    let wrong = run(&["--regex", "("]);
    assert!(status(&wrong) == 2 && err(&wrong).contains("--regex"), "{wrong:?}");
    assert_eq!(status(&run(&["--user", "nobody-has-this-name"])), 2);
}

#[test]
fn a_name_is_of_the_process_its_argument_its_executable_or_its_command_line() {
    let scripts = Scripts::new(&["psf-script"]);
    let pid = scripts.pid(0);
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let program = exe.file_name().unwrap().to_str().unwrap();
    let script = scripts.0.path().join("psf-script");
    let cmd = format!("/bin/sh {} --password=***", script.display());
    for (from, name) in [("comm", "psf-script"), ("argv0", "sh"), ("exe", program), ("cmd", &cmd)] {
        let output = run(&["--json", "--pid", &pid.to_string(), "--name-from", from, "-p", name]);
        assert_eq!(status(&output), 0, "{from} {name}: {:?}", run(&["--pid", &pid.to_string(), "--name-from", from]));
        assert_eq!(rows(&output).0[0]["name"], name);
    }
    let output = run(&["--pid", &pid.to_string(), "--name-from", "cmd"]);
    assert!(out(&output).contains(&cmd) && !out(&output).contains("hunter2"), "{output:?}");
    assert_eq!(status(&run(&["--name-from", "nope"])), 2);
}

#[test]
fn sums_by_program_user_and_cgroup() {
    let scripts = Scripts::new(&["psb-one", "psb-two", "psb-three"]);
    let pid = scripts.pid(0);
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let user = psmon::source::users::user_name(uid).map_or(uid.to_string(), |name| String::from_utf8(name).unwrap());
    let text = std::fs::read(format!("/proc/{pid}/cgroup")).unwrap();
    let cgroup = psmon::source::cgroup::parse(&text).map(|path| String::from_utf8(path.to_vec()).unwrap());
    for (by, name) in [("program", exe.file_name().unwrap().to_str()), ("user", Some(&user[..])), ("cgroup", cgroup.as_deref())] {
        until("a moment without changes", || {
            let (before, _) = rows(&run(&["--json", "--pid", &scripts.pids()]));
            let (groups, total) = rows(&run(&["--json", "--pid", &scripts.pids(), "--by", by]));
            assert_eq!((groups.len(), &groups[0]["procs"], &groups[0]["unread"]), (1, &json!(3), &json!(0)), "{by}");
            assert_eq!(groups[0]["name"].as_str(), name, "{by}");
            assert_eq!(groups[0]["pss"], total["pss"]);
            sizes(&before).iter().sum::<u64>() == groups[0]["pss"].as_u64().unwrap()
        });
    }
    let table = out(&run(&["--pid", &scripts.pids(), "--by", "user"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "PROCS", "PSS", "USS", "SWAP"]);
    assert_eq!(lines[1][..2], [&user[..], "3"]);
    assert!(table.contains("in 3 processes"), "{table}");
}

#[test]
fn the_top_are_the_largest_and_the_total_stays_that_of_all() {
    let scripts = Scripts::new(&["pso-one", "pso-two", "pso-three"]);
    let (rows_of_top, total) = rows(&run(&["--json", "--pid", &scripts.pids(), "--top", "1"]));
    assert_eq!((rows_of_top.len(), &total["procs"], &total["left_out"]), (1, &json!(3), &json!(2)));
    assert!(total["pss"].as_u64() > rows_of_top[0]["pss"].as_u64());
    let table = out(&run(&["--pid", &scripts.pids(), "--top", "1", "--bytes"]));
    assert!(table.contains("2 rows are left out above"), "{table}");
    assert_eq!(status(&run(&["--top", "0"])), 2);
}

/// Records of RFC 4180.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut value, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut symbols = text.chars().peekable();
    while let Some(symbol) = symbols.next() {
        match symbol {
            '"' if quoted && symbols.peek() == Some(&'"') => value.extend(symbols.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut value)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut value));
                records.push(std::mem::take(&mut record));
            }
            other => value.push(other),
        }
    }
    assert!(record.is_empty() && value.is_empty(), "the last record has its end");
    records
}

#[test]
fn csv_and_json_come_back_whatever_the_name() {
    let name = "a, \"b\" 'c'";
    let scripts = Scripts::new(&[name]);
    let records = csv(&out(&run(&["--csv", "--pid", &scripts.pids()])));
    assert_eq!(records[0].join(","), "name,pid,reading,pss,pss_anon,pss_file,pss_shmem,pss_dirty,swap_pss,uss,rss");
    assert_eq!(records[1][..3], [name.to_owned(), scripts.pids(), "read".to_owned()]);
    assert!(records[1][3].parse::<u64>().unwrap() > 0 && records[1].len() == records[0].len());
    assert_eq!(records.len(), 2, "nothing but rows");
    let (found, _) = rows(&run(&["--json", "-p", name]));
    assert_eq!((&found[0]["name"], &found[0]["pid"]), (&json!(name), &json!(scripts.pid(0))));
    for column in ["pss", "uss", "rss", "swap_pss"] {
        assert!(found[0][column].is_u64(), "{column}: {}", found[0]);
    }
    assert_eq!(status(&run(&["--csv", "--json"])), 2);
}

#[test]
fn nothing_found_is_said() {
    for form in [&[][..], &["--json"], &["--csv"]] {
        let none = run(&[form, &["-p", "no-process-has-this-name"]].concat());
        assert_eq!((status(&none), out(&none).as_str()), (1, ""), "{form:?}");
        assert_eq!(err(&none), "psmon: no process matches\n");
    }
    assert_eq!(status(&run(&["--proc", "/nowhere"])), 3);
    assert_eq!(status(&run(&["--watch", "0"])), 2);
}

#[test]
fn zombies_and_kernel_threads_are_shown_for_what_they_are() {
    let zombie = Victim::spawn(&mut Command::new("true"));
    let stat = format!("/proc/{}/stat", zombie.pid());
    until("it ended", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
    let pid = zombie.pid().to_string();
    let (found, total) = rows(&run(&["--json", "--pid", &pid]));
    assert_eq!((&found[0]["name"], &found[0]["reading"], &found[0]["pss"]), (&json!("true"), &json!("zombie"), &Json::Null));
    assert_eq!(found[0].get("refused"), None, "it was not refused: there is none");
    assert_eq!((&total["zombies"], &total["procs"], &total["pss"]), (&json!(1), &json!(0), &json!(0)));
    let table = out(&run(&["--pid", &pid]));
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells, ["true", &pid, "-", "-", "-"]);
    assert!(table.contains("1 is a zombie"), "{table}");
    if std::fs::read("/proc/2/comm").is_ok_and(|comm| comm == b"kthreadd\n") {
        assert_eq!(status(&run(&["--pid", "2"])), 1, "a kernel thread has no memory of its own");
        assert!(!out(&run(&[])).contains("kthreadd"));
    } else {
        skipped("zombies_and_kernel_threads_are_shown_for_what_they_are", "no kernel thread is seen in this pid namespace");
    }
}

#[test]
fn a_plain_user_is_told_how_much_he_does_not_see() {
    let test = "a_plain_user_is_told_how_much_he_does_not_see";
    if !is_root(test) || !has(test, "setpriv") {
        return;
    }
    let ours = Scripts::new(&["psu-root"]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("psmon");
    std::fs::copy(psmon().get_program(), &program).unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).current_dir("/");
        command
    };
    let theirs = Victim::spawn(as_nobody().args(["sleep", "1009"]));
    let comm = format!("/proc/{}/comm", theirs.pid());
    until("its exec", || std::fs::read_to_string(&comm).unwrap() == "sleep\n");
    let both = format!("{},{}", ours.pid(0), theirs.pid());
    let run = |args: &[&str]| as_nobody().arg(&program).args(["pss", "--pid", &both]).args(args).output().unwrap();

    let (found, total) = rows(&run(&["--json"]));
    let [refused, read] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&refused["name"], &refused["reading"], &refused["pss"]), (&json!("psu-root"), &json!("refused"), &Json::Null));
    assert!(refused["refused"].as_array().unwrap().contains(&json!("pss")));
    assert_eq!((&read["pid"], &read["reading"]), (&json!(theirs.pid()), &json!("read")));
    assert_eq!((&total["procs"], &total["refused"], &total["pss"]), (&json!(1), &json!(1), &read["pss"]));

    let table = out(&run(&[]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["psu-root", &ours.pid(0).to_string(), "?", "?", "?"]);
    assert!(lines[3].starts_with("total ") && lines[3].ends_with(" in 1 process"), "{table}");
    assert_eq!(
        lines[4],
        "1 could not be read (permission): the total is without them. Run it as root, or with CAP_SYS_PTRACE, to see all."
    );
    let by_user = run(&["--by", "user", "--json"]);
    let (groups, _) = rows(&by_user);
    assert_eq!((&groups[0]["procs"], &groups[0]["unread"]), (&json!(0), &json!(1)), "{groups:?}");
    assert_eq!((&groups[1]["procs"], &groups[1]["unread"]), (&json!(1), &json!(0)), "{groups:?}");
    let csv = run(&["--csv"]);
    assert!(err(&csv).contains("1 could not be read"), "{csv:?}");
}

#[test]
fn one_that_never_answers_costs_a_second_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    for pid in 1..=20 {
        let dir = root.path().join(pid.to_string());
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("comm"), "made\n").unwrap();
        std::fs::write(dir.join("stat"), common::made_stat(pid)).unwrap();
        if pid == 7 {
            // Whoever opens it waits for a writer that never comes.
            mknodat(CWD, dir.join("smaps_rollup"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        } else {
            std::fs::write(dir.join("smaps_rollup"), "Rss: 8 kB\nPss: 4 kB\nSwapPss: 1 kB\n").unwrap();
        }
    }
    let began = Instant::now();
    let output = run(&["--json", "--proc", root.path().to_str().unwrap()]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let (found, total) = rows(&output);
    assert_eq!((&found[0]["pid"], &found[0]["reading"], &found[0]["pss"]), (&json!(7), &json!("late"), &Json::Null));
    assert_eq!(
        (&total["procs"], &total["late"], &total["pss"], &total["swap_pss"]),
        (&json!(19), &json!(1), &json!(19 * 4096), &json!(19 * 1024))
    );
    let table = out(&run(&["--proc", root.path().to_str().unwrap(), "--name-from", "comm", "-p", "made"]));
    assert!(
        table.contains("made   7    ?   ?    ?\n") && table.contains("total 76K in 19 processes, and 19K swapped out besides\n"),
        "{table}"
    );
    assert!(table.contains("\n1 did not answer: the total is without them.\n"), "{table}");
}

/// `psmon pss` that goes on.
fn start(args: &[&str], stdout: Stdio) -> Victim {
    Victim::spawn(psmon().arg("pss").args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()))
}

/// Its exit status.
fn end_of(victim: &mut Victim) -> i32 {
    let mut status = None;
    until("it ends", || {
        status = victim.0.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code().unwrap_or_else(|| panic!("a signal ended it"))
}

#[test]
fn a_watch_goes_on_until_nobody_reads_it() {
    let scripts = Scripts::new(&["psw-one"]);
    let mut watch = start(&["--watch", "0.1", "-p", "psw-one"], Stdio::piped());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut sample = || lines.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>();
    for _ in 0..3 {
        let sample = sample();
        assert!(sample[0].starts_with("20") && sample[0].contains('T'), "{sample:?}");
        assert!(
            sample[1].starts_with("NAME") && sample[2].starts_with("psw-one") && sample[3].ends_with(" in 1 process"),
            "{sample:?}"
        );
    }
    // Without its process it says so and goes on.
    drop(scripts);
    until("it is missed", || sample().contains(&"no process matches".to_owned()));
    assert!(sample().contains(&"no process matches".to_owned()));
    drop(lines);
    assert_eq!(end_of(&mut watch), 0);
}

#[test]
fn a_watch_ends_at_once_when_told_to() {
    let mut watch = start(&["--watch", "1h", "--json", "-p", "no-process-has-this-name"], Stdio::piped());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    let total: Json = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(total["rec"] == "total" && total["procs"] == 0 && total["time"].is_string(), "{total}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(watch.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(end_of(&mut watch), 1, "nothing ever matched");
    let mut csv = start(&["--watch", "0.1", "--csv", "--pid", "1"], Stdio::piped());
    let mut lines = BufReader::new(csv.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("time,name,pid,"));
    assert!((0..2).all(|_| lines.next().unwrap().contains(",1,")), "one header, and a row each");
}

/// The server that is sent to.
struct Server(BufReader<TcpStream>);

impl Server {
    fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        until("it connects", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> Json {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

#[test]
fn samples_are_sent_and_what_is_not_delivered_is_counted() {
    let scripts = Scripts::new(&["pss-sent"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut watch = start(&["--send", &address.to_string(), "--watch", "0.1", "-p", "pss-sent"], Stdio::null());
    let mut said = BufReader::new(watch.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut server = Server::accept(&listener);
    let first = server.line();
    assert_eq!((&first["procs"], &first["refused"], &first["lost"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!((&first["processes"][0]["name"], &first["processes"][0]["pid"]), (&json!("pss-sent"), &json!(scripts.pid(0))));
    assert!(first["pss"].as_u64().unwrap() > 0 && first["pss"] == first["processes"][0]["pss"]);
    assert_eq!(first["host"].as_str(), rustix::system::uname().nodename().to_str().ok());
    assert!(first["time"].is_string() && first["swap_pss"].is_u64());
    // Its answers are read and thrown away.
    use std::io::Write as _;
    server.0.get_mut().write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(server.line()["lost"], 0);
    assert!(said.next().unwrap().ends_with(": connected"));

    // It is gone, then there again on the same port.
    drop(server);
    drop(listener);
    assert!(said.next().unwrap().contains("samples are dropped and counted"));
    let listener = TcpListener::bind(address).unwrap();
    let mut server = Server::accept(&listener);
    let lost = server.line()["lost"].as_u64().unwrap();
    assert!(lost > 0, "{lost}");
    let later = server.line();
    assert!(later["lost"].as_u64().unwrap() >= lost && later["procs"] == 1);
    assert!(said.next().unwrap().ends_with(": connected"));

    let pid = rustix::process::Pid::from_raw(i32::try_from(watch.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(end_of(&mut watch), 0);
    let mut rest = String::new();
    server.0.read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty() || rest.ends_with('\n'), "no line is torn: {rest:?}");
}

#[test]
fn a_server_that_is_not_there_holds_up_no_sample() {
    // Bound and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut watch = start(&["--send", &address.to_string(), "--watch", "0.1", "--pid", "1", "--json"], Stdio::piped());
    let lines = BufReader::new(watch.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.filter(|line| line.contains("\"total\"")).take(5).count(), 5);
    assert!(BufReader::new(watch.0.stderr.take().unwrap()).lines().next().unwrap().unwrap().contains("samples are dropped"));
    for wrong in ["nowhere", "nowhere:", ":7"] {
        assert_eq!(status(&run(&["--send", wrong])), 2, "{wrong}");
    }
}
