//! All that the observer knows, and how it takes in what the readers brought.

use std::collections::VecDeque;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::accounts::{self, Accounts};
use super::cgroups::Reach;
use super::credits::accounts::Credits;
use super::facts::{Facts, Got, Reading, Wants};
use super::footprint::{Seen, Weighed};
use super::life::Sources;
use super::names::Names;
use super::programs::Programs;
use super::radar::Radar;
use super::readers::{self, Answer, Readers, Request};
use super::samplers::alerts::Alert;
use super::sockets::{Held, Sockets};
use super::stuck;
use super::table::{Process, Table};
use super::weight::Part;
use crate::record::cmd::Cmd;
use crate::record::identity::Identity;
use crate::record::scrub::Scrubber;
use crate::source::cgroup_limits::Controller;
use crate::source::host::{self, Machine};
use crate::source::procdir::Proc;
use crate::source::tty::Terminals;
use crate::source::{ReadError, cgroup, clock};

/// How often at most everyone is read because the machine reclaimed memory.
const RECLAIM_EVERY: Duration = Duration::from_secs(60);

/// How often at most a process that does not answer is named in psmond.log.
const SAY_LATE_EVERY: Duration = Duration::from_secs(10);

/// No kernel gives all pids away within less: of the fewest there may be, 32768, that were 300 000 births a second.
const PIDS_LAST_NS: u64 = 100_000_000;

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
    said_late: Option<Instant>,
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

    /// Takes a reading of memory in.
    fn take_memory(&mut self, pid: u32, got: Option<&Got>) {
        let Some(process) = self.table.get_mut(pid) else { return };
        // Not of another one that has the pid by now and did not ask; but of one that was given up.
        let waits = process.asked.has(Wants::MEMORY) || process.footprint.as_ref().is_some_and(|footprint| footprint.late);
        if !waits {
            return;
        }
        process.asked = process.asked.without(Wants::MEMORY);
        let seen = Seen::of(process, None);
        let asked_ns = process.footprint.as_ref().map_or(0, |footprint| footprint.asked_ns);
        // Its end was heard, if it ended; and that somebody has its pid again already takes longer.
        let is_quick = self.hears && clock::monotonic_ns().saturating_sub(asked_ns) < PIDS_LAST_NS;
        let is_same = !self.proc.is_native() || is_quick || process.is_still_there(&self.proc);
        let Some(footprint) = process.footprint.as_mut() else { return };
        match got.and_then(|got| got.memory) {
            Some(taken) => {
                let mib_ns = if is_same { footprint.take(&seen, &taken, self.machine.page, clock::monotonic_ns()) } else { None };
                self.taken.push(Weighed { pid, taken: Some((taken, mib_ns)) });
            }
            None => {
                footprint.give_up(&seen, readers::DEADLINE, clock::monotonic_ns());
                self.taken.push(Weighed { pid, taken: None });
            }
        }
    }

    /// Takes a list of descriptors in; `None` where it could not be had in time.
    fn take_held(&mut self, pid: u32, start: Option<u64>, held: Option<Result<Held, ReadError>>) {
        let Some(process) = self.table.get_mut(pid).filter(|process| start.is_none_or(|start| process.started_at(start))) else { return };
        process.asked = process.asked.without(Wants::SOCKETS);
        let held = held.map_or(Reading::Late, Reading::from_read);
        // Of one that ended meanwhile the list before is its last.
        if held != Reading::Absent || process.held.is_none() {
            process.held = Some(Box::new(held));
        }
        if let (Some(held), Some(usage)) = (process.held.as_deref().and_then(Reading::known), process.usage.as_deref_mut()) {
            usage.listing.present = self.sockets.present(&held.inodes);
        }
        self.listed.push(pid);
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
                        let concerned: Vec<u32> = self.table.iter().filter(concerned).map(|process| process.id.pid).collect();
                        if self.programs.needs_user() {
                            concerned.iter().for_each(|pid| self.classify(*pid));
                        }
                        touched.extend(concerned);
                    }
                }
                Answer::Group(gid, name) => {
                    self.names.set_group(gid, name);
                }
                Answer::Sockets { netns, pid, got } => self.sockets.take(netns, pid, got),
                Answer::Cgroups(found) => {
                    if let Some(radar) = &mut self.radar {
                        radar.cgroups.take(found);
                    }
                }
            }
        }
        self.sockets.settle();
        self.settle();
        touched.append(&mut self.reclassified);
        touched.sort_unstable();
        touched.dedup();
    }

    pub(super) fn take_facts(&mut self, pid: u32, start: Option<u64>, wants: Wants, got: Option<Box<Got>>) -> bool {
        if wants == Wants::MEMORY {
            // Nothing but its footprint changed.
            self.take_memory(pid, got.as_deref());
            return false;
        }
        let (mut got, mut wants) = (got, wants);
        if wants.has(Wants::SOCKETS) {
            self.take_held(pid, start, got.as_mut().and_then(|got| got.held.take()));
            wants = wants.without(Wants::SOCKETS);
            if wants.is_empty() {
                return false;
            }
        }
        // What a foreign /proc says of a process is learned in the same way for all of them.
        if let Some(Got { stat: Some(Ok((stat, comm))), .. }) = got.as_deref() {
            let known = self.table.get(pid).is_some_and(|process| process.is_known() && process.started_at(stat.start));
            if !known {
                if let Some(process) = self.table.get_mut(pid).filter(|process| !process.is_known()) {
                    // Found under its start, which nobody knew when it was told.
                    stuck::answers(process, &mut self.alerts);
                }
                let shown = self.table.get(pid).filter(|process| !process.is_known()).map(|process| process.ps);
                let mut process = Process::new(*stat, comm, None);
                // Until now it was shown as a pid of which nothing could be had.
                process.ps.replaces_unknown = shown.is_some_and(|shown| shown.visible);
                // Whoever had the pid before leaves as others do.
                if self.table.get(pid).is_some_and(Process::is_known) {
                    self.remove(pid);
                }
                self.table.insert(process);
            }
        }
        let hz = self.machine.hz;
        let Some(process) = self.table.get_mut(pid) else { return false };
        if start.is_some_and(|start| !process.started_at(start)) {
            return false;
        }
        process.asked = process.asked.without(wants);
        if (wants.has(Wants::CMD) || wants.has(Wants::EXE))
            && std::mem::take(&mut process.life.distrusts)
            && let Some(got) = &mut got
        {
            (got.cmd, got.exe) = (None, None);
        }
        let Some(got) = got else {
            // One line stands for many: where every reader waits, all that were asked are late at once.
            if process.late.is_empty() && self.said_late.is_none_or(|at| at.elapsed() > SAY_LATE_EVERY) {
                self.said_late = Some(Instant::now());
                tracing::warn!(target: "observer", "Process {} does not answer: reading it took more than a second. What could not be had is shown as ?, and it is asked again once it has run.", process.id);
            }
            // Where every reader waits, others are late whom nobody asked.
            if self.readers.waits_for(pid) {
                stuck::does_not_answer(process, &mut self.alerts);
            }
            process.late |= wants;
            if let Some(limits) = process.limits.as_mut().filter(|_| wants.has(Wants::LIMITS)) {
                limits.soft = Reading::Late;
            }
            mark_late(&mut process.facts, wants);
            self.classify(pid);
            return true;
        };
        process.late = process.late.without(wants);
        if matches!(got.cmd, Some(Ok(_))) || matches!(got.exe, Some(Ok(_))) {
            process.life.sources = process.life.sources.without(Sources::INHERITED).and(Sources::PROC);
        }
        let mut requests = Vec::new();
        let mut executes = None;
        let asks_anew = got.exe.is_some() || !self.programs.is_plain();
        if let Some(Ok((stat, comm))) = got.stat {
            process.look(ticks_to_ns(stat.utime.saturating_add(stat.stime), hz), clock::monotonic_ns());
            process.rss_pages = stat.rss_pages;
            process.life.adopted |= process.stat.ppid != stat.ppid;
            process.stat = stat;
            process.comm = comm.into();
        }
        if let Some(cmd) = got.cmd {
            take_cmd(process, cmd, &self.scrubber, self.programs.needs_cmd());
        }
        if let Some(exe) = got.exe.filter(|answer| !is_over(&process.facts.exe, answer)) {
            let before = std::mem::take(&mut process.facts.exe);
            let known = before.known().map(Arc::as_ptr);
            process.facts.exe = same_or_new(before, Reading::from_read(exe));
            if process.facts.exe.known().map(Arc::as_ptr) != known {
                executes = sharer(process);
            }
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
        if let Some(radar) = &mut self.radar {
            radar.learn(process, got.limits, got.maps, got.cgroup_text.as_deref());
        }
        if let Some(base) = got.base {
            // Records of ended tasks that came since are in it too.
            if process.life.account.records == 0 {
                process.life.account.add_base(&base);
            }
        }
        if !wants.and(DETAILS).is_empty() {
            process.facts.details.get_or_insert_default().update(got.details);
        }
        // Another thread may have read what takes no lock, while one still waits.
        if process.stuck_ns != 0 && !self.readers.waits_for(pid) {
            stuck::answers(process, &mut self.alerts);
        }
        if asks_anew {
            self.classify(pid);
        }
        self.other_sharers(executes);
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

/// By what those who share memory know each other: forked of each other, or executing the same, they have the same executable.
fn sharer(process: &Process) -> Option<Arc<[u8]>> {
    if process.is_read() { process.facts.exe.known().cloned() } else { None }
}

/// A process that ended while it was asked keeps, in its last row, what was known of it.
fn is_over<T, U>(before: &Reading<T>, answer: &Result<U, ReadError>) -> bool {
    before.known().is_some() && matches!(answer, Err(ReadError::Vanished))
}

/// Clock ticks in nanoseconds; a large machine's process has more of them than 64 bits of nanoseconds in between.
pub(super) fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
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

fn take_cmd(process: &mut Process, cmd: Result<Cmd, ReadError>, scrubber: &Scrubber, keep: bool) {
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
            process.facts.really = None;
            return;
        }
    };
    // Its arguments are read now, whichever way: an execution waits for none.
    process.life.exec = None;
    let said = said(&cmd);
    let facts = &mut process.facts;
    if facts.said != said || facts.cmd.known().is_none() || facts.really.is_some() != keep {
        (facts.said, facts.cmd, facts.really) = recordable(cmd, scrubber, keep);
    }
}

