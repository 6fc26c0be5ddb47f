use std::io::Write as _;

use jiff::civil::date;

use super::*;

const COLUMNS: &str =
    "time program user procs started exited user_s sys_s cpu_s util_s credits cpu_pct share_pct day_cpu_s day_credits_left";

/// A segment under construction.
struct Made {
    text: Vec<u8>,
    since: usize,
    seq: u64,
}

impl Made {
    fn new(seg: u64, seq: u64, zone: &str, cpus: u64) -> Self {
        let head = format!(
            "#psmon 1 credits seg={seg} host=h boot=b pidns=1 tz={zone} hz=100 page=4096 cpus={cpus} version=0\n#cols {COLUMNS}\n#help x\n"
        );
        Self { text: head.into_bytes(), since: 0, seq }
    }

    fn row(&mut self, time: &str, program: &str, user: &str, cpu_s: &str) -> &mut Self {
        writeln!(self.text, "{time} {program} {user} 1 0 0 - - {cpu_s} - - - - - -").unwrap();
        self
    }

    fn tick(&mut self, time: &str, span_s: &str) -> &mut Self {
        let crc = self.begin_tick(time, span_s);
        writeln!(self.text, " crc={crc:08x}").unwrap();
        self.since = self.text.len();
        self
    }

    fn bad_tick(&mut self, time: &str) -> &mut Self {
        let crc = self.begin_tick(time, "60.000000") ^ 1;
        writeln!(self.text, " crc={crc:08x}").unwrap();
        self.since = self.text.len();
        self
    }

    fn begin_tick(&mut self, time: &str, span_s: &str) -> u32 {
        write!(self.text, "#tick {time} seq={} full=1 n=1 span_s={span_s}", self.seq).unwrap();
        self.seq += 1;
        crc32fast::hash(&self.text[self.since..])
    }

    fn write(&self, dir: &Path, name: &str) {
        let bytes = if name.ends_with(".zst") { zstd::encode_all(&self.text[..], 1).unwrap() } else { self.text.clone() };
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

fn all() -> RangeInclusive<Date> {
    Date::MIN..=Date::MAX
}

fn read_all(dir: &Path, range: &RangeInclusive<Date>) -> Days {
    read(dir, range, Timestamp::MAX, |_| true).unwrap()
}

/// Day, program and user of each row, and its CPU time in microseconds.
fn sums(days: &Days) -> Vec<(String, i64)> {
    let text = |word: &Option<Arc<[u8]>>| word.as_ref().map_or("-".to_owned(), |word| String::from_utf8_lossy(word).into_owned());
    days.rows.iter().map(|(who, spent)| (format!("{} {} {}", text(&who.day), text(&who.program), text(&who.user)), spent.cpu_us)).collect()
}

fn said(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(who, us)| ((*who).to_owned(), *us)).collect()
}

#[test]
fn an_interval_that_ends_at_midnight_ends_the_day_before() {
    let dir = tempfile::tempdir().unwrap();
    // The night in which Berlin has an hour twice.
    let mut first = Made::new(7, 1, "Europe/Berlin", 2);
    first.row("2026-10-25T00:00:00.000+02:00", "a", "root", "1.000000").tick("2026-10-25T00:00:00.000+02:00", "60.000000");
    first
        .row("2026-10-25T00:01:00.000+02:00", "a", "root", "2.000000")
        .row("2026-10-25T00:01:00.000+02:00", "b", "-", "0.500000")
        .tick("2026-10-25T00:01:00.000+02:00", "60.000000");
    first.write(dir.path(), "credits-2026-10-25.log.zst");
    let mut second = Made::new(8, 3, "Europe/Berlin", 4);
    second.row("2026-10-25T23:59:00.000+01:00", "a", "root", "4.000000").tick("2026-10-25T23:59:00.000+01:00", "60.000000");
    // The clock of this one was read before the others'.
    second.row("2026-10-26T00:00:00.000+01:00", "(unattributed)", "-", "-0.250000").tick("2026-10-26T00:00:00.000+01:00", "60.000000");
    second.row("2026-10-26T00:00:10.000+01:00", "a", "root", "8.000000").tick("2026-10-26T00:00:10.000+01:00", "10.000000");
    second.write(dir.path(), "credits.log");
    let days = read_all(dir.path(), &all());
    let expected = said(&[
        ("2026-10-24 a root", 1_000_000),
        ("2026-10-25 (unattributed) -", -250_000),
        ("2026-10-25 a root", 6_000_000),
        ("2026-10-25 b -", 500_000),
        ("2026-10-26 a root", 8_000_000),
    ]);
    assert_eq!(sums(&days), expected);
    let hours = |ns: u64| ns / 3_600_000_000_000;
    let day = days.days[&date(2026, 10, 25)];
    assert_eq!(
        (hours(day.ns), hours(day.over_ns), day.cpus, day.recorded_ns, day.missing),
        (25, 25, 4, Some(180_000_000_000), 0)
    );
    assert_eq!((hours(days.days[&date(2026, 10, 26)].ns), days.torn), (24, 0));
    // One day, and one program.
    let one = date(2026, 10, 25)..=date(2026, 10, 25);
    assert_eq!(sums(&read_all(dir.path(), &one)), expected[1..4]);
    let only_b = read(dir.path(), &one, Timestamp::MAX, |who| who.program.as_deref() == Some(b"b")).unwrap();
    assert_eq!(sums(&only_b), expected[3..4]);
}

#[test]
fn a_midnight_that_is_left_out_still_ends_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = Made::new(1, 1, "America/Sao_Paulo", 1);
    // At 00:00 the clocks went to 01:00: the same moment.
    made.row("2018-11-04T01:00:00.000-02:00", "a", "root", "1.000000").tick("2018-11-04T01:00:00.000-02:00", "60.000000");
    made.row("2018-11-04T01:01:00.000-02:00", "a", "root", "2.000000").tick("2018-11-04T01:01:00.000-02:00", "60.000000");
    made.write(dir.path(), "credits.log");
    let days = read_all(dir.path(), &all());
    assert_eq!(sums(&days), said(&[("2018-11-03 a root", 1_000_000), ("2018-11-04 a root", 2_000_000)]));
    assert_eq!(days.days[&date(2018, 11, 4)].ns, 23 * 3_600_000_000_000);
}

