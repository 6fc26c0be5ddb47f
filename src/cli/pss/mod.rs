//! `psmon pss`: who has how much memory, psstop's table.
//!
//! * [`names`]: how a process is named, and who is meant.
//! * [`sums`]: rows, their order, groups and totals.
//! * [`output`]: the table, CSV and JSON.
//! * [`send`]: a line for each sample to a TCP server.

pub mod names;
pub mod output;
pub mod send;
pub mod sums;

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};

use self::names::{By, Filter, NameFrom, Naming};
use self::output::Printer;
use self::send::{Sender, Target};
use self::sums::Sums;
use super::table::Form;
use super::{Answer, Failure, ending, open_proc};
use crate::cli::feed::Live;
use crate::cli::said::{self, Said};
use crate::observer::facts::Wants;
use crate::observer::samplers::ps::Selection;
use crate::observer::survey::{Asked, Seen, Survey, Takes};
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::source::capability::Capability;
use crate::source::clock::Wall;
use crate::source::procdir::Proc;
use crate::source::status;

/// Who has how much memory: what is shared is divided by the number of those who share it.
#[derive(Debug, Args)]
#[command(
    after_help = "PSS is the proportional set size: memory of its own and its share of what it shares with others, so that the sum is what all of them have. USS is what nobody shares, SWAP its share of what is swapped out, which is in neither. The largest stands last, next to the total. Memory is scaled (K, M, G: powers of 1024) unless --bytes, --csv or --json. ? was refused or did not come in time, - does not exist: a zombie has no memory. Kernel threads have none of their own and are left out. Exit status 1 where no process matches."
)]
pub struct Arguments {
    /// Processes of this name only, exactly. May be repeated.
    #[arg(short = 'p', long, value_name = "NAME", action = ArgAction::Append)]
    pub name: Vec<String>,

    /// Processes whose name holds this text only.
    #[arg(long = "match", value_name = "TEXT")]
    pub holds: Option<String>,

    /// Processes whose name matches this regular expression only.
    #[arg(short, long, value_name = "REGEX")]
    pub regex: Option<String>,

    /// These processes only.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Processes of this effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER", action = ArgAction::Append)]
    pub user: Vec<String>,

    /// What names a process. Where there is none, the process's own name stands in.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = NameFrom::Comm)]
    pub name_from: NameFrom,

    /// One row for all of one kind, with their sum.
    #[arg(long, value_name = "WHAT", value_enum)]
    pub by: Option<By>,

    /// The largest so many only. The total stays that of all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub top: Option<u64>,

    /// Comma-separated values with a header, bytes as they are.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,

    /// One JSON object a line, the last of them the total.
    #[arg(long)]
    pub json: bool,

    /// Bytes as they are.
    #[arg(long)]
    pub bytes: bool,

    /// Again and again until Ctrl-C, each so many seconds. Fractions and units are understood: 2.5, 10m.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = ending::interval)]
    pub watch: Option<Duration>,

    /// Send each sample to this TCP server too, as one line of JSON. Implies --watch. What cannot be delivered is dropped and counted.
    #[arg(long, value_name = "HOST:PORT", value_parser = Target::parse)]
    pub send: Option<Target>,

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
    let view = View {
        filter: Filter::new(arguments)?,
        naming: Naming::new(arguments.name_from, arguments.by, arguments.config.as_deref())?,
        proc: Arc::new(open_proc(&arguments.proc)?),
        members: RefCell::new(members(arguments)?),
        arguments,
    };
    let mut survey = Survey::start(Arc::clone(&view.proc));
    let every = arguments.watch.or_else(|| arguments.send.as_ref().map(|_| Duration::from_secs(1)));
    let form = Form::said(arguments.csv, arguments.json, arguments.bytes);
    let mut printer = Printer::new(form, arguments.by.is_some(), every.is_some());
    if let Some(every) = every {
        return view.watch(&mut survey, every, &mut printer, out);
    }
    let sums = view.sample(&mut survey)?;
    if sums.nothing_matched() {
        super::complain(&"no process matches");
        sums.unread().iter().for_each(super::complain);
        return Ok(Answer::No);
    }
    printer.print(&sums, None, out)?;
    Ok(Answer::Yes)
}

