//! The thread that empties the event sockets and does nothing else: the process connector and the exit records of taskstats.
//!
//! It hands batches to the observer through a queue that is bounded in bytes; what does not fit is counted as lost, as is what
//! the kernel could not deliver. A record is sent before the exit event of its task, so whoever empties the connector first and
//! the record sockets after it finds the record of every exit in the same batch or in an earlier one.
//!
//! While events are few it wakes for each. Above some thousands a second it sleeps a few milliseconds before each emptying:
//! waking for each costs twice to four times as much, and slows those down who cause the events.
//!
//! The proof of completeness is a count that no event is part of: `processes` of `/proc/stat` grows by one with each fork and
//! clone, in all pid namespaces. [`Ears::open`] takes its first value when no birth falls between it and the acknowledgement.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::source::bell::Bell;
use crate::source::clock::{self, Wall};
use crate::source::connector::{self, Connector, Event, ListenError, What};
use crate::source::host;
use crate::source::netlink::{self, Inbox};
use crate::source::procdir::Proc;
use crate::source::taskstats::{ExitListener, Record};

/// How long the acknowledgement of LISTEN is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Above so many events a second they are collected before they are taken.
const MANY_PER_S: u64 = 5000;
/// How long they are collected.
const COLLECT: Duration = Duration::from_millis(5);
/// Messages taken by one call.
const AT_ONCE: usize = 128;
/// Events of one batch.
const BATCH: usize = 16 * 1024;
/// Bytes that may wait for the observer.
const QUEUE: u64 = 64 << 20;
/// Receive buffer of each socket for exit records.
const RECORDS_BUFFER: usize = 8 << 20;
/// Attempts to read the count of births between two births.
const QUIET_ATTEMPTS: u32 = 2000;

/// What was counted since LISTEN was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events received, of any kind.
    pub events: u64,
    /// Fork and clone events received.
    pub births: u64,
    /// Exit events received, of threads too.
    pub deaths: u64,
    /// Events lost: gaps in the numbers of each CPU, and what found no room in the queue.
    pub lost: u64,
    /// Times that a receive buffer overflowed (ENOBUFS): at least one event or record was lost each time.
    pub overruns: u64,
    /// Exit records lost, from the gaps in their own numbers.
    pub records_lost: u64,
    /// Growth of `processes` in `/proc/stat` when it was last read; `None` where it cannot be.
    pub births_kernel: Option<u64>,
    /// Its value then.
    pub processes: Option<u64>,
}

impl Totals {
    /// Births that the kernel counted and nobody told.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.births_kernel.unwrap_or(0).saturating_sub(self.births)
    }
}

/// The kernel's monotonic stamps as other clocks, sampled when the stamps were received: a suspend or a step of the wall clock
/// changes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC, nanoseconds.
    pub wall: i64,
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC, nanoseconds.
    pub boot: u64,
}

impl Offsets {
    /// As they are now.
    #[must_use]
    pub fn now() -> Self {
        let mut best = (u64::MAX, Self::default());
        // Whoever is interrupted between two clocks reads them apart: of a few readings the quickest counts.
        for _ in 0..4 {
            let before = clock::monotonic_ns();
            let (unix, boot) = (Wall::unix_ns(), clock::boottime_ns());
            let took = clock::monotonic_ns().saturating_sub(before);
            let middle = before + took / 2;
            if took < best.0 {
                let wall = unix - i64::try_from(middle).unwrap_or(i64::MAX);
                best = (took, Self { wall, boot: boot.saturating_sub(middle) });
            }
            if took < 5_000 {
                break;
            }
        }
        best.1
    }
}

/// What was taken from the sockets at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of their arrival, which respects what caused what.
    pub events: Vec<Event>,
    /// Records of tasks that ended, and of whole processes.
    pub records: Vec<Record>,
    /// Counts up to here.
    pub totals: Totals,
    /// The other clocks.
    pub offsets: Offsets,
    /// CLOCK_MONOTONIC nanoseconds when it was taken: all in it was sent before.
    pub taken_ns: u64,
    /// Something is missing before the end of this batch: the table must be brought back in line.
    pub gap: bool,
    /// Events had been switched off, and were switched on again.
    pub relistened: bool,
    /// It answers [`Drain::reckon`].
    pub reckoned: bool,
}

impl Batch {
    fn bytes(&self) -> u64 {
        (self.events.len() * size_of::<Event>() + self.records.len() * size_of::<Record>()) as u64
    }
}

/// The sockets, listening, and the count of births when they began to.
#[derive(Debug)]
pub struct Ears {
    connector: Connector,
    exits: Option<ExitListener>,
    /// Why there are no exit records.
    pub deaf_to_exits: Option<io::Error>,
    /// `processes` of `/proc/stat` when the first event was counted; `None` where it cannot be read.
    pub born_before: Option<u64>,
    /// Bytes of the connector's receive buffer, as the kernel counts them.
    pub buffer: usize,
}

