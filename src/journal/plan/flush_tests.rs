use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;
use proptest::prelude::*;

use super::*;

const STREAM: Stream = Stream::Events;
const DAY: i64 = 86_400;
/// 2026-11-20T00:00:00Z.
const START: i64 = 1_795_132_800;

fn at(seconds: i64) -> Moment {
    Moment { unix_ns: (START + seconds) * 1_000_000_000, offset_s: 0 }
}

fn plan(share: u64) -> Plan {
    let sync = Duration::from_secs(30);
    Plan::new(Keeping { sync, keep_days: 14, compress_after_days: 1, min_free: 0, shares: BTreeMap::from([(STREAM, share)]) })
}

fn flush(seconds: i64, rows: u64, tick: bool) -> Event {
    Event::Flush { stream: STREAM, due: at(seconds), key: b"k".to_vec(), rows, lost: 0, tick }
}

fn write(tick: Option<Tally>) -> Action {
    Action::Flush { stream: STREAM, shed: false, tick, gap: None }
}

fn tally(seq: u64, n: u64) -> Tally {
    Tally { seq, n, shed: 0 }
}

fn done(plan: &mut Plan) -> Vec<Action> {
    plan.decide(Event::Written { stream: STREAM, bytes: 1, now: Duration::ZERO })
}

/// Decides, and says that it was written.
fn flushed(plan: &mut Plan, seconds: i64, rows: u64, tick: bool) -> Vec<Action> {
    let actions = plan.decide(flush(seconds, rows, tick));
    done(plan);
    actions
}

#[test]
fn any_flush_begins_a_segment_and_the_tick_counts_all_since_the_one_before() {
    let mut plan = plan(u64::MAX);
    assert_eq!(flushed(&mut plan, 0, 3, false), [Action::Open { stream: STREAM, seg: 1 }, write(None)]);
    assert_eq!(flushed(&mut plan, 1, 4, false), [write(None)]);
    assert_eq!(flushed(&mut plan, 2, 5, true), [write(Some(tally(1, 12)))]);
    assert_eq!(flushed(&mut plan, 3, 0, true), [write(Some(tally(2, 0)))]);
}

#[test]
fn a_segment_with_rows_since_its_tick_ends_with_one_before_midnight_closes_it() {
    let mut plan = plan(u64::MAX);
    flushed(&mut plan, DAY - 12, 1, true);
    flushed(&mut plan, DAY - 2, 2, false);
    let close = Action::CloseTick { stream: STREAM, due: at(DAY - 2), tally: tally(2, 2), gap: None };
    assert_eq!(flushed(&mut plan, DAY, 5, true), [close], "the rest is decided once this is written");
    let date = at(0).date();
    assert_eq!(
        flushed(&mut plan, DAY, 5, true),
        [
            Action::CloseOwnLog { date },
            Action::Close { stream: STREAM, date },
            Action::List,
            Action::Open { stream: STREAM, seg: 2 },
            write(Some(tally(3, 5))),
            Action::SaveState
        ]
    );
    // After a tick there is nothing to end.
    assert!(matches!(
        flushed(&mut plan, 2 * DAY, 1, false).as_slice(),
        [Action::CloseOwnLog { .. }, Action::Close { .. }, ..]
    ));
}

#[test]
fn another_header_and_an_end_do_the_same() {
    let mut plan = plan(u64::MAX);
    flushed(&mut plan, 0, 2, false);
    let other = || Event::Flush { stream: STREAM, due: at(5), key: b"other".to_vec(), rows: 1, lost: 0, tick: false };
    assert_eq!(plan.decide(other()), [Action::CloseTick { stream: STREAM, due: at(0), tally: tally(1, 2), gap: None }]);
    done(&mut plan);
    let date = at(0).date();
    assert_eq!(
        plan.decide(other()),
        [Action::Close { stream: STREAM, date }, Action::List, Action::Open { stream: STREAM, seg: 2 }, write(None)]
    );
    done(&mut plan);
    let end = Event::End { stream: STREAM };
    assert_eq!(plan.decide(end.clone()), [Action::CloseTick { stream: STREAM, due: at(5), tally: tally(2, 1), gap: None }]);
    done(&mut plan);
    assert_eq!(plan.decide(end), [], "once is enough");
}

#[test]
fn a_restart_goes_on_with_any_flush() {
    let mut plan = plan(u64::MAX);
    let date = Some(at(0).date());
    plan.decide(Event::Found { stream: STREAM, seg: 7, key: b"k".to_vec(), date, seq: Some(881), bytes: 100 });
    assert_eq!(plan.decide(Event::End { stream: STREAM }), [], "what was found ends with its tick or is torn");
    assert_eq!(flushed(&mut plan, 100, 1, true), [Action::Resume { stream: STREAM }, write(Some(tally(882, 1)))]);
    assert_eq!(plan.decide(Event::Vanished { stream: STREAM }), [], "nothing full is asked for");
}

