//! One tick's work on the table.
//!
//! **The gate**: a process that did not run did not change itself. A round asks each process for its CPU
//! clock and reads only those whose clock moved; a round that looks at everyone also counts those that
//! differed although their clock stood still, so that the assumption is audited for ever. The clock of a
//! process that is on a CPU at this moment is brought up to date when it leaves it and at each scheduler
//! tick (`thread_group_cputime` in `kernel/sched/cputime.c`): its last milliseconds show in the next round.
//!
//! A round goes in slices, so that the loop that runs it is never away for long: [`Round::begin`] lists and
//! compares, [`Round::advance`] looks at processes until its time is up, and once the readers have answered
//! ([`World::absorb`]) or were given enough time, a sampler makes its rows of what was touched.

use std::hash::{Hash as _, Hasher as _};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::facts::{Facts, Got, Reading, Wants, program_of};
use super::names::Names;
use super::readers::{Answer, Readers, Request};
use super::table::{Process, Table};
use crate::record::cmd::Cmd;
use crate::record::identity::Identity;
use crate::record::scrub::Scrubber;
use crate::source::host::{self, Machine};
use crate::source::procdir::{Proc, read_at_start};
use crate::source::stat::{self, Stat};
use crate::source::tty::Terminals;
use crate::source::{ReadError, cgroup, clock, statm};

/// A command line is read again after so long, if its process ran: setproctitle raises no event.
const CMD_AGE_NS: u64 = 60_000_000_000;
/// The effective user is looked at again after so long, if its process ran: setuid raises no event either.
const OWNER_AGE_NS: u64 = 9_000_000_000;
/// How often at most everyone is read because the machine reclaimed memory.
const RECLAIM_EVERY: Duration = Duration::from_secs(60);
/// Longest `stat` there is: 52 numbers of 20 digits and a name.
const STAT_BYTES: usize = 2048;

/// All that the observer knows: the kernel's files, the table, and what it takes to fill it.
#[derive(Debug)]
pub struct World {
    /// `/proc`.
    pub proc: Arc<Proc>,
    /// The machine.
    pub machine: Machine,
    /// Names of terminals.
    pub terminals: Terminals,
    /// The table.
    pub table: Table,
    /// Names of users and groups.
    pub names: Names,
    /// The threads that may wait.
    pub readers: Readers,
    /// What of a command line may be recorded.
    pub scrubber: Scrubber,
    /// What the selected columns need beyond the facts of every process.
    pub details: Wants,
    /// Whether any memory was ever swapped out: without, nobody is asked for it.
    pub swap: bool,
    /// When the round before began, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    pub last_round_ns: u64,
    this_round_ns: u64,
    reclaim: Option<(u64, Instant)>,
}

/// Processes that ended since the last round, by identity.
pub type Ended = Vec<(Identity, bool)>;

/// The state of a round under way.
#[derive(Debug)]
pub struct Round {
    /// Everyone is read, whether it ran or not.
    pub everyone: bool,
    /// When it began.
    pub began: Instant,
    /// What was listed.
    pub seen: u64,
    /// Listed, but gone when it was to be read.
    pub vanished: u64,
    /// Read and different although the clock stood still.
    pub gate_missed: u64,
    /// Pids whose row may have changed, ascending.
    pub touched: Vec<u32>,
    /// Who ended, and whether it was shown by the ps sampler.
    pub ended: Ended,
    /// Time spent reading.
    pub read: Duration,
    requests: Vec<Request>,
    /// Files that may still be kept open in this round.
    spare: usize,
    next: u32,
    pids: Vec<u32>,
    /// Who ended or became a zombie: their children have another parent now, and their session no terminal.
    parents: FxHashSet<u32>,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(proc: Arc<Proc>, readers: Readers, scrubber: Scrubber, may_keep: usize) -> Self {
        let machine = Machine::read(&proc);
        let terminals = Terminals::parse(&proc.read("tty/drivers").unwrap_or_default());
        Self {
            machine,
            terminals,
            table: Table::new(may_keep),
            names: Names::default(),
            readers,
            scrubber,
            details: Wants::NONE,
            swap: false,
            last_round_ns: 0,
            this_round_ns: 0,
            reclaim: None,
            proc,
        }
    }

