//! `/proc/PID/io`: `proc_pid_io(5)`.

use super::number;

/// The seven counters, since the birth of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Io {
    /// Bytes passed to read(2) and its kin.
    pub rchar: u64,
    /// Bytes passed to write(2) and its kin.
    pub wchar: u64,
    /// Read system calls.
    pub syscr: u64,
    /// Write system calls.
    pub syscw: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// Bytes dirtied and discarded before they were written.
    pub cancelled_write_bytes: u64,
}

impl Io {
    /// The larger of both, counter by counter: none of them ever goes back.
    #[must_use]
    pub fn largest(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is left of it without the other; 0 where that is more.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    fn with(self, other: Self, both: fn(u64, u64) -> u64) -> Self {
        Self {
            rchar: both(self.rchar, other.rchar),
            wchar: both(self.wchar, other.wchar),
            syscr: both(self.syscr, other.syscr),
            syscw: both(self.syscw, other.syscw),
            read_bytes: both(self.read_bytes, other.read_bytes),
            write_bytes: both(self.write_bytes, other.write_bytes),
            cancelled_write_bytes: both(self.cancelled_write_bytes, other.cancelled_write_bytes),
        }
    }
}

/// Parses the file; `None` where it holds none of the counters.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Io> {
    let mut io = Io::default();
    let mut found = false;
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let Some(value) = number(line[colon + 1..].trim_ascii()) else { continue };
        let place = match &line[..colon] {
            b"rchar" => &mut io.rchar,
            b"wchar" => &mut io.wchar,
            b"syscr" => &mut io.syscr,
            b"syscw" => &mut io.syscw,
            b"read_bytes" => &mut io.read_bytes,
            b"write_bytes" => &mut io.write_bytes,
            b"cancelled_write_bytes" => &mut io.cancelled_write_bytes,
            _ => continue,
        };
        *place = value;
        found = true;
    }
    found.then_some(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_io() {
        let text = b"rchar: 3980\nwchar: 7\nsyscr: 9\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 12\n";
        let want = Io { rchar: 3980, wchar: 7, syscr: 9, syscw: 1, read_bytes: 4096, write_bytes: 8192, cancelled_write_bytes: 12 };
        assert_eq!(parse(text), Some(want));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"rchar: x\n\xff\n"), None);
    }
}
