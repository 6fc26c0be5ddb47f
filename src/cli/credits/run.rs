//! `psmon credits --run`: a command and all its descendants.
//!
//! psmon listens before it starts the command, and is the subreaper of all that comes of it: who is orphaned becomes its child, so
//! that the kernel itself says when nobody is left (wait4(2)'s ECHILD), whatever was lost until then.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::Arguments;
use super::again;
use super::bill::{Truth, add_up};
use super::command::{self, Signals};
use super::descent::{Descent, event_columns, obituary_columns};
use super::early::is_same_start;
use super::living::{self, Living};
use super::reaper::{self, Reaped};
use super::report::Report;
use crate::cli::hear::{Ended, Hear as _, Heard, Live, Lost, Wanted};
use crate::cli::said::{Said, said};
use crate::cli::{Answer, Failure, complain, open_proc, table};
use crate::observer::obituary::Status;
use crate::observer::samplers::{events, exits};
use crate::record::event::EventKind;
use crate::source::procdir::Proc;
use crate::source::{status, wait};

/// psmon itself failed: as env(1), time(1) and timeout(1) have it.
const FAILED: u8 = 125;
/// How long events and obituaries are collected.
const COLLECT: Duration = Duration::from_millis(20);
/// How often it is looked who ended, and whether a signal came.
const TURN: Duration = Duration::from_millis(20);
/// How long what is still to be told of those who ended is waited for while nothing is told of them, and in all.
const PATIENCE: [Duration; 2] = [Duration::from_millis(1500), Duration::from_secs(10)];
/// A Ctrl-C goes to all of a terminal's foreground: the one that ended the command is none that wants psmon to end.
const SAME_KEY: Duration = Duration::from_millis(200);

/// Runs the command, and answers with its status.
#[must_use]
pub fn run(arguments: &Arguments) -> Answer {
    Answer::Status(watch(arguments).unwrap_or_else(|failure| {
        complain(&failure);
        FAILED
    }))
}

fn watch(arguments: &Arguments) -> Result<u8, Failure> {
    let said = said(arguments.config.as_deref())?;
    let proc = Arc::new(open_proc("/proc".as_ref())?);
    let signals = Signals::hear(&proc).map_err(|error| Failure::System(format!("signals could not be caught: {error}")))?;
    if wait::has_children() {
        return again::run(&signals).map_err(|error| Failure::System(format!("psmon could not be started again: {error}")));
    }
    // Before the command, which may take hours.
    let file = match &arguments.output {
        None => None,
        Some(path) => {
            Some(File::create(path).map_err(|error| Failure::System(format!("{} could not be written: {error}", path.display())))?)
        }
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failure::System(format!("orphans could not be had (PR_SET_CHILD_SUBREAPER): {error}")))?;
    let (feed, truth, why) = listen(&proc, said)?;
    let mut notes: Vec<String> = why.into_iter().collect();
    let began = Instant::now();
    let pid = match command::start(&arguments.command) {
        Ok(pid) => pid,
        Err((status, why)) => {
            complain(&why);
            return Ok(status);
        }
    };
    let reaped = reaper::start(Arc::clone(&proc)).map_err(|error| Failure::System(format!("a thread could not be started: {error}")))?;
    let descent = Descent::new(std::process::id(), &event_columns()?);
    // Until its execution the command had our memory, and wait4(2) remembers the largest it ever had.
    let own_rss = proc.read("self/status").ok().and_then(|text| status::parse(&text).peak_rss).unwrap_or(0);
    let mut watch = Watch { proc, feed, truth, reaped, descent, pid, own_rss, ended: None, last: began, all_ended: false };
    let signal = watch.wait(arguments.no_wait, &signals);
    let told_until = if watch.all_ended || signal.is_none() && arguments.no_wait { watch.last } else { Instant::now() };
    let living = watch.settle()?;
    // The end of the feed is waited for at last.
    let Watch { descent, truth, ended, feed: _feed, .. } = watch;
    notes.extend(losses(truth, &descent));
    let bill = add_up(truth, &descent.lives, &living, rustix::param::clock_ticks_per_second());
    if bill.missing > 0 {
        let ended = table::count(bill.missing, "process", "processes");
        notes.push(format!("{ended} ended without a record: what they used is in the sum as far as wait4(2) tells it"));
    }
    if file.is_some() {
        notes.iter().for_each(complain);
    }
    let wall = told_until.saturating_duration_since(began);
    let report = Report { words: &arguments.command, status: ended, wall, bill, living, truth, notes };
    tell(&report, arguments, file);
    Ok(match (ended, signal) {
        (_, Some(signal)) => signal.saturating_add(128),
        (Some(status), None) => command::exit_status(status),
        (None, None) => FAILED,
    })
}

