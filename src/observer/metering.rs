//! Streams `usage` and `usage_process`, from a tick to its samples: who ran is read, the readers bring what may wait, everyone's use is
//! counted for his program, and the rows are made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::beat::{Beat, Cadence};
use super::cgroups::Reach;
use super::facts::{Reading, Wants};
use super::readers::Request;
use super::samplers::ps::Rows;
use super::samplers::usage::{self, Selection, UsageSampler};
use super::table::Process;
use super::touched::Touched;
use super::usage as of_process;
use super::world::World;
use crate::config::{NamePart, ProgramRule};
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::source::taskstats::Taskstats;

/// What the two streams are to do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// How often both are sampled.
    pub cadence: Cadence,
    /// Stream `usage` is recorded.
    pub programs: bool,
    /// Stream `usage_process` is recorded.
    pub processes: bool,
    /// Their columns.
    pub selection: Selection,
    /// What a tick may spend on the sockets of other network namespaces.
    pub netns_budget: Duration,
    /// The most programs told apart.
    pub most: usize,
    /// How many processes of which programs there should be.
    pub expected: Vec<(Arc<[u8]>, u32)>,
}

/// How many processes of which programs there should be: of those whose names are known before anybody counts for them.
#[must_use]
pub fn expected(rules: &[ProgramRule]) -> Vec<(Arc<[u8]>, u32)> {
    let mut expected: BTreeMap<String, u32> = BTreeMap::new();
    for rule in rules {
        let is_fixed = rule.name.parts.iter().all(|part| matches!(part, NamePart::Text(_)));
        if let Some(expect) = rule.expect.filter(|_| is_fixed) {
            // Several rules may feed one program: what they say is of all of it.
            let most = expected.entry(rule.name.to_string()).or_default();
            *most = expect.max(*most);
        }
    }
    expected.into_iter().map(|(name, expect)| (Arc::from(name.into_bytes()), expect)).collect()
}

/// The state of both streams.
#[derive(Debug, Default)]
pub struct Metering {
    /// The ticks of stream `usage`.
    pub programs: Beat,
    /// Those of stream `usage_process`: at the same moments.
    pub processes: Beat,
    sampler: Option<UsageSampler>,
    /// Adds up the tasks of a process; `None` where the kernel refuses.
    taskstats: Option<Taskstats>,
    /// The kernel tells the number of descriptors of a process.
    tells_fds: bool,
    /// Whose figures may have changed since the sample before.
    touched: Touched,
    /// Those of them that this tick is about, ascending, and how many of them were read.
    now: Vec<u32>,
    next: usize,
    /// When the sockets were asked for last, and whether at this tick.
    dumped: Option<Instant>,
    dumped_now: bool,
    /// Who ran, and may hold sockets that only the next dump will name.
    waiting: Vec<u32>,
    /// Ticks until limits of those that did not run are looked at.
    until_limits: u32,
    /// A member of each network namespace but psmond's own.
    members: Vec<(u64, u32)>,
    /// Everyone is read, whether it ran or not.
    everyone: bool,
    /// What a tick may spend on the sockets of other network namespaces.
    netns_budget: Duration,
}

impl Metering {
    /// Takes other orders. Where there were none, what everyone used so far is nobody's.
    pub fn select(&mut self, world: &mut World, orders: Option<&Orders>) {
        self.programs.set(orders.filter(|orders| orders.programs).map(|orders| orders.cadence));
        self.processes.set(orders.filter(|orders| orders.processes).map(|orders| orders.cadence));
        let Some(orders) = orders else {
            if let Some(mut sampler) = self.sampler.take() {
                sampler.unwatch(world);
            }
            usage::forget(world);
            world.accounts.end(world.table.iter_mut_from(0));
            world.watch_limits(false);
            return;
        };
        self.netns_budget = orders.netns_budget;
        // Six ticks, or a minute: a namespace that does not answer, or whose turn does not come, is not shown as it was for ever.
        world.sockets.oldest = (orders.cadence.interval * 6).max(Duration::from_secs(60));
        world.watch_limits(true);
        world.accounts.set(orders.most, &orders.expected);
        match &mut self.sampler {
            Some(sampler) => sampler.select(orders.selection.clone()),
            None => {
                self.sampler = Some(UsageSampler::new(orders.selection.clone()));
                self.taskstats = Taskstats::open().ok();
                // Of ourselves: some are open.
                self.tells_fds = world.proc.fd_count(std::process::id()).is_ok_and(|count| count > 0);
                if !world.table.is_empty() {
                    self.begin(world, false);
                }
            }
        }
        if !orders.processes {
            world.table.iter_mut_from(0).filter_map(|process| process.usage.as_deref_mut()).for_each(|usage| usage.row.visible = false);
            world.ended_with_usage.clear();
        }
    }

