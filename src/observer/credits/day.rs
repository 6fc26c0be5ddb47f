//! What was spent since local midnight.
//!
//! A day is a date of the local calendar, whatever its length. An interval belongs to the date of its last nanosecond: one that ends
//! at midnight is the last of the day before. When the clock is set back over midnight the day before goes on where it was, so each
//! second belongs to exactly one day, and what a day holds never goes back.

use jiff::civil::Date;
use rustc_hash::FxHashMap;

use super::account::{Account, Key};

/// So many days besides the current one are remembered, for a clock that is set back.
const REMEMBERED: usize = 2;

/// The days.
#[derive(Debug, Default)]
pub struct Days {
    /// The one that is counted; `None` before the first tick.
    today: Option<Date>,
    /// Of it: CPU time of all accounts, nanoseconds.
    pub sum_ns: u64,
    /// Of it: what the machine's clock said beyond that, nanoseconds.
    pub unattributed_ns: i64,
    /// Those before, the last left last.
    before: Vec<Day>,
}

/// One that is not counted now.
#[derive(Debug)]
struct Day {
    date: Date,
    sum_ns: u64,
    unattributed_ns: i64,
    accounts: FxHashMap<Key, u64>,
}

impl Days {
    /// The one that is counted.
    #[must_use]
    pub const fn today(&self) -> Option<Date> {
        self.today
    }

    /// What comes belongs to this day.
    pub(super) fn turn(&mut self, date: Date, accounts: &mut [Account]) {
        if self.today == Some(date) {
            return;
        }
        if let Some(left) = self.today.replace(date) {
            let spent = accounts.iter().filter(|account| account.day_ns > 0).map(|account| (account.key.clone(), account.day_ns));
            let day = Day { date: left, sum_ns: self.sum_ns, unattributed_ns: self.unattributed_ns, accounts: spent.collect() };
            self.before.push(day);
        }
        let known = self.before.iter().position(|day| day.date == date).map(|at| self.before.remove(at));
        if self.before.len() > REMEMBERED {
            self.before.remove(0);
        }
        (self.sum_ns, self.unattributed_ns) = known.as_ref().map_or((0, 0), |day| (day.sum_ns, day.unattributed_ns));
        for account in accounts {
            account.day_ns = known.as_ref().and_then(|day| day.accounts.get(&account.key)).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::credits::account::Whose;
    use jiff::civil::date;

    #[test]
    fn a_day_goes_on_where_it_was_when_the_clock_is_set_back() {
        let mut days = Days::default();
        let mut accounts = [Account::new((Whose::Program(b"x"[..].into()), Some(0)))];
        let mut spend = |days: &mut Days, on: Date, ns: u64| {
            days.turn(on, &mut accounts);
            accounts[0].day_ns += ns;
            days.sum_ns += ns;
            (accounts[0].day_ns, days.sum_ns)
        };
        let (one, two) = (date(2026, 11, 20), date(2026, 11, 21));
        assert_eq!(spend(&mut days, one, 5), (5, 5));
        assert_eq!(spend(&mut days, two, 7), (7, 7));
        assert_eq!(spend(&mut days, one, 1), (6, 6), "it goes on");
        assert_eq!(spend(&mut days, two, 1), (8, 8));
        // Far away and back: what is too old is forgotten, and begins anew.
        for year in 2000..2010 {
            spend(&mut days, date(year, 1, 1), 1);
        }
        assert_eq!(spend(&mut days, one, 1), (1, 1));
        assert!(days.before.len() <= REMEMBERED + 1);
    }
}
