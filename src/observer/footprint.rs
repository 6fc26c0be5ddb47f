//! What the pss sampler remembers of a process, and what it says about the next reading.
//!
//! A reading of `smaps_rollup` is the dearest there is and holds its target up, so it is made again only when something says that
//! it would bring something new, and but for the one reading that `max_age` asks for a process is not held for more than a small
//! share of its time.

use std::sync::Arc;
use std::time::Duration;

use super::facts::Reading;
use super::table::Process;
use super::weight::Part;
use crate::source::ReadError;
use crate::source::smaps::{Memory, Taken};

/// A process is held up for no more than this part of its time: a reading that took 10 ms is followed by none for 4 s, and none
/// for more than `max_age`.
const HELD_SHARE: u32 = 400;
/// After so many samples a reading is made again whatever is said.
pub const SAMPLES: u32 = 30;
/// What a reading costs beside what each MiB adds.
const BASE_NS: u64 = 20_000;
/// What a MiB costs as long as nothing was learned.
pub const MIB_NS: u64 = 20_000;
const MIB: u64 = 1 << 20;

/// The last reading of a process and what was so when it was made.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// What was read.
    pub memory: Reading<Memory>,
    /// When, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    read_ns: u64,
    /// When it was asked for last, likewise.
    pub asked_ns: u64,
    /// When it was first considered, and when an attempt was last made, likewise.
    known_ns: u64,
    tried_ns: u64,
    /// It was read since the sample before.
    pub fresh: bool,
    /// What is known changed since its last row.
    pub row_due: bool,
    /// Its row holds a value that could not be had in time.
    pub stuck: bool,
    /// It is too dear to be read more often than at `max_age`.
    pub cooling: bool,
    /// The last attempt was not answered in time.
    pub late: bool,
    /// Its row holds a refused value.
    pub refused: bool,
    /// It is in the stream.
    pub visible: bool,
    /// The plan before its last reading, or before its first; and the last plan that considered it.
    since_tick: u64,
    planned_tick: u64,
    /// At the last plan there was a reason to read it, or it did not answer.
    pub waits: bool,
    /// What the totals hold of it.
    pub part: Part,
    /// The executable under which it is noted as one who shares.
    pub exe: Option<Arc<[u8]>>,
    /// Its CPU clock, resident pages and minor faults then.
    cpu_ns: u64,
    rss_pages: u64,
    min_flt: u64,
    /// How many had its executable then, and at the plan: they share its memory.
    sharers: u32,
    sharers_now: u32,
    /// What a MiB of it costs to read, nanoseconds; 0 before the first reading.
    mib_ns: u64,
    /// How long the last reading held it up.
    took: Duration,
    /// Minor faults at the last plan, and a running mean of them between two: more than usual is a burst.
    planned_flt: u64,
    usual_flt: u64,
    /// More faults than usual since the plan before.
    bursts: bool,
}

/// Why a process should be read, the strongest reason that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The reading is old.
    Old,
    /// So many who share its executable were born or died that its part of what they share is another.
    Sharer,
    /// It ran, and its memory moved or it touched new pages.
    Changed,
    /// It was never read.
    New,
}

/// A process that should be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub pid: u32,
    /// Why.
    pub reason: Reason,
    /// By how many bytes its reading may be wrong, the more the longer it waits.
    pub wrong_by: u64,
    /// Its reading, or the wait for its first, is as old as `max_age`.
    pub overdue: bool,
    /// What a reading is expected to cost, CPU nanoseconds.
    pub cost_ns: u64,
    /// The same for those who may share memory: the children of one parent that have one executable.
    pub kin: u64,
}

/// When a plan is made.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The number of the plan, from 1.
    pub tick: u64,
    /// CLOCK_MONOTONIC nanoseconds.
    pub ns: u64,
}

impl Now {
    /// How long ago that was.
    #[must_use]
    pub const fn since(self, ns: u64) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(ns))
    }
}

/// What became of a reading.
#[derive(Clone, Copy, Debug)]
pub struct Weighed {
    /// Whose it was.
    pub pid: u32,
    /// What was read, and what a MiB cost where that could be told; `None` where it was not answered in time.
    pub taken: Option<(Taken, Option<u64>)>,
}

/// The limits of the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time that the readings of a tick may cost.
    pub budget: Duration,
    /// A process whose reading costs more is read at `max_age` only.
    pub max_read: Duration,
    /// A reading older than this comes first, whatever it costs; one older than [`SAMPLES`] samples is due.
    pub max_age: Duration,
}

impl Footprint {
    /// A sample was made of it.
    pub const fn shown(&mut self) {
        (self.fresh, self.row_due) = (false, false);
    }

