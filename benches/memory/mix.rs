//! Processes whose memory changes in every way that matters, and the sum over the machine beside the truth.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::table::{NONE, Table, Target};
use crate::targets::{Crowd, Life, available, make_file};
use crate::truth::{Everything, everything};
use crate::watch::{self, PSS, field};
use crate::{Bench, after_the_second, mean, median, say};

const MIB: usize = 1 << 20;

/// The most that the whole mix ever has.
const NEEDED: u64 = 1300 << 20;

/// So long after a full second the truth is read: a sample is of its tick, and a moment later the mix itself has moved on.
const AFTER: Duration = Duration::from_millis(10);

/// How far the machine moves by itself is told over this.
const APART: Duration = Duration::from_millis(100);

/// psmond reads facts of a process again 1 s and 10 s after its birth.
const GROWN_UP: Duration = Duration::from_secs(12);

/// A sample of the truth, by the second it belongs to.
#[derive(Clone, Copy, Debug)]
struct Truth {
    due: Timestamp,
    everything: Everything,
}

fn truth() -> Result<Truth> {
    Ok(Truth { due: after_the_second(AFTER)?, everything: everything()? })
}

impl Bench {
    pub(crate) fn mix(&self, table: &mut Table) -> Result<()> {
        let percent = scale()?;
        say(&format!("mix: starting it, at {percent} % of its size"));
        let born = Instant::now();
        let mut crowd = Crowd::start(&self.lives(percent)?)?;
        let mut alone = Alone::default();
        alone.read()?;
        sleep(GROWN_UP.saturating_sub(born.elapsed()));
        say(&format!("mix: psmond, {} samples", self.seconds));
        let mut psmond = self.psmond(PSS)?;
        psmond.wait_for_first_pass()?;
        let (window, truths) = psmond.window(|| (0..self.seconds).map(|_| truth()).collect::<Result<Vec<Truth>>>())?;
        let logs = psmond.stop()?;
        alone.read()?;
        crowd.check_intact()?;
        drop(crowd);

        let ticks = window.ticks(&watch::ticks(&logs.0.path().join("log"))?);
        let (mut off, mut found) = (Vec::new(), Vec::new());
        for Truth { due, everything } in &truths {
            if let Some(tick) = ticks.iter().find(|tick| tick.time == *due) {
                off.push((tick.get("pss")? / everything.pss as f64 - 1.0) * 100.0);
                found.push(tick.clone());
            }
        }
        let absolute: Vec<f64> = off.iter().map(|off| off.abs()).collect();
        let each = |of: &dyn Fn(&Everything) -> f64| mean(&truths.iter().map(|truth| of(&truth.everything)).collect::<Vec<_>>());
        let (pss, processes) = (each(&|all| all.pss as f64).context("no truth")?, each(&|all| all.processes as f64).context("no truth")?);
        let all_ms = each(&|all| all.cpu.as_secs_f64() * 1e3).context("no truth")?;
        ensure!(!found.is_empty(), "none of the {} samples of psmond is of a second whose truth was read", ticks.len());
        let own_ms = window.cpu.as_secs_f64() * 1e3 / ticks.len() as f64;
        table.add("mix: off the truth, % (mean)", mean(&absolute)).target(Target::AtMost(1.0)).note(format!(
            "{} samples of {:.0} MiB in {processes:.0} processes; median {:.2}, mean with its sign {:+.2}",
            off.len(),
            pss / MIB as f64,
            median(absolute.clone()).unwrap_or_default(),
            mean(&off).unwrap_or_default()
        ));
        table.add("mix:   at most, %", absolute.iter().copied().reduce(f64::max));
        table.add(format!("mix:   the machine moves by itself in {} ms, %", APART.as_millis()), mean(&alone.moved));
        table.add("mix: share of the cost of reading everything", own_ms / all_ms).target(Target::AtMost(0.4)).note(format!(
            "psmond {own_ms:.2} ms of CPU a sample, {:.2} of it for its readings; everything {all_ms:.2}, without psmond {:.2}",
            mean(&field(&ticks, "spent_us")?).unwrap_or_default() / 1e3,
            mean(&alone.ms).unwrap_or_default()
        ));
        // A `-` is none: a tick that read nothing has no longest.
        let largest = |name, unit| {
            let most = ticks.iter().filter_map(|tick| tick.get(name).ok()).reduce(f64::max);
            most.map_or("-".to_owned(), |most| format!("{:.1}", most / unit))
        };
        let (read, procs) = (mean(&field(&ticks, "readings")?), mean(&field(&ticks, "procs")?));
        let share = read.zip(procs).map_or(0.0, |(read, procs)| read / procs * 100.0);
        table.add("mix: readings a sample", read).note(format!(
            "{share:.0} % of {:.0} processes; at most {} never read, oldest reading {} s, longest {} ms",
            procs.unwrap_or_default(),
            largest("unread", 1.0),
            largest("oldest_s", 1.0),
            largest("longest_us", 1e3)
        ));
        let lost = truths.len() - found.len();
        table.add("mix: samples lost", lost as f64).target(NONE);
        Ok(())
    }

    fn lives(&self, percent: usize) -> Result<Vec<Life>> {
        const IDLE: usize = 40;
        let part = |mib: usize| (mib * MIB / 100 * percent).next_multiple_of(4096);
        let file = self.work.path().join("mapped");
        make_file(&file, part(64))?;
        let mut lives: Vec<Life> = (0..IDLE).map(|at| Life::Idle(part(2) + (part(18) * at / (IDLE - 1)).next_multiple_of(4096))).collect();
        lives.extend((0..4).map(|at| Life::Growing(part(40 + 8 * at).next_multiple_of(MIB))));
        lives.extend((0..6).map(|_| Life::Mapping(part(8), part(32))));
        lives.extend([Life::Prefork(part(64), 20), Life::Sharing(part(32)), Life::Reading(part(64), file)]);
        Ok(lives)
    }
}

/// Per cent of its size at which the memory left on this machine holds the mix twice over: others live here too.
fn scale() -> Result<usize> {
    let available = available()?;
    let percent = (available / 2 * 100 / NEEDED).min(100);
    ensure!(
        percent >= 25,
        "the mix may need {} MiB even at a quarter of its size, {} are left",
        NEEDED >> 22,
        available >> 20
    );
    Ok(percent as usize)
}

/// The truth without psmond.
#[derive(Debug, Default)]
struct Alone {
    /// Milliseconds of CPU each time.
    ms: Vec<f64>,
    /// Per cent between two truths, [`APART`]: nobody who reads once a second can be nearer than a part of that.
    moved: Vec<f64>,
}

impl Alone {
    fn read(&mut self) -> Result<()> {
        for _ in 0..8 {
            let first = truth()?.everything;
            after_the_second(AFTER + APART)?;
            self.ms.push(first.cpu.as_secs_f64() * 1e3);
            self.moved.push((everything()?.pss as f64 / first.pss as f64 - 1.0).abs() * 100.0);
        }
        Ok(())
    }
}
