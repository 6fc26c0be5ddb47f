//! Budgets by example: their arithmetic, what is said of them, and what a reload and a restart make of them.

use super::*;
use crate::record::alert::{AlertKind, Level};
use crate::record::stream::Stream;

pub(super) const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 60 * MINUTE;
/// Of CPU time, nanoseconds.
pub(super) const CREDIT: u64 = MINUTE;
/// 2026-11-20T17:02:10+01:00
pub(super) const DUE: Moment = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 3600 };

fn user(name: &str) -> BudgetOf {
    BudgetOf::User(name.to_owned())
}

/// Of user me: earns 60 an hour, that is 1 a minute; 100 at most and at first.
pub(super) fn budget(name: &str) -> Budget {
    Budget { name: name.to_owned(), of: user("me"), earn: 60.0, cap: 100.0, start: 100.0, alert: vec![50.0, 20.0, 0.0] }
}

pub(super) fn of(budgets: &[Budget]) -> Budgets {
    let (mut selected, mut alerts) = (Budgets::default(), Vec::new());
    selected.select(budgets, &mut alerts);
    assert!(alerts.is_empty());
    selected
}

/// What one tick shows and says.
pub(super) struct Tick {
    rows: Vec<Row>,
    pub(super) alerts: Vec<Alert>,
}

impl Tick {
    pub(super) fn of(budgets: &mut Budgets, interval_ns: u64) -> Self {
        let mut alerts = Vec::new();
        let rows = budgets.tick(interval_ns, DUE, &Columns::standard(Stream::Budgets), &mut alerts);
        Self { rows, alerts }
    }

    /// Of user me, that many credits in a minute.
    fn minute(budgets: &mut Budgets, spent: u64) -> Self {
        budgets.spent(b"x", b"me", spent * CREDIT);
        Self::of(budgets, MINUTE)
    }

    pub(super) fn levels(&self) -> Vec<Level> {
        self.alerts.iter().map(|alert| alert.level).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.alerts.iter().map(text).collect()
    }

    /// `exhausted_at` of the first.
    pub(super) fn exhausted_at(&self) -> Option<Moment> {
        match &self.rows[0].values[4] {
            Value::Word(text) => Some(Moment::parse(text).unwrap()),
            Value::Absent => None,
            other => panic!("{other:?} is no time"),
        }
    }
}

pub(super) fn text(alert: &Alert) -> String {
    String::from_utf8(alert.text.to_vec()).unwrap()
}

pub(super) fn left(budgets: &Budgets) -> Vec<f64> {
    budgets.balances().map(|(_, credits)| credits).collect()
}

fn after(seconds: i64) -> Option<Moment> {
    Some(Moment { unix_ns: DUE.unix_ns + seconds * 1_000_000_000, ..DUE })
}

//--- Rows

#[test]
fn a_row_has_the_interval_and_what_is_left() {
    let mut budgets = of(&[Budget { of: BudgetOf::Program("web".to_owned()), ..budget("b") }, budget("a")]);
    budgets.spent(b"web", b"you", 30 * CREDIT);
    budgets.spent(b"web", b"me", 1_234_567_890);
    budgets.spent(b"cron", b"me", 0);
    let tick = Tick::of(&mut budgets, 10 * MINUTE);
    let (word, at) = (|text: &str| Value::word(text.as_bytes()), "2026-11-20T17:42:06.916+01:00");
    // 100 + 10 - 30.0206 = 79.9794, which falls by 2.0021 a minute; the other was full, and stays so.
    assert_eq!(
        *tick.rows[0].values,
        [word("b"), Value::Fixed(79_979_424), Value::Fixed(10_000_000), Value::Fixed(30_020_576), word(at)][..]
    );
    assert_eq!(
        *tick.rows[1].values,
        [word("a"), Value::Fixed(100_000_000), Value::Fixed(10_000_000), Value::Fixed(20_576), Value::Absent][..]
    );
    assert_eq!(tick.rows.iter().map(|row| row.id.word()).collect::<Vec<_>>(), ["b", "a"]);
    let next = Tick::of(&mut budgets, MINUTE);
    assert_eq!((&next.rows[0].values[1], &next.rows[0].values[3]), (&Value::Fixed(80_979_424), &Value::Fixed(0)));
}

