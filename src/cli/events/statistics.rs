//! How many events of each kind each process caused.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use crate::record::event::EventKind;

/// The kinds in the order of the table, with their headers.
const COLUMNS: [(EventKind, &str); 11] = [
    (EventKind::Fork, "Fork"),
    (EventKind::Exec, "Exec"),
    (EventKind::Exit, "Exit"),
    (EventKind::Core, "Coredump"),
    (EventKind::Comm, "Comm"),
    (EventKind::Clone, "Clone"),
    (EventKind::ThreadExit, "ThreadExit"),
    (EventKind::Ptrace, "Ptrace"),
    (EventKind::Uid, "Uid"),
    (EventKind::Gid, "Gid"),
    (EventKind::Sid, "Sid"),
];

/// The place of the ends of threads: forkstat has no such column, so it is shown only when there is something in it.
const THREAD_EXIT: usize = 6;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    of: [u64; COLUMNS.len()],
    /// Exits that went wrong: a part of the exits, or all that was asked for of them.
    failed: u64,
    total: u64,
}

/// Counts by the shown name.
#[derive(Debug, Default)]
pub struct Statistics(FxHashMap<Vec<u8>, Counts>);

impl Statistics {
    /// Counts an event that was shown. `whole` says that all exits are, so that this one is among them.
    pub fn count(&mut self, name: Vec<u8>, kind: EventKind, failed: bool, whole: bool) {
        let counts = self.0.entry(name).or_default();
        counts.total += 1;
        counts.failed += u64::from(failed);
        if let Some(at) = COLUMNS.iter().position(|(known, _)| *known == kind).filter(|_| kind != EventKind::Exit || whole) {
            counts.of[at] += 1;
        }
    }

    /// By total, the largest first.
    fn sorted(&self) -> Vec<(&[u8], Counts)> {
        let mut rows: Vec<(&[u8], Counts)> = self.0.iter().map(|(name, counts)| (&name[..], *counts)).collect();
        rows.sort_by(|one, other| (other.1.total, one.0).cmp(&(one.1.total, other.0)));
        rows
    }

    /// Writes the table.
    ///
    /// # Errors
    /// The output took it not.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(out, "No statistics gathered.");
        }
        let rows = self.sorted();
        let threads = rows.iter().any(|(_, counts)| counts.of[THREAD_EXIT] > 0);
        let shown: Vec<usize> = (0..COLUMNS.len()).filter(|at| threads || *at != THREAD_EXIT).collect();
        let numbers =
            |counts: &Counts| -> Vec<u64> { shown.iter().map(|at| counts.of[*at]).chain([counts.failed, counts.total]).collect() };
        let heads: Vec<&str> = shown.iter().map(|at| COLUMNS[*at].1).chain(["NonzeroExit", "Total"]).collect();
        let widths: Vec<usize> = heads
            .iter()
            .enumerate()
            .map(|(at, head)| rows.iter().map(|(_, counts)| numbers(counts)[at].to_string().len()).max().unwrap_or(0).max(head.len()))
            .collect();
        for (head, width) in heads.iter().zip(&widths) {
            write!(out, "{head:>width$} ")?;
        }
        writeln!(out, "Process")?;
        for (name, counts) in &rows {
            for (number, width) in numbers(counts).iter().zip(&widths) {
                write!(out, "{number:>width$} ")?;
            }
            out.write_all(name)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// One object for each name, the largest first.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let row = |(name, counts): (&[u8], Counts)| {
            let mut object = serde_json::Map::new();
            for ((kind, _), count) in COLUMNS.iter().zip(counts.of) {
                object.insert(kind.word().to_owned(), count.into());
            }
            object.insert("nonzeroexit".to_owned(), counts.failed.into());
            object.insert("total".to_owned(), counts.total.into());
            object.insert("process".to_owned(), String::from_utf8_lossy(name).into());
            serde_json::Value::Object(object)
        };
        self.sorted().into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_grouped_by_name_and_the_largest_comes_first() {
        let mut statistics = Statistics::default();
        for _ in 0..3 {
            statistics.count(b"true".to_vec(), EventKind::Exec, false, true);
        }
        statistics.count(b"sh -c x".to_vec(), EventKind::Fork, false, true);
        statistics.count(b"true".to_vec(), EventKind::Exit, true, true);
        let mut out = Vec::new();
        statistics.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[0],
            ["Fork", "Exec", "Exit", "Coredump", "Comm", "Clone", "Ptrace", "Uid", "Gid", "Sid", "NonzeroExit", "Total", "Process"]
        );
        assert_eq!(lines[1], ["0", "3", "1", "0", "0", "0", "0", "0", "0", "0", "1", "4", "true"]);
        assert_eq!(lines[2][11..], ["1", "sh", "-c", "x"]);
        assert_eq!(statistics.json()[0]["exec"], 3);
    }

    #[test]
    fn where_only_failures_are_shown_they_are_no_exits_besides() {
        let mut statistics = Statistics::default();
        statistics.count(b"x".to_vec(), EventKind::Exit, true, false);
        let row = &statistics.json()[0];
        assert_eq!((&row["exit"], &row["nonzeroexit"], &row["total"]), (&0.into(), &1.into(), &1.into()));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let mut out = Vec::new();
        Statistics::default().print(&mut out).unwrap();
        assert_eq!(out, b"No statistics gathered.\n");
    }
}
