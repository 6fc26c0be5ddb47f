//! Streams `credits` and `credits_process`, with the real daemon: who spent the CPUs, the dead included. What is true the spenders
//! say themselves.

#![allow(clippy::unwrap_used, clippy::panic)] // a test

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{NamedRow, Place, Segment, Target, as_nobody, has, is_root, skipped, until};
use jiff::civil::{DateTime, date};
use psmon::journal::segment::Name;
use psmon::record::value::Value;

const MS: i64 = 1000;

/// Credits each second; `more` are keys of `[credits]`, `rest` what follows.
fn place(more: &str, rest: &str) -> Place {
    Place::new(&config(more, rest))
}

fn config(more: &str, rest: &str) -> String {
    format!("[pss]\nenabled = false\n[usage]\nenabled = false\n[credits]\ninterval = \"1s\"\n{more}\n{rest}\nps:")
}

fn segment(place: &Place, stream: &str) -> Segment {
    Segment::read(&place.logs(), &Name::live(stream))
}

/// Rows of a program, of this user where one is named, in all segments.
fn rows(place: &Place, program: &str, user: Option<&str>) -> Vec<NamedRow> {
    let is = |row: &NamedRow| {
        row.word("program") == program.as_bytes() && user.is_none_or(|user| *row.get("user") == Value::word(user.as_bytes()))
    };
    place.all("credits").iter().flat_map(Segment::rows).filter(|row| is(row)).collect()
}

/// Microseconds of all rows.
fn cpu_us(rows: &[NamedRow]) -> i64 {
    rows.iter().map(|row| row.number("cpu_s")).sum()
}

fn ticks(place: &Place) -> usize {
    place.all("credits").iter().map(|segment| segment.ticks().count()).sum()
}

fn until_ticks(place: &Place, more: usize) {
    let before = ticks(place);
    until(&format!("more ticks of credits; stderr: {}", place.stderr()), || ticks(place) >= before + more);
}

/// Until what was spent by now stands in rows.
fn settle(place: &Place) {
    until_ticks(place, 2);
}

/// What a spender answered, microseconds.
fn told(answer: &str) -> i64 {
    answer.lines().last().unwrap().parse::<i64>().unwrap() / 1000
}

fn spender(place: &Place, name: &str) -> Target {
    Target::called(place, "spender", name)
}

/// Within this of the truth, microseconds: what is before and after, and is no spending, is small.
#[track_caller]
fn assert_near(what: &str, counted: i64, truth: i64, off: i64) {
    assert!((counted - truth).abs() <= off, "{what}: counted {counted} us, {truth} us are true");
}

