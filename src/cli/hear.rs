//! Where a view gets what happened: rows of the streams without samples. A view asks a [`Hear`] and cannot tell whether they
//! come from the kernel or from the journal.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use super::said::Said;
use super::{Failure, ending};
use crate::observer::beat::Cadence;
use crate::observer::drain::Ears;
use crate::observer::samplers::{events, exits, ps};
use crate::observer::thread::{Observer, Orders, Output, Start, Take};
use crate::record::flush::{Flush, TimedRow};
use crate::record::ledger::NoteKind;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::wanted::FullWanted;
use crate::source::limits;
use crate::source::procdir::Proc;

/// Receive buffer of the connector: what psmond asks for too.
pub(super) const BUFFER: usize = 32 << 20;
/// How often everyone who ran is looked at: some changes raise no event.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often everyone is looked at.
pub(super) const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(600);
/// Flushes that may wait for the view; beyond that the observer keeps some and counts the rest.
const WAITING: usize = 64;
/// How long its first look is waited for; one process that does not answer holds it up for a second.
const FIRST_LOOK: Duration = Duration::from_secs(6);
/// How long the end of the observer is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Something that tells what happened.
pub trait Hear {
    /// The next that is told, or that this moment has come.
    fn hear(&mut self, until: Option<Instant>) -> Heard;
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// Rows, or that some are missing.
    Told(Told),
    /// Nothing, and the moment has come.
    Due,
    /// Nothing more will come.
    End(Ended),
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The time is over.
    Time,
    /// Somebody said so.
    Told,
}

/// Rows of one stream, in order.
#[derive(Debug)]
pub struct Told {
    /// Which.
    pub stream: Stream,
    /// The rows.
    pub rows: Vec<TimedRow>,
    /// What was lost until here and not said before.
    pub lost: Lost,
}

/// What was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events the kernel could not deliver.
    pub events: u64,
    /// Exit records it could not deliver.
    pub records: u64,
    /// Rows that whoever reads the view was too slow for.
    pub rows: u64,
}

/// What is wanted of the kernel.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which events, and of them what.
    pub events: Option<events::Selection>,
    /// What of obituaries.
    pub exits: Option<exits::Selection>,
    /// How long rows are collected.
    pub flush_every: Duration,
    /// When to end; `None` goes on for ever.
    pub duration: Option<Duration>,
}

enum Message {
    Flush(Box<Flush>),
    Stopped,
    /// A signal came, or nobody reads any more.
    End,
}

/// The kernel, now.
pub struct Live {
    observer: Observer,
    messages: Receiver<Message>,
    /// What came while the view was made.
    first: Option<Box<Flush>>,
    /// Why there are no exit records, where there are none.
    pub no_records: Option<String>,
    end: Option<Instant>,
    /// Told to stop, why, and how long its last words are waited for.
    stopping: Option<(Ended, Instant)>,
    stopped: bool,
    told: Lost,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("end", &self.end).field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

impl Live {
    /// Begins to listen.
    ///
    /// # Errors
    /// There are no events here, and why.
    pub fn open(proc: &Arc<Proc>, said: Said, wanted: Wanted) -> Result<Self, Failure> {
        let (tell, messages) = mpsc::sync_channel(WAITING);
        // From here on a signal ends the view, and not psmon in the middle of a line.
        let ends = tell.clone();
        ending::on_signal(proc, move || ends.send(Message::End).is_ok())?;
        let live = Self::listen(proc, said, wanted, limits::raise_open_files(), (tell.clone(), messages))?;
        ending::on_unread(move || {
            let _ = tell.send(Message::End);
        });
        Ok(live)
    }

    /// Begins to listen for whoever ends it himself, and starts others: no signal ends it, nor that nobody reads standard output,
    /// and the limits that a child inherits stay as they are.
    ///
    /// # Errors
    /// There are no events here, and why.
    pub fn open_beside(proc: &Arc<Proc>, said: Said, wanted: Wanted) -> Result<Self, Failure> {
        Self::listen(proc, said, wanted, limits::open_files(), mpsc::sync_channel(WAITING))
    }

