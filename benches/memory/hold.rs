//! What readings do to the one that is read: a process that maps and unmaps beside 500 MiB that are there to be walked.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::latency::Latencies;
use crate::table::{Table, Target};
use crate::targets::{Timed, available};
use crate::truth::pss;
use crate::watch::{self, MAX_READ, PSS};
use crate::{Bench, pause, say, stopped};

const BESIDE: usize = 500 << 20;

/// Refused with less than this.
const NEEDED: u64 = 1200 << 20;

/// Without psmond and with it in turn, so often.
const ROUNDS: u32 = 2;

const BACK_TO_BACK: Duration = Duration::from_secs(5);

/// What psmond says of the readings in the phases with it.
#[derive(Debug, Default)]
struct Readings {
    /// Of the target.
    read: u64,
    kept: u64,
    cooling: u64,
    /// Of whatever process, in milliseconds.
    longest_ms: f64,
}

impl Bench {
    pub(crate) fn hold(&self, table: &mut Table) -> Result<()> {
        let available = available()?;
        ensure!(available >= NEEDED, "it takes {} MiB, {} are left", NEEDED >> 20, available >> 20);
        let phase = Duration::from_secs(self.seconds) / ROUNDS;
        let mut target = Timed::start(BESIDE)?;
        let (mut without, mut with, mut readings) = (Latencies::default(), Latencies::default(), Readings::default());
        for round in 1..=ROUNDS {
            say(&format!("hold: {} s without psmond and with it, {round} of {ROUNDS}", phase.as_secs()));
            without.merge(&target.during(|| pause(phase))?.0);
            // Each process in each sample has its row: what became of the target is said each time.
            let mut psmond = self.psmond(&format!("{PSS}changes = false\n"))?;
            let (window, (latencies, ())) = psmond.window(|| target.during(|| pause(phase)))?;
            with.merge(&latencies);
            let logs = psmond.stop()?;
            let ticks = window.ticks(&watch::ticks(&logs.0.path().join("log"))?);
            // A `-` is none: a tick that read nothing has no longest.
            let longest = ticks.iter().filter_map(|tick| tick.get("longest_us").ok());
            readings.longest_ms = longest.fold(readings.longest_ms, |most, us| most.max(us / 1e3));
            logs.read("pss", |row| {
                let in_window = || row.get("time")?.parse().ok().map(|time| ticks.iter().any(|tick| tick.time == time));
                if row.pid("pid") == Some(target.pid()) && in_window() == Some(true) {
                    match row.get("reading") {
                        Some("read") => readings.read += 1,
                        Some("kept") => readings.kept += 1,
                        Some("cooling") => readings.cooling += 1,
                        _ => {}
                    }
                }
            })?;
        }
        say(&format!("hold: smaps_rollup back to back, {} s", BACK_TO_BACK.as_secs()));
        let pid = target.pid();
        let (flooded, (times, walked)) = target.during(|| read_back_to_back(pid))?;

        let ratio = |of: &Latencies, share| of.of_thousand(share).zip(without.of_thousand(share)).map(|(of, without)| of / without);
        let us = |of: &Latencies, share| of.of_thousand(share).unwrap_or_default();
        let more = |of: &Latencies| (of.held() - without.held()).max(0.0) * 100.0;
        let ms = |length: Duration| length.as_secs_f64() * 1e3;
        table.add("hold: p99.9 of map, touch and unmap, times that without", ratio(&with, 999)).target(Target::AtMost(1.5)).note(format!(
            "{:.1} us, without psmond {:.1}; the median {:.1} and {:.1}, of {} and {}",
            us(&with, 999),
            us(&without, 999),
            us(&with, 500),
            us(&without, 500),
            with.count(),
            without.count()
        ));
        table.add("hold:   smaps_rollup back to back", ratio(&flooded, 999)).note(format!(
            "{:.1} us; {times} readings, each {:.2} ms",
            us(&flooded, 999),
            ms(walked)
        ));
        table.add("hold: held up, % of the time", more(&with)).target(Target::AtMost(0.5)).note(format!(
            "above 1 ms: {:.3} %, without psmond {:.3}; the target was read {} times, kept {}, cooling {}",
            with.held() * 100.0,
            without.held() * 100.0,
            readings.read,
            readings.kept,
            readings.cooling
        ));
        table.add("hold:   smaps_rollup back to back", more(&flooded));
        table.add("hold: the longest, ms", ms(with.longest_hold)).target(Target::AtMost(1.5 * ms(MAX_READ))).note(format!(
            "without psmond {:.1}; with the wait for a CPU {:.1} and {:.1}; psmond's longest reading of any process {:.1}",
            ms(without.longest_hold),
            ms(with.longest),
            ms(without.longest),
            readings.longest_ms
        ));
        table.add("hold:   smaps_rollup back to back", ms(flooded.longest_hold));
        Ok(())
    }
}

/// How often, and how long each took.
fn read_back_to_back(pid: u32) -> Result<(u32, Duration)> {
    let (begin, mut times) = (Instant::now(), 0);
    while begin.elapsed() < BACK_TO_BACK {
        stopped()?;
        ensure!(pss(pid).is_some(), "the timed target is not to be read");
        times += 1;
    }
    Ok((times, begin.elapsed() / times))
}
