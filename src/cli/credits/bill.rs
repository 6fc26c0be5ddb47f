//! Adds up what a command and its descendants used, each of them once.
//!
//! Two things tell of it. The obituary of a process has its CPU to the nanosecond, but for what the kernel did for it after the
//! record was made, which is mostly the release of its memory. And whoever came to psmon at its end has a wait4(2) that tells what
//! it used to the very end, together with those it waited for; of a child of somebody who ignores SIGCHLD nobody is told so. All
//! who were born below one who came to psmon, and did not come themselves, ended before it: they and it are one group. No group
//! used less than the sum of its obituaries, nor less than its wait4(2) says, so the larger of both is what it used.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::descent::{Life, Obituary};
use super::early::is_same_start;
use super::living::Living;
use super::reaper::Reaped;
use crate::observer::credits::cpu::split;
use crate::source::clock::ticks_to_ns;

/// What rests on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The kernel tells of births, and what each process used.
    Records,
    /// It tells of births only: who used what is known from wait4(2).
    Births,
    /// It tells of nothing but who came to psmon.
    Orphans,
}

/// What a program used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Its processes; with [`Truth::Records`] alone each by itself, else with those it waited for.
    pub processes: u64,
    /// CPU time, microseconds.
    pub cpu_us: u64,
}

/// All that was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// CPU time, of the living too, microseconds.
    pub cpu_us: u64,
    /// User and system part of it; `None` where nothing told how to split it.
    pub split_us: Option<(u64, u64)>,
    /// By program, the dearest first; a program that nobody could name is `None`.
    pub programs: Vec<(Option<Arc<[u8]>>, Sum)>,
    /// What the kernel did at their ends, after the record of each was made, where it can only be told of several together; and
    /// what those used who have no obituary.
    pub ends_us: u64,
    /// Processes that were born, as far as was told.
    pub processes: u64,
    /// Of them those who ended and whose obituary never came.
    pub missing: u64,
    /// Largest resident memory of one of them, bytes.
    pub max_rss: Option<u64>,
    /// What wait4(2) told in all, which is what time(1) would say if it heard of orphans; microseconds.
    pub waited_us: u64,
    /// CPU time of the living so far, with what they waited for where there are no records; microseconds.
    pub living_us: u64,
}

/// Adds up. Whoever lives is in `living`, and has no obituary. `hz` is clock ticks a second.
#[must_use]
pub fn add_up(truth: Truth, lives: &[Life], living: &[Living], hz: u64) -> Bill {
    let records = truth == Truth::Records;
    let ticks_us = |ticks: u64| ticks_to_ns(ticks, hz) / 1000;
    let alive: FxHashMap<u32, u64> = living.iter().map(|one| (one.pid, one.start)).collect();
    let lives_on = |life: &Life| {
        let start = alive.get(&life.pid).filter(|_| life.obituary.is_none() && life.reaped.is_none());
        start.is_some_and(|lives| is_same_start(life.start, Some(*lives)))
    };
    let told: FxHashSet<u32> = lives.iter().filter(|life| lives_on(life)).map(|life| life.pid).collect();
    let mut tally = Tally::default();
    for (root, members) in groups(lives, lives_on) {
        // What those used who ended below one that lives is with it, where wait4(2) is all that tells.
        if records || !lives_on(root) {
            tally.group(records, root, &members);
        }
    }
    let mut bill = Bill::default();
    for one in living {
        let waited_for = if records { 0 } else { ticks_us(one.waited_for) };
        bill.living_us += one.cpu_us + waited_for;
        tally.split(one.cpu_us, Some((ticks_us(one.user), ticks_us(one.system))));
        tally.max_rss = tally.max_rss.max(one.max_rss);
        if !told.contains(&one.pid) {
            bill.processes += 1;
        }
    }
    bill.processes += lives.len() as u64;
    bill.cpu_us = tally.cpu_us + bill.living_us;
    bill.split_us = tally.split_of(bill.cpu_us);
    bill.ends_us = tally.ends_us;
    bill.waited_us = tally.told_us.0 + tally.told_us.1;
    bill.missing = tally.missing;
    bill.max_rss = tally.max_rss;
    bill.programs = tally.programs.into_iter().filter(|(_, sum)| sum.processes > 0).collect();
    bill.programs.sort_by(|(one, its), (other, others)| (others.cpu_us, others.processes, one).cmp(&(its.cpu_us, its.processes, other)));
    bill
}

