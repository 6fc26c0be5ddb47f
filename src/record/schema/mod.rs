//! Every column of every stream, described once.
//!
//! The journal's header and codecs, `-o` and `--sort`, JSON, the config check and the manual all come
//! from here. A new column is one entry in its stream's list and the code that measures it.

mod alerts;
mod budgets;
mod credits;
mod events;
mod exits;
mod ps;
mod pss;
mod usage;

use std::fmt::Write as _;
use std::sync::Arc;

use super::stream::Stream;
use super::value::Value;

/// What a column's values are, and in which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A moment, with 3 or 9 digits of the second.
    Time(u8),
    /// A whole number of things, or a plain number.
    Count,
    /// Bytes.
    Bytes,
    /// Clock ticks since boot.
    Ticks,
    /// Seconds with so many digits.
    Seconds(u8),
    /// Per cent with so many digits; 100 is one core.
    Percent(u8),
    /// Utilisation-seconds (%·s) with so many digits: per cent of a CPU times seconds.
    UtilSeconds(u8),
    /// CPU credits with so many digits; one is 60 CPU-seconds.
    Credits(u8),
    /// A word of bytes.
    Word,
    /// A command line; the last column, free text.
    Cmd,
    /// Sentences; the last column, free text.
    Text,
}

impl Kind {
    /// Digits after the point of a decimal; `None` for what is none.
    #[must_use]
    pub const fn digits(self) -> Option<u8> {
        match self {
            Self::Seconds(digits) | Self::Percent(digits) | Self::UtilSeconds(digits) | Self::Credits(digits) => Some(digits),
            _ => None,
        }
    }

    /// Numbers are set flush right, all else flush left.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Count | Self::Bytes | Self::Ticks) || self.digits().is_some()
    }

    /// Free text follows exactly one space and runs to the end of the line.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Cmd | Self::Text)
    }

    /// The unit as the manual names it.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Time(_) => "RFC 3339",
            Self::Count => "number",
            Self::Bytes => "bytes",
            Self::Ticks => "ticks since boot",
            Self::Seconds(_) => "seconds",
            Self::Percent(_) => "per cent",
            Self::UtilSeconds(_) => "per cent x seconds",
            Self::Credits(_) => "credits",
            Self::Word | Self::Cmd | Self::Text => "text",
        }
    }
}

/// By how much a value must differ from the one last written to cause a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Any change.
    Any,
    /// Never by itself: brought up to date when a row is written.
    Never,
    /// At least so much, in the column's unit.
    By(f64),
    /// At least so much, and always when it falls to zero.
    ByOrZero(f64),
    /// At least the larger of so many bytes and so many per cent of what was written.
    Memory {
        /// Bytes.
        bytes: u64,
        /// Per cent.
        percent: f64,
    },
    /// As [`Threshold::Any`], but a change between running and sleeping is none; of programs it counts how many do either.
    State,
}

/// The threshold of memory columns: max(64 KiB, 1 %).
pub const MEMORY: Threshold = Threshold::Memory { bytes: 64 * 1024, percent: 1.0 };

/// One column of one stream.
#[derive(Debug, PartialEq)]
pub struct Column {
    /// `[a-z][a-z0-9_]*`.
    pub name: &'static str,
    /// Other names it answers to, first of all those of ps(1).
    pub aliases: &'static [&'static str],
    /// Type and unit.
    pub kind: Kind,
    /// The width it is padded to, for the eye.
    pub width: usize,
    /// What makes a new row.
    pub threshold: Threshold,
    /// Whether the column stands in the journal unless the config says otherwise.
    pub standard: bool,
    /// One line for the manual, with the source.
    pub meaning: &'static str,
}

/// A column of the standard set.
const fn standard(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    width: usize,
    threshold: Threshold,
    meaning: &'static str,
) -> Column {
    Column { name, aliases, kind, width, threshold, standard: true, meaning }
}

/// A column that is there when asked for.
const fn on_request(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    width: usize,
    threshold: Threshold,
    meaning: &'static str,
) -> Column {
    Column { name, aliases, kind, width, threshold, standard: false, meaning }
}

/// All columns of a stream that this version knows; empty where the stream is not yet recorded.
#[must_use]
pub const fn columns(stream: Stream) -> &'static [Column] {
    match stream {
        Stream::Ps => ps::COLUMNS,
        Stream::Pss => pss::COLUMNS,
        Stream::Usage => usage::COLUMNS,
        Stream::UsageProcess => usage::OF_PROCESSES,
        Stream::Credits => credits::COLUMNS,
        Stream::CreditsProcess => credits::OF_PROCESSES,
        Stream::Budgets => budgets::COLUMNS,
        Stream::Events => events::COLUMNS,
        Stream::Exits => exits::COLUMNS,
        Stream::Alerts => alerts::COLUMNS,
        _ => &[],
    }
}

