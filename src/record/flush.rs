//! What a stream without samples (`events`, `exits`, `alerts`) has to say: rows with times of their own, and every ten
//! seconds a tick, so that silence is proven too.

use std::sync::Arc;

use super::ledger::{Facts, Note};
use super::moment::Moment;
use super::schema::Columns;
use super::stream::Stream;
use super::value::Value;

/// One row of such a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedRow {
    /// When it happened, from the kernel's stamp; written with nine digits.
    pub time: Moment,
    /// One for each column after `time`.
    pub values: Box<[Value]>,
}

/// Rows of one stream since the flush before, in the order in which they are to stand.
#[derive(Clone, Debug)]
pub struct Flush {
    /// Which stream.
    pub stream: Stream,
    /// What the header of its segment must say.
    pub facts: Arc<Facts>,
    /// The columns of its rows.
    pub columns: Columns,
    /// When the flush was due: the time of its tick.
    pub due: Moment,
    /// The rows.
    pub rows: Vec<TimedRow>,
    /// What stands in the `#tick` between `seq`, `n` and `crc`; `None` where this flush only writes rows.
    pub tick: Option<Vec<(&'static str, String)>>,
    /// Notes for every live segment, to be written before the rows.
    pub notes: Vec<Note>,
}

impl Flush {
    /// It says nothing, and nothing is written for it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.notes.is_empty() && self.tick.is_none()
    }
}
