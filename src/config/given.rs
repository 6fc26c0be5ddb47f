//! What was said of a key, whoever said it, and its reading as a value.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::units::{self, clip};
use crate::record::schema::nearest;

/// What was said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    /// A value of the file.
    Toml(&'a Spanned<DeValue<'a>>),
    /// A variable, or the argument of a switch.
    Text(&'a OsStr),
    /// The arguments of a switch that takes many.
    Words(&'a [String]),
    /// A switch that is on or off.
    Flag(bool),
}

/// Why it is no such value; `span` where that is one item of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { message, span: None }
    }
}

pub(super) type Read<T> = Result<T, Wrong>;

impl<'a> Given<'a> {
    fn text(self, wanted: &str) -> Read<Cow<'a, str>> {
        match self {
            Self::Toml(value) => match value.get_ref() {
                DeValue::String(text) => Ok(Cow::Borrowed(text)),
                other => Err(format!("{wanted} is needed, not {}", named(other)).into()),
            },
            Self::Text(text) => text.to_str().map(Cow::Borrowed).ok_or_else(|| format!("{wanted} is needed; this is not UTF-8").into()),
            Self::Words(_) | Self::Flag(_) => Err(format!("{wanted} is needed").into()),
        }
    }

    /// A number, where the file has one or the text is one.
    fn number(self) -> Option<f64> {
        match self {
            Self::Toml(value) => match value.get_ref() {
                #[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a setting")]
                DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|whole| whole as f64),
                DeValue::Float(number) => number.as_str().parse().ok(),
                _ => None,
            },
            Self::Text(text) => text.to_str()?.trim().parse().ok(),
            Self::Words(_) | Self::Flag(_) => None,
        }
    }

    /// The items of a list: of the file's array, or of the text cut at commas.
    fn items(self) -> Read<Vec<(String, Option<Range<usize>>)>> {
        const WANTED: &str = "a list of strings";
        let cut = |text: &str| -> Vec<(String, Option<Range<usize>>)> {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| (item.to_owned(), None)).collect()
        };
        match self {
            Self::Toml(value) => match value.get_ref() {
                DeValue::Array(array) => array
                    .iter()
                    .map(|item| match item.get_ref() {
                        DeValue::String(text) => Ok((text.clone().into_owned(), Some(item.span()))),
                        other => Err(Wrong { message: format!("{WANTED} is needed, not {} in it", named(other)), span: Some(item.span()) }),
                    })
                    .collect(),
                other => Err(format!("{WANTED} is needed, as [\"…\", \"…\"], not {}", named(other)).into()),
            },
            Self::Text(_) => Ok(cut(&self.text(WANTED)?)),
            Self::Words(words) => Ok(words.iter().flat_map(|word| cut(word)).collect()),
            Self::Flag(_) => Err(format!("{WANTED} is needed").into()),
        }
    }
}

/// The kind of a value of the file, with its article.
pub(super) const fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a datetime",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `true` or `false`; in the environment also `1`, `yes`, `on` and their opposites.
pub(super) fn flag(given: Given<'_>) -> Read<bool> {
    match given {
        Given::Flag(flag) => Ok(flag),
        Given::Toml(value) => match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            other => Err(format!("true or false is needed, not {}", named(other)).into()),
        },
        _ => {
            let text = given.text("true or false")?;
            match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                other => Err(format!("true or false is needed, not '{}'", clip(other)).into()),
            }
        }
    }
}

/// A whole number within a range.
pub(super) fn whole(range: RangeInclusive<u64>) -> impl Fn(Given<'_>) -> Read<u64> {
    move |given| {
        let wanted = || format!("a whole number from {} to {} is needed", range.start(), range.end());
        let number = match given {
            Given::Toml(value) => match value.get_ref() {
                DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
                other => return Err(format!("{}, not {}", wanted(), named(other)).into()),
            },
            _ => given.text("a whole number")?.trim().parse::<i128>().ok(),
        };
        number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| number.map_or_else(wanted, |number| format!("{}, not {number}", wanted())).into())
    }
}

/// A decimal within a range.
pub(super) fn decimal(range: RangeInclusive<f64>) -> impl Fn(Given<'_>) -> Read<f64> {
    move |given| {
        let number = given.number().filter(|number| range.contains(number));
        number.ok_or_else(|| match (range.start(), range.end()) {
            (from, to) if to.is_finite() && *to < f64::MAX => format!("a number from {from} to {to} is needed").into(),
            (from, _) => format!("a number of at least {from} is needed").into(),
        })
    }
}

/// A list of numbers within a range.
pub(super) fn decimals(range: RangeInclusive<f64>) -> impl Fn(Given<'_>) -> Read<Vec<f64>> {
    let one = decimal(range);
    move |given| match given {
        Given::Toml(value) => match value.get_ref() {
            DeValue::Array(array) => {
                array.iter().map(|item| one(Given::Toml(item)).map_err(|wrong| Wrong { span: Some(item.span()), ..wrong })).collect()
            }
            other => Err(format!("a list of numbers is needed, not {}", named(other)).into()),
        },
        _ => given.items()?.iter().map(|(item, _)| one(Given::Text(item.as_ref()))).collect(),
    }
}

