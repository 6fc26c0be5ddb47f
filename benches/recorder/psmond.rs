//! psmond under measurement: started with a configuration of the benchmark's own, watched from outside, stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::journal::{self, Tick};
use crate::meter::Meter;
use crate::{pause, stopped};

/// Streams the targets do not speak of. `--all-streams` leaves them at their defaults.
const OTHERS_OFF: &str = "\
[pss]\nenabled = false\n[usage]\nenabled = false\n[credits]\nenabled = false\n[host]\nenabled = false\n\
[events]\nenabled = false\n[exits]\nenabled = false\n[burst]\nenabled = false\n";

/// How long psmond may take to write its first sample, or to stop.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) exe: &'a Path,
    pub(crate) interval_s: u32,
    pub(crate) full_every: &'a str,
    pub(crate) all_streams: bool,
    /// What is recorded and measured.
    pub(crate) stream: Stream,
}

/// The stream that is measured; the others are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Ps,
    Usage,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Ps => "ps",
            Stream::Usage => "usage",
        }
    }
}

/// A psmond that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Psmond<'a> {
    meter: &'a Meter,
    interval: Duration,
    stream: Stream,
    child: Child,
    dir: TempDir,
}

/// A stretch of time, with what was used in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    from: Timestamp,
    to: Timestamp,
    pub(crate) cpu: Duration,
}

impl Window {
    pub(crate) fn ticks(self, ticks: &[Tick]) -> Vec<Tick> {
        ticks.iter().filter(|tick| self.from < tick.time && tick.time <= self.to).cloned().collect()
    }
}

/// What one quiet stretch between two ticks held.
#[derive(Debug)]
pub(crate) struct Quiet {
    pub(crate) seconds: f64,
    pub(crate) cpu: Duration,
    /// Voluntary context switches by name of thread, those with none left out.
    pub(crate) wakeups: BTreeMap<String, u64>,
}

/// System calls, the most frequent first.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) window: Window,
    pub(crate) by_name: Vec<(String, u64)>,
}

impl Calls {
    pub(crate) fn total(&self) -> u64 {
        self.by_name.iter().map(|call| call.1).sum()
    }
}

impl<'a> Psmond<'a> {
    /// Starts it and waits for its first sample.
    pub(crate) fn start(setup: Setup<'_>, meter: &'a Meter) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("psmon-bench-").tempdir()?;
        let log_dir = dir.path().join("log");
        fs::create_dir(&log_dir)?;
        let Setup { interval_s, full_every, .. } = setup;
        let keys = format!("interval = \"{interval_s}s\"\nchanges = true\nfull_every = \"{full_every}\"\n");
        let config = match setup.stream {
            Stream::Ps => format!("[ps]\n{keys}{}", if setup.all_streams { "" } else { OTHERS_OFF }),
            Stream::Usage => {
                let usage = format!("[usage]\n{keys}");
                format!("[ps]\nenabled = false\n{}", OTHERS_OFF.replace("[usage]\nenabled = false\n", &usage))
            }
        };
        let config = format!("log_dir = {log_dir:?}\n{config}");
        let file = dir.path().join("psmond.toml");
        fs::write(&file, config)?;
        let mut command = meter.command(setup.exe)?;
        command.arg("-c").arg(&file).arg("-l").arg(&log_dir);
        for (name, _) in std::env::vars_os() {
            // A watchdog or a setting of whoever runs the benchmark would be measured too.
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("PSMON_") || name.starts_with("WATCHDOG_") || name == "NOTIFY_SOCKET" {
                command.env_remove(&name);
            }
        }
        let stderr = fs::File::create(dir.path().join("stderr"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()?;
        let mut psmond = Psmond { meter, stream: setup.stream, interval: Duration::from_secs(interval_s.into()), child, dir };
        let begin = Instant::now();
        while psmond.ticks()?.is_empty() {
            psmond.check_alive()?;
            if begin.elapsed() > PATIENCE + psmond.interval {
                bail!("no sample in {:?}\n{}", begin.elapsed(), psmond.complaints());
            }
            pause(Duration::from_millis(100))?;
        }
        Ok(psmond)
    }

    pub(crate) fn ticks(&self) -> Result<Vec<Tick>> {
        journal::ticks(&self.dir.path().join("log"), self.stream.name())
    }

    /// CPU over about `length`, from the middle between two ticks to the middle between two others: no tick is cut.
    pub(crate) fn window(&mut self, length: Duration) -> Result<Window> {
        self.to_mid_interval()?;
        let (from, before) = (Timestamp::now(), self.meter.of(&self.child)?);
        pause(length.saturating_sub(self.interval / 4))?;
        self.to_mid_interval()?;
        let (to, after) = (Timestamp::now(), self.meter.of(&self.child)?);
        self.check_alive()?;
        Ok(Window { from, to, cpu: after.saturating_sub(before) })
    }

    fn to_mid_interval(&self) -> Result<()> {
        let Some(last) = self.ticks()?.pop() else { return Ok(()) };
        let interval = self.interval.as_secs_f64();
        let phase = Timestamp::now().duration_since(last.time).as_secs_f64().rem_euclid(interval) / interval;
        pause(Duration::from_secs_f64((1.5 - phase).rem_euclid(1.0) * interval))
    }

    /// A stretch of `length` without a tick in it, and who woke up all the same.
    pub(crate) fn quiet(&mut self, length: Duration) -> Result<Quiet> {
        for _ in 0..4 {
            let (from, before, used) = (Timestamp::now(), self.switches()?, self.meter.of(&self.child)?);
            pause(length)?;
            let (after, cpu) = (self.switches()?, self.meter.of(&self.child)?.saturating_sub(used));
            let window = Window { from, to: Timestamp::now(), cpu };
            self.check_alive()?;
            pause(Duration::from_millis(500))?;
            if window.ticks(&self.ticks()?).is_empty() {
                let mut wakeups = BTreeMap::new();
                for (task, (name, count)) in after {
                    // A thread that was not there before counts from zero.
                    let woken = count - before.get(&task).map_or(0, |(_, count)| *count).min(count);
                    if woken > 0 {
                        *wakeups.entry(name).or_default() += woken;
                    }
                }
                return Ok(Quiet { seconds: window.to.duration_since(from).as_secs_f64(), cpu, wakeups });
            }
        }
        bail!("no {length:?} without a tick at an interval of {:?}", self.interval)
    }

    fn switches(&self) -> Result<BTreeMap<String, (String, u64)>> {
        let mut switches = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?;
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let count = status_field(&status, "voluntary_ctxt_switches")?.parse()?;
            let name = status_field(&status, "Name")?.to_owned();
            switches.insert(task.file_name().to_string_lossy().into_owned(), (name, count));
        }
        Ok(switches)
    }

