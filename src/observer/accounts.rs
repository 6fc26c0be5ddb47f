//! What programs have used: an account for each, which only grows.
//!
//! A process is a member of the program it counts for ([`Facts::program`](super::facts::Facts)). What it used is counted for that
//! program when a sample is made, when it goes to another program, and when it ends; what was counted stands in its
//! [`Membership`], so nothing is counted twice and an account never goes back. Of whoever was born and ended between two samples
//! all is counted at its end, from its obituary's account.
//!
//! `procs = first + started - exited` holds at each sample, where `first` are those who lived when the accounts were begun.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::facts::Reading;
use super::life;
use super::table::Process;
use crate::source::io::Io;

/// The program that stands for those that found no room.
pub const OTHER: &[u8] = b"other";

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
    /// Input and output.
    pub io: Io,
}

impl Spent {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.with(other, u64::max, Io::largest)
    }

    fn add(&mut self, other: Self) {
        *self = self.with(other, u64::saturating_add, Io::plus);
    }

    /// What is in it beyond the other.
    fn beyond(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub, Io::less)
    }

    fn with(self, other: Self, join: fn(u64, u64) -> u64, io: fn(Io, Io) -> Io) -> Self {
        Self {
            cpu_ns: join(self.cpu_ns, other.cpu_ns),
            min_flt: join(self.min_flt, other.min_flt),
            maj_flt: join(self.maj_flt, other.maj_flt),
            nvcsw: join(self.nvcsw, other.nvcsw),
            nivcsw: join(self.nivcsw, other.nivcsw),
            io: io(self.io, other.io),
        }
    }

    /// What a process is known to have used: as it was read last, and what its ended tasks told.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let told = Self::told(&process.life.account);
        let usage = process.usage.as_deref();
        let switches = usage.and_then(|usage| usage.switches.known().copied()).unwrap_or_default();
        told.max(Self {
            cpu_ns: process.cpu_ns,
            min_flt: process.stat.min_flt,
            maj_flt: process.stat.maj_flt,
            nvcsw: switches.voluntary,
            nivcsw: switches.involuntary,
            io: usage.and_then(|usage| usage.io.known().copied()).unwrap_or_default(),
        })
    }

    /// What records told of tasks.
    #[must_use]
    pub fn told(account: &life::Account) -> Self {
        Self {
            cpu_ns: account.cpu_ns(),
            min_flt: account.min_flt,
            maj_flt: account.maj_flt,
            nvcsw: account.nvcsw,
            nivcsw: account.nivcsw,
            io: account.io(),
        }
    }
}

/// What a process remembers of the programs it counts for.
#[derive(Debug, Default)]
pub struct Membership {
    /// Its program; `None` while it counts for none.
    program: Option<Place>,
    /// Further ones, where rules let it count for several.
    also: Box<[Place]>,
    /// What was counted for them.
    counted: Spent,
    /// Where it counted when it ended, as long as it waits to be reaped.
    grave: Option<Place>,
    /// What it had used before the accounts were begun is not theirs, and is still to be read.
    base_due: bool,
    /// Nor what it had used of CPU: nobody had looked at it by then.
    base_unread: bool,
}

impl Membership {
    /// Where it counts.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.program.into_iter().chain(self.also.iter().copied())
    }

    /// Where it counted when it ended.
    #[must_use]
    pub const fn grave(&self) -> Option<Place> {
        self.grave
    }
}

/// The place of a program among the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(usize);

/// One program.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: Arc<[u8]>,
    /// What its members used while they were its members, the dead included.
    pub spent: Spent,
    /// Processes that came.
    pub started: u64,
    /// Processes that went.
    pub exited: u64,
    /// How many there are.
    pub members: u64,
    /// How many there should be.
    pub expect: Option<u32>,
    /// When it lost its last member: the smaller, the longer ago.
    emptied: u64,
    /// What stream `usage` remembers of it.
    pub shown: Standing,
    /// Something of it, or of one of its members, may be another than at the sample before.
    pub changed: bool,
}

/// What stream `usage` remembers of a program from its sample before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// It is in the stream.
    pub visible: bool,
    /// Its CPU time then, nanoseconds.
    pub cpu_ns: u64,
    /// How many had come and gone.
    pub activity: (u64, u64),
    /// Fewer lived than are expected, and that was told.
    pub absent: bool,
    /// It used CPU in the interval before, or had none behind it: its row changes even if nothing happens now.
    pub running: bool,
    /// Its row holds a refused value.
    pub refused: bool,
    /// Its row holds a value that could not be had in time.
    pub stuck: bool,
}

/// All accounts.
#[derive(Debug)]
pub struct Accounts {
    names: FxHashMap<Arc<[u8]>, Place>,
    accounts: Vec<Account>,
    most: usize,
    /// Counts the programs that became empty.
    emptied: u64,
    is_on: bool,
    /// Who counts for [`OTHER`] may have a place of his own by now.
    has_room: bool,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { names: FxHashMap::default(), accounts: Vec::new(), most: usize::MAX, emptied: 0, is_on: false, has_room: false }
    }
}

