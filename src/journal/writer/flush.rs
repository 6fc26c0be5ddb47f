//! A flush of a stream without samples is written: notes, rows, and now and then a tick, in one call.

use std::time::Instant;

use super::notes::{gap_note, lost_before};
use super::obey::Writer;
use super::work::Work;
use crate::journal::encode;
use crate::journal::plan::{Event, Gap, Tally};
use crate::record::flush::Flush;
use crate::record::ledger::Note;
use crate::record::moment::Moment;
use crate::record::stream::Stream;

impl Writer {
    pub(super) fn flush(&mut self, mut flush: Flush) {
        if flush.is_empty() {
            return;
        }
        self.look_around(flush.stream);
        self.decide_flush(&mut flush);
    }

    pub(super) fn decide_flush(&mut self, flush: &mut Flush) {
        let stream = flush.stream;
        let mut key = Vec::new();
        self.settings.format.header(&encode::header(stream, 0, &flush.facts, &flush.columns), &mut key);
        let (rows, lost) = (flush.rows.len() as u64, lost_before(&flush.notes, "rows"));
        let actions = self.plan.decide(Event::Flush { stream, due: flush.due, key, rows, lost, tick: flush.tick.is_some() });
        self.obey(actions, Work::Flush(flush));
    }

    pub(super) fn append_flush(&mut self, stream: Stream, flush: &mut Flush, shed: bool, tick: Option<Tally>, gap: Option<Gap>) {
        let began = Instant::now();
        let mut notes = std::mem::take(&mut flush.notes);
        if let Some(gap) = gap {
            notes.push(gap_note(flush.due, &gap));
        }
        let fields = tick.map(|tally| {
            let own = flush.tick.as_deref().unwrap_or_default();
            encode::flush_fields(tally.n, own, self.ledger(tally.seq, tally.shed))
        });
        let pending: Vec<Note> = self.pending_of(stream).cloned().collect();
        let Some(live) = self.live.get_mut(&stream) else {
            // It could not be opened: the flush is lost as on a full disk.
            self.keep_notes(stream, notes);
            self.failed(stream, flush.due, true);
            return;
        };
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        out.extend_from_slice(&live.header);
        for note in pending.iter().chain(&notes) {
            live.format.note(stream, note, &mut out);
        }
        if !shed {
            live.format.rows(stream, &live.columns, &flush.rows, &mut out);
        }
        if let Some(fields) = &fields {
            live.format.tick(stream, flush.due.to_string().as_bytes(), fields, &mut out);
        }
        if out.is_empty() {
            // All of it was shed, and the next tick says so.
            self.buffer = out;
            return;
        }
        let written = live.append(&mut out, fields.is_some());
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
                self.failed(stream, flush.due, empty);
            }
        }
    }

    /// Ends the live segment with a tick of its own; `false` if it could not be written, and then what asked for it
    /// is lost with it.
    pub(super) fn close_tick(&mut self, stream: Stream, due: Moment, tally: Tally, gap: Option<Gap>, work: &mut Work<'_>) -> bool {
        let began = Instant::now();
        let fields = encode::flush_fields(tally.n, &encode::closing(), self.ledger(tally.seq, tally.shed));
        let mut out = Vec::new();
        let written = match self.live.get_mut(&stream) {
            Some(live) => {
                if let Some(gap) = gap {
                    live.format.note(stream, &gap_note(due, &gap), &mut out);
                }
                live.format.tick(stream, due.to_string().as_bytes(), &fields, &mut out);
                live.append(&mut out, true).map_err(|error| error.to_string())
            }
            None => Err(format!("{stream}.log is not open")),
        };
        match written {
            Ok(()) => {
                self.written(stream, out.len() as u64, began.elapsed());
                true
            }
            Err(why) => {
                let since = work.head().map_or(due, |head| head.due);
                self.keep_notes(stream, work.take_notes());
                self.disk_trouble(&why);
                self.failed(stream, since, false);
                false
            }
        }
    }
}
