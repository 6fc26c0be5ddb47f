//! `psmon usage`: what programs, or processes, use.
//!
//! * [`select`]: who is meant, of whom what, in which order.
//! * [`view`]: the table, CSV and JSON, once or again and again.
//! * [`rules`]: the feed, and the file whose rules name programs.
//! * [`tcollector`]: lines for a time series database, as psstat wrote them.

pub mod rules;
pub mod select;
pub mod tcollector;
pub mod view;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use self::rules::RulesWatch;
use self::select::Selection;
use self::view::View;
use super::table::Form;
use super::{Answer, Failure, complain, ending, open_proc};
use crate::config::units;
use crate::record::stream::Stream;

/// CPU of one sample is measured over so long: long enough for its tick of 10 ms (proc_pid_stat(5)) to be 1 %, short enough to wait for.
const MEASURED: Duration = Duration::from_secs(1);

/// What is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A row for each program.
    #[default]
    Program,
    /// A row for each process.
    Process,
}

/// What programs use: CPU, memory, io, descriptors, sockets, and how near they are to their limits.
#[derive(Debug, Args)]
#[command(
    after_help = "Bytes are scaled (K, M, G: powers of 1024) unless --bytes, --csv or --json. CPU is of the interval, 100 is one core. Counters are cumulative; of a program they hold what its ended processes used while they were seen. - does not exist, ? was refused or did not come in time. Exit status 1 where nothing matches."
)]
pub struct Arguments {
    /// Programs of this name only, exactly. May be repeated.
    pub name: Vec<String>,

    /// Programs whose name matches this regular expression only.
    #[arg(short, long, value_name = "REGEX")]
    pub regex: Option<String>,

    /// A row for each of them.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Program)]
    pub by: By,

    /// A row for each process: as --by process.
    #[arg(short = 'P', long, conflicts_with = "by")]
    pub processes: bool,

    /// With --by process: processes of this effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER", action = ArgAction::Append)]
    pub user: Vec<String>,

    /// With --by process: these processes only.
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Columns, by psmon's names or ps's.
    #[arg(short = 'o', long, value_name = "COLUMNS", action = ArgAction::Append, value_delimiter = ',')]
    pub columns: Vec<String>,

    /// Order: -rss,program. The busiest stand first unless said otherwise; what is unknown stands last.
    #[arg(long, value_name = "KEYS", action = ArgAction::Append, value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,

    /// The first so many rows only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub top: Option<u64>,

    /// Again and again until Ctrl-C, each so many seconds. Fractions and units are understood: 2.5, 10m.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = ending::interval)]
    pub watch: Option<Duration>,

    /// Measure CPU over so long; with --tcollector, write so often. 1s and 15s unless said otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = units::duration, conflicts_with = "watch")]
    pub interval: Option<Duration>,

    /// Comma-separated values with a header, bytes as they are.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,

    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,

    /// Bytes as they are.
    #[arg(long)]
    pub bytes: bool,

    /// Be a collector of tcollector, in the place of psstat: write lines of proc.stat.ps.* until stopped. Exit status 13: do not
    /// restart.
    #[arg(
        long,
        conflicts_with_all = ["by", "processes", "user", "pid", "columns", "sort", "top", "watch", "csv", "json", "bytes"]
    )]
    pub tcollector: bool,

    /// Programs are what this file says, and nothing else: a line for each, its name and a regular expression for the command line,
    /// as psstat had it. With --tcollector it is read again when it changes, and at once on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub programs_file: Option<PathBuf>,

    /// Read this config file instead of /etc/psmond.toml: its rules say what a program is.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read processes from here instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,

    /// End after so many cycles.
    #[arg(long, value_name = "N", hide = true, requires = "tcollector")]
    pub cycles: Option<u64>,

    /// Let time pass so many times as fast: an hour's lines in a second are what a test can wait for.
    #[arg(long, value_name = "N", hide = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "tcollector")]
    pub speed: u32,
}

impl Arguments {
    const fn stream(&self) -> Stream {
        if self.processes || matches!(self.by, By::Process) { Stream::UsageProcess } else { Stream::Usage }
    }
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    if arguments.tcollector {
        return tcollector::run(arguments, out);
    }
    let selection = Selection::new(arguments)?;
    let measured = arguments.interval.map_or(Ok(MEASURED), |interval| ending::long_enough(interval).map_err(|why| wrong_interval(&why)))?;
    let measured = match arguments.watch {
        Some(every) => every.min(MEASURED),
        // Nothing that is shown waits for a second look.
        None if !selection.is_timed() => Duration::ZERO,
        None => measured,
    };
    let proc = open_proc(&arguments.proc)?;
    let mut feed = rules::feed(arguments, arguments.stream(), measured)?;
    if let Some(path) = &arguments.programs_file {
        RulesWatch::new(path.clone()).begin(feed.as_mut())?.iter().for_each(complain);
    }
    let mut view = View::new(selection, Form::said(arguments.csv, arguments.json, arguments.bytes));
    match arguments.watch {
        None => view.once(feed.as_mut(), out),
        Some(every) => view.watch(feed.as_mut(), every, &ending::of_view(&proc)?, out),
    }
}

fn wrong_interval(why: &str) -> Failure {
    Failure::Config(format!("--interval: {why}"))
}
