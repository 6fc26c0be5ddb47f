//! Stream `exits`: one obituary for each process that ended.
//!
//! Above `max_rows_per_s` those that agree in program, user, parent and how they ended fold into one row with their number in
//! `lives`, within one flush. A quarter of the rows is kept for those that went wrong, so that a storm of clean exits hides
//! none of them. Where even the folded rows would be too many they fold across parents, and at last across programs: no life is
//! ever left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::events::{micros, shown};
use crate::observer::argvs::{Argvs, Whose};
use crate::observer::facts::Reading;
use crate::observer::life::Sources;
use crate::observer::names::Names;
use crate::observer::obituary::{Obituary, Status, Used, signal_name};
use crate::record::cmd::Cmd;
use crate::record::flush::TimedRow;
use crate::record::schema::Columns;
use crate::record::value::Value;
use crate::source::clock::Wall;

/// How long an obituary waits for the arguments of its last execution.
const HOLD: Duration = Duration::from_millis(200);

/// How obituaries are written.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Rows a second above which they fold.
    pub max_rows_per_s: u32,
    /// The columns of the rows; a first `time` is the row's own.
    pub columns: Columns,
}

/// In what those must agree that fold into one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    program: Option<Arc<[u8]>>,
    user: Option<u32>,
    parent: Option<(Option<u32>, Option<u64>)>,
    status: Option<Status>,
    recorded: bool,
}

/// An obituary, of one or many.
#[derive(Debug)]
struct Entry {
    obituary: Obituary,
    lives: u64,
    lifetime_ns: Option<u64>,
    heard: Instant,
}

/// Obituaries between two flushes.
#[derive(Debug)]
pub struct Exits {
    selection: Option<Selection>,
    waiting: Vec<Entry>,
    /// Of those that are folded, where their row is in `waiting`.
    folded: FxHashMap<Alike, usize>,
    clean: u32,
    failed: u32,
    /// Obituaries since this run began.
    lives: u64,
    /// Of them those that stand in the row of another.
    alike: u64,
}

impl Exits {
    /// For a selection; `None` writes nothing.
    #[must_use]
    pub fn new(selection: Option<Selection>) -> Self {
        Self { selection, waiting: Vec::new(), folded: FxHashMap::default(), clean: 0, failed: 0, lives: 0, alike: 0 }
    }

