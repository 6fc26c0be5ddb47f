//! The table of `psmon credits`, CSV and JSON: once, or again and again.

use std::collections::BTreeMap;
use std::io::Write;

use super::by;
use super::live::{Samples, Taken};
use super::select::{Chosen, Row, Selection};
use super::spent::{Who, sums};
use crate::cli::screen::Screen;
use crate::cli::table::{self, Form, count};
use crate::cli::{Answer, Failure, complain};
use crate::record::moment::Moment;

/// Lines of a screen that are not rows: the moment, the header, what is left out, the sum, the cursor.
const AROUND: usize = 5;

/// Shows samples.
#[derive(Debug)]
pub struct View {
    selection: Selection,
    form: Form,
    /// CPU time since the view began, microseconds.
    totals: BTreeMap<Who, i64>,
    samples: u64,
    /// Whether it was said that nothing matches.
    missed: bool,
}

impl View {
    /// Shows so much in this form.
    #[must_use]
    pub const fn new(selection: Selection, form: Form) -> Self {
        Self { selection, form, totals: BTreeMap::new(), samples: 0, missed: false }
    }

    /// One sample.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub fn once(&mut self, feed: &mut dyn Samples, out: &mut impl Write) -> Result<Answer, Failure> {
        let Some(taken) = feed.next()? else {
            return Err(Failure::System("nothing could be measured: /proc could not be listed".to_owned()));
        };
        let chosen = self.chosen(&taken, usize::MAX);
        if chosen.rows.is_empty() {
            complain(&self.nothing());
            return Ok(Answer::No);
        }
        let time = Some(taken.time).filter(|_| self.selection.has_time);
        if let Some(time) = time.filter(|_| self.form.is_table()) {
            writeln!(out, "{time}")?;
        }
        self.print(&chosen, time, out)?;
        self.footer(&taken, out)?;
        Ok(Answer::Yes)
    }

    /// One sample after another until something ends it.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub fn watch(&mut self, feed: &mut dyn Samples, out: &mut impl Write) -> Result<Answer, Failure> {
        let mut answer = Answer::No;
        while let Some(taken) = feed.next()? {
            // What was spent in an interval that was cut short is wanted by whoever adds rows up; a table stays as it is.
            if taken.is_last && self.form.is_table() && self.samples > 0 {
                break;
            }
            // The window may have been resized.
            let screen = Screen::of_stdout();
            let room =
                screen.size().filter(|_| self.form.is_table()).map_or(usize::MAX, |(_, height)| height.saturating_sub(AROUND).max(1));
            let chosen = self.chosen(&taken, room);
            let nothing = chosen.rows.is_empty();
            if !nothing {
                answer = Answer::Yes;
            }
            if self.form.is_table() {
                screen.begin(taken.time, self.samples == 0, out)?;
                if nothing {
                    writeln!(out, "{}", self.nothing())?;
                } else {
                    self.print(&chosen, None, out)?;
                }
                self.footer(&taken, out)?;
            } else {
                self.print(&chosen, Some(taken.time), out)?;
                // Rows only in what programs read; the rest is said to whoever looks, once.
                if nothing && !self.missed {
                    complain(&self.nothing());
                }
                self.missed = nothing;
            }
            self.samples += 1;
            out.flush()?;
        }
        Ok(answer)
    }

    fn chosen(&mut self, taken: &Taken, room: usize) -> Chosen {
        let meant = taken.rows.iter().filter(|(who, _)| self.selection.takes(who)).cloned();
        let mut rows: Vec<Row> = Vec::new();
        for (who, mut spent) in sums(meant, self.selection.by) {
            let total = self.totals.entry(who.clone()).or_default();
            *total = total.saturating_add(spent.cpu_us);
            spent.total_us = Some(*total);
            rows.push((who, spent, taken.span));
        }
        self.selection.of(rows, room)
    }

    fn print(&self, chosen: &Chosen, time: Option<Moment>, out: &mut impl Write) -> Result<(), Failure> {
        print(&self.selection, self.form, chosen, time, self.samples == 0, out)
    }

    /// The sum over everyone, and how much of the machine's own clock that is.
    fn footer(&self, taken: &Taken, out: &mut impl Write) -> Result<(), Failure> {
        if !self.form.is_table() {
            return Ok(());
        }
        let total = |key| taken.total(key);
        let all = if self.selection.is_of_all() { "All" } else { "All, shown or not" };
        write!(out, "{all}: {} s of CPU in {} s on ", total("sum_s"), total("span_s"))?;
        write!(out, "{}; closure ", count(taken.span.cpus, "CPU", "CPUs"))?;
        match total("closure") {
            "?" => writeln!(out, "unknown: this machine has no clock of its own to compare with.")?,
            closure => writeln!(out, "{closure} % of {} s ({}).", total("clock_s"), total("closure_of"))?,
        }
        Ok(())
    }

    fn nothing(&self) -> String {
        format!("no {} matches", by::one(self.selection.by))
    }
}

