//! The rows of streams `credits` and `credits_process`.

use std::sync::Arc;

use super::ps::Rows;
use crate::observer::credits::account::{Account, Totals, Whose};
use crate::observer::credits::closure::Interval;
use crate::observer::credits::groups::{Group, Groups};
use crate::observer::credits::lives::Life;
use crate::observer::names::Names;
use crate::record::identity::{Id, Identity};
use crate::record::sample::{Counts, Row};
use crate::record::schema::Columns;
use crate::record::value::Value;

/// What the rows of one tick have in common.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The length of the interval, nanoseconds; 0 where it is not known.
    pub ns: u64,
    /// CPUs online.
    pub cpus: u64,
    /// Minutes of the local day: 1440, but on the days when clocks are set.
    pub day_minutes: u64,
    /// CPU time of all accounts on this day, nanoseconds.
    pub day_ns: u64,
    /// What the machine's clock said beyond that, nanoseconds.
    pub day_unattributed_ns: i64,
    /// The sum beside the clock.
    pub closure: Interval,
}

/// Who counts for a row.
enum Members<'a> {
    /// Those of an account.
    Of(&'a Account),
    /// So many are in a group.
    Count(u64),
}

/// One row of stream `credits`, before it has a form.
struct Shown<'a> {
    program: Arc<[u8]>,
    user: Option<Arc<[u8]>>,
    /// The control group, where rows are of groups: then they have neither program nor user.
    group: Option<Option<Arc<[u8]>>>,
    /// Who counts for it, who came and went, and how the time splits: of what is nobody's there is none of it.
    account: Option<(Members<'a>, Totals)>,
    cpu_ns: i64,
    day_ns: i64,
}

/// The rows of stream `credits`: of each account that somebody counts for, or did in this interval, and of what is nobody's.
#[must_use]
pub fn rows(accounts: &[Account], names: &Names, columns: &Columns, span: &Span) -> Rows {
    let mut all: Vec<Shown<'_>> = Vec::with_capacity(accounts.len() + 1);
    for account in accounts {
        let interval = account.interval();
        if account.members > 0 || interval != Totals::default() {
            let (whose, user) = &account.key;
            all.push(Shown {
                program: whose.name(),
                user: user.map(|uid| names.user(uid)),
                group: None,
                account: Some((Members::Of(account), interval)),
                cpu_ns: signed(interval.spent.ns),
                day_ns: signed(account.day_ns),
            });
        }
    }
    all.extend(unattributed(span));
    all.sort_by(|one, other| (&one.program, &one.user).cmp(&(&other.program, &other.user)));
    made(&all, columns, span)
}

/// Rows of control groups in the place of programs and users: of each that somebody is in, or was in this interval. Columns that are
/// of accounts alone do not exist in them.
#[must_use]
pub fn of_groups(groups: &Groups, columns: &Columns, span: &Span) -> Rows {
    let group = |(path, group): (&Option<Arc<[u8]>>, &Group)| {
        let interval = group.interval();
        let cpu_ns = signed(interval.spent.ns);
        let program = path.clone().unwrap_or_else(|| b"-"[..].into());
        Shown {
            program,
            user: None,
            group: Some(path.clone()),
            account: Some((Members::Count(group.members), interval)),
            cpu_ns,
            day_ns: 0,
        }
    };
    let mut all: Vec<Shown<'_>> = groups.iter().map(group).collect();
    all.extend(unattributed(span).map(|shown| Shown { group: Some(Some(Whose::UNATTRIBUTED.into())), ..shown }));
    all.sort_by(|one, other| one.program.cmp(&other.program));
    made(&all, columns, span)
}

/// What is nobody's.
fn unattributed<'a>(span: &Span) -> Option<Shown<'a>> {
    let clock = span.closure.clock.as_ref()?;
    let (cpu_ns, day_ns) = (clock.beyond_ns(), span.day_unattributed_ns);
    Some(Shown { program: Whose::UNATTRIBUTED.into(), user: None, group: None, account: None, cpu_ns, day_ns })
}