    /// Takes another selection.
    pub fn select(&mut self, selection: Option<Selection>) {
        self.selection = selection;
        if self.selection.is_none() {
            self.waiting.clear();
            self.folded.clear();
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

    /// Adds an obituary.
    pub fn add(&mut self, obituary: Obituary) {
        let Some(selection) = &self.selection else { return };
        self.lives += 1;
        let most = selection.max_rows_per_s;
        if obituary.counted {
            // Never more than lived at once.
            self.push(obituary);
            return;
        }
        let clean = obituary.status.is_some_and(Status::is_clean);
        let room = if clean { self.clean < most - most / 4 } else { true };
        if room && self.clean + self.failed < most {
            if clean {
                self.clean += 1;
            } else {
                self.failed += 1;
            }
            self.push(obituary);
            return;
        }
        self.fold(obituary, usize::try_from(most).unwrap_or(usize::MAX));
    }

    fn push(&mut self, obituary: Obituary) -> usize {
        let lifetime_ns = obituary.lifetime_ns;
        self.waiting.push(Entry { obituary, lives: 1, lifetime_ns, heard: Instant::now() });
        self.waiting.len() - 1
    }

    fn fold(&mut self, obituary: Obituary, most: usize) {
        let mut alike = Alike {
            // Of an execution nobody could read the name is all that tells its program from others.
            program: Some(obituary.program.known().unwrap_or(&obituary.comm).clone()),
            user: obituary.owner.known().copied(),
            parent: Some((obituary.ppid, obituary.pstart)),
            status: obituary.status,
            recorded: obituary.used.cpu_ns.is_some(),
        };
        // Each step of what they need not agree in has room for as many rows again.
        let rows = self.folded.len();
        if rows >= most / 2 && !self.folded.contains_key(&alike) {
            alike.parent = None;
        }
        if rows >= most && !self.folded.contains_key(&alike) {
            alike = Alike { program: None, user: None, parent: None, ..alike };
        }
        match self.folded.get(&alike) {
            Some(at) => {
                self.alike += 1;
                self.waiting[*at].take_in(&obituary);
            }
            None => {
                let mut obituary = obituary;
                if alike.parent.is_none() {
                    (obituary.ppid, obituary.pstart, obituary.pcomm) = (None, None, None);
                }
                if alike.parent.is_none() && alike.program.is_none() && alike.user.is_none() {
                    obituary.program = Reading::Absent;
                    obituary.owner = Reading::Absent;
                }
                let at = self.push(obituary);
                self.folded.insert(alike, at);
            }
        }
    }

    /// The rows that are ready, or all of them.
    pub fn rows(&mut self, argvs: &Argvs, names: &Names, wall: &mut Wall, all: bool) -> Vec<TimedRow> {
        let Some(selection) = &self.selection else { return Vec::new() };
        let mut rows = Vec::with_capacity(self.waiting.len());
        let mut kept = Vec::new();
        for mut entry in self.waiting.drain(..) {
            entry.resolve(argvs, names);
            // Those that wait stand behind: an obituary has its own time.
            if !all && entry.obituary.exec.is_some() && entry.heard.elapsed() < HOLD {
                kept.push(entry);
                continue;
            }
            let values = selection.columns.iter().filter(|column| column.name != "time").map(|column| entry.value(column.name, names));
            rows.push(TimedRow { time: wall.at(entry.obituary.unix_ns), values: values.collect() });
        }
        self.waiting = kept;
        self.folded.clear();
        (self.clean, self.failed) = (0, 0);
        rows
    }

    /// What a tick says of obituaries since this run began.
    pub fn tick(&self, fields: &mut Vec<(&'static str, String)>) {
        fields.push(("lives", self.lives.to_string()));
        fields.push(("folded", self.alike.to_string()));
    }
}

impl Entry {
    /// Takes another one in: the time of the last, the largest of memory, the sum of what adds up.
    fn take_in(&mut self, other: &Obituary) {
        self.lives += 1;
        let mine = &mut self.obituary;
        mine.unix_ns = mine.unix_ns.max(other.unix_ns);
        mine.sources = mine.sources.and(other.sources);
        self.lifetime_ns = sum(self.lifetime_ns, other.lifetime_ns);
        let (one, other) = (mine.used, other.used);
        mine.used = Used {
            cpu_ns: sum(one.cpu_ns, other.cpu_ns),
            user_ns: sum(one.user_ns, other.user_ns),
            system_ns: sum(one.system_ns, other.system_ns),
            max_rss: one.max_rss.max(other.max_rss),
            read_bytes: sum(one.read_bytes, other.read_bytes),
            write_bytes: sum(one.write_bytes, other.write_bytes),
            min_flt: sum(one.min_flt, other.min_flt),
            maj_flt: sum(one.maj_flt, other.maj_flt),
            nvcsw: sum(one.nvcsw, other.nvcsw),
            nivcsw: sum(one.nivcsw, other.nivcsw),
        };
    }

    fn resolve(&mut self, argvs: &Argvs, names: &Names) {
        let obituary = &mut self.obituary;
        if let Some(argv) = obituary.exec.and_then(|exec| argvs.get(exec)) {
            obituary.cmd = argv.cmd.clone();
            let (owner, cgroup, unit) = (&obituary.owner, &obituary.cgroup, &obituary.unit);
            obituary.program = argvs.program(argv, &Whose { owner, cgroup, unit, family: obituary.family.as_ref(), names });
            if argv.cmd.known().is_some() {
                obituary.sources = obituary.sources.and(Sources::ARGUMENTS);
            }
            obituary.exec = None;
        }
    }

    fn value(&self, column: &str, names: &Names) -> Value {
        let obituary = &self.obituary;
        let used = &obituary.used;
        let count = |number: Option<u64>| number.map_or(Value::Absent, Value::count);
        let seconds = |ns: Option<u64>| ns.map_or(Value::Absent, micros);
        let word = |word: Option<&str>| word.map_or(Value::Absent, |word| Value::word(word.as_bytes()));
        let shared = |word: &Arc<[u8]>| Value::Word(Arc::clone(word));
        match column {
            "pid" => Value::count(obituary.pid.into()),
            "start" => count(obituary.start),
            "ppid" => count(obituary.ppid.map(u64::from)),
            "pstart" => count(obituary.pstart),
            "pcomm" => obituary.pcomm.as_ref().filter(|comm| !comm.is_empty()).map_or(Value::Absent, shared),
            "user" => shown(&obituary.owner, |uid| Value::Word(names.user(*uid))),
            "program" => match &obituary.program {
                Reading::Known(program) => shared(program),
                // Executed, and gone before anybody could look: its name is all there is.
                Reading::Unread | Reading::Late if !obituary.comm.is_empty() => shared(&obituary.comm),
                _ => Value::Absent,
            },
            "comm" if obituary.comm.is_empty() => Value::Absent,
            "comm" => shared(&obituary.comm),
            "unit" => obituary.unit.known().map_or(Value::Absent, shared),
            "lives" => Value::count(self.lives),
            "how" => word(obituary.status.map(Status::how)),
            "code" => count(obituary.status.and_then(Status::code).map(u64::from)),
            "signal" => word(obituary.status.and_then(Status::signal).map(signal_name).as_deref()),
            "raw" => count(obituary.status.map(|status| status.0.into())),
            "lifetime_s" => seconds(self.lifetime_ns),
            "user_s" => seconds(used.user_ns),
            "sys_s" => seconds(used.system_ns),
            "cpu_s" => seconds(used.cpu_ns),
            "max_rss" => count(used.max_rss),
            "read_bytes" => count(used.read_bytes),
            "write_bytes" => count(used.write_bytes),
            "min_flt" => count(used.min_flt),
            "maj_flt" => count(used.maj_flt),
            "nvcsw" => count(used.nvcsw),
            "nivcsw" => count(used.nivcsw),
            "sources" => Value::word(&obituary.sources.letters()),
            "cmd" => match &obituary.cmd {
                Reading::Known(cmd) if !obituary.is_kthread => Value::Cmd(Arc::clone(cmd)),
                _ if obituary.comm.is_empty() => Value::Absent,
                _ => Value::Cmd(Arc::new(Cmd::Comm(obituary.comm.as_ref().into()))),
            },
            _ => Value::Absent,
        }
    }
}

/// The sum of what is known; of nothing known, nothing.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
