//! psmon, the tool: one file a command.
//!
//! * [`feed`], [`hear`]: where a view gets samples, and what happened; it cannot tell whether they are live or from the journal.
//! * [`tree`], [`users`], [`said`]: what several views ask of processes in the same way.
//! * [`ending`]: what ends a view that goes on; [`when`]: times as people say them.
//! * [`table`], [`cells`], [`screen`]: how people see them.

pub mod cells;
pub mod config;
pub mod credits;
pub mod doctor;
pub mod ending;
pub mod events;
pub mod exits;
pub mod explain;
pub mod feed;
pub mod hear;
pub mod ps;
pub mod pss;
pub mod said;
pub mod screen;
pub mod show;
pub mod table;
pub mod tree;
pub mod usage;
pub mod users;
pub mod verify;
pub mod when;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::source::procdir::Proc;

/// Shows what psmond records: the processes of this machine.
#[derive(Debug, Parser)]
#[command(name = "psmon", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done; 1 the answer is no (nothing matched, damage found); 2 command line or config wrong; 3 the system refused; 13 only usage --tcollector: do not restart. credits --run: that of the command."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The process table, now.
    Ps(ps::Arguments),
    /// Who has how much memory: what is shared is divided by the number of those who share it.
    Pss(Box<pss::Arguments>),
    /// What programs use, added up over their processes: CPU, memory, io, descriptors, sockets, limits.
    Usage(Box<usage::Arguments>),
    /// What happens to processes, as it happens: fork, exec, exit and more.
    Events(Box<events::Arguments>),
    /// How processes end and what they used, as they end.
    Exits(Box<exits::Arguments>),
    /// Which program a process counts for: by which rule, and why not by those before it.
    Explain(explain::Arguments),
    /// Who spends the CPUs, in seconds and credits: now, by day, or what a command and all its descendants do.
    Credits(Box<credits::Arguments>),
    /// What the journal holds of one stream: records as they stand there, as text, JSON or CSV.
    Show(Box<show::Arguments>),
    /// Is the journal whole?
    Verify(verify::Arguments),
    /// The config: as it is in force here, as it is by default, or whether a file is right.
    Config(config::Arguments),
    /// What psmon can see on this machine, what it loses where it cannot, and the mend.
    Doctor(doctor::Arguments),
}

/// What a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Yes,
    /// Nothing matched, or something is damaged.
    No,
    /// What a command that psmon ran answered, or why it could not be run.
    Status(u8),
}

/// Why a command could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the config is wrong.
    #[error("{0}")]
    Config(String),
    /// The system refused.
    #[error("{0}")]
    System(String),
    /// There can never be anything to do: whoever started psmon need not do so again.
    #[error("{0}")]
    Never(String),
    /// Nobody reads what we write: no reason to complain.
    #[error("standard output was closed")]
    Closed,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::System(error.to_string()) }
    }
}

/// The program: parses the command line, runs, answers with the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match arguments.command {
        Command::Ps(arguments) => ps::run(&arguments, &mut out),
        Command::Pss(arguments) => pss::run(&arguments, &mut out),
        Command::Usage(arguments) => usage::run(&arguments, &mut out),
        Command::Events(arguments) => events::run(&arguments, &mut out),
        Command::Exits(arguments) => exits::run(&arguments, &mut out),
        Command::Explain(arguments) => explain::run(&arguments, &mut out),
        Command::Credits(arguments) => credits::run(&arguments, &mut out),
        Command::Show(arguments) => show::run(&arguments, &mut out),
        Command::Verify(arguments) => verify::run(&arguments, &mut out),
        Command::Config(arguments) => config::run(&arguments, &mut out),
        Command::Doctor(arguments) => doctor::run(&arguments, &mut out),
    };
    match result.and_then(|answer| Ok(out.flush().map(|()| answer)?)) {
        Ok(Answer::Yes) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Status(status)) => ExitCode::from(status),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(match failure {
                Failure::Config(_) => 2,
                Failure::Never(_) => 13,
                Failure::System(_) | Failure::Closed => 3,
            })
        }
    }
}

/// Opens `/proc`.
///
/// # Errors
/// It could not be opened.
fn open_proc(path: &Path) -> Result<Proc, Failure> {
    Proc::open(path).map_err(|error| {
        Failure::System(format!("{} could not be opened: {error}. Mount it, or there is nothing to show.", path.display()))
    })
}

/// What a command says besides its answer; that nobody listens is no reason to panic.
fn complain(what: &impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "psmon: {what}");
}
