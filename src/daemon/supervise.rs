//! Signals, config watch, reload and watchdog. It waits on four things: a signal, a change of the config
//! file, the watchdog's timer, and the end of a part of the daemon.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::Duration;

use futures_core::Stream as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Origin;
use signal_hook_tokio::SignalsInfo;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::sink::{Ended, Pending, PipeItem, Sink};
use super::{Failure, log_group, notify, orders};
use crate::config::units::show_duration;
use crate::config::{self, Loaded, Sources, Watcher};
use crate::journal::directory::Directory;
use crate::journal::writer::Reload;
use crate::observer::thread::Observer;
use crate::record::ledger::{Note, NoteKind};
use crate::record::stream::Stream;
use crate::source::clock::Wall;

/// A call to the disk that takes longer is said, though it is no reason for the watchdog.
const SLOW: Duration = Duration::from_secs(5);
/// How long a stop waits for the last write.
const LAST_WRITE: Duration = Duration::from_secs(20);

/// Who asked for a reload: the rules file, by its change.
const BY_RULES_FILE: &str = "programs_file";

/// The watch of a rules file.
struct RulesWatch {
    file: PathBuf,
    /// `None` where it cannot be watched.
    watcher: Option<Watcher>,
}

/// What keeps the daemon running.
#[derive(Debug)]
pub struct Supervisor {
    /// The observer.
    pub observer: Observer,
    /// Where samples go.
    pub sink: Sink,
    /// Where the config comes from.
    pub sources: Sources,
    /// The config in force.
    pub loaded: Loaded,
    /// Reloads under way.
    pub pending: Pending,
    /// Which parts ended.
    pub ended: UnboundedReceiver<Ended>,
    /// The stream that goes to standard output.
    pub to_stdout: Option<Stream>,
    /// The kernel tells of births and ends.
    pub hears: bool,
    /// The watchdog's side of it.
    pub heart: Heart,
}

/// What the watchdog of systemd is fed with.
#[derive(Debug, Default)]
pub struct Heart {
    timer: Option<tokio::time::Interval>,
    beats: (u64, Option<u64>),
    slow_said: bool,
}

/// Catches the signals that are obeyed.
///
/// # Errors
/// They could not be caught.
pub fn signals(runtime: &tokio::runtime::Runtime) -> Result<SignalsInfo<WithOrigin>, Failure> {
    let _within = runtime.enter();
    SignalsInfo::<WithOrigin>::new([SIGHUP, SIGTERM, SIGINT])
        .map_err(|error| Failure::System(format!("signals could not be caught: {error}")))
}

enum Wake {
    Signal(Origin),
    Config,
    Rules,
    Watchdog,
    Ended(Ended),
    NoWatch,
    NoRulesWatch,
}

impl Supervisor {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// A part ended by itself.
    pub async fn run(mut self, mut signals: SignalsInfo<WithOrigin>) -> Result<(), Failure> {
        let mut watcher = self.watch(&self.loaded.file);
        let mut rules = self.watch_rules(None);
        self.heart.timer = notify::watchdog_every().map(|every| {
            let mut timer = interval(every);
            timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
            timer
        });
        let mut reloads = 0;
        tracing::info!(target: "daemon", "{}", self.status());
        notify::ready(&self.status());
        loop {
            let wake = tokio::select! {
                signal = next_signal(&mut signals) => signal.map_or(Wake::NoWatch, Wake::Signal),
                changed = config_change(&mut watcher) => if changed { Wake::Config } else { Wake::NoWatch },
                changed = rules_change(&mut rules) => if changed { Wake::Rules } else { Wake::NoRulesWatch },
                () = tick(&mut self.heart.timer) => Wake::Watchdog,
                Some(ended) = self.ended.recv() => Wake::Ended(ended),
            };
            match wake {
                Wake::Signal(origin) if origin.signal == SIGHUP => {
                    reloads += 1;
                    self.reload(reloads, &sender(&origin)).await;
                }
                Wake::Signal(origin) => {
                    tracing::info!(target: "daemon", "{} came from {}: psmond ends.", signal_name(origin.signal), sender(&origin));
                    return self.stop(signal_name(origin.signal)).await;
                }
                Wake::Config => {
                    let file = self.loaded.file.clone();
                    let now = self.while_beating(blocking(move || std::fs::read(file).ok())).await.unwrap_or_default();
                    if now != self.loaded.content {
                        reloads += 1;
                        self.reload(reloads, "file").await;
                    }
                }
                Wake::Rules => {
                    // Its content decides, whatever its time: a restored backup is older than what it replaces.
                    let file = self.loaded.settings.programs_file.clone();
                    let now =
                        self.while_beating(blocking(move || file.and_then(|file| std::fs::read(file).ok()))).await.unwrap_or_default();
                    if self.loaded.rules_file.as_ref().is_some_and(|rules| rules.content != now) {
                        reloads += 1;
                        self.reload(reloads, BY_RULES_FILE).await;
                    }
                }
                Wake::NoWatch => watcher = self.watch(&self.loaded.file),
                Wake::NoRulesWatch => rules = self.watch_rules(None),
                Wake::Watchdog => self.beat(),
                Wake::Ended(Ended::Pipe) => return self.stop("pipe").await,
                Wake::Ended(Ended::Observer) => return Err(Failure::System("the observer ended by itself".to_owned())),
            }
            rules = self.watch_rules(rules);
        }
    }

