//! `psmon ps`: the process table.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use regex::bytes::Regex;

use super::feed::{Feed, Live};
use super::said::said;
use super::users::Users;
use super::{Answer, Failure, table};
use crate::observer::samplers::ps::Selection;
use crate::record::cmd::Cmd;
use crate::record::sample::Row;
use crate::record::schema::{Columns, SortKey};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What is shown unless columns are named: those of the journal that fit a screen.
const SHOWN: [&str; 14] =
    ["pid", "ppid", "user", "state", "tty", "nice", "threads", "cpu_pct", "cpu_s", "rss", "swap", "program", "unit", "cmd"];
/// What the filters look at, shown or not.
const FILTERED: [&str; 5] = ["pid", "user", "program", "comm", "cmd"];
/// CPU is measured over so long: short enough to wait for.
const INTERVAL: Duration = Duration::from_millis(250);

/// The process table as it is now.
#[derive(Debug, Args)]
#[command(
    after_help = "Memory is scaled (K, M, G: powers of 1024) unless --bytes or --json; CPU is of a quarter of a second. ? was refused."
)]
pub struct Arguments {
    /// Processes of this name only: the program's or the process's own, exactly. May be repeated.
    pub name: Vec<String>,

    /// Columns, by psmon's names or ps's.
    #[arg(short = 'o', long, value_name = "COLUMNS", action = ArgAction::Append, value_delimiter = ',')]
    pub columns: Vec<String>,

    /// Order: -cpu_pct,pid.
    #[arg(long, value_name = "KEYS", action = ArgAction::Append, value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,

    /// Kernel threads too.
    #[arg(short = 'K', long)]
    pub kthreads: bool,

    /// Leave out processes with a controlling terminal.
    #[arg(long, overrides_with = "interactive")]
    pub no_interactive: bool,

    /// Processes with a controlling terminal too (a person asks: the default here).
    #[arg(short = 'I', long, overrides_with = "no_interactive")]
    pub interactive: bool,

    /// Processes whose command line or name matches this regular expression only.
    #[arg(short, long, value_name = "REGEX")]
    pub regex: Option<String>,

    /// Processes of this effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,

    /// These processes only.
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,

    /// Bytes as they are.
    #[arg(long)]
    pub bytes: bool,

    /// Read this config file instead of /etc/psmond.toml: it says what of command lines may be shown, and what a program is.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read processes from here instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Config(error.to_string());
    let words: Vec<&str> =
        if arguments.columns.is_empty() { SHOWN.to_vec() } else { arguments.columns.iter().map(String::as_str).collect() };
    let shown = Columns::for_view(Stream::Ps, &words).map_err(|error| wrong(&error))?;
    let measured: Vec<&str> = shown.iter().map(|column| column.name).filter(|name| *name != "time").chain(FILTERED).collect();
    let measured = Columns::for_view(Stream::Ps, &measured).map_err(|error| wrong(&error))?;
    let sort =
        arguments.sort.iter().map(|key| SortKey::parse(Stream::Ps, key)).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    let filter = Filter::new(arguments, &measured)?;
    let timed = |name: &str| name == "cpu_pct";
    let interval = if shown.iter().any(|column| timed(column.name)) || sort.iter().any(|key| timed(key.column.name)) {
        INTERVAL
    } else {
        Duration::ZERO
    };
    let selection = Selection {
        kthreads: arguments.kthreads,
        interactive: !arguments.no_interactive,
        own_pid: Some(std::process::id()),
        columns: measured.clone(),
        sort,
    };
    let mut feed = Live::new(&arguments.proc, selection, said(arguments.config.as_deref())?, interval)?;
    let sample = feed.sample()?;
    let matching: Vec<Vec<Value>> = sample.rows.iter().filter(|row| filter.takes(row)).map(|row| project(row, &measured, &shown)).collect();
    if matching.is_empty() {
        super::complain(&"no process matches");
        return Ok(Answer::No);
    }
    if arguments.json {
        table::print_json(&shown, &matching, None, out)?;
    } else {
        table::print(&shown, &matching, arguments.bytes, out)?;
    }
    let unknown = matching.iter().filter(|row| row.contains(&Value::Refused)).count();
    if unknown > 0 {
        super::complain(&format!(
            "{unknown} of the {} processes shown hold values that were refused or did not come in time (?)",
            matching.len()
        ));
    }
    Ok(Answer::Yes)
}

/// Values of the shown columns, in their order. `time` of a live view is the moment it is shown: it has none.
fn project(row: &Row, measured: &Columns, shown: &Columns) -> Vec<Value> {
    shown.iter().map(|column| measured.position(column.name).and_then(|at| row.values.get(at).cloned()).unwrap_or(Value::Absent)).collect()
}

struct Filter<'a> {
    arguments: &'a Arguments,
    users: Users,
    regex: Option<Regex>,
    at: [usize; FILTERED.len()],
}

impl<'a> Filter<'a> {
    fn new(arguments: &'a Arguments, measured: &Columns) -> Result<Self, Failure> {
        let regex = arguments.regex.as_deref().map(Regex::new).transpose().map_err(|error| Failure::Config(format!("--regex: {error}")))?;
        let at = FILTERED.map(|name| measured.position(name).unwrap_or(usize::MAX));
        Ok(Self { arguments, users: Users::new(&arguments.user), regex, at })
    }

    fn takes(&self, row: &Row) -> bool {
        let [pid, user, program, comm, cmd] = self.at.map(|at| row.values.get(at));
        let word = |value: Option<&Value>, text: &str| matches!(value, Some(Value::Word(word)) if **word == *text.as_bytes());
        let arguments = self.arguments;
        (arguments.pid.is_empty() || matches!(pid, Some(Value::Int(pid)) if arguments.pid.iter().any(|wanted| i64::from(*wanted) == *pid)))
            && self.users.take(user)
            && (arguments.name.is_empty() || arguments.name.iter().any(|wanted| word(program, wanted) || word(comm, wanted)))
            && self.regex.as_ref().is_none_or(|regex| {
                matches!(comm, Some(Value::Word(comm)) if regex.is_match(comm))
                    || matches!(cmd, Some(Value::Cmd(cmd)) if matches(regex, cmd))
            })
    }
}

/// The expression looks at the arguments joined by a space, as they were said.
pub(super) fn matches(regex: &Regex, cmd: &Cmd) -> bool {
    regex.is_match(&cmd.args().collect::<Vec<_>>().join(&b' '))
}
