//! All accounts: who comes, is counted, changes, and ends.
//!
//! `procs at the end = procs at the beginning + started - exited` holds for each account over any interval.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::account::{Account, Key, Place, Whose};
use super::budgets::Budgets;
use super::cpu::Cpu;
use super::credit::{Credit, Told};
use super::day::Days;
use super::groups::Groups;
use super::lives::Lives;
use crate::observer::accounts::OTHER;
use crate::observer::facts::Reading;
use crate::observer::names::Names;
use crate::observer::table::Process;
use crate::record::carried::Counted;
use crate::source::clock;

/// All accounts.
#[derive(Debug)]
pub struct Credits {
    places: FxHashMap<Key, Place>,
    list: Vec<Account>,
    /// So many are told apart.
    most: usize,
    is_on: bool,
    hz: u64,
    /// CPU time of those that are in no control group but the root, nanoseconds.
    root_ns: u64,
    /// The same CPU time per control group; `None` where nobody asked for it.
    pub groups: Option<Groups>,
    /// What each spent of which day.
    pub days: Days,
    /// Rows of stream `credits_process` that wait for its tick.
    pub lives: Lives,
    /// What may be spent.
    pub budgets: Budgets,
}

impl Default for Credits {
    fn default() -> Self {
        Self {
            places: FxHashMap::default(),
            list: Vec::new(),
            most: usize::MAX,
            is_on: false,
            hz: 100,
            root_ns: 0,
            groups: None,
            days: Days::default(),
            lives: Lives::default(),
            budgets: Budgets::default(),
        }
    }
}

