//! What the config means to the observer and to the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use crate::config::{Format, MinFree, Sampled, Settings, UsageBy};
use crate::journal::encode;
use crate::journal::plan::Keeping;
use crate::journal::writer;
use crate::observer::beat::Cadence;
use crate::observer::credits::crediting;
use crate::observer::footprint::Limits;
use crate::observer::metering;
use crate::observer::programs::Programs;
use crate::observer::samplers::ps::Selection;
use crate::observer::samplers::{events, exits, pss, usage};
use crate::observer::thread::Orders;
use crate::record::event::EventKind;
use crate::record::schema::Columns;
use crate::record::scrub::Scrubber;
use crate::record::stream::Stream;

/// The patterns of the config, compiled.
///
/// # Errors
/// A pattern is no regular expression, which loading the config has ruled out.
pub fn scrubber(settings: &Settings) -> Result<Scrubber, regex::Error> {
    Scrubber::new(settings.args, settings.scrub.iter().map(String::as_str))
}

/// How long rows of events, obituaries and alerts are collected before they are written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// What the observer is to do. A stream asked for on standard output is recorded even if the config has it off, and no other is.
///
/// # Errors
/// A pattern is no regular expression, which loading the config has ruled out.
pub fn observer(settings: &Settings, scrubber: Scrubber, to_stdout: Option<Stream>) -> Result<Orders, regex::Error> {
    let ps = &settings.ps;
    let is_on = |stream, enabled| to_stdout.map_or(enabled, |only| only == stream);
    let events = is_on(Stream::Events, settings.events.enabled).then(|| events(settings)).transpose()?;
    let exits = is_on(Stream::Exits, settings.exits.enabled)
        .then(|| exits::Selection { max_rows_per_s: settings.exits.max_rows_per_s, columns: Columns::standard(Stream::Exits) });
    Ok(Orders {
        ps: is_on(Stream::Ps, ps.sampled.enabled).then_some(cadence(&ps.sampled)),
        selection: Selection {
            kthreads: ps.kthreads,
            interactive: ps.interactive,
            own_pid: Some(std::process::id()),
            columns: ps.columns.clone(),
            sort: ps.sort.clone(),
        },
        pss: is_on(Stream::Pss, settings.pss.sampled.enabled).then(|| (cadence(&settings.pss.sampled), pss(settings))),
        usage: usage(settings, to_stdout),
        credits: credits(settings, to_stdout),
        scrubber,
        programs: Arc::new(Programs::new(&settings.programs, &settings.interpreters)),
        events,
        exits,
        alerts: is_on(Stream::Alerts, true).then(|| Columns::standard(Stream::Alerts)),
        flush_every: FLUSH_EVERY,
    })
}

const fn cadence(sampled: &Sampled) -> Cadence {
    Cadence { interval: sampled.interval, changes: sampled.changes, full_every: sampled.full_every }
}

fn pss(settings: &Settings) -> pss::Selection {
    let pss = &settings.pss;
    let limits = Limits { budget: pss.budget, max_read: pss.max_read, max_age: pss.max_age };
    pss::Selection { limits, columns: Columns::standard(Stream::Pss) }
}

/// Both streams, one of them, or none.
fn usage(settings: &Settings, to_stdout: Option<Stream>) -> Option<metering::Orders> {
    let usage = &settings.usage;
    let is_on = |stream, by| to_stdout.map_or(usage.sampled.enabled && usage.by.contains(&by), |only| only == stream);
    let (programs, processes) = (is_on(Stream::Usage, UsageBy::Program), is_on(Stream::UsageProcess, UsageBy::Process));
    let selection = usage::Selection { programs: Columns::standard(Stream::Usage), processes: Columns::standard(Stream::UsageProcess) };
    (programs || processes).then(|| metering::Orders {
        cadence: cadence(&usage.sampled),
        programs,
        processes,
        selection,
        netns_budget: usage.netns_budget,
        most: settings.max_programs,
        expected: metering::expected(&settings.programs),
    })
}

/// All of them, one of them, or none; budgets where there are any.
fn credits(settings: &Settings, to_stdout: Option<Stream>) -> Option<crediting::Orders> {
    let credits = &settings.credits;
    let enabled = |stream| credits.sampled.enabled && (stream != Stream::Budgets || !settings.budgets.is_empty());
    let is_on = |stream| to_stdout.map_or_else(|| enabled(stream), |only| only == stream);
    let columns = crediting::STREAMS.map(|stream| is_on(stream).then(|| Columns::standard(stream)));
    columns.iter().any(Option::is_some).then(|| crediting::Orders {
        cadence: cadence(&credits.sampled),
        columns,
        partial_every: credits.partial_every,
        most: settings.max_programs,
        groups: false,
        budgets: settings.budgets.clone(),
    })
}

