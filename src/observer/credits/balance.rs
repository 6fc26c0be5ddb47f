//! What one budget holds: credits come with time and go with CPU time; and what is said when few are left.
//!
//! It is that of a burstable instance in its standard mode: never below 0, never above the cap.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::config::{Budget, BudgetOf};
use crate::observer::samplers::alerts::Alert;
use crate::record::alert::{AlertKind, Level};
use crate::record::moment::Moment;

/// CPU time in a credit, nanoseconds.
const CREDIT_NS: f64 = 60e9;
/// An hour, nanoseconds.
const HOUR_NS: f64 = 3600e9;
/// Credits that are none: what a sum of decimals may leave over, 6 ns.
const SPECK: f64 = 1e-10;
/// By how many points of the cap a balance must be above a level again before that is over: what sways about a level is told once.
const SWAY: f64 = 5.0;

/// A budget, what is left of it, and what has been said of that.
#[derive(Debug)]
pub(super) struct Balance {
    name: Arc<str>,
    of: BudgetOf,
    /// Credits an hour.
    earn: f64,
    cap: f64,
    /// What is left: from 0 to the cap.
    credits: f64,
    /// In the interval that is not over, nanoseconds.
    spent_ns: u64,
    /// Per cent of the cap, the largest first, the last is 0; none where nothing is to be said.
    levels: Box<[f64]>,
    /// The first so many levels were crossed downwards and not yet upwards.
    crossed: usize,
    /// Whether an alert stands.
    told: bool,
    /// When it became 0, while it is.
    since: Option<Moment>,
}

/// What became of a balance in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    /// How long it was, nanoseconds.
    pub(super) ns: u64,
    /// Credits, whether there was room for them or not.
    pub(super) earned: f64,
    /// Credits, whether they were there or not.
    pub(super) spent: f64,
    /// When nothing will be left at this rate, or since when nothing is.
    pub(super) exhausted_at: Option<Moment>,
}

