//! What the writer does: a pure function of events and of the clock they carry.
//!
//! [`Plan::decide`] takes an [`Event`] and answers with the [`Action`]s that the writer must take, in order.
//! It touches no file and asks no clock, so that tests hold both in their hand.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;

use super::segment::{self, Found, Name, OWN_LOG};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// What the config says about keeping.
#[derive(Clone, Debug, PartialEq)]
pub struct Keeping {
    /// Rows may be lost to a power cut for at most so long.
    pub sync: Duration,
    /// Closed segments are kept for so many days.
    pub keep_days: u32,
    /// They are compressed after so many days.
    pub compress_after_days: u32,
    /// Space that must stay free, in bytes of this disk.
    pub min_free: u64,
    /// What today's segments of each stream may hold, in bytes.
    pub shares: BTreeMap<Stream, u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A live segment was found at a start and is good up to its end.
    Found {
        /// Whose.
        stream: Stream,
        /// Its number.
        seg: u64,
        /// What its header says, but for its number.
        key: Vec<u8>,
        /// The date of its last tick; `None` where it has none.
        date: Option<Date>,
        /// The number of that tick.
        seq: Option<u64>,
        /// Its size.
        bytes: u64,
    },
    /// The highest numbers known of a stream from elsewhere: closed segments and the state file.
    Known {
        /// Whose.
        stream: Stream,
        /// The number of its last segment.
        seg: u64,
        /// The number of its last sample.
        seq: u64,
        /// Bytes of closed segments of today.
        today: u64,
    },
    /// A sample is to be written.
    Sample {
        /// Whose.
        stream: Stream,
        /// When its tick was due.
        due: Moment,
        /// It holds every row.
        full: bool,
        /// What the header of its segment must say, but for its number.
        key: Vec<u8>,
        /// Samples before it that never came here.
        lost: u64,
    },
    /// What [`Action::Append`] asked for was written.
    Written {
        /// Whose.
        stream: Stream,
        /// How many bytes.
        bytes: u64,
        /// When.
        now: Duration,
    },
    /// It could not be written, and nothing of it stands in the file.
    Failed {
        /// Whose.
        stream: Stream,
        /// When its tick was due.
        due: Moment,
        /// Its segment was only just opened, and nothing of it stands on the disk: its number is still to be had.
        fresh: bool,
    },
    /// The file of a live segment is not the one that was opened: it was moved or removed.
    Vanished {
        /// Whose.
        stream: Stream,
    },
    /// Time went by, on a clock that only goes forward.
    Time(Duration),
    /// What the directory holds, and how much space is free.
    Listing {
        /// The local date.
        today: Date,
        /// All segments.
        found: Vec<Found>,
        /// Bytes free.
        free: u64,
    },
    /// A new config is in force.
    Keeping(Keeping),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Close the live segment under the name of this date.
    Close {
        /// Whose.
        stream: Stream,
        /// The date.
        date: Date,
    },
    /// Open a new live segment, whose header goes out with the sample.
    Open {
        /// Whose.
        stream: Stream,
        /// Its number.
        seg: u64,
    },
    /// Go on in the segment that is there.
    Resume {
        /// Whose.
        stream: Stream,
    },
    /// Write the sample.
    Append {
        /// Whose.
        stream: Stream,
        /// Its number.
        seq: u64,
        /// Its rows are shed: only the tick is written.
        shed: bool,
        /// A gap that ends here.
        gap: Option<Gap>,
    },
    /// Do not write the sample.
    Drop {
        /// Whose.
        stream: Stream,
    },
    /// Ask for a full sample.
    WantFull {
        /// Whose.
        stream: Stream,
    },
    /// Note that shedding began.
    NoteShed {
        /// Whose.
        stream: Stream,
        /// The share that was reached.
        share: u64,
    },
    /// Close psmond's own log under the name of this date.
    CloseOwnLog {
        /// The date.
        date: Date,
    },
    /// Bring what was written to the disk.
    Sync,
    /// Look at the directory and the space.
    List,
    /// Write `psmond.state`.
    SaveState,
    /// Delete a closed segment.
    Remove(Name),
    /// Compress a closed segment.
    Compress(Name),
}

