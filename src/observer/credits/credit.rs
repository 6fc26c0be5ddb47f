//! What a process remembers of the account it counts for.

use super::account::Place;
use super::cpu::Cpu;

/// What a process remembers of the account it counts for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credit {
    /// Its account; `None` while it counts for none.
    pub(super) place: Option<Place>,
    /// What was counted of its life, for whatever account, or was used before anybody counted.
    pub(super) counted: Cpu,
    /// It executed or changed its user, and all that it had used by then was counted: what comes is of what it is now.
    pub(super) moved: bool,
    /// What it executes was not known at the tick before.
    pub(super) waited: bool,
    /// It ended, and all of it was counted.
    pub(super) closed: bool,
    /// What rows of stream `credits_process` told of it.
    pub told: Told,
}

/// What rows of stream `credits_process` told of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// CPU time of its life up to the last row, nanoseconds; or what it had used when recording began.
    pub cpu_ns: u64,
    /// When that was, CLOCK_BOOTTIME nanoseconds; 0: at its birth.
    pub boot_ns: u64,
    /// How many rows told of it.
    pub parts: u32,
}
