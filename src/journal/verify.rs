//! Is the journal whole? Headers, order, numbers and CRCs of every segment in a directory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::directory;
use super::line::{Line, Tick};
use super::reader::{self, Mark, RawLines, Reader};
use super::segment::{Name, OWN_LOG};
use crate::record::ledger::FORMAT_VERSION;
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Samples that check; of streams without them what a tick closes counts as one.
    pub samples: u64,
    /// Rows of those.
    pub rows: u64,
    /// Bytes, uncompressed.
    pub bytes: u64,
    /// Torn places that a start marked: known, and no damage.
    pub torn: Vec<Finding>,
    /// What is damaged or missing.
    pub damage: Vec<Finding>,
    /// Worth knowing, and in order.
    pub remarks: Vec<Finding>,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub file: String,
    /// At which byte of the uncompressed text.
    pub offset: u64,
    /// What.
    pub what: String,
}

impl Report {
    /// There are samples, and nothing is damaged or missing: an empty directory proves nothing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_clean() && self.samples > 0
    }

    /// Nothing is damaged or missing.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }
}

#[derive(Debug, Default)]
struct Track {
    seg: Option<u64>,
    seq: Option<u64>,
}

/// Checks every segment in a directory whose date is not before `since`.
///
/// # Errors
/// The directory could not be listed.
pub fn verify(dir: &Path, since: Option<jiff::civil::Date>) -> io::Result<Report> {
    let mut report = Report::default();
    let mut names: Vec<Name> = directory::list(dir)?.into_iter().map(|found| found.name).filter(|name| name.stream != OWN_LOG).collect();
    names.retain(|name| since.is_none_or(|since| name.date.is_none_or(|date| date >= since)));
    // While a day is being compressed both files are there; they say the same.
    let twins: Vec<Name> = names.iter().filter(|name| name.compressed).map(|name| Name { compressed: false, ..name.clone() }).collect();
    names.retain(|name| !twins.contains(name));
    reader::sort_by_arrival(dir, &mut names);
    exchanged(&names, &mut report);
    let mut tracks: BTreeMap<String, Track> = BTreeMap::new();
    for name in names {
        let track = tracks.entry(name.stream.clone()).or_default();
        report.segments += 1;
        let mut segment = Segment { file: name.to_string(), live: name.date.is_none(), track, report: &mut report };
        match reader::open(dir, &name).and_then(|input| segment.read(RawLines::new(input))) {
            Ok(()) => {}
            // Closed or pruned while we read: the closed file is read under its own name next time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                segment.remark(0, "it went away while the directory was read".to_owned());
            }
            Err(error) => segment.damage(0, format!("it could not be read: {error}")),
        }
    }
    Ok(report)
}

/// Of one date the numbers in the names rise with those in the headers; where they do not, files were exchanged.
fn exchanged(by_arrival: &[Name], report: &mut Report) {
    let mut dates: BTreeMap<(&str, Option<jiff::civil::Date>), Vec<&Name>> = BTreeMap::new();
    for name in by_arrival {
        dates.entry((&name.stream, name.date)).or_default().push(name);
    }
    for arrived in dates.into_values() {
        let mut named = arrived.clone();
        named.sort_by_key(|name| name.number);
        for (arrived, named) in arrived.iter().zip(named) {
            if *arrived != named {
                let what = format!("it stands where {named} should: segments were exchanged or renamed");
                report.damage.push(Finding { file: arrived.to_string(), offset: 0, what });
            }
        }
    }
}

struct Segment<'a> {
    file: String,
    live: bool,
    track: &'a mut Track,
    report: &'a mut Report,
}

