//! Streams `credits`, `credits_process` and `budgets`, from a tick to their samples: whoever ran is counted, the sum is held against
//! the machine's clock, and what no sample has told yet stands in this one.

use std::time::Duration;

use jiff::civil::Date;
use rustc_hash::FxHashMap;

use super::account::{Key, Whose};
use super::accounts::key_of;
use super::closure::{self, Closure};
use super::groups::Groups;
use crate::config::Budget;
use crate::observer::beat::{Beat, Cadence};
use crate::observer::names::Names;
use crate::observer::samplers::credits::{self as sampler, Span};
use crate::observer::samplers::ps::Rows;
use crate::observer::schedule::Tick;
use crate::observer::table::Process;
use crate::observer::touched::Touched;
use crate::observer::world::World;
use crate::record::alive::Alive;
use crate::record::carried::{Carried, Counted, OfBoot, Spent};
use crate::record::moment::Moment;
use crate::record::sample::{Counts, Row};
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::value::Value;
use crate::source::clock;

/// The streams, in the order in which their samples are handed on.
pub const STREAMS: [Stream; 3] = [Stream::Credits, Stream::CreditsProcess, Stream::Budgets];

/// The place of one of them.
fn place(stream: Stream) -> Option<usize> {
    STREAMS.iter().position(|known| *known == stream)
}

/// What the streams are to do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// How often all are sampled.
    pub cadence: Cadence,
    /// The columns of those that are recorded, as in [`STREAMS`].
    pub columns: [Option<Columns>; STREAMS.len()],
    /// How often a process that lives on has a row in `credits_process`.
    pub partial_every: Duration,
    /// The most accounts told apart.
    pub most: usize,
    /// Rows of `credits` are of control groups, and not of programs and users.
    pub groups: bool,
    /// What may be spent.
    pub budgets: Vec<Budget>,
}

/// When it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the beginning: what lies behind was used while nobody recorded.
    Begin,
    /// At a tick.
    Tick,
    /// At the end: the living have rows too.
    Stop,
}

/// What one of the streams has to say.
#[derive(Debug)]
pub struct Ready {
    /// Its rows.
    pub rows: Rows,
    /// Their columns.
    pub columns: Columns,
    /// What its tick says besides.
    pub totals: Vec<(&'static str, String)>,
}

/// The state of the streams.
#[derive(Debug, Default)]
pub struct Crediting {
    beats: [Beat; STREAMS.len()],
    columns: [Option<Columns>; STREAMS.len()],
    closure: Closure,
    /// Who may have used anything since the tick before.
    touched: Touched,
    /// When everyone was looked at for the last sample that was taken, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    since_ns: u64,
    /// When that was for the last tick.
    ticked_ns: u64,
    /// Of that, how long nobody recorded, nanoseconds.
    unrecorded_ns: u64,
    /// Of which round the machine's clocks are that were read for the next tick.
    looked_ns: u64,
    /// The rows of stream `budgets` since the last sample that was taken.
    balances: Vec<Row>,
    is_on: bool,
    /// What counting begins with: what a recorder before this one said, or this one before it was told to stop counting.
    before: Before,
}

/// What is known of those who were counted before.
#[derive(Debug, Default)]
struct Before {
    /// Those who live since.
    alive: Vec<Alive>,
    carried: Option<Box<Carried>>,
}

impl Crediting {
    /// Takes other orders. Where there were none, counting begins: the table must have been looked at just now, or be empty. Where
    /// there are none any more, what was counted of the day and of budgets is kept until there are.
    pub fn select(&mut self, world: &mut World, orders: Option<&Orders>) {
        let Some(orders) = orders else {
            self.beats.iter_mut().for_each(|beat| beat.set(None));
            if self.is_on {
                let carried = self.carried(world).map(Carried::without_boot);
                world.credits.budgets.select(&[], &mut world.alerts);
                world.credits.end(world.table.iter_mut_from(0));
                *self = Self { before: Before { alive: Vec::new(), carried }, ..Self::default() };
            }
            return;
        };
        for (beat, columns) in self.beats.iter_mut().zip(&orders.columns) {
            beat.set(columns.as_ref().map(|_| orders.cadence));
        }
        self.columns.clone_from(&orders.columns);
        world.credits.set_most(orders.most);
        if orders.groups != world.credits.groups.is_some() {
            world.credits.groups = orders.groups.then(Groups::default);
        }
        world.credits.budgets.select(&orders.budgets, &mut world.alerts);
        world.credits.lives.set(self.columns(Stream::CreditsProcess).map(|_| orders.partial_every), orders.cadence.interval);
        if !std::mem::replace(&mut self.is_on, true) {
            self.closure.find(&world.proc);
            if !world.table.is_empty() {
                self.look(world);
                self.begin(world);
            }
        }
    }