    /// Feeds the watchdog. The writer's disk may hang: late, not dead. The observer must answer.
    fn beat(&mut self) {
        let (observer, drain) = self.observer.beats();
        let (observer_before, drain_before) = self.heart.beats;
        if observer != observer_before && (drain.is_none() || drain != drain_before) {
            self.heart.beats = (observer, drain);
            notify::watchdog();
        }
        self.observer.ping();
        let slow = self.sink.busy_for().filter(|busy| *busy >= SLOW);
        if let Some(busy) = slow.filter(|_| !self.heart.slow_said) {
            tracing::warn!(target: "daemon", "The disk of the journal has not answered for {} s. Samples wait for it, as many as fit.", busy.as_secs());
        }
        self.heart.slow_said = slow.is_some();
    }

    /// Waits for a reload to take effect, and feeds the watchdog meanwhile; `false` if the disk holds it up.
    async fn await_writer(&mut self, mut is_done: oneshot::Receiver<()>) -> bool {
        let end = tokio::time::Instant::now() + LAST_WRITE;
        loop {
            tokio::select! {
                done = &mut is_done => return done.is_ok(),
                () = sleep_until(end) => return false,
                () = tick(&mut self.heart.timer) => self.beat(),
            }
        }
    }

    /// Waits for work on a disk that may hang, and goes on answering the watchdog meanwhile.
    async fn while_beating<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tick(&mut self.heart.timer) => self.beat(),
            }
        }
    }

    fn watch(&self, file: &Path) -> Option<Watcher> {
        match Watcher::new(file) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(target: "config", "{} cannot be watched: {error}. A change of it is seen on SIGHUP only.", file.display());
                None
            }
        }
    }

    /// Watches the rules file that the config names now; the watch before goes on where it is the same one.
    fn watch_rules(&self, before: Option<RulesWatch>) -> Option<RulesWatch> {
        let file = self.loaded.settings.programs_file.as_ref()?;
        match before {
            Some(watch) if watch.file == *file => Some(watch),
            _ => Some(RulesWatch { watcher: self.watch(file), file: file.clone() }),
        }
    }

    fn status(&self) -> String {
        let settings = &self.loaded.settings;
        let whither = if self.to_stdout.is_some() { "standard output".to_owned() } else { settings.log_dir.display().to_string() };
        let is_on = |stream, enabled| self.to_stdout.map_or(enabled, |only| only == stream);
        let what = [
            is_on(Stream::Ps, settings.ps.sampled.enabled)
                .then(|| format!("the process table every {}", show_duration(settings.ps.sampled.interval))),
            is_on(Stream::Pss, settings.pss.sampled.enabled)
                .then(|| format!("memory shares every {}", show_duration(settings.pss.sampled.interval))),
            is_on(Stream::Usage, settings.usage.sampled.enabled)
                .then(|| format!("what programs use every {}", show_duration(settings.usage.sampled.interval))),
            is_on(Stream::Events, settings.events.enabled).then(|| "events".to_owned()),
            is_on(Stream::Exits, settings.exits.enabled).then(|| "obituaries".to_owned()),
            is_on(Stream::Alerts, true).then(|| "alerts".to_owned()),
        ];
        let what: Vec<String> = what.into_iter().flatten().collect();
        let deaf = if self.hears { "" } else { " Events are unavailable: births and ends are found by comparing samples." };
        match what.split_last() {
            None => format!("Every stream is off: nothing is recorded into {whither}."),
            Some((only, [])) => format!("Recording {only} into {whither}.{deaf}"),
            Some((last, others)) => format!("Recording {} and {last} into {whither}.{deaf}", others.join(", ")),
        }
    }

    /// Puts the config as it is now in force, or keeps the old one and says why.
    async fn reload(&mut self, number: u64, by: &str) {
        notify::reloading();
        match self.try_reload(number, by).await {
            Ok(fixed) => {
                let kept = if fixed.is_empty() { String::new() } else { format!(" Only a restart changes {fixed}.") };
                tracing::info!(target: "config", "Reloaded {} (asked by {by}).{kept}", self.loaded.file.display());
                notify::ready(&format!("{} Reloaded at {}.{kept}", self.status(), Wall::default().now()));
            }
            Err(why) => {
                let rules = self.loaded.settings.programs_file.as_ref().filter(|_| by == BY_RULES_FILE);
                let file = rules.unwrap_or(&self.loaded.file).display();
                if rules.is_some() {
                    tracing::error!(target: "config", "The new program rules were refused: {why}");
                } else {
                    tracing::error!(target: "config", "The reload asked by {by} was refused, the config before stays in force: {why}");
                }
                let first = why.lines().next().unwrap_or_default().to_owned();
                let note = Note::new(Wall::default().now(), NoteKind::ReloadRefused).with("file", file).with("by", by).with("why", &first);
                self.sink.note(note);
                notify::ready(&format!("{} A reload was refused: {first}", self.status()));
            }
        }
    }

    /// Answers with what of the new config waits for a restart.
    async fn try_reload(&mut self, number: u64, by: &str) -> Result<&'static str, String> {
        let sources = self.sources.clone();
        let file = self.loaded.file.clone();
        // What stood there before it was loaded counts as seen even if it is refused: one change, one answer. Should
        // it have changed in between, the change is told, and what came then is loaded in its turn.
        let (before, loaded) = self.while_beating(blocking(move || (std::fs::read(file).ok(), config::load(&sources)))).await?;
        let mut loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                self.loaded.content = before;
                return Err(error.brief());
            }
        };
        if let Some(why) = loaded.keep_rules_of(&self.loaded) {
            if by == BY_RULES_FILE {
                self.loaded.rules_file = loaded.rules_file;
                return Err(why);
            }
            tracing::warn!(target: "config", "{why}.");
        }
        for warning in &loaded.warnings {
            tracing::warn!(target: "config", "{warning}");
        }
        let scrubber = orders::scrubber(&loaded.settings).map_err(|error| error.to_string())?;
        let observer = orders::observer(&loaded.settings, scrubber, self.to_stdout).map_err(|error| error.to_string())?;
        let note = Note::new(Wall::default().now(), NoteKind::ReloadOk).with("file", loaded.file.display()).with("by", by);
        match &self.sink {
            Sink::Pipe(items, _) => {
                let _ = items.try_send(PipeItem::Note(note));
                let _ = items.try_send(PipeItem::Settings(Box::new(loaded.settings.clone())));
                self.observer.reload(observer, number);
            }
            Sink::Journal(..) => {
                let moves = loaded.settings.log_dir != self.loaded.settings.log_dir;
                let path = loaded.settings.log_dir.clone();
                // The new directory is locked before the old one is let go.
                let directory = if moves {
                    let opened = self.while_beating(blocking(move || Directory::open(&path, log_group()))).await?;
                    match opened {
                        Ok(directory) => Some(directory),
                        Err(error) => {
                            self.loaded.content = loaded.content;
                            return Err(error.to_string());
                        }
                    }
                } else {
                    None
                };
                let (done, is_done) = oneshot::channel();
                let reload = Reload {
                    settings: orders::journal(&loaded.settings),
                    directory,
                    note,
                    done: Box::new(move || {
                        let _ = done.send(());
                    }),
                };
                self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(number, reload);
                self.observer.reload(observer, number);
                if !self.await_writer(is_done).await {
                    tracing::warn!(target: "daemon", "The disk of the journal holds the reload up: the new config takes effect when it answers.");
                }
            }
        }
        let (old, new) = (&self.loaded.settings, &loaded.settings);
        let fixed = match (old.mlock == new.mlock, old.events.buffer == new.events.buffer) {
            (true, true) => "",
            (false, true) => "mlock",
            (true, false) => "events.buffer",
            (false, false) => "mlock and events.buffer",
        };
        self.loaded = loaded;
        Ok(fixed)
    }

    /// The list of [`super::run`] from its end: observer, then sink.
    async fn stop(mut self, why: &str) -> Result<(), Failure> {
        notify::stopping("Stopping.");
        self.observer.stop();
        let last = async { while !matches!(self.ended.recv().await, Some(Ended::Observer) | None) {} };
        let _ = timeout(LAST_WRITE, last).await;
        self.sink.stop(Note::new(Wall::default().now(), NoteKind::Stop).with("why", why));
        let written = async {
            while !self.sink.is_finished() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(LAST_WRITE, written).await.is_err() {
            return Err(Failure::System("the last records could not be written in time: the disk does not answer".to_owned()));
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}

async fn next_signal(signals: &mut SignalsInfo<WithOrigin>) -> Option<Origin> {
    poll_fn(|context| Pin::new(&mut *signals).poll_next(context)).await
}

/// Whether the config may have changed; `false` where it can no longer be watched.
async fn config_change(watcher: &mut Option<Watcher>) -> bool {
    match watcher {
        Some(watcher) => watcher.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

/// The same of the rules file.
async fn rules_change(watch: &mut Option<RulesWatch>) -> bool {
    match watch {
        Some(watch) => config_change(&mut watch.watcher).await,
        None => std::future::pending().await,
    }
}

async fn tick(timer: &mut Option<tokio::time::Interval>) {
    match timer {
        Some(timer) => drop(timer.tick().await),
        None => std::future::pending().await,
    }
}

fn sender(origin: &Origin) -> String {
    origin.process.as_ref().map_or_else(|| "kernel".to_owned(), |process| format!("pid={},uid={}", process.pid, process.uid))
}

const fn signal_name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        _ => "signal",
    }
}
