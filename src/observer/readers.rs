//! The threads that do the reads which may wait: two, at most four.
//!
//! Reading `cmdline` waits for the target's mmap_lock, and with a target stuck in the kernel it never
//! returns. So a read has a deadline. When it passes, the thread is given up and replaced, and the
//! observer is told that the value could not be had in time; should the thread ever come back, it finds
//! that it was given up and ends. Nobody is asked a second time while a thread still waits for him.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::cgroups::{Found, Group};
use super::facts::{Counters, Details, Got, NAMESPACES, Reading, Wants};
use super::life::Base;
use super::sockets::Held;
use crate::source::cgroup_limits::{Hierarchies, Seen};
use crate::source::namespace::Visit;
use crate::source::procdir::{Proc, ProcessDir, read_at_start};
use crate::source::smaps::{self, Taken};
use crate::source::sockets::{self, Sockets, Way};
use crate::source::{ReadError, cgroup, cmdline, fds, io, limits, signed, stat, statm, status, users};

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
        Request::Process { pid, start, wants } => Answer::Process { pid, start, wants, got: Some(Box::new(read(proc, pid, start, wants))) },
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

/// Reads what is wanted of one process, all of it through one directory descriptor, so that it is of one process.
fn read(proc: &Proc, pid: u32, start: Option<u64>, wants: Wants) -> Got {
    if wants == Wants::MEMORY {
        // The only file: whoever asked knows by its own means whose it was.
        return Got { memory: Some(smaps::take(proc, pid)), ..Got::default() };
    }
    let dir = match proc.process(pid) {
        Ok(dir) => dir,
        Err(error) => return all_failed(wants, error),
    };
    let stat = (start.is_some() || wants.has(Wants::STAT)).then(|| read_stat(&dir));
    if let (Some(start), Some(Ok((now, _)))) = (start, &stat)
        && now.start != start
    {
        return all_failed(wants, ReadError::Vanished);
    }
    let want = |one: Wants| wants.has(one);
    let mut details = Details::default();
    if want(Wants::STATUS) {
        details.status = Reading::from_read(dir.read("status").map(|text| Box::new(status::parse(&text))));
    }
    if want(Wants::IO) {
        details.io = Reading::from_read(dir.read("io").and_then(|text| io::parse(&text).ok_or(ReadError::Vanished)));
    }
    if want(Wants::OOM) {
        let value = |name| dir.read(name).and_then(|text| signed(text.trim_ascii()).ok_or(ReadError::Vanished));
        details.oom_score = Reading::from_read(value("oom_score"));
        details.oom_score_adj = Reading::from_read(value("oom_score_adj"));
    }
    if want(Wants::WCHAN) {
        details.wchan = word(dir.read("wchan"));
    }
    if want(Wants::LABEL) {
        details.label = word(dir.read("attr/current"));
    }
    if want(Wants::FDS) {
        details.fds = Reading::from_read(dir.fd_count());
    }
    if want(Wants::NAMESPACES) {
        for (place, name) in details.namespaces.iter_mut().zip(NAMESPACES) {
            *place = Reading::from_read(dir.link(&format!("ns/{name}")).map(|link| inode(&link)));
        }
    }
    let cgroup = want(Wants::CGROUP).then(|| dir.read("cgroup"));
    let memory = want(Wants::MEMORY).then(|| Taken { memory: smaps::read(&dir), cpu: Duration::ZERO, took: Duration::ZERO });
    // Whoever has no memory is a kernel thread, a zombie or gone: that only his stat tells, and with it the name.
    let has_none = memory.is_some_and(|taken| taken.memory == Err(ReadError::Vanished));
    Got {
        memory,
        comm: (want(Wants::COMM) && !has_none).then(|| comm(&dir)),
        base: want(Wants::BASE).then(|| base(&dir)).flatten(),
        stat: stat.filter(|_| wants.has(Wants::STAT)),
        cmd: want(Wants::CMD).then(|| dir.open("cmdline").and_then(|fd: OwnedFd| cmdline::read(&fd))),
        exe: want(Wants::EXE).then(|| dir.link("exe")),
        cgroup: cgroup.as_ref().map(|text| {
            text.as_ref().map_err(|error| *error).and_then(|text| cgroup::parse(text).map(<[u8]>::to_vec).ok_or(ReadError::Vanished))
        }),
        cgroup_text: cgroup.and_then(Result::ok),
        limits: want(Wants::LIMITS).then(|| dir.read("limits").and_then(|text| limits::parse(&text).ok_or(ReadError::Vanished))),
        maps: want(Wants::MAPS).then(|| dir.open("maps").and_then(|fd| limits::mappings(&fd))),
        owner: want(Wants::OWNER).then(|| dir.owner()),
        held: want(Wants::SOCKETS).then(|| Ok(Held::new(dir.network_namespace()?, fds::list(&dir)?))),
        details,
    }
}

