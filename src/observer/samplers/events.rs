//! Stream `events`: what happened to processes, one row an event.
//!
//! A row is made when its event is heard and written at the next flush: by then the arguments of an execution have come, and the
//! signal of a core dump is known. Above `max_rows_per_s` events are counted by their kind and not written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use crate::observer::argvs::{Argvs, Whose};
use crate::observer::facts::Reading;
use crate::observer::life::{Exec, Sources};
use crate::observer::names::Names;
use crate::observer::obituary::{Status, signal_name};
use crate::observer::programs::family::Family;
use crate::observer::table::Process;
use crate::record::cmd::Cmd;
use crate::record::event::{EventKind, Kinds};
use crate::record::flush::TimedRow;
use crate::record::moment::Moment;
use crate::record::schema::Columns;
use crate::record::value::Value;
use crate::source::clock::Wall;
use crate::source::connector::Task;
use crate::source::tty::Terminals;

/// How long a row waits for what is still to come. Capture takes microseconds; when it is behind, there is a storm.
const HOLD: Duration = Duration::from_millis(200);
/// Rows that may wait for the writer, times `max_rows_per_s`.
const SECONDS_KEPT: usize = 10;

/// What of the events is written.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Which kinds; those of threads are in it only where threads are on.
    pub kinds: Kinds,
    /// Rows a second above which events are counted and not written.
    pub max_rows_per_s: u32,
    /// Where not empty, only what one of these finds in the command line or the name.
    pub include: Vec<Regex>,
    /// Nothing that one of these finds there.
    pub exclude: Vec<Regex>,
    /// The columns of the rows; a first `time` is the row's own.
    pub columns: Columns,
}

/// What an event says besides to whom it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// Nothing.
    None,
    /// How it ended.
    End(Status),
    /// The signal that dumps its memory, once its end has told it.
    Signal(Option<u32>),
    /// The name before, where it was known, and the new one.
    Renamed(Option<Arc<[u8]>>, Arc<[u8]>),
    /// Real and effective id.
    Ids([u32; 2]),
    /// The new session.
    Session(u32),
    /// Who traces it from now on.
    Attach(u32),
    /// Nobody traces it any more.
    Detach,
}

/// One event, with all that was known of its process then.
#[derive(Clone, Debug)]
pub struct Happening {
    /// What.
    pub kind: EventKind,
    /// When, nanoseconds since the epoch.
    pub unix_ns: i64,
    /// To which task of which process.
    pub task: Task,
    /// What it says.
    pub info: Info,
    /// The life of the process so far.
    pub duration_ns: Option<u64>,
    start: Option<u64>,
    ppid: Option<u32>,
    owner: Reading<u32>,
    tty_nr: Option<u32>,
    pgrp: Option<i64>,
    program: Reading<Arc<[u8]>>,
    exe: Reading<Arc<[u8]>>,
    comm: Option<Arc<[u8]>>,
    cgroup: Reading<Arc<[u8]>>,
    unit: Reading<Arc<[u8]>>,
    pcmd: Reading<Arc<Cmd>>,
    cmd: Reading<Arc<Cmd>>,
    sources: Sources,
    exec: Option<Exec>,
    family: Option<Arc<Family>>,
    /// Its name is that of the program it ran last, whatever was read at its execution.
    named: bool,
    is_kthread: bool,
    heard: Instant,
}

impl Happening {
    /// To a process, where the table holds it.
    #[must_use]
    pub fn new(kind: EventKind, task: Task, info: Info, process: Option<&Process>, parent: Option<&Process>) -> Self {
        let facts = process.map(Process::facts_to_tell).unwrap_or_default();
        let absent = process.is_none();
        let known = |reading: Reading<Arc<[u8]>>| if absent { Reading::Absent } else { reading };
        let parent_cmd = parent.map_or(Reading::Absent, |parent| match &parent.facts.cmd {
            Reading::Known(cmd) if parent.life.exec.is_none() => Reading::Known(Arc::clone(cmd)),
            _ => Reading::Known(Arc::new(Cmd::Comm(parent.comm.as_ref().into()))),
        });
        Self {
            kind,
            unix_ns: 0,
            task,
            info,
            duration_ns: None,
            start: process.map(|process| process.id.start).filter(|start| *start != 0),
            ppid: process.map(|process| process.stat.ppid),
            owner: if absent { Reading::Absent } else { facts.owner },
            tty_nr: process.map(|process| process.stat.tty_nr),
            pgrp: process.map(|process| process.stat.pgrp),
            program: known(facts.program),
            exe: known(facts.exe),
            comm: process.map(|process| Arc::clone(&process.comm)),
            cgroup: known(facts.cgroup),
            unit: known(facts.unit),
            pcmd: parent_cmd,
            cmd: if absent { Reading::Absent } else { facts.cmd },
            sources: process.map_or(Sources::CONNECTOR, |process| process.life.sources.and(Sources::CONNECTOR)),
            exec: process.and_then(|process| process.life.exec),
            family: facts.family,
            named: kind == EventKind::Exit,
            is_kthread: process.is_some_and(|process| process.stat.is_kthread()),
            heard: Instant::now(),
        }
    }

