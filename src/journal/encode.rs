//! A sample, or a flush, becomes the bytes of its lines.

use super::changes::News;
use super::line::Header;
use super::{json, text};
use crate::record::flush::TimedRow;
use crate::record::ledger::{FORMAT_VERSION, Facts, Note};
use crate::record::sample::Counts;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::value::Value;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns, for people, grep and awk.
    Text,
    /// One object a line.
    Json,
}

/// What only the writer knows of a tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// Number of the sample.
    pub seq: u64,
    /// Rows that were shed to keep the stream's share.
    pub shed: u64,
    /// Time the sample before took to encode and write, microseconds.
    pub prev_write_us: u64,
}

/// The header of a segment.
#[must_use]
pub fn header(stream: Stream, seg: u64, facts: &Facts, columns: &Columns) -> Header {
    Header {
        version: FORMAT_VERSION,
        stream: stream.name().to_owned(),
        seg,
        fields: facts.fields().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        columns: columns.iter().map(|column| column.name.to_owned()).collect(),
        help: help(stream),
    }
}

/// The sentence for whoever reads the file itself.
fn help(stream: Stream) -> String {
    let row = match stream {
        Stream::Events => "an event",
        Stream::Exits => "an obituary",
        Stream::Alerts => {
            return "one row an alert; level ok says that the one before of the same is over; a #tick each 10 s says how many stand; - does not exist, ? was refused or late; is it whole: psmon verify".to_owned();
        }
        Stream::Credits | Stream::CreditsProcess | Stream::Budgets | Stream::Host => {
            let live = match stream {
                Stream::Credits => "; the table now: psmon credits",
                _ => "",
            };
            return format!(
                "each row is of the interval that its tick ends, or of the life it names; add them up; - does not exist, ? was refused or late; is it whole: psmon verify{live}"
            );
        }
        Stream::Ps | Stream::Pss | Stream::Usage | Stream::UsageProcess => {
            return format!(
                "rows are changes; a sample with full=1 is complete; - does not exist, ? was refused or late; is it whole: psmon verify; the table now: psmon {stream}"
            );
        }
    };
    format!(
        "one row {row}; a #tick each 10 s says how many were seen and lost; - does not exist, ? was refused or late; is it whole: psmon verify; live: psmon {stream}"
    )
}

impl Format {
    /// Appends a header.
    pub fn header(self, header: &Header, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_header(header, out),
            Self::Json => json::write_header(header, out),
        }
    }

    /// Appends a note.
    pub fn note(self, stream: Stream, note: &Note, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_note(note.time, note.kind.words(), &note.text, out),
            Self::Json => json::write_note(stream.name(), note.time, note.kind.words(), &note.text, out),
        }
    }

    /// Appends the rows of a sample and what left.
    pub fn news(self, stream: Stream, columns: &Columns, time: &[u8], news: &News, out: &mut Vec<u8>) {
        for row in &news.rows {
            self.row(stream, columns, time, &row.values, out);
        }
        for left in &news.left {
            match self {
                Self::Text => text::write_gone(time, &left.id.word(), left.why.word(), out),
                Self::Json => json::write_gone(stream.name(), time, &left.id.name(), left.why.word(), out),
            }
        }
    }

    /// Appends the rows of a flush, each with its own time.
    pub fn rows(self, stream: Stream, columns: &Columns, rows: &[TimedRow], out: &mut Vec<u8>) {
        let mut time = Vec::with_capacity(35);
        for row in rows {
            time.clear();
            row.time.write(9, &mut time);
            self.row(stream, columns, &time, &row.values, out);
        }
    }

    fn row(self, stream: Stream, columns: &Columns, time: &[u8], values: &[Value], out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_row(columns, time, values, out),
            Self::Json => json::write_row(Some(stream.name()), columns, Some(time), values, out),
        }
    }

    /// Appends a tick up to its crc.
    pub fn tick(self, stream: Stream, time: &[u8], fields: &[(&str, String)], out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_tick(time, fields, out),
            Self::Json => json::write_tick(stream.name(), time, fields, out),
        }
    }

    /// Ends a tick.
    pub fn end_tick(self, crc: u32, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::end_tick(crc, out),
            Self::Json => json::end_tick(crc, out),
        }
    }
}

/// The fields of a tick, in their order. seen = n + unchanged + hidden + vanished (+ shed).
#[must_use]
pub fn tick_fields(
    counts: &Counts,
    totals: &[(&'static str, String)],
    full: bool,
    news: &News,
    ledger: Ledger,
) -> Vec<(&'static str, String)> {
    let rows = news.rows.len() as u64;
    let rest = rows + counts.hidden + counts.vanished + ledger.shed;
    let mut fields = vec![
        ("seq", ledger.seq.to_string()),
        ("full", u8::from(full && ledger.shed == 0).to_string()),
        ("n", rows.to_string()),
        ("unchanged", counts.seen.saturating_sub(rest).to_string()),
        ("hidden", counts.hidden.to_string()),
        ("vanished", counts.vanished.to_string()),
        ("seen", counts.seen.to_string()),
        ("gone", news.left.len().to_string()),
        ("refused", counts.refused.to_string()),
        ("stuck", counts.stuck.to_string()),
        ("late_ms", counts.late_ms.to_string()),
        ("skipped", counts.skipped.to_string()),
        ("read_us", counts.read_us.to_string()),
        ("prev_write_us", ledger.prev_write_us.to_string()),
        ("boottime", format!("{}.{:03}", counts.boottime_ms / 1000, counts.boottime_ms % 1000)),
    ];
    if ledger.shed > 0 {
        fields.push(("shed", ledger.shed.to_string()));
    }
    if let Some(missed) = counts.gate_missed {
        fields.push(("gate_missed", missed.to_string()));
    }
    fields.extend_from_slice(totals);
    fields
}

/// The fields of the tick of a stream without samples, in their order: `own` are those of whoever made it.
#[must_use]
pub fn flush_fields(n: u64, own: &[(&'static str, String)], ledger: Ledger) -> Vec<(&'static str, String)> {
    let mut fields = vec![("seq", ledger.seq.to_string()), ("n", n.to_string())];
    fields.extend_from_slice(own);
    fields.push(("prev_write_us", ledger.prev_write_us.to_string()));
    if ledger.shed > 0 {
        fields.push(("shed", ledger.shed.to_string()));
    }
    fields
}

/// The own field of a tick that the writer makes itself, to end a segment before it is left: what whoever makes the
/// others counts besides is not known there.
#[must_use]
pub fn closing() -> [(&'static str, String); 1] {
    [("closing", "1".to_owned())]
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