    /// Whether the machine reclaimed or swapped memory since everyone was read: then resident and swapped
    /// memory of processes that did not run may have changed.
    fn reclaimed(&mut self, everyone: bool) -> bool {
        let now = Instant::now();
        if let Some((_, at)) = self.reclaim
            && !everyone
            && now.duration_since(at) < RECLAIM_EVERY
        {
            return false;
        }
        let Ok(activity) = host::reclaim_activity(&self.proc) else { return false };
        let moved = self.reclaim.is_some_and(|(before, _)| before != activity);
        self.reclaim = Some((activity, now));
        moved
    }

    /// Takes what the readers brought; the pids it concerns are added to `touched`.
    pub fn absorb(&mut self, touched: &mut Vec<u32>) {
        for answer in self.readers.take() {
            match answer {
                Answer::Process { pid, start, wants, got } => {
                    if self.take_facts(pid, start, wants, got) {
                        touched.push(pid);
                    }
                }
                Answer::User(uid, name) => {
                    if self.names.set_user(uid, name) {
                        let concerned = |process: &&Process| process.facts.owner == Reading::Known(uid);
                        touched.extend(self.table.iter().filter(concerned).map(|process| process.id.pid));
                    }
                }
                Answer::Group(gid, name) => {
                    self.names.set_group(gid, name);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
    }

    fn take_facts(&mut self, pid: u32, start: Option<u64>, wants: Wants, got: Option<Box<Got>>) -> bool {
        // What a foreign /proc says of a process is learned in the same way for all of them.
        if let Some(Got { stat: Some(Ok((stat, comm))), .. }) = got.as_deref() {
            let known = self.table.get(pid).is_some_and(|process| process.id.start == stat.start && process.is_known());
            if !known {
                let shown = self.table.get(pid).map(|process| process.ps);
                let mut process = Process::new(*stat, comm, None);
                // Until now it was shown as a pid of which nothing could be had.
                process.ps.replaces_unknown = shown.is_some_and(|shown| shown.visible);
                self.table.insert(process);
            }
        }
        let hz = self.machine.hz;
        let Some(process) = self.table.get_mut(pid) else { return false };
        if start.is_some_and(|start| start != process.id.start) {
            return false;
        }
        process.asked = process.asked.without(wants);
        let Some(got) = got else {
            process.late |= wants;
            mark_late(&mut process.facts, wants);
            return true;
        };
        process.late = process.late.without(wants);
        let mut requests = Vec::new();
        if let Some(Ok((stat, comm))) = got.stat {
            process.look(ticks_to_ns(stat.utime.saturating_add(stat.stime), hz), clock::monotonic_ns());
            process.rss_pages = stat.rss_pages;
            process.stat = stat;
            process.comm = comm;
        }
        if let Some(cmd) = got.cmd {
            take_cmd(process, cmd, &self.scrubber);
        }
        if let Some(exe) = got.exe.filter(|answer| !is_over(&process.facts.exe, answer)) {
            let before = std::mem::take(&mut process.facts.exe);
            process.facts.exe = same_or_new(before, Reading::from_read(exe));
            process.facts.program = program(process);
        }
        if let Some(path) = got.cgroup.filter(|answer| !is_over(&process.facts.cgroup, answer)) {
            let before = std::mem::take(&mut process.facts.cgroup);
            process.facts.cgroup = same_or_new(before, Reading::from_read(path));
            let unit = match &process.facts.cgroup {
                Reading::Known(path) => cgroup::unit(path).map_or(Reading::Absent, |unit| Reading::Known(unit.to_vec())),
                other => other.known().map_or_else(|| reading_of(other), |_| Reading::Absent),
            };
            process.facts.unit = same_or_new(std::mem::take(&mut process.facts.unit), unit);
        }
        if let Some(owner) = got.owner.filter(|answer| !is_over(&process.facts.owner, answer)) {
            process.facts.owner = Reading::from_read(owner);
        }
        if !wants.and(DETAILS).is_empty() {
            process.facts.details.get_or_insert_default().update(got.details);
        }
        self.names_of(pid, &mut requests);
        self.readers.ask(requests);
        true
    }

    /// What must be asked so that the users and groups of a process have names.
    fn names_of(&mut self, pid: u32, requests: &mut Vec<Request>) {
        let Some(process) = self.table.get(pid) else { return };
        if let Reading::Known(uid) = process.facts.owner {
            requests.extend(self.names.ask_user(uid));
        }
        if let Some(status) = process.facts.details.as_ref().and_then(|details| details.status.known()) {
            requests.extend(status.uids.iter().filter_map(|uid| self.names.ask_user(*uid)));
            requests.extend(status.gids.iter().filter_map(|gid| self.names.ask_group(*gid)));
        }
    }
}

/// A process that ended while it was asked keeps, in its last row, what was known of it.
fn is_over<T, U>(before: &Reading<T>, answer: &Result<U, ReadError>) -> bool {
    before.known().is_some() && matches!(answer, Err(ReadError::Vanished))
}

/// Clock ticks in nanoseconds; a large machine's process has more of them than 64 bits of nanoseconds in between.
fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1))).unwrap_or(u64::MAX)
}