/// The name in one read: it has 15 bytes at most, those of kernel workers 63 (`include/linux/sched.h`, `fs/proc/array.c`).
fn comm(dir: &ProcessDir) -> Result<Vec<u8>, ReadError> {
    let mut buffer = [0; 128];
    let length = read_at_start(&dir.open("comm")?, &mut buffer)?;
    let name = &buffer[..length];
    Ok(name.strip_suffix(b"\n").unwrap_or(name).to_vec())
}

fn read_stat(dir: &ProcessDir) -> Result<Counters, ReadError> {
    let line = dir.read("stat")?;
    let (mut stat, comm) = stat::parse(&line).ok_or(ReadError::Vanished)?;
    stat.rss_pages = dir.read("statm").ok().and_then(|text| statm::resident_pages(&text)).unwrap_or(stat.rss_pages);
    Ok((stat, comm.into()))
}

/// What the ended tasks of a process had used: its own counters less those of its living tasks. What cannot be read, and what
/// changed meanwhile, counts for nothing.
fn base(dir: &ProcessDir) -> Option<Base> {
    let counters = |prefix: &str| {
        let stat = stat::parse(&dir.read(&format!("{prefix}stat")).ok()?)?.0;
        let io = dir.read(&format!("{prefix}io")).ok().and_then(|text| io::parse(&text)).unwrap_or_default();
        Some((stat, io))
    };
    // First the whole, then its parts: what they do meanwhile is then left out, and not counted as done by ended ones.
    let (whole, io) = counters("")?;
    let tasks = dir.tasks().ok()?;
    let (mut user, mut system, mut min_flt, mut maj_flt, mut living) = (0_u64, 0_u64, 0_u64, 0_u64, io::Io::default());
    for task in tasks {
        let Some((stat, io)) = counters(&format!("task/{task}/")) else { continue };
        user += stat.utime;
        system += stat.stime;
        min_flt += stat.min_flt;
        maj_flt += stat.maj_flt;
        living = living.plus(io);
    }
    let us_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let io = ended_io(&whole, io, living);
    Some(Base {
        user_us: whole.utime.saturating_sub(user).saturating_mul(us_per_tick),
        system_us: whole.stime.saturating_sub(system).saturating_mul(us_per_tick),
        min_flt: whole.min_flt.saturating_sub(min_flt),
        maj_flt: whole.maj_flt.saturating_sub(maj_flt),
        rchar: io.rchar,
        wchar: io.wchar,
        syscr: io.syscr,
        syscw: io.syscw,
        read_bytes: io.read_bytes,
        write_bytes: io.write_bytes,
        cancelled_write_bytes: io.cancelled_write_bytes,
    })
}

/// The io of a process's ended tasks: that of the whole less that of its living tasks. The whole has that of children it waited
/// for too (`wait_task_zombie`, `kernel/exit.c`), and nobody can tell the two apart: then it counts for nothing.
fn ended_io(whole: &stat::Stat, io: io::Io, living: io::Io) -> io::Io {
    if whole.cmin_flt == 0 { io.less(living) } else { io::Io::default() }
}

/// A file of one word: `0` and nothing mean none, whatever follows a NUL or newline is cut.
fn word(text: Result<Vec<u8>, ReadError>) -> Reading<Box<[u8]>> {
    match text {
        Ok(text) => match text.split(|byte| matches!(byte, 0 | b'\n')).next() {
            None | Some(b"" | b"0") => Reading::Absent,
            Some(word) => Reading::Known(word.into()),
        },
        // The file is there only where the kernel has the feature.
        Err(ReadError::Failed(_)) => Reading::Absent,
        Err(error) => Reading::from_read(Err(error)),
    }
}

/// `net:[4026531840]` is 4026531840.
fn inode(link: &[u8]) -> Box<[u8]> {
    link.iter().copied().filter(u8::is_ascii_digit).collect()
}

