//! What the writer does: a pure function of events and of the clock they carry.
//!
//! [`Plan::decide`] takes an [`Event`] and answers with the [`Action`]s that the writer must take, in order.
//! It touches no file and asks no clock, so that tests hold both in their hand.
//!
//! * `words`: events and actions; `track`: what is known of one stream; `flush`: the streams without samples.

mod flush;
mod track;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;

use super::segment::{self, Found, Name, OWN_LOG};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

use flush::Coming;
use track::Track;
pub use words::{Action, Event, Gap, Tally};

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
            // A recorder that begins from this state counts nothing twice, as long as no row of CPU time is younger. Before the first write
            // the numbers of the streams are not all known.
            Event::Census => self.last_list.map(|_| Action::SaveState).into_iter().collect(),
            Event::Sample { stream, due, full, key, lost } => self.sample(stream, due, full, key, lost),
            Event::Written { stream, bytes, now } => self.written(stream, bytes, now),
            Event::Flush { stream, due, key, rows, lost, tick } => self.flush(stream, key, Coming { due, rows, lost, tick }),
            Event::End { stream } => self.streams.entry(stream).or_default().close_tick(stream, None).into_iter().collect(),
            Event::Failed { stream, due, fresh } => {
                let track = self.streams.entry(stream).or_default();
                if fresh {
                    track.live = None;
                    track.seg = track.seg.saturating_sub(1);
                }
                track.gap = track.telling.take();
                if let Some(lost) = track.under_way.take() {
                    track.lose(due, &lost);
                    return Vec::new();
                }
                track.miss(&Gap { samples: 1, since: Some(due), disk: true, ..Gap::default() });
                vec![Action::WantFull { stream }]
            }
            Event::Vanished { stream } => {
                let track = self.streams.entry(stream).or_default();
                track.live = None;
                // They stand in a file that is gone, and no tick of another can count them.
                track.open.rows = 0;
                if stream.has_samples() { vec![Action::WantFull { stream }] } else { Vec::new() }
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
        let new_day = self.turn_day(date, &mut actions);
        let share = self.share(stream);
        let track = self.streams.entry(stream).or_default();
        if lost > 0 {
            track.seq += lost;
            track.miss(&Gap { samples: lost, ..Gap::default() });
        }
        track.seq += 1;
        let goes_on = track.goes_on(&key, date);
        // A segment begins with a full sample, and after a gap nothing else makes sense either.
        // What was shed is missing from the table: when there is room again it must be whole.
        let room_again = track.shedding && track.today < share;
        if !full && (!goes_on || track.gap.is_some() || track.found || room_again) {
            track.miss(&Gap { samples: 1, since: Some(due), ..Gap::default() });
            actions.extend([Action::Drop { stream }, Action::WantFull { stream }]);
            return actions;
        }
        track.turn(stream, key, date, &mut actions);
        let shed = track.sheds(stream, share, &mut actions);
        actions.push(Action::Append { stream, seq: track.seq, shed, gap: track.tell() });
        if new_day {
            actions.push(Action::SaveState);
        }
        actions
    }

    /// Takes the date of what is to be written; `true` where it is another than before.
    fn turn_day(&mut self, date: Date, actions: &mut Vec<Action>) -> bool {
        let last = self.date.replace(date).filter(|last| *last != date);
        actions.extend(last.map(|date| Action::CloseOwnLog { date }));
        last.is_some()
    }

    fn share(&self, stream: Stream) -> u64 {
        self.keeping.shares.get(&stream).copied().unwrap_or(u64::MAX)
    }

    fn written(&mut self, stream: Stream, bytes: u64, now: Duration) -> Vec<Action> {
        let track = self.streams.entry(stream).or_default();
        track.today += bytes;
        track.flushed();
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

/// The name under which a live segment is closed.
#[must_use]
pub fn closed_name(found: &[Found], stream: Option<Stream>, date: Date) -> Name {
    let stream = stream.map_or(OWN_LOG, Stream::name);
    Name { stream: stream.to_owned(), date: Some(date), number: segment::next_number(found, stream, date), compressed: false }
}

#[cfg(test)]
mod flush_tests;
#[cfg(test)]
mod tests;
