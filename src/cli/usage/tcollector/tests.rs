//! The collector against a clock that others set and a feed that fails.

use std::cell::Cell;
use std::collections::VecDeque;

use clap::Parser as _;
use proptest::prelude::*;

use super::super::rules::tests::Fake;
use super::check::Checker;
use super::lines::tests::row;
use super::*;
use crate::cli::Command;
use crate::observer::samplers::ps::Rows;
use crate::record::value::Value;

const BEGAN: i64 = 1_795_190_533;

/// A clock that nobody waits for. At each wait it may be set.
struct FakeClock {
    wall_ns: i64,
    monotonic_ns: u64,
    waits_left: u32,
    /// By how many seconds it is set, wait by wait.
    set: VecDeque<i64>,
    /// What it is told at once, before anything is waited for.
    calls: VecDeque<Call>,
}

impl FakeClock {
    fn new(waits: u32) -> Self {
        Self { wall_ns: BEGAN * NS_PER_S + 400_000_000, monotonic_ns: 0, waits_left: waits, set: VecDeque::new(), calls: VecDeque::new() }
    }
}

impl Clock for FakeClock {
    fn wall_ns(&self) -> i64 {
        self.wall_ns
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn wait(&mut self, long: Duration) -> Option<Call> {
        if let Some(call) = self.calls.pop_front() {
            return Some(call);
        }
        // It wakes a little late, as they do.
        let long = long + Duration::from_micros(70);
        self.monotonic_ns += u64::try_from(long.as_nanos()).unwrap();
        self.wall_ns += i64::try_from(long.as_nanos()).unwrap() + self.set.pop_front().unwrap_or(0) * NS_PER_S;
        self.waits_left = self.waits_left.saturating_sub(1);
        (self.waits_left == 0).then_some(Call::End)
    }
}

fn filter(arguments: &[&str]) -> Filter {
    let parsed = crate::cli::Arguments::parse_from([&["psmon", "usage", "--tcollector"], arguments].concat());
    let Command::Usage(arguments) = parsed.command else { panic!("another command") };
    Filter::new(&arguments, &measured(Stream::Usage)).unwrap()
}

fn sample(programs: &[&[u8]]) -> Result<Rows, Failure> {
    let known = [("fds", Value::Int(3)), ("cpu_pct", Value::Fixed(7)), ("rchar", Value::Int(9))];
    Ok(Rows { rows: programs.iter().map(|program| row(program, &known)).collect(), ..Rows::default() })
}

/// Runs a collector until its clock ends it.
fn collected(mut collector: Collector, feed: &mut Fake, clock: &mut FakeClock) -> (String, Checker, Vec<String>) {
    let (mut out, mut said) = (Vec::new(), Vec::new());
    collector.run(feed, clock, &mut |sentence| said.push(sentence.to_owned()), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut checker = Checker::default();
    checker.take(&text);
    assert_eq!(checker.wrong, [""; 0]);
    (text, checker, said)
}

fn collector() -> Collector {
    Collector::new(INTERVAL, filter(&[]), None, None)
}

#[test]
fn an_hour_has_a_cycle_at_once_and_one_at_each_quarter_of_a_minute() {
    let mut feed = Fake::default();
    let names: [&[u8]; 5] = [b"web", b"Web Content", b"a=b c=d\n", b"\xff", &[b'x'; 3000]];
    feed.samples.extend((0..300).map(|_| sample(&names)));
    let (_, checker, said) = collected(collector(), &mut feed, &mut FakeClock::new(241));
    assert_eq!(checker.seconds[..3], [1_795_190_533, 1_795_190_535, 1_795_190_550]);
    assert_eq!(checker.seconds.len(), 241);
    assert!(checker.seconds[1..].windows(2).all(|pair| pair[1] - pair[0] == 15));
    assert_eq!(checker.points, 241 * (5 * 3 + 1));
    assert_eq!(said, [""; 0]);
}

#[test]
fn nothing_that_matches_is_no_silence() {
    let collector = Collector::new(LONGEST, filter(&["no-such-program"]), None, None);
    let mut feed = Fake::default();
    feed.samples.extend((0..9).map(|_| sample(&[b"web"])));
    let (text, checker, said) = collected(collector, &mut feed, &mut FakeClock::new(9));
    assert!(text.lines().all(|line| line.ends_with(" 1 type=sample")), "{text}");
    assert!(checker.seconds.windows(2).all(|pair| pair[1] - pair[0] <= 300) && checker.points == 9);
    assert_eq!(said, [""; 0]);
}

#[test]
fn a_filter_chooses_programs() {
    let mut feed = Fake::default();
    feed.samples.push_back(sample(&[b"web", b"db"]));
    let chosen = Collector::new(INTERVAL, filter(&["--regex", "^d"]), None, Some(1));
    let (text, ..) = collected(chosen, &mut feed, &mut FakeClock::new(9));
    assert_eq!(text.lines().filter(|line| line.contains("image=db")).count(), 3);
    assert!(!text.contains("image=web"));
}

#[test]
fn a_clock_that_is_set_back_repeats_no_second_and_makes_no_silence() {
    let mut clock = FakeClock::new(400);
    clock.set = VecDeque::from([0, 0, -3600]);
    let mut feed = Fake::default();
    feed.samples.extend((0..400).map(|_| sample(&[b"web"])));
    let (text, checker, said) = collected(collector(), &mut feed, &mut clock);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("the clock is 35") && said[0].contains("behind"), "{said:?}");
    // An hour is eight times seven minutes and a half; each is bridged by one line that says so.
    let bridges = text.lines().filter(|line| line.ends_with(" 0 type=sample")).count();
    assert!((7..=9).contains(&bridges), "{bridges}");
    let last = i64::try_from(*checker.seconds.last().unwrap()).unwrap();
    assert!((0..30).contains(&(clock.wall_ns / NS_PER_S - last)), "it has caught up");
}

#[test]
fn it_is_never_silent_for_as_long_as_tcollector_allows() {
    struct Timed<'a>(&'a Cell<u64>, Vec<u64>);
    impl Write for Timed<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.push(self.0.get());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    /// Tells the time it shows to whoever writes.
    struct Told<'a>(FakeClock, &'a Cell<u64>);
    impl Clock for Told<'_> {
        fn wall_ns(&self) -> i64 {
            self.0.wall_ns()
        }
        fn monotonic_ns(&self) -> u64 {
            self.0.monotonic_ns()
        }
        fn wait(&mut self, long: Duration) -> Option<Call> {
            let call = self.0.wait(long);
            self.1.set(self.0.monotonic_ns / 1_000_000_000);
            call
        }
    }
    for interval in [15, 100, 200, 290, 300] {
        for set in [-1, -20, -150, -299, -300, -301, -2000] {
            let now = Cell::new(0);
            let mut clock = Told(FakeClock::new(60), &now);
            clock.0.set = VecDeque::from([0, 0, set, 0, set]);
            let mut feed = Fake::default();
            let mut out = Timed(&now, Vec::new());
            let mut collector = Collector::new(Duration::from_secs(interval), filter(&[]), None, None);
            collector.run(&mut feed, &mut clock, &mut |_| {}, &mut out).unwrap();
            let longest = out.1.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(longest <= 451, "{longest} s at {interval}, set by {set}: {:?}", out.1);
        }
    }
}

