//! The tool as people and scripts use it: output, exit statuses, and what it says when something is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Place, Recorder, Victim, err, has, is_root, out, psmon, psmond, status, until};
use psmon::journal::archive::compress;
use psmon::journal::segment::Name;
use serde_json::Value as Json;

/// Runs psmon.
fn run(args: &[&str]) -> Output {
    psmon().args(args).stdin(Stdio::null()).output().unwrap()
}

fn objects(output: &Output) -> Vec<Json> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// A child that sleeps, with arguments nobody else has.
fn sleeper(seconds: &str) -> (Victim, String) {
    let child = Victim::spawn(Command::new("sleep").arg(seconds));
    let cmdline = format!("/proc/{}/cmdline", child.pid());
    until("its exec", || std::fs::read(&cmdline).unwrap_or_default().starts_with(b"sleep\0"));
    let pid = child.pid().to_string();
    (child, pid)
}

#[test]
fn ps_shows_of_a_process_what_procps_shows() {
    if !has("ps_shows_of_a_process_what_procps_shows", "ps") {
        return;
    }
    let child = Victim::spawn(Command::new("nice").args(["-n", "5", "sleep", "4242.5"]));
    let pid = child.pid().to_string();
    until("its exec", || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"sleep\0"));
    // Only once it sleeps has it all the memory it will have.
    until("it sleeps", || {
        let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains("(sleep) S ") && (wchan.contains("nanosleep") || wchan == "0" || wchan.is_empty())
    });
    let theirs = |column: &str| {
        let output = Command::new("ps").args(["-o", &format!("{column}="), "-p", &pid]).output().unwrap();
        out(&output).trim().to_owned()
    };
    let ours = run(&["ps", "--json", "-p", &pid, "-o", "pid,ppid,uid,user,ni,tty,nlwp,pgid,sid,cls,rss,vsz,comm,args,lstart"]);
    assert_eq!(status(&ours), 0, "{ours:?}");
    let ours = objects(&ours).remove(0);
    for (key, column) in
        [("pid", "pid"), ("ppid", "ppid"), ("nice", "ni"), ("uid", "euid"), ("threads", "nlwp"), ("pgrp", "pgid"), ("session", "sid")]
    {
        assert_eq!(ours[key].to_string(), theirs(column), "{key}");
    }
    for (key, column) in [("user", "euser"), ("policy", "cls"), ("comm", "comm")] {
        assert_eq!(ours[key].as_str().unwrap(), theirs(column), "{key}");
    }
    assert_eq!(ours["vsz"].as_u64().unwrap() / 1024, theirs("vsz").parse::<u64>().unwrap());
    // Both are exact: ours from statm, that of ps from status.
    let (rss, exact) = (ours["rss"].as_u64().unwrap() / 1024, theirs("rss").parse::<u64>().unwrap());
    assert!(rss > 256 && rss == exact, "{rss} KiB, by ps {exact} KiB");
    assert_eq!(ours["tty"].as_str().unwrap_or("?"), theirs("tty"));
    assert_eq!(ours["cmd"], serde_json::json!(["sleep", "4242.5"]));
    assert_eq!(theirs("args"), "sleep 4242.5");
    let plain = run(&["ps", "-p", &pid, "-o", "pid,ni,args"]);
    let text = out(&plain);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["PID", "NICE", "CMD"]);
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), [pid.as_str(), "5", "sleep", "4242.5"]);
    assert_eq!(lines.len(), 2);
}

#[test]
fn ps_filters_by_name_regex_user_and_pid() {
    let (_one, pid) = sleeper("5151.25");
    let (_other, other) = sleeper("5151.75");
    let pids = |args: &[&str]| {
        let output = run(&[&["ps", "--json", "-o", "pid"], args].concat());
        assert!(status(&output) <= 1, "{output:?}");
        objects(&output).iter().map(|row| row["pid"].to_string()).collect::<Vec<_>>()
    };
    let both = pids(&["sleep"]);
    assert!(both.contains(&pid) && both.contains(&other));
    assert!(!pids(&["slee"]).contains(&pid), "a name is the whole name");
    assert_eq!(pids(&["--regex", "^sleep 5151\\.25$"]), [pid.as_str()]);
    assert_eq!(pids(&["-p", &format!("{pid},{other}"), "-r", "75$"]), [other.as_str()], "all filters must hold");
    let me = rustix::process::geteuid().as_raw();
    let named = String::from_utf8(psmon::source::users::user_name(me).unwrap()).unwrap();
    for user in [named, me.to_string()] {
        assert_eq!(pids(&["-u", &user, "-p", &pid]), [pid.as_str()]);
    }
    assert_eq!(pids(&["-u", "nobody-has-this-name", "-p", &pid]), [""; 0]);
    let none = run(&["ps", "no-program-has-this-name"]);
    assert_eq!((status(&none), out(&none).as_str()), (1, ""));
    assert_eq!(err(&none), "psmon: no process matches\n");
    let wrong = run(&["ps", "--regex", "("]);
    assert_eq!(status(&wrong), 2);
    assert!(err(&wrong).contains("--regex"));
}

