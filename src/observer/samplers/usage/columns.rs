//! The columns of streams `usage` and `usage_process`, read off a row's figures.

use super::figures::{Figures, Sum};
use crate::observer::facts::Reading;
use crate::observer::samplers::measure::Context;
use crate::observer::sockets;
use crate::observer::table::Process;
use crate::record::schema::Column;
use crate::record::value::Value;

/// Reads one column off a row's figures.
pub(super) type Measure = fn(&Shown<'_>) -> Value;

/// A row's figures, and whose they are.
pub(super) struct Shown<'a> {
    pub(super) figures: &'a Figures,
    pub(super) program: Value,
    pub(super) process: Option<&'a Process>,
    pub(super) context: &'a Context<'a>,
}

fn of_sum(sum: Sum, value: impl FnOnce(u64) -> Value) -> Value {
    match sum {
        Sum { refused: true, .. } | Sum { late: true, .. } => Value::Refused,
        Sum { known: true, total, .. } => value(total),
        _ => Value::Absent,
    }
}

/// A counter of the living and, of a program, of the dead: what is refused of one that lives is not known of all.
fn counter(shown: &Shown<'_>, of: Sum, value: u64) -> Value {
    match of {
        Sum { refused: true, .. } | Sum { late: true, .. } => Value::Refused,
        Sum { known: false, .. } if shown.process.is_some() => Value::Absent,
        _ => Value::count(value),
    }
}

fn io(shown: &Shown<'_>, value: u64) -> Value {
    counter(shown, shown.figures.io, value)
}

/// What only processes that live have: of none of them it is nothing.
fn of_living(shown: &Shown<'_>, sum: Sum) -> Value {
    if shown.figures.procs == 0 && shown.process.is_none() { Value::Int(0) } else { of_sum(sum, Value::count) }
}

fn sockets_of(shown: &Shown<'_>, part: fn(&sockets::Counts) -> u64) -> Value {
    match &shown.figures.counts {
        Reading::Known(counts) => Value::count(part(counts)),
        Reading::Absent => Value::Absent,
        _ => Value::Refused,
    }
}

/// The measure of a column, by its name in the schema.
pub(super) fn measure(column: &'static Column) -> Measure {
    find(column.name).unwrap_or(|_| Value::Absent)
}

fn find(column: &str) -> Option<Measure> {
    Some(match column {
        "pid" => |shown| shown.process.map_or(Value::Absent, |process| Value::count(process.id.pid.into())),
        "start" => |shown| shown.process.map_or(Value::Absent, |process| Value::count(process.id.start)),
        "user" => |shown| shown.process.map_or(Value::Absent, |process| shown.context.user(process)),
        "program" => |shown| shown.program.clone(),
        "procs" => |shown| Value::count(shown.figures.procs),
        "up" => |shown| match shown.figures.account {
            Some((.., Some(expect))) => Value::count(u64::from(shown.figures.procs >= u64::from(expect))),
            _ => Value::Absent,
        },
        "cpu_pct" => |shown| shown.figures.pct.map_or(Value::Absent, Value::Fixed),
        "cpu_s" => |shown| Value::Fixed(i64::try_from(shown.figures.spent.cpu_ns / 1_000_000).unwrap_or(i64::MAX)),
        "rss" => |shown| of_living(shown, shown.figures.rss),
        "vsz" => |shown| of_living(shown, shown.figures.vsz),
        "pss" => |shown| of_sum(shown.figures.pss, Value::count),
        "pss_age_s" => |shown| match shown.figures.pss_age_ms {
            Some(age) => Value::Fixed(i64::try_from((age + 50) / 100).unwrap_or(i64::MAX)),
            None => Value::Absent,
        },
        "rchar" => |shown| io(shown, shown.figures.spent.io.rchar),
        "wchar" => |shown| io(shown, shown.figures.spent.io.wchar),
        "syscr" => |shown| io(shown, shown.figures.spent.io.syscr),
        "syscw" => |shown| io(shown, shown.figures.spent.io.syscw),
        "read_bytes" => |shown| io(shown, shown.figures.spent.io.read_bytes),
        "write_bytes" => |shown| io(shown, shown.figures.spent.io.write_bytes),
        "cancelled_write_bytes" => |shown| io(shown, shown.figures.spent.io.cancelled_write_bytes),
        "fds" => |shown| of_living(shown, shown.figures.fds),
        "fd_limit_pct" => |shown| shown.figures.fd_tenths.map_or(Value::Absent, Value::Fixed),
        "tcp" => |shown| sockets_of(shown, |counts| counts.tcp),
        "tcp6" => |shown| sockets_of(shown, |counts| counts.tcp6),
        "udp" => |shown| sockets_of(shown, |counts| counts.udp),
        "udp6" => |shown| sockets_of(shown, |counts| counts.udp6),
        "unix" => |shown| sockets_of(shown, |counts| counts.unix),
        "tcp_listen" => |shown| sockets_of(shown, |counts| counts.tcp_listen),
        "tcp6_listen" => |shown| sockets_of(shown, |counts| counts.tcp6_listen),
        "sockets" => |shown| sockets_of(shown, |counts| counts.sockets),
        "limit" => |shown| match shown.figures.measured.nearest {
            Some(nearest) => Value::word(nearest.kind.word().as_bytes()),
            None => Value::Absent,
        },
        "limit_pct" => |shown| match shown.figures.measured.nearest {
            Some(nearest) => Value::Fixed(i64::try_from(nearest.tenths()).unwrap_or(i64::MAX)),
            None => Value::Absent,
        },
        "threads" => |shown| Value::count(shown.figures.threads),
        "started" => |shown| shown.figures.account.map_or(Value::Absent, |(started, ..)| Value::count(started)),
        "exited" => |shown| shown.figures.account.map_or(Value::Absent, |(_, exited, _)| Value::count(exited)),
        "min_flt" => |shown| Value::count(shown.figures.spent.min_flt),
        "maj_flt" => |shown| Value::count(shown.figures.spent.maj_flt),
        "nvcsw" => |shown| counter(shown, shown.figures.switches, shown.figures.spent.nvcsw),
        "nivcsw" => |shown| counter(shown, shown.figures.switches, shown.figures.spent.nivcsw),
        "oldest_s" => |shown| match shown.figures.oldest {
            Some(start) => Value::Fixed(i64::try_from(shown.context.age_ns(start) / 1_000_000_000).unwrap_or(i64::MAX)),
            None => Value::Absent,
        },
        "states" => |shown| shown.figures.states(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::schema::columns;
    use crate::record::stream::Stream;

    #[test]
    fn every_column_has_its_measure() {
        for column in columns(Stream::UsageProcess).iter().filter(|column| column.name != "time") {
            assert!(find(column.name).is_some(), "{} is described and not measured", column.name);
        }
    }

    #[test]
    fn what_is_refused_of_one_is_not_known_of_all() {
        let mut sum = Sum::default();
        assert_eq!(of_sum(sum, Value::count), Value::Absent);
        sum.read(&Reading::Known(3), |count| *count);
        sum.read(&Reading::<u64>::Absent, |count| *count);
        assert_eq!(of_sum(sum, Value::count), Value::Int(3));
        sum.read(&Reading::<u64>::Refused, |count| *count);
        assert_eq!(of_sum(sum, Value::count), Value::Refused);
    }
}