fn events(settings: &Settings) -> Result<events::Selection, regex::Error> {
    let events = &settings.events;
    let threads = [EventKind::Clone, EventKind::ThreadExit].into_iter().filter(|_| events.threads);
    let compile = |patterns: &[String]| patterns.iter().map(|pattern| Regex::new(pattern)).collect::<Result<Vec<_>, _>>();
    Ok(events::Selection {
        kinds: events.kinds.iter().copied().chain(threads).collect(),
        max_rows_per_s: events.max_rows_per_s,
        include: compile(&events.include)?,
        exclude: compile(&events.exclude)?,
        columns: Columns::standard(Stream::Events),
    })
}

/// How lines are written.
#[must_use]
pub const fn format(settings: &Settings) -> encode::Format {
    match settings.format {
        Format::Text => encode::Format::Text,
        Format::Json => encode::Format::Json,
    }
}

/// How the journal is kept.
#[must_use]
pub fn journal(settings: &Settings) -> writer::Settings {
    writer::Settings {
        format: format(settings),
        thresholds: BTreeMap::from([
            (Stream::Ps, settings.ps.sampled.thresholds.clone()),
            (Stream::Pss, settings.pss.sampled.thresholds.clone()),
            (Stream::Usage, settings.usage.sampled.thresholds.clone()),
            (Stream::UsageProcess, settings.usage.sampled.thresholds.clone()),
        ]),
        keeping: Keeping {
            sync: settings.sync,
            keep_days: settings.keep_days,
            compress_after_days: settings.compress_after_days,
            min_free: min_free(settings),
            shares: shares(settings),
        },
    }
}

/// Streams with a size of their own have that; the others share what is left of the whole in equal parts.
fn shares(settings: &Settings) -> BTreeMap<Stream, u64> {
    let Settings { ps, pss, usage, credits, events, exits, .. } = settings;
    let uses = |by| usage.sampled.enabled && usage.by.contains(&by);
    let streams = [
        (Stream::Ps, ps.sampled.enabled, ps.sampled.max_size),
        (Stream::Pss, pss.sampled.enabled, pss.sampled.max_size),
        (Stream::Usage, uses(UsageBy::Program), usage.sampled.max_size),
        (Stream::UsageProcess, uses(UsageBy::Process), usage.sampled.max_size),
        (Stream::Credits, credits.sampled.enabled, credits.sampled.max_size),
        (Stream::CreditsProcess, credits.sampled.enabled, credits.sampled.max_size),
        (Stream::Budgets, credits.sampled.enabled && !settings.budgets.is_empty(), credits.sampled.max_size),
        (Stream::Events, events.enabled, events.max_size),
        (Stream::Exits, exits.enabled, exits.max_size),
        // Of what was found nobody wants less.
        (Stream::Alerts, true, None),
    ];
    let active = || streams.iter().filter(|(_, enabled, _)| *enabled);
    let own: u64 = active().filter_map(|(_, _, size)| *size).sum();
    let sharing = active().filter(|(_, _, size)| size.is_none()).count() as u64;
    let part = settings.max_size.saturating_sub(own) / sharing.max(1);
    active().map(|(stream, _, size)| (*stream, size.unwrap_or(part))).collect()
}

fn min_free(settings: &Settings) -> u64 {
    match settings.min_free {
        MinFree::Bytes(bytes) => bytes,
        MinFree::Percent(percent) => {
            let total = fs2::total_space(&settings.log_dir).unwrap_or(0);
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a disk needs no 64 digits, and float casts saturate"
            )]
            let bytes = (total as f64 * percent / 100.0) as u64;
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_stream_has_for_itself_is_shared_in_equal_parts() {
        let mut settings = Settings { max_size: 1240, ..Settings::default() };
        settings.exits.max_size = Some(400);
        let all = [
            (Stream::Ps, 120),
            (Stream::Pss, 120),
            (Stream::Usage, 120),
            (Stream::Credits, 120),
            (Stream::CreditsProcess, 120),
            (Stream::Events, 120),
            (Stream::Exits, 400),
            (Stream::Alerts, 120),
        ];
        assert_eq!(shares(&settings), BTreeMap::from(all));
        settings.events.enabled = false;
        settings.pss.sampled.enabled = false;
        settings.usage.sampled.enabled = false;
        settings.credits.sampled.enabled = false;
        assert_eq!(shares(&settings), BTreeMap::from([(Stream::Ps, 420), (Stream::Exits, 400), (Stream::Alerts, 420)]));
        settings.ps.sampled.max_size = Some(100);
        assert_eq!(shares(&settings), BTreeMap::from([(Stream::Ps, 100), (Stream::Exits, 400), (Stream::Alerts, 740)]));
    }
}
