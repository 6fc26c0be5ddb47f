//! Who descends from psmon: by their births, as the kernel told them, and not by their parents, who may have ended.
//!
//! psmon itself is the root; it bears nobody but the command. Events come in the order in which they happened: whoever bears
//! a child was born before, and the end of whoever has a pid is told before the pid is used again. Obituaries may come earlier
//! than the birth: they wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::early::{Early, is_same_start};
use super::reaper::Reaped;
use crate::cli::Failure;
use crate::cli::events::event::{Event, Places, word};
use crate::cli::hear::{Lost, Told};
use crate::record::event::EventKind;
use crate::record::flush::TimedRow;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What is asked of births and ends.
const EVENTS: [&str; 6] = ["time", "event", "pid", "start", "task", "ppid"];
/// What is asked of obituaries, in this order.
const OBITUARIES: [&str; 10] = ["pid", "start", "ppid", "pstart", "program", "user_s", "sys_s", "cpu_s", "max_rss", "comm"];
/// How long the obituary of somebody whose birth nobody told is kept: it may be told still.
const KEPT: Duration = Duration::from_secs(3);
/// Where births were lost they are kept to the end, up to so many.
const KEPT_AT_MOST: usize = 1 << 20;

/// What an obituary says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obituary {
    /// The pid.
    pub pid: u32,
    /// Its start ticks.
    pub start: Option<u64>,
    /// Who bore it.
    pub parent: Option<(u32, Option<u64>)>,
    /// The program it counted for.
    pub program: Option<Arc<[u8]>>,
    /// CPU time, microseconds; `None` where no record and no sample told it.
    pub cpu_us: Option<u64>,
    /// User and system part of it, microseconds.
    pub split_us: Option<(u64, u64)>,
    /// Largest resident memory, bytes.
    pub max_rss: Option<u64>,
}

/// One process of those that descend from psmon.
#[derive(Debug)]
pub struct Life {
    /// Its pid.
    pub pid: u32,
    /// Its start ticks; with the pid its identity.
    pub start: Option<u64>,
    /// Where its parent stands, which is before it; `None` of those born by psmon.
    pub parent: Option<usize>,
    /// Its end was told.
    pub ended: bool,
    /// Its obituary, once it came.
    pub obituary: Option<Box<Obituary>>,
    /// What it and those it waited for used, where it came to psmon at its end.
    pub reaped: Option<Box<Reaped>>,
    /// The one before it that had its pid.
    before: Option<usize>,
}

