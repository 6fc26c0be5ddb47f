//! The loop that owns every file and obeys the [`Plan`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::live::Live;
use super::notes::Waiting;
use super::work::Work;
use super::{Busy, Item, Queued, Reload, SLOW, Settings};
use crate::journal::archive::Archivist;
use crate::journal::changes::Changes;
use crate::journal::directory::{Directory, DirectoryError};
use crate::journal::encode;
use crate::journal::own_log::OwnLog;
use crate::journal::plan::{Action, Event, Plan, closed_name};
use crate::journal::segment::{Name, OWN_LOG};
use crate::journal::state::{self, Position, State};
use crate::record::alive::Census;
use crate::record::identity::Domain;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::wanted::FullWanted;
use crate::source::clock::Wall;

/// The writer's own state.
pub(super) struct Writer {
    pub(super) directory: Directory,
    pub(super) settings: Settings,
    pub(super) domain: Domain,
    pub(super) own_log: OwnLog,
    pub(super) full_wanted: Arc<FullWanted>,
    pub(super) archivist: Archivist,
    pub(super) plan: Plan,
    pub(super) live: BTreeMap<Stream, Live>,
    pub(super) census: Census,
    /// Where stream `exits` stood at the census.
    pub(super) counted_at: Option<Position>,
    /// Notes that no live segment has taken yet.
    pub(super) pending: Vec<Waiting>,
    pub(super) wall: Wall,
    pub(super) began: Instant,
    pub(super) prev_write: Duration,
    pub(super) disk_failed: bool,
    pub(super) busy: Arc<Busy>,
    pub(super) buffer: Vec<u8>,
}

impl Writer {
    /// With nothing found yet; `adopt` looks.
    pub(super) fn new(
        directory: Directory,
        settings: Settings,
        domain: Domain,
        own_log: OwnLog,
        full_wanted: Arc<FullWanted>,
        busy: Arc<Busy>,
    ) -> io::Result<Self> {
        Ok(Self {
            plan: Plan::new(settings.keeping.clone()),
            directory,
            settings,
            domain,
            own_log,
            full_wanted,
            archivist: Archivist::start()?,
            live: BTreeMap::new(),
            census: Census::default(),
            counted_at: None,
            pending: Vec::new(),
            wall: Wall::default(),
            began: Instant::now(),
            prev_write: Duration::ZERO,
            disk_failed: false,
            busy,
            buffer: Vec::new(),
        })
    }

