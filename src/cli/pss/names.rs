//! How a process is named in `psmon pss`, and which ones are meant.

use std::path::Path;

use clap::ValueEnum;
use regex::bytes::Regex;

use super::Arguments;
use crate::cli::Failure;
use crate::cli::said::scrubber;
use crate::cli::users::Users;
use crate::observer::facts::{Reading, Wants, program_of};
use crate::observer::names::Names;
use crate::observer::survey::Seen;
use crate::record::cmd::Cmd;
use crate::record::scrub::Scrubber;
use crate::record::value::Value;

/// What names a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NameFrom {
    /// The name of its first task, 15 bytes at most.
    Comm,
    /// The first argument without its directory.
    Argv0,
    /// The executable without its directory.
    Exe,
    /// The whole command line, without secrets.
    Cmd,
}

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Processes of one program: by the rules of the config, else the base name of their executable.
    Program,
    /// Processes of one effective user.
    User,
    /// Processes of one control group.
    Cgroup,
}

impl By {
    /// What must be read for it.
    #[must_use]
    pub fn wants(self) -> Wants {
        match self {
            Self::Program => Wants::COMM | Wants::EXE,
            Self::User => Wants::OWNER,
            Self::Cgroup => Wants::CGROUP,
        }
    }
}

/// Names processes and groups.
#[derive(Debug)]
pub struct Naming {
    from: NameFrom,
    by: Option<By>,
    /// Only where command lines are looked at: the patterns take longer to compile than many a sample.
    scrubber: Option<Scrubber>,
}

impl Naming {
    /// As it was said.
    ///
    /// # Errors
    /// The config that was named is wrong.
    pub fn new(from: NameFrom, by: Option<By>, config: Option<&Path>) -> Result<Self, Failure> {
        let looks = matches!(from, NameFrom::Argv0 | NameFrom::Cmd) || config.is_some();
        Ok(Self { from, by, scrubber: looks.then(|| scrubber(config)).transpose()? })
    }

    /// What must be read for names of processes.
    #[must_use]
    pub fn wants_of_names(&self) -> Wants {
        match self.from {
            NameFrom::Comm => Wants::COMM,
            NameFrom::Argv0 | NameFrom::Cmd => Wants::COMM | Wants::CMD,
            NameFrom::Exe => Wants::COMM | Wants::EXE,
        }
    }

    /// The name of a process; `None` where it could not be had.
    #[must_use]
    pub fn name(&self, process: &Seen) -> Option<Vec<u8>> {
        let comm = || process.comm.known().cloned();
        match (self.from, &process.exe, &process.cmd) {
            (NameFrom::Comm, ..) => comm(),
            (NameFrom::Exe, exe, _) => program(exe, &process.comm),
            (_, _, Reading::Late) => None,
            (from, _, Reading::Known(cmd)) => match self.scrubber.as_ref().and_then(|scrubber| scrubber.apply(cmd.clone())) {
                Some(cmd) if from == NameFrom::Argv0 => Some(first(&cmd)),
                Some(cmd) => Some(cmd.args().collect::<Vec<_>>().join(&b' ')),
                None => comm().map(|comm| bracketed(&comm)),
            },
            _ => comm().map(|comm| bracketed(&comm)),
        }
    }

    /// The name of the group a process is added to; the outer `None` where it is not added to others, the inner one where the name
    /// could not be had.
    #[must_use]
    pub fn group(&self, process: &Seen, users: &Names) -> Option<Option<Vec<u8>>> {
        Some(match self.by? {
            By::Program => process.program.clone().or_else(|| program(&process.exe, &process.comm)),
            By::User => process.owner.known().map(|uid| users.user(*uid).to_vec()),
            By::Cgroup => process.cgroup.known().cloned(),
        })
    }
}

/// The process's own name stands in for an executable that is not there or may not be seen.
fn program(exe: &Reading<Vec<u8>>, comm: &Reading<Vec<u8>>) -> Option<Vec<u8>> {
    match exe {
        Reading::Known(exe) => Some(program_of(exe).to_vec()),
        Reading::Late => None,
        _ => comm.known().cloned(),
    }
}

/// The first argument, of a title its first word, without its directory.
fn first(cmd: &Cmd) -> Vec<u8> {
    let program = cmd.program_only();
    let first = program.args().next().unwrap_or_default();
    match memchr::memrchr(b'/', first).filter(|slash| slash + 1 < first.len()) {
        Some(slash) => first[slash + 1..].to_vec(),
        None => first.to_vec(),
    }
}

/// As ps(1) shows a name that stands for a command line.
fn bracketed(comm: &[u8]) -> Vec<u8> {
    [b"[", comm, b"]"].concat()
}

/// Which processes are meant: all conditions must hold, each of the name as it is shown.
#[derive(Debug, Default)]
pub struct Filter {
    exact: Vec<String>,
    holds: Option<String>,
    regex: Option<Regex>,
    users: Option<Users>,
}

