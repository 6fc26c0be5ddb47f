//! The process table, as stream `ps` and `psmon ps` show it.

use std::cmp::Ordering;
use std::time::Instant;

use super::measure::{self, Context, Measure};
use crate::observer::facts::Wants;
use crate::observer::round::Looked;
use crate::observer::table::Process;
use crate::observer::world::World;
use crate::record::identity::Identity;
use crate::record::ledger::Why;
use crate::record::sample::{Counts, Left, Row};
use crate::record::schema::{Columns, SortKey};
use crate::record::value::Value;

/// Who is shown, and of whom what.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Kernel threads too.
    pub kthreads: bool,
    /// Processes with a controlling terminal too.
    pub interactive: bool,
    /// This pid never: the recorder itself.
    pub own_pid: Option<u32>,
    /// The columns of the rows; a first `time` is the sample's.
    pub columns: Columns,
    /// The order of the rows; by pid where it is empty.
    pub sort: Vec<SortKey>,
}

/// The rows of one round.
#[derive(Debug, Default)]
pub struct Rows {
    /// Rows of what was touched, or of everyone.
    pub rows: Vec<Row>,
    /// What left.
    pub left: Vec<Left>,
    /// What was considered.
    pub counts: Counts,
}

/// The sampler.
#[derive(Debug)]
pub struct PsSampler {
    selection: Selection,
    measures: Vec<Measure>,
    /// Sort keys with their measures: what is sorted by need not be shown.
    keys: Vec<(Measure, bool)>,
    /// When the sample before was taken, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    last_ns: u64,
}

