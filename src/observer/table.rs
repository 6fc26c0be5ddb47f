//! The one table of live processes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::accounts::Membership;
use super::credits::credit::Credit;
use super::facts::{Facts, Reading, Wants};
use super::footprint::Footprint;
use super::life::Life;
use super::programs::member::Claim;
use super::radar::Limits;
use super::shown::Shown;
use super::sockets::Held;
use super::usage::Usage;
use crate::record::identity::Identity;
use crate::source::ReadError;
use crate::source::clock::ticks_to_ns;
use crate::source::procdir::{Proc, read_at_start};
use crate::source::stat::{self, STAT_BYTES, Stat};

/// One live process.
///
/// Laid out by hand: what a tick looks at of a process that did not run is in the first 128 bytes, two cache lines that are
/// fetched together. On an idle machine a tick is little more than these fetches and the kernel's own.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Process {
    /// Who it is; assigned once. `start` is 0 as long as its `stat` could not be had.
    pub id: Identity,
    /// Its CPU clock at the last look, nanoseconds.
    pub cpu_ns: u64,
    /// When that look was, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    pub looked_ns: u64,
    /// What the ps sampler remembers of it.
    pub ps: Shown,
    /// What is being read of it at the moment.
    pub asked: Wants,
    /// What could not be had in time when last it was asked.
    pub late: Wants,
    /// How often its control group was read after birth: at once, after 1 s and after 10 s.
    pub cgroup_reads: u8,
    /// It was not there when it was to be looked at, and its end was not told: since when, CLOCK_MONOTONIC nanoseconds.
    pub missing: Option<NonZeroU64>,
    /// Its counters at the last reading.
    pub stat: Stat,
    /// When its command line was read last, CLOCK_MONOTONIC nanoseconds.
    pub cmd_read_ns: u64,
    /// When its effective user was looked at last, CLOCK_MONOTONIC nanoseconds.
    pub owner_read_ns: u64,
    /// Its name at the last reading.
    pub comm: Arc<[u8]>,
    /// Its `stat`, kept open as long as there are descriptors to spare.
    pub kept: Option<OwnedFd>,
    /// Its `statm`, opened when first its memory moved, and kept likewise.
    pub kept_statm: Option<OwnedFd>,
    /// Resident pages, exact: those of `stat` may lag.
    pub rss_pages: u64,
    /// What else is known of it.
    pub facts: Facts,
    /// What its obituary will need.
    pub life: Life,
    /// What the pss sampler remembers of it.
    pub footprint: Option<Box<Footprint>>,
    /// What the usage sampler remembers of it.
    pub usage: Option<Box<Usage>>,
    /// What was counted of it for programs.
    pub membership: Membership,
    /// What was counted of it for an account of CPU time.
    pub credit: Credit,
    /// What the limits radar remembers of it; `None` while it is off.
    pub limits: Option<Box<Limits>>,
    /// Since when it is told not to answer, CLOCK_MONOTONIC nanoseconds; 0 while it answers.
    pub stuck_ns: u64,
    /// The sockets it held at the last listing of its descriptors; `None` until it was asked for one. Boxed: 8 bytes for all whom
    /// nobody asks.
    pub held: Option<Box<Reading<Held>>>,
}

impl Process {
    /// A process just found.
    #[must_use]
    pub fn new(stat: Stat, comm: &[u8], kept: Option<OwnedFd>) -> Self {
        Self {
            id: Identity { pid: stat.pid, start: stat.start },
            cpu_ns: 0,
            looked_ns: 0,
            ps: Shown::default(),
            asked: Wants::NONE,
            late: Wants::NONE,
            cmd_read_ns: 0,
            owner_read_ns: 0,
            cgroup_reads: 0,
            missing: None,
            stat,
            comm: comm.into(),
            kept,
            kept_statm: None,
            rss_pages: stat.rss_pages,
            facts: Facts::default(),
            life: Life { tasks: u32::try_from(stat.num_threads).unwrap_or(u32::MAX), concerns_others: true, ..Life::default() },
            footprint: None,
            usage: None,
            membership: Membership::default(),
            credit: Credit::default(),
            limits: None,
            stuck_ns: 0,
            held: None,
        }
    }

