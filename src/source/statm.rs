//! `/proc/PID/statm`: `proc_pid_statm(5)`. Its resident pages are exact, where field 24 of `stat` may lag by what each
//! CPU has not yet added up: 100 KiB and more on two CPUs.

use super::number;

/// Resident pages: the second number.
#[must_use]
pub fn resident_pages(text: &[u8]) -> Option<u64> {
    number(text.split(u8::is_ascii_whitespace).nth(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_what_is_resident() {
        assert_eq!(resident_pages(b"2000 512 300 10 0 200 0\n"), Some(512));
        assert_eq!(resident_pages(b"2000"), None);
        assert_eq!(resident_pages(b"2000 x"), None);
        assert_eq!(resident_pages(b""), None);
    }
}
