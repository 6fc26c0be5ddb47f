//! `psmon credits`: CPU in credits. One credit is one CPU busy for 60 seconds.
//!
//! * [`view`]: who spends the machine now, from [`live`]; [`by`] says what is added up, [`spent`] adds, [`select`] chooses.
//! * [`by_day`]: who spent it on which day, from [`days`].
//! * [`mod@run`]: a command and all its descendants. [`command`] starts it, [`reaper`] waits for whoever ended, [`descent`] knows who is
//!   of it and [`early`] what is told before that, [`living`] who still lives, [`bill`] adds up, [`report`] tells. [`again`] is psmon
//!   once more, where it had children before.

pub mod again;
pub mod bill;
pub mod by;
pub mod by_day;
pub mod command;
pub mod days;
pub mod descent;
pub mod early;
pub mod live;
pub mod living;
pub mod reaper;
pub mod report;
pub mod run;
pub mod select;
pub mod spent;
pub mod view;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use jiff::civil::Date;

use self::by::By;
use self::live::{Live, Measured};
use self::select::Selection;
use self::view::View;
use super::table::Form;
use super::{Answer, Failure, ending, open_proc, said};

/// So long is measured unless said otherwise.
const MEASURED: Duration = Duration::from_secs(1);

/// Who spends the CPUs: programs and users, to the last short-lived process, now and by day; or what one command spends. One credit is one CPU busy for 60 seconds: 60 CPU-seconds, 6000 utilisation-seconds (%·s).
#[derive(Debug, Args)]
#[command(
    after_help = "cpu_pct 100 is one CPU; share_pct 100 is the whole machine, with --by day for the whole day. - does not exist. Exit status 1 where nothing matches; with --run that of the command; 128 and its number where a signal ended it; 126 it could not be run; 127 it was not found; 125 psmon itself failed."
)]
pub struct Arguments {
    /// Programs of this name only, exactly; with --by cgroup control groups of this path. May be repeated.
    #[arg(value_name = "PROGRAM", conflicts_with = "run")]
    pub name: Vec<String>,

    /// Programs whose name matches this regular expression only; with --by cgroup control groups whose path does.
    #[arg(short, long, value_name = "REGEX", conflicts_with = "run")]
    pub regex: Option<String>,

    /// This effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER", action = ArgAction::Append, conflicts_with = "run")]
    pub user: Vec<String>,

    /// A row for each of them; for each program and user unless said. With day: from the journal, for each day, program and user.
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with = "run")]
    pub by: Option<By>,

    /// Columns, by psmon's names or ps's.
    #[arg(short = 'o', long, value_name = "COLUMNS", action = ArgAction::Append, value_delimiter = ',', conflicts_with = "run")]
    pub columns: Vec<String>,

    /// Order: -credits,program. The busiest stand first unless said otherwise; what is unknown stands last. Days stand in theirs.
    #[arg(long, value_name = "KEYS", action = ArgAction::Append, value_delimiter = ',', allow_hyphen_values = true, conflicts_with = "run")]
    pub sort: Vec<String>,

    /// The first so many rows only; with --by day of each day.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "run")]
    pub top: Option<u64>,

    /// Again and again until Ctrl-C, each so many seconds. Fractions and units are understood: 2.5, 10m.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = ending::interval, conflicts_with = "run")]
    pub watch: Option<Duration>,

    /// Measure over so long. 1s unless said otherwise.
    #[arg(long, value_name = "SECONDS", value_parser = ending::interval, conflicts_with_all = ["watch", "run"])]
    pub interval: Option<Duration>,

    /// With --by day: this day and later ones only, 2026-11-20.
    #[arg(long, value_name = "DATE", conflicts_with = "run")]
    pub since: Option<Date>,

    /// With --by day: this day and earlier ones only.
    #[arg(long, value_name = "DATE", conflicts_with = "run")]
    pub until: Option<Date>,

    /// With --by day: the journal; that of the config unless named.
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    pub log_dir: Option<PathBuf>,

    /// Comma-separated values with a header.
    #[arg(long, conflicts_with_all = ["json", "run"])]
    pub csv: bool,

    /// Run a command, and tell what it and all its descendants used once all of them have ended: like time(1), but true for those too who left it (daemons) and whom nobody waited for.
    #[arg(long, requires = "command")]
    pub run: bool,

    /// Do not wait for descendants: tell when the command itself has ended. Those who still live count as far as they are then.
    #[arg(long, requires = "run")]
    pub no_wait: bool,

    /// Write the report into this file instead of standard error.
    #[arg(long, value_name = "FILE", requires = "run")]
    pub output: Option<PathBuf>,

    /// One JSON object a line; with --run the report as one.
    #[arg(long)]
    pub json: bool,

    /// Read this config file instead of /etc/psmond.toml: it says what a program is.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The command and its arguments, after --.
    #[arg(last = true, requires = "run")]
    pub command: Vec<OsString>,
}

/// Shows who spends, or runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    if arguments.run {
        return Ok(run::run(arguments));
    }
    let form = Form::said(arguments.csv, arguments.json, false);
    let by_day = arguments.by == Some(By::Day);
    let of_days =
        [("--since", arguments.since.is_some()), ("--until", arguments.until.is_some()), ("--log-dir", arguments.log_dir.is_some())];
    let of_now = [("--watch", arguments.watch.is_some()), ("--interval", arguments.interval.is_some())];
    if let Some((switch, _)) = of_days.iter().find(|(_, is_said)| *is_said && !by_day) {
        return Err(Failure::Config(format!("{switch} is of the journal, and this view is of now: say --by day too")));
    }
    if let Some((switch, _)) = of_now.iter().find(|(_, is_said)| *is_said && by_day) {
        return Err(Failure::Config(format!("{switch} is of now, and --by day is of the journal")));
    }
    if by_day {
        return by_day::run(arguments, form, out);
    }
    let selection = Selection::new(arguments)?;
    let proc = Arc::new(open_proc(std::path::Path::new("/proc"))?);
    let measured = match arguments.watch {
        Some(every) => Measured::Again(every),
        None => Measured::Once(arguments.interval.unwrap_or(MEASURED)),
    };
    let mut feed = Live::open(&proc, said::said(arguments.config.as_deref())?, arguments.by, measured)?;
    let mut view = View::new(selection, form);
    if arguments.watch.is_some() { view.watch(&mut feed, out) } else { view.once(&mut feed, out) }
}