#[cfg(test)]
impl Life {
    /// One whose end was told.
    pub(super) const fn made(pid: u32, parent: Option<usize>, obituary: Option<Box<Obituary>>, reaped: Option<Box<Reaped>>) -> Self {
        Self { pid, start: Some(100), parent, ended: true, obituary, reaped, before: None }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Descent {
    root: u32,
    /// In the order of their births.
    pub lives: Vec<Life>,
    newest: FxHashMap<u32, usize>,
    places: Places,
    /// Obituaries of those whose birth was not told so far: of all others on this machine.
    early: Early<Obituary>,
    /// Who came to psmon before their birth was told.
    came: Early<Reaped>,
    /// When what waited for too long was forgotten.
    forgot: Instant,
    /// Births, ends and obituaries of theirs so far.
    pub heard: u64,
    /// Lives whose end was not told.
    running: usize,
    /// Lives without an obituary.
    untold: usize,
    /// Births nobody told, and found all the same.
    pub unborn: u64,
    /// What the kernel could not deliver.
    pub lost: Lost,
}

/// The columns that are to be asked of events.
///
/// # Errors
/// There is no such column, which a test rules out.
pub fn event_columns() -> Result<Columns, Failure> {
    Columns::for_view(Stream::Events, &EVENTS).map_err(|error| Failure::System(error.to_string()))
}

/// The columns that are to be asked of obituaries.
///
/// # Errors
/// There is no such column, which a test rules out.
pub fn obituary_columns() -> Result<Columns, Failure> {
    Columns::for_view(Stream::Exits, &OBITUARIES).map_err(|error| Failure::System(error.to_string()))
}

impl Descent {
    /// Of the descendants of a process, which is to be told of in rows of these columns of events.
    #[must_use]
    pub fn new(root: u32, events: &Columns) -> Self {
        Self {
            root,
            lives: Vec::new(),
            newest: FxHashMap::default(),
            places: Places::of(events),
            early: Early::default(),
            came: Early::default(),
            forgot: Instant::now(),
            heard: 0,
            running: 0,
            untold: 0,
            unborn: 0,
            lost: Lost::default(),
        }
    }

    /// Hears what the kernel told.
    pub fn hear(&mut self, told: &Told) {
        self.lost.events += told.lost.events;
        self.lost.records += told.lost.records;
        self.lost.rows += told.lost.rows;
        if told.stream == Stream::Exits {
            told.rows.iter().filter_map(obituary).for_each(|obituary| self.bury(obituary));
            self.forget();
            return;
        }
        let places = self.places;
        for event in told.rows.iter().filter_map(|row| Event::of(&places, row)) {
            match event.kind {
                EventKind::Fork => self.born(event.pid, event.start, event.ppid),
                EventKind::Exit => self.end(event.pid, event.start),
                _ => {}
            }
        }
    }

    /// Somebody was born.
    fn born(&mut self, pid: u32, start: Option<u64>, ppid: Option<u32>) {
        let Some(ppid) = ppid else { return };
        let parent = self.newest.get(&ppid).copied().filter(|at| self.lives.get(*at).is_some_and(|parent| !parent.ended));
        if parent.is_none() && ppid != self.root {
            // Nobody of ours. If it has the pid of one of ours, that one's end was lost.
            if let Some(life) = self.newest.get(&pid).and_then(|at| self.lives.get_mut(*at))
                && !life.ended
            {
                life.ended = true;
                self.running = self.running.saturating_sub(1);
            }
            return;
        }
        if self.find(pid, start).is_none_or(|at| self.lives.get(at).is_none_or(|life| life.ended)) {
            self.add(pid, start, parent);
        }
    }

    fn add(&mut self, pid: u32, start: Option<u64>, parent: Option<usize>) -> usize {
        let at = self.lives.len();
        let before = self.newest.insert(pid, at);
        // Two at once cannot have one pid: the end of the one before was lost.
        if let Some(life) = before.and_then(|at| self.lives.get_mut(at))
            && !life.ended
        {
            life.ended = true;
            self.running = self.running.saturating_sub(1);
        }
        self.lives.push(Life { pid, start, parent, ended: false, obituary: None, reaped: None, before });
        self.heard += 1;
        self.running += 1;
        self.untold += 1;
        if let Some(obituary) = self.early.take(pid, start) {
            self.bury(obituary);
        }
        if let Some(reaped) = self.came.take(pid, start) {
            self.reaped(reaped);
        }
        at
    }

    fn end(&mut self, pid: u32, start: Option<u64>) {
        if let Some(life) = self.find(pid, start).and_then(|at| self.lives.get_mut(at))
            && !life.ended
        {
            life.ended = true;
            self.heard += 1;
            self.running = self.running.saturating_sub(1);
        }
    }

    /// Where somebody stands.
    fn find(&self, pid: u32, start: Option<u64>) -> Option<usize> {
        let mut next = self.newest.get(&pid).copied();
        while let Some(at) = next {
            let life = self.lives.get(at)?;
            if is_same_start(life.start, start) {
                return Some(at);
            }
            next = life.before;
        }
        None
    }

    fn bury(&mut self, obituary: Obituary) {
        match self.find(obituary.pid, obituary.start).and_then(|at| self.lives.get_mut(at)) {
            Some(life) if life.obituary.is_none() => {
                life.obituary = Some(Box::new(obituary));
                self.heard += 1;
                self.untold = self.untold.saturating_sub(1);
            }
            Some(_) => {}
            None if self.early.count() < KEPT_AT_MOST => self.early.put(obituary.pid, obituary.start, obituary),
            None => {}
        }
    }

    /// Somebody came to psmon at its end.
    pub fn reaped(&mut self, reaped: Reaped) {
        match self.find(reaped.pid, reaped.start).and_then(|at| self.lives.get_mut(at)) {
            Some(life) if life.reaped.is_none() => life.reaped = Some(Box::new(reaped)),
            Some(_) => {}
            None => self.came.put(reaped.pid, reaped.start, reaped),
        }
    }

    /// Those of others are not waited for for ever, unless births were lost.
    fn forget(&mut self) {
        if self.lost.events == 0 && self.forgot.elapsed() >= KEPT {
            self.forgot = Instant::now();
            self.early.forget(KEPT);
        }
    }

    /// Whether all that can come of those who ended has come: of the living it is told who they are.
    #[must_use]
    pub fn is_settled(&self, has_records: bool, lives_on: impl Fn(u32, Option<u64>) -> bool) -> bool {
        if self.lives.is_empty() || self.came.count() > 0 {
            return false;
        }
        let open = |life: &&Life| !life.ended || (has_records && life.obituary.is_none());
        (self.running == 0 && (!has_records || self.untold == 0))
            || self.lives.iter().filter(open).all(|life| life.obituary.is_none() && lives_on(life.pid, life.start))
    }

    /// Nothing more comes: takes in whose birth was lost.
    pub fn close(&mut self) {
        for reaped in self.came.drain() {
            let at = self.add(reaped.pid, reaped.start, None);
            if let Some(life) = self.lives.get_mut(at) {
                life.reaped = Some(Box::new(reaped));
                life.ended = true;
            }
            self.unborn += 1;
        }
        // A child may have been buried before its parent.
        let mut others = self.early.drain();
        loop {
            let before = others.len();
            for obituary in std::mem::take(&mut others) {
                let parent = obituary.parent.and_then(|(pid, start)| self.find(pid, Some(start?)));
                if parent.is_some() || obituary.parent.is_some_and(|(pid, _)| pid == self.root) {
                    self.add(obituary.pid, obituary.start, parent);
                    self.bury(obituary);
                    self.unborn += 1;
                } else {
                    others.push(obituary);
                }
            }
            if others.len() == before {
                return;
            }
        }
    }

    /// Whether it is one of them, whose obituary came.
    #[must_use]
    pub fn is_buried(&self, pid: u32, start: u64) -> bool {
        self.find(pid, Some(start)).and_then(|at| self.lives.get(at)).is_some_and(|life| life.obituary.is_some() || life.reaped.is_some())
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn knows(&self, pid: u32, start: u64) -> bool {
        self.find(pid, Some(start)).is_some()
    }
}

/// Reads a row of [`obituary_columns`].
fn obituary(row: &TimedRow) -> Option<Obituary> {
    let [pid, start, ppid, pstart, program, user, system, cpu, max_rss, comm] = std::array::from_fn(|at| row.values.get(at));
    let count = |value: Option<&Value>| value.and_then(Value::number).and_then(|number| u64::try_from(number).ok());
    let small = |value| count(value).and_then(|number| u32::try_from(number).ok());
    let name = |value: Option<&Value>| value.and_then(word).map(Arc::from);
    Some(Obituary {
        pid: small(pid)?,
        start: count(start),
        parent: small(ppid).map(|ppid| (ppid, count(pstart))),
        program: name(program).or_else(|| name(comm)),
        cpu_us: count(cpu),
        split_us: count(user).zip(count(system)),
        max_rss: count(max_rss),
    })
}

#[cfg(test)]
#[path = "descent_tests.rs"]
mod tests;
