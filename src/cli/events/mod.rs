//! `psmon events`: what happens to processes, as it happens.
//!
//! * [`kinds`]: which events; [`filter`]: of which processes.
//! * [`event`]: one row, read; [`living`]: what its process says of itself.
//! * [`lines`], [`name`]: how people see it; [`statistics`]: the table at the end.

pub mod event;
pub mod filter;
pub mod kinds;
pub mod lines;
pub mod living;
pub mod name;
pub mod statistics;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};

use super::hear::{Hear, Heard, Live, Lost, Told, Wanted};
use super::said::said;
use super::tree::Tree;
use super::users::Users;
use super::{Answer, Failure, complain};
use crate::config::units;
use crate::journal::json;
use crate::observer::samplers::events::Selection;
use crate::record::event::EventKind;
use crate::record::flush::TimedRow;
use crate::record::schema::{self, Columns};
use crate::record::stream::Stream;
use crate::source::procdir::Proc;
use crate::source::sched::{self, Promptness};
use event::{Event, Places};
use filter::{Filter, Group, expressions};
use kinds::Chosen;
use lines::{Lines, Style};
use living::{Asked, Living};
use name::Naming;
use statistics::Statistics;

/// How long rows are collected.
const COLLECT: Duration = Duration::from_millis(100);
/// The same where processes must still live to be asked, or somebody wants it at once.
const COLLECT_PROMPTLY: Duration = Duration::from_millis(10);

/// Events as they happen: fork, exec, exit and more. Without -e: fork, exec, exit, core and comm.
#[derive(Debug, Args)]
#[command(
    after_help = "Letters are those of forkstat and pstat where these agree. Ctrl-C ends it, with the statistics if they were asked for. Info of an exit is its code or signal, of core the signal, of uid the real and effective user, of gid the groups, of sid the session, of ptrace the tracer. Events that the kernel could not deliver are counted on standard error."
)]
pub struct Arguments {
    /// Events to show, in a list or repeated: fork, exec, exit, core (coredump), comm, clone, thread_exit, ptrace (ptrce), uid, gid, sid, nonzeroexit (exitnonzero), all, none.
    #[arg(short, long, value_name = "LIST", action = ArgAction::Append, value_delimiter = ',')]
    pub event: Vec<String>,

    /// All events.
    #[arg(short = 'E', long)]
    pub all_events: bool,

    /// Only exits that went wrong, with a code or by a signal: as -e nonzeroexit, whatever else is chosen.
    #[arg(long)]
    pub failed: bool,

    /// The first argument without its directory; the others stay as they are.
    #[arg(short, long)]
    pub dirstrip: bool,

    /// The first argument only.
    #[arg(short, long)]
    pub shortname: bool,

    /// The process's own name, 15 bytes at most, instead of its command line.
    #[arg(short, long)]
    pub comm: bool,

    /// Statistics at the end: how many events of each kind, by the name shown.
    #[arg(short = 'S', long)]
    pub statistics: bool,

    /// Statistics each so many seconds, of that time; at the end of all the time.
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    pub every: Option<Duration>,

    /// No events and no header, only the statistics.
    #[arg(short, long)]
    pub quiet: bool,

    /// End after so many seconds; 0 goes on for ever. Fractions and units are understood: 2.5, 10m.
    #[arg(short = 'D', long, value_name = "SECONDS", default_value = "0", hide_default_value = true, allow_negative_numbers = true, value_parser = units::duration)]
    pub duration: Duration,

    /// Only of this process group. A process that lives no more counts for the group it was last seen in.
    #[arg(short, long, value_name = "PGRP")]
    pub pgrp: Option<u32>,

    /// Columns UID, EUID and TTY: real and effective user, terminal.
    #[arg(short = 'x', long)]
    pub extra: bool,

    /// A picture of each kind before its Info.
    #[arg(short, long)]
    pub glyphs: bool,

    /// Accepted for forkstat's sake: lines are always written as soon as they are there.
    #[arg(short, long)]
    pub line_buffered: bool,

    /// Real-time priority for the view too; those who read events ask for it by themselves.
    #[arg(short, long)]
    pub realtime: bool,

    /// The same as -E -g -r -S -x.
    #[arg(short = 'X', long)]
    pub everything: bool,

    /// Only what this regular expression finds in the name, the command line or the executable. May be repeated: one must find it.
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,

    /// Nothing that this regular expression finds there. May be repeated.
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,

    /// Processes of this effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,

