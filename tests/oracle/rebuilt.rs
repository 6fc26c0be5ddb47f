//! The table at each tick, rebuilt from a changes-only journal, and its comparison with the oracle.

#![allow(unreachable_pub)] // of a test

use std::collections::BTreeMap;

use super::common::Segment;
use super::plain::{Id, Reading, Seen};
use psmon::journal::line::{Line, Tick};
use psmon::record::cmd::Cmd;
use psmon::record::moment::Moment;
use psmon::record::value::Value;

/// A text as the oracle sees it.
type Text = fn(&Seen) -> Vec<u8>;

pub type Row = BTreeMap<String, Value>;

/// The table at one tick.
#[derive(Clone)]
pub struct Rebuilt {
    pub time: Moment,
    pub tick: Tick,
    /// Rows that stand in the file for this tick.
    pub written: u64,
    pub rows: BTreeMap<Id, Row>,
}

/// Applies full samples, rows and `#gone`, in the order of the file.
pub fn ticks(segments: &[Segment]) -> Vec<Rebuilt> {
    let mut all = Vec::new();
    for segment in segments {
        let names = &segment.header.as_ref().unwrap().columns[1..];
        let mut table: BTreeMap<Id, Row> = BTreeMap::new();
        let (mut rows, mut gone): (Vec<(Id, Row)>, Vec<Id>) = (Vec::new(), Vec::new());
        for line in &segment.lines {
            match line {
                Line::Row { values, .. } => {
                    let row: Row = names.iter().cloned().zip(values.iter().cloned()).collect();
                    rows.push(((row["pid"].number().unwrap(), row["start"].number().unwrap()), row));
                }
                Line::Gone { id, .. } => {
                    let (pid, start) = id.split_once('@').unwrap();
                    gone.push((pid.parse().unwrap(), start.parse().unwrap()));
                }
                Line::Tick(tick) => {
                    for id in gone.drain(..) {
                        assert!(table.remove(&id).is_some(), "{id:?} left at {}, and was not there", tick.time);
                    }
                    let written = rows.len() as u64;
                    if tick.field("full") == Some("1") {
                        table.clear();
                    }
                    let pids: std::collections::BTreeSet<i64> = rows.iter().map(|((pid, _), _)| *pid).collect();
                    assert_eq!(pids.len(), rows.len(), "a pid stands twice at {}", tick.time);
                    table.extend(rows.drain(..));
                    all.push(Rebuilt { time: tick.time, tick: tick.clone(), written, rows: table.clone() });
                }
                _ => {}
            }
        }
    }
    all
}

/// What of a rebuilt table differs by more than a threshold from what was there before and after its tick.
/// `earlier` is the reading at the tick before: for what others change of a process, which shows once it runs.
pub fn check(rebuilt: &Rebuilt, own_pid: u32, earlier: Option<&Reading>, before: &Reading, after: &Reading) -> Vec<String> {
    let rebuilt = &named_as_seen(rebuilt, before, after);
    let mut wrong = Vec::new();
    let shown = |id: &Id, seen: &Seen| id.0 != i64::from(own_pid) && !seen.kthread;
    for (id, seen) in &before.all {
        if shown(id, seen) && after.all.contains_key(id) && !rebuilt.rows.contains_key(id) {
            wrong.push(format!("{}: {id:?} {} is missing", rebuilt.time, String::from_utf8_lossy(&seen.comm)));
        }
    }
    let hz = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap());
    for (id, row) in &rebuilt.rows {
        match (before.all.get(id), after.all.get(id)) {
            (Some(one), Some(other)) if shown(id, one) => {
                let past = earlier.and_then(|reading| reading.all.get(id)).unwrap_or(one);
                for what in values(row, past, one, other) {
                    wrong.push(format!("{}: {id:?} {}: {what}", rebuilt.time, String::from_utf8_lossy(&one.comm)));
                }
            }
            (Some(one), Some(_)) => wrong.push(format!("{}: {id:?} {:?} is shown", rebuilt.time, String::from_utf8_lossy(&one.comm))),
            (Some(_), None) | (None, Some(_)) => {}
            // Born after the first reading and gone before the second.
            (None, None) => {
                #[allow(clippy::cast_precision_loss)]
                let born_s = id.1 as f64 / hz;
                if born_s + 0.02 < before.began_uptime_s {
                    wrong.push(format!("{}: {id:?} is a ghost: {row:?}", rebuilt.time));
                }
            }
        }
    }
    wrong
}

/// The identity of a process known first from its birth's event has the event's stamp: its start may be one tick off.
fn named_as_seen(rebuilt: &Rebuilt, before: &Reading, after: &Reading) -> Rebuilt {
    let seen = |id: &Id| before.all.contains_key(id) || after.all.contains_key(id);
    let name = |id: Id| [id, (id.0, id.1 - 1), (id.0, id.1 + 1)].into_iter().find(seen).unwrap_or(id);
    Rebuilt { rows: rebuilt.rows.iter().map(|(id, row)| (name(*id), row.clone())).collect(), ..rebuilt.clone() }
}

