//! The one table at the end: what, measured, target, verdict, and the same in units of top and ps.

use std::fmt::Write;

/// What a number must not exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    LessThan(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Target::AtMost(limit) => value <= limit,
            Target::LessThan(limit) => value < limit,
        }
    }
}

#[derive(Debug)]
struct Row {
    what: String,
    value: Option<f64>,
    target: Option<Target>,
    /// The same quantity measured of top and of ps.
    top: Option<f64>,
    ps: Option<f64>,
    note: String,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

/// A row under construction, so that a caller names only what it has.
#[derive(Debug)]
pub(crate) struct Entry<'a>(&'a mut Row);

impl Table {
    pub(crate) fn add(&mut self, what: impl Into<String>, value: impl Into<Option<f64>>) -> Entry<'_> {
        let row = Row { what: what.into(), value: value.into(), target: None, top: None, ps: None, note: String::new() };
        let at = self.rows.len();
        self.rows.push(row);
        Entry(&mut self.rows[at])
    }

    /// Targets not met; one that could not be measured is not met.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.verdict(), "OVER" | "not had")).count()
    }

    pub(crate) fn render(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0).max(4);
        let mut out = String::new();
        let mut line = |cells: [&str; 7]| {
            let [what, value, target, verdict, top, ps, note] = cells;
            let text = format!("{what:<width$}  {value:>9}  {target:>8}  {verdict:<7}  {top:>7}  {ps:>7}  {note}");
            let _ = writeln!(out, "{}", text.trim_end());
        };
        line(["what", "measured", "target", "verdict", "vs top", "vs ps", ""]);
        for row in &self.rows {
            let value = row.value.map_or("-".to_owned(), figure);
            let target = match row.target {
                Some(Target::AtMost(limit)) => format!("<= {}", figure(limit)),
                Some(Target::LessThan(limit)) => format!("< {}", figure(limit)),
                None => String::new(),
            };
            let ratio = |other: Option<f64>| match (row.value, other) {
                (Some(value), Some(other)) if other > 0.0 => format!("x{}", figure(value / other)),
                _ => String::new(),
            };
            line([&row.what, &value, &target, row.verdict(), &ratio(row.top), &ratio(row.ps), &row.note]);
        }
        out
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match (self.value, self.target) {
            (Some(value), Some(target)) if target.holds(value) => "ok",
            (Some(_), Some(_)) => "OVER",
            (None, Some(_)) => "not had",
            (_, None) => "",
        }
    }
}

impl Entry<'_> {
    pub(crate) fn target(self, target: Target) -> Self {
        self.0.target = Some(target);
        self
    }

    pub(crate) fn beside(self, top: Option<f64>, ps: Option<f64>) -> Self {
        self.0.top = top;
        self.0.ps = ps;
        self
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        self.0.note = note.into();
        self
    }
}

/// Three figures are all that a shared machine can promise.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
