//! Stream `pss`, from its ticks to its samples: a tick plans, the readers read over a window, and the sample is made when all have
//! answered.

use std::time::Instant;

use super::beat::{Beat, Begun, Cadence, Made};
use super::facts::Wants;
use super::pass::Pass;
use super::readers::Request;
use super::samplers::pss::{self, PssSampler, Selection, Spent};
use super::touched::Touched;
use super::world::World;
use crate::source::clock;

/// The state of the stream.
#[derive(Debug, Default)]
pub struct Weighing {
    /// Its ticks.
    pub beat: Beat,
    sampler: Option<PssSampler>,
    /// Whose row may have changed since the sample before.
    touched: Touched,
    /// Who was touched between the plan before and its sample: the next plan considers them.
    since_plan: Vec<u32>,
    under_way: Option<UnderWay>,
}

/// A tick whose readings are being made.
#[derive(Debug)]
struct UnderWay {
    begun: Begun,
    pass: Pass,
    spent: Spent,
    /// Who was touched until its plan.
    touched: Vec<u32>,
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
                (self.touched, self.since_plan) = (Touched::default(), Vec::new());
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
            self.touched.add(pids);
        }
    }

    /// Plans the readings of a tick. What was under way must have been finished before.
    pub fn begin(&mut self, world: &mut World, begun: Begun) {
        let (Some(sampler), Some(cadence)) = (&mut self.sampler, self.beat.cadence()) else { return };
        let touched = self.touched.take();
        self.since_plan.extend_from_slice(&touched);
        let chosen = sampler.plan(world, std::mem::take(&mut self.since_plan), begun.full);
        let pass = Pass::new(chosen, cadence.interval, Instant::now());
        self.under_way = Some(UnderWay { begun, pass, spent: Spent::default(), touched });
    }

    /// When there is something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|under_way| under_way.pass.next_due().unwrap_or_else(|| under_way.pass.ends()))
    }

    /// Asks for the readings that are due, takes those that came, and makes the sample when there is nothing left to wait for.
    pub fn advance(&mut self, world: &mut World, now: Instant) -> Option<Made> {
        let under_way = self.under_way.as_mut()?;
        let mut requests = Vec::new();
        for pid in under_way.pass.take(now) {
            let Some(process) = world.table.get_mut(pid) else { continue };
            process.asked |= Wants::MEMORY;
            if let Some(footprint) = &mut process.footprint {
                footprint.asked_ns = clock::monotonic_ns();
            }
            requests.push(Request::Process { pid, start: None, wants: Wants::MEMORY });
        }
        if !requests.is_empty() {
            world.readers.ask(requests);
        }
        let came = self.sampler.as_mut().is_some_and(|sampler| sampler.take(world, &mut under_way.spent));
        // Of whoever ended meanwhile nothing comes.
        if came || !world.readers.is_weighing() {
            let waits = |pid: &u32| world.table.get(*pid).is_some_and(|process| process.asked.has(Wants::MEMORY));
            under_way.pass.asked.retain(waits);
        }
        let done = under_way.pass.is_handed_out() && under_way.pass.asked.is_empty();
        if done || now >= under_way.pass.ends() { self.finish(world) } else { None }
    }

    /// Makes the sample of the tick that is under way from what is known now.
    pub fn finish(&mut self, world: &mut World) -> Option<Made> {
        let UnderWay { begun, mut spent, mut touched, .. } = self.under_way.take()?;
        let sampler = self.sampler.as_mut()?;
        sampler.take(world, &mut spent);
        world.weighed = true;
        self.since_plan = self.touched.take();
        touched.extend_from_slice(&self.since_plan);
        touched.sort_unstable();
        touched.dedup();
        let (rows, totals) = sampler.rows(world, &touched, begun.full, &spent);
        Some(Made { begun, rows, totals, columns: sampler.columns().clone() })
    }
}
