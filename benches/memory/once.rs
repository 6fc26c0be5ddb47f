//! `psmon pss` once over many processes, beside what the kernel itself takes for the same readings, and its rivals.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::table::{Table, Target};
use crate::truth::{pids_with_memory, read_only};
use crate::{Bench, median, say, stopped, sys};

/// The medians of so many runs are shown.
const RUNS: u32 = 5;

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(60);

impl Bench {
    pub(crate) fn once(&self, table: &mut Table) -> Result<()> {
        let mut herd = self.herd("once")?;
        let pids = pids_with_memory()?;
        say("once: psmon pss and a loop that reads the same, in turn");
        let (mut kernel, mut own) = (Vec::new(), Vec::new());
        let psmon = has_pss(&self.psmon, self.herd);
        for _ in 0..RUNS {
            stopped()?;
            let (cpu, there) = read_only(&pids);
            ensure!(there >= self.herd, "{there} of {} processes could be read", self.herd);
            kernel.push(cpu.as_secs_f64() * 1e3);
            if psmon.is_ok() {
                own.push(cpu_ms(Command::new(&self.psmon).arg("pss"))?);
            }
        }
        let least = kernel.iter().copied().fold(f64::INFINITY, f64::min);
        let middle = median(kernel).context("no run")?;
        let share = |own: Option<f64>| own.map(|ms| ms / middle);
        let note = match &psmon {
            Ok(()) => format!("{:.2} ms, the kernel's own {middle:.2} (least {least:.2})", median(own.clone()).unwrap_or_default()),
            Err(error) => format!("{error:#}"),
        };
        table.add("once: psmon pss, times the kernel's own", share(median(own))).target(Target::AtMost(1.1)).note(note);
        table
            .add("once:   the kernel's own, us per process", middle * 1e3 / pids.len() as f64)
            .note(format!("open, read and close smaps_rollup of {} processes", pids.len()));
        for (name, hint) in [("smem", "not here; in Debian it is package smem"), ("psstop", "not here; it is not in Debian")] {
            say(&format!("once: {name}"));
            // It is shown beside, once: twice would take a while.
            let (ms, note) = match cpu_ms(&mut Command::new(name)) {
                Ok(ms) => (Some(ms), format!("{ms:.0} ms")),
                Err(error) if is_missing(&error) => (None, hint.to_owned()),
                Err(error) => (None, format!("{error:#}")),
            };
            stopped()?;
            table.add(format!("once:   {name}, times the kernel's own"), share(ms)).note(note);
        }
        herd.check_intact()
    }
}

/// An error unless it writes a line of each process that is there. Its first run finds its pages cold, and is not counted.
fn has_pss(psmon: &Path, herd: usize) -> Result<()> {
    let output = Command::new(psmon).arg("pss").stdin(Stdio::null()).output().with_context(|| psmon.display().to_string())?;
    let complaint = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    ensure!(output.status.success(), "psmon pss: {} {complaint}", output.status);
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines > herd, "psmon pss wrote {lines} lines of {herd} processes");
    Ok(())
}

/// CPU of a run from its fork to its end, as `wait4` tells it.
fn cpu_ms(command: &mut Command) -> Result<f64> {
    for (name, _) in std::env::vars_os() {
        // A setting of whoever runs the benchmark would be measured too.
        if name.to_string_lossy().starts_with("PSMON_") {
            command.env_remove(&name);
        }
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Err(error) = wait_for_end(&child) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    let ns = sys::wait_for(child.id().cast_signed())?;
    Ok(ns as f64 / 1e6)
}

/// Waits until it has ended well, and leaves it to be waited for.
fn wait_for_end(child: &Child) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let flags = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if let Some(status) = waitid(WaitId::Pid(Pid::from_child(child)), flags)? {
            ensure!(status.exit_status() == Some(0), "ended with {status:?}");
            return Ok(());
        }
        stopped()?;
        if Instant::now() > end {
            bail!("did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
