//! The time of a collector.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::cli::ending::Call;
use crate::source::clock::Wall;

/// What time it is, and waiting.
pub trait Clock {
    /// Nanoseconds since the epoch; whoever sets the clock may set it back.
    fn wall_ns(&self) -> i64;

    /// Nanoseconds that only grow.
    fn monotonic_ns(&self) -> u64;

    /// Waits so long, or until the collector is told something.
    fn wait(&mut self, long: Duration) -> Option<Call>;
}

/// The clock of this machine, or one that runs faster from now on.
#[derive(Debug)]
pub struct SystemClock {
    speed: u32,
    began: Instant,
    began_ns: i64,
    calls: Receiver<Call>,
}

impl SystemClock {
    /// A clock that runs so many times as fast; what comes through `calls` interrupts a wait.
    #[must_use]
    pub fn new(speed: u32, calls: Receiver<Call>) -> Self {
        Self { speed: speed.max(1), began: Instant::now(), began_ns: Wall::unix_ns(), calls }
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

    fn wait(&mut self, long: Duration) -> Option<Call> {
        match self.calls.recv_timeout(long / self.speed) {
            Ok(call) => Some(call),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Call::End),
        }
    }
}
