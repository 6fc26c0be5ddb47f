//! The thread that owns every file of the journal and obeys the [`Plan`].
//!
//! It takes whole samples from a bounded queue, so that a disk that hangs holds up nobody; what does not fit
//! is counted by whoever offers it and noted here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::archive::Archivist;
use super::changes::Changes;
use super::directory::{Directory, DirectoryError};
use super::encode::{self, Format, Ledger};
use super::own_log::OwnLog;
use super::plan::{Action, Event, Gap, Keeping, Plan, closed_name};
use super::recover;
use super::segment::{Name, OWN_LOG};
use super::state::{self, Restored, State};
use crate::record::alive::Census;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::source::clock::Wall;

/// Samples that may wait for the disk.
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
    Census(Census),
    Note(Note),
    Reload(Box<Reload>),
    Stop(Note),
}

/// The writer as the daemon holds it.
#[derive(Debug)]
pub struct Journal {
    items: Sender<Item>,
    queued: Arc<AtomicUsize>,
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

/// A way to offer samples, for whoever makes them.
#[derive(Clone, Debug)]
pub struct Offer {
    items: Sender<Item>,
    queued: Arc<AtomicUsize>,
}

impl Offer {
    /// Offers a sample; `false` if the queue is full. Never waits.
    #[must_use]
    pub fn sample(&self, sample: Box<Sample>) -> bool {
        if self.queued.fetch_add(1, Ordering::AcqRel) >= QUEUE {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.items.send(Item::Sample(sample)).is_ok()
    }

    /// Hands on who is alive.
    pub fn census(&self, census: Census) {
        let _ = self.items.send(Item::Census(census));
    }

    /// Puts new settings in force, after all samples offered before.
    pub fn reload(&self, reload: Reload) {
        let _ = self.items.send(Item::Reload(Box::new(reload)));
    }
}

impl Journal {
    /// Goes on with what the directory holds, and starts the thread. `boot_id` is this boot's; `full_wanted` is
    /// how a full sample is asked for.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        directory: Directory,
        settings: Settings,
        boot_id: String,
        own_log: OwnLog,
        full_wanted: Arc<AtomicBool>,
        note: Note,
    ) -> io::Result<Self> {
        let (items, inbox) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let busy = Arc::new(Busy::default());
        let (for_queue, for_busy) = (Arc::clone(&queued), Arc::clone(&busy));
        let archivist = Archivist::start()?;
        let thread = thread::Builder::new().name("writer".to_owned()).stack_size(512 * 1024).spawn(move || {
            let plan = Plan::new(settings.keeping.clone());
            let mut writer = Writer {
                directory,
                settings,
                boot_id,
                own_log,
                full_wanted,
                archivist,
                plan,
                live: BTreeMap::new(),
                census: Census::default(),
                pending: Vec::new(),
                wall: Wall::default(),
                began: Instant::now(),
                prev_write: Duration::ZERO,
                disk_failed: false,
                busy: for_busy,
                buffer: Vec::new(),
            };
            writer.adopt();
            writer.pending.push(note);
            writer.run(&inbox, &for_queue);
        })?;
        Ok(Self { items, queued, busy, thread: Some(thread) })
    }

