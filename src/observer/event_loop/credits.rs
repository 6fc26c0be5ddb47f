//! The ticks of streams `credits`, `credits_process` and `budgets`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::Date;

use super::{Loop, PATIENCE};
use crate::observer::beat::{Begun, Made};
use crate::observer::credits::crediting::{Ready, STREAMS, When};
use crate::observer::schedule::Tick;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::source::clock::{self, Wall};

impl Loop {
    /// The ticks of all three; `false` where none is due.
    pub(super) fn credit(&mut self, now_ns: i64) -> bool {
        /// A state is written after each tick, but for short intervals: it takes all of the table.
        const STATE_EVERY: Duration = Duration::from_secs(10);
        let Some(tick) = self.crediting.take(now_ns) else { return false };
        self.credit_now(tick, When::Tick);
        // What was counted stands in rows now: a recorder that begins from here counts nothing twice.
        if self.last_census.is_none_or(|at| at.elapsed() >= STATE_EVERY) {
            self.census();
        }
        true
    }

    /// What was used while nobody recorded, by those that live on: a sample of its own, so that the first interval is no longer than
    /// others.
    pub(super) fn credit_at_begin(&mut self) {
        if self.crediting.has_gap() {
            self.credit_now(now(), When::Begin);
            self.census();
        }
    }

    /// What was used since the last tick, and the living: whatever comes is counted by another recorder, or by nobody.
    pub(super) fn credit_at_stop(&mut self) {
        if self.crediting.is_on() {
            self.credit_now(now(), When::Stop);
        }
    }

    fn credit_now(&mut self, tick: Tick, when: When) {
        let due = self.wall.at(tick.due_ns);
        let mut notes = self.notes_where_ps_is_off(due);
        // The machine's clocks are read with everyone's: a round of another stream at this same tick has done so.
        if when == When::Stop || !self.crediting.has_looked(&self.world) {
            if !self.round(false) {
                for stream in STREAMS {
                    self.beat_of(stream).skipped += 1;
                }
                self.notes.extend(notes);
                return;
            }
            self.crediting.look(&self.world);
            if when != When::Stop {
                let patience = self.crediting.cadence().map_or(PATIENCE, |cadence| PATIENCE.min(cadence.interval / 4));
                self.await_readers(patience);
            }
        }
        let began = Instant::now();
        self.recorder.unseen(&mut self.world);
        self.recorder.take_arguments(&mut self.world);
        let date = self.day_of(due);
        self.crediting.count(&mut self.world, due, date, when);
        self.say_what_is_not_counted(due, &mut notes);
        let boottime_ms = clock::boottime_ns() / 1_000_000;
        self.refresh_facts();
        let minutes = self.wall.minutes_of(date);
        for stream in STREAMS {
            let Some(Ready { mut rows, columns, totals }) = self.crediting.ready(&mut self.world, stream, self.facts.cpus, minutes) else {
                // Nobody waits for what it would say.
                self.crediting.taken(&mut self.world, stream);
                continue;
            };
            rows.counts.read_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let notes = std::mem::take(&mut notes);
            let begun = Begun { due, tick, full: true, everyone: true, notes, facts: Arc::clone(&self.facts), boottime_ms };
            self.offer(stream, Made { begun, rows, totals, columns });
            if self.beat_of(stream).refused == 0 {
                self.crediting.taken(&mut self.world, stream);
            }
        }
    }

    /// The day that an interval belongs to: that of its last nanosecond.
    fn day_of(&mut self, due: Moment) -> Date {
        self.wall.at(due.unix_ns.saturating_sub(1)).date()
    }

    /// Once: whose CPU time nobody can know.
    fn say_what_is_not_counted(&mut self, due: Moment, notes: &mut Vec<Note>) {
        if !STREAMS.iter().all(|stream| self.beat_of(*stream).is_first()) {
            return;
        }
        if let Some(what) = self.recorder.missing() {
            tracing::warn!(target: "observer", "There are no {what}: CPU time of processes after they were last looked at, and of those that live for less than an interval, is (unattributed) in stream credits, and its closure is lower. CAP_NET_ADMIN in the first user and pid namespace mends it; psmon doctor says more.");
            notes.push(Note::new(due, NoteKind::Degraded).with("what", "credits").with("missing", what).with("mend", "CAP_NET_ADMIN"));
        }
    }
}

/// A tick that is due for a reason of its own.
fn now() -> Tick {
    Tick { due_ns: Wall::unix_ns(), late_ns: 0, skipped: 0 }
}