impl Credits {
    /// At most so many accounts are told apart; what was counted stays.
    pub const fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Begins to count: what the processes of the table used before is nobody's, but for those of whom a recorder before this one
    /// said how much it had counted, and for those that were born since it said so (CLOCK_BOOTTIME nanoseconds).
    pub fn begin<'a>(
        &mut self,
        processes: impl Iterator<Item = &'a mut Process>,
        hz: u64,
        carried: &FxHashMap<u32, (u64, Counted)>,
        said_ns: Option<u64>,
    ) {
        (self.is_on, self.hz) = (true, hz);
        let now_ns = clock::boottime_ns();
        for process in processes {
            let known = carried.get(&process.id.pid).filter(|(start, _)| process.started_at(*start) || process.id.start == *start);
            process.credit = match known {
                Some((_, counted)) => Credit {
                    counted: Cpu { ns: counted.cpu_ns, user_us: counted.user_us, system_us: counted.system_us },
                    told: Told { cpu_ns: counted.told_cpu_ns, boot_ns: counted.told_boot_ns, parts: counted.parts },
                    ..Credit::default()
                },
                None if said_ns.is_some_and(|said_ns| process.born_ns(hz) >= said_ns) => Credit::default(),
                None => {
                    let counted = Cpu::of(process, hz);
                    Credit { counted, told: Told { cpu_ns: counted.ns, boot_ns: now_ns, parts: 0 }, ..Credit::default() }
                }
            };
            // Those who are there already did not come in this interval.
            if counts(process)
                && let Some(key) = key_of(process, true)
            {
                let place = self.place_of(key);
                self.list[place.0].members += 1;
                process.credit.place = Some(place);
            }
        }
    }

    /// Ends the counting and forgets everything.
    pub fn end<'a>(&mut self, processes: impl Iterator<Item = &'a mut Process>) {
        *self = Self { most: self.most, ..Self::default() };
        processes.for_each(|process| process.credit = Credit::default());
    }

    /// Whether anything is counted.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Counts what a living process used since it was last counted, for what it is now.
    pub fn count(&mut self, process: &mut Process) {
        if !self.is_on || !counts(process) {
            return;
        }
        let is_known = process.life.exec.is_none() || std::mem::replace(&mut process.credit.waited, true);
        let Some(key) = key_of(process, is_known) else {
            // What it executes will be known at the next tick.
            if !process.credit.moved {
                self.settle(process, Cpu::of(process, self.hz));
            }
            return;
        };
        if process.life.exec.is_none() {
            process.credit.waited = false;
        }
        self.enter(process, key);
        self.settle(process, Cpu::of(process, self.hz));
    }

    /// A process executed, or changed its effective user, so many nanoseconds ago: what it used before was used by what it was. Its
    /// clock is read, where the news is so young that its pid can be nobody else's; what it may have used since is not taken for it.
    pub fn moves(&mut self, process: &mut Process, ago_ns: u64) {
        if !self.is_on || !counts(process) {
            return;
        }
        let clock_ns = (ago_ns < clock::PIDS_LAST_NS).then(|| clock::process_cpu_ns(process.id.pid)).flatten();
        // Where it is gone by now, and was never counted, all of it is of what it became: that is what its obituary says too.
        let Some(ns) = clock_ns else { return };
        if process.credit.moved || process.credit.place.is_none() {
            // Of what it executed in between nobody knows yet what it was: that time goes to what comes.
            let Some(key) = key_of(process, process.life.exec.is_none()) else { return };
            self.enter(process, key);
        }
        let seen = Cpu::of(process, self.hz);
        self.settle(process, Cpu { ns: seen.ns.max(ns.saturating_sub(ago_ns)), ..seen });
        process.credit.moved = true;
    }

    /// Counts what a process used that ended, for what it was at its end, and lets it go.
    pub fn close(&mut self, process: &mut Process) {
        // A zombie of before is nobody's, unless its end is told after all.
        let is_nobodys = process.life.was_zombie && process.life.account.records == 0;
        if !self.is_on || is_nobodys || std::mem::replace(&mut process.credit.closed, true) {
            return;
        }
        if let Some(key) = key_of(process, true) {
            self.enter(process, key);
        }
        self.settle(process, Cpu::of(process, self.hz));
        self.leave(process);
    }

    /// Counts for somebody of whom nothing but the end is known.
    pub fn stranger(&mut self, program: &Arc<[u8]>, cpu: Cpu) {
        if self.is_on {
            let place = self.place_of((Whose::Program(Arc::clone(program)), None));
            let totals = &mut self.list[place.0].totals;
            totals.started += 1;
            totals.exited += 1;
            totals.spent = totals.spent.plus(cpu);
            if let Some(groups) = &mut self.groups {
                groups.stranger(cpu);
            }
        }
    }

    /// What was counted of a living process, for a recorder after this one.
    #[must_use]
    pub fn counted(&self, process: &Process) -> Option<Counted> {
        let Credit { counted, told, .. } = process.credit;
        self.is_on.then_some(Counted {
            cpu_ns: counted.ns,
            user_us: counted.user_us,
            system_us: counted.system_us,
            told_cpu_ns: told.cpu_ns,
            told_boot_ns: told.boot_ns,
            parts: told.parts,
        })
    }

    /// All accounts.
    #[must_use]
    pub fn list(&self) -> &[Account] {
        &self.list
    }

    /// The account of a process.
    #[must_use]
    pub fn of(&self, process: &Process) -> Option<&Account> {
        self.list.get(process.credit.place?.0)
    }

    /// CPU time of those that are in no control group but the root, nanoseconds, since the counting began.
    #[must_use]
    pub const fn root_ns(&self) -> u64 {
        self.root_ns
    }

    /// A tick: what was counted since the one before belongs to this day, and to budgets. Answers how much that is, nanoseconds.
    pub fn tick(&mut self, date: jiff::civil::Date, names: &Names) -> u64 {
        let mut sum_ns = 0;
        self.days.turn(date, &mut self.list);
        for account in &mut self.list {
            let more = account.totals.spent.ns - account.ticked_ns;
            account.day_ns += more;
            account.ticked_ns = account.totals.spent.ns;
            sum_ns += more;
            if more > 0 && !self.budgets.is_empty() {
                let user = account.key.1.map(|uid| names.user(uid));
                self.budgets.spent(&account.key.0.name(), user.as_deref().unwrap_or_default(), more);
            }
        }
        self.days.sum_ns += sum_ns;
        sum_ns
    }

    /// The sample of this tick was taken: the next interval begins.
    pub fn begin_interval(&mut self) {
        self.list.iter_mut().for_each(|account| account.sampled = account.totals);
        if let Some(groups) = &mut self.groups {
            groups.begin_interval();
        }
    }

    /// What was spent of a day as a recorder before this one said.
    pub fn restore_day(&mut self, date: jiff::civil::Date, unattributed_ns: i64, spent: impl Iterator<Item = (Key, u64)>) {
        self.days.turn(date, &mut self.list);
        self.days.unattributed_ns = unattributed_ns;
        for (key, day_ns) in spent {
            self.days.sum_ns += day_ns;
            let place = self.place_of(key);
            self.list[place.0].day_ns += day_ns;
        }
    }

    /// Adds what it used beyond what was counted to its account.
    fn settle(&mut self, process: &mut Process, now: Cpu) {
        let Some(place) = process.credit.place else { return };
        let more = now.beyond(process.credit.counted);
        if more.ns == 0 {
            return;
        }
        process.credit.counted = now.max(process.credit.counted);
        let spent = &mut self.list[place.0].totals.spent;
        *spent = spent.plus(more);
        if is_in_root(process) {
            self.root_ns += more.ns;
        }
        if let Some(groups) = &mut self.groups {
            groups.add(process, more);
        }
        if self.budgets.has_groups()
            && let Reading::Known(path) = &process.facts.cgroup
        {
            self.budgets.spent_in_group(path, more.ns);
        }
    }

    /// Sees to it that it counts for this. Unless that was done when it changed, what it used so far was used by what it was.
    fn enter(&mut self, process: &mut Process, key: Key) {
        let is_there = process.credit.place.is_some_and(|place| {
            let (whose, user) = &self.list[place.0].key;
            whose.is(&key.0) && *user == key.1
        });
        let place = if is_there { process.credit.place } else { Some(self.place_of(key)) };
        if process.credit.place != place {
            if !process.credit.moved {
                self.settle(process, Cpu::of(process, self.hz));
            }
            self.leave(process);
            if let Some(account) = place.and_then(|place| self.list.get_mut(place.0)) {
                account.members += 1;
                account.totals.started += 1;
            }
            process.credit.place = place;
        }
        process.credit.moved = false;
    }

    fn leave(&mut self, process: &mut Process) {
        if let Some(place) = process.credit.place.take() {
            let account = &mut self.list[place.0];
            account.members = account.members.saturating_sub(1);
            account.totals.exited += 1;
        }
    }

    /// Of this user: what is beyond the most that are told apart is still told apart by users, as long as these are not many too.
    fn other_key(&self, user: Option<u32>) -> Key {
        let other = |user| (Whose::Program(OTHER.into()), user);
        let key = other(user);
        if self.places.contains_key(&key) || self.list.len() < self.most.saturating_mul(2) { key } else { other(None) }
    }

    /// One that nobody counts for and that has nothing to say in this interval.
    fn idle(&self) -> Option<usize> {
        let is_other = |account: &Account| matches!(&account.key.0, Whose::Program(name) if **name == *OTHER);
        self.list.iter().position(|account| account.is_idle() && !is_other(account))
    }

    /// The place of an account. Where none is left it takes that of one that nobody counts for any more, whose day goes to
    /// [`OTHER`]; else it is [`OTHER`] itself.
    fn place_of(&mut self, key: Key) -> Place {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        if self.list.len() < self.most.max(1) {
            return self.open(key);
        }
        let Some(at) = self.idle() else {
            let other = self.other_key(key.1);
            return self.opened(other);
        };
        let other = self.other_key(self.list[at].key.1);
        let other = self.opened(other);
        let old = std::mem::replace(&mut self.list[at], Account::new(key.clone()));
        self.places.remove(&old.key);
        self.places.insert(key, Place(at));
        self.list[other.0].day_ns += old.day_ns;
        Place(at)
    }

    fn opened(&mut self, key: Key) -> Place {
        match self.places.get(&key) {
            Some(place) => *place,
            None => self.open(key),
        }
    }

    fn open(&mut self, key: Key) -> Place {
        let place = Place(self.list.len());
        self.places.insert(key.clone(), place);
        self.list.push(Account::new(key));
        place
    }
}

/// Whether a process may use anything that is not counted yet: whoever ended was counted.
const fn counts(process: &Process) -> bool {
    !process.life.ended && !process.life.was_zombie
}

/// What a process is at this moment; `None` where what it executes `is` not `known` yet. Who was not asked for, or may not be, counts
/// by its name.
pub(super) fn key_of(process: &Process, is_known: bool) -> Option<Key> {
    let user = process.facts.owner.known().copied();
    if process.stat.is_kthread() {
        return Some((Whose::Kernel, user.or(Some(0))));
    }
    match &process.facts.program {
        _ if !is_known => None,
        Reading::Known(program) => Some((Whose::Program(Arc::clone(program)), user)),
        _ => Some((Whose::Program(Arc::clone(&process.comm)), user)),
    }
}

/// Whether it is in no control group but the root, which keeps no account of its own (`cgroups(7)`).
fn is_in_root(process: &Process) -> bool {
    process.stat.is_kthread() || process.facts.cgroup.known().is_some_and(|path| **path == *b"/")
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
