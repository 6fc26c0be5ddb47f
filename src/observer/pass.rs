//! The readings of one tick, spread over a window: a machine full of processes is not read in one burst.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::footprint::Candidate;

/// The longest window: a sample is of one moment, and not of a minute.
const LONGEST: Duration = Duration::from_secs(5);
/// What is worth waking up for: small readings go together.
const AT_ONCE_NS: u64 = 2_000_000;
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
    /// Spreads these over a quarter of the interval.
    #[must_use]
    pub fn new(chosen: Vec<Candidate>, interval: Duration, began: Instant) -> Self {
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
            let mut group_ns = 0;
            while group_ns < AT_ONCE_NS
                && let Some(candidate) = self.queue.pop_front()
            {
                group_ns += candidate.cost_ns;
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

    proptest! {
        // Everyone is handed out once, in order, within the window, and never much more than its share of the time so far.
        #[test]
        fn readings_are_spread(costs in proptest::collection::vec(1_u64..20_000_000, 1..60), interval_ms in 1_u64..60_000) {
            let chosen: Vec<Candidate> = costs
                .iter()
                .zip(0..)
                .map(|(cost_ns, pid)| Candidate { pid, reason: Reason::New, wrong_by: 0, overdue: false, cost_ns: *cost_ns })
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
