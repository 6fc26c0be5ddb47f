//! Stream `pss`, from its ticks to its samples: a tick plans, the readers read over a window, and the sample is made when all have
//! answered.

use std::sync::Arc;
use std::time::Instant;

use super::beat::{Beat, Cadence};
use super::facts::Wants;
use super::pass::Pass;
use super::readers::Request;
use super::samplers::ps::Rows;
use super::samplers::pss::{self, PssSampler, Selection, Spent};
use super::schedule::Tick;
use super::world::World;
use crate::record::ledger::{Facts, Note};
use crate::record::moment::Moment;
use crate::record::schema::Columns;

/// Pids beyond which those that stand there twice are taken out.
const MANY: usize = 1 << 16;

/// The state of the stream.
#[derive(Debug, Default)]
pub struct Weighing {
    /// Its ticks.
    pub beat: Beat,
    sampler: Option<PssSampler>,
    /// Whose row may have changed since the sample before.
    touched: Vec<u32>,
    under_way: Option<UnderWay>,
}

/// A tick whose readings are being made.
#[derive(Debug)]
struct UnderWay {
    asked: Asked,
    pass: Pass,
    spent: Spent,
}

/// A tick as it began.
#[derive(Debug)]
pub struct Asked {
    /// When it was due.
    pub due: Moment,
    /// The tick.
    pub tick: Tick,
    /// Every row is to be in its sample.
    pub full: bool,
    /// Everyone was looked at.
    pub everyone: bool,
    /// Notes that go with it.
    pub notes: Vec<Note>,
    /// What the header must say: as it was then.
    pub facts: Arc<Facts>,
    /// CLOCK_BOOTTIME then, milliseconds.
    pub boottime_ms: u64,
}

/// A tick that came to its end.
#[derive(Debug)]
pub struct Weighed {
    /// As it began.
    pub asked: Asked,
    /// What is to be written.
    pub rows: Rows,
    /// What its tick says besides.
    pub totals: Vec<(&'static str, String)>,
    /// The columns of the rows.
    pub columns: Columns,
}

impl Weighing {
    /// Takes other orders. What is under way must have been finished before.
    pub fn select(&mut self, world: &mut World, orders: Option<&(Cadence, Selection)>) {
        self.beat.set(orders.map(|(cadence, _)| *cadence));
        match (&mut self.sampler, orders) {
            (Some(sampler), Some((_, selection))) => sampler.select(selection.clone()),
            (sampler, Some((_, selection))) => *sampler = Some(PssSampler::new(selection.clone())),
            (sampler, None) => {
                *sampler = None;
                self.touched.clear();
                pss::forget(world);
            }
        }
        world.weighs = self.sampler.is_some();
    }

    /// What its columns need to be read of every process.
    #[must_use]
    pub fn needs(&self) -> Wants {
        self.sampler.as_ref().map_or(Wants::NONE, PssSampler::needs)
    }

    /// The rows of these may have changed.
    pub fn touch(&mut self, pids: &[u32]) {
        if self.sampler.is_some() {
            self.touched.extend_from_slice(pids);
            // With a long interval, and other streams that look often.
            if self.touched.len() > MANY {
                self.touched.sort_unstable();
                self.touched.dedup();
            }
        }
    }

    /// Plans the readings of a tick. What was under way must have been finished before.
    pub fn begin(&mut self, world: &mut World, asked: Asked) {
        let (Some(sampler), Some(cadence)) = (&mut self.sampler, self.beat.cadence()) else { return };
        let chosen = sampler.plan(world);
        self.under_way = Some(UnderWay { asked, pass: Pass::new(chosen, cadence.interval, Instant::now()), spent: Spent::default() });
    }

    /// When there is something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|under_way| under_way.pass.next_due().unwrap_or_else(|| under_way.pass.ends()))
    }

    /// Asks for the readings that are due, takes those that came, and makes the sample when there is nothing left to wait for.
    pub fn advance(&mut self, world: &mut World, now: Instant) -> Option<Weighed> {
        let under_way = self.under_way.as_mut()?;
        let mut requests = Vec::new();
        for pid in under_way.pass.take(now) {
            let Some(process) = world.table.get_mut(pid) else { continue };
            process.asked |= Wants::MEMORY;
            requests.push(Request::Process { pid, start: None, wants: Wants::MEMORY });
        }
        if !requests.is_empty() {
            world.readers.ask(requests);
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.take(world, &mut under_way.spent);
        }
        let waits = |pid: &u32| world.table.get(*pid).is_some_and(|process| process.asked.has(Wants::MEMORY));
        under_way.pass.asked.retain(waits);
        let done = under_way.pass.is_handed_out() && under_way.pass.asked.is_empty();
        if done || now >= under_way.pass.ends() { self.finish(world) } else { None }
    }

    /// Makes the sample of the tick that is under way from what is known now.
    pub fn finish(&mut self, world: &mut World) -> Option<Weighed> {
        let UnderWay { asked, mut spent, .. } = self.under_way.take()?;
        let sampler = self.sampler.as_mut()?;
        sampler.take(world, &mut spent);
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let (rows, totals) = sampler.rows(world, &touched, asked.full, &spent);
        Some(Weighed { asked, rows, totals, columns: sampler.columns().clone() })
    }
}
