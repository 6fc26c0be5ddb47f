//! The threads that do the reads which may wait: two, at most four.
//!
//! Reading `cmdline` waits for the target's mmap_lock, and with a target stuck in the kernel it never
//! returns. So a read has a deadline. When it passes, the thread is given up and replaced, and the
//! observer is told that the value could not be had in time; should the thread ever come back, it finds
//! that it was given up and ends. Nobody is asked a second time while a thread still waits for him.

mod process;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::cgroups::{Found, Group};
use super::facts::{Got, Wants};
use crate::source::cgroup_limits::{Hierarchies, Seen};
use crate::source::namespace::Visit;
use crate::source::procdir::Proc;
use crate::source::sockets::{self, Sockets, Way};
use crate::source::{ReadError, users};

/// How long one read may take.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// Threads at work, usually.
const WORKERS: usize = 2;
/// Threads at work and given up together.
const MOST: usize = 4;

/// Something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Facts of a process; of another one that has its pid by now they are not taken.
    Process {
        /// Its pid.
        pid: u32,
        /// Its start ticks, where they are known.
        start: Option<u64>,
        /// What to read.
        wants: Wants,
    },
    /// The name of a user.
    User(u32),
    /// The name of a group.
    Group(u32),
    /// The sockets of a network namespace.
    Sockets {
        /// The inode of its `ns/net`.
        netns: u64,
        /// A process in it.
        pid: u32,
        /// How to read them.
        way: Way,
    },
    /// The control groups that [`Readers::ask_cgroups`] was given.
    Cgroups,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// Facts of a process.
    Process {
        /// Its pid.
        pid: u32,
        /// Its start ticks, where they were known.
        start: Option<u64>,
        /// What was to be read.
        wants: Wants,
        /// What was read; `None` where it could not be had in time.
        got: Option<Box<Got>>,
    },
    /// The name of a user; `None` where it has none or could not be had in time.
    User(u32, Option<Vec<u8>>),
    /// The name of a group; likewise.
    Group(u32, Option<Vec<u8>>),
    /// The sockets of a network namespace.
    Sockets {
        /// The inode of its `ns/net`.
        netns: u64,
        /// The process that was taken for being in it.
        pid: u32,
        /// What was read; `None` where it could not be had in time.
        got: Option<Result<Sockets, ReadError>>,
    },
    /// What control groups have and may have; none of them where that could not be had in time.
    Cgroups(Vec<Found>),
}

impl Answer {
    fn late(request: Request) -> Self {
        match request {
            Request::Process { pid, start, wants } => Self::Process { pid, start, wants, got: None },
            Request::User(uid) => Self::User(uid, None),
            Request::Group(gid) => Self::Group(gid, None),
            Request::Sockets { netns, pid, .. } => Self::Sockets { netns, pid, got: None },
            Request::Cgroups => Self::Cgroups(Vec::new()),
        }
    }
}

#[derive(Debug)]
struct Slot {
    number: u64,
    busy: Option<(Request, Instant)>,
    given_up: bool,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Request>,
    slots: Vec<Slot>,
    answers: Vec<Answer>,
    outstanding: usize,
    /// Of them those for memory, for which nobody but its own stream waits.
    memory: usize,
    /// Of them those for sockets; likewise.
    sockets: usize,
    /// Control groups to be read, and where they are mounted.
    cgroups: Option<(Arc<Hierarchies>, Vec<Group>)>,
    threads_started: u64,
    stop: bool,
}

impl State {
    fn begin(&mut self, request: &Request) {
        self.outstanding += 1;
        self.memory += usize::from(is_memory(request));
        self.sockets += usize::from(is_sockets(request));
    }

    fn finish(&mut self, request: &Request) {
        self.outstanding -= 1;
        self.memory -= usize::from(is_memory(request));
        self.sockets -= usize::from(is_sockets(request));
    }

    /// Outstanding ones that every stream waits for.
    fn facts(&self) -> usize {
        self.outstanding - self.memory - self.sockets
    }
}

struct Shared {
    proc: Arc<Proc>,
    /// Threads at work.
    workers: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Tells the observer that nothing is outstanding any more: of facts, or of memory.
    ready: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader that panicked holds no half-made state: each change under the lock is complete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool.
pub struct Readers {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("state", &*self.shared.lock()).finish()
    }
}

impl Readers {
    /// Starts the threads; `ready` is called, from one of them, whenever all facts that were asked for have come, or all
    /// readings of memory.
    #[must_use]
    pub fn start(proc: Arc<Proc>, ready: Box<dyn Fn() + Send + Sync>) -> Self {
        Self::with(WORKERS, proc, ready)
    }

