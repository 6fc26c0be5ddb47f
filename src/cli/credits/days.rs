//! What was spent on each day, from the journal: the rows of stream `credits`, added up by the local day they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::live::nanoseconds;
use super::spent::{Spent, Who};
use crate::journal::directory;
use crate::journal::line::{Header, Line, Tick};
use crate::journal::reader::{self, Mark, RawLines, Reader};
use crate::journal::segment::Name;
use crate::record::moment::{self, Moment};
use crate::record::stream::Stream;

/// How often the directory is listed: what was closed or compressed while it was read is found under its new name.
const LISTINGS: usize = 3;
const DAY_NS: u64 = 86_400_000_000_000;

/// The days of a journal.
#[derive(Debug, Default)]
pub struct Days {
    /// What each spent on each of them.
    pub rows: BTreeMap<Who, Spent>,
    /// Each that has a sample.
    pub days: BTreeMap<Date, Day>,
    /// Samples that do not check or were torn: their rows are in no sum.
    pub torn: u64,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// One day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// CPUs online; the most there were.
    pub cpus: u64,
    /// Its length, nanoseconds: not that of others where clocks are set.
    pub ns: u64,
    /// What of that is over, nanoseconds.
    pub over_ns: u64,
    /// What of that the samples are of, nanoseconds; `None` where one does not say so.
    pub recorded_ns: Option<u64>,
    /// Samples that are missing before one of its own.
    pub missing: u64,
}

/// Reads all segments of a directory, as far as they are of these days.
///
/// # Errors
/// The directory could not be listed.
pub fn read(dir: &Path, range: &RangeInclusive<Date>, now: Timestamp, takes: impl Fn(&Who) -> bool) -> io::Result<Days> {
    let mut reading =
        Reading { range, now, takes, days: Days::default(), segments: BTreeSet::new(), samples: Vec::new(), zone: None, cpus: 1 };
    let mut read: BTreeSet<Name> = BTreeSet::new();
    for _ in 0..LISTINGS {
        let listed = directory::list(dir)?.into_iter().map(|found| found.name);
        // A segment is named after its last tick.
        let mut names: Vec<Name> = listed
            .filter(|name| name.stream == Stream::Credits.name() && name.date.is_none_or(|date| date >= *range.start()))
            .filter(|name| !read.contains(name))
            .collect();
        if names.is_empty() {
            break;
        }
        reader::sort_by_arrival(dir, &mut names);
        for name in names {
            match reader::open(dir, &name).and_then(|input| reading.segment(input)) {
                // It is there under another name by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => reading.days.unread.push(format!("{}: {error}", dir.join(name.to_string()).display())),
                Ok(()) => {}
            }
            read.insert(name);
        }
    }
    Ok(reading.done())
}

struct Reading<'a, F> {
    range: &'a RangeInclusive<Date>,
    now: Timestamp,
    takes: F,
    days: Days,
    /// The numbers of those that were read: while one is compressed it is there twice.
    segments: BTreeSet<u64>,
    /// The numbers of samples, and their days.
    samples: Vec<(u64, Date)>,
    zone: Option<TimeZone>,
    cpus: u64,
}

