//! The records of a segment that are meant, sample by sample: what no tick proves is no record.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead};
use std::rc::Rc;

use super::filter::{Filter, Places};
use super::lines::{Form, Layout};
use crate::journal::line::{Line, Names};
use crate::journal::reader::{Mark, RawLine, RawLines, Reader};
use crate::record::schema::Column;
use crate::record::stream::Stream;

/// How much of one sample is held until its tick comes, bytes. The largest that a recorder writes has a tenth of it; more is damage.
const LARGEST_SAMPLE: usize = 256 << 20;

/// What is to be shown.
#[derive(Debug)]
pub struct Plan {
    /// Of which stream.
    pub stream: Stream,
    /// How.
    pub form: Form,
    /// The columns that were asked for; none: those of the segment.
    pub columns: Vec<&'static Column>,
    /// Which records.
    pub filter: Filter,
    /// Ticks and notes too.
    pub notes: bool,
}

/// A record as it is shown.
#[derive(Clone, Debug)]
pub struct Record {
    /// What must stand above it, once.
    pub heading: Rc<[u8]>,
    /// The line.
    pub line: Box<[u8]>,
    kind: RecordKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordKind {
    /// A row, or that something left: part of a sample.
    Sampled,
    /// The recorder about itself.
    Note,
}

/// What was not shown, and should be known.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Records of samples that do not check, or were torn.
    pub torn: u64,
    /// Records behind the last tick of the live segment.
    pub open: u64,
    /// Lines of samples that check, which nobody could read.
    pub unreadable: u64,
    /// Columns that were to be looked at, and that a segment does not have.
    pub missing: BTreeSet<&'static str>,
}

/// Reads a segment and hands over what is meant, in order.
///
/// # Errors
/// Of the outer one: whoever takes records failed. Of the inner: the segment could not be read to its end.
pub fn read(
    input: impl BufRead,
    live: bool,
    plan: &Plan,
    left_out: &mut LeftOut,
    mut take: impl FnMut(Record) -> io::Result<()>,
) -> io::Result<io::Result<()>> {
    let mut lines = RawLines::new(input);
    let mut reader = Reader::default();
    let mut segment = Segment::new(plan);
    loop {
        let raw = match lines.read() {
            Ok(Some(raw)) => raw,
            Ok(None) => break,
            // What was read and checks has been handed over.
            Err(error) => return Ok(Err(error)),
        };
        let line = raw.ended.then(|| reader.read(&raw)).flatten();
        let closed = match &line {
            Some(Line::Header(_) | Line::Columns(_)) => {
                segment.columns(reader.names(), left_out);
                false
            }
            Some(line @ Line::Note { time, .. }) => {
                if raw.mark == Mark::TornNote {
                    segment.tear(left_out);
                }
                if plan.notes && plan.filter.takes_time(*time) {
                    segment.add(&raw, line, RecordKind::Note);
                }
                false
            }
            Some(line @ Line::Row { time, values }) => {
                if plan.filter.takes_time(*time) && plan.filter.takes_row(segment.places, values) {
                    segment.add(&raw, line, RecordKind::Sampled);
                }
                false
            }
            Some(line @ Line::Gone { time, id, .. }) => {
                if plan.filter.takes_time(*time) && plan.filter.takes_gone(id) {
                    segment.add(&raw, line, RecordKind::Sampled);
                }
                false
            }
            Some(line @ Line::Tick(tick)) => {
                if !raw.checks {
                    segment.tear(left_out);
                } else if plan.notes && plan.filter.takes_time(tick.time) {
                    segment.add(&raw, line, RecordKind::Sampled);
                }
                raw.checks
            }
            Some(Line::Help(_)) => false,
            None => {
                segment.unreadable += 1;
                false
            }
        };
        if closed {
            left_out.unreadable += std::mem::take(&mut segment.unreadable);
            left_out.torn += std::mem::take(&mut segment.too_much);
            segment.bytes = 0;
            for record in segment.pending.drain(..) {
                take(record)?;
            }
        }
    }
    // Rows of a stream without samples are written before their tick: of the live segment they are as good as they come.
    if live && !plan.stream.has_samples() {
        segment.too_much = 0;
    } else if live {
        left_out.open += segment.drop_sampled();
    } else {
        segment.tear(left_out);
    }
    for record in segment.pending.drain(..) {
        take(record)?;
    }
    Ok(Ok(()))
}

struct Segment<'a> {
    plan: &'a Plan,
    layout: Layout,
    heading: Rc<[u8]>,
    places: Places,
    /// Of the sample under way: what is meant, its size, what was too much, and lines that are none.
    pending: VecDeque<Record>,
    bytes: usize,
    too_much: u64,
    unreadable: u64,
}

impl<'a> Segment<'a> {
    fn new(plan: &'a Plan) -> Self {
        let layout = Layout::new(plan.stream, plan.form, &Names::default(), &plan.columns);
        Self {
            plan,
            layout,
            heading: Rc::from([]),
            places: Places::default(),
            pending: VecDeque::new(),
            bytes: 0,
            too_much: 0,
            unreadable: 0,
        }
    }

    fn columns(&mut self, names: &Names, left_out: &mut LeftOut) {
        // The first line of a text header names none; the next does.
        if names.0.is_empty() {
            return;
        }
        self.layout = Layout::new(self.plan.stream, self.plan.form, names, &self.plan.columns);
        self.heading = self.layout.heading().into();
        self.places = self.plan.filter.places(names, &mut left_out.missing);
    }

    fn add(&mut self, raw: &RawLine<'_>, line: &Line, kind: RecordKind) {
        if self.bytes > LARGEST_SAMPLE {
            self.too_much += 1;
            return;
        }
        let mut bytes = Vec::new();
        let as_it_stands = match self.plan.form {
            Form::Text => raw.bytes.first() != Some(&b'{'),
            Form::Json => raw.bytes.first() == Some(&b'{'),
            Form::Csv => false,
        };
        match line {
            // The columns of a row may be others than those of the segment.
            _ if as_it_stands && (self.plan.columns.is_empty() || raw.mark != Mark::Row) => {
                bytes.extend_from_slice(raw.bytes);
                bytes.push(b'\n');
            }
            Line::Row { time, values } => self.layout.row(*time, values, &mut bytes),
            other => self.layout.other(other, &mut bytes),
        }
        if !bytes.is_empty() {
            self.bytes += bytes.len() + size_of::<Record>();
            self.pending.push_back(Record { heading: Rc::clone(&self.heading), line: bytes.into(), kind });
        }
    }

    /// What was told since the last tick is of no sample, but for notes.
    fn tear(&mut self, left_out: &mut LeftOut) {
        left_out.torn += self.drop_sampled();
    }

    fn drop_sampled(&mut self) -> u64 {
        let before = self.pending.len();
        self.pending.retain(|record| record.kind == RecordKind::Note);
        self.bytes = self.pending.iter().map(|record| record.line.len() + size_of::<Record>()).sum();
        self.unreadable = 0;
        (before - self.pending.len()) as u64 + std::mem::take(&mut self.too_much)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
