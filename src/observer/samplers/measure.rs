//! What each column of stream `ps` is of a process: the one place where columns meet the kernel's words.

use std::cell::Cell;
use std::sync::Arc;

use crate::observer::facts::{Details, NAMESPACES, Reading, Wants};
use crate::observer::names::Names;
use crate::observer::table::Process;
use crate::record::cmd::Cmd;
use crate::record::moment::Moment;
use crate::record::value::Value;
use crate::source::host::Machine;
use crate::source::io::Io;
use crate::source::status::Status;
use crate::source::tty::Terminals;
use crate::source::{cgroup, clock};

/// Reads one column off a process.
pub type Measure = fn(&View<'_>) -> Value;

/// The states of proc_pid_stat(5).
pub(super) const STATES: [u8; 9] = *b"RSDZTtIXx";

/// What measuring needs besides the process: the same for all of a round.
#[derive(Debug)]
pub struct Context<'a> {
    names: &'a Names,
    terminals: &'a Terminals,
    machine: &'a Machine,
    swap: bool,
    boot_ns: u64,
    /// Wall clock minus boot clock, nanoseconds.
    wall_minus_boot: i64,
    offset_s: i32,
    /// The letters of states as words, shared by all rows.
    states: [(u8, Arc<[u8]>); STATES.len()],
}

/// Values that could not be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// At least one was refused.
    pub refused: bool,
    /// At least one could not be had in time.
    pub late: bool,
}

/// One process, seen by the measures.
#[derive(Debug)]
pub struct View<'a> {
    process: &'a Process,
    context: &'a Context<'a>,
    pct: Option<i64>,
    marks: Cell<Marks>,
}

impl<'a> Context<'a> {
    /// For one round.
    #[must_use]
    pub fn new(names: &'a Names, terminals: &'a Terminals, machine: &'a Machine, swap: bool) -> Self {
        let boot_ns = clock::boottime_ns();
        let now = clock::Wall::default().now();
        let wall_minus_boot = now.unix_ns - i64::try_from(boot_ns).unwrap_or(i64::MAX);
        let states = STATES.map(|letter| (letter, Arc::from([letter].as_slice())));
        Self { names, terminals, machine, swap, boot_ns, wall_minus_boot, offset_s: now.offset_s, states }
    }

    /// The effective user of a process.
    pub(super) fn user(&self, process: &Process) -> Value {
        match process.facts.owner {
            Reading::Known(uid) => Value::Word(self.names.user(uid)),
            Reading::Absent => Value::Absent,
            _ => Value::Refused,
        }
    }

    /// How old whoever started at these ticks is.
    pub(super) fn age_ns(&self, start: u64) -> u64 {
        self.boot_ns.saturating_sub(start.saturating_mul(1_000_000_000 / self.machine.hz.max(1)))
    }

    fn state(&self, letter: u8) -> Value {
        let known = self.states.iter().find(|(of, _)| *of == letter);
        known.map_or_else(|| Value::word(&[letter]), |(_, word)| Value::Word(Arc::clone(word)))
    }

    /// A process with its CPU of the interval in tenths of a per cent.
    #[must_use]
    pub const fn view(&'a self, process: &'a Process, pct: Option<i64>) -> View<'a> {
        View { process, context: self, pct, marks: Cell::new(Marks { refused: false, late: false }) }
    }
}

