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
//! ([`World::absorb`](super::world::World::absorb)) or were given enough time, a sampler makes its rows of what was touched.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::facts::{Reading, Wants};
use super::kept;
use super::life::Sources;
use super::radar::{Counting, Radar};
use super::readers::Request;
use super::table::Process;
use super::world::World;
use crate::source::host;
use crate::source::procdir::{Proc, read_at_start};
use crate::source::stat::{self, STAT_BYTES, Stat};
use crate::source::{ReadError, clock, statm};

/// A command line is read again after so long, if its process ran: setproctitle raises no event.
const CMD_AGE_NS: u64 = 60_000_000_000;
/// The effective user is looked at again after so long, if its process ran: setuid raises no event either.
const OWNER_AGE_NS: u64 = 9_000_000_000;
/// An end may be on its way for so long: whoever is missed for longer ended unheard.
const ON_ITS_WAY_NS: u64 = 1_500_000_000;

/// What rounds found besides whose row may have changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    /// Everyone was read, whether it ran or not.
    pub everyone: bool,
    /// What the last of them listed.
    pub seen: u64,
    /// Listed, but gone when it was to be read.
    pub vanished: u64,
    /// Read and different although the clock stood still.
    pub gate_missed: u64,
    /// Time spent reading.
    pub read: Duration,
}

impl Looked {
    /// Adds a round that is finished.
    pub fn add(&mut self, round: &Round) {
        self.everyone |= round.everyone;
        self.seen = round.seen;
        self.vanished = round.vanished;
        self.gate_missed += round.gate_missed;
        self.read += round.read;
    }
}

/// The state of a round under way.
#[derive(Debug)]
pub struct Round {
    /// Everyone is read, whether it ran or not.
    pub everyone: bool,
    /// Events tell of births, ends, executions and changes of user.
    hears: bool,
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
    /// Time spent reading.
    pub read: Duration,
    requests: Vec<Request>,
    /// What besides is read at first sight and at full samples, and whose mappings are counted.
    once: Wants,
    counting: Counting,
    /// Files that may still be kept open in this round.
    spare: usize,
    next: u32,
    pids: Vec<u32>,
    /// Executables of those met for the first time.
    sharers: Vec<Arc<[u8]>>,
    /// Who has another name.
    renamed: Vec<u32>,
    /// Who ended or became a zombie: their children have another parent now, and their session no terminal.
    parents: FxHashSet<u32>,
}