impl Filter {
    /// As it was said.
    ///
    /// # Errors
    /// An expression that is none, a user nobody knows.
    pub fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let regex = arguments.regex.as_deref().map(Regex::new).transpose().map_err(|error| Failure::Config(format!("--regex: {error}")))?;
        let users = if arguments.user.is_empty() { None } else { Some(Users::known(&arguments.user)?) };
        Ok(Self { exact: arguments.name.clone(), holds: arguments.holds.clone(), regex, users })
    }

    /// Whether everyone is meant.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.exact.is_empty() && self.holds.is_none() && self.regex.is_none() && self.users.is_none()
    }

    /// What must be read besides names.
    #[must_use]
    pub const fn wants(&self) -> Wants {
        if self.users.is_some() { Wants::OWNER } else { Wants::NONE }
    }

    /// Whether a process is meant; `None` where what that depends on could not be had.
    #[must_use]
    pub fn takes(&self, process: &Seen, naming: &Naming) -> Option<bool> {
        if let Some(users) = &self.users {
            let is_theirs = match &process.owner {
                Reading::Known(uid) => users.take(Some(&Value::word(itoa::Buffer::new().format(*uid).as_bytes()))),
                Reading::Late => return None,
                _ => false,
            };
            if !is_theirs {
                return Some(false);
            }
        }
        if self.exact.is_empty() && self.holds.is_none() && self.regex.is_none() {
            return Some(true);
        }
        match naming.name(process) {
            Some(name) => Some(self.takes_name(&name)),
            // It ended before it could be read, and is counted as that.
            None if process.comm == Reading::Absent => Some(false),
            None => None,
        }
    }

    fn takes_name(&self, name: &[u8]) -> bool {
        (self.exact.is_empty() || self.exact.iter().any(|exact| exact.as_bytes() == name))
            && self.holds.as_ref().is_none_or(|part| part.is_empty() || memchr::memmem::find(name, part.as_bytes()).is_some())
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::scrub::Args;

    fn seen(args: Option<&[&str]>) -> Seen {
        Seen {
            comm: Reading::Known(b"worker".to_vec()),
            exe: Reading::Known(b"/usr/bin/python3.12 (deleted)".to_vec()),
            cmd: args.map_or(Reading::Absent, |args| Reading::Known(Cmd::from_args(args.iter().map(|arg| arg.as_bytes()), 0))),
            owner: Reading::Known(0),
            ..Seen::default()
        }
    }

    fn named(from: NameFrom, process: &Seen) -> Option<String> {
        let naming = Naming { from, by: None, scrubber: Some(Scrubber::new(Args::Scrub, []).unwrap()) };
        naming.name(process).map(|name| String::from_utf8(name).unwrap())
    }

    #[test]
    fn a_process_has_four_names() {
        let process = seen(Some(&["/opt/bin/tool", "--token", "abc", "x y"]));
        let names = [NameFrom::Comm, NameFrom::Argv0, NameFrom::Exe, NameFrom::Cmd].map(|from| named(from, &process).unwrap());
        assert_eq!(names, ["worker", "tool", "python3.12", "/opt/bin/tool --token *** x y"]);
        assert_eq!(named(NameFrom::Argv0, &seen(Some(&["/usr/sbin/nginx: worker process"]))).unwrap(), "nginx:");
    }

    #[test]
    fn its_own_name_stands_in_but_not_for_what_is_not_known() {
        let zombie = Seen { exe: Reading::Refused, ..seen(None) };
        assert_eq!(named(NameFrom::Cmd, &zombie).unwrap(), "[worker]");
        assert_eq!(named(NameFrom::Exe, &zombie).unwrap(), "worker");
        let stuck = Seen { cmd: Reading::Late, exe: Reading::Late, ..seen(None) };
        assert_eq!((named(NameFrom::Cmd, &stuck), named(NameFrom::Exe, &stuck)), (None, None));
        let none = Naming { from: NameFrom::Cmd, by: None, scrubber: Some(Scrubber::new(Args::None, []).unwrap()) };
        assert_eq!(none.name(&seen(Some(&["x", "secret"]))).unwrap(), b"[worker]");
    }

    #[test]
    fn all_conditions_must_hold() {
        let naming = Naming { from: NameFrom::Comm, by: None, scrubber: None };
        let takes = |exact: &[&str], holds: Option<&str>, regex: Option<&str>, users: Option<&str>| {
            let filter = Filter {
                exact: exact.iter().map(|&name| name.to_owned()).collect(),
                holds: holds.map(str::to_owned),
                regex: regex.map(|regex| Regex::new(regex).unwrap()),
                users: users.map(|user| Users::new(&[user.to_owned()])),
            };
            filter.takes(&seen(None), &naming)
        };
        assert_eq!(takes(&["work"], None, None, None), Some(false), "a name is the whole name");
        assert_eq!(takes(&["x", "worker"], Some("ork"), Some("^w"), Some("root")), Some(true));
        assert_eq!(takes(&["worker"], Some("ork"), Some("^x"), Some("root")), Some(false));
        assert_eq!(takes(&[], Some("orc"), None, None), Some(false));
        assert_eq!(takes(&[], None, None, Some("1")), Some(false));
        let unnamed = Seen { comm: Reading::Late, ..seen(None) };
        let filter = Filter { exact: vec!["x".to_owned()], ..Filter::default() };
        assert_eq!(filter.takes(&unnamed, &naming), None);
    }
}