#[test]
fn the_columns_are_those_that_are_asked_for() {
    let columns = Columns::for_view(Stream::Budgets, &["spent", "time", "name"]).unwrap();
    let rows = of(&[budget("b")]).tick(MINUTE, DUE, &columns, &mut Vec::new());
    assert_eq!(*rows[0].values, [Value::Fixed(0), Value::word(b"b")][..]);
    assert!(Budgets::default().tick(MINUTE, DUE, &columns, &mut Vec::new()).is_empty());
}

#[test]
fn it_is_exhausted_when_its_rate_says_so() {
    let mut budgets = of(&[budget("b")]);
    // 100 + 1 - 5 = 96, which falls by 4 a minute: 24 minutes.
    assert_eq!(Tick::minute(&mut budgets, 5).exhausted_at(), after(24 * 60));
    assert_eq!(Tick::minute(&mut budgets, 1).exhausted_at(), None, "it stands");
    assert_eq!(Tick::minute(&mut budgets, 0).exhausted_at(), None, "it rises");
    // 97 less 194 + 1 - 1: nothing was left after half of the minute.
    let empty = Tick::minute(&mut budgets, 195);
    assert_eq!((empty.exhausted_at(), left(&budgets)), (after(-30), vec![0.0]));
    assert_eq!(Tick::minute(&mut budgets, 7).exhausted_at(), after(-30), "since then");
    assert_eq!(Tick::minute(&mut budgets, 1).exhausted_at(), after(-30), "what it earned is spent");
    assert_eq!(Tick::minute(&mut budgets, 0).exhausted_at(), None);
}

#[test]
fn what_is_too_far_away_is_not_foretold() {
    let mut budgets = of(&[Budget { cap: 1e12, start: 1e12, earn: 0.0, ..budget("b") }]);
    budgets.spent(b"x", b"me", 1);
    let tick = Tick::of(&mut budgets, HOUR);
    assert_eq!(tick.exhausted_at(), None);
    assert!(tick.alerts.is_empty());
}

#[test]
fn no_time_at_all_has_no_rate() {
    let mut budgets = of(&[budget("b")]);
    budgets.spent(b"x", b"me", 60 * CREDIT);
    let tick = Tick::of(&mut budgets, 0);
    assert_eq!((left(&budgets), tick.levels()), (vec![40.0], vec![Level::Warn]));
    assert!(!tick.texts()[0].contains("an hour") && !tick.texts()[0].contains("NaN"), "{:?}", tick.texts());
    budgets.spent(b"x", b"me", u64::MAX);
    budgets.spent(b"x", b"me", u64::MAX);
    assert_eq!((Tick::of(&mut budgets, 0).exhausted_at(), left(&budgets)), (after(0), vec![0.0]));
}

//--- Alerts

#[test]
fn an_alert_says_who_what_and_what_to_do() {
    let mut budgets = of(&[Budget { of: BudgetOf::Program("web".to_owned()), ..budget("b") }]);
    budgets.spent(b"web", b"root", 56 * CREDIT);
    let low = Tick::of(&mut budgets, HOUR / 10);
    let alert = &low.alerts[0];
    assert_eq!((alert.kind, alert.level), (AlertKind::Budget, Level::Warn));
    assert_eq!((alert.value, alert.limit), (Some(50_000), Some(100_000)));
    assert_eq!((alert.program.as_deref(), alert.budget.as_deref()), (Some(&b"web"[..]), Some(&b"b"[..])));
    assert_eq!(
        low.texts(),
        ["Budget b of program web has 50 of 100 credits left, 50.0 %. It spends 560 credits an hour and earns 60: so it is exhausted at \
          2026-11-20T17:08:10.000+01:00. psmond counts, it stops nobody: see in stream credits_process who spends it; give it less to \
          do, let it have less CPU (CPUQuota= of its unit), or raise earn and cap of the budget. Value and limit are thousandths of a \
          credit."]
    );
    budgets.spent(b"web", b"root", 61 * CREDIT);
    let empty = Tick::of(&mut budgets, MINUTE);
    assert_eq!(empty.levels(), [Level::Crit]);
    let begin = "Budget b of program web is exhausted since 2026-11-20T17:02:00.000+01:00: it has 0 of 100 credits left, 0.0 %. It spends \
                 3660 credits an hour and earns 60. psmond counts";
    assert!(empty.texts()[0].starts_with(begin), "{:?}", empty.texts());
    let over = Tick::of(&mut budgets, HOUR);
    assert_eq!((over.levels(), over.alerts[0].value), (vec![Level::Ok], Some(60_000)));
    assert_eq!(
        over.texts(),
        [
            "Budget b of program web is above its levels: it has 60 of 100 credits left, 60.0 %. Value and limit are thousandths of a credit."
        ]
    );
}

