//! A sample is written: notes, what is new, and its tick, in one call.

use std::time::{Duration, Instant};

use super::notes::{gap_note, lost_before};
use super::obey::Writer;
use super::work::Work;
use crate::journal::changes::News;
use crate::journal::encode::{self, Ledger};
use crate::journal::plan::{Event, Gap};
use crate::record::ledger::{Note, NoteKind};
use crate::record::sample::Sample;
use crate::record::stream::Stream;

impl Writer {
    pub(super) fn sample(&mut self, mut sample: Sample) {
        let stream = sample.stream;
        self.look_around(stream);
        let lost = lost_before(&sample.notes, "samples");
        let mut key = Vec::new();
        self.settings.format.header(&encode::header(stream, 0, &sample.facts, &sample.columns), &mut key);
        let actions = self.plan.decide(Event::Sample { stream, due: sample.due, full: sample.full, key, lost });
        self.obey(actions, Work::Sample(&mut sample));
    }

    pub(super) fn append_sample(&mut self, stream: Stream, sample: &mut Sample, seq: u64, shed: bool, gap: Option<Gap>) {
        let began = Instant::now();
        let mut notes = std::mem::take(&mut sample.notes);
        notes.retain(|note| note.kind != NoteKind::Gap);
        if let Some(gap) = gap {
            notes.push(gap_note(sample.due, &gap));
        }
        let ledger = self.ledger(seq, 0);
        let pending: Vec<Note> = self.pending_of(stream).cloned().collect();
        let Some(live) = self.live.get_mut(&stream) else {
            // It could not be opened: the sample is lost as on a full disk.
            self.keep_notes(stream, notes);
            self.failed(stream, sample.due, true);
            return;
        };
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        out.extend_from_slice(&live.header);
        for note in pending.iter().chain(&notes) {
            live.format.note(stream, note, &mut out);
        }
        let news = live.changes.news(sample);
        let left = news.left.clone();
        let mut time = Vec::with_capacity(29);
        sample.due.write(3, &mut time);
        let (news, ledger) = if shed { (News::default(), Ledger { shed: news.rows.len() as u64, ..ledger }) } else { (news, ledger) };
        live.format.news(stream, &live.columns, &time, &news, &mut out);
        live.format.tick(stream, &time, &encode::tick_fields(&sample.counts, &sample.totals, sample.full, &news, ledger), &mut out);
        let written = live.append(&mut out, true);
        if shed || written.is_err() {
            live.changes.unsaid(left);
        }
        let empty = live.len == 0 && !live.torn;
        let bytes = self.give_back(out);
        match written {
            Ok(()) => {
                self.said(stream);
                self.spread(stream, &notes);
                self.written(stream, bytes, began.elapsed());
            }
            Err(error) => {
                self.keep_notes(stream, notes);
                self.disk_trouble(&error.to_string());
                self.failed(stream, sample.due, empty);
            }
        }
    }

    /// What only the writer knows of a tick.
    pub(super) fn ledger(&self, seq: u64, shed: u64) -> Ledger {
        Ledger { seq, shed, prev_write_us: u64::try_from(self.prev_write.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Keeps the buffer for the next; answers how many bytes were in it.
    pub(super) fn give_back(&mut self, mut out: Vec<u8>) -> u64 {
        let bytes = out.len() as u64;
        // A full sample of a large machine needs megabytes once in ten minutes: they are not held in between.
        if out.capacity() > 1 << 20 {
            out = Vec::new();
        }
        self.buffer = out;
        bytes
    }

    /// So many bytes were written.
    pub(super) fn written(&mut self, stream: Stream, bytes: u64, took: Duration) {
        self.prev_write = took;
        self.disk_failed = false;
        self.slow(took, "write");
        let actions = self.plan.decide(Event::Written { stream, bytes, now: self.began.elapsed() });
        self.obey(actions, Work::Nothing);
    }
}