impl View<'_> {
    /// What could not be shown so far.
    #[must_use]
    pub const fn marks(&self) -> Marks {
        self.marks.get()
    }

    /// The value of what was read; what was refused or did not come in time is marked.
    pub fn read<T>(&self, reading: &Reading<T>, value: impl FnOnce(&T) -> Value) -> Value {
        match reading {
            Reading::Known(known) => value(known),
            Reading::Absent => Value::Absent,
            Reading::Refused => self.refused(),
            Reading::Late | Reading::Unread => self.late(),
        }
    }

    fn refused(&self) -> Value {
        self.marks.set(Marks { refused: true, ..self.marks.get() });
        Value::Refused
    }

    fn late(&self) -> Value {
        self.marks.set(Marks { late: true, ..self.marks.get() });
        Value::Refused
    }

    /// A value that rests on the counters: late where they are.
    fn stat(&self, value: impl FnOnce(&Process) -> Value) -> Value {
        if self.process.late.has(Wants::STAT) { self.late() } else { value(self.process) }
    }

    fn details<T>(&self, part: impl FnOnce(&Details) -> &Reading<T>, value: impl FnOnce(&T) -> Value) -> Value {
        match &self.process.facts.details {
            Some(details) => self.read(part(details), value),
            None => self.late(),
        }
    }

    fn status(&self, value: impl FnOnce(&Status) -> Value) -> Value {
        self.details(|details| &details.status, |status| value(status))
    }

    fn memory(&self, value: impl FnOnce(&Status) -> Option<u64>) -> Value {
        self.status(|status| value(status).map_or(Value::Absent, Value::count))
    }

    fn io(&self, value: impl FnOnce(&Io) -> u64) -> Value {
        self.details(|details| &details.io, |io| Value::count(value(io)))
    }

    fn namespace(&self, name: &str) -> Value {
        let at = NAMESPACES.iter().position(|namespace| *namespace == name).unwrap_or(0);
        self.details(|details| &details.namespaces[at], |inode| Value::word(inode))
    }

    fn ticks(&self, ticks: u64) -> Value {
        Value::Fixed(i64::try_from(ticks.saturating_mul(100) / self.context.machine.hz.max(1)).unwrap_or(i64::MAX))
    }

    fn age_ns(&self) -> u64 {
        self.context.boot_ns.saturating_sub(self.start_ns())
    }

    fn start_ns(&self) -> u64 {
        self.process.id.start.saturating_mul(1_000_000_000 / self.context.machine.hz.max(1))
    }

    fn cmd(&self) -> Value {
        let stat = &self.process.stat;
        if stat.is_kthread() || stat.is_zombie() {
            return Value::Cmd(Arc::new(Cmd::Comm(self.process.comm.as_ref().into())));
        }
        self.read(&self.process.facts.cmd, |cmd| Value::Cmd(Arc::clone(cmd)))
    }
}

/// 1000 × cpu / time, rounded: tenths of a per cent, of which 1000 are one core.
#[must_use]
pub fn per_cent_tenths(cpu_ns: u64, time_ns: u64) -> i64 {
    let time = u128::from(time_ns.max(1));
    i64::try_from((u128::from(cpu_ns) * 1000 + time / 2) / time).unwrap_or(i64::MAX)
}

fn shared(word: &Arc<[u8]>) -> Value {
    Value::Word(Arc::clone(word))
}

fn signed_count(number: i64) -> Value {
    if number < 0 { Value::Absent } else { Value::Int(number) }
}

/// SCHED_*, `sched(7)`, in ps's letters.
const fn policy(number: u64) -> &'static [u8] {
    match number {
        0 => b"TS",
        1 => b"FF",
        2 => b"RR",
        3 => b"B",
        5 => b"IDL",
        6 => b"DLN",
        7 => b"EXT",
        _ => b"#",
    }
}

/// What a column needs to be read beyond the facts of every process.
#[must_use]
pub fn needs(column: &str) -> Wants {
    match column {
        "ruser" | "ruid" | "suser" | "suid" | "fuid" | "group" | "gid" | "rgroup" | "rgid" | "sgid" | "groups" | "peak_rss"
        | "rss_anon" | "rss_file" | "rss_shmem" | "size" | "locked" | "nvcsw" | "nivcsw" | "pending" | "blocked" | "ignored" | "caught"
        | "cap_eff" | "tracer" | "ns_pid" => Wants::STATUS,
        "rchar" | "wchar" | "syscr" | "syscw" | "read_bytes" | "write_bytes" | "cancelled_write_bytes" => Wants::IO,
        "fds" => Wants::FDS,
        "oom_score" | "oom_score_adj" => Wants::OOM,
        "wchan" => Wants::WCHAN,
        "label" => Wants::LABEL,
        "cgroupns" | "ipcns" | "mntns" | "netns" | "pidns" | "timens" | "userns" | "utsns" => Wants::NAMESPACES,
        _ => Wants::NONE,
    }
}

/// The measure of a column, by its name in the schema.
#[must_use]
pub fn of(column: &str) -> Measure {
    find(column).unwrap_or(|_| Value::Absent)
}

/// Whether a column has a measure.
#[cfg(test)]
pub fn is_measured(column: &str) -> bool {
    find(column).is_some()
}

