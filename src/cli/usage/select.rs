//! Who is meant, of whom what, and in which order.

use std::cmp::Ordering;

use regex::bytes::Regex;

use super::Arguments;
use crate::cli::Failure;
use crate::cli::users::Users;
use crate::record::sample::Row;
use crate::record::schema::{Columns, SortKey};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What is shown of programs unless columns are named: those of the journal that fit a screen.
const OF_PROGRAMS: [&str; 15] = [
    "program",
    "procs",
    "cpu_pct",
    "cpu_s",
    "rss",
    "pss",
    "fds",
    "threads",
    "tcp",
    "tcp6",
    "unix",
    "read_bytes",
    "write_bytes",
    "limit",
    "limit_pct",
];
/// The same of processes.
const OF_PROCESSES: [&str; 16] = [
    "pid",
    "user",
    "program",
    "cpu_pct",
    "cpu_s",
    "rss",
    "pss",
    "fds",
    "threads",
    "tcp",
    "tcp6",
    "unix",
    "read_bytes",
    "write_bytes",
    "limit",
    "limit_pct",
];

/// The columns of a feed's rows, in their order: those of the stream, without `time`.
#[must_use]
pub fn measured(stream: Stream) -> Vec<&'static str> {
    Columns::standard(stream).iter().map(|column| column.name).filter(|name| *name != "time").collect()
}

/// What of a sample is shown.
#[derive(Debug)]
pub struct Selection {
    /// What the rows are about, in one word and in several.
    pub of: (&'static str, &'static str),
    /// The columns shown; `time` is none of them, as it is the same in each row.
    pub shown: Columns,
    /// Whether `time` was asked for.
    pub has_time: bool,
    /// Where the values shown stand in a row.
    at: Vec<usize>,
    sort: Vec<(usize, bool)>,
    is_timed: bool,
    filter: Filter,
    top: Option<usize>,
}

/// What a sample shows.
#[derive(Debug, PartialEq)]
pub struct Chosen {
    /// Values of the shown columns.
    pub rows: Vec<Vec<Value>>,
    /// Rows that match and are not shown.
    pub left_out: usize,
}

impl Selection {
    /// As it was said.
    ///
    /// # Errors
    /// A column nobody knows, an expression that is none, a user nobody knows, or a filter of processes where programs are shown.
    pub fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::Config(error.to_string());
        let stream = arguments.stream();
        let by_process = stream == Stream::UsageProcess;
        let standard: &[&str] = if by_process { &OF_PROCESSES } else { &OF_PROGRAMS };
        let named: Vec<&str> = arguments.columns.iter().map(String::as_str).collect();
        let columns = Columns::for_view(stream, if named.is_empty() { standard } else { &named }).map_err(|error| wrong(&error))?;
        let names: Vec<&str> = columns.iter().map(|column| column.name).filter(|name| *name != "time").collect();
        let shown = Columns::for_view(stream, &names).map_err(|error| wrong(&error))?;
        let keys =
            arguments.sort.iter().map(|key| SortKey::parse(stream, key)).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;

        let measured = measured(stream);
        let place = |name: &str| measured.iter().position(|other| *other == name);
        let mut sort: Vec<(usize, bool)> = keys.iter().filter_map(|key| place(key.column.name).map(|at| (at, key.descending))).collect();
        if arguments.sort.is_empty() && shown.position("cpu_pct").is_some() {
            sort.extend(place("cpu_pct").map(|at| (at, true)));
        }
        let timed = place("cpu_pct");
        Ok(Self {
            of: if by_process { ("process", "processes") } else { ("program", "programs") },
            is_timed: shown.position("cpu_pct").is_some() || sort.iter().any(|(at, _)| Some(*at) == timed),
            at: names.iter().filter_map(|name| place(name)).collect(),
            has_time: names.len() < columns.len(),
            shown,
            sort,
            filter: Filter::new(arguments, &measured)?,
            top: arguments.top.map(|top| usize::try_from(top).unwrap_or(usize::MAX)),
        })
    }

    /// Whether something shown, or sorted by, is of an interval.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.is_timed
    }

    /// What of a sample is shown, no more than `room` rows.
    #[must_use]
    pub fn of(&self, mut rows: Vec<Row>, room: usize) -> Chosen {
        rows.retain(|row| self.filter.takes(row));
        rows.sort_by(|left, right| self.order(left, right));
        let matching = rows.len();
        rows.truncate(self.top.unwrap_or(usize::MAX).min(room));
        let values = |row: &Row| self.at.iter().map(|at| row.values.get(*at).cloned().unwrap_or(Value::Absent)).collect();
        Chosen { left_out: matching - rows.len(), rows: rows.iter().map(values).collect() }
    }

    fn order(&self, left: &Row, right: &Row) -> Ordering {
        for (at, descending) in &self.sort {
            let order = compare(left.values.get(*at), right.values.get(*at), *descending);
            if order != Ordering::Equal {
                return order;
            }
        }
        left.id.cmp(&right.id)
    }
}

