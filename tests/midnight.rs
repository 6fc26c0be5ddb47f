//! Midnight, the nights of summer time, and clocks that are set, under libfaketime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Place, Recorder, Segment, Victim, has, psmon, skipped, until};
use jiff::civil::{Date, DateTime, date};

const ZONE: &str = "Europe/Berlin";

/// The library that fakes the wall clock, where it is installed.
fn faketime(test: &str) -> Option<PathBuf> {
    let lib = |dir: PathBuf| dir.join("faketime/libfaketime.so.1");
    let places = std::fs::read_dir("/usr/lib").unwrap().filter_map(|entry| Some(entry.ok()?.path())).map(lib);
    let found = places.chain(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(|dir| lib(dir.into()))).find(|path| path.exists());
    if found.is_none() {
        skipped(test, "libfaketime is not installed");
    }
    found
}

/// psmond by a clock of its own; monotonic clocks stay true.
fn under(lib: &Path, place: &Place, settings: &[(&str, &str)]) -> Recorder {
    let mut command = place.command();
    command.env("LD_PRELOAD", lib).env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", ZONE);
    place.start_command({
        command.envs(settings.iter().copied());
        command
    })
}

/// psmond whose clock starts here, given in UTC: local times of the nights of summer time are ambiguous.
fn starting(lib: &Path, place: &Place, utc: DateTime) -> Recorder {
    let seconds = utc.in_tz("UTC").unwrap().timestamp().as_second();
    under(lib, place, &[("FAKETIME", &format!("@{seconds}")), ("FAKETIME_FMT", "%s")])
}

/// A person who follows `ps.log`.
fn tail(place: &Place) -> (Victim, PathBuf) {
    let seen = place.root.path().join("tail");
    let mut command = Command::new("tail");
    command.args(["-n", "+1", "--sleep-interval=0.1", "-F"]).arg(place.file("ps.log"));
    (Victim::spawn(command.stdout(File::create(&seen).unwrap()).stderr(Stdio::null())), seen)
}

/// The numbers of the samples that the person saw.
fn seqs(seen: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(seen).unwrap();
    let seq = |line: &str| line.split(' ').find_map(|field| field.strip_prefix("seq=")).map(|seq| seq.parse().unwrap());
    text.split_inclusive('\n').filter(|line| line.starts_with("#tick ") && line.ends_with('\n')).filter_map(seq).collect()
}

fn dates(segment: &Segment) -> Vec<Date> {
    let mut dates: Vec<Date> = segment.ticks().map(|tick| tick.time.date()).collect();
    dates.dedup();
    dates
}

fn offsets(segment: &Segment) -> Vec<i32> {
    let mut offsets: Vec<i32> = segment.ticks().map(|tick| tick.time.offset_s).collect();
    offsets.dedup();
    offsets
}

fn header_seg(segment: &Segment) -> u64 {
    segment.header.as_ref().unwrap().seg
}

fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(place.logs()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_tool_says_whole(place: &Place) {
    let output = psmon().arg("verify").arg(place.logs()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains(": whole: "), "{said}");
}

#[test]
fn whoever_follows_a_log_misses_nothing_at_midnight() {
    let test = "whoever_follows_a_log_misses_nothing_at_midnight";
    let Some(lib) = faketime(test).filter(|_| has(test, "tail")) else { return };
    let place = Place::new("");
    let (_tail, seen) = tail(&place);
    let recorder = starting(&lib, &place, date(2026, 12, 31).at(22, 59, 55, 0));
    place.wait_for_ticks(2);
    place.assert_whole();
    let closed = place.file("ps-2026-12-31.log");
    until("the file of the day that ended", || closed.exists());
    until("samples of the new day", || place.ps().ticks().count() >= 4);
    assert_tool_says_whole(&place);
    assert_eq!(recorder.stop(), 0);

    let segments = place.all_ps();
    assert_eq!(segments.iter().map(|segment| segment.name.as_str()).collect::<Vec<_>>(), ["ps-2026-12-31.log", "ps.log"]);
    assert_eq!([dates(&segments[0]), dates(&segments[1])], [[date(2026, 12, 31)], [date(2027, 1, 1)]]);
    Segment::assert_no_sample_missing(&segments);
    let first = segments[1].ticks().next().unwrap();
    assert_eq!(first.field("full"), Some("1"), "a segment begins with a full sample");
    assert!(first.time.to_string().starts_with("2027-01-01T00:00:00.000+01:00"), "{}", first.time);
    assert_eq!(header_seg(&segments[1]), header_seg(&segments[0]) + 1);
    assert!(segments.iter().all(|segment| segment.notes("gap").is_empty() && segment.notes("clock").is_empty()));

    let all: Vec<u64> = segments.iter().flat_map(Segment::ticks).filter_map(|tick| tick.count("seq")).collect();
    assert!(all.len() >= 6, "{all:?}");
    until("tail to have seen all", || seqs(&seen).last() == all.last());
    assert_eq!(seqs(&seen), all, "whoever follows the file sees each sample once and in order");

    let before = std::fs::read_to_string(place.file("psmond-2026-12-31.log")).unwrap();
    assert!(before.contains("2026-12-31T23:59:5") && !before.contains("2027-01-01"), "{before}");
    let after = place.own_log();
    assert!(after.contains("2027-01-01T00:00:0") && !after.contains("2026-12-31"), "{after}");
    assert_tool_says_whole(&place);
}

#[test]
fn a_night_of_summer_time_changes_the_offset_and_nothing_else() {
    let test = "a_night_of_summer_time_changes_the_offset_and_nothing_else";
    let Some(lib) = faketime(test) else { return };
    // The clock goes from 02:59:59 CEST to 02:00:00 CET, and from 01:59:59 CET to 03:00:00 CEST.
    for (utc, clocks, jump) in [
        (
            date(2026, 10, 25).at(0, 59, 56, 0),
            [7200, 3600],
            ["2026-10-25T02:59:59.000+02:00", "2026-10-25T02:00:00.000+01:00"],
        ),
        (
            date(2027, 3, 28).at(0, 59, 56, 0),
            [3600, 7200],
            ["2027-03-28T01:59:59.000+01:00", "2027-03-28T03:00:00.000+02:00"],
        ),
    ] {
        let place = Place::new("");
        let recorder = starting(&lib, &place, utc);
        until("samples under both offsets", || offsets(&place.ps()) == clocks);
        let segment = place.wait_for_next_tick();
        assert_eq!(recorder.stop(), 0);
        assert_eq!(offsets(&segment), clocks);
        let times: Vec<String> = segment.ticks().map(|tick| tick.time.to_string()).collect();
        assert!(times.windows(2).any(|pair| pair == jump), "{times:?}");
        let segments = place.all_ps();
        assert_eq!(segments.len(), 1, "no new segment: {:?}", names(&place));
        Segment::assert_no_sample_missing(&segments);
        assert!(segments[0].notes("clock").is_empty(), "the clock of the machine was not set");
        assert_eq!(segments[0].ticks().filter(|tick| tick.field("full") == Some("1")).count(), 1);
        assert_tool_says_whole(&place);
    }
}

/// A clock that the test sets: so many seconds from the true one.
struct SetClock(PathBuf);

impl SetClock {
    /// Shows this time, given in UTC, now.
    fn new(place: &Place, utc: DateTime) -> (Self, i64) {
        let clock = Self(place.root.path().join("clock"));
        let offset = utc.in_tz("UTC").unwrap().timestamp().as_second() - jiff::Timestamp::now().as_second();
        clock.set(offset);
        (clock, offset)
    }

    fn set(&self, offset: i64) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{offset:+}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    fn start(&self, lib: &Path, place: &Place) -> Recorder {
        under(lib, place, &[("FAKETIME_TIMESTAMP_FILE", self.0.to_str().unwrap()), ("FAKETIME_NO_CACHE", "1")])
    }
}

#[test]
fn a_clock_that_is_set_back_by_an_hour_is_noted_and_samples_go_on() {
    let test = "a_clock_that_is_set_back_by_an_hour_is_noted_and_samples_go_on";
    let Some(lib) = faketime(test) else { return };
    let place = Place::new("");
    let (clock, offset) = SetClock::new(&place, date(2027, 2, 3).at(12, 0, 0, 0));
    let recorder = clock.start(&lib, &place);
    let before = place.wait_for_ticks(3).ticks().last().unwrap().time;
    clock.set(offset - 3600);
    until("samples an hour before", || place.ps().ticks().last().unwrap().time.unix_ns < before.unix_ns);
    place.wait_for_next_tick();
    // And on again.
    clock.set(offset);
    until("samples after", || place.ps().ticks().last().unwrap().time.unix_ns > before.unix_ns);
    place.wait_for_next_tick();
    assert_eq!(recorder.stop(), 0);

    let segments = place.all_ps();
    assert_eq!(segments.len(), 1);
    Segment::assert_no_sample_missing(&segments);
    let steps: Vec<i64> =
        segments[0].notes("clock").iter().map(|note| note.strip_prefix("step_ms=").unwrap().parse::<i64>().unwrap() / 60_000).collect();
    // The wall clock of a test may be read a moment before the monotonic one: within a minute is within reason.
    assert!(matches!(steps[..], [-60 | -59, 59 | 60]), "{steps:?}");
    assert_tool_says_whole(&place);
}

#[test]
fn a_clock_that_is_set_back_over_midnight_keeps_the_order_of_arrival() {
    let test = "a_clock_that_is_set_back_over_midnight_keeps_the_order_of_arrival";
    let Some(lib) = faketime(test) else { return };
    let place = Place::new("");
    // Half an hour past the midnight of Berlin.
    let (clock, offset) = SetClock::new(&place, date(2027, 2, 2).at(23, 30, 0, 0));
    let recorder = clock.start(&lib, &place);
    place.wait_for_ticks(2);
    clock.set(offset - 3600);
    until("a sample of the day before", || dates(&place.ps()) == [date(2027, 2, 2)]);
    place.wait_for_next_tick();
    clock.set(offset);
    until("a sample of the day after", || dates(&place.ps()) == [date(2027, 2, 3)]);
    place.wait_for_next_tick();
    assert_eq!(recorder.stop(), 0);
    let mut segments = place.all_ps();
    segments.sort_by_key(header_seg);
    let of: Vec<(u64, &str)> = segments.iter().map(|segment| (header_seg(segment), segment.name.as_str())).collect();
    assert_eq!(of, [(1, "ps-2027-02-03.log"), (2, "ps-2027-02-02.log"), (3, "ps.log")]);
    Segment::assert_no_sample_missing(&segments);
    assert_tool_says_whole(&place);
    // A restart goes on with the highest numbers, though they are not those of the newest date.
    std::fs::remove_file(place.file("psmond.state")).unwrap();
    let last = place.last_seq();
    clock.set(offset - 3600);
    let recorder = clock.start(&lib, &place);
    until("samples after the restart", || place.last_seq() >= last + 2);
    assert_eq!(recorder.stop(), 0);
    let mut segments = place.all_ps();
    segments.sort_by_key(header_seg);
    Segment::assert_no_sample_missing(&segments);
    assert_tool_says_whole(&place);
}

#[test]
fn days_are_closed_at_a_start_then_compressed_then_pruned() {
    let test = "days_are_closed_at_a_start_then_compressed_then_pruned";
    let Some(lib) = faketime(test) else { return };
    let place = Place::new("keep_days = 3\nmin_free = \"1M\"\n[usage]\nenabled = false\n");
    let run_on = |day: Date| {
        let before = place.all_ps().iter().flat_map(Segment::ticks).filter_map(|tick| tick.count("seq")).max().unwrap_or(0);
        let recorder = starting(&lib, &place, day.at(12, 0, 0, 0));
        until("two samples of the day", || dates(&place.ps()) == [day] && place.last_seq() >= before + 2);
        recorder
    };
    assert_eq!(run_on(date(2027, 3, 1)).stop(), 0);
    assert!(place.file("ps.log").exists() && !place.file("ps-2027-03-01.log").exists());

    // The day after: the live file of yesterday is closed under its own date, in plain text.
    assert_eq!(run_on(date(2027, 3, 2)).stop(), 0);
    assert_eq!(names(&place).iter().filter(|name| name.starts_with("ps-")).collect::<Vec<_>>(), ["ps-2027-03-01.log"]);
    let segments = place.all_ps();
    assert_eq!(header_seg(&segments[1]), header_seg(&segments[0]) + 1);
    assert_eq!(segments[1].ticks().next().unwrap().field("full"), Some("1"));
    Segment::assert_no_sample_missing(&segments);
    assert_tool_says_whole(&place);

    // A day later it is compressed, and read as before.
    let recorder = run_on(date(2027, 3, 3));
    until("the compressed day", || {
        place.file("ps-2027-03-01.log.zst").exists() && !place.file("ps-2027-03-01.log").exists()
    });
    assert_eq!(recorder.stop(), 0);
    assert!(place.file("ps-2027-03-02.log").exists());
    Segment::assert_no_sample_missing(&place.all_ps());
    assert_eq!(place.assert_whole().segments, 18, "three days of six streams");
    assert_tool_says_whole(&place);

    // Three days are kept.
    let recorder = run_on(date(2027, 3, 5));
    until("the first day to go", || !place.file("ps-2027-03-01.log.zst").exists());
    until("the second day compressed", || {
        place.file("ps-2027-03-02.log.zst").exists() && !place.file("ps-2027-03-02.log").exists()
    });
    assert_eq!(recorder.stop(), 0);
    Segment::assert_no_sample_missing(&place.all_ps());
    assert_tool_says_whole(&place);
}
