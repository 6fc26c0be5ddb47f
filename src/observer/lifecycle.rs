//! From events to the table, and to obituaries.
//!
//! A fork makes an entry that knows what its parent left it; an exec, a new name, user or session change it at once; the death
//! of the **last task** ends it. Which task is the last:
//!
//! * The kernel says it in the exit record of the task (AGROUP, Linux 5.19). The record is sent before the exit event, so it is
//!   here when the event is.
//! * Without a record: the only task a process ever had is its last.
//! * Else its `stat` is looked at: gone, or a zombie with no other task.
//!
//! So an exec by a thread that is not the first (the kernel tells an exit of the first task, whose id the other takes over) and
//! a first task that ends before the others are no deaths. Tasks of one process may tell their ends out of order: after the
//! last was told, those on their way out are waited for until the flush, so that what they used is in the obituary.
//!
//! An exec by a thread that is not the first exchanges the ids of the two while the first is on its way out (de_thread in the
//! kernel's fs/exec.c): its record, sent before, has the process's id, its exit event that one or the other's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::accounts::Spent;
use super::argvs::{Argvs, apply, argv, resolve};
use super::capture::Captured;
use super::credits::cpu::Cpu;
use super::drain::{Batch, Offsets, Totals};
use super::facts::{Reading, Wants};
use super::life::{Account, Life, Sources};
use super::obituary::{End, Obituary, Status};
use super::programs::Subject;
use super::programs::member::{self, Claim};
use super::records::Records;
use super::samplers::events::{Events, Happening, Info};
use super::samplers::exits::Exits;
use super::table::Process;
use super::world::World;
use crate::record::event::EventKind;
use crate::record::identity::Identity;
use crate::source::ReadError;
use crate::source::clock;
use crate::source::connector::{Event, Task, What};
use crate::source::procdir::read_at_start;
use crate::source::stat::{self, PF_KTHREAD, STAT_BYTES};
use crate::source::taskstats::Record;

/// How long what was read at an execution is kept for the rows that wait for it, at least.
const AGE_EVERY: Duration = Duration::from_secs(1);

/// A task of a process that was buried may tell its own end so much later.
const LATE_NS: u64 = 10_000_000_000;

/// Where what was found is told.
#[derive(Debug)]
pub struct Telling<'a> {
    /// Stream `events`.
    pub events: &'a mut Events,
    /// Stream `exits`.
    pub exits: &'a mut Exits,
}

/// The state between batches.
#[derive(Debug, Default)]
pub struct Lifecycle {
    records: Records,
    /// What was read at executions.
    pub argvs: Argvs,
    /// Processes whose last task was told, and others not yet.
    dying: Vec<u32>,
    /// Buried while tasks were still to tell their end: what they tell later is no second death.
    buried: FxHashMap<u32, u64>,
    /// Counts of the newest batch.
    pub totals: Totals,
    /// How often the table was brought back in line.
    pub resync: u64,
    offsets: Offsets,
    /// When what nobody can ask for any more was forgotten.
    aged: Option<Instant>,
}

impl Lifecycle {
    /// With the counts before the first batch.
    #[must_use]
    pub fn new(totals: Totals) -> Self {
        Self { totals, ..Self::default() }
    }

    /// Takes in what was read at executions.
    pub fn capture(&mut self, world: &mut World, captured: impl Iterator<Item = Captured>) {
        if !Arc::ptr_eq(&self.argvs.programs, &world.programs) {
            self.argvs.programs = Arc::clone(&world.programs);
        }
        for captured in captured {
            let exec = (captured.pid, captured.time_ns);
            let Some(argv) = argv(captured, world) else { continue };
            if let Some(process) = world.table.get_mut(exec.0).filter(|process| process.life.exec == Some(exec)) {
                apply(process, &argv);
                classify(world, exec.0);
            }
            // Rows that wait for it, children born meanwhile, or the execution itself, which is still to be told.
            self.argvs.insert(exec, argv);
        }
        world.settle();
    }