    fn resolve(&mut self, argvs: &Argvs, names: &Names, ends: &FxHashMap<u32, Ended>) {
        if let Some(argv) = self.exec.and_then(|exec| argvs.get(exec)) {
            self.cmd = argv.cmd.clone();
            self.exe = argv.exe.clone();
            let (owner, cgroup, unit) = (&self.owner, &self.cgroup, &self.unit);
            self.program = argvs.program(argv, &Whose { owner, cgroup, unit, family: self.family.as_ref(), names });
            self.comm = argv.comm.clone().or_else(|| self.comm.take());
            if argv.cmd.known().is_some() {
                self.sources = self.sources.and(Sources::ARGUMENTS);
            }
            self.exec = None;
        }
        let Some((start, status, name)) = ends.get(&self.task.pid) else { return };
        if self.start != Some(*start) {
            return;
        }
        if self.info == Info::Signal(None) {
            self.info = Info::Signal(status.signal());
        }
        if self.exec.is_some() {
            self.comm = Some(Arc::clone(name));
            self.named = true;
        }
    }

    fn is_whole(&self) -> bool {
        self.exec.is_none() && self.info != Info::Signal(None)
    }

    fn shown_cmd(&self) -> Reading<Arc<Cmd>> {
        let name = || match &self.comm {
            Some(comm) if !comm.is_empty() => Reading::Known(Arc::new(Cmd::Comm(comm.as_ref().into()))),
            _ => Reading::Absent,
        };
        match &self.cmd {
            _ if self.is_kthread => name(),
            // An execution nobody read: the name known here is that of the program before, unless its end told it.
            Reading::Unread if self.exec.is_some() && !self.named => Reading::Late,
            Reading::Unread => name(),
            Reading::Absent if self.comm.is_some() => name(),
            other => other.clone(),
        }
    }

    fn text(&self) -> Vec<u8> {
        match &self.info {
            Info::None => b"-".to_vec(),
            Info::End(status) => status.words().into_bytes(),
            Info::Signal(Some(signal)) => signal_name(*signal).into_bytes(),
            Info::Signal(None) => b"?".to_vec(),
            Info::Renamed(old, new) => [old.as_deref().unwrap_or(b"?"), "→".as_bytes(), new].concat(),
            Info::Ids([real, effective]) => format!("{real}:{effective}").into_bytes(),
            Info::Session(session) => session.to_string().into_bytes(),
            Info::Attach(tracer) => format!("attach:{tracer}").into_bytes(),
            Info::Detach => b"detach".to_vec(),
        }
    }
}

/// How a process ended: its start, its status, its last name.
type Ended = (u64, Status, Arc<[u8]>);
/// Ends that are kept for rows that wait.
const ENDS: usize = 10_000;

/// Rows between two flushes.
#[derive(Debug)]
pub struct Events {
    selection: Option<Selection>,
    waiting: VecDeque<Happening>,
    /// How processes ended since the last flush, and under which name: for core dumps, and for executions nobody could read.
    ends: FxHashMap<u32, Ended>,
    /// The second that is counted, and how many rows it has.
    second: (u64, u32),
    /// Not written since the last tick, by kind.
    unwritten: [u64; EventKind::WORDS.len()],
    /// Kept out by include or exclude since the last tick.
    filtered: u64,
    began: Instant,
}

