//! Which records are meant.

use std::collections::BTreeSet;

use super::super::Failure;
use super::super::users::Users;
use crate::journal::line::Names;
use crate::record::escape;
use crate::record::identity::Identity;
use crate::record::moment::Moment;
use crate::record::schema;
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What was asked for.
#[derive(Debug)]
pub struct Filter {
    stream: Stream,
    pids: Vec<u32>,
    programs: Vec<String>,
    users: Option<Users>,
    /// Not before, nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Not after, nanoseconds since 1970.
    pub until_ns: Option<i64>,
}

/// Where the columns stand that are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    pid: Option<usize>,
    program: Option<usize>,
    user: Option<usize>,
}

impl Filter {
    /// Of what was said; the span of time is open.
    ///
    /// # Errors
    /// The stream has no such column.
    pub fn new(stream: Stream, pids: &[u32], programs: &[String], users: &[String]) -> Result<Self, Failure> {
        for (asked, column) in [(!pids.is_empty(), "pid"), (!programs.is_empty(), "program"), (!users.is_empty(), "user")] {
            if asked && schema::find(stream, column).is_none() {
                return Err(Failure::Config(format!("--{column}: records of stream {stream} have no column {column}; leave it out")));
            }
        }
        let users = (!users.is_empty()).then(|| Users::new(users));
        Ok(Self { stream, pids: pids.to_vec(), programs: programs.to_vec(), users, since_ns: None, until_ns: None })
    }

    /// Where its columns stand in a segment. Those that it asks for and that are not there go to `missing`.
    pub fn places(&self, names: &Names, missing: &mut BTreeSet<&'static str>) -> Places {
        // The first column is the time, which is no value.
        let mut place = |asked: bool, name: &'static str| {
            let at = names.position(name).and_then(|at| at.checked_sub(1)).filter(|_| asked);
            if asked && at.is_none() {
                missing.insert(name);
            }
            at
        };
        Places {
            pid: place(!self.pids.is_empty(), "pid"),
            program: place(!self.programs.is_empty(), "program"),
            user: place(self.users.is_some(), "user"),
        }
    }

    /// Whether the moment lies in the span, both ends included.
    #[must_use]
    pub fn takes_time(&self, time: Moment) -> bool {
        self.since_ns.is_none_or(|since| time.unix_ns >= since) && self.until_ns.is_none_or(|until| time.unix_ns <= until)
    }

    /// Whether a row is meant, but for its time.
    #[must_use]
    pub fn takes_row(&self, places: Places, values: &[Value]) -> bool {
        let value = |at: Option<usize>| at.and_then(|at| values.get(at));
        let pid = || matches!(value(places.pid), Some(Value::Int(pid)) if self.pids.iter().any(|wanted| i64::from(*wanted) == *pid));
        let program = || matches!(value(places.program), Some(Value::Word(program)) if self.programs.iter().any(|wanted| wanted.as_bytes() == &**program));
        (self.pids.is_empty() || pid())
            && (self.programs.is_empty() || program())
            && self.users.as_ref().is_none_or(|users| users.take(value(places.user)))
    }

    /// Whether one that left is meant, by its id: a process has no program or user there.
    #[must_use]
    pub fn takes_gone(&self, id: &str) -> bool {
        let pid = || id.parse::<Identity>().is_ok_and(|identity| self.pids.contains(&identity.pid));
        let program = || {
            self.stream == Stream::Usage
                && escape::read_word(id.as_bytes()).is_some_and(|name| self.programs.iter().any(|wanted| wanted.as_bytes() == name))
        };
        (self.pids.is_empty() || pid()) && (self.programs.is_empty() || program()) && self.users.is_none()
    }
}