impl Round {
    /// Lists the processes and compares with the table; where events tell of births and ends, only when everyone is looked at.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn begin(world: &mut World, everyone: bool) -> std::io::Result<Self> {
        let began = Instant::now();
        world.this_round_ns = clock::monotonic_ns();
        let everyone = world.reclaimed(everyone) || everyone;
        let mut pids = Vec::new();
        let listed = everyone || !world.hears;
        if listed {
            pids.reserve(world.table.len() + 64);
            world.proc.list(&mut pids)?;
        }
        if everyone {
            let memory = world.proc.read("meminfo").unwrap_or_default();
            world.swap = host::meminfo(&memory, b"SwapTotal").is_none_or(|total| total > 0);
            world.names.expire();
        }
        let mut round =
            Self { everyone, began, seen: pids.len() as u64, parents: std::mem::take(&mut world.parents), ..Self::empty(world) };
        let mut gone = Vec::new();
        if listed {
            world.table.compare(&pids, &mut round.pids, &mut gone);
        }
        for pid in gone {
            round.miss(world, pid);
        }
        for pid in std::mem::take(&mut round.pids) {
            round.discover(world, pid);
        }
        round.look_for_zombies(world);
        round.read = began.elapsed();
        Ok(round)
    }

    fn empty(world: &World) -> Self {
        Self {
            everyone: false,
            hears: world.hears,
            began: Instant::now(),
            seen: 0,
            vanished: 0,
            gate_missed: 0,
            touched: Vec::new(),
            read: Duration::ZERO,
            requests: Vec::new(),
            once: world.once,
            counting: Radar::counting(world.radar.as_ref(), world.machine.page),
            spare: 0,
            next: 0,
            pids: Vec::new(),
            sharers: Vec::new(),
            renamed: Vec::new(),
            parents: FxHashSet::default(),
        }
    }

    /// Brings the table back in line with `/proc` after events were lost, without looking at anyone's counters. Answers with who
    /// was not known, and how many are not there any more.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn resync(world: &mut World) -> std::io::Result<(Vec<u32>, u64)> {
        let mut pids = Vec::with_capacity(world.table.len() + 64);
        world.proc.list(&mut pids)?;
        let mut round = Self::empty(world);
        let mut gone = Vec::new();
        world.table.compare(&pids, &mut round.pids, &mut gone);
        let count = gone.len() as u64;
        for pid in gone {
            round.miss(world, pid);
        }
        for pid in std::mem::take(&mut round.pids) {
            round.discover(world, pid);
        }
        world.readers.ask(round.requests.drain(..));
        Ok((round.touched, count))
    }

    /// A process is not there. Where events tell of ends, its own may be on its way: only who is missed twice was lost.
    fn miss(&self, world: &mut World, pid: u32) {
        // An obituary is written once: who has one was a zombie until now.
        if self.hears
            && let Some(process) = world.table.get_mut(pid).filter(|process| !process.life.ended && !process.life.was_zombie)
            && clock::monotonic_ns().saturating_sub(process.missing.get_or_insert_with(now_ns).get()) < ON_ITS_WAY_NS
        {
            return;
        }
        if let Some(process) = world.remove(pid)
            && !process.life.ended
            && !process.life.was_zombie
        {
            world.unseen.push(process);
        }
    }

    /// Who was born and ended since the last round, and was not reaped, is a zombie that nobody has seen.
    fn look_for_zombies(&mut self, world: &mut World) {
        for pid in std::mem::take(&mut world.dead) {
            if world.table.get(pid).is_none() && clock::process_cpu_ns(pid).is_some() {
                self.discover(world, pid);
                if let Some(process) = world.table.get_mut(pid).filter(|process| process.stat.is_zombie()) {
                    process.life.ended = true;
                }
            }
        }
    }

    /// Takes in a process that was not in the table.
    fn discover(&mut self, world: &mut World, pid: u32) {
        if !world.proc.is_native() {
            // Nothing of this tree is sure to answer: the readers ask even for its counters.
            let mut process = Process::unknown(pid);
            process.asked = Wants::STAT | Wants::FIRST | world.details | world.once;
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
        let wants = if stat.is_kthread() { Wants::OWNER | Wants::CGROUP } else { Wants::FIRST | self.once_wants(&process, &stat) };
        if stat.is_kthread() || stat.is_zombie() {
            process.facts.cmd = Reading::Absent;
            process.facts.exe = Reading::Absent;
        }
        process.cgroup_reads =
            cgroup_reads_due(process.id.start, clock::boottime_ns() / (1_000_000_000 / world.machine.hz.max(1)).max(1), world.machine.hz);
        self.want(wants | world.details | swap_wants(world.swap, &process), &mut process);
        if world.hears && !process.stat.is_kthread() {
            // What its ended tasks used is in no record to come.
            self.want(Wants::BASE, &mut process);
        }
        process.life.many = process.stat.num_threads > 1 || world.hears;
        process.life.was_zombie = process.stat.is_zombie() && process.stat.num_threads <= 1;
        if let Some(before) = world.remove(pid) {
            world.unseen.push(before);
        }
        world.table.insert(process);
        world.classify(pid);
        // Whoever bore it may have a family.
        world.families_moved |= world.programs.have_children();
        self.touched.push(pid);
    }

    /// Looks for the first time at a process whose birth was told; `false` if it is gone.
    fn meet(&mut self, proc: &Proc, process: &mut Process, details: Wants, swap: bool) -> bool {
        let pid = process.id.pid;
        let mut buffer = [0; STAT_BYTES];
        let read = proc.open_stat(pid).and_then(|fd| read_at_start(&fd, &mut buffer).map(|length| (fd, length)));
        let (fd, length) = match read {
            Ok(read) => read,
            Err(ReadError::Vanished) => return false,
            Err(_) => {
                // It lives, and nothing of it can be opened now.
                process.late |= Wants::STAT;
                return true;
            }
        };
        let Some((stat, comm)) = stat::parse(&buffer[..length]).filter(|(stat, _)| process.started_at(stat.start)) else { return false };
        if process.id.start == 0 {
            process.id.start = stat.start;
        }
        process.late = process.late.without(Wants::STAT);
        process.life.adopted |= process.stat.ppid != stat.ppid;
        process.stat = stat;
        if *process.comm != *comm {
            process.comm = comm.into();
            self.renamed.push(pid);
        }
        if self.spare > 0 && !stat.is_kthread() {
            self.spare -= 1;
            process.kept = Some(fd);
        }
        reread_memory(proc, process, &mut 0);
        process.life.many |= stat.num_threads > 1;
        process.life.sources = process.life.sources.and(Sources::PROC);
        let mut wants = details | swap_wants(swap, process) | self.once_wants(process, &stat);
        if process.facts.owner.known().is_none() {
            wants |= Wants::OWNER;
        }
        // Whoever starts a process may have moved it since its birth.
        if process.facts.cgroup.known().is_none() || process.life.sources.has(Sources::INHERITED) {
            wants |= Wants::CGROUP;
        }
        if process.life.exec.is_some() {
            process.facts = process.facts_to_tell();
        }
        if stat.is_kthread() {
            process.facts.cmd = Reading::Absent;
            process.facts.exe = Reading::Absent;
            self.renamed.push(pid);
        } else if stat.is_zombie() {
            // Its obituary is about to be written: what was known of it stays.
            wants = Wants::NONE;
        } else if process.facts.cmd.known().is_none() || process.facts.exe.known().is_none() {
            wants |= Wants::CMD | Wants::EXE;
        }
        self.want(wants, process);
        self.touched.push(pid);
        self.sharers.extend(process.facts.exe.known().cloned());
        true
    }

    /// What is read of a process at first sight besides what is of everyone.
    fn once_wants(&self, process: &Process, stat: &Stat) -> Wants {
        if stat.is_kthread() || stat.is_zombie() {
            return Wants::NONE;
        }
        self.once | if Radar::wants_maps(process, stat, self.counting, true) { Wants::MAPS } else { Wants::NONE }
    }

    /// Asks for facts of a process unless they are being read.
    fn want(&mut self, wants: Wants, process: &mut Process) {
        let new = wants.without(process.asked);
        if !new.is_empty() {
            process.asked |= new;
            self.requests.push(Request::Process { pid: process.id.pid, start: Some(process.stat.start), wants: new });
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
            for exe in self.sharers.drain(..) {
                world.other_sharers(Some(exe));
            }
            for pid in self.renamed.drain(..) {
                // Until what it executed is read, it is what it was.
                if world.table.get(pid).is_some_and(|process| process.life.exec.is_none()) && !world.programs.is_plain() {
                    world.classify(pid);
                }
            }
            world.settle_now();
            world.readers.ask(self.requests.drain(..));
        }
        finished
    }

    /// A foreign tree: everyone's counters are asked of the readers.
    fn ask_all(&mut self, world: &mut World) -> bool {
        for process in world.table.iter_mut_from(0) {
            let again = if self.everyone { Wants::FIRST | world.details | world.once } else { Wants::NONE };
            let wants = Wants::STAT | again;
            // What never answered is asked again at full samples only.
            if process.asked.is_empty() && (process.late.is_empty() || self.everyone) {
                process.asked |= wants;
                let start = process.is_known().then_some(process.stat.start);
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
            if self.hears && !process.is_read() {
                if self.meet(&proc, process, details, swap) {
                    process.look(cpu_ns, clock::monotonic_ns());
                    self.follow_cgroup(process, boot_ns / (1_000_000_000 / hz).max(1), hz);
                } else {
                    lost.push(pid);
                }
                continue;
            }
            process.missing = None;
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
            self.miss(world, pid);
            if self.hears {
                continue;
            }
            // Gone since the list was made; the pid may already be another's.
            // The clock before the counters: what runs in between is read again in the next round.
            let cpu_ns = clock::process_cpu_ns(pid);
            self.discover(world, pid);
            if let (Some(process), Some(cpu_ns)) = (world.table.get_mut(pid), cpu_ns) {
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
        // Whoever ended since the round began.
        self.parents.extend(world.parents.drain());
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
            self.miss(world, pid);
            if !self.hears {
                self.discover(world, pid);
            }
        }
    }

    /// Reads the counters of a process again, and asks for what they show to be stale. False if it is gone.
    fn reread(&mut self, proc: &Proc, process: &mut Process, ran: bool, details: Wants, swap: bool) -> bool {
        let mut buffer = [0; STAT_BYTES];
        let length = match process.read_stat(proc, &mut buffer) {
            Ok(length) => length,
            Err(ReadError::Vanished) => return false,
            Err(_) => {
                // No descriptor left, or worse: what was known stays, and is said to be late.
                process.late |= Wants::STAT;
                return true;
            }
        };
        let Some((stat, comm)) = stat::parse(&buffer[..length]).filter(|(stat, _)| process.started_at(stat.start)) else { return false };
        process.late = process.late.without(Wants::STAT);
        let renamed = *process.comm != *comm;
        let became_zombie = stat.is_zombie() && !process.stat.is_zombie();
        // Events say when there was one; what capture could not read then is read now.
        let exec = if self.hears {
            let unread = matches!(process.facts.cmd, Reading::Unread);
            if process.life.exec.is_some() {
                // What is shown is of the program before; what it is now must be read, or is said to be unknown.
                process.facts.forget_program();
            }
            (unread || process.life.exec.is_some()) && process.late.is_empty()
        } else {
            renamed || stat.arg_start != process.stat.arg_start
        };
        if !ran && differs(&process.stat, &stat, renamed) {
            self.gate_missed += 1;
        }
        if renamed {
            process.comm = comm.into();
            self.renamed.push(process.id.pid);
        }
        process.life.adopted |= process.stat.ppid != stat.ppid;
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
                // Where its end is told, what was known of it stays for its obituary.
                if !self.hears {
                    process.facts.cmd = Reading::Absent;
                }
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
            wants |= Wants::FIRST | swap_wants(swap, process) | self.once;
        } else if ran && now_ns.saturating_sub(process.cmd_read_ns) > CMD_AGE_NS {
            wants |= Wants::CMD;
        }
        if Radar::wants_maps(process, &process.stat, self.counting, self.everyone) {
            wants |= Wants::MAPS;
        }
        // Where an answer never came, asking again costs a thread for a second: only once it ran.
        if ran && !process.late.is_empty() {
            wants |= process.late.without(Wants::STAT);
        } else if self.everyone {
            wants = wants.without(process.late);
        }
        // Without events a change of user shows only here.
        let due = !self.hears && now_ns.saturating_sub(process.owner_read_ns) > OWNER_AGE_NS;
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
            self.want(Wants::CGROUP | self.once, process);
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
    let pid = process.id.pid;
    let read = kept::read(&mut process.kept_statm, spare, &mut buffer, || proc.open_statm(pid));
    let exact = read.ok().and_then(|length| statm::resident_pages(&buffer[..length]));
    process.rss_pages = exact.unwrap_or(process.stat.rss_pages);
}

/// CLOCK_MONOTONIC, which is never 0 by the time anything runs.
fn now_ns() -> NonZeroU64 {
    NonZeroU64::new(clock::monotonic_ns()).unwrap_or(NonZeroU64::MIN)
}

fn swap_wants(swap: bool, process: &Process) -> Wants {
    if swap && !process.stat.is_kthread() && !process.stat.is_zombie() { Wants::STATUS } else { Wants::NONE }
}

/// Whether a process changed in what a column shows. The CPU it last ran on is not of its own doing.
fn differs(before: &Stat, now: &Stat, renamed: bool) -> bool {
    // An exec that was told makes the address unknown until it is read.
    let arg_start = if before.arg_start == 0 { now.arg_start } else { before.arg_start };
    renamed || Stat { processor: now.processor, arg_start, ..*before } != *now
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