    /// A process whose birth was told and of which nothing was read yet: what its parent left it is known.
    #[must_use]
    pub fn born(id: Identity, parent: Option<&Self>, life: Life) -> Self {
        let stat = parent.map_or_else(Stat::default, |parent| Stat {
            ppid: parent.id.pid,
            pgrp: parent.stat.pgrp,
            session: parent.stat.session,
            tty_nr: parent.stat.tty_nr,
            tpgid: parent.stat.tpgid,
            flags: parent.stat.flags,
            nice: parent.stat.nice,
            ..Stat::default()
        });
        let mut process = Self::new(Stat { pid: id.pid, start: id.start, num_threads: 1, ..stat }, b"", None);
        if let Some(parent) = parent {
            process.comm = Arc::clone(&parent.comm);
            process.facts = parent.facts_to_tell();
            process.facts.family = parent.facts.passes_on().cloned();
            if parent.life.exec.is_some() {
                // Nobody has asked the rules of what it is now, and of its child neither.
                process.facts.claim = Claim::None;
                process.facts.heads = None;
            }
        }
        process.life = life;
        process
    }

    /// A process of which nothing but the pid could be had.
    #[must_use]
    pub fn unknown(pid: u32) -> Self {
        let mut process = Self::new(Stat { pid, ..Stat::default() }, b"", None);
        process.late = Wants::STAT;
        process
    }

    /// When it was born, CLOCK_BOOTTIME nanoseconds: as its birth was told, else by its start ticks.
    #[must_use]
    pub fn born_ns(&self, hz: u64) -> u64 {
        self.life.born_ns.unwrap_or_else(|| ticks_to_ns(self.id.start, hz))
    }

    /// Takes a look at its CPU clock.
    pub const fn look(&mut self, cpu_ns: u64, now_ns: u64) {
        self.cpu_ns = cpu_ns;
        self.looked_ns = now_ns;
    }

    fn descriptors(&self) -> usize {
        usize::from(self.kept.is_some())
            + usize::from(self.kept_statm.is_some())
            + self.usage.as_ref().map_or(0, |usage| usage.descriptors())
    }

    /// Whether its counters are known, or at least who it is.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.id.start != 0 || self.stat.state != 0
    }

    /// Its facts as events and obituaries may tell them. A sample goes on showing those of the program before until those of the
    /// new one have come or were given up: the execution may be younger than the tick.
    #[must_use]
    pub fn facts_to_tell(&self) -> Facts {
        let mut facts = self.facts.inherited();
        if self.life.exec.is_some() {
            facts.forget_program();
        }
        facts
    }

    /// Whether its counters were ever read.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.stat.state != 0
    }

    /// Whether what has its pid now is it: answers of the kernel under its pid were its own.
    #[must_use]
    pub fn is_still_there(&self, proc: &Proc) -> bool {
        // A kept one answers for nobody else, and a few bytes of it say so.
        if let Some(kept) = &self.kept {
            return read_at_start(kept, &mut [0; 8]).is_ok();
        }
        let mut buffer = [0; STAT_BYTES];
        let read = self.read_stat(proc, &mut buffer);
        read.is_ok_and(|length| stat::parse(&buffer[..length]).is_some_and(|(stat, _)| self.started_at(stat.start)))
    }

    /// Reads its `stat`: the kept one, or that of whoever has its pid.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn read_stat(&self, proc: &Proc, buffer: &mut [u8]) -> Result<usize, ReadError> {
        match &self.kept {
            Some(kept) => read_at_start(kept, buffer),
            None => read_at_start(proc.open_stat(self.id.pid)?, buffer),
        }
    }

    /// Whether start ticks as `/proc` says them are its own. The identity of one whose birth was told has the event's stamp,
    /// which may be one tick off.
    #[must_use]
    pub const fn started_at(&self, start: u64) -> bool {
        // Whoever forks may be held up between the start and the event; a pid that is used again is younger than both.
        if self.is_read() { self.stat.start == start } else { self.id.start == 0 || start <= self.id.start + 1 }
    }

    /// Whether an identity names it: either may have the stamp of its birth's event, a little later than its start.
    #[must_use]
    pub fn is_same_as(&self, id: Identity, hz: u64) -> bool {
        let starts = [self.id.start, if self.is_read() { self.stat.start } else { self.id.start }];
        self.id.pid == id.pid && starts.iter().any(|start| *start <= id.start + 1 && id.start <= start.saturating_add(hz.max(1)))
    }
}