    /// Takes in a batch.
    pub fn hear(&mut self, world: &mut World, batch: &Batch, telling: &mut Telling<'_>) {
        self.totals = batch.totals;
        self.offsets = batch.offsets;
        for record in &batch.records {
            self.records.add(*record, batch.taken_ns);
        }
        for event in &batch.events {
            match event.what {
                What::Fork { parent, child } if child.task == child.pid => self.fork(world, event, parent, child.pid, telling),
                What::Fork { child, .. } => self.clone_task(world, event, child, telling),
                What::Exec(task) => self.exec(world, event, task, telling),
                What::Exit { task, code, parent, .. } => self.exit(world, event, task, code, parent, telling),
                What::Comm(task, name) => self.comm(world, event, task, name, telling),
                What::Uid(task, ids) => {
                    if task.task == task.pid {
                        move_on(world, event, task.pid, self.offsets.boot);
                        if let Some(process) = world.table.get_mut(task.pid) {
                            process.facts.owner = Reading::Known(ids[1]);
                        }
                        if world.programs.needs_user() {
                            world.classify(task.pid);
                        }
                        world.ask_user(ids[1]);
                    }
                    self.tell(world, event, EventKind::Uid, task, Info::Ids(ids), telling);
                }
                What::Gid(task, ids) => self.tell(world, event, EventKind::Gid, task, Info::Ids(ids), telling),
                What::Sid(task) => {
                    if let Some(process) = world.table.get_mut(task.pid) {
                        process.stat.session = task.pid.into();
                        process.stat.pgrp = task.pid.into();
                        process.stat.tty_nr = 0;
                        process.life.concerns_others = true;
                    }
                    self.tell(world, event, EventKind::Sid, task, Info::Session(task.pid), telling);
                }
                What::Ptrace(task, tracer) => {
                    let info = if tracer.task == 0 { Info::Detach } else { Info::Attach(tracer.pid) };
                    self.tell(world, event, EventKind::Ptrace, task, info, telling);
                }
                What::Core(task) => self.tell(world, event, EventKind::Core, task, Info::Signal(None), telling),
                What::Acknowledged(_) | What::Unknown(_) => {}
            }
        }
        world.ask_renamed();
        if batch.gap {
            // Whoever forked or cloned may have done so unheard: its first task's end is no longer sure to be its own.
            for process in world.table.iter_mut_from(0) {
                process.life.many = true;
                process.life.concerns_others = true;
            }
        }
        world.settle();
    }

    /// Whether somebody is dying.
    #[must_use]
    pub const fn waits(&self) -> bool {
        !self.dying.is_empty()
    }

    /// Ends what belongs to the time before this flush.
    pub fn flush(&mut self, world: &mut World, telling: &mut Telling<'_>) {
        for pid in std::mem::take(&mut self.dying) {
            self.bury(world, pid, telling);
        }
    }

    /// Forgets what nobody can ask for any more. Once a second and no sooner, however often rows are flushed: those that stand
    /// behind a row that waits are asked for later than that one.
    pub fn age(&mut self) {
        if self.aged.is_some_and(|at| at.elapsed() < AGE_EVERY) {
            return;
        }
        self.aged = Some(Instant::now());
        self.argvs.age();
        const LONGEST_NS: u64 = 60_000_000_000;
        let now_ns = clock::monotonic_ns();
        let young = |taken_ns: u64| now_ns.saturating_sub(taken_ns) < LONGEST_NS;
        self.records.age(young);
        self.buried.retain(|_, time_ns| young(*time_ns));
    }

    fn unix_ns(&self, event: &Event) -> i64 {
        self.offsets.wall.saturating_add_unsigned(event.time_ns)
    }

    const fn boot_ns(&self, event: &Event) -> u64 {
        event.time_ns.saturating_add(self.offsets.boot)
    }

    fn fork(&mut self, world: &mut World, event: &Event, parent: Task, pid: u32, telling: &mut Telling<'_>) {
        let born_ns = self.boot_ns(event);
        let start = born_ns / (1_000_000_000 / world.machine.hz.max(1)).max(1);
        self.buried.remove(&pid);
        self.records.forget(pid, event.time_ns);
        let mut life = Life { born_ns: Some(born_ns), sources: Sources::CONNECTOR, tasks: 1, ..Life::default() };
        let mut came = false;
        world.ask_if_renamed(parent.pid);
        if let Some(bearer) = world.table.get_mut(parent.pid) {
            bearer.life.concerns_others = true;
            came = resolve(bearer, &self.argvs);
            life.parent = Some(bearer.id);
            life.pcomm = Some(Arc::clone(&bearer.comm));
            life.exec = bearer.life.exec;
            life.sources = life.sources.and(Sources::INHERITED);
        } else {
            life.parent = Some(Identity { pid: parent.pid, start: 0 });
        }
        if came {
            classify(world, parent.pid);
        }
        match world.table.get_mut(pid) {
            // It was listed before its birth was told.
            Some(known) if known.is_same_as(Identity { pid, start }, world.machine.hz) && known.life.born_ns.is_none() => {
                let tasks = known.life.tasks;
                known.life = Life { tasks, many: known.life.many || tasks > 1, exec: None, ..life };
            }
            known => {
                if known.is_some() {
                    // Its end was lost: somebody else has its pid now.
                    self.bury_unseen(world, pid, telling);
                }
                let id = Identity { pid, start };
                let mut process = Process::born(id, world.table.get(parent.pid), life);
                process.stat.ppid = parent.pid;
                world.table.insert(process);
            }
        }
        self.tell(world, event, EventKind::Fork, Task { task: pid, pid }, Info::None, telling);
    }