    /// The same with one thread at work: two that read side by side cost each other some 10 % of CPU, and somebody who waits for a
    /// table does not see the difference.
    #[must_use]
    pub fn start_one(proc: Arc<Proc>, ready: Box<dyn Fn() + Send + Sync>) -> Self {
        Self::with(1, proc, ready)
    }

    fn with(workers: usize, proc: Arc<Proc>, ready: Box<dyn Fn() + Send + Sync>) -> Self {
        let shared = Arc::new(Shared { proc, workers, state: Mutex::default(), work: Condvar::new(), ready });
        let mut state = shared.lock();
        for _ in 0..workers {
            spawn(&shared, &mut state);
        }
        drop(state);
        Self { shared }
    }

    /// Asks for all of these. A process for which a thread still waits is answered at once as late.
    pub fn ask(&self, requests: impl IntoIterator<Item = Request>) {
        let mut state = self.shared.lock();
        for request in requests {
            state.begin(&request);
            let waits = |slot: &Slot| slot.given_up && slot.busy.is_some_and(|(stuck, _)| same_target(stuck, request));
            if state.slots.iter().any(waits) || working(&state) == 0 {
                if request == Request::Cgroups {
                    state.cgroups = None;
                }
                state.answers.push(Answer::late(request));
                state.finish(&request);
            } else {
                state.queue.push_back(request);
            }
        }
        // Memory and sockets are read by one thread: the others need not wake for it.
        let others = state.queue.iter().filter(|request| !is_slow(request)).count();
        match others + usize::from(others < state.queue.len()) {
            0 => {}
            1 => self.shared.work.notify_one(),
            _ => self.shared.work.notify_all(),
        }
    }

    /// Asks for what control groups have and may have, all in one answer.
    pub fn ask_cgroups(&self, hierarchies: Arc<Hierarchies>, groups: Vec<Group>) {
        if groups.is_empty() {
            return;
        }
        // Those of the tick before, if nobody came to them yet, are in these.
        let waits = self.shared.lock().cgroups.replace((hierarchies, groups)).is_some();
        if !waits {
            self.ask([Request::Cgroups]);
        }
    }

    /// Takes the answers there are.
    #[must_use]
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.shared.lock().answers)
    }

    /// Whether something is still to be answered.
    #[must_use]
    pub fn outstanding(&self) -> bool {
        self.shared.lock().outstanding > 0
    }

    /// Whether all that was asked has been answered and taken, but for memory and sockets. To be asked again after each taking: what is taken
    /// may lead to new questions, and an answer may come between a taking and a look at what is outstanding.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let state = self.shared.lock();
        state.facts() == 0 && state.answers.is_empty()
    }

    /// The same of sockets: lists of descriptors ([`Wants::SOCKETS`] alone) and those of namespaces.
    #[must_use]
    pub fn has_sockets(&self) -> bool {
        let state = self.shared.lock();
        state.sockets == 0 && state.answers.is_empty()
    }

    /// Whether memory that was asked for is still to be answered.
    #[must_use]
    pub fn is_weighing(&self) -> bool {
        self.shared.lock().memory > 0
    }

    /// Whether a thread that was given up still waits for this process.
    #[must_use]
    pub fn waits_for(&self, pid: u32) -> bool {
        let is_it = |slot: &Slot| matches!(slot.busy, Some((Request::Process { pid: stuck, .. }, _)) if slot.given_up && stuck == pid);
        self.shared.lock().slots.iter().any(is_it)
    }

    /// Whether answers wait to be taken.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.shared.lock().answers.is_empty()
    }

    /// When the first read under way has had its time; `None` while none is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.shared.lock();
        state.slots.iter().filter(|slot| !slot.given_up).filter_map(|slot| slot.busy).map(|(_, since)| since + DEADLINE).min()
    }

    /// Gives up the threads whose read has had its time, and answers for them. Returns how many.
    pub fn expire(&self, now: Instant) -> usize {
        let mut state = self.shared.lock();
        let mut given_up = 0;
        for at in 0..state.slots.len() {
            let slot = &mut state.slots[at];
            let Some((request, since)) = slot.busy.filter(|_| !slot.given_up) else { continue };
            if now.duration_since(since) < DEADLINE {
                continue;
            }
            slot.given_up = true;
            given_up += 1;
            state.answers.push(Answer::late(request));
            state.finish(&request);
        }
        refill(&self.shared, &mut state);
        if working(&state) == 0 {
            // Every thread waits for a target of its own: what is left is told to be late, now.
            let rest: Vec<_> = state.queue.drain(..).collect();
            rest.iter().for_each(|request| state.finish(request));
            state.cgroups = None;
            state.answers.extend(rest.into_iter().map(Answer::late));
        }
        given_up
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
    }
}

/// Starts threads until enough are at work, or as many as may be wait for targets of their own.
fn refill(shared: &Arc<Shared>, state: &mut State) {
    while working(state) < shared.workers && state.slots.len() < MOST {
        let before = state.slots.len();
        spawn(shared, state);
        if state.slots.len() == before {
            // No thread is to be had now; the next deadline tries again.
            break;
        }
    }
}

