//! One stream to standard output: no files, no lock, no rotation.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::changes::Changes;
use super::encode::{self, Format, Ledger};
use crate::record::flush::Flush;
use crate::record::ledger::{Facts, Note};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::schema::Columns;
use crate::record::stream::Stream;

/// Writes samples and flushes as the journal does, to anything that takes bytes.
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
    /// Of a stream without samples: rows since the last tick, and when the last flush of them was due.
    open: Option<(u64, Moment)>,
    /// A tick that goes out with what comes next.
    owed: Vec<u8>,
}

impl<W: Write> Pipe<W> {
    /// For one stream.
    #[must_use]
    pub fn new(output: W, stream: Stream, format: Format, thresholds: BTreeMap<String, f64>) -> Self {
        Self {
            output,
            stream,
            format,
            thresholds,
            changes: None,
            header: Vec::new(),
            notes: Vec::new(),
            seg: 0,
            seq: 0,
            crc: crc32fast::Hasher::new(),
            open: None,
            owed: Vec::new(),
        }
    }

    /// Takes new settings; what comes next begins with a header.
    pub fn reload(&mut self, format: Format, thresholds: BTreeMap<String, f64>) {
        self.close();
        self.format = format;
        self.thresholds = thresholds;
        self.header.clear();
    }

    /// A note, to be written before what comes next.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Writes the tick and the notes that wait.
    ///
    /// # Errors
    /// The output took them not; a closed pipe is `BrokenPipe`.
    pub fn finish(&mut self) -> io::Result<()> {
        self.close();
        let mut out = std::mem::take(&mut self.owed);
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
        if let Some(key) = self.new_key(&sample.facts, &sample.columns) {
            if !sample.full {
                return Ok(());
            }
            self.begin(key, &sample.facts, &sample.columns, &mut out);
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
        self.format.tick(
            self.stream,
            time.as_bytes(),
            &encode::tick_fields(&sample.counts, &sample.totals, sample.full, &news, ledger),
            &mut out,
        );
        self.crc.update(&out);
        let crc = std::mem::take(&mut self.crc).finalize();
        self.format.end_tick(crc, &mut out);
        self.output.write_all(&out)?;
        self.output.flush()
    }

    /// Writes a flush of a stream without samples in one call.
    ///
    /// # Errors
    /// The output took it not; a closed pipe is `BrokenPipe`.
    pub fn flush(&mut self, flush: Flush) -> io::Result<()> {
        if flush.is_empty() {
            return Ok(());
        }
        let key = self.new_key(&flush.facts, &flush.columns);
        if key.is_some() {
            self.close();
        }
        let mut out = std::mem::take(&mut self.owed);
        let from = out.len();
        if let Some(key) = key {
            self.begin(key, &flush.facts, &flush.columns, &mut out);
        }
        for note in self.notes.drain(..).chain(flush.notes) {
            self.format.note(self.stream, &note, &mut out);
        }
        self.format.rows(self.stream, &flush.columns, &flush.rows, &mut out);
        let rows = self.open.map_or(0, |(rows, _)| rows) + flush.rows.len() as u64;
        self.open = Some((rows, flush.due));
        match &flush.tick {
            Some(own) => self.tick(rows, flush.due, own, from, &mut out),
            None => self.crc.update(&out[from..]),
        }
        self.output.write_all(&out)?;
        self.output.flush()
    }

    /// What the header must say, where it is not what the last one said.
    fn new_key(&self, facts: &Facts, columns: &Columns) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        self.format.header(&encode::header(self.stream, 0, facts, columns), &mut key);
        (key != self.header).then_some(key)
    }

    /// Begins a segment.
    fn begin(&mut self, key: Vec<u8>, facts: &Facts, columns: &Columns, out: &mut Vec<u8>) {
        self.header = key;
        self.seg += 1;
        self.crc = crc32fast::Hasher::new();
        self.changes = None;
        self.format.header(&encode::header(self.stream, self.seg, facts, columns), out);
    }

    /// Ends a segment that has rows since its last tick with one of its own, so that none belongs to no sample.
    fn close(&mut self) {
        if let Some((rows, due)) = self.open.filter(|(rows, _)| *rows > 0) {
            let mut out = std::mem::take(&mut self.owed);
            let from = out.len();
            self.tick(rows, due, &encode::closing(), from, &mut out);
            self.owed = out;
        }
    }

    /// Appends the tick of a stream without samples, which closes what stands there since `from`.
    fn tick(&mut self, rows: u64, due: Moment, own: &[(&'static str, String)], from: usize, out: &mut Vec<u8>) {
        self.seq += 1;
        self.open = None;
        let fields = encode::flush_fields(rows, own, Ledger { seq: self.seq, ..Ledger::default() });
        self.format.tick(self.stream, due.to_string().as_bytes(), &fields, out);
        self.crc.update(&out[from..]);
        let crc = std::mem::take(&mut self.crc).finalize();
        self.format.end_tick(crc, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::line::Line;
    use crate::journal::reader::{RawLines, Reader};
    use crate::record::flush::TimedRow;
    use crate::record::ledger::NoteKind;
    use crate::record::sample::Counts;
    use crate::record::value::Value;
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
            totals: Vec::new(),
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

    fn flush(seconds: i64, rows: usize, tick: bool) -> Flush {
        let text = String::new;
        let facts = Facts { host: text(), boot: text(), pidns: text(), tz: text(), hz: 100, page: 4096, cpus: 1, version: text() };
        let columns = Columns::standard(Stream::Events);
        let due = Moment { unix_ns: 1_795_190_530_000_000_000 + seconds * 1_000_000_000, offset_s: 0 };
        let values = vec![Value::Absent; columns.len() - 1].into_boxed_slice();
        let rows = vec![TimedRow { time: due, values }; rows];
        let tick = tick.then(|| vec![("births", "3".to_owned())]);
        Flush { stream: Stream::Events, facts: Arc::new(facts), columns, due, rows, tick, notes: Vec::new() }
    }

    #[test]
    fn flushes_are_counted_by_their_ticks_in_either_format() {
        let mut out = Vec::new();
        let mut pipe = Pipe::new(&mut out, Stream::Events, Format::Text, BTreeMap::new());
        pipe.flush(flush(0, 0, false)).unwrap();
        pipe.flush(flush(1, 2, false)).unwrap();
        pipe.flush(flush(2, 1, true)).unwrap();
        pipe.flush(flush(3, 4, false)).unwrap();
        pipe.reload(Format::Json, BTreeMap::new());
        pipe.flush(flush(4, 5, false)).unwrap();
        pipe.note(Note::new(flush(5, 0, false).due, NoteKind::Stop));
        pipe.finish().unwrap();
        let mut raw = RawLines::new(out.as_slice());
        let (mut reader, mut seen, mut headers) = (Reader::default(), Vec::new(), 0);
        while let Some(line) = raw.read().unwrap() {
            // A segment on standard output is told by its header; its crc begins there.
            match reader.read(&line).unwrap() {
                Line::Header(_) => headers += 1,
                Line::Tick(tick) => {
                    assert!(line.checks, "{tick:?}");
                    let closing = tick.field("closing") == Some("1");
                    assert_eq!(tick.field("births").is_none(), closing);
                    seen.push((tick.count("seq").unwrap(), tick.count("n").unwrap(), closing));
                }
                _ => {}
            }
        }
        assert_eq!((headers, seen), (2, vec![(1, 3, false), (2, 4, true), (3, 5, true)]));
        assert!(out.ends_with(b"\"kind\":\"stop\",\"text\":\"\"}\n"));
    }
}
