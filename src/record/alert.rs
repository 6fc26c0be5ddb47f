//! What stream `alerts` is about, as the journal names it.

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertKind {
    /// A limit is near, or reached.
    Limit,
    /// A program that is expected is not there.
    Absent,
    /// A budget of CPU runs out.
    Budget,
    /// Something is wrong, and samples are finer for a while.
    Burst,
    /// A process does not answer.
    Stuck,
    /// The kernel killed a process for its memory.
    Oom,
}

impl AlertKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Limit, Self::Absent, Self::Budget, Self::Burst, Self::Stuck, Self::Oom];

    /// The word in the column `kind`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Absent => "absent",
            Self::Budget => "budget",
            Self::Burst => "burst",
            Self::Stuck => "stuck",
            Self::Oom => "oom",
        }
    }

    /// Whether it lasts until it is said to be over; a kill is over at once.
    #[must_use]
    pub const fn lasts(self) -> bool {
        !matches!(self, Self::Oom)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Will go wrong if it goes on.
    Warn,
    /// Goes wrong now.
    Crit,
    /// What was said before is over.
    Ok,
}

impl Level {
    /// The word in the column `level`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Crit => "crit",
            Self::Ok => "ok",
        }
    }
}