/// By number or by letters; what is unknown stands last, whichever way it goes.
pub(in crate::cli) fn compare(left: Option<&Value>, right: Option<&Value>, descending: bool) -> Ordering {
    let known = |value: &Option<&Value>| !matches!(value, None | Some(Value::Absent | Value::Refused));
    let (left, right) = match (Some(left).filter(known).flatten(), Some(right).filter(known).flatten()) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return right.is_some().cmp(&left.is_some()),
    };
    let order = match (left, right) {
        (Value::Word(left), Value::Word(right)) => left.cmp(right),
        (left, right) => left.number().cmp(&right.number()),
    };
    if descending { order.reverse() } else { order }
}

/// Which rows are meant: all conditions must hold.
#[derive(Debug)]
pub struct Filter {
    names: Vec<String>,
    regex: Option<Regex>,
    users: Users,
    pids: Vec<u32>,
    program: usize,
    user: usize,
    pid: usize,
}

impl Filter {
    /// As it was said, of rows with these columns.
    ///
    /// # Errors
    /// An expression that is none, a user nobody knows, or a filter of processes where programs are shown.
    pub fn new(arguments: &Arguments, measured: &[&str]) -> Result<Self, Failure> {
        let place = |name: &str| measured.iter().position(|other| *other == name).unwrap_or(usize::MAX);
        for (switch, is_said) in [("--user", !arguments.user.is_empty()), ("--pid", !arguments.pid.is_empty())] {
            if is_said && place("pid") == usize::MAX {
                return Err(Failure::Config(format!("{switch} is of processes, and a program may have many: say --by process too")));
            }
        }
        let regex = arguments.regex.as_deref().map(Regex::new).transpose().map_err(|error| Failure::Config(format!("--regex: {error}")))?;
        Ok(Self {
            names: arguments.name.clone(),
            regex,
            users: Users::known(&arguments.user)?,
            pids: arguments.pid.clone(),
            program: place("program"),
            user: place("user"),
            pid: place("pid"),
        })
    }

