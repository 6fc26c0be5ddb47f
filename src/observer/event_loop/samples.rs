//! The samples: a tick of each sampled stream, and what goes with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{FACTS_EVERY, Last, Loop, NOTES, PATIENCE, STEP_NS, read_facts};
use crate::observer::beat::{Begun, Made};
use crate::observer::facts::Reading;
use crate::observer::schedule::Tick;
use crate::observer::thread::Output;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::stream::Stream;
use crate::source::clock::{self, Wall};

impl Loop {
    /// A tick of stream `ps`.
    pub(super) fn tick(&mut self, tick: Tick) {
        let due = self.wall.at(tick.due_ns);
        let Some(cadence) = self.beat.cadence() else { return };
        self.beat.skipped += tick.skipped;
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.clock_notes(due));
        let everyone = self.everyone_is_due(Stream::Ps, due);
        let full = everyone || !cadence.changes;
        if !self.round(everyone) {
            // Nothing of this tick may be lost: neither that it was due, nor what its clocks or a full sample would have said.
            self.beat.skipped += 1;
            self.notes = notes;
            if everyone {
                self.full_wanted.ask(Stream::Ps);
            }
            return;
        }
        self.await_readers(PATIENCE.min(cadence.interval / 2));
        self.recorder.unseen(&mut self.world);
        self.recorder.take_arguments(&mut self.world);
        self.say_what_is_refused(due, &mut notes);
        let touched = self.touched.take();
        let looked = std::mem::take(&mut self.looked);
        let boottime_ms = clock::boottime_ns() / 1_000_000;
        let made = self.sampler.rows(&mut self.world, &touched, looked, full);
        let begun = Begun { due, tick, full, everyone, notes, facts: Arc::clone(&self.facts), boottime_ms };
        let columns = self.sampler.columns().clone();
        self.offer(Stream::Ps, Made { begun, rows: made, totals: Vec::new(), columns });
        self.census_if_due();
    }

    /// A tick of stream `pss`: the readings are planned, and the sample is made when they have come.
    pub(super) fn weigh(&mut self, tick: Tick) {
        if let Some(made) = self.weighing.finish(&mut self.world) {
            self.offer(Stream::Pss, made);
        }
        let due = self.wall.at(tick.due_ns);
        let Some(cadence) = self.weighing.beat.cadence() else { return };
        self.weighing.beat.skipped += tick.skipped;
        let everyone = self.everyone_is_due(Stream::Pss, due);
        let mut notes = Vec::new();
        if self.beat.cadence().is_none() {
            notes = std::mem::take(&mut self.notes);
            notes.extend(self.clock_notes(due));
        }
        // A round of stream ps at this same tick has just looked at everybody.
        let young = (cadence.interval / 10).min(Duration::from_secs(1));
        let is_seen = self.last_round.is_some_and(|(at, all)| at.elapsed() < young && (all || !everyone));
        if !is_seen && !self.round(everyone) {
            self.weighing.beat.skipped += 1;
            self.notes.extend(notes);
            if everyone {
                self.full_wanted.ask(Stream::Pss);
            }
            return;
        }
        if !is_seen {
            self.await_readers(PATIENCE.min(cadence.interval / 4));
            self.recorder.unseen(&mut self.world);
        }
        let (facts, boottime_ms) = (Arc::clone(&self.facts), clock::boottime_ns() / 1_000_000);
        let full = everyone || !cadence.changes;
        self.weighing.begin(&mut self.world, Begun { due, tick, full, everyone, notes, facts, boottime_ms });
        self.census_if_due();
    }

    /// Hands a sample on.
    pub(super) fn offer(&mut self, stream: Stream, made: Made) {
        let Made { begun: Begun { due, tick, full, everyone, mut notes, facts, boottime_ms }, rows, totals, columns } = made;
        let beat = if stream == Stream::Pss { &mut self.weighing.beat } else { &mut self.beat };
        let mut counts = rows.counts;
        counts.late_ms = u64::try_from(tick.late_ns / 1_000_000).unwrap_or(0);
        counts.skipped = beat.skipped;
        counts.boottime_ms = boottime_ms;
        let kept = notes.clone();
        if beat.refused > 0 {
            notes.push(Note::new(due, NoteKind::Gap).with("samples", beat.refused).with("why", "queue"));
        }
        let sample = Sample { stream, facts, columns, due, full, rows: rows.rows, left: rows.left, counts, totals, notes };
        if (self.take)(Output::Sample(Box::new(sample))).is_ok() {
            beat.taken(everyone);
        } else {
            // What this sample said is lost, so the next must say everything.
            beat.refused += 1;
            self.notes.extend(kept);
            self.notes.truncate(NOTES);
            self.full_wanted.ask(stream);
            tracing::warn!(target: "observer", "A sample of stream {stream} was dropped: the writer is behind. The next one is full.");
        }
    }

    /// Once: how much of the machine this user may not see.
    fn say_what_is_refused(&self, due: Moment, notes: &mut Vec<Note>) {
        if !self.beat.is_first() {
            return;
        }
        let refused = self.world.table.iter().filter(|process| process.facts.exe == Reading::Refused).count();
        // Some single process is refused even to root.
        if refused > 2 {
            let all = self.world.table.len();
            tracing::warn!(target: "observer", "The executables of {refused} of {all} processes may not be read by this user: their program is their own name. psmon doctor names the mend.");
            notes.push(Note::new(due, NoteKind::Degraded).with("what", "exe").with("refused", refused).with("of", all));
        }
    }

    /// Whether a stream's next sample must look at everyone: somebody asked, or it is time.
    fn everyone_is_due(&mut self, stream: Stream, due: Moment) -> bool {
        // Facts that changed make it ask for all streams.
        self.refresh_facts();
        let beat = if stream == Stream::Pss { &mut self.weighing.beat } else { &mut self.beat };
        let wanted = self.full_wanted.take(stream);
        beat.everyone_is_due(due) || wanted
    }

    /// Looks at the facts of the header.
    pub(super) fn refresh_facts(&mut self) {
        if self.facts_read.elapsed() < FACTS_EVERY {
            return;
        }
        self.facts_read = Instant::now();
        let facts = read_facts(&self.world, &mut self.wall);
        if facts != *self.facts {
            self.facts = Arc::new(facts);
            // Samples must begin anew under them, whoever found out.
            self.full_wanted.ask_all();
        }
    }

    /// What the clocks did since the tick before.
    pub(super) fn clock_notes(&mut self, due: Moment) -> Vec<Note> {
        let Some(last) = self.last.replace(Last::now()) else { return Vec::new() };
        let boot = i64::try_from(clock::boottime_ns()).unwrap_or(i64::MAX) - last.boot_ns;
        let step = Wall::unix_ns() - last.real_ns - boot;
        let slept = boot - (i64::try_from(clock::monotonic_ns()).unwrap_or(i64::MAX) - last.monotonic_ns);
        let mut notes = Vec::new();
        if slept > STEP_NS {
            notes.push(Note::new(due, NoteKind::Suspend).with("slept_ms", slept / 1_000_000));
        }
        if step.abs() > STEP_NS {
            notes.push(Note::new(due, NoteKind::Clock).with("step_ms", step / 1_000_000));
        }
        notes
    }
}
