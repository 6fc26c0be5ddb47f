//! CPU budgets, as those of burstable instances: each earns credits with time and spends them with the CPU time of a program, a
//! user, or the control groups that its glob matches. Stream `budgets` has what is left.
//!
//! Whether somebody is overdrawn is said, not prevented. What was earned and spent while no recorder ran is unknown, and counts for
//! nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::balance::{Balance, Interval, whole};
use crate::config::{Budget, BudgetOf};
use crate::observer::programs::glob::Glob;
use crate::observer::samplers::alerts::Alert;
use crate::record::identity::Id;
use crate::record::moment::Moment;
use crate::record::sample::Row;
use crate::record::schema::{Column, Columns};
use crate::record::value::Value;

/// Control groups whose budgets are remembered; anybody may make new ones.
const KNOWN_GROUPS: usize = 4096;

/// The budgets and what is left of each, in the order of the config; by default none.
#[derive(Debug, Default)]
pub struct Budgets {
    balances: Vec<Balance>,
    /// Which of them are a program's, by its name; likewise of users.
    programs: FxHashMap<Box<[u8]>, Vec<usize>>,
    users: FxHashMap<Box<[u8]>, Vec<usize>>,
    groups: Groups,
    /// Balances of a recorder before this one that no budget has taken yet.
    saved: FxHashMap<String, f64>,
}

impl Budgets {
    /// Other budgets. One of the same name keeps its balance, bounded by the new cap, what was spent since the last tick, and what
    /// was said of it. A new one begins with what was saved of it, else with its `start`. One that is gone ends its alert and is
    /// forgotten.
    pub fn select(&mut self, budgets: &[Budget], alerts: &mut Vec<Alert>) {
        let mut before: BTreeMap<Arc<str>, Balance> =
            self.balances.drain(..).map(|balance| (Arc::clone(balance.name()), balance)).collect();
        self.programs.clear();
        self.users.clear();
        self.groups = Groups::default();
        for (place, budget) in budgets.iter().enumerate() {
            let balance = match before.remove(budget.name.as_str()) {
                Some(mut balance) => {
                    balance.change(budget);
                    balance
                }
                None => Balance::new(budget, self.saved.remove(&budget.name)),
            };
            self.balances.push(balance);
            match &budget.of {
                BudgetOf::Program(name) => self.programs.entry(name.as_bytes().into()).or_default().push(place),
                BudgetOf::User(name) => self.users.entry(name.as_bytes().into()).or_default().push(place),
                BudgetOf::Cgroup(glob) => self.groups.globs.push((place, Glob::new(glob))),
            }
        }
        alerts.extend(before.into_values().filter_map(Balance::gone));
    }

    /// Balances of a recorder before this one, by name, in credits. They may come before the budgets or after them: each is kept
    /// until a budget of its name is there. One that is no number is passed over.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = (String, f64)>) {
        for (name, credits) in saved.into_iter().filter(|(_, credits)| credits.is_finite()) {
            match self.balances.iter_mut().find(|balance| **balance.name() == *name) {
                Some(balance) => balance.restore(credits),
                None => {
                    self.saved.insert(name, credits);
                }
            }
        }
    }

    /// What is left of each at the last tick, by name, in credits.
    pub fn balances(&self) -> impl Iterator<Item = (&str, f64)> {
        self.balances.iter().map(|balance| (&**balance.name(), balance.credits()))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.balances.is_empty()
    }

    /// Whether some budget is of a control group: then [`spent_in_group`](Self::spent_in_group) must be told of each piece of CPU
    /// time that is counted.
    #[must_use]
    pub const fn has_groups(&self) -> bool {
        !self.groups.globs.is_empty()
    }

    /// CPU time that a process spent in this control group (the path as facts have it), nanoseconds.
    pub fn spent_in_group(&mut self, path: &Arc<[u8]>, cpu_ns: u64) {
        self.groups.budgets_of(path, |places| spend(&mut self.balances, places, cpu_ns));
    }

    /// What the processes of a program and a user spent in the interval that ends, nanoseconds: once for each such account. A user
    /// is called as the column `user` calls it.
    pub fn spent(&mut self, program: &[u8], user: &[u8], cpu_ns: u64) {
        for places in [self.programs.get(program), self.users.get(user)].into_iter().flatten() {
            spend(&mut self.balances, places, cpu_ns);
        }
    }

    /// What was spent since the last tick was spent while nobody recorded, and counts for nothing.
    pub fn forget_interval(&mut self) {
        self.balances.iter_mut().for_each(Balance::forget_interval);
    }

    /// Ends an interval of so many nanoseconds of the monotonic clock: answers with a row for each budget, and adds what is to be
    /// said. `due` is when the tick was due: times that are foretold have its offset.
    pub fn tick(&mut self, interval_ns: u64, due: Moment, columns: &Columns, alerts: &mut Vec<Alert>) -> Vec<Row> {
        let rows = self.balances.iter_mut().map(|balance| {
            let interval = balance.tick(interval_ns, due);
            alerts.extend(balance.look(&interval));
            row(balance, &interval, columns)
        });
        rows.collect()
    }
}

fn spend(balances: &mut [Balance], places: &[usize], cpu_ns: u64) {
    for place in places {
        if let Some(balance) = balances.get_mut(*place) {
            balance.spend(cpu_ns);
        }
    }
}

fn row(balance: &Balance, interval: &Interval, columns: &Columns) -> Row {
    let name: Arc<[u8]> = Arc::from(Arc::clone(balance.name()));
    let value = |column: &Column| match column.name {
        "name" => Value::Word(Arc::clone(&name)),
        "balance" => fixed(column, balance.credits()),
        "earned" => fixed(column, interval.earned),
        "spent" => fixed(column, interval.spent),
        "exhausted_at" => interval.exhausted_at.map_or(Value::Absent, |at| Value::word(at.to_string().as_bytes())),
        _ => Value::Absent,
    };
    let values = columns.iter().filter(|column| column.name != "time").map(value).collect();
    Row { id: Id::Program(name), values }
}

fn fixed(column: &Column, credits: f64) -> Value {
    Value::Fixed(whole(credits * 10_f64.powi(column.kind.digits().unwrap_or(0).into())))
}

/// Which budgets count which control groups.
#[derive(Debug, Default)]
struct Groups {
    globs: Vec<(usize, Glob)>,
    /// By the path itself and not by where it lies in memory: each process has its own copy, and a place is used again.
    known: FxHashMap<Arc<[u8]>, Box<[usize]>>,
}

impl Groups {
    /// Calls with the places of the budgets that count this one.
    fn budgets_of(&mut self, path: &Arc<[u8]>, mut spend: impl FnMut(&[usize])) {
        if self.globs.is_empty() {
            return;
        }
        if let Some(places) = self.known.get(path) {
            return spend(places);
        }
        let places: Box<[usize]> = self.globs.iter().filter(|(_, glob)| glob.matches(path)).map(|(place, _)| *place).collect();
        spend(&places);
        if self.known.len() >= KNOWN_GROUPS {
            self.known.clear();
        }
        self.known.insert(Arc::clone(path), places);
    }
}

#[cfg(test)]
#[path = "budgets_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "budgets_model_tests.rs"]
mod model_tests;
