//! What psmond wrote, read just far enough to count it: the `#tick` lines and the bytes before each.
//!
//! Deliberately not the reader of the library: a benchmark that counts with the measured program's own code would share
//! its mistakes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;

/// One sample, as its `#tick` tells it.
#[derive(Clone, Debug)]
pub(crate) struct Tick {
    pub(crate) time: Timestamp,
    pub(crate) seq: u64,
    pub(crate) full: bool,
    /// Rows written, and processes considered.
    pub(crate) n: u64,
    pub(crate) seen: u64,
    pub(crate) late_ms: u64,
    pub(crate) read_us: u64,
    /// Everything since the tick before, this tick's own line included.
    pub(crate) bytes: u64,
}

/// The ticks of a stream in a log directory, over segments, in order.
pub(crate) fn ticks(log_dir: &Path, stream: &str) -> Result<Vec<Tick>> {
    let mut ticks = Vec::new();
    for entry in fs::read_dir(log_dir).with_context(|| log_dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(stream).and_then(|rest| rest.strip_suffix(".log"));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            // Read while psmond writes: the last line may be half, and is then no tick yet.
            parse(&fs::read(&path)?, &mut ticks).with_context(|| path.display().to_string())?;
        }
    }
    ticks.sort_by_key(|tick| tick.seq);
    Ok(ticks)
}

fn parse(text: &[u8], ticks: &mut Vec<Tick>) -> Result<()> {
    let mut bytes = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        bytes += line.len() as u64;
        if let Some(rest) = line.strip_prefix(b"#tick ").filter(|rest| rest.ends_with(b"\n")) {
            let line = std::str::from_utf8(rest).context("a tick that is not UTF-8")?;
            ticks.push(tick(line, bytes).with_context(|| format!("#tick {line}"))?);
            bytes = 0;
        }
    }
    Ok(())
}

fn tick(line: &str, bytes: u64) -> Result<Tick> {
    let mut words = line.split_whitespace();
    let time = words.next().context("no time")?.parse()?;
    let fields: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
    let field = |name: &str| -> Result<u64> {
        let (_, value) = fields.iter().find(|(key, _)| *key == name).with_context(|| format!("no {name}="))?;
        value.parse().with_context(|| format!("{name}={value}"))
    };
    Ok(Tick {
        time,
        seq: field("seq")?,
        full: field("full")? != 0,
        n: field("n")?,
        seen: field("seen")?,
        late_ms: field("late_ms")?,
        read_us: field("read_us")?,
        bytes,
    })
}

/// Samples that should be there and are not: gaps in `seq`, and intervals without a tick.
pub(crate) fn lost(ticks: &[Tick], interval_s: f64) -> u64 {
    let between = |pair: &[Tick]| {
        let by_seq = pair[1].seq.saturating_sub(pair[0].seq).saturating_sub(1);
        let apart = pair[1].time.duration_since(pair[0].time).as_secs_f64() / interval_s;
        by_seq.max((apart.round() - 1.0).max(0.0) as u64)
    };
    ticks.windows(2).map(between).sum()
}

/// The middle value; zero of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
