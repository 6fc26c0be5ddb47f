//! What a process says of itself at the moment its event is shown.
//!
//! Some things change without an event: setpgid, a new terminal, a move to another control group; and the real user is told only
//! when it changes. So whoever still lives is asked, and of whoever does not, what it said before or what its parent left it is
//! shown.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::event::{Event, Places};
use crate::record::event::EventKind;
use crate::record::flush::TimedRow;
use crate::record::value::Value;
use crate::source::procdir::Proc;
use crate::source::tty::Terminals;
use crate::source::{cgroup, stat, status};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Asked {
    /// Process group.
    pub group: bool,
    /// Real user and terminal.
    pub extra: bool,
    /// Control group.
    pub cgroup: bool,
}

impl Asked {
    /// Whether nothing is.
    #[must_use]
    pub const fn is_nothing(self) -> bool {
        !(self.group || self.extra || self.cgroup)
    }
}

/// What is known of one process; `None` is not asked, or not known.
#[derive(Clone, Debug, Default)]
struct Known {
    start: Option<u64>,
    pgrp: Option<Value>,
    tty: Option<Value>,
    uid: Option<Value>,
    cgroup: Option<Value>,
}

/// What is known of those whose events were shown.
#[derive(Debug)]
pub struct Living {
    proc: Arc<Proc>,
    asked: Asked,
    terminals: Terminals,
    known: FxHashMap<u32, Known>,
}

impl Living {
    /// Asks processes of this tree.
    #[must_use]
    pub fn new(proc: Arc<Proc>, asked: Asked) -> Self {
        let terminals = Terminals::parse(&proc.read("tty/drivers").unwrap_or_default());
        Self { proc, asked, terminals, known: FxHashMap::default() }
    }

    /// Puts what its process says into a row.
    pub fn amend(&mut self, places: &Places, row: &mut TimedRow) {
        let Some(event) = Event::of(places, row).filter(|_| !self.asked.is_nothing()) else { return };
        let (kind, pid, start, ppid) = (event.kind, event.pid, event.start, event.ppid);
        if kind == EventKind::Fork {
            let left = ppid.and_then(|ppid| self.of_parent(ppid)).map(|parent| Known { start, ..parent });
            self.known.insert(pid, left.unwrap_or_default());
        }
        if let Some(said) = self.ask(pid, start) {
            self.known.insert(pid, said);
        } else if kind == EventKind::Sid
            && let Some(known) = self.known.get_mut(&pid)
        {
            (known.pgrp, known.tty) = (Some(Value::count(pid.into())), Some(Value::Absent));
        }
        // What a uid event told itself is of that very moment.
        let told = matches!(kind, EventKind::Uid).then(|| row.values.get(places.uid).cloned()).flatten();
        let known = if kind == EventKind::Exit { self.known.remove(&pid) } else { self.known.get(&pid).cloned() };
        let Some(mut known) = known.filter(|known| is_same(known.start, start)) else { return };
        if let Some(uid) = told {
            known.uid = Some(uid);
        }
        for (at, value) in [(places.pgrp, known.pgrp), (places.tty, known.tty), (places.uid, known.uid), (places.cgroup, known.cgroup)] {
            if let (Some(place), Some(value)) = (row.values.get_mut(at), value) {
                *place = value;
            }
        }
    }

    fn of_parent(&mut self, ppid: u32) -> Option<Known> {
        if let Some(said) = self.ask(ppid, None) {
            self.known.insert(ppid, said);
        }
        self.known.get(&ppid).cloned()
    }

    /// Asks a process; `None` where it lives no more, or somebody else has its pid.
    fn ask(&self, pid: u32, start: Option<u64>) -> Option<Known> {
        let dir = self.proc.process(pid).ok()?;
        let text = dir.read("stat").ok()?;
        let (stat, _) = stat::parse(&text)?;
        // A zombie has given back its terminal.
        if !is_same(Some(stat.start), start) || (stat.is_zombie() && self.known.contains_key(&pid)) {
            return None;
        }
        let mut known = Known { start: Some(stat.start), ..Known::default() };
        if self.asked.group {
            known.pgrp = Some(Value::Int(stat.pgrp));
        }
        if self.asked.extra {
            known.tty = Some(self.terminals.name(stat.tty_nr).map_or(Value::Absent, |name| Value::word(name.as_bytes())));
            known.uid = dir.read("status").ok().map(|text| Value::count(status::parse(&text).uids[0].into()));
        }
        if self.asked.cgroup {
            known.cgroup = dir.read("cgroup").ok().map(|text| cgroup::parse(&text).map_or(Value::Absent, Value::word));
        }
        Some(known)
    }
}

/// Whether both may be of one process: a start taken from an event may be one tick off.
fn is_same(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one.abs_diff(other) <= 1)
}