#[test]
fn short_lives_are_counted_for_their_program_and_user() {
    if !is_root("short_lives_are_counted_for_their_program_and_user") {
        return;
    }
    let place = place("", "");
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    let mut one = spender(&place, "spender-short");
    let truth = told(&one.does("children 60 5"));
    settle(&place);
    let short = rows(&place, "spender-short", Some("root"));
    // Its own are the forks and the waiting.
    let own = told(&one.does("spent"));
    // What a task does after its record was made nobody is told but its parent: 50 to 100 us, and more on a busy machine.
    assert_near("children and parent", cpu_us(&short), truth + own, 60 * 300);
    let (started, exited): (i64, i64) =
        short.iter().map(|row| (row.number("started"), row.number("exited"))).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    // It came to this name by an execution, before or after it was first counted.
    assert!(exited == 60 && started == 61, "{started} {exited}");
    assert_eq!(short.last().unwrap().number("procs"), 1);
    for row in &short {
        assert_eq!(row.number("util_s"), (row.number("cpu_s") * 100 + 500) / 1000, "%·s are 100 x seconds");
        assert!((row.number("credits") - row.number("cpu_s") / 60).abs() <= 1, "a credit is 60 seconds");
    }
    // A row each, and all of them together the same.
    drop(one);
    settle(&place);
    let lives: Vec<NamedRow> =
        segment(&place, "credits_process").rows().into_iter().filter(|row| row.word("program") == b"spender-short").collect();
    assert_eq!(lives.len(), 61);
    assert!(lives.iter().all(|row| *row.get("part") == Value::Absent && row.number("lives") == 1));
    let all: i64 = lives.iter().map(|row| row.number("cpu_s")).sum();
    assert_near("rows of processes", all, cpu_us(&rows(&place, "spender-short", None)), 200);
    // The sum of a tick is that of its rows, and what the machine's clock says beyond it is a row.
    let credits = segment(&place, "credits");
    for tick in credits.ticks().skip(1) {
        let of_tick: Vec<NamedRow> = credits.rows().into_iter().filter(|row| row.time == tick.time).collect();
        let (nobody, known): (Vec<NamedRow>, Vec<NamedRow>) = of_tick.into_iter().partition(|row| row.word("program") == b"(unattributed)");
        let micros = |field: &str| (tick.field(field).unwrap().parse::<f64>().unwrap() * 1e6) as i64;
        assert!((cpu_us(&known) - micros("sum_s")).abs() <= known.len() as i64, "rounding");
        if tick.field("closure_of") != Some("cgroup2") {
            assert!((micros("clock_s") - micros("sum_s") - cpu_us(&nobody)).abs() <= 2, "{nobody:?}");
        }
    }
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn time_goes_to_the_user_and_the_program_it_was_spent_as() {
    if !is_root("time_goes_to_the_user_and_the_program_it_was_spent_as") {
        return;
    }
    let place = place("", "");
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    let mut one = spender(&place, "spender-before");
    std::fs::set_permissions(place.root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = Target::binary(&place, "spender", "spender-after");
    // All of it within a tick or two: that it ran as somebody else at the next is not enough to tell.
    let as_root = told(&one.does("burn 120"));
    one.does("user 65534");
    let as_nobody = told(&one.does("burn 80"));
    one.does(&format!("exec {} 60", path.display()));
    one.does("thread 40");
    let all = told(&one.does("spent"));
    settle(&place);
    let slack = 5 * MS;
    assert_near("as root", cpu_us(&rows(&place, "spender-before", Some("root"))), as_root, slack);
    assert_near("as nobody", cpu_us(&rows(&place, "spender-before", Some("nobody"))), as_nobody, slack);
    assert_near("as another program", cpu_us(&rows(&place, "spender-after", Some("nobody"))), all - as_root - as_nobody, slack);
    assert!(rows(&place, "spender-after", Some("root")).is_empty());
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn of_those_that_are_older_only_what_they_spend_from_now_on_is_counted() {
    if !is_root("of_those_that_are_older_only_what_they_spend_from_now_on_is_counted") {
        return;
    }
    let place = place("", "");
    let mut one = spender(&place, "spender-older");
    // Most of it in threads that are gone when psmond comes.
    one.does("burn 100");
    one.does("thread 300");
    let before = told(&one.does("spent"));
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    one.does("thread 100");
    // Of a child that nobody waits for only itself knows what it used, and the kernel.
    let ignored = told(&one.does("ignored 150"));
    let after = told(&one.does("spent"));
    drop(one);
    settle(&place);
    assert_near("since psmond came", cpu_us(&rows(&place, "spender-older", None)), after - before + ignored, 4 * MS);
    let lives = segment(&place, "credits_process");
    let own: Vec<NamedRow> = lives.rows().into_iter().filter(|row| row.word("program") == b"spender-older").collect();
    assert_eq!(own.len(), 2);
    assert_near("their rows", own.iter().map(|row| row.number("cpu_s")).sum(), after - before + ignored, 4 * MS);
    // Of its whole life is what its average is of.
    assert!(own.iter().any(|row| row.number("wall_s") < 60_000_000 && row.number("life_pct") > 0));
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn a_restart_loses_nothing_and_counts_nothing_twice() {
    if !is_root("a_restart_loses_nothing_and_counts_nothing_twice") {
        return;
    }
    let place = place("partial_every = \"2s\"", "");
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    let mut one = spender(&place, "spender-restart");
    one.does("burn 200");
    settle(&place);
    one.does("burn 100");
    assert_eq!(recorder.stop(), 0);
    // Nobody records, and it goes on.
    one.does("burn 150");
    let mut between = spender(&place, "spender-between");
    between.does("burn 50");
    let recorder = place.start();
    until_ticks(&place, 1);
    one.does("burn 100");
    settle(&place);
    // A recorder that is killed knows what stood in its state: the day goes on from there.
    assert_eq!(recorder.stop(), 0);
    let recorder = place.start();
    until_ticks(&place, 1);
    let truth = told(&one.does("spent"));
    drop(one);
    settle(&place);
    assert_near("all", cpu_us(&rows(&place, "spender-restart", None)), truth, 3 * MS);
    assert_near("of its day", rows(&place, "spender-restart", None).last().unwrap().number("day_cpu_s"), truth, 3 * MS);
    assert_near(
        "of who was born meanwhile",
        cpu_us(&rows(&place, "spender-between", None)),
        told(&between.does("spent")),
        3 * MS,
    );
    assert_eq!(recorder.stop(), 0);
    let lives: Vec<NamedRow> = place.all("credits_process").iter().flat_map(Segment::rows).collect();
    let own: Vec<&NamedRow> = lives.iter().filter(|row| row.word("program") == b"spender-restart").collect();
    assert_near("its rows", own.iter().map(|row| row.number("cpu_s")).sum(), truth, 3 * MS);
    let parts: Vec<Option<i64>> = own.iter().map(|row| row.get("part").number()).collect();
    let (last, before) = parts.split_last().unwrap();
    assert_eq!(*last, None, "at its end");
    assert!(before.len() >= 2, "at each stop at least: {parts:?}");
    assert_eq!(before, (1..).map(Some).take(before.len()).collect::<Vec<_>>(), "counted on over restarts");
    let ends = lives.iter().filter(|row| *row.get("part") == Value::Absent);
    let mut ids: Vec<(i64, i64)> = ends.map(|row| (row.number("pid"), row.number("start"))).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "somebody ended twice");
    place.assert_whole();
}

#[test]
fn a_recorder_that_is_killed_after_a_tick_counts_nothing_twice() {
    if !is_root("a_recorder_that_is_killed_after_a_tick_counts_nothing_twice") {
        return;
    }
    // At this interval each tick is followed by a state.
    let place = Place::new("[pss]\nenabled = false\n[usage]\nenabled = false\n[credits]\ninterval = \"10s\"\nps:");
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    let mut one = spender(&place, "spender-killed");
    one.does("burn 200");
    let before = told(&one.does("spent"));
    until("a row", || cpu_us(&rows(&place, "spender-killed", None)) > before - 5 * MS);
    let state = || std::fs::read_to_string(place.file("psmond.state")).unwrap();
    until("a state that knows of it", || state().contains("spender-killed"));
    recorder.kill();
    one.does("burn 100");
    let recorder = place.start();
    let truth = told(&one.does("spent"));
    // At once: what was used meanwhile has a sample of its own, which says for how long nobody recorded.
    until("the rest", || cpu_us(&rows(&place, "spender-killed", None)) > before + 50 * MS);
    assert_near("all", cpu_us(&rows(&place, "spender-killed", None)), truth, 5 * MS);
    assert_near("of its day", rows(&place, "spender-killed", None).last().unwrap().number("day_cpu_s"), truth, 5 * MS);
    let unrecorded = segment(&place, "credits").ticks().filter_map(|tick| tick.field("unrecorded_s").map(str::to_owned)).count();
    assert_eq!(unrecorded, 1);
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn switched_off_and_on_again_it_goes_on_with_the_day_and_the_budgets() {
    if !is_root("switched_off_and_on_again_it_goes_on_with_the_day_and_the_budgets") {
        return;
    }
    let budget = "[[budget]]\nname = \"kept\"\nprogram = \"spender-switched\"\nearn = 0\ncap = 1";
    let place = place("", budget);
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    let mut one = spender(&place, "spender-switched");
    one.does("burn 200");
    // The reload itself tells what was used by then.
    let write = |more: &str| std::fs::write(place.config(), place.text(&config(more, budget))).unwrap();
    let reloads = || place.all("ps").iter().map(|segment| segment.notes("reload ok").len()).sum::<usize>();
    write("enabled = false");
    let on = told(&one.does("spent"));
    recorder.hup();
    until("it is off", || reloads() > 0);
    assert_near("until then", cpu_us(&rows(&place, "spender-switched", None)), on, 5 * MS);
    // Nobody counts this.
    one.does("burn 300");
    let off = told(&one.does("spent")) - on;
    let seen = reloads();
    write("");
    recorder.hup();
    until("it is on", || reloads() > seen);
    until_ticks(&place, 1);
    one.does("burn 100");
    settle(&place);
    let all = rows(&place, "spender-switched", None);
    let counted = told(&one.does("spent")) - off;
    assert_near("all but what was used while it was off", cpu_us(&all), counted, 8 * MS);
    assert_near("of the day", all.last().unwrap().number("day_cpu_s"), counted, 8 * MS);
    let balance = place.all("budgets").iter().flat_map(Segment::rows).last().unwrap().number("balance");
    assert!((1_000_000 - balance - counted / 60).abs() <= 10 * MS / 60, "{balance} is left after {counted} us");
    assert_eq!(recorder.stop(), 0);
}

#[test]
fn without_exit_records_it_says_what_is_missing_and_closes_lower() {
    let test = "without_exit_records_it_says_what_is_missing_and_closes_lower";
    if !is_root(test) || !has(test, "setpriv") {
        return;
    }
    let place = place("", "");
    place.let_nobody_write();
    let recorder = place.start_command(as_nobody(&place));
    until("the first tick", || ticks(&place) > 0);
    let mut one = spender(&place, "spender-unheard");
    let children = told(&one.does("children 100 8"));
    one.does("burn 200");
    settle(&place);
    let own = told(&one.does("spent"));
    let counted = cpu_us(&rows(&place, "spender-unheard", None));
    assert!(counted >= own - 5 * MS, "those that live are counted: {counted} of {own}");
    assert!(
        counted < own + children / 2,
        "of the short-lived hardly anything can be known: {counted} of {own} + {children}"
    );
    let credits = segment(&place, "credits");
    let notes = credits.notes("degraded");
    assert!(notes.iter().any(|note| note.contains("what=credits") && note.contains("mend=CAP_NET_ADMIN")), "{notes:?}");
    let closures: Vec<f64> = credits.ticks().filter_map(|tick| tick.field("closure")?.parse().ok()).collect();
    assert!(closures.iter().any(|closure| *closure < 90.0), "{closures:?}");
    assert_eq!(recorder.stop(), 0);
}

/// psmond by a clock that starts here, given in UTC.
fn at(place: &Place, lib: &str, utc: DateTime) -> Command {
    let mut command = place.command();
    let seconds = utc.in_tz("UTC").unwrap().timestamp().as_second();
    command.env("LD_PRELOAD", lib).env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", "Europe/Berlin");
    command.env("FAKETIME", format!("@{seconds}")).env("FAKETIME_FMT", "%s");
    command
}

fn faketime(test: &str) -> Option<String> {
    let lib = |dir: PathBuf| dir.join("faketime/libfaketime.so.1");
    let places = std::fs::read_dir("/usr/lib").unwrap().filter_map(|entry| Some(entry.ok()?.path())).map(lib);
    let found = places.into_iter().find(|path| path.exists()).map(|path| path.display().to_string());
    if found.is_none() {
        skipped(test, "libfaketime is not installed");
    }
    found
}

/// Microseconds by the day that the interval belongs to: that of its last nanosecond.
fn by_day(rows: &[NamedRow]) -> Vec<(String, i64)> {
    let mut days: Vec<(String, i64)> = Vec::new();
    for row in rows {
        let mut last = row.time;
        last.unix_ns -= 1;
        let day = last.date().to_string();
        match days.iter_mut().find(|(known, _)| *known == day) {
            Some((_, sum)) => *sum += row.number("cpu_s"),
            None => days.push((day, row.number("cpu_s"))),
        }
    }
    days
}

#[test]
fn each_second_belongs_to_one_day() {
    let test = "each_second_belongs_to_one_day";
    let Some(lib) = faketime(test) else { return };
    if !is_root(test) {
        return;
    }
    // Midnight in Berlin at the end of a day of 25 hours.
    let place = place("", "");
    let mut one = spender(&place, "spender-midnight");
    let before = told(&one.does("spent"));
    let recorder = place.start_command(at(&place, &lib, date(2026, 10, 25).at(22, 59, 56, 0)));
    until("the first tick", || ticks(&place) > 0);
    let days = || by_day(&rows(&place, "spender-midnight", None));
    until("both days", || {
        one.does("burn 50");
        days().len() == 2
    });
    let truth = told(&one.does("spent")) - before;
    settle(&place);
    assert_eq!(recorder.stop(), 0);
    let all = rows(&place, "spender-midnight", None);
    assert_near("both days", cpu_us(&all), truth, 4 * MS);
    for (day, sum) in by_day(&all) {
        let of_day = |row: &&NamedRow| {
            let mut last = row.time;
            last.unix_ns -= 1;
            last.date().to_string() == day
        };
        let last = all.iter().rfind(of_day).unwrap();
        assert!((last.number("day_cpu_s") - sum).abs() <= all.len() as i64, "{day}: {sum} and {last:?}");
        // Two CPUs or more, less what was spent, on a day of 25 hours and one of 24.
        let hours = if day == "2026-10-25" { 25 } else { 24 };
        let cpus = std::thread::available_parallelism().unwrap().get() as i64;
        let left = last.number("day_credits_left");
        let most = cpus * hours * 60 * 1000;
        assert!((most - 10_000..=most).contains(&left), "{day}: {left} of {most}");
    }
    assert_eq!(by_day(&all).into_iter().map(|(day, _)| day).collect::<Vec<_>>(), ["2026-10-25", "2026-10-26"]);
}

#[test]
fn a_clock_that_is_set_back_over_midnight_goes_on_with_the_day_before() {
    let test = "a_clock_that_is_set_back_over_midnight_goes_on_with_the_day_before";
    let Some(lib) = faketime(test) else { return };
    if !is_root(test) {
        return;
    }
    let place = place("", "");
    let clock = place.root.path().join("clock");
    let offset = date(2027, 2, 3).at(12, 0, 0, 0).in_tz("UTC").unwrap().timestamp().as_second() - jiff::Timestamp::now().as_second();
    let set = |offset: i64| {
        let new = clock.with_extension("new");
        std::fs::write(&new, format!("{offset:+}\n")).unwrap();
        std::fs::rename(new, &clock).unwrap();
    };
    set(offset);
    let mut command = place.command();
    command.env("LD_PRELOAD", lib).env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC");
    command.env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
    let mut one = spender(&place, "spender-stepped");
    let before = told(&one.does("spent"));
    let recorder = place.start_command(command);
    until("the first tick", || ticks(&place) > 0);
    let mut spends = |on: &str| {
        // Until a row of that day has it.
        let sum = |days: &[(String, i64)]| days.iter().find(|(day, _)| day == on).map_or(0, |(_, sum)| *sum);
        let until_us = sum(&by_day(&rows(&place, "spender-stepped", None))) + 50 * MS;
        until(&format!("it spends on {on}"), || {
            one.does("burn 20");
            sum(&by_day(&rows(&place, "spender-stepped", None))) > until_us
        });
    };
    spends("2027-02-03");
    set(offset + 86_400);
    spends("2027-02-04");
    set(offset);
    spends("2027-02-03");
    let truth = told(&one.does("spent")) - before;
    settle(&place);
    assert_eq!(recorder.stop(), 0);
    let all = rows(&place, "spender-stepped", None);
    assert_near("all days", cpu_us(&all), truth, 4 * MS);
    let days = by_day(&all);
    assert_eq!(days.len(), 2, "{days:?}");
    for (day, sum) in days {
        let most = all.iter().filter(|row| row.time.date().to_string() == day).map(|row| row.number("day_cpu_s")).max().unwrap();
        assert!((most - sum).abs() <= all.len() as i64, "{day}: {sum} in rows, {most} of the day");
    }
}

#[test]
fn a_budget_is_spent_told_of_and_survives_a_restart_and_a_reload() {
    if !is_root("a_budget_is_spent_told_of_and_survives_a_restart_and_a_reload") {
        return;
    }
    // 0.01 credits are 0.6 s.
    let budgets = |more: &str| {
        format!(
            "[[budget]]\nname = \"small\"\nprogram = \"spender-budget\"\nearn = 0\ncap = 0.01\n\
             [[budget]]\nname = \"whole\"\ncgroup = \"*\"\nearn = 3600\ncap = 100\nstart = 50\n{more}"
        )
    };
    let place = place("", &budgets(""));
    let recorder = place.start();
    until("the first tick", || ticks(&place) > 0);
    let last = |name: &str| {
        let rows: Vec<NamedRow> = place.all("budgets").iter().flat_map(Segment::rows).collect();
        rows.into_iter().rfind(|row| row.word("name") == name.as_bytes())
    };
    let balance = |name: &str| last(name).map(|row| row.number("balance"));
    // The digits of the columns.
    let credit = 1_000_000;
    until(&format!("both; stderr: {}", place.stderr()), || balance("small").is_some() && balance("whole").is_some());
    assert_eq!(balance("small"), Some(credit / 100), "it begins with its cap");
    let mut one = spender(&place, "spender-budget");
    one.does("burn 350");
    let near = |what: &str, balance: Option<i64>, cpu_us: i64| {
        let spent = credit / 100 - balance.unwrap();
        assert!((spent - cpu_us / 60).abs() <= 10 * MS / 60 + 2, "{what}: {spent} micro-credits, {cpu_us} us are true");
    };
    settle(&place);
    near("after the first", balance("small"), told(&one.does("spent")));
    assert!(balance("whole").unwrap() > 50 * credit, "it earns a credit a second, more than two CPUs can spend");
    let alerts = || -> Vec<(Vec<u8>, String)> {
        let rows = place.all("alerts").iter().flat_map(Segment::rows).collect::<Vec<_>>();
        let of = |row: &NamedRow| (row.word("level"), String::from_utf8_lossy(&row.word("text")).into_owned());
        rows.iter().filter(|row| row.word("kind") == b"budget").map(of).collect()
    };
    until("half of it is gone", || alerts().iter().any(|(level, text)| level == b"warn" && text.contains("small")));
    assert_eq!(alerts().len(), 1, "{:?}", alerts());
    let exhausted = |name: &str| last(name).unwrap().get("exhausted_at").clone();
    assert_eq!(recorder.stop(), 0);
    // While nobody records nothing is earned, for three seconds at least.
    spender(&place, "spender-meanwhile").does("burn 3000");
    let recorder = place.start();
    settle(&place);
    near("after a restart", balance("small"), told(&one.does("spent")));
    let sum = |stream: &str, column: &str| -> i64 {
        let rows: Vec<NamedRow> = place.all(stream).iter().flat_map(Segment::rows).collect();
        rows.iter().filter(|row| row.word("name") == b"whole").map(|row| row.number(column)).sum()
    };
    let recorded: f64 = place
        .all("credits")
        .iter()
        .flat_map(|segment| segment.ticks().cloned().collect::<Vec<_>>())
        .map(|tick| {
            let seconds = |field: &str| tick.field(field).map_or(0.0, |text| text.parse().unwrap());
            seconds("span_s") - seconds("unrecorded_s")
        })
        .sum();
    let earned = sum("budgets", "earned") as f64 / credit as f64;
    assert!((earned - recorded).abs() < 1.5, "{earned} earned in {recorded} s");
    // A larger cap fills nobody's balance.
    let new = budgets("[[budget]]\nname = \"new\"\nuser = \"root\"\nearn = 1\ncap = 5\nstart = 2\n").replace("cap = 0.01", "cap = 0.02");
    std::fs::write(place.config(), place.text(&config("", &new))).unwrap();
    recorder.hup();
    until("the new one", || balance("new").is_some());
    settle(&place);
    near("after a reload", balance("small"), told(&one.does("spent")));
    until("nothing is left", || {
        one.does("burn 100");
        balance("small") == Some(0)
    });
    assert!(matches!(exhausted("small"), Value::Word(_)), "since when");
    until("it is said", || alerts().iter().any(|(level, text)| level == b"crit" && text.contains("small")));
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}
