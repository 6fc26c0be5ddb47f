//! The table of `psmon usage`, CSV and JSON: once, or again and again.

use std::io::Write;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::rules::RuledFeed;
use super::select::{Chosen, Selection};
use crate::cli::screen::Screen;
use crate::cli::table::{self, Form, count};
use crate::cli::{Answer, Failure, complain};
use crate::record::moment::Moment;
use crate::record::value::Value;
use crate::source::clock::Wall;

/// Lines of a screen that are not rows: the moment, the header, what is left out, what is unknown, the cursor.
const AROUND: usize = 5;

/// Shows samples.
#[derive(Debug)]
pub struct View {
    selection: Selection,
    form: Form,
    wall: Wall,
    samples: u64,
    /// Whether it was said that nothing matches.
    missed: bool,
    /// Whether it was said that values are unknown.
    doubted: bool,
}

impl View {
    /// Shows so much in this form.
    #[must_use]
    pub fn new(selection: Selection, form: Form) -> Self {
        Self { selection, form, wall: Wall::default(), samples: 0, missed: false, doubted: false }
    }

    /// One sample.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub fn once(&mut self, feed: &mut dyn RuledFeed, out: &mut impl Write) -> Result<Answer, Failure> {
        let chosen = self.selection.of(feed.sample()?.rows, usize::MAX);
        if chosen.rows.is_empty() {
            complain(&self.nothing());
            return Ok(Answer::No);
        }
        let now = Some(self.wall.now()).filter(|_| self.selection.has_time);
        if let Some(now) = now.filter(|_| self.form.is_table()) {
            writeln!(out, "{now}")?;
        }
        self.rows(&chosen, now, out)?;
        self.unknown(&chosen).iter().for_each(complain);
        Ok(Answer::Yes)
    }

    /// One sample after another until something ends it.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub fn watch(
        &mut self,
        feed: &mut dyn RuledFeed,
        every: Duration,
        ends: &Receiver<()>,
        out: &mut impl Write,
    ) -> Result<Answer, Failure> {
        let mut answer = Answer::No;
        let mut due = Instant::now();
        loop {
            let rows = feed.sample()?.rows;
            // The window may have been resized.
            let screen = Screen::of_stdout();
            let room =
                screen.size().filter(|_| self.form.is_table()).map_or(usize::MAX, |(_, height)| height.saturating_sub(AROUND).max(1));
            let chosen = self.selection.of(rows, room);
            if !chosen.rows.is_empty() {
                answer = Answer::Yes;
            }
            self.next(&screen, &chosen, out)?;
            out.flush()?;
            // Who is behind does not catch up.
            due = (due + every).max(Instant::now());
            if ends.recv_timeout(due.saturating_duration_since(Instant::now())).is_ok() {
                return Ok(answer);
            }
        }
    }

    /// One sample of many.
    fn next(&mut self, screen: &Screen, chosen: &Chosen, out: &mut impl Write) -> Result<(), Failure> {
        let now = self.wall.now();
        let nothing = chosen.rows.is_empty();
        if self.form.is_table() {
            screen.begin(now, self.samples == 0, out)?;
            if nothing {
                writeln!(out, "{}", self.nothing())?;
            } else {
                self.rows(chosen, Some(now), out)?;
            }
            self.unknown(chosen).iter().try_for_each(|sentence| writeln!(out, "{sentence}"))?;
        } else {
            self.rows(chosen, Some(now), out)?;
            // Rows only in what programs read; the rest is said to whoever looks, once.
            if nothing && !self.missed {
                complain(&self.nothing());
            }
            let doubt = self.unknown(chosen);
            doubt.iter().filter(|_| !self.doubted).for_each(complain);
            (self.missed, self.doubted) = (nothing, self.doubted || doubt.is_some());
        }
        self.samples += 1;
        Ok(())
    }

    fn rows(&self, chosen: &Chosen, now: Option<Moment>, out: &mut impl Write) -> Result<(), Failure> {
        let (shown, rows) = (&self.selection.shown, &chosen.rows);
        match self.form {
            Form::Csv => table::print_csv(shown, rows, now, self.samples == 0, out)?,
            Form::Json => table::print_json(shown, rows, now, out)?,
            form => {
                table::print(shown, rows, form == Form::Exact, out)?;
                if chosen.left_out > 0 {
                    writeln!(out, "{} left out.", count(chosen.left_out as u64, "more row is", "more rows are"))?;
                }
            }
        }
        Ok(())
    }

    fn nothing(&self) -> String {
        format!("no {} matches", self.selection.of.0)
    }

    /// How many rows hold what is not known.
    fn unknown(&self, chosen: &Chosen) -> Option<String> {
        let unknown = chosen.rows.iter().filter(|row| row.contains(&Value::Refused)).count();
        let (_, many) = self.selection.of;
        (unknown > 0).then(|| {
            format!(
                "{unknown} of the {} {many} shown hold values that were refused or did not come in time (?)",
                chosen.rows.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::rules::tests::Fake;
    use super::super::select::tests::{row, selection};
    use super::*;
    use crate::observer::samplers::ps::Rows;
    use crate::record::identity::Id;
    use crate::record::stream::Stream;

    const COLUMNS: [&str; 2] = ["-o", "program,fds,rss"];

    fn sample() -> Rows {
        let program = |name: &[u8], fds: Value, rss: i64| {
            row(
                Stream::Usage,
                Id::Program(name.into()),
                &[("program", Value::word(name)), ("fds", fds), ("rss", Value::Int(rss))],
            )
        };
        Rows { rows: vec![program(b"web, \"1\"", Value::Int(12), 5 << 20), program(b"db", Value::Refused, 100)], ..Rows::default() }
    }

    fn once(said: &[&str], form: Form) -> (Answer, String) {
        let mut feed = Fake::default();
        feed.samples.push_back(Ok(sample()));
        let mut out = Vec::new();
        let answer = View::new(selection(said).unwrap(), form).once(&mut feed, &mut out).unwrap();
        (answer, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_table() {
        let (answer, text) = once(&COLUMNS, Form::Scaled);
        assert_eq!(
            (answer, text.as_str()),
            (Answer::Yes, "PROGRAM     FDS  RSS\ndb            ?  100\nweb,\\x20\"1\"  12 5.0M\n")
        );
        let (_, text) = once(&[&COLUMNS[..], &["--top", "1"]].concat(), Form::Exact);
        assert!(text.ends_with("\n1 more row is left out.\n"), "{text}");
        assert_eq!(once(&["no-such-program"], Form::Scaled), (Answer::No, String::new()));
    }

    #[test]
    fn csv_and_json() {
        assert_eq!(once(&COLUMNS, Form::Csv).1, "program,fds,rss\r\ndb,,100\r\n\"web, \"\"1\"\"\",12,5242880\r\n");
        let (_, text) = once(&COLUMNS, Form::Json);
        assert_eq!(text.lines().next().unwrap(), r#"{"program":"db","fds":null,"rss":100,"refused":["fds"]}"#);
        assert_eq!(once(&["no-such-program"], Form::Csv), (Answer::No, String::new()));
        let (_, text) = once(&["-o", "time,program"], Form::Json);
        assert!(text.starts_with("{\"time\":\"20"), "{text}");
    }

    #[test]
    fn many_samples_are_told_apart() {
        for form in [Form::Scaled, Form::Csv, Form::Json] {
            let mut feed = Fake::default();
            feed.samples.extend([Ok(sample()), Ok(Rows::default()), Ok(sample()), Err(Failure::System("enough".to_owned()))]);
            let (_tell, ends) = mpsc::channel();
            let mut out = Vec::new();
            let ended = View::new(selection(&COLUMNS).unwrap(), form).watch(&mut feed, Duration::ZERO, &ends, &mut out);
            assert!(matches!(ended, Err(Failure::System(_))));
            let text = String::from_utf8(out).unwrap();
            match form {
                Form::Csv => {
                    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
                    assert_eq!((lines.len(), lines[0]), (5, "time,program,fds,rss"));
                    assert!(lines[1..].iter().all(|line| line.starts_with("20")));
                }
                Form::Json => assert!(text.lines().count() == 4 && text.lines().all(|line| line.starts_with("{\"time\":\"20")), "{text}"),
                _ => {
                    assert_eq!(text.split("\n\n").count(), 3, "{text}");
                    assert_eq!(text.matches("no program matches\n").count(), 1, "{text}");
                    assert_eq!(text.matches("1 of the 2 programs shown hold values").count(), 2, "{text}");
                }
            }
        }
    }

    #[test]
    fn what_ends_it_ends_it() {
        let (tell, ends) = mpsc::channel();
        tell.send(()).unwrap();
        for (samples, answer) in [(vec![Ok(sample())], Answer::Yes), (vec![], Answer::No)] {
            let mut feed = Fake::default();
            feed.samples.extend(samples);
            tell.send(()).unwrap();
            let ended =
                View::new(selection(&COLUMNS).unwrap(), Form::Json).watch(&mut feed, Duration::from_secs(9), &ends, &mut Vec::new());
            assert_eq!(ended.unwrap(), answer);
        }
    }
}