    /// The table was filled: what everyone used so far is nobody's, or, `from_birth`, his program's.
    pub fn begin(&mut self, world: &mut World, from_birth: bool) {
        let Some(sampler) = &mut self.sampler else { return };
        world.accounts.begin(world.table.iter_mut_from(0), from_birth);
        sampler.begin(world);
    }

    /// Other rules are in force.
    pub const fn rules_changed(&mut self) {
        if let Some(sampler) = &mut self.sampler {
            sampler.rules_changed();
        }
    }

    /// The first interval begins now, whatever was counted before.
    pub fn begin_interval(world: &mut World) {
        world.accounts.begin_interval();
    }

    /// Whether any of the two is recorded.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.sampler.is_some()
    }

    /// Begins to read those who ran, or everyone.
    pub fn start(&mut self, world: &mut World, everyone: bool) {
        (self.next, self.everyone, self.dumped_now) = (0, everyone, false);
        self.touched.add(&std::mem::take(&mut self.waiting));
        self.now = self.touched.take();
        if everyone {
            self.now = world.table.iter().map(|process| process.id.pid).collect();
        }
        let reach = match (everyone, self.until_limits) {
            (true, _) => Reach::Everyone,
            (_, 0) => Reach::Limited,
            _ => Reach::Ran,
        };
        world.ask_cgroups(reach, &self.now);
    }

    /// The figures of these may have changed.
    pub fn touch(&mut self, pids: &[u32]) {
        if self.sampler.is_some() {
            self.touched.add(pids);
        }
    }

    /// Reads until `until`; answers whether all were read.
    pub fn advance(&mut self, world: &mut World, until: Instant) -> bool {
        let World { table, proc, .. } = world;
        let proc = Arc::clone(proc);
        let before = table.spare();
        let (mut spare, mut finished) = (before, true);
        for (count, pid) in self.now.iter().enumerate().skip(self.next) {
            if count % 64 == 63 && count > self.next && Instant::now() >= until {
                self.next = count;
                finished = false;
                break;
            }
            let Some(process) = table.get_mut(*pid) else { continue };
            if usage::is_used(process) && (self.everyone || of_process::is_stale(process)) {
                // At a reading of everyone nothing is opened for good: most of them are idle.
                let mut none = 0;
                let ran = of_process::is_stale(process);
                let kernel = of_process::Kernel { taskstats: self.taskstats.as_ref(), tells_fds: self.tells_fds };
                of_process::read(&proc, kernel, process, if ran { &mut spare } else { &mut none });
            }
        }
        table.kept_more(before - spare);
        finished
    }

    /// Asks what the sockets of all network namespaces are, unless that is known well enough: a dump costs the kernel a microsecond a
    /// socket when its caches are cold. Once they are known, [`Metering::ask_lists`].
    pub fn ask_sockets(&mut self, world: &mut World) {
        /// At shorter intervals sockets may be so old, but for those of whoever has other descriptors than before.
        const YOUNG: Duration = Duration::from_millis(2500);
        if self.everyone || self.dumped.is_none_or(|at| at.elapsed() >= YOUNG) {
            self.dump_sockets(world);
        }
    }

    fn dump_sockets(&mut self, world: &mut World) {
        (self.dumped, self.dumped_now) = (Some(Instant::now()), true);
        let World { sockets, table, readers, .. } = world;
        let own = sockets.own().map(|own| (own, std::process::id()));
        let netns = |process: &Process| process.held.as_deref()?.known().map(|held| held.netns);
        let stays = |(of, pid): &(u64, u32)| table.get(*pid).filter(|process| usage::is_used(process)).and_then(netns) == Some(*of);
        // As long as every namespace has the member it had, nobody else need be asked where he is.
        if self.everyone || !world.listed.is_empty() || !self.members.iter().all(stays) {
            world.listed.clear();
            let own = own.map(|(own, _)| own);
            let members: FxHashMap<u64, u32> = table
                .iter()
                .filter(|process| usage::is_used(process))
                .filter_map(|process| netns(process).filter(|netns| Some(*netns) != own).map(|netns| (netns, process.id.pid)))
                .collect();
            self.members = members.into_iter().collect();
        }
        let requests = sockets.requests(own.into_iter().chain(self.members.iter().copied()), self.netns_budget);
        readers.ask(requests);
    }

    /// Asks for them again where a list named sockets that were made since, or a namespace that nobody met before.
    pub fn ask_sockets_met(&mut self, world: &mut World) {
        let met = |pid: &u32| {
            let held = world.table.get(*pid).and_then(|process| process.held.as_deref()?.known());
            held.is_some_and(|held| !world.sockets.knows(held.netns) || (world.sockets.present(&held.inodes) as usize) < held.inodes.len())
        };
        if world.listed.iter().any(met) {
            self.dump_sockets(world);
        }
    }

    /// Asks for the descriptors of those who may hold other sockets than they did; answers whether there is anything to wait for.
    pub fn ask_lists(&mut self, world: &mut World) -> bool {
        let World { sockets, table, readers, .. } = world;
        /// A list of so many costs some 3 ms: of more than that in one of as many ticks only.
        const DEAR_FDS: u32 = 1000;
        let generation = sockets.generation();
        let own_pid = std::process::id();
        let mut requests = Vec::new();
        for pid in &self.now {
            let Some(process) = table.get_mut(*pid) else { continue };
            let asked = process.asked.has(Wants::SOCKETS);
            if asked || process.stat.is_zombie() || !usage::is_used(process) {
                continue;
            }
            // Its own sockets are those it has for good, and its descriptors, kept ones of everybody, are many.
            let own = process.id.pid == own_pid && process.held.is_some();
            let held = process.held.as_deref().and_then(Reading::known).map_or(0, |held| held.fds);
            let wants = self.everyone || (!own && of_process::wants_list(process, sockets));
            let Some(usage) = process.usage.as_deref_mut() else { continue };
            if !wants {
                // A dump of this tick says that it holds what it held; an older one says nothing.
                if usage.listing.ran && !self.dumped_now {
                    self.waiting.push(*pid);
                }
                usage.listing.ran &= !self.dumped_now;
            } else {
                if usage.listing.rest > 0 && !self.everyone {
                    usage.listing.rest -= 1;
                    continue;
                }
                usage.listing = of_process::Listing { asked: true, ran: false, generation, present: 0, rest: held / DEAR_FDS };
                process.asked |= Wants::SOCKETS;
                requests.push(Request::Process { pid: process.id.pid, start: Some(process.stat.start), wants: Wants::SOCKETS });
            }
        }
        let any = !requests.is_empty();
        readers.ask(requests);
        any
    }

    /// Counts what everyone used. Goes before the rows.
    pub fn count(&mut self, world: &mut World) {
        /// Limits come nearer without a process having run: those of its user and of its control group.
        const LIMITS_EVERY: u32 = 6;
        let limits = self.everyone || self.until_limits == 0;
        self.until_limits = if limits { LIMITS_EVERY - 1 } else { self.until_limits - 1 };
        if std::mem::take(&mut world.sockets.changed) || std::mem::take(&mut world.weighed) {
            world.accounts.touch_all();
        }
        // Whoever was touched while this tick waited for the readers is a matter of this one too.
        let mut now = std::mem::take(&mut self.now);
        now.extend(self.touched.take());
        now.sort_unstable();
        now.dedup();
        if let Some(sampler) = &self.sampler {
            sampler.count(world, &now, limits);
        }
    }

    /// The rows of one of the streams, and its columns.
    pub fn rows(&mut self, world: &mut World, stream: Stream, full: bool) -> Option<(Rows, Columns)> {
        let sampler = self.sampler.as_mut()?;
        if stream == Stream::UsageProcess && self.programs.cadence().is_none() {
            // Nobody wants the rows of the programs, but who is near a limit or missing is found with them.
            drop(sampler.programs_now(world, false));
        }
        Some(match stream {
            Stream::UsageProcess => (sampler.processes_now(world, full), sampler.processes().clone()),
            _ => (sampler.programs_now(world, full), sampler.programs().clone()),
        })
    }
}
