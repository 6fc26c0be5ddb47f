//! The ticks of one sampled stream: when they are due, which of them are full, and what became of those before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::samplers::ps::Rows;
use super::schedule::{Schedule, Tick};
use crate::record::ledger::{Facts, Note};
use crate::record::moment::Moment;
use crate::record::schema::Columns;
use crate::source::clock::Wall;

/// How often a stream is sampled, and how much of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// How often a sample is taken.
    pub interval: Duration,
    /// Between full samples only what changed is handed on; else every sample is full.
    pub changes: bool,
    /// How often everyone is looked at, and a sample is full.
    pub full_every: Duration,
}

/// A tick as it began.
#[derive(Debug)]
pub struct Begun {
    /// When it was due.
    pub due: Moment,
    /// The tick.
    pub tick: Tick,
    /// Every row is to be in its sample.
    pub full: bool,
    /// Everyone was looked at.
    pub everyone: bool,
    /// Notes that go with it.
    pub notes: Vec<Note>,
    /// What the header must say: as it was then.
    pub facts: Arc<Facts>,
    /// CLOCK_BOOTTIME then, milliseconds.
    pub boottime_ms: u64,
}

/// A tick that came to its end.
#[derive(Debug)]
pub struct Made {
    /// As it began.
    pub begun: Begun,
    /// What is to be written.
    pub rows: Rows,
    /// What its tick says besides.
    pub totals: Vec<(&'static str, String)>,
    /// The columns of the rows.
    pub columns: Columns,
}

/// The state of one stream's ticks.
#[derive(Debug, Default)]
pub struct Beat {
    cadence: Option<Cadence>,
    schedule: Option<Schedule>,
    /// When the tick before was due.
    last_due: Option<Moment>,
    last_full: Option<Instant>,
    /// Samples in a row that nobody took.
    pub refused: u64,
    /// Ticks that were due since the last sample that was taken, and came to nothing.
    pub skipped: u64,
}

impl Beat {
    /// Takes another cadence; `None` switches the stream off. A cadence that stays goes on as it was.
    pub fn set(&mut self, cadence: Option<Cadence>) {
        let interval = |cadence: Option<Cadence>| cadence.map(|cadence| cadence.interval);
        let before = std::mem::replace(&mut self.cadence, cadence);
        if interval(cadence) != interval(before) {
            self.begin();
        }
    }

    /// The first tick is the next from now on: what came before it took long.
    pub fn begin(&mut self) {
        self.schedule = self.cadence.map(|cadence| Schedule::every(cadence.interval, Wall::unix_ns()));
    }

    /// How often it ticks; `None` while the stream is off.
    #[must_use]
    pub const fn cadence(&self) -> Option<Cadence> {
        self.cadence
    }

    /// The tick that is due now.
    pub fn take(&mut self, now_ns: i64) -> Option<Tick> {
        self.schedule.as_mut()?.take(now_ns)
    }

    /// How long until the next tick.
    #[must_use]
    pub fn wait(&self, now_ns: i64) -> Option<Duration> {
        self.schedule.map(|schedule| Duration::from_nanos(schedule.wait_ns(now_ns).unsigned_abs()))
    }

    /// Whether everyone must be looked at: the first sample, the first of a day (it begins a segment), or when it is time again.
    pub fn everyone_is_due(&mut self, due: Moment) -> bool {
        let new_day = self.last_due.replace(due).is_none_or(|last| last.date() != due.date());
        let full_every = self.cadence.map_or(Duration::MAX, |cadence| cadence.full_every);
        new_day || self.last_full.is_none_or(|at| at.elapsed() >= full_every)
    }

    /// Whether no full sample was taken yet.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.last_full.is_none()
    }

    /// A sample was handed on.
    pub fn taken(&mut self, full: bool) {
        (self.refused, self.skipped) = (0, 0);
        if full {
            self.last_full = Some(Instant::now());
        }
    }
}
