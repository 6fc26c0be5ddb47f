//! The limits radar: of each process the limit it is nearest to, and how near.
//!
//! Who calls what, and when:
//!
//! 1. Whoever samples usage switches it on with [`World::watch_limits`](super::world::World::watch_limits), before the first round
//!    and at each reload. From then on rounds read `/proc/PID/limits` of each process at first sight, 1 s and 10 s later (a service
//!    sets its own as it starts) and at full samples, and count the mappings of whoever could have many (below); which control
//!    groups it is in comes with its `cgroup`. While it is off, nothing of it is read or kept.
//! 2. At each tick, after its round and before the readers are waited for:
//!    [`World::ask_cgroups`](super::world::World::ask_cgroups). A group that is met in this round is read at the next tick.
//! 3. When they have answered: [`UserTasks::count`] once, then [`Radar::measure`] for each process. Descriptors, locked memory, stack,
//!    real user and capabilities are what [`usage::read`](super::usage::read) found.
//! 4. For each program its processes [`Together`]: columns `limit` ([`LimitKind::word`]) and `limit_pct`
//!    ([`Nearest::tenths`], one digit). Then [`Crossings::look`](super::crossings::Crossings::look) with it, and after the last
//!    program [`Crossings::end`](super::crossings::Crossings::end); what they answer goes to
//!    [`Recorder::alert`](super::recorder::Recorder::alert).
//!
//! Only what is known is measured, and what is not known is not near: [`Measured::whole`] says whether anything is missing.

use rustc_hash::FxHashMap;
use std::sync::Arc;

use super::cgroups::Cgroups;
use super::facts::Reading;
use super::table::{Process, Table};
use crate::record::identity::Identity;
use crate::source::ReadError;
use crate::source::cgroup_limits::{Controller, Pair};
use crate::source::host;
use crate::source::limits::Soft;
use crate::source::procdir::Proc;
use crate::source::stat::Stat;

/// CAP_IPC_LOCK, CAP_SYS_ADMIN and CAP_SYS_RESOURCE, `include/uapi/linux/capability.h`.
const IPC_LOCK: u64 = 1 << 14;
const ADMIN_OR_RESOURCE: u64 = 1 << 21 | 1 << 24;
/// Below this nobody is near, tenths of a per cent: what stands of a limit is over. A little lower than where it begins, so that one
/// that sways there is told once.
pub const NEAR_FROM: u64 = 850;

/// A limit that the radar watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// RLIMIT_NOFILE: open descriptors.
    Nofile,
    /// RLIMIT_NPROC: tasks of its real user.
    Nproc,
    /// RLIMIT_AS: address space, bytes.
    As,
    /// RLIMIT_MEMLOCK: locked memory, bytes.
    Memlock,
    /// RLIMIT_STACK: the stack of its first task, bytes.
    Stack,
    /// memory.max of its control group, or memory.limit_in_bytes: bytes, without what the kernel can drop.
    MemoryMax,
    /// pids.max of its control group: tasks.
    PidsMax,
    /// vm.max_map_count: mappings.
    MaxMapCount,
}

impl LimitKind {
    /// The word in the column `limit`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::As => "as",
            Self::Memlock => "memlock",
            Self::Stack => "stack",
            Self::MemoryMax => "memory.max",
            Self::PidsMax => "pids.max",
            Self::MaxMapCount => "max_map_count",
        }
    }
}

/// A limit, and what there is of what it limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Which.
    pub kind: LimitKind,
    /// What there is, in its unit: bytes, or a number.
    pub value: u64,
    /// What there may be.
    pub limit: u64,
}

impl Nearest {
    /// How much of it is used, tenths of a per cent, rounded down: 1000 is all of it. Of a limit of 0 all is used.
    #[must_use]
    pub fn tenths(&self) -> u64 {
        if self.limit == 0 {
            return if self.value == 0 { 0 } else { 1000 };
        }
        u64::try_from(u128::from(self.value) * 1000 / u128::from(self.limit)).unwrap_or(u64::MAX)
    }
}

/// What is known of one process that a limit is about; `None` is unknown, or does not bind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its soft limits.
    pub soft: Soft,
    /// Its open descriptors.
    pub fds: Option<u64>,
    /// The tasks of its real user.
    pub user_tasks: Option<u64>,
    /// Its address space, bytes.
    pub vsize: Option<u64>,
    /// Its locked memory, bytes.
    pub locked: Option<u64>,
    /// The stack of its first task, bytes.
    pub stack: Option<u64>,
    /// Its mappings.
    pub maps: Option<u64>,
    /// The most it may have.
    pub max_maps: Option<u64>,
    /// Memory of its control group.
    pub memory: Option<Pair>,
    /// Tasks of its control group.
    pub pids: Option<Pair>,
}

/// The limit it is nearest to, of those of which both sides are known; of two as near the first of [`LimitKind`]'s order. What
/// nobody limited is never near.
#[must_use]
pub fn nearest(known: &Known) -> Option<Nearest> {
    all(known).reduce(nearer)
}

