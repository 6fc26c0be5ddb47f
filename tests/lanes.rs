//! The lanes: psmond below a real systemd, in a whole emulated machine, and as a package.
//!
//! Each is a bash script in `tests/lanes/` that can be run by hand as well. Exit status 77 means that something it needs is not
//! here; it is shouted about, and is no failure.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)] // helpers of tests are tests, clippy does not know it

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

const SKIPPED: i32 = 77;

/// Lanes load the machine and measure time: one after the other. (nextest: see .config/nextest.toml.)
static ALONE: Mutex<()> = Mutex::new(());

/// The programs under test: those of `PSMON_BIN_DIR` (tests/run: the release build), else those cargo built for this test.
fn bin_dir() -> PathBuf {
    std::env::var_os("PSMON_BIN_DIR").map_or_else(
        || Path::new(env!("CARGO_BIN_EXE_psmond")).parent().expect("a program lies in a directory").to_path_buf(),
        PathBuf::from,
    )
}

fn lane(name: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lanes").join(name).with_extension("sh");
    let output = Command::new("bash")
        .arg(&script)
        .arg(bin_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("bash {}: {e}", script.display()));
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => println!("{said}"),
        Some(SKIPPED) => {
            println!("{said}");
            skipped(name, said.lines().rfind(|l| l.contains("SKIPPED")).unwrap_or("SKIPPED without a reason"));
        }
        _ => panic!("lane {name}: {}\n{said}\n{errors}", output.status),
    }
}

/// A passing test's output is captured by its runner; what was skipped must be seen all the same. So it is also written to the
/// file that tests/run reads out at its end.
fn skipped(name: &str, reason: &str) {
    println!("SKIPPED lane {name}: {reason}");
    if let Some(file) = std::env::var_os("PSMON_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("the file of PSMON_SKIPPED opens");
        writeln!(file, "lane {reason}").expect("the file of PSMON_SKIPPED takes a line");
    }
}

#[test]
fn systemd_starts_reloads_watches_and_stops_it() {
    lane("systemd");
}

#[test]
fn the_debian_package_installs_upgrades_and_goes() {
    lane("deb");
}

#[test]
fn an_emulated_machine_with_32000_processes_is_recorded() {
    lane("guest");
}