impl PsSampler {
    /// A sampler for a selection.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        let measured = selection.columns.iter().filter(|column| column.name != "time");
        let measures = measured.map(|column| measure::of(column.name)).collect();
        let keys = selection.sort.iter().map(|key| (measure::of(key.column.name), key.descending)).collect();
        Self { selection, measures, keys, last_ns: 0 }
    }

    /// Takes another selection; the interval goes on.
    pub fn select(&mut self, selection: Selection) {
        *self = Self { last_ns: self.last_ns, ..Self::new(selection) };
    }

    /// The intervals of the first sample begin with the clocks as they were read last.
    pub fn begin(&mut self, world: &mut World) {
        self.last_ns = world.this_round_ns;
        for process in world.table.iter_mut_from(0) {
            process.ps.remember(process.cpu_ns, process.looked_ns);
        }
    }

    /// What its columns need to be read beyond the facts of every process.
    #[must_use]
    pub fn needs(&self) -> Wants {
        let sorted = self.selection.sort.iter().map(|key| key.column);
        self.selection.columns.iter().chain(sorted).fold(Wants::NONE, |needs, column| needs | measure::needs(column.name))
    }

    /// The columns of its rows.
    #[must_use]
    pub const fn columns(&self) -> &Columns {
        &self.selection.columns
    }

    fn hides(&self, process: &Process) -> bool {
        self.selection.own_pid == Some(process.id.pid)
            || (process.stat.is_kthread() && !self.selection.kthreads)
            || (process.stat.tty_nr != 0 && !self.selection.interactive)
    }

    /// Makes the rows of what rounds found: of everyone if the sample is full, else of `touched` (ascending).
    pub fn rows(&mut self, world: &mut World, touched: &[u32], looked: Looked, full: bool) -> Rows {
        let began = Instant::now();
        let mut made = Rows::default();
        for (id, visible) in world.ended.drain(..) {
            if visible {
                made.left.push(Left { id: id.into(), why: Why::Exit });
            }
        }
        let last_ns = std::mem::replace(&mut self.last_ns, world.this_round_ns);
        let World { table, names, terminals, machine, swap, hears, .. } = world;
        let context = Context::new(names, terminals, machine, *swap);
        let mut touched = touched.iter().copied().peekable();
        let mut sorted: Vec<(Vec<Value>, Row)> = Vec::new();
        let hears = *hears;
        let vanished = if hears { 0 } else { looked.vanished };
        let mut counts = Counts { seen: looked.seen, vanished, ..Counts::default() };
        for process in table.iter_mut_from(0) {
            let pid = process.id.pid;
            while touched.next_if(|touched| *touched < pid).is_some() {}
            let is_touched = touched.next_if_eq(&pid).is_some();
            if std::mem::take(&mut process.ps.replaces_unknown) {
                made.left.push(Left { id: Identity { pid, start: 0 }.into(), why: Why::Hidden });
            }
            if is_touched && self.hides(process) == process.ps.visible {
                process.ps.visible = !process.ps.visible;
                if !process.ps.visible {
                    made.left.push(Left { id: process.id.into(), why: Why::Hidden });
                }
            }
            if is_touched {
                let interval = process.ps.interval_ns(process.cpu_ns, process.looked_ns, last_ns);
                process.ps.pct = interval.map(|(cpu, time)| measure::per_cent_tenths(cpu, time));
                process.ps.first = process.ps.pct.is_none();
            }
            process.ps.remember(process.cpu_ns, process.looked_ns);
            if hears && !process.is_read() {
                // Its birth was told; before it could be looked at it was gone.
                counts.vanished += 1;
                continue;
            }
            if !process.ps.visible {
                counts.hidden += 1;
                continue;
            }
            if full || is_touched {
                let view = context.view(process, process.ps.pct);
                let values: Box<[Value]> = self.measures.iter().map(|measure| measure(&view)).collect();
                let marks = view.marks();
                let key = self.keys.iter().map(|(measure, _)| measure(&view)).collect();
                process.ps.refused = marks.refused;
                process.ps.stuck = marks.late;
                sorted.push((key, Row { id: process.id.into(), values }));
            }
            counts.refused += u64::from(process.ps.refused);
            counts.stuck += u64::from(process.ps.stuck);
        }
        if !self.keys.is_empty() {
            sorted.sort_by(|(one, _), (other, _)| self.order(one, other));
        }
        made.rows = sorted.into_iter().map(|(_, row)| row).collect();
        // Whoever vanished before it was ever taken in stands in the list, and in no table.
        if hears {
            counts.seen = table.len() as u64;
        } else {
            counts.vanished = counts.seen.saturating_sub(table.len() as u64).max(counts.vanished);
            counts.seen = table.len() as u64 + counts.vanished;
        }
        counts.gate_missed = looked.everyone.then_some(looked.gate_missed);
        counts.read_us = u64::try_from((looked.read + began.elapsed()).as_micros()).unwrap_or(u64::MAX);
        made.counts = counts;
        made
    }

    fn order(&self, one: &[Value], other: &[Value]) -> Ordering {
        let keys = self.keys.iter().zip(one.iter().zip(other));
        keys.map_while(|((_, descending), (one, other))| {
            let order = compare(one, other);
            Some(if *descending { order.reverse() } else { order })
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
    }
}

/// Numbers by size, words by their bytes; what is not known comes before all that is.
fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Int(one) | Value::Fixed(one), Value::Int(other) | Value::Fixed(other)) => one.cmp(other),
        (Value::Word(one), Value::Word(other)) => one.cmp(other),
        (Value::Cmd(one), Value::Cmd(other)) => one.args().cmp(other.args()),
        _ => rank(one).cmp(&rank(other)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Absent => 0,
        Value::Refused => 1,
        Value::Int(_) | Value::Fixed(_) => 2,
        Value::Word(_) => 3,
        Value::Cmd(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_values() {
        assert_eq!(compare(&Value::Int(2), &Value::Int(10)), Ordering::Less);
        assert_eq!(compare(&Value::word(b"a"), &Value::word(b"b")), Ordering::Less);
        assert_eq!(compare(&Value::Absent, &Value::Int(-5)), Ordering::Less);
        assert_eq!(compare(&Value::Refused, &Value::Absent), Ordering::Greater);
    }
}