#[test]
fn ps_sorts_and_shows_kernel_threads_only_when_asked() {
    let (_one, _) = sleeper("61.1");
    let sorted = run(&["ps", "--json", "-o", "pid,rss", "--sort", "-rss,pid"]);
    let sizes: Vec<u64> = objects(&sorted).iter().map(|row| row["rss"].as_u64().unwrap()).collect();
    assert!(sizes.len() > 1 && sizes.is_sorted_by(|one, other| one >= other), "{sizes:?}");
    let ascending = run(&["ps", "--json", "-o", "pid,rss", "--sort", "rss"]);
    let sizes: Vec<u64> = objects(&ascending).iter().map(|row| row["rss"].as_u64().unwrap()).collect();
    assert!(sizes.is_sorted());
    let kthreadd = |args: &[&str]| {
        objects(&run(&[&["ps", "--json", "-o", "pid,comm,cmd,rss"], args].concat())).into_iter().find(|row| row["pid"] == 2)
    };
    if Path::new("/proc/2/comm").exists() && std::fs::read("/proc/2/comm").unwrap() == b"kthreadd\n" {
        assert_eq!(kthreadd(&[]), None);
        assert_eq!(kthreadd(&["-K"]).unwrap(), serde_json::json!({ "pid": 2, "comm": "kthreadd", "cmd": null, "rss": null }));
    } else {
        common::skipped("ps_sorts_and_shows_kernel_threads_only_when_asked", "no kernel thread is seen in this pid namespace");
    }
}

