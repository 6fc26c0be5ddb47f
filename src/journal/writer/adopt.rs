//! What a start finds in the directory: numbers to go on with, live segments to resume or to close.

use std::io::{self, BufReader, Write as _};

use super::live::Live;
use super::obey::Writer;
use super::work::Work;
use crate::journal::plan::Event;
use crate::journal::segment::{Name, OWN_LOG};
use crate::journal::state::{self, Restored};
use crate::journal::{reader, recover};
use crate::record::ledger::{Note, NoteKind};
use crate::record::schema::Columns;
use crate::record::stream::Stream;

impl Writer {
    /// Looks at what the directory holds: numbers to go on with, live segments to resume or to close.
    pub(super) fn adopt(&mut self) {
        let today = self.wall.now().date();
        let found = self.directory.list().unwrap_or_default();
        match state::restore(self.directory.path()) {
            Restored::State(state) => {
                for (name, numbers) in &state.streams {
                    if let Ok(stream) = name.parse() {
                        self.plan.decide(Event::Known { stream, seg: numbers.seg, seq: numbers.seq, today: 0 });
                    }
                }
            }
            Restored::Missing => {}
            Restored::Damaged(why) => {
                tracing::warn!(target: "journal", "{} cannot be used: {why}. Numbers go on from the newest segments; what was alive before is not known.", state::NAME);
                let now = self.wall.now();
                self.expect(Note::new(now, NoteKind::Degraded).with("what", state::NAME).with("why", why));
            }
        }
        for stream in Stream::ALL {
            // The newest closed segment says how far the numbers went, should the state be lost.
            let mut closed: Vec<Name> = found
                .iter()
                .filter(|found| found.name.stream == stream.name() && found.name.date.is_some())
                .map(|found| found.name.clone())
                .collect();
            reader::sort_by_arrival(self.directory.path(), &mut closed);
            if let Some(name) = closed.last()
                && let Ok(Ok(inspection)) = reader::open(self.directory.path(), name).map(recover::inspect)
            {
                let seg = inspection.header.map_or(0, |header| header.seg);
                let of_today = found.iter().filter(|found| found.name.stream == stream.name() && found.name.date == Some(today));
                let bytes = of_today.map(|found| found.bytes).sum();
                self.plan.decide(Event::Known { stream, seg, seq: inspection.last.map_or(0, |(_, seq)| seq), today: bytes });
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
        self.obey(actions, Work::Nothing);
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
            tracing::warn!(target: "journal", "{name}: {} bytes after the last tick are torn (the recorder or the machine stopped before the next was written). They are marked, and recording goes on in the same file.", torn.bytes);
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

    pub(super) fn open_own_log(&mut self, today: jiff::civil::Date) {
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
}
