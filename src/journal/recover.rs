//! What a start finds in a live segment, and how it goes on in it.

use std::io::{self, BufRead};

use super::encode::Format;
use super::line::{Header, Line};
use super::reader::{Mark, RawLines, Reader};
use crate::record::moment::Moment;

/// A live segment as a start finds it.
#[derive(Debug)]
pub struct Inspection {
    /// Its header, where it has a good one.
    pub header: Option<Header>,
    /// How it is written.
    pub format: Format,
    /// Time and number of the last tick that checks.
    pub last: Option<(Moment, u64)>,
    /// What follows that tick, other than whole notes.
    pub torn: Option<Torn>,
    /// CRC since that tick.
    pub crc: crc32fast::Hasher,
    /// Its size.
    pub bytes: u64,
}

/// A torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Lines that are or may have been rows.
    pub rows: u64,
    /// Bytes after the last tick that checks.
    pub bytes: u64,
    /// The last line has no newline.
    pub half_line: bool,
}

/// Reads a live segment from its start.
///
/// # Errors
/// It could not be read.
pub fn inspect(input: impl BufRead) -> io::Result<Inspection> {
    let mut lines = RawLines::new(input);
    let mut reader = Reader::default();
    let mut found = Inspection { header: None, format: Format::Text, last: None, torn: None, crc: crc32fast::Hasher::new(), bytes: 0 };
    let mut tail = Torn { rows: 0, bytes: 0, half_line: false };
    let mut only_notes = true;
    while let Some(raw) = lines.read()? {
        if raw.offset == 0 && raw.bytes.first() == Some(&b'{') {
            found.format = Format::Json;
        }
        tail.bytes += raw.bytes.len() as u64 + u64::from(raw.ended);
        tail.half_line = !raw.ended;
        match raw.mark {
            Mark::Tick if raw.checks => {
                if let Some(Line::Tick(tick)) = reader.read(&raw) {
                    found.last = Some((tick.time, tick.count("seq").unwrap_or(0)));
                }
                tail = Torn { rows: 0, bytes: 0, half_line: false };
                only_notes = true;
            }
            Mark::TornNote if raw.ended => {
                tail = Torn { rows: 0, bytes: 0, half_line: false };
                only_notes = true;
            }
            Mark::Header | Mark::Explanation => {
                reader.read(&raw);
                // A header without a sample is the beginning of one.
                only_notes &= found.last.is_none() && raw.ended;
            }
            Mark::Note if raw.ended => {}
            _ => {
                tail.rows += u64::from(raw.mark == Mark::Row);
                only_notes = false;
            }
        }
    }
    found.header = reader.header().cloned();
    found.bytes = lines.offset();
    found.crc = lines.crc();
    found.torn = (!only_notes && tail.bytes > 0).then_some(tail);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::changes::News;
    use crate::journal::encode::{Ledger, header, tick_fields};
    use crate::record::ledger::{Facts, Note, NoteKind};
    use crate::record::sample::Counts;
    use crate::record::schema::Columns;
    use crate::record::stream::Stream;
    use proptest::prelude::*;

    const TIME: Moment = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 0 };

    fn segment(format: Format, ticks: u64) -> Vec<u8> {
        let facts = Facts {
            host: "h".into(),
            boot: "b".into(),
            pidns: "1".into(),
            tz: "UTC".into(),
            hz: 100,
            page: 4096,
            cpus: 1,
            version: "0".into(),
        };
        let columns = Columns::standard(Stream::Ps);
        let mut out = Vec::new();
        format.header(&header(Stream::Ps, 7, &facts, &columns), &mut out);
        let mut from = 0;
        for seq in 1..=ticks {
            let fields = tick_fields(&Counts::default(), &[], seq == 1, &News::default(), Ledger { seq, ..Ledger::default() });
            format.tick(Stream::Ps, TIME.to_string().as_bytes(), &fields, &mut out);
            let crc = crc32fast::hash(&out[from..]);
            format.end_tick(crc, &mut out);
            from = out.len();
        }
        out
    }

    #[test]
    fn a_whole_segment_is_gone_on_with() {
        for format in [Format::Text, Format::Json] {
            let mut bytes = segment(format, 3);
            let found = inspect(bytes.as_slice()).unwrap();
            assert_eq!((found.last, found.torn, found.format), (Some((TIME, 3)), None, format));
            assert_eq!(found.header.unwrap().seg, 7);
            // A stop note after the last tick is no tear, and the next tick covers it.
            let whole = bytes.len();
            format.note(Stream::Ps, &Note::new(TIME, NoteKind::Stop), &mut bytes);
            let found = inspect(bytes.as_slice()).unwrap();
            assert_eq!(found.torn, None);
            assert_eq!(found.crc.finalize(), crc32fast::hash(&bytes[whole..]));
        }
    }

    proptest! {
        // Whatever follows the last good tick: it is found again, and the tail is told in full.
        #[test]
        fn a_torn_tail_is_found(ticks in 1_u64..5, tail in proptest::collection::vec(any::<u8>(), 1..200), json: bool) {
            let format = if json { Format::Json } else { Format::Text };
            let mut bytes = segment(format, ticks);
            bytes.extend_from_slice(&tail);
            let found = inspect(bytes.as_slice()).unwrap();
            prop_assert_eq!(found.last, Some((TIME, ticks)));
            let torn = found.torn.unwrap();
            prop_assert_eq!(torn.bytes, tail.len() as u64);
            prop_assert_eq!(torn.half_line, tail.last() != Some(&b'\n'));
        }

        // A cut anywhere leaves the ticks before it.
        #[test]
        fn a_cut_anywhere_costs_what_follows_the_tick_before(at in 0_usize..2000) {
            let bytes = segment(Format::Text, 4);
            let cut = &bytes[..at.min(bytes.len())];
            let last = cut.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(b"#tick ") && line.ends_with(b"\n")).count() as u64;
            let found = inspect(cut).unwrap();
            prop_assert_eq!(found.last.map_or(0, |(_, seq)| seq), last);
        }
    }
}
