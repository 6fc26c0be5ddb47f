//! Every key of the config: its type, its range, and the setting it fills.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::given::{
    Given, Read, Wrong, choice, choices, decimal, duration, flag, optional_path, path, pattern, share, size, string, strings, whole,
};
use super::layers::{Origin, Section};
use super::types::{ARGS, Format, MinFree, Sampled, Settings, UsageBy};
use super::{lists, show, units};
use crate::record::event::EventKind;
use crate::record::schema::{self, Columns, SortKey, UnknownColumn};
use crate::record::stream::Stream;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A log needs room for a header and a sample at least.
const LEAST_SIZE: u64 = 64 << 10;

/// Room for a handful of events: for seeing what a loss looks like.
const LEAST_BUFFER: u64 = 4 << 10;

/// Asks for everything, in the order of `etc/psmond.toml`; answers where `log_dir` came from.
pub(super) fn ask(top: &mut Section<'_, '_>, settings: &mut Settings) -> Origin {
    let log_dir = top.ask("log_dir", &mut settings.log_dir, path, |dir| show::path(dir));
    top.ask("format", &mut settings.format, choice(Format::WORDS), |format| word(Format::WORDS, format));
    top.ask("args", &mut settings.args, choice(ARGS), |args| word(ARGS, args));
    top.ask("scrub", &mut settings.scrub, strings(pattern), |patterns| show::strings(patterns));
    top.ask("sync", &mut settings.sync, duration(Duration::ZERO..=HOUR), show_duration);
    number(top, "keep_days", &mut settings.keep_days, 1..=36_500);
    top.ask("max_size", &mut settings.max_size, size(LEAST_SIZE), |bytes| show::string(&units::show_size(*bytes)));
    top.ask("min_free", &mut settings.min_free, min_free, |free| match free {
        MinFree::Percent(percent) => show::string(&format!("{percent}%")),
        MinFree::Bytes(bytes) => show::string(&units::show_size(*bytes)),
    });
    number(top, "compress_after_days", &mut settings.compress_after_days, 0..=36_500);
    top.ask("programs_file", &mut settings.programs_file, optional_path, |file| {
        file.as_deref().map_or_else(|| show::string(""), show::path)
    });
    let mut max_programs = u32::try_from(settings.max_programs).unwrap_or(u32::MAX);
    number(top, "max_programs", &mut max_programs, 1..=100_000);
    settings.max_programs = usize::try_from(max_programs).unwrap_or(usize::MAX);
    let plain =
        |text: &str| if text.chars().any(char::is_control) { Err("control characters have no place here") } else { Ok(text.to_owned()) };
    top.ask("interpreters", &mut settings.interpreters, strings(plain), |names| show::strings(names));
    top.ask("mlock", &mut settings.mlock, flag, bool::to_string);

    top.section("ps", |section| {
        let ps = &mut settings.ps;
        sampled(section, &mut ps.sampled, Changes::Choice);
        section.ask("kthreads", &mut ps.kthreads, flag, bool::to_string);
        section.ask("interactive", &mut ps.interactive, flag, bool::to_string);
        section.ask("columns", &mut ps.columns, columns, |columns| {
            // The standard ones are an empty list: so a later version may add to them.
            // `time` leads unnamed; named, it would be ps's own time.
            let names: Vec<&str> = columns.iter().skip(1).map(|column| column.name).collect();
            show::strings(if *columns == Columns::standard(Stream::Ps) { &[] } else { &names })
        });
        section.ask("sort", &mut ps.sort, strings(sort_key), |keys| {
            let sign = |key: &SortKey| if key.descending { "-" } else { "" };
            show::strings(&keys.iter().map(|key| format!("{}{}", sign(key), key.column.name)).collect::<Vec<_>>())
        });
        thresholds(section, &mut ps.sampled, Stream::Ps);
    });
    top.section("pss", |section| {
        let pss = &mut settings.pss;
        sampled(section, &mut pss.sampled, Changes::Choice);
        millis(section, "budget_ms", &mut pss.budget);
        millis(section, "max_read_ms", &mut pss.max_read);
        section.ask("max_age", &mut pss.max_age, duration(SECOND..=DAY), show_duration);
        thresholds(section, &mut pss.sampled, Stream::Pss);
    });
    top.section("usage", |section| {
        let usage = &mut settings.usage;
        sampled(section, &mut usage.sampled, Changes::Choice);
        section.ask("by", &mut usage.by, not_empty(choices(UsageBy::WORDS)), |by| words(UsageBy::WORDS, by));
        millis(section, "netns_budget_ms", &mut usage.netns_budget);
        thresholds(section, &mut usage.sampled, Stream::Usage);
    });
    top.section("credits", |section| {
        let credits = &mut settings.credits;
        sampled(section, &mut credits.sampled, Changes::Never);
        section.ask("partial_every", &mut credits.partial_every, duration(SECOND..=DAY), show_duration);
        thresholds(section, &mut credits.sampled, Stream::Credits);
    });
    top.section("events", |section| {
        let events = &mut settings.events;
        section.ask("enabled", &mut events.enabled, flag, bool::to_string);
        section.ask("kinds", &mut events.kinds, choices(EventKind::CHOSEN), |kinds| words(EventKind::CHOSEN, kinds));
        section.ask("threads", &mut events.threads, flag, bool::to_string);
        section.ask("buffer", &mut events.buffer, size(LEAST_BUFFER), |bytes| show::string(&units::show_size(*bytes)));
        number(section, "max_rows_per_s", &mut events.max_rows_per_s, 1..=1_000_000);
        section.ask("include", &mut events.include, strings(pattern), |patterns| show::strings(patterns));
        section.ask("exclude", &mut events.exclude, strings(pattern), |patterns| show::strings(patterns));
        section.ask("max_size", &mut events.max_size, share(LEAST_SIZE), show_share);
    });
    top.section("exits", |section| {
        let exits = &mut settings.exits;
        section.ask("enabled", &mut exits.enabled, flag, bool::to_string);
        number(section, "max_rows_per_s", &mut exits.max_rows_per_s, 1..=1_000_000);
        section.ask("max_size", &mut exits.max_size, share(LEAST_SIZE), show_share);
    });
    top.section("host", |section| {
        sampled(section, &mut settings.host.sampled, Changes::Never);
        thresholds(section, &mut settings.host.sampled, Stream::Host);
    });
    top.section("burst", |section| {
        section.ask("enabled", &mut settings.burst.enabled, flag, bool::to_string);
        section.ask("max_size", &mut settings.burst.max_size, share(LEAST_SIZE), show_share);
    });
    lists::ask(top, settings);
    log_dir
}

