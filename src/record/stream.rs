//! The streams: kinds of record, each with a file of its own.

use std::fmt;
use std::str::FromStr;

/// A kind of record with its own file in the log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// The process table.
    Ps,
    /// Proportional set sizes.
    Pss,
    /// What programs use: io, fds, threads, sockets, CPU, memory.
    Usage,
    /// The same for each process.
    UsageProcess,
    /// CPU credits per program and user.
    Credits,
    /// CPU credits per process.
    CreditsProcess,
    /// Balances of CPU budgets.
    Budgets,
    /// Events as the kernel told them.
    Events,
    /// Obituaries.
    Exits,
    /// What was found about processes.
    Alerts,
    /// The machine as a whole.
    Host,
}

impl Stream {
    /// All streams, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Ps,
        Self::Pss,
        Self::Usage,
        Self::UsageProcess,
        Self::Credits,
        Self::CreditsProcess,
        Self::Budgets,
        Self::Events,
        Self::Exits,
        Self::Alerts,
        Self::Host,
    ];

    /// The name that stands in file names, headers and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ps => "ps",
            Self::Pss => "pss",
            Self::Usage => "usage",
            Self::UsageProcess => "usage_process",
            Self::Credits => "credits",
            Self::CreditsProcess => "credits_process",
            Self::Budgets => "budgets",
            Self::Events => "events",
            Self::Exits => "exits",
            Self::Alerts => "alerts",
            Self::Host => "host",
        }
    }

    /// Whether something looks at intervals and each tick closes what it saw. The others are told of what happens:
    /// their rows have times of their own, and a tick only says how many there were.
    #[must_use]
    pub const fn has_samples(self) -> bool {
        !matches!(self, Self::Events | Self::Exits | Self::Alerts)
    }

    /// Whether a row of a sample stands until another of the same process or program replaces it, or it is said to have left. In
    /// the others a row is of its interval: nothing stands, and nothing leaves.
    #[must_use]
    pub const fn stands(self) -> bool {
        matches!(self, Self::Ps | Self::Pss | Self::Usage | Self::UsageProcess)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no stream.
#[derive(Debug, Clone, thiserror::Error)]
#[error("'{word}' is not a stream; the streams are {}", Stream::ALL.map(Stream::name).join(", "))]
pub struct UnknownStream {
    /// What was said.
    pub word: String,
}

impl FromStr for Stream {
    type Err = UnknownStream;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|stream| stream.name() == word).ok_or_else(|| UnknownStream { word: word.to_owned() })
    }
}
