//! The observer's loop, on a thread of its own: waits for the next tick or a message, takes the tick in
//! slices, and hands whole samples on. It never waits for whoever takes them.

mod credits;
mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::observer::beat::Beat;
use crate::observer::credits::crediting::Crediting;
use crate::observer::drain::Batch;
use crate::observer::facts::Reading;
use crate::observer::metering::Metering;
use crate::observer::readers::Readers;
use crate::observer::recorder::Recorder;
use crate::observer::round::{Looked, Round};
use crate::observer::samplers::ps::PsSampler;
use crate::observer::schedule::Schedule;
use crate::observer::thread::{Message, Orders, Output, Take};
use crate::observer::touched::Touched;
use crate::observer::weighing::Weighing;
use crate::observer::world::World;
use crate::record::alive::{Alive, Census};
use crate::record::carried::Carried;
use crate::record::ledger::{Facts, Note};
use crate::record::moment::Moment;
use crate::record::stream::Stream;
use crate::record::wanted::FullWanted;
use crate::source::clock::{self, Wall};
use crate::source::host;

/// The longest a slice of a round may take.
const SLICE: Duration = Duration::from_millis(5);
/// The longest a sample waits for the readers, and never longer than half its interval. One target that does not
/// answer holds it up for the deadline of one read only; thousands of births at once may take their time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the facts of the header are looked at.
const FACTS_EVERY: Duration = Duration::from_secs(10);
/// How often a census is taken.
const CENSUS_EVERY: Duration = Duration::from_secs(60);
/// How often the streams without samples tick.
const TICK_EVERY: Duration = Duration::from_secs(10);
/// How long such a tick waits for the reckoning.
const RECKONING: Duration = Duration::from_secs(1);
/// How long after a loss the table is brought back in line: what caused it may go on.
const RESYNC_AFTER: Duration = Duration::from_millis(100);
/// When it is compared a second time.
const RESYNC_EVERY: Duration = Duration::from_secs(2);
/// Notes that wait for a sample to be taken.
const NOTES: usize = 64;
/// A difference between two clocks that is worth a note, nanoseconds.
const STEP_NS: i64 = 500_000_000;

/// What the loop holds.
pub(super) struct Loop {
    world: World,
    recorder: Recorder,
    /// When what was heard is written at the latest.
    flush_due: Option<Instant>,
    /// The ticks of the streams without samples.
    ticks: Option<Schedule>,
    /// A tick of theirs that waits for the reckoning, and until when.
    reckoning: Option<(Moment, Instant)>,
    /// When the table is brought back in line.
    resync_due: Option<Instant>,
    orders: Orders,
    /// The ticks of stream `ps`.
    beat: Beat,
    sampler: PsSampler,
    /// Stream `pss`.
    weighing: Weighing,
    /// Streams `usage` and `usage_process`.
    metering: Metering,
    /// Streams `credits`, `credits_process` and `budgets`.
    crediting: Crediting,
    inbox: Receiver<Message>,
    beats: Arc<AtomicU64>,
    full_wanted: Arc<FullWanted>,
    take: Take,
    wall: Wall,
    facts: Arc<Facts>,
    facts_read: Instant,
    last: Option<Last>,
    /// When the last round ended, and whether it was of everyone.
    last_round: Option<(Instant, bool)>,
    /// What the rounds since the last sample of stream `ps` found.
    looked: Looked,
    last_census: Option<Instant>,
    /// Whose row in stream `ps` may have changed since its sample before.
    touched: Touched,
    /// Notes that no sample has carried yet.
    notes: Vec<Note>,
    reloads: Vec<(Box<Orders>, u64)>,
    stop: bool,
}

/// The clocks at the tick before.
#[derive(Clone, Copy)]
struct Last {
    real_ns: i64,
    boot_ns: i64,
    monotonic_ns: i64,
}

impl Last {
    fn now() -> Self {
        Self {
            real_ns: Wall::unix_ns(),
            boot_ns: i64::try_from(clock::boottime_ns()).unwrap_or(i64::MAX),
            monotonic_ns: i64::try_from(clock::monotonic_ns()).unwrap_or(i64::MAX),
        }
    }
}

