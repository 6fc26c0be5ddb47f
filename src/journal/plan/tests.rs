use super::*;
use proptest::prelude::*;

const DAY: i64 = 86_400;
/// 2026-11-20T00:00:00Z.
const START: i64 = 1_795_132_800;

fn at(seconds: i64) -> Moment {
    Moment { unix_ns: (START + seconds) * 1_000_000_000, offset_s: 0 }
}

fn keeping() -> Keeping {
    Keeping { sync: Duration::from_secs(30), keep_days: 14, compress_after_days: 1, min_free: 0, shares: BTreeMap::new() }
}

fn sample(due: Moment, full: bool) -> Event {
    Event::Sample { stream: Stream::Ps, due, full, key: b"k".to_vec(), lost: 0 }
}

fn append(seq: u64) -> Action {
    Action::Append { stream: Stream::Ps, seq, shed: false, gap: None }
}

fn named(name: &str, bytes: u64) -> Found {
    Found { name: Name::parse(name).unwrap(), bytes }
}

#[test]
fn the_first_sample_opens_a_segment_and_the_next_goes_on() {
    let mut plan = Plan::new(keeping());
    assert_eq!(plan.decide(sample(at(0), true)), [Action::Open { stream: Stream::Ps, seg: 1 }, append(1)]);
    assert_eq!(plan.decide(sample(at(10), false)), [append(2)]);
}

#[test]
fn midnight_closes_the_day_under_the_date_of_its_last_tick() {
    let mut plan = Plan::new(keeping());
    plan.decide(sample(at(DAY - 10), true));
    let actions = plan.decide(sample(at(DAY), true));
    let date = jiff::civil::date(2026, 11, 20);
    assert_eq!(
        actions,
        [
            Action::CloseOwnLog { date },
            Action::Close { stream: Stream::Ps, date },
            Action::List,
            Action::Open { stream: Stream::Ps, seg: 2 },
            append(2),
            Action::SaveState
        ]
    );
}

#[test]
fn a_day_of_25_hours_is_one_day() {
    // Berlin, 2026-10-25: 02:59:59+02:00 is followed by 02:00:00+01:00. No date changes there.
    let mut plan = Plan::new(keeping());
    let before = Moment { unix_ns: 1_792_889_990_000_000_000, offset_s: 7200 };
    let after = Moment { unix_ns: 1_792_890_000_000_000_000, offset_s: 3600 };
    assert_eq!(
        (before.to_string().as_str(), after.to_string().as_str()),
        ("2026-10-25T02:59:50.000+02:00", "2026-10-25T02:00:00.000+01:00")
    );
    plan.decide(sample(before, true));
    assert_eq!(plan.decide(sample(after, false)), [append(2)]);
}

#[test]
fn a_segment_never_begins_with_changes() {
    let mut plan = Plan::new(keeping());
    let refused = [Action::Drop { stream: Stream::Ps }, Action::WantFull { stream: Stream::Ps }];
    assert_eq!(plan.decide(sample(at(0), false)), refused);
    let gap = Gap { samples: 1, since: Some(at(0)), disk: false, ..Gap::default() };
    let actions = plan.decide(sample(at(10), true));
    assert_eq!(
        actions,
        [Action::Open { stream: Stream::Ps, seg: 1 }, Action::Append { stream: Stream::Ps, seq: 2, shed: false, gap: Some(gap) }]
    );
}