/// Whether a stream can be recorded by its changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changes {
    Choice,
    Never,
}

/// The keys of every sampled stream but its thresholds, which are a table and come last.
fn sampled(section: &mut Section<'_, '_>, sampled: &mut Sampled, changes: Changes) {
    section.ask("enabled", &mut sampled.enabled, flag, bool::to_string);
    section.ask("interval", &mut sampled.interval, duration(SECOND..=DAY), show_duration);
    if changes == Changes::Choice {
        section.ask("changes", &mut sampled.changes, flag, bool::to_string);
    }
    section.ask("full_every", &mut sampled.full_every, duration(SECOND..=7 * DAY), show_duration);
    section.ask("max_size", &mut sampled.max_size, share(LEAST_SIZE), show_share);
}

fn thresholds(section: &mut Section<'_, '_>, sampled: &mut Sampled, stream: Stream) {
    let mut found = BTreeMap::new();
    section.section("thresholds", |section| {
        found = section.each(|name, given| threshold(stream, name, given), |number| show::number(*number));
    });
    sampled.thresholds = found;
}

/// A threshold under the canonical name of its column. A stream whose columns are not yet described takes any name.
fn threshold(stream: Stream, name: &str, given: Given<'_>) -> Read<(String, f64)> {
    let known = !schema::columns(stream).is_empty();
    let column = if known { Some(Columns::for_view(stream, &[name]).map_err(|error| unknown(&error))?) } else { None };
    let column = column.as_ref().and_then(|columns| columns.iter().next());
    let canonical = column.map_or_else(|| name.to_ascii_lowercase(), |column| column.name.to_owned());
    let number = decimal(0.0..=f64::MAX)(given)
        .map_err(|wrong| Wrong { message: format!("{canonical}: {}; 0 is any change", wrong.message), ..wrong })?;
    if let Some(column) = column
        && !column.kind.is_number()
        && number != 0.0
    {
        return Err(format!("{canonical} is no number: its threshold can only be 0, any change").into());
    }
    Ok((canonical, number))
}

