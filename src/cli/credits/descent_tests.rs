use super::*;
use crate::cli::hear::Lost;
use crate::record::moment::Moment;
use crate::source::wait;

const ROOT: u32 = 10;

fn row(values: Vec<Value>) -> TimedRow {
    TimedRow { time: Moment { unix_ns: 0, offset_s: 0 }, values: values.into() }
}

fn count(number: Option<u64>) -> Value {
    number.map_or(Value::Absent, Value::count)
}

/// An event, pid, start, parent.
type Said = (EventKind, u32, u64, u32);

fn events(said: &[Said]) -> Told {
    let row = |(kind, pid, start, ppid): &Said| {
        row(vec![
            Value::word(kind.word().as_bytes()),
            Value::count((*pid).into()),
            Value::count(*start),
            Value::count((*pid).into()),
            Value::count((*ppid).into()),
        ])
    };
    Told { stream: Stream::Events, rows: said.iter().map(row).collect(), lost: Lost::default() }
}

/// Pid, start, parent and its start, CPU in microseconds.
fn ends(said: &[(u32, u64, u32, Option<u64>, u64)]) -> Told {
    let row = |(pid, start, ppid, pstart, cpu_us): &(u32, u64, u32, Option<u64>, u64)| {
        row(vec![
            Value::count((*pid).into()),
            Value::count(*start),
            Value::count((*ppid).into()),
            count(*pstart),
            Value::word(b"burner"),
            Value::Absent,
            Value::Absent,
            Value::Fixed(i64::try_from(*cpu_us).unwrap()),
            Value::count(4096),
            Value::word(b"burn"),
        ])
    };
    Told { stream: Stream::Exits, rows: said.iter().map(row).collect(), lost: Lost::default() }
}

fn reaped(pid: u32, start: u64) -> Reaped {
    Reaped {
        pid,
        start: Some(start),
        comm: None,
        status: crate::observer::obituary::Status(0),
        used: wait::Used { user_us: 1, system_us: 1, max_rss: 0 },
        at: Instant::now(),
    }
}

fn descent() -> Descent {
    Descent::new(ROOT, &event_columns().unwrap())
}

fn sum(descent: &Descent) -> u64 {
    descent.lives.iter().filter_map(|life| life.obituary.as_deref()?.cpu_us).sum()
}

const fn nobody(_: u32, _: Option<u64>) -> bool {
    false
}

use EventKind::{Exit, Fork};

#[test]
fn descent_is_by_birth_and_goes_on_after_the_parent() {
    let mut descent = descent();
    descent.hear(&events(&[
        (Fork, 11, 100, ROOT),
        (Fork, 12, 101, 11),
        (Exit, 11, 100, ROOT),
        (Fork, 13, 102, 12),
        (Fork, 20, 102, 1),
    ]));
    let lives: Vec<(u32, Option<usize>)> = descent.lives.iter().map(|life| (life.pid, life.parent)).collect();
    assert_eq!(lives, [(11, None), (12, Some(0)), (13, Some(1))]);
    // The pid of one that ended, used again by somebody else, whose children are not ours.
    descent.hear(&events(&[(Fork, 11, 200, 1), (Fork, 30, 201, 11), (Exit, 11, 200, 1)]));
    assert_eq!(descent.lives.len(), 3);
    // And by one of ours: another life.
    descent.hear(&events(&[(Fork, 11, 300, 13)]));
    assert_eq!(descent.lives.len(), 4);
    descent.hear(&ends(&[
        (11, 100, ROOT, None, 5),
        (11, 200, 1, None, 70),
        (11, 300, 13, Some(102), 7),
        (20, 102, 1, None, 900),
    ]));
    assert_eq!(sum(&descent), 12);
    assert_eq!(descent.lives[0].obituary.as_ref().unwrap().cpu_us, Some(5));
    assert_eq!(descent.lives[3].obituary.as_ref().unwrap().cpu_us, Some(7));
}

#[test]
fn an_obituary_that_comes_before_the_birth_waits_for_it() {
    let mut descent = descent();
    // One tick off: the event's stamp against stat's.
    descent.hear(&ends(&[(11, 101, ROOT, None, 5), (12, 100, 1, None, 70)]));
    descent.reaped(reaped(11, 101));
    assert!(descent.lives.is_empty() && !descent.is_settled(true, nobody), "the command's own birth is still to be told");
    descent.hear(&events(&[(Fork, 11, 100, ROOT)]));
    assert!(!descent.is_settled(true, nobody), "and so is its end");
    descent.hear(&events(&[(Exit, 11, 100, ROOT)]));
    assert!(descent.is_settled(true, nobody));
    descent.close();
    assert_eq!((descent.lives.len(), sum(&descent), descent.unborn), (1, 5, 0));
    assert!(descent.lives[0].reaped.is_some());
}

#[test]
fn the_living_need_no_obituary() {
    let mut descent = descent();
    descent.hear(&events(&[(Fork, 11, 100, ROOT), (Fork, 12, 101, 11), (Exit, 11, 100, ROOT)]));
    let lives_on = |pid: u32, _: Option<u64>| pid == 12;
    assert!(!descent.is_settled(true, lives_on), "the obituary of 11 is still to come");
    assert!(descent.is_settled(false, lives_on), "where there are no records, there is none");
    descent.hear(&ends(&[(11, 100, ROOT, None, 5)]));
    assert!(descent.is_settled(true, lives_on) && !descent.is_settled(true, nobody));
    assert!(descent.is_buried(11, 100) && !descent.is_buried(12, 101) && !descent.is_buried(11, 500));
}

#[test]
fn lost_births_are_known_from_the_ends() {
    let mut descent = descent();
    descent.hear(&events(&[(Fork, 11, 100, ROOT)]));
    // 12 is a child of 11, 13 one of 12: neither birth was told, and the child is buried first. 14 is nobody of ours.
    descent.hear(&ends(&[
        (13, 103, 12, Some(102), 1),
        (12, 102, 11, Some(100), 2),
        (14, 104, 12, Some(999), 70),
        (15, 104, 12, None, 70),
    ]));
    descent.reaped(reaped(16, 105));
    descent.close();
    assert_eq!((descent.lives.len(), sum(&descent), descent.unborn), (4, 3, 3));
    let pids: Vec<u32> = descent.lives.iter().map(|life| life.pid).collect();
    assert_eq!(pids, [11, 16, 12, 13]);
}

#[test]
fn a_lost_end_does_not_make_strangers_ours() {
    let mut descent = descent();
    descent.hear(&events(&[(Fork, 11, 100, ROOT), (Fork, 11, 200, 1), (Fork, 12, 201, 11)]));
    assert_eq!(descent.lives.len(), 1);
    // Twice told is once born.
    descent.hear(&events(&[(Fork, 13, 300, ROOT), (Fork, 13, 301, ROOT)]));
    assert_eq!(descent.lives.len(), 2);
}
