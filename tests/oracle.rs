//! What a changes-only journal says at each tick is what a plain reader of /proc saw around that tick.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a test

mod common;
#[path = "oracle/load.rs"]
mod load;
#[path = "oracle/plain.rs"]
mod plain;
#[path = "oracle/rebuilt.rs"]
mod rebuilt;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use common::{Place, is_root, until};
use load::Load;
use plain::{Reading, read_all, unix_ns};
use psmon::record::value::Value;
use rebuilt::{Rebuilt, check};

const COLUMNS: &str = "columns = [\"pid\", \"ppid\", \"pgrp\", \"session\", \"user\", \"uid\", \"state\", \"tty\", \"nice\", \"threads\", \"cpu_pct\", \"cpu_s\", \"rss\", \"vsz\", \"swap\", \"min_flt\", \"maj_flt\", \"comm\", \"program\", \"unit\", \"cmd\"]\n";

/// Reads /proc a little before and right after so many ticks, which are due at whole seconds.
fn watch(places: &[&Place], ticks: usize) -> Vec<(i128, Reading, Reading)> {
    let mut seen = Vec::new();
    while seen.len() < ticks {
        let now = unix_ns();
        let due = (now + 1_200_000_000) / 1_000_000_000 * 1_000_000_000;
        std::thread::sleep(Duration::from_nanos(u64::try_from(due - 200_000_000 - now).unwrap_or(0)));
        let before = read_all();
        let written = |place: &Place| last_tick_ns(place).is_some_and(|time| i128::from(time) >= due);
        until("the tick is written", || unix_ns() > due && places.iter().all(|place| written(place)));
        seen.push((due, before, read_all()));
    }
    seen
}

/// The time of the last tick in the file, from its end: to read all of it takes a while by and by.
fn last_tick_ns(place: &Place) -> Option<i64> {
    let mut file = std::fs::File::open(place.file("ps.log")).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(8192))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let tick = text.lines().rfind(|line| line.starts_with("#tick ") || line.contains("\"rec\":\"tick\""))?;
    let time = tick.strip_prefix("#tick ").or_else(|| tick.split("\"time\":\"").nth(1))?;
    Some(psmon::record::moment::Moment::parse(time.get(..29)?.as_bytes())?.unix_ns)
}

/// Compares what a place recorded with what was seen; answers with all that differs.
fn compare(place: &Place, own_pid: u32, watched: &[(i128, Reading, Reading)]) -> Vec<String> {
    let segments = place.all_ps();
    assert_eq!(segments.iter().map(|segment| segment.damaged).sum::<usize>(), 0);
    let ticks = rebuilt::ticks(&segments);
    let mut wrong = Vec::new();
    let mut compared = 0;
    let mut earlier: Option<&Reading> = None;
    for (due, before, after) in watched {
        let Some(rebuilt) = ticks.iter().find(|tick| i128::from(tick.time.unix_ns) == *due) else {
            println!("the tick at {due} was not taken");
            continue;
        };
        // Of a test that was kept waiting nothing can be said.
        if before.ended_ns < *due {
            compared += rebuilt.rows.len();
            wrong.extend(check(rebuilt, own_pid, earlier, before, after));
        }
        earlier = Some(before);
    }
    assert!(compared > 20 * watched.len(), "only {compared} rows were compared");
    wrong
}

fn assert_ledger(ticks: &[Rebuilt]) {
    for tick in ticks {
        let count = |key| tick.tick.count(key).unwrap_or_else(|| panic!("no {key} in {:?}", tick.tick));
        assert_eq!(count("seen"), count("n") + count("unchanged") + count("hidden") + count("vanished"));
        assert_eq!(count("n"), tick.written, "n is the rows written");
        assert_eq!(count("n") + count("unchanged"), tick.rows.len() as u64, "the rebuilt table at {}", tick.time);
        if count("full") == 1 {
            assert_eq!(count("unchanged"), 0);
            count("gate_missed");
        }
    }
}

/// One after the other: what a test renices from outside is a difference in the eyes of another. (nextest: .config/nextest.toml.)
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn a_rebuilt_table_is_what_a_plain_reader_saw_at_each_tick() {
    let _alone = alone();
    if !is_root("a_rebuilt_table_is_what_a_plain_reader_saw_at_each_tick") {
        println!("... it runs all the same, without processes that change their user");
    }
    let often = Place::new(&format!("args = \"full\"\nps:full_every = \"5s\"\n{COLUMNS}"));
    let never = Place::new(&format!("args = \"full\"\nformat = \"json\"\nps:full_every = \"7d\"\n{COLUMNS}"));
    let mut load = Load::start();
    let (one, other) = (often.start(), never.start());
    often.wait_for_ticks(2);
    never.wait_for_ticks(2);
    let mut watched = watch(&[&often, &never], 28);
    // At last nothing moves: no value can hide behind a change.
    load.freeze();
    watched.extend(watch(&[&often, &never], 3));
    let (own, others) = (one.pid(), other.pid());
    assert_eq!((one.stop(), other.stop()), (0, 0));
    drop(load);
    for (place, own_pid) in [(&often, own), (&never, others)] {
        let wrong = compare(place, own_pid, &watched);
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
        let ticks = rebuilt::ticks(&place.all_ps());
        assert!(ticks.len() >= 30);
        assert_ledger(&ticks);
        place.assert_whole();
    }
    let fulls = |place: &Place| rebuilt::ticks(&place.all_ps()).iter().filter(|tick| tick.tick.field("full") == Some("1")).count();
    assert!(fulls(&often) >= 5, "a full sample each 5 s");
    assert!(fulls(&never) <= 2, "one at the start, and none after it but at midnight");
}

