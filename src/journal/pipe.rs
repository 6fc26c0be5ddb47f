//! One stream to standard output: no files, no lock, no rotation.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::changes::Changes;
use super::encode::{self, Format, Ledger};
use crate::record::ledger::Note;
use crate::record::sample::Sample;
use crate::record::stream::Stream;

/// Writes samples as the journal does, to anything that takes bytes.
#[derive(Debug)]
pub struct Pipe<W> {
    output: W,
    stream: Stream,
    format: Format,
    thresholds: BTreeMap<String, f64>,
    changes: Option<Changes>,
    header: Vec<u8>,
    notes: Vec<Note>,
    seg: u64,
    seq: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Pipe<W> {
    /// For one stream.
    #[must_use]
    pub fn new(output: W, stream: Stream, format: Format, thresholds: BTreeMap<String, f64>) -> Self {
        let crc = crc32fast::Hasher::new();
        Self { output, stream, format, thresholds, changes: None, header: Vec::new(), notes: Vec::new(), seg: 0, seq: 0, crc }
    }

    /// Takes new settings; the next sample begins with a header.
    pub fn reload(&mut self, format: Format, thresholds: BTreeMap<String, f64>) {
        self.format = format;
        self.thresholds = thresholds;
        self.header.clear();
    }

    /// A note, to be written before the next sample.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Writes the notes that wait.
    ///
    /// # Errors
    /// The output took them not; a closed pipe is `BrokenPipe`.
    pub fn finish(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        for note in self.notes.drain(..) {
            self.format.note(self.stream, &note, &mut out);
        }
        self.output.write_all(&out)?;
        self.output.flush()
    }

    /// Writes a sample in one call.
    ///
    /// # Errors
    /// The output took it not; a closed pipe is `BrokenPipe`.
    pub fn sample(&mut self, mut sample: Sample) -> io::Result<()> {
        let mut out = Vec::new();
        let mut key = Vec::new();
        self.format.header(&encode::header(self.stream, 0, &sample.facts, &sample.columns), &mut key);
        if key != self.header {
            if !sample.full {
                return Ok(());
            }
            self.header = key;
            self.seg += 1;
            self.crc = crc32fast::Hasher::new();
            self.changes = None;
            self.format.header(&encode::header(self.stream, self.seg, &sample.facts, &sample.columns), &mut out);
        }
        let lost = super::writer::lost_before(&sample.notes, "samples");
        for note in self.notes.drain(..).chain(sample.notes.drain(..)) {
            self.format.note(self.stream, &note, &mut out);
        }
        let changes = self.changes.get_or_insert_with(|| Changes::new(&sample.columns, &self.thresholds));
        let news = changes.news(&mut sample);
        // Samples that never came here are missing from the numbers too.
        self.seq += 1 + lost;
        let time = sample.due.to_string();
        let ledger = Ledger { seq: self.seq, ..Ledger::default() };
        self.format.news(self.stream, &sample.columns, time.as_bytes(), &news, &mut out);
        self.format.tick(self.stream, time.as_bytes(), &encode::tick_fields(&sample.counts, sample.full, &news, ledger), &mut out);
        self.crc.update(&out);
        let crc = std::mem::take(&mut self.crc).finalize();
        self.format.end_tick(crc, &mut out);
        self.output.write_all(&out)?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ledger::{Facts, NoteKind};
    use crate::record::moment::Moment;
    use crate::record::sample::Counts;
    use crate::record::schema::Columns;
    use std::sync::Arc;

    #[test]
    fn samples_that_never_came_are_missing_from_the_numbers() {
        let text = String::new;
        let facts = Facts { host: text(), boot: text(), pidns: text(), tz: text(), hz: 100, page: 4096, cpus: 1, version: text() };
        let due = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 0 };
        let sample = |notes| Sample {
            stream: Stream::Ps,
            facts: Arc::new(facts.clone()),
            columns: Columns::standard(Stream::Ps),
            due,
            full: true,
            rows: Vec::new(),
            left: Vec::new(),
            counts: Counts::default(),
            notes,
        };
        let mut out = Vec::new();
        let mut pipe = Pipe::new(&mut out, Stream::Ps, Format::Text, BTreeMap::new());
        pipe.sample(sample(Vec::new())).unwrap();
        pipe.sample(sample(vec![Note::new(due, NoteKind::Gap).with("samples", 2).with("why", "queue")])).unwrap();
        let text = String::from_utf8(out).unwrap();
        let seqs: Vec<&str> = text.lines().filter(|line| line.starts_with("#tick ")).filter_map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(seqs, ["seq=1", "seq=4"]);
    }
}