    fn listen(
        proc: &Arc<Proc>,
        said: Said,
        wanted: Wanted,
        open_files: u64,
        (tell, messages): (SyncSender<Message>, Receiver<Message>),
    ) -> Result<Self, Failure> {
        if !proc.is_native() {
            return Err(Failure::System(format!("there are no events: {} is not the machine's own /proc", proc.path().display())));
        }
        let ears = Ears::open(proc, BUFFER)
            .map_err(|error| Failure::System(format!("there are no events: {error}. psmon doctor names the mend.")))?;
        let no_records = ears.deaf_to_exits.as_ref().map(ToString::to_string);
        let may_keep = usize::try_from(open_files.saturating_sub(64)).unwrap_or(0);
        let start = Start { proc: Arc::clone(proc), may_keep, ears: Ok(ears), past: Vec::new(), carried: None };
        let end = wanted.duration.and_then(|duration| Instant::now().checked_add(duration));
        let observer = Observer::start(start, orders(said, wanted)?, Arc::new(FullWanted::default()), taker(tell))
            .map_err(|error| Failure::System(format!("a thread could not be started: {error}")))?;
        let mut live = Self { observer, messages, first: None, no_records, end, stopping: None, stopped: false, told: Lost::default() };
        live.await_first_look();
        Ok(live)
    }

    /// The observer first looks at everybody, and says so with a tick: before that not even the users of processes are known,
    /// nor those of their children.
    fn await_first_look(&mut self) {
        let until = Instant::now() + FIRST_LOOK;
        match self.receive(Some(until.min(self.end.unwrap_or(until)))) {
            Ok(Message::Flush(flush)) => self.first = Some(flush),
            Ok(Message::End) => self.stop(Ended::Told),
            Ok(Message::Stopped) => self.stopped = true,
            Err(_) => {}
        }
    }

    fn stop(&mut self, why: Ended) {
        if self.stopping.is_none() {
            self.observer.stop();
            self.stopping = Some((why, Instant::now() + PATIENCE));
        }
    }