#[expect(clippy::too_many_lines, reason = "one line a column, in the schema's order: a table, not a flow")]
fn find(column: &str) -> Option<Measure> {
    Some(match column {
        "pid" => |view| Value::count(view.process.id.pid.into()),
        "start" => |view| if view.process.is_known() { Value::count(view.process.id.start) } else { view.late() },
        "ppid" => |view| view.stat(|process| Value::count(process.stat.ppid.into())),
        "pgrp" => |view| view.stat(|process| Value::Int(process.stat.pgrp)),
        "session" => |view| view.stat(|process| Value::Int(process.stat.session)),
        "tpgid" => |view| view.stat(|process| signed_count(process.stat.tpgid)),
        "user" => |view| view.read(&view.process.facts.owner, |uid| Value::Word(view.context.names.user(*uid))),
        "uid" => |view| view.read(&view.process.facts.owner, |uid| Value::count((*uid).into())),
        "ruser" => |view| view.status(|status| Value::Word(view.context.names.user(status.uids[0]))),
        "ruid" => |view| view.status(|status| Value::count(status.uids[0].into())),
        "suser" => |view| view.status(|status| Value::Word(view.context.names.user(status.uids[2]))),
        "suid" => |view| view.status(|status| Value::count(status.uids[2].into())),
        "fuid" => |view| view.status(|status| Value::count(status.uids[3].into())),
        "group" => |view| view.status(|status| Value::Word(view.context.names.group(status.gids[1]))),
        "gid" => |view| view.status(|status| Value::count(status.gids[1].into())),
        "rgroup" => |view| view.status(|status| Value::Word(view.context.names.group(status.gids[0]))),
        "rgid" => |view| view.status(|status| Value::count(status.gids[0].into())),
        "sgid" => |view| view.status(|status| Value::count(status.gids[2].into())),
        "groups" => |view| {
            view.status(|status| match status.groups.as_slice() {
                [] => Value::Absent,
                groups => Value::word(groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",").as_bytes()),
            })
        },
        "state" => |view| view.stat(|process| view.context.state(process.stat.state)),
        "tty" => |view| {
            view.stat(|process| view.context.terminals.name(process.stat.tty_nr).map_or(Value::Absent, |name| Value::word(name.as_bytes())))
        },
        "nice" => |view| view.stat(|process| Value::Int(process.stat.nice)),
        "priority" => |view| view.stat(|process| Value::Int(process.stat.priority)),
        "rtprio" => {
            |view| view.stat(|process| if process.stat.rt_priority == 0 { Value::Absent } else { Value::count(process.stat.rt_priority) })
        }
        "policy" => |view| view.stat(|process| Value::word(policy(process.stat.policy))),
        "threads" => |view| view.stat(|process| Value::count(process.stat.num_threads)),
        "cpu" => |view| view.stat(|process| Value::count(process.stat.processor)),
        "cpu_pct" => |view| view.stat(|_| view.pct.map_or(Value::Absent, Value::Fixed)),
        "life_pct" => |view| view.stat(|process| Value::Fixed(per_cent_tenths(process.cpu_ns, view.age_ns()))),
        "cpu_s" => |view| view.stat(|process| Value::Fixed(i64::try_from(process.cpu_ns / 1_000_000).unwrap_or(i64::MAX))),
        "user_s" => |view| view.stat(|process| view.ticks(process.stat.utime)),
        "sys_s" => |view| view.stat(|process| view.ticks(process.stat.stime)),
        "children_s" => {
            |view| view.stat(|process| view.ticks(u64::try_from(process.stat.cutime.saturating_add(process.stat.cstime)).unwrap_or(0)))
        }
        "wait_s" => |view| view.stat(|process| view.ticks(process.stat.blkio_ticks)),
        "rss" => |view| view.stat(|process| memory(process, process.rss_pages.saturating_mul(view.context.machine.page))),
        "peak_rss" => |view| view.memory(|status| status.peak_rss),
        "rss_anon" => |view| view.memory(|status| status.rss_anon),
        "rss_file" => |view| view.memory(|status| status.rss_file),
        "rss_shmem" => |view| view.memory(|status| status.rss_shmem),
        "mem_pct" => |view| {
            view.stat(|process| match (process.stat.is_kthread(), view.context.machine.mem_total) {
                (true, _) => Value::Absent,
                (false, 0) => view.refused(),
                (false, total) => Value::Fixed(per_cent_tenths(process.rss_pages.saturating_mul(view.context.machine.page), total)),
            })
        },
        "vsz" => |view| view.stat(|process| memory(process, process.stat.vsize)),
        "size" => |view| view.memory(|status| Some(status.data?.saturating_add(status.stack?))),
        "locked" => |view| view.memory(|status| status.locked),
        "swap" => |view| match view.process {
            process if process.stat.is_kthread() || process.stat.is_zombie() => view.stat(|_| Value::Absent),
            _ if view.context.swap => view.memory(|status| status.swap),
            // The machine has no swap: nobody need be asked.
            _ => view.stat(|_| Value::Int(0)),
        },
        "min_flt" => |view| view.stat(|process| Value::count(process.stat.min_flt)),
        "maj_flt" => |view| view.stat(|process| Value::count(process.stat.maj_flt)),
        "nvcsw" => |view| view.status(|status| Value::count(status.nvcsw)),
        "nivcsw" => |view| view.status(|status| Value::count(status.nivcsw)),
        "rchar" => |view| view.io(|io| io.rchar),
        "wchar" => |view| view.io(|io| io.wchar),
        "syscr" => |view| view.io(|io| io.syscr),
        "syscw" => |view| view.io(|io| io.syscw),
        "read_bytes" => |view| view.io(|io| io.read_bytes),
        "write_bytes" => |view| view.io(|io| io.write_bytes),
        "cancelled_write_bytes" => |view| view.io(|io| io.cancelled_write_bytes),
        "fds" => |view| view.details(|details| &details.fds, |count| Value::count(*count)),
        "oom_score" => |view| view.details(|details| &details.oom_score, |score| Value::Int(*score)),
        "oom_score_adj" => |view| view.details(|details| &details.oom_score_adj, |score| Value::Int(*score)),
        "flags" => |view| view.stat(|process| Value::word(format!("{:x}", process.stat.flags).as_bytes())),
        "wchan" => |view| view.details(|details| &details.wchan, |name| Value::word(name)),
        "pending" => |view| view.status(|status| Value::word(&status.signals[0])),
        "blocked" => |view| view.status(|status| Value::word(&status.signals[1])),
        "ignored" => |view| view.status(|status| Value::word(&status.signals[2])),
        "caught" => |view| view.status(|status| Value::word(&status.signals[3])),
        "cap_eff" => |view| view.status(|status| Value::word(&status.cap_eff)),
        "tracer" => |view| view.status(|status| if status.tracer == 0 { Value::Absent } else { Value::count(status.tracer.into()) }),
        "ns_pid" => |view| view.status(|status| status.ns_pid.map_or(Value::Absent, |pid| Value::count(pid.into()))),
        "started" => |view| {
            view.stat(|_| {
                let unix_ns = view.context.wall_minus_boot.saturating_add_unsigned(view.start_ns());
                let mut text = Vec::with_capacity(29);
                Moment { unix_ns, offset_s: view.context.offset_s }.write(3, &mut text);
                Value::word(&text)
            })
        },
        "age_s" => |view| view.stat(|_| Value::Fixed(i64::try_from(view.age_ns() / 1_000_000_000).unwrap_or(i64::MAX))),
        "comm" => |view| view.stat(|process| Value::word(&process.comm)),
        "exe" => |view| view.read(&view.process.facts.exe, shared),
        "program" => |view| view.read(&view.process.facts.program, shared),
        "cgroup" => |view| view.read(&view.process.facts.cgroup, shared),
        "slice" => |view| view.read(&view.process.facts.cgroup, |path| cgroup::slice(path).map_or(Value::Absent, Value::word)),
        "unit" => |view| view.read(&view.process.facts.unit, shared),
        "label" => |view| view.details(|details| &details.label, |label| Value::word(label)),
        "cgroupns" => |view| view.namespace("cgroup"),
        "ipcns" => |view| view.namespace("ipc"),
        "mntns" => |view| view.namespace("mnt"),
        "netns" => |view| view.namespace("net"),
        "pidns" => |view| view.namespace("pid"),
        "timens" => |view| view.namespace("time"),
        "userns" => |view| view.namespace("user"),
        "utsns" => |view| view.namespace("uts"),
        "cmd" => |view| view.cmd(),
        _ => return None,
    })
}

/// A kernel thread has no memory of its own; a zombie has given its back.
fn memory(process: &Process, bytes: u64) -> Value {
    if process.stat.is_kthread() { Value::Absent } else { Value::count(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::schema::columns;
    use crate::record::stream::Stream;

    #[test]
    fn every_column_has_its_measure() {
        for column in columns(Stream::Ps).iter().filter(|column| column.name != "time") {
            assert!(find(column.name).is_some(), "{} is described and not measured", column.name);
        }
    }

    #[test]
    fn per_cent_is_rounded_and_never_divides_by_zero() {
        assert_eq!(per_cent_tenths(500, 1000), 500);
        assert_eq!(per_cent_tenths(2, 3), 667);
        assert_eq!(per_cent_tenths(1, 0), 1000);
        assert_eq!(per_cent_tenths(u64::MAX, 1), i64::MAX);
    }
}
