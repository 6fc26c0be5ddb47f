//! What the readers brought, taken into the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::facts::{Facts, Got, Reading, Wants, recordable, said};
use super::footprint::{Seen, Weighed};
use super::life::Sources;
use super::readers::{self, Answer, Request};
use super::sockets::Held;
use super::stuck;
use super::table::Process;
use super::world::{World, sharer};
use crate::record::cmd::Cmd;
use crate::record::scrub::Scrubber;
use crate::source::{ReadError, cgroup, clock};

/// How often at most a process that does not answer is named in psmond.log.
const SAY_LATE_EVERY: Duration = Duration::from_secs(10);

/// What goes into [`Facts::details`].
const DETAILS: Wants = Wants::DETAILS;

impl World {
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
            process.look(clock::ticks_to_ns(stat.utime.saturating_add(stat.stime), hz), clock::monotonic_ns());
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
        let is_quick = self.hears && clock::monotonic_ns().saturating_sub(asked_ns) < clock::PIDS_LAST_NS;
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
}

/// A process that ended while it was asked keeps, in its last row, what was known of it.
fn is_over<T, U>(before: &Reading<T>, answer: &Result<U, ReadError>) -> bool {
    before.known().is_some() && matches!(answer, Err(ReadError::Vanished))
}

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