    /// What a recorder before this one said, of those that are `alive` since, in this boot; what it said of the day and of budgets
    /// holds in any.
    pub fn remember(&mut self, alive: &[Alive], carried: Option<Box<Carried>>) {
        let alive = if self.is_on { alive.to_vec() } else { Vec::new() };
        // Whoever counts nothing now does not know later what was used meanwhile.
        let carried = if self.is_on { carried } else { carried.map(Carried::without_boot) };
        self.before = Before { alive, carried };
    }

    /// Begins to count: everyone was looked at just now, and the machine's clocks with them. What was used so far is nobody's, but for
    /// what is [remembered](Self::remember).
    pub fn begin(&mut self, world: &mut World) {
        if !self.is_on {
            return;
        }
        let Before { alive, carried } = std::mem::take(&mut self.before);
        let counted = |alive: &Alive| Some((alive.id.pid, (alive.id.start, alive.counted?)));
        let counted: FxHashMap<u32, (u64, Counted)> = alive.iter().filter_map(counted).collect();
        let of_boot = carried.as_ref().and_then(|carried| carried.boot.as_ref());
        let said_ns = of_boot.map(|boot| boot.now_ns);
        world.credits.begin(world.table.iter_mut_from(0), world.machine.hz, &counted, said_ns);
        // The first interval begins where the last one of that recorder ended: all of it lies behind.
        self.since_ns = of_boot.map_or(world.this_round_ns, |boot| boot.tick_ns);
        self.ticked_ns = self.since_ns;
        self.unrecorded_ns = world.this_round_ns.saturating_sub(self.since_ns);
        self.closure.begin(of_boot.map(|boot| boot.clocks.clone()));
        if let Some(carried) = carried {
            world.credits.budgets.restore(carried.balances);
            if let Ok(date) = carried.day.parse::<Date>() {
                let key = |spent: &Spent| {
                    let whose = spent.program.as_ref().map_or(Whose::Kernel, |name| Whose::Program(name.as_bytes().into()));
                    (whose, spent.uid)
                };
                let spent = carried.spent.iter().map(|spent| (key(spent), spent.cpu_ns));
                world.credits.restore_day(date, carried.unattributed_ns, spent);
            }
        }
    }

    /// Whether what was used while nobody recorded waits to be told.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.is_on && self.unrecorded_ns > 0
    }

    /// The first tick is the next from now on.
    pub fn begin_ticks(&mut self) {
        self.beats.iter_mut().for_each(Beat::begin);
    }

    /// Whether any of the streams is recorded.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// The ticks of one of the streams.
    pub fn beat(&mut self, stream: Stream) -> Option<&mut Beat> {
        self.beats.get_mut(place(stream)?)
    }

    /// The columns of one of the streams; `None` where it is not recorded.
    fn columns(&self, stream: Stream) -> Option<&Columns> {
        self.columns.get(place(stream)?)?.as_ref()
    }

    /// How often they tick.
    #[must_use]
    pub fn cadence(&self) -> Option<Cadence> {
        self.beats.iter().find_map(Beat::cadence)
    }

    /// The tick that is due now, the same of all streams that are recorded.
    pub fn take(&mut self, now_ns: i64) -> Option<Tick> {
        let ticks = self.beats.each_mut().map(|beat| beat.take(now_ns));
        let tick = ticks.iter().find_map(|tick| *tick)?;
        for (beat, tick) in self.beats.iter_mut().zip(ticks) {
            beat.skipped += tick.map_or(0, |tick| tick.skipped);
        }
        Some(tick)
    }

    /// How long until the next tick.
    #[must_use]
    pub fn wait(&self, now_ns: i64) -> Option<Duration> {
        self.beats.iter().filter_map(|beat| beat.wait(now_ns)).min()
    }

    /// These may have used something.
    pub fn touch(&mut self, pids: &[u32]) {
        if self.is_on {
            self.touched.add(pids);
        }
    }

    /// Everyone has just been looked at for a tick: the machine's clocks are read at the same moment.
    pub fn look(&mut self, world: &World) {
        if self.is_on {
            self.closure.look(&world.proc, world.machine.hz);
            self.looked_ns = world.this_round_ns;
        }
    }

    /// Whether that was done in the last round, and nothing was counted since.
    #[must_use]
    pub const fn has_looked(&self, world: &World) -> bool {
        self.closure.has_looked() && self.looked_ns == world.this_round_ns
    }

