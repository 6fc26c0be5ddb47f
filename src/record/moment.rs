//! A point in time with the local offset that held there.
//!
//! Once stamped, a moment needs no time-zone database: its local date and its text follow from the
//! two numbers, on whatever machine the journal is read.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970 (UTC) and the local offset in seconds east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Nanoseconds since the epoch.
    pub unix_ns: i64,
    /// Seconds east of UTC.
    pub offset_s: i32,
}

const NS_PER_S: i64 = 1_000_000_000;
const S_PER_DAY: i64 = 86_400;

impl Moment {
    /// The local calendar day.
    #[must_use]
    pub fn date(self) -> Date {
        civil_date(self.local_seconds().div_euclid(S_PER_DAY))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.unix_ns.div_euclid(1_000_000)
    }

    fn local_seconds(self) -> i64 {
        self.unix_ns.div_euclid(NS_PER_S) + i64::from(self.offset_s)
    }

    /// Appends RFC 3339 with `digits` (3 or 9) digits of the second and a numeric offset, for example
    /// `2026-11-20T17:02:10.000+01:00`.
    ///
    /// Offsets are written in whole minutes, as RFC 3339 has no seconds there; the zones whose offset
    /// holds seconds were abolished by 1972.
    pub fn write(self, digits: usize, out: &mut Vec<u8>) {
        let seconds = self.local_seconds();
        let date = self.date();
        let of_day = seconds.rem_euclid(S_PER_DAY);
        let year = i64::from(date.year());
        number(year, 4, out);
        out.push(b'-');
        number(i64::from(date.month()), 2, out);
        out.push(b'-');
        number(i64::from(date.day()), 2, out);
        out.push(b'T');
        number(of_day / 3600, 2, out);
        out.push(b':');
        number(of_day / 60 % 60, 2, out);
        out.push(b':');
        number(of_day % 60, 2, out);
        out.push(b'.');
        let ns = self.unix_ns.rem_euclid(NS_PER_S);
        if digits == 9 {
            number(ns, 9, out);
        } else {
            number(ns / 1_000_000, 3, out);
        }
        out.push(if self.offset_s < 0 { b'-' } else { b'+' });
        let offset = i64::from(self.offset_s).abs();
        number(offset / 3600, 2, out);
        out.push(b':');
        number(offset / 60 % 60, 2, out);
    }

    /// Reads what [`Moment::write`] wrote.
    ///
    /// Answers `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let shape = |at: usize, byte: u8| text.get(at) == Some(&byte);
        if !(shape(4, b'-') && shape(7, b'-') && shape(10, b'T') && shape(13, b':') && shape(16, b':') && shape(19, b'.')) {
            return None;
        }
        let digits = text.len().checked_sub(26)?;
        let (fraction, scale) = match digits {
            3 => (digits_of(&text[20..23])?, 1_000_000),
            9 => (digits_of(&text[20..29])?, 1),
            _ => return None,
        };
        let zone = &text[20 + digits..];
        let sign = match zone[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        if zone[3] != b':' {
            return None;
        }
        let offset_s = sign * i32::try_from(digits_of(&zone[1..3])? * 3600 + digits_of(&zone[4..6])? * 60).ok()?;
        let date = Date::new(
            i16::try_from(digits_of(&text[0..4])?).ok()?,
            i8::try_from(digits_of(&text[5..7])?).ok()?,
            i8::try_from(digits_of(&text[8..10])?).ok()?,
        )
        .ok()?;
        let (hour, minute, second) = (digits_of(&text[11..13])?, digits_of(&text[14..16])?, digits_of(&text[17..19])?);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let seconds = days_from_civil(date) * S_PER_DAY + hour * 3600 + minute * 60 + second - i64::from(offset_s);
        Some(Self { unix_ns: seconds.checked_mul(NS_PER_S)?.checked_add(fraction * scale)?, offset_s })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(35);
        self.write(3, &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// From the first moment of a local day to that of the next; `None` at the ends of the calendar. It is 24 hours long, but where clocks
/// are set.
#[must_use]
pub fn day(date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let begin = |date: Date| date.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    begin(date).zip(date.tomorrow().ok().and_then(begin))
}

fn number(value: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

fn digits_of(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// The civil date that lies `days` after 1970-01-01; clamped to what jiff can name.
fn civil_date(days: i64) -> Date {
    let epoch = jiff::civil::date(1970, 1, 1);
    let days = i32::try_from(days).unwrap_or(0);
    epoch.checked_add(jiff::Span::new().days(days)).unwrap_or(epoch)
}

fn days_from_civil(date: Date) -> i64 {
    let epoch = jiff::civil::date(1970, 1, 1);
    epoch.until(date).map_or(0, |span| i64::from(span.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_rfc_3339_with_the_local_offset() {
        let moment = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 3600 };
        assert_eq!(moment.to_string(), "2026-11-20T17:02:10.000+01:00");
        assert_eq!(moment.date(), jiff::civil::date(2026, 11, 20));
        let west = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: -(9 * 3600 + 1800) };
        assert_eq!(west.to_string(), "2026-11-20T06:32:10.000-09:30");
    }

    #[test]
    fn the_local_date_is_not_the_utc_date() {
        // 23:30 UTC is already tomorrow in Berlin.
        let late = Moment { unix_ns: 1_795_217_400_000_000_000, offset_s: 3600 };
        assert_eq!(late.to_string(), "2026-11-21T00:30:00.000+01:00");
        assert_eq!(late.date(), jiff::civil::date(2026, 11, 21));
    }

    #[test]
    fn damaged_times_are_refused() {
        for wrong in [
            "",
            "2026",
            "2026-11-20T17:02:10.000Z",
            "2026-13-20T17:02:10.000+01:00",
            "2026-11-20T17:02:10.0x0+01:00",
            "2026-11-20T17:02:10.000+01-00",
        ] {
            assert_eq!(Moment::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        // parse(write(m)) = m for every moment of two centuries, to the millisecond and to the nanosecond.
        #[test]
        fn a_moment_comes_back(seconds in 0_i64..4_000_000_000, ns in 0_i64..1_000_000_000, quarter in -48_i32..=56) {
            let fine = Moment { unix_ns: seconds * NS_PER_S + ns, offset_s: quarter * 900 };
            let mut text = Vec::new();
            fine.write(9, &mut text);
            prop_assert_eq!(Moment::parse(&text), Some(fine));
            let coarse = Moment { unix_ns: fine.unix_ns - ns % 1_000_000, ..fine };
            text.clear();
            fine.write(3, &mut text);
            prop_assert_eq!(Moment::parse(&text), Some(coarse));
        }

        // No bytes whatever make the parser panic.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Moment::parse(&bytes);
        }
    }
}
