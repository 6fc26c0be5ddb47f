//! The samples: a tick of each sampled stream, and what goes with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{FACTS_EVERY, Last, Loop, NOTES, PATIENCE, SLICE, STEP_NS, read_facts};
use crate::observer::beat::{Beat, Begun, Made};
use crate::observer::facts::Reading;
use crate::observer::readers::Readers;
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
        let notes = self.notes_where_ps_is_off(due);
        if !self.look(cadence.interval, everyone) {
            self.weighing.beat.skipped += 1;
            self.notes.extend(notes);
            if everyone {
                self.full_wanted.ask(Stream::Pss);
            }
            return;
        }
        let (facts, boottime_ms) = (Arc::clone(&self.facts), clock::boottime_ns() / 1_000_000);
        let full = everyone || !cadence.changes;
        self.weighing.begin(&mut self.world, Begun { due, tick, full, everyone, notes, facts, boottime_ms });
        self.census_if_due();
    }

    /// The ticks of streams `usage` and `usage_process`; `false` where none is due.
    pub(super) fn meter(&mut self, now_ns: i64) -> bool {
        let ticks = [(Stream::Usage, self.metering.programs.take(now_ns)), (Stream::UsageProcess, self.metering.processes.take(now_ns))];
        let Some(tick) = ticks.iter().find_map(|(_, tick)| *tick) else { return false };
        let due = self.wall.at(tick.due_ns);
        let Some(cadence) = self.metering.programs.cadence().or_else(|| self.metering.processes.cadence()) else { return true };
        let mut everyone = false;
        for (stream, tick) in ticks {
            if let Some(tick) = tick {
                self.beat_of(stream).skipped += tick.skipped;
                everyone |= self.everyone_is_due(stream, due);
            }
        }
        let mut notes = self.notes_where_ps_is_off(due);
        if !self.look(cadence.interval, everyone) {
            for (stream, _) in ticks.iter().filter(|(_, tick)| tick.is_some()) {
                self.beat_of(*stream).skipped += 1;
                if everyone {
                    self.full_wanted.ask(*stream);
                }
            }
            self.notes.extend(notes);
            return true;
        }
        let began = Instant::now();
        self.metering.start(&mut self.world, everyone);
        self.metering.ask_sockets(&mut self.world);
        while !self.metering.advance(&mut self.world, Instant::now() + SLICE) {
            self.hear_all();
        }
        let until = Instant::now() + PATIENCE.min(cadence.interval / 4);
        let left = || until.saturating_duration_since(Instant::now());
        let is_done = |readers: &Readers| readers.is_settled() && readers.has_sockets();
        self.await_until(left(), is_done);
        // Who holds which is known only now, and perhaps whose namespace nobody has met before.
        if self.metering.ask_lists(&mut self.world) {
            self.await_until(left(), is_done);
            self.metering.ask_sockets_met(&mut self.world);
            self.await_until(left(), is_done);
        }
        self.metering.count(&mut self.world);
        if ticks.iter().all(|(stream, tick)| tick.is_none() || self.beat_of(*stream).is_first()) {
            self.say_whose_io_is_refused(due, &mut notes);
        }
        let boottime_ms = clock::boottime_ns() / 1_000_000;
        let full = everyone || !cadence.changes;
        for (stream, tick) in ticks {
            let Some(tick) = tick else { continue };
            let Some((mut rows, columns)) = self.metering.rows(&mut self.world, stream, full) else { continue };
            rows.counts.read_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let notes = std::mem::take(&mut notes);
            let begun = Begun { due, tick, full, everyone, notes, facts: Arc::clone(&self.facts), boottime_ms };
            self.offer(stream, Made { begun, rows, totals: Vec::new(), columns });
        }
        self.census_if_due();
        true
    }

    /// Looks at everybody, unless a round of another stream at this same tick has just done so; `false` where `/proc` could not be
    /// listed.
    fn look(&mut self, interval: Duration, everyone: bool) -> bool {
        let young = (interval / 10).min(Duration::from_secs(1));
        let is_seen = self.last_round.is_some_and(|(at, all)| at.elapsed() < young && (all || !everyone));
        if !is_seen {
            if !self.round(everyone) {
                return false;
            }
            self.await_readers(PATIENCE.min(interval / 4));
            self.recorder.unseen(&mut self.world);
            self.recorder.take_arguments(&mut self.world);
        }
        true
    }

    /// What waits to be noted, and what the clocks did: stream `ps` says it where it is on.
    pub(super) fn notes_where_ps_is_off(&mut self, due: Moment) -> Vec<Note> {
        if self.beat.cadence().is_some() {
            return Vec::new();
        }
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.clock_notes(due));
        notes
    }

    pub(super) fn beat_of(&mut self, stream: Stream) -> &mut Beat {
        if let Some(beat) = self.crediting.beat(stream) {
            return beat;
        }
        match stream {
            Stream::Pss => &mut self.weighing.beat,
            Stream::Usage => &mut self.metering.programs,
            Stream::UsageProcess => &mut self.metering.processes,
            _ => &mut self.beat,
        }
    }

    /// Hands a sample on.
    pub(super) fn offer(&mut self, stream: Stream, made: Made) {
        let Made { begun: Begun { due, tick, full, everyone, mut notes, facts, boottime_ms }, rows, totals, columns } = made;
        let refused = std::mem::take(&mut self.beat_of(stream).refused);
        let skipped = self.beat_of(stream).skipped;
        let mut counts = rows.counts;
        counts.late_ms = u64::try_from(tick.late_ns / 1_000_000).unwrap_or(0);
        counts.skipped = skipped;
        counts.boottime_ms = boottime_ms;
        let kept = notes.clone();
        if refused > 0 {
            notes.push(Note::new(due, NoteKind::Gap).with("samples", refused).with("why", "queue"));
        }
        let sample = Sample { stream, facts, columns, due, full, rows: rows.rows, left: rows.left, counts, totals, notes };
        if (self.take)(Output::Sample(Box::new(sample))).is_ok() {
            self.beat_of(stream).taken(everyone);
        } else {
            // What this sample said is lost, so the next must say everything.
            self.beat_of(stream).refused = refused + 1;
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

    /// Once: of how many this user may see neither io, descriptors nor sockets.
    fn say_whose_io_is_refused(&self, due: Moment, notes: &mut Vec<Note>) {
        let (mut refused, mut all) = (0_usize, 0_usize);
        for process in self.world.table.iter() {
            let Some(usage) = process.usage.as_deref() else { continue };
            all += 1;
            let sockets = matches!(process.held.as_deref(), Some(Reading::Refused));
            refused += usize::from(sockets || matches!(usage.io, Reading::Refused) || matches!(usage.fds, Reading::Refused));
        }
        // Some single process is refused even to root.
        if refused > 2 {
            tracing::warn!(target: "observer", "The io, descriptors or sockets of {refused} of {all} processes may not be read by this user: they are ?, and so are those of their programs. psmon doctor names the mend.");
            notes.push(Note::new(due, NoteKind::Degraded).with("what", "io").with("refused", refused).with("of", all));
        }
    }

    /// Whether a stream's next sample must look at everyone: somebody asked, or it is time.
    fn everyone_is_due(&mut self, stream: Stream, due: Moment) -> bool {
        // Facts that changed make it ask for all streams.
        self.refresh_facts();
        let wanted = self.full_wanted.take(stream);
        self.beat_of(stream).everyone_is_due(due) || wanted
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