    /// A way to offer samples.
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

/// A live segment.
struct Live {
    file: File,
    format: Format,
    columns: Columns,
    changes: Changes,
    /// Good bytes: what is beyond them is cut off again.
    len: u64,
    /// Half a write may stand beyond them.
    torn: bool,
    /// The mark of a torn tail for which there was no room at the start.
    owed: Vec<u8>,
    crc: crc32fast::Hasher,
    /// Its header is still to be written.
    header: Vec<u8>,
}

struct Writer {
    directory: Directory,
    settings: Settings,
    boot_id: String,
    own_log: OwnLog,
    full_wanted: Arc<AtomicBool>,
    archivist: Archivist,
    plan: Plan,
    live: BTreeMap<Stream, Live>,
    census: Census,
    /// Notes that no live segment has taken yet.
    pending: Vec<Note>,
    wall: Wall,
    began: Instant,
    prev_write: Duration,
    disk_failed: bool,
    busy: Arc<Busy>,
    buffer: Vec<u8>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Item>, queued: &AtomicUsize) {
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
                    queued.fetch_sub(1, Ordering::AcqRel);
                }
                Ok(Item::Census(census)) => self.census = census,
                Ok(Item::Note(note)) => self.note(note),
                Ok(Item::Reload(reload)) => self.reload(*reload),
                Ok(Item::Stop(note)) => {
                    self.note(note.with("alive", self.census.alive.len()));
                    self.sync();
                    self.save_state();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let actions = self.plan.decide(Event::Time(self.began.elapsed()));
                    self.obey(actions, None);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.busy.since_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Looks at what the directory holds: numbers to go on with, live segments to resume or to close.
    fn adopt(&mut self) {
        let today = self.wall.now().date();
        let found = self.directory.list().unwrap_or_default();
        match state::restore(self.directory.path()) {
            Restored::State(state) => {
                for (name, numbers) in &state.streams {
                    if let Ok(stream) = name.parse() {
                        self.plan.decide(Event::Known { stream, seg: numbers.seg, seq: numbers.seq });
                    }
                }
            }
            Restored::Missing => {}
            Restored::Damaged(why) => {
                tracing::warn!(target: "journal", "{} cannot be used: {why}. Numbers go on from the newest segments; what was alive before is not known.", state::NAME);
                self.pending.push(Note::new(self.wall.now(), NoteKind::Degraded).with("what", state::NAME).with("why", why));
            }
        }
        for stream in Stream::ALL {
            // The newest closed segment says how far the numbers went, should the state be lost.
            let mut closed: Vec<Name> = found
                .iter()
                .filter(|found| found.name.stream == stream.name() && found.name.date.is_some())
                .map(|found| found.name.clone())
                .collect();
            super::reader::sort_by_arrival(self.directory.path(), &mut closed);
            if let Some(name) = closed.last()
                && let Ok(Ok(inspection)) = super::reader::open(self.directory.path(), name).map(recover::inspect)
            {
                let seg = inspection.header.map_or(0, |header| header.seg);
                self.plan.decide(Event::Known { stream, seg, seq: inspection.last.map_or(0, |(_, seq)| seq) });
            }
            if found.iter().any(|found| found.name == Name::live(stream.name()) && found.bytes > 0)
                && let Err(error) = self.adopt_live(stream, today)
            {
                tracing::error!(target: "journal", "{stream}.log could not be gone on with: {error}. It is set aside under its date.");
                let _ = self.close(stream.name(), Some(stream), today);
            }
        }
        self.open_own_log(today);
        let actions = self.listing();
        self.obey(actions, None);
    }

    fn adopt_live(&mut self, stream: Stream, today: jiff::civil::Date) -> io::Result<()> {
        let name = Name::live(stream.name()).to_string();
        let mut file = self.directory.append(&name).map_err(io::Error::other)?;
        let inspection = recover::inspect(BufReader::with_capacity(1 << 17, &file))?;
        let (mut len, mut crc, mut owed) = (inspection.bytes, inspection.crc, Vec::new());
        if let Some(torn) = inspection.torn {
            let note = Note::new(self.wall.now(), NoteKind::Torn).with("rows", torn.rows).with("bytes", torn.bytes);
            let mut tail = Vec::new();
            if torn.half_line {
                tail.push(b'\n');
            }
            inspection.format.note(stream, &note, &mut tail);
            match file.write_all(&tail).and_then(|()| file.sync_data()) {
                Ok(()) => len += tail.len() as u64,
                Err(error) => {
                    // No room even for the mark: it goes out before anything else does.
                    file.set_len(len)?;
                    self.disk_trouble(&error.to_string());
                    owed = tail;
                }
            }
            crc = crc32fast::Hasher::new();
            tracing::warn!(target: "journal", "{name}: {} bytes after the last whole sample are torn (the recorder or the machine stopped in the middle of a write). They are marked, and recording goes on in the same file.", torn.bytes);
        }
        let Some(mut header) = inspection.header else {
            return Err(io::Error::other("it has no header"));
        };
        let (seg, seq) = (header.seg, inspection.last.map(|(_, seq)| seq));
        header.seg = 0;
        let mut key = Vec::new();
        inspection.format.header(&header, &mut key);
        let date = inspection.last.map(|(time, _)| time.date());
        self.plan.decide(Event::Found { stream, seg, key, date, seq, bytes: len });
        if date.is_some_and(|date| date != today) {
            self.close(&stream.to_string(), Some(stream), date.unwrap_or(today))?;
            self.plan.decide(Event::Vanished { stream });
            return Ok(());
        }
        let columns = Columns::standard(stream);
        let changes = self.changes(stream, &columns);
        self.live.insert(
            stream,
            Live { file, format: inspection.format, columns, changes, len, torn: false, owed, crc, header: Vec::new() },
        );
        Ok(())
    }

    fn changes(&self, stream: Stream, columns: &Columns) -> Changes {
        let none = BTreeMap::new();
        Changes::new(columns, self.settings.thresholds.get(&stream).unwrap_or(&none))
    }

    fn open_own_log(&mut self, today: jiff::civil::Date) {
        let name = Name::live(OWN_LOG).to_string();
        let modified = std::fs::metadata(self.directory.path().join(&name)).and_then(|metadata| metadata.modified());
        if let Ok(modified) = modified
            && let Ok(since) = modified.duration_since(std::time::UNIX_EPOCH)
        {
            let date = self.wall.at(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)).date();
            if date != today {
                let _ = self.close(OWN_LOG, None, date);
            }
        }
        self.reopen_own_log();
    }

