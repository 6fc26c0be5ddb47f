//! The writer as others hold it: what it is offered, and what it says of itself. The thread behind it owns every
//! file of the journal.
//!
//! It takes whole samples and flushes from a bounded queue, so that a disk that hangs holds up nobody; what does not
//! fit is counted by whoever offers it and noted here.
//!
//! * `obey`: the loop that obeys the [`Plan`](super::plan::Plan); `sample`, `flush`, `notes`: how each is written; `work`: what it is at.
//! * `adopt`: what a start finds; `live`: one live segment.

mod adopt;
mod flush;
#[cfg(test)]
mod flush_tests;
mod live;
mod notes;
mod obey;
mod sample;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::directory::Directory;
use super::encode::Format;
use super::own_log::OwnLog;
use super::plan::Keeping;
use crate::record::alive::Census;
use crate::record::flush::Flush;
use crate::record::identity::Domain;
use crate::record::ledger::Note;
use crate::record::sample::Sample;
use crate::record::stream::Stream;
use crate::record::wanted::FullWanted;

pub(super) use notes::lost_before;
use obey::Writer;

/// Samples and flushes that may wait for the disk.
const QUEUE: usize = 64;
/// A call to the disk that takes longer is noted.
const SLOW: Duration = Duration::from_secs(5);

/// How the journal is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How lines are written.
    pub format: Format,
    /// What makes a new row, by stream and column.
    pub thresholds: BTreeMap<Stream, BTreeMap<String, f64>>,
    /// How long what is kept.
    pub keeping: Keeping,
}

/// New settings, and how their taking effect is told.
pub struct Reload {
    /// The settings.
    pub settings: Settings,
    /// Another directory, opened and locked, if it changes.
    pub directory: Option<Directory>,
    /// The note for every live segment.
    pub note: Note,
    /// Called when it is done.
    pub done: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("settings", &self.settings).field("note", &self.note).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Item {
    Sample(Box<Sample>),
    Flush(Box<Flush>),
    Census(Census),
    Note(Note),
    Reload(Box<Reload>),
    Stop(Note),
}

/// The writer as the daemon holds it.
#[derive(Debug)]
pub struct Journal {
    items: Sender<Item>,
    queued: Arc<Queued>,
    busy: Arc<Busy>,
    thread: Option<JoinHandle<()>>,
}

/// Since when the writer is in a call to the disk.
#[derive(Debug, Default)]
struct Busy {
    since_ms: AtomicU64,
    epoch: std::sync::OnceLock<Instant>,
}

impl Busy {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }
}

/// A way to offer samples and flushes, for whoever makes them.
#[derive(Clone, Debug)]
pub struct Offer {
    items: Sender<Item>,
    queued: Arc<Queued>,
}

/// What waits for the writer: neither kind takes the other's room.
#[derive(Debug, Default)]
struct Queued {
    samples: AtomicUsize,
    flushes: AtomicUsize,
}

fn has_room(queued: &AtomicUsize) -> bool {
    let room = queued.fetch_add(1, Ordering::AcqRel) < QUEUE;
    if !room {
        queued.fetch_sub(1, Ordering::AcqRel);
    }
    room
}

impl Offer {
    /// Offers a sample. Never waits.
    ///
    /// # Errors
    /// The queue is full: here it is back.
    pub fn sample(&self, sample: Box<Sample>) -> Result<(), Box<Sample>> {
        if !has_room(&self.queued.samples) {
            return Err(sample);
        }
        let _ = self.items.send(Item::Sample(sample));
        Ok(())
    }

    /// Offers a flush of a stream without samples. Never waits.
    ///
    /// # Errors
    /// The queue is full: here it is back.
    pub fn flush(&self, flush: Box<Flush>) -> Result<(), Box<Flush>> {
        if !has_room(&self.queued.flushes) {
            return Err(flush);
        }
        // A writer that is gone takes nothing any more: the daemon is at its end.
        let _ = self.items.send(Item::Flush(flush));
        Ok(())
    }

    /// Hands on who is alive.
    pub fn census(&self, census: Census) {
        let _ = self.items.send(Item::Census(census));
    }

    /// Puts new settings in force, after all that was offered before.
    pub fn reload(&self, reload: Reload) {
        let _ = self.items.send(Item::Reload(Box::new(reload)));
    }
}

impl Journal {
    /// Goes on with what the directory holds, and starts the thread. `domain` is today's; `full_wanted` is
    /// how a full sample is asked for.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        directory: Directory,
        settings: Settings,
        domain: Domain,
        own_log: OwnLog,
        full_wanted: Arc<FullWanted>,
        note: Note,
    ) -> io::Result<Self> {
        let (items, inbox) = mpsc::channel();
        let queued = Arc::new(Queued::default());
        let busy = Arc::new(Busy::default());
        let (for_queue, busy_of_thread) = (Arc::clone(&queued), Arc::clone(&busy));
        let mut writer = Writer::new(directory, settings, domain, own_log, full_wanted, busy_of_thread)?;
        let thread = thread::Builder::new().name("writer".to_owned()).stack_size(512 * 1024).spawn(move || {
            writer.adopt();
            writer.expect(note);
            writer.run(&inbox, &for_queue);
        })?;
        Ok(Self { items, queued, busy, thread: Some(thread) })
    }

    /// A way to offer samples and flushes.
    #[must_use]
    pub fn offer(&self) -> Offer {
        Offer { items: self.items.clone(), queued: Arc::clone(&self.queued) }
    }

    /// Writes a note into every live segment.
    pub fn note(&self, note: Note) {
        let _ = self.items.send(Item::Note(note));
    }

    /// Writes this note, brings all to the disk, saves the state and ends.
    pub fn stop(&self, note: Note) {
        let _ = self.items.send(Item::Stop(note));
    }

    /// For how long the writer has been in a call to the disk; `None` while it is in none.
    #[must_use]
    pub fn busy_for(&self) -> Option<Duration> {
        match self.busy.since_ms.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_millis(self.busy.now_ms().saturating_sub(since))),
        }
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}
