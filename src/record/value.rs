//! One cell of a row. Unknown is not refused, and neither is zero.

use std::sync::Arc;

use super::cmd::Cmd;

/// What a column holds in one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `-`: the value does not exist (vanished, kernel thread, no terminal).
    Absent,
    /// `?`: it was refused, or could not be had in time.
    Refused,
    /// A whole number, in the unit of its column.
    Int(i64),
    /// A decimal, times ten to the power of the digits of its column.
    Fixed(i64),
    /// A word: bytes until shown.
    Word(Arc<[u8]>),
    /// A command line.
    Cmd(Arc<Cmd>),
}

impl Value {
    /// A word from bytes.
    #[must_use]
    pub fn word(bytes: &[u8]) -> Self {
        Self::Word(Arc::from(bytes))
    }

    /// A whole number; what does not fit is the largest that does.
    #[must_use]
    pub fn count(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// The number behind a whole or decimal value, for comparing values of one column.
    #[must_use]
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Int(number) | Self::Fixed(number) => Some(*number),
            _ => None,
        }
    }
}
