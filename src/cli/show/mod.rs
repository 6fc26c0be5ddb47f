//! `psmon show`: the records of one stream, as the journal holds them.
//!
//! * [`segments`]: the files, in the order in which they were written; [`records`]: what stands in one and is proven;
//! * [`filter`]: what is meant; [`lines`]: how it is written.

pub mod filter;
pub mod lines;
pub mod records;
pub mod segments;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;

use clap::{ArgAction, Args};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::filter::Filter;
use self::lines::Form;
use self::records::{LeftOut, Plan, Record};
use self::segments::{Segments, Way};
use super::{Answer, Failure, complain, said, when};
use crate::record::schema::{self, Column, Columns};
use crate::record::stream::Stream;

/// The records of one stream as they stand in the journal, the oldest first: of all its segments, rotated and compressed ones too.
#[derive(Debug, Args)]
#[command(
    after_help = "A time is 03:12 (the last one), yesterday 14:00, -2h, -1d, 2026-11-20, 2026-11-20T03:12, 2026-11-20T03:12+01:00, @1795190400 or now, by the clocks of whoever asks. What a crash tore, or does not check, is left out and counted on standard error. Exit status 1 where nothing matches."
)]
pub struct Arguments {
    /// The stream: ps, pss, usage, usage_process, credits, credits_process, budgets, events, exits, alerts.
    pub stream: Stream,

    /// Nothing before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,

    /// Nothing after this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,

    /// Columns, by psmon's names or ps's, but that time is that of the record; those of each segment unless named.
    #[arg(short = 'o', long, value_name = "COLUMNS", action = ArgAction::Append, value_delimiter = ',')]
    pub columns: Vec<String>,

    /// Records of this process only. May be repeated.
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Records of this program only, exactly. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub program: Vec<String>,

    /// Records of this effective user only, by name or number. May be repeated.
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,

    /// The last so many only.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// What the recorder says of each sample and of itself too. In CSV there is no place for it.
    #[arg(long, conflicts_with = "csv")]
    pub notes: bool,

    /// JSON lines, as a journal of format json has them.
    #[arg(long)]
    pub json: bool,

    /// CSV; where the columns of a segment are others, an empty line and a new header.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,

    /// The log directory; that of the config unless named.
    #[arg(short = 'l', long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Read this config file instead of /etc/psmond.toml.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let plan = plan(arguments)?;
    let dir = said::log_dir(arguments.log_dir.as_deref(), arguments.config.as_deref())?;
    let way = if arguments.count.is_some() { Way::Back } else { Way::Forward };
    let segments = Segments::new(&dir, plan.stream.name(), way, plan.filter.since_ns, plan.filter.until_ns);
    let mut run = Run { plan: &plan, segments, left_out: LeftOut::default(), dir: &dir };
    let mut printer = Printer { out, form: plan.form, heading: None, count: 0 };
    match arguments.count {
        None => run.all(|record| printer.print(&record))?,
        Some(count) => {
            for record in run.last(usize::try_from(count).unwrap_or(usize::MAX))? {
                printer.print(&record)?;
            }
        }
    }
    printer.out.flush()?;
    let count = printer.count;
    run.report(count)
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let stream = arguments.stream;
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let time = |switch: &str, said: &Option<String>| match said {
        None => Ok(None),
        Some(said) => match when::parse(said, now, &zone) {
            Ok(at) => Ok(Some(nanoseconds(at))),
            Err(error) => Err(Failure::Config(format!("--{switch}: {error}"))),
        },
    };
    let mut filter = Filter::new(stream, &arguments.pid, &arguments.program, &arguments.user)?;
    filter.since_ns = time("since", &arguments.since)?;
    filter.until_ns = time("until", &arguments.until)?;
    if let (Some(since), Some(until)) = (filter.since_ns, filter.until_ns)
        && since > until
    {
        return Err(Failure::Config("--since is later than --until: nothing lies between them".to_owned()));
    }
    let form = match (arguments.json, arguments.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Text,
    };
    Ok(Plan { stream, form, columns: columns(stream, &arguments.columns)?, filter, notes: arguments.notes })
}

