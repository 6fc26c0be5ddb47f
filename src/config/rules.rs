//! What stands in lists and named tables: program rules, budgets, exporters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use super::literals::required;
use crate::record::stream::Stream;

/// The most bytes a compiled pattern may take. Matching takes linear time whatever the pattern; what a catastrophic one
/// (`(\w{100}){100}`) costs is memory, and the time to compile it: this is some 10 ms.
pub const REGEX_BYTES: usize = 1 << 20;

/// Compiles a pattern of a rule.
///
/// # Errors
/// It is no regular expression, or compiled it takes more than [`REGEX_BYTES`].
pub fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES).build()
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
}

/// A condition on one fact of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// The whole text.
    Exact(String),
    /// A pattern with `*`, `?` and `[…]` on the whole text.
    Glob(String),
    /// A regular expression, valid, found anywhere.
    Regex(String),
}

impl Matcher {
    /// The regular expression, where it is one.
    #[must_use]
    pub const fn regex(&self) -> Option<&str> {
        match self {
            Self::Regex(pattern) => Some(pattern.as_str()),
            _ => None,
        }
    }
}

/// A fact that the name of a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The name of the first task.
    Comm,
    /// The base name of the executable.
    Exe,
    /// The effective user.
    User,
    /// The unit.
    Unit,
}

impl Fact {
    /// The words between braces.
    pub const WORDS: &[(&'static str, Self)] = &[("comm", Self::Comm), ("exe", Self::Exe), ("user", Self::User), ("unit", Self::Unit)];
}

/// A piece of a program's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePart {
    /// Text as it stands.
    Text(String),
    /// A fact of the process.
    Fact(Fact),
    /// A capture of that number (from 1) of the rule's first regular expression that has so many.
    Number(usize),
    /// A capture of that name of the rule's first regular expression that has it.
    Capture(String),
}

/// The name a rule gives, with what is filled in; every capture in it is one of the rule's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate {
    /// The pieces in order, at least one.
    pub parts: Vec<NamePart>,
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                NamePart::Text(text) => f.write_str(text)?,
                NamePart::Fact(fact) => {
                    let word = Fact::WORDS.iter().find(|(_, known)| known == fact).map_or("", |(word, _)| *word);
                    write!(f, "{{{word}}}")?;
                }
                NamePart::Number(number) => write!(f, "{{{number}}}")?,
                NamePart::Capture(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// A rule that puts processes into a program. All conditions that are there must hold; at least one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRule {
    /// The program's name.
    pub name: NameTemplate,
    /// On the path of the executable (a glob unless a regular expression).
    pub exe: Option<Matcher>,
    /// On the name of the first task (exact unless a regular expression).
    pub comm: Option<Matcher>,
    /// A regular expression found in the arguments joined by one space.
    pub cmd: Option<String>,
    /// On the effective user's name (exact unless a regular expression).
    pub user: Option<Matcher>,
    /// On the path of the control group (a glob unless a regular expression).
    pub cgroup: Option<Matcher>,
    /// On the unit (a glob unless a regular expression).
    pub unit: Option<Matcher>,
    /// How many processes there should be; fewer is down.
    pub expect: Option<u32>,
    /// Whether descendants that no rule claims belong too.
    pub children: bool,
    /// Whether later rules may claim the same process as well.
    pub multi: bool,
    /// Where it stands.
    pub place: Option<Place>,
}

impl ProgramRule {
    /// The regular expressions in the order in which captures are looked for: cmd, exe, comm, user, cgroup, unit.
    pub fn regexes(&self) -> impl Iterator<Item = &str> {
        let others = [&self.exe, &self.comm, &self.user, &self.cgroup, &self.unit];
        self.cmd.as_deref().into_iter().chain(others.into_iter().flatten().filter_map(Matcher::regex))
    }

