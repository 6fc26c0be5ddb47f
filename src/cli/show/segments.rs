//! The segments of one stream, one after the other as they were written, while a recorder goes on renaming and compressing them.
//!
//! The directory is listed anew before each: a segment is known by its header, whatever its file is called by then.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use crate::journal::directory;
use crate::journal::line::{Header, Line};
use crate::journal::reader::{self, RawLines, Reader};
use crate::journal::segment::Name;

/// How often names may change under our hands before one segment could be opened.
const ATTEMPTS: usize = 16;
/// Where the first time must stand, lines from the start: behind the header, whatever notes are there.
const FIRST_LINES: usize = 16;
const NS_PER_H: i64 = 3_600_000_000_000;
/// How far apart local clocks of the same moment are, and some.
const SLACK_NS: i64 = 26 * NS_PER_H;

/// Which way they are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The oldest first.
    Forward,
    /// The newest first.
    Back,
}

/// A segment, opened.
pub struct Opened {
    /// What its file was called.
    pub name: Name,
    /// From its start.
    pub input: Box<dyn BufRead>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is told of a segment without reading it whole.
#[derive(Clone, Debug)]
struct Head {
    header: Header,
    /// The first time in it, nanoseconds since 1970.
    first_ns: Option<i64>,
}

/// The segments of a stream, as far as they may hold something of a span of time.
#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    stream: &'static str,
    way: Way,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
    /// Of closed segments, which do not change.
    heads: BTreeMap<Name, Head>,
    /// Where we are: the number, and the headers that had it and were done. Only damage gives it to more than one.
    at: Option<(u64, Vec<Header>)>,
    /// Whether there are any, meant or not.
    pub any: bool,
    /// What could not be read, and why.
    pub unread: BTreeMap<String, String>,
}

impl Segments {
    /// Of a directory; the span in nanoseconds since 1970.
    #[must_use]
    pub fn new(dir: &Path, stream: &'static str, way: Way, since_ns: Option<i64>, until_ns: Option<i64>) -> Self {
        Self { dir: dir.to_owned(), stream, way, since_ns, until_ns, heads: BTreeMap::new(), at: None, any: false, unread: BTreeMap::new() }
    }

    /// The next one; `None` after the last.
    ///
    /// # Errors
    /// The directory could not be listed.
    pub fn advance(&mut self) -> io::Result<Option<Opened>> {
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            let Some((name, head)) = self.candidate()? else { return Ok(None) };
            // Clocks that are set back do so within a day: another day closes the segment.
            if self.until_ns.zip(head.first_ns).is_some_and(|(until, first)| first.saturating_sub(until) > SLACK_NS) {
                self.pass(head.header);
                continue;
            }
            match reader::open(&self.dir, &name) {
                Ok(input) => {
                    // The live name passes on to the next segment: it was ours when we opened if it is ours still.
                    if name.date.is_none() && !self.head(&name).is_ok_and(|now| now.is_some_and(|now| now.header == head.header)) {
                        attempts += 1;
                        continue;
                    }
                    self.pass(head.header);
                    return Ok(Some(Opened { name, input }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => attempts += 1,
                Err(error) => {
                    self.refuse(&name, &error);
                    self.pass(head.header);
                }
            }
        }
        self.unread.insert(self.dir.display().to_string(), "its files are renamed faster than they can be opened".to_owned());
        Ok(None)
    }

    /// That a segment could not be read to its end.
    pub fn refuse(&mut self, name: &Name, why: &dyn std::fmt::Display) {
        self.unread.insert(self.dir.join(name.to_string()).display().to_string(), why.to_string());
    }

    fn pass(&mut self, header: Header) {
        match &mut self.at {
            Some((seg, done)) if *seg == header.seg => done.push(header),
            at => *at = Some((header.seg, vec![header])),
        }
    }

    fn candidate(&mut self) -> io::Result<Option<(Name, Head)>> {
        let mut best: Option<(Name, Head)> = None;
        for found in directory::list(&self.dir)? {
            let name = found.name;
            if name.stream != self.stream || found.bytes == 0 {
                continue;
            }
            self.any = true;
            if name.date.zip(self.since_ns).is_some_and(|(date, since)| end_of(date).is_some_and(|end| end < since)) {
                continue;
            }
            let head = match self.head(&name) {
                Ok(Some(head)) => head,
                Ok(None) => {
                    self.refuse(&name, &"it does not begin with a header that can be read. psmon verify says what is damaged.");
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.refuse(&name, &error);
                    continue;
                }
            };
            if self.is_ahead(&head.header) && best.as_ref().is_none_or(|best| self.is_before((&name, &head), best)) {
                best = Some((name, head));
            }
        }
        Ok(best)
    }

    fn is_ahead(&self, header: &Header) -> bool {
        match &self.at {
            None => true,
            Some((seg, done)) if *seg == header.seg => !done.contains(header),
            Some((seg, _)) => (header.seg > *seg) == (self.way == Way::Forward),
        }
    }

    fn is_before(&self, (name, head): (&Name, &Head), (other, best): &(Name, Head)) -> bool {
        // The live one comes after all closed ones.
        let key = |name: &Name, head: &Head| (head.header.seg, name.date.is_none(), name.date, name.number);
        (key(name, head) < key(other, best)) == (self.way == Way::Forward)
    }

    fn head(&mut self, name: &Name) -> io::Result<Option<Head>> {
        if let Some(head) = self.heads.get(name) {
            return Ok(Some(head.clone()));
        }
        let head = read_head(&self.dir, name)?;
        if name.date.is_some()
            && let Some(head) = &head
        {
            self.heads.insert(name.clone(), head.clone());
        }
        Ok(head)
    }
}

/// When the last clock on Earth leaves this day, nanoseconds since 1970: twelve hours after UTC does.
fn end_of(date: Date) -> Option<i64> {
    let midnight = date.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    i64::try_from(midnight.timestamp().as_nanosecond()).ok()?.checked_add(12 * NS_PER_H)
}

fn read_head(dir: &Path, name: &Name) -> io::Result<Option<Head>> {
    let mut lines = RawLines::new(reader::open(dir, name)?);
    let mut reader = Reader::default();
    let mut first_ns = None;
    for _ in 0..FIRST_LINES {
        let Some(raw) = lines.read()? else { break };
        match raw.ended.then(|| reader.read(&raw)).flatten() {
            Some(Line::Row { time, .. } | Line::Gone { time, .. } | Line::Note { time, .. }) => {
                first_ns = Some(time.unix_ns);
                break;
            }
            Some(Line::Tick(tick)) => {
                first_ns = Some(tick.time.unix_ns);
                break;
            }
            Some(_) => {}
            None if reader.header().is_none() => return Ok(None),
            None => {}
        }
    }
    // What columns it has is of no use here, and stands in another line.
    Ok(reader.header().map(|header| Head { header: header.clone(), first_ns }))
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
