//! Which streams want a full sample next: whoever finds that something is missing asks, whoever makes the samples takes.

use std::sync::atomic::{AtomicU16, Ordering};

use super::stream::Stream;

/// One flag for each stream, shared by those who ask and those who take.
#[derive(Debug, Default)]
pub struct FullWanted(AtomicU16);

impl FullWanted {
    /// The next sample of this stream is to be full.
    pub fn ask(&self, stream: Stream) {
        self.0.fetch_or(bit(stream), Ordering::Relaxed);
    }

    /// The next sample of every stream is to be full.
    pub fn ask_all(&self) {
        self.0.fetch_or(u16::MAX, Ordering::Relaxed);
    }

    /// Whether somebody asked since this was last called.
    #[must_use]
    pub fn take(&self, stream: Stream) -> bool {
        self.0.fetch_and(!bit(stream), Ordering::Relaxed) & bit(stream) != 0
    }
}

const fn bit(stream: Stream) -> u16 {
    1 << (stream as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_answered_once_and_for_its_stream_only() {
        let wanted = FullWanted::default();
        wanted.ask(Stream::Pss);
        assert!(!wanted.take(Stream::Ps));
        assert!(wanted.take(Stream::Pss) && !wanted.take(Stream::Pss));
        wanted.ask_all();
        assert!(Stream::ALL.into_iter().all(|stream| wanted.take(stream)));
    }
}
