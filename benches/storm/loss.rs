//! A receive buffer that is too small: what is lost is counted, to the last event.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::listener::{Heard, Listener, now_ns};
use crate::psmond::{Psmond, Setup, Way};
use crate::table::{NONE, Table, Target};
use crate::worker::Kind;
use crate::{Bench, pause, say};

/// All events are counted, rows hardly matter.
const STREAMS: &str = "[events]\nenabled = true\nkinds = [\"core\"]\n[exits]\nenabled = true\n";

/// What a moment of quiet before the end leaves time for: psmond has received what the kernel said before it.
const RECEIVED_BY: Duration = Duration::from_millis(300);

impl Bench {
    pub(crate) fn loss(&self, table: &mut Table) -> Result<()> {
        say("loss: a receive buffer of 64 KiB");
        let listener = Listener::start(false)?;
        // What the kernel itself counts, and when, around each step.
        let (before_start, started) = (births()?, now_ns());
        let environment = Some(("PSMON_EVENTS_BUFFER", "64K"));
        let mut psmond = Psmond::start(Setup { exe: &self.exe, streams: STREAMS, way: Way::Plain, environment }, &self.meter)?;
        let (after_start, ready) = (births()?, now_ns());
        let kinds = [Kind::Vfork(self.length() / 2), Kind::Vfork(self.length() / 2)];
        let storm = self.storm(&kinds, None)?;
        psmond.settle()?;
        // A loss at the tail shows only at the next event of its CPU.
        let touched = self.storm(&[Kind::Touch], None)?;
        pause(RECEIVED_BY * 2)?;
        let (before_stop, stopping) = (births()?, now_ns());
        let logs = psmond.stop()?;
        let (after_stop, stopped) = (births()?, now_ns());
        let heard = listener.stop()?;

        let tick = logs.read("events", |_| {})?;
        let lost = tick.get("lost")?;
        let children = storm.children() + touched.children();
        table.add("loss: events lost", lost as f64).target(Target::AtLeast(1.0)).note(format!(
            "{} children, {:.0} a second; else nothing is proven",
            storm.children(),
            storm.a_second()
        ));

        // Others on this machine have children too: how many, /proc/stat says, read at moments that enclose psmond's.
        let by_others = |total: u64| total.saturating_sub(children) as f64;
        let (least, most) = (by_others(before_stop - after_start), by_others(after_stop - before_start));
        let told = tick.get("births_kernel")? as f64 - children as f64;
        table
            .add("loss: births_kernel - children made here", told)
            .target(Target::Within(least, most))
            .note(format!("{children} children; the target is what /proc/stat says that others made"));
        let seen = tick.get("births")?;
        table.add("loss: births received, share of births_kernel", seen as f64 / tick.get("births_kernel")? as f64);

        let name = "loss: events lost and not counted";
        match window(&heard, started, ready, stopping, stopped) {
            Ok((least, most)) => {
                let events = tick.get("events")?;
                let told = events + lost;
                // Negative: counted more than there were.
                let off = if told < least { least as f64 - told as f64 } else { most.min(told) as f64 - told as f64 };
                table
                    .add(name, off)
                    .target(NONE)
                    .note(format!("{events} received + {lost} lost; the second listener heard {least} to {most}"));
            }
            Err(error) => {
                table.add(name, None).target(NONE).note(format!("{error:#}"));
            }
        }
        table.add("loss: resyncs", tick.get("resync")? as f64);
        Ok(())
    }
}

/// How many events psmond was told, at least and at most: it listened from some acknowledgement before it was ready on,
/// and until some moment between the signal and its end.
fn window(heard: &Heard, started: u64, ready: u64, stopping: u64, stopped: u64) -> Result<(u64, u64)> {
    ensure!(heard.lost == 0, "the second listener lost {} events itself", heard.lost);
    let acknowledged: Vec<u64> = heard.others.iter().copied().filter(|time| (started..=ready).contains(time)).collect();
    let from = acknowledged.first().context("no acknowledgement of psmond was heard")?;
    let surely_from = acknowledged.last().unwrap_or(from);
    let surely_until = stopping - RECEIVED_BY.as_nanos() as u64;
    let count = |from: u64, until: u64| heard.times.iter().filter(|time| (from..=until).contains(*time)).count() as u64;
    Ok((count(surely_from + 1, surely_until), count(*from, stopped)))
}

/// Forks and clones since boot: `processes` of /proc/stat.
fn births() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("processes ")).context("no processes in /proc/stat")?;
    Ok(line.trim().parse()?)
}