    fn clone_task(&mut self, world: &mut World, event: &Event, child: Task, telling: &mut Telling<'_>) {
        self.records.forget(child.task, event.time_ns);
        if let Some(process) = world.table.get_mut(child.pid) {
            process.life.many = true;
            process.life.tasks = process.life.tasks.saturating_add(1);
        }
        self.tell(world, event, EventKind::Clone, child, Info::None, telling);
    }

    fn exec(&self, world: &mut World, event: &Event, task: Task, telling: &mut Telling<'_>) {
        let exec = (task.pid, event.time_ns);
        let (mut before, mut came) = (None, false);
        move_on(world, event, task.pid, self.offsets.boot);
        if let Some(process) = world.table.get_mut(task.pid) {
            // What is being read of it at this moment may be of the program before.
            process.life.distrusts |= process.asked.has(Wants::CMD) || process.asked.has(Wants::EXE);
            process.cmd_read_ns = 0;
            // The next reading shows the new address: that it changed is no news.
            process.stat.arg_start = 0;
            process.stat.flags &= !PF_KTHREAD;
            process.life.exec = Some(exec);
            if let Some(footprint) = &mut process.footprint {
                footprint.executed();
                before = process.facts.exe.known().cloned();
            }
            process.life.sources = process.life.sources.without(Sources::ARGUMENTS);
            // All other tasks are gone, whenever they tell it.
            process.life.tasks = 1;
            process.life.owes_an_end = process.life.many && process.life.first_code.is_none();
            process.life.first_code = None;
            came = resolve(process, &self.argvs);
        }
        if came {
            classify(world, task.pid);
        }
        world.other_sharers(before);
        self.tell(world, event, EventKind::Exec, task, Info::None, telling);
    }

    fn comm(&self, world: &mut World, event: &Event, task: Task, name: [u8; 16], telling: &mut Telling<'_>) {
        let new: Arc<[u8]> = name.split(|byte| *byte == 0).next().unwrap_or_default().into();
        let mut old = None;
        if task.task == task.pid
            && let Some(process) = world.table.get_mut(task.pid)
        {
            let before = std::mem::replace(&mut process.comm, Arc::clone(&new));
            // Of an exec whose name was not read the name before is another program's.
            old = process.life.exec.is_none().then_some(before);
            world.rename(task.pid);
        }
        self.tell(world, event, EventKind::Comm, task, Info::Renamed(old, new), telling);
    }

