//! The one table at the end: what, target, measured, verdict.

use std::fmt::Write;

/// What a number must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    Within(f64, f64),
}

/// Nothing less and nothing more will do.
pub(crate) const NONE: Target = Target::Within(0.0, 0.0);

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
            Target::Within(low, high) => low <= value && value <= high,
        }
    }

    fn text(self) -> String {
        match self {
            Target::AtMost(limit) => format!("<= {}", figure(limit)),
            Target::AtLeast(limit) => format!(">= {}", figure(limit)),
            Target::Within(low, high) if low.total_cmp(&high).is_eq() => format!("= {}", figure(low)),
            Target::Within(low, high) => format!("{} .. {}", figure(low), figure(high)),
        }
    }
}

#[derive(Debug)]
struct Row {
    what: String,
    value: Option<f64>,
    target: Option<Target>,
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
        let row = Row { what: what.into(), value: value.into(), target: None, note: String::new() };
        let at = self.rows.len();
        self.rows.push(row);
        Entry(&mut self.rows[at])
    }

    /// Targets not met; one that could not be measured is not met.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.verdict(), "MISSED" | "not had")).count()
    }

    pub(crate) fn render(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0).max(4);
        let mut out = String::new();
        let mut line = |[what, target, value, verdict, note]: [&str; 5]| {
            let text = format!("{what:<width$}  {target:>14}  {value:>10}  {verdict:<7}  {note}");
            let _ = writeln!(out, "{}", text.trim_end());
        };
        line(["what", "target", "measured", "verdict", ""]);
        for row in &self.rows {
            let value = row.value.map_or("-".to_owned(), figure);
            let target = row.target.map(Target::text).unwrap_or_default();
            line([&row.what, &target, &value, row.verdict(), &row.note]);
        }
        out
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        match (self.value, self.target) {
            (Some(value), Some(target)) if target.holds(value) => "ok",
            (Some(_), Some(_)) => "MISSED",
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

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        self.0.note = note.into();
        self
    }
}

/// Counts as they are: one lost event of a million must show. Of the rest three or four figures are all that a shared
/// machine can promise.
fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
