//! Whose row may have changed since a stream's sample before.

/// Pids, as they come.
#[derive(Debug, Default)]
pub struct Touched(Vec<u32>);

impl Touched {
    /// Adds these.
    pub fn add(&mut self, pids: &[u32]) {
        /// Beyond so many those that stand there twice are taken out: with a long interval, and other streams that look often.
        const MANY: usize = 1 << 16;
        self.0.extend_from_slice(pids);
        if self.0.len() > MANY {
            self.tidy();
        }
    }

    /// All of them, ascending and each once; none is left.
    #[must_use]
    pub fn take(&mut self) -> Vec<u32> {
        self.tidy();
        std::mem::take(&mut self.0)
    }

    fn tidy(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_ascending() {
        let mut touched = Touched::default();
        (0..3).for_each(|_| touched.add(&(0..40_000).rev().collect::<Vec<u32>>()));
        assert!(touched.0.len() <= 80_000, "it does not grow without end");
        assert_eq!(touched.take(), (0..40_000).collect::<Vec<u32>>());
        assert_eq!(touched.take(), [0_u32; 0]);
    }
}
