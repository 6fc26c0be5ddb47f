//! Streams without samples on a real directory: a writer without its thread, so that nothing here waits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::obey::Writer;
use super::{Busy, Reload, Settings};
use crate::journal::directory::Directory;
use crate::journal::encode::Format;
use crate::journal::line::{Line, Tick};
use crate::journal::own_log::OwnLog;
use crate::journal::plan::Keeping;
use crate::journal::reader::{RawLines, Reader};
use crate::journal::verify::{Report, verify};
use crate::record::flush::{Flush, TimedRow};
use crate::record::identity::Domain;
use crate::record::ledger::{Facts, Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::schema::{Columns, Kind};
use crate::record::stream::Stream;
use crate::record::value::Value;
use crate::record::wanted::FullWanted;
use crate::source::clock::Wall;

const STREAM: Stream = Stream::Exits;

fn settings(format: Format) -> Settings {
    let keeping = Keeping {
        sync: Duration::from_secs(30),
        keep_days: 14,
        compress_after_days: 1,
        min_free: 0,
        shares: BTreeMap::from([(STREAM, u64::MAX)]),
    };
    Settings { format, thresholds: BTreeMap::new(), keeping }
}

fn start(dir: &Path, format: Format) -> Writer {
    let directory = Directory::open(dir, None).unwrap();
    let full_wanted = Arc::new(FullWanted::default());
    let mut writer = Writer::new(
        directory,
        settings(format),
        Domain { boot_id: "boot".to_owned(), pidns: "1".to_owned() },
        OwnLog::default(),
        full_wanted,
        Arc::new(Busy::default()),
    )
    .unwrap();
    writer.adopt();
    writer
}

/// Noon of today, so that a start finds today's segments whatever the hour.
fn noon() -> Moment {
    let now = Wall::default().now();
    let local = now.unix_ns / 1_000_000_000 + i64::from(now.offset_s);
    let noon = local.div_euclid(86_400) * 86_400 + 43_200 - i64::from(now.offset_s);
    Moment { unix_ns: noon * 1_000_000_000, offset_s: now.offset_s }
}

fn after(seconds: i64) -> Moment {
    let noon = noon();
    Moment { unix_ns: noon.unix_ns + seconds * 1_000_000_000, ..noon }
}

fn facts() -> Facts {
    let text = || "x".to_owned();
    Facts { host: text(), boot: text(), pidns: text(), tz: text(), hz: 100, page: 4096, cpus: 1, version: text() }
}

/// So many rows; their times are their own and in no order.
fn flush(seconds: i64, rows: i64, tick: bool) -> Flush {
    let columns = Columns::standard(STREAM);
    let due = after(seconds);
    let row = |at: i64| {
        let value = |kind| match kind {
            Kind::Count => Value::Int(at),
            Kind::Word => Value::word(b"w"),
            _ => Value::Absent,
        };
        let values = columns.iter().skip(1).map(|column| value(column.kind)).collect();
        TimedRow { time: Moment { unix_ns: due.unix_ns - at * 1001, ..due }, values }
    };
    let rows = (1..=rows).map(row).collect();
    let tick = tick.then(|| vec![("deaths", "7".to_owned()), ("lost", "0".to_owned())]);
    Flush { stream: STREAM, facts: Arc::new(facts()), columns, due, rows, tick, notes: Vec::new() }
}

fn lines(dir: &Path, name: &str) -> Vec<Line> {
    let bytes = fs::read(dir.join(name)).unwrap();
    let (mut raw, mut reader, mut lines) = (RawLines::new(bytes.as_slice()), Reader::default(), Vec::new());
    while let Some(line) = raw.read().unwrap() {
        lines.push(reader.read(&line).unwrap());
    }
    lines
}

fn ticks(lines: &[Line]) -> Vec<&Tick> {
    lines.iter().filter_map(|line| if let Line::Tick(tick) = line { Some(tick) } else { None }).collect()
}

/// `seq` and `n` of each tick.
fn counts(lines: &[Line]) -> Vec<(u64, u64)> {
    ticks(lines).iter().map(|tick| (tick.count("seq").unwrap(), tick.count("n").unwrap())).collect()
}

fn notes(lines: &[Line]) -> Vec<String> {
    lines.iter().filter_map(|line| if let Line::Note { kind, text, .. } = line { Some(format!("{kind} {text}")) } else { None }).collect()
}

fn checked(dir: &Path) -> Report {
    verify(dir, None).unwrap()
}

fn closed(moment: Moment) -> String {
    format!("{STREAM}-{}.log", moment.date())
}

#[test]
fn rows_and_ticks_come_back_and_are_whole() {
    for format in [Format::Text, Format::Json] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = start(dir.path(), format);
        writer.expect(Note::new(after(0), NoteKind::Start));
        writer.flush(flush(0, 0, true));
        writer.flush(flush(1, 2, false));
        let whole = fs::metadata(dir.path().join("exits.log")).unwrap().len();
        writer.flush(flush(2, 0, false));
        assert_eq!(fs::metadata(dir.path().join("exits.log")).unwrap().len(), whole, "nothing to say, nothing written");
        writer.flush(Flush { notes: vec![Note::new(after(4), NoteKind::Gap).with("rows", 5)], ..flush(4, 3, false) });
        writer.flush(flush(10, 1, true));
        let lines = lines(dir.path(), "exits.log");
        assert_eq!(counts(&lines), [(1, 0), (2, 6)]);
        assert_eq!(notes(&lines), ["start ", "gap rows=5"], "what its maker lost stands as it was told");
        let last = ticks(&lines)[1];
        let keys: Vec<&str> = last.fields.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["seq", "n", "deaths", "lost", "prev_write_us"]);
        assert_eq!(last.time, after(10));
        let times: Vec<Moment> =
            lines.iter().filter_map(|line| if let Line::Row { time, .. } = line { Some(*time) } else { None }).collect();
        assert_eq!(times[1], Moment { unix_ns: after(1).unix_ns - 2002, ..after(1) }, "to the nanosecond");
        let report = checked(dir.path());
        assert_eq!((report.samples, report.rows, report.damage.len()), (2, 6, 1), "{report:#?}");
        assert!(report.damage[0].what.starts_with("rows are missing, as the recorder noted: gap rows=5"), "{report:#?}");
    }
}

