//! Decisions on streams without samples (`events`, `exits`, `alerts`): rows come when they come, and a tick says now
//! and then how many there were. None is ever too incomplete to begin a segment with, so none is dropped for that.

use super::Plan;
use super::track::{Open, Track, UnderWay};
use super::words::{Action, Gap, Tally};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// A flush as the plan sees it.
#[derive(Clone, Copy)]
pub(super) struct Coming {
    pub(super) due: Moment,
    pub(super) rows: u64,
    pub(super) lost: u64,
    pub(super) tick: bool,
}

impl Plan {
    pub(super) fn flush(&mut self, stream: Stream, key: Vec<u8>, coming: Coming) -> Vec<Action> {
        let Coming { due, rows, lost, tick } = coming;
        let date = due.date();
        let track = self.streams.entry(stream).or_default();
        // Decided anew once that tick stands there: a disk without room for it keeps the segment open, and loses
        // what comes, but no segment is ever closed over rows that belong to no sample.
        if !track.goes_on(&key, date)
            && let Some(tick) = track.close_tick(stream, Some(coming))
        {
            return vec![tick];
        }
        let mut actions = Vec::new();
        let new_day = self.turn_day(date, &mut actions);
        let share = self.share(stream);
        let track = self.streams.entry(stream).or_default();
        track.turn(stream, key, date, &mut actions);
        let shed = track.sheds(stream, share, &mut actions);
        if shed {
            // Whatever becomes of the write, these are shed.
            track.open.shed += rows;
            track.open.last = Some(due);
        }
        let rows = if shed { 0 } else { rows };
        let tick = tick.then(|| track.tally(rows));
        track.under_way = Some(UnderWay { due, rows, at_stake: rows + lost, ticks: tick.is_some(), further_tick: false });
        actions.push(Action::Flush { stream, shed, tick, gap: track.tell() });
        if new_day {
            actions.push(Action::SaveState);
        }
        actions
    }
}

impl Track {
    /// The tick that must end the live segment before it is left; `None` where no row waits for one. With `coming`
    /// it is a flush that needs another segment, and is lost with the tick if that cannot be written.
    pub(super) fn close_tick(&mut self, stream: Stream, coming: Option<Coming>) -> Option<Action> {
        self.live.as_ref()?;
        let due = self.open.last.filter(|_| self.open.rows + self.open.shed > 0)?;
        let at_stake = coming.map_or(0, |coming| coming.rows + coming.lost);
        let further_tick = coming.is_some_and(|coming| coming.tick);
        let tally = self.tally(0);
        self.under_way = Some(UnderWay { due, rows: 0, at_stake, ticks: true, further_tick });
        Some(Action::CloseTick { stream, due, tally, gap: self.tell() })
    }

    /// The next tick, which counts what is open and these rows.
    fn tally(&mut self, rows: u64) -> Tally {
        self.seq += 1;
        Tally { seq: self.seq, n: self.open.rows + rows, shed: self.open.shed }
    }

    /// The write under way stands in the segment.
    pub(super) fn flushed(&mut self) {
        let Some(done) = self.under_way.take() else { return };
        if done.ticks {
            self.open = Open::default();
        } else {
            self.open.rows += done.rows;
            self.open.last = Some(done.due);
        }
    }

    /// The write under way was lost, with all that hung on it. Rows written before it wait for the next tick.
    pub(super) fn lose(&mut self, due: Moment, lost: &UnderWay) {
        self.seq += u64::from(lost.further_tick);
        let samples = u64::from(lost.ticks) + u64::from(lost.further_tick);
        if samples + lost.at_stake > 0 {
            self.miss(&Gap { samples, rows: lost.at_stake, since: Some(due), disk: true });
        }
    }
}
