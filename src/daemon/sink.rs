//! Where samples go: into the journal, or to standard output.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::orders;
use crate::config::Settings;
use crate::journal::pipe::Pipe;
use crate::journal::writer::{Journal, Offer, Reload};
use crate::observer::thread::{Output, Take};
use crate::record::flush::Flush;
use crate::record::ledger::Note;
use crate::record::sample::Sample;
use crate::record::stream::Stream;

/// Reloads that the observer has not yet come to, by number.
pub type Pending = Arc<Mutex<BTreeMap<u64, Reload>>>;

/// Why a part of the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The observer, after the last it had to say.
    Observer,
    /// The reader of our standard output went away.
    Pipe,
}

/// Samples that may wait for a slow reader of our standard output.
const QUEUE: usize = 64;

/// Where samples go.
#[derive(Debug)]
pub enum Sink {
    /// Into the journal.
    Journal(Journal, Pending),
    /// To standard output, by a thread of its own.
    Pipe(SyncSender<PipeItem>, Arc<std::sync::atomic::AtomicBool>),
}

/// What the thread of the pipe is told.
#[derive(Debug)]
pub enum PipeItem {
    /// A sample.
    Sample(Box<Sample>),
    /// A flush of a stream without samples.
    Flush(Box<Flush>),
    /// A note.
    Note(Note),
    /// New settings.
    Settings(Box<Settings>),
    /// Nothing comes after this.
    Stop(Note),
}

impl Sink {
    /// Into the journal.
    ///
    /// # Errors
    /// None; both ways to make a sink answer alike.
    pub const fn journal(journal: Journal, pending: Pending) -> io::Result<Self> {
        Ok(Self::Journal(journal, pending))
    }

    /// To standard output.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn pipe(stream: Stream, settings: &Settings, note: Note, ended: UnboundedSender<Ended>) -> io::Result<Self> {
        let (items, inbox) = mpsc::sync_channel(QUEUE);
        let mut pipe = Pipe::new(io::stdout(), stream, orders::format(settings), settings.ps.sampled.thresholds.clone());
        pipe.note(note);
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let for_thread = Arc::clone(&done);
        thread::Builder::new().name("writer".to_owned()).spawn(move || {
            for item in inbox {
                let written = match item {
                    PipeItem::Sample(sample) => pipe.sample(*sample),
                    PipeItem::Flush(flush) => pipe.flush(*flush),
                    PipeItem::Note(note) => {
                        pipe.note(note);
                        Ok(())
                    }
                    PipeItem::Settings(settings) => {
                        pipe.reload(orders::format(&settings), settings.ps.sampled.thresholds);
                        Ok(())
                    }
                    PipeItem::Stop(note) => {
                        pipe.note(note);
                        let _ = pipe.finish();
                        break;
                    }
                };
                if let Err(error) = written {
                    if error.kind() != io::ErrorKind::BrokenPipe {
                        tracing::error!(target: "daemon", "Standard output takes no more: {error}. Recording ends.");
                    }
                    let _ = ended.send(Ended::Pipe);
                    break;
                }
            }
            for_thread.store(true, std::sync::atomic::Ordering::Release);
        })?;
        Ok(Self::Pipe(items, done))
    }

    /// What the observer hands its samples to. It never waits.
    #[must_use]
    pub fn taker(&self, ended: UnboundedSender<Ended>) -> Take {
        match self {
            Self::Journal(journal, pending) => {
                let (offer, pending) = (journal.offer(), Arc::clone(pending));
                Box::new(move |output| take_for_journal(&offer, &pending, &ended, output))
            }
            Self::Pipe(items, _) => {
                let items = items.clone();
                Box::new(move |output| {
                    let item = match output {
                        Output::Sample(sample) => PipeItem::Sample(sample),
                        Output::Flush(flush) => PipeItem::Flush(flush),
                        Output::Census(_) | Output::Reloaded(_) => return Ok(()),
                        Output::Stopped => {
                            let _ = ended.send(Ended::Observer);
                            return Ok(());
                        }
                    };
                    match items.try_send(item) {
                        Err(TrySendError::Full(PipeItem::Sample(sample))) => Err(Output::Sample(sample)),
                        Err(TrySendError::Full(PipeItem::Flush(flush))) => Err(Output::Flush(flush)),
                        _ => Ok(()),
                    }
                })
            }
        }
    }

    /// Writes a note.
    pub fn note(&self, note: Note) {
        match self {
            Self::Journal(journal, _) => journal.note(note),
            Self::Pipe(items, _) => drop(items.try_send(PipeItem::Note(note))),
        }
    }

    /// Takes a last note and ends.
    pub fn stop(&self, note: Note) {
        match self {
            Self::Journal(journal, _) => journal.stop(note),
            // A slow reader may have filled the queue: the word is brought when there is room, by a thread that may wait.
            Self::Pipe(items, _) => {
                let items = items.clone();
                drop(thread::Builder::new().name("stop".to_owned()).spawn(move || items.send(PipeItem::Stop(note))));
            }
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Journal(journal, _) => journal.is_finished(),
            Self::Pipe(_, done) => done.load(std::sync::atomic::Ordering::Acquire),
        }
    }

    /// For how long it has been in a call to the disk.
    #[must_use]
    pub fn busy_for(&self) -> Option<Duration> {
        match self {
            Self::Journal(journal, _) => journal.busy_for(),
            Self::Pipe(..) => None,
        }
    }
}

fn take_for_journal(offer: &Offer, pending: &Pending, ended: &UnboundedSender<Ended>, output: Output) -> Result<(), Output> {
    match output {
        Output::Sample(sample) => return offer.sample(sample).map_err(Output::Sample),
        Output::Flush(flush) => return offer.flush(flush).map_err(Output::Flush),
        Output::Census(census) => offer.census(census),
        Output::Reloaded(number) => {
            if let Some(reload) = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
                offer.reload(reload);
            }
        }
        Output::Stopped => {
            let _ = ended.send(Ended::Observer);
        }
    }
    Ok(())
}