    fn receive(&self, limit: Option<Instant>) -> Result<Message, RecvTimeoutError> {
        match limit {
            Some(limit) => self.messages.recv_timeout(limit.saturating_duration_since(Instant::now())),
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }
}

impl Hear for Live {
    fn hear(&mut self, until: Option<Instant>) -> Heard {
        loop {
            if self.stopped {
                return Heard::End(self.stopping.map_or(Ended::Told, |(why, _)| why));
            }
            if self.end.is_some_and(|end| Instant::now() >= end) {
                self.stop(Ended::Time);
            }
            if let Some(told) = self.first.take().and_then(|flush| told(*flush, &mut self.told)) {
                return Heard::Told(told);
            }
            let limit = match self.stopping {
                Some((_, limit)) => Some(limit),
                None => until.into_iter().chain(self.end).min(),
            };
            match (self.receive(limit), self.stopping) {
                (Ok(Message::Flush(flush)), _) => {
                    if let Some(told) = told(*flush, &mut self.told) {
                        return Heard::Told(told);
                    }
                }
                (Ok(Message::End), _) => self.stop(Ended::Told),
                (Err(RecvTimeoutError::Timeout), None) => {
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return Heard::Due;
                    }
                }
                (Ok(Message::Stopped) | Err(_), _) => self.stopped = true,
            }
        }
    }
}

impl Drop for Live {
    /// Older kernels go on telling for ever unless they are told to stop, so its end is waited for whatever ended the view.
    fn drop(&mut self) {
        self.stop(Ended::Told);
        while !self.stopped {
            let limit = self.stopping.map(|(_, limit)| limit);
            self.stopped = matches!(self.receive(limit), Ok(Message::Stopped) | Err(_));
        }
    }
}

/// What a flush tells; `None` where that is nothing.
fn told(flush: Flush, said: &mut Lost) -> Option<Told> {
    // Every tick states what was lost since the start.
    let grown = |name: &str, said: &mut u64| {
        let field = flush.tick.iter().flatten().find(|(key, _)| *key == name);
        let now = field.and_then(|(_, count)| count.parse().ok()).unwrap_or(0).max(*said);
        now - std::mem::replace(said, now)
    };
    let gaps = flush.notes.iter().filter(|note| note.kind == NoteKind::Gap);
    let lost = Lost {
        events: grown("lost", &mut said.events),
        records: grown("records_lost", &mut said.records),
        rows: gaps.filter_map(|note| note.text.split(' ').find_map(|pair| pair.strip_prefix("rows=")?.parse::<u64>().ok())).sum(),
    };
    (!flush.rows.is_empty() || lost != Lost::default()).then_some(Told { stream: flush.stream, rows: flush.rows, lost })
}

fn orders(said: Said, wanted: Wanted) -> Result<Orders, Failure> {
    Ok(Orders { events: wanted.events, exits: wanted.exits, flush_every: wanted.flush_every, ..looks_only(said)? })
}

/// An observer that keeps its table true, and hands on nothing that a view is about.
///
/// # Errors
/// The schema has no pid.
pub(super) fn looks_only(said: Said) -> Result<Orders, Failure> {
    let columns = Columns::for_view(Stream::Ps, &["pid"]).map_err(|error| Failure::System(error.to_string()))?;
    Ok(Orders {
        usage: None,
        credits: None,
        // Nobody sees these samples; they keep the table true about what raises no event: a rewritten title, a terminal, a group.
        ps: Some(Cadence { interval: LOOK_EVERY, changes: true, full_every: LOOK_AT_ALL_EVERY }),
        selection: ps::Selection { kthreads: false, interactive: true, own_pid: None, columns, sort: Vec::new() },
        pss: None,
        scrubber: said.scrubber,
        programs: said.programs,
        events: None,
        exits: None,
        alerts: None,
        flush_every: Duration::from_secs(1),
    })
}

/// What finds no room is given back: the observer keeps it for a while, and says what it could not keep.
fn taker(tell: SyncSender<Message>) -> Take {
    Box::new(move |output| match output {
        Output::Flush(flush) => match tell.try_send(Message::Flush(flush)) {
            Err(TrySendError::Full(Message::Flush(flush))) => Err(Output::Flush(flush)),
            _ => Ok(()),
        },
        // The last word may wait: nothing is observed any more.
        Output::Stopped => {
            let _ = tell.send(Message::Stopped);
            Ok(())
        }
        Output::Sample(_) | Output::Census(_) | Output::Reloaded(_) => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ledger::{Facts, Note};
    use crate::record::moment::Moment;

    #[test]
    fn a_loss_is_told_once() {
        let due = Moment { unix_ns: 0, offset_s: 0 };
        let text = String::new;
        let facts = Facts { host: text(), boot: text(), pidns: text(), tz: text(), hz: 100, page: 4096, cpus: 2, version: text() };
        let flush = |tick: Option<&[(&'static str, &str)]>, notes: Vec<Note>| Flush {
            stream: Stream::Events,
            facts: Arc::new(facts.clone()),
            columns: Columns::standard(Stream::Events),
            due,
            rows: Vec::new(),
            tick: tick.map(|fields| fields.iter().map(|(key, count)| (*key, (*count).to_owned())).collect()),
            notes,
        };
        let mut said = Lost::default();
        let mut lost = |tick, notes| told(flush(tick, notes), &mut said).map(|told| told.lost);
        assert_eq!(lost(Some(&[("lost", "0"), ("records_lost", "0")]), Vec::new()), None);
        assert_eq!(lost(Some(&[("lost", "7"), ("records_lost", "2")]), Vec::new()), Some(Lost { events: 7, records: 2, rows: 0 }));
        // The same tick stands in both streams.
        assert_eq!(lost(Some(&[("lost", "7"), ("records_lost", "2")]), Vec::new()), None);
        assert_eq!(lost(Some(&[("lost", "9"), ("records_lost", "2")]), Vec::new()), Some(Lost { events: 2, records: 0, rows: 0 }));
        let gap = Note::new(due, NoteKind::Gap).with("rows", 40).with("why", "queue");
        assert_eq!(lost(None, vec![gap]), Some(Lost { events: 0, records: 0, rows: 40 }));
    }
}
