//! CPU time, exact, and how the sampled ticks split it.

use crate::observer::table::Process;
use crate::source::clock::ticks_to_ns;

/// CPU time: the scheduler's nanoseconds, and the sampled parts that say how they split into user and system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Nanoseconds of the scheduler.
    pub ns: u64,
    /// User part, sampled, microseconds.
    pub user_us: u64,
    /// System part, sampled, microseconds.
    pub system_us: u64,
}

impl Cpu {
    /// What a process is known to have used: as its clock said last, and what its ended tasks told.
    #[must_use]
    pub fn of(process: &Process, hz: u64) -> Self {
        let told = &process.life.account;
        let micros = |ticks: u64| ticks_to_ns(ticks, hz) / 1000;
        let ns = process.cpu_ns.max(told.cpu_ns());
        if process.stat.is_kthread() {
            // It is nowhere but in the kernel, and its ticks are not read.
            return Self { ns, user_us: 0, system_us: ns.div_ceil(1000) };
        }
        Self { ns, user_us: micros(process.stat.utime).max(told.user_us), system_us: micros(process.stat.stime).max(told.system_us) }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    /// What is in it beyond the other.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self { ns: join(self.ns, other.ns), user_us: join(self.user_us, other.user_us), system_us: join(self.system_us, other.system_us) }
    }

    /// User and system nanoseconds; without a tick nobody knows how.
    #[must_use]
    pub fn split(self) -> Option<(u64, u64)> {
        split(self.ns, self.user_us, self.system_us)
    }
}

/// The nanoseconds of the scheduler split as the sampled ticks are; without a tick nobody knows how.
#[must_use]
pub fn split(ns: u64, user: u64, system: u64) -> Option<(u64, u64)> {
    let ticks = u128::from(user) + u128::from(system);
    if ticks == 0 {
        return (ns == 0).then_some((0, 0));
    }
    let part = u64::try_from(u128::from(ns) * u128::from(user) / ticks).unwrap_or(u64::MAX);
    Some((part, ns.saturating_sub(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // user + system = cpu, wherever the split is known.
        #[test]
        fn the_split_adds_up(ns in any::<u64>(), user in 0_u64..1 << 40, system in 0_u64..1 << 40) {
            match split(ns, user, system) {
                Some((one, other)) => prop_assert_eq!(one + other, ns),
                None => prop_assert!(user == 0 && system == 0 && ns > 0),
            }
        }
    }
}
