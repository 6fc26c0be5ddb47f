//! How `psmon pss` answers: a table for people, CSV and JSON for programs.

use std::io::{self, Write};

use super::sums::{Of, Row, Sums};
use crate::cli::cells::Cells;
use crate::cli::screen::Screen;
use crate::cli::table::{Form, count, quote, write_scaled};
use crate::journal::json;
use crate::record::escape::{self, Spaces};
use crate::record::moment::Moment;
use crate::source::smaps::Memory;

/// The widest that names push the numbers away.
const WIDEST: usize = 40;
/// Lines of a screen that are not rows: the header, the totals, what is missing, the state of a connection, the cursor.
const AROUND: usize = 8;

/// Prints one sample or many.
#[derive(Debug)]
pub struct Printer {
    form: Form,
    groups: bool,
    watches: bool,
    screen: Screen,
    samples: u64,
    /// Whether it was said that nobody is there.
    missed: bool,
}

impl Printer {
    /// To standard output.
    #[must_use]
    pub fn new(form: Form, groups: bool, watches: bool) -> Self {
        Self { form, groups, watches, screen: Screen::of_stdout(), samples: 0, missed: false }
    }

    /// Whether people look at it change.
    #[must_use]
    pub const fn is_on_terminal(&self) -> bool {
        self.form.is_table() && self.screen.size().is_some()
    }

    /// Begins one of many: on a terminal at its top, else after a blank line.
    ///
    /// # Errors
    /// The output took it not.
    pub fn begin(&mut self, now: Moment, out: &mut impl Write) -> io::Result<()> {
        if !self.form.is_table() {
            return Ok(());
        }
        // The window may have been resized.
        self.screen = Screen::of_stdout();
        self.screen.begin(now, self.samples == 0, out)
    }

    /// Prints a sample.
    ///
    /// # Errors
    /// The output took it not.
    pub fn print(&mut self, sums: &Sums, now: Option<Moment>, out: &mut impl Write) -> io::Result<()> {
        let first = self.samples == 0;
        self.samples += 1;
        match self.form {
            Form::Csv => {
                csv(sums, self.groups, now, first, out)?;
                // A file of rows has no place for it.
                if sums.nothing_matched() && !self.missed {
                    crate::cli::complain(&"no process matches");
                }
                self.missed = sums.nothing_matched();
                // Rows only in the file; what is missing is said to whoever looks, once.
                sums.unread().iter().filter(|_| first).for_each(crate::cli::complain);
                Ok(())
            }
            Form::Json => out.write_all(&objects(sums, now)),
            Form::Scaled | Form::Exact => match self.screen.size().filter(|_| self.watches) {
                // What the terminal has room for: the largest.
                Some((_, height)) => {
                    let mut largest = sums.clone();
                    largest.keep_largest(height.saturating_sub(AROUND).max(1));
                    self.table(&largest, out)
                }
                None => self.table(sums, out),
            },
        }
    }

    fn table(&self, sums: &Sums, out: &mut impl Write) -> io::Result<()> {
        if sums.nothing_matched() {
            writeln!(out, "no process matches")?;
            return missing(sums, out);
        }
        let exact = self.form == Form::Exact;
        let size = |bytes: u64, out: &mut Vec<u8>| match i64::try_from(bytes) {
            Ok(bytes) if !exact => write_scaled(bytes, out),
            _ => decimal(bytes, out),
        };
        let unread = sums.rows.iter().any(|row| matches!(row.of, Of::Group { unread: 1.., .. }));
        let mut header = vec!["NAME", if self.groups { "PROCS" } else { "PID" }, "PSS", "USS", "SWAP"];
        header.extend(unread.then_some("UNREAD"));
        let mut cells = Cells::new(&header);
        for row in &sums.rows {
            let (count, missing) = match row.of {
                Of::Process { pid, .. } => (u64::from(pid), 0),
                Of::Group { procs, unread } => (procs, unread),
            };
            cells.push(|out| shown_in(row.name.as_deref(), out));
            cells.push(|out| decimal(count, out));
            for of in [|memory: &Memory| memory.pss, |memory: &Memory| memory.uss, |memory: &Memory| memory.swap_pss] {
                cells.push(|out| match &row.memory {
                    Some(memory) => size(of(memory), out),
                    None => out.push(if row.is_unknown() { b'?' } else { b'-' }),
                });
            }
            if unread {
                cells.push(|out| decimal(missing, out));
            }
        }
        cells.write(self.screen.size().map(|(across, _)| across), WIDEST, out)?;
        let size = |bytes: u64| {
            let mut text = Vec::new();
            size(bytes, &mut text);
            String::from_utf8(text).unwrap_or_default()
        };
        let totals = sums.totals;
        let besides = if totals.swap_pss > 0 { format!(", and {} swapped out besides", size(totals.swap_pss)) } else { String::new() };
        writeln!(out, "total {} in {}{besides}", size(totals.pss), count(totals.procs, "process", "processes"))?;
        if totals.left_out > 0 {
            let rows = count(totals.left_out, "row is", "rows are");
            writeln!(out, "{rows} left out above, with {} of the total.", size(totals.left_out_pss))?;
        }
        missing(sums, out)
    }
}