impl Ears {
    /// Begins to listen, with a receive buffer of so many bytes where that may be had.
    ///
    /// # Errors
    /// As [`ListenError`] says: then there are no events.
    pub fn open(proc: &Proc, buffer: usize) -> Result<Self, ListenError> {
        let (online, possible) = host::cpu_lists();
        // First the records: whoever's exit is heard has its record then.
        let (exits, deaf_to_exits) = match ExitListener::open(&online, &possible, RECORDS_BUFFER) {
            Ok(listener) => (Some(listener), None),
            Err(error) => (None, Some(error)),
        };
        let connector = Connector::listen(PATIENCE)?;
        let buffer = netlink::enlarge(&connector, buffer)?;
        let born_before = quiet_count(proc, &connector);
        Ok(Self { connector, exits, deaf_to_exits, born_before, buffer })
    }
}

/// `processes` at a moment before and after which no birth was told: all events before it are thrown away, all after it
/// counted. On a machine that never pauses the last reading is taken, with the births that may have fallen between.
fn quiet_count(proc: &Proc, connector: &Connector) -> Option<u64> {
    let mut inbox = Inbox::new(AT_ONCE);
    let mut empty = || {
        let mut births = 0;
        loop {
            match connector.receive(&mut inbox, |event| births += u64::from(event.what.is_birth())) {
                Ok(true) => {}
                Ok(false) => return births,
                Err(error) if connector::is_overrun(&error) => births += 1,
                Err(_) => return births,
            }
        }
    };
    let mut count = None;
    empty();
    for _ in 0..QUIET_ATTEMPTS {
        let before = host::processes(&proc.read("stat").ok()?)?;
        empty();
        // Twice the same with nothing told in between: the count was still while the socket was empty.
        let after = host::processes(&proc.read("stat").ok()?)?;
        count = Some(after);
        if before == after && empty() == 0 {
            break;
        }
    }
    count
}

#[derive(Debug, Default)]
struct Shared {
    reckon: AtomicBool,
    stop: AtomicBool,
    beats: AtomicU64,
    /// Bytes handed over and not yet taken in.
    queued: AtomicU64,
}

/// The thread as the observer holds it.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    begun: Totals,
    thread: Option<JoinHandle<()>>,
}

/// Whether the thread lives, for the watchdog.
#[derive(Clone, Debug)]
pub struct Pulse {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

impl Pulse {
    /// Asks whether it is there: [`Pulse::beats`] grows when it hears.
    pub fn ping(&self) {
        self.bell.ring();
    }

    /// How often it was heard of.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Relaxed)
    }
}

/// Takes a batch; `false` when nobody listens any more.
pub type Deliver = Box<dyn FnMut(Box<Batch>) -> bool + Send>;
/// Is told of every execution where capture cannot hear of it by itself.
pub type OnExec = Box<dyn Fn(u32, u64) + Send>;

