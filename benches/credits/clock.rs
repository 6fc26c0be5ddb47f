//! The clock of the machine, read by the benchmark itself: what all programs together have used, at moments that are known.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;

/// Between two readings.
const PERIOD: Duration = Duration::from_millis(100);

/// At a moment: seconds by the control groups' root, where there is one, and user, nice and system of /proc/stat.
#[derive(Clone, Copy, Debug)]
struct Reading {
    time: Timestamp,
    groups: Option<f64>,
    stat: f64,
}

/// Reads until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Clock {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Reading>>>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Readings(Vec<Reading>);

impl Clock {
    pub(crate) fn start() -> Result<Self> {
        let root = root()?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("clock".to_owned()).spawn(move || {
            let mut readings = Vec::new();
            loop {
                // One more after it was stopped, so that what came before that lies between two readings.
                let last = flag.load(Ordering::Relaxed);
                let time = Timestamp::now();
                if let Ok(stat) = stat() {
                    readings.push(Reading { time, groups: root.as_deref().and_then(usage), stat });
                }
                if last {
                    return readings;
                }
                std::thread::sleep(PERIOD);
            }
        })?;
        Ok(Clock { stop, thread: Some(thread) })
    }

    pub(crate) fn stop(mut self) -> Result<Readings> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already stopped")?;
        Ok(Readings(thread.join().map_err(|_| anyhow!("the clock panicked"))?))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Readings {
    /// Seconds between two moments by the groups' root; none where there is none.
    pub(crate) fn groups(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        Some(self.at(to, |reading| reading.groups)? - self.at(from, |reading| reading.groups)?)
    }

    /// The same by /proc/stat.
    pub(crate) fn stat(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        Some(self.at(to, |reading| Some(reading.stat))? - self.at(from, |reading| Some(reading.stat))?)
    }

    /// Between two readings as much of what was used there as of the time.
    fn at(&self, time: Timestamp, of: impl Fn(&Reading) -> Option<f64>) -> Option<f64> {
        let after = self.0.partition_point(|reading| reading.time < time);
        let (before, after) = (self.0.get(after.checked_sub(1)?)?, self.0.get(after)?);
        let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
        let share = seconds(before.time, time) / seconds(before.time, after.time);
        Some(of(before)? + (of(after)? - of(before)?) * share)
    }
}

/// The file in which the root of the control groups counts, of version 1 before version 2.
fn root() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // proc_pid_mountinfo(5): ID PARENT DEVICE ROOT MOUNT_POINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS
    let point = |wanted: fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let (mut front, mut back) = (front.split(' ').skip(3), back.split(' '));
            let (root, point) = (front.next()?, front.next()?);
            let (kind, options) = (back.next()?, back.nth(1)?);
            (root == "/" && wanted(kind, options)).then(|| PathBuf::from(point))
        })
    };
    let first = point(|kind, options| kind == "cgroup" && options.split(',').any(|name| name == "cpuacct"));
    let second = || point(|kind, _| kind == "cgroup2").map(|point| point.join("cpu.stat"));
    Ok(first.map(|point| point.join("cpuacct.usage")).or_else(second).filter(|file| usage(file).is_some()))
}

fn usage(file: &Path) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    match text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
        Some(us) => Some(us.trim().parse::<f64>().ok()? / 1e6),
        None => Some(text.trim().parse::<f64>().ok()? / 1e9),
    }
}

/// `user`, `nice` and `system` of all CPUs, in seconds: what runs in processes, without interrupts and what was stolen.
fn stat() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).context("no cpu in /proc/stat")?;
    let ticks: u64 = line.split_whitespace().take(3).filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