/// Samples that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub samples: u64,
    /// When the first was due; of those that never came here it is not known.
    pub since: Option<Moment>,
    /// The disk took none of them.
    pub disk: bool,
}

#[derive(Debug, Default)]
struct Track {
    seg: u64,
    seq: u64,
    /// The live segment: its key and the date of its last tick.
    live: Option<(Vec<u8>, Option<Date>)>,
    /// It was found at a start and not yet gone on with.
    found: bool,
    today: u64,
    gap: Option<Gap>,
    /// The gap that the sample under way tells of: told only if that sample is written.
    telling: Option<Gap>,
    shedding: bool,
}

/// The state behind the decisions.
#[derive(Debug)]
pub struct Plan {
    keeping: Keeping,
    streams: BTreeMap<Stream, Track>,
    /// The date of the newest tick of any stream.
    date: Option<Date>,
    /// When the oldest write that is not yet on the disk was made.
    unsynced: Option<Duration>,
    last_written: Option<Duration>,
    last_list: Option<Duration>,
}

/// How often the state is saved and the directory looked at.
const EVERY: Duration = Duration::from_secs(60);

impl Plan {
    /// With nothing known yet.
    #[must_use]
    pub const fn new(keeping: Keeping) -> Self {
        Self { keeping, streams: BTreeMap::new(), date: None, unsynced: None, last_written: None, last_list: None }
    }

    /// The last numbers of each stream, for the state file.
    pub fn numbers(&self) -> impl Iterator<Item = (Stream, u64, u64)> {
        self.streams.iter().map(|(stream, track)| (*stream, track.seg, track.seq))
    }

