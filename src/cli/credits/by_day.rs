//! `psmon credits --by day`: the sums of the journal, and what is missing in them.

use std::io::Write;

use jiff::Timestamp;
use jiff::civil::Date;

use super::Arguments;
use super::days::{self, Day, Days};
use super::select::{Row, Selection};
use super::spent::Span;
use super::view::print;
use crate::cli::table::{Form, count};
use crate::cli::{Answer, Failure, complain, said};

/// Shows the days.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, form: Form, out: &mut impl Write) -> Result<Answer, Failure> {
    let selection = Selection::new(arguments)?;
    let (from, to) = (arguments.since.unwrap_or(Date::MIN), arguments.until.unwrap_or(Date::MAX));
    if from > to {
        return Err(Failure::Config(format!("--since {from} is after --until {to}: no day lies between them")));
    }
    let dir = said::log_dir(arguments.log_dir.as_deref(), arguments.config.as_deref())?;
    let days = days::read(&dir, &(from..=to), Timestamp::now(), |who| selection.takes(who))
        .map_err(|error| Failure::System(format!("{} could not be read: {error}. Name the journal with --log-dir.", dir.display())))?;
    for unread in &days.unread {
        complain(&format!("{unread}: what it holds from there on is in no sum. psmon verify says more."));
    }
    let chosen = selection.of(rows(&days), usize::MAX);
    if chosen.rows.is_empty() {
        complain(&if days.days.is_empty() {
            format!(
                "{} has no samples of stream credits of these days: psmond records them unless [credits] enabled = false",
                dir.display()
            )
        } else {
            "no program matches".to_owned()
        });
        return Ok(Answer::No);
    }
    print(&selection, form, &chosen, None, true, out)?;
    for sentence in doubts(&days) {
        if form.is_table() {
            writeln!(out, "{sentence}")?;
        } else {
            complain(&sentence);
        }
    }
    Ok(Answer::Yes)
}

/// Of a day's shares the whole is what all CPUs could do from midnight to midnight.
fn rows(days: &Days) -> Vec<Row> {
    let span = |word: &[u8]| {
        let date = std::str::from_utf8(word).ok().and_then(|text| text.parse::<Date>().ok());
        let day = date.and_then(|date| days.days.get(&date)).copied().unwrap_or_default();
        Span { ns: day.ns, cpus: day.cpus }
    };
    let row =
        |(who, spent): (&super::spent::Who, &super::spent::Spent)| (who.clone(), *spent, who.day.as_deref().map(span).unwrap_or_default());
    days.rows.iter().map(row).collect()
}

/// What is not in the sums.
fn doubts(days: &Days) -> Vec<String> {
    let mut doubts: Vec<String> = days.days.iter().filter_map(|(date, day)| doubt(*date, day)).collect();
    if days.torn > 0 {
        doubts.push(format!("{} torn or damaged: what stands in them is in no sum.", count(days.torn, "sample is", "samples are")));
    }
    doubts
}

fn doubt(date: Date, day: &Day) -> Option<String> {
    let missing = (day.missing > 0).then(|| format!("{} missing", count(day.missing, "sample is", "samples are")));
    // One per cent: the interval under way, and what a start takes.
    let short = day.recorded_ns.filter(|recorded| *recorded < day.over_ns / 100 * 99).map(|recorded| {
        let hours = |ns: u64| format!("{}.{:02}", ns / 3_600_000_000_000, ns / 36_000_000_000 % 100);
        format!("{} of {} hours were recorded", hours(recorded), hours(day.over_ns))
    });
    let said: Vec<String> = missing.into_iter().chain(short).collect();
    (!said.is_empty()).then(|| format!("{date}: {}.", said.join(", ")))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn what_is_missing_of_a_day_is_said() {
        const HOUR: u64 = 3_600_000_000_000;
        let of =
            |recorded_ns, missing| doubt(date(2026, 11, 20), &Day { cpus: 2, ns: 24 * HOUR, over_ns: 24 * HOUR, recorded_ns, missing });
        assert_eq!(of(Some(24 * HOUR - 1), 0), None);
        assert_eq!(of(None, 0), None, "nobody said");
        assert_eq!(of(Some(HOUR * 23 / 2), 0).unwrap(), "2026-11-20: 11.50 of 24.00 hours were recorded.");
        assert_eq!(of(Some(0), 1).unwrap(), "2026-11-20: 1 sample is missing, 0.00 of 24.00 hours were recorded.");
    }
}
