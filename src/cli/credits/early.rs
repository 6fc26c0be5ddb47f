//! What came before the birth of its process was told, and waits for it: found by identity at once, however many wait.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// Whether two starts are of one process. One that was taken from an event may be one tick off; one that nobody knows may be any.
#[must_use]
pub fn is_same_start(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one.abs_diff(other) <= 1)
}

/// Those that wait.
#[derive(Debug)]
pub struct Early<T> {
    by_pid: FxHashMap<u32, Vec<(Option<u64>, Instant, T)>>,
    count: usize,
}

impl<T> Default for Early<T> {
    fn default() -> Self {
        Self { by_pid: FxHashMap::default(), count: 0 }
    }
}

impl<T> Early<T> {
    /// How many wait.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// One more.
    pub fn put(&mut self, pid: u32, start: Option<u64>, what: T) {
        self.by_pid.entry(pid).or_default().push((start, Instant::now(), what));
        self.count += 1;
    }

    /// What waits for this process.
    pub fn take(&mut self, pid: u32, start: Option<u64>) -> Option<T> {
        let waiting = self.by_pid.get_mut(&pid)?;
        let at = waiting.iter().position(|(other, ..)| is_same_start(start, *other))?;
        let (.., what) = waiting.remove(at);
        if waiting.is_empty() {
            self.by_pid.remove(&pid);
        }
        self.count -= 1;
        Some(what)
    }

    /// Forgets those that have waited for longer.
    pub fn forget(&mut self, longer: Duration) {
        self.by_pid.retain(|_, waiting| {
            waiting.retain(|(_, since, _)| since.elapsed() <= longer);
            !waiting.is_empty()
        });
        self.count = self.by_pid.values().map(Vec::len).sum();
    }

    /// All of them.
    pub fn drain(&mut self) -> Vec<T> {
        self.count = 0;
        std::mem::take(&mut self.by_pid).into_values().flatten().map(|(.., what)| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_its_own_process() {
        let mut early = Early::default();
        early.put(7, Some(100), "first");
        early.put(7, Some(200), "second");
        early.put(8, None, "unknown");
        assert_eq!((early.take(7, Some(150)), early.take(9, None)), (None, None));
        assert_eq!((early.take(7, Some(201)), early.take(7, Some(201))), (Some("second"), None));
        assert_eq!((early.take(8, Some(5)), early.count()), (Some("unknown"), 1));
        early.forget(Duration::from_secs(60));
        assert_eq!(early.count(), 1);
        early.forget(Duration::ZERO);
        assert_eq!((early.count(), early.take(7, Some(100))), (0, None));
        early.put(1, None, "last");
        assert_eq!((early.drain(), early.count()), (vec!["last"], 0));
    }
}
