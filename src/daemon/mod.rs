//! psmond: joins the rooms. Start-up is the list in [`run`]; stopping is the same list from its end.
//!
//! * [`arguments`]: the command line.
//! * [`log`]: the daemon's own lines.
//! * [`orders`]: what the config means to the observer and to the journal.
//! * [`sink`]: where samples go: the journal, or standard output.
//! * [`supervise`]: signals, config watch, reload, watchdog; a small tokio runtime that never touches a record.
//! * [`notify`]: what systemd is told.

pub mod arguments;
pub mod log;
pub mod notify;
pub mod orders;
pub mod sink;
pub mod supervise;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use crate::config::{self, Loaded, Sources};
use crate::journal::buried::{self, Past};
use crate::journal::directory::{Directory, DirectoryError};
use crate::journal::lock::LockError;
use crate::journal::own_log::OwnLog;
use crate::journal::writer::Journal;
use crate::observer::drain::Ears;
use crate::observer::thread::{Observer, Start};
use crate::record::identity::Domain;
use crate::record::ledger::{Note, NoteKind};
use crate::record::wanted::FullWanted;
use crate::source::clock::Wall;
use crate::source::host::Machine;
use crate::source::procdir::Proc;
use crate::source::{limits, mounts, users};
use arguments::{Arguments, IfRunning};
use sink::{Pending, Sink};
use supervise::{Heart, Supervisor};

/// Descriptors that are not spent on kept `stat` files: journal, sockets, config, what readers open.
const FDS_KEPT_BACK: u64 = 64;

/// Why psmond ended otherwise than it was told to; each is an exit status of its own.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is no.
    #[error("{0}")]
    No(String),
    /// The command line or the config is wrong.
    #[error("{0}")]
    Config(String),
    /// The system refused.
    #[error("{0}")]
    System(String),
}

impl Failure {
    const fn status(&self) -> u8 {
        match self {
            Self::No(_) => 1,
            Self::Config(_) => 2,
            Self::System(_) => 3,
        }
    }
}

/// The program: parses the command line, runs, answers with the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.status())
        }
    }
}

/// The last words of a daemon that does not run; that nobody listens is no reason to panic.
fn complain(failure: &Failure) {
    let _ = writeln!(std::io::stderr(), "psmond: {failure}");
}

