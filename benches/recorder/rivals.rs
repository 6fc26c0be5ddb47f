//! top and ps over the same herd, in the same run, at the same cadence, on the same meter.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::meter::{Meter, wait_for_end};
use crate::pause;

/// What a program used, and for how much.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) cpu: Duration,
    pub(crate) samples: u64,
    /// Processes seen, summed over the samples.
    pub(crate) seen: u64,
}

impl Reading {
    /// Microseconds of CPU per process and sample.
    pub(crate) fn us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.seen as f64
    }
}

/// The defaults of the tools, not the settings of whoever runs the benchmark.
fn plain(command: &mut Command, home: &Path) {
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME").env("LC_ALL", "C").env_remove("COLUMNS").env_remove("PS_FORMAT");
    command.stdin(Stdio::null()).stderr(Stdio::null());
}

/// `top -b -d 1`, writing to a file as psmond does.
pub(crate) fn top(meter: &Meter, work: &Path, warm_up: Duration, length: Duration) -> Result<Reading> {
    let out = work.join("top");
    let mut command = meter.command("top")?;
    command.args(["-b", "-d", "1"]).stdout(File::create(&out)?);
    plain(&mut command, work);
    let mut child = command.spawn()?;
    let measure = || -> Result<Reading> {
        pause(warm_up)?;
        let begin = end_of_frame(&out)?;
        let before = meter.of(&child)?;
        pause(length.saturating_sub(Duration::from_millis(500)))?;
        let end = end_of_frame(&out)?;
        let cpu = meter.of(&child)?.saturating_sub(before);
        let text = fs::read(&out)?;
        let frames = text.get(begin..end).context("the output of top shrank")?;
        let mut reading = Reading { cpu, ..Reading::default() };
        for line in frames.split(|&byte| byte == b'\n') {
            // `Tasks: 3085 total,   1 running, ...` heads each frame.
            if let Some(rest) = line.strip_prefix(b"Tasks:") {
                let word = String::from_utf8_lossy(rest);
                reading.seen += word.split_whitespace().next().context("top: Tasks:")?.parse::<u64>()?;
                reading.samples += 1;
            }
        }
        ensure!(reading.samples > 0, "top wrote no frame");
        Ok(reading)
    };
    let reading = measure();
    let _ = child.kill();
    let _ = child.wait();
    reading
}

/// The length of top's output once a frame has just been written: a window between two such moments cuts none.
fn end_of_frame(out: &Path) -> Result<usize> {
    let begin = Instant::now();
    let first = fs::metadata(out)?.len();
    let (mut last, mut since) = (first, Instant::now());
    while last == first || since.elapsed() < Duration::from_millis(250) {
        if begin.elapsed() > Duration::from_secs(10) {
            bail!("top writes nothing");
        }
        pause(Duration::from_millis(20))?;
        let now = fs::metadata(out)?.len();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last.try_into()?)
}

/// A `ps` each second with about the columns of psmond's, as a cron job or psscan would run it.
pub(crate) fn ps(meter: &Meter, work: &Path, runs: u64) -> Result<Reading> {
    let out = work.join("ps");
    let mut reading = Reading::default();
    let mut due = Instant::now();
    // The first run finds its libraries cold and is not counted.
    for run in 0..=runs {
        pause(due.saturating_duration_since(Instant::now()))?;
        due += Duration::from_secs(1);
        let mut command = meter.command("ps")?;
        command.args(["-eo", "pid,ppid,user,stat,tty,ni,nlwp,pcpu,time,rss,vsz,args"]).stdout(File::create(&out)?);
        plain(&mut command, work);
        let before = meter.at_rest()?;
        let mut child = command.spawn()?;
        wait_for_end(&child)?;
        let cpu = meter.of(&child)?.saturating_sub(before);
        let status = child.wait()?;
        ensure!(status.success(), "ps: {status}");
        if run > 0 {
            let lines = fs::read(&out)?.iter().filter(|&&byte| byte == b'\n').count();
            reading.cpu += cpu;
            reading.samples += 1;
            reading.seen += lines.saturating_sub(1) as u64;
        }
    }
    Ok(reading)
}
