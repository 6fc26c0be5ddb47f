//! The settings: plain values in types that cannot be wrong.
//!
//! [`Default`] of each type is the one place where defaults stand; `etc/psmond.toml` is held to it by a test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::rules::{Budget, Export, ProgramRule};
use crate::record::event::EventKind;
use crate::record::schema::{Columns, SortKey};
use crate::record::scrub::Args;
use crate::record::stream::Stream;

/// The directory that serves where nobody names one.
pub const LOG_DIR: &str = "/var/log/psmon";

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// Padded columns.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl Format {
    /// The words of the config.
    pub const WORDS: &[(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// Space that is kept free on the journal's file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinFree {
    /// Per cent of the file system, 0 to 100.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
}

/// All that psmond is told, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the journal lives.
    pub log_dir: PathBuf,
    /// Whether `log_dir` is the user's own, because the one meant cannot be written.
    pub log_dir_is_fallback: bool,
    /// How records are written.
    pub format: Format,
    /// How much of a command line is recorded.
    pub args: Args,
    /// Further patterns that mark a secret (valid regular expressions), beside the built-in ones.
    pub scrub: Vec<String>,
    /// The longest time written rows may lie unsynced; zero is after each sample.
    pub sync: Duration,
    /// Days a closed segment is kept, at least 1.
    pub keep_days: u32,
    /// Bytes the journal may take.
    pub max_size: u64,
    /// Space kept free on the journal's file system.
    pub min_free: MinFree,
    /// Days after which a closed segment is compressed.
    pub compress_after_days: u32,
    /// A file of two-column program rules.
    pub programs_file: Option<PathBuf>,
    /// The most programs told apart; the rest count as one.
    pub max_programs: usize,
    /// Interpreters whose script names the program.
    pub interpreters: Vec<String>,
    /// Whether psmond locks itself into memory.
    pub mlock: bool,
    /// Stream `ps`.
    pub ps: Ps,
    /// Stream `pss`.
    pub pss: Pss,
    /// Streams `usage` and `usage_process`.
    pub usage: Usage,
    /// Streams `credits` and `credits_process`.
    pub credits: Credits,
    /// Stream `events`.
    pub events: Events,
    /// Stream `exits`.
    pub exits: Exits,
    /// Stream `host`.
    pub host: Host,
    /// Finer samples while something is wrong.
    pub burst: Burst,
    /// Program rules; the first match wins.
    pub programs: Vec<ProgramRule>,
    /// CPU budgets, each name once.
    pub budgets: Vec<Budget>,
    /// Exporters by name.
    pub exports: BTreeMap<String, Export>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_dir: PathBuf::from(LOG_DIR),
            log_dir_is_fallback: false,
            format: Format::default(),
            args: Args::default(),
            scrub: Vec::new(),
            sync: Duration::from_secs(30),
            keep_days: 14,
            max_size: 2 << 30,
            min_free: MinFree::Percent(5.0),
            compress_after_days: 1,
            programs_file: None,
            max_programs: 500,
            interpreters: Vec::new(),
            mlock: false,
            ps: Ps::default(),
            pss: Pss::default(),
            usage: Usage::default(),
            credits: Credits::default(),
            events: Events::default(),
            exits: Exits::default(),
            host: Host::default(),
            burst: Burst::default(),
            programs: Vec::new(),
            budgets: Vec::new(),
            exports: BTreeMap::new(),
        }
    }
}

/// What every sampled stream has.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Whether the stream is recorded.
    pub enabled: bool,
    /// From tick to tick, at least 1 s.
    pub interval: Duration,
    /// Whether rows are written for changes only; always false where a stream knows no changes.
    pub changes: bool,
    /// From one complete sample to the next.
    pub full_every: Duration,
    /// Thresholds in the column's unit by canonical column name; 0 is any change.
    pub thresholds: BTreeMap<String, f64>,
    /// Bytes a day's segments of this stream may take; `None` is no share of its own.
    pub max_size: Option<u64>,
}

impl Sampled {
    fn every(seconds: u64, changes: bool) -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(seconds),
            changes,
            full_every: Duration::from_secs(600),
            thresholds: BTreeMap::new(),
            max_size: None,
        }
    }
}

/// Stream `ps`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ps {
    /// What every sampled stream has.
    pub sampled: Sampled,
    /// Whether kernel threads are shown.
    pub kthreads: bool,
    /// Whether processes with a terminal are shown.
    pub interactive: bool,
    /// The columns of the journal, resolved.
    pub columns: Columns,
    /// The order of a sample's rows; empty is by pid.
    pub sort: Vec<SortKey>,
}

