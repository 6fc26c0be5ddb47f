//! Which processes' events are shown.

use regex::bytes::Regex;

use super::event::{Event, word};
use crate::cli::Failure;
use crate::cli::ps::matches;
use crate::cli::users::Users;
use crate::record::value::Value;

/// All conditions must hold.
#[derive(Debug, Default)]
pub struct Filter {
    /// One of these is found; none means all.
    pub include: Vec<Regex>,
    /// None of these is found.
    pub exclude: Vec<Regex>,
    /// Of these effective users.
    pub users: Users,
    /// Of this process group.
    pub pgrp: Option<i64>,
    /// Of one of these control groups; none means all.
    pub cgroups: Vec<Group>,
}

impl Filter {
    /// Whether an event is shown.
    #[must_use]
    pub fn takes(&self, event: &Event<'_>) -> bool {
        self.pgrp.is_none_or(|pgrp| event.pgrp == Some(pgrp))
            && self.users.take(Some(event.user))
            && (self.cgroups.is_empty() || word(event.cgroup).is_some_and(|path| self.cgroups.iter().any(|group| group.holds(path))))
            && (self.include.is_empty() || self.include.iter().any(|regex| finds(regex, event)))
            && !self.exclude.iter().any(|regex| finds(regex, event))
    }
}

/// In the name, the command line, or the path of the executable.
fn finds(regex: &Regex, event: &Event<'_>) -> bool {
    [event.comm, event.exe].into_iter().filter_map(word).any(|word| regex.is_match(word))
        || matches!(event.cmd, Value::Cmd(cmd) if matches(regex, cmd))
}

/// Compiles the expressions of one option.
///
/// # Errors
/// What is none.
pub fn expressions(option: &str, said: &[String]) -> Result<Vec<Regex>, Failure> {
    said.iter().map(|said| Regex::new(said).map_err(|error| Failure::Config(format!("{option}: {error}")))).collect()
}

/// Control groups, as they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// This one and those within it: `/system.slice/ssh.service`.
    Within(Vec<u8>),
    /// Whose path begins so: `/system.slice/ssh*`.
    Begins(Vec<u8>),
    /// Whose path holds this anywhere: `ssh.service`.
    Holds(Vec<u8>),
}

impl Group {
    /// As it was said.
    #[must_use]
    pub fn parse(said: &str) -> Self {
        match (said.starts_with('/'), said.strip_suffix('*')) {
            (true, Some(begin)) => Self::Begins(begin.into()),
            (true, None) => Self::Within(said.trim_end_matches('/').into()),
            (false, begin) => Self::Holds(begin.unwrap_or(said).into()),
        }
    }

    /// Whether a path is meant.
    #[must_use]
    pub fn holds(&self, path: &[u8]) -> bool {
        match self {
            Self::Within(group) => path.strip_prefix(&group[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'),
            Self::Begins(begin) => path.starts_with(begin),
            Self::Holds(part) => part.is_empty() || memchr::memmem::find(path, part).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_named_in_three_ways() {
        let path = b"/system.slice/ssh.service/session";
        for (said, meant) in [
            ("/system.slice/ssh.service", true),
            ("/system.slice/ssh", false),
            ("/system.slice/", true),
            ("/", true),
            ("/system.slice/ssh*", true),
            ("/ssh*", false),
            ("ssh.service", true),
            ("ssh.socket", false),
        ] {
            assert_eq!(Group::parse(said).holds(path), meant, "{said}");
        }
    }
}