    /// Whether and why a process should be read; `page` is the size of a page, `mib_ns` what a MiB costs elsewhere.
    pub fn consider(&mut self, process: &Seen, now: Now, limits: &Limits, page: u64, mib_ns: u64) -> Option<Candidate> {
        if self.known_ns == 0 {
            self.known_ns = now.ns;
            self.planned_flt = process.min_flt;
            (self.since_tick, self.planned_tick) = (now.tick.saturating_sub(1), now.tick.saturating_sub(1));
        }
        // Whoever was not considered meanwhile did not run: no faults.
        self.notice_burst(process.min_flt, now.tick.saturating_sub(self.planned_tick).saturating_sub(1));
        self.planned_tick = now.tick;
        let samples = now.tick.saturating_sub(self.since_tick);
        self.waits = false;
        self.sharers_now = process.sharers.unwrap_or(self.sharers_now);
        let other_share = self.other_share();
        let rss = process.rss_pages.saturating_mul(page);
        let ran = process.cpu_ns != self.cpu_ns;
        let never = self.read_ns == 0;
        let moved = process.rss_pages.abs_diff(self.rss_pages);
        let faults = process.min_flt.saturating_sub(self.min_flt).min(process.rss_pages);
        let one_per_cent = self.rss_pages / 100;
        let since = |ns: u64| now.since(ns);
        let age = since(if never { self.known_ns } else { self.read_ns });
        let overdue = age >= limits.max_age;
        if self.late && !ran && since(self.tried_ns) < limits.max_age {
            // It did not answer, and has not run since: it would not answer now.
            self.waits = true;
            return None;
        }
        let (reason, wrong_by) = if never {
            (Reason::New, rss)
        } else if moved > one_per_cent || (ran && faults > one_per_cent) {
            (Reason::Changed, moved.max(faults).saturating_mul(page))
        } else if let Some(wrong_by) = other_share {
            (Reason::Sharer, wrong_by)
        } else if samples >= u64::from(SAMPLES) || overdue {
            (Reason::Old, rss / 100)
        } else {
            return None;
        };
        self.waits = true;
        let cost_ns = BASE_NS + (rss / 1024).saturating_mul(if self.mib_ns == 0 { mib_ns } else { self.mib_ns }) / 1024;
        self.cooling = u128::from(cost_ns) > limits.max_read.as_nanos();
        if self.cooling && (!overdue || self.bursts) {
            return None;
        }
        // Whatever it does, it is not held for more than its share; but no reading gets older than `max_age` for that.
        if self.tried_ns != 0 && since(self.tried_ns) < (self.took * HELD_SHARE).min(limits.max_age) {
            return None;
        }
        let wrong_by = wrong_by.saturating_mul(samples.max(1));
        Some(Candidate { pid: process.pid, reason, wrong_by, overdue, cost_ns, kin: process.pid.into() })
    }

    /// By how much its part of what it shares is another with another number of sharers, where that is more than one per cent of
    /// what was read. A worker that ends and is replaced changes nobody's part.
    fn other_share(&self) -> Option<u64> {
        let memory = self.memory.known()?;
        let shared = memory.pss.saturating_sub(memory.uss);
        let wrong_by = shared.saturating_mul(self.sharers_now.abs_diff(self.sharers).into()) / u64::from(self.sharers_now.max(1));
        (wrong_by > memory.pss / 100).then_some(wrong_by)
    }

    /// More faults than twice the usual and than a handful: it takes its own lock now more than it does otherwise.
    fn notice_burst(&mut self, min_flt: u64, calm: u64) {
        const HANDFUL: u64 = 1000;
        for _ in 0..calm.min(64) {
            self.usual_flt = self.usual_flt.saturating_mul(7) / 8;
        }
        let faults = min_flt.saturating_sub(std::mem::replace(&mut self.planned_flt, min_flt));
        self.bursts = faults > HANDFUL && faults > self.usual_flt.saturating_mul(2);
        self.usual_flt = self.usual_flt.saturating_mul(7).saturating_add(faults) / 8;
    }