impl Loop {
    pub(super) fn new(
        mut world: World,
        recorder: Recorder,
        orders: Orders,
        inbox: Receiver<Message>,
        beats: Arc<AtomicU64>,
        full_wanted: Arc<FullWanted>,
        take: Take,
    ) -> Self {
        let mut wall = Wall::default();
        let facts = Arc::new(read_facts(&world, &mut wall));
        let sampler = PsSampler::new(orders.selection.clone());
        let (mut beat, mut weighing, mut metering) = (Beat::default(), Weighing::default(), Metering::default());
        beat.set(orders.ps);
        weighing.select(&mut world, orders.pss.as_ref());
        metering.select(&mut world, orders.usage.as_ref());
        let mut crediting = Crediting::default();
        crediting.select(&mut world, orders.credits.as_ref());
        world.details = sampler.needs() | weighing.needs();
        Self {
            world,
            recorder,
            flush_due: None,
            ticks: None,
            reckoning: None,
            resync_due: None,
            orders,
            beat,
            sampler,
            weighing,
            metering,
            crediting,
            inbox,
            beats,
            full_wanted,
            take,
            wall,
            facts,
            facts_read: Instant::now(),
            last: None,
            last_round: None,
            looked: Looked::default(),
            last_census: None,
            touched: Touched::default(),
            notes: Vec::new(),
            reloads: Vec::new(),
            stop: false,
        }
    }

    pub(super) fn run(mut self, past: Vec<Alive>, carried: Option<Box<Carried>>) {
        self.crediting.remember(&past, carried);
        // The first look fills the table and the CPU clocks, so that the first sample has an interval behind it.
        if (self.is_sampling() || self.world.hears || self.recorder.is_on()) && self.round(true) {
            // The machine's clocks at the moment of everyone's: readers may be waited for.
            self.crediting.look(&self.world);
            self.await_readers(PATIENCE);
            self.sampler.begin(&mut self.world);
            self.metering.begin(&mut self.world, false);
            self.crediting.begin(&mut self.world);
            // Whoever lived then and lives no more died while nobody recorded. Only now: of a foreign /proc the readers say who lives.
            self.recorder.remember(&mut self.world, past);
        }
        // Before anything is written: a state without the living would bury nobody at the next start.
        self.count();
        let now = self.wall.now();
        self.recorder.begin(now);
        self.flush(Some(now));
        // Only now: the first look at a large machine takes longer than a tick, and time must not go back.
        self.ticks = self.schedule_of_ticks();
        self.beat.begin();
        self.weighing.beat.begin();
        self.metering.programs.begin();
        self.metering.processes.begin();
        self.crediting.begin_ticks();
        self.credit_at_begin();
        while !self.stop {
            let now_ns = Wall::unix_ns();
            if let Some(tick) = self.beat.take(now_ns) {
                self.tick(tick);
            } else if let Some(tick) = self.weighing.beat.take(now_ns) {
                self.weigh(tick);
            } else if !self.meter(now_ns) && !self.credit(now_ns) {
                self.wait(now_ns);
            }
            self.keep_time();
            for (orders, number) in std::mem::take(&mut self.reloads) {
                self.reload(*orders, number);
            }
        }
        if let Some(made) = self.weighing.finish(&mut self.world) {
            self.offer(Stream::Pss, made);
        }
        // What was on its way when drain was told to stop is heard to the last event.
        self.recorder.stop();
        self.hear_all();
        self.credit_at_stop();
        let now = self.wall.now();
        self.flush(Some(now));
        self.census();
        let _ = (self.take)(Output::Stopped);
    }

    fn schedule_of_ticks(&self) -> Option<Schedule> {
        self.recorder.is_on().then(|| Schedule::every(TICK_EVERY, Wall::unix_ns()))
    }

