//! What somebody spent: a row of stream `credits`, and sums of such rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::by::By;
use crate::observer::credits::account::Whose;
use crate::observer::samplers::credits as sampler;
use crate::record::value::Value;

type Word = Option<Arc<[u8]>>;

/// Whose it is; `None` of what a row is not about, or does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The local day.
    pub day: Word,
    /// The program.
    pub program: Word,
    /// The effective user.
    pub user: Word,
    /// The control group.
    pub cgroup: Word,
}

/// Counters of an interval or a day; `None` where there is nothing to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Processes at its end.
    pub procs: Option<i64>,
    /// Processes that came.
    pub started: Option<i64>,
    /// Processes that left.
    pub exited: Option<i64>,
    /// User part, microseconds, as far as it is known.
    pub user_us: Option<i64>,
    /// System part, microseconds, as far as it is known.
    pub sys_us: Option<i64>,
    /// CPU time, microseconds.
    pub cpu_us: i64,
    /// CPU time since the view began, microseconds.
    pub total_us: Option<i64>,
}

/// What shares are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// How long it was, nanoseconds; 0 where that is not known.
    pub ns: u64,
    /// CPUs online.
    pub cpus: u64,
}

impl Who {
    /// From a row, by the names of its columns.
    pub fn read<'a>(value: impl Fn(&str) -> Option<&'a Value>) -> Self {
        let word = |name| match value(name) {
            Some(Value::Word(word)) => Some(Arc::clone(word)),
            _ => None,
        };
        Self { day: word("day"), program: word("program"), user: word("user"), cgroup: word("cgroup") }
    }

    /// Whose row that becomes a part of. What is nobody's is a row of its own in every view.
    #[must_use]
    pub fn by(self, by: Option<By>) -> Self {
        let is_nobodys = self.program.as_deref() == Some(Whose::UNATTRIBUTED);
        match by {
            Some(By::Program) => Self { user: None, ..self },
            Some(By::User) if is_nobodys => Self { user: self.program, ..Self::default() },
            Some(By::User) => Self { program: None, ..self },
            None | Some(By::Cgroup | By::Day) => self,
        }
    }
}

impl Spent {
    /// From a row, by the names of its columns.
    pub fn read<'a>(value: impl Fn(&str) -> Option<&'a Value>) -> Self {
        // Stream `credits` has seconds with six digits.
        let number = |name| value(name).and_then(Value::number);
        Self {
            procs: number("procs"),
            started: number("started"),
            exited: number("exited"),
            user_us: number("user_s"),
            sys_us: number("sys_s"),
            cpu_us: number("cpu_s").unwrap_or(0),
            total_us: None,
        }
    }

    /// Adds another row.
    pub fn add(&mut self, more: &Self) {
        let sum = |one: &mut Option<i64>, other: Option<i64>| {
            if let Some(other) = other {
                *one = Some(one.unwrap_or(0).saturating_add(other));
            }
        };
        sum(&mut self.procs, more.procs);
        sum(&mut self.started, more.started);
        sum(&mut self.exited, more.exited);
        sum(&mut self.user_us, more.user_us);
        sum(&mut self.sys_us, more.sys_us);
        self.cpu_us = self.cpu_us.saturating_add(more.cpu_us);
    }

    /// The value of a column.
    #[must_use]
    pub fn value(&self, who: &Who, column: &str, span: Span) -> Value {
        let word = |word: &Word| word.as_ref().map_or(Value::Absent, |word| Value::Word(Arc::clone(word)));
        let count = |count: Option<i64>| count.map_or(Value::Absent, Value::Int);
        let seconds = |us: Option<i64>| us.map_or(Value::Absent, Value::Fixed);
        let cpu_ns = self.cpu_us.saturating_mul(1000);
        match column {
            "day" => word(&who.day),
            "program" => word(&who.program),
            "user" => word(&who.user),
            "cgroup" => word(&who.cgroup),
            "procs" => count(self.procs),
            "started" => count(self.started),
            "exited" => count(self.exited),
            "user_s" => seconds(self.user_us),
            "sys_s" => seconds(self.sys_us),
            "total_s" => seconds(self.total_us),
            "cpu_pct" => sampler::hundredths(cpu_ns, span.ns),
            "share_pct" => sampler::hundredths(cpu_ns, span.ns.saturating_mul(span.cpus)),
            column => sampler::spent(column, cpu_ns),
        }
    }
}

/// Adds rows up.
#[must_use]
pub fn sums(rows: impl Iterator<Item = (Who, Spent)>, by: Option<By>) -> BTreeMap<Who, Spent> {
    let mut sums: BTreeMap<Who, Spent> = BTreeMap::new();
    for (who, spent) in rows {
        sums.entry(who.by(by)).or_default().add(&spent);
    }
    sums
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn who(program: &str, user: &str) -> Who {
        let word = |word: &str| (!word.is_empty()).then(|| word.as_bytes().into());
        Who { program: word(program), user: word(user), ..Who::default() }
    }

    pub(in super::super) fn spent(procs: i64, cpu_us: i64) -> Spent {
        Spent { procs: Some(procs), started: Some(0), exited: Some(0), cpu_us, ..Spent::default() }
    }

    #[test]
    fn rows_are_added_by_program_and_by_user() {
        let nobodys = Spent { cpu_us: -7, ..Spent::default() };
        let rows = || {
            [
                (who("php", "a"), Spent { user_us: Some(5), ..spent(2, 10) }),
                (who("php", "b"), spent(3, 30)),
                (who("sh", "b"), spent(1, 0)),
                (who("gone", ""), Spent { procs: None, ..spent(0, 1) }),
                (who("(unattributed)", ""), nobodys),
            ]
            .into_iter()
        };
        let all = |by| sums(rows(), by).into_iter().collect::<Vec<_>>();
        let php = Spent { user_us: Some(5), ..spent(5, 40) };
        let gone = Spent { procs: None, ..spent(0, 1) };
        assert_eq!(
            all(Some(By::Program)),
            [(who("(unattributed)", ""), nobodys), (who("gone", ""), gone), (who("php", ""), php), (who("sh", ""), spent(1, 0))]
        );
        assert_eq!(
            all(Some(By::User)),
            [
                (who("", ""), gone),
                (who("", "(unattributed)"), nobodys),
                (who("", "a"), Spent { user_us: Some(5), ..spent(2, 10) }),
                (who("", "b"), spent(4, 30)),
            ]
        );
        assert_eq!(all(None).len(), 5, "as the stream has it");
    }

    #[test]
    fn a_row_says_seconds_credits_and_shares() {
        let row = Spent { total_us: Some(1), ..spent(1, 30_000_000) };
        let value = |column| row.value(&who("x", "y"), column, Span { ns: 60_000_000_000, cpus: 2 });
        assert_eq!((value("cpu_s"), value("util_s")), (Value::Fixed(30_000_000), Value::Fixed(3_000_000)));
        assert_eq!((value("credits"), value("total_s")), (Value::Fixed(500_000), Value::Fixed(1)));
        assert_eq!((value("cpu_pct"), value("share_pct")), (Value::Fixed(5_000), Value::Fixed(2_500)));
        assert_eq!((value("program"), value("cgroup"), value("user_s")), (Value::word(b"x"), Value::Absent, Value::Absent));
        assert_eq!(row.value(&who("x", "y"), "cpu_pct", Span::default()), Value::Absent, "of no time there is no share");
    }
}
