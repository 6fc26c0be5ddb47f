//! Stream `pss`: who has which part of the machine's memory.
//!
//! A tick goes in three steps. [`PssSampler::plan`] chooses whom to read, the most changed first, as far as the budget goes;
//! the readers read them, spread over a window after the tick ([`Pass`](super::super::pass::Pass)); [`PssSampler::rows`] makes
//! the sample of what is known then, each figure with the age of its reading.

use std::cmp::Reverse;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashSet, FxHasher};

use super::measure::{self, Context, Measure, View};
use super::ps::Rows;
use crate::observer::due::Due;
use crate::observer::facts::{Reading, Wants};
use crate::observer::footprint::{Candidate, Footprint, Limits, MIB_NS, Now, Seen, Weighed};
use crate::observer::table::Process;
use crate::observer::weight::{Part, Totals};
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
    /// The number of the last plan.
    tick: u64,
    due: Due,
    /// Who was considered or read since the sample before: what the totals hold of them may be another.
    looked_at: Vec<u32>,
    /// The kernel's own threads, which are not in the stream.
    kernel: FxHashSet<u32>,
    totals: Totals,
}

impl PssSampler {
    /// A sampler for a selection.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        let sources = selection.columns.iter().filter(|column| column.name != "time").map(source).collect();
        Self {
            selection,
            sources,
            mib_ns: MIB_NS,
            purse_ns: 0,
            tick: 0,
            due: Due::default(),
            looked_at: Vec::new(),
            kernel: FxHashSet::default(),
            totals: Totals::default(),
        }
    }

    /// Takes another selection; what was learned stays.
    pub fn select(&mut self, selection: Selection) {
        let Self { selection, sources, .. } = Self::new(selection);
        (self.selection, self.sources) = (selection, sources);
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

    /// Chooses whom to read at this tick, of `touched` and of those whose turn it is: the most changed first, as far as the budget
    /// goes. At the first plan, and where all is to be said anew, everyone is considered.
    pub fn plan(&mut self, world: &mut World, touched: Vec<u32>, full: bool) -> Vec<Candidate> {
        self.tick += 1;
        let now = Now { tick: self.tick, ns: clock::monotonic_ns() };
        let limits = self.selection.limits;
        let mut pids = touched;
        self.due.take(&world.table, now, limits.max_age, &mut pids);
        if full || self.tick == 1 {
            pids = world.table.iter().map(|process| process.id.pid).collect();
        }
        pids.sort_unstable();
        pids.dedup();
        for pid in &pids {
            self.meet(world, *pid);
        }
        let sharers = self.due.count_sharers(&world.table, &mut world.sharers);
        if !sharers.is_empty() {
            pids.extend(sharers.keys());
            pids.sort_unstable();
            pids.dedup();
        }
        let (native, page) = (world.proc.is_native(), world.machine.page);
        let mut candidates = Vec::new();
        for pid in &pids {
            let Some(process) = world.table.get_mut(*pid) else { continue };
            let mut seen = Seen::of(process, sharers.get(pid).copied());
            if !native {
                // Nobody's clock is asked there: everyone is taken to have run.
                seen.cpu_ns = now.ns;
            }
            candidates.extend(self.consider(process, &seen, now, page));
        }
        self.looked_at.append(&mut pids);
        candidates.sort_by_key(|candidate| Reverse((candidate.overdue, candidate.wrong_by)));
        self.earn(limits);
        afford(candidates, self.purse_ns)
    }

    /// Sees to it that there is a footprint of whoever is in the stream.
    fn meet(&mut self, world: &mut World, pid: u32) {
        let Some(process) = world.table.get_mut(pid).filter(|process| process.is_read()) else { return };
        if has_memory(process) {
            self.kernel.remove(&pid);
            process.footprint.get_or_insert_default();
            self.due.note_sharer(process);
        } else {
            self.kernel.insert(pid);
        }
    }

    fn consider(&mut self, process: &mut Process, seen: &Seen, now: Now, page: u64) -> Option<Candidate> {
        let asked = process.asked.has(Wants::MEMORY);
        let footprint = process.footprint.as_mut()?;
        let candidate = footprint.consider(seen, now, &self.selection.limits, page, self.mib_ns);
        if footprint.waits {
            self.due.waits(seen.pid);
        }
        let candidate = candidate.filter(|_| !asked)?;
        Some(Candidate { kin: kin(process).unwrap_or(candidate.kin), ..candidate })
    }

    /// A tick's budget. What a tick leaves over is not saved up, beyond what one dear reading needs.
    fn earn(&mut self, limits: Limits) {
        let most = nanoseconds(limits.budget.max(limits.max_read));
        self.purse_ns = self.purse_ns.saturating_add(nanoseconds(limits.budget)).min(most);
    }

    /// Takes in what the readers brought since this was last called; answers whether there was anything.
    pub fn take(&mut self, world: &mut World, spent: &mut Spent) -> bool {
        let any = !world.taken.is_empty();
        for Weighed { pid, taken } in world.taken.drain(..) {
            self.looked_at.push(pid);
            let Some((taken, mib_ns)) = taken else { continue };
            spent.readings += 1;
            spent.cpu += taken.cpu;
            spent.longest = spent.longest.max(taken.took);
            self.purse_ns = self.purse_ns.saturating_sub(nanoseconds(taken.cpu));
            if let Some(mib_ns) = mib_ns {
                self.mib_ns = (self.mib_ns.saturating_mul(15) + mib_ns) / 16;
            }
            if let Some(footprint) = world.table.get(pid).and_then(|process| process.footprint.as_ref()) {
                self.due.was_read(pid, footprint);
            }
        }
        // One reading that cost far more than anybody could know is not paid for by everyone for an hour.
        self.purse_ns = self.purse_ns.max(-4 * nanoseconds(self.selection.limits.budget));
        any
    }

    /// Makes the sample: everyone's row if it is full, else those of `touched` (ascending) and of whoever was read.
    pub fn rows(&mut self, world: &mut World, touched: &[u32], full: bool, spent: &Spent) -> (Rows, Vec<(&'static str, String)>) {
        let mut made = Rows::default();
        for (id, visible, part) in world.ended_with_memory.drain(..) {
            self.totals.leave(part);
            self.kernel.remove(&id.pid);
            if visible {
                made.left.push(Left { id: id.into(), why: Why::Exit });
            }
        }
        let mut pids = std::mem::take(&mut self.looked_at);
        if full {
            pids = self.begin_anew(world);
        } else {
            pids.extend_from_slice(touched);
            pids.sort_unstable();
            pids.dedup();
        }
        let World { table, names, terminals, machine, swap, .. } = world;
        let context = Context::new(names, terminals, machine, *swap);
        let now_ns = clock::monotonic_ns();
        for pid in pids {
            let Some(process) = table.get_mut(pid).filter(|process| has_memory(process)) else { continue };
            // Born after the plan: its turn comes with the next.
            let Some(mut footprint) = process.footprint.take() else { continue };
            if full || footprint.row_due || !footprint.visible || touched.binary_search(&pid).is_ok() {
                let view = context.view(process, None);
                let values = self.sources.iter().map(|source| value(*source, &view, &footprint, now_ns)).collect();
                let marks = view.marks();
                (footprint.refused, footprint.stuck) = (marks.refused, marks.late);
                footprint.visible = true;
                made.rows.push(Row { id: process.id.into(), values });
            }
            footprint.shown();
            self.totals.bring_up_to_date(&mut footprint);
            process.footprint = Some(footprint);
        }
        let (seen, hidden) = (table.len() as u64, self.kernel.len() as u64);
        made.counts = Counts {
            seen,
            hidden,
            // Heard of, and not yet read or considered.
            vanished: seen.saturating_sub(hidden + self.totals.counted),
            refused: self.totals.refused,
            stuck: self.totals.stuck,
            read_us: micros(spent.cpu),
            ..Counts::default()
        };
        let oldest = self.due.oldest(table, now_ns);
        (made, self.totals.fields().into_iter().chain(spent.fields(oldest)).collect())
    }

    /// Everyone is looked at: whatever went wrong with the sums until now is over. Answers with all pids.
    fn begin_anew(&mut self, world: &mut World) -> Vec<u32> {
        (self.totals, self.kernel) = Default::default();
        self.due.forget_strangers(&world.table);
        for process in world.table.iter_mut_from(0) {
            if let Some(footprint) = &mut process.footprint {
                footprint.part = Part::default();
            }
            if process.is_read() && process.stat.is_kthread() {
                self.kernel.insert(process.id.pid);
            }
        }
        world.table.iter().map(|process| process.id.pid).collect()
    }
}

/// By what those are known who were forked of one and may share its memory; `None` where that is not known.
fn kin(process: &Process) -> Option<u64> {
    let mut hasher = FxHasher::default();
    (process.stat.ppid, process.facts.exe.known()?).hash(&mut hasher);
    Some(hasher.finish())
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

impl Spent {
    fn fields(&self, oldest: Duration) -> [(&'static str, String); 4] {
        [
            ("readings", self.readings.to_string()),
            ("oldest_s", format!("{}.{:03}", oldest.as_secs(), oldest.subsec_millis())),
            ("spent_us", micros(self.cpu).to_string()),
            ("longest_us", micros(self.longest).to_string()),
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
        let candidate = |pid, overdue, cost_ns| Candidate { pid, reason: Reason::Old, wrong_by: 1, overdue, cost_ns, kin: 0 };
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
                .map(|(cost_ns, pid)| Candidate { pid, reason: Reason::Changed, wrong_by: 1, overdue: false, cost_ns: *cost_ns, kin: 0 })
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
