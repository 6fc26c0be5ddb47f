//! Static builds of both programs need nothing but a mounted /proc.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a test

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{has, is_root};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds both programs in a target directory of their own; cargo sees when there is nothing to do.
fn static_programs() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_psmon")).parent().unwrap();
    let target_dir = profile.parent().unwrap().join("static");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--bins", "--target", TARGET, "--target-dir"]).arg(&target_dir);
    // What the cargo around this test set is not of this build: it would be rebuilt each time.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" && name != "CARGO_NET_OFFLINE" {
            command.env_remove(name);
        }
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTFLAGS", "-C target-feature=+crt-static").output().unwrap();
    assert!(output.status.success(), "the static build failed: {}", String::from_utf8_lossy(&output.stderr));
    target_dir.join(TARGET).join("release")
}

/// A directory that holds only the programs and a place for /proc.
fn chroot_with(programs: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("proc")).unwrap();
    for name in ["psmon", "psmond"] {
        std::fs::copy(programs.join(name), root.path().join(name)).unwrap();
    }
    root
}

/// A command in the chroot, with /proc mounted where only it sees it. Its parent is this test.
fn inside(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t proc proc \"$0/proc\" && root=$0 && exec chroot \"$root\" \"$@\""]);
    command.arg(root).args(args).stdin(Stdio::null());
    command
}

#[test]
fn static_programs_run_in_a_chroot_that_holds_only_them_and_proc() {
    let name = "static_programs_run_in_a_chroot_that_holds_only_them_and_proc";
    if !is_root(name) || !has(name, "unshare") || !has(name, "chroot") {
        return;
    }
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        common::skipped(name, "the static build is for x86_64-unknown-linux-gnu");
        return;
    }
    let root = chroot_with(&static_programs());

    let output = inside(root.path(), &["/psmon", "ps", "--json", "-o", "pid,ppid,user,uid,program,cmd,lstart"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |pid: u64| rows.iter().find(|row| row["pid"] == pid).unwrap_or_else(|| panic!("no {pid} in {text}"));
    // Its ancestors up to the first process of the namespace.
    let (mut pid, mut ancestors) = (u64::from(std::process::id()), 0);
    while pid > 1 {
        let of = row(pid);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        assert_eq!(of["ppid"], parent);
        pid = parent;
        ancestors += 1;
    }
    assert!(ancestors >= 1);
    // Without /etc/passwd nobody has a name.
    assert!(rows.iter().all(|row| row["user"].as_str() == Some(row["uid"].to_string().as_str())), "{text}");
    let own = row(u64::from(std::process::id()));
    assert_eq!((own["user"].as_str(), own["cmd"][0].as_str().is_some()), (Some("0"), true));

    let plain = inside(root.path(), &["/psmon", "ps"]).output().unwrap();
    assert_eq!(plain.status.code(), Some(0));
    assert!(plain.stdout.starts_with(b"    PID") || plain.stdout.trim_ascii_start().starts_with(b"PID"));

    // The recorder too, for two samples.
    let mut child = inside(root.path(), &["/psmond", "--stdout", "-i", "1s", "-I"]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut lines, mut ticks) = (Vec::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        ticks += usize::from(line.starts_with("#tick "));
        lines.push(line);
        if ticks == 2 {
            break;
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{lines:?}");
    assert!(lines[0].starts_with("#psmon 1 ps seg=1 ") && ticks == 2, "{lines:?}");
    assert!(lines.iter().any(|line| line.split_whitespace().nth(1) == Some(&std::process::id().to_string())));
}