    fn reopen_own_log(&self) {
        self.own_log.exchange(self.directory.append(&Name::live(OWN_LOG).to_string()).ok());
    }

    fn sample(&mut self, mut sample: Sample) {
        let stream = sample.stream;
        if !self.directory.is_in_place() {
            self.replace_directory();
        }
        let name = Name::live(stream.name()).to_string();
        if self.live.get(&stream).is_some_and(|live| !self.directory.is_current(&live.file, &name)) {
            tracing::warn!(target: "journal", "{} was moved or removed. A new segment begins.", self.directory.path().join(&name).display());
            self.live.remove(&stream);
            let actions = self.plan.decide(Event::Vanished { stream });
            self.obey(actions, None);
        }
        let lost = lost_before(&sample.notes);
        let mut key = Vec::new();
        self.settings.format.header(&encode::header(stream, 0, &sample.facts, &sample.columns), &mut key);
        let actions = self.plan.decide(Event::Sample { stream, due: sample.due, full: sample.full, key, lost });
        self.obey(actions, Some(&mut sample));
    }

    fn obey(&mut self, actions: Vec<Action>, mut sample: Option<&mut Sample>) {
        for action in actions {
            match action {
                Action::Close { stream, date } => {
                    self.live.remove(&stream);
                    if let Err(error) = self.close(stream.name(), Some(stream), date) {
                        tracing::error!(target: "journal", "{stream}.log could not be closed under its date {date}: {error}.");
                    }
                }
                Action::Open { stream, seg } => {
                    if let Some(sample) = sample.as_deref()
                        && let Err(error) = self.open(stream, seg, sample)
                    {
                        self.disk_trouble(&format!("{error}"));
                    }
                }
                Action::Resume { stream } => {
                    let changes = sample.as_deref().map(|sample| (sample.columns.clone(), self.changes(stream, &sample.columns)));
                    if let (Some(live), Some((columns, changes))) = (self.live.get_mut(&stream), changes) {
                        live.columns = columns;
                        live.changes = changes;
                    }
                }
                Action::Append { stream, seq, shed, gap } => {
                    if let Some(sample) = sample.as_deref_mut() {
                        self.append(stream, sample, seq, shed, gap);
                    }
                }
                Action::Drop { stream } => {
                    tracing::warn!(target: "journal", "A sample of stream {stream} was dropped: a segment, or what follows a gap, begins with a full one. That is asked for.");
                }
                Action::WantFull { .. } => self.full_wanted.store(true, Ordering::Relaxed),
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
                    self.obey(actions, None);
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

    fn listing(&mut self) -> Vec<Action> {
        let today = self.wall.now().date();
        match self.directory.list() {
            Ok(found) => self.plan.decide(Event::Listing { today, found, free: self.directory.free().unwrap_or(u64::MAX) }),
            Err(error) => {
                tracing::warn!(target: "journal", "{} could not be listed: {error}. Nothing is pruned.", self.directory.path().display());
                Vec::new()
            }
        }
    }

    fn close(&self, live: &str, stream: Option<Stream>, date: jiff::civil::Date) -> io::Result<()> {
        let name = closed_name(&self.directory.list()?, stream, date);
        self.directory.rename(&Name::live(live).to_string(), &name.to_string())
    }

    fn open(&mut self, stream: Stream, seg: u64, sample: &Sample) -> Result<(), DirectoryError> {
        let name = Name::live(stream.name()).to_string();
        let mut file = self.directory.append(&name)?;
        if file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            // Somebody else's file under our name: it is set aside, not written into.
            let _ = self.close(stream.name(), Some(stream), sample.due.date());
            file = self.directory.append(&name)?;
        }
        let format = self.settings.format;
        let mut header = Vec::new();
        format.header(&encode::header(stream, seg, &sample.facts, &sample.columns), &mut header);
        let changes = self.changes(stream, &sample.columns);
        let live = Live {
            file,
            format,
            columns: sample.columns.clone(),
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

    fn append(&mut self, stream: Stream, sample: &mut Sample, seq: u64, shed: bool, gap: Option<Gap>) {
        let began = Instant::now();
        let mut notes = std::mem::take(&mut sample.notes);
        notes.retain(|note| note.kind != NoteKind::Gap);
        if let Some(gap) = gap {
            notes.push(gap_note(sample.due, &gap));
        }
        let ledger = Ledger { seq, shed: 0, prev_write_us: u64::try_from(self.prev_write.as_micros()).unwrap_or(u64::MAX) };
        let Some(live) = self.live.get_mut(&stream) else {
            // It could not be opened: the sample is lost as on a full disk.
            self.failed(stream, sample.due, true);
            return;
        };
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        out.extend_from_slice(&live.header);
        for note in self.pending.iter().chain(&notes) {
            live.format.note(stream, note, &mut out);
        }
        let news = live.changes.news(sample);
        let left = news.left.clone();
        let mut time = Vec::with_capacity(29);
        sample.due.write(3, &mut time);
        let (news, ledger) =
            if shed { (super::changes::News::default(), Ledger { shed: news.rows.len() as u64, ..ledger }) } else { (news, ledger) };
        live.format.news(stream, &live.columns, &time, &news, &mut out);
        live.format.tick(stream, &time, &encode::tick_fields(&sample.counts, sample.full, &news, ledger), &mut out);
        let mut crc = live.crc.clone();
        crc.update(&out);
        live.format.end_tick(crc.finalize(), &mut out);
        let written = live.write(&out);
        let bytes = out.len() as u64;
        // A full sample of a large machine needs megabytes once in ten minutes: they are not held in between.
        if out.capacity() > 1 << 20 {
            out = Vec::new();
        }
        self.buffer = out;
        let took = began.elapsed();
        match written {
            Ok(()) => {
                live.crc = crc32fast::Hasher::new();
                live.header.clear();
                self.pending.clear();
                self.prev_write = took;
                self.disk_failed = false;
                if shed {
                    live.changes.unsaid(&left);
                }
                self.slow(took, "write");
                let actions = self.plan.decide(Event::Written { stream, bytes, now: self.began.elapsed() });
                self.obey(actions, None);
            }
            Err(error) => {
                live.changes.unsaid(&left);
                let empty = live.len == 0;
                // Other notes of this sample must not be lost with it.
                self.pending.extend(notes.into_iter().filter(|note| !matches!(note.kind, NoteKind::FullDisk)).take(64));
                self.pending.truncate(256);
                self.disk_trouble(&error.to_string());
                self.failed(stream, sample.due, empty);
            }
        }
    }

    fn failed(&mut self, stream: Stream, due: Moment, fresh: bool) {
        if fresh {
            self.live.remove(&stream);
        }
        let actions = self.plan.decide(Event::Failed { stream, due, fresh });
        self.obey(actions, None);
    }

    fn disk_trouble(&mut self, why: &str) {
        if !self.disk_failed {
            self.disk_failed = true;
            tracing::error!(target: "journal", "{} takes no records: {why}. Samples are dropped and counted until it does.", self.directory.path().display());
        }
    }

    fn slow(&mut self, took: Duration, what: &str) {
        if took >= SLOW {
            tracing::warn!(target: "journal", "The disk took {took:?} for a {what}.");
            let now = self.wall.now();
            self.note(Note::new(now, NoteKind::SlowDisk).with("what", what).with("took_ms", took.as_millis()));
        }
    }

    /// A note for every live segment; while there is none it waits for the next one.
    fn note(&mut self, note: Note) {
        let streams: Vec<Stream> = self.live.iter().filter(|(_, live)| live.len > 0).map(|(stream, _)| *stream).collect();
        if streams.is_empty() || !self.pending.is_empty() {
            self.pending.push(note);
            return;
        }
        for stream in streams {
            self.note_in(stream, &note);
        }
    }

    fn note_in(&mut self, stream: Stream, note: &Note) {
        let Some(live) = self.live.get_mut(&stream).filter(|live| live.len > 0) else {
            self.pending.push(note.clone());
            return;
        };
        let mut line = Vec::new();
        live.format.note(stream, note, &mut line);
        match live.write(&line) {
            Ok(()) => live.crc.update(&line),
            Err(_) => self.pending.push(note.clone()),
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
        let state = State::new(&self.boot_id, &self.census, self.plan.numbers());
        if let Err(error) = state.to_bytes().and_then(|bytes| self.directory.replace(state::NAME, &bytes)) {
            self.disk_trouble(&format!("{} could not be written: {error}", state::NAME));
        }
    }

    fn reload(&mut self, reload: Reload) {
        let Reload { settings, directory, note, done } = reload;
        self.plan.decide(Event::Keeping(settings.keeping.clone()));
        self.settings = settings;
        self.note(note);
        if let Some(directory) = directory {
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
        let group = crate::source::users::group_id("adm");
        match Directory::open(&path, group) {
            Ok(directory) => {
                let streams: Vec<Stream> = self.live.keys().copied().collect();
                self.live.clear();
                for stream in streams {
                    let actions = self.plan.decide(Event::Vanished { stream });
                    self.obey(actions, None);
                }
                self.directory = directory;
                self.reopen_own_log();
                tracing::warn!(target: "journal", "{} had vanished and was made again.", path.display());
            }
            Err(error) => self.disk_trouble(&error.to_string()),
        }
    }
}

impl Live {
    /// Writes all of it, or leaves the file as it was.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            // It could not be cut off when it was made. While it stands, nothing may follow it.
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        if !self.owed.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            self.write_all(&owed).inspect_err(|_| self.owed = owed)?;
        }
        self.write_all(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.torn = self.file.set_len(self.len).is_err();
                Err(error)
            }
        }
    }
}

/// Samples that were made and never came here, as their maker notes them.
pub(super) fn lost_before(notes: &[Note]) -> u64 {
    let counts = notes
        .iter()
        .filter(|note| note.kind == NoteKind::Gap)
        .filter_map(|note| note.text.split(' ').find_map(|pair| pair.strip_prefix("samples=")));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

fn gap_note(due: Moment, gap: &Gap) -> Note {
    let kind = if gap.disk { NoteKind::FullDisk } else { NoteKind::Gap };
    let note = Note::new(due, kind).with("samples", gap.samples);
    match gap.since {
        Some(since) => note.with("since", since),
        None => note,
    }
}