    /// What is due besides the samples: flushes, their ticks, bringing the table back in line.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.flush_due.is_none() && (self.recorder.waits() || !self.world.alerts.is_empty()) {
            self.flush_due = Some(now + self.orders.flush_every);
        }
        if let Some(made) = self.weighing.advance(&mut self.world, now) {
            self.offer(Stream::Pss, made);
        }
        if let Some(tick) = self.ticks.as_mut().and_then(|ticks| ticks.take(Wall::unix_ns())) {
            let due = self.wall.at(tick.due_ns);
            self.refresh_facts();
            if !self.is_sampling() {
                // No sample does it: what the clocks did is noted here, and without events births and ends are found here.
                let notes = self.clock_notes(due);
                self.recorder.note(notes);
                self.notes.clear();
                if !self.world.hears {
                    self.round(false);
                }
            }
            if self.recorder.reckon() {
                self.reckoning = Some((due, now + RECKONING));
            } else {
                self.flush(Some(due));
            }
            self.census_if_due();
        }
        if let Some((due, _)) = self.reckoning.filter(|(_, limit)| now >= *limit) {
            self.reckoning = None;
            self.flush(Some(due));
        }
        if self.resync_due.is_some_and(|due| now >= due) {
            self.resync();
        }
        if self.flush_due.is_some_and(|due| now >= due) {
            self.flush(None);
        }
    }

    /// Hands on what was heard, with a tick where one is due.
    fn flush(&mut self, tick: Option<Moment>) {
        self.flush_due = None;
        let now = self.wall.now();
        self.recorder.unseen(&mut self.world);
        let flushes = self.recorder.flush(&mut self.world, &self.facts, &mut self.wall, tick, now);
        let mut full = false;
        for flush in flushes {
            // None overtakes one that was refused.
            if full {
                self.recorder.refused(flush);
            } else if let Err(Output::Flush(flush)) = (self.take)(Output::Flush(Box::new(flush))) {
                self.recorder.refused(*flush);
                full = true;
            }
        }
        if self.recorder.waits() {
            self.flush_due = Some(Instant::now() + self.orders.flush_every);
        }
    }

    /// Events were lost: compares with `/proc`, and once more a little later, when whoever is missing now has had the time to be
    /// told of.
    fn resync(&mut self) {
        self.resync_due = None;
        match Round::resync(&mut self.world) {
            Ok((born, missing)) => {
                self.touch(&born);
                if self.recorder.resynced() || missing > 0 {
                    self.resync_due = Some(Instant::now() + RESYNC_EVERY);
                }
                self.full_wanted.ask_all();
            }
            Err(error) => {
                tracing::error!(target: "observer", "/proc could not be listed: {error}. The table is brought back in line at the next full sample.");
            }
        }
        self.recorder.unseen(&mut self.world);
        self.flush_due.get_or_insert_with(|| Instant::now() + self.orders.flush_every);
    }

    fn batch(&mut self, batch: &Batch) {
        let heard = self.recorder.hear(&mut self.world, batch, &mut self.wall);
        self.notes.extend(heard.notes);
        if heard.gap && self.resync_due.is_none() {
            self.resync_due = Some(Instant::now() + RESYNC_AFTER);
        }
        if batch.reckoned
            && let Some((due, _)) = self.reckoning.take()
        {
            self.flush(Some(due));
        }
        if self.recorder.waits() && self.flush_due.is_none() {
            self.flush_due = Some(Instant::now() + self.orders.flush_every);
        }
    }

    const fn is_sampling(&self) -> bool {
        self.beat.cadence().is_some() || self.weighing.beat.cadence().is_some() || self.metering.is_on() || self.crediting.is_on()
    }

    /// Waits for a message, for as long as nothing is due.
    fn wait(&mut self, now_ns: i64) {
        let now = Instant::now();
        let own = [
            self.world.readers.deadline(),
            self.flush_due,
            self.resync_due,
            self.reckoning.map(|(_, limit)| limit),
            self.weighing.next_due(),
        ];
        let own = own.into_iter().flatten().map(|at| at.saturating_duration_since(now));
        let beats = [&self.beat, &self.weighing.beat, &self.metering.programs, &self.metering.processes];
        let samples = beats.into_iter().filter_map(|beat| beat.wait(now_ns)).chain(self.crediting.wait(now_ns));
        let ticks = self.ticks.map(|ticks| Duration::from_nanos(ticks.wait_ns(Wall::unix_ns()).unsigned_abs()));
        let message = match samples.chain(own).chain(ticks).min() {
            Some(wait) => self.inbox.recv_timeout(wait),
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        self.hear(message);
        self.world.readers.expire(Instant::now());
        self.absorb();
    }

    /// Takes what the readers brought.
    fn absorb(&mut self) {
        let mut touched = Vec::new();
        self.world.absorb(&mut touched);
        self.touch(&touched);
    }

    /// The rows of these may have changed, in each stream's next sample.
    fn touch(&mut self, pids: &[u32]) {
        if self.beat.cadence().is_some() {
            self.touched.add(pids);
        }
        self.weighing.touch(pids);
        self.metering.touch(pids);
        self.crediting.touch(pids);
    }

    fn hear(&mut self, message: Result<Message, RecvTimeoutError>) {
        match message {
            Ok(Message::Reload(orders, number)) => self.reloads.push((orders, number)),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => self.stop = true,
            Ok(Message::Batch(batch)) => self.batch(&batch),
            Ok(Message::Ready | Message::Ping) | Err(RecvTimeoutError::Timeout) => {}
        }
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Hears what was said in the meantime, without waiting.
    fn hear_all(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(Ok(message));
        }
    }

    /// One round; `false` where `/proc` could not be listed.
    fn round(&mut self, everyone: bool) -> bool {
        let mut round = match Round::begin(&mut self.world, everyone) {
            Ok(round) => round,
            Err(error) => {
                tracing::error!(target: "observer", "/proc could not be listed: {error}. This sample is missing; the next tick tries again.");
                return false;
            }
        };
        while !round.advance(&mut self.world, Instant::now() + SLICE) {
            self.hear_all();
        }
        self.touch(&std::mem::take(&mut round.touched));
        let reclassified = std::mem::take(&mut self.world.reclassified);
        self.touch(&reclassified);
        self.last_round = Some((Instant::now(), everyone));
        self.looked.add(&round);
        if self.crediting.wait(Wall::unix_ns()) == Some(Duration::ZERO) {
            self.crediting.look(&self.world);
        }
        true
    }

    fn await_readers(&mut self, patience: Duration) {
        self.await_until(patience, Readers::is_settled);
    }

    fn await_until(&mut self, patience: Duration, is_done: fn(&Readers) -> bool) {
        let until = Instant::now() + patience;
        loop {
            self.absorb();
            let now = Instant::now();
            if is_done(&self.world.readers) || now >= until || self.stop {
                break;
            }
            if self.world.readers.has_answers() {
                continue;
            }
            let wake = self.world.readers.deadline().map_or(until, |deadline| deadline.min(until));
            let message = self.inbox.recv_timeout(wake.saturating_duration_since(now));
            self.hear(message);
            self.world.readers.expire(Instant::now());
        }
    }

    fn census_if_due(&mut self) {
        // After what is due now was counted: a recorder that begins from it counts nothing twice.
        if self.crediting.wait(Wall::unix_ns()) == Some(Duration::ZERO) {
            return;
        }
        if self.last_census.is_none_or(|at| at.elapsed() >= CENSUS_EVERY) {
            self.census();
        }
    }

    /// A census; whoever ended is not in it any more, so obituaries go first.
    fn census(&mut self) {
        if self.recorder.waits() {
            self.flush(None);
        }
        self.count();
    }

    fn count(&mut self) {
        self.last_census = Some(Instant::now());
        let stat = self.world.proc.read("stat").unwrap_or_default();
        let alive = self.world.table.iter().filter(|process| process.is_known() && !process.life.ended && !process.life.was_zombie).map(
            |process| Alive {
                id: process.id,
                ppid: process.stat.ppid,
                uid: process.facts.owner.known().copied(),
                program: process.facts.program.known().cloned(),
                counted: self.world.credits.counted(process),
            },
        );
        let alive = alive.collect();
        // After the last event was heard its own count is the true one: whoever is born now is nobody's.
        let processes = self.recorder.last_count().or_else(|| host::processes(&stat));
        let census = Census { alive, processes, carried: self.crediting.carried(&self.world) };
        let _ = (self.take)(Output::Census(census));
        for process in self.world.table.iter_mut_from(0) {
            process.life.counted = true;
        }
    }

    fn reload(&mut self, orders: Orders, number: u64) {
        // What is under way is made by the orders it began with.
        if let Some(made) = self.weighing.finish(&mut self.world) {
            self.offer(Stream::Pss, made);
        }
        self.orders = orders;
        self.sampler.select(self.orders.selection.clone());
        self.beat.set(self.orders.ps);
        self.weighing.select(&mut self.world, self.orders.pss.as_ref());
        self.metering.select(&mut self.world, self.orders.usage.as_ref());
        match (self.crediting.is_on(), self.orders.credits.is_some()) {
            (true, false) => self.credit_at_stop(),
            // Counting begins with clocks of this moment.
            (false, true) => drop(self.round(false)),
            _ => {}
        }
        self.crediting.select(&mut self.world, self.orders.credits.as_ref());
        // What was heard under the orders before is written by them, and proven by a tick of theirs.
        if let Some((due, _)) = self.reckoning.take() {
            self.flush(Some(due));
        }
        let now = self.wall.now();
        self.recorder.hold_nothing();
        self.flush(Some(now));
        self.recorder.select(self.orders.events.clone(), self.orders.exits.clone());
        self.ticks = self.schedule_of_ticks();
        self.world.details = self.sampler.needs() | self.weighing.needs();
        // Before it is forgotten whose command line was said as it is kept.
        if !self.world.programs.says_the_same_as(&self.orders.programs) {
            self.metering.rules_changed();
        }
        self.world.set_programs(Arc::clone(&self.orders.programs));
        let other_rules = !self.world.scrubber.has_rules_of(&self.orders.scrubber);
        self.world.scrubber = self.orders.scrubber.clone();
        // Where other rules say what may be recorded of a command line, whoever cannot be read again is not shown by
        // those of before.
        for process in self.world.table.iter_mut_from(0) {
            process.facts.said = 0;
            if other_rules && !process.stat.is_kthread() && !process.stat.is_zombie() {
                process.facts.cmd = Reading::Unread;
            }
        }
        self.full_wanted.ask_all();
        let _ = (self.take)(Output::Reloaded(number));
    }
}

fn read_facts(world: &World, wall: &mut Wall) -> Facts {
    let machine = &world.machine;
    Facts {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot: machine.boot_id.clone(),
        pidns: machine.pidns.clone(),
        tz: wall.zone_name(),
        hz: machine.hz,
        page: machine.page,
        cpus: host::cpus_online(&world.proc),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
