//! Where a view gets its records. A view asks a [`Feed`] and cannot tell whether they come from the kernel or
//! from the journal.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::said::Said;
use super::{Failure, open_proc};
use crate::config::ProgramRule;
use crate::observer::metering::{self, Metering, Orders};
use crate::observer::programs::Programs;
use crate::observer::readers::Readers;
use crate::observer::round::{Looked, Round};
use crate::observer::samplers::ps::{PsSampler, Rows, Selection};
use crate::observer::world::World;
use crate::record::stream::Stream;
use crate::source::limits;

/// The longest that slow answers of the kernel are waited for.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often everyone is read, whether it ran or not: as often as a recorder's full samples (`full_every`), so that names, limits and
/// whatever else was read once is not that of yesterday.
const FULL_EVERY: Duration = Duration::from_secs(600);

/// Something that gives samples.
pub trait Feed {
    /// The table at one moment.
    ///
    /// # Errors
    /// It could not be read.
    fn sample(&mut self) -> Result<Rows, Failure>;
}

/// The table, filled from the kernel now.
#[derive(Debug)]
struct Look {
    world: World,
    ready: Receiver<()>,
    /// When the last look was.
    looked: Option<Instant>,
    /// When everyone was read last, whether it ran or not.
    full: Option<Instant>,
}

impl Look {
    /// Opens `/proc`. Where it `keeps` files open it is for looking again.
    fn new(proc: &Path, said: Said, keeps: bool) -> Result<Self, Failure> {
        let proc = Arc::new(open_proc(proc)?);
        let (tell, ready) = mpsc::channel();
        let readers = Readers::start(
            Arc::clone(&proc),
            Box::new(move || {
                let _ = tell.send(());
            }),
        );
        let may_keep = if keeps { usize::try_from(limits::raise_open_files().saturating_sub(64)).unwrap_or(0) } else { 0 };
        let mut world = World::new(proc, readers, said.scrubber, may_keep);
        world.programs = said.programs;
        Ok(Self { world, ready, looked: None, full: None })
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let everyone = self.full.is_none_or(|full| full.elapsed() >= FULL_EVERY);
        let mut round = Round::begin(&mut self.world, everyone)?;
        while !round.advance(&mut self.world, Instant::now() + PATIENCE) {}
        let touched = self.await_readers();
        round.touched.extend(touched);
        self.world.settle_now();
        round.touched.append(&mut self.world.reclassified);
        self.world.forget_ends();
        self.looked = Some(Instant::now());
        if round.everyone {
            self.full = self.looked;
        }
        Ok(round)
    }

    /// Waits for what was asked of the readers; answers with whom it concerns.
    fn await_readers(&mut self) -> Vec<u32> {
        self.await_until(Readers::is_settled)
    }

    fn await_until(&mut self, is_done: fn(&Readers) -> bool) -> Vec<u32> {
        let mut touched = Vec::new();
        let until = Instant::now() + PATIENCE;
        loop {
            self.world.absorb(&mut touched);
            let now = Instant::now();
            if is_done(&self.world.readers) || now >= until {
                return touched;
            }
            if self.world.readers.has_answers() {
                continue;
            }
            let wake = self.world.readers.deadline().map_or(until, |deadline| deadline.min(until));
            let _ = self.ready.recv_timeout(wake.saturating_duration_since(now));
            self.world.readers.expire(Instant::now());
        }
    }

    /// Waits until the last look is so long ago.
    fn wait(&self, interval: Duration) {
        if let Some(looked) = self.looked {
            std::thread::sleep(interval.saturating_sub(looked.elapsed()));
        }
    }
}

/// The process table, now.
#[derive(Debug)]
pub struct Live {
    look: Look,
    sampler: PsSampler,
    /// How long CPU is measured for a sample.
    interval: Duration,
}

impl Live {
    /// Opens `/proc`.
    ///
    /// # Errors
    /// It could not be opened.
    pub fn new(proc: &Path, selection: Selection, said: Said, interval: Duration) -> Result<Self, Failure> {
        let mut look = Look::new(proc, said, !interval.is_zero())?;
        let sampler = PsSampler::new(selection);
        look.world.details = sampler.needs();
        Ok(Self { look, sampler, interval })
    }
}

impl Live {
    /// All that is known after one look at everyone.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn world(&mut self) -> Result<&World, Failure> {
        self.look.round()?;
        Ok(&self.look.world)
    }
}

impl Feed for Live {
    fn sample(&mut self) -> Result<Rows, Failure> {
        if self.look.looked.is_none() && !self.interval.is_zero() {
            self.look.round()?;
            self.sampler.begin(&mut self.look.world);
        }
        self.look.wait(self.interval);
        let round = self.look.round()?;
        // Everyone is shown, and whoever did not run used no CPU: each row is made anew.
        let world = &mut self.look.world;
        let everyone: Vec<u32> = world.table.iter().map(|process| process.id.pid).collect();
        let mut looked = Looked::default();
        looked.add(&round);
        Ok(self.sampler.rows(world, &everyone, looked, true))
    }
}

/// What programs or processes use, now. Counters are those of the living since their birth, and of whoever ends from then on.
#[derive(Debug)]
pub struct LiveUsage {
    look: Look,
    metering: Metering,
    orders: Orders,
    of: Stream,
    interval: Duration,
}

impl LiveUsage {
    /// Opens `/proc`. Samples of stream `usage` or `usage_process` are `interval` apart, the first after the first interval.
    ///
    /// # Errors
    /// It could not be opened.
    pub fn new(proc: &Path, of: Stream, orders: &Orders, said: Said, interval: Duration) -> Result<Self, Failure> {
        let mut look = Look::new(proc, said, true)?;
        let mut metering = Metering::default();
        metering.select(&mut look.world, Some(orders));
        Ok(Self { look, metering, orders: orders.clone(), of, interval })
    }

    /// Counts by other rules from now on; each of them may have a program of its own.
    pub fn follow(&mut self, rules: &[ProgramRule]) {
        self.look.world.set_programs(Arc::new(Programs::new(rules, &[])));
        self.orders.most = self.orders.most.max(rules.len());
        self.orders.expected = metering::expected(rules);
        self.metering.select(&mut self.look.world, Some(&self.orders));
    }

    fn read(&mut self, everyone: bool) {
        let is_done = |readers: &Readers| readers.is_settled() && readers.has_sockets();
        self.metering.start(&mut self.look.world, everyone);
        self.metering.ask_sockets(&mut self.look.world);
        while !self.metering.advance(&mut self.look.world, Instant::now() + PATIENCE) {}
        self.metering.touch(&self.look.await_until(is_done));
        if self.metering.ask_lists(&mut self.look.world) {
            self.metering.touch(&self.look.await_until(is_done));
            self.metering.ask_sockets_met(&mut self.look.world);
            self.metering.touch(&self.look.await_until(is_done));
        }
        self.metering.count(&mut self.look.world);
    }
}

impl Feed for LiveUsage {
    fn sample(&mut self) -> Result<Rows, Failure> {
        if self.look.looked.is_none() {
            self.look.round()?;
            self.metering.begin(&mut self.look.world, true);
            self.read(true);
            // What they used since their birth is no use of the first interval.
            Metering::begin_interval(&mut self.look.world);
        }
        self.look.wait(self.interval);
        let round = self.look.round()?;
        self.metering.touch(&round.touched);
        self.read(round.everyone);
        let rows = self.metering.rows(&mut self.look.world, self.of, true);
        Ok(rows.map(|(rows, _)| rows).unwrap_or_default())
    }
}
