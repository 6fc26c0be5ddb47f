//! Samples of stream `credits`, made now: whoever lives and ends between two looks is in them where the kernel tells of ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use super::by::By;
use super::spent::{Span, Spent, Who};
use crate::cli::said::Said;
use crate::cli::{Failure, complain, ending, hear};
use crate::observer::beat::Cadence;
use crate::observer::credits::crediting;
use crate::observer::drain::Ears;
use crate::observer::thread::{Observer, Output, Start, Take};
use crate::record::moment::Moment;
use crate::record::sample::Sample;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::wanted::FullWanted;
use crate::source::limits;
use crate::source::procdir::Proc;

/// Samples that may wait for the view; beyond that the observer goes on counting, and the next one is of a longer interval.
const WAITING: usize = 4;
/// Accounts told apart.
const MOST: usize = 10_000;
/// How often is looked while one long interval is measured: who executes another program unheard shows by it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two looks.
const LOOK_AT_LEAST: Duration = Duration::from_millis(50);

/// Something that gives samples of what was spent.
pub trait Samples {
    /// The next one; `None` where there is none any more.
    ///
    /// # Errors
    /// As [`Failure`] says.
    fn next(&mut self) -> Result<Option<Taken>, Failure>;
}

/// A sample.
#[derive(Clone, Debug)]
pub struct Taken {
    /// When its interval ended.
    pub time: Moment,
    /// What its shares are of.
    pub span: Span,
    /// What each spent.
    pub rows: Vec<(Who, Spent)>,
    /// What its tick says.
    pub totals: Vec<(&'static str, String)>,
    /// It was cut short by whatever ended the view.
    pub is_last: bool,
}

impl Taken {
    fn new(sample: &Sample, is_last: bool) -> Self {
        let totals = sample.totals.clone();
        let span_s = totals.iter().find(|(key, _)| *key == "span_s").map_or("0", |(_, value)| value);
        let span = Span { ns: nanoseconds(span_s).unwrap_or(0), cpus: sample.facts.cpus };
        let names: Vec<&str> = sample.columns.iter().map(|column| column.name).filter(|name| *name != "time").collect();
        let row = |values: &[crate::record::value::Value]| {
            let value = |name: &str| names.iter().position(|known| *known == name).and_then(|at| values.get(at));
            (Who::read(value), Spent::read(value))
        };
        let rows = sample.rows.iter().map(|one| row(&one.values)).collect();
        Self { time: sample.due, span, rows, totals, is_last }
    }

    /// What its tick says under a name; `?` where it does not.
    #[must_use]
    pub fn total(&self, key: &str) -> &str {
        self.totals.iter().find(|(name, _)| *name == key).map_or("?", |(_, value)| value)
    }
}

/// Seconds with six digits, as a tick says them.
#[must_use]
pub fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, micros) = text.split_once('.')?;
    let micros: u64 = (micros.len() == 6).then(|| micros.parse().ok()).flatten()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(micros * 1000)
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// One interval, of so long at least.
    Once(Duration),
    /// One after another, each so long; the first is half as long at least.
    Again(Duration),
}

enum Message {
    Sample(Box<Sample>),
    Stopped,
    /// A signal came, or nobody reads any more.
    End,
}

/// The kernel, now.
pub struct Live {
    observer: Observer,
    messages: Receiver<Message>,
    once: bool,
    /// The sample under way is the last one, however short its interval.
    is_last: Arc<AtomicBool>,
    /// Told to stop: how long its last words are waited for.
    stopping: Option<Instant>,
    stopped: bool,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

impl Live {
    /// Begins to count: what everyone used so far is in no sample. What cannot be counted here is said.
    ///
    /// # Errors
    /// Signals could not be caught, or no thread be started.
    pub fn open(proc: &Arc<Proc>, said: Said, by: Option<By>, measured: Measured) -> Result<Self, Failure> {
        let (tell, messages) = mpsc::sync_channel(WAITING);
        // From here on a signal ends the view, and not psmon in the middle of a line.
        let ends = tell.clone();
        ending::on_signal(proc, move || ends.send(Message::End).is_ok())?;
        let ears = Ears::open(proc, hear::BUFFER);
        let deaf = match &ears {
            Ok(ears) => ears.deaf_to_exits.as_ref().map(|why| format!("exit records: {why}")),
            Err(why) => Some(format!("process events: {why}")),
        };
        if let Some(missing) = deaf {
            complain(&format!(
                "There are no {missing}. What processes use that live and end between two looks is not counted, and is (unattributed). \
                 Root, or CAP_NET_ADMIN in the first user and pid namespace, mends it; psmon doctor says more."
            ));
        }
        let may_keep = usize::try_from(limits::raise_open_files().saturating_sub(64)).unwrap_or(0);
        let ears = ears.map_err(|why| why.to_string());
        let start = Start { proc: Arc::clone(proc), may_keep, ears, past: Vec::new(), carried: None };
        let (every, least) = match measured {
            Measured::Once(interval) => ((interval / 4).clamp(LOOK_AT_LEAST, LOOK_EVERY), interval),
            Measured::Again(interval) => (interval, interval / 2),
        };
        let mut orders = hear::looks_only(said)?;
        orders.credits = Some(crediting::Orders {
            cadence: Cadence { interval: every, changes: false, full_every: hear::LOOK_AT_ALL_EVERY },
            columns: [Some(columns(by)?), None, None],
            partial_every: Duration::from_secs(3600),
            most: MOST,
            groups: by == Some(By::Cgroup),
            budgets: Vec::new(),
        });
        let is_last = Arc::new(AtomicBool::new(false));
        let take = taker(tell.clone(), least, Arc::clone(&is_last));
        let observer = Observer::start(start, orders, Arc::new(FullWanted::default()), take)
            .map_err(|error| Failure::System(format!("a thread could not be started: {error}")))?;
        ending::on_unread(move || {
            let _ = tell.send(Message::End);
        });
        let once = matches!(measured, Measured::Once(_));
        Ok(Self { observer, messages, once, is_last, stopping: None, stopped: false })
    }

