//! `psmon show` gives what the journal holds, no more and no less, whatever its files are called and however they are written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::process::{Command, Output, Stdio};

use common::{Place, Segment, Victim, err, out, psmon, skipped, status, until};
use psmon::journal::archive::compress;
use psmon::journal::json::write_row;
use psmon::journal::reader::{Mark, RawLines, open};
use psmon::journal::segment::Name;
use psmon::record::moment::Moment;
use psmon::record::schema::Columns;
use psmon::record::stream::Stream;
use psmon::source::connector::Connector;
use serde_json::Value as Json;

fn show(place: &Place, args: &[&str]) -> Output {
    psmon().arg("show").args(args).arg("--log-dir").arg(place.logs()).stdin(Stdio::null()).output().unwrap()
}

fn objects(output: &Output) -> Vec<Json> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn rows(output: &Output) -> Vec<Json> {
    objects(output).into_iter().filter(|object| object["rec"] == "row").collect()
}

/// The lines of a segment of these kinds, as they stand.
fn lines(place: &Place, name: &str, kinds: &[Mark]) -> Vec<String> {
    let mut lines = RawLines::new(open(&place.logs(), &Name::parse(name).unwrap()).unwrap());
    let mut found = Vec::new();
    while let Some(raw) = lines.read().unwrap() {
        if kinds.contains(&raw.mark) {
            found.push(String::from_utf8(raw.bytes.to_vec()).unwrap());
        }
    }
    found
}

/// Three runs of psmond, each with columns of its own and so a segment: text, JSON, text. The first is compressed and the second
/// closed, both as of days before; their names, the oldest first.
fn three_days() -> (Place, Victim, [&'static str; 3]) {
    let place = Place::of_ps("");
    let child = Victim::spawn(Command::new("sleep").arg("4321"));
    for (columns, format) in
        [("pid,user,program,cmd", "text"), ("pid,user,program,cpu_s,cmd", "json"), ("pid,user,program,rss,cmd", "text")]
    {
        let mut command = place.command();
        command.args(["-o", columns, "--format", format]);
        let from = place.last_seq();
        let recorder = place.start_command(command);
        until("two samples", || {
            place.all_ps().iter().flat_map(Segment::ticks).filter_map(|tick| tick.count("seq")).max() >= Some(from + 2)
        });
        assert_eq!(recorder.stop(), 0);
    }
    let today: Vec<String> = place.all_ps().iter().map(|segment| segment.name.clone()).collect();
    assert_eq!(today.len(), 3, "a segment for each set of columns: {today:?}");
    let names = ["ps-2026-01-01.log", "ps-2026-01-02.log", "ps.log"];
    let mut by_number: Vec<(u64, String)> =
        place.all_ps().iter().map(|segment| (segment.header.as_ref().unwrap().seg, segment.name.clone())).collect();
    by_number.sort();
    for ((_, from), to) in by_number.iter().zip(names) {
        std::fs::rename(place.file(from), place.file(to)).unwrap();
    }
    compress(&place.logs(), &Name::parse(names[0]).unwrap()).unwrap();
    (place, child, ["ps-2026-01-01.log.zst", "ps-2026-01-02.log", "ps.log"])
}

#[test]
fn all_that_the_journal_holds_is_shown_once_and_in_order() {
    let (place, _child, names) = three_days();
    let recorded = |name: &str| Segment::read(&place.logs(), &Name::parse(name).unwrap());

    // Each record as JSON, held against what the reader finds in the files.
    let output = show(&place, &["ps", "--json"]);
    assert_eq!((status(&output), err(&output)), (0, String::new()));
    let shown: Vec<String> = out(&output).lines().filter(|line| line.contains("\"rec\":\"row\"")).map(str::to_owned).collect();
    let (mut expected, mut as_text) = (Vec::new(), Vec::new());
    for name in names {
        let segment = recorded(name);
        let columns = Columns::for_journal(Stream::Ps, &segment.header.as_ref().unwrap().columns[1..]).unwrap();
        for row in segment.rows() {
            let time = row.time.to_string();
            let (mut json, mut text) = (Vec::new(), Vec::new());
            write_row(Some("ps"), &columns, Some(time.as_bytes()), &row.values, &mut json);
            psmon::journal::text::write_row(&columns, time.as_bytes(), &row.values, &mut text);
            expected.push(String::from_utf8(json).unwrap().trim_end().to_owned());
            as_text.push(String::from_utf8(text).unwrap().trim_end_matches('\n').to_owned());
        }
    }
    assert!(expected.len() > 3);
    assert_eq!(shown, expected);
    // What was written as JSON stands as it is.
    let text = out(&output);
    for line in lines(&place, names[1], &[Mark::Row, Mark::Gone]) {
        assert!(text.lines().any(|shown| shown == line), "{line}");
    }

    // As text: what was written as text stands as it is, under its columns.
    let output = show(&place, &["ps"]);
    let text = out(&output);
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("#cols")).collect();
    assert_eq!(headings.len(), 3, "{headings:?}");
    let last: Vec<&str> = text.lines().skip_while(|line| *line != headings[2]).skip(1).collect();
    assert_eq!(last, lines(&place, names[2], &[Mark::Row, Mark::Gone]));
    let first: Vec<&str> = text.lines().skip(1).take_while(|line| *line != headings[1]).collect();
    assert_eq!(first, lines(&place, names[0], &[Mark::Row, Mark::Gone]));

    let text_rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(text_rows, as_text);

    // As CSV: an empty line before each new header.
    let csv = out(&show(&place, &["ps", "--csv"]));
    assert_eq!(csv.split("\r\n\r\ntime,").count(), 3, "{csv}");
    let named = out(&show(&place, &["ps", "--csv", "-o", "time,pid,cmd"]));
    assert!(named.starts_with("time,pid,cmd\r\n") && named.split("\r\n").count() == expected.len() + 2, "{named}");

    // Ticks and notes only where they are asked for.
    assert!(!text.contains("#tick") && !text.contains("#note"));
    let with_notes = out(&show(&place, &["ps", "--notes"]));
    let ticks: usize = names.iter().map(|name| recorded(name).ticks().count()).sum();
    assert_eq!(with_notes.matches("#tick ").count(), ticks);
    assert!(with_notes.contains(" start ") && with_notes.contains(" stop"));
}