fn working(state: &State) -> usize {
    state.slots.iter().filter(|slot| !slot.given_up).count()
}

const fn same_target(one: Request, other: Request) -> bool {
    match (one, other) {
        (Request::Process { pid: one, .. }, Request::Process { pid: other, .. })
        | (Request::User(one), Request::User(other))
        | (Request::Group(one), Request::Group(other)) => one == other,
        (Request::Sockets { netns: one, .. }, Request::Sockets { netns: other, .. }) => one == other,
        (Request::Cgroups, Request::Cgroups) => true,
        _ => false,
    }
}

fn spawn(shared: &Arc<Shared>, state: &mut State) {
    let number = state.threads_started;
    let name = format!("reader-{number}");
    let for_thread = Arc::clone(shared);
    if thread::Builder::new().name(name).stack_size(256 * 1024).spawn(move || work(&for_thread, number)).is_ok() {
        state.threads_started += 1;
        state.slots.push(Slot { number, busy: None, given_up: false });
    }
}

fn work(shared: &Arc<Shared>, number: u64) {
    let mut visit = Visit::default();
    let mut state = shared.lock();
    loop {
        if state.stop {
            return;
        }
        let Some(request) = next(&mut state) else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.number == number) {
            slot.busy = Some((request, Instant::now()));
        }
        let cgroups = if request == Request::Cgroups { state.cgroups.take() } else { None };
        drop(state);
        let answer = match cgroups {
            Some(cgroups) => read_cgroups(cgroups),
            None => answer(&shared.proc, request, &mut visit),
        };
        state = shared.lock();
        let given_up = state.slots.iter().any(|slot| slot.number == number && slot.given_up);
        if given_up {
            // The answer was given for us long ago; make room for another thread. What memory a large process has is worth
            // knowing even now.
            if is_memory(&request) {
                state.answers.push(answer);
                (shared.ready)();
            }
            state.slots.retain(|slot| slot.number != number);
            refill(shared, &mut state);
            return;
        }
        if let Some(slot) = state.slots.iter_mut().find(|slot| slot.number == number) {
            slot.busy = None;
        }
        state.answers.push(answer);
        state.finish(&request);
        // Whoever waits for facts does not wait for memory or sockets; and nobody wakes for each reading of these.
        let rest = match &request {
            request if is_memory(request) => state.memory,
            request if is_sockets(request) => state.sockets,
            _ => state.facts(),
        };
        if rest == 0 {
            (shared.ready)();
        }
        if visit.is_lost() {
            // It is in another network namespace for good: another thread takes its place.
            state.slots.retain(|slot| slot.number != number);
            refill(shared, &mut state);
            return;
        }
    }
}

fn is_memory(request: &Request) -> bool {
    matches!(request, Request::Process { wants, .. } if *wants == Wants::MEMORY)
}

fn is_sockets(request: &Request) -> bool {
    matches!(request, Request::Sockets { .. }) || matches!(request, Request::Process { wants, .. } if *wants == Wants::SOCKETS)
}

fn is_slow(request: &Request) -> bool {
    is_memory(request) || is_sockets(request)
}

/// The next that may be read now. Memory and sockets are read by one thread at a time: two that walk page tables side by side cost
/// each other CPU, and whatever else is asked does not wait behind a large process.
fn next(state: &mut State) -> Option<Request> {
    let under_way = state.slots.iter().filter(|slot| !slot.given_up).filter_map(|slot| slot.busy).any(|(busy, _)| is_slow(&busy));
    let at = state.queue.iter().position(|request| !(under_way && is_slow(request)))?;
    state.queue.remove(at)
}

fn answer(proc: &Proc, request: Request, visit: &mut Visit) -> Answer {
    match request {
        Request::Process { pid, start, wants } => {
            Answer::Process { pid, start, wants, got: Some(Box::new(process::read(proc, pid, start, wants))) }
        }
        Request::User(uid) => Answer::User(uid, users::user_name(uid)),
        Request::Group(gid) => Answer::Group(gid, users::group_name(gid)),
        Request::Sockets { netns, pid, way } => Answer::Sockets { netns, pid, got: Some(sockets::read(proc, netns, pid, way, visit)) },
        Request::Cgroups => Answer::late(request),
    }
}

fn read_cgroups((hierarchies, groups): (Arc<Hierarchies>, Vec<Group>)) -> Answer {
    let mut seen = Seen::default();
    let read = |group: Group| {
        let found = hierarchies.read_with(group.0, &group.1, &mut seen);
        (group, found)
    };
    Answer::Cgroups(groups.into_iter().map(read).collect())
}

#[cfg(test)]
mod tests;