#[test]
fn each_level_is_said_once_and_what_sways_is_not_said_again() {
    let mut budgets = of(&[Budget { earn: 0.0, ..budget("b") }]);
    let mut at = |credits: f64| {
        budgets.balances[0].set(credits);
        let tick = Tick::of(&mut budgets, MINUTE);
        assert!(tick.alerts.len() <= 1);
        tick.levels().first().copied()
    };
    let (warn, crit, ok) = (Some(Level::Warn), Some(Level::Crit), Some(Level::Ok));
    let told: Vec<_> = [99.0, 50.1, 50.0, 54.9, 49.0, 50.1, 20.0, 24.0, 19.0, 0.0, 4.9, 0.0].map(&mut at).into();
    assert_eq!(told, [None, None, warn, None, None, None, warn, None, None, crit, None, None]);
    // Far above a level, it is said again; over is only what is above all.
    let told: Vec<_> = [6.0, 0.0, 54.9, 20.0, 55.0, 50.0, 0.0, 100.0, 100.0].map(&mut at).into();
    assert_eq!(told, [None, crit, None, warn, ok, warn, crit, ok, None]);
}

#[test]
fn where_it_falls_through_several_the_lowest_is_said() {
    let mut budgets = of(&[budget("b")]);
    assert_eq!(Tick::minute(&mut budgets, 90).levels(), [Level::Warn]);
    assert_eq!(Tick::minute(&mut budgets, 0).levels(), []);
    assert_eq!(Tick::minute(&mut budgets, 13).levels(), [Level::Crit]);
    assert_eq!(Tick::of(&mut budgets, HOUR).levels(), [Level::Ok]);
}

#[test]
fn exhaustion_is_a_level_unless_there_is_none() {
    let exhausted = |alert: &[f64]| {
        let mut budgets = of(&[Budget { alert: alert.to_vec(), ..budget("b") }]);
        Tick::minute(&mut budgets, 1000).levels()
    };
    assert_eq!((exhausted(&[30.0]), exhausted(&[0.0]), exhausted(&[])), (vec![Level::Crit], vec![Level::Crit], vec![]));
}

#[test]
fn a_level_of_all_is_crossed_by_the_first_spending() {
    let mut budgets = of(&[Budget { alert: vec![100.0], ..budget("b") }]);
    let mut minute = |spent| Tick::minute(&mut budgets, spent).levels();
    assert_eq!([minute(0), minute(1), minute(2), minute(2), minute(0)], [vec![], vec![], vec![Level::Warn], vec![], vec![]]);
    assert_eq!(minute(0), [Level::Ok]);
}

#[test]
fn what_begins_low_did_not_fall() {
    let mut budgets = of(&[Budget { start: 10.0, ..budget("b") }]);
    let mut minute = |spent| Tick::minute(&mut budgets, spent).levels();
    assert_eq!([minute(0), minute(2), minute(0)], [vec![], vec![], vec![]]);
    assert_eq!(minute(100), [Level::Crit]);
    let mut budgets = of(&[Budget { start: 0.0, ..budget("b") }]);
    let nothing = Tick::minute(&mut budgets, 1);
    assert_eq!((nothing.levels(), nothing.exhausted_at()), (vec![Level::Crit], after(-60)), "it never had any");
    // It rose to where nothing was said of: that is no end of anything.
    let mut budgets = of(&[Budget { start: 10.0, ..budget("b") }]);
    assert!(Tick::of(&mut budgets, HOUR).alerts.is_empty());
}

