//! The merge: command line, then environment, then file, then default.
//!
//! One question to a [`Section`] is one key: asking makes the key known, reads it from every layer that
//! speaks of it (what is wrong in a layer is an error even where another one overrides it), leaves the
//! winner in its slot, where the default stood, and remembers where it came from. What the file says and
//! nobody asked for is unknown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::env::{self, Environment};
use super::error::{At, Problem};
use super::file::Source;
use super::given::{Given, Read, Wrong, meant, named};
use super::load::Overrides;
use super::rules::Place;
use super::units::clip;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// `$LOGS_DIRECTORY`, as systemd sets it for `LogsDirectory=`.
    LogsDirectory,
    /// The user's own directory, as the one meant cannot be written.
    Fallback,
    /// The file, with the line.
    File(usize),
    /// The environment, with the variable.
    Env(String),
    /// The command line, with the switch.
    CommandLine(&'static str),
}

/// A value as it took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `[ps]`, `[[program]]`, or nothing at the top.
    pub(super) header: String,
    /// Which of several tables under one header.
    pub(super) number: usize,
    /// The key.
    pub(super) key: String,
    /// The value as TOML.
    pub(super) value: String,
    /// Where it came from.
    pub(super) origin: Origin,
}

/// What every layer says, and what has been found about it so far.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    pub(super) source: Option<Source<'a>>,
    pub(super) environment: &'a Environment<'a>,
    pub(super) overrides: &'a Overrides,
    pub(super) problems: Vec<(usize, Problem)>,
    pub(super) lines: Vec<Line>,
    /// Every variable that can be set.
    pub(super) variables: Vec<String>,
    /// The keys at the top, for the hint where one stands in a section.
    top: Vec<String>,
}

impl<'a> Layers<'a> {
    pub(super) const fn new(source: Option<Source<'a>>, environment: &'a Environment<'a>, overrides: &'a Overrides) -> Self {
        Self { source, environment, overrides, problems: Vec::new(), lines: Vec::new(), variables: Vec::new(), top: Vec::new() }
    }

    /// Asks for everything, beginning at the top of the document.
    pub(super) fn ask(&mut self, document: Option<&'a Spanned<DeTable<'a>>>, asks: impl FnOnce(&mut Section<'_, 'a>)) {
        let table = document.map(Spanned::get_ref);
        let mut top = Section { layers: self, header: String::new(), number: 0, path: Vec::new(), span: 0..0, table, keys: Vec::new() };
        asks(&mut top);
        top.finish();
    }

    fn wrong(&mut self, span: &Range<usize>, message: String) {
        if let Some(source) = self.source {
            self.problems.push((span.start, source.problem(span, message)));
        }
    }
}

/// One table of the config, and the same of the other layers.
#[derive(Debug)]
pub(super) struct Section<'l, 'a> {
    layers: &'l mut Layers<'a>,
    header: String,
    number: usize,
    /// Names from the top; empty also where only the file can speak.
    path: Vec<String>,
    span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    keys: Vec<String>,
}