/// All limits of which both sides are known, in [`LimitKind`]'s order.
fn all(known: &Known) -> impl Iterator<Item = Nearest> {
    use LimitKind::{As, MaxMapCount, Memlock, MemoryMax, Nofile, Nproc, PidsMax, Stack};
    let own = |kind, value: Option<u64>, limit: Option<u64>| Some(Nearest { kind, value: value?, limit: limit? });
    let group = |kind, pair: Option<Pair>| pair.map(|Pair { value, limit }| Nearest { kind, value, limit });
    let soft = &known.soft;
    let all = [
        own(Nofile, known.fds, soft.nofile),
        own(Nproc, known.user_tasks, soft.nproc),
        own(As, known.vsize, soft.address_space),
        own(Memlock, known.locked, soft.memlock),
        own(Stack, known.stack, soft.stack),
        group(MemoryMax, known.memory),
        group(PidsMax, known.pids),
        own(MaxMapCount, known.maps, known.max_maps),
    ];
    all.into_iter().flatten()
}

fn nearer(one: Nearest, other: Nearest) -> Nearest {
    // A limit of 0 with nothing used, as locked memory often has, is not the nearest of anything.
    let empty = |nearest: &Nearest| nearest.value == 0;
    match (empty(&one), empty(&other)) {
        (false, true) => one,
        (true, false) => other,
        _ if other.tenths() > one.tenths() => other,
        _ => one,
    }
}

/// What is remembered of a process for its limits.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Its soft limits.
    pub soft: Reading<Soft>,
    /// Its mappings, where they were counted.
    pub maps: Reading<u64>,
    /// Its groups were read.
    pub grouped: bool,
    /// Its group in the hierarchy of the memory controller; `None` where it is in none.
    pub memory: Option<Arc<[u8]>>,
    /// Its group in that of the pids controller; likewise.
    pub pids: Option<Arc<[u8]>>,
}

/// How many tasks each real user has. What psmond does not see, those of other pid namespaces' parents, it does not count.
#[derive(Clone, Debug, Default)]
pub struct UserTasks(FxHashMap<u32, u64>);

impl UserTasks {
    /// Of all that live. A zombie counts until it is reaped, as it does for the kernel.
    #[must_use]
    pub fn count(table: &Table) -> Self {
        let mut tasks = FxHashMap::default();
        for process in table.iter().filter(|process| !process.stat.is_kthread()) {
            if let Some(uid) = real_user(process) {
                *tasks.entry(uid).or_default() += process.stat.num_threads.max(1);
            }
        }
        Self(tasks)
    }

    /// Of one user.
    #[must_use]
    pub fn of(&self, uid: u32) -> Option<u64> {
        self.0.get(&uid).copied()
    }
}

/// The real user, where its status was read; else the effective one, which it nearly always is.
fn real_user(process: &Process) -> Option<u32> {
    let brief = process.usage.as_deref().and_then(|usage| usage.brief);
    brief.and_then(|brief| brief.uid).or_else(|| process.facts.owner.known().copied())
}

/// What was measured of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The limit it is nearest to; `None` where it has none, or nothing is known.
    pub nearest: Option<Nearest>,
    /// Every limit that it has used [`NEAR_FROM`] or more of: of nearly everybody none.
    pub near: Box<[Nearest]>,
    /// Something that could be near is not known.
    pub partial: bool,
}

impl Measured {
    /// Whether all that could be near is known.
    #[must_use]
    pub const fn whole(&self) -> bool {
        !self.partial
    }
}

/// The process of a program that is nearest to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worst {
    /// Who.
    pub id: Identity,
    /// Its user's id.
    pub owner: Option<u32>,
}

/// What was measured of all processes of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Together {
    /// The limit that one of them is nearest to.
    pub nearest: Option<Nearest>,
    /// Of each limit that somebody is near to, how near, and who is nearest.
    pub near: Vec<(Nearest, Worst)>,
    /// Something that could be near is not known.
    pub partial: bool,
}

impl Together {
    /// Adds a process.
    pub fn add(&mut self, measured: &Measured, who: Worst) {
        self.partial |= measured.partial;
        self.nearest = match (self.nearest, measured.nearest) {
            (Some(one), Some(two)) => Some(nearer(one, two)),
            (one, two) => one.or(two),
        };
        for near in &measured.near {
            match self.near.iter_mut().find(|(known, _)| known.kind == near.kind) {
                Some(known) if near.tenths() > known.0.tenths() => *known = (*near, who),
                Some(_) => {}
                None => self.near.push((*near, who)),
            }
        }
    }
}

/// From when on mappings are counted: at full samples from so much address space on, bytes, and at each tick from so many on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counting {
    from: u64,
    many: u64,
}

impl Default for Counting {
    fn default() -> Self {
        Self { from: u64::MAX, many: u64::MAX }
    }
}

/// What the radar knows besides the processes.
#[derive(Debug)]
pub struct Radar {
    /// The control groups.
    pub cgroups: Cgroups,
    /// vm.max_map_count; `None` where it could not be read.
    pub max_maps: Option<u64>,
}

impl Radar {
    /// Of this machine.
    #[must_use]
    pub fn new(proc: &Proc) -> Self {
        Self { cgroups: Cgroups::new(proc), max_maps: host::max_map_count(proc) }
    }