#[test]
fn another_header_begins_another_segment_of_the_same_day() {
    let mut plan = Plan::new(keeping());
    plan.decide(sample(at(0), true));
    let actions = plan.decide(Event::Sample { stream: Stream::Ps, due: at(10), full: true, key: b"other".to_vec(), lost: 0 });
    assert!(
        matches!(
            actions.as_slice(),
            [Action::Close { .. }, Action::List, Action::Open { seg: 2, .. }, Action::Append { seq: 2, .. }]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_restart_goes_on_in_the_same_segment_and_never_reuses_a_number() {
    let mut plan = Plan::new(keeping());
    let date = Some(at(0).date());
    plan.decide(Event::Found { stream: Stream::Ps, seg: 7, key: b"k".to_vec(), date, seq: Some(881), bytes: 100 });
    plan.decide(Event::Known { stream: Stream::Ps, seg: 7, seq: 880, today: 0 });
    assert_eq!(plan.decide(sample(at(100), true)), [Action::Resume { stream: Stream::Ps }, append(882)]);
    assert_eq!(plan.numbers().collect::<Vec<_>>(), [(Stream::Ps, 7, 882)]);
}

#[test]
fn a_full_disk_is_a_gap_with_its_count_and_a_full_sample_after() {
    let mut plan = Plan::new(keeping());
    plan.decide(sample(at(0), true));
    plan.decide(sample(at(10), false));
    assert_eq!(
        plan.decide(Event::Failed { stream: Stream::Ps, due: at(10), fresh: false }),
        [Action::WantFull { stream: Stream::Ps }]
    );
    // Already under way when the full one was asked for.
    assert_eq!(
        plan.decide(sample(at(20), false)),
        [Action::Drop { stream: Stream::Ps }, Action::WantFull { stream: Stream::Ps }]
    );
    let gap = Gap { samples: 2, since: Some(at(10)), disk: true, ..Gap::default() };
    assert_eq!(
        plan.decide(sample(at(30), true)),
        [Action::Append { stream: Stream::Ps, seq: 4, shed: false, gap: Some(gap) }]
    );
    assert_eq!(plan.decide(sample(at(40), false)), [append(5)]);
    // A gap is told only by a sample that is written.
    for seconds in [50, 60, 70] {
        plan.decide(sample(at(seconds), true));
        plan.decide(Event::Failed { stream: Stream::Ps, due: at(seconds), fresh: false });
    }
    let gap = Gap { samples: 3, since: Some(at(50)), disk: true, ..Gap::default() };
    assert_eq!(
        plan.decide(sample(at(80), true)),
        [Action::Append { stream: Stream::Ps, seq: 9, shed: false, gap: Some(gap) }]
    );
}

#[test]
fn samples_that_never_came_take_their_numbers() {
    let mut plan = Plan::new(keeping());
    plan.decide(sample(at(0), true));
    let actions = plan.decide(Event::Sample { stream: Stream::Ps, due: at(40), full: true, key: b"k".to_vec(), lost: 3 });
    let gap = Gap { samples: 3, since: None, disk: false, ..Gap::default() };
    assert_eq!(actions, [Action::Append { stream: Stream::Ps, seq: 5, shed: false, gap: Some(gap) }]);
}

#[test]
fn a_share_that_is_reached_sheds_rows_until_midnight_and_ticks_go_on() {
    let mut plan = Plan::new(Keeping { shares: BTreeMap::from([(Stream::Ps, 1000)]), ..keeping() });
    plan.decide(sample(at(0), true));
    plan.decide(Event::Written { stream: Stream::Ps, bytes: 1000, now: Duration::ZERO });
    let shed = |seq| Action::Append { stream: Stream::Ps, seq, shed: true, gap: None };
    assert_eq!(plan.decide(sample(at(10), false)), [Action::NoteShed { stream: Stream::Ps, share: 1000 }, shed(2)]);
    assert_eq!(plan.decide(sample(at(20), true)), [shed(3)]);
    let actions = plan.decide(sample(at(DAY), true));
    assert!(actions.contains(&append(4)), "{actions:?}");
}

#[test]
fn what_is_written_is_synced_in_time_without_a_timer_where_samples_come_often() {
    let mut plan = Plan::new(keeping());
    let mut unsynced: Option<u64> = None;
    let mut syncs = 0;
    for second in (0..600).step_by(10) {
        let now = Duration::from_secs(second);
        let since = *unsynced.get_or_insert(second);
        if plan.decide(Event::Written { stream: Stream::Ps, bytes: 1, now }).contains(&Action::Sync) {
            syncs += 1;
            unsynced = None;
        }
        assert!(second - since <= 30, "written at {since} s and not on the disk at {second} s");
    }
    assert!((15..=21).contains(&syncs), "{syncs}");
    // One sample a minute: the timer does it.
    let mut plan = Plan::new(keeping());
    plan.decide(Event::Written { stream: Stream::Ps, bytes: 1, now: Duration::ZERO });
    assert_eq!(plan.wake(), Some(Duration::from_secs(30)));
    assert_eq!(plan.decide(Event::Time(Duration::from_secs(29))), []);
    assert_eq!(plan.decide(Event::Time(Duration::from_secs(30))), [Action::Sync]);
    assert_eq!(plan.wake(), None);
}

#[test]
fn old_days_go_and_yesterday_stays_greppable() {
    let mut plan = Plan::new(keeping());
    let today = jiff::civil::date(2026, 11, 20);
    let found = vec![
        named("ps-2026-11-05.log.zst", 10),
        named("ps-2026-11-06.log.zst", 10),
        named("ps-2026-11-18.log", 10),
        named("ps-2026-11-18.2.log", 10),
        named("ps-2026-11-19.log", 10),
        named("ps-2026-11-20.log", 10),
        named("psmond-2026-11-18.log", 10),
        named("ps.log", 10),
    ];
    let actions = plan.decide(Event::Listing { today, found, free: 1 << 40 });
    let compress = |name: &str| Action::Compress(Name::parse(name).unwrap());
    assert_eq!(
        actions,
        [
            Action::Remove(Name::parse("ps-2026-11-05.log.zst").unwrap()),
            compress("ps-2026-11-18.log"),
            compress("ps-2026-11-18.2.log"),
            compress("psmond-2026-11-18.log")
        ]
    );
}

#[test]
fn short_space_takes_whole_days_the_oldest_first_and_never_today() {
    let mut plan = Plan::new(Keeping { min_free: 100, ..keeping() });
    let today = jiff::civil::date(2026, 11, 20);
    let found = vec![
        named("exits-2026-11-17.log.zst", 5),
        named("ps-2026-11-17.log.zst", 60),
        named("ps-2026-11-18.log.zst", 60),
        named("ps-2026-11-19.log", 60),
        named("ps-2026-11-20.log", 60),
        named("ps.log", 60),
    ];
    let removed = |free| {
        let mut plan = Plan::new(plan.keeping.clone());
        let actions = plan.decide(Event::Listing { today, found: found.clone(), free });
        actions
            .iter()
            .filter_map(|action| if let Action::Remove(name) = action { Some(name.to_string()) } else { None })
            .collect::<Vec<_>>()
    };
    assert_eq!(removed(100), [] as [&str; 0]);
    assert_eq!(removed(99), ["exits-2026-11-17.log.zst", "ps-2026-11-17.log.zst"], "a day goes whole");
    assert_eq!(removed(0), ["exits-2026-11-17.log.zst", "ps-2026-11-17.log.zst", "ps-2026-11-18.log.zst"]);
    assert_eq!(removed(0).iter().filter(|name| name.contains("2026-11-20")).count(), 0);
    assert_eq!(plan.decide(Event::Time(Duration::ZERO)), []);
}

#[derive(Clone, Debug)]
enum Step {
    Sample { full: bool, seconds: i64, key: u8, lost: u64 },
    Fail,
    Vanish,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), -4000_i64..40_000, 0_u8..2, prop_oneof![4 => Just(0_u64), 1 => 1_u64..4]).prop_map(|(full, seconds, key, lost)| Step::Sample { full, seconds, key, lost }),
        1 => Just(Step::Fail),
        1 => Just(Step::Vanish),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    // Whatever happens: seq counts every sample exactly once, written or lost; seg rises by one at each opening;
    // a segment holds one date and one header and begins with a full sample; what is missing is told before the next row.
    #[test]
    fn the_numbers_prove_what_is_missing(steps in proptest::collection::vec(step(), 1..60)) {
        let mut plan = Plan::new(keeping());
        let (mut now, mut made, mut seg, mut missing) = (0_i64, 0_u64, 0_u64, 0_u64);
        let mut live: Option<(u8, Date, bool)> = None;
        let mut last: Option<(u64, Moment)> = None;
        let (mut failable, mut told) = (None, 0);
        for step in steps {
            match step {
                Step::Sample { full, seconds, key, lost } => {
                    now += seconds;
                    made += 1 + lost;
                    missing += lost;
                    let due = at(now);
                    let mut opened = false;
                    failable = None;
                    for action in plan.decide(Event::Sample { stream: Stream::Ps, due, full, key: vec![key], lost }) {
                        match action {
                            Action::Close { date, .. } => {
                                prop_assert_eq!(Some(date), live.map(|(_, date, _)| date));
                                live = None;
                            }
                            Action::Open { seg: number, .. } => {
                                seg += 1;
                                prop_assert_eq!(number, seg);
                                prop_assert!(full && live.is_none());
                                live = Some((key, due.date(), true));
                                opened = true;
                            }
                            Action::Append { seq, gap, .. } => {
                                prop_assert_eq!(seq, made, "every sample has a number, the lost ones too");
                                prop_assert_eq!(gap.map_or(0, |gap| gap.samples), missing);
                                prop_assert!(missing == 0 || full);
                                let (of_key, date, _) = live.unwrap();
                                prop_assert_eq!((of_key, date), (key, due.date()));
                                (told, missing) = (missing, 0);
                                failable = Some(opened);
                                last = Some((seq, due));
                            }
                            Action::Drop { .. } => missing += 1,
                            _ => {}
                        }
                    }
                }
                Step::Fail => {
                    let Some(fresh) = failable.take() else { continue };
                    missing = told + 1;
                    if fresh {
                        seg -= 1;
                        live = None;
                    }
                    plan.decide(Event::Failed { stream: Stream::Ps, due: at(now), fresh });
                }
                Step::Vanish => {
                    live = None;
                    failable = None;
                    plan.decide(Event::Vanished { stream: Stream::Ps });
                }
                Step::Restart => {
                    // The state file knows the numbers; what was missing and not yet told is lost with the process.
                    let numbers: Vec<_> = plan.numbers().collect();
                    plan = Plan::new(keeping());
                    for (stream, seg, seq) in numbers {
                        plan.decide(Event::Known { stream, seg, seq, today: 0 });
                    }
                    if let (Some((key, date, _)), Some((seq, _))) = (live, last) {
                        plan.decide(Event::Found { stream: Stream::Ps, seg, key: vec![key], date: Some(date), seq: Some(seq), bytes: 1 });
                    }
                    missing = 0;
                    failable = None;
                }
            }
        }
    }
}
