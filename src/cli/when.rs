//! Times as people say them: `03:12`, `yesterday 14:00`, `-2h`, `2026-11-20T03:12+01:00`.
//!
//! The zone and the present are told by whoever asks, so that each answer can be had again.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::config::units;

/// A time that is none, or is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// Nobody can read it.
    #[error(
        "'{0}' is no time; say it as 03:12, 03:12:30, yesterday 14:00, -2h, -1d, 2026-11-20, 2026-11-20T03:12, 2026-11-20T03:12+01:00, @1795190400 or now"
    )]
    Unknown(String),
    /// It is beyond what a clock can say.
    #[error("'{0}' is too far away; say a time between the years 0 and 9999, as 2026-11-20T03:12")]
    TooFar(String),
    /// Clocks were set back over it.
    #[error("{local} was there twice in {zone}, as clocks were set back: say {local}{first} for the first time or {local}{second} for the second", local = text(*local))]
    Twice {
        /// What was said.
        local: DateTime,
        /// Where.
        zone: String,
        /// The offset before.
        first: Offset,
        /// The offset after.
        second: Offset,
    },
    /// Clocks were set forward over it.
    #[error("{} did not exist in {zone}: clocks were set forward from {} to {}; say a time outside of that", text(*local), text(*from), text(*to))]
    Absent {
        /// What was said.
        local: DateTime,
        /// Where.
        zone: String,
        /// The first moment that did not exist.
        from: DateTime,
        /// The first that did again.
        to: DateTime,
    },
}

fn text(local: DateTime) -> String {
    local.strftime("%Y-%m-%dT%H:%M:%S%.f").to_string()
}

/// Reads a time.
///
/// `HH:MM` is the last such moment: of today, or of yesterday where it is still to come today. A date alone is its first moment,
/// as are `today` and `yesterday`. `-2h` is two hours before now, `-1d` 24 hours; `@` stands before seconds since 1970 (UTC).
///
/// # Errors
/// As [`WhenError`] says.
pub fn parse(said: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, WhenError> {
    let word = said.trim();
    let shown: String = word.chars().take(60).collect();
    let unknown = || WhenError::Unknown(shown.clone());
    let too_far = || WhenError::TooFar(shown.clone());
    if word == "now" {
        return Ok(now);
    }
    if let Some(seconds) = word.strip_prefix('@') {
        return epoch(seconds).ok_or_else(unknown)?.ok_or_else(too_far);
    }
    if let Some(ago) = word.strip_prefix('-') {
        return before(ago, now).ok_or_else(unknown)?.ok_or_else(too_far);
    }
    let today = now.to_zoned(zone.clone()).date();
    let (date, rest) = if let Some(rest) = word.strip_prefix("today") {
        (today, rest)
    } else if let Some(rest) = word.strip_prefix("yesterday") {
        (today.yesterday().map_err(|_| too_far())?, rest)
    } else if let Some(time) = time(word) {
        return last(time, today, now, zone);
    } else {
        let (date, rest) = word.split_at_checked(10).ok_or_else(unknown)?;
        (day(date).ok_or_else(unknown)?, rest)
    };
    if rest.is_empty() {
        // The first moment of a day is not midnight where clocks are set forward then.
        return date.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|_| too_far());
    }
    let rest = rest.strip_prefix(['T', 't', ' ']).ok_or_else(unknown)?.trim_start();
    if let Some(time) = time(rest) {
        return local(date.to_datetime(time), zone);
    }
    // Clocks of today are those of a zone; an offset goes with a date.
    let (time, offset) = Some(rest).filter(|_| !word.starts_with(['t', 'y'])).and_then(with_offset).ok_or_else(unknown)?;
    offset.to_timestamp(date.to_datetime(time)).map_err(|_| too_far())
}