    /// Whether its mappings are to be counted again at this tick: at full samples where there could be many, else where there are.
    #[must_use]
    pub(super) fn wants_maps(process: &Process, stat: &Stat, counting: Counting, everyone: bool) -> bool {
        let many = || process.limits.as_ref().is_some_and(|limits| limits.maps.known().is_some_and(|maps| *maps >= counting.many));
        stat.vsize >= counting.from && (everyone || many())
    }

    /// From when on mappings are counted.
    #[must_use]
    pub(super) fn counting(radar: Option<&Self>, page: u64) -> Counting {
        radar.map_or_else(Counting::default, |radar| Counting {
            from: radar.maps_matter_from(page),
            many: radar.max_maps.map_or(u64::MAX, |most| most / 4 * 3),
        })
    }

    /// The address space from which on somebody may have half the mappings there may be, bytes: none is smaller than a page. To
    /// count them takes the mmap_lock of the process, so whoever has less is never asked.
    #[must_use]
    pub fn maps_matter_from(&self, page: u64) -> u64 {
        self.max_maps.map_or(u64::MAX, |most| (most / 2).saturating_mul(page))
    }

    /// Takes in what was read of a process.
    pub(super) fn learn(
        &mut self,
        process: &mut Process,
        soft: Option<Result<Soft, ReadError>>,
        maps: Option<Result<u64, ReadError>>,
        cgroup: Option<&[u8]>,
    ) {
        if soft.is_none() && maps.is_none() && cgroup.is_none() {
            return;
        }
        let limits = process.limits.get_or_insert_default();
        if let Some(soft) = soft {
            limits.soft = Reading::from_read(soft);
        }
        if let Some(maps) = maps {
            limits.maps = Reading::from_read(maps);
        }
        if let Some(text) = cgroup {
            limits.grouped = true;
            limits.memory = self.cgroups.meet(Controller::Memory, text);
            limits.pids = self.cgroups.meet(Controller::Pids, text);
        }
    }

    /// What limits a process, and how near it is.
    #[must_use]
    pub fn measure(&self, process: &Process, tasks: &UserTasks, page: u64) -> Measured {
        if process.stat.is_kthread() || process.stat.is_dead() || !process.is_read() {
            return Measured::default();
        }
        // Whoever was born a moment ago was never near, so nothing is missing where he was not read yet: else a program that forks at
        // each tick would never be clear of what stands.
        let young = process.cgroup_reads < 2;
        let Some(limits) = &process.limits else { return Measured { partial: !young, ..Measured::default() } };
        let usage = process.usage.as_deref();
        let brief = usage.and_then(|usage| usage.brief);
        let may = |capability: u64| brief.and_then(|brief| brief.cap_eff).is_some_and(|all| all & capability != 0);
        // `copy_process` in `kernel/fork.c`: neither root as the real user nor these capabilities are bound.
        let user = real_user(process).filter(|uid| *uid != 0 && !may(ADMIN_OR_RESOURCE));
        let memory = self.cgroups.of(Controller::Memory, limits.memory.as_ref());
        let pids = self.cgroups.of(Controller::Pids, limits.pids.as_ref());
        let matters = process.stat.vsize >= self.maps_matter_from(page);
        let known = Known {
            soft: limits.soft.known().copied().unwrap_or_default(),
            fds: usage.and_then(|usage| usage.fds.known().copied()),
            user_tasks: user.and_then(|uid| tasks.of(uid)),
            vsize: Some(process.stat.vsize),
            // `can_do_mlock` and `do_mlock` in `mm/mlock.c`.
            locked: brief.and_then(|brief| brief.locked).filter(|_| !may(IPC_LOCK)),
            stack: brief.and_then(|brief| brief.stack),
            maps: limits.maps.known().copied().filter(|_| matters),
            max_maps: self.max_maps,
            memory: memory.known().copied(),
            pids: pids.known().copied(),
        };
        let unread_fds = usage.is_none_or(|usage| usage.fds == Reading::Unread);
        let partial = is_missing(&limits.soft, young)
            || (!limits.grouped && !young)
            || (known.fds.is_none() && known.soft.nofile.is_some() && !(young && unread_fds))
            || is_missing_of_group(&memory, young)
            || is_missing_of_group(&pids, young)
            || (matters && is_missing(&limits.maps, young));
        let near = all(&known).filter(|limit| limit.tenths() >= NEAR_FROM).collect();
        Measured { nearest: nearest(&known), near, partial }
    }
}

/// Whether something that could be near is not known.
fn is_missing<T>(reading: &Reading<T>, young: bool) -> bool {
    match reading {
        Reading::Known(_) => false,
        Reading::Unread => !young,
        Reading::Absent | Reading::Refused | Reading::Late => true,
    }
}

/// Whether that is so of a control group: one without a limit is never near.
fn is_missing_of_group(pair: &Reading<Pair>, young: bool) -> bool {
    *pair != Reading::Absent && is_missing(pair, young)
}

#[cfg(test)]
#[path = "radar_tests.rs"]
mod tests;
