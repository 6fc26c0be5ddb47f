//! Who is meant, which columns are shown, and in which order.

use std::cmp::Ordering;

use regex::bytes::Regex;

use super::Arguments;
use super::by::{self, By};
use super::spent::{Span, Spent, Who};
use crate::cli::Failure;
use crate::cli::usage::select::compare;
use crate::cli::users::Users;
use crate::record::schema::{Column, Columns, SortKey, find};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What is shown.
#[derive(Debug)]
pub struct Selection {
    /// What is added up.
    pub by: Option<By>,
    /// The columns shown; `time` is none of them, as it is the same in each row.
    pub shown: Columns,
    /// Whether `time` was asked for.
    pub has_time: bool,
    sort: Vec<(&'static Column, bool)>,
    filter: Filter,
    top: usize,
}

/// What a sample shows.
#[derive(Debug, PartialEq)]
pub struct Chosen {
    /// Values of the shown columns.
    pub rows: Vec<Vec<Value>>,
    /// Rows that match and are not shown.
    pub left_out: usize,
}

/// A row, and what its shares are of.
pub type Row = (Who, Spent, Span);

impl Selection {
    /// As it was said.
    ///
    /// # Errors
    /// A column nobody knows, or that means nothing here; an expression that is none; a user nobody knows.
    pub fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let by = arguments.by;
        let wrong = |error: &dyn std::fmt::Display| Failure::Config(error.to_string());
        let known = by::all(by);
        let check = |column: &Column| {
            if known.contains(&column.name) {
                return Ok(());
            }
            let why = match column.name {
                "day_cpu_s" | "day_credits_left" => "stands in the journal, which knows the whole day: psmon credits --by day".to_owned(),
                _ => format!("means nothing here; the columns are {}", known.join(", ")),
            };
            Err(Failure::Config(format!("'{}' {why}", column.name)))
        };
        let standard = by::standard(by, arguments.watch.is_some());
        let named: Vec<&str> = arguments.columns.iter().map(String::as_str).collect();
        let columns =
            Columns::for_view(Stream::Credits, if named.is_empty() { &standard } else { &named }).map_err(|error| wrong(&error))?;
        columns.iter().try_for_each(check)?;
        let names: Vec<&str> = columns.iter().map(|column| column.name).filter(|name| *name != "time").collect();
        let shown = Columns::for_view(Stream::Credits, &names).map_err(|error| wrong(&error))?;
        let mut sort = Vec::new();
        for key in &arguments.sort {
            let key = SortKey::parse(Stream::Credits, key).map_err(|error| wrong(&error))?;
            check(key.column)?;
            sort.push((key.column, key.descending));
        }
        if sort.is_empty() {
            sort.extend(find(Stream::Credits, "cpu_s").map(|column| (column, true)));
        }
        Ok(Self {
            by,
            has_time: names.len() < columns.len(),
            shown,
            sort,
            filter: Filter::new(arguments)?,
            top: arguments.top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX)),
        })
    }

    /// Whether a row is meant, before it is added to others.
    #[must_use]
    pub fn takes(&self, who: &Who) -> bool {
        self.filter.takes(who)
    }

    /// Whether everything is.
    #[must_use]
    pub const fn is_of_all(&self) -> bool {
        self.filter.is_of_all()
    }

    /// Of these rows what is shown, no more than `room` of them. The first so many are those of each day.
    #[must_use]
    pub fn of(&self, mut rows: Vec<Row>, room: usize) -> Chosen {
        rows.sort_by(|left, right| left.0.day.cmp(&right.0.day).then_with(|| self.order(left, right)));
        let matching = rows.len();
        let (mut day, mut count) = (None, 0);
        rows.retain(|(who, ..)| {
            if day.as_ref() != Some(&who.day) {
                (day, count) = (Some(who.day.clone()), 0);
            }
            count += 1;
            count <= self.top
        });
        rows.truncate(room);
        let values = |(who, spent, span): &Row| self.shown.iter().map(|column| spent.value(who, column.name, *span)).collect();
        Chosen { left_out: matching - rows.len(), rows: rows.iter().map(values).collect() }
    }

    fn order(&self, left: &Row, right: &Row) -> Ordering {
        let value = |(who, spent, span): &Row, column: &Column| spent.value(who, column.name, *span);
        for (column, descending) in &self.sort {
            let order = compare(Some(&value(left, column)), Some(&value(right, column)), *descending);
            if order != Ordering::Equal {
                return order;
            }
        }
        left.0.cmp(&right.0)
    }
}

/// Which rows are meant: all conditions must hold.
#[derive(Debug)]
struct Filter {
    names: Vec<String>,
    regex: Option<Regex>,
    users: Users,
    has_users: bool,
    /// Names are those of control groups.
    of_groups: bool,
}