#[test]
fn a_hangup_reads_the_rules_at_once_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules");
    std::fs::write(&path, "one a\n").unwrap();
    let mut rules = RulesWatch::new(path.clone());
    let mut feed = Fake::default();
    rules.begin(&mut feed).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut clock = FakeClock::new(9);
    clock.calls = VecDeque::from([Call::Reload, Call::Reload, Call::End]);
    let (text, _, said) = collected(Collector::new(INTERVAL, filter(&[]), Some(rules), None), &mut feed, &mut clock);
    assert_eq!((text.lines().count(), said.len()), (1, 1), "{said:?}");
    let mut clock = FakeClock::new(9);
    clock.calls = VecDeque::from([Call::Reload, Call::End]);
    let (_, _, said) = collected(collector(), &mut feed, &mut clock);
    assert!(said[0].contains("SIGHUP"), "{said:?}");
}

#[test]
fn a_sample_that_failed_is_said_once_and_the_next_is_taken() {
    let mut feed = Fake::default();
    let failed = || Err(Failure::System("/proc is gone".to_owned()));
    feed.samples = VecDeque::from([sample(&[b"web"]), failed(), failed(), sample(&[b"web"]), failed(), sample(&[b"web"])]);
    let (text, checker, said) = collected(collector(), &mut feed, &mut FakeClock::new(6));
    assert_eq!(said, ["/proc is gone; there are no points until that is mended"; 2]);
    assert_eq!(checker.seconds.len(), 6);
    assert_eq!(text.lines().filter(|line| line.ends_with(" 0 type=sample")).count(), 3);
    assert_eq!(text.lines().filter(|line| line.contains("image=web")).count(), 9);
}

#[test]
fn rules_are_read_again_before_the_sample_they_are_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules");
    std::fs::write(&path, "one a\n").unwrap();
    let mut rules = RulesWatch::new(path.clone());
    let mut feed = Fake::default();
    rules.begin(&mut feed).unwrap();
    std::fs::write(&path, "two a\n").unwrap();
    let collector = Collector::new(INTERVAL, filter(&[]), Some(rules), Some(2));
    let (_, _, said) = collected(collector, &mut feed, &mut FakeClock::new(9));
    assert_eq!((&feed.rules[..], feed.asked, said.len()), (&["two".to_owned()][..], 2, 1));
}

#[test]
fn a_reader_that_is_gone_ends_it() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let ended = collector().run(&mut Fake::default(), &mut FakeClock::new(9), &mut |_| {}, &mut Closed);
    assert!(matches!(ended, Err(Failure::Closed)), "{ended:?}");
}

proptest! {
    // However the clock is set, and whatever the interval: every series has growing seconds, and while the clock goes forward
    // each cycle has its line.
    #[test]
    fn seconds_grow_whatever_happens_to_the_clock(
        interval_ms in 1000_u64..=300_000,
        set in proptest::collection::vec(prop_oneof![4 => Just(0_i64), 1 => -100_000_i64..100_000], 0..40),
    ) {
        let mut clock = FakeClock::new(60);
        let steady = set.iter().all(|by| *by >= 0);
        clock.set = set.into();
        let mut feed = Fake::default();
        feed.samples.extend((0..60).map(|_| sample(&[b"web", b"a b"])));
        let collector = Collector::new(Duration::from_millis(interval_ms), filter(&[]), None, None);
        let (text, checker, _) = collected(collector, &mut feed, &mut clock);
        prop_assert!(checker.points > 0);
        // An interval that is no whole number of seconds may have two ticks in one of them, beside the first cycle.
        prop_assert!(!steady || checker.seconds.len() >= 59, "{text}");
    }
}