/// Those who came to psmon, or live, each with all below it that did neither: they ended before it, or have nobody of that kind
/// above them.
fn groups(lives: &[Life], lives_on: impl Fn(&Life) -> bool) -> Vec<(&Life, Vec<&Life>)> {
    let mut group_of: Vec<usize> = Vec::with_capacity(lives.len());
    let mut groups: Vec<(&Life, Vec<&Life>)> = Vec::new();
    for life in lives {
        let is_root = life.reaped.is_some() || lives_on(life);
        // A parent stands before its children.
        let group = life.parent.filter(|_| !is_root).and_then(|parent| group_of.get(parent).copied()).unwrap_or(groups.len());
        if group == groups.len() {
            groups.push((life, Vec::new()));
        }
        if let Some((_, members)) = groups.get_mut(group)
            && !lives_on(life)
        {
            members.push(life);
        }
        group_of.push(group);
    }
    groups
}

#[derive(Default)]
struct Tally {
    cpu_us: u64,
    ends_us: u64,
    missing: u64,
    max_rss: Option<u64>,
    programs: BTreeMap<Option<Arc<[u8]>>, Sum>,
    /// User and system time that was told of processes.
    known_us: (u64, u64),
    /// The same of those who came to psmon, which also tells of those that no tick hit.
    told_us: (u64, u64),
}

impl Tally {
    /// Takes in those who ended of a group. Its root is one of them, unless it lives.
    fn group(&mut self, records: bool, root: &Life, members: &[&Life]) {
        let told = root.reaped.as_deref();
        if let Some(reaped) = told {
            self.told_us.0 += reaped.used.user_us;
            self.told_us.1 += reaped.used.system_us;
        }
        if !records {
            let Some(reaped) = told else {
                self.unknown(members);
                return;
            };
            let program = comm(reaped);
            self.add(program, members.len() as u64, reaped.used.cpu_us());
            self.split(reaped.used.cpu_us(), Some((reaped.used.user_us, reaped.used.system_us)));
            self.max_rss = self.max_rss.max(peak(reaped));
            return;
        }
        let mut sum_us = 0;
        let mut untold = Vec::new();
        for life in members {
            let obituary = life.obituary.as_deref();
            let cpu_us = obituary.and_then(|obituary| obituary.cpu_us);
            if cpu_us.is_none() {
                untold.push(*life);
            }
            sum_us += cpu_us.unwrap_or(0);
            self.add(name(life), 1, cpu_us.unwrap_or(0));
            self.split(cpu_us.unwrap_or(0), obituary.and_then(|obituary| obituary.split_us));
            self.max_rss = self.max_rss.max(obituary.and_then(|obituary| obituary.max_rss));
        }
        self.missing += untold.len() as u64;
        if !untold.is_empty() {
            self.max_rss = self.max_rss.max(told.and_then(peak));
        }
        let rest_us = told.map_or(0, |reaped| reaped.used.cpu_us().saturating_sub(sum_us));
        // Whose it is can be said where only one of them may have used it.
        match (&untold[..], members) {
            ([life], _) | ([], [life]) => self.add(name(life), 0, rest_us),
            _ => {
                self.ends_us += rest_us;
                self.cpu_us += rest_us;
            }
        }
    }

    /// Of whom nobody told what they used.
    fn unknown(&mut self, members: &[&Life]) {
        self.missing += members.len() as u64;
        members.iter().for_each(|life| self.add(name(life), 1, 0));
    }

    fn add(&mut self, program: Option<Arc<[u8]>>, processes: u64, cpu_us: u64) {
        let sum = self.programs.entry(program).or_default();
        sum.processes += processes;
        sum.cpu_us += cpu_us;
        self.cpu_us += cpu_us;
    }

    /// Takes in how somebody's time was split, as its ticks say.
    fn split(&mut self, cpu_us: u64, split_us: Option<(u64, u64)>) {
        let Some((user, system)) = split_us else { return };
        let user = split(cpu_us, user, system).map_or(0, |(user, _)| user);
        self.known_us.0 += user;
        self.known_us.1 += if split_us == Some((0, 0)) { 0 } else { cpu_us - user };
    }

    /// What is not known is split as wait4(2) would, else as what is known.
    fn split_of(&self, cpu_us: u64) -> Option<(u64, u64)> {
        let (user, system) = self.known_us;
        let rest = cpu_us.saturating_sub(user + system);
        let (more, _) = split(rest, self.told_us.0, self.told_us.1).or_else(|| split(rest, user, system))?;
        Some((user + more, cpu_us.saturating_sub(user + more)))
    }
}

fn name(life: &Life) -> Option<Arc<[u8]>> {
    let said = life.obituary.as_deref().and_then(|obituary: &Obituary| obituary.program.clone());
    said.or_else(|| life.reaped.as_deref().and_then(comm))
}

/// What is no larger than our own was ours.
fn peak(reaped: &Reaped) -> Option<u64> {
    Some(reaped.used.max_rss).filter(|peak| *peak > 0)
}

fn comm(reaped: &Reaped) -> Option<Arc<[u8]>> {
    reaped.comm.clone()
}

#[cfg(test)]
#[path = "bill_tests.rs"]
mod tests;
