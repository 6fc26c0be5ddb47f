//! Notes: into every live segment, and kept where none takes them.

use super::obey::Writer;
use crate::journal::plan::Gap;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// Notes that may wait for a segment.
const PENDING: usize = 256;

impl Writer {
    /// Notes of what is not written go out with the next that is; what is missing itself is the plan's to tell.
    pub(super) fn keep_notes(&mut self, notes: Vec<Note>) {
        let others = notes.into_iter().filter(|note| !matches!(note.kind, NoteKind::FullDisk | NoteKind::Gap));
        self.pending.extend(others.take(64));
        self.pending.truncate(PENDING);
    }

    /// Notes that waited for a sample which never came go into what is there.
    pub(super) fn flush_notes(&mut self) {
        for note in std::mem::take(&mut self.pending) {
            let streams: Vec<Stream> = self.live.keys().copied().collect();
            for stream in streams {
                self.note_in(stream, &note);
            }
        }
    }

    /// A note for every live segment; while there is none it waits for the next one.
    pub(super) fn note(&mut self, note: Note) {
        let streams: Vec<Stream> = self.live.iter().filter(|(_, live)| live.len > 0).map(|(stream, _)| *stream).collect();
        if streams.is_empty() || !self.pending.is_empty() {
            self.pending.push(note);
            return;
        }
        for stream in streams {
            self.note_in(stream, &note);
        }
    }

    pub(super) fn note_in(&mut self, stream: Stream, note: &Note) {
        let Some(live) = self.live.get_mut(&stream).filter(|live| live.len > 0) else {
            self.pending.push(note.clone());
            return;
        };
        let mut line = Vec::new();
        live.format.note(stream, note, &mut line);
        match live.write(&line) {
            Ok(()) => live.crc.update(&line),
            Err(_) => self.pending.push(note.clone()),
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
