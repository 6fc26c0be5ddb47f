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

mod process;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::facts::Wants;
use super::radar::{Counting, Radar};
use super::readers::Request;
use super::table::Process;
use super::world::World;
use crate::source::clock;
use crate::source::host;

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
}

/// CLOCK_MONOTONIC, which is never 0 by the time anything runs.
fn now_ns() -> NonZeroU64 {
    NonZeroU64::new(clock::monotonic_ns()).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests;