#[test]
fn a_kill_tears_what_no_tick_counts_and_a_stop_leaves_nothing_open() {
    for format in [Format::Text, Format::Json] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = start(dir.path(), format);
        writer.flush(flush(0, 1, true));
        writer.flush(flush(1, 2, false));
        let remarks = checked(dir.path()).remarks;
        assert!(remarks.len() == 1 && remarks[0].what.contains("their tick is yet to come"), "{remarks:?}");
        drop(writer);

        let mut writer = start(dir.path(), format);
        writer.flush(flush(2, 3, false));
        writer.stop(Note::new(after(3), NoteKind::Stop));
        drop(writer);
        let mut writer = start(dir.path(), format);
        writer.flush(flush(5, 4, true));
        drop(writer);
        let lines = lines(dir.path(), "exits.log");
        assert_eq!(counts(&lines), [(1, 1), (2, 3), (3, 4)]);
        let closing = ticks(&lines)[1];
        assert_eq!((closing.field("closing"), closing.time), (Some("1"), after(2)));
        assert!(notes(&lines)[0].starts_with("torn rows=2 bytes="), "{:?}", notes(&lines));
        assert!(notes(&lines)[1].starts_with("stop"), "{:?}", notes(&lines));
        let report = checked(dir.path());
        assert_eq!((report.torn.len(), report.samples, report.rows), (1, 3, 8));
        assert!(report.is_whole() && report.remarks.is_empty(), "{report:#?}");
    }
}

#[test]
fn a_kill_before_the_first_tick_of_a_segment_leaves_it_to_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), Format::Text);
    writer.flush(flush(0, 2, false));
    drop(writer);
    let mut writer = start(dir.path(), Format::Text);
    writer.flush(flush(1, 3, true));
    let lines = lines(dir.path(), "exits.log");
    assert_eq!(counts(&lines), [(1, 3)]);
    assert!(notes(&lines)[0].starts_with("torn rows=2 bytes="), "{:?}", notes(&lines));
    let report = checked(dir.path());
    assert_eq!((report.torn.len(), report.rows, report.is_whole()), (1, 3, true), "{report:#?}");
}

#[test]
fn another_day_or_header_ends_a_segment_with_a_tick() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), Format::Text);
    let day = 86_400;
    writer.flush(flush(0, 1, true));
    writer.flush(flush(1, 2, false));
    writer.flush(flush(day, 3, false));
    writer.flush(flush(day + 1, 4, false));
    writer.settings = settings(Format::Json);
    writer.flush(flush(day + 2, 5, true));
    let names = [closed(after(0)), closed(after(day)), "exits.log".to_owned()];
    let seen: Vec<_> = names.iter().map(|name| counts(&lines(dir.path(), name))).collect();
    assert_eq!(seen, [vec![(1, 1), (2, 2)], vec![(3, 7)], vec![(4, 5)]]);
    let first = lines(dir.path(), &names[0]);
    assert_eq!(ticks(&first)[1].time, after(1), "the time of the last flush that was written there");
    assert!(first.iter().any(|line| matches!(line, Line::Help(help) if help.starts_with("one row an obituary; a #tick each 10 s"))));
    let report = checked(dir.path());
    assert_eq!((report.segments, report.samples, report.rows), (3, 4, 15));
    assert!(report.is_whole() && report.remarks.is_empty(), "{report:#?}");
}

/// A file that takes nothing, under the name and with the inode of the one that did.
fn refuse(writer: &mut Writer, dir: &Path) -> File {
    let reading = File::open(dir.join("exits.log")).unwrap();
    std::mem::replace(&mut writer.live.get_mut(&STREAM).unwrap().file, reading)
}