#[test]
fn what_no_tick_vouches_for_is_in_no_sum() {
    let dir = tempfile::tempdir().unwrap();
    let time = |minute: u32| format!("2026-11-20T12:{minute:02}:00.000+00:00");
    let mut made = Made::new(3, 1, "no/such/zone", 2);
    made.row(&time(1), "a", "root", "1.000000").tick(&time(1), "60.000000");
    made.row(&time(2), "a", "root", "10.000000");
    writeln!(made.text, "#note {} torn bytes=9", time(3)).unwrap();
    made.since = made.text.len();
    made.row(&time(4), "a", "root", "100.000000").bad_tick(&time(4));
    made.row(&time(5), "a", "root", "2.000000").tick(&time(5), "60.000000");
    made.row(&time(6), "a", "root", "1000.000000");
    made.write(dir.path(), "credits-2026-11-20.log");
    // It was being compressed when psmond was killed: the same once more.
    made.write(dir.path(), "credits-2026-11-20.log.zst");
    let mut live = Made::new(4, 9, "no/such/zone", 2);
    live.row(&time(30), "a", "root", "4.000000").tick(&time(30), "60.000000");
    live.write(dir.path(), "credits.log");
    std::fs::write(dir.path().join("credits-2026-11-19.log.zst"), "no zstd").unwrap();
    let days = read_all(dir.path(), &all());
    assert_eq!(sums(&days), said(&[("2026-11-20 a root", 7_000_000)]));
    assert_eq!((days.torn, days.unread.len()), (2, 1), "{days:?}");
    // 2 does not check, and 4 to 8 were never there.
    assert_eq!(days.days[&date(2026, 11, 20)].missing, 6);
    assert!(read(Path::new("/no/such/directory"), &all(), Timestamp::MAX, |_| true).is_err());
}

#[test]
fn of_today_only_what_is_over_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = Made::new(1, 1, "UTC", 2);
    made.row("2026-11-20T00:30:00.000+00:00", "a", "root", "1.000000").tick("2026-11-20T00:30:00.000+00:00", "1800.000000");
    made.write(dir.path(), "credits.log");
    let now: Timestamp = "2026-11-20T00:45:00Z".parse().unwrap();
    let day = read(dir.path(), &all(), now, |_| true).unwrap().days[&date(2026, 11, 20)];
    assert_eq!((day.over_ns, day.recorded_ns), (2_700_000_000_000, Some(1_800_000_000_000)));
}