impl<'a> Section<'_, 'a> {
    /// Asks for a key whose default is in `slot`.
    pub(super) fn ask<T>(
        &mut self,
        key: &'static str,
        slot: &mut T,
        read: impl Fn(Given<'_>) -> Read<T>,
        show: impl Fn(&T) -> String,
    ) -> Origin {
        let mut origin = Origin::Default;
        if let Some((value, from)) = self.find(key, read) {
            *slot = value;
            origin = from;
        }
        self.push(key, show(slot), origin.clone());
        origin
    }

    /// Asks for a key that has no default.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl Fn(Given<'_>) -> Read<T>, show: impl Fn(&T) -> String) -> Option<T> {
        let (value, origin) = self.find(key, read)?;
        self.push(key, show(&value), origin);
        Some(value)
    }

    /// Asks for a key that must be said; its absence is an error.
    pub(super) fn required<T>(&mut self, key: &'static str, read: impl Fn(Given<'_>) -> Read<T>, show: impl Fn(&T) -> String) -> Option<T> {
        if !self.says(key) {
            self.wrong(format!("{} needs '{key}'", self.header));
        }
        self.optional(key, read, show)
    }

    /// Whether any layer says something of a key.
    pub(super) fn says(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
            || self.variable(key).is_some_and(|name| self.layers.environment.get(&name).is_some())
    }

    /// Takes whatever names this section holds; `read` turns each with its value into a name and a value.
    pub(super) fn each<T>(
        &mut self,
        read: impl Fn(&str, Given<'_>) -> Read<(String, T)>,
        show: impl Fn(&T) -> String,
    ) -> BTreeMap<String, T> {
        let mut found: BTreeMap<String, (T, Origin)> = BTreeMap::new();
        for (name, value) in self.table.map(in_order).unwrap_or_default() {
            self.keys.push(name.get_ref().to_string());
            match read(name.get_ref(), Given::Toml(value)) {
                Ok((canonical, _)) if found.contains_key(&canonical) => {
                    self.layers.wrong(&name.span(), format!("'{}' is said twice", clip(&canonical)));
                }
                Ok((canonical, read)) => {
                    let origin = Origin::File(self.line(&name.span()));
                    found.insert(canonical, (read, origin));
                }
                Err(wrong) => self.layers.wrong(&wrong.span.unwrap_or_else(|| name.span()), wrong.message),
            }
        }
        let prefix = env::variable(&[self.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), &[""]].concat());
        for (rest, variable, value) in self.layers.environment.beginning(&prefix) {
            self.layers.variables.push(variable.clone());
            match read(&rest.to_ascii_lowercase(), Given::Text(value)) {
                Ok((canonical, read)) => {
                    found.insert(canonical, (read, Origin::Env(variable)));
                }
                Err(wrong) => self.outside(At::Variable(variable), wrong.message),
            }
        }
        let mut read = BTreeMap::new();
        for (name, (value, origin)) in found {
            self.push(&name, show(&value), origin);
            read.insert(name, value);
        }
        read
    }

    /// Asks for a section within this one.
    pub(super) fn section(&mut self, name: &str, asks: impl FnOnce(&mut Section<'_, 'a>)) {
        self.keys.push(name.to_owned());
        let value = self.table.and_then(|table| table.get(name));
        let table = value.and_then(|value| value.get_ref().as_table());
        let mut path = self.path.clone();
        path.push(name.to_owned());
        let header = format!("[{}]", path.iter().map(|part| super::show::key(part)).collect::<Vec<_>>().join("."));
        if let (Some(value), None) = (value, table) {
            let kind = named(value.get_ref());
            self.layers.wrong(&value.span(), format!("'{}' is a section, {header} with its keys below, not {kind}", clip(name)));
        }
        let span = value.map_or(0..0, Spanned::span);
        let mut section = Section { layers: self.layers, header, number: 0, path, span, table, keys: Vec::new() };
        asks(&mut section);
        section.finish();
    }

    /// Asks for each `[[name]]`.
    pub(super) fn list(&mut self, name: &str, mut asks: impl FnMut(&mut Section<'_, 'a>)) {
        self.keys.push(name.to_owned());
        let Some(value) = self.table.and_then(|table| table.get(name)) else { return };
        let header = format!("[[{name}]]");
        let Some(array) = value.get_ref().as_array() else {
            let kind = named(value.get_ref());
            self.layers.wrong(&value.span(), format!("'{name}' is a list of tables, each under its own {header}, not {kind}"));
            return;
        };
        for (number, item) in array.iter().enumerate() {
            let Some(table) = item.get_ref().as_table() else {
                let kind = named(item.get_ref());
                self.layers.wrong(&item.span(), format!("'{name}' is a list of tables, each under its own {header}, not {kind}"));
                continue;
            };
            let mut section = Section {
                layers: self.layers,
                header: header.clone(),
                number,
                path: Vec::new(),
                span: item.span(),
                table: Some(table),
                keys: Vec::new(),
            };
            asks(&mut section);
            section.finish();
        }
    }

    /// Where this section stands in the file.
    pub(super) fn place(&self) -> Option<Place> {
        self.layers.source.map(|source| Place { file: source.path.into(), line: source.line(self.span.start) })
    }

    /// The names within this section, in the order of the file.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.map(in_order).unwrap_or_default().iter().map(|(name, _)| name.get_ref().to_string()).collect()
    }

    /// Says that the section as a whole is wrong.
    pub(super) fn wrong(&mut self, message: String) {
        let span = self.span.clone();
        self.layers.wrong(&span, message);
    }

    /// Says that the value of a key is wrong, wherever the file says it.
    pub(super) fn wrong_key(&mut self, key: &str, message: String) {
        let span = self.table.and_then(|table| table.get(key)).map_or_else(|| self.span.clone(), Spanned::span);
        self.layers.wrong(&span, message);
    }

    fn find<T>(&mut self, key: &'static str, read: impl Fn(Given<'_>) -> Read<T>) -> Option<(T, Origin)> {
        self.keys.push(key.to_owned());
        if self.header.is_empty() {
            self.layers.top.push(key.to_owned());
        }
        let mut found = None;
        if let Some((name, value)) = self.table.and_then(|table| table.get_key_value(key)) {
            match read(Given::Toml(value)) {
                Ok(read) => found = Some((read, Origin::File(self.line(&name.span())))),
                Err(Wrong { message, span }) => {
                    self.layers.wrong(&span.unwrap_or_else(|| value.span()), format!("{key}: {message}"));
                }
            }
        }
        if let Some(variable) = self.variable(key) {
            self.layers.variables.push(variable.clone());
            if let Some(text) = self.layers.environment.get(&variable) {
                match read(Given::Text(text)) {
                    Ok(read) => found = Some((read, Origin::Env(variable))),
                    Err(wrong) => self.outside(At::Variable(variable), wrong.message),
                }
            }
        }
        if self.number == 0
            && !self.header.starts_with("[[")
            && let Some((switch, given)) = self.layers.overrides.of(&self.full(key))
        {
            match read(given) {
                Ok(read) => found = Some((read, Origin::CommandLine(switch))),
                Err(wrong) => self.outside(At::Switch(switch), wrong.message),
            }
        }
        found
    }

    /// A problem outside the file comes before those within.
    fn outside(&mut self, at: At, message: String) {
        self.layers.problems.push((0, Problem { at, message }));
    }

    pub(super) fn push(&mut self, key: &str, value: String, origin: Origin) {
        let line = Line { header: self.header.clone(), number: self.number, key: key.to_owned(), value, origin };
        self.layers.lines.push(line);
    }

    /// The key with its sections.
    fn full(&self, key: &str) -> String {
        self.path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".")
    }

    /// The variable of a key, where the environment can speak of it.
    fn variable(&self, key: &str) -> Option<String> {
        let parts: Vec<&str> = self.path.iter().map(String::as_str).chain([key]).collect();
        (!self.header.starts_with("[[")).then(|| env::variable(&parts))
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.layers.source.map_or(0, |source| source.line(span.start))
    }

    /// Whatever the file says here and nobody asked for is unknown.
    fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, value) in in_order(table) {
            let key: &str = name.get_ref();
            if self.keys.iter().any(|known| known == key) {
                continue;
            }
            let place = if self.header.is_empty() { String::new() } else { format!(" in {}", self.header) };
            let what = match value.get_ref() {
                DeValue::Table(_) if self.header.is_empty() => "section",
                _ => "key",
            };
            let hint = if !self.header.is_empty() && self.layers.top.iter().any(|known| known == key) {
                "; it belongs above the first section".to_owned()
            } else {
                meant(key, self.keys.iter().map(String::as_str))
            };
            let known = self.keys.join(", ");
            self.layers.wrong(&name.span(), format!("unknown {what} '{}'{place}{hint} (known: {known})", clip(key)));
        }
    }
}

/// The entries of a table as they follow each other in the file.
type Entry<'a> = (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}
