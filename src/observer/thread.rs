//! The observer's loop, on a thread of its own: waits for the next tick or a message, takes the tick in
//! slices, and hands whole samples on. It never waits for whoever takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::facts::Reading;
use super::readers::Readers;
use super::round::Round;
use super::samplers::ps::{PsSampler, Selection};
use super::schedule::{Schedule, Tick};
use super::world::World;
use crate::record::alive::{Alive, Census};
use crate::record::ledger::{Facts, Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::scrub::Scrubber;
use crate::record::stream::Stream;
use crate::source::clock::{self, Wall};
use crate::source::host;
use crate::source::procdir::Proc;

/// The longest a slice of a round may take.
const SLICE: Duration = Duration::from_millis(5);
/// The longest a sample waits for the readers, and never longer than half its interval. One target that does not
/// answer holds it up for the deadline of one read only; thousands of births at once may take their time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the facts of the header are looked at.
const FACTS_EVERY: Duration = Duration::from_secs(10);
/// How often a census is taken.
const CENSUS_EVERY: Duration = Duration::from_secs(60);
/// Notes that wait for a sample to be taken.
const NOTES: usize = 64;
/// A difference between two clocks that is worth a note, nanoseconds.
const STEP_NS: i64 = 500_000_000;

/// What the observer is to do.
#[derive(Debug, Clone)]
pub struct Orders {
    /// How often a sample is taken; `None` while the stream is off.
    pub interval: Option<Duration>,
    /// Between full samples only what changed is handed on; else every sample is full.
    pub changes: bool,
    /// How often everyone is read, and a sample is full.
    pub full_every: Duration,
    /// Who is shown, and of whom what.
    pub selection: Selection,
    /// What of a command line may be recorded.
    pub scrubber: Scrubber,
}

/// What the observer says to whoever takes its samples.
#[derive(Debug)]
pub enum Output {
    /// A sample, whole.
    Sample(Box<Sample>),
    /// Who is alive.
    Census(Census),
    /// Orders with this number are in force; samples after this are made by them.
    Reloaded(u64),
    /// Nothing comes after this.
    Stopped,
}

/// What can be said to the observer.
#[derive(Debug)]
enum Message {
    /// The readers have answered all that was asked.
    Ready,
    /// Are you there?
    Ping,
    Reload(Box<Orders>, u64),
    Stop,
}

/// The observer as the daemon holds it.
#[derive(Debug)]
pub struct Observer {
    messages: Sender<Message>,
    beats: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Takes what the observer says. It must not block; `false` means that it was not taken.
pub type Take = Box<dyn FnMut(Output) -> bool + Send>;

impl Observer {
    /// Starts the thread. `full_wanted` is how others ask for a full sample.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(proc: Arc<Proc>, may_keep: usize, orders: Orders, full_wanted: Arc<AtomicBool>, take: Take) -> std::io::Result<Self> {
        let (messages, inbox) = mpsc::channel();
        let beats = Arc::new(AtomicU64::new(0));
        let for_readers = messages.clone();
        let ready = Box::new(move || {
            let _ = for_readers.send(Message::Ready);
        });
        let for_thread = Arc::clone(&beats);
        let thread = thread::Builder::new().name("observer".to_owned()).stack_size(512 * 1024).spawn(move || {
            let readers = Readers::start(Arc::clone(&proc), ready);
            let world = World::new(proc, readers, orders.scrubber.clone(), may_keep);
            Loop::new(world, orders, inbox, for_thread, full_wanted, take).run();
        })?;
        Ok(Self { messages, beats, thread: Some(thread) })
    }

    /// Asks whether it is there: [`Observer::beats`] grows when it hears.
    pub fn ping(&self) {
        let _ = self.messages.send(Message::Ping);
    }

    /// How often it was heard of.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Gives new orders; [`Output::Reloaded`] with this number says when they are in force.
    pub fn reload(&self, orders: Orders, number: u64) {
        let _ = self.messages.send(Message::Reload(Box::new(orders), number));
    }

    /// Tells it to stop; a last census and [`Output::Stopped`] follow.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }

    /// Whether its thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

struct Loop {
    world: World,
    orders: Orders,
    sampler: PsSampler,
    inbox: Receiver<Message>,
    beats: Arc<AtomicU64>,
    full_wanted: Arc<AtomicBool>,
    take: Take,
    wall: Wall,
    facts: Arc<Facts>,
    facts_read: Instant,
    last: Option<Last>,
    last_full: Option<Instant>,
    last_census: Option<Instant>,
    /// Touched by answers that came between two rounds.
    touched: Vec<u32>,
    /// Samples in a row that nobody took.
    refused: u64,
    skipped: u64,
    /// Notes that no sample has carried yet.
    notes: Vec<Note>,
    reloads: Vec<(Box<Orders>, u64)>,
    stop: bool,
}

/// The clocks at the tick before.
#[derive(Clone, Copy)]
struct Last {
    due: Moment,
    real_ns: i64,
    boot_ns: i64,
    monotonic_ns: i64,
}

impl Loop {
    fn new(
        mut world: World,
        orders: Orders,
        inbox: Receiver<Message>,
        beats: Arc<AtomicU64>,
        full_wanted: Arc<AtomicBool>,
        take: Take,
    ) -> Self {
        let mut wall = Wall::default();
        let facts = Arc::new(read_facts(&world, &mut wall));
        let sampler = PsSampler::new(orders.selection.clone());
        world.details = sampler.needs();
        Self {
            world,
            orders,
            sampler,
            inbox,
            beats,
            full_wanted,
            take,
            wall,
            facts,
            facts_read: Instant::now(),
            last: None,
            last_full: None,
            last_census: None,
            touched: Vec::new(),
            refused: 0,
            skipped: 0,
            notes: Vec::new(),
            reloads: Vec::new(),
            stop: false,
        }
    }

    fn run(mut self) {
        // The first look fills the table and the CPU clocks, so that the first sample has an interval behind it.
        let mut schedule = self.schedule();
        if schedule.is_some()
            && let Some(mut round) = self.round(true)
        {
            self.await_readers(&mut round.touched, PATIENCE);
        }
        while !self.stop {
            let now_ns = Wall::unix_ns();
            let tick = schedule.as_mut().and_then(|schedule| schedule.take(now_ns));
            if let Some(tick) = tick {
                self.tick(tick);
            } else {
                let due = schedule.map(|schedule| Duration::from_nanos(schedule.wait_ns(now_ns).unsigned_abs()));
                self.wait(due);
            }
            for (orders, number) in std::mem::take(&mut self.reloads) {
                self.reload(*orders, number, &mut schedule);
            }
        }
        self.census();
        (self.take)(Output::Stopped);
    }

    fn schedule(&self) -> Option<Schedule> {
        let interval = i64::try_from(self.orders.interval?.as_nanos()).unwrap_or(i64::MAX);
        Some(Schedule::new(interval, Wall::unix_ns()))
    }

    /// Waits for a message, for as long as nothing is due.
    fn wait(&mut self, due: Option<Duration>) {
        let reads = self.world.readers.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let message = match due.into_iter().chain(reads).min() {
            Some(wait) => self.inbox.recv_timeout(wait),
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        self.hear(message);
        self.world.readers.expire(Instant::now());
        let mut touched = std::mem::take(&mut self.touched);
        self.world.absorb(&mut touched);
        self.touched = touched;
    }

    fn hear(&mut self, message: Result<Message, RecvTimeoutError>) {
        match message {
            Ok(Message::Reload(orders, number)) => self.reloads.push((orders, number)),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => self.stop = true,
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

    fn round(&mut self, everyone: bool) -> Option<Round> {
        let mut round = match Round::begin(&mut self.world, everyone) {
            Ok(round) => round,
            Err(error) => {
                tracing::error!(target: "observer", "/proc could not be listed: {error}. This sample is missing; the next tick tries again.");
                return None;
            }
        };
        while !round.advance(&mut self.world, Instant::now() + SLICE) {
            self.hear_all();
        }
        round.touched.append(&mut self.touched);
        Some(round)
    }

    fn await_readers(&mut self, touched: &mut Vec<u32>, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            self.world.absorb(touched);
            let now = Instant::now();
            if self.world.readers.is_settled() || now >= until || self.stop {
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
        touched.sort_unstable();
        touched.dedup();
    }

    fn tick(&mut self, tick: Tick) {
        let due = self.wall.at(tick.due_ns);
        let interval = self.orders.interval.unwrap_or(PATIENCE);
        self.skipped += tick.skipped;
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.clock_notes(due));
        let everyone = self.full_is_due(due);
        let full = everyone || !self.orders.changes;
        let Some(mut round) = self.round(everyone) else {
            // Nothing of this tick may be lost: neither that it was due, nor what its clocks or a full sample would have said.
            self.skipped += 1;
            self.notes = notes;
            self.full_wanted.fetch_or(everyone, Ordering::Relaxed);
            return;
        };
        let mut touched = std::mem::take(&mut round.touched);
        self.await_readers(&mut touched, PATIENCE.min(interval / 2));
        round.touched = touched;
        self.say_what_is_refused(due, &mut notes);
        let made = self.sampler.rows(&mut self.world, &mut round, full);
        let mut counts = made.counts;
        counts.late_ms = u64::try_from(tick.late_ns / 1_000_000).unwrap_or(0);
        counts.skipped = self.skipped;
        counts.boottime_ms = clock::boottime_ns() / 1_000_000;
        let kept = notes.clone();
        if self.refused > 0 {
            notes.push(Note::new(due, NoteKind::Gap).with("samples", self.refused).with("why", "queue"));
        }
        let sample = Sample {
            stream: Stream::Ps,
            facts: Arc::clone(&self.facts),
            columns: self.sampler.columns().clone(),
            due,
            full,
            rows: made.rows,
            left: made.left,
            counts,
            notes,
        };
        if (self.take)(Output::Sample(Box::new(sample))) {
            self.refused = 0;
            self.skipped = 0;
            if everyone {
                self.last_full = Some(Instant::now());
            }
        } else {
            // What this sample said is lost, so the next must say everything.
            self.refused += 1;
            self.notes = kept.into_iter().take(NOTES).collect();
            self.full_wanted.store(true, Ordering::Relaxed);
            tracing::warn!(target: "observer", "A sample of stream ps was dropped: the writer is behind. The next one is full.");
        }
        if self.last_census.is_none_or(|at| at.elapsed() >= CENSUS_EVERY) {
            self.census();
        }
    }

    /// Once: how much of the machine this user may not see.
    fn say_what_is_refused(&self, due: Moment, notes: &mut Vec<Note>) {
        if self.last_full.is_some() {
            return;
        }
        let refused = self.world.table.iter().filter(|process| process.facts.exe == Reading::Refused).count();
        // Some single process is refused even to root.
        if refused > 2 {
            let all = self.world.table.len();
            tracing::warn!(target: "observer", "The executables of {refused} of {all} processes may not be read by this user: their program is their own name. psmon doctor names the mend.");
            notes.push(Note::new(due, NoteKind::Degraded).with("what", "exe").with("refused", refused).with("of", all));
        }
    }

    fn full_is_due(&mut self, due: Moment) -> bool {
        let mut full = self.full_wanted.swap(false, Ordering::Relaxed);
        // The midnight sample begins a segment; so does one under other facts.
        full |= self.last.is_none_or(|last| last.due.date() != due.date());
        self.last = Some(Last {
            due,
            real_ns: Wall::unix_ns(),
            boot_ns: i64::try_from(clock::boottime_ns()).unwrap_or(i64::MAX),
            monotonic_ns: i64::try_from(clock::monotonic_ns()).unwrap_or(i64::MAX),
        });
        if self.facts_read.elapsed() >= FACTS_EVERY {
            self.facts_read = Instant::now();
            let facts = read_facts(&self.world, &mut self.wall);
            if facts != *self.facts {
                self.facts = Arc::new(facts);
                full = true;
            }
        }
        full || self.last_full.is_none_or(|at| at.elapsed() >= self.orders.full_every)
    }

    /// What the clocks did since the tick before.
    fn clock_notes(&self, due: Moment) -> Vec<Note> {
        let Some(last) = self.last else { return Vec::new() };
        let boot = i64::try_from(clock::boottime_ns()).unwrap_or(i64::MAX) - last.boot_ns;
        let step = Wall::unix_ns() - last.real_ns - boot;
        let slept = boot - (i64::try_from(clock::monotonic_ns()).unwrap_or(i64::MAX) - last.monotonic_ns);
        let mut notes = Vec::new();
        if slept > STEP_NS {
            notes.push(Note::new(due, NoteKind::Suspend).with("slept_ms", slept / 1_000_000));
        }
        if step.abs() > STEP_NS {
            notes.push(Note::new(due, NoteKind::Clock).with("step_ms", step / 1_000_000));
        }
        notes
    }

    fn census(&mut self) {
        self.last_census = Some(Instant::now());
        let stat = self.world.proc.read("stat").unwrap_or_default();
        let alive = self.world.table.iter().filter(|process| process.is_known()).map(|process| Alive {
            id: process.id,
            ppid: process.stat.ppid,
            uid: process.facts.owner.known().copied(),
            program: process.facts.program.known().cloned(),
        });
        let census = Census { alive: alive.collect(), processes: host::processes(&stat) };
        (self.take)(Output::Census(census));
    }

    fn reload(&mut self, orders: Orders, number: u64, schedule: &mut Option<Schedule>) {
        let interval_changed = orders.interval != self.orders.interval;
        self.orders = orders;
        self.sampler = PsSampler::new(self.orders.selection.clone());
        self.world.details = self.sampler.needs();
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
        if interval_changed {
            *schedule = self.schedule();
        }
        self.full_wanted.store(true, Ordering::Relaxed);
        (self.take)(Output::Reloaded(number));
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
