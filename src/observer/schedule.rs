//! When a tick is due: aligned to the wall clock, free of drift; a late one is skipped and counted.

use std::time::Duration;

/// The schedule of one sampler. Pure: the clock is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    interval_ns: i64,
    due_ns: i64,
}

/// A tick that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When it was due, nanoseconds since the epoch.
    pub due_ns: i64,
    /// How late it is.
    pub late_ns: i64,
    /// Ticks before it that nobody took.
    pub skipped: u64,
}

impl Schedule {
    /// As [`Schedule::new`], of an interval as the config says it.
    #[must_use]
    pub fn every(interval: Duration, now_ns: i64) -> Self {
        Self::new(i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX), now_ns)
    }

    /// The first tick is the first multiple of the interval after `now_ns`.
    #[must_use]
    pub const fn new(interval_ns: i64, now_ns: i64) -> Self {
        let interval_ns = if interval_ns < 1 { 1 } else { interval_ns };
        Self { interval_ns, due_ns: aligned(interval_ns, now_ns) + interval_ns }
    }

    /// How long until the next tick; 0 when it is due.
    #[must_use]
    pub const fn wait_ns(&self, now_ns: i64) -> i64 {
        let wait = self.due_ns - now_ns;
        // A wall clock that was set back leaves the next tick far away: it is no further than an interval.
        if wait > self.interval_ns {
            aligned(self.interval_ns, now_ns) + self.interval_ns - now_ns
        } else if wait > 0 {
            wait
        } else {
            0
        }
    }

    /// The tick that is due now; `None` if none is. Of several that are due only the last is taken.
    pub const fn take(&mut self, now_ns: i64) -> Option<Tick> {
        if self.due_ns - now_ns > self.interval_ns {
            self.due_ns = aligned(self.interval_ns, now_ns) + self.interval_ns;
        }
        if now_ns < self.due_ns {
            return None;
        }
        let due_ns = aligned(self.interval_ns, now_ns);
        let skipped = (due_ns - self.due_ns) / self.interval_ns;
        self.due_ns = due_ns + self.interval_ns;
        Some(Tick { due_ns, late_ns: now_ns - due_ns, skipped: skipped.unsigned_abs() })
    }
}

const fn aligned(interval_ns: i64, now_ns: i64) -> i64 {
    now_ns.div_euclid(interval_ns) * interval_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn ticks_are_aligned_and_late_ones_are_counted() {
        let mut schedule = Schedule::new(10 * S, 1003 * S);
        assert_eq!(schedule.wait_ns(1003 * S), 7 * S);
        assert_eq!(schedule.take(1009 * S), None);
        assert_eq!(schedule.take(1010 * S + 5), Some(Tick { due_ns: 1010 * S, late_ns: 5, skipped: 0 }));
        assert_eq!(schedule.take(1045 * S), Some(Tick { due_ns: 1040 * S, late_ns: 5 * S, skipped: 2 }));
        assert_eq!(schedule.wait_ns(1045 * S), 5 * S);
    }

    #[test]
    fn a_clock_set_back_by_an_hour_stops_nothing() {
        let mut schedule = Schedule::new(10 * S, 10_003 * S);
        let now = 10_003 * S - 3600 * S;
        assert_eq!(schedule.wait_ns(now), 7 * S);
        assert_eq!(schedule.take(now), None);
        assert_eq!(schedule.take(now + 7 * S).map(|tick| tick.due_ns), Some(6410 * S));
    }

    proptest! {
        // Whatever the clock does forwards, due times are multiples of the interval, rise, and
        // taken + skipped = all multiples between the first and the last.
        #[test]
        fn no_tick_is_lost_or_taken_twice(interval in 1_i64..100, steps in proptest::collection::vec(0_i64..300, 1..50)) {
            let mut now = 12_345;
            let mut schedule = Schedule::new(interval, now);
            let first = now.div_euclid(interval) * interval + interval;
            let (mut taken, mut skipped, mut last) = (0, 0, None);
            for step in steps {
                now += step;
                if let Some(tick) = schedule.take(now) {
                    prop_assert_eq!(tick.due_ns % interval, 0);
                    prop_assert!(tick.late_ns >= 0 && tick.late_ns < interval);
                    prop_assert!(last.is_none_or(|before| before < tick.due_ns));
                    last = Some(tick.due_ns);
                    taken += 1;
                    skipped += tick.skipped;
                }
                prop_assert!(schedule.wait_ns(now) <= interval);
            }
            if let Some(last) = last {
                prop_assert_eq!(taken + i64::try_from(skipped).unwrap(), (last - first) / interval + 1);
            }
        }
    }
}