#[test]
fn a_full_disk_costs_the_rows_of_its_flush_and_those_before_it_are_counted() {
    let mut plan = plan(u64::MAX);
    flushed(&mut plan, 0, 3, false);
    let fail = |plan: &mut Plan, seconds| plan.decide(Event::Failed { stream: STREAM, due: at(seconds), fresh: false });
    plan.decide(flush(1, 4, false));
    assert_eq!(fail(&mut plan, 1), []);
    plan.decide(Event::Flush { stream: STREAM, due: at(2), key: b"k".to_vec(), rows: 5, lost: 20, tick: true });
    fail(&mut plan, 2);
    let gap = Gap { samples: 1, rows: 29, since: Some(at(1)), disk: true };
    assert_eq!(
        plan.decide(flush(3, 1, true)),
        [Action::Flush { stream: STREAM, shed: false, tick: Some(tally(2, 4)), gap: Some(gap) }]
    );
    done(&mut plan);
    // Notes alone are kept by the writer: nothing is missing.
    plan.decide(flush(4, 0, false));
    fail(&mut plan, 4);
    assert_eq!(flushed(&mut plan, 5, 1, false), [write(None)]);
}

#[test]
fn a_disk_without_room_for_the_last_tick_keeps_the_segment_open() {
    let mut plan = plan(u64::MAX);
    flushed(&mut plan, DAY - 1, 3, false);
    assert!(matches!(plan.decide(flush(DAY, 4, true))[..], [Action::CloseTick { tally: Tally { seq: 1, n: 3, .. }, .. }]));
    assert_eq!(plan.decide(Event::Failed { stream: STREAM, due: at(DAY), fresh: false }), []);
    // Two ticks are lost: that of the segment and that of the flush.
    let gap = Gap { samples: 2, rows: 4, since: Some(at(DAY)), disk: true };
    let close = Action::CloseTick { stream: STREAM, due: at(DAY - 1), tally: tally(3, 3), gap: Some(gap) };
    assert_eq!(flushed(&mut plan, DAY + 1, 1, true), [close]);
    let actions = flushed(&mut plan, DAY + 1, 1, true);
    assert!(actions.contains(&Action::Close { stream: STREAM, date: at(0).date() }), "{actions:?}");
    assert!(actions.contains(&write(Some(tally(4, 1)))), "{actions:?}");
}

#[test]
fn a_share_that_is_reached_sheds_rows_and_the_tick_counts_them() {
    let mut plan = plan(2);
    flushed(&mut plan, 0, 1, false);
    flushed(&mut plan, 1, 1, false);
    let shed = |tick| Action::Flush { stream: STREAM, shed: true, tick, gap: None };
    assert_eq!(plan.decide(flush(2, 7, false)), [Action::NoteShed { stream: STREAM, share: 2 }, shed(None)]);
    assert_eq!(plan.decide(flush(3, 8, true)), [shed(Some(Tally { seq: 1, n: 2, shed: 15 }))]);
    done(&mut plan);
    assert_eq!(plan.decide(flush(4, 9, false)), [shed(None)]);
    // What the day shed, its last tick says.
    let tally = Tally { seq: 2, n: 0, shed: 9 };
    assert_eq!(flushed(&mut plan, DAY, 1, false), [Action::CloseTick { stream: STREAM, due: at(4), tally, gap: None }]);
    assert_eq!(flushed(&mut plan, DAY, 1, false).last_chunk(), Some(&[write(None), Action::SaveState]));
}

#[derive(Clone, Debug)]
enum Step {
    Flush { rows: u64, lost: u64, tick: bool, seconds: i64, key: u8, fails: bool },
    End { fails: bool },
    Vanish,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let fails = || prop_oneof![5 => Just(false), 1 => Just(true)];
    let seconds = prop_oneof![4 => 0_i64..10, 1 => -4000_i64..40_000];
    let lost = prop_oneof![4 => Just(0_u64), 1 => 1_u64..9];
    prop_oneof![
        10 => (0_u64..9, lost, any::<bool>(), seconds, 0_u8..8, fails()).prop_map(|(rows, lost, tick, seconds, key, fails)| Step::Flush { rows, lost, tick, seconds, key: u8::from(key == 0), fails }),
        1 => fails().prop_map(|fails| Step::End { fails }),
        1 => Just(Step::Vanish),
        1 => Just(Step::Restart),
    ]
}

/// What a disk would hold.
#[derive(Default)]
struct Model {
    live: Option<(u8, Date)>,
    seg: u64,
    /// The last number that was given, and the first row of each kind not yet accounted for.
    seq: u64,
    open: u64,
    missing_rows: u64,
    missing_samples: u64,
    shed: u64,
}

impl Model {
    /// A tick reached the disk.
    fn tick(&mut self, tally: Tally, told: Option<&Gap>) {
        let missing = told.map_or(0, |gap| gap.samples);
        assert_eq!(tally.seq, self.seq + missing + 1, "numbers jump by what is told to be missing");
        assert_eq!((tally.n, tally.shed), (self.open, self.shed));
        self.seq = tally.seq;
        (self.open, self.shed) = (0, 0);
    }

    /// Whatever reaches the disk first tells what did not.
    fn told(&mut self, gap: Option<&Gap>) {
        let told = gap.map_or((0, 0), |gap| (gap.samples, gap.rows));
        assert_eq!(told, (self.missing_samples, self.missing_rows));
        (self.missing_samples, self.missing_rows) = (0, 0);
    }
}