#[test]
fn what_the_gate_cannot_see_is_found_at_the_next_full_sample_and_counted() {
    let _alone = alone();
    let place = Place::new("ps:full_every = \"3s\"\n");
    let load = Load::start();
    let recorder = place.start();
    let nice = |place: &Place| place.ps().rows_of(load.sleeper).last().map(|row| row.number("nice"));
    until("the sleeper's row", || nice(&place).is_some());
    let before = nice(&place).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(load.sleeper).unwrap()).unwrap();
    rustix::process::setpriority_process(Some(pid), 7).unwrap();
    until("its new nice value", || nice(&place) == Some(7));
    assert_ne!(before, 7);
    place.wait_for_next_tick();
    assert_eq!(recorder.stop(), 0);
    let row = place.ps().rows_of(load.sleeper).into_iter().find(|row| row.number("nice") == 7).unwrap();
    let segment = place.ps();
    let tick = segment.ticks().find(|tick| tick.time == row.time).unwrap();
    assert_eq!(tick.field("full"), Some("1"));
    assert!(tick.count("gate_missed").unwrap() >= 1, "{tick:?}");
}

#[test]
fn the_cpu_of_a_burner_is_that_of_its_own_clock() {
    let _alone = alone();
    let place = Place::new("ps:changes = false\n");
    let load = Load::start();
    let recorder = place.start();
    place.wait_for_ticks(2);
    let watched = watch(&[&place], 6);
    assert_eq!(recorder.stop(), 0);
    let rows = place.ps().rows_of(load.burner);
    let hz = i64::try_from(rustix::param::clock_ticks_per_second()).unwrap();
    let ticks_of = |reading: &Reading| reading.all.iter().find(|((pid, _), _)| *pid == i64::from(load.burner)).unwrap().1.cpu_ticks;
    let (first, last) = (&watched[0], &watched[watched.len() - 1]);
    let own_s = (ticks_of(&last.2) - ticks_of(&first.2)) as f64 / hz as f64;
    let over_s = (last.2.ended_ns - first.2.ended_ns) as f64 / 1e9;
    let own_pct = own_s / over_s * 100.0;
    let within = |row: &&common::NamedRow| i128::from(row.time.unix_ns) > first.0 && i128::from(row.time.unix_ns) <= last.0;
    let recorded: Vec<f64> = rows.iter().filter(within).map(|row| row.number("cpu_pct") as f64 / 10.0).collect();
    assert!(recorded.len() >= 5, "{recorded:?}");
    let mean = recorded.iter().sum::<f64>() / recorded.len() as f64;
    assert!((mean - own_pct).abs() < 15.0, "recorded {mean:.1} ({recorded:?}), by its own clock {own_pct:.1}");
    assert!(own_pct > 20.0, "the machine let it burn");
    // The percentage of a row is the growth of its cpu_s: cpu_s has milliseconds, and the looks jitter.
    for pair in rows.windows(2) {
        let grown_ms = pair[1].number("cpu_s") - pair[0].number("cpu_s");
        let over_ms = (pair[1].time.unix_ns - pair[0].time.unix_ns) / 1_000_000;
        let by_rows = grown_ms as f64 * 100.0 / over_ms as f64;
        let said = pair[1].number("cpu_pct") as f64 / 10.0;
        assert!((by_rows - said).abs() < 15.0, "cpu_s grew by {grown_ms} ms in {over_ms} ms, cpu_pct says {said}");
    }
    drop(load);
}

#[test]
fn text_and_json_say_the_same_of_processes_that_do_nothing() {
    let _alone = alone();
    let settings = |format: &str| Place::new(&format!("args = \"full\"\nformat = \"{format}\"\nps:changes = false\n{COLUMNS}"));
    let (text, json) = (settings("text"), settings("json"));
    let load = Load::start();
    let (one, other) = (text.start(), json.start());
    text.wait_for_ticks(2);
    json.wait_for_ticks(2);
    let watched = watch(&[&text, &json], 4);
    assert_eq!((one.stop(), other.stop()), (0, 0));
    drop(load);
    assert!(std::fs::read_to_string(json.file("ps.log")).unwrap().starts_with("{\"stream\":\"ps\""));
    let (first, last) = (&watched[0], &watched[3]);
    // Of more than one task the oracle's clock does not tell.
    let idle = |id: &plain::Id| first.1.all.get(id).is_some_and(|seen| last.2.all.get(id) == Some(seen) && seen.numbers["threads"] == 1);
    let mut compared = 0;
    for (due, _, _) in &watched[1..] {
        let tick = |place: &Place| rebuilt::ticks(&place.all_ps()).into_iter().find(|tick| i128::from(tick.time.unix_ns) == *due);
        let (Some(text), Some(json)) = (tick(&text), tick(&json)) else { continue };
        for (id, row) in text.rows.iter().filter(|(id, _)| idle(id)) {
            // Its look and the other's are not at the same instant, but it did not run between them.
            if let Some(twin) = json.rows.get(id) {
                assert_eq!(row, twin, "{id:?}");
                assert_eq!(row["cpu_pct"], Value::Fixed(0));
                compared += 1;
            }
        }
    }
    assert!(compared > 10, "only {compared} idle rows were compared");
}
