//! The loop that owns every file and obeys the [`Plan`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::live::Live;
use super::{Busy, Item, Reload, SLOW, Settings};
use crate::journal::archive::Archivist;
use crate::journal::changes::{Changes, News};
use crate::journal::directory::{Directory, DirectoryError};
use crate::journal::encode::{self, Ledger};
use crate::journal::own_log::OwnLog;
use crate::journal::plan::{Action, Event, Gap, Plan, closed_name};
use crate::journal::segment::{Name, OWN_LOG};
use crate::journal::state::{self, State};
use crate::record::alive::Census;
use crate::record::ledger::{Note, NoteKind};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::source::clock::Wall;

/// Notes that may wait for a segment.
const PENDING: usize = 256;

/// The writer's own state.
pub(super) struct Writer {
    pub(super) directory: Directory,
    pub(super) settings: Settings,
    pub(super) boot_id: String,
    pub(super) own_log: OwnLog,
    pub(super) full_wanted: Arc<AtomicBool>,
    pub(super) archivist: Archivist,
    pub(super) plan: Plan,
    pub(super) live: BTreeMap<Stream, Live>,
    pub(super) census: Census,
    /// Notes that no live segment has taken yet.
    pub(super) pending: Vec<Note>,
    pub(super) wall: Wall,
    pub(super) began: Instant,
    pub(super) prev_write: Duration,
    pub(super) disk_failed: bool,
    pub(super) busy: Arc<Busy>,
    pub(super) buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn run(mut self, inbox: &Receiver<Item>, queued: &AtomicUsize) {
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
                    self.flush_notes();
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

    pub(super) fn changes(&self, stream: Stream, columns: &Columns) -> Changes {
        let none = BTreeMap::new();
        Changes::new(columns, self.settings.thresholds.get(&stream).unwrap_or(&none))
    }

    pub(super) fn reopen_own_log(&self) {
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

    pub(super) fn obey(&mut self, actions: Vec<Action>, mut sample: Option<&mut Sample>) {
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
                    if let Some(sample) = sample.as_deref_mut() {
                        self.keep_notes(std::mem::take(&mut sample.notes));
                    }
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
            self.keep_notes(notes);
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
        let (news, ledger) = if shed { (News::default(), Ledger { shed: news.rows.len() as u64, ..ledger }) } else { (news, ledger) };
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
                    live.changes.unsaid(left);
                }
                self.slow(took, "write");
                let actions = self.plan.decide(Event::Written { stream, bytes, now: self.began.elapsed() });
                self.obey(actions, None);
            }
            Err(error) => {
                live.changes.unsaid(left);
                let empty = live.len == 0 && !live.torn;
                self.keep_notes(notes);
                self.disk_trouble(&error.to_string());
                self.failed(stream, sample.due, empty);
            }
        }
    }

    /// Notes of a sample that is not written go out with the next one; what is missing itself is the plan's to tell.
    fn keep_notes(&mut self, notes: Vec<Note>) {
        let others = notes.into_iter().filter(|note| !matches!(note.kind, NoteKind::FullDisk | NoteKind::Gap));
        self.pending.extend(others.take(64));
        self.pending.truncate(PENDING);
    }

    /// Notes that waited for a sample which never came go into what is there.
    fn flush_notes(&mut self) {
        for note in std::mem::take(&mut self.pending) {
            let streams: Vec<Stream> = self.live.keys().copied().collect();
            for stream in streams {
                self.note_in(stream, &note);
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

    pub(super) fn disk_trouble(&mut self, why: &str) {
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
    pub(super) fn note(&mut self, note: Note) {
        let streams: Vec<Stream> = self.live.iter().filter(|(_, live)| live.len > 0).map(|(stream, _)| *stream).collect();
        if streams.is_empty() || !self.pending.is_empty() {
            self.pending.push(note);
            return;
        }
        for stream in streams {
            self.note_in(stream, &note);
        }
    }

    pub(super) fn note_in(&mut self, stream: Stream, note: &Note) {
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
        match Directory::open(&path, self.directory.group()) {
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

/// Samples that were made and never came here, as their maker notes them.
pub(in crate::journal) fn lost_before(notes: &[Note]) -> u64 {
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