fn missing(sums: &Sums, out: &mut impl Write) -> io::Result<()> {
    sums.unread().iter().try_for_each(|sentence| writeln!(out, "{sentence}"))
}

/// A name with nothing in it that a terminal would obey.
fn shown(name: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    shown_in(name, &mut out);
    out
}

fn shown_in(name: Option<&[u8]>, out: &mut Vec<u8>) {
    match name {
        None => out.push(b'?'),
        Some(b"") => out.extend_from_slice(b"''"),
        Some(name) => escape::write(name, Spaces::Keep, out),
    }
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The memory of a row, under the names of the journal's columns.
fn fields(memory: &Memory) -> [(&'static str, Option<u64>); 8] {
    [
        ("pss", Some(memory.pss)),
        ("pss_anon", memory.pss_anon),
        ("pss_file", memory.pss_file),
        ("pss_shmem", memory.pss_shmem),
        ("pss_dirty", memory.pss_dirty),
        ("swap_pss", Some(memory.swap_pss)),
        ("uss", Some(memory.uss)),
        ("rss", Some(memory.rss)),
    ]
}

fn csv(sums: &Sums, groups: bool, now: Option<Moment>, header: bool, out: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    let time = now.map(|now| now.to_string());
    if header {
        let names = if groups { "name,procs,unread" } else { "name,pid,reading" };
        let memory = fields(&Memory::default()).map(|(name, _)| name).join(",");
        write!(out, "{}{names},{memory}\r\n", if time.is_some() { "time," } else { "" })?;
    }
    for row in &sums.rows {
        line.clear();
        if let Some(time) = &time {
            line.extend_from_slice(time.as_bytes());
            line.push(b',');
        }
        if row.name.is_some() {
            quote(&shown(row.name.as_deref()), &mut line);
        }
        let who = match row.of {
            Of::Process { pid, state } => format!(",{pid},{}", state.word()),
            Of::Group { procs, unread } => format!(",{procs},{unread}"),
        };
        line.extend_from_slice(who.as_bytes());
        for (_, value) in row.memory.as_ref().map(fields).unwrap_or_default() {
            line.push(b',');
            line.extend(value.map(|value| value.to_string()).unwrap_or_default().as_bytes());
        }
        line.extend_from_slice(b"\r\n");
        out.write_all(&line)?;
    }
    Ok(())
}

/// One object for each row, then one with the totals.
fn objects(sums: &Sums, now: Option<Moment>) -> Vec<u8> {
    let mut out = Vec::new();
    for row in &sums.rows {
        begin("row", now, &mut out);
        object(row, &mut out);
    }
    begin("total", now, &mut out);
    let totals = sums.totals;
    for (name, value) in [
        ("pss", totals.pss),
        ("swap_pss", totals.swap_pss),
        ("uss", totals.uss),
        ("procs", totals.procs),
        ("refused", totals.refused),
        ("late", totals.late),
        ("zombies", totals.zombies),
        ("vanished", totals.vanished),
        ("unknown", totals.unknown),
        ("left_out", totals.left_out),
    ] {
        number(name, Some(value), &mut out);
    }
    out.extend_from_slice(b"}\n");
    out
}

fn begin(rec: &str, now: Option<Moment>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"stream\":\"pss\",\"rec\":\"{rec}\"").as_bytes());
    if let Some(now) = now {
        out.extend_from_slice(format!(",\"time\":\"{now}\"").as_bytes());
    }
}