    /// Takes a reading in. Answers what a MiB cost, where that can be told from the rest.
    pub fn take(&mut self, seen: &Seen, taken: &Taken, page: u64, now_ns: u64) -> Option<u64> {
        /// What a MiB may cost; what is beyond was spent on something else: a process with many mappings, or one whose memory was
        /// freed by the reading.
        const MIB_COSTS: std::ops::RangeInclusive<u64> = 1_000..=200_000;
        /// Of less memory the rest of the cost is the larger part.
        const TELLING: u64 = 8 * MIB;
        if taken.memory == Err(ReadError::NoDescriptor) {
            // Nothing was asked: what was known still is.
            return None;
        }
        (self.read_ns, self.tried_ns) = (now_ns, now_ns);
        (self.cpu_ns, self.rss_pages, self.min_flt) = (seen.cpu_ns, seen.rss_pages, seen.min_flt);
        (self.since_tick, self.fresh, self.late) = (self.planned_tick, true, false);
        self.sharers = self.sharers_now;
        // A reading that was itself held up, by a machine without a CPU for it, held nobody for so long.
        self.took = taken.took.min(taken.cpu * 4 + Duration::from_millis(1));
        let before = std::mem::replace(&mut self.memory, Reading::from_read(taken.memory));
        self.row_due |= self.memory != before;
        // What is refused costs next to nothing, and is not too dear.
        let rss = self.memory.known().map_or(seen.rss_pages.saturating_mul(page), |memory| memory.rss);
        let cpu_ns = u64::try_from(taken.cpu.as_nanos()).unwrap_or(u64::MAX);
        let of_memory = cpu_ns.saturating_sub(BASE_NS).saturating_mul(1024) / (rss / 1024).max(1);
        // Half of what was known and half of what is new: a process may gain or lose huge pages.
        self.mib_ns = if self.mib_ns == 0 { of_memory } else { self.mib_ns.midpoint(of_memory) }.max(1);
        (self.memory.known().is_some() && rss >= TELLING).then(|| of_memory.clamp(*MIB_COSTS.start(), *MIB_COSTS.end()))
    }

    /// It executes: all its memory is another's.
    pub const fn executed(&mut self) {
        self.rss_pages = 0;
    }

    /// It did not answer in time, `after` so long.
    pub fn give_up(&mut self, seen: &Seen, after: Duration, now_ns: u64) {
        (self.late, self.row_due) = (true, true);
        (self.tried_ns, self.took, self.cpu_ns) = (now_ns, after, seen.cpu_ns);
        self.memory = Reading::Late;
    }

    /// The plan before its last reading, and when that was, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    #[must_use]
    pub const fn read_at(&self) -> (u64, u64) {
        (self.since_tick, self.read_ns)
    }

    #[cfg(test)]
    pub(super) fn was_read_at(&mut self, tick: u64, ns: u64) {
        (self.since_tick, self.read_ns, self.memory) = (tick, ns, Reading::Known(Memory::default()));
    }

    /// Age of the reading.
    #[must_use]
    pub fn age(&self, now_ns: u64) -> Option<Duration> {
        self.memory.known().map(|_| Duration::from_nanos(now_ns.saturating_sub(self.read_ns)))
    }
}

/// What is seen of a process without reading its memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its pid.
    pub pid: u32,
    /// Its CPU clock, nanoseconds.
    pub cpu_ns: u64,
    /// Its resident pages.
    pub rss_pages: u64,
    /// Its minor faults.
    pub min_flt: u64,
    /// How many have its executable, itself among them, where somebody of them was born or died since the plan before.
    pub sharers: Option<u32>,
}

