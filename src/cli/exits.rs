//! `psmon exits`: obituaries as they come.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use super::events::event::Places;
use super::events::lines::write_time;
use super::hear::{Ended, Hear, Heard, Live, Lost, Told, Wanted};
use super::ps::matches;
use super::said::said;
use super::screen::Screen;
use super::tree::Tree;
use super::users::Users;
use super::{Answer, Failure, complain, open_proc, table};
use crate::config::units;
use crate::journal::json;
use crate::observer::samplers::{events, exits};
use crate::record::cmd::Cmd;
use crate::record::event::EventKind;
use crate::record::flush::TimedRow;
use crate::record::schema::{Column, Columns, Kind};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What is shown unless columns are named: those that fit a screen.
const SHOWN: [&str; 12] = ["time", "pid", "ppid", "user", "program", "how", "code", "signal", "lifetime_s", "cpu_s", "max_rss", "cmd"];
/// What the filters look at, shown or not.
const FILTERED: [&str; 7] = ["pid", "start", "user", "program", "comm", "raw", "cmd"];
/// What a tree is followed by.
const FOLLOWED: [&str; 5] = ["event", "pid", "start", "task", "ppid"];
/// How long obituaries are collected.
const COLLECT: Duration = Duration::from_millis(100);
/// How long one waits to be told of its event, which may stand behind another that waits.
const HOLD: Duration = Duration::from_millis(500);

/// Obituaries as they come: how each process ended, how long it lived and what it used.
#[derive(Debug, Args)]
#[command(
    after_help = "Memory is scaled (K, M, G: powers of 1024) unless --bytes or --json. - does not exist or nobody could know it, ? was refused. Exit status 1 where no process ended within the duration."
)]
pub struct Arguments {
    /// Processes of this name only: the program's or the process's own, exactly. May be repeated.
    pub name: Vec<String>,

    /// Columns, by psmon's names or ps's. With --json without them: those of the journal.
    #[arg(short = 'o', long, value_name = "COLUMNS", action = ArgAction::Append, value_delimiter = ',')]
    pub columns: Vec<String>,

    /// Only those that went wrong: with a code or by a signal.
    #[arg(long)]
    pub failed: bool,

    /// Processes whose command line or name matches this regular expression only.
    #[arg(short, long, value_name = "REGEX")]
    pub regex: Option<String>,

    /// Processes of this effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,

    /// This process and its descendants only, also those still to come.
    #[arg(long, value_name = "PID")]
    pub tree: Option<u32>,

    /// End after so many.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after so many seconds; 0 goes on for ever. Fractions and units are understood: 2.5, 10m.
    #[arg(short = 'D', long, value_name = "SECONDS", default_value = "0", hide_default_value = true, allow_negative_numbers = true, value_parser = units::duration)]
    pub duration: Duration,

    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,

    /// Bytes as they are.
    #[arg(long)]
    pub bytes: bool,