impl Events {
    /// For a selection; `None` writes nothing.
    #[must_use]
    pub fn new(selection: Option<Selection>) -> Self {
        Self {
            selection,
            waiting: VecDeque::new(),
            ends: FxHashMap::default(),
            second: (0, 0),
            unwritten: [0; EventKind::WORDS.len()],
            filtered: 0,
            began: Instant::now(),
        }
    }

    /// Takes another selection; what waits is written by it.
    pub fn select(&mut self, selection: Option<Selection>) {
        self.selection = selection;
        if self.selection.is_none() {
            self.waiting.clear();
        }
    }

    /// The columns; `None` while the stream is off.
    #[must_use]
    pub fn columns(&self) -> Option<&Columns> {
        self.selection.as_ref().map(|selection| &selection.columns)
    }

    /// Whether rows wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether an event of this kind is to be added; one that is too many is counted here.
    pub fn takes(&mut self, kind: EventKind) -> bool {
        let Some(selection) = self.selection.as_ref().filter(|selection| selection.kinds.has(kind)) else { return false };
        let second = self.began.elapsed().as_secs();
        if self.second.0 != second {
            self.second = (second, 0);
        }
        let most = usize::try_from(selection.max_rows_per_s).unwrap_or(usize::MAX);
        if self.second.1 >= selection.max_rows_per_s || self.waiting.len() >= most.saturating_mul(SECONDS_KEPT) {
            self.unwritten[kind as usize] += 1;
            return false;
        }
        true
    }

    /// Adds an event that [`Events::takes`] took. What include and exclude keep out takes no room.
    pub fn add(&mut self, happening: Happening) {
        if happening.is_whole()
            && let Some(selection) = &self.selection
            && !takes(selection, &happening)
        {
            self.filtered += 1;
            return;
        }
        self.second.1 = self.second.1.saturating_add(1);
        self.waiting.push_back(happening);
    }

    /// A process ended: its core dump has its signal, and an execution that nobody read its name.
    pub fn ended(&mut self, process: &Process, status: Status) {
        if !self.waiting.is_empty() && (status.signal().is_some() || process.life.exec.is_some()) {
            self.ends.insert(process.id.pid, (process.id.start, status, Arc::clone(&process.comm)));
        }
    }

    /// The rows that are ready, or all of them.
    pub fn rows(&mut self, argvs: &Argvs, names: &Names, terminals: &Terminals, wall: &mut Wall, all: bool) -> Vec<TimedRow> {
        let Some(selection) = &self.selection else { return Vec::new() };
        let mut rows = Vec::with_capacity(self.waiting.len());
        let mut kinds = Words::default();
        while let Some(first) = self.waiting.front_mut() {
            first.resolve(argvs, names, &self.ends);
            if !all && !first.is_whole() && first.heard.elapsed() < HOLD {
                break;
            }
            let Some(happening) = self.waiting.pop_front() else { break };
            if !takes(selection, &happening) {
                self.filtered += 1;
                continue;
            }
            let view = View { happening: &happening, names, terminals, kinds: &mut kinds };
            rows.push(view.row(&selection.columns, wall.at(happening.unix_ns)));
        }
        // No row waits for longer than a flush or two.
        if self.waiting.is_empty() || self.ends.len() > ENDS {
            self.ends.clear();
        }
        rows
    }

    /// What a tick says of what was not written since the one before.
    pub fn tick(&mut self, fields: &mut Vec<(&'static str, String)>) {
        const NAMES: [&str; EventKind::WORDS.len()] = [
            "unwritten_fork",
            "unwritten_clone",
            "unwritten_exec",
            "unwritten_exit",
            "unwritten_thread_exit",
            "unwritten_core",
            "unwritten_comm",
            "unwritten_uid",
            "unwritten_gid",
            "unwritten_sid",
            "unwritten_ptrace",
        ];
        for (name, count) in NAMES.into_iter().zip(std::mem::take(&mut self.unwritten)) {
            if count > 0 {
                fields.push((name, count.to_string()));
            }
        }
        let filtered = std::mem::take(&mut self.filtered);
        if filtered > 0 {
            fields.push(("filtered", filtered.to_string()));
        }
    }
}

/// Whether include and exclude let it pass: they look at the arguments joined by a space, and at the name where there are none.
fn takes(selection: &Selection, happening: &Happening) -> bool {
    if selection.include.is_empty() && selection.exclude.is_empty() {
        return true;
    }
    let said = match happening.shown_cmd() {
        Reading::Known(cmd) => match &*cmd {
            Cmd::Comm(comm) => comm.to_vec(),
            Cmd::Argv { .. } => cmd.args().collect::<Vec<_>>().join(&b' '),
        },
        _ => happening.comm.as_deref().unwrap_or_default().to_vec(),
    };
    (selection.include.is_empty() || selection.include.iter().any(|regex| regex.is_match(&said)))
        && !selection.exclude.iter().any(|regex| regex.is_match(&said))
}

/// The words of the column `event`, shared by all rows.
#[derive(Debug, Default)]
struct Words([Option<Arc<[u8]>>; EventKind::WORDS.len()]);

impl Words {
    fn of(&mut self, kind: EventKind) -> Value {
        Value::Word(Arc::clone(self.0[kind as usize].get_or_insert_with(|| kind.word().as_bytes().into())))
    }
}

struct View<'a> {
    happening: &'a Happening,
    names: &'a Names,
    terminals: &'a Terminals,
    kinds: &'a mut Words,
}

