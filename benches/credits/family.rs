//! Lives under way: programs of names that nobody else has, and what their processes tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;

use crate::lives::Life;
use crate::stopped;

/// A copy of the benchmark under a name that no other program on this machine has: the name of a process is cut at 15.
pub(crate) fn program(work: &Path, tag: &str) -> Result<PathBuf> {
    let path = work.join(format!("{tag}-{}", std::process::id()));
    ensure!(name(&path).len() <= 15, "{} is too long a name", path.display());
    if !path.exists() {
        fs::copy(std::env::current_exe()?, &path).context("a copy of the benchmark")?;
    }
    Ok(path)
}

pub(crate) fn name(program: &Path) -> String {
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A stretch of CPU that a process told of.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) pid: u32,
    pub(crate) program: String,
    pub(crate) user: u32,
    pub(crate) cpu: Duration,
    /// When it lived, where it is a child that was waited for.
    pub(crate) lived: Option<(Timestamp, Timestamp)>,
}

/// A life and all that come of it. Dropping it ends what is left of the first process, and lets the others end.
#[derive(Debug)]
pub(crate) struct Family {
    program: String,
    child: Child,
    lines: Receiver<String>,
    gate: Option<PipeWriter>,
    told: Vec<Spent>,
}

impl Family {
    pub(crate) fn start(program: &Path, life: &Life) -> Result<Self> {
        let (input, gate) = std::io::pipe()?;
        let (output, told) = std::io::pipe()?;
        let child = Command::new(program).args(life.args()).stdin(input).stdout(told).spawn();
        let child = child.with_context(|| program.display().to_string())?;
        let (sender, lines) = channel();
        std::thread::Builder::new().name("family".to_owned()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        })?;
        Ok(Family { program: name(program), child, lines, gate: Some(gate), told: Vec::new() })
    }

    /// Waits, but not longer than this, until it is ready.
    pub(crate) fn wait_until_ready(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while let Some(line) = self.next(end)? {
            if line == "ready" {
                return Ok(());
            }
        }
        bail!("{} ended before it was ready", self.program)
    }

    /// What it waited for has come.
    pub(crate) fn open_gate(&mut self) {
        self.gate = None;
    }

    /// Waits, but not longer than this, until the last process of the family has ended; what they told.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Vec<Spent>> {
        self.open_gate();
        let end = Instant::now() + limit;
        while self.next(end)?.is_some() {}
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended: {status}", self.program);
        ensure!(!self.told.is_empty(), "{} told nothing", self.program);
        Ok(std::mem::take(&mut self.told))
    }

    /// The next line; none when every process that could write one has ended.
    fn next(&mut self, end: Instant) -> Result<Option<String>> {
        loop {
            stopped()?;
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    self.read(&line)?;
                    return Ok(Some(line));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => ensure!(Instant::now() < end, "{} did not end in time", self.program),
            }
        }
    }

    fn read(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let spent = match words[..] {
            ["ready"] => return Ok(()),
            ["spent", pid, program, user, ns] => Spent {
                pid: pid.parse()?,
                program: program.to_owned(),
                user: user.parse()?,
                cpu: Duration::from_nanos(ns.parse()?),
                lived: None,
            },
            ["waited", pid, ns, from, to] => Spent {
                pid: pid.parse()?,
                program: self.program.clone(),
                user: 0,
                cpu: Duration::from_nanos(ns.parse()?),
                lived: Some((from.parse()?, to.parse()?)),
            },
            _ => bail!("{} said {line:?}", self.program),
        };
        self.told.push(spent);
        Ok(())
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds by program and user.
pub(crate) fn by_program_and_user(spent: &[Spent]) -> BTreeMap<(String, u32), f64> {
    let mut sums = BTreeMap::new();
    for one in spent {
        *sums.entry((one.program.clone(), one.user)).or_insert(0.0) += one.cpu.as_secs_f64();
    }
    sums
}

pub(crate) fn seconds<'a>(spent: impl IntoIterator<Item = &'a Spent>) -> f64 {
    spent.into_iter().map(|one| one.cpu.as_secs_f64()).sum()
}

pub(crate) fn pids(spent: &[Spent]) -> BTreeSet<u32> {
    spent.iter().map(|one| one.pid).collect()
}
