//! What `credits` costs beside `ps`, `events` and `exits`: without and with it, side by side.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::herd::{Herd, Kind as Member};
use crate::journal::{Line, Logs};
use crate::meter::Meter;
use crate::psmond::{Psmond, Setup, Way};
use crate::table::{Table, Target};
use crate::worker::{Kind, Worker};
use crate::{Bench, CREDITS, median, pause, say};

/// What goes on beside it, `events` and `exits` at their defaults.
const BESIDE: &str = "[ps]\nenabled = true\ninterval = \"1s\"\n";

/// So long after a full second psmond has written its sample, and so has not begun the next.
const BETWEEN: Duration = Duration::from_millis(700);

/// One in so many of the herd runs each second, as on a machine that has something to do.
const RUNNING: usize = 20;

/// Microseconds without and with `credits`, measured in pairs.
#[derive(Debug, Default)]
struct Pairs {
    without: Vec<f64>,
    with: Vec<f64>,
    differences: Vec<f64>,
}

impl Pairs {
    fn add(&mut self, without: Duration, with: Duration) {
        let [without, with] = [without, with].map(|cpu| cpu.as_secs_f64() * 1e6);
        self.without.push(without);
        self.with.push(with);
        self.differences.push(with - without);
    }

    fn rows(self, table: &mut Table, what: &str, note: &str) {
        let each: Vec<String> = self.differences.iter().map(|us| format!("{us:.2}")).collect();
        table.add(format!("cost: us of CPU per {what} without credits"), median(self.without)).note(note);
        table.add(format!("cost: us of CPU per {what} with credits"), median(self.with));
        table
            .add(format!("cost: us of CPU per {what}, the difference"), median(self.differences))
            .target(Target::AtMost(1.0))
            .note(format!("of the pairs: {}", each.join(", ")));
    }
}

impl Bench {
    pub(crate) fn cost(&self, table: &mut Table) -> Result<()> {
        say(&format!("cost: a herd of {}", self.herd));
        let running = self.herd / RUNNING;
        let (mut idle, mut ticking) = (Herd::new(Member::Idle)?, Herd::new(Member::Ticking { ms: 900 })?);
        idle.resize(self.herd - running)?;
        ticking.resize(running)?;
        idle.settle();
        ticking.settle();
        let meters = [Meter::named("without")?, Meter::named("with")?];
        let mut samples = Pairs::default();
        for round in 1..=self.rounds {
            say(&format!("cost: per process and sample, round {round} of {}", self.rounds));
            self.per_process_and_sample(&mut samples, Both::start(&self.exe, &meters, round % 2 == 0)?)?;
        }
        idle.check_intact()?;
        ticking.check_intact()?;
        drop((idle, ticking));
        samples.rows(
            table,
            "process and sample",
            &format!("{} idle, {running} that ran since the last sample", self.herd - running),
        );

        let mut lives = Pairs::default();
        for round in 1..=self.rounds {
            say(&format!("cost: per life, round {round} of {}", self.rounds));
            self.per_life(&mut lives, Both::start(&self.exe, &meters, round % 2 == 0)?)?;
        }
        lives.rows(table, "life", "two workers fork children that end, as fast as the machine can");
        Ok(())
    }

    /// Over the same herd in the same seconds. The middle one of the seconds counts, of each and of their difference.
    fn per_process_and_sample(&self, pairs: &mut Pairs, both: Both<'_>) -> Result<()> {
        let Both([mut without, mut with]) = both;
        // Their first samples, and what of them they look at again.
        pause(Duration::from_secs(2))?;
        after_the_second(BETWEEN)?;
        let from = Timestamp::now();
        let (mut before, mut seconds) = ([without.used()?, with.used()?], Pairs::default());
        for _ in 0..self.seconds {
            after_the_second(BETWEEN)?;
            let now = [without.used()?, with.used()?];
            seconds.add(now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1]));
            before = now;
        }
        without.check_alive()?;
        with.check_alive()?;
        let logs = without.stop()?;
        with.stop()?;
        let seen = median(seen(&logs, from)?).context("no sample of stream ps")?;
        let middle = |values: Vec<f64>| Ok::<_, anyhow::Error>(median(values).context("no second")? / seen);
        pairs.without.push(middle(seconds.without)?);
        pairs.with.push(middle(seconds.with)?);
        pairs.differences.push(middle(seconds.differences)?);
        Ok(())
    }

    /// Over the same storm.
    fn per_life(&self, pairs: &mut Pairs, both: Both<'_>) -> Result<()> {
        let Both([mut without, mut with]) = both;
        let before = [without.used()?, with.used()?];
        let kind = Kind::Fork(Duration::from_secs(self.seconds) / 2);
        let start = |number| Worker::start(&kind, number, self.work.path(), None, Stdio::null());
        let workers = [start(0)?, start(1)?];
        let mut children = 0;
        for worker in workers {
            children += worker.finish(kind.limit())?.children;
        }
        ensure!(children > 0, "no children");
        without.settle()?;
        with.settle()?;
        let after = [without.used()?, with.used()?];
        without.stop()?;
        with.stop()?;
        let each = |at: usize| after[at].saturating_sub(before[at]) / u32::try_from(children).unwrap_or(u32::MAX);
        pairs.add(each(0), each(1));
        Ok(())
    }
}

/// One without credits and one with them, which run at once, each on a meter of its own: what others on this machine start and end
/// costs both of them.
#[derive(Debug)]
struct Both<'a>([Psmond<'a>; 2]);

impl<'a> Both<'a> {
    fn start(exe: &Path, meters: &'a [Meter; 2], with_first: bool) -> Result<Self> {
        let streams = [BESIDE.to_owned(), format!("{BESIDE}{CREDITS}")];
        let start = |at: usize| {
            let setup = Setup { exe, streams: &streams[at], way: Way::Plain, environment: None };
            Psmond::start(setup, &meters[at])
        };
        if with_first {
            let with = start(1)?;
            return Ok(Both([start(0)?, with]));
        }
        Ok(Both([start(0)?, start(1)?]))
    }
}

impl Psmond<'_> {
    /// What its meter stands at.
    fn used(&self) -> Result<Duration> {
        self.meter.of(&self.child)
    }
}

/// How many processes each sample of `ps` saw from then on.
fn seen(logs: &Logs, from: Timestamp) -> Result<Vec<f64>> {
    let (mut seen, mut broken) = (Vec::new(), 0);
    logs.lines("ps", |line| {
        let Line::Tick(fields) = line else { return };
        let mut words = fields.split_whitespace();
        let time = words.next().and_then(|word| word.parse::<Timestamp>().ok());
        let count = words.find_map(|word| word.strip_prefix("seen=")).and_then(|count| count.parse().ok());
        match time.zip(count) {
            Some((time, count)) if from < time => seen.push(count),
            Some(_) => {}
            None => broken += 1,
        }
    })?;
    ensure!(broken == 0, "{broken} #ticks of stream ps without time or seen=");
    Ok(seen)
}

/// Waits until it is next so long after a full second.
fn after_the_second(offset: Duration) -> Result<()> {
    const SECOND: i128 = 1_000_000_000;
    let (now, offset) = (Timestamp::now().as_nanosecond(), offset.as_nanos().cast_signed());
    let due = ((now - offset).div_euclid(SECOND) + 1) * SECOND + offset;
    pause(Duration::from_nanos(u64::try_from(due - now)?))
}
