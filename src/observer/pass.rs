//! The readings of one tick, spread over a window: a machine full of processes is not read in one burst.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::footprint::Candidate;

/// The longest window: a sample is of one moment, and not of a minute.
const LONGEST: Duration = Duration::from_secs(5);
/// What is worth waking up for: small readings go together.
const AT_ONCE_NS: u64 = 2_000_000;
/// So much of one kin: what they share lies in the caches after the first, and a worker of many costs half as much.
const KIN_AT_ONCE_NS: u64 = 10_000_000;
/// How long after the window answers are waited for: the deadline of one read, and a little.
const GRACE: Duration = Duration::from_millis(1200);

/// The readings that a tick's sample waits for.
#[derive(Debug)]
pub struct Pass {
    queue: VecDeque<Candidate>,
    began: Instant,
    window: Duration,
    total_ns: u64,
    asked_ns: u64,
    /// Those of which an answer is due.
    pub asked: Vec<u32>,
}

impl Pass {
    /// Spreads these over a quarter of the interval, each with its kin.
    #[must_use]
    pub fn new(mut chosen: Vec<Candidate>, interval: Duration, began: Instant) -> Self {
        let mut places: FxHashMap<u64, usize> = FxHashMap::default();
        for (at, candidate) in chosen.iter().enumerate() {
            places.entry(candidate.kin).or_insert(at);
        }
        chosen.sort_by_key(|candidate| places.get(&candidate.kin).copied());
        let total_ns = chosen.iter().map(|candidate| candidate.cost_ns).sum();
        Self { queue: chosen.into(), began, window: (interval / 4).min(LONGEST), total_ns, asked_ns: 0, asked: Vec::new() }
    }

    /// When the next are due; `None` when all were handed out.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.front()?;
        // Costs are laid one after the other along the window.
        let part = u128::from(self.asked_ns) * self.window.as_nanos() / u128::from(self.total_ns.max(1));
        Some(self.began + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX)))
    }

    /// Those that are due now.
    pub fn take(&mut self, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        while self.next_due().is_some_and(|at| at <= now) {
            let (mut group_ns, mut kin) = (0, None);
            while let Some(candidate) =
                self.queue.front().copied().filter(|next| group_ns < AT_ONCE_NS || (kin == Some(next.kin) && group_ns < KIN_AT_ONCE_NS))
            {
                self.queue.pop_front();
                group_ns += candidate.cost_ns;
                kin = Some(candidate.kin);
                due.push(candidate.pid);
            }
            self.asked_ns += group_ns;
        }
        self.asked.extend_from_slice(&due);
        due
    }

    /// When the sample is made whatever is missing.
    #[must_use]
    pub fn ends(&self) -> Instant {
        self.began + self.window + GRACE
    }

    /// Whether all were handed out.
    #[must_use]
    pub fn is_handed_out(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::footprint::Reason;
    use proptest::prelude::*;

    fn candidate(pid: u32, kin: u64, cost_ns: u64) -> Candidate {
        Candidate { pid, reason: Reason::New, wrong_by: 0, overdue: false, cost_ns, kin }
    }

    #[test]
    fn kin_are_read_together_where_the_first_of_them_stood() {
        let began = Instant::now();
        let chosen = [(1, 8), (2, 9), (3, 8), (4, 7), (5, 9), (6, 9)].map(|(pid, kin)| candidate(pid, kin, 1_900_000));
        let mut pass = Pass::new(chosen.to_vec(), Duration::from_secs(1), began);
        let mut groups = Vec::new();
        while let Some(due) = pass.next_due() {
            groups.push(pass.take(due));
        }
        assert_eq!(groups, [vec![1, 3], vec![2, 5, 6], vec![4]]);
        let mut pass = Pass::new((0..100).map(|pid| candidate(pid, 1, 1_000_000)).collect(), Duration::from_secs(1), began);
        assert_eq!(pass.take(began).len(), 10, "and no more of them than stay in the caches");
    }

    proptest! {
        // Everyone is handed out once, in order, within the window, and never much more than its share of the time so far.
        #[test]
        fn readings_are_spread(costs in proptest::collection::vec(1_u64..20_000_000, 1..60), interval_ms in 1_u64..60_000) {
            let chosen: Vec<Candidate> = costs
                .iter()
                .zip(0..)
                .map(|(cost_ns, pid)| candidate(pid, u64::from(pid), *cost_ns))
                .collect();
            let began = Instant::now();
            let mut pass = Pass::new(chosen, Duration::from_millis(interval_ms), began);
            let total: u64 = costs.iter().sum();
            let window = pass.window;
            let (mut out, mut given) = (Vec::new(), 0_u64);
            while let Some(due) = pass.next_due() {
                prop_assert!(due >= began && due <= began + window);
                let now = pass.take(due);
                prop_assert!(!now.is_empty());
                // What was given before this is no more than the share of the time that has passed.
                let passed = (due - began).as_nanos();
                prop_assert!(u128::from(given) * window.as_nanos() <= passed * u128::from(total) + u128::from(total));
                given += now.iter().map(|pid| costs[*pid as usize]).sum::<u64>();
                out.extend(now);
            }
            prop_assert!(pass.is_handed_out() && pass.ends() > began + window);
            prop_assert_eq!(out, (0..u32::try_from(costs.len()).unwrap()).collect::<Vec<_>>());
        }
    }
}