/// `None` where it is no number, `Some(None)` where it is too large.
fn epoch(text: &str) -> Option<Option<Timestamp>> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, ns) = match text.split_once('.') {
        Some((whole, digits)) => (whole, fraction(digits)?),
        None => (text, 0),
    };
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let Ok(seconds) = whole.parse::<i64>() else { return Some(None) };
    let sign = if negative { -1 } else { 1 };
    Some(Timestamp::new(sign * seconds, i32::try_from(sign).ok()? * ns).ok())
}

fn before(ago: &str, now: Timestamp) -> Option<Option<Timestamp>> {
    // A number alone would be seconds, and could as well be meant as hours.
    ago.bytes().next().filter(u8::is_ascii_digit)?;
    ago.bytes().last().filter(u8::is_ascii_alphabetic)?;
    let ago: Duration = units::duration(ago).ok()?;
    Some(SignedDuration::try_from(ago).ok().and_then(|ago| now.checked_sub(ago).ok()))
}

/// `YYYY-MM-DD`.
fn day(text: &str) -> Option<Date> {
    Date::strptime("%Y-%m-%d", text).ok().filter(|_| text.len() == 10)
}

/// `HH:MM`, `HH:MM:SS`, and digits after its point.
fn time(text: &str) -> Option<Time> {
    let format = match text.len() {
        5 => "%H:%M",
        8.. => "%H:%M:%S%.f",
        _ => return None,
    };
    Time::strptime(format, text).ok()
}

/// A time with `Z`, `+01:00`, `+0100` or `+01` behind it.
fn with_offset(text: &str) -> Option<(Time, Offset)> {
    // Zones have names in brackets: of these there is one already.
    if text.contains('[') {
        return None;
    }
    let of_some_day = format!("1970-01-01T{text}");
    let pieces = Pieces::parse(&of_some_day).ok()?;
    let offset = pieces.to_numeric_offset().filter(|offset| offset.seconds().abs() < 86_400)?;
    Some((pieces.time()?, offset))
}

/// One to nine digits after the point, as nanoseconds.
fn fraction(digits: &str) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").parse().ok()
}

/// The last moment of this time of day.
fn last(time: Time, today: Date, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, WhenError> {
    let said = today.to_datetime(time);
    let at = |offset: Offset| offset.to_timestamp(said).ok();
    let found = match zone.to_ambiguous_timestamp(said).offset() {
        // Of the two only the first has been.
        AmbiguousOffset::Fold { before, after } if at(after).is_none_or(|second| second > now) => Ok(at(before)),
        // The gap is not over: what is meant has not come today.
        AmbiguousOffset::Gap { before, .. } if at(before).is_none_or(|end| end > now) => Ok(None),
        _ => local(said, zone).map(Some),
    };
    match found?.filter(|at| *at <= now) {
        Some(at) => Ok(at),
        None => {
            let yesterday = today.yesterday().map_err(|_| WhenError::TooFar(text(said)))?;
            local(yesterday.to_datetime(time), zone)
        }
    }
}

/// The moment at which clocks of the zone say this.
fn local(said: DateTime, zone: &TimeZone) -> Result<Timestamp, WhenError> {
    let named = || zone.iana_name().unwrap_or("the local time zone").to_owned();
    let at = |offset: Offset| offset.to_timestamp(said).map_err(|_| WhenError::TooFar(text(said)));
    match zone.to_ambiguous_timestamp(said).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset),
        AmbiguousOffset::Fold { before, after } => Err(WhenError::Twice { local: said, zone: named(), first: before, second: after }),
        AmbiguousOffset::Gap { before, after } => {
            // Read by the later offset it lies before the change, so the next change is the one.
            let change = zone.following(at(after)?).next().map_or(at(before)?, |change| change.timestamp());
            Err(WhenError::Absent { local: said, zone: named(), from: before.to_datetime(change), to: after.to_datetime(change) })
        }
    }
}

#[cfg(test)]
#[path = "when_tests.rs"]
mod tests;
