//! What psmond wrote: the fields of the ticks, and the rows by the names of their columns.
//!
//! Deliberately not the reader of the library: a benchmark that counts with the measured program's own code would share
//! its mistakes.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The directory of a psmond that has stopped.
#[derive(Debug)]
pub(crate) struct Logs(pub(crate) TempDir);

/// The numbers of a `#tick`; what is no number is not among them.
#[derive(Debug, Default)]
pub(crate) struct Tick(HashMap<String, u64>);

impl Tick {
    pub(crate) fn get(&self, field: &str) -> Result<u64> {
        self.0.get(field).copied().with_context(|| format!("the #tick has no {field}="))
    }
}

/// A row, by its columns.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    columns: &'a [&'a str],
    line: &'a str,
}

impl<'a> Row<'a> {
    /// A value as it is written; `-` and `?` are none.
    pub(crate) fn get(&self, column: &str) -> Option<&'a str> {
        let (mut rest, last) = (self.line, self.columns.len().checked_sub(1)?);
        for (at, name) in self.columns.iter().enumerate() {
            let wanted = *name == column;
            rest = rest.trim_start_matches(' ');
            if at == last && *name == "cmd" {
                // Free text; it never begins with a space, which would stand there escaped.
                return wanted.then_some(rest).filter(|text| *text != "-" && *text != "?");
            }
            let end = rest.find(' ').unwrap_or(rest.len());
            let (value, after) = rest.split_at(end);
            if wanted {
                return Some(value).filter(|value| *value != "-" && *value != "?" && !value.is_empty());
            }
            rest = after;
        }
        None
    }

    pub(crate) fn number(&self, column: &str) -> Option<u64> {
        self.get(column)?.parse().ok()
    }

    pub(crate) fn pid(&self, column: &str) -> Option<u32> {
        self.get(column)?.parse().ok()
    }

    /// The arguments were read at exec.
    pub(crate) fn argv_was_read(&self) -> bool {
        self.get("sources").is_some_and(|sources| sources.contains('a'))
    }
}

/// What counts in a stream.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    Row(Row<'a>),
    /// What follows the word `#tick`: the time, then `key=value`s.
    Tick(&'a str),
}

impl Logs {
    /// Each row of a stream, in order, and its last tick.
    pub(crate) fn read(&self, stream: &str, mut each: impl FnMut(&Row<'_>)) -> Result<Tick> {
        let mut last = None;
        let segments = self.lines(stream, |line| match line {
            Line::Row(row) => each(&row),
            Line::Tick(fields) => {
                let number = |word: &str| {
                    let (name, value) = word.split_once('=')?;
                    Some((name.to_owned(), value.parse().ok()?))
                };
                last = Some(Tick(fields.split_whitespace().filter_map(number).collect()));
            }
        })?;
        last.with_context(|| format!("no #tick in stream {stream} ({segments} segments)"))
    }

    /// Rows and ticks of a stream, in order; in how many segments.
    pub(crate) fn lines(&self, stream: &str, mut each: impl FnMut(Line<'_>)) -> Result<usize> {
        let dir = self.0.path().join("log");
        let mut segments = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let rest = name.strip_prefix(stream).and_then(|rest| rest.strip_suffix(".log"));
            // The live one is the last: `exits-2026-11-20.2.log` was closed before.
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('-')) {
                segments.push((rest.is_empty(), path));
            }
        }
        segments.sort();
        for (_, path) in &segments {
            let bytes = fs::read(path)?;
            let text = String::from_utf8_lossy(&bytes);
            let mut columns: Vec<&str> = Vec::new();
            for line in text.lines() {
                if let Some(names) = line.strip_prefix("#cols ") {
                    columns = names.split_whitespace().collect();
                } else if let Some(fields) = line.strip_prefix("#tick ") {
                    each(Line::Tick(fields));
                } else if !line.starts_with('#') {
                    each(Line::Row(Row { columns: &columns, line }));
                }
            }
        }
        Ok(segments.len())
    }
}