    /// Processes of this control group only: /path is that one and those within it, /path* all that begin so, anything else is looked for anywhere in the path. May be repeated.
    #[arg(long, value_name = "GROUP")]
    pub cgroup: Vec<String>,

    /// This process and its descendants only, also those still to come.
    #[arg(long, value_name = "PID")]
    pub tree: Option<u32>,

    /// The wait status of an exit as the kernel says it (wait(2)): 768 for exit 3.
    #[arg(long)]
    pub raw: bool,

    /// One JSON object a line, with all columns; statistics are the last.
    #[arg(long)]
    pub json: bool,

    /// No header.
    #[arg(long)]
    pub no_header: bool,

    /// Read this config file instead of /etc/psmond.toml: it says what of command lines may be shown, and what a program is.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read processes from here instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
}

/// A duration that is none is no interval.
fn interval(text: &str) -> Result<Duration, String> {
    units::duration(text).and_then(|every| if every.is_zero() { Err("each 0 seconds is no interval".to_owned()) } else { Ok(every) })
}

impl Arguments {
    fn chosen(&self) -> Result<Chosen, Failure> {
        let named = if self.event.is_empty() { Chosen::usual() } else { Chosen::named(&self.event)? };
        Ok(match self {
            Self { failed: true, .. } => Chosen::failures(),
            Self { all_events: true, .. } | Self { everything: true, .. } => Chosen::all(),
            _ => named,
        })
    }

    fn filter(&self) -> Result<Filter, Failure> {
        Ok(Filter {
            include: expressions("--include", &self.include)?,
            exclude: expressions("--exclude", &self.exclude)?,
            users: Users::known(&self.user)?,
            pgrp: self.pgrp.map(i64::from),
            cgroups: self.cgroup.iter().map(|said| Group::parse(said)).collect(),
        })
    }

    fn style(&self, proc: &Proc, chosen: Chosen) -> Style {
        let largest = proc.read("sys/kernel/pid_max").map(|text| text.trim_ascii().len()).unwrap_or(0);
        Style {
            extra: self.extra || self.everything,
            glyphs: self.glyphs || self.everything,
            raw: self.raw,
            bare: self.no_header,
            naming: Naming { short: self.shortname, dirstrip: self.dirstrip, comm: self.comm },
            kinds: chosen.width(),
            pids: largest.max(5),
        }
    }

    const fn asked(&self) -> Asked {
        Asked { group: self.pgrp.is_some(), extra: self.extra || self.everything, cgroup: !self.cgroup.is_empty() }
    }
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let chosen = arguments.chosen()?;
    let filter = arguments.filter()?;
    let said = said(arguments.config.as_deref())?;
    let proc = Arc::new(super::open_proc(&arguments.proc)?);
    let tree = match arguments.tree {
        None => None,
        Some(root) => match Tree::plant(&proc, root)? {
            Some(tree) => Some(tree),
            None => return Ok(Answer::No),
        },
    };
    let columns = all_columns()?;
    let living = arguments.asked();
    let prompt = arguments.realtime || arguments.everything;
    let wanted = Wanted {
        events: Some(Selection {
            kinds: chosen.asked(besides(tree.is_some(), living)),
            max_rows_per_s: u32::MAX,
            include: Vec::new(),
            exclude: Vec::new(),
            columns: columns.clone(),
        }),
        exits: None,
        flush_every: if prompt || !living.is_nothing() { COLLECT_PROMPTLY } else { COLLECT },
        duration: Some(arguments.duration).filter(|duration| !duration.is_zero()),
    };
    let mut feed = Live::open(&proc, said, wanted)?;
    let statistics = arguments.statistics || arguments.quiet || arguments.everything || arguments.every.is_some();
    let mut view = View {
        places: Places::of(&columns),
        columns,
        chosen,
        filter,
        tree,
        living: Living::new(Arc::clone(&proc), living),
        lines: Lines::new(arguments.style(&proc, chosen)),
        naming: arguments.style(&proc, chosen).naming,
        json: arguments.json,
        quiet: arguments.quiet,
        gathers: statistics,
        whole: Statistics::default(),
        part: arguments.every.map(|_| Statistics::default()),
        began: Instant::now(),
        lost: 0,
    };
    if let Some(tree) = &mut view.tree {
        tree.look(&proc)?;
    }
    if prompt {
        make_prompt();
    }
    view.begin(out)?;
    let mut due = arguments.every.map(|every| Instant::now() + every);
    loop {
        out.flush()?;
        match feed.hear(due) {
            Heard::Told(told) => view.show(told, out)?,
            Heard::Due => {}
            Heard::End(_) => break,
        }
        // Where events never pause, the moment comes in between.
        if let (Some(at), Some(every)) = (due, arguments.every)
            && Instant::now() >= at
        {
            view.say_part(every, out)?;
            due = Some((at + every).max(Instant::now()));
        }
    }
    view.end(out)?;
    Ok(Answer::Yes)
}