/// The named columns, each once. Unlike in a view `time` is the record's own.
fn columns(stream: Stream, words: &[String]) -> Result<Vec<&'static Column>, Failure> {
    let mut columns = Vec::new();
    for word in words {
        match (schema::find(stream, word), Columns::for_view(stream, &[word])) {
            (Some(column), _) if columns.contains(&column) => {}
            (Some(column), _) => columns.push(column),
            (None, Err(error)) => return Err(Failure::Config(error.to_string())),
            (None, Ok(found)) => columns.extend(found.iter()),
        }
    }
    Ok(columns)
}

/// Since 1970; what is beyond 1677 or 2262 is at that end.
fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

struct Run<'a> {
    plan: &'a Plan,
    segments: Segments,
    left_out: LeftOut,
    dir: &'a std::path::Path,
}

impl Run<'_> {
    fn all(&mut self, mut take: impl FnMut(Record) -> io::Result<()>) -> Result<(), Failure> {
        while self.one(&mut take)? {}
        Ok(())
    }

    /// The last so many: of the newest segments, as many as are needed.
    fn last(&mut self, count: usize) -> Result<impl Iterator<Item = Record> + use<>, Failure> {
        let (mut found, mut wanted) = (Vec::new(), count);
        while wanted > 0 {
            let mut last = VecDeque::new();
            let more = self.one(&mut |record| {
                if last.len() == wanted {
                    last.pop_front();
                }
                last.push_back(record);
                Ok(())
            })?;
            wanted -= last.len();
            found.push(last);
            if !more {
                break;
            }
        }
        Ok(found.into_iter().rev().flatten())
    }

    /// Reads the next segment; whether there was one.
    fn one(&mut self, take: &mut impl FnMut(Record) -> io::Result<()>) -> Result<bool, Failure> {
        let unlisted = |error| Failure::System(format!("the log directory {} could not be read: {error}.", self.dir.display()));
        let Some(segment) = self.segments.advance().map_err(unlisted)? else { return Ok(false) };
        let live = segment.name.date.is_none();
        if let Err(error) = records::read(segment.input, live, self.plan, &mut self.left_out, take)? {
            self.segments.refuse(&segment.name, &error);
        }
        Ok(true)
    }

    /// What is to be known besides, and the answer.
    fn report(self, count: u64) -> Result<Answer, Failure> {
        let (stream, dir) = (self.plan.stream, self.dir.display());
        for (file, why) in &self.segments.unread {
            complain(&format!("{file} could not be read whole: {why}"));
        }
        let LeftOut { torn, open, unreadable, missing } = self.left_out;
        for column in missing {
            complain(&format!(
                "segments without column {column} hold none of the records that were asked for: nobody can tell which they are"
            ));
        }
        for (count, what) in [
            (torn, "of samples that were torn or do not check. psmon verify says where"),
            (open, "behind the last tick: their sample is being written, or a crash tore it"),
            (unreadable, "that are none of the journal's lines. psmon verify says where"),
        ] {
            if count > 0 {
                complain(&format!("left out {count} records {what}"));
            }
        }
        if count > 0 {
            return Ok(Answer::Yes);
        }
        if !self.segments.any {
            complain(&format!("{dir} holds no segment of stream {stream}. Is it recorded? psmon config says."));
        } else if !self.segments.unread.is_empty() {
            return Err(Failure::System(format!("nothing of stream {stream} could be read in {dir}")));
        } else {
            complain(&format!("no record of stream {stream} in {dir} matches"));
        }
        Ok(Answer::No)
    }
}

struct Printer<'a, W> {
    out: &'a mut W,
    form: Form,
    heading: Option<Rc<[u8]>>,
    count: u64,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, record: &Record) -> io::Result<()> {
        if self.heading.as_ref() != Some(&record.heading) {
            if self.heading.is_some() && self.form == Form::Csv {
                self.out.write_all(b"\r\n")?;
            }
            self.out.write_all(&record.heading)?;
            self.heading = Some(Rc::clone(&record.heading));
        }
        self.count += 1;
        self.out.write_all(&record.line)
    }
}