/// A duration within a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(Given<'_>) -> Read<Duration> {
    move |given| {
        let duration = match (given, given.number()) {
            (Given::Toml(_), Some(seconds)) => units::seconds_f64(seconds).ok_or_else(|| format!("{seconds} s is no duration"))?,
            _ => units::duration(&given.text("a duration such as \"10s\"")?)?,
        };
        if range.contains(&duration) {
            return Ok(duration);
        }
        let show = units::show_duration;
        Err(format!("{} is out of range: from {} to {}", show(duration), show(*range.start()), show(*range.end())).into())
    }
}

/// A size of at least so many bytes.
pub(super) fn size(least: u64) -> impl Fn(Given<'_>) -> Read<u64> {
    move |given| {
        let bytes = match (given, given.number()) {
            (Given::Toml(_), Some(bytes)) => units::bytes_f64(bytes).ok_or_else(|| format!("{bytes} is no size"))?,
            _ => units::size(&given.text("a size such as \"64K\"")?)?,
        };
        if bytes >= least {
            return Ok(bytes);
        }
        Err(format!("{} is too small: at least {}", units::show_size(bytes), units::show_size(least)).into())
    }
}

/// A size where 0 is none.
pub(super) fn share(least: u64) -> impl Fn(Given<'_>) -> Read<Option<u64>> {
    move |given| match size(0)(given)? {
        0 => Ok(None),
        bytes if bytes >= least => Ok(Some(bytes)),
        bytes => {
            Err(
                format!("{} is too small: at least {}, or 0 for no limit of its own", units::show_size(bytes), units::show_size(least))
                    .into(),
            )
        }
    }
}

/// A string that is not empty and holds no control characters.
pub(super) fn string(given: Given<'_>) -> Read<String> {
    let text = given.text("a string")?;
    if text.is_empty() {
        return Err("this must not be empty".to_owned().into());
    }
    if text.chars().any(char::is_control) {
        return Err("control characters have no place here".to_owned().into());
    }
    Ok(text.into_owned())
}

/// A path; the environment may hold one that is not UTF-8.
pub(super) fn path(given: Given<'_>) -> Read<PathBuf> {
    let path = match given {
        Given::Text(text) => PathBuf::from(text),
        _ => PathBuf::from(given.text("a path")?.as_ref()),
    };
    if path.as_os_str().is_empty() {
        return Err("a path must not be empty".to_owned().into());
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("a path cannot hold a NUL".to_owned().into());
    }
    Ok(path)
}

/// A path where an empty string is none.
pub(super) fn optional_path(given: Given<'_>) -> Read<Option<PathBuf>> {
    match given {
        Given::Toml(value) if value.get_ref().as_str() == Some("") => Ok(None),
        _ => path(given).map(Some),
    }
}

/// One of some words.
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(Given<'_>) -> Read<T> {
    move |given| pick(words, &given.text("a string")?).map_err(Wrong::from)
}

fn pick<T: Copy>(words: &'static [(&'static str, T)], text: &str) -> Result<T, String> {
    let names = || words.iter().map(|(name, _)| *name);
    words
        .iter()
        .find(|(name, _)| *name == text.trim())
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("'{}' is none of {}{}", clip(text), names().collect::<Vec<_>>().join(", "), meant(text, names())))
}

/// A list of some words, each at most once.
pub(super) fn choices<T: Copy + PartialEq>(words: &'static [(&'static str, T)]) -> impl Fn(Given<'_>) -> Read<Vec<T>> {
    move |given| {
        let mut chosen = Vec::new();
        for (item, span) in given.items()? {
            let word = pick(words, &item).map_err(|message| Wrong { message, span: span.clone() })?;
            if chosen.contains(&word) {
                return Err(Wrong { message: format!("'{}' is said twice", clip(&item)), span });
            }
            chosen.push(word);
        }
        Ok(chosen)
    }
}

/// A list of strings, each held against `check`.
pub(super) fn strings<T, E: ToString>(check: impl Fn(&str) -> Result<T, E>) -> impl Fn(Given<'_>) -> Read<Vec<T>> {
    move |given| {
        let read = |(item, span): (String, _)| check(&item).map_err(|error| Wrong { message: error.to_string(), span });
        given.items()?.into_iter().map(read).collect()
    }
}

/// A pattern that compiles, as it was said. Patterns meet command lines, which are bytes.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    regex::bytes::Regex::new(text).map(|_| text.to_owned()).map_err(|error| bad_regex(text, &error))
}

/// What is wrong with a pattern, on one line: the crate draws it over several.
pub(super) fn bad_regex(text: &str, error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("'{}' is too large: compiled it takes more than {} KiB; repeat less of it", clip(text), limit >> 10);
    }
    let drawn = error.to_string();
    let why = drawn.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    format!("'{}' is no regular expression: {}", clip(text), why.trim_start_matches("error: "))
}

/// `; did you mean 'x'?`, or nothing.
pub(super) fn meant<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    // A word as long as a file is near to none, and comparing it is dear.
    if word.len() > 64 {
        return String::new();
    }
    nearest(&word.to_ascii_lowercase(), names).map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}
