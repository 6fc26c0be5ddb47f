//! What the plan knows of one stream.

use jiff::civil::Date;

use super::words::{Action, Gap};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) seg: u64,
    pub(super) seq: u64,
    /// The live segment: its key and the date of what was last written there.
    pub(super) live: Option<(Vec<u8>, Option<Date>)>,
    /// It was found at a start and not yet gone on with.
    pub(super) found: bool,
    pub(super) today: u64,
    pub(super) gap: Option<Gap>,
    /// The gap that the write under way tells of: told only if that succeeds.
    pub(super) telling: Option<Gap>,
    pub(super) shedding: bool,
    /// Of a stream without samples: what its next tick counts.
    pub(super) open: Open,
    /// Of a stream without samples: what becomes of the write under way.
    pub(super) under_way: Option<UnderWay>,
}

/// Rows since the last tick.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// In the live segment.
    pub(super) rows: u64,
    /// Shed.
    pub(super) shed: u64,
    /// When the last flush of them was due.
    pub(super) last: Option<Moment>,
}

/// A write of a stream without samples that the plan asked for.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// When it was due.
    pub(super) due: Moment,
    /// Rows it adds to the segment.
    pub(super) rows: u64,
    /// Rows that are lost with it if it fails.
    pub(super) at_stake: u64,
    /// It ends with a tick.
    pub(super) ticks: bool,
    /// A further tick, without a number as yet, is lost with it if it fails.
    pub(super) further_tick: bool,
}

impl Track {
    /// Whether the live segment can take what needs this header on this date.
    pub(super) fn goes_on(&self, key: &[u8], date: Date) -> bool {
        self.live.as_ref().is_some_and(|(now, last)| now == key && last.is_none_or(|last| last == date))
    }

    /// Sees to it that a live segment is there for this header and date.
    pub(super) fn turn(&mut self, stream: Stream, key: Vec<u8>, date: Date, actions: &mut Vec<Action>) {
        if !self.goes_on(&key, date) {
            if let Some((_, last)) = self.live.take() {
                actions.push(Action::Close { stream, date: last.unwrap_or(date) });
                if last.is_none_or(|last| last != date) {
                    self.today = 0;
                    self.shedding = false;
                }
                actions.push(Action::List);
            }
            self.seg += 1;
            actions.push(Action::Open { stream, seg: self.seg });
        } else if self.found {
            actions.push(Action::Resume { stream });
        }
        self.found = false;
        self.live = Some((key, Some(date)));
    }

    /// Whether the share is reached and rows are shed.
    pub(super) fn sheds(&mut self, stream: Stream, share: u64, actions: &mut Vec<Action>) -> bool {
        let over = self.today >= share;
        if over && !self.shedding {
            actions.push(Action::NoteShed { stream, share });
        }
        self.shedding = over;
        over
    }

    /// The gap that the write to come tells of.
    pub(super) fn tell(&mut self) -> Option<Gap> {
        let gap = self.gap.take();
        self.telling.clone_from(&gap);
        gap
    }

    /// More is missing. A gap begins where its first part does.
    pub(super) fn miss(&mut self, more: &Gap) {
        let gap = self.gap.get_or_insert(Gap { since: more.since, ..Gap::default() });
        gap.samples += more.samples;
        gap.rows += more.rows;
        gap.disk |= more.disk;
    }
}
