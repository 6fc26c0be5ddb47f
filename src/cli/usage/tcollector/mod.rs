//! `psmon usage --tcollector`: psstat's part under tcollector, the collector of OpenTSDB.
//!
//! tcollector starts it, reads its lines, and ends it where none came for 600 s (`ALLOWED_INACTIVITY_TIME` of tcollector.py): each
//! cycle ends in a line of its own, so that nothing that matches is no silence. It drops a point that is not younger than the one
//! before of its series; so a cycle has one time stamp, and none is written while the clock is behind the last.
//!
//! * [`lines`]: rows as lines.
//! * [`clock`]: the time, which a test may make run faster.

#[cfg(test)]
pub mod check;
pub mod clock;
pub mod lines;

use std::io::Write;
use std::time::Duration;

use self::clock::{Clock, SystemClock};
use self::lines::{Lines, Pulse};
use super::rules::{self, RuledFeed, RulesWatch, of_psstat};
use super::select::{Filter, measured};
use super::{Arguments, MEASURED, wrong_interval};
use crate::cli::ending::Call;
use crate::cli::{Answer, Failure, complain, ending, open_proc};
use crate::observer::schedule::Schedule;
use crate::record::stream::Stream;

/// As often as psstat.
const INTERVAL: Duration = Duration::from_secs(15);
/// Time stamps are whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);
/// Half of what tcollector allows.
const LONGEST: Duration = Duration::from_secs(300);
/// So long after the last line a line says that nothing is to be said: three quarters of what tcollector allows.
const SILENCE: Duration = Duration::from_secs(450);

const NS_PER_S: i64 = 1_000_000_000;

/// Runs the collector until a signal, or until nobody reads it.
///
/// # Errors
/// What keeps it from ever beginning is [`Failure::Never`].
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let (mut collector, mut feed, mut clock) = begin(arguments).map_err(|failure| match failure {
        Failure::Config(why) | Failure::System(why) => Failure::Never(why),
        failure => failure,
    })?;
    collector.run(feed.as_mut(), &mut clock, &mut complain_of, out)
}

fn complain_of(sentence: &str) {
    complain(&sentence);
}

fn begin(arguments: &Arguments) -> Result<(Collector, Box<dyn RuledFeed>, SystemClock), Failure> {
    let interval = arguments.interval.unwrap_or(INTERVAL);
    if !(SHORTEST..=LONGEST).contains(&interval) {
        let why = "with --tcollector it is 1 s at least, as time stamps are whole seconds, and 300 s at most, as tcollector ends a collector that is silent for 600 s";
        return Err(wrong_interval(why));
    }
    let filter = Filter::new(arguments, &measured(Stream::Usage))?;
    // That it is there, before all else.
    open_proc(&arguments.proc)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let found = || of_psstat(&host).filter(|path| path.exists());
    let mut watch = arguments.programs_file.clone().or_else(found).map(RulesWatch::new);
    // The first sample needs a second look; after that the cycles lie further apart.
    let mut feed = rules::feed(arguments, Stream::Usage, MEASURED / arguments.speed)?;
    if let Some(watch) = &mut watch {
        watch.begin(feed.as_mut())?.iter().for_each(complain);
    }
    let clock = SystemClock::new(arguments.speed, ending::of_collector()?);
    Ok((Collector::new(interval, filter, watch, arguments.cycles), feed, clock))
}

/// What goes on from cycle to cycle.
#[derive(Debug)]
pub struct Collector {
    interval: Duration,
    filter: Filter,
    rules: Option<RulesWatch>,
    lines: Lines,
    cycles: Option<u64>,
    /// The last time stamp written, seconds since the epoch, and when that was.
    last: Option<(i64, u64)>,
    /// The clock is behind it, and that was said.
    is_behind: bool,
    /// The sample before failed, and that was said.
    has_failed: bool,
}

impl Collector {
    /// So often, of these programs, so many cycles at most.
    #[must_use]
    pub fn new(interval: Duration, filter: Filter, rules: Option<RulesWatch>, cycles: Option<u64>) -> Self {
        Self { interval, filter, rules, lines: Lines::new(), cycles, last: None, is_behind: false, has_failed: false }
    }