fn all_columns() -> Result<Columns, Failure> {
    let names: Vec<&str> = schema::columns(Stream::Events).iter().map(|column| column.name).collect();
    Columns::for_view(Stream::Events, &names).map_err(|error| Failure::System(error.to_string()))
}

/// What must be heard to know who is who, shown or not.
const fn besides(tree: bool, asked: Asked) -> &'static [EventKind] {
    match (tree, asked.is_nothing()) {
        (_, false) => &[EventKind::Fork, EventKind::Exec, EventKind::Exit, EventKind::Sid, EventKind::Uid],
        (true, true) => &[EventKind::Fork, EventKind::Exit],
        (false, true) => &[],
    }
}

fn make_prompt() {
    let got = sched::make_this_thread_prompt();
    if got != Promptness::RealTime {
        complain(&format!("real-time priority was refused: the view runs at {}", got.words()));
    }
}

struct View {
    columns: Columns,
    places: Places,
    chosen: Chosen,
    filter: Filter,
    tree: Option<Tree>,
    living: Living,
    lines: Lines,
    naming: Naming,
    json: bool,
    quiet: bool,
    gathers: bool,
    whole: Statistics,
    /// Of the time since the last table.
    part: Option<Statistics>,
    began: Instant,
    lost: u64,
}

impl View {
    fn begin(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        if !self.json && !self.quiet {
            self.lines.begin(out)?;
        }
        Ok(())
    }

    fn show(&mut self, told: Told, out: &mut impl Write) -> Result<(), Failure> {
        for mut row in told.rows {
            self.show_row(&mut row, out)?;
        }
        let Lost { events, records: _, rows } = told.lost;
        self.lost += events + rows;
        if events > 0 {
            complain(&format!("lost {events} events: the kernel's buffer was full"));
        }
        if rows > 0 {
            complain(&format!("lost {rows} events: whoever reads this is too slow"));
        }
        Ok(())
    }

    fn show_row(&mut self, row: &mut TimedRow, out: &mut impl Write) -> Result<(), Failure> {
        self.living.amend(&self.places, row);
        let Some(event) = Event::of(&self.places, row) else { return Ok(()) };
        let is_of_tree = self.tree.as_mut().is_none_or(|tree| tree.hear(event.kind, event.pid, event.start, event.ppid));
        let failed = event.failed();
        if event.pid == std::process::id() || !is_of_tree || !self.chosen.has(event.kind, failed) || !self.filter.takes(&event) {
            return Ok(());
        }
        if self.gathers {
            let all_exits = self.chosen.has_all(EventKind::Exit);
            let name = self.naming.of(&event);
            if let Some(part) = &mut self.part {
                part.count(name.clone(), event.kind, failed, all_exits);
            }
            self.whole.count(name, event.kind, failed, all_exits);
        }
        if self.quiet {
        } else if self.json {
            let (mut time, mut line) = (Vec::with_capacity(35), Vec::with_capacity(512));
            event.time.write(9, &mut time);
            json::write_row(None, &self.columns, Some(&time), &row.values, &mut line);
            out.write_all(&line)?;
        } else {
            self.lines.print(&event, out)?;
        }
        Ok(())
    }

    fn say_part(&mut self, every: Duration, out: &mut impl Write) -> Result<(), Failure> {
        let Some(part) = self.part.as_mut().map(std::mem::take) else { return Ok(()) };
        self.say(&part, every, out)
    }

    fn end(&self, out: &mut impl Write) -> Result<(), Failure> {
        if self.gathers { self.say(&self.whole, self.began.elapsed(), out) } else { Ok(()) }
    }

    fn say(&self, statistics: &Statistics, time: Duration, out: &mut impl Write) -> Result<(), Failure> {
        if self.json {
            let object = serde_json::json!({ "statistics": statistics.json(), "duration_s": time.as_secs_f64(), "lost": self.lost });
            writeln!(out, "{object}")?;
        } else {
            if !self.quiet {
                writeln!(out)?;
            }
            statistics.print(out)?;
            if self.part.is_some() {
                writeln!(out)?;
            }
        }
        Ok(())
    }
}