/// Rows in the form that was asked for.
///
/// # Errors
/// The output took them not.
pub fn print(
    selection: &Selection,
    form: Form,
    chosen: &Chosen,
    time: Option<Moment>,
    header: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (shown, rows) = (&selection.shown, &chosen.rows);
    match form {
        Form::Csv => table::print_csv(shown, rows, time, header, out)?,
        Form::Json => table::print_json(shown, rows, time, out)?,
        _ => {
            table::print(shown, rows, true, out)?;
            if chosen.left_out > 0 {
                writeln!(out, "{} left out.", count(chosen.left_out as u64, "more row is", "more rows are"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::select::tests::selection;
    use super::super::spent::Span;
    use super::super::spent::tests::{spent, who};
    use super::*;

    struct Fake(VecDeque<Taken>);

    impl Samples for Fake {
        fn next(&mut self) -> Result<Option<Taken>, Failure> {
            Ok(self.0.pop_front())
        }
    }

    fn taken(second: i64, cpu_us: i64) -> Taken {
        let totals = [("sum_s", "0.5"), ("span_s", "1.0"), ("closure", "99.5"), ("clock_s", "0.6"), ("closure_of", "cpuacct")];
        Taken {
            time: Moment { unix_ns: second * 1_000_000_000, offset_s: 0 },
            span: Span { ns: 1_000_000_000, cpus: 2 },
            rows: vec![(who("idle", "root"), spent(1, 0)), (who("web, 1", "www"), spent(2, cpu_us))],
            totals: totals.map(|(key, value)| (key, value.to_owned())).to_vec(),
            is_last: false,
        }
    }

    fn shown(said: &[&str], form: Form, samples: Vec<Taken>) -> (Answer, String) {
        let (mut out, mut feed) = (Vec::new(), Fake(samples.into()));
        let mut view = View::new(selection(said).unwrap(), form);
        let answer = if said.contains(&"--watch") { view.watch(&mut feed, &mut out) } else { view.once(&mut feed, &mut out) };
        (answer.unwrap(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_table_and_its_sum() {
        let (answer, text) = shown(&["-o", "program,procs,cpu_pct,share_pct,cpu_s,credits"], Form::Scaled, vec![taken(1, 600_000)]);
        let expected = "PROGRAM   PROCS CPU_PCT SHARE_PCT    CPU_S  CREDITS\n\
                        web,\\x201     2   60.00     30.00 0.600000 0.010000\n\
                        idle          1    0.00      0.00 0.000000 0.000000\n\
                        All: 0.5 s of CPU in 1.0 s on 2 CPUs; closure 99.5 % of 0.6 s (cpuacct).\n";
        assert_eq!((answer, text.as_str()), (Answer::Yes, expected));
        assert_eq!(shown(&["no-such-program"], Form::Scaled, vec![taken(1, 1)]), (Answer::No, String::new()));
        let (_, text) = shown(&["--top", "1", "--user", "root"], Form::Scaled, vec![taken(1, 1)]);
        assert!(text.contains("All, shown or not: "), "{text}");
        let (_, text) = shown(&["-o", "program,cpu_s,user_s", "idle"], Form::Json, vec![taken(1, 1)]);
        assert_eq!(text, "{\"program\":\"idle\",\"cpu_s\":0.000000,\"user_s\":null}\n");
        let mut out = Vec::new();
        let none = View::new(selection(&[]).unwrap(), Form::Json).once(&mut Fake(VecDeque::new()), &mut out);
        assert!(matches!(none, Err(Failure::System(_))));
    }

    #[test]
    fn totals_grow_and_the_last_interval_is_for_whoever_adds_up() {
        let samples = || vec![taken(1, 100), taken(2, 200), Taken { is_last: true, ..taken(3, 400) }];
        let said = ["--watch", "1", "-o", "program,cpu_s,total_s", "-r", "^web"];
        let (answer, text) = shown(&said, Form::Csv, samples());
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines[0], "time,program,cpu_s,total_s");
        assert_eq!(lines[3], "1970-01-01T00:00:03.000+00:00,\"web, 1\",0.000400,0.000700");
        assert_eq!((answer, lines.len()), (Answer::Yes, 4));
        let (_, text) = shown(&said, Form::Scaled, samples());
        assert_eq!((text.matches("All, shown").count(), text.contains("0.000300")), (2, true), "{text}");
    }
}