/// What goes into [`Facts::details`].
const DETAILS: Wants = Wants::DETAILS;

fn reading_of<T, U>(other: &Reading<T>) -> Reading<U> {
    match other {
        Reading::Refused => Reading::Refused,
        Reading::Late => Reading::Late,
        Reading::Unread => Reading::Unread,
        Reading::Absent | Reading::Known(_) => Reading::Absent,
    }
}

/// Keeps the bytes already there where the new ones are the same: thousands of rows share them.
fn same_or_new(before: Reading<Arc<[u8]>>, new: Reading<Vec<u8>>) -> Reading<Arc<[u8]>> {
    match (before, new) {
        (Reading::Known(before), Reading::Known(new)) if *before == *new => Reading::Known(before),
        (_, Reading::Known(new)) => Reading::Known(new.into()),
        (_, other) => reading_of(&other),
    }
}

fn take_cmd(process: &mut Process, cmd: Result<Cmd, ReadError>, scrubber: &Scrubber) {
    process.cmd_read_ns = clock::monotonic_ns();
    if matches!(cmd, Err(ReadError::Vanished)) {
        // It ended, or an exec was just setting its arguments up: asked again as soon as it ran.
        process.cmd_read_ns = 0;
    }
    if is_over(&process.facts.cmd, &cmd) {
        return;
    }
    let cmd = match Reading::from_read(cmd) {
        Reading::Known(cmd) => cmd,
        other => {
            process.facts.cmd = reading_of(&other);
            return;
        }
    };
    let mut hasher = rustc_hash::FxHasher::default();
    cmd.args().for_each(|arg| arg.hash(&mut hasher));
    // 0 stands for nothing said yet.
    let said = hasher.finish() | 1;
    if process.facts.said != said || process.facts.cmd.known().is_none() {
        process.facts.said = said;
        process.facts.cmd = scrubber.apply(cmd).map_or(Reading::Absent, |cmd| Reading::Known(Arc::new(cmd)));
    }
}

/// Until rules say otherwise a process counts for the base name of its executable; where that is refused,
/// for its own name. Kernel threads count for none.
fn program(process: &Process) -> Reading<Arc<[u8]>> {
    if process.stat.is_kthread() {
        return Reading::Absent;
    }
    match &process.facts.exe {
        Reading::Known(exe) => Reading::Known(program_of(exe).into()),
        Reading::Late => Reading::Late,
        _ if process.comm.is_empty() => Reading::Absent,
        _ => Reading::Known(process.comm.as_ref().into()),
    }
}

fn mark_late(facts: &mut Facts, wants: Wants) {
    if wants.has(Wants::CMD) {
        facts.cmd = Reading::Late;
        facts.said = 0;
    }
    if wants.has(Wants::EXE) {
        facts.exe = Reading::Late;
        facts.program = Reading::Late;
    }
    if wants.has(Wants::CGROUP) {
        facts.cgroup = Reading::Late;
        facts.unit = Reading::Late;
    }
    if wants.has(Wants::OWNER) {
        facts.owner = Reading::Late;
    }
}

