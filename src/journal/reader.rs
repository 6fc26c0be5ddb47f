//! Reading a segment: its lines one after the other, each with its place and whether its sample checks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::line::{Header, Line, Names};
use super::segment::Name;
use super::{json, text};
use crate::record::stream::Stream;

/// A longer line is damage: 32 KiB of arguments, each byte escaped, are 128 KiB.
const LONGEST_LINE: u64 = 1 << 20;

/// What kind of line it is, told from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `#psmon`.
    Header,
    /// `#cols` or `#help`.
    Explanation,
    /// A row.
    Row,
    /// `#gone`.
    Gone,
    /// `#tick`.
    Tick,
    /// `#note`.
    Note,
    /// `#note … torn …`: what stands between it and the tick before belongs to no sample.
    TornNote,
    /// None of ours.
    Other,
}

/// One line as it stands.
#[derive(Debug)]
pub struct RawLine<'a> {
    /// Where it begins, in the uncompressed text.
    pub offset: u64,
    /// Its bytes without the newline.
    pub bytes: &'a [u8],
    /// Its newline is there.
    pub ended: bool,
    /// Of what kind it is.
    pub mark: Mark,
    /// Of a tick: its crc is that of what it closes.
    pub checks: bool,
}

/// The lines of a segment, with the CRC of each tick computed.
pub struct RawLines<R> {
    input: R,
    buffer: Vec<u8>,
    offset: u64,
    crc: crc32fast::Hasher,
}

impl<R> std::fmt::Debug for RawLines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawLines").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl<R: BufRead> RawLines<R> {
    /// From the start of a segment.
    pub fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), offset: 0, crc: crc32fast::Hasher::new() }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The file could not be read, or a compressed one could not be decompressed.
    pub fn read(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.buffer.clear();
        let count = (&mut self.input).take(LONGEST_LINE).read_until(b'\n', &mut self.buffer)?;
        if count == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        self.offset += count as u64;
        let ended = self.buffer.last() == Some(&b'\n');
        let bytes = &self.buffer[..count - usize::from(ended)];
        let mark = mark(bytes);
        let mut checks = false;
        if mark == Mark::Tick && ended {
            if let Some((domain, crc)) = split_crc(bytes) {
                self.crc.update(domain);
                checks = std::mem::take(&mut self.crc).finalize() == crc;
            } else {
                self.crc.update(&self.buffer);
            }
        } else {
            self.crc.update(&self.buffer);
            if mark == Mark::TornNote {
                self.crc = crc32fast::Hasher::new();
            }
        }
        Ok(Some(RawLine { offset, bytes, ended, mark, checks }))
    }

    /// The CRC of what was read since the last tick: with it a writer goes on where the segment ends.
    #[must_use]
    pub fn crc(&self) -> crc32fast::Hasher {
        self.crc.clone()
    }

    /// Where the next line begins.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

/// Tells a line from its first bytes.
#[must_use]
pub fn mark(line: &[u8]) -> Mark {
    match line {
        [b'#', rest @ ..] => match rest.split(|byte| *byte == b' ').next() {
            Some(b"psmon") => Mark::Header,
            Some(b"cols" | b"help") => Mark::Explanation,
            Some(b"gone") => Mark::Gone,
            Some(b"tick") => Mark::Tick,
            Some(b"note") => note(rest.splitn(3, |byte| *byte == b' ').nth(2).is_some_and(|kind| kind.starts_with(b"torn"))),
            _ => Mark::Other,
        },
        [b'{', rest @ ..] => {
            let Some(at) = memchr::memmem::find(&rest[..rest.len().min(60)], b",\"rec\":\"") else { return Mark::Other };
            let kind = &rest[at + 8..];
            match kind.split(|byte| *byte == b'"').next() {
                Some(b"header") => Mark::Header,
                Some(b"row") => Mark::Row,
                Some(b"gone") => Mark::Gone,
                Some(b"tick") => Mark::Tick,
                Some(b"note") => note(memchr::memmem::find(kind, b"\"kind\":\"torn\"").is_some()),
                _ => Mark::Other,
            }
        }
        [b'0'..=b'9', ..] => Mark::Row,
        _ => Mark::Other,
    }
}