/// Begins to listen, where that may be; else says in a sentence what is not known then, and what would mend it.
fn listen(proc: &Arc<Proc>, said: Said) -> Result<(Option<Live>, Truth, Option<String>), Failure> {
    const MEND: &str = "CPU is as wait4(2) tells it, without the children of those who ignore SIGCHLD, and stands with those who \
                        waited; with CAP_NET_ADMIN (as root) psmon has it all";
    let wanted = Wanted {
        events: Some(events::Selection {
            kinds: [EventKind::Fork, EventKind::Exit].into_iter().collect(),
            max_rows_per_s: u32::MAX,
            include: Vec::new(),
            exclude: Vec::new(),
            columns: event_columns()?,
        }),
        exits: Some(exits::Selection { max_rows_per_s: u32::MAX, columns: obituary_columns()? }),
        flush_every: COLLECT,
        duration: None,
    };
    Ok(match Live::open_beside(proc, said, wanted) {
        Ok(live) => match live.no_records.clone() {
            None => (Some(live), Truth::Records, None),
            Some(why) => (Some(live), Truth::Births, Some(format!("there are no exit records ({why}). {MEND}"))),
        },
        Err(failure @ (Failure::Config(_) | Failure::Closed | Failure::Never(_))) => return Err(failure),
        Err(Failure::System(why)) => {
            let why = why.split(". ").next().unwrap_or_default().to_owned();
            (None, Truth::Orphans, Some(format!("{why}. Of the processes those are counted that came to psmon; {MEND}")))
        }
    })
}

struct Watch {
    proc: Arc<Proc>,
    feed: Option<Live>,
    truth: Truth,
    reaped: Receiver<Reaped>,
    descent: Descent,
    /// The command.
    pid: u32,
    /// Our own largest resident memory when it was started.
    own_rss: u64,
    /// How it ended.
    ended: Option<Status>,
    /// When the last of those that were waited for ended.
    last: Instant,
    /// Nobody is left.
    all_ended: bool,
}

impl Watch {
    /// Until the command has ended, and all its descendants where that is wanted; or a signal comes, which is answered.
    fn wait(&mut self, no_wait: bool, signals: &Signals) -> Option<u8> {
        loop {
            self.turn();
            if let Some(signal) = signals.end() {
                return Some(signal);
            }
            if self.all_ended || (no_wait && self.ended.is_some()) {
                return None;
            }
            let interrupted = signals.take_interrupt();
            if interrupted && self.ended.is_some() && self.last.elapsed() > SAME_KEY {
                return None;
            }
        }
    }

    /// Hears for a moment who was born, who ended, and who came.
    fn turn(&mut self) {
        match &mut self.feed {
            Some(feed) => match feed.hear(Some(Instant::now() + TURN)) {
                Heard::Told(told) => self.descent.hear(&told),
                Heard::Due => {}
                Heard::End(Ended::Time | Ended::Told) => {
                    complain(&"events come no more: what was not told until now is known from wait4(2)");
                    self.feed = None;
                }
            },
            None => match self.reaped.recv_timeout(TURN) {
                Ok(reaped) => self.take(reaped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.all_ended => thread::sleep(TURN),
                Err(RecvTimeoutError::Disconnected) => self.all_ended = true,
            },
        }
        loop {
            match self.reaped.try_recv() {
                Ok(reaped) => self.take(reaped),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.all_ended = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, mut reaped: Reaped) {
        if reaped.pid == self.pid && self.ended.is_none() {
            self.ended = Some(reaped.status);
            if reaped.used.max_rss <= self.own_rss {
                reaped.used.max_rss = 0;
            }
        }
        self.last = reaped.at;
        self.descent.reaped(reaped);
    }

    /// Waits for what is still to be told of those who ended, and says who lives.
    fn settle(&mut self) -> Result<Vec<Living>, Failure> {
        let began = Instant::now();
        let (mut heard, mut since) = (self.descent.heard, began);
        loop {
            let living = if self.all_ended { Vec::new() } else { living::find(&self.proc, std::process::id())? };
            let lives_on = |pid: u32, start: Option<u64>| living.iter().any(|one| one.pid == pid && is_same_start(start, Some(one.start)));
            let settled = self.feed.is_none() || self.descent.is_settled(self.truth == Truth::Records, lives_on);
            if heard != self.descent.heard {
                (heard, since) = (self.descent.heard, Instant::now());
            }
            let [quiet, longest] = PATIENCE;
            if settled || since.elapsed() >= quiet || began.elapsed() >= longest {
                self.descent.close();
                return Ok(living.into_iter().filter(|one| !self.descent.is_buried(one.pid, one.start)).collect());
            }
            self.turn();
        }
    }
}

fn losses(truth: Truth, descent: &Descent) -> Vec<String> {
    let Lost { events, records, rows } = descent.lost;
    let lost = [
        (events, "events: the kernel's buffer was full"),
        (records, "exit records: the kernel's buffers were full"),
        (rows, "rows: psmon was too slow"),
    ];
    let mut notes: Vec<String> = lost.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("lost {count} {what}")).collect();
    if descent.unborn > 0 && truth != Truth::Orphans {
        notes.push(format!("{} births were not told, and are known from the ends", descent.unborn));
    }
    notes
}

/// Tells it, wherever that is wanted. The command has run, whatever becomes of its report.
fn tell(report: &Report<'_>, arguments: &Arguments, file: Option<File>) {
    let write = |out: &mut dyn Write| -> io::Result<()> {
        let mut text = Vec::new();
        if arguments.json { report.print_json(&mut text) } else { report.print(&mut text) }?;
        // At once: the descendants who still live may write there too.
        out.write_all(&text)
    };
    let written = match (file, &arguments.output) {
        (Some(mut file), Some(path)) => write(&mut file).map_err(|error| format!("{} could not be written: {error}", path.display())),
        _ => write(&mut io::stderr()).map_err(|error| error.to_string()),
    };
    if let Err(why) = written {
        complain(&why);
    }
}