fn all_failed(wants: Wants, error: ReadError) -> Got {
    Got {
        stat: wants.has(Wants::STAT).then_some(Err(error)),
        cmd: wants.has(Wants::CMD).then_some(Err(error)),
        exe: wants.has(Wants::EXE).then_some(Err(error)),
        cgroup: wants.has(Wants::CGROUP).then_some(Err(error)),
        owner: wants.has(Wants::OWNER).then_some(Err(error)),
        comm: wants.has(Wants::COMM).then_some(Err(error)),
        memory: wants.has(Wants::MEMORY).then_some(Taken { memory: Err(error), cpu: Duration::ZERO, took: Duration::ZERO }),
        cgroup_text: None,
        limits: wants.has(Wants::LIMITS).then_some(Err(error)),
        maps: wants.has(Wants::MAPS).then_some(Err(error)),
        base: None,
        held: wants.has(Wants::SOCKETS).then_some(Err(error)),
        details: Details::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::path::Path;
    use std::sync::mpsc;

    fn pool(root: &Path) -> (Readers, mpsc::Receiver<()>) {
        let (ready, told) = mpsc::channel();
        let proc = Arc::new(Proc::open(root).unwrap());
        (
            Readers::start(
                proc,
                Box::new(move || {
                    let _ = ready.send(());
                }),
            ),
            told,
        )
    }

    fn ask(pid: u32, start: Option<u64>) -> Request {
        Request::Process { pid, start, wants: Wants::FIRST }
    }

    /// A process whose command line never answers: a FIFO that nobody writes to.
    fn stuck_process(root: &Path, pid: u32) {
        let dir = root.join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        mknodat(CWD, dir.join("cmdline"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[test]
    fn io_of_children_is_not_that_of_ended_tasks() {
        // A shell that waited for a child that wrote a MiB, and waits now.
        let script = "head -c 1048576 /dev/zero >/dev/null; echo; read x";
        let piped = std::process::Stdio::piped;
        let mut shell = std::process::Command::new("sh").args(["-c", script]).stdin(piped()).stdout(piped()).spawn().unwrap();
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let dir = Proc::open(Path::new("/proc")).unwrap().process(shell.id()).unwrap();
        let whole = io::parse(&dir.read("io").unwrap()).unwrap();
        let base = base(&dir).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(whole.wchar >= 1 << 20, "the kernel counts it as the shell's: {whole:?}");
        assert_eq!((base.rchar, base.wchar, base.syscr, base.syscw, base.read_bytes), (0, 0, 0, 0, 0));
        // Whoever waited for nobody had it from its own tasks.
        let (all, living) = (io::Io { wchar: 9, syscw: 3, ..io::Io::default() }, io::Io { wchar: 4, syscw: 5, ..io::Io::default() });
        assert_eq!(ended_io(&stat::Stat::default(), all, living), io::Io { wchar: 5, ..io::Io::default() });
        assert_eq!(ended_io(&stat::Stat { cmin_flt: 1, ..stat::Stat::default() }, all, living), io::Io::default());
    }

    #[test]
    fn ourselves_are_read() {
        let (readers, told) = pool(Path::new("/proc"));
        readers.ask([ask(std::process::id(), None), Request::User(0)]);
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(!readers.outstanding() && readers.has_answers() && !readers.is_settled(), "answered, and not taken");
        let mut facts = None;
        for answer in readers.take() {
            match answer {
                Answer::Process { got: Some(got), .. } => facts = Some(got),
                Answer::User(0, name) => assert_eq!(name.as_deref(), Some(&b"root"[..])),
                other => panic!("{other:?}"),
            }
        }
        let facts = facts.unwrap();
        assert!(facts.cmd.unwrap().unwrap().args().next().is_some());
        assert!(facts.exe.unwrap().unwrap().starts_with(b"/"));
        assert!(readers.is_settled());
    }

    #[test]
    fn another_process_with_the_pid_is_not_taken_for_it() {
        let (readers, told) = pool(Path::new("/proc"));
        readers.ask([ask(std::process::id(), Some(1))]);
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        match readers.take().pop().unwrap() {
            Answer::Process { got: Some(got), .. } => assert_eq!(got.cmd, Some(Err(ReadError::Vanished))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn targets_that_never_answer_cost_their_threads_and_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        for pid in 1..=6 {
            stuck_process(root.path(), pid);
        }
        std::fs::create_dir(root.path().join("100")).unwrap();
        std::fs::write(root.path().join("100/cmdline"), "fine\0").unwrap();
        let (readers, _told) = pool(root.path());

        // One stuck target: its thread is replaced, and the next request is answered.
        readers.ask([ask(1, None)]);
        wait_until(|| readers.deadline().is_some());
        assert_eq!(readers.expire(Instant::now()), 0, "it still has time");
        assert_eq!(readers.expire(Instant::now() + DEADLINE), 1);
        assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 1, got: None, .. }]));
        readers.ask([ask(100, None)]);
        wait_until(|| !readers.outstanding());
        assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 100, got: Some(_), .. }]));

        // It is not asked again while a thread waits for it.
        readers.ask([ask(1, None)]);
        assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 1, got: None, .. }]));

        // With every thread given up, all that is left is late at once, and nothing hangs.
        readers.ask((2..=6).map(|pid| ask(pid, None)).chain([ask(100, None)]));
        let mut late = 0;
        while readers.outstanding() {
            wait_until(|| readers.deadline().is_some() || !readers.outstanding());
            readers.expire(Instant::now() + DEADLINE);
            late += readers.take().iter().filter(|answer| matches!(answer, Answer::Process { got: None, .. })).count();
        }
        assert_eq!(late, 6);

        // A target that answers after all sets its thread free.
        let _ = std::fs::write(root.path().join("1/cmdline"), "late\0");
        wait_until(|| readers.shared.lock().slots.iter().any(|slot| !slot.given_up));

        // With a thread at work again, whoever asks is answered again.
        readers.ask([ask(100, None)]);
        wait_until(|| !readers.outstanding());
        assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 100, got: Some(_), .. }]));
    }

    fn wait_until(fact: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        while !fact() {
            assert!(Instant::now() < limit, "the fact did not come true in 20 s");
            thread::yield_now();
        }
    }
}
