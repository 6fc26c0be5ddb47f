//! The time of a collector.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::source::clock::Wall;

/// What time it is, and waiting.
pub trait Clock {
    /// Nanoseconds since the epoch; whoever sets the clock may set it back.
    fn wall_ns(&self) -> i64;

    /// Nanoseconds that only grow.
    fn monotonic_ns(&self) -> u64;

    /// Waits so long; `false` when the collector is to end.
    fn wait(&mut self, long: Duration) -> bool;
}

/// The clock of this machine, or one that runs faster from now on.
#[derive(Debug)]
pub struct SystemClock {
    speed: u32,
    began: Instant,
    began_ns: i64,
    ends: Receiver<()>,
}

impl SystemClock {
    /// A clock that runs so many times as fast, until something comes through `ends`.
    #[must_use]
    pub fn new(speed: u32, ends: Receiver<()>) -> Self {
        Self { speed: speed.max(1), began: Instant::now(), began_ns: Wall::unix_ns(), ends }
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        if self.speed == 1 {
            return Wall::unix_ns();
        }
        self.began_ns.saturating_add(i64::try_from(self.monotonic_ns()).unwrap_or(i64::MAX))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos().saturating_mul(self.speed.into())).unwrap_or(u64::MAX)
    }

    fn wait(&mut self, long: Duration) -> bool {
        matches!(self.ends.recv_timeout(long / self.speed), Err(RecvTimeoutError::Timeout))
    }
}