/// Finds a column by its name or an alias, whatever the case.
#[must_use]
pub fn find(stream: Stream, word: &str) -> Option<&'static Column> {
    let matches = |name: &str| name.eq_ignore_ascii_case(word);
    let all = columns(stream);
    all.iter().find(|column| matches(column.name)).or_else(|| all.iter().find(|column| column.aliases.iter().any(|alias| matches(alias))))
}

/// Finds a column as people name it: `time` is ps's name for the CPU time, and the journal's own `time` leads every
/// row whether it is named or not.
#[must_use]
pub fn said(stream: Stream, word: &str) -> Option<&'static Column> {
    let cpu_time = (stream == Stream::Ps && word.eq_ignore_ascii_case("time")).then(|| find(stream, "cpu_s")).flatten();
    cpu_time.or_else(|| find(stream, word))
}

/// A column nobody knows.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("'{word}' is not a column of {stream}{}; the columns are {}", hint(nearest), columns(*stream).iter().map(|column| column.name).collect::<Vec<_>>().join(", "))]
pub struct UnknownColumn {
    /// What was said.
    pub word: String,
    /// The stream it was said of.
    pub stream: Stream,
    /// The nearest column there is.
    pub nearest: Option<&'static str>,
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean '{name}'?)"))
}

/// The candidate that differs least from the word, where one is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().min(word.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The columns of a segment or a view, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns(Arc<[&'static Column]>);

impl Columns {
    /// The standard columns of a stream.
    #[must_use]
    pub fn standard(stream: Stream) -> Self {
        Self(columns(stream).iter().filter(|column| column.standard).collect())
    }

    /// The named columns for the journal: `time`, `pid` and `start` are put in front where they are missing
    /// (a row without its identity could not be told from another's), and `cmd` last, as it runs to the end of the line.
    ///
    /// # Errors
    /// The first name that is neither a column nor an alias.
    pub fn for_journal<S: AsRef<str>>(stream: Stream, words: &[S]) -> Result<Self, UnknownColumn> {
        if words.is_empty() {
            return Ok(Self::standard(stream));
        }
        let named = Self::for_view(stream, words)?;
        let key = ["time", "pid", "start"].into_iter().filter_map(|name| find(stream, name)).filter(|column| !named.0.contains(column));
        // `time` leads even where it was named later: lines are sorted and cut by it.
        let mut list: Vec<&'static Column> = key.collect();
        list.extend(named.0.iter().copied());
        list.sort_by_key(|column| match column.kind {
            Kind::Time(_) if column.name == "time" => 0,
            kind if kind.is_free() => 2,
            _ => 1,
        });
        Ok(Self(list.into()))
    }

    /// The named columns as a view shows them; a name said twice counts once, `cmd` goes last.
    ///
    /// # Errors
    /// The first name that is neither a column nor an alias.
    pub fn for_view<S: AsRef<str>>(stream: Stream, words: &[S]) -> Result<Self, UnknownColumn> {
        let mut list: Vec<&'static Column> = Vec::new();
        for word in words {
            let word = word.as_ref();
            let column = said(stream, word).ok_or_else(|| unknown(stream, word))?;
            if !list.contains(&column) {
                list.push(column);
            }
        }
        list.sort_by_key(|column| column.kind.is_free());
        Ok(Self(list.into()))
    }

    /// The columns in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'static Column> + '_ {
        self.0.iter().copied()
    }

    /// The column at a place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&'static Column> {
        self.0.get(at).copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a column stands.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column.name == name)
    }

    /// The names joined by one space, as in `#cols`.
    #[must_use]
    pub fn names(&self) -> String {
        let mut names = String::new();
        for (at, column) in self.iter().enumerate() {
            let _ = write!(names, "{}{}", if at == 0 { "" } else { " " }, column.name);
        }
        names
    }
}

fn unknown(stream: Stream, word: &str) -> UnknownColumn {
    let names = columns(stream).iter().flat_map(|column| std::iter::once(column.name).chain(column.aliases.iter().copied()));
    let near = nearest(&word.to_ascii_lowercase(), names).and_then(|name| find(stream, name)).map(|column| column.name);
    UnknownColumn { word: word.to_owned(), stream, nearest: near }
}

