//! What a sampler keeps of a process, in the process's own entry: there is no second table.

/// What the ps sampler remembers of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Its CPU clock when the sample before was made, and when that was read, nanoseconds: other samplers look in between.
    before: (u64, u64),
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
    /// Nanoseconds of CPU and of time since the sample before, for a clock that was read at `looked_ns`. Of one that was not in it
    /// both run since that sample was taken, at `last_ns`; `None` where there was none.
    #[must_use]
    pub const fn interval_ns(&self, cpu_ns: u64, looked_ns: u64, last_ns: u64) -> Option<(u64, u64)> {
        let (cpu, since) = match self.before {
            (_, 0) if last_ns == 0 || looked_ns == 0 => return None,
            (_, 0) => (0, last_ns),
            before => before,
        };
        Some((cpu_ns.saturating_sub(cpu), looked_ns.saturating_sub(since)))
    }

    /// A sample was made of this clock.
    pub const fn remember(&mut self, cpu_ns: u64, looked_ns: u64) {
        self.before = (cpu_ns, looked_ns);
    }

    /// It used CPU in the interval before, or there was no interval before, so that its row changes even if it does nothing now.
    #[must_use]
    pub const fn was_running(&self) -> bool {
        self.first || matches!(self.pct, Some(tenths) if tenths > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_newborn_begins_with_the_sample_before() {
        let mut shown = Shown::default();
        assert_eq!(shown.interval_ns(0, 0, 500), None, "nobody looked at its clock yet");
        assert_eq!(shown.interval_ns(30, 1500, 0), None, "there was no sample before: its interval is not known");
        assert_eq!(shown.interval_ns(30, 1500, 500), Some((30, 1000)));
        shown.remember(30, 1500);
        assert_eq!(shown.interval_ns(40, 2500, 1500), Some((10, 1000)));
    }
}