#[test]
fn an_unknown_column_or_switch_is_told_with_what_there_is() {
    for args in [["ps", "-o", "pid,rsss"], ["ps", "--sort", "-rsss"]] {
        let output = run(&args);
        assert_eq!(status(&output), 2);
        assert_eq!(out(&output), "");
        let said = err(&output);
        assert!(
            said.contains("'rsss' is not a column of ps (did you mean 'rss'?)") && said.contains("cpu_pct, ") && said.contains("vsz"),
            "{said}"
        );
    }
    for args in [&["ps", "--nope"][..], &["nope"], &[], &["verify", "--since", "yesterday"], &["config", "--check", "--default"]] {
        assert_eq!(status(&run(args)), 2, "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["ps", "--help"], &["verify", "--help"], &["doctor", "--help"], &["config", "--help"]] {
        let output = run(args);
        assert_eq!(status(&output), 0, "{args:?}");
        assert!(!out(&output).is_empty());
    }
    assert_eq!(out(&run(&["--version"])), format!("psmon {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(status(&run(&["ps", "--proc", "/nowhere"])), 3);
}

#[test]
fn a_reader_that_goes_away_or_a_full_disk_is_no_panic() {
    let tool = psmon().get_program().to_owned();
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).arg(&tool).output().unwrap();
        (status(&output), err(&output))
    };
    // Many rows, so that the pipe is closed while it writes.
    let (code, said) = shell("{ \"$0\" ps -K -o pid,args,cgroup,exe,pid,lstart; echo $? >&2; } | head -1");
    assert_eq!((code, said.lines().last()), (0, Some("0")), "{said}");
    assert_eq!(shell("\"$0\" config --default | true; \"$0\" config --default | head -1 >/dev/null").0, 0);
    let (code, said) = shell("\"$0\" ps >/dev/full");
    assert!(code == 3 && said.contains("No space left"), "{code} {said}");
    assert_eq!(shell("\"$0\" ps no-program-has-this-name 2>/dev/full").0, 1, "what it says besides is not worth a panic");
    let place = Place::new("");
    let daemon = Command::new("sh").args(["-c", "\"$0\" -c \"$1\" --check >/dev/full"]).arg(psmond()).arg(place.config()).output().unwrap();
    assert_eq!(status(&daemon), 0);
}

/// A journal of three segments: `ps-DATE.log`, `ps-DATE.2.log` and `ps.log`. None if a day ended in between.
fn three_segments(format: &str) -> (Place, [String; 3]) {
    let place = Place::of_ps("");
    for columns in ["pid,user,cmd", "pid,rss,cmd", "pid,cmd"] {
        let mut command = place.command();
        command.args(["-o", columns, "--format", format]);
        let from = place.last_seq();
        let recorder = place.start_command(command);
        until("two samples", || {
            place.ps().header.is_some_and(|header| header.columns.join(" ").contains(&columns.replace(',', " ")))
                && place.last_seq() >= from + 2
        });
        assert_eq!(recorder.stop(), 0);
    }
    let mut names: Vec<String> = place.all_ps().iter().map(|segment| segment.name.clone()).collect();
    assert_eq!(names.len(), 3, "a segment for each set of columns");
    // That stream is always on, and is not what these tests count.
    std::fs::remove_file(place.file("alerts.log")).unwrap();
    names.sort_by_key(|name| (name == "ps.log", name.len()));
    let names = names.try_into().unwrap();
    (place, names)
}

/// What `psmon verify` says of a directory: its status, its text, its JSON.
fn verdict(dir: &Path) -> (i32, String, Json) {
    let dir = dir.to_str().unwrap();
    let (plain, json) = (run(&["verify", dir]), run(&["verify", "--json", dir]));
    assert_eq!(status(&plain), status(&json));
    (status(&plain), out(&plain), serde_json::from_str(&out(&json)).unwrap())
}

/// Asserts that damage is found, in this file, and told with its place.
fn assert_damaged(dir: &Path, file: &str, why: &str) {
    let (code, text, json) = verdict(dir);
    assert_eq!(code, 1, "{why}: {text}");
    assert_eq!(json["whole"], false, "{why}");
    let found = json["damage"].as_array().unwrap();
    let here = found.iter().find(|finding| finding["file"] == file).unwrap_or_else(|| panic!("{why}: {text}"));
    let place = format!("DAMAGE {file}:{}: ", here["offset"]);
    assert!(text.contains(&place), "{why}: {text}");
    assert!(text.contains("NOT whole"), "{text}");
}

#[test]
fn verify_finds_every_damage_and_its_place() {
    for format in ["text", "json"] {
        let (place, [first, second, live]) = three_segments(format);
        let (code, text, json) = verdict(&place.logs());
        assert_eq!((code, &json["whole"]), (0, &Json::Bool(true)), "{text}");
        assert_eq!(json["segments"], 3);
        assert!(json["samples"].as_u64().unwrap() >= 6 && json["rows"].as_u64().unwrap() >= 6, "{json}");
        assert!(text.contains(": whole: 3 segments"), "{text}");

        let damaged = |why: &str, file: &str, damage: &dyn Fn(&Path)| {
            let copy = tempfile::tempdir().unwrap();
            for name in [&first, &second, &live] {
                std::fs::copy(place.file(name), copy.path().join(name)).unwrap();
            }
            damage(copy.path());
            assert_damaged(copy.path(), file, &format!("{format}: {why}"));
            // The same after a night: the closed ones compressed.
            for name in [&first, &second] {
                if copy.path().join(name).exists() {
                    compress(copy.path(), &Name::parse(name).unwrap()).unwrap();
                }
            }
            let file = if file == live { file.to_owned() } else { format!("{file}.zst") };
            assert_damaged(copy.path(), &file, &format!("{format}, compressed: {why}"));
        };
        let change = |dir: &Path, name: &str, how: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = std::fs::read(dir.join(name)).unwrap();
            how(&mut bytes);
            std::fs::write(dir.join(name), bytes).unwrap();
        };
        let line_at = |bytes: &[u8], number: usize| {
            let from = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(number).unwrap().0 + 1;
            let length = bytes[from..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
            from..from + length
        };
        for half in [2, 3, 7] {
            damaged("cut short", &first, &|dir| change(dir, &first, &|bytes| bytes.truncate(bytes.len() * (half - 1) / half)));
        }
        // Within what a tick closes: from the header's first byte on.
        for at in [1, 40, 333, 1000, 1500] {
            for name in [&first, &live] {
                damaged(&format!("byte {at} changed"), name, &|dir| change(dir, name, &|bytes| bytes[at] ^= 0x04));
            }
        }
        damaged("a line removed", &second, &|dir| change(dir, &second, &|bytes| drop(bytes.drain(line_at(bytes, 5)))));
        damaged("a line twice", &second, &|dir| {
            change(dir, &second, &|bytes| {
                let line = bytes[line_at(bytes, 5)].to_vec();
                let at = line_at(bytes, 5).start;
                bytes.splice(at..at, line);
            });
        });
        damaged("a segment missing", &live, &|dir| std::fs::remove_file(dir.join(&second)).unwrap());
        damaged("an empty segment", &first, &|dir| std::fs::write(dir.join(&first), "").unwrap());
        damaged("segments exchanged", &second, &|dir| {
            std::fs::rename(dir.join(&first), dir.join("x")).unwrap();
            std::fs::rename(dir.join(&second), dir.join(&first)).unwrap();
            std::fs::rename(dir.join("x"), dir.join(&second)).unwrap();
        });
    }
}

#[test]
fn verify_reads_compressed_segments_and_takes_nothing_for_proof() {
    let (place, [first, second, _]) = three_segments("text");
    for name in [&first, &second] {
        compress(&place.logs(), &Name::parse(name).unwrap()).unwrap();
    }
    let (code, text, json) = verdict(&place.logs());
    assert_eq!((code, &json["segments"]), (0, &Json::from(3)), "{text}");
    // A byte of the compressed file itself.
    let name = format!("{first}.zst");
    let mut bytes = std::fs::read(place.file(&name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(place.file(&name), bytes).unwrap();
    assert_damaged(&place.logs(), &name, "a byte of the zst changed");

    let empty = tempfile::tempdir().unwrap();
    let (code, text, json) = verdict(empty.path());
    assert_eq!((code, &json["whole"]), (1, &Json::Bool(false)), "{text}");
    std::fs::write(empty.path().join("ps.log"), "").unwrap();
    assert_eq!(verdict(empty.path()).0, 1, "an empty file proves nothing either");
    assert_eq!(status(&run(&["verify", "/nowhere"])), 3);
}

#[test]
fn config_is_shown_checked_and_refused() {
    let place = Place::of_ps("keep_days = 3\n");
    let config = place.config();
    let config = config.to_str().unwrap();
    let effective = run(&["config", "--effective", "-c", config]);
    assert_eq!(status(&effective), 0);
    let kept = out(&effective).lines().find(|line| line.starts_with("keep_days")).unwrap().to_owned();
    assert!(kept.contains('3') && kept.contains(config), "{kept}");
    let default = run(&["config", "--default"]);
    assert_eq!(out(&default), include_str!("../etc/psmond.toml"));
    assert_eq!(status(&run(&["config", "--check", "-c", config])), 0);
    let daemon = |args: &[&str]| Command::new(psmond()).args(args).stdin(Stdio::null()).output().unwrap();
    assert_eq!(status(&daemon(&["-c", config, "--check"])), 0);
    std::fs::write(config, "keep_day = 3\n[ps]\ninterval = \"1 parsec\"\ncolumns = [\"pid\", \"rsss\"]\n").unwrap();
    for output in [
        run(&["config", "--check", "-c", config]),
        run(&["config", "-c", config]),
        daemon(&["-c", config, "--check"]),
        daemon(&["-c", config]),
    ] {
        assert_eq!(status(&output), 2);
        let said = err(&output);
        for part in [":1:", "keep_days", ":3:", "parsec", ":4:", "'rss'"] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
    assert!(!place.logs().exists(), "nothing is recorded on a wrong config");
    assert_eq!(status(&run(&["config", "--check", "-c", "/nowhere.toml"])), 2);
}

#[test]
fn the_daemons_exit_statuses_are_those_of_the_contract() {
    let place = Place::new("");
    let daemon = |args: &[&str]| place.command().args(args).stdin(Stdio::null()).output().unwrap();
    for args in [&["--nope"][..], &["--stdout=nope"], &["-o", "rsss"], &["-i", "0.1s"], &["--format", "xml"]] {
        assert_eq!(status(&daemon(args)), 2, "{args:?}");
    }
    assert!(out(&daemon(&["--help"])).contains("--if-running"));
    assert_eq!(out(&daemon(&["--version"])), format!("psmond {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(status(&daemon(&["--proc", "/nowhere"])), 3);
    assert_eq!(status(&daemon(&["-l", "/proc/nowhere/logs"])), 3);
    let recorder = place.start();
    place.wait_for_ticks(1);
    let second = daemon(&[]);
    assert_eq!(status(&second), 1);
    assert!(err(&second).contains(&format!("pid {}", recorder.pid())), "{second:?}");
    assert_eq!(status(&daemon(&["--if-running=ok"])), 0);
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn a_stream_on_standard_output_ends_with_its_reader() {
    for switch in ["--stdout", "--stdout=ps"] {
        let place = Place::new("");
        let mut child = place.command().arg(switch).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut recorder = Recorder { child };
        let (mut text, mut ticks) = (String::new(), 0);
        while ticks < 2 {
            let from = text.len();
            assert!(reader.read_line(&mut text).unwrap() > 0, "it ended by itself: {text}");
            ticks += usize::from(text[from..].starts_with("#tick "));
        }
        assert!(text.starts_with("#psmon 1 ps seg=1 "), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("#cols time pid start"));
        drop(reader);
        assert_eq!(recorder.wait(), 0, "nobody reads: it ends, and that is no failure");
        assert!(!place.logs().exists(), "no files");
        // What was read is a journal: saved to a file it verifies.
        let saved = tempfile::tempdir().unwrap();
        std::fs::write(saved.path().join("ps.log"), text).unwrap();
        assert_eq!(verdict(saved.path()).0, 0);
    }
}

#[test]
fn doctor_speaks_of_whoever_runs_it() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(1);
    let config = place.config();
    let output = run(&["doctor", "--json", "-c", config.to_str().unwrap()]);
    let findings = objects(&output);
    let finding = |findings: &[Json], what: &str| {
        findings.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("no {what}")).clone()
    };
    assert!(findings.len() > 10);
    assert_eq!(status(&output), i32::from(findings.iter().any(|finding| finding["here"] == false)), "{findings:?}");
    let running = finding(&findings, "recorder");
    assert_eq!(
        (running["here"].as_bool(), running["seen"].as_str()),
        (Some(true), Some(format!("psmond runs, pid {}", recorder.pid()).as_str()))
    );
    assert_eq!(finding(&findings, "log directory")["here"], true);
    let elsewhere = finding(&findings, "sockets of other network namespaces");
    assert!(
        elsewhere["here"] == true
            && elsewhere["seen"].as_str().is_some_and(|seen| seen.starts_with("by diag") || seen.starts_with("from /proc"))
    );
    let plain = run(&["doctor", "-c", config.to_str().unwrap()]);
    assert_eq!(status(&plain), status(&output));
    assert_eq!(
        out(&plain).lines().filter(|line| line.starts_with("ok ") || line.starts_with("missing ")).count(),
        findings.len()
    );
    let name = "doctor_speaks_of_whoever_runs_it";
    if !is_root(name) || !has(name, "setpriv") {
        return;
    }
    for what in ["CAP_SYS_PTRACE", "executables of others", "process list", "process CPU clocks"] {
        assert_eq!(finding(&findings, what)["here"], true, "{what} as root");
    }
    // The program where anyone may run it, and a config that anyone may read.
    let open = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(open.path(), Some(65534), None).unwrap();
    let tool = open.path().join("psmon");
    std::fs::copy(psmon().get_program(), &tool).unwrap();
    std::fs::copy(&config, open.path().join("psmond.toml")).unwrap();
    let nobody = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&tool)
        .args(["doctor", "--json", "-c"])
        .arg(open.path().join("psmond.toml"))
        .output()
        .unwrap();
    let findings = objects(&nobody);
    assert_eq!(status(&nobody), 1);
    let elsewhere = finding(&findings, "sockets of other network namespaces");
    assert!(elsewhere["seen"].as_str().unwrap().starts_with("from /proc"), "{elsewhere}");
    for what in ["CAP_SYS_PTRACE", "CAP_NET_ADMIN", "executables of others", "io counters of others"] {
        let missing = finding(&findings, what);
        assert_eq!(missing["here"], false, "{missing}");
        assert!(!missing["lost"].as_str().unwrap().is_empty() && !missing["mend"].as_str().unwrap().is_empty());
    }
    assert_eq!(recorder.stop(), 0);
}
