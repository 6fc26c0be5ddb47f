//! Where a view gets its records. A view asks a [`Feed`] and cannot tell whether they come from the kernel or
//! from the journal.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::said::Said;
use super::{Failure, open_proc};
use crate::observer::readers::Readers;
use crate::observer::round::{Looked, Round};
use crate::observer::samplers::ps::{PsSampler, Rows, Selection};
use crate::observer::world::World;
use crate::source::limits;

/// The longest that slow answers of the kernel are waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Something that gives samples.
pub trait Feed {
    /// The table at one moment.
    ///
    /// # Errors
    /// It could not be read.
    fn sample(&mut self) -> Result<Rows, Failure>;
}

/// The kernel, now.
#[derive(Debug)]
pub struct Live {
    world: World,
    sampler: PsSampler,
    ready: Receiver<()>,
    /// How long CPU is measured for a sample.
    interval: Duration,
    looked: Option<Instant>,
}

impl Live {
    /// Opens `/proc`.
    ///
    /// # Errors
    /// It could not be opened.
    pub fn new(proc: &Path, selection: Selection, said: Said, interval: Duration) -> Result<Self, Failure> {
        let proc = Arc::new(open_proc(proc)?);
        let (tell, ready) = mpsc::channel();
        let readers = Readers::start(
            Arc::clone(&proc),
            Box::new(move || {
                let _ = tell.send(());
            }),
        );
        let may_keep = if interval.is_zero() { 0 } else { usize::try_from(limits::raise_open_files().saturating_sub(64)).unwrap_or(0) };
        let sampler = PsSampler::new(selection);
        let mut world = World::new(proc, readers, said.scrubber, may_keep);
        world.programs = said.programs;
        world.details = sampler.needs();
        Ok(Self { world, sampler, ready, interval, looked: None })
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let mut round = Round::begin(&mut self.world, self.looked.is_none())?;
        while !round.advance(&mut self.world, Instant::now() + PATIENCE) {}
        let until = Instant::now() + PATIENCE;
        loop {
            self.world.absorb(&mut round.touched);
            let now = Instant::now();
            if self.world.readers.is_settled() || now >= until {
                break;
            }
            if self.world.readers.has_answers() {
                continue;
            }
            let wake = self.world.readers.deadline().map_or(until, |deadline| deadline.min(until));
            let _ = self.ready.recv_timeout(wake.saturating_duration_since(now));
            self.world.readers.expire(Instant::now());
        }
        self.world.settle_now();
        self.looked = Some(Instant::now());
        Ok(round)
    }
}

impl Live {
    /// All that is known after one look at everyone.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn world(&mut self) -> Result<&World, Failure> {
        self.round()?;
        Ok(&self.world)
    }
}

impl Feed for Live {
    fn sample(&mut self) -> Result<Rows, Failure> {
        if self.looked.is_none() && !self.interval.is_zero() {
            self.round()?;
            self.sampler.begin(&mut self.world);
        }
        if let Some(looked) = self.looked {
            std::thread::sleep(self.interval.saturating_sub(looked.elapsed()));
        }
        let round = self.round()?;
        // Everyone is shown, and whoever did not run used no CPU: each row is made anew.
        let everyone: Vec<u32> = self.world.table.iter().map(|process| process.id.pid).collect();
        let mut looked = Looked::default();
        looked.add(&round);
        Ok(self.sampler.rows(&mut self.world, &everyone, looked, true))
    }
}