impl Default for Ps {
    fn default() -> Self {
        Self {
            sampled: Sampled::every(10, true),
            kthreads: false,
            interactive: false,
            columns: Columns::standard(Stream::Ps),
            sort: Vec::new(),
        }
    }
}

/// Stream `pss`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pss {
    /// What every sampled stream has.
    pub sampled: Sampled,
    /// Time a tick may spend reading (`budget_ms`).
    pub budget: Duration,
    /// A process whose reading takes longer is read at `max_age` only (`max_read_ms`).
    pub max_read: Duration,
    /// The oldest a value may grow while its process changes.
    pub max_age: Duration,
}

impl Default for Pss {
    fn default() -> Self {
        Self {
            sampled: Sampled::every(60, true),
            budget: Duration::from_millis(50),
            max_read: Duration::from_millis(20),
            max_age: Duration::from_secs(300),
        }
    }
}

/// What stream `usage` adds up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// Stream `usage`.
    Program,
    /// Stream `usage_process`.
    Process,
}

impl UsageBy {
    /// The words of the config.
    pub const WORDS: &[(&'static str, Self)] = &[("program", Self::Program), ("process", Self::Process)];
}

/// Streams `usage` and `usage_process`.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// What every sampled stream has.
    pub sampled: Sampled,
    /// What is added up; each at most once, at least one.
    pub by: Vec<UsageBy>,
    /// Time a tick may spend on the sockets of other network namespaces (`netns_budget_ms`).
    pub netns_budget: Duration,
}

impl Default for Usage {
    fn default() -> Self {
        Self { sampled: Sampled::every(10, true), by: vec![UsageBy::Program], netns_budget: Duration::from_millis(20) }
    }
}

/// Streams `credits` and `credits_process`.
#[derive(Clone, Debug, PartialEq)]
pub struct Credits {
    /// What every sampled stream has.
    pub sampled: Sampled,
    /// How often a living process gets a partial row.
    pub partial_every: Duration,
}

impl Default for Credits {
    fn default() -> Self {
        Self { sampled: Sampled::every(60, false), partial_every: Duration::from_secs(3600) }
    }
}

/// Stream `events`.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// Whether the stream is recorded.
    pub enabled: bool,
    /// Which kinds; each at most once.
    pub kinds: Vec<EventKind>,
    /// Whether births and deaths of threads are recorded too.
    pub threads: bool,
    /// Bytes of the receive buffer that the kernel is asked for.
    pub buffer: u64,
    /// Rows a second above which events are counted and not written.
    pub max_rows_per_s: u32,
    /// Where not empty, only events whose command line one of these regular expressions finds.
    pub include: Vec<String>,
    /// No events whose command line one of these regular expressions finds.
    pub exclude: Vec<String>,
    /// Bytes a day's segments of this stream may take; `None` is no share of its own.
    pub max_size: Option<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            enabled: true,
            kinds: EventKind::CHOSEN.iter().map(|(_, kind)| *kind).collect(),
            threads: false,
            buffer: 32 << 20,
            max_rows_per_s: 2000,
            include: Vec::new(),
            exclude: Vec::new(),
            max_size: None,
        }
    }
}

/// Stream `exits`.
#[derive(Clone, Debug, PartialEq)]
pub struct Exits {
    /// Whether the stream is recorded.
    pub enabled: bool,
    /// Rows a second above which like obituaries fold into one.
    pub max_rows_per_s: u32,
    /// Bytes a day's segments of this stream may take; `None` is no share of its own.
    pub max_size: Option<u64>,
}

impl Default for Exits {
    fn default() -> Self {
        Self { enabled: true, max_rows_per_s: 2000, max_size: None }
    }
}

/// Stream `host`.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// What every sampled stream has.
    pub sampled: Sampled,
}

impl Default for Host {
    fn default() -> Self {
        Self { sampled: Sampled::every(10, false) }
    }
}

/// Finer samples while something is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Burst {
    /// Whether bursts are recorded.
    pub enabled: bool,
    /// Bytes a day's bursts may take; `None` is no share of its own.
    pub max_size: Option<u64>,
}

impl Default for Burst {
    fn default() -> Self {
        Self { enabled: true, max_size: None }
    }
}

/// The words of `args`.
pub(super) const ARGS: &[(&str, Args)] = &[("full", Args::Full), ("scrub", Args::Scrub), ("program", Args::Program), ("none", Args::None)];
