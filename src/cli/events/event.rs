//! One row of stream `events`, read.

use crate::record::cmd::Cmd;
use crate::record::event::EventKind;
use crate::record::flush::TimedRow;
use crate::record::moment::Moment;
use crate::record::schema::Columns;
use crate::record::value::Value;

static ABSENT: Value = Value::Absent;
/// The kernel's own kthreadd, parent of all kernel threads.
const KTHREADD: u32 = 2;

/// Where in a row the values stand.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are those of the columns")]
pub struct Places {
    pub event: usize,
    pub pid: usize,
    pub start: usize,
    pub task: usize,
    pub ppid: usize,
    pub user: usize,
    pub uid: usize,
    pub tty: usize,
    pub pgrp: usize,
    pub program: usize,
    pub exe: usize,
    pub comm: usize,
    pub cgroup: usize,
    pub info: usize,
    pub raw: usize,
    pub duration_s: usize,
    pub pcmd: usize,
    pub cmd: usize,
}

impl Places {
    /// In rows of these columns.
    #[must_use]
    pub fn of(columns: &Columns) -> Self {
        // The first column is the row's own time. What is not there is at no place.
        let at = |name| columns.position(name).and_then(|at| at.checked_sub(1)).unwrap_or(usize::MAX);
        Self {
            event: at("event"),
            pid: at("pid"),
            start: at("start"),
            task: at("task"),
            ppid: at("ppid"),
            user: at("user"),
            uid: at("uid"),
            tty: at("tty"),
            pgrp: at("pgrp"),
            program: at("program"),
            exe: at("exe"),
            comm: at("comm"),
            cgroup: at("cgroup"),
            info: at("info"),
            raw: at("raw"),
            duration_s: at("duration_s"),
            pcmd: at("pcmd"),
            cmd: at("cmd"),
        }
    }
}

/// An event as a row tells it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are those of the columns")]
pub struct Event<'a> {
    pub time: Moment,
    pub kind: EventKind,
    pub pid: u32,
    pub start: Option<u64>,
    pub task: u32,
    pub ppid: Option<u32>,
    pub user: &'a Value,
    pub uid: &'a Value,
    pub tty: &'a Value,
    pub pgrp: Option<i64>,
    pub program: &'a Value,
    pub exe: &'a Value,
    pub comm: &'a Value,
    pub cgroup: &'a Value,
    pub info: &'a Value,
    pub raw: Option<i64>,
    /// Microseconds.
    pub duration: Option<i64>,
    pub pcmd: &'a Value,
    pub cmd: &'a Value,
}

impl<'a> Event<'a> {
    /// Reads a row; `None` where it is none of this stream.
    #[must_use]
    pub fn of(places: &Places, row: &'a TimedRow) -> Option<Self> {
        let value = |at: usize| row.values.get(at).unwrap_or(&ABSENT);
        let small = |at: usize| value(at).number().and_then(|number| u32::try_from(number).ok());
        let word = word(value(places.event))?;
        Some(Self {
            time: row.time,
            kind: EventKind::WORDS.into_iter().find(|(known, _)| known.as_bytes() == word)?.1,
            pid: small(places.pid)?,
            start: value(places.start).number().and_then(|start| u64::try_from(start).ok()),
            task: small(places.task)?,
            ppid: small(places.ppid),
            user: value(places.user),
            uid: value(places.uid),
            tty: value(places.tty),
            pgrp: value(places.pgrp).number(),
            program: value(places.program),
            exe: value(places.exe),
            comm: value(places.comm),
            cgroup: value(places.cgroup),
            info: value(places.info),
            raw: value(places.raw).number(),
            duration: value(places.duration_s).number(),
            pcmd: value(places.pcmd),
            cmd: value(places.cmd),
        })
    }

    /// Whether it is an exit that went wrong: with a code or by a signal.
    #[must_use]
    pub const fn failed(&self) -> bool {
        matches!((self.kind, self.raw), (EventKind::Exit, Some(raw)) if raw & 0xffff != 0)
    }

    /// Whether it is of a kernel thread. Of other processes, too, the name may be all that is known.
    #[must_use]
    pub fn is_kthread(&self) -> bool {
        matches!(self.cmd, Value::Cmd(cmd) if matches!(**cmd, Cmd::Comm(_)))
            && (*self.program == Value::Absent || self.ppid == Some(KTHREADD))
    }
}

/// The bytes of a word.
#[must_use]
pub fn word(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Word(word) => Some(word),
        _ => None,
    }
}