/// A hash of what a process said; 0 stands for nothing said yet.
pub(super) fn said(cmd: &Cmd) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    cmd.args().for_each(|arg| arg.hash(&mut hasher));
    hasher.finish() | 1
}

/// The hash of what was said, the command line as it may be recorded, and as it was said where that is to be kept.
pub(super) fn recordable(cmd: Cmd, scrubber: &Scrubber, keep: bool) -> (u64, Reading<Arc<Cmd>>, Option<Arc<Cmd>>) {
    let said = said(&cmd);
    let of = |cmd: Option<Arc<Cmd>>| cmd.map_or(Reading::Absent, Reading::Known);
    if keep {
        let really = Arc::new(cmd);
        return (said, of(scrubber.apply_shared(&really)), Some(really));
    }
    (said, of(scrubber.apply(cmd).map(Arc::new)), None)
}

fn mark_late(facts: &mut Facts, wants: Wants) {
    if wants.has(Wants::CMD) {
        facts.cmd = Reading::Late;
        facts.really = None;
        facts.said = 0;
    }
    if wants.has(Wants::EXE) {
        facts.exe = Reading::Late;
    }
    if wants.has(Wants::CGROUP) {
        facts.cgroup = Reading::Late;
        facts.unit = Reading::Late;
    }
    if wants.has(Wants::OWNER) {
        facts.owner = Reading::Late;
    }
}
