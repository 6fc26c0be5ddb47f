use super::*;
use crate::journal::archive::compress;

fn write(dir: &Path, name: &str, seg: u64, time: &str) {
    let text = format!("#psmon 1 ps seg={seg} host=h\n#cols time pid cmd\n#help none\n{time} 1 x\n#tick {time} seq=1 n=1 crc=00000000\n");
    std::fs::write(dir.join(name), text).unwrap();
}

fn rename(dir: &Path, from: &str, to: &str) {
    std::fs::rename(dir.join(from), dir.join(to)).unwrap();
}

/// The name it was found under, and its number.
fn next(segments: &mut Segments) -> Option<(String, u64)> {
    let opened = segments.advance().unwrap()?;
    let mut lines = RawLines::new(opened.input);
    match Reader::default().read(&lines.read().unwrap().unwrap()) {
        Some(Line::Header(header)) => Some((opened.name.to_string(), header.seg)),
        other => panic!("{other:?}"),
    }
}

fn found(name: &str, seg: u64) -> Option<(String, u64)> {
    Some((name.to_owned(), seg))
}

const NOON: &str = "2026-11-20T12:00:00.000+01:00";

#[test]
fn each_is_found_once_whatever_happens_to_names_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    write(dir, "ps-2026-11-18.log", 7, NOON);
    // The clock was set back a day: the number tells the order.
    write(dir, "ps-2026-11-17.log", 8, NOON);
    write(dir, "ps.log", 9, NOON);
    write(dir, "pss.log", 1, NOON);
    let mut segments = Segments::new(dir, "ps", Way::Forward, None, None);
    assert_eq!(next(&mut segments), found("ps-2026-11-18.log", 7));
    // It and the next are compressed, and midnight comes twice.
    compress(dir, &Name::parse("ps-2026-11-18.log").unwrap()).unwrap();
    compress(dir, &Name::parse("ps-2026-11-17.log").unwrap()).unwrap();
    rename(dir, "ps.log", "ps-2026-11-20.log");
    write(dir, "ps.log", 10, NOON);
    assert_eq!(next(&mut segments), found("ps-2026-11-17.log.zst", 8));
    rename(dir, "ps.log", "ps-2026-11-20.2.log");
    write(dir, "ps.log", 11, NOON);
    assert_eq!(next(&mut segments), found("ps-2026-11-20.log", 9));
    // While one is compressed it is there twice.
    std::fs::copy(dir.join("ps-2026-11-20.2.log"), dir.join("twin")).unwrap();
    compress(dir, &Name::parse("ps-2026-11-20.2.log").unwrap()).unwrap();
    rename(dir, "twin", "ps-2026-11-20.2.log");
    assert_eq!(next(&mut segments).unwrap().1, 10);
    assert_eq!(next(&mut segments), found("ps.log", 11));
    rename(dir, "ps.log", "ps-2026-11-20.3.log");
    assert_eq!(next(&mut segments), None, "it was read under its old name");
    assert!(segments.unread.is_empty());

    let mut back = Segments::new(dir, "ps", Way::Back, None, None);
    let numbers: Vec<u64> = std::iter::from_fn(|| next(&mut back)).map(|(_, seg)| seg).collect();
    assert_eq!(numbers, [11, 10, 9, 8, 7]);
}

#[test]
fn one_that_has_the_number_of_another_is_no_twin() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    write(dir, "ps-2026-11-17.log", 1, NOON);
    write(dir, "ps-2026-11-18.log", 2, NOON);
    let other = std::fs::read_to_string(dir.join("ps-2026-11-18.log")).unwrap().replace("host=h", "host=other");
    std::fs::write(dir.join("ps-2026-11-19.log"), other).unwrap();
    let mut segments = Segments::new(dir, "ps", Way::Forward, None, None);
    let names: Vec<String> = std::iter::from_fn(|| next(&mut segments)).map(|(name, _)| name).collect();
    assert_eq!(names, ["ps-2026-11-17.log", "ps-2026-11-18.log", "ps-2026-11-19.log"]);
}

#[test]
fn what_lies_outside_of_the_span_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    // Neither can be read; only the one whose day may reach into the span is opened.
    std::fs::write(dir.join("ps-2026-11-17.log"), "damage\n").unwrap();
    std::fs::write(dir.join("ps-2026-11-19.log"), "damage\n").unwrap();
    write(dir, "ps-2026-11-20.log", 3, NOON);
    write(dir, "ps.log", 4, "2026-11-23T12:00:00.000+01:00");
    let ns = |text: &str| i64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap();
    let (since, until) = (ns("2026-11-20T00:00:00Z"), ns("2026-11-20T20:00:00Z"));
    let mut segments = Segments::new(dir, "ps", Way::Forward, Some(since), Some(until));
    let names: Vec<String> = std::iter::from_fn(|| next(&mut segments)).map(|(name, _)| name).collect();
    assert_eq!(names, ["ps-2026-11-20.log"]);
    let unread: Vec<&String> = segments.unread.keys().collect();
    assert!(unread.len() == 1 && unread[0].ends_with("ps-2026-11-19.log"), "{unread:?}");
    assert!(segments.any);
}
