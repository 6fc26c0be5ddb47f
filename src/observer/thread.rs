//! The observer as others hold it: its orders, what it says, and the thread that its loop runs on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::beat::Cadence;
use super::capture::Capture;
use super::credits::crediting;
use super::drain::{Batch, Drain, Ears, Pulse};
use super::event_loop::Loop;
use super::metering;
use super::programs::Programs;
use super::readers::Readers;
use super::recorder::Recorder;
use super::samplers::ps::Selection;
use super::samplers::{events, exits, pss};
use super::world::World;
use crate::record::alive::{Alive, Census};
use crate::record::carried::Carried;
use crate::record::flush::Flush;
use crate::record::sample::Sample;
use crate::record::schema::Columns;
use crate::record::scrub::Scrubber;
use crate::record::wanted::FullWanted;
use crate::source::procdir::Proc;

/// What the observer is to do.
#[derive(Debug, Clone)]
pub struct Orders {
    /// How often stream `ps` is sampled; `None` while it is off.
    pub ps: Option<Cadence>,
    /// Who is shown there, and of whom what.
    pub selection: Selection,
    /// How often stream `pss` is sampled, and what that may cost; `None` while it is off.
    pub pss: Option<(Cadence, pss::Selection)>,
    /// Streams `usage` and `usage_process`; `None` while both are off.
    pub usage: Option<metering::Orders>,
    /// Streams `credits`, `credits_process` and `budgets`; `None` while all are off.
    pub credits: Option<crediting::Orders>,
    /// What of a command line may be recorded.
    pub scrubber: Scrubber,
    /// Which program a process counts for.
    pub programs: Arc<Programs>,
    /// What of the events is written; `None` while the stream is off.
    pub events: Option<events::Selection>,
    /// How obituaries are written; `None` while the stream is off.
    pub exits: Option<exits::Selection>,
    /// The columns of stream `alerts`; `None` while it is off.
    pub alerts: Option<Columns>,
    /// How long rows of events, obituaries and alerts are collected.
    pub flush_every: Duration,
}

/// What a start hands the observer besides its orders.
#[derive(Debug)]
pub struct Start {
    /// `/proc`.
    pub proc: Arc<Proc>,
    /// How many `stat` files may be kept open.
    pub may_keep: usize,
    /// The event sockets, listening; why not, where they are not.
    pub ears: Result<Ears, String>,
    /// Who was alive when the recorder before this one stopped, in this same boot.
    pub past: Vec<Alive>,
    /// What its accounts of CPU time knew.
    pub carried: Option<Box<Carried>>,
}

/// What the observer says to whoever takes its samples.
#[derive(Debug)]
pub enum Output {
    /// A sample, whole.
    Sample(Box<Sample>),
    /// Rows, and perhaps a tick, of a stream without samples.
    Flush(Box<Flush>),
    /// Who is alive.
    Census(Census),
    /// Orders with this number are in force; samples after this are made by them.
    Reloaded(u64),
    /// Nothing comes after this.
    Stopped,
}

/// What can be said to the observer.
#[derive(Debug)]
pub(super) enum Message {
    /// The readers have answered all that was asked.
    Ready,
    /// What drain took from the event sockets.
    Batch(Box<Batch>),
    /// Are you there?
    Ping,
    Reload(Box<Orders>, u64),
    Stop,
}

/// The observer as the daemon holds it.
#[derive(Debug)]
pub struct Observer {
    messages: Sender<Message>,
    beats: Arc<AtomicU64>,
    drain: Option<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// Takes what the observer says. It must not block; what it does not take it gives back.
pub type Take = Box<dyn FnMut(Output) -> Result<(), Output> + Send>;

impl Observer {
    /// Starts the thread. `full_wanted` is how others ask for a full sample.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(start: Start, orders: Orders, full_wanted: Arc<FullWanted>, take: Take) -> std::io::Result<Self> {
        let Start { proc, may_keep, ears, past, carried } = start;
        let (messages, inbox) = mpsc::channel();
        let (sources, deaf) = match ears {
            Ok(ears) => {
                let no_records = ears.deaf_to_exits.as_ref().map(ToString::to_string);
                let capture = Capture::start(Arc::clone(&proc))?;
                let feed = capture.feed();
                let deliver = messages.clone();
                let deliver = Box::new(move |batch| deliver.send(Message::Batch(batch)).is_ok());
                let drain = Drain::start(Arc::clone(&proc), ears, deliver, Box::new(move |pid, time_ns| feed.exec(pid, time_ns)))?;
                (Some((drain, capture)), no_records.map(|why| ("taskstats", why)))
            }
            Err(why) => (None, Some(("events", why))),
        };
        let drain = sources.as_ref().map(|(drain, _)| drain.pulse());
        let beats = Arc::new(AtomicU64::new(0));
        let for_readers = messages.clone();
        let ready = Box::new(move || {
            let _ = for_readers.send(Message::Ready);
        });
        let for_thread = Arc::clone(&beats);
        let thread = thread::Builder::new().name("observer".to_owned()).stack_size(512 * 1024).spawn(move || {
            let readers = Readers::start(Arc::clone(&proc), ready);
            let mut world = World::new(proc, readers, orders.scrubber.clone(), may_keep);
            world.hears = sources.is_some();
            let recorder = Recorder::new(sources, deaf, orders.events.clone(), orders.exits.clone(), orders.alerts.clone());
            world.programs = Arc::clone(&orders.programs);
            Loop::new(world, recorder, orders, inbox, for_thread, full_wanted, take).run(past, carried);
        })?;
        Ok(Self { messages, beats, drain, thread: Some(thread) })
    }

    /// Asks whether it is there: [`Observer::beats`] grows when it hears.
    pub fn ping(&self) {
        let _ = self.messages.send(Message::Ping);
        if let Some(drain) = &self.drain {
            drain.ping();
        }
    }

    /// How often it was heard of, and how often drain was, where there is one.
    #[must_use]
    pub fn beats(&self) -> (u64, Option<u64>) {
        (self.beats.load(Ordering::Relaxed), self.drain.as_ref().map(Pulse::beats))
    }

    /// Gives new orders; [`Output::Reloaded`] with this number says when they are in force.
    pub fn reload(&self, orders: Orders, number: u64) {
        let _ = self.messages.send(Message::Reload(Box::new(orders), number));
    }

    /// Tells it to stop; a last census and [`Output::Stopped`] follow.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }

    /// Whether its thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}