/// All live processes, by pid.
#[derive(Debug, Default)]
pub struct Table {
    processes: BTreeMap<u32, Box<Process>>,
    kept: usize,
    may_keep: usize,
}

impl Table {
    /// An empty table that keeps at most so many `stat` files open.
    #[must_use]
    pub const fn new(may_keep: usize) -> Self {
        Self { processes: BTreeMap::new(), kept: 0, may_keep }
    }

    /// Whether one more file may be kept open.
    #[must_use]
    pub const fn may_keep(&self) -> bool {
        self.kept < self.may_keep
    }

    /// How many more files may be kept open.
    #[must_use]
    pub const fn spare(&self) -> usize {
        self.may_keep.saturating_sub(self.kept)
    }

    /// Counts files that were kept while the table was walked.
    pub const fn kept_more(&mut self, files: usize) {
        self.kept += files;
    }

    /// Counts files that were closed likewise.
    pub const fn kept_fewer(&mut self, files: usize) {
        self.kept = self.kept.saturating_sub(files);
    }

    /// Takes a process in; whoever had its pid is handed back.
    pub fn insert(&mut self, process: Process) -> Option<Box<Process>> {
        self.kept += process.descriptors();
        let before = self.processes.insert(process.id.pid, Box::new(process));
        self.kept -= before.as_ref().map_or(0, |old| old.descriptors());
        before
    }

    /// Takes a process out.
    pub fn remove(&mut self, pid: u32) -> Option<Box<Process>> {
        let process = self.processes.remove(&pid)?;
        self.kept -= process.descriptors();
        Some(process)
    }

    /// The process that has a pid now.
    #[must_use]
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid).map(|process| &**process)
    }

    /// The process that has a pid now, to add to it.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.processes.get_mut(&pid).map(|process| &mut **process)
    }

    /// All, by ascending pid.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().map(|process| &**process)
    }

    /// All with at least this pid, to add to them.
    pub fn iter_mut_from(&mut self, pid: u32) -> impl Iterator<Item = &mut Process> {
        self.processes.range_mut(pid..).map(|(_, process)| &mut **process)
    }

    /// Compares with a list of all pids, both ascending: which are new, and which are gone.
    pub fn compare(&self, list: &[u32], born: &mut Vec<u32>, gone: &mut Vec<u32>) {
        let mut known = self.processes.keys().copied().peekable();
        for pid in list {
            while let Some(before) = known.next_if(|known| known < pid) {
                gone.push(before);
            }
            if known.next_if_eq(pid).is_none() {
                born.push(*pid);
            }
        }
        gone.extend(known);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_a_tick_looks_at_of_an_idle_process_lies_together() {
        assert!(std::mem::offset_of!(Process, stat) + std::mem::offset_of!(Stat, state) < 128);
    }

    fn process(pid: u32) -> Process {
        Process::new(Stat { pid, start: 1, ..Stat::default() }, b"x", None)
    }

    #[test]
    fn kept_files_are_counted() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut table = Table::new(1);
        assert!(table.may_keep());
        table.insert(Process { kept: Some(file()), ..process(1) });
        assert!(!table.may_keep());
        table.insert(Process { kept: Some(file()), ..process(1) });
        assert!(table.remove(1).is_some() && table.may_keep());
    }

    proptest! {
        // born = list \ table, gone = table \ list.
        #[test]
        fn births_and_deaths_are_the_differences(before in proptest::collection::btree_set(1_u32..50, 0..20), now in proptest::collection::btree_set(1_u32..50, 0..20)) {
            let mut table = Table::new(0);
            for pid in &before { table.insert(process(*pid)); }
            let list: Vec<u32> = now.iter().copied().collect();
            let (mut born, mut gone) = (Vec::new(), Vec::new());
            table.compare(&list, &mut born, &mut gone);
            prop_assert_eq!(born.into_iter().collect::<BTreeSet<_>>(), &now - &before);
            prop_assert_eq!(gone.into_iter().collect::<BTreeSet<_>>(), &before - &now);
        }
    }
}