#[test]
fn where_nothing_is_kept_nothing_runs_out() {
    let mut budgets = of(&[Budget { cap: 0.0, start: 0.0, ..budget("b") }]);
    for spent in [0, 5, 0, 1_000_000] {
        let tick = Tick::minute(&mut budgets, spent);
        assert!(tick.alerts.is_empty() && tick.exhausted_at().is_none());
        assert_eq!((left(&budgets), &tick.rows[0].values[1]), (vec![0.0], &Value::Fixed(0)));
    }
}

//--- Reload and restart

#[test]
fn a_budget_keeps_its_balance_when_the_config_changes() {
    let mut budgets = of(&[budget("b"), budget("c")]);
    assert_eq!(Tick::minute(&mut budgets, 41).levels(), []);
    budgets.spent(b"x", b"me", CREDIT);
    let mut alerts = Vec::new();
    let other = Budget { of: BudgetOf::Program("x".to_owned()), cap: 30.0, start: 5.0, earn: 0.0, ..budget("c") };
    budgets.select(&[budget("new"), other, budget("b")], &mut alerts);
    assert!(alerts.is_empty());
    assert_eq!(budgets.balances().collect::<Vec<_>>(), [("new", 100.0), ("c", 30.0), ("b", 60.0)]);
    // What was spent before the reload is not lost, and who it is of from then on is another.
    budgets.spent(b"x", b"you", 2 * CREDIT);
    let tick = Tick::of(&mut budgets, MINUTE);
    assert_eq!((left(&budgets), tick.levels()), (vec![100.0, 27.0, 60.0], vec![]));
    assert_eq!(tick.rows[1].values[3], Value::Fixed(3_000_000));
}

#[test]
fn what_was_said_stands_over_a_reload_and_ends_with_its_budget() {
    let mut budgets = of(&[budget("b")]);
    assert_eq!(Tick::minute(&mut budgets, 85).levels(), [Level::Warn]);
    let mut alerts = Vec::new();
    let mut select = |budgets: &mut Budgets, of: &[Budget]| {
        budgets.select(of, &mut alerts);
        std::mem::take(&mut alerts)
    };
    // 16 %, as before: nothing new of it, nor with a level between those that were said.
    assert!(select(&mut budgets, &[budget("b")]).is_empty() && Tick::minute(&mut budgets, 1).alerts.is_empty());
    select(&mut budgets, &[Budget { alert: vec![60.0, 50.0, 30.0, 20.0], ..budget("b") }]);
    assert!(Tick::minute(&mut budgets, 1).alerts.is_empty());
    // A level below it is news when it is fallen to.
    select(&mut budgets, &[Budget { alert: vec![18.0], ..budget("b") }]);
    assert_eq!(Tick::minute(&mut budgets, 1).levels(), [Level::Warn]);
    // A smaller cap, of which it has plenty.
    select(&mut budgets, &[Budget { cap: 20.0, ..budget("b") }]);
    assert_eq!(Tick::minute(&mut budgets, 1).levels(), [Level::Ok]);
    assert_eq!(Tick::minute(&mut budgets, 10).levels(), [Level::Warn]);
    let gone = select(&mut budgets, &[budget("other")]);
    assert_eq!(
        gone.iter().map(|alert| (alert.level, alert.budget.as_deref())).collect::<Vec<_>>(),
        [(Level::Ok, Some(&b"b"[..]))]
    );
    assert_eq!(text(&gone[0]), "Budget b of user me is counted no more: the config does not have it.");
    assert!(select(&mut budgets, &[]).is_empty() && budgets.is_empty());
    // It comes again as if it had not been.
    select(&mut budgets, &[budget("b")]);
    assert_eq!(left(&budgets), [100.0]);
}

