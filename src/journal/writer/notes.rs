//! Notes: into every live segment, and kept where none takes them.

use std::collections::BTreeSet;

use super::obey::Writer;
use crate::journal::plan::Gap;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// Notes that may wait for a segment.
const PENDING: usize = 256;

/// A note and the streams that have not yet said it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    note: Note,
    streams: BTreeSet<Stream>,
}

/// What a note of a sample or a flush is about: these concern every stream, whichever brought them.
const fn concerns_all(kind: NoteKind) -> bool {
    matches!(kind, NoteKind::Clock | NoteKind::Suspend)
}

impl Writer {
    /// The streams that are recorded, or were until now.
    fn streams(&self) -> BTreeSet<Stream> {
        self.settings.keeping.shares.keys().chain(self.live.keys()).copied().collect()
    }

    /// Notes of what is not written go out with the next that is; what is missing itself is the plan's to tell.
    pub(super) fn keep_notes(&mut self, stream: Stream, notes: Vec<Note>) {
        let others = notes.into_iter().filter(|note| !matches!(note.kind, NoteKind::FullDisk | NoteKind::Gap));
        self.pending.extend(others.take(64).map(|note| Waiting { note, streams: BTreeSet::from([stream]) }));
        self.pending.truncate(PENDING);
    }

    /// Takes a note that every stream is to say with the next it writes.
    pub(super) fn expect(&mut self, note: Note) {
        let streams = self.streams();
        self.pending.push(Waiting { note, streams });
    }

    /// The notes that wait for a stream.
    pub(super) fn pending_of(&self, stream: Stream) -> impl Iterator<Item = &Note> {
        self.pending.iter().filter(move |waiting| waiting.streams.contains(&stream)).map(|waiting| &waiting.note)
    }

    /// A stream has said all that waited for it.
    pub(super) fn said(&mut self, stream: Stream) {
        self.pending.retain_mut(|waiting| {
            waiting.streams.remove(&stream);
            !waiting.streams.is_empty()
        });
    }

    /// Of the notes that came with one stream's sample, those that concern all go to the others too.
    pub(super) fn spread(&mut self, stream: Stream, notes: &[Note]) {
        for note in notes.iter().filter(|note| concerns_all(note.kind)) {
            for other in self.streams().into_iter().filter(|other| *other != stream) {
                self.note_in(other, note);
            }
        }
    }

    /// Notes that waited for a sample which never came go into what is there.
    pub(super) fn flush_notes(&mut self) {
        for Waiting { note, streams } in std::mem::take(&mut self.pending) {
            for stream in streams {
                if self.live.get(&stream).is_some_and(|live| live.len > 0) {
                    self.note_in(stream, &note);
                }
            }
        }
    }

    /// A note for every stream; where there is no live segment, or something waits already, it waits for the next write.
    pub(super) fn note(&mut self, note: &Note) {
        for stream in self.streams() {
            self.note_in(stream, note);
        }
    }

    pub(super) fn note_in(&mut self, stream: Stream, note: &Note) {
        let in_order = self.pending_of(stream).next().is_none();
        let mut said = false;
        if let Some(live) = self.live.get_mut(&stream).filter(|live| live.len > 0 && in_order) {
            let mut line = Vec::new();
            live.format.note(stream, note, &mut line);
            said = live.write(&line).is_ok();
            if said {
                live.crc.update(&line);
            }
        }
        if !said && self.pending.len() < PENDING {
            self.pending.push(Waiting { note: note.clone(), streams: BTreeSet::from([stream]) });
        }
    }
}

/// How many of these (`samples`, `rows`) were made and never came here, as their maker notes them.
pub(in crate::journal) fn lost_before(notes: &[Note], what: &str) -> u64 {
    let counts = notes
        .iter()
        .filter(|note| note.kind == NoteKind::Gap)
        .filter_map(|note| note.text.split(' ').find_map(|pair| pair.strip_prefix(what)?.strip_prefix('=')));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// The note that tells of a gap.
pub(super) fn gap_note(due: Moment, gap: &Gap) -> Note {
    let kind = if gap.disk { NoteKind::FullDisk } else { NoteKind::Gap };
    let mut note = Note::new(due, kind);
    if gap.samples > 0 {
        note = note.with("samples", gap.samples);
    }
    if gap.rows > 0 {
        note = note.with("rows", gap.rows);
    }
    match gap.since {
        Some(since) => note.with("since", since),
        None => note,
    }
}