    fn exit(&mut self, world: &mut World, event: &Event, task: Task, code: u32, parent: Option<Task>, telling: &mut Telling<'_>) {
        let own = self.records.of_task(task.task);
        let (record, is_first) = match own {
            Some(_) => (own, task.task == task.pid),
            None => {
                let exchanged = self.records.exchanged(task);
                (exchanged, exchanged.is_some() || task.task == task.pid)
            }
        };
        let Some(process) = world.table.get_mut(task.pid) else {
            self.stranger(world, event, task, code, parent, record.as_ref(), telling);
            return;
        };
        if process.life.ended {
            // One of the tasks that nobody waited for any longer; or, much later, somebody whose birth was lost.
            let since_ns = process.life.dying.map_or(u64::MAX, |(time_ns, _)| event.time_ns.saturating_sub(time_ns));
            if since_ns >= LATE_NS {
                world.remove(task.pid);
                self.stranger(world, event, task, code, parent, record.as_ref(), telling);
            }
            return;
        }
        if let Some(record) = &record {
            process.life.account.add(record);
        }
        // What was taken may be of the task that had the id before, and whose end is still to be told under another one.
        let is_of_before = process.life.owes_an_end && task.task == task.pid && record.and_then(|record| record.is_last()) == Some(false);
        let behind = if is_of_before { self.records.last_behind(task.pid) } else { None };
        if let Some(last) = &behind {
            process.life.account.add(last);
        }
        let record = behind.or(record);
        process.life.tasks = process.life.tasks.saturating_sub(1);
        if is_first {
            process.life.first_code = Some(code);
        }
        if process.life.dying.is_none() {
            let last = match record.as_ref().and_then(Record::is_last) {
                Some(last) => last,
                None if !process.life.many => task.task == task.pid,
                None => is_gone(world, task.pid),
            };
            if !last {
                self.tell(world, event, EventKind::ThreadExit, task, Info::None, telling);
                return;
            }
        }
        let Some(process) = world.table.get_mut(task.pid) else { return };
        if let Some(record) = record.filter(|record| record.id == task.pid) {
            // The name of the first task is the process's, exactly as it was.
            if *process.comm != *record.name() {
                process.comm = record.name().into();
            }
        }
        // Of a whole that ends together all tasks have the same status; of one whose first task ended before, its own counts
        // unless a later one ended everything.
        let (_, before) = process.life.dying.unwrap_or((0, 0));
        let status = [code, before, process.life.first_code.unwrap_or(0)].into_iter().find(|status| *status != 0).unwrap_or(0);
        process.life.dying = Some((event.time_ns, status));
        let waits = process.life.many && process.life.tasks > 0;
        telling.events.ended(process, Status(status));
        self.tell_end(world, event, task.pid, Info::End(Status(status)), telling);
        if waits {
            if !self.dying.contains(&task.pid) {
                self.dying.push(task.pid);
            }
        } else {
            self.bury(world, task.pid, telling);
        }
    }

    /// One row for a death, however many of its tasks tell theirs after it.
    fn tell_end(&self, world: &World, event: &Event, pid: u32, info: Info, telling: &mut Telling<'_>) {
        if !self.dying.contains(&pid) {
            self.tell(world, event, EventKind::Exit, Task { task: pid, pid }, info, telling);
        }
    }

    /// Writes the obituary of a process that is dying. One that was shown or looked at stays in the table until it is reaped,
    /// which no event tells; of one that nobody looked at only the pid is kept for a look at the next round.
    fn bury(&mut self, world: &mut World, pid: u32, telling: &mut Telling<'_>) {
        self.dying.retain(|dying| *dying != pid);
        let hz = world.machine.hz;
        world.ask_if_renamed(pid);
        let Some(process) = world.table.get_mut(pid) else { return };
        if let Some(whole) = self.records.of_whole(pid) {
            process.life.account.add(&whole);
        }
        let came = resolve(process, &self.argvs) || (process.facts.claim == Claim::None && process.life.exec.is_none());
        if came && !world.programs.is_plain() {
            // Nobody is born of it any more.
            member::classify(process, &world.programs, &world.names);
        }
        let Some((time_ns, status)) = process.life.dying else { return };
        let end = End {
            unix_ns: self.offsets.wall.saturating_add_unsigned(time_ns),
            boot_ns: time_ns.saturating_add(self.offsets.boot),
            status: Some(Status(status)),
        };
        let obituary = Obituary::of(process, end, hz);
        // Its program's account is closed under the name the obituary has. What it executed last and nobody could read is known by
        // the name of its record.
        let unread = process.life.exec.is_some() && !process.comm.is_empty();
        if let Some(program) = obituary.program.known().cloned().or_else(|| unread.then(|| Arc::clone(&process.comm))) {
            process.facts.program = Reading::Known(program);
        }
        process.life.ended = true;
        let (many, read) = (process.life.many, process.is_read());
        world.ended_now(pid);
        if let Some(process) = world.table.get(pid) {
            world.credits.lives.ended(process, &obituary, hz);
        }
        telling.exits.add(obituary);
        if !read {
            world.remove(pid);
            if many {
                self.buried.insert(pid, time_ns);
            }
        }
    }

    /// Takes a process out of the table whose end nobody told.
    fn bury_unseen(&mut self, world: &mut World, pid: u32, telling: &mut Telling<'_>) {
        world.ask_if_renamed(pid);
        if let Some(process) = world.remove(pid)
            && !process.life.ended
        {
            self.unseen(world, &process, telling);
        }
    }

