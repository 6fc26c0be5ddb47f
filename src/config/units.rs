//! Durations and sizes as people write them.
//!
//! A plain number is seconds or bytes. Units of size are powers of 1024, whichever way they are written
//! (`K`, `KB`, `KiB`).

use std::time::Duration;

/// Reads `10s`, `5m`, `1h 30m`, `500ms`, `1.5h`, or a plain number of seconds.
///
/// # Errors
/// A sentence that says what is wrong and what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{}' is no duration; write a number and ms, s, m, h, d or w, as \"10s\" or \"1h 30m\"", clip(text));
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    let alone = rest.parse::<f64>().is_ok();
    while !rest.is_empty() {
        let (number, unit, after) = word(rest).ok_or_else(wrong)?;
        let seconds = match unit.to_ascii_lowercase().as_str() {
            "" if alone => 1.0,
            "ms" | "msec" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return Err(wrong()),
        };
        let part = seconds_f64(number * seconds).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(sum)
}

/// A duration of so many seconds; `None` for what is negative, not finite or too large.
pub(super) fn seconds_f64(seconds: f64) -> Option<Duration> {
    // Rounded to the microsecond, so that 0.1 h is 360 s and not a nanosecond less.
    let micros = Duration::try_from_secs_f64(seconds).ok()?.checked_add(Duration::from_nanos(500))?;
    Duration::from_secs(micros.as_secs()).checked_add(Duration::from_micros(u64::from(micros.subsec_micros())))
}

/// Reads `2G`, `64K`, `1.5MiB`, `100 MB` or a plain number of bytes.
///
/// # Errors
/// A sentence that says what is wrong and what would be right.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{}' is no size; write a number and K, M, G or T (powers of 1024), as \"64K\" or \"2G\"", clip(text));
    let (number, unit, rest) = word(text.trim()).ok_or_else(wrong)?;
    if !rest.is_empty() {
        return Err(wrong());
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    // Whole numbers stay exact.
    if let Ok(whole) = text.trim()[..text.trim().len() - unit.len()].trim_end().parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(wrong);
    }
    bytes_f64(number * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift / 2))).ok_or_else(wrong)
}

/// Bytes from a decimal; `None` for what is negative, not finite or too large.
pub(super) fn bytes_f64(number: f64) -> Option<u64> {
    const TOO_MUCH: f64 = 9.2e18;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just checked to lie between 0 and 9.2e18")]
    (0.0..TOO_MUCH).contains(&number).then_some(number.round() as u64)
}

/// One number, its unit, and what follows.
fn word(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    Some((number, &rest[..unit], rest[unit..].trim_start()))
}

/// A duration as the config would write it: `1h 30m`, `10s`, `1s 500ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut parts = Vec::new();
    for (number, unit) in
        [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (u64::from(duration.subsec_millis()), "ms")]
    {
        if number > 0 {
            parts.push(format!("{number}{unit}"));
        }
    }
    let micros = duration.subsec_micros() % 1000;
    if micros > 0 {
        parts.push(format!("0.{micros:03}ms"));
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A size as the config would write it, in the largest unit that is exact.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Long values do not belong into messages.
pub(super) fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, millis) in [
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0.1h", 360_000),
            ("60", 60_000),
            ("1.5", 1500),
            (" 2 d ", 172_800_000),
            ("1 week", 604_800_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "s", "-1s", "10x", "1h 30", "1..5s", "inf", "nan", "1e9s", "99999999999999999999w", "ten", "10s,"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("2G", 2 << 30),
            ("64K", 64 << 10),
            ("64KiB", 64 << 10),
            ("64 kb", 64 << 10),
            ("1.5M", 3 << 19),
            ("7", 7),
            ("7B", 7),
            ("1T", 1 << 40),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "2X", "-1", "2G 3M", "99999999999T", "1e3", "five"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        // duration(show(d)) = d to the microsecond, size(show(b)) = b.
        #[test]
        fn what_is_shown_is_read_back(micros in 0_u64..10_u64.pow(13), bytes in any::<u64>(), shift in 0_u32..40) {
            let span = Duration::from_micros(micros);
            prop_assert_eq!(duration(&show_duration(span)), Ok(span));
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,40}") {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