proptest! {
    // Whatever happens: each tick counts the rows since the one before it in its segment, and what was shed; no segment
    // is closed over rows without a tick; numbers jump by exactly the ticks that are told to be missing, and each row
    // that was lost is told of once.
    #[test]
    fn every_row_is_counted_or_told_to_be_missing(steps in proptest::collection::vec(step(), 1..80), share in prop_oneof![Just(u64::MAX), Just(20_u64)]) {
        let mut plan = plan(share);
        let mut model = Model::default();
        let mut now = 0;
        // A gap may be told by notes alone: the next tick still jumps by it.
        let mut jump = 0;
        for step in steps {
            match step {
                Step::Flush { rows, lost, tick, seconds, key, fails } => {
                    now += seconds;
                    let due = at(now);
                    let event = Event::Flush { stream: STREAM, due, key: vec![key], rows, lost, tick };
                    let mut actions = plan.decide(event.clone());
                    if let [Action::CloseTick { tally, gap, .. }] = &actions[..] {
                        prop_assert!(model.live.is_some_and(|live| live != (key, due.date())) && model.open + model.shed > 0);
                        if fails {
                            plan.decide(Event::Failed { stream: STREAM, due, fresh: false });
                            model.missing_samples += 1 + u64::from(tick);
                            model.missing_rows += rows + lost;
                            continue;
                        }
                        model.told(gap.as_ref());
                        let gap = Gap { samples: gap.as_ref().map_or(0, |gap| gap.samples) + std::mem::take(&mut jump), ..Gap::default() };
                        model.tick(*tally, Some(&gap));
                        done(&mut plan);
                        actions = plan.decide(event);
                    }
                    let mut opened = false;
                    for action in actions {
                        match action {
                            Action::Close { date, .. } => {
                                prop_assert_eq!(Some(date), model.live.map(|(_, date)| date));
                                prop_assert_eq!(model.open + model.shed, 0, "rows without a tick");
                                model.live = None;
                            }
                            Action::Open { seg, .. } => {
                                prop_assert!(model.live.is_none());
                                model.seg += 1;
                                prop_assert_eq!(seg, model.seg);
                                model.live = Some((key, due.date()));
                                opened = true;
                            }
                            Action::Flush { shed, tick: tally, gap, .. } => {
                                prop_assert_eq!(model.live, Some((key, due.date())));
                                prop_assert_eq!(tally.is_some(), tick);
                                let rows = if shed { model.shed += rows; 0 } else { rows };
                                if fails {
                                    if opened {
                                        model.live = None;
                                        model.seg -= 1;
                                    }
                                    plan.decide(Event::Failed { stream: STREAM, due, fresh: opened });
                                    model.missing_samples += u64::from(tick);
                                    model.missing_rows += rows + lost;
                                    continue;
                                }
                                model.told(gap.as_ref());
                                jump += gap.map_or(0, |gap| gap.samples);
                                model.open += rows;
                                if let Some(tally) = tally {
                                    model.tick(tally, Some(&Gap { samples: std::mem::take(&mut jump), ..Gap::default() }));
                                }
                                done(&mut plan);
                            }
                            Action::Drop { .. } | Action::WantFull { .. } => prop_assert!(false, "nothing here must be full"),
                            _ => {}
                        }
                    }
                }
                Step::End { fails } => {
                    let actions = plan.decide(Event::End { stream: STREAM });
                    prop_assert_eq!(actions.len(), usize::from(model.live.is_some() && model.open + model.shed > 0));
                    let Some(Action::CloseTick { tally, gap, .. }) = actions.into_iter().next() else { continue };
                    if fails {
                        plan.decide(Event::Failed { stream: STREAM, due: at(now), fresh: false });
                        model.missing_samples += 1;
                        continue;
                    }
                    model.told(gap.as_ref());
                    let samples = gap.map_or(0, |gap| gap.samples) + std::mem::take(&mut jump);
                    model.tick(tally, Some(&Gap { samples, ..Gap::default() }));
                    done(&mut plan);
                }
                Step::Vanish => {
                    plan.decide(Event::Vanished { stream: STREAM });
                    model.live = None;
                    model.open = 0;
                }
                Step::Restart => {
                    // Killed: rows after the last tick are torn, what was missing and not yet told is lost with the process.
                    let numbers: Vec<_> = plan.numbers().collect();
                    let today = plan.streams.get(&STREAM).map_or(0, |track| track.today);
                    plan = super::flush_tests::plan(share);
                    for (stream, seg, seq) in numbers {
                        plan.decide(Event::Known { stream, seg, seq, today: 0 });
                        model.seq = seq;
                    }
                    if let Some((key, date)) = model.live {
                        plan.decide(Event::Found { stream: STREAM, seg: model.seg, key: vec![key], date: Some(date), seq: Some(model.seq), bytes: today });
                    }
                    model = Model { live: model.live, seg: model.seg, seq: model.seq, ..Model::default() };
                    jump = 0;
                }
            }
        }
    }
}