impl Drain {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or descriptor could be had.
    pub fn start(proc: Arc<Proc>, ears: Ears, deliver: Deliver, on_exec: OnExec) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let bell = Arc::new(Bell::new()?);
        let (for_thread, bell_of_thread) = (Arc::clone(&shared), Arc::clone(&bell));
        // Until the first reckoning the count is what it was when the first event could be heard.
        let totals = Totals { processes: ears.born_before, births_kernel: ears.born_before.map(|_| 0), ..Totals::default() };
        let thread = thread::Builder::new().name("drain".to_owned()).stack_size(256 * 1024).spawn(move || {
            Draining {
                proc,
                ears,
                shared: for_thread,
                bell: bell_of_thread,
                inbox: Inbox::new(AT_ONCE),
                next: Vec::new(),
                totals,
                missing: 0,
                counted_before: 0,
                told_missing: 0,
                events_at_reckoning: 0,
                undelivered: 0,
                deliver,
                on_exec,
            }
            .run();
        })?;
        Ok(Self { shared, bell, begun: totals, thread: Some(thread) })
    }

    /// The counts before the first event.
    #[must_use]
    pub const fn begun(&self) -> Totals {
        self.begun
    }

    /// Asks for a batch, even an empty one, with the kernel's own count of births.
    pub fn reckon(&self) {
        self.shared.reckon.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// How others feel whether it lives.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse { shared: Arc::clone(&self.shared), bell: Arc::clone(&self.bell) }
    }

    /// A batch was taken in: there is room for another.
    pub fn taken(&self, batch: &Batch) {
        self.shared.queued.fetch_sub(batch.bytes(), Ordering::AcqRel);
    }

    /// Hands over what the sockets hold, with a last reckoning, and ends.
    pub fn stop(&mut self) {
        self.shared.reckon.store(true, Ordering::Release);
        self.shared.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Draining {
    proc: Arc<Proc>,
    ears: Ears,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    inbox: Inbox,
    /// The number of the next event, by CPU.
    next: Vec<Option<u32>>,
    totals: Totals,
    /// Births that the kernel counted and nobody told, at the reckoning before.
    missing: u64,
    /// What the kernel had counted then.
    counted_before: u64,
    /// How many of those were said to be lost.
    told_missing: u64,
    events_at_reckoning: u64,
    /// Events that found no room.
    undelivered: u64,
    deliver: Deliver,
    on_exec: OnExec,
}

impl Draining {
    fn run(mut self) {
        let mut cycle = Instant::now();
        let mut many = false;
        loop {
            let stop = self.shared.stop.load(Ordering::Acquire);
            if !stop && !self.wait() {
                return;
            }
            if many && !self.shared.stop.load(Ordering::Acquire) {
                thread::sleep(COLLECT);
            }
            self.shared.beats.fetch_add(1, Ordering::Relaxed);
            let reckon = self.shared.reckon.swap(false, Ordering::AcqRel);
            let mut batch = Box::<Batch>::default();
            let whole = self.take(&mut batch);
            if reckon {
                self.reckon(&mut batch);
            }
            let taken = batch.events.len() as u64;
            let elapsed = u64::try_from(cycle.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            cycle = Instant::now();
            many = taken * 1000 / elapsed > MANY_PER_S;
            if (taken > 0 || reckon || batch.gap || !batch.records.is_empty()) && !self.hand_over(batch) {
                return;
            }
            if stop && whole {
                return;
            }
        }
    }

    /// Waits for an event or the bell; `false` where that is not possible.
    fn wait(&self) -> bool {
        let mut both = [PollFd::new(&self.ears.connector, PollFlags::IN), PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(target: "observer", "The event sockets cannot be waited for: {error}. From now on no events are recorded; restart psmond.");
                return false;
            }
        }
        if both[1].revents().contains(PollFlags::IN) {
            self.bell.still();
        }
        true
    }

    /// Takes what the sockets hold; `false` if more is left.
    fn take(&mut self, batch: &mut Batch) -> bool {
        let lost = self.totals.lost;
        let mut exits = false;
        let mut whole = false;
        while batch.events.len() < BATCH {
            let Self { ears, inbox, totals, next, on_exec, .. } = self;
            let events = &mut batch.events;
            let received = ears.connector.receive(inbox, |event| {
                count(event, totals, next);
                match event.what {
                    What::Exit { .. } => exits = true,
                    What::Exec(task) => on_exec(task.pid, event.time_ns),
                    What::Acknowledged(_) => return,
                    _ => {}
                }
                events.push(event);
            });
            match received {
                Ok(true) => {}
                Ok(false) => {
                    whole = true;
                    break;
                }
                // How many are lost, the numbers will say; that some are is known now.
                Err(error) if connector::is_overrun(&error) => {
                    batch.gap = true;
                    totals.overruns += 1;
                }
                Err(error) => {
                    tracing::warn!(target: "observer", "The event socket says: {error}.");
                    whole = true;
                    break;
                }
            }
        }
        if let Some(listener) = self.ears.exits.as_mut().filter(|_| exits || batch.gap) {
            let received = listener.receive(&mut self.inbox, |record| batch.records.push(record));
            self.totals.records_lost += received.lost;
            self.totals.overruns += received.overruns;
        }
        batch.gap |= self.totals.lost > lost;
        batch.offsets = Offsets::now();
        batch.taken_ns = clock::monotonic_ns();
        whole
    }

    /// Compares with the kernel's own count of births. Events are in flight at any moment: a difference that is still there at
    /// the next reckoning is a loss.
    fn reckon(&mut self, batch: &mut Batch) {
        batch.reckoned = true;
        let Some(before) = self.ears.born_before else { return };
        let now = self.proc.read("stat").ok().and_then(|stat| host::processes(&stat));
        // What was told while it was read is no surplus.
        self.take(batch);
        self.totals.processes = now;
        self.totals.births_kernel = now.map(|now| now.saturating_sub(before));
        let missing = self.totals.births_kernel.unwrap_or(0).saturating_sub(self.totals.births);
        // Of those that the kernel had counted at the reckoning before, all must have been told by now.
        let lasting = self.counted_before.saturating_sub(self.totals.births);
        self.counted_before = self.totals.births_kernel.unwrap_or(0);
        let silent = self.totals.events == self.events_at_reckoning && missing > self.missing;
        self.missing = missing;
        self.events_at_reckoning = self.totals.events;
        if silent {
            // Births, and not one event since the reckoning before: somebody switched the kernel off.
            self.listen_again(batch);
        }
        // Gaps in the numbers explain as many.
        if lasting > self.told_missing.max(self.totals.lost) {
            self.told_missing = lasting;
            batch.gap = true;
        }
    }

    fn listen_again(&mut self, batch: &mut Batch) {
        match Connector::listen(PATIENCE) {
            Ok(connector) => {
                let _ = netlink::enlarge(&connector, self.ears.buffer / 2);
                let before = std::mem::replace(&mut self.ears.connector, connector);
                before.forget();
                batch.relistened = true;
                batch.gap = true;
            }
            Err(error) => tracing::error!(target: "observer", "Events stopped, and could not be asked for again: {error}."),
        }
    }

    fn hand_over(&mut self, mut batch: Box<Batch>) -> bool {
        let bytes = batch.bytes();
        if self.shared.queued.fetch_add(bytes, Ordering::AcqRel) + bytes > QUEUE {
            self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
            self.undelivered += batch.events.len() as u64;
            batch.events = Vec::new();
            batch.records = Vec::new();
            batch.gap = true;
        }
        batch.totals = Totals { lost: self.totals.lost + self.undelivered, ..self.totals };
        (self.deliver)(batch)
    }
}

/// Counts an event, and those that are missing before it on its CPU.
fn count(event: Event, totals: &mut Totals, next: &mut Vec<Option<u32>>) {
    let cpu = usize::try_from(event.cpu).unwrap_or(0);
    // A forged or damaged number must not cost memory.
    if cpu < 1 << 16 {
        if next.len() <= cpu {
            next.resize(cpu + 1, None);
        }
        if let Some(expected) = next[cpu].replace(event.seq.wrapping_add(1)) {
            totals.lost += u64::from(event.seq.wrapping_sub(expected));
        }
    }
    totals.events += 1;
    match event.what {
        What::Fork { .. } => totals.births += 1,
        What::Exit { .. } => totals.deaths += 1,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::connector::Task;
    use proptest::prelude::*;

    fn event(cpu: u32, seq: u32) -> Event {
        Event { seq, ack: 0, cpu, time_ns: 0, what: What::Exec(Task { task: 1, pid: 1 }) }
    }

    proptest! {
        // Of the events of some CPUs any are lost, but the first and last of each: received + lost = sent.
        #[test]
        fn gaps_are_counted_exactly(sent in proptest::collection::vec((0_u32..4, any::<bool>()), 1..200), first in any::<u32>()) {
            let mut numbers = [first; 4];
            let mut all: Vec<(Event, bool)> = Vec::new();
            for (cpu, lost) in sent {
                let number = &mut numbers[cpu as usize];
                all.push((event(cpu, *number), lost));
                *number = number.wrapping_add(1);
            }
            for cpu in 0..4 {
                for at in [all.iter().position(|(event, _)| event.cpu == cpu), all.iter().rposition(|(event, _)| event.cpu == cpu)].into_iter().flatten() {
                    all[at].1 = false;
                }
            }
            let (mut totals, mut next) = (Totals::default(), Vec::new());
            for (event, _) in all.iter().filter(|(_, lost)| !lost) {
                count(*event, &mut totals, &mut next);
            }
            prop_assert_eq!(totals.events + totals.lost, all.len() as u64);
        }
    }

    #[test]
    fn a_real_birth_is_handed_over_with_its_end_its_record_and_the_count() {
        let proc = Arc::new(Proc::open(std::path::Path::new("/proc")).unwrap());
        let ears = match Ears::open(&proc, 1 << 20) {
            Ok(ears) => ears,
            Err(error) => {
                println!("SKIPPED: {error}");
                return;
            }
        };
        let records = ears.deaf_to_exits.is_none();
        let (send, batches) = std::sync::mpsc::channel();
        let mut drain = Drain::start(proc, ears, Box::new(move |batch| send.send(batch).is_ok()), Box::new(|_, _| ())).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let (mut born, mut ended, mut recorded) = (false, false, false);
        while !(born && ended) {
            let batch = batches.recv_timeout(Duration::from_secs(20)).unwrap();
            drain.taken(&batch);
            recorded |= batch.records.iter().any(|record| record.id == pid);
            for event in &batch.events {
                match event.what {
                    What::Fork { child, .. } if child.pid == pid => born = true,
                    What::Exit { task, .. } if task.pid == pid => {
                        assert!(recorded || !records, "the record of an exit is there with it");
                        ended = true;
                    }
                    _ => {}
                }
            }
        }
        drain.stop();
        let last = batches.try_iter().last().unwrap();
        assert!(last.reckoned && last.totals.births > 0 && last.totals.deaths > 0);
        // Other tests fork too: what is in flight is told a moment later, so at most a few are missing, and none is invented.
        let kernel = last.totals.births_kernel.unwrap();
        assert!(kernel <= last.totals.births + last.totals.lost + 50 && last.totals.births <= kernel + 50, "{last:?}");
    }
}