#[test]
fn filters_and_bounds_leave_out_what_is_not_meant() {
    let (place, child, names) = three_days();
    let pid = child.pid().to_string();
    let all = rows(&show(&place, &["ps", "--json"]));

    let ours = rows(&show(&place, &["ps", "--json", "--pid", &pid]));
    let expected: Vec<&Json> = all.iter().filter(|row| row["pid"] == child.pid()).collect();
    assert!(expected.len() >= 3, "one in each segment at least");
    assert_eq!(ours.iter().collect::<Vec<_>>(), expected);
    let program = expected[0]["program"].as_str().unwrap();
    let by_program = rows(&show(&place, &["ps", "--json", "--program", program]));
    assert_eq!(by_program, all.iter().filter(|row| row["program"] == program).cloned().collect::<Vec<_>>());
    let user = expected[0]["user"].as_str().unwrap();
    let by_user = rows(&show(&place, &["ps", "--json", "--user", user]));
    assert_eq!(by_user, all.iter().filter(|row| row["user"] == user).cloned().collect::<Vec<_>>());

    // The last, over segments.
    for count in [1, all.len() - 1, all.len(), all.len() + 100] {
        let last = objects(&show(&place, &["ps", "--json", "--pid", &pid, "-n", &count.to_string()]));
        let of_pid = objects(&show(&place, &["ps", "--json", "--pid", &pid]));
        assert_eq!(last, of_pid[of_pid.len().saturating_sub(count)..], "{count}");
    }

    // Between two moments, both included. Names of files tell nothing wrong: the closed ones are renamed back to today.
    std::fs::rename(place.file(names[1]), place.file("ps-2999-01-02.log")).unwrap();
    std::fs::rename(place.file(names[0]), place.file("ps-2999-01-01.log.zst")).unwrap();
    let time = |row: &Json| Moment::parse(row["time"].as_str().unwrap().as_bytes()).unwrap().unix_ns;
    let mut times: Vec<i64> = all.iter().map(time).collect();
    times.dedup();
    assert!(times.len() >= 3, "{times:?}");
    let (since, until) = (times[1], times[times.len() - 2]);
    let say = |at: i64| format!("@{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
    let between = rows(&show(&place, &["ps", "--json", "--since", &say(since), "--until", &say(until)]));
    let expected: Vec<Json> = all.iter().filter(|row| (since..=until).contains(&time(row))).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(between, expected);
    let recent = show(&place, &["ps", "--json", "--since", "-1h"]);
    assert_eq!(rows(&recent), all);
}

#[test]
fn segments_outside_of_the_span_are_not_opened() {
    let (place, _child, names) = three_days();
    // Were it opened it would be complained of.
    std::fs::write(place.file(names[0]), "no zstd").unwrap();
    let output = show(&place, &["ps", "--since", "2026-02-01"]);
    assert_eq!((status(&output), err(&output)), (0, String::new()));
    assert_eq!(out(&output).matches("#cols").count(), 1, "both days of January are passed over");
    let output = show(&place, &["ps"]);
    assert_eq!(status(&output), 0);
    assert!(err(&output).contains(names[0]), "{}", err(&output));
    assert_eq!(out(&output).matches("#cols").count(), 2);
}

#[test]
fn torn_records_are_left_out_and_counted() {
    let (place, _child, names) = three_days();
    let whole = out(&show(&place, &["ps"]));
    let text = std::fs::read_to_string(place.file(names[2])).unwrap();
    let row = lines(&place, names[2], &[Mark::Row]).remove(0);
    std::fs::write(place.file(names[2]), format!("{text}{row}\n{row}\nhalf")).unwrap();
    let output = show(&place, &["ps"]);
    assert_eq!(out(&output), whole);
    assert!(err(&output).contains("left out 2 records behind the last tick"), "{}", err(&output));
}

#[test]
fn exit_statuses_tell_nothing_from_wrong() {
    let (place, _child, _) = three_days();
    for (args, code, says) in [
        (&["nonsense"][..], 2, "the streams are ps, pss, usage"),
        (&["ps", "--since", "noon"], 2, "--since: 'noon' is no time; say it as 03:12"),
        (&["ps", "--since", "-1h", "--until", "-2h"], 2, "--since is later than --until"),
        (&["ps", "-o", "pid,pidd"], 2, "'pidd' is not a column of ps"),
        (&["usage", "--pid", "1"], 2, "have no column pid"),
        (&["ps", "--until", "1999-01-01"], 1, "no record of stream ps"),
        (&["ps", "--pid", "4294967295"], 1, "no record of stream ps"),
        (&["events"], 1, "no segment of stream events"),
    ] {
        let output = show(&place, args);
        assert_eq!(status(&output), code, "{args:?}: {output:?}");
        assert!(err(&output).contains(says) && out(&output).is_empty(), "{args:?}: {output:?}");
    }
    let nowhere = psmon().args(["show", "ps", "--log-dir", "/nonexistent"]).output().unwrap();
    assert_eq!(status(&nowhere), 3, "{nowhere:?}");
    // Nobody reads on: no complaint.
    let mut child =
        psmon().args(["show", "ps", "--log-dir"]).arg(place.logs()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((status(&output), err(&output)), (0, String::new()));
}

#[test]
fn obituaries_are_shown_before_their_tick() {
    if let Err(error) = Connector::listen(std::time::Duration::from_secs(1)) {
        return skipped("obituaries_are_shown_before_their_tick", &error.to_string());
    }
    let place = Place::new("[pss]\nenabled = false\n[usage]\nenabled = false\n[credits]\nenabled = false");
    let recorder = place.start();
    place.wait_for_ticks(2);
    let child = Command::new("sleep").arg("0.0123").spawn().unwrap();
    let pid = child.id().to_string();
    assert!(child.wait_with_output().unwrap().status.success());
    let mut found = Vec::new();
    until("its obituary", || {
        found = rows(&show(&place, &["exits", "--json", "--pid", &pid]));
        !found.is_empty()
    });
    assert_eq!(found[0]["pid"].to_string(), pid);
    let time = found[0]["time"].as_str().unwrap();
    assert_eq!(time.len(), "2026-11-20T17:02:10.000000000+01:00".len(), "{time}");
    assert_eq!(recorder.stop(), 0);
}
