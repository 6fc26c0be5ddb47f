//! Budgets against a model: whatever happens, nothing is lost, and what is said of them holds.

use proptest::prelude::*;

use super::tests::{CREDIT, DUE, MINUTE, Tick, budget, left, of, text};
use super::*;
use crate::observer::samplers::alerts::Alerts;
use crate::record::alert::Level;
use crate::record::stream::Stream;

#[derive(Clone, Debug)]
enum Step {
    /// Hundredths of a credit, seconds.
    Tick(u64, u64),
    Select(Budget),
    Restore(f64),
}

fn any_budget() -> impl Strategy<Value = Budget> {
    let levels = proptest::collection::vec(prop_oneof![Just(0.0), Just(100.0), 0.0..100.0], 0..5);
    let cap = prop_oneof![1 => Just(0.0), 8 => 0.5..50.0];
    (0.0..500.0, cap, 0.0..=1.0, levels).prop_map(|(earn, cap, part, alert)| Budget { earn, cap, start: cap * part, alert, ..budget("b") })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0_u64..600, 0_u64..120).prop_map(|(spent, seconds)| Step::Tick(spent, seconds)),
        1 => any_budget().prop_map(Step::Select),
        1 => any::<f64>().prop_map(Step::Restore),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    // Whatever happens a balance is within 0 and the cap, nothing is lost but at these two, and each ok ends something.
    #[test]
    fn a_balance_is_what_came_less_what_went(first in any_budget(), steps in steps()) {
        let mut budgets = of(std::slice::from_ref(&first));
        let (mut now, mut open, mut written) = (first, false, Alerts::new(Some(Columns::standard(Stream::Alerts))));
        for step in steps {
            let before = left(&budgets)[0];
            match step {
                Step::Tick(spent, seconds) => {
                    budgets.spent(b"x", b"me", spent * CREDIT / 100);
                    let tick = Tick::of(&mut budgets, seconds * 1_000_000_000);
                    let (spent, earned) = (spent as f64 / 100.0, now.earn * seconds as f64 / 3600.0);
                    let balance = left(&budgets)[0];
                    let free = before + earned - spent;
                    prop_assert!((balance - free.clamp(0.0, now.cap)).abs() < 1e-9, "{before} + {earned} - {spent}, not {balance}");
                    // At this rate it is 0 then, and not before.
                    if let Some(at) = tick.exhausted_at() {
                        let seconds_on = (at.unix_ns - DUE.unix_ns) as f64 / 1e9;
                        prop_assert!(now.cap > 0.0);
                        if balance > 0.0 {
                            let then = balance + (earned - spent) / seconds as f64 * seconds_on;
                            prop_assert!(then.abs() < 0.001 * (spent / seconds as f64) + 1e-6, "{then}");
                        } else {
                            prop_assert!(seconds_on <= 0.0);
                        }
                    } else {
                        prop_assert!(spent <= earned + 1e-9 || now.cap == 0.0 || seconds == 0, "it falls");
                    }
                    prop_assert!(tick.alerts.len() <= 1);
                    for alert in tick.alerts {
                        match alert.level {
                            Level::Ok => prop_assert!(std::mem::take(&mut open), "ends nothing"),
                            Level::Crit => { prop_assert_eq!(balance, 0.0); open = true; }
                            _ => { prop_assert!(balance > 0.0 && balance < now.cap); open = true; }
                        }
                        prop_assert!(alert.level == Level::Ok || !now.alert.is_empty() && now.cap > 0.0);
                        prop_assert!(!text(&alert).contains("NaN") && !text(&alert).contains("inf"), "{}", text(&alert));
                        written.add(alert);
                    }
                    // Whatever it was before: exhausted, something stands.
                    let watched = !now.alert.is_empty() && now.cap > 0.0;
                    prop_assert!(open || balance > 0.0 || !watched, "exhausted, and nothing was said");
                    prop_assert!(!open || watched && balance < now.cap, "nothing of it holds any more");
                }
                Step::Select(budget) => {
                    budgets.select(std::slice::from_ref(&budget), &mut Vec::new());
                    prop_assert_eq!(left(&budgets)[0], before.min(budget.cap));
                    now = budget;
                }
                Step::Restore(credits) => {
                    budgets.restore([("b".to_owned(), credits)]);
                    let want = if credits.is_finite() { credits.max(0.0).min(now.cap) } else { before };
                    prop_assert!((left(&budgets)[0] - want).abs() < 1e-9);
                }
            }
            prop_assert!((0.0..=now.cap).contains(&left(&budgets)[0]));
        }
        prop_assert_eq!(&written.tick()[0].1, &u32::from(open).to_string());
    }

    // Of each level by itself: it is said when it is fallen to, and again only after the balance was far above it.
    #[test]
    fn each_crossing_is_said_once(balances in proptest::collection::vec(0_u32..=20, 1..200)) {
        let mut budgets = of(&[Budget { earn: 0.0, ..budget("b") }]);
        // Per level: whether it was fallen to and not risen from.
        let mut crossed = [(50.0, false), (20.0, false), (0.0, false)];
        for balance in balances {
            let balance = f64::from(balance) * 5.0;
            budgets.balances[0].set(balance);
            let said = Tick::of(&mut budgets, MINUTE).levels();
            let mut want = vec![];
            let stood = crossed[0].1;
            for (level, crossed) in &mut crossed {
                if balance <= *level && !std::mem::replace(crossed, balance <= *level || *crossed) {
                    want = vec![if *level == 0.0 { Level::Crit } else { Level::Warn }];
                }
                *crossed &= balance < *level + 5.0;
            }
            if stood && !crossed[0].1 {
                want = vec![Level::Ok];
            }
            prop_assert_eq!(said, want, "at {}", balance);
        }
    }

    // What is remembered of groups answers as the globs do, also when a path lies where another lay.
    #[test]
    fn groups_are_told_by_their_path(paths in proptest::collection::vec("/[ab]{0,2}(/[ab])?", 1..200), globs in proptest::collection::vec("/[ab*?]{0,3}", 1..5)) {
        let budget = |glob: &String| Budget { of: BudgetOf::Cgroup(glob.clone()), earn: 0.0, cap: 1e6, start: 1e6, ..budget(glob) };
        let list: std::collections::BTreeSet<String> = globs.into_iter().collect();
        let selected: Vec<Budget> = list.iter().map(budget).collect();
        let mut budgets = of(&selected);
        for path in &paths {
            // Freed at once: the next may have its address.
            budgets.spent_in_group(&path.as_bytes().into(), CREDIT);
        }
        Tick::of(&mut budgets, MINUTE);
        for ((glob, credits), want) in budgets.balances().zip(&list) {
            prop_assert_eq!(glob, want.as_str());
            let spent = paths.iter().filter(|path| Glob::new(glob).matches(path.as_bytes())).count();
            prop_assert_eq!(1e6 - credits, spent as f64);
        }
    }
}
