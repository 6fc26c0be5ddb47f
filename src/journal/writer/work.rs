//! What the writer is at: a sample, a flush, or neither.

use crate::record::flush::Flush;
use crate::record::ledger::{Facts, Note};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::schema::Columns;

/// What the actions to obey are about.
pub(super) enum Work<'a> {
    /// Time, the directory, an end.
    Nothing,
    /// A sample.
    Sample(&'a mut Sample),
    /// A flush.
    Flush(&'a mut Flush),
}

/// What its segment is opened with.
pub(super) struct Head<'a> {
    pub(super) facts: &'a Facts,
    pub(super) columns: &'a Columns,
    pub(super) due: Moment,
}

impl Work<'_> {
    pub(super) fn head(&self) -> Option<Head<'_>> {
        match self {
            Self::Nothing => None,
            Self::Sample(sample) => Some(Head { facts: &sample.facts, columns: &sample.columns, due: sample.due }),
            Self::Flush(flush) => Some(Head { facts: &flush.facts, columns: &flush.columns, due: flush.due }),
        }
    }

    /// Its notes, which go out with something else.
    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Sample(sample) => std::mem::take(&mut sample.notes),
            Self::Flush(flush) => std::mem::take(&mut flush.notes),
        }
    }
}
