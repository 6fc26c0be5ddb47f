//! What a sampler keeps of a process, in the process's own entry: there is no second table.

/// What the ps sampler remembers of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// It is in the stream.
    pub visible: bool,
    /// It was in the stream as a pid of which nothing could be had.
    pub replaces_unknown: bool,
    /// Its row holds a refused value.
    pub refused: bool,
    /// Its row holds a value that could not be had in time.
    pub stuck: bool,
    /// Tenths of a per cent of CPU over the last interval.
    pub pct: Option<i64>,
    /// No interval was behind its row: the next one has its first percentage.
    pub first: bool,
}

impl Shown {
    /// It used CPU in the interval before, or there was no interval before, so that its row changes even if it does nothing now.
    #[must_use]
    pub const fn was_running(&self) -> bool {
        self.first || matches!(self.pct, Some(tenths) if tenths > 0)
    }
}