fn values(row: &Row, past: &Seen, before: &Seen, after: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let number = |name: &str| row[name].number().unwrap_or(i64::MIN);
    let mut fail = |name: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        wrong.push(format!("{name} is {:?}, the oracle saw {one:?} and {other:?}", row[name]));
    };
    for name in ["ppid", "pgrp", "session", "uid", "threads", "nice"] {
        let seen = [before.numbers[name], after.numbers[name], if name == "nice" { past.numbers[name] } else { before.numbers[name] }];
        // Threads come and go more than once between two readings.
        let between = name == "threads" && number(name) >= 1 && seen.iter().any(|count| *count > 1);
        if !seen.contains(&number(name)) && !between {
            fail(name, &seen, &());
        }
    }
    for name in ["rss", "vsz", "swap"] {
        // Of a zombie nothing is left to be swapped.
        if name == "swap" && row[name] == Value::Absent && [before.state, after.state].contains(&b'Z') {
            continue;
        }
        let (one, other) = (before.numbers[name], after.numbers[name]);
        let slack = 65_536.max(number(name) / 100);
        if number(name) < one.min(other) - slack || number(name) > one.max(other) + slack {
            // Whoever took new pages, or was replaced by an exec, may have had more and less in between.
            let still = before.numbers["min_flt"] == after.numbers["min_flt"] && before.args == after.args && before.state != b'Z';
            let wild = number(name) > 8 * one.max(other) + (256 << 20) || number(name) < 0;
            if (still && after.state != b'Z') || wild {
                fail(name, &one, &other);
            }
        }
    }
    for name in ["min_flt", "maj_flt"] {
        if number(name) < 0 || number(name) > after.numbers[name] {
            fail(name, &before.numbers[name], &after.numbers[name]);
        }
    }
    // cpu_s is in milliseconds and may be a second old; the oracle's is in ticks, which the kernel rounds down.
    let ms = |seen: &Seen| seen.cpu_ticks * 1000 / i64::try_from(rustix::param::clock_ticks_per_second()).unwrap();
    if number("cpu_s") < ms(before) - 1000 - 20 || number("cpu_s") > ms(after) + 40 {
        fail("cpu_s", &ms(before), &ms(after));
    }
    let pct = number("cpu_pct");
    if !(0..=10_000).contains(&pct) && row["cpu_pct"] != Value::Absent {
        fail("cpu_pct", &"0 to 1000", &());
    }
    let states = [before.state, after.state];
    let state = match &row["state"] {
        Value::Word(state) => state[0],
        _ => b'?',
    };
    let lasting = |state: u8| matches!(state, b'Z' | b'T' | b't');
    if (lasting(state) && !states.contains(&state)) || (!lasting(state) && states[0] == states[1] && lasting(states[0])) {
        fail("state", &(states[0] as char), &(states[1] as char));
    }
    let terminal = |seen: &Seen| seen.tty != 0;
    if (row["tty"] != Value::Absent) != terminal(before) && (row["tty"] != Value::Absent) != terminal(after) {
        fail("tty", &before.tty, &after.tty);
    }
    let word = |bytes: &[u8]| if bytes.is_empty() { Value::Absent } else { Value::word(bytes) };
    let texts: [(&str, Text); 4] =
        [("user", |seen| seen.user.clone()), ("comm", |seen| seen.comm.clone()), ("program", |seen| seen.program.clone()), ("unit", unit)];
    for (name, text) in texts {
        let (one, other) = (text(before), text(after));
        // A zombie has no executable any more; what it counted for stays.
        let zombie = name == "program" && after.state == b'Z';
        if row[name] != word(&one) && row[name] != word(&other) && !zombie {
            fail(name, &String::from_utf8_lossy(&one), &String::from_utf8_lossy(&other));
        }
    }
    let cmds = [cmd(before), cmd(after)];
    // In the middle of an exec there is no argument to be read, neither by us nor by the oracle.
    if !cmds.contains(&row["cmd"]) && before.args.is_some() && after.args.is_some() && !grew_between(&row["cmd"], before, after) {
        fail("cmd", &cmds[0], &cmds[1]);
    }
    wrong
}

/// It did exec more than once between the readings, each time with one argument a byte longer.
fn grew_between(value: &Value, before: &Seen, after: &Seen) -> bool {
    let (Value::Cmd(cmd), Some(one), Some(other)) = (value, &before.args, &after.args) else { return false };
    let list: Vec<&[u8]> = cmd.args().collect();
    let length = |args: &[Vec<u8>]| args.iter().map(|arg| arg.len() + 1).sum::<usize>();
    let own: usize = list.iter().map(|arg| arg.len() + 1).sum();
    list.len() == one.len() && list[..list.len() - 1] == one[..one.len() - 1] && (length(one)..=length(other)).contains(&own)
}

fn cmd(seen: &Seen) -> Value {
    let cmd = match &seen.args {
        Some(args) if seen.state != b'Z' => Cmd::from_args(args.iter().map(Vec::as_slice), 0),
        _ => Cmd::Comm(seen.comm.as_slice().into()),
    };
    Value::Cmd(cmd.into())
}

/// The innermost systemd unit, else the last part.
fn unit(seen: &Seen) -> Vec<u8> {
    let path = String::from_utf8_lossy(&seen.cgroup).into_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_unit = |part: &&&str| [".service", ".scope", ".socket", ".mount", ".swap"].iter().any(|suffix| part.ends_with(suffix));
    let id = |part: &&&str| part.rsplit('-').next().is_some_and(|id| id.len() == 64);
    let unit = parts.iter().rfind(is_unit).copied();
    let container = parts.iter().rfind(id).and_then(|part| part.rsplit('-').next());
    unit.or(container).or(parts.last().copied()).unwrap_or_default().as_bytes().to_vec()
}
