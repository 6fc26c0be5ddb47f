//! The truth, by reading everything: what psmond's sums are held against, and its cost with them.
//!
//! Deliberately not the reader of the library: a benchmark that measures with the measured program's own code would share its
//! mistakes.

use std::fs::{self, File};
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Of each process on the machine, at about the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Everything {
    /// Sum of the proportional set sizes, in bytes.
    pub(crate) pss: u64,
    /// Those that have memory, and let us know.
    pub(crate) processes: u64,
    /// Of the readings. That of listing /proc is not in it: who has the events need not list.
    pub(crate) cpu: Duration,
}

pub(crate) fn everything() -> Result<Everything> {
    let pids = pids()?;
    let mut everything = Everything::default();
    let begin = clock_gettime(ClockId::ThreadCPUTime);
    for pid in pids {
        if let Some(pss) = pss(pid) {
            everything.pss += pss;
            everything.processes += 1;
        }
    }
    everything.cpu = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime) - begin).unwrap_or_default();
    Ok(everything)
}

/// Of each that has memory.
pub(crate) fn pids_with_memory() -> Result<Vec<u32>> {
    Ok(pids()?.into_iter().filter(|pid| pss(*pid).is_some()).collect())
}

/// What it costs to open, read and close the `smaps_rollup` of these, and nothing else; and how many there were.
pub(crate) fn read_only(pids: &[u32]) -> (Duration, usize) {
    let mut buffer = [0; 4096];
    let begin = clock_gettime(ClockId::ThreadCPUTime);
    let there = pids.iter().filter(|pid| read(**pid, &mut buffer).is_some()).count();
    (Duration::try_from(clock_gettime(ClockId::ThreadCPUTime) - begin).unwrap_or_default(), there)
}

/// Proportional set size of a process in bytes; none where it has no memory or is gone.
pub(crate) fn pss(pid: u32) -> Option<u64> {
    let mut buffer = [0; 4096];
    let text = read(pid, &mut buffer)?;
    let at = memchr::memmem::find(text, b"\nPss:")? + 5;
    let line = text[at..].split(|byte| *byte == b'\n').next()?;
    let kib: u64 = std::str::from_utf8(line).ok()?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The kernel makes the whole file at the first read.
fn read(pid: u32, buffer: &mut [u8]) -> Option<&[u8]> {
    let length = File::open(format!("/proc/{pid}/smaps_rollup")).ok()?.read(buffer).ok()?;
    Some(&buffer[..length]).filter(|text| !text.is_empty())
}

fn pids() -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}