fn columns(given: Given<'_>) -> Read<Columns> {
    let column = |word: &str| {
        let known = Columns::for_view(Stream::Ps, &[word]).map(|_| word.to_owned());
        known.map_err(|error| unknown(&error))
    };
    let named: Vec<String> = strings(column)(given)?;
    Columns::for_journal(Stream::Ps, &named).map_err(|error| unknown(&error).into())
}

fn sort_key(word: &str) -> Result<SortKey, String> {
    SortKey::parse(Stream::Ps, word).map_err(|error| unknown(&error))
}

/// As the schema says it, but a hostile word cut short.
fn unknown(error: &UnknownColumn) -> String {
    let short = UnknownColumn { word: units::clip(&error.word), ..error.clone() };
    short.to_string()
}

fn min_free(given: Given<'_>) -> Read<MinFree> {
    let text = match given {
        Given::Toml(value) => value.get_ref().as_str().map(str::to_owned),
        _ => Some(string(given)?),
    };
    let Some(percent) = text.as_deref().and_then(|text| text.trim().strip_suffix('%')) else {
        return size(0)(given).map(MinFree::Bytes);
    };
    let number = percent.trim().parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number));
    number.map(MinFree::Percent).ok_or_else(|| format!("'{}%' is no share: from 0% to 100%", units::clip(percent)).into())
}

fn not_empty<T>(read: impl Fn(Given<'_>) -> Read<Vec<T>>) -> impl Fn(Given<'_>) -> Read<Vec<T>> {
    move |given| match read(given) {
        Ok(list) if list.is_empty() => Err("at least one is needed".to_owned().into()),
        other => other,
    }
}

fn number(section: &mut Section<'_, '_>, key: &'static str, slot: &mut u32, range: RangeInclusive<u32>) {
    let read = whole(u64::from(*range.start())..=u64::from(*range.end()));
    let read = move |given: Given<'_>| u32::try_from(read(given)?).map_err(|_| Wrong::from("too large".to_owned()));
    section.ask(key, slot, read, u32::to_string);
}

/// Whole milliseconds, 1 to 10 000: a share of a tick.
fn millis(section: &mut Section<'_, '_>, key: &'static str, slot: &mut Duration) {
    let read = |given: Given<'_>| whole(1..=10_000)(given).map(Duration::from_millis);
    section.ask(key, slot, read, |duration| duration.as_millis().to_string());
}

fn show_duration(duration: &Duration) -> String {
    show::string(&units::show_duration(*duration))
}

#[expect(clippy::ref_option, reason = "shown from the slot it stands in")]
fn show_share(share: &Option<u64>) -> String {
    share.map_or_else(|| "0".to_owned(), |bytes| show::string(&units::show_size(bytes)))
}

fn word<T: PartialEq>(words: &[(&str, T)], value: &T) -> String {
    show::string(words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word))
}

fn words<T: PartialEq>(words: &[(&'static str, T)], values: &[T]) -> String {
    let name = |value: &T| words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| *word);
    show::strings(&values.iter().map(name).collect::<Vec<_>>())
}