impl Round {
    /// Lists the processes and compares with the table.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn begin(world: &mut World, everyone: bool) -> std::io::Result<Self> {
        let began = Instant::now();
        world.last_round_ns = std::mem::replace(&mut world.this_round_ns, clock::monotonic_ns());
        let mut pids = Vec::with_capacity(world.table.len() + 64);
        world.proc.list(&mut pids)?;
        let everyone = world.reclaimed(everyone) || everyone;
        if everyone {
            let memory = world.proc.read("meminfo").unwrap_or_default();
            world.swap = host::meminfo(&memory, b"SwapTotal").is_none_or(|total| total > 0);
            world.names.expire();
        }
        let mut round = Self {
            everyone,
            began,
            seen: pids.len() as u64,
            vanished: 0,
            gate_missed: 0,
            touched: Vec::new(),
            ended: Vec::new(),
            read: Duration::ZERO,
            requests: Vec::new(),
            spare: 0,
            next: 0,
            pids: Vec::new(),
            parents: FxHashSet::default(),
        };
        let mut gone = Vec::new();
        world.table.compare(&pids, &mut round.pids, &mut gone);
        for pid in gone {
            round.bury(&mut world.table, pid);
        }
        for pid in std::mem::take(&mut round.pids) {
            round.discover(world, pid);
        }
        round.read = began.elapsed();
        Ok(round)
    }

    fn bury(&mut self, table: &mut Table, pid: u32) {
        if let Some(process) = table.remove(pid) {
            self.parents.insert(pid);
            self.ended.push((process.id, process.ps.visible));
        }
    }

    /// Takes in a process that was not in the table.
    fn discover(&mut self, world: &mut World, pid: u32) {
        if !world.proc.is_native() {
            // Nothing of this tree is sure to answer: the readers ask even for its counters.
            let mut process = Process::unknown(pid);
            process.asked = Wants::STAT | Wants::FIRST | world.details;
            self.requests.push(Request::Process { pid, start: None, wants: process.asked });
            world.table.insert(process);
            self.touched.push(pid);
            return;
        }
        let mut buffer = [0; STAT_BYTES];
        let read = world.proc.open_stat(pid).and_then(|fd| read_at_start(&fd, &mut buffer).map(|length| (fd, length)));
        if matches!(read, Err(ReadError::NoDescriptor)) {
            // It lives, and nothing of it can be opened now: it is shown as what it is.
            world.table.insert(Process::unknown(pid));
            self.touched.push(pid);
            return;
        }
        let Some((fd, (stat, comm))) = read.ok().and_then(|(fd, length)| Some((fd, stat::parse(&buffer[..length])?))) else {
            self.vanished += 1;
            return;
        };
        // A kernel thread is rarely read again: no descriptor is spent on it.
        let kept = (world.table.may_keep() && !stat.is_kthread()).then_some(fd);
        let mut process = Process::new(stat, comm, kept);
        reread_memory(&world.proc, &mut process, &mut 0);
        let wants = if stat.is_kthread() { Wants::OWNER | Wants::CGROUP } else { Wants::FIRST };
        if stat.is_kthread() || stat.is_zombie() {
            process.facts.cmd = Reading::Absent;
            process.facts.exe = Reading::Absent;
        }
        process.facts.program = program(&process);
        process.cgroup_reads =
            cgroup_reads_due(process.id.start, clock::boottime_ns() / (1_000_000_000 / world.machine.hz.max(1)).max(1), world.machine.hz);
        self.want(wants | world.details | swap_wants(world.swap, &process), &mut process);
        if let Some(before) = world.table.insert(process) {
            self.ended.push((before.id, before.ps.visible));
        }
        self.touched.push(pid);
    }

    /// Asks for facts of a process unless they are being read.
    fn want(&mut self, wants: Wants, process: &mut Process) {
        let new = wants.without(process.asked);
        if !new.is_empty() {
            process.asked |= new;
            self.requests.push(Request::Process { pid: process.id.pid, start: Some(process.id.start), wants: new });
        }
    }

    /// Looks at processes until `until`; answers whether all were looked at, and then has asked the readers.
    pub fn advance(&mut self, world: &mut World, until: Instant) -> bool {
        let began = Instant::now();
        let finished = if world.proc.is_native() { self.look(world, until) } else { self.ask_all(world) };
        if finished && world.proc.is_native() {
            self.look_at_orphans(world);
        }
        self.read += began.elapsed();
        if finished {
            self.touched.sort_unstable();
            self.touched.dedup();
            world.readers.ask(self.requests.drain(..));
        }
        finished
    }

    /// A foreign tree: everyone's counters are asked of the readers.
    fn ask_all(&mut self, world: &mut World) -> bool {
        for process in world.table.iter_mut_from(0) {
            let again = if self.everyone { Wants::FIRST | world.details } else { Wants::NONE };
            let wants = Wants::STAT | again;
            // What never answered is asked again at full samples only.
            if process.asked.is_empty() && (process.late.is_empty() || self.everyone) {
                process.asked |= wants;
                let start = process.is_known().then_some(process.id.start);
                self.requests.push(Request::Process { pid: process.id.pid, start, wants });
            }
            self.touched.push(process.id.pid);
        }
        true
    }

    fn look(&mut self, world: &mut World, until: Instant) -> bool {
        let World { proc, table, .. } = world;
        let proc = Arc::clone(proc);
        let mut lost = Vec::new();
        let mut finished = true;
        let (details, swap) = (world.details, world.swap);
        let boot_ns = clock::boottime_ns();
        let hz = world.machine.hz.max(1);
        let spare = table.spare();
        self.spare = spare;
        for (count, process) in table.iter_mut_from(self.next).enumerate() {
            if count % 64 == 63 && Instant::now() >= until {
                self.next = process.id.pid;
                finished = false;
                break;
            }
            let pid = process.id.pid;
            let Some(cpu_ns) = clock::process_cpu_ns(pid) else {
                lost.push(pid);
                continue;
            };
            let ran = cpu_ns != process.cpu_ns;
            process.look(cpu_ns, clock::monotonic_ns());
            // A kernel thread's other values interest nobody between full samples.
            let read = self.everyone || (ran && !process.stat.is_kthread());
            if ran || self.everyone || process.ps.was_running() {
                self.touched.push(pid);
            }
            // Of an orphan it is known that it changed: the gate did not miss it.
            let known = ran || self.is_orphan(process);
            if read && !self.reread(&proc, process, known, details, swap) {
                lost.push(pid);
                continue;
            }
            self.follow_cgroup(process, boot_ns / (1_000_000_000 / hz).max(1), hz);
        }
        table.kept_more(spare - self.spare);
        for pid in lost {
            // Gone since the list was made; the pid may already be another's.
            self.bury(&mut world.table, pid);
            self.discover(world, pid);
            if let (Some(process), Some(cpu_ns)) = (world.table.get_mut(pid), clock::process_cpu_ns(pid)) {
                process.look(cpu_ns, clock::monotonic_ns());
            }
        }
        finished
    }

    fn is_orphan(&self, process: &Process) -> bool {
        let of = |pid: u32| self.parents.contains(&pid);
        !self.parents.is_empty() && (of(process.stat.ppid) || u32::try_from(process.stat.session).is_ok_and(of))
    }

    /// Whoever's parent ended has another one now, and whoever's session ended has no terminal any more,
    /// without having run: their clocks stand still, so they are looked for.
    fn look_at_orphans(&mut self, world: &mut World) {
        if self.parents.is_empty() {
            return;
        }
        let proc = Arc::clone(&world.proc);
        let (details, swap) = (world.details, world.swap);
        let mut lost = Vec::new();
        for process in world.table.iter_mut_from(0) {
            if self.is_orphan(process) {
                self.touched.push(process.id.pid);
                if !self.reread(&proc, process, true, details, swap) {
                    lost.push(process.id.pid);
                }
            }
        }
        for pid in lost {
            self.bury(&mut world.table, pid);
            self.discover(world, pid);
        }
    }

    /// Reads the counters of a process again, and asks for what they show to be stale. False if it is gone.
    fn reread(&mut self, proc: &Proc, process: &mut Process, ran: bool, details: Wants, swap: bool) -> bool {
        let mut buffer = [0; STAT_BYTES];
        let read = match &process.kept {
            Some(kept) => read_at_start(kept.as_fd(), &mut buffer),
            None => proc.open_stat(process.id.pid).and_then(|fd| read_at_start(&fd, &mut buffer)),
        };
        let length = match read {
            Ok(length) => length,
            Err(ReadError::Vanished) => return false,
            Err(_) => {
                // No descriptor left, or worse: what was known stays, and is said to be late.
                process.late |= Wants::STAT;
                return true;
            }
        };
        let Some((stat, comm)) = stat::parse(&buffer[..length]).filter(|(stat, _)| stat.start == process.id.start) else { return false };
        process.late = process.late.without(Wants::STAT);
        let renamed = *process.comm != *comm;
        let became_zombie = stat.is_zombie() && !process.stat.is_zombie();
        let exec = renamed || stat.arg_start != process.stat.arg_start;
        if !ran && differs(&process.stat, &stat, renamed) {
            self.gate_missed += 1;
        }
        if renamed {
            process.comm = comm.into();
        }
        let was_kthread = process.stat.is_kthread();
        let before = std::mem::replace(&mut process.stat, stat);
        // Pages come by faults and go with their mappings: without either the exact number stands still too.
        let memory = |stat: &Stat| (stat.min_flt, stat.maj_flt, stat.vsize, stat.rss_pages);
        if self.everyone || memory(&before) != memory(&stat) {
            // At a reading of everyone nothing is opened for good: most of them are idle.
            let mut none = 0;
            reread_memory(proc, process, if ran { &mut self.spare } else { &mut none });
        }
        if stat.is_zombie() || stat.is_kthread() {
            if became_zombie {
                process.facts.cmd = Reading::Absent;
                self.parents.insert(process.id.pid);
            }
            if self.everyone {
                self.want(Wants::OWNER | Wants::CGROUP | details, process);
            }
            return true;
        }
        if was_kthread {
            process.facts.said = 0;
        }
        let now_ns = clock::monotonic_ns();
        let mut wants = if ran || self.everyone { details } else { Wants::NONE };
        if exec || was_kthread {
            wants |= Wants::CMD | Wants::EXE | Wants::OWNER;
        } else if self.everyone {
            wants |= Wants::FIRST | swap_wants(swap, process);
        } else if ran && now_ns.saturating_sub(process.cmd_read_ns) > CMD_AGE_NS {
            wants |= Wants::CMD;
        }
        // Where an answer never came, asking again costs a thread for a second: only once it ran.
        if ran && !process.late.is_empty() {
            wants |= process.late.without(Wants::STAT);
        } else if self.everyone {
            wants = wants.without(process.late);
        }
        // Without events a change of user shows only here.
        let due = now_ns.saturating_sub(process.owner_read_ns) > OWNER_AGE_NS;
        if ran && due && !wants.has(Wants::OWNER) && process.facts.owner.known().is_some() {
            process.owner_read_ns = now_ns;
            match proc.owner(process.id.pid) {
                Ok(owner) if process.facts.owner != Reading::Known(owner) => wants |= Wants::OWNER,
                _ => {}
            }
        }
        self.want(wants, process);
        true
    }

    /// The control group is set by whoever starts a process, shortly after its birth: read again after 1 s and 10 s.
    fn follow_cgroup(&mut self, process: &mut Process, boot_ticks: u64, hz: u64) {
        if process.cgroup_reads >= 2 {
            return;
        }
        let due = cgroup_reads_due(process.id.start, boot_ticks, hz);
        if due > process.cgroup_reads {
            process.cgroup_reads = due;
            self.want(Wants::CGROUP, process);
        }
    }
}