    /// Whether a row is meant.
    #[must_use]
    pub fn takes(&self, row: &Row) -> bool {
        let program = match row.values.get(self.program) {
            Some(Value::Word(program)) => Some(&program[..]),
            _ => None,
        };
        (self.names.is_empty() || program.is_some_and(|program| self.names.iter().any(|name| name.as_bytes() == program)))
            && self.regex.as_ref().is_none_or(|regex| program.is_some_and(|program| regex.is_match(program)))
            && self.users.take(row.values.get(self.user))
            && (self.pids.is_empty()
                || matches!(row.values.get(self.pid), Some(Value::Int(pid)) if self.pids.iter().any(|wanted| i64::from(*wanted) == *pid)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser as _;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::Command;
    use crate::record::identity::{Id, Identity};

    pub(in super::super) fn selection(said: &[&str]) -> Result<Selection, Failure> {
        let parsed = crate::cli::Arguments::parse_from([&["psmon", "usage"], said].concat());
        let Command::Usage(arguments) = parsed.command else { panic!("another command") };
        Selection::new(&arguments)
    }

    pub(in super::super) fn row(stream: Stream, id: Id, known: &[(&str, Value)]) -> Row {
        let value = |name: &str| known.iter().find(|(column, _)| *column == name).map_or(Value::Absent, |(_, value)| value.clone());
        Row { id, values: measured(stream).into_iter().map(value).collect() }
    }

    fn program(name: &str, cpu_pct: Value, fds: i64) -> Row {
        let known = [("program", Value::word(name.as_bytes())), ("cpu_pct", cpu_pct), ("fds", Value::Int(fds))];
        row(Stream::Usage, Id::Program(name.as_bytes().into()), &known)
    }

    fn process(pid: u32, user: &str) -> Row {
        let known = [("pid", Value::Int(pid.into())), ("user", Value::word(user.as_bytes())), ("program", Value::word(b"web"))];
        row(Stream::UsageProcess, Identity { pid, start: 1 }.into(), &known)
    }

    fn names(said: &[&str], rows: Vec<Row>) -> Vec<String> {
        let selection = selection(said).unwrap();
        let at = selection.shown.iter().position(|column| column.name == if said.contains(&"-P") { "pid" } else { "program" }).unwrap();
        let shown = |value: &Value| match value {
            Value::Word(word) => String::from_utf8_lossy(word).into_owned(),
            value => value.number().unwrap().to_string(),
        };
        selection.of(rows, usize::MAX).rows.iter().map(|values| shown(&values[at])).collect()
    }

    #[test]
    fn the_busiest_stand_first_and_the_unknown_last() {
        let rows = || {
            vec![
                program("idle", Value::Fixed(0), 9),
                program("secret", Value::Refused, 8),
                program("busy", Value::Fixed(900), 7),
                program("new", Value::Absent, 6),
                program("also", Value::Fixed(0), 5),
            ]
        };
        assert_eq!(names(&[], rows()), ["busy", "also", "idle", "new", "secret"]);
        assert_eq!(names(&["--sort", "cpu_pct"], rows()), ["also", "idle", "busy", "new", "secret"]);
        assert_eq!(names(&["--sort", "-open_filedesc", "--top", "2"], rows()), ["idle", "secret"]);
        assert_eq!(
            names(&["-o", "program,fds"], rows()),
            ["also", "busy", "idle", "new", "secret"],
            "nothing shown says another order"
        );
    }

    #[test]
    fn programs_by_name_and_by_expression() {
        let rows = || ["nginx", "nginx-debug", "mysqld"].map(|name| program(name, Value::Fixed(0), 1)).to_vec();
        assert_eq!(names(&["nginx"], rows()), ["nginx"]);
        assert_eq!(names(&["nginx", "mysqld"], rows()), ["mysqld", "nginx"]);
        assert_eq!(names(&["-r", "^nginx"], rows()), ["nginx", "nginx-debug"]);
        assert_eq!(names(&["-r", "d", "nginx"], rows()), [""; 0]);
    }

    #[test]
    fn processes_by_user_and_pid() {
        let rows = || vec![process(7, "root"), process(8, "0"), process(9, "daemon")];
        assert_eq!(names(&["-P", "-u", "root"], rows()), ["7", "8"], "a user without a name is a number");
        assert_eq!(names(&["-P", "-p", "9,7"], rows()), ["7", "9"]);
        assert_eq!(names(&["-P", "web"], rows()), ["7", "8", "9"]);
        for said in
            [&["--user", "root"][..], &["--pid", "1"], &["-r", "("], &["-o", "nope"], &["--sort", "pid"], &["-P", "-u", "no-such-user"]]
        {
            assert!(matches!(selection(said), Err(Failure::Config(_))), "{said:?}");
        }
    }

    #[test]
    fn time_is_of_the_sample_and_no_column() {
        let timed = selection(&["-o", "time,program,procs"]).unwrap();
        assert_eq!((timed.has_time, timed.shown.names().as_str(), timed.is_timed()), (true, "program procs", false));
        assert!(selection(&[]).unwrap().is_timed() && selection(&["-o", "program", "--sort", "pcpu"]).unwrap().is_timed());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Absent),
            Just(Value::Refused),
            any::<i64>().prop_map(Value::Int),
            "[a-c]{0,2}".prop_map(|word| Value::word(word.as_bytes()))
        ]
    }

    proptest! {
        // An order of any values is one: sort_by panics where it is none.
        #[test]
        fn any_values_have_an_order(values in proptest::collection::vec(any_value(), 0..60), descending in any::<bool>()) {
            let mut sorted = values.clone();
            sorted.sort_by(|left, right| compare(Some(left), Some(right), descending));
            let known = |value: &Value| !matches!(value, Value::Absent | Value::Refused);
            let first_unknown = sorted.iter().position(|value| !known(value)).unwrap_or(sorted.len());
            prop_assert!(sorted[first_unknown..].iter().all(|value| !known(value)));
        }
    }
}