fn made(all: &[Shown<'_>], columns: &Columns, span: &Span) -> Rows {
    let row = |shown: &Shown<'_>| Row {
        id: Id::Program(Arc::clone(&shown.program)),
        values: columns.iter().filter(|column| column.name != "time").map(|column| shown.value(column.name, span)).collect(),
    };
    let rows: Vec<Row> = all.iter().map(row).collect();
    Rows { counts: Counts { seen: rows.len() as u64, ..Counts::default() }, rows, left: Vec::new() }
}

impl Shown<'_> {
    fn value(&self, column: &str, span: &Span) -> Value {
        // Who comes to a group and leaves it nobody counts.
        let crossed = |part: fn(&Totals) -> u64| match &self.account {
            Some((Members::Of(_), interval)) => Value::count(part(interval)),
            _ => Value::Absent,
        };
        let word = |word: &Option<Arc<[u8]>>| word.as_ref().map_or(Value::Absent, |word| Value::Word(Arc::clone(word)));
        let split = self.account.as_ref().and_then(|(_, interval)| interval.spent.split());
        match column {
            "program" if self.group.is_none() => Value::Word(Arc::clone(&self.program)),
            "cgroup" => self.group.as_ref().map_or(Value::Absent, word),
            "user" => word(&self.user),
            "procs" => match &self.account {
                Some((Members::Of(account), _)) => Value::count(account.members),
                Some((Members::Count(count), _)) => Value::count(*count),
                None => Value::Absent,
            },
            "started" => crossed(|interval| interval.started),
            "exited" => crossed(|interval| interval.exited),
            "user_s" => split.map_or(Value::Absent, |(user_ns, _)| seconds(signed(user_ns))),
            "sys_s" => split.map_or(Value::Absent, |(_, system_ns)| seconds(signed(system_ns))),
            "cpu_pct" => hundredths(self.cpu_ns, span.ns),
            "share_pct" => hundredths(self.cpu_ns, span.ns.saturating_mul(span.cpus.max(1))),
            "day_cpu_s" if self.group.is_none() => seconds(self.day_ns),
            "day_credits_left" if self.group.is_none() => {
                let all = signed(span.cpus.saturating_mul(span.day_minutes).saturating_mul(1000));
                Value::Fixed(all.saturating_sub(rounded(signed(span.day_ns), 60_000_000)))
            }
            _ => spent(column, self.cpu_ns),
        }
    }
}

/// The rows of stream `credits_process`.
#[must_use]
pub fn lives(waiting: &[&Life], names: &Names, columns: &Columns) -> Rows {
    let row = |life: &&Life| Row {
        id: Identity { pid: life.pid, start: life.start.unwrap_or(0) }.into(),
        values: columns.iter().filter(|column| column.name != "time").map(|column| of_life(life, column.name, names)).collect(),
    };
    let rows: Vec<Row> = waiting.iter().map(row).collect();
    Rows { counts: Counts { seen: rows.len() as u64, ..Counts::default() }, rows, left: Vec::new() }
}

fn of_life(life: &Life, column: &str, names: &Names) -> Value {
    let count = |number: Option<u64>| number.map_or(Value::Absent, Value::count);
    match column {
        "pid" => Value::count(life.pid.into()),
        "start" => count(life.start),
        "program" => Value::Word(life.key.0.name()),
        "user" => life.key.1.map_or(Value::Absent, |uid| Value::Word(names.user(uid))),
        "part" => count(life.part.map(u64::from)),
        "wall_s" => life.wall_ns.map_or(Value::Absent, |ns| seconds(signed(ns))),
        "life_pct" => life.whole.map_or(Value::Absent, |(cpu_ns, life_ns)| hundredths(signed(cpu_ns), life_ns)),
        "lives" => Value::count(life.lives),
        "cmd" => life.cmd.as_ref().map_or(Value::Absent, |cmd| Value::Cmd(Arc::clone(cmd))),
        _ => life.cpu_ns.map_or(Value::Absent, |ns| spent(column, signed(ns))),
    }
}

