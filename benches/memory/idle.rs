//! Processes that do nothing: what it costs to know of each second anew that their memory is what it was.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::table::{Table, Target};
use crate::targets::{Crowd, Life, available};
use crate::truth::everything;
use crate::watch::{self, PSS, field};
use crate::{Bench, after_the_second, mean, pause, say};

/// As PSS, and what `ps` says each second with it.
const PS: &str = "[ps]\nenabled = true\ninterval = \"1s\"\n";

/// What each has of its own, as a small daemon has: of a process without memory there is nothing to read.
const RESIDENT: usize = 1 << 20;

/// psmond reads facts of a process again 1 s and 10 s after its birth.
const GROWN_UP: Duration = Duration::from_secs(12);

/// So long after a full second everything is read: nobody else does anything then.
const AFTER: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Run {
    /// Of psmond, in milliseconds a sample.
    ms: f64,
    samples: usize,
    /// Readings a sample.
    read: f64,
    /// Samples until all had been read.
    first_pass: usize,
    /// Processes that others started meanwhile, a second.
    births: f64,
}

impl Bench {
    pub(crate) fn idle(&self, table: &mut Table) -> Result<()> {
        let mut herd = self.herd("idle")?;
        pause(GROWN_UP)?;
        let mut truths = self.read_everything()?;
        let alone = self.at_rest(PSS)?;
        let with_ps = self.at_rest(&format!("{PSS}{PS}"))?;
        truths.extend(self.read_everything()?);
        herd.check_intact()?;
        let all_ms = mean(&truths).context("no truth")?;
        table.add("idle: share of the cost of reading everything", alone.ms / all_ms).target(Target::AtMost(0.05)).note(format!(
            "psmond {:.2} ms of CPU a sample over {} samples, everything {all_ms:.2} over {} processes; others started {:.1} a second",
            alone.ms, alone.samples, self.herd, alone.births
        ));
        table
            .add("idle:   with ps each second", with_ps.ms / all_ms)
            .note(format!("psmond {:.2} ms; others started {:.1} a second", with_ps.ms, with_ps.births));
        table.add("idle: readings a sample", alone.read).note(format!("the first pass took {} samples", alone.first_pass));
        Ok(())
    }

    /// Processes that do nothing.
    pub(crate) fn herd(&self, part: &str) -> Result<Crowd> {
        say(&format!("{part}: starting {} processes", self.herd));
        let needed = self.herd as u64 * 3 * RESIDENT as u64;
        ensure!(available()? > needed, "the herd may need {} MiB", needed >> 20);
        Crowd::start(&vec![Life::Idle(RESIDENT); self.herd])
    }

    /// psmond over what is there, after its first pass.
    fn at_rest(&self, streams: &str) -> Result<Run> {
        let length = Duration::from_secs(self.seconds * 2 / 3);
        say(&format!("idle: psmond, {} samples", length.as_secs()));
        let mut psmond = self.psmond(streams)?;
        let first_pass = psmond.wait_for_first_pass()?;
        let (before, begin) = (births()?, Instant::now());
        let (window, ()) = psmond.window(|| pause(length.saturating_sub(Duration::from_millis(500))))?;
        let births = births()?.saturating_sub(before) as f64 / begin.elapsed().as_secs_f64();
        let ticks = window.ticks(&watch::ticks(&psmond.stop()?.0.path().join("log"))?);
        let read = mean(&field(&ticks, "readings")?).context("no sample in the window")?;
        Ok(Run { ms: window.cpu.as_secs_f64() * 1e3 / ticks.len() as f64, samples: ticks.len(), read, first_pass, births })
    }

    /// Milliseconds of CPU each time, at psmond's own cadence: in a tight loop the same work costs less.
    fn read_everything(&self) -> Result<Vec<f64>> {
        let times = (self.seconds / 6).max(2);
        say(&format!("idle: reading everything, {times} times"));
        let once = |_| {
            after_the_second(AFTER)?;
            Ok(everything()?.cpu.as_secs_f64() * 1e3)
        };
        (0..times).map(once).collect()
    }
}

/// Processes and threads started since boot, whoever did.
fn births() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("processes ")).context("no processes in /proc/stat")?;
    Ok(line.trim().parse()?)
}