fn object(row: &Row, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"name\":");
    write_name(row.name.as_deref(), out);
    match row.of {
        Of::Process { pid, state } => out.extend_from_slice(format!(",\"pid\":{pid},\"reading\":\"{}\"", state.word()).as_bytes()),
        Of::Group { procs, unread } => out.extend_from_slice(format!(",\"procs\":{procs},\"unread\":{unread}").as_bytes()),
    }
    for (name, value) in fields(&row.memory.unwrap_or_default()) {
        number(name, value.filter(|_| row.memory.is_some()), out);
    }
    if row.is_unknown() {
        let names = fields(&Memory::default()).map(|(name, _)| format!("\"{name}\""));
        out.extend_from_slice(format!(",\"refused\":[{}]", names.join(",")).as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

fn number(name: &str, value: Option<u64>, out: &mut Vec<u8>) {
    let value = value.map_or_else(|| "null".to_owned(), |value| value.to_string());
    out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
}

/// Appends a name as a JSON string, or null.
pub(super) fn write_name(name: Option<&[u8]>, out: &mut Vec<u8>) {
    match name {
        Some(name) => json::write_string(name, out),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::By;
    use super::super::sums::tests::sums;
    use super::*;

    fn printed(form: Form, by: Option<By>, top: Option<u64>) -> String {
        let mut out = Vec::new();
        let mut printer = Printer { form, groups: by.is_some(), watches: false, screen: Screen::default(), samples: 0, missed: false };
        printer.print(&sums(by, top), None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table() {
        let text = printed(Form::Scaled, None, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME     PID  PSS  USS SWAP");
        assert_eq!(lines[1], "ended      6    -    -    -");
        assert_eq!(lines[2], "secret     4    ?    ?    ?");
        assert_eq!(lines[4], "small      2 2.0K 1.0K 1.0K");
        assert_eq!(lines[6], "big, \"b\"   1 9.0M 4.5M 1.0K");
        assert_eq!(lines[7], "total 9.0M in 3 processes, and 3.0K swapped out besides");
        assert!(lines[8].starts_with("1 could not be read (permission) and 1 did not answer"));
        assert!(
            printed(Form::Exact, None, Some(1)).contains(
                "total 9441280 in 3 processes, and 3072 swapped out besides\n5 rows are left out above, with 4096 of the total.\n"
            )
        );
    }

    #[test]
    fn groups_say_how_many_are_not_in_them() {
        let text = printed(Form::Scaled, Some(By::User), None);
        assert!(text.starts_with("NAME PROCS  PSS  USS SWAP UNREAD\n0        3 9.0M 4.5M 3.0K      2\ntotal "), "{text}");
    }

    #[test]
    fn values_in_quotes() {
        let text = printed(Form::Csv, None, None);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], "name,pid,reading,pss,pss_anon,pss_file,pss_shmem,pss_dirty,swap_pss,uss,rss");
        assert_eq!(lines[1], "ended,6,zombie,,,,,,,,");
        assert_eq!(lines[6], "\"big, \"\"b\"\"\",1,read,9437184,,,,,1024,4718592,18874368");
        assert_eq!(lines[7], "");
    }

    #[test]
    fn one_object_a_line() {
        let text = printed(Form::Json, None, None);
        let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 7);
        assert_eq!(
            (&objects[1]["pss"], objects[1]["refused"][0].as_str(), &objects[1]["reading"]),
            (&serde_json::Value::Null, Some("pss"), &"refused".into())
        );
        assert_eq!((&objects[0]["pss"], objects[0].get("refused")), (&serde_json::Value::Null, None));
        assert_eq!(
            (&objects[5]["name"], &objects[5]["pss"], &objects[5]["pid"]),
            (&"big, \"b\"".into(), &9_437_184.into(), &1.into())
        );
        assert_eq!((&objects[6]["rec"], &objects[6]["procs"], &objects[6]["refused"]), (&"total".into(), &3.into(), &1.into()));
    }
}