/// One key of a sort: a column, and whether the largest comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SortKey {
    /// What is compared.
    pub column: &'static Column,
    /// Largest first (`-cpu_pct`).
    pub descending: bool,
}

impl SortKey {
    /// Reads `cpu_pct`, `+cpu_pct` (ascending) or `-cpu_pct` (descending), as ps's `--sort` does.
    ///
    /// # Errors
    /// A name that is neither a column nor an alias.
    pub fn parse(stream: Stream, word: &str) -> Result<Self, UnknownColumn> {
        let (descending, name) = match word.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        said(stream, name).map(|column| Self { column, descending }).ok_or_else(|| unknown(stream, name))
    }
}

/// Whether a row must be written: some value differs from the one last written by its column's threshold.
///
/// `own` are the thresholds of the config, by position, where it sets any; 0 there means any change.
#[must_use]
pub fn differs(column: &Column, own: Option<f64>, written: &Value, now: &Value) -> bool {
    if written == now {
        return false;
    }
    let threshold = match own {
        Some(0.0) => Threshold::Any,
        Some(by) => Threshold::By(by),
        None => column.threshold,
    };
    if threshold == Threshold::Never {
        return false;
    }
    let (Some(before), Some(after)) = (written.number(), now.number()) else {
        return threshold != Threshold::State || !differ_in_running_only(written, now);
    };
    let moved = before.abs_diff(after);
    match threshold {
        Threshold::Any | Threshold::State => true,
        Threshold::Never => false,
        Threshold::By(by) => moved >= scaled(column, by),
        Threshold::ByOrZero(by) => after == 0 || moved >= scaled(column, by),
        Threshold::Memory { bytes, percent } => {
            #[expect(clippy::cast_precision_loss, reason = "one per cent of some bytes needs no 64 digits")]
            let share = before as f64 * percent / 100.0;
            moved >= bytes.max(to_whole(share))
        }
    }
}

