//! How long something took, many times over: a histogram that can be sent as a line and added up.

use std::time::Duration;

use anyhow::{Context, Result};

/// Buckets in each power of two: 3 % from one to the next.
const FINE: u32 = 5;

/// Longer than this, not counting what it waited for a CPU, it was held up: mapping, touching and unmapping takes some tens of microseconds.
const LONG: Duration = Duration::from_millis(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latencies {
    /// How often, by [`bucket`].
    buckets: Vec<u64>,
    /// From the first to the last.
    pub(crate) length: Duration,
    pub(crate) longest: Duration,
    /// The longest that a CPU was not waited for.
    pub(crate) longest_hold: Duration,
    /// Sum of those above [`LONG`] that a CPU was not waited for.
    long: Duration,
}

impl Latencies {
    /// Of what it took it waited so long for a CPU, which others had: no lock is to blame for that.
    pub(crate) fn add(&mut self, took: Duration, waited: Duration) {
        let at = bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
        self.longest = self.longest.max(took);
        let hold = took.saturating_sub(waited);
        self.longest_hold = self.longest_hold.max(hold);
        if hold > LONG {
            self.long += hold;
        }
    }

    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        self.length += other.length;
        self.longest = self.longest.max(other.longest);
        self.longest_hold = self.longest_hold.max(other.longest_hold);
        self.long += other.long;
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// As many of a thousand were no longer, in microseconds; none of nothing.
    pub(crate) fn of_thousand(&self, share: u64) -> Option<f64> {
        let rank = self.count().checked_mul(share)?.div_ceil(1000).max(1);
        let mut sum = 0;
        let at = self.buckets.iter().position(|count| {
            sum += count;
            sum >= rank
        })?;
        Some(upper(at) as f64 / 1e3)
    }

    /// The part of the time that went into long ones.
    pub(crate) fn held(&self) -> f64 {
        self.long.as_secs_f64() / self.length.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub(crate) fn line(&self) -> String {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets: Vec<String> = counted.map(|(at, count)| format!(" {at}:{count}")).collect();
        let lengths = [self.length, self.longest, self.longest_hold, self.long].map(|length| length.as_nanos().to_string());
        format!("{}{}", lengths.join(" "), buckets.concat())
    }

    /// The reverse of [`Latencies::line`].
    pub(crate) fn from_line(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut ns = || -> Result<Duration> { Ok(Duration::from_nanos(words.next().context("a number is missing")?.parse()?)) };
        let mut latencies = Latencies { length: ns()?, longest: ns()?, longest_hold: ns()?, long: ns()?, buckets: Vec::new() };
        for word in words {
            let (at, count) = word.split_once(':').context("no bucket")?;
            let at: usize = at.parse()?;
            latencies.buckets.resize(at + 1, 0);
            latencies.buckets[at] = count.parse()?;
        }
        Ok(latencies)
    }
}

fn bucket(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(FINE + 1);
    ((u64::from(shift) << FINE) + (ns >> shift)) as usize
}

/// The largest that falls into it.
fn upper(bucket: usize) -> u64 {
    let (bucket, fine) = (bucket as u64, 1 << FINE);
    let shift = (bucket / fine).saturating_sub(1);
    ((bucket - shift * fine + 1) << shift) - 1
}