impl View<'_> {
    fn row(mut self, columns: &Columns, time: Moment) -> TimedRow {
        let values = columns.iter().filter(|column| column.name != "time").map(|column| self.value(column.name));
        TimedRow { time, values: values.collect() }
    }

    fn value(&mut self, column: &str) -> Value {
        let happening = self.happening;
        let count = |number: Option<u64>| number.map_or(Value::Absent, Value::count);
        let word = |reading: &Reading<Arc<[u8]>>| shown(reading, |word| Value::Word(Arc::clone(word)));
        match column {
            "event" => self.kinds.of(happening.kind),
            "pid" => Value::count(happening.task.pid.into()),
            "start" => count(happening.start),
            "task" => Value::count(happening.task.task.into()),
            "ppid" => count(happening.ppid.map(u64::from)),
            "user" => shown(&happening.owner, |uid| Value::Word(self.names.user(*uid))),
            "uid" => match happening.info {
                Info::Ids([real, _]) if happening.kind == EventKind::Uid => Value::count(real.into()),
                _ => Value::Absent,
            },
            "euid" => shown(&happening.owner, |uid| Value::count((*uid).into())),
            "tty" => {
                let name = happening.tty_nr.and_then(|device| self.terminals.name(device));
                name.map_or(Value::Absent, |name| Value::word(name.as_bytes()))
            }
            "pgrp" => happening.pgrp.map_or(Value::Absent, Value::Int),
            "program" => match &happening.program {
                Reading::Unread if happening.named => happening.comm.as_ref().map_or(Value::Absent, |comm| Value::Word(Arc::clone(comm))),
                Reading::Unread if happening.exec.is_some() => Value::Refused,
                _ if happening.is_kthread => Value::Absent,
                program => word(program),
            },
            "exe" => word(&happening.exe),
            "comm" => happening.comm.as_ref().map_or(Value::Absent, |comm| Value::Word(Arc::clone(comm))),
            "cgroup" => word(&happening.cgroup),
            "unit" => word(&happening.unit),
            "info" => match happening.info {
                Info::None => Value::Absent,
                Info::Signal(None) => Value::Refused,
                _ => Value::word(&happening.text()),
            },
            "raw" => match happening.info {
                Info::End(Status(raw)) => Value::count(raw.into()),
                _ => Value::Absent,
            },
            "duration_s" => happening.duration_ns.map_or(Value::Absent, micros),
            "sources" => Value::word(&happening.sources.letters()),
            "pcmd" => shown(&happening.pcmd, |cmd| Value::Cmd(Arc::clone(cmd))),
            "cmd" => shown(&happening.shown_cmd(), |cmd| Value::Cmd(Arc::clone(cmd))),
            _ => Value::Absent,
        }
    }
}

/// A reading as a value.
pub(super) fn shown<T>(reading: &Reading<T>, value: impl FnOnce(&T) -> Value) -> Value {
    match reading {
        Reading::Known(known) => value(known),
        Reading::Absent => Value::Absent,
        Reading::Refused | Reading::Late | Reading::Unread => Value::Refused,
    }
}

/// Nanoseconds as the value of a column of seconds with six digits.
pub(super) fn micros(ns: u64) -> Value {
    Value::Fixed(i64::try_from(ns / 1000).unwrap_or(i64::MAX))
}
