//! psmond at work: the ticks of stream `pss` as it writes them, and its CPU over some of them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::psmond::Psmond;
use crate::{after_the_second, pause};

/// The stream as the targets mean it: a sample a second, the rest at its defaults, but said.
pub(crate) const PSS: &str = "[pss]\nenabled = true\ninterval = \"1s\"\nbudget_ms = 50\nmax_read_ms = 20\nmax_age = \"5m\"\n";
pub(crate) const MAX_READ: Duration = Duration::from_millis(20);

/// So long after a full second psmond has written its sample, and so has not begun the next: no window that begins and ends
/// here cuts one.
const BETWEEN: Duration = Duration::from_millis(700);

/// How long it may take until there is a sample at all.
const FIRST_SAMPLE: Duration = Duration::from_secs(10);

/// How long the first pass over all processes may take.
const FIRST_PASS: Duration = Duration::from_secs(60);

/// One sample, as its `#tick` tells it: what is a number in it.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    pub(crate) time: Timestamp,
    fields: HashMap<String, f64>,
}

impl Tick {
    pub(crate) fn get(&self, field: &str) -> Result<f64> {
        self.fields.get(field).copied().with_context(|| format!("the #tick of stream pss has no {field}="))
    }
}

/// The ticks of stream `pss` in a log directory, over segments, in order.
pub(crate) fn ticks(log_dir: &Path) -> Result<Vec<Tick>> {
    let mut ticks = Vec::new();
    for entry in fs::read_dir(log_dir).with_context(|| log_dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name == "pss.log" || name.starts_with("pss-") && name.ends_with(".log")) {
            continue;
        }
        // Read while psmond writes: the last line may be half, and is then no tick yet.
        let bytes = fs::read(&path)?;
        for line in String::from_utf8_lossy(&bytes).split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let Some(text) = line.strip_prefix("#tick ") else { continue };
            let mut words = text.split_whitespace();
            let time = words.next().context("no time")?.parse().with_context(|| line.to_owned())?;
            let number = |word: &str| word.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
            ticks.push(Tick { time, fields: words.filter_map(number).collect() });
        }
    }
    ticks.sort_by_key(|tick| tick.time);
    Ok(ticks)
}

/// The same field of all of them.
pub(crate) fn field(ticks: &[Tick], name: &str) -> Result<Vec<f64>> {
    ticks.iter().map(|tick| tick.get(name)).collect()
}

/// A stretch of time between two samples, and what psmond used in it.
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

impl Psmond<'_> {
    pub(crate) fn ticks(&self) -> Result<Vec<Tick>> {
        ticks(&self.dir.as_ref().context("already stopped")?.path().join("log"))
    }

    /// Waits until a sample says that there is no process left that was never read, and returns how many it took.
    pub(crate) fn wait_for_first_pass(&mut self) -> Result<usize> {
        let begin = Instant::now();
        loop {
            pause(Duration::from_millis(200))?;
            self.check_alive()?;
            let ticks = self.ticks()?;
            let limit = if ticks.is_empty() { FIRST_SAMPLE } else { FIRST_PASS };
            if let Some(at) = field(&ticks, "unread")?.into_iter().position(|unread| unread == 0.0) {
                return Ok(at + 1);
            }
            ensure!(
                begin.elapsed() < limit,
                "psmond wrote {} samples of stream pss in {limit:?}, none of them of all processes\n{}",
                ticks.len(),
                self.complaints()
            );
        }
    }

    /// Its CPU while something is done, which is begun and ended between two samples.
    pub(crate) fn window<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(Window, T)> {
        after_the_second(BETWEEN)?;
        let (from, before) = (Timestamp::now(), self.meter.of(&self.child)?);
        let done = work()?;
        after_the_second(BETWEEN)?;
        let (to, after) = (Timestamp::now(), self.meter.of(&self.child)?);
        self.check_alive()?;
        Ok((Window { from, to, cpu: after.saturating_sub(before) }, done))
    }
}