    /// One cycle at once, whoever waits for it, and then one at each multiple of the interval.
    fn run(
        &mut self,
        feed: &mut dyn RuledFeed,
        clock: &mut dyn Clock,
        complain: &mut dyn FnMut(&str),
        out: &mut impl Write,
    ) -> Result<Answer, Failure> {
        let mut schedule = Schedule::every(self.interval, clock.wall_ns());
        let mut due_ns = clock.wall_ns();
        let mut done = 0;
        loop {
            self.cycle(due_ns.div_euclid(NS_PER_S), feed, clock, complain, out)?;
            done += 1;
            if self.cycles.is_some_and(|cycles| done >= cycles) {
                return Ok(Answer::Yes);
            }
            due_ns = loop {
                let now = clock.wall_ns();
                if let Some(tick) = schedule.take(now) {
                    break tick.due_ns;
                }
                let silent = self.silent(clock);
                if silent >= SILENCE {
                    self.bridge(clock, out)?;
                    continue;
                }
                let wait = Duration::from_nanos(schedule.wait_ns(now).unsigned_abs());
                match clock.wait(wait.min(SILENCE - silent)) {
                    Some(Call::End) => return Ok(Answer::Yes),
                    Some(Call::Reload) => self.reload(feed, complain),
                    None => {}
                }
            };
        }
    }

    /// How long ago the last line was.
    fn silent(&self, clock: &dyn Clock) -> Duration {
        let since = |(_, written_ns)| clock.monotonic_ns().saturating_sub(written_ns);
        self.last.map_or(Duration::ZERO, |last| Duration::from_nanos(since(last)))
    }

    /// Whoever set the clock back may keep it silent for longer than is allowed. These few lie in the time to come, which the clock
    /// will reach.
    fn bridge(&mut self, clock: &dyn Clock, out: &mut impl Write) -> Result<(), Failure> {
        let Some((last, _)) = self.last else { return Ok(()) };
        let mut text = Vec::new();
        self.lines.pulse(last + 1, Pulse::Missed, &mut text);
        self.last = Some((last + 1, clock.monotonic_ns()));
        out.write_all(&text)?;
        Ok(out.flush()?)
    }

    /// SIGHUP: the file of rules is read at once, and not only before the next cycle.
    fn reload(&mut self, feed: &mut dyn RuledFeed, complain: &mut dyn FnMut(&str)) {
        match &mut self.rules {
            Some(rules) => rules.look_again(feed).iter().for_each(|sentence| complain(sentence)),
            None => complain(
                "SIGHUP: there is no file of rules to read again. The config is read at the start only: end it, and tcollector starts it anew.",
            ),
        }
    }

    fn cycle(
        &mut self,
        second: i64,
        feed: &mut dyn RuledFeed,
        clock: &dyn Clock,
        complain: &mut dyn FnMut(&str),
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        if let Some(rules) = &mut self.rules {
            rules.look_again(feed).iter().for_each(|sentence| complain(sentence));
        }
        let mut text = Vec::new();
        let second = match self.last {
            Some((last, _)) if second <= last => {
                if last - second > i64::try_from(self.interval.as_secs()).unwrap_or(0) && !std::mem::replace(&mut self.is_behind, true) {
                    complain(&format!(
                        "the clock is {} s behind the last point: there are none until it has passed that. tcollector would take none \
                         either: restart it where that is too long.",
                        last - second
                    ));
                }
                return Ok(());
            }
            _ => {
                self.is_behind = false;
                match feed.sample() {
                    Ok(mut sample) => {
                        self.has_failed = false;
                        sample.rows.retain(|row| self.filter.takes(row));
                        self.lines.write(second, &sample.rows, complain, &mut text);
                        self.lines.pulse(second, Pulse::Taken, &mut text);
                    }
                    // The next one may do better; whoever ends with an error is not started again.
                    Err(failure) => {
                        if !std::mem::replace(&mut self.has_failed, true) {
                            complain(&format!("{failure}; there are no points until that is mended"));
                        }
                        self.lines.pulse(second, Pulse::Missed, &mut text);
                    }
                }
                second
            }
        };
        self.last = Some((second, clock.monotonic_ns()));
        out.write_all(&text)?;
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests;