    /// The obituary of a process whose end nobody told.
    pub fn unseen(&mut self, world: &mut World, process: &Process, telling: &mut Telling<'_>) {
        let offsets = Offsets::now();
        let now_ns = clock::monotonic_ns();
        self.buried.insert(process.id.pid, now_ns);
        let end = End {
            unix_ns: offsets.wall.saturating_add_unsigned(now_ns),
            boot_ns: now_ns.saturating_add(offsets.boot),
            status: process.life.dying.map(|(_, status)| Status(status)),
        };
        let mut obituary = Obituary::of(process, end, world.machine.hz);
        obituary.sources = obituary.sources.and(Sources::SAMPLE);
        world.credits.lives.ended(process, &obituary, world.machine.hz);
        telling.exits.add(obituary);
    }

    /// Somebody ended whom the table does not hold.
    #[expect(clippy::too_many_arguments, reason = "an event, what it says, and where to tell it")]
    fn stranger(
        &mut self,
        world: &mut World,
        event: &Event,
        task: Task,
        code: u32,
        parent: Option<Task>,
        record: Option<&Record>,
        telling: &mut Telling<'_>,
    ) {
        let is_process = record.and_then(Record::is_last).unwrap_or(task.task == task.pid);
        let whole = self.records.of_whole(task.pid);
        let buried = self.buried.get(&task.pid).is_some_and(|time_ns| event.time_ns.saturating_sub(*time_ns) < LATE_NS);
        if !is_process || buried {
            return;
        }
        let status = Status(code);
        let end = End { unix_ns: self.unix_ns(event), boot_ns: self.boot_ns(event), status: Some(status) };
        let parent = parent.map(|parent| parent.pid);
        let mut obituary = Obituary::of_stranger(task.pid, parent, (record, whole.as_ref()), end, world.machine.hz);
        if let Some(verdict) = world.programs.verdict(&Subject { comm: &obituary.comm, ..Subject::default() }) {
            obituary.program = Reading::Known(verdict.program);
        }
        if let (Reading::Known(program), Some(record)) = (&obituary.program, record) {
            let mut account = Account::default();
            account.add(record);
            whole.iter().for_each(|whole| account.add(whole));
            world.accounts.stranger(program, Spent::told(&account));
            world.credits.stranger(program, Cpu { ns: account.cpu_ns(), user_us: account.user_us, system_us: account.system_us });
        }
        world.credits.lives.stranger(&obituary);
        telling.exits.add(obituary);
        self.tell_end(world, event, task.pid, Info::End(status), telling);
    }

    fn tell(&self, world: &World, event: &Event, kind: EventKind, task: Task, info: Info, telling: &mut Telling<'_>) {
        if !telling.events.takes(kind) {
            return;
        }
        let process = world.table.get(task.pid);
        let parent = process.and_then(|process| world.table.get(process.stat.ppid));
        let mut happening = Happening::new(kind, task, info, process, parent);
        happening.unix_ns = self.unix_ns(event);
        let born = process.map(|process| process.born_ns(world.machine.hz));
        happening.duration_ns = born.map(|born| self.boot_ns(event).saturating_sub(born));
        telling.events.add(happening);
    }
}

/// A process executes, or changes its user: what it used so far was used by what it was.
fn move_on(world: &mut World, event: &Event, pid: u32, boot: u64) {
    /// What was used between birth and execution by one that executes at once is too little to be told apart.
    const SHORT_NS: u64 = 1_000_000;
    if !world.credits.is_on() {
        return;
    }
    let Some(process) = world.table.get_mut(pid) else { return };
    let at_once = process.life.born_ns.is_some_and(|born_ns| event.time_ns.saturating_add(boot).saturating_sub(born_ns) < SHORT_NS);
    if !at_once || process.is_read() {
        world.credits.moves(process, clock::monotonic_ns().saturating_sub(event.time_ns));
    }
}

/// Without rules what was read at the execution says it all.
fn classify(world: &mut World, pid: u32) {
    if !world.programs.is_plain() {
        world.classify(pid);
    }
}

/// Whether no task of a process is left but one that waits to be reaped.
fn is_gone(world: &World, pid: u32) -> bool {
    let mut buffer = [0; STAT_BYTES];
    let read = match world.table.get(pid) {
        Some(process) => process.read_stat(&world.proc, &mut buffer),
        None => world.proc.open_stat(pid).and_then(|fd| read_at_start(&fd, &mut buffer)),
    };
    match read {
        Ok(length) => stat::parse(&buffer[..length]).is_some_and(|(stat, _)| stat.is_zombie() && stat.num_threads <= 1),
        Err(ReadError::Vanished) => true,
        // It cannot be read now: the round finds out.
        Err(_) => false,
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