    /// Counts what was used since the tick before: it belongs to this day.
    pub fn count(&mut self, world: &mut World, due: Moment, date: Date, when: When) {
        if !world.credits.is_on() {
            // The first look at everyone had failed.
            self.begin(world);
        }
        let World { table, credits, machine, names, alerts, this_round_ns, .. } = world;
        for pid in self.touched.take() {
            if let Some(process) = table.get_mut(pid) {
                credits.count(process);
            }
        }
        let sum_ns = credits.tick(date, names);
        let beyond_ns = self.closure.tick(sum_ns, credits.root_ns());
        credits.days.unattributed_ns = credits.days.unattributed_ns.saturating_add(beyond_ns.unwrap_or(0));
        let lives = |process: &Process| !process.life.ended && !process.life.was_zombie;
        if let Some(groups) = &mut credits.groups {
            groups.census(table.iter().filter(|process| lives(process)));
        }
        let living = table.iter_mut_from(0).filter(|process| lives(process));
        credits.lives.parts(living, machine.hz, clock::boottime_ns(), when == When::Stop, |process| key_of(process, true));
        let interval_ns = this_round_ns.saturating_sub(self.ticked_ns);
        self.ticked_ns = *this_round_ns;
        let columns = self.columns(Stream::Budgets).cloned().unwrap_or_else(|| Columns::standard(Stream::Budgets));
        if when == When::Begin {
            // While nobody records nothing is earned, and nothing is spent.
            credits.budgets.forget_interval();
            return;
        }
        let before = std::mem::replace(&mut self.balances, credits.budgets.tick(interval_ns, due, &columns, alerts));
        // What nobody took is of this interval too.
        for name in ["earned", "spent"] {
            let Some(at) = columns.position(name).and_then(|at| at.checked_sub(1)) else { continue };
            for row in &mut self.balances {
                let more = before.iter().find(|before| before.id == row.id).and_then(|before| before.values.get(at)?.number());
                if let (Some(more), Some(Value::Fixed(sum))) = (more, row.values.get_mut(at)) {
                    *sum = sum.saturating_add(more);
                }
            }
        }
    }

    /// What one of the streams has to say; `None` where it is not recorded.
    pub fn ready(&mut self, world: &mut World, stream: Stream, cpus: u64, day_minutes: u64) -> Option<Ready> {
        let columns = self.columns(stream)?.clone();
        let World { credits, names, .. } = world;
        let names: &Names = names;
        Some(match stream {
            Stream::Credits => {
                let interval = self.closure.interval();
                let span = Span {
                    ns: self.ticked_ns.saturating_sub(self.since_ns),
                    cpus,
                    day_minutes,
                    day_ns: credits.days.sum_ns,
                    day_unattributed_ns: credits.days.unattributed_ns,
                    closure: interval,
                };
                let rows = match &credits.groups {
                    Some(groups) => sampler::of_groups(groups, &columns, &span),
                    None => sampler::rows(credits.list(), names, &columns, &span),
                };
                let mut totals = interval.fields();
                // What cpu_pct is a share of; a day that was not recorded whole shows by it.
                totals.push(("span_s", closure::seconds(span.ns)));
                if self.unrecorded_ns > 0 {
                    totals.push(("unrecorded_s", closure::seconds(self.unrecorded_ns)));
                }
                Ready { rows, columns, totals }
            }
            Stream::CreditsProcess => {
                Ready { rows: sampler::lives(&credits.lives.waiting(), names, &columns), columns, totals: Vec::new() }
            }
            _ => {
                let rows = self.balances.clone();
                let counts = Counts { seen: rows.len() as u64, ..Counts::default() };
                Ready { rows: Rows { rows, left: Vec::new(), counts }, columns, totals: Vec::new() }
            }
        })
    }

    /// The sample of this stream was taken.
    pub fn taken(&mut self, world: &mut World, stream: Stream) {
        match stream {
            Stream::Credits => {
                world.credits.begin_interval();
                self.closure.taken();
                (self.since_ns, self.unrecorded_ns) = (self.ticked_ns, 0);
            }
            Stream::CreditsProcess => world.credits.lives.taken(),
            _ => self.balances.clear(),
        }
    }

    /// What a recorder after this one must know.
    #[must_use]
    pub fn carried(&self, world: &World) -> Option<Box<Carried>> {
        if !world.credits.is_on() {
            return self.before.carried.clone();
        }
        let credits = &world.credits;
        let program = |(whose, _): &Key| match whose {
            Whose::Kernel => None,
            Whose::Program(name) => Some(String::from_utf8_lossy(name).into_owned()),
        };
        let spent = credits.list().iter().filter(|account| account.day_ns > 0).map(|account| Spent {
            program: program(&account.key),
            uid: account.key.1,
            cpu_ns: account.day_ns,
        });
        Some(Box::new(Carried {
            boot: Some(OfBoot {
                now_ns: clock::boottime_ns(),
                tick_ns: self.ticked_ns,
                clocks: self.closure.before().cloned().unwrap_or_default(),
            }),
            day: credits.days.today().map(|date| date.to_string()).unwrap_or_default(),
            unattributed_ns: credits.days.unattributed_ns,
            spent: spent.collect(),
            balances: credits.budgets.balances().map(|(name, credits)| (name.to_owned(), credits)).collect(),
        }))
    }
}
