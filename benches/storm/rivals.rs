//! forkstat over the same storm, on the same meter.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::worker::Kind;
use crate::{Bench, Storm, pause};

/// A storm with forkstat over it.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) storm: Storm,
    cpu: Duration,
    /// Lines of an exit in its file.
    pub(crate) exits: u64,
}

impl Rival {
    pub(crate) fn us_per_child(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.storm.children() as f64
    }
}

/// `forkstat -e all -l`, writing to a file as psmond does.
pub(crate) fn forkstat(bench: &Bench, kinds: &[Kind]) -> Result<Rival> {
    let (out, errors) = (bench.work.path().join("forkstat"), bench.work.path().join("forkstat-errors"));
    let mut command = bench.meter.command("forkstat")?;
    command.args(["-e", "all", "-l"]).stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&errors)?);
    let mut child = command.spawn()?;
    let mut measure = || -> Result<(Storm, Duration)> {
        pause(Duration::from_secs(1))?;
        if let Some(status) = child.try_wait()? {
            let complaint = fs::read_to_string(&errors)?;
            ensure!(false, "forkstat ended: {status} {}", complaint.trim());
        }
        let before = bench.meter.of(&child)?;
        let storm = bench.storm(kinds, None)?;
        // What it has in its buffer; it stays behind for less than this.
        pause(Duration::from_secs(2))?;
        Ok((storm, bench.meter.of(&child)?.saturating_sub(before)))
    };
    let measured = measure();
    // Interrupted, it tells the kernel that nobody listens any more, and writes what it has.
    let end = Instant::now() + Duration::from_secs(5);
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    let (storm, cpu) = measured?;
    let text = fs::read(&out).context("the output of forkstat")?;
    // `09:22:01 exit   1234      0    0.002 nothing`
    let exits = text.split(|byte| *byte == b'\n').filter(|line| line.get(8..13) == Some(b" exit")).count() as u64;
    Ok(Rival { storm, cpu, exits })
}