impl Balance {
    /// A new one, with what a recorder before this one left in it, if one did.
    pub(super) fn new(budget: &Budget, saved: Option<f64>) -> Self {
        let mut balance = Self {
            name: budget.name.as_str().into(),
            of: budget.of.clone(),
            earn: budget.earn,
            cap: budget.cap,
            credits: within(budget.start, budget.cap),
            spent_ns: 0,
            levels: levels(budget),
            crossed: 0,
            told: false,
            since: None,
        };
        match saved {
            Some(credits) => balance.restore(credits),
            // It did not fall below what it begins with.
            None => balance.crossed = balance.levels.iter().take_while(|level| **level > 0.0 && balance.is_at(**level)).count(),
        }
        balance
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What is left, credits.
    pub(super) const fn credits(&self) -> f64 {
        self.credits
    }

    /// So much is left, bounded by the cap; what holds of it is said anew.
    pub(super) fn restore(&mut self, credits: f64) {
        self.credits = within(credits, self.cap);
        self.crossed = 0;
    }

    /// So much is left, as if it had been earned or spent.
    #[cfg(test)]
    pub(super) fn set(&mut self, credits: f64) {
        self.credits = credits;
    }

    /// Other settings for what is left.
    pub(super) fn change(&mut self, budget: &Budget) {
        let lowest = self.crossed.checked_sub(1).and_then(|at| self.levels.get(at)).copied();
        self.of = budget.of.clone();
        self.earn = budget.earn;
        self.cap = budget.cap;
        self.credits = within(self.credits, budget.cap);
        self.levels = levels(budget);
        // Who was told of a level was told of those above it.
        self.crossed = lowest.map_or(0, |lowest| self.levels.iter().filter(|level| **level >= lowest).count());
    }

    /// CPU time is spent, nanoseconds.
    pub(super) const fn spend(&mut self, cpu_ns: u64) {
        self.spent_ns = self.spent_ns.saturating_add(cpu_ns);
    }

    /// What was spent since the last tick counts for nothing.
    pub(super) const fn forget_interval(&mut self) {
        self.spent_ns = 0;
    }

    /// Ends an interval: what was earned in it comes, and what was spent goes, evenly.
    pub(super) fn tick(&mut self, interval_ns: u64, due: Moment) -> Interval {
        let ns = float(interval_ns);
        let spent = float(std::mem::take(&mut self.spent_ns)) / CREDIT_NS;
        let earned = self.earn * ns / HOUR_NS;
        let falls = spent - earned;
        let before = self.credits;
        self.credits = within(before - falls, self.cap);
        let exhausted_at = if self.cap <= 0.0 {
            // Nothing can be kept, so nothing runs out.
            self.since = None;
            None
        } else if self.credits > 0.0 {
            self.since = None;
            (falls > 0.0 && interval_ns > 0).then(|| later(due, self.credits / falls * ns)).flatten()
        } else {
            let lasted = if falls > 0.0 { before / falls * ns } else { 0.0 };
            self.since = self.since.or_else(|| later(due, lasted - ns));
            self.since
        };
        Interval { ns: interval_ns, earned, spent, exhausted_at }
    }

    /// What is to be said after an interval: that a level was crossed, the lowest if there were several, or that it is over.
    pub(super) fn look(&mut self, interval: &Interval) -> Option<Alert> {
        let before = self.crossed;
        while let Some(level) = self.levels.get(self.crossed)
            && self.is_at(*level)
        {
            self.crossed += 1;
        }
        if self.crossed > before {
            self.told = true;
            return Some(self.low(interval));
        }
        while let Some(above) = self.crossed.checked_sub(1)
            && self.levels.get(above).is_none_or(|level| self.is_above(*level))
        {
            self.crossed = above;
        }
        (self.crossed == 0 && std::mem::take(&mut self.told)).then(|| self.clear())
    }

    /// It is not counted any more: what stands is over.
    pub(super) fn gone(self) -> Option<Alert> {
        let text = || format!("{} is counted no more: the config does not have it.", self.title());
        self.told.then(|| Alert { value: None, limit: None, ..self.alert(Level::Ok, text()) })
    }

    /// At a level or below it. At 100 % is what is not full.
    fn is_at(&self, level: f64) -> bool {
        self.credits <= self.cap * level / 100.0 && self.credits < self.cap
    }

    /// So far above a level that it is over; a full one is above all.
    fn is_above(&self, level: f64) -> bool {
        self.credits >= self.cap || self.credits >= self.cap * (level + SWAY) / 100.0
    }

    //--- What is said

    fn alert(&self, level: Level, text: String) -> Alert {
        let program = match &self.of {
            BudgetOf::Program(name) => Some(Arc::from(name.as_bytes())),
            BudgetOf::User(_) | BudgetOf::Cgroup(_) => None,
        };
        Alert {
            program,
            value: Some(thousandths(self.credits)),
            limit: Some(thousandths(self.cap)),
            budget: Some(Arc::from(Arc::clone(&self.name))),
            ..Alert::new(AlertKind::Budget, level, text)
        }
    }

    fn low(&self, interval: &Interval) -> Alert {
        let Interval { exhausted_at, .. } = interval;
        let rate = interval.rate();
        let (level, mut text) = if self.credits > 0.0 {
            let after = exhausted_at.map_or_else(|| ": so it lasts".to_owned(), |at| format!(": so it is exhausted at {at}"));
            let rate = rate.map_or_else(String::new, |rate| format!(" {rate}{after}."));
            (Level::Warn, format!("{} has {}.{rate}", self.title(), self.left()))
        } else {
            let since = exhausted_at.map_or_else(String::new, |at| format!(" since {at}"));
            let rate = rate.map_or_else(String::new, |rate| format!(" {rate}."));
            (Level::Crit, format!("{} is exhausted{since}: it has {}.{rate}", self.title(), self.left()))
        };
        let _ = write!(
            text,
            " psmond counts, it stops nobody: see in stream credits_process who spends it; give it less to do, let it have less CPU \
             (CPUQuota= of its unit), or raise earn and cap of the budget. {UNIT}"
        );
        self.alert(level, text)
    }

    fn clear(&self) -> Alert {
        let text = if self.levels.is_empty() {
            format!("{} has {} credits: it is not watched any more. {UNIT}", self.title(), credits(self.credits))
        } else {
            format!("{} is above its levels: it has {}. {UNIT}", self.title(), self.left())
        };
        self.alert(Level::Ok, text)
    }

    fn title(&self) -> String {
        let (kind, who) = match &self.of {
            BudgetOf::Program(name) => ("program", name),
            BudgetOf::User(name) => ("user", name),
            BudgetOf::Cgroup(glob) => ("cgroup", glob),
        };
        format!("Budget {} of {kind} {who}", self.name)
    }

    fn left(&self) -> String {
        format!("{} of {} credits left, {:.1} %", credits(self.credits), credits(self.cap), self.credits / self.cap * 100.0)
    }
}

/// Of the numbers of an alert.
const UNIT: &str = "Value and limit are thousandths of a credit.";

impl Interval {
    /// A sentence without its end; `None` of no time at all.
    fn rate(&self) -> Option<String> {
        let an_hour = |amount: f64| credits(amount * HOUR_NS / float(self.ns));
        (self.ns > 0).then(|| format!("It spends {} credits an hour and earns {}", an_hour(self.spent), an_hour(self.earned)))
    }
}

/// Per cent of the cap at which an alert is raised: those of the config, and exhaustion; none at all where it names none. Where
/// nothing may be kept there is nothing to run out of.
fn levels(budget: &Budget) -> Box<[f64]> {
    if budget.alert.is_empty() || budget.cap <= 0.0 {
        return Box::default();
    }
    let mut levels: Vec<f64> = budget.alert.iter().copied().chain([0.0]).collect();
    levels.sort_by(|one, other| other.total_cmp(one));
    levels.dedup();
    levels.into()
}

fn within(credits: f64, cap: f64) -> f64 {
    if credits < SPECK { 0.0 } else { credits.min(cap).max(0.0) }
}

/// So many nanoseconds later; `None` beyond what a moment can hold, some 200 years.
fn later(moment: Moment, ns: f64) -> Option<Moment> {
    let shift = (ns.abs() < 9e18).then(|| whole(ns))?;
    Some(Moment { unix_ns: moment.unix_ns.checked_add(shift)?, ..moment })
}

/// As people read them, to the thousandth.
fn credits(credits: f64) -> String {
    let text = format!("{credits:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousandths(credits: f64) -> u64 {
    u64::try_from(whole(credits * 1000.0)).unwrap_or(0)
}

#[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
pub(super) fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of nanoseconds are 104 days, to the nanosecond")]
const fn float(ns: u64) -> f64 {
    ns as f64
}