struct View<'a> {
    arguments: &'a Arguments,
    proc: Arc<Proc>,
    filter: Filter,
    naming: Naming,
    /// Who counts for which program, where rules say so.
    members: RefCell<Option<Live>>,
}

/// Rules look at everyone: who is whose descendant is seen of all together.
fn members(arguments: &Arguments) -> Result<Option<Live>, Failure> {
    if arguments.by != Some(By::Program) {
        return Ok(None);
    }
    let settings = said::load(arguments.config.as_deref())?.map(|loaded| loaded.settings).unwrap_or_default();
    if settings.programs.is_empty() && settings.interpreters.is_empty() {
        return Ok(None);
    }
    let columns = Columns::for_view(Stream::Ps, &["pid"]).map_err(|error| Failure::System(error.to_string()))?;
    let selection = Selection { kthreads: false, interactive: true, own_pid: None, columns, sort: Vec::new() };
    Ok(Some(Live::new(&arguments.proc, selection, Said::of(&settings)?, Duration::ZERO)?))
}

impl View<'_> {
    fn sample(&self, survey: &mut Survey) -> Result<Sums, Failure> {
        let takes = |process: &Seen| self.filter.takes(process, &self.naming);
        let filters = !self.filter.takes_all();
        let mut wants = self.filter.wants();
        if filters || self.arguments.by.is_none() {
            wants |= self.naming.wants_of_names();
        }
        wants |= self.arguments.by.map_or(Wants::NONE, By::wants);
        let asked = Asked { wants, pids: &self.arguments.pid, takes: filters.then_some(&takes as Takes<'_>) };
        let mut look = survey.look(&asked)?;
        if let Some(members) = self.members.borrow_mut().as_mut() {
            let world = members.world()?;
            for process in &mut look.processes {
                let program = world.table.get(process.pid).and_then(|known| known.facts.program.known());
                process.program = program.map(|program| program.to_vec());
            }
        }
        let owners =
            look.processes.iter().filter(|_| self.arguments.by == Some(By::User)).filter_map(|process| process.owner.known().copied());
        let users = survey.know_users(owners);
        let mut sums = Sums::of(&look, &self.naming, users, self.arguments.top);
        sums.privileged = sums.totals.refused > 0 && may_read_all(&self.proc);
        Ok(sums)
    }

    /// One sample after another until a signal comes or nobody reads any more.
    fn watch(&self, survey: &mut Survey, every: Duration, printer: &mut Printer, out: &mut impl Write) -> Result<Answer, Failure> {
        let ends = ending::of_view(&self.proc)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let sender = self.arguments.send.clone().map(Sender::start).transpose()?;
        let mut wall = Wall::default();
        let mut answer = Answer::No;
        let mut due = Instant::now();
        loop {
            let began = Instant::now();
            let sums = self.sample(survey)?;
            let took = began.elapsed();
            let now = wall.now();
            if let Some(sender) = &sender {
                sender.send(send::line(now, &host, sender.lost(), &sums));
            }
            if !sums.nothing_matched() {
                answer = Answer::Yes;
            }
            printer.begin(now, out)?;
            printer.print(&sums, Some(now), out)?;
            if let Some(sender) = sender.as_ref().filter(|_| printer.is_on_terminal()) {
                writeln!(out, "{}", sender.state())?;
            }
            out.flush()?;
            // Who is behind does not catch up, and never reads without a pause at least as long as the reading took: it holds
            // processes up.
            due = (due + every).max(Instant::now() + took);
            if ends.recv_timeout(due.saturating_duration_since(Instant::now())).is_ok() {
                return Ok(answer);
            }
        }
    }
}

/// Whether we hold the capability that reading memory of others takes.
fn may_read_all(proc: &Proc) -> bool {
    proc.read("self/status").is_ok_and(|text| Capability::SysPtrace.is_in(&status::parse(&text).cap_eff).unwrap_or(false))
}