/// How often the control group of a process of this age is read after its discovery.
fn cgroup_reads_due(start: u64, boot_ticks: u64, hz: u64) -> u8 {
    match boot_ticks.saturating_sub(start) / hz.max(1) {
        0 => 0,
        1..10 => 1,
        _ => 2,
    }
}

/// Reads the exact resident pages. The file is kept open while there are descriptors to `spare`.
fn reread_memory(proc: &Proc, process: &mut Process, spare: &mut usize) {
    if process.stat.is_kthread() {
        return;
    }
    let mut buffer = [0; 256];
    let read = match &process.kept_statm {
        Some(kept) => read_at_start(kept.as_fd(), &mut buffer),
        None => proc.open_statm(process.id.pid).and_then(|fd| {
            let read = read_at_start(&fd, &mut buffer);
            if *spare > 0 {
                *spare -= 1;
                process.kept_statm = Some(fd);
            }
            read
        }),
    };
    let exact = read.ok().and_then(|length| statm::resident_pages(&buffer[..length]));
    process.rss_pages = exact.unwrap_or(process.stat.rss_pages);
}

fn swap_wants(swap: bool, process: &Process) -> Wants {
    if swap && !process.stat.is_kthread() && !process.stat.is_zombie() { Wants::STATUS } else { Wants::NONE }
}

/// Whether a process changed in what a column shows. The CPU it last ran on is not of its own doing.
fn differs(before: &Stat, now: &Stat, renamed: bool) -> bool {
    renamed || Stat { processor: now.processor, ..*before } != *now
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
