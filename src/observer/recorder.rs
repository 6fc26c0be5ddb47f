//! The streams without samples: `events` and `exits`, from the event sockets to what is handed to the journal, and `alerts`, of
//! what the others find.
//!
//! It holds the threads that listen, the lifecycle that turns what they hear into changes of the table, and the rows between two
//! flushes. The loop says when.

use std::sync::Arc;

use super::capture::Capture;
use super::drain::{Batch, Drain, Totals};
use super::facts::Reading;
use super::life::Sources;
use super::lifecycle::{Lifecycle, Telling};
use super::obituary::{Obituary, Used};
use super::samplers::alerts::{Alert, Alerts};
use super::samplers::events::{self, Events};
use super::samplers::exits::{self, Exits};
use super::world::World;
use crate::record::alive::Alive;
use crate::record::flush::Flush;
use crate::record::ledger::{Facts, Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::source::clock::Wall;

/// The streams it hands on.
const STREAMS: [Stream; 3] = [Stream::Events, Stream::Exits, Stream::Alerts];
/// Rows that a writer refused and that wait for it, of each stream.
const KEPT: usize = 50_000;

/// What a batch told besides its events.
#[derive(Debug, Default)]
pub struct Heard {
    /// Something is missing: the table must be brought back in line.
    pub gap: bool,
    /// For every live segment.
    pub notes: Vec<Note>,
}

/// The streams without samples.
#[derive(Debug)]
pub struct Recorder {
    drain: Option<Drain>,
    capture: Option<Capture>,
    /// What is missing and why, for a note.
    deaf: Option<(&'static str, String)>,
    lifecycle: Lifecycle,
    events: Events,
    exits: Exits,
    alerts: Alerts,
    /// For the next flush of each stream.
    notes: Vec<Note>,
    /// What a writer refused, in order.
    refused: Vec<Flush>,
    /// Rows that found no room there.
    dropped: [u64; STREAMS.len()],
    told: Totals,
    /// The next flush holds no row back.
    all: bool,
    said_stuck: bool,
}

impl Recorder {
    /// With the threads that listen, or with what is missing.
    #[must_use]
    pub fn new(
        sources: Option<(Drain, Capture)>,
        deaf: Option<(&'static str, String)>,
        events: Option<events::Selection>,
        exits: Option<exits::Selection>,
        alerts: Option<Columns>,
    ) -> Self {
        let (drain, capture) = sources.unzip();
        let lifecycle = Lifecycle::new(drain.as_ref().map(Drain::begun).unwrap_or_default());
        Self {
            drain,
            capture,
            deaf,
            lifecycle,
            events: Events::new(events),
            exits: Exits::new(exits),
            alerts: Alerts::new(alerts),
            notes: Vec::new(),
            refused: Vec::new(),
            dropped: [0; STREAMS.len()],
            told: Totals::default(),
            all: false,
            said_stuck: false,
        }
    }

    /// Takes other orders.
    pub fn select(&mut self, events: Option<events::Selection>, exits: Option<exits::Selection>) {
        self.events.select(events);
        self.exits.select(exits);
    }

    /// Adds a row of stream `alerts`; it is written within a second.
    pub fn alert(&mut self, alert: Alert) {
        self.alerts.add(alert);
    }

    /// Whether any of the three streams is written.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.events.columns().is_some() || self.exits.columns().is_some() || self.alerts.columns().is_some()
    }

    /// Says at the start what is missing.
    pub fn begin(&mut self, now: Moment) {
        if let Some((what, why)) = &self.deaf {
            self.notes.push(Note::new(now, NoteKind::Degraded).with("what", what).with("why", why));
        }
    }

    /// Obituaries of those who lived when the recorder before this one stopped, and live no more.
    pub fn remember(&mut self, world: &mut World, past: Vec<Alive>) {
        let hz = world.machine.hz;
        let now_ns = Wall::unix_ns();
        for alive in past {
            let unread = !world.proc.is_native();
            if let Some(process) = world.table.get_mut(alive.id.pid)
                && (unread || process.id.start == 0 || process.is_same_as(alive.id, hz))
            {
                if !process.life.was_zombie {
                    continue;
                }
                // It died meanwhile and waits to be reaped: this is its obituary.
                process.life.ended = true;
            }
            self.exits.add(Obituary {
                unix_ns: now_ns,
                pid: alive.id.pid,
                start: Some(alive.id.start),
                ppid: Some(alive.ppid),
                pstart: None,
                pcomm: None,
                owner: alive.uid.map_or(Reading::Absent, Reading::Known),
                program: alive.program.map_or(Reading::Absent, Reading::Known),
                cgroup: Reading::Absent,
                unit: Reading::Absent,
                family: None,
                status: None,
                lifetime_ns: None,
                used: Used::default(),
                sources: Sources::SAMPLE,
                cmd: Reading::Absent,
                exec: None,
                comm: Arc::from(&b""[..]),
                is_kthread: false,
                counted: true,
            });
        }
    }

    /// What the kernel does not tell here; `None` where it tells all.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        self.deaf.as_ref().map(|(what, _)| if *what == "events" { "events and exit records" } else { "exit records" })
    }

    /// A note for all of them.
    pub fn note(&mut self, notes: Vec<Note>) {
        self.notes.extend(notes);
    }

    /// Takes in a batch.
    pub fn hear(&mut self, world: &mut World, batch: &Batch, wall: &mut Wall) -> Heard {
        self.take_arguments(world);
        let mut telling = Telling { events: &mut self.events, exits: &mut self.exits };
        self.lifecycle.hear(world, batch, &mut telling);
        if let Some(drain) = &self.drain {
            drain.taken(batch);
        }
        let mut heard = Heard { gap: batch.gap, notes: Vec::new() };
        let lost = batch.totals.lost - self.told.lost;
        let records = batch.totals.records_lost - self.told.records_lost;
        // While it goes on, one note a reckoning says it; the first at once.
        if lost + records > 0 && (batch.reckoned || (batch.gap && self.told.lost == 0)) {
            let now = wall.now();
            tracing::warn!(target: "observer", "{lost} events and {records} exit records were lost: the kernel's buffers or ours were full. The table is brought back in line; whose end nobody heard gets an obituary without it.");
            heard.notes.push(Note::new(now, NoteKind::Loss).with("events", lost).with("records", records));
            self.told = batch.totals;
        } else if batch.gap && batch.reckoned && lost == 0 {
            heard.notes.push(Note::new(wall.now(), NoteKind::Loss).with("births", batch.totals.missing()));
        }
        if batch.relistened {
            tracing::warn!(target: "observer", "Events had stopped though processes were born: somebody told the kernel to stop telling. They were asked for again.");
            heard.notes.push(Note::new(wall.now(), NoteKind::Relisten));
        }
        self.notes.extend(heard.notes.iter().cloned());
        heard
    }

    /// Takes what was read at executions.
    pub fn take_arguments(&mut self, world: &mut World) {
        if let Some(capture) = &self.capture {
            self.lifecycle.capture(world, capture.take());
            let stuck = capture.is_stuck();
            if stuck && !self.said_stuck {
                tracing::warn!(target: "observer", "A process keeps the reader of command lines waiting: until it answers, those of short-lived processes are not known.");
            }
            self.said_stuck = stuck;
        }
    }

    /// Asks for the kernel's own count of births; `false` where nobody listens.
    #[must_use]
    pub fn reckon(&self) -> bool {
        if let Some(drain) = &self.drain {
            drain.reckon();
        }
        self.drain.is_some()
    }

    /// The table was brought back in line; whether that should be done once more.
    pub const fn resynced(&mut self) -> bool {
        self.lifecycle.resync += 1;
        self.lifecycle.resync % 2 == 1
    }

    /// Buries those whom a round found gone.
    pub fn unseen(&mut self, world: &mut World) {
        for process in std::mem::take(&mut world.unseen) {
            let mut telling = Telling { events: &mut self.events, exits: &mut self.exits };
            self.lifecycle.unseen(world, &process, &mut telling);
        }
    }

    /// The next flush waits for nobody's arguments: what comes after it is written otherwise, or not at all.
    pub const fn hold_nothing(&mut self) {
        self.all = true;
    }

    /// Whether anything waits to be flushed.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.events.is_empty() || !self.exits.is_empty() || !self.alerts.is_empty() || !self.refused.is_empty() || self.lifecycle.waits()
    }

    /// What is to be handed on, with a tick where one is due.
    pub fn flush(&mut self, world: &mut World, facts: &Arc<Facts>, wall: &mut Wall, tick: Option<Moment>, now: Moment) -> Vec<Flush> {
        self.take_arguments(world);
        let mut telling = Telling { events: &mut self.events, exits: &mut self.exits };
        self.lifecycle.flush(world, &mut telling);
        std::mem::take(&mut world.alerts).into_iter().for_each(|alert| self.alerts.add(alert));
        let mut flushes = std::mem::take(&mut self.refused);
        let notes = std::mem::take(&mut self.notes);
        let argvs = &self.lifecycle.argvs;
        // At a stop there is no later flush.
        let all = std::mem::take(&mut self.all) || self.drain.is_none();
        let mut ticks = [None, None];
        if tick.is_some() {
            ticks = [Some(self.fields()), Some(self.fields())];
            if let [Some(events), Some(exits)] = &mut ticks {
                self.events.tick(events);
                self.exits.tick(exits);
            }
        }
        let [events_tick, exits_tick] = ticks;
        let due = tick.unwrap_or(now);
        let flush = |stream, columns: &Columns, rows, tick| Flush {
            stream,
            facts: Arc::clone(facts),
            columns: columns.clone(),
            due,
            rows,
            tick,
            notes: notes.clone(),
        };
        if let Some(columns) = self.events.columns().cloned() {
            let rows = self.events.rows(argvs, &world.names, &world.terminals, wall, all);
            flushes.push(flush(Stream::Events, &columns, rows, events_tick));
        }
        if let Some(columns) = self.exits.columns().cloned() {
            let rows = self.exits.rows(argvs, &world.names, wall, all);
            flushes.push(flush(Stream::Exits, &columns, rows, exits_tick));
        }
        if let Some(columns) = self.alerts.columns().cloned() {
            let rows = self.alerts.rows(&world.names, wall);
            let tick = tick.is_some().then(|| self.alerts.tick());
            flushes.push(flush(Stream::Alerts, &columns, rows, tick));
        }
        flushes.retain(|flush| !flush.rows.is_empty() || flush.tick.is_some() || !flush.notes.is_empty());
        for (at, stream) in STREAMS.into_iter().enumerate() {
            if let Some(flush) = flushes.iter_mut().find(|flush| flush.stream == stream && self.dropped[at] > 0) {
                flush.notes.push(Note::new(now, NoteKind::Gap).with("rows", self.dropped[at]).with("why", "queue"));
                self.dropped[at] = 0;
            }
        }
        self.lifecycle.age();
        flushes
    }

    /// A writer that is behind did not take this: it is offered again, unless too much waits already.
    pub fn refused(&mut self, mut flush: Flush) {
        let at = STREAMS.iter().position(|stream| *stream == flush.stream).unwrap_or(0);
        let waiting: usize = self.refused.iter().filter(|refused| refused.stream == flush.stream).map(|refused| refused.rows.len()).sum();
        let many = self.refused.len() >= 64;
        if waiting + flush.rows.len() > KEPT || many {
            let rows = flush.rows.len() as u64;
            self.dropped[at] += rows;
            flush.rows.clear();
            tracing::warn!(target: "observer", "{rows} rows of stream {} were dropped: the writer is behind.", flush.stream);
        }
        // Its tick and notes say what else nobody would know.
        if !many && (!flush.rows.is_empty() || flush.tick.is_some() || !flush.notes.is_empty()) {
            self.refused.push(flush);
        }
    }

    /// Nobody listens any more: what was taken last is in the inbox. What was read at the last executions is taken by the flush
    /// that follows, so that thread ends with us.
    pub fn stop(&mut self) {
        self.drain = None;
    }

    /// The kernel's count of births at the last reckoning, once nobody listens any more.
    #[must_use]
    pub fn last_count(&self) -> Option<u64> {
        if self.drain.is_none() { self.lifecycle.totals.processes } else { None }
    }

    /// What `events` and `exits` state at each tick.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let totals = self.lifecycle.totals;
        let hears = self.deaf.as_ref().is_none_or(|(what, _)| *what != "events");
        let known = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let heard = |count: u64| known(hears.then_some(count));
        vec![
            ("births", heard(totals.births)),
            ("deaths", heard(totals.deaths)),
            ("processes", known(totals.processes)),
            ("births_kernel", known(totals.births_kernel)),
            ("lost", heard(totals.lost)),
            ("resync", self.lifecycle.resync.to_string()),
            ("overruns", heard(totals.overruns)),
            ("events", heard(totals.events)),
            ("records_lost", heard(totals.records_lost)),
        ]
    }
}
