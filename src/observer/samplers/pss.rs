//! Stream `pss`: who has which part of the machine's memory.
//!
//! A tick goes in three steps. [`PssSampler::plan`] chooses whom to read, the most changed first, as far as the budget goes;
//! the readers read them, spread over a window after the tick ([`Pass`](super::super::pass::Pass)); [`PssSampler::rows`] makes
//! the sample of what is known then, each figure with the age of its reading.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::measure::{self, Context, Measure, View};
use super::ps::Rows;
use crate::observer::facts::{Reading, Wants};
use crate::observer::footprint::{Candidate, Footprint, Limits, MIB_NS, Seen};
use crate::observer::table::Process;
use crate::observer::world::World;
use crate::record::ledger::Why;
use crate::record::sample::{Counts, Left, Row};
use crate::record::schema::{Column, Columns};
use crate::record::value::Value;
use crate::source::clock;
use crate::source::smaps::Memory;

/// How stream `pss` is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// What reading may cost.
    pub limits: Limits,
    /// The columns of the rows; a first `time` is the row's own.
    pub columns: Columns,
}

/// What the readings of a tick cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Readings made.
    pub readings: u64,
    /// CPU time of all.
    pub cpu: Duration,
    /// The longest.
    pub longest: Duration,
}

/// How a column gets its value.
#[derive(Clone, Copy)]
enum Source {
    /// From the reading.
    Memory(fn(&Memory) -> Option<u64>),
    Age,
    Reading,
    /// As stream `ps` has it.
    Process(Measure),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory",
            Self::Age => "Age",
            Self::Reading => "Reading",
            Self::Process(_) => "Process",
        })
    }
}

/// The sampler.
#[derive(Debug)]
pub struct PssSampler {
    selection: Selection,
    sources: Vec<Source>,
    /// What a MiB costs on this machine, nanoseconds: a running mean.
    mib_ns: u64,
    /// CPU nanoseconds that may be spent; what a tick leaves over the next may use, and what it overdraws the next pays.
    purse_ns: i64,
}

impl PssSampler {
    /// A sampler for a selection.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        let sources = selection.columns.iter().filter(|column| column.name != "time").map(source).collect();
        Self { selection, sources, mib_ns: MIB_NS, purse_ns: 0 }
    }

    /// Takes another selection; what was learned stays.
    pub fn select(&mut self, selection: Selection) {
        *self = Self { mib_ns: self.mib_ns, ..Self::new(selection) };
    }

    /// The columns of its rows.
    #[must_use]
    pub const fn columns(&self) -> &Columns {
        &self.selection.columns
    }

    /// What its columns need to be read beyond the facts of every process.
    #[must_use]
    pub fn needs(&self) -> Wants {
        self.selection.columns.iter().fold(Wants::NONE, |needs, column| needs | measure::needs(column.name))
    }

    /// Chooses whom to read at this tick: the most changed first, as far as the budget goes.
    pub fn plan(&mut self, world: &mut World) -> Vec<Candidate> {
        let now_ns = clock::monotonic_ns();
        let limits = self.selection.limits;
        let sharers = count_sharers(world);
        let page = world.machine.page;
        let native = world.proc.is_native();
        let mut candidates = Vec::new();
        for process in world.table.iter_mut_from(0).filter(|process| has_memory(process)) {
            let asked = process.asked.has(Wants::MEMORY);
            let mut seen = Seen::of(process, if sharers.is_empty() { None } else { count_of(&sharers, process) });
            if !native {
                // Nobody's clock is asked there: everyone is taken to have run.
                seen.cpu_ns = now_ns;
            }
            let footprint = process.footprint.get_or_insert_default();
            candidates.extend(footprint.consider(&seen, now_ns, &limits, page, self.mib_ns).filter(|_| !asked));
        }
        candidates.sort_by_key(|candidate| Reverse((candidate.overdue, candidate.wrong_by)));
        self.earn(limits);
        afford(candidates, self.purse_ns)
    }

    /// A tick's budget. What a tick leaves over is not saved up, beyond what one dear reading needs.
    fn earn(&mut self, limits: Limits) {
        let most = nanoseconds(limits.budget.max(limits.max_read));
        self.purse_ns = self.purse_ns.saturating_add(nanoseconds(limits.budget)).min(most);
    }

    /// Takes in what the readers brought since this was last called.
    pub fn take(&mut self, world: &mut World, spent: &mut Spent) {
        for (taken, mib_ns) in world.taken.drain(..) {
            spent.readings += 1;
            spent.cpu += taken.cpu;
            spent.longest = spent.longest.max(taken.took);
            self.purse_ns = self.purse_ns.saturating_sub(nanoseconds(taken.cpu));
            if let Some(mib_ns) = mib_ns {
                self.mib_ns = (self.mib_ns.saturating_mul(15) + mib_ns) / 16;
            }
        }
        // One reading that cost far more than anybody could know is not paid for by everyone for an hour.
        self.purse_ns = self.purse_ns.max(-4 * nanoseconds(self.selection.limits.budget));
    }

    /// Makes the sample: everyone's row if it is full, else those of `touched` (ascending) and of whoever was read.
    pub fn rows(&self, world: &mut World, touched: &[u32], full: bool, spent: &Spent) -> (Rows, Vec<(&'static str, String)>) {
        let mut made = Rows::default();
        for id in world.ended_with_memory.drain(..) {
            made.left.push(Left { id: id.into(), why: Why::Exit });
        }
        let World { table, names, terminals, machine, swap, .. } = world;
        let context = Context::new(names, terminals, machine, *swap);
        let now_ns = clock::monotonic_ns();
        let mut touched = touched.iter().copied().peekable();
        let mut counts = Counts { seen: table.len() as u64, ..Counts::default() };
        let mut totals = Totals::default();
        for process in table.iter_mut_from(0) {
            let pid = process.id.pid;
            while touched.next_if(|touched| *touched < pid).is_some() {}
            let is_touched = touched.next_if_eq(&pid).is_some();
            if !has_memory(process) {
                counts.hidden += u64::from(process.is_read());
                counts.vanished += u64::from(!process.is_read());
                continue;
            }
            let Some(mut footprint) = process.footprint.take() else {
                // Born after the plan: its turn comes with the next.
                counts.vanished += 1;
                continue;
            };
            totals.add(&footprint, now_ns);
            if full || is_touched || footprint.row_due || !footprint.visible {
                let view = context.view(process, None);
                let values = self.sources.iter().map(|source| value(*source, &view, &footprint, now_ns)).collect();
                let marks = view.marks();
                (footprint.refused, footprint.stuck) = (marks.refused, marks.late);
                footprint.visible = true;
                made.rows.push(Row { id: process.id.into(), values });
            }
            footprint.shown();
            counts.refused += u64::from(footprint.refused);
            counts.stuck += u64::from(footprint.stuck);
            process.footprint = Some(footprint);
        }
        counts.read_us = micros(spent.cpu);
        made.counts = counts;
        (made, totals.fields(spent))
    }
}