    fn stop(&mut self) {
        if self.stopping.is_none() {
            self.is_last.store(true, Ordering::Relaxed);
            self.observer.stop();
            self.stopping = Some(Instant::now() + hear::PATIENCE);
        }
    }

    fn receive(&self) -> Result<Message, RecvTimeoutError> {
        match self.stopping {
            Some(limit) => self.messages.recv_timeout(limit.saturating_duration_since(Instant::now())),
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }
}

impl Samples for Live {
    fn next(&mut self) -> Result<Option<Taken>, Failure> {
        while !self.stopped {
            match self.receive() {
                Ok(Message::Sample(sample)) => {
                    let taken = Taken::new(&sample, self.stopping.is_some());
                    if self.once {
                        self.stop();
                    }
                    return Ok(Some(taken));
                }
                Ok(Message::End) => self.stop(),
                Ok(Message::Stopped) | Err(_) => self.stopped = true,
            }
        }
        Ok(None)
    }
}

impl Drop for Live {
    /// Older kernels go on telling for ever unless they are told to stop, so its end is waited for whatever ended the view.
    fn drop(&mut self) {
        self.stop();
        while !self.stopped {
            self.stopped = matches!(self.receive(), Ok(Message::Stopped) | Err(_));
        }
    }
}

/// Everything that sums are made of.
fn columns(by: Option<By>) -> Result<Columns, Failure> {
    const OF_ACCOUNTS: [&str; 8] = ["time", "program", "user", "procs", "started", "exited", "user_s", "sys_s"];
    const OF_GROUPS: [&str; 5] = ["time", "cgroup", "procs", "user_s", "sys_s"];
    let keys: &[&str] = if by == Some(By::Cgroup) { &OF_GROUPS } else { &OF_ACCOUNTS };
    Columns::for_view(Stream::Credits, &[keys, &["cpu_s"]].concat()).map_err(|error| Failure::System(error.to_string()))
}

/// Takes what is long enough; what it does not take the observer goes on counting.
fn taker(tell: SyncSender<Message>, least: Duration, is_last: Arc<AtomicBool>) -> Take {
    let (mut since, mut least) = (None::<Instant>, least);
    Box::new(move |output| match output {
        Output::Sample(sample) if sample.stream == Stream::Credits => {
            let is_long = since.is_some_and(|since| since.elapsed() >= least);
            if !is_long && !is_last.load(Ordering::Relaxed) {
                return Err(Output::Sample(sample));
            }
            match tell.try_send(Message::Sample(sample)) {
                Err(TrySendError::Full(Message::Sample(sample))) => Err(Output::Sample(sample)),
                _ => {
                    least = Duration::ZERO;
                    Ok(())
                }
            }
        }
        // The first of them follows the first look.
        Output::Census(_) => {
            since.get_or_insert_with(Instant::now);
            Ok(())
        }
        // The last word may wait: nothing is observed any more.
        Output::Stopped => {
            let _ = tell.send(Message::Stopped);
            Ok(())
        }
        Output::Sample(_) | Output::Flush(_) | Output::Reloaded(_) => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_says_how_long_it_was() {
        assert_eq!(nanoseconds("1.000250"), Some(1_000_250_000));
        for text in ["", "?", "1", "1.5", "-1.000000", "99999999999.000000"] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