/// CPU time in the units that both streams have.
#[must_use]
pub fn spent(column: &str, ns: i64) -> Value {
    match column {
        "cpu_s" => seconds(ns),
        // 100 x seconds, with three digits.
        "util_s" => Value::Fixed(rounded(ns, 10_000)),
        // Sixtieths of seconds, with six digits.
        "credits" => Value::Fixed(rounded(ns, 60_000)),
        _ => Value::Absent,
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Seconds with six digits.
#[must_use]
pub const fn seconds(ns: i64) -> Value {
    Value::Fixed(rounded(ns, 1000))
}

const fn rounded(ns: i64, by: i64) -> i64 {
    ns.saturating_add(if ns < 0 { -by / 2 } else { by / 2 }) / by
}

/// Per cent with two digits; of no time there is none.
#[must_use]
pub fn hundredths(cpu_ns: i64, time_ns: u64) -> Value {
    if time_ns == 0 {
        return Value::Absent;
    }
    let hundredths = i128::from(cpu_ns) * 10_000 / i128::from(time_ns);
    Value::Fixed(i64::try_from(hundredths).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::schema::columns;
    use crate::record::stream::Stream;

    #[test]
    fn ninety_cpu_seconds_are_one_and_a_half_credits() {
        let ns = 90_000_000_000;
        assert_eq!(spent("cpu_s", ns), Value::Fixed(90_000_000));
        assert_eq!(spent("util_s", ns), Value::Fixed(9_000_000), "9000.000");
        assert_eq!(spent("credits", ns), Value::Fixed(1_500_000), "1.500000");
        // A CPU's whole day.
        assert_eq!(spent("credits", 86_400 * 1_000_000_000), Value::Fixed(1440 * 1_000_000));
        assert_eq!(spent("cpu_s", -1_500), Value::Fixed(-2), "below zero it is rounded alike");
    }

    #[test]
    fn what_is_left_of_a_day_is_of_its_true_length() {
        let span = |day_minutes| Span {
            ns: 60_000_000_000,
            cpus: 2,
            day_minutes,
            day_ns: 90_000_000_000,
            day_unattributed_ns: 0,
            closure: Interval::default(),
        };
        let shown = Shown { program: b"x"[..].into(), user: None, group: None, account: None, cpu_ns: 30_000_000_000, day_ns: 0 };
        assert_eq!(shown.value("day_credits_left", &span(1440)), Value::Fixed(2_880_000 - 1_500));
        assert_eq!(shown.value("day_credits_left", &span(1380)), Value::Fixed(2_760_000 - 1_500));
        assert_eq!(
            (shown.value("cpu_pct", &span(1)), shown.value("share_pct", &span(1))),
            (Value::Fixed(5_000), Value::Fixed(2_500))
        );
        assert_eq!(shown.value("cpu_pct", &Span { ns: 0, ..span(1) }), Value::Absent, "of no time there is no share");
    }

    #[test]
    fn every_column_has_a_value() {
        let account = Account::new((Whose::Kernel, Some(0)));
        let names = Names::default();
        let all = Columns::standard(Stream::Credits);
        let mut account = account;
        account.members = 1;
        let span = Span { ns: 1, cpus: 1, day_minutes: 1, day_ns: 0, day_unattributed_ns: 0, closure: Interval::default() };
        let made = rows(&[account.clone()], &names, &all, &span);
        assert_eq!(made.rows.len(), 1);
        let named = columns(Stream::Credits).iter().filter(|column| column.name != "time");
        for (column, value) in named.zip(&*made.rows[0].values) {
            assert_ne!(*value, Value::Absent, "{} is described and not measured", column.name);
        }
        let life = Life {
            pid: 1,
            start: Some(2),
            key: account.key,
            part: Some(1),
            wall_ns: Some(1),
            cpu_ns: Some(1),
            whole: Some((1, 1)),
            lives: 1,
            cmd: Some(Arc::new(crate::record::cmd::Cmd::Comm(b"x"[..].into()))),
        };
        let made = lives(&[&life], &names, &Columns::standard(Stream::CreditsProcess));
        assert!(made.rows[0].values.iter().all(|value| *value != Value::Absent), "{:?}", made.rows[0].values);
    }
}