    /// No header.
    #[arg(long)]
    pub no_header: bool,

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
    let shown = shown(arguments)?;
    let measured = columns(Stream::Exits, shown.iter().map(|column| column.name).chain(FILTERED).filter(|name| *name != "time"))?;
    let filter = Filter::new(arguments, &measured)?;
    let said = said(arguments.config.as_deref())?;
    let proc = Arc::new(open_proc(&arguments.proc)?);
    let tree = match arguments.tree {
        None => None,
        Some(root) => match Tree::plant(&proc, root)? {
            Some(tree) => Some(tree),
            None => return Ok(Answer::No),
        },
    };
    let followed = columns(Stream::Events, std::iter::once("time").chain(FOLLOWED))?;
    let wanted = Wanted {
        events: tree.as_ref().map(|_| events::Selection {
            kinds: [EventKind::Fork, EventKind::Exit].into_iter().collect(),
            max_rows_per_s: u32::MAX,
            include: Vec::new(),
            exclude: Vec::new(),
            columns: followed.clone(),
        }),
        exits: Some(exits::Selection { max_rows_per_s: u32::MAX, columns: measured.clone() }),
        flush_every: COLLECT,
        duration: Some(arguments.duration).filter(|duration| !duration.is_zero()),
    };
    let mut feed = Live::open(&proc, said, wanted)?;
    if let Some(why) = &feed.no_records {
        complain(&format!(
            "there are no exit records ({why}): what processes used is known only as far as /proc told it in time. psmon doctor names the mend."
        ));
    }
    let mut family = tree.map(|tree| Family::new(tree, &followed));
    if let Some(family) = &mut family {
        family.tree.look(&proc)?;
    }
    let mut view = View { arguments, screen: Screen::of_stdout(), widths: shown.iter().map(width).collect(), shown, measured, count: 0 };
    view.begin(out)?;
    let ended = loop {
        out.flush()?;
        let heard = feed.hear(family.as_ref().and_then(Family::due));
        let (rows, end) = match heard {
            Heard::Told(told) => (take(told, &mut family, &filter), None),
            Heard::Due => (family.as_mut().map(|family| family.decide(&filter, false)).unwrap_or_default(), None),
            Heard::End(why) => (family.as_mut().map(|family| family.decide(&filter, true)).unwrap_or_default(), Some(why)),
        };
        for row in rows.iter().filter(|row| filter.takes(row)) {
            view.print(row, out)?;
            if arguments.count.is_some_and(|count| view.count >= count) {
                return Ok(Answer::Yes);
            }
        }
        if let Some(why) = end {
            break why;
        }
    };
    if view.count == 0 && ended == Ended::Time {
        complain(&"no process ended");
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}

fn shown(arguments: &Arguments) -> Result<Columns, Failure> {
    match (&arguments.columns[..], arguments.json) {
        ([], true) => Ok(Columns::standard(Stream::Exits)),
        ([], false) => columns(Stream::Exits, SHOWN),
        (named, _) => columns(Stream::Exits, named.iter().map(String::as_str)),
    }
}

fn columns<'a>(stream: Stream, names: impl IntoIterator<Item = &'a str>) -> Result<Columns, Failure> {
    let names: Vec<&str> = names.into_iter().collect();
    Columns::for_view(stream, &names).map_err(|error| Failure::Config(error.to_string()))
}

/// Rows to be shown, and what was lost to standard error.
fn take(told: Told, family: &mut Option<Family>, filter: &Filter<'_>) -> Vec<TimedRow> {
    let Lost { events, records, rows } = told.lost;
    for (count, what) in [
        (events, "events: the kernel's buffer was full. Whose end nobody heard is shown without it"),
        (records, "exit records: the kernel's buffers were full. What those processes used is not known"),
        (rows, "obituaries: whoever reads this is too slow"),
    ] {
        if count > 0 {
            complain(&format!("lost {count} {what}"));
        }
    }
    match family {
        None => told.rows,
        Some(family) => {
            family.hear(told);
            family.decide(filter, false)
        }
    }
}

/// Who is of the tree, and obituaries that wait to be judged: an obituary may overtake the events of its process, and the fork
/// among them is what says whose child it is.
struct Family {
    tree: Tree,
    places: Places,
    /// Of those whose exit event came, whether they were of the tree.
    ended: FxHashMap<(u32, Option<u64>), bool>,
    waiting: Vec<(Instant, TimedRow)>,
}

impl Family {
    fn new(tree: Tree, followed: &Columns) -> Self {
        Self { tree, places: Places::of(followed), ended: FxHashMap::default(), waiting: Vec::new() }
    }

    fn hear(&mut self, told: Told) {
        if told.stream == Stream::Exits {
            let now = Instant::now();
            self.waiting.extend(told.rows.into_iter().map(|row| (now, row)));
            return;
        }
        for row in &told.rows {
            let Some(event) = super::events::event::Event::of(&self.places, row) else { continue };
            let holds = self.tree.hear(event.kind, event.pid, event.start, event.ppid);
            if event.kind == EventKind::Exit {
                self.ended.insert((event.pid, event.start), holds);
            }
        }
    }

    /// When the first of those that wait is judged without its event.
    fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|(since, _)| *since + HOLD)
    }

    /// The obituaries that are of the tree, as far as that can be said by now.
    fn decide(&mut self, filter: &Filter<'_>, all: bool) -> Vec<TimedRow> {
        let mut of_tree = Vec::new();
        let mut waiting = Vec::new();
        for (since, row) in self.waiting.drain(..) {
            let (pid, start) = filter.identity(&row);
            match self.ended.remove(&(pid, start)) {
                Some(true) => of_tree.push(row),
                Some(false) => {}
                None if all || since.elapsed() >= HOLD => of_tree.extend(Some(row).filter(|_| self.tree.holds(pid, start))),
                None => waiting.push((since, row)),
            }
        }
        self.waiting = waiting;
        // Their obituaries came before, or never will.
        if self.waiting.is_empty() && self.ended.len() > 100_000 {
            self.ended.clear();
        }
        of_tree
    }
}