impl Accounts {
    /// At most so many programs are told apart, and so many processes are expected in each of these. What was counted stays.
    pub fn set(&mut self, most: usize, expected: &[(Arc<[u8]>, u32)]) {
        self.most = most;
        self.accounts.iter_mut().for_each(|account| account.expect = None);
        for (name, expect) in expected {
            // Whom somebody expects has a place whatever others take.
            let place = self.names.get(name).copied().unwrap_or_else(|| self.add(Arc::clone(name)));
            self.accounts[place.0].expect = Some(*expect);
        }
    }

    /// Begins to count: what the processes of the table used before is nobody's, unless it counts `from_birth`.
    pub fn begin<'a>(&mut self, processes: impl Iterator<Item = &'a mut Process>, from_birth: bool) {
        self.is_on = true;
        for process in processes {
            process.membership = Membership::default();
            if counts(process) {
                self.take_in(process);
                self.enter(process, false);
            }
            if !from_birth {
                process.membership.counted = Spent::of(process);
                process.membership.base_due = true;
                process.membership.base_unread = !process.is_read();
            }
        }
    }

    /// Whether anything is counted.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Ends the counting and forgets everything.
    pub fn end<'a>(&mut self, processes: impl Iterator<Item = &'a mut Process>) {
        *self = Self { most: self.most, ..Self::default() };
        processes.for_each(|process| process.membership = Membership::default());
    }

    /// Something of a process may be another than at the sample before, and so of its programs.
    pub fn touch(&mut self, process: &Process) {
        for place in process.membership.places().chain(process.membership.grave) {
            if let Some(account) = self.accounts.get_mut(place.0) {
                account.changed = true;
            }
        }
    }

    /// The same of every program.
    pub fn touch_all(&mut self) {
        self.accounts.iter_mut().for_each(|account| account.changed = true);
    }

    /// By place: whether something may be another than at the sample before, which begins anew.
    pub fn take_changed(&mut self) -> Vec<bool> {
        let changed = |account: &mut Account| std::mem::take(&mut account.changed) || account.shown.running;
        self.accounts.iter_mut().map(changed).collect()
    }

    /// All places, by the names of the programs.
    #[must_use]
    pub fn by_name(&self) -> Vec<Place> {
        let mut places: Vec<Place> = (0..self.accounts.len()).map(Place).collect();
        places.sort_by(|one, other| self.accounts[one.0].name.cmp(&self.accounts[other.0].name));
        places
    }

    /// The next interval of every program begins now.
    pub fn begin_interval(&mut self) {
        self.accounts.iter_mut().for_each(|account| account.shown.cpu_ns = account.spent.cpu_ns);
    }

    /// The account of a place.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Account> {
        self.accounts.get_mut(place.0)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Looks whether there is room for those who count for [`OTHER`]. Goes before a sample's counting.
    pub fn look_for_room(&mut self) {
        self.has_room = self.names.contains_key(OTHER) && (self.accounts.len() < self.most || self.oldest_empty().is_some());
    }

    fn oldest_empty(&self) -> Option<usize> {
        let empty = |(_, account): &(usize, &Account)| {
            account.members == 0 && account.expect.is_none() && !account.shown.visible && *account.name != *OTHER
        };
        self.accounts.iter().enumerate().filter(empty).min_by_key(|(_, account)| account.emptied).map(|(at, _)| at)
    }

    /// Counts what a living process used since it was last counted, for the program it counts for now.
    pub fn count(&mut self, process: &mut Process) {
        if !self.is_on {
            return;
        }
        if process.membership.base_due && is_measured(process) {
            let membership = &mut process.membership;
            membership.base_due = false;
            let membership_unread = membership.base_unread;
            let before = membership.counted;
            let now = Spent::of(process);
            // Its CPU time and faults were known from the first; what is read first now was its own before.
            process.membership.counted =
                if membership_unread { now } else { Spent { nvcsw: now.nvcsw, nivcsw: now.nivcsw, io: now.io, ..before } };
        }
        if !counts(process) {
            return;
        }
        if !self.belongs(process) {
            // What it used so far was used by what it was.
            self.settle(process);
            self.leave(process);
            self.take_in(process);
            self.enter(process, true);
        }
        self.settle(process);
    }

    /// Counts what a process used that ended, and lets it go.
    pub fn close(&mut self, process: &mut Process) {
        if !self.is_on || process.stat.is_kthread() {
            return;
        }
        if !self.belongs(process) {
            // Whom nobody saw in another program had all of its life in this one.
            self.leave(process);
            self.take_in(process);
            self.enter(process, true);
        }
        if process.membership.base_due && !is_measured(process) {
            let last = Spent::of(process);
            let counted = process.membership.counted;
            process.membership.counted = Spent { cpu_ns: counted.cpu_ns, min_flt: counted.min_flt, maj_flt: counted.maj_flt, ..last };
        }
        self.settle(process);
        process.membership.grave = process.membership.program;
        self.leave(process);
    }

    /// Counts for somebody of whom nothing but the end is known.
    pub fn stranger(&mut self, program: &Arc<[u8]>, spent: Spent) {
        if self.is_on {
            let place = self.place_of(program);
            let account = &mut self.accounts[place.0];
            account.started += 1;
            account.exited += 1;
            account.spent.add(spent);
        }
    }

    /// Whether it counts for what its facts say. As long as those are not known it stays where it was.
    fn belongs(&self, process: &Process) -> bool {
        let Reading::Known(program) = &process.facts.program else {
            return process.membership.program.is_some() || process.facts.program != Reading::Absent;
        };
        let is = |place: Place, name: &Arc<[u8]>| {
            let account = &self.accounts[place.0];
            Arc::ptr_eq(&account.name, name)
                || account.name == *name
                || (*account.name == *OTHER && !self.has_room && !self.names.contains_key(name))
        };
        let membership = &process.membership;
        let also = process.facts.also.as_deref().unwrap_or_default();
        membership.program.is_some_and(|place| is(place, program))
            && membership.also.len() == also.len()
            && membership.also.iter().zip(also).all(|(place, name)| is(*place, name))
    }

    fn settle(&mut self, process: &mut Process) {
        let now = Spent::of(process);
        let more = now.beyond(process.membership.counted);
        if more == Spent::default() || process.membership.program.is_none() {
            return;
        }
        for place in process.membership.places() {
            let account = &mut self.accounts[place.0];
            account.spent.add(more);
            account.changed = true;
        }
        process.membership.counted = now.max(process.membership.counted);
    }

    fn take_in(&mut self, process: &mut Process) {
        if let Reading::Known(program) = &process.facts.program {
            let place = self.place_of(program);
            // Thousands of processes share the name, and a comparison is one of pointers.
            process.facts.program = if *self.accounts[place.0].name == **program {
                Reading::Known(Arc::clone(&self.accounts[place.0].name))
            } else {
                Reading::Known(Arc::clone(program))
            };
            process.membership.program = Some(place);
            let also = process.facts.also.as_deref().unwrap_or_default();
            process.membership.also = also.iter().map(|name| self.place_of(name)).collect();
        }
    }

    fn enter(&mut self, process: &Process, came: bool) {
        for place in process.membership.places() {
            let account = &mut self.accounts[place.0];
            account.members += 1;
            account.changed = true;
            account.started += u64::from(came);
        }
    }

    fn leave(&mut self, process: &mut Process) {
        for place in process.membership.places() {
            let account = &mut self.accounts[place.0];
            account.members = account.members.saturating_sub(1);
            account.changed = true;
            account.exited += 1;
            if account.members == 0 {
                self.emptied += 1;
                account.emptied = self.emptied;
            }
        }
        process.membership.program = None;
        process.membership.also = Box::default();
    }

    /// The place of a program; where there is none left it takes that of the program that has been empty for longest, whose account
    /// goes to [`OTHER`], else it counts there itself.
    fn place_of(&mut self, name: &Arc<[u8]>) -> Place {
        if let Some(place) = self.names.get(name) {
            return *place;
        }
        if self.accounts.len() < self.most.max(1) {
            return self.add(Arc::clone(name));
        }
        let other = match self.names.get(OTHER) {
            Some(place) => *place,
            None => self.add(OTHER.into()),
        };
        let Some(at) = self.oldest_empty() else {
            self.has_room = false;
            return other;
        };
        // Whoever lies in it yet, unreaped, is shown with those that come: that its program was another nobody misses.
        let old = std::mem::replace(&mut self.accounts[at], Account::new(Arc::clone(name)));
        self.names.remove(&old.name);
        self.names.insert(Arc::clone(name), Place(at));
        let account = &mut self.accounts[other.0];
        account.spent.add(old.spent);
        // Nothing of it was used in this interval.
        account.shown.cpu_ns = account.shown.cpu_ns.saturating_add(old.shown.cpu_ns);
        account.started += old.started;
        account.exited += old.exited;
        Place(at)
    }

    fn add(&mut self, name: Arc<[u8]>) -> Place {
        let place = Place(self.accounts.len());
        self.names.insert(Arc::clone(&name), place);
        self.accounts.push(Account::new(name));
        place
    }
}

impl Place {
    /// As an index of what stands beside the accounts.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

impl Account {
    fn new(name: Arc<[u8]>) -> Self {
        let shown = Standing { running: true, ..Standing::default() };
        Self { name, spent: Spent::default(), started: 0, exited: 0, members: 0, expect: None, emptied: 0, shown, changed: true }
    }
}

/// Whether a process lives and may count for a program: the kernel's own threads count for none, and whoever ended is counted.
#[must_use]
pub const fn counts(process: &Process) -> bool {
    !process.stat.is_kthread() && !process.life.ended && !process.life.was_zombie
}

/// Whether all was read of it that is counted.
fn is_measured(process: &Process) -> bool {
    process.usage.as_deref().is_some_and(|usage| usage.read_ns > 0)
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