impl Filter {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let of_groups = arguments.by == Some(By::Cgroup);
        if of_groups && !arguments.user.is_empty() {
            return Err(Failure::Config("--user: a control group adds up all its users; leave out --by cgroup or --user".to_owned()));
        }
        let regex = arguments.regex.as_deref().map(Regex::new).transpose().map_err(|error| Failure::Config(format!("--regex: {error}")))?;
        // The journal may know users that this machine has no more.
        let users = if arguments.by == Some(By::Day) { Users::new(&arguments.user) } else { Users::known(&arguments.user)? };
        Ok(Self { names: arguments.name.clone(), regex, users, has_users: !arguments.user.is_empty(), of_groups })
    }

    const fn is_of_all(&self) -> bool {
        self.names.is_empty() && self.regex.is_none() && !self.has_users
    }

    fn takes(&self, who: &Who) -> bool {
        let name = if self.of_groups { who.cgroup.as_deref() } else { who.program.as_deref() };
        (self.names.is_empty() || name.is_some_and(|name| self.names.iter().any(|wanted| wanted.as_bytes() == name)))
            && self.regex.as_ref().is_none_or(|regex| name.is_some_and(|name| regex.is_match(name)))
            && (!self.has_users || self.users.take(who.user.as_ref().map(|user| Value::Word(std::sync::Arc::clone(user))).as_ref()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser as _;

    use super::super::spent::tests::{spent, who};
    use super::*;
    use crate::cli::Command;

    pub(in super::super) fn arguments(said: &[&str]) -> Arguments {
        let parsed = crate::cli::Arguments::parse_from([&["psmon", "credits"], said].concat());
        let Command::Credits(arguments) = parsed.command else { panic!("another command") };
        *arguments
    }

    pub(in super::super) fn selection(said: &[&str]) -> Result<Selection, Failure> {
        Selection::new(&arguments(said))
    }

    fn shown(said: &[&str], rows: &[(&str, &str, i64)]) -> Vec<String> {
        let selection = selection(said).unwrap();
        let span = Span { ns: 1_000_000_000, cpus: 1 };
        let rows: Vec<Row> = rows.iter().map(|(program, user, cpu)| (who(program, user), spent(1, *cpu), span)).collect();
        let rows = rows.into_iter().filter(|(who, ..)| selection.takes(who)).collect();
        let word = |value: &Value| match value {
            Value::Word(word) => String::from_utf8_lossy(word).into_owned(),
            _ => "-".to_owned(),
        };
        selection.of(rows, usize::MAX).rows.iter().map(|row| word(&row[0])).collect()
    }

    #[test]
    fn the_busiest_stand_first() {
        let rows = [("idle", "a", 0), ("busy", "a", 9), ("also", "b", 0), ("(unattributed)", "", -3)];
        assert_eq!(shown(&[], &rows), ["busy", "also", "idle", "(unattributed)"]);
        assert_eq!(shown(&["--sort", "program", "--top", "2"], &rows), ["(unattributed)", "also"]);
        assert_eq!(shown(&["--sort", "-euser,program"], &rows), ["also", "busy", "idle", "(unattributed)"], "the unknown last");
    }

    #[test]
    fn programs_users_and_groups() {
        let rows = [("php", "root", 3), ("php-fpm", "0", 2), ("sh", "daemon", 1), ("gone", "", 0)];
        assert_eq!(shown(&["php"], &rows), ["php"]);
        assert_eq!(shown(&["-r", "^php", "-u", "root"], &rows), ["php", "php-fpm"]);
        assert_eq!(shown(&["--user", "daemon", "php"], &rows), [""; 0]);
        let groups = selection(&["--by", "cgroup", "/x"]).unwrap();
        let path = |path: &str| Who { cgroup: Some(path.as_bytes().into()), ..Who::default() };
        assert!(groups.takes(&path("/x")) && !groups.takes(&path("/x/y")) && !groups.takes(&Who::default()));
    }

    #[test]
    fn what_means_nothing_is_said() {
        for said in [
            &["-o", "nope"][..],
            &["-o", "day_cpu_s"],
            &["--by", "user", "-o", "program"],
            &["--by", "day", "-o", "cpu_pct"],
            &["--by", "cgroup", "--sort", "started"],
            &["--by", "cgroup", "-u", "root"],
            &["-r", "("],
            &["-u", "no-such-user"],
        ] {
            assert!(matches!(selection(said), Err(Failure::Config(_))), "{said:?}");
        }
        let Err(Failure::Config(why)) = selection(&["-o", "day_credits_left"]) else { panic!("it is live") };
        assert!(why.contains("--by day"), "{why}");
        assert!(selection(&["--by", "day", "-u", "who-left-long-ago"]).is_ok());
    }

    #[test]
    fn every_column_has_its_view() {
        let views = [None, Some(By::Program), Some(By::User), Some(By::Cgroup), Some(By::Day)];
        for column in crate::record::schema::columns(Stream::Credits).iter().filter(|column| !column.name.starts_with("day_")) {
            assert!(views.iter().any(|by| by::all(*by).contains(&column.name)), "{}", column.name);
        }
        for by in views {
            for name in by::standard(by, by != Some(By::Day)) {
                assert!(by::all(by).contains(&name), "{by:?} {name}");
            }
        }
    }
}