    /// Resident memory now, and its peak, in MB.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let megabytes = |name| -> Result<f64> {
            let kib = status_field(&status, name)?.trim_end_matches(" kB").parse::<f64>()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok((megabytes("VmRSS")?, megabytes("VmHWM")?))
    }

    /// System calls over some ticks. Slows psmond down: never within a window whose CPU counts.
    pub(crate) fn system_calls(&mut self, length: Duration) -> Result<Calls> {
        let out = self.dir.path().join("strace");
        self.to_mid_interval()?;
        let mut strace = Command::new("strace")
            .args(["-c", "-f", "-qq", "-o"])
            .arg(&out)
            .args(["-p", &self.child.id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace")?;
        let from = Timestamp::now();
        let waited = pause(length.saturating_sub(self.interval / 4)).and_then(|()| self.to_mid_interval());
        let to = Timestamp::now();
        // Interrupted, it lets go of psmond and writes its summary; killed, it would take psmond along or say nothing.
        let ended_early = strace.try_wait()?;
        if ended_early.is_none() {
            kill_process(Pid::from_child(&strace), Signal::INT)?;
            strace.wait()?;
        }
        waited?;
        ensure!(ended_early.is_none(), "strace could not attach");
        let text = fs::read_to_string(&out)?;
        let mut by_name: Vec<(String, u64)> = text.lines().filter_map(summary_line).collect();
        by_name.sort_by_key(|call| std::cmp::Reverse(call.1));
        let calls = Calls { window: Window { from, to, cpu: Duration::ZERO }, by_name };
        ensure!(calls.total() > 0, "strace saw nothing");
        Ok(calls)
    }

    /// Stops it as systemd would and returns all its samples, flushed by then.
    pub(crate) fn stop(mut self) -> Result<Vec<Tick>> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "psmond did not stop on SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
            stopped()?;
        }
        self.ticks()
    }

    fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("psmond ended: {status}\n{}", self.complaints());
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let text = read("stderr") + &read("log/psmond.log");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Psmond<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `NAME:\tVALUE` in a /proc/PID/status.
fn status_field<'t>(status: &'t str, name: &str) -> Result<&'t str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name} in status"))?.trim())
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall` of strace -c; its rulers, heading and total are none.
fn summary_line(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = words.last().filter(|name| **name != "total")?;
    words.first()?.parse::<f64>().ok()?;
    Some(((*name).to_owned(), words.get(3)?.parse().ok()?))
}