impl Seen {
    /// Of a process in the table.
    #[must_use]
    pub const fn of(process: &Process, sharers: Option<u32>) -> Self {
        Self { pid: process.id.pid, cpu_ns: process.cpu_ns, rss_pages: process.rss_pages, min_flt: process.stat.min_flt, sharers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const LIMITS: Limits =
        Limits { budget: Duration::from_millis(50), max_read: Duration::from_millis(20), max_age: Duration::from_secs(300) };

    fn at(ns: u64) -> Now {
        Now { tick: ns / S, ns }
    }

    fn seen(cpu_ns: u64, rss_pages: u64, min_flt: u64) -> Seen {
        Seen { pid: 7, cpu_ns, rss_pages, min_flt, sharers: None }
    }

    fn taken(pages: u64, micros: u64) -> Taken {
        let memory = Memory { rss: pages * 4096, pss: pages * 4096, uss: pages * 4096, ..Memory::default() };
        let took = Duration::from_micros(micros);
        Taken { memory: Ok(memory), cpu: took, took }
    }

    fn read_once(pages: u64, micros: u64) -> Footprint {
        let mut footprint = Footprint::default();
        let first = footprint.consider(&seen(1, pages, 10), at(S), &LIMITS, 4096, MIB_NS).unwrap();
        assert_eq!(first.reason, Reason::New);
        footprint.take(&seen(1, pages, 10), &taken(pages, micros), 4096, S);
        footprint
    }

    #[test]
    fn who_did_nothing_is_read_again_after_thirty_samples_or_at_max_age() {
        let mut footprint = read_once(10_000, 500);
        for second in 2..31 {
            assert_eq!(footprint.consider(&seen(1, 10_000, 10), at(second * S), &LIMITS, 4096, MIB_NS), None);
        }
        assert_eq!(footprint.consider(&seen(1, 10_000, 10), at(31 * S), &LIMITS, 4096, MIB_NS).unwrap().reason, Reason::Old);
        let mut footprint = read_once(10_000, 500);
        assert_eq!(footprint.consider(&seen(1, 10_000, 10), at(301 * S), &LIMITS, 4096, MIB_NS).unwrap().reason, Reason::Old);
    }

    #[test]
    fn a_per_cent_of_memory_or_of_faults_is_a_change() {
        let mut footprint = read_once(10_000, 500);
        assert_eq!(
            footprint.consider(&seen(2, 10_100, 110), at(2 * S), &LIMITS, 4096, MIB_NS),
            None,
            "one per cent is not more than one"
        );
        let moved = footprint.consider(&seen(2, 10_101, 10), at(3 * S), &LIMITS, 4096, MIB_NS).unwrap();
        assert_eq!((moved.reason, moved.wrong_by), (Reason::Changed, 2 * 101 * 4096), "the more the longer it waits");
        let touched = footprint.consider(&seen(2, 10_000, 300), at(4 * S), &LIMITS, 4096, MIB_NS).unwrap();
        assert_eq!((touched.reason, touched.wrong_by), (Reason::Changed, 3 * 290 * 4096));
    }

    #[test]
    fn another_number_of_sharers_is_a_change_where_much_is_shared() {
        let memory = |shared: u64| Memory { rss: 100 << 20, pss: (10 << 20) + shared, uss: 10 << 20, ..Memory::default() };
        let among = |sharers| Seen { sharers: Some(sharers), ..seen(1, 25_600, 10) };
        for (shared, now, wrong_by) in [(4 << 20, 19, Some((4 << 20) / 19)), (4 << 20, 20, None), (64 << 10, 10, None)] {
            let mut footprint = Footprint::default();
            footprint.consider(&among(20), at(S), &LIMITS, 4096, MIB_NS).unwrap();
            let taken = Taken { memory: Ok(memory(shared)), cpu: Duration::from_micros(900), took: Duration::from_micros(900) };
            footprint.take(&among(20), &taken, 4096, S);
            let candidate = footprint.consider(&among(now), at(2 * S), &LIMITS, 4096, MIB_NS);
            assert_eq!(candidate.map(|candidate| (candidate.reason, candidate.wrong_by)), wrong_by.map(|by| (Reason::Sharer, by)));
        }
    }

    #[test]
    fn what_it_costs_is_learned_and_who_is_too_dear_waits_for_max_age_and_for_calm() {
        // 400 MiB at 100 µs a MiB: 40 ms.
        let mut footprint = read_once(102_400, 40_000);
        assert_eq!(footprint.consider(&seen(2, 120_000, 20), at(30 * S), &LIMITS, 4096, MIB_NS), None);
        assert!(footprint.cooling);
        // At max_age, but in the middle of a burst.
        assert_eq!(footprint.consider(&seen(3, 120_000, 50_000), at(302 * S), &LIMITS, 4096, MIB_NS), None);
        let calm = footprint.consider(&seen(4, 120_000, 50_010), at(303 * S), &LIMITS, 4096, MIB_NS).unwrap();
        assert!(calm.cost_ns > 40_000_000, "{calm:?}");
    }

    #[test]
    fn nobody_is_held_for_more_than_its_share() {
        let mut footprint = read_once(102_400, 10_000);
        assert_eq!(
            footprint.consider(&seen(2, 120_000, 20), at(S + 3_900_000_000), &LIMITS, 4096, MIB_NS),
            None,
            "10 ms in 3.9 s"
        );
        assert!(footprint.consider(&seen(3, 120_000, 20), at(S + 4_100_000_000), &LIMITS, 4096, MIB_NS).is_some());
    }

    #[test]
    fn who_did_not_answer_is_asked_again_once_it_ran() {
        let mut footprint = Footprint::default();
        assert!(footprint.consider(&seen(1, 10, 1), at(S), &LIMITS, 4096, MIB_NS).is_some());
        footprint.give_up(&seen(1, 10, 1), Duration::from_millis(1), S);
        assert_eq!(
            (footprint.consider(&seen(1, 10, 1), at(2 * S), &LIMITS, 4096, MIB_NS), &footprint.memory),
            (None, &Reading::Late)
        );
        assert!(footprint.consider(&seen(2, 10, 1), at(3 * S), &LIMITS, 4096, MIB_NS).is_some());
    }
}
