//! All that the observer knows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::accounts::{self, Accounts};
use super::cgroups::Reach;
use super::credits::accounts::Credits;
use super::facts::Wants;
use super::footprint::Weighed;
use super::names::Names;
use super::programs::Programs;
use super::radar::Radar;
use super::readers::Readers;
use super::samplers::alerts::Alert;
use super::sockets::Sockets;
use super::stuck;
use super::table::{Process, Table};
use super::weight::Part;
use crate::record::identity::Identity;
use crate::record::scrub::Scrubber;
use crate::source::cgroup_limits::Controller;
use crate::source::host::{self, Machine};
use crate::source::procdir::Proc;
use crate::source::tty::Terminals;

/// How often at most everyone is read because the machine reclaimed memory.
const RECLAIM_EVERY: Duration = Duration::from_secs(60);

/// Ended processes that the next round looks for as zombies.
const DEAD: usize = 4096;

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
    /// Which program a process counts for.
    pub programs: Arc<Programs>,
    /// Whose program is another since somebody last asked.
    pub reclassified: Vec<u32>,
    /// Who got another name in this batch of events.
    pub(super) renamed: Vec<u32>,
    /// How often the rules were asked.
    #[cfg(test)]
    pub(super) asked: u64,
    /// Somebody's descendants belong to another family now.
    pub(super) families_moved: bool,
    /// When everyone was last asked whom it follows, and how long that took.
    pub(super) settled: Option<(Instant, Duration)>,
    /// What the selected columns need beyond the facts of every process.
    pub details: Wants,
    /// What besides [`Wants::FIRST`] is read of each process at first sight and at full samples.
    pub once: Wants,
    /// How near everyone is to its limits; `None` while nobody asks.
    pub radar: Option<Radar>,
    /// Whether any memory was ever swapped out: without, nobody is asked for it.
    pub swap: bool,
    /// Events tell of births and ends: the list of `/proc` is for bringing the table back in line, no tick's work.
    pub hears: bool,
    /// Who ended since the last round, and whether it was shown by the ps sampler.
    pub ended: Vec<(Identity, bool)>,
    /// Who ended before anybody looked at it: one that its parent has not reaped is a zombie of which no event told.
    pub dead: VecDeque<u32>,
    /// Who ended since and has left children or a session behind.
    pub parents: FxHashSet<u32>,
    /// Processes whose end nobody told: a round found them gone.
    pub unseen: Vec<Box<Process>>,
    /// What was found, for stream `alerts`.
    pub alerts: Vec<Alert>,
    /// Stream `pss` is recorded: what follows is for it.
    pub weighs: bool,
    /// Executables of which a process was born or died since the pss sampler last planned: their processes share memory.
    pub sharers: FxHashSet<Arc<[u8]>>,
    /// What became of readings of memory since it last looked.
    pub taken: Vec<Weighed>,
    /// Who ended and was considered by it, whether it was shown, and what its totals hold of it.
    pub ended_with_memory: Vec<(Identity, bool, Part)>,
    /// What programs used.
    pub accounts: Accounts,
    /// Who spent the CPUs.
    pub credits: Credits,
    /// Who ended and was shown in stream `usage_process`.
    pub ended_with_usage: Vec<Identity>,
    /// The sockets of the network namespaces that processes are in.
    pub sockets: Sockets,
    /// Stream `pss` made a sample since the usage sampler last looked.
    pub weighed: bool,
    /// Whose list of descriptors came, or could not be had, since the usage sampler last looked.
    pub listed: Vec<u32>,
    /// When the last round began, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    pub(super) this_round_ns: u64,
    reclaim: Option<(u64, Instant)>,
    pub(super) said_late: Option<Instant>,
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
            programs: Arc::default(),
            reclassified: Vec::new(),
            renamed: Vec::new(),
            #[cfg(test)]
            asked: 0,
            families_moved: false,
            settled: None,
            details: Wants::NONE,
            once: Wants::NONE,
            radar: None,
            swap: false,
            hears: false,
            ended: Vec::new(),
            dead: VecDeque::new(),
            parents: FxHashSet::default(),
            unseen: Vec::new(),
            alerts: Vec::new(),
            weighs: false,
            sharers: FxHashSet::default(),
            taken: Vec::new(),
            ended_with_memory: Vec::new(),
            accounts: Accounts::default(),
            credits: Credits::default(),
            ended_with_usage: Vec::new(),
            sockets: Sockets::new(proc.is_native()),
            listed: Vec::new(),
            weighed: false,
            this_round_ns: 0,
            reclaim: None,
            said_late: None,
            proc,
        }
    }

    /// Switches the limits radar on or off. On, its values come with the next full sample.
    pub fn watch_limits(&mut self, on: bool) {
        if on {
            self.once |= Wants::LIMITS;
            if self.radar.is_none() {
                self.radar = Some(Radar::new(&self.proc));
            }
        } else if self.radar.take().is_some() {
            self.once = self.once.without(Wants::LIMITS);
            for process in self.table.iter_mut_from(0) {
                process.limits = None;
            }
        }
    }

    /// Asks what control groups have: those of `ran`, those with a limit, or all.
    pub fn ask_cgroups(&mut self, reach: Reach, ran: &[u32]) {
        let Some(radar) = &mut self.radar else { return };
        if reach == Reach::Everyone {
            radar.max_maps = host::max_map_count(&self.proc);
        }
        let processes = ran.iter().filter_map(|pid| self.table.get(*pid));
        for limits in processes.filter_map(|process| process.limits.as_deref()) {
            for (controller, path) in [(Controller::Memory, &limits.memory), (Controller::Pids, &limits.pids)] {
                path.iter().for_each(|path| radar.cgroups.ran(controller, path));
            }
        }
        let due = radar.cgroups.due(&self.proc, reach);
        self.readers.ask_cgroups(radar.cgroups.hierarchies(), due);
    }

    /// Takes a process that ended out of the table.
    pub fn remove(&mut self, pid: u32) -> Option<Box<Process>> {
        let mut process = self.table.remove(pid)?;
        if accounts::counts(&process) {
            self.accounts.close(&mut process);
        }
        self.accounts.touch(&process);
        self.credits.close(&mut process);
        if process.usage.as_ref().is_some_and(|usage| usage.row.visible) {
            self.ended_with_usage.push(process.id);
        }
        // Nobody need be told of those that were never shown: in a storm of births they are nearly all.
        if process.ps.visible {
            self.ended.push((process.id, true));
        }
        if process.life.concerns_others {
            self.parents.insert(pid);
        }
        stuck::ended(&process, &mut self.alerts);
        if self.weighs {
            let sharer = sharer(&process);
            self.other_sharers(sharer);
            if process.is_read() {
                let footprint = process.footprint.as_deref();
                let (visible, part) = footprint.map(|footprint| (footprint.visible, footprint.part)).unwrap_or_default();
                self.ended_with_memory.push((process.id, visible, part));
            }
        }
        Some(process)
    }

    /// Forgets whom nobody will write an obituary of, and what nobody will be warned of: a view has neither stream, and each of them
    /// would keep its files open.
    pub fn forget_ends(&mut self) {
        self.unseen.clear();
        self.alerts.clear();
    }

    /// A process ended; whether it was reaped no event tells.
    pub(super) fn ended_now(&mut self, pid: u32) {
        let Some(process) = self.table.get_mut(pid) else { return };
        self.accounts.close(process);
        self.credits.close(process);
        if process.life.concerns_others {
            self.parents.insert(pid);
        }
        let (is_read, sharer) = (process.is_read(), sharer(process));
        self.other_sharers(sharer);
        if !is_read {
            // Of a storm the youngest: a zombie among the others is found by the next list.
            if self.dead.len() >= DEAD {
                self.dead.pop_front();
            }
            self.dead.push_back(pid);
        }
    }

    /// Somebody with this executable was born, died or executed another: those who share its memory have another part of it.
    pub fn other_sharers(&mut self, exe: Option<Arc<[u8]>>) {
        /// Beyond so many between two plans, whose part is another shows when their readings are old.
        const MOST: usize = 4096;
        if self.weighs && self.sharers.len() < MOST {
            self.sharers.extend(exe);
        }
    }

    /// Sees to it that a user has a name.
    pub fn ask_user(&mut self, uid: u32) {
        if let Some(request) = self.names.ask_user(uid) {
            self.readers.ask([request]);
        }
    }

    /// Whether the machine reclaimed or swapped memory since everyone was read: then resident and swapped
    /// memory of processes that did not run may have changed.
    pub(super) fn reclaimed(&mut self, everyone: bool) -> bool {
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
}

/// By what those who share memory know each other: forked of each other, or executing the same, they have the same executable.
pub(super) fn sharer(process: &Process) -> Option<Arc<[u8]>> {
    if process.is_read() { process.facts.exe.known().cloned() } else { None }
}