#[test]
fn what_stands_ends_when_there_are_no_levels_any_more() {
    let mut budgets = of(&[budget("b")]);
    Tick::minute(&mut budgets, 85);
    budgets.select(&[Budget { alert: vec![], ..budget("b") }], &mut Vec::new());
    let over = Tick::minute(&mut budgets, 1);
    assert_eq!(over.levels(), [Level::Ok]);
    assert!(
        over.texts()[0].starts_with("Budget b of user me has 16 credits: it is not watched any more."),
        "{:?}",
        over.texts()
    );
}

#[test]
fn balances_outlive_a_restart() {
    let saved =
        || [("b", 15.0), ("c", 1e9), ("d", -5.0), ("e", f64::NAN), ("later", 7.0)].map(|(name, credits)| (name.to_owned(), credits));
    let all = ["a", "b", "c", "d", "e"].map(budget);
    let mut before = Budgets::default();
    before.restore(saved());
    before.select(&all, &mut Vec::new());
    let mut after = of(&all);
    after.restore(saved());
    for mut budgets in [before, after] {
        assert_eq!(left(&budgets), [100.0, 15.0, 100.0, 0.0, 100.0]);
        // What still holds is said anew.
        let tick = Tick::minute(&mut budgets, 1);
        let said: Vec<_> = tick.alerts.iter().map(|alert| (alert.budget.as_deref().unwrap(), alert.level)).collect();
        assert_eq!(said, [(&b"b"[..], Level::Warn), (&b"d"[..], Level::Crit)]);
        let mut alerts = Vec::new();
        budgets.select(&[budget("later"), budget("b")], &mut alerts);
        assert_eq!((left(&budgets), alerts.len()), (vec![7.0, 15.0], 1));
        budgets.select(&[], &mut alerts);
        budgets.select(&[budget("later")], &mut alerts);
        assert_eq!(left(&budgets), [100.0], "what was saved is taken once");
    }
}

//--- Control groups

#[test]
fn a_group_counts_for_each_budget_whose_glob_it_matches() {
    let group = |name: &str, glob: &str| Budget { of: BudgetOf::Cgroup(glob.to_owned()), earn: 0.0, ..budget(name) };
    let mut budgets = of(&[group("batch", "/batch.slice*"), budget("me"), group("one", "/batch.slice/a"), group("none", "/x")]);
    assert!(budgets.has_groups() && !of(&[budget("me")]).has_groups());
    for path in ["/batch.slice", "/batch.slice/a", "/batch.slice/a", "/", "/batch.slice/a/b", ""] {
        budgets.spent_in_group(&path.as_bytes().into(), CREDIT);
    }
    Tick::of(&mut budgets, MINUTE);
    assert_eq!(left(&budgets), [96.0, 100.0, 98.0, 100.0]);
    // Other budgets, other answers.
    budgets.select(&[group("none", "/batch.slice/a"), group("batch", "/x")], &mut Vec::new());
    budgets.spent_in_group(&b"/batch.slice/a".as_slice().into(), CREDIT);
    Tick::of(&mut budgets, MINUTE);
    assert_eq!(left(&budgets), [99.0, 96.0]);
}

#[test]
fn groups_that_anybody_makes_take_no_memory_without_end() {
    let mut budgets = of(&[Budget { of: BudgetOf::Cgroup("/even*".to_owned()), earn: 0.0, ..budget("b") }]);
    let many = 3 * KNOWN_GROUPS as u64;
    for number in 0..many {
        let path: Arc<[u8]> = format!("/{}{number}", if number % 2 == 0 { "even" } else { "odd" }).as_bytes().into();
        budgets.spent_in_group(&path, CREDIT / 1000);
        assert!(budgets.groups.known.len() <= KNOWN_GROUPS);
    }
    let tick = Tick::of(&mut budgets, MINUTE);
    assert_eq!(tick.rows[0].values[3], Value::Fixed(i64::try_from(many / 2 * 1000).unwrap()));
}