/// How many have each of the executables of which somebody was born or died.
fn count_sharers(world: &mut World) -> FxHashMap<Arc<[u8]>, u32> {
    let mut counts: FxHashMap<Arc<[u8]>, u32> = world.sharers.drain().map(|exe| (exe, 0)).collect();
    if !counts.is_empty() {
        for process in world.table.iter().filter(|process| has_memory(process) && !process.stat.is_zombie()) {
            if let Some(count) = process.facts.exe.known().and_then(|exe| counts.get_mut(exe)) {
                *count += 1;
            }
        }
    }
    counts
}

fn count_of(counts: &FxHashMap<Arc<[u8]>, u32>, process: &Process) -> Option<u32> {
    process.facts.exe.known().and_then(|exe| counts.get(exe)).copied()
}

/// Whether it is a process of the stream: kernel threads have no memory of their own, and of one that was only heard of nothing
/// is known yet.
pub const fn has_memory(process: &Process) -> bool {
    process.is_read() && !process.stat.is_kthread()
}

/// The first of them that can be paid, and after one that cannot those that can. Who is overdue is chosen even if it costs more than
/// there is, as the first: the ticks after it pay.
fn afford(candidates: Vec<Candidate>, purse_ns: i64) -> Vec<Candidate> {
    let mut left = u64::try_from(purse_ns).unwrap_or(0);
    let mut chosen = candidates;
    if let Some(first) = chosen.first().filter(|first| first.overdue && first.cost_ns > left && left > 0) {
        return vec![*first];
    }
    chosen.retain(|candidate| match left.checked_sub(candidate.cost_ns) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    chosen
}

/// Sums over all processes.
#[derive(Debug, Default)]
struct Totals {
    pss: u64,
    swap_pss: u64,
    processes: u64,
    unread: u64,
    cooling: u64,
    oldest: Duration,
}

impl Totals {
    fn add(&mut self, footprint: &Footprint, now_ns: u64) {
        if let Some(memory) = footprint.memory.known() {
            self.pss = self.pss.saturating_add(memory.pss);
            self.swap_pss = self.swap_pss.saturating_add(memory.swap_pss);
            self.processes += 1;
            self.oldest = self.oldest.max(footprint.age(now_ns).unwrap_or_default());
        }
        self.unread += u64::from(footprint.memory == Reading::Unread);
        self.cooling += u64::from(footprint.cooling);
    }

    fn fields(&self, spent: &Spent) -> Vec<(&'static str, String)> {
        vec![
            ("pss", self.pss.to_string()),
            ("swap_pss", self.swap_pss.to_string()),
            ("procs", self.processes.to_string()),
            ("unread", self.unread.to_string()),
            ("cooling", self.cooling.to_string()),
            ("readings", spent.readings.to_string()),
            ("oldest_s", format!("{}.{:03}", self.oldest.as_secs(), self.oldest.subsec_millis())),
            ("spent_us", micros(spent.cpu).to_string()),
            ("longest_us", micros(spent.longest).to_string()),
        ]
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn source(column: &'static Column) -> Source {
    match column.name {
        "pss" => Source::Memory(|memory| Some(memory.pss)),
        "pss_anon" => Source::Memory(|memory| memory.pss_anon),
        "pss_file" => Source::Memory(|memory| memory.pss_file),
        "pss_shmem" => Source::Memory(|memory| memory.pss_shmem),
        "pss_dirty" => Source::Memory(|memory| memory.pss_dirty),
        "swap_pss" => Source::Memory(|memory| Some(memory.swap_pss)),
        "uss" => Source::Memory(|memory| Some(memory.uss)),
        "age_s" => Source::Age,
        "reading" => Source::Reading,
        name => Source::Process(measure::of(name)),
    }
}

fn value(source: Source, view: &View<'_>, footprint: &Footprint, now_ns: u64) -> Value {
    match source {
        Source::Memory(part) => match &footprint.memory {
            // Nobody looked yet: that is no refusal.
            Reading::Unread => Value::Absent,
            memory => view.read(memory, |memory| part(memory).map_or(Value::Absent, Value::count)),
        },
        Source::Age => {
            footprint.age(now_ns).map_or(Value::Absent, |age| Value::Fixed(i64::try_from((age.as_millis() + 50) / 100).unwrap_or(i64::MAX)))
        }
        Source::Reading => reading(footprint).map_or(Value::Absent, |word| Value::Word(Arc::from(word.as_bytes()))),
        Source::Process(measure) => measure(view),
    }
}

/// What the stream says of a reading; nothing where there is none.
const fn reading(footprint: &Footprint) -> Option<&'static str> {
    match footprint.memory {
        Reading::Known(_) if footprint.fresh => Some("read"),
        Reading::Known(_) | Reading::Unread if footprint.cooling => Some("cooling"),
        Reading::Known(_) => Some("kept"),
        _ => None,
    }
}

/// Forgets that rows were shown: a stream that is switched on again says everything anew.
pub fn forget(world: &mut World) {
    for process in world.table.iter_mut_from(0) {
        process.footprint = None;
    }
    world.ended_with_memory.clear();
    world.sharers.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::footprint::Reason;
    use crate::record::schema::columns;
    use crate::record::stream::Stream;
    use proptest::prelude::*;

    #[test]
    fn every_column_has_its_source() {
        for column in columns(Stream::Pss).iter().filter(|column| column.name != "time") {
            if let Source::Process(_) = source(column) {
                assert!(measure::is_measured(column.name), "{} is described and not measured", column.name);
            }
        }
    }

    #[test]
    fn what_the_stream_says_of_a_reading() {
        let mut footprint = Footprint::default();
        assert_eq!(reading(&footprint), None);
        footprint.memory = Reading::Known(Memory::default());
        assert_eq!(reading(&footprint), Some("kept"));
        footprint.fresh = true;
        footprint.cooling = true;
        assert_eq!(reading(&footprint), Some("read"));
        footprint.fresh = false;
        assert_eq!(reading(&footprint), Some("cooling"));
        footprint.memory = Reading::Late;
        assert_eq!(reading(&footprint), None);
    }

    #[test]
    fn who_is_overdue_is_read_whatever_it_costs_and_the_next_ticks_pay() {
        let candidate = |pid, overdue, cost_ns| Candidate { pid, reason: Reason::Old, wrong_by: 1, overdue, cost_ns };
        let pids = |chosen: Vec<Candidate>| chosen.iter().map(|candidate| candidate.pid).collect::<Vec<_>>();
        let all = || vec![candidate(1, true, 900), candidate(2, false, 40)];
        assert_eq!(pids(afford(all(), 100)), [1]);
        assert_eq!(pids(afford(all(), -50)), [0_u32; 0]);
        assert_eq!(pids(afford(vec![candidate(1, false, 900), candidate(2, false, 40)], 100)), [2]);
        assert_eq!(pids(afford(vec![candidate(1, true, 60), candidate(2, false, 40)], 100)), [1, 2]);
    }

    proptest! {
        // What is chosen can be paid, keeps its order, and nothing that could still be paid is left out.
        #[test]
        fn the_budget_is_kept_and_used(costs in proptest::collection::vec(0_u64..1000, 0..50), purse in -100_i64..5000) {
            let candidates: Vec<Candidate> = costs
                .iter()
                .zip(0..)
                .map(|(cost_ns, pid)| Candidate { pid, reason: Reason::Changed, wrong_by: 1, overdue: false, cost_ns: *cost_ns })
                .collect();
            let chosen = afford(candidates.clone(), purse);
            let spent: u64 = chosen.iter().map(|candidate| candidate.cost_ns).sum();
            let purse = u64::try_from(purse).unwrap_or(0);
            prop_assert!(spent <= purse);
            prop_assert!(chosen.is_sorted_by_key(|candidate| candidate.pid));
            let left = purse - spent;
            prop_assert!(candidates.iter().all(|candidate| chosen.contains(candidate) || candidate.cost_ns > left));
        }
    }
}