const fn note(torn: bool) -> Mark {
    if torn { Mark::TornNote } else { Mark::Note }
}

/// Splits a tick into what its crc covers and the crc.
fn split_crc(line: &[u8]) -> Option<(&[u8], u32)> {
    let (before, digits) = if line.first() == Some(&b'{') {
        let at = memchr::memmem::rfind(line, b",\"crc\":\"")?;
        (at, line.get(at + 8..)?.strip_suffix(b"\"}")?)
    } else {
        let at = memchr::memmem::rfind(line, b" crc=")?;
        (at, line.get(at + 5..)?)
    };
    Some((&line[..before], text::parse_crc(std::str::from_utf8(digits).ok()?)?))
}

/// Reads lines for what they say, by the columns of the header before them.
#[derive(Debug, Default)]
pub struct Reader {
    header: Option<Header>,
    names: Names,
}

impl Reader {
    /// What a line says; `None` where it is damaged.
    pub fn read(&mut self, raw: &RawLine<'_>) -> Option<Line> {
        let parsed =
            if raw.bytes.first() == Some(&b'{') { json::parse(raw.bytes, &self.names) } else { text::parse(raw.bytes, &self.names) };
        match &parsed {
            Some(Line::Header(header)) => {
                self.header = Some(header.clone());
                self.name_columns(header.columns.clone());
            }
            Some(Line::Columns(columns)) => self.name_columns(columns.clone()),
            Some(Line::Help(help)) => {
                if let Some(header) = &mut self.header {
                    header.help.clone_from(help);
                }
            }
            _ => {}
        }
        parsed
    }

    fn name_columns(&mut self, columns: Vec<String>) {
        let stream = self.header.as_ref().and_then(|header| header.stream.parse::<Stream>().ok());
        self.names = Names(columns.iter().map(|name| super::line::Name::new(stream, name)).collect());
        if let Some(header) = &mut self.header {
            header.columns = columns;
        }
    }

    /// The header read last.
    #[must_use]
    pub const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The columns of the rows to come.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }
}

/// Puts segments into the order in which they were written: a clock that was set back makes an older date come later,
/// the number in the header goes up for ever. One without a readable header stays behind the one it follows by name.
pub fn sort_by_arrival(dir: &Path, names: &mut Vec<Name>) {
    // Live segments come after all closed ones of their stream.
    names.sort_by_key(|name| (name.stream.clone(), name.date.is_none(), name.date, name.number, name.compressed));
    let (mut stream, mut seg) = (String::new(), 0);
    let mut numbered: Vec<(u64, Name)> = Vec::with_capacity(names.len());
    for name in names.drain(..) {
        if name.stream != stream {
            (stream, seg) = (name.stream.clone(), 0);
        }
        seg = number(dir, &name).unwrap_or(seg);
        numbered.push((seg, name));
    }
    numbered.sort_by(|(one, first), (other, second)| first.stream.cmp(&second.stream).then(one.cmp(other)));
    names.extend(numbered.into_iter().map(|(_, name)| name));
}

fn number(dir: &Path, name: &Name) -> Option<u64> {
    let mut lines = RawLines::new(open(dir, name).ok()?);
    match Reader::default().read(&lines.read().ok()??)? {
        Line::Header(header) => Some(header.seg),
        _ => None,
    }
}

/// Opens a segment, compressed or not.
///
/// # Errors
/// It could not be opened, or is no zstd file.
pub fn open(dir: &Path, name: &Name) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(dir.join(name.to_string()))?;
    if name.compressed {
        Ok(Box::new(BufReader::with_capacity(1 << 17, zstd::Decoder::new(file)?)))
    } else {
        Ok(Box::new(BufReader::with_capacity(1 << 17, file)))
    }
}