/// Whether two values of a state column differ in nothing but who runs and who sleeps: `R` and `S`, or `R1,S7` and `S8`.
fn differ_in_running_only(one: &Value, other: &Value) -> bool {
    let (Value::Word(one), Value::Word(other)) = (one, other) else { return false };
    match (awake_and_rest(one), awake_and_rest(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// How many run or sleep, and what else there is; `None` of what is no list of states.
fn awake_and_rest(states: &[u8]) -> Option<(u64, Vec<&[u8]>)> {
    let mut awake = 0_u64;
    let mut rest = Vec::new();
    for part in states.split(|byte| *byte == b',') {
        let (letter, count) = part.split_first()?;
        let count = if count.is_empty() { 1 } else { std::str::from_utf8(count).ok()?.parse().ok()? };
        match letter {
            b'R' | b'S' => awake = awake.checked_add(count)?,
            _ => rest.push(part),
        }
    }
    Some((awake, rest))
}

/// A threshold in the column's unit as the whole number that its values are kept in; at least one step.
fn scaled(column: &Column, by: f64) -> u64 {
    let scale = 10_f64.powi(i32::from(column.kind.digits().unwrap_or(0)));
    to_whole((by * scale).round()).max(1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate, and negatives become 0")]
const fn to_whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_the_journal_and_unique() {
        for stream in Stream::ALL {
            let mut seen = std::collections::HashSet::new();
            for column in columns(stream) {
                let mut bytes = column.name.bytes();
                assert!(bytes.next().is_some_and(|first| first.is_ascii_lowercase()), "{}", column.name);
                assert!(bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{}", column.name);
                assert!(column.meaning.ends_with('.'), "{}", column.name);
                for name in std::iter::once(&column.name).chain(column.aliases) {
                    assert!(seen.insert(*name), "{stream}: {name} is said twice");
                }
            }
        }
    }

    #[test]
    fn the_standard_columns_of_ps_are_those_of_the_contract() {
        assert_eq!(
            Columns::standard(Stream::Ps).names(),
            "time pid start ppid user state tty nice threads cpu_pct cpu_s rss vsz swap min_flt maj_flt program unit cmd"
        );
    }

    #[test]
    fn the_standard_columns_of_pss_are_those_of_the_contract() {
        assert_eq!(
            Columns::standard(Stream::Pss).names(),
            "time pid start user pss pss_anon pss_file pss_shmem pss_dirty swap_pss uss rss age_s reading program cmd"
        );
    }

    #[test]
    fn the_columns_of_usage_are_those_of_the_contract() {
        let usage = "program procs up cpu_pct cpu_s rss vsz pss pss_age_s rchar wchar syscr syscw read_bytes write_bytes \
             cancelled_write_bytes fds fd_limit_pct threads tcp tcp6 udp udp6 unix tcp_listen tcp6_listen sockets started exited \
             min_flt maj_flt nvcsw nivcsw oldest_s states limit limit_pct";
        assert_eq!(Columns::standard(Stream::Usage).names(), format!("time {usage}"));
        assert_eq!(Columns::standard(Stream::UsageProcess).names(), format!("time pid start user {usage}"));
    }

    #[test]
    fn who_runs_and_who_sleeps_makes_no_row() {
        let same = |one: &[u8], other: &[u8]| differ_in_running_only(&Value::word(one), &Value::word(other));
        assert!(same(b"R", b"S") && same(b"R1,S7", b"S8") && same(b"D1,R1", b"D1,S1"));
        assert!(!same(b"S8", b"S9") && !same(b"S8", b"S8,Z1") && !same(b"D", b"S") && !same(b"?x", b"S"));
    }

    #[test]
    fn the_columns_of_events_and_exits_are_those_of_the_contract() {
        assert_eq!(
            Columns::standard(Stream::Events).names(),
            "time event pid start task ppid user program info duration_s sources cmd"
        );
        assert_eq!(
            Columns::standard(Stream::Exits).names(),
            "time pid start ppid pstart pcomm user program unit lives how code signal raw lifetime_s user_s sys_s cpu_s max_rss \
             read_bytes write_bytes min_flt maj_flt nvcsw nivcsw sources cmd"
        );
    }

    #[test]
    fn the_columns_of_alerts_are_those_of_the_contract() {
        assert_eq!(Columns::standard(Stream::Alerts).names(), "time kind level program user pid start value limit text");
        assert_eq!(Columns::for_journal(Stream::Alerts, &["text", "uid"]).unwrap().names(), "time pid start uid text");
    }

    #[test]
    fn aliases_order_and_key_columns() {
        let words = ["args", "pid", "%cpu", "pcpu", "RSS"];
        assert_eq!(Columns::for_journal(Stream::Ps, &words).unwrap().names(), "time start pid cpu_pct rss cmd");
        assert_eq!(Columns::for_view(Stream::Ps, &words).unwrap().names(), "pid cpu_pct rss cmd");
        assert_eq!(Columns::for_journal(Stream::Ps, &["pid", "time"]).unwrap().names(), "time start pid cpu_s");
    }

    #[test]
    fn an_unknown_column_lists_the_known_ones() {
        let error = Columns::for_view(Stream::Ps, &["rsss"]).unwrap_err();
        assert_eq!(error.nearest, Some("rss"));
        assert!(
            error.to_string().starts_with("'rsss' is not a column of ps (did you mean 'rss'?); the columns are time, pid, start"),
            "{error}"
        );
    }

    #[test]
    fn thresholds_decide() {
        let column = |name| find(Stream::Ps, name).unwrap();
        let differs = |name, own, a, b| differs(column(name), own, &a, &b);
        assert!(!differs("cpu_pct", None, Value::Fixed(10), Value::Fixed(19)), "0.9 points are not 1.0");
        assert!(differs("cpu_pct", None, Value::Fixed(10), Value::Fixed(20)));
        assert!(differs("cpu_pct", None, Value::Fixed(3), Value::Fixed(0)), "falling to zero always counts");
        assert!(!differs("cpu_pct", None, Value::Fixed(0), Value::Fixed(3)));
        assert!(differs("cpu_pct", Some(0.0), Value::Fixed(0), Value::Fixed(1)));
        assert!(!differs("rss", None, Value::Int(1 << 20), Value::Int((1 << 20) + 65_535)));
        assert!(differs("rss", None, Value::Int(1 << 20), Value::Int((1 << 20) + 65_536)));
        assert!(!differs("rss", None, Value::Int(100 << 20), Value::Int(103_000 << 10)), "less than 1 %");
        assert!(!differs("state", None, Value::word(b"R"), Value::word(b"S")));
        assert!(differs("state", None, Value::word(b"S"), Value::word(b"D")));
        assert!(differs("user", None, Value::Refused, Value::Absent));
        assert!(!differs("min_flt", None, Value::Int(1), Value::Int(1_000_000)));
    }

    #[test]
    fn sort_keys_as_ps_writes_them() {
        assert!(SortKey::parse(Stream::Ps, "-rss").unwrap().descending);
        assert_eq!(SortKey::parse(Stream::Ps, "+pcpu").unwrap().column.name, "cpu_pct");
        assert!(SortKey::parse(Stream::Ps, "-nope").is_err());
    }
}
