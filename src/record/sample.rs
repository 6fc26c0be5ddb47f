//! What one sampler saw at one tick.

use std::sync::Arc;

use super::identity::Id;
use super::ledger::{Facts, Note, Why};
use super::moment::Moment;
use super::schema::Columns;
use super::stream::Stream;
use super::value::Value;

/// The values of one process or program at one tick, in the order of the sample's columns without `time`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Whose they are.
    pub id: Id,
    /// One for each column after `time`.
    pub values: Box<[Value]>,
}

/// What a sampler considered, and what became of it.
///
/// `seen` = rows written + unchanged + hidden + vanished, where the journal tells the first two apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What the sampler considered.
    pub seen: u64,
    /// Kept out by a filter; psmond itself is among them.
    pub hidden: u64,
    /// Gone between the list and the reading.
    pub vanished: u64,
    /// Rows of the rebuilt sample that hold a refused `?`.
    pub refused: u64,
    /// Rows of the rebuilt sample that hold a `?` because it could not be had in time.
    pub stuck: u64,
    /// On a full sample: rows that differed although their CPU clock stood still.
    pub gate_missed: Option<u64>,
    /// Ticks that were due since the one before and not taken.
    pub skipped: u64,
    /// How late the tick began, in milliseconds.
    pub late_ms: u64,
    /// Time spent reading the kernel, in microseconds.
    pub read_us: u64,
    /// CLOCK_BOOTTIME at the tick, in milliseconds.
    pub boottime_ms: u64,
}

impl Counts {
    /// Something that was considered and is as it was, with or without values that could not be had.
    pub fn add_unchanged(&mut self, refused: bool, stuck: bool) {
        self.seen += 1;
        self.refused += u64::from(refused);
        self.stuck += u64::from(stuck);
    }
}

/// What left a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Who.
    pub id: Id,
    /// Why.
    pub why: Why,
}

/// One tick of one stream, whole.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which stream.
    pub stream: Stream,
    /// What the header of its segment must say.
    pub facts: Arc<Facts>,
    /// The columns of its rows.
    pub columns: Columns,
    /// When the tick was due.
    pub due: Moment,
    /// Every row there is stands in it: the rows of a segment's first sample, and of one after a gap.
    pub full: bool,
    /// Rows of what may have changed, in the order they are to be written; what is not here did not change.
    pub rows: Vec<Row>,
    /// What left the stream since the sample before.
    pub left: Vec<Left>,
    /// What was considered.
    pub counts: Counts,
    /// What the tick of this stream says besides: sums, as `key=value`.
    pub totals: Vec<(&'static str, String)>,
    /// Notes for every live segment, to be written before the rows.
    pub notes: Vec<Note>,
}