impl Segment<'_> {
    fn finding(&self, offset: u64, what: String) -> Finding {
        Finding { file: self.file.clone(), offset, what }
    }

    fn damage(&mut self, offset: u64, what: String) {
        let finding = self.finding(offset, what);
        self.report.damage.push(finding);
    }

    fn remark(&mut self, offset: u64, what: String) {
        let finding = self.finding(offset, what);
        self.report.remarks.push(finding);
    }

    fn read(&mut self, mut lines: RawLines<impl io::BufRead>) -> io::Result<()> {
        let mut reader = Reader::default();
        let mut first = true;
        let mut first_tick = true;
        // Of the sample under way: its rows, the first damaged line, and where it began.
        let (mut rows, mut gone, mut wrong, mut began) = (0_u64, 0_u64, None::<u64>, 0_u64);
        // Ticks that do not check are damage, unless a start marked them as part of a torn tail.
        let mut suspect: Vec<Finding> = Vec::new();
        let mut last_time: Option<Moment> = None;
        let mut set_back = false;
        while let Some(raw) = lines.read()? {
            if raw.mark == Mark::TornNote {
                if let Some(Line::Note { text, .. }) = reader.read(&raw) {
                    let finding = self.finding(began, format!("a torn tail was marked at a start ({text}); its rows belong to no sample"));
                    self.report.torn.push(finding);
                }
                suspect.clear();
                (rows, gone, wrong, began) = (0, 0, None, raw.offset + raw.bytes.len() as u64 + 1);
                continue;
            }
            let parsed = raw.ended.then(|| reader.read(&raw)).flatten();
            match (&parsed, raw.mark) {
                (Some(Line::Header(header)), _) => {
                    if !first {
                        self.damage(raw.offset, "a second header stands in the segment".to_owned());
                    }
                    if header.version > FORMAT_VERSION {
                        self.remark(raw.offset, format!("it is of format {}, later than this psmon's {FORMAT_VERSION}", header.version));
                    }
                    self.check_seg(raw.offset, header.seg);
                }
                (Some(Line::Row { .. }), _) => rows += 1,
                (Some(Line::Gone { .. }), _) => gone += 1,
                (Some(Line::Note { kind, text, .. }), _) => {
                    set_back |= kind == "clock";
                    if kind == "gap" || kind == "full disk" {
                        let tells = |what| text.split(' ').any(|pair| pair.starts_with(what));
                        if tells("rows=") && !tells("samples=") {
                            self.damage(raw.offset, format!("rows are missing, as the recorder noted: {kind} {text}"));
                        } else {
                            self.damage(raw.offset, format!("samples are missing, as the recorder noted: {kind} {text}"));
                            // Told here, so the jump of seq that follows is not told again.
                            self.track.seq = None;
                        }
                    }
                }
                (Some(Line::Tick(tick)), _) => {
                    if !raw.checks {
                        suspect.push(self.finding(
                            began,
                            format!("the sample of {} does not check: its bytes are not those that were written", tick.time),
                        ));
                        (rows, gone, wrong) = (0, 0, None);
                        continue;
                    }
                    self.report.damage.append(&mut suspect);
                    if let Some(at) = wrong {
                        self.damage(at, "a line is none of the journal's".to_owned());
                    } else {
                        self.report.samples += 1;
                        self.report.rows += rows;
                    }
                    if let Some(what) = miscounted(tick, rows, gone) {
                        self.damage(began, what);
                    }
                    if first_tick && tick.field("full").is_some_and(|full| full != "1") && tick.field("shed").is_none() {
                        self.damage(raw.offset, "the first sample of the segment is not full".to_owned());
                    }
                    if !sums_up(tick) {
                        self.damage(raw.offset, "seen is not n + unchanged + hidden + vanished".to_owned());
                    }
                    self.check_seq(raw.offset, tick.count("seq"));
                    if last_time.is_some_and(|last| last.unix_ns > tick.time.unix_ns) && !set_back {
                        self.damage(raw.offset, "time goes back, and no note tells of a clock that was set".to_owned());
                    }
                    last_time = Some(tick.time);
                    set_back = false;
                    first_tick = false;
                    (rows, gone, wrong, began) = (0, 0, None, raw.offset + raw.bytes.len() as u64 + 1);
                }
                (Some(Line::Columns(_) | Line::Help(_)), _) => {}
                (None, _) => {
                    wrong.get_or_insert(raw.offset);
                }
            }
            if first && raw.mark != Mark::Header {
                self.damage(0, "it does not begin with a header".to_owned());
            }
            first = false;
        }
        if first {
            let what = "it is empty".to_owned();
            if self.live { self.remark(0, what) } else { self.damage(0, what) }
        }
        let end = lines.offset();
        self.report.bytes += end;
        self.report.damage.append(&mut suspect);
        if rows > 0 || gone > 0 || wrong.is_some() {
            let what = format!("{} bytes after the last tick belong to no sample", end - began);
            if self.live {
                let stream = reader.header().and_then(|header| header.stream.parse().ok());
                let why = if stream.is_none_or(Stream::has_samples) { "a sample is being written" } else { "their tick is yet to come" };
                self.remark(began, format!("{what}: {why}, or the recorder was killed and the next start will mark it"));
            } else {
                self.damage(began, what);
            }
        }
        Ok(())
    }

    fn check_seg(&mut self, offset: u64, seg: u64) {
        if let Some(last) = self.track.seg.replace(seg) {
            if seg <= last {
                self.damage(offset, format!("segment {seg} stands after segment {last}"));
            } else if seg > last + 1 {
                self.damage(offset, format!("segments {} to {} are missing", last + 1, seg - 1));
            }
        }
    }

    fn check_seq(&mut self, offset: u64, seq: Option<u64>) {
        let Some(seq) = seq else {
            self.damage(offset, "the tick has no seq".to_owned());
            return;
        };
        if let Some(last) = self.track.seq.replace(seq) {
            if seq <= last {
                self.damage(offset, format!("sample {seq} stands after sample {last}"));
            } else if seq > last + 1 {
                self.damage(offset, format!("samples {} to {} are missing", last + 1, seq - 1));
            }
        }
    }
}

/// What is wrong where a tick counts other than what stands before it.
fn miscounted(tick: &Tick, rows: u64, gone: u64) -> Option<String> {
    let n = tick.field("n").unwrap_or("-");
    let rows_agree = tick.count("n") == Some(rows);
    match tick.field("gone") {
        // Nothing leaves a stream without samples.
        None if gone == 0 => (!rows_agree).then(|| format!("the tick counts n={n}, and {rows} rows stand before it")),
        said => (!rows_agree || tick.count("gone") != Some(gone))
            .then(|| format!("the tick counts n={n} gone={}, and {rows} rows and {gone} gones stand before it", said.unwrap_or("-"))),
    }
}

fn sums_up(tick: &Tick) -> bool {
    let part = |key| tick.count(key);
    match (part("seen"), part("n"), part("unchanged"), part("hidden"), part("vanished")) {
        (Some(seen), Some(n), Some(unchanged), Some(hidden), Some(vanished)) => {
            seen == n + unchanged + hidden + vanished + part("shed").unwrap_or(0)
        }
        // Streams without samples do not count what they saw.
        _ => true,
    }
}