    /// When [`Event::Time`] is due next.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        self.unsynced.map(|since| since + self.keeping.sync)
    }

    /// Takes an event; answers with what to do.
    pub fn decide(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Found { stream, seg, key, date, seq, bytes } => {
                let track = self.streams.entry(stream).or_default();
                track.seg = track.seg.max(seg);
                track.seq = track.seq.max(seq.unwrap_or(0));
                track.live = Some((key, date));
                track.found = true;
                track.today += bytes;
                self.date = self.date.max(date);
                Vec::new()
            }
            Event::Known { stream, seg, seq, today } => {
                let track = self.streams.entry(stream).or_default();
                track.today = track.today.max(today);
                track.seg = track.seg.max(seg);
                track.seq = track.seq.max(seq);
                Vec::new()
            }
            Event::Sample { stream, due, full, key, lost } => self.sample(stream, due, full, key, lost),
            Event::Written { stream, bytes, now } => self.written(stream, bytes, now),
            Event::Failed { stream, due, fresh } => {
                let track = self.streams.entry(stream).or_default();
                if fresh {
                    track.live = None;
                    track.seg = track.seg.saturating_sub(1);
                }
                track.gap = track.telling.take();
                add_gap(track, 1, Some(due), true);
                vec![Action::WantFull { stream }]
            }
            Event::Vanished { stream } => {
                self.streams.entry(stream).or_default().live = None;
                vec![Action::WantFull { stream }]
            }
            Event::Time(now) => self.time(now),
            Event::Listing { today, found, free } => self.housekeeping(today, found, free),
            Event::Keeping(keeping) => {
                self.keeping = keeping;
                Vec::new()
            }
        }
    }

    fn sample(&mut self, stream: Stream, due: Moment, full: bool, key: Vec<u8>, lost: u64) -> Vec<Action> {
        let date = due.date();
        let mut actions = Vec::new();
        let new_day = self.date.is_some_and(|last| last != date);
        if let Some(last) = self.date.filter(|_| new_day) {
            actions.push(Action::CloseOwnLog { date: last });
        }
        self.date = Some(date);
        let share = self.keeping.shares.get(&stream).copied().unwrap_or(u64::MAX);
        let track = self.streams.entry(stream).or_default();
        if lost > 0 {
            track.seq += lost;
            add_gap(track, lost, None, false);
        }
        track.seq += 1;
        let goes_on = track.live.as_ref().is_some_and(|(now, last)| *now == key && last.is_none_or(|last| last == date));
        // A segment begins with a full sample, and after a gap nothing else makes sense either.
        // What was shed is missing from the table: when there is room again it must be whole.
        let room_again = track.shedding && track.today < share;
        if !full && (!goes_on || track.gap.is_some() || track.found || room_again) {
            add_gap(track, 1, Some(due), false);
            actions.extend([Action::Drop { stream }, Action::WantFull { stream }]);
            return actions;
        }
        if !goes_on {
            if let Some((_, last)) = track.live.take() {
                actions.push(Action::Close { stream, date: last.unwrap_or(date) });
                if last.is_none_or(|last| last != date) {
                    track.today = 0;
                    track.shedding = false;
                }
                actions.push(Action::List);
            }
            track.seg += 1;
            actions.push(Action::Open { stream, seg: track.seg });
        } else if track.found {
            actions.push(Action::Resume { stream });
        }
        track.found = false;
        track.live = Some((key, Some(date)));
        let over = track.today >= share;
        if over && !track.shedding {
            actions.push(Action::NoteShed { stream, share });
        }
        track.shedding = over;
        let gap = track.gap.take();
        track.telling.clone_from(&gap);
        actions.push(Action::Append { stream, seq: track.seq, shed: over, gap });
        if new_day {
            actions.push(Action::SaveState);
        }
        actions
    }

    fn written(&mut self, stream: Stream, bytes: u64, now: Duration) -> Vec<Action> {
        self.streams.entry(stream).or_default().today += bytes;
        let between = self.last_written.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last_written = Some(now);
        let since = *self.unsynced.get_or_insert(now);
        let mut actions = Vec::new();
        // Synced now if the next write would come too late: so that no wake-up is needed in between.
        if now + between > since + self.keeping.sync {
            self.unsynced = None;
            actions.push(Action::Sync);
        }
        if self.last_list.is_none_or(|last| now >= last + EVERY) {
            self.last_list = Some(now);
            actions.extend([Action::List, Action::SaveState]);
        }
        actions
    }

    fn time(&mut self, now: Duration) -> Vec<Action> {
        if self.wake().is_some_and(|due| now >= due) {
            self.unsynced = None;
            return vec![Action::Sync];
        }
        Vec::new()
    }

    /// Whole days go, the oldest first: those older than the config keeps, and last of all as many as it takes
    /// to have the space free that must be. Today's segments and the live ones stay whatever happens.
    fn housekeeping(&self, today: Date, mut found: Vec<Found>, mut free: u64) -> Vec<Action> {
        let age = |name: &Name| name.date.map(|date| date.until(today).map_or(0, |span| i64::from(span.get_days())));
        found.retain(|found| age(&found.name).is_some_and(|age| age > 0));
        found.sort_by(|one, other| (one.name.date, &one.name).cmp(&(other.name.date, &other.name)));
        let mut actions = Vec::new();
        let mut pruned = None;
        for Found { name, bytes } in found {
            let days = age(&name).unwrap_or(0);
            let too_old = days > i64::from(self.keeping.keep_days);
            let short = free < self.keeping.min_free;
            if too_old || short || pruned == name.date {
                pruned = name.date;
                free = free.saturating_add(bytes);
                actions.push(Action::Remove(name));
            } else if !name.compressed && days > i64::from(self.keeping.compress_after_days) {
                actions.push(Action::Compress(name));
            }
        }
        actions
    }
}

fn add_gap(track: &mut Track, samples: u64, since: Option<Moment>, disk: bool) {
    let gap = track.gap.get_or_insert(Gap { samples: 0, since, disk: false });
    gap.samples += samples;
    gap.disk |= disk;
}

/// The name under which a live segment is closed.
#[must_use]
pub fn closed_name(found: &[Found], stream: Option<Stream>, date: Date) -> Name {
    let stream = stream.map_or(OWN_LOG, Stream::name);
    Name { stream: stream.to_owned(), date: Some(date), number: segment::next_number(found, stream, date), compressed: false }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
