//! What a program spent as one effective user.

use std::sync::Arc;

use super::cpu::Cpu;

/// Whose an account is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// The kernel's own threads.
    Kernel,
    /// A program's.
    Program(Arc<[u8]>),
}

impl Whose {
    /// The name of the kernel's threads as a program.
    pub const KERNEL: &[u8] = b"(kernel)";
    /// The name of what no program is known to have spent.
    pub const UNATTRIBUTED: &[u8] = b"(unattributed)";

    /// The program as rows name it. Whoever calls itself by a name that is no program's does not hide behind it.
    #[must_use]
    pub fn name(&self) -> Arc<[u8]> {
        match self {
            Self::Kernel => Self::KERNEL.into(),
            Self::Program(name) if **name == *Self::KERNEL || **name == *Self::UNATTRIBUTED => [b"\\", &**name].concat().into(),
            Self::Program(name) => Arc::clone(name),
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Program(one), Self::Program(other)) => Arc::ptr_eq(one, other) || one == other,
            (one, other) => one == other,
        }
    }
}

/// A program, and the effective user; `None` where that is not known.
pub type Key = (Whose, Option<u32>);

/// The place of an account among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub(super) usize);

/// What was counted up to some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// CPU time.
    pub spent: Cpu,
    /// Processes that came.
    pub started: u64,
    /// Processes that left.
    pub exited: u64,
}

/// One account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Whose it is.
    pub key: Key,
    /// Since it was opened.
    pub totals: Totals,
    /// How many processes count for it.
    pub members: u64,
    /// CPU time of the day that is counted, nanoseconds.
    pub day_ns: u64,
    /// Up to the tick before: what lies beyond belongs to no day yet.
    pub(super) ticked_ns: u64,
    /// Up to the last sample that was taken: what lies beyond is the interval's.
    pub(super) sampled: Totals,
}

impl Account {
    /// Of somebody who has spent nothing yet.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self { key, totals: Totals::default(), members: 0, day_ns: 0, ticked_ns: 0, sampled: Totals::default() }
    }

    /// Nobody counts for it, and all that was counted stands in samples and in a day.
    pub(super) fn is_idle(&self) -> bool {
        self.members == 0 && self.ticked_ns == self.totals.spent.ns && self.interval() == Totals::default()
    }

    /// What was counted since the last sample that was taken.
    #[must_use]
    pub fn interval(&self) -> Totals {
        Totals {
            spent: self.totals.spent.beyond(self.sampled.spent),
            started: self.totals.started - self.sampled.started,
            exited: self.totals.exited - self.sampled.exited,
        }
    }
}