    pub(super) fn run(mut self, inbox: &Receiver<Item>, queued: &Queued) {
        loop {
            let wait = self.plan.wake().map(|due| due.saturating_sub(self.began.elapsed()));
            let item = match wait {
                Some(wait) => inbox.recv_timeout(wait),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            self.busy.since_ms.store(self.busy.now_ms(), Ordering::Relaxed);
            match item {
                Ok(Item::Sample(sample)) => {
                    self.sample(*sample);
                    queued.samples.fetch_sub(1, Ordering::AcqRel);
                }
                Ok(Item::Flush(flush)) => {
                    self.flush(*flush);
                    queued.flushes.fetch_sub(1, Ordering::AcqRel);
                }
                Ok(Item::Census(census)) => {
                    self.census = census;
                    self.counted_at = self.position(Stream::Exits);
                    let actions = self.plan.decide(Event::Census);
                    self.obey(actions, Work::Nothing);
                }
                Ok(Item::Note(note)) => self.note(&note),
                Ok(Item::Reload(reload)) => self.reload(*reload),
                Ok(Item::Stop(note)) => {
                    self.stop(note);
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let actions = self.plan.decide(Event::Time(self.began.elapsed()));
                    self.obey(actions, Work::Nothing);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.busy.since_ms.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn stop(&mut self, note: Note) {
        self.end_all();
        self.note(&note.with("alive", self.census.alive.len()));
        self.flush_notes();
        self.sync();
        self.save_state();
    }

    /// Before a sample or a flush: the directory and the live segment are where they were, or are made anew.
    pub(super) fn look_around(&mut self, stream: Stream) {
        if !self.directory.is_in_place() {
            self.replace_directory();
        }
        let name = Name::live(stream.name()).to_string();
        if self.live.get(&stream).is_some_and(|live| !self.directory.is_current(&live.file, &name)) {
            tracing::warn!(target: "journal", "{} was moved or removed. A new segment begins.", self.directory.path().join(&name).display());
            self.forsake(stream);
        }
    }

    /// Leaves a live segment that is no longer where it was. Moved away it may still be read: it ends as it should.
    fn forsake(&mut self, stream: Stream) {
        self.end(stream);
        self.live.remove(&stream);
        let actions = self.plan.decide(Event::Vanished { stream });
        self.obey(actions, Work::Nothing);
    }

    fn end(&mut self, stream: Stream) {
        let actions = self.plan.decide(Event::End { stream });
        self.obey(actions, Work::Nothing);
    }

    fn end_all(&mut self) {
        let streams: Vec<Stream> = self.live.keys().copied().collect();
        for stream in streams {
            self.end(stream);
        }
    }

    pub(super) fn changes(&self, stream: Stream, columns: &Columns) -> Changes {
        let none = BTreeMap::new();
        Changes::new(columns, self.settings.thresholds.get(&stream).unwrap_or(&none))
    }

    /// Where the next line of a stream will stand.
    fn position(&self, stream: Stream) -> Option<Position> {
        let (_, seg, _) = self.plan.numbers().find(|(of, ..)| *of == stream)?;
        Some(Position { seg, offset: self.live.get(&stream).map_or(0, |live| live.len) })
    }

    pub(super) fn reopen_own_log(&self) {
        self.own_log.exchange(self.directory.append(&Name::live(OWN_LOG).to_string()).ok());
    }

    /// Does what the plan decided; `work` is what it decided about.
    pub(super) fn obey(&mut self, actions: Vec<Action>, mut work: Work<'_>) {
        for action in actions {
            match action {
                Action::Close { stream, date } => {
                    // What was written since the last sync is as dear as what comes after.
                    if let Some(live) = self.live.remove(&stream) {
                        let _ = live.file.sync_data();
                    }
                    if let Err(error) = self.close(stream.name(), Some(stream), date) {
                        tracing::error!(target: "journal", "{stream}.log could not be closed under its date {date}: {error}.");
                    }
                }
                Action::Open { stream, seg } => {
                    if let Err(error) = self.open(stream, seg, &work) {
                        self.disk_trouble(&format!("{error}"));
                    }
                }
                Action::Resume { stream } => {
                    if let Some(head) = work.head() {
                        let changes = self.changes(stream, head.columns);
                        if let Some(live) = self.live.get_mut(&stream) {
                            live.columns = head.columns.clone();
                            live.changes = changes;
                        }
                    }
                }
                Action::Append { stream, seq, shed, gap } => {
                    if let Work::Sample(sample) = &mut work {
                        self.append_sample(stream, sample, seq, shed, gap);
                    }
                }
                Action::Flush { stream, shed, tick, gap } => {
                    if let Work::Flush(flush) = &mut work {
                        self.append_flush(stream, flush, shed, tick, gap);
                    }
                }
                Action::CloseTick { stream, due, tally, gap } => {
                    let written = self.close_tick(stream, due, tally, gap, &mut work);
                    if let Work::Flush(flush) = &mut work
                        && written
                    {
                        self.decide_flush(flush);
                    }
                }
                Action::Drop { stream } => {
                    self.keep_notes(stream, work.take_notes());
                    tracing::warn!(target: "journal", "A sample of stream {stream} was dropped: a segment, or what follows a gap, begins with a full one. That is asked for.");
                }
                Action::WantFull { stream } => self.full_wanted.ask(stream),
                Action::NoteShed { stream, share } => {
                    tracing::warn!(target: "journal", "Today's segments of stream {stream} have reached its share of {share} bytes. Its rows are shed until midnight; ticks go on. Raise max_size to keep more.");
                    let now = self.wall.now();
                    self.note_in(stream, &Note::new(now, NoteKind::Shed).with("share", share));
                }
                Action::CloseOwnLog { date } => {
                    let _ = self.close(OWN_LOG, None, date);
                    self.reopen_own_log();
                }
                Action::Sync => self.sync(),
                Action::List => {
                    let actions = self.listing();
                    self.obey(actions, Work::Nothing);
                }
                Action::SaveState => self.save_state(),
                Action::Remove(name) => match self.directory.remove(&name.to_string()) {
                    Ok(()) => tracing::info!(target: "journal", "{name} was removed: it is older than is kept, or space was short."),
                    Err(error) => tracing::warn!(target: "journal", "{name} could not be removed: {error}."),
                },
                Action::Compress(name) => self.archivist.compress(self.directory.path(), name),
            }
        }
    }

    pub(super) fn listing(&mut self) -> Vec<Action> {
        let today = self.wall.now().date();
        match self.directory.list() {
            Ok(found) => self.plan.decide(Event::Listing { today, found, free: self.directory.free().unwrap_or(u64::MAX) }),
            Err(error) => {
                tracing::warn!(target: "journal", "{} could not be listed: {error}. Nothing is pruned.", self.directory.path().display());
                Vec::new()
            }
        }
    }

    pub(super) fn close(&self, live: &str, stream: Option<Stream>, date: jiff::civil::Date) -> io::Result<()> {
        let name = closed_name(&self.directory.list()?, stream, date);
        self.directory.rename(&Name::live(live).to_string(), &name.to_string())
    }

    fn open(&mut self, stream: Stream, seg: u64, work: &Work<'_>) -> Result<(), DirectoryError> {
        let Some(head) = work.head() else { return Ok(()) };
        let name = Name::live(stream.name()).to_string();
        let mut file = self.directory.append(&name)?;
        if file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            // Somebody else's file under our name: it is set aside, not written into.
            let _ = self.close(stream.name(), Some(stream), head.due.date());
            file = self.directory.append(&name)?;
        }
        let format = self.settings.format;
        let mut header = Vec::new();
        format.header(&encode::header(stream, seg, head.facts, head.columns), &mut header);
        let changes = self.changes(stream, head.columns);
        let live = Live {
            file,
            format,
            columns: head.columns.clone(),
            changes,
            len: 0,
            torn: false,
            owed: Vec::new(),
            crc: crc32fast::Hasher::new(),
            header,
        };
        self.live.insert(stream, live);
        Ok(())
    }

    pub(super) fn failed(&mut self, stream: Stream, due: Moment, fresh: bool) {
        if fresh {
            self.live.remove(&stream);
        }
        let actions = self.plan.decide(Event::Failed { stream, due, fresh });
        self.obey(actions, Work::Nothing);
    }

    pub(super) fn disk_trouble(&mut self, why: &str) {
        if !self.disk_failed {
            self.disk_failed = true;
            tracing::error!(target: "journal", "{} takes no records: {why}. What comes is dropped and counted until it does.", self.directory.path().display());
        }
    }

    pub(super) fn slow(&mut self, took: Duration, what: &str) {
        if took >= SLOW {
            tracing::warn!(target: "journal", "The disk took {took:?} for a {what}.");
            let now = self.wall.now();
            self.note(&Note::new(now, NoteKind::SlowDisk).with("what", what).with("took_ms", took.as_millis()));
        }
    }

    fn sync(&mut self) {
        let began = Instant::now();
        for (stream, live) in &self.live {
            if let Err(error) = live.file.sync_data() {
                tracing::error!(target: "journal", "{stream}.log could not be brought to the disk: {error}. A power cut may cost more than the config allows.");
            }
        }
        self.slow(began.elapsed(), "sync");
    }

    fn save_state(&mut self) {
        let state = State::new(&self.domain, &self.census, self.counted_at, self.plan.numbers());
        if let Err(error) = state.to_bytes().and_then(|bytes| self.directory.replace(state::NAME, &bytes)) {
            self.disk_trouble(&format!("{} could not be written: {error}", state::NAME));
        }
    }

    pub(super) fn reload(&mut self, reload: Reload) {
        let Reload { settings, directory, note, done } = reload;
        self.plan.decide(Event::Keeping(settings.keeping.clone()));
        self.settings = settings;
        self.note(&note);
        if let Some(directory) = directory {
            self.end_all();
            self.sync();
            self.save_state();
            let streams: Vec<Stream> = self.live.keys().copied().collect();
            self.live.clear();
            for stream in streams {
                self.plan.decide(Event::Vanished { stream });
            }
            // The new one was locked before this; the old lock goes only now.
            self.directory = directory;
            self.adopt();
            self.counted_at = self.position(Stream::Exits);
        } else {
            // Somebody who rotates logs may have moved it away; streams see that for themselves.
            self.reopen_own_log();
        }
        for (stream, live) in &mut self.live {
            let none = BTreeMap::new();
            live.changes.set_thresholds(self.settings.thresholds.get(stream).unwrap_or(&none));
        }
        done();
    }

    /// The directory vanished under us: it is made again, and recording goes on there.
    fn replace_directory(&mut self) {
        let path = self.directory.path().to_owned();
        match Directory::open(&path, self.directory.group()) {
            Ok(directory) => {
                self.directory = directory;
                self.reopen_own_log();
                let streams: Vec<Stream> = self.live.keys().copied().collect();
                for stream in streams {
                    self.forsake(stream);
                }
                tracing::warn!(target: "journal", "{} had vanished and was made again.", path.display());
            }
            Err(error) => self.disk_trouble(&error.to_string()),
        }
    }
}