impl<F: Fn(&Who) -> bool> Reading<'_, F> {
    fn segment(&mut self, input: impl BufRead) -> io::Result<()> {
        let mut lines = RawLines::new(input);
        let mut reader = Reader::default();
        let mut rows: Vec<(Who, Spent)> = Vec::new();
        let mut at: Option<(Moment, Date)> = None;
        while let Some(raw) = lines.read()? {
            if raw.mark == Mark::TornNote {
                self.days.torn += u64::from(!rows.is_empty());
                rows.clear();
                continue;
            }
            match raw.ended.then(|| reader.read(&raw)).flatten() {
                Some(Line::Header(header)) => {
                    if !self.segments.insert(header.seg) {
                        return Ok(());
                    }
                    self.begin(&header);
                }
                Some(Line::Row { time, values }) => {
                    let date = match at {
                        Some((known, date)) if known == time => date,
                        _ => self.day_of(time),
                    };
                    at = Some((time, date));
                    // The first column is the time, which is no value.
                    let value = |name: &str| values.get(reader.names().position(name)?.checked_sub(1)?);
                    let who = Who::read(value);
                    if self.range.contains(&date) && (self.takes)(&who) {
                        rows.push((Who { day: Some(word(date)), ..who }, Spent { procs: None, ..Spent::read(value) }));
                    }
                }
                Some(Line::Tick(tick)) if raw.checks => {
                    for (who, spent) in rows.drain(..) {
                        self.days.rows.entry(who).or_default().add(&spent);
                    }
                    self.sample(&tick);
                }
                Some(Line::Tick(_)) => {
                    self.days.torn += 1;
                    rows.clear();
                }
                _ => {}
            }
        }
        // What no tick closes is being written, or torn.
        Ok(())
    }

    fn begin(&mut self, header: &Header) {
        let field = |key: &str| header.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        self.zone = field("tz").and_then(|zone| TimeZone::get(zone).ok());
        self.cpus = field("cpus").and_then(|cpus| cpus.parse().ok()).unwrap_or(1);
    }

    fn sample(&mut self, tick: &Tick) {
        let date = self.day_of(tick.time);
        if let Some(seq) = tick.count("seq") {
            self.samples.push((seq, date));
        }
        if !self.range.contains(&date) {
            return;
        }
        let (cpus, now, zone) = (self.cpus, self.now, &self.zone);
        let unrecorded_ns = tick.field("unrecorded_s").and_then(nanoseconds).unwrap_or(0);
        let recorded_ns = tick.field("span_s").and_then(nanoseconds).map(|span_ns| span_ns.saturating_sub(unrecorded_ns));
        self.days
            .days
            .entry(date)
            .and_modify(|day| {
                day.cpus = day.cpus.max(cpus);
                day.recorded_ns = day.recorded_ns.zip(recorded_ns).map(|(one, other)| one.saturating_add(other));
            })
            .or_insert_with(|| {
                let (ns, over_ns) = length(date, zone.as_ref(), tick.time, now);
                Day { cpus, ns, over_ns, recorded_ns, missing: 0 }
            });
    }

    /// The day of the last nanosecond of an interval that ends at this time. Its offset may be another than that of the time, where
    /// clocks are set at midnight.
    fn day_of(&self, time: Moment) -> Date {
        let last = Moment { unix_ns: time.unix_ns.saturating_sub(1), ..time };
        let offset_s = self.zone.as_ref().zip(Timestamp::from_nanosecond(i128::from(last.unix_ns)).ok());
        offset_s.map_or(last, |(zone, at)| Moment { offset_s: zone.to_offset(at).seconds(), ..last }).date()
    }

    fn done(mut self) -> Days {
        self.samples.sort_unstable();
        for pair in self.samples.windows(2) {
            if let [(before, _), (after, date)] = pair
                && let Some(day) = self.days.days.get_mut(date)
            {
                day.missing += (after - before).saturating_sub(1);
            }
        }
        self.days
    }
}

fn word(date: Date) -> Arc<[u8]> {
    date.to_string().into_bytes().into()
}

/// How long a local day is, and how much of it is over, nanoseconds. Where the zone is not known it is 24 hours at the offset of one of
/// its moments.
fn length(date: Date, zone: Option<&TimeZone>, time: Moment, now: Timestamp) -> (u64, u64) {
    let zone = match zone {
        Some(zone) => zone.clone(),
        None => TimeZone::fixed(jiff::tz::Offset::from_seconds(time.offset_s).unwrap_or(jiff::tz::Offset::UTC)),
    };
    let Some((from, to)) = moment::day(date, &zone) else { return (DAY_NS, DAY_NS) };
    let (from, to) = (from.as_nanosecond(), to.as_nanosecond());
    let over = now.as_nanosecond().clamp(from, to) - from;
    (u64::try_from(to - from).unwrap_or(DAY_NS), u64::try_from(over).unwrap_or(DAY_NS))
}

#[cfg(test)]
#[path = "days_tests.rs"]
mod tests;
