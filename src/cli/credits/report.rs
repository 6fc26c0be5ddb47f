//! What the bill says, for people and for programs.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::bill::{Bill, Truth};
use super::living::Living;
use crate::cli::cells::Cells;
use crate::cli::table::scaled;
use crate::observer::obituary::Status;
use crate::record::cmd::Cmd;
use crate::record::escape::{self, Spaces};

/// CPU-seconds of a credit.
const CREDIT_S: f64 = 60.0;

/// All that is to be told.
#[derive(Debug)]
pub struct Report<'a> {
    /// The command.
    pub words: &'a [OsString],
    /// How it ended; `None` where it still lives.
    pub status: Option<Status>,
    /// From its start until it ended, or the last of its descendants that was waited for.
    pub wall: Duration,
    /// What was used.
    pub bill: Bill,
    /// Who still lives.
    pub living: Vec<Living>,
    /// What the bill rests on.
    pub truth: Truth,
    /// What is not in it, and other things to be known.
    pub notes: Vec<String>,
}

#[expect(clippy::cast_precision_loss, reason = "as people read them: a double holds microseconds of 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn credits(us: u64) -> f64 {
    rounded(seconds(us) / CREDIT_S, 1e9)
}

/// Without the digits that are but the noise of the last operation.
fn rounded(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}

impl Report<'_> {
    /// Per cent of one CPU over the wall time.
    fn cpu_pct(&self) -> Option<f64> {
        let wall = self.wall.as_secs_f64();
        (wall > 0.0).then(|| rounded(seconds(self.bill.cpu_us) / wall * 100.0, 1e3))
    }

    fn cmd(&self) -> Cmd {
        Cmd::from_args(self.words.iter().map(|word| word.as_bytes()), 0)
    }

    /// For people: a line for each figure, by the names of columns, then tables.
    ///
    /// # Errors
    /// The output took it not.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let bill = &self.bill;
        let mut words = Vec::new();
        self.cmd().write(&mut words);
        let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let at_least = if self.truth == Truth::Orphans || bill.missing > 0 { " or more" } else { "" };
        let lines = [
            ("command", String::from_utf8_lossy(&words).into_owned()),
            ("status", self.status.map_or_else(|| "still running".to_owned(), Status::words)),
            ("wall_s", format!("{:.6}", self.wall.as_secs_f64())),
            ("user_s", or_unknown(bill.split_us.map(|(user, _)| format!("{:.6}", seconds(user))))),
            ("sys_s", or_unknown(bill.split_us.map(|(_, system)| format!("{:.6}", seconds(system))))),
            ("cpu_s", format!("{:.6}", seconds(bill.cpu_us))),
            ("credits", format!("{:.6}", credits(bill.cpu_us))),
            ("util_s", format!("{:.4}", seconds(bill.cpu_us) * 100.0)),
            ("cpu_pct", or_unknown(self.cpu_pct().map(|pct| format!("{pct:.1}")))),
            ("processes", format!("{}{at_least}", bill.processes)),
            ("max_rss", or_unknown(bill.max_rss.map(|bytes| scaled(i64::try_from(bytes).unwrap_or(i64::MAX))))),
        ];
        for (name, value) in lines {
            writeln!(out, "{name:<9} {value}")?;
        }
        let mut cells = Cells::new(&["PROGRAM", "PROCESSES", "CPU_S", "CREDITS"]);
        for (program, sum) in &bill.programs {
            push(&mut cells, &shown(program.as_ref()), &sum.processes, sum.cpu_us);
        }
        if bill.ends_us > 0 {
            push(&mut cells, b"(at their ends)", &"-", bill.ends_us);
        }
        writeln!(out)?;
        cells.write(None, usize::MAX, out)?;
        if !self.living.is_empty() {
            let many = if self.living.len() == 1 { "lives" } else { "live" };
            writeln!(out, "\nstill {many}: {}, cpu_s {:.6} so far\n", self.living.len(), seconds(bill.living_us))?;
            let mut cells = Cells::new(&["PROGRAM", "PID", "CPU_S", "CREDITS"]);
            for one in &self.living {
                push(&mut cells, &shown(Some(&one.comm)), &one.pid, one.cpu_us);
            }
            cells.write(None, usize::MAX, out)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "psmon: {note}"))
    }

    /// For programs: one object.
    ///
    /// # Errors
    /// The output took it not.
    pub fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        let bill = &self.bill;
        let program = |program: Option<&Arc<[u8]>>| program.map(|name| text(name));
        let programs = bill.programs.iter().map(|(name, sum)| {
            json!({
                "program": program(name.as_ref()),
                "processes": sum.processes,
                "cpu_s": seconds(sum.cpu_us),
                "credits": credits(sum.cpu_us),
            })
        });
        let living = self.living.iter().map(|one| {
            json!({
                "program": program(Some(&one.comm)),
                "pid": one.pid,
                "start": one.start,
                "cpu_s": seconds(one.cpu_us),
                "credits": credits(one.cpu_us),
            })
        });
        let object = json!({
            "command": self.words.iter().map(|word| text(word.as_bytes())).collect::<Vec<_>>(),
            "how": self.status.map(Status::how),
            "code": self.status.and_then(Status::code),
            "signal": self.status.and_then(Status::signal).map(crate::observer::obituary::signal_name),
            "wall_s": self.wall.as_secs_f64(),
            "user_s": bill.split_us.map(|(user, _)| seconds(user)),
            "sys_s": bill.split_us.map(|(_, system)| seconds(system)),
            "cpu_s": seconds(bill.cpu_us),
            "credits": credits(bill.cpu_us),
            "util_s": rounded(seconds(bill.cpu_us) * 100.0, 1e4),
            "cpu_pct": self.cpu_pct(),
            "processes": bill.processes,
            "max_rss": bill.max_rss,
            "truth": match self.truth {
                Truth::Records => "records",
                Truth::Births => "births",
                Truth::Orphans => "orphans",
            },
            "programs": programs.collect::<Vec<Json>>(),
            "ends_cpu_s": seconds(bill.ends_us),
            "living": living.collect::<Vec<Json>>(),
            "wait4_cpu_s": seconds(bill.waited_us),
            "living_cpu_s": seconds(bill.living_us),
            "missing": bill.missing,
            "notes": self.notes,
        });
        writeln!(out, "{object}")
    }
}

/// A name, and ? where nobody could tell it.
fn shown(program: Option<&Arc<[u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    match program {
        Some(name) => escape::write_word(name, &mut out),
        None => out.push(b'?'),
    }
    out
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let mut out = Vec::new();
            escape::write(bytes, Spaces::Keep, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

fn push(cells: &mut Cells, name: &[u8], count: &dyn std::fmt::Display, cpu_us: u64) {
    cells.push(|out| out.extend_from_slice(name));
    for text in [count.to_string(), format!("{:.6}", seconds(cpu_us)), format!("{:.6}", credits(cpu_us))] {
        cells.push(|out| out.extend_from_slice(text.as_bytes()));
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