/// The answer to `--check`.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Runs until a signal ends it.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sources = Sources::new(arguments.config.clone(), arguments.overrides());
    let loaded = config::load(&sources).map_err(|error| Failure::Config(error.to_string()))?;
    if arguments.check {
        for warning in &loaded.warnings {
            say(&format!("warning: {warning}"));
        }
        say(&loaded.verdict());
        return Ok(());
    }
    let own_log = OwnLog::default();
    let stream = arguments.stream();
    let _guard = log::start(own_log.clone(), stream.is_some());
    for warning in &loaded.warnings {
        tracing::warn!(target: "config", "{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(|error| Failure::System(format!("the runtime could not be started: {error}")))?;
    // From here on a signal waits until it can be obeyed: a HUP or TERM that comes early does not kill.
    let signals = supervise::signals(&runtime)?;
    let proc = open_proc(&arguments.proc)?;
    prepare_process(&loaded);
    let may_keep = usize::try_from(limits::raise_open_files().saturating_sub(FDS_KEPT_BACK)).unwrap_or(0);
    let scrubber = orders::scrubber(&loaded.settings).map_err(|error| Failure::Config(error.to_string()))?;
    let orders = orders::observer(&loaded.settings, scrubber, stream).map_err(|error| Failure::Config(error.to_string()))?;
    let full_wanted = Arc::new(FullWanted::default());
    let pending = Pending::default();
    let (ended, watch_end) = tokio::sync::mpsc::unbounded_channel();
    let no_thread = |error: std::io::Error| Failure::System(format!("a thread could not be started: {error}"));
    let (sink, ears, past) = match stream {
        Some(stream) => {
            let ears = listen(&proc, &loaded);
            (
                Sink::pipe(stream, &loaded.settings, start_note(), ended.clone()).map_err(no_thread)?,
                ears,
                (Vec::new(), None),
            )
        }
        None => {
            let Some(directory) = open_directory(arguments, &loaded)? else { return Ok(()) };
            let machine = Machine::read(&proc);
            let domain = Domain { boot_id: machine.boot_id, pidns: machine.pidns };
            // Only who holds the lock listens; and the count of births begins where that of the recorder before ends.
            let ears = listen(&proc, &loaded);
            let past = buried::past(directory.path(), &domain);
            let note = past_note(start_note(), past.as_ref(), ears.as_ref().ok().and_then(|ears| ears.born_before));
            let journal = Journal::start(directory, orders::journal(&loaded.settings), domain, own_log, Arc::clone(&full_wanted), note)
                .map_err(no_thread)?;
            let known = past.map(|past| (if past.same_domain { past.alive } else { Vec::new() }, past.carried)).unwrap_or_default();
            (Sink::journal(journal, Arc::clone(&pending)).map_err(no_thread)?, ears, known)
        }
    };
    let hears = ears.is_ok();
    let take = sink.taker(ended);
    let (past, carried) = past;
    let start = Start { proc: Arc::clone(&proc), may_keep, ears, past, carried };
    let observer = Observer::start(start, orders, full_wanted, take).map_err(no_thread)?;
    let supervisor =
        Supervisor { observer, sink, sources, loaded, pending, ended: watch_end, to_stdout: stream, hears, heart: Heart::default() };
    runtime.block_on(supervisor.run(signals))
}

/// Begins to listen to the kernel, or says why that cannot be: psmond records what it can without.
fn listen(proc: &Proc, loaded: &Loaded) -> Result<Ears, String> {
    if !proc.is_native() {
        return Err(format!("{} is not the machine's own /proc", proc.path().display()));
    }
    let buffer = usize::try_from(loaded.settings.events.buffer).unwrap_or(usize::MAX);
    let ears = Ears::open(proc, buffer).map_err(|error| error.to_string());
    match &ears {
        Ok(ears) => {
            if let Some(why) = &ears.deaf_to_exits {
                tracing::warn!(target: "observer", "There are no exit records ({why}): what processes used that lived between two samples is not known. psmon doctor names the mend.");
            }
        }
        Err(why) => {
            tracing::warn!(target: "observer", "There are no events ({why}): births and ends are found by comparing samples, and whoever lived between two is not known. psmon doctor names the mend.");
        }
    }
    ears
}

/// What the start note says of the recorder before: who lived then, and how many were born that nobody saw.
fn past_note(note: Note, past: Option<&Past>, born: Option<u64>) -> Note {
    let Some(past) = past else { return note };
    let note = note.with("alive_before", past.alive.len());
    if !past.same_domain {
        return note.with("domain", "another");
    }
    match (past.processes, born) {
        (Some(before), Some(now)) => note.with("unseen_births", now.saturating_sub(before)),
        _ => note.with("unseen_births", "?"),
    }
}

fn open_proc(path: &Path) -> Result<Arc<Proc>, Failure> {
    let proc = Proc::open(path).map_err(|error| {
        Failure::System(format!("{} could not be opened: {error}. Without it there is nothing to record: mount it.", path.display()))
    })?;
    let mut pids = Vec::new();
    proc.list(&mut pids).map_err(|error| Failure::System(format!("{} could not be listed: {error}.", path.display())))?;
    if proc.is_native() && !pids.contains(&1) {
        let why = mounts::hides(path).unwrap_or_else(|| "only some are listed".to_owned());
        tracing::warn!(
            target: "source",
            "{} hides processes ({why}): those of other users are not recorded. CAP_SYS_PTRACE or the mount's gid= would show them.",
            path.display()
        );
    }
    Ok(Arc::new(proc))
}

fn prepare_process(loaded: &Loaded) {
    if loaded.settings.mlock {
        match limits::lock_memory() {
            Ok(()) => tracing::info!(target: "daemon", "All memory is locked."),
            Err(error) => {
                tracing::warn!(target: "daemon", "Memory could not be locked: {error}. It may be swapped out under pressure; raise LimitMEMLOCK or give CAP_IPC_LOCK.");
            }
        }
    }
}

fn start_note() -> Note {
    Note::new(Wall::default().now(), NoteKind::Start).with("pid", std::process::id()).with("version", env!("CARGO_PKG_VERSION"))
}

/// Opens and locks the log directory; `None` where another psmond runs and that is well.
fn open_directory(arguments: &Arguments, loaded: &Loaded) -> Result<Option<Directory>, Failure> {
    let settings = &loaded.settings;
    let directory = match Directory::open(&settings.log_dir, log_group()) {
        Ok(directory) => directory,
        Err(DirectoryError::Lock { error: LockError::Held(_), .. }) if arguments.if_running == IfRunning::Ok => return Ok(None),
        Err(error @ DirectoryError::Lock { error: LockError::Held(_), .. }) => return Err(Failure::No(error.to_string())),
        Err(error) => return Err(Failure::System(error.to_string())),
    };
    if settings.log_dir_is_fallback {
        tracing::info!(target: "daemon", "The config's log directory cannot be written by this user: recording into {} instead.", settings.log_dir.display());
    }
    Ok(Some(directory))
}

/// Who may read the journal besides us.
#[must_use]
pub fn log_group() -> Option<u32> {
    users::group_id("adm").or_else(|| users::group_id("psmon"))
}
