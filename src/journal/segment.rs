//! Names of segments, and what a directory holds of them.

use std::fmt;

use jiff::civil::Date;

/// `psmond.log`, the daemon's own lines, is rotated with the streams and is none of them.
pub const OWN_LOG: &str = "psmond";

/// The name of a file of the journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The stream's name, or [`OWN_LOG`].
    pub stream: String,
    /// The local date of its last tick; `None` of the live one.
    pub date: Option<Date>,
    /// Its place among those of that date, 1 for the first.
    pub number: u32,
    /// It is compressed.
    pub compressed: bool,
}

impl Name {
    /// The live segment of a stream.
    #[must_use]
    pub fn live(stream: &str) -> Self {
        Self { stream: stream.to_owned(), date: None, number: 1, compressed: false }
    }

    /// Reads a file's name; `None` for what is none of the journal's.
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let (stem, compressed) = match file.strip_suffix(".log.zst") {
            Some(stem) => (stem, true),
            None => (file.strip_suffix(".log")?, false),
        };
        let (stem, number) = match stem.rsplit_once('.') {
            Some((stem, number)) => (stem, number.parse().ok().filter(|number| *number > 1)?),
            None => (stem, 1),
        };
        let is_stream = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let split = stem.len().checked_sub(11).filter(|at| stem.is_char_boundary(*at) && stem.as_bytes()[*at] == b'-');
        if let Some(at) = split
            && let Some(date) = parse_date(&stem[at + 1..])
        {
            return is_stream(&stem[..at]).then(|| Self { stream: stem[..at].to_owned(), date: Some(date), number, compressed });
        }
        (is_stream(stem) && number == 1 && !compressed).then(|| Self::live(stem))
    }
}

/// `YYYY-MM-DD`, exactly.
fn parse_date(text: &str) -> Option<Date> {
    let date: Date = text.parse().ok()?;
    (date.to_string() == text).then_some(date)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stream)?;
        if let Some(date) = self.date {
            write!(f, "-{date}")?;
        }
        if self.number > 1 {
            write!(f, ".{}", self.number)?;
        }
        f.write_str(if self.compressed { ".log.zst" } else { ".log" })
    }
}

/// A segment as the directory lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: Name,
    /// Its size in bytes, as it lies there.
    pub bytes: u64,
}

/// The number that a segment closed under this date gets: one more than the largest there is.
#[must_use]
pub fn next_number(found: &[Found], stream: &str, date: Date) -> u32 {
    let of_date = found.iter().filter(|found| found.name.stream == stream && found.name.date == Some(date));
    of_date.map(|found| found.name.number).max().map_or(1, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let date = jiff::civil::date(2026, 11, 20);
        let closed = |number, compressed| Name { stream: "ps".to_owned(), date: Some(date), number, compressed };
        assert_eq!(Name::live("ps").to_string(), "ps.log");
        assert_eq!(closed(1, false).to_string(), "ps-2026-11-20.log");
        assert_eq!(closed(2, true).to_string(), "ps-2026-11-20.2.log.zst");
        for wrong in [
            "ps",
            "ps.log.zst",
            "psmond.state",
            "psmond.lock",
            "ps-2026-11-20.1.log",
            "ps-2026-13-20.log",
            "PS.log",
            ".log",
            "a/b.log",
            "-2026-11-20.log",
            "ps.log.tmp",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
        let found: Vec<_> = [closed(1, true), closed(3, false)].map(|name| Found { name, bytes: 0 }).into();
        assert_eq!(next_number(&found, "ps", date), 4);
        assert_eq!(next_number(&found, "pss", date), 1);
    }

    proptest! {
        #[test]
        fn names_come_back(stream in "[a-z_]{1,15}", days in proptest::option::of(0_i32..40_000), number in 1_u32..100, compressed: bool) {
            let date = days.map(|days| jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap());
            let name = if date.is_some() { Name { stream, date, number, compressed } } else { Name::live(&stream) };
            prop_assert_eq!(Name::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn any_name_is_survived(file in "\\PC{0,30}") {
            let _ = Name::parse(&file);
        }
    }
}