    /// The pattern, if one is a regular expression that finds the empty text, and so whatever it is asked.
    #[must_use]
    pub fn finds_anything(&self) -> Option<&str> {
        // Where something must be there nothing is compiled: there may be ten thousand.
        let finds_empty = |pattern: &str| required(pattern).is_none() && compile(pattern).is_ok_and(|regex| regex.is_match(b""));
        self.regexes().find(|pattern| finds_empty(pattern))
    }
}

/// Whose CPU a budget counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BudgetOf {
    /// A program's, by its whole name.
    Program(String),
    /// A user's, by its name, or by its number where it has none.
    User(String),
    /// Those of the control groups whose whole path matches a glob; `*` is `/` too.
    Cgroup(String),
}

/// A CPU budget, in credits.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its name, unique.
    pub name: String,
    /// Whose CPU it counts.
    pub of: BudgetOf,
    /// Credits an hour.
    pub earn: f64,
    /// The most that is kept.
    pub cap: f64,
    /// The balance at first, at most `cap`.
    pub start: f64,
    /// Per cent of `cap` at which an alert is raised, each once, the largest first; exhaustion is one besides, unless there is none.
    pub alert: Vec<f64>,
}

/// What an exporter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportKind {
    /// InfluxDB's line protocol.
    Influx,
    /// OpenTSDB.
    Opentsdb,
    /// Prometheus asks.
    Prometheus,
    /// OpenTelemetry's protocol.
    Otlp,
}

impl ExportKind {
    /// The words of the config.
    pub const WORDS: &[(&'static str, Self)] =
        &[("influx", Self::Influx), ("opentsdb", Self::Opentsdb), ("prometheus", Self::Prometheus), ("otlp", Self::Otlp)];
}

/// An address that may hold credentials: shown and debugged without them.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Takes `http://…`, `https://…` or `tcp://…` with a host.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without the address.
    pub fn new(text: &str) -> Result<Self, String> {
        const WANTED: &str = "a url is needed, as \"https://host:port/path\"";
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("{WANTED}, without spaces"));
        }
        let (scheme, rest) = text.split_once("://").ok_or(WANTED)?;
        if !["http", "https", "tcp"].contains(&scheme) {
            return Err(format!("{WANTED}; the schemes are http, https and tcp"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let host = authority.rsplit('@').next().unwrap_or("");
        if host.is_empty() || host.starts_with(':') {
            return Err(format!("{WANTED}; this has no host"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The address with its credentials, for connecting only.
    #[must_use]
    pub fn with_secrets(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        // A token may also stand in the query, and a careless password may hold a slash: rather hide too much.
        let (place, query) = rest.split_once(['?', '#']).map_or((rest, ""), |(place, _)| (place, "?***"));
        let (credentials, place) = place.rsplit_once('@').map_or(("", place), |(_, place)| ("***@", place));
        write!(f, "{scheme}://{credentials}{place}{query}")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// Which side opens the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// psmond sends there.
    Url(Url),
    /// psmond waits there to be asked.
    Listen(SocketAddr),
}

/// An exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What it speaks.
    pub kind: ExportKind,
    /// Where.
    pub target: Target,
    /// Which streams; empty is all.
    pub streams: Vec<Stream>,
    /// From one batch to the next.
    pub interval: Duration,
    /// The most rows of a batch.
    pub batch: u32,
    /// Tags on every row.
    pub tags: BTreeMap<String, String>,
    /// The user of basic authentication.
    pub user: Option<String>,
    /// The file with the token or password.
    pub token_file: Option<PathBuf>,
    /// The file with the authorities that are trusted.
    pub ca: Option<PathBuf>,
    /// The file with the own certificate; never without `key`.
    pub cert: Option<PathBuf>,
    /// The file with its key; never without `cert`.
    pub key: Option<PathBuf>,
}

impl Export {
    /// From one batch to the next, unless the config says otherwise.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// The most rows of a batch, unless the config says otherwise.
    pub const BATCH: u32 = 1000;
}
