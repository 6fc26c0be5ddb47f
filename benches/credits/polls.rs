//! Accounting by polling: `ps` each second, the CPU time last seen of each process, added up by program.

use std::collections::{BTreeSet, HashMap};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

/// Polls until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Poller {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Polls>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    pub(crate) count: u64,
    /// Of each process, by pid, user and program: what it had when it was seen first, and last.
    seen: HashMap<(u32, String, String), (f64, f64)>,
}

impl Poller {
    pub(crate) fn start() -> Result<Self> {
        let mut polls = Polls::default();
        // What was used before is nobody's business; and an error shows here.
        polls.poll()?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("poller".to_owned()).spawn(move || {
            let mut due = Instant::now();
            while !flag.load(Ordering::Relaxed) {
                due += Duration::from_secs(1);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let _ = polls.poll();
            }
            polls
        })?;
        Ok(Poller { stop, thread: Some(thread) })
    }

    pub(crate) fn stop(mut self) -> Result<Polls> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already stopped")?;
        thread.join().map_err(|_| anyhow!("the poller panicked"))
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Polls {
    fn poll(&mut self) -> Result<()> {
        let out = Command::new("ps").args(["-eo", "pcpu,time,pid,euser,comm"]).stdin(Stdio::null()).output().context("ps")?;
        ensure!(out.status.success(), "ps ended: {}", out.status);
        for line in String::from_utf8_lossy(&out.stdout).lines().skip(1) {
            if let Some((seconds, key)) = process(line) {
                let first = if self.count == 0 { seconds } else { 0.0 };
                self.seen.entry(key).and_modify(|seen| seen.1 = seconds).or_insert((first, seconds));
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Seconds of a program.
    pub(crate) fn of(&self, program: &str) -> f64 {
        self.seen.iter().filter(|((_, _, name), _)| name == program).map(|(_, (first, last))| last - first).sum()
    }

    /// How many of its processes were seen at all.
    pub(crate) fn processes(&self, program: &str) -> usize {
        self.seen.keys().filter(|(_, _, name)| name == program).map(|(pid, ..)| *pid).collect::<BTreeSet<u32>>().len()
    }
}

/// `  0.5 00:00:01   4242 root     name`
fn process(line: &str) -> Option<(f64, (u32, String, String))> {
    let mut words = line.split_whitespace().skip(1);
    let seconds = duration(words.next()?)?;
    let (pid, user) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    Some((seconds, (pid, user, words.collect::<Vec<_>>().join(" "))))
}

/// `[DD-]HH:MM:SS`, which is all that `time` of ps says.
fn duration(text: &str) -> Option<f64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let mut seconds = 0.0;
    for part in clock.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(days.parse::<f64>().ok()? * 86400.0 + seconds)
}