struct View<'a> {
    arguments: &'a Arguments,
    screen: Screen,
    shown: Columns,
    widths: Vec<usize>,
    measured: Columns,
    count: u64,
}

impl View<'_> {
    fn begin(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        if self.arguments.json || self.arguments.no_header || !self.screen.needs_header() {
            return Ok(());
        }
        let header: Vec<Vec<u8>> = self.shown.iter().map(|column| column.name.to_ascii_uppercase().into_bytes()).collect();
        self.line(&header, out)
    }

    fn line(&self, cells: &[Vec<u8>], out: &mut impl Write) -> Result<(), Failure> {
        let mut line = table::line(&self.shown, &self.widths, cells);
        self.screen.cut(&mut line);
        line.push(b'\n');
        Ok(out.write_all(&line)?)
    }

    fn print(&mut self, row: &TimedRow, out: &mut impl Write) -> Result<(), Failure> {
        self.count += 1;
        let value = |column: &Column| self.measured.position(column.name).and_then(|at| row.values.get(at)).unwrap_or(&Value::Absent);
        if self.arguments.json {
            let values: Vec<Value> = self.shown.iter().filter(|column| column.name != "time").map(|column| value(column).clone()).collect();
            let time = self.shown.position("time").map(|_| {
                let mut time = Vec::with_capacity(35);
                row.time.write(9, &mut time);
                time
            });
            let mut line = Vec::with_capacity(512);
            json::write_row(None, &self.shown, time.as_deref(), &values, &mut line);
            return Ok(out.write_all(&line)?);
        }
        let cells: Vec<Vec<u8>> = self
            .shown
            .iter()
            .map(|column| match column.kind {
                Kind::Time(_) => {
                    let mut time = Vec::new();
                    write_time(row.time, &mut time);
                    time
                }
                _ => table::cell(column, value(column), self.arguments.bytes),
            })
            .collect();
        self.begin(out)?;
        self.line(&cells, out)
    }
}

/// Lines come one by one, so their widths are set before it is known what will be in them.
fn width(column: &'static Column) -> usize {
    let usual = match column.kind {
        Kind::Time(_) => 23,
        // As scaled; what is longer moves the rest of its line.
        Kind::Bytes => 5,
        Kind::Seconds(_) => 10,
        _ => column.width,
    };
    usual.max(column.name.len())
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
        Ok(Self { arguments, users: Users::known(&arguments.user)?, regex, at })
    }

    fn identity(&self, row: &TimedRow) -> (u32, Option<u64>) {
        let [pid, start, ..] = self.at.map(|at| row.values.get(at).and_then(Value::number));
        (pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0), start.and_then(|start| u64::try_from(start).ok()))
    }

    fn takes(&self, row: &TimedRow) -> bool {
        let [_, _, user, program, comm, raw, cmd] = self.at.map(|at| row.values.get(at));
        let word = |value: Option<&Value>, text: &str| matches!(value, Some(Value::Word(word)) if **word == *text.as_bytes());
        let named = &self.arguments.name;
        let failed = || raw.and_then(Value::number).is_some_and(|raw| raw & 0xffff != 0);
        self.users.take(user)
            && (!self.arguments.failed || failed())
            && (named.is_empty() || named.iter().any(|wanted| word(program, wanted) || word(comm, wanted)))
            && self.regex.as_ref().is_none_or(|regex| finds(regex, comm, cmd))
    }
}

fn finds(regex: &Regex, comm: Option<&Value>, cmd: Option<&Value>) -> bool {
    let in_cmd = |cmd: &Cmd| match cmd {
        Cmd::Comm(comm) => regex.is_match(comm),
        Cmd::Argv { .. } => matches(regex, cmd),
    };
    matches!(comm, Some(Value::Word(comm)) if regex.is_match(comm)) || matches!(cmd, Some(Value::Cmd(cmd)) if in_cmd(cmd))
}