#[test]
fn a_disk_that_takes_nothing_costs_what_it_did_not_take_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), Format::Text);
    writer.flush(flush(0, 1, true));
    writer.flush(flush(1, 2, false));
    let file = refuse(&mut writer, dir.path());
    let noted = Note::new(after(2), NoteKind::Gap).with("rows", 100);
    writer.flush(Flush { notes: vec![noted, Note::new(after(2), NoteKind::Clock).with("step_ms", 5)], ..flush(2, 3, false) });
    writer.flush(flush(10, 4, true));
    writer.live.get_mut(&STREAM).unwrap().file = file;
    writer.flush(flush(11, 5, false));
    writer.flush(flush(20, 6, true));
    let seen = lines(dir.path(), "exits.log");
    assert_eq!(counts(&seen), [(1, 1), (3, 13)], "the rows before are counted by the next tick");
    assert_eq!(notes(&seen), ["clock step_ms=5".to_owned(), format!("full disk samples=1 rows=107 since={}", after(2))]);
    let report = checked(dir.path());
    assert_eq!(report.damage.len(), 1, "{report:#?}");
    assert!(report.damage[0].what.contains("as the recorder noted: full disk samples=1 rows=107"), "{report:#?}");

    // The same at midnight: the segment is closed when its tick stands in it.
    writer.flush(flush(21, 1, false));
    let file = refuse(&mut writer, dir.path());
    writer.flush(flush(86_400, 7, true));
    assert!(!dir.path().join(closed(after(0))).exists());
    writer.live.get_mut(&STREAM).unwrap().file = file;
    writer.flush(flush(86_401, 8, true));
    assert_eq!(counts(&lines(dir.path(), &closed(after(0)))), [(1, 1), (3, 13), (6, 1)]);
    assert_eq!(counts(&lines(dir.path(), "exits.log")), [(7, 8)]);
    let report = checked(dir.path());
    assert_eq!((report.damage.len(), report.remarks.len()), (2, 0), "{report:#?}");
    assert!(report.damage[1].what.contains(&format!("samples=2 rows=7 since={}", after(86_400))), "{report:#?}");
}

#[test]
fn a_share_that_is_reached_is_told_once_and_counted_in_each_tick() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), Format::Text);
    let mut short = settings(Format::Text);
    short.keeping.shares.insert(STREAM, 1);
    let reload = Reload { settings: short, directory: None, note: Note::new(after(0), NoteKind::ReloadOk), done: Box::new(|| ()) };
    writer.flush(flush(0, 1, true));
    writer.reload(reload);
    writer.flush(flush(1, 2, false));
    writer.flush(flush(2, 3, true));
    writer.flush(flush(3, 0, true));
    let lines = lines(dir.path(), "exits.log");
    assert_eq!(counts(&lines), [(1, 1), (2, 0), (3, 0)]);
    assert_eq!(ticks(&lines).iter().map(|tick| tick.count("shed")).collect::<Vec<_>>(), [None, Some(5), None]);
    assert_eq!(notes(&lines), ["reload ok ", "shed share=1"]);
    assert!(checked(dir.path()).is_whole());
}

#[test]
fn a_file_that_was_moved_away_ends_with_a_tick_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), Format::Text);
    writer.flush(flush(0, 2, false));
    fs::rename(dir.path().join("exits.log"), dir.path().join("moved")).unwrap();
    writer.flush(flush(1, 3, true));
    assert_eq!(counts(&lines(dir.path(), "moved")), [(1, 2)]);
    assert_eq!(counts(&lines(dir.path(), "exits.log")), [(2, 3)]);
    // And the whole directory.
    writer.flush(flush(2, 4, false));
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).unwrap();
    writer.flush(flush(3, 5, true));
    assert_eq!(counts(&lines(&away, "exits.log")), [(2, 3), (3, 4)]);
    assert_eq!(counts(&lines(dir.path(), "exits.log")), [(4, 5)]);
    fs::remove_dir_all(away).unwrap();
}

#[test]
fn another_log_directory_leaves_the_old_one_whole() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut writer = start(old.path(), Format::Text);
    writer.flush(flush(0, 2, false));
    let directory = Some(Directory::open(new.path(), None).unwrap());
    let note = Note::new(after(1), NoteKind::ReloadOk);
    writer.reload(Reload { settings: settings(Format::Text), directory, note, done: Box::new(|| ()) });
    writer.flush(flush(2, 3, true));
    assert_eq!(counts(&lines(old.path(), "exits.log")), [(1, 2)]);
    assert_eq!(counts(&lines(new.path(), "exits.log")), [(2, 3)]);
    for dir in [&old, &new] {
        let report = checked(dir.path());
        assert!(report.is_whole() && report.remarks.is_empty(), "{report:#?}");
    }
}
