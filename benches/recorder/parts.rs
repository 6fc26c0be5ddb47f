//! The parts of the benchmark, each over a herd of its own making, and the targets each is held to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::herd::{Herd, Kind};
use crate::journal::{Tick, lost, median};
use crate::psmond::{Psmond, Setup, Stream};
use crate::rivals::{self, Reading};
use crate::table::{Table, Target};
use crate::{Bench, pause, say};

/// A full sample comes each 10 minutes, the default.
const FULL_EVERY: (&str, f64) = ("10m", 600.0);

/// A tick later than a tenth of the interval is late.
const LATE_MS: u64 = 100;

/// One run of psmond over a herd, at 1 s.
#[derive(Debug)]
struct Run {
    reading: Reading,
    /// Those in the window.
    ticks: Vec<Tick>,
    /// The full sample the journal began with.
    first: Tick,
    memory: (f64, f64),
    /// System calls per process and tick, and which.
    calls: Result<(f64, String)>,
}

impl Run {
    fn bytes(&self) -> f64 {
        let rows = self.ticks.iter().map(|tick| tick.bytes).sum::<u64>() as f64 / self.reading.seen as f64;
        rows + self.full_bytes()
    }

    /// The window holds no full sample; its share is added, or the number would be too good.
    fn full_bytes(&self) -> f64 {
        self.first.bytes as f64 / self.first.seen as f64 / FULL_EVERY.1
    }
}

impl Bench {
    pub(crate) fn setup(&self) -> Setup<'_> {
        Setup { exe: &self.exe, interval_s: 1, full_every: FULL_EVERY.0, all_streams: self.all_streams, stream: Stream::Ps }
    }

    fn run(&self, herds: &mut [&mut Herd], length: Duration, trace: bool) -> Result<Run> {
        let members: usize = herds.iter().map(|herd| herd.len()).sum();
        for herd in herds.iter() {
            herd.settle();
        }
        say(&format!("psmond over {members} processes, {} s", length.as_secs()));
        let mut psmond = Psmond::start(self.setup(), &self.meter)?;
        pause(self.warm_up)?;
        let window = psmond.window(length)?;
        let memory = psmond.memory()?;
        let calls = if trace { psmond.system_calls(Duration::from_secs(5)) } else { Err(anyhow::anyhow!("not asked for")) };
        let all = psmond.stop()?;
        for herd in herds {
            herd.check_intact()?;
        }
        let ticks = window.ticks(&all);
        let first = all.first().context("no sample")?.clone();
        ensure!(!ticks.is_empty(), "no sample in the window");
        ensure!(
            first.n as usize >= members,
            "psmond wrote {} rows at first of a herd of {members}: is the herd hidden from it?",
            first.n
        );
        let calls = calls.and_then(|calls| {
            let seen: u64 = calls.window.ticks(&all).iter().map(|tick| tick.seen).sum();
            ensure!(seen > 0, "no tick while traced");
            let each = |count: u64| count as f64 / seen as f64;
            let named: Vec<String> = calls.by_name.iter().take(4).map(|(name, count)| format!("{name} {:.2}", each(*count))).collect();
            Ok((each(calls.total()), named.join(", ")))
        });
        let reading = Reading { cpu: window.cpu, samples: ticks.len() as u64, seen: ticks.iter().map(|tick| tick.seen).sum() };
        Ok(Run { reading, ticks, first, memory, calls })
    }

    /// psmond, top and ps in turn over the same herd: the rows they share.
    fn against_rivals(&self, table: &mut Table, name: &str, herd: &mut Herd, limits: (Target, Target)) -> Result<Run> {
        let (mut own, mut top, mut ps) = (Vec::new(), Vec::new(), Vec::new());
        let (run, rivals) = loop {
            let last = own.len() + 1 == usize::from(self.rounds);
            let run = self.run(&mut [&mut *herd], self.length, last)?;
            own.push(run.reading.us());
            say(&format!("top -b -d 1, {} s; then ps each second", self.length.as_secs()));
            let by_top = rivals::top(&self.meter, self.work.path(), self.warm_up, self.length);
            let by_ps = rivals::ps(&self.meter, self.work.path(), self.length.as_secs().clamp(1, 10));
            crate::stopped()?;
            herd.check_intact()?;
            top.extend(by_top.as_ref().map(Reading::us));
            ps.extend(by_ps.as_ref().map(Reading::us));
            if last {
                break (run, (by_top, by_ps));
            }
        };
        let middle = |values: Vec<f64>| (!values.is_empty()).then(|| median(values.into_iter()));
        let (own, top, ps) = (median(own.into_iter()), middle(top), middle(ps));
        let samples = |reading: &Result<Reading>| match reading {
            Ok(reading) => format!("{} samples of {}", reading.samples, reading.seen / reading.samples.max(1)),
            Err(error) => format!("{error:#}"),
        };
        let note = format!("{} samples of {}", run.reading.samples, run.reading.seen / run.reading.samples);
        table.add(format!("{name}: CPU, us per process and sample"), own).target(limits.0).beside(top, ps).note(note);
        let share = top.map(|top| own / top);
        table.add(format!("{name}: share of top's CPU in this run"), share).target(limits.1);
        table.add(format!("{name}:   top -b -d 1, us"), top).beside(None, ps).note(samples(&rivals.0));
        table.add(format!("{name}:   ps -eo ... each second, us"), ps).beside(top, None).note(samples(&rivals.1));
        match &run.calls {
            Ok((calls, note)) => table.add(format!("{name}: system calls per process and tick"), *calls).note(note),
            Err(error) => table.add(format!("{name}: system calls per process and tick"), None).note(format!("strace: {error:#}")),
        };
        let read_ms = median(run.ticks.iter().map(|tick| tick.read_us as f64 / 1e3));
        table.add(format!("{name}: reading one sample, ms (median)"), read_ms).note("as its #tick says");
        completeness(table, name, &run);
        Ok(run)
    }

    pub(crate) fn memory(&self, table: &mut Table) -> Result<()> {
        let mut herd = Herd::new(Kind::Idle)?;
        herd.resize((self.herd / 10).max(1))?;
        let run = self.run(&mut [&mut herd], self.length / 2, false)?;
        remembered(table, &format!("{} idle", herd.len()), &run, 12.0);
        Ok(())
    }

    pub(crate) fn idle(&self, table: &mut Table) -> Result<()> {
        let mut herd = Herd::new(Kind::Idle)?;
        say(&format!("starting {} idle processes", self.herd));
        herd.resize(self.herd)?;
        let run = self.against_rivals(table, "idle", &mut herd, (Target::AtMost(1.5), Target::AtMost(1.0 / 12.0)))?;
        table.add("idle: bytes per process and sample", run.bytes()).target(Target::AtMost(1.5)).note(format!(
            "{:.2} of it the full sample each {}",
            run.full_bytes(),
            FULL_EVERY.0
        ));
        remembered(table, &format!("{} idle", herd.len()), &run, 40.0);
        self.full_samples(table, &run)
    }

    /// What the window of `idle` leaves out: nothing but full samples, one after another.
    fn full_samples(&self, table: &mut Table, idle: &Run) -> Result<()> {
        say("full samples only");
        let mut psmond = Psmond::start(Setup { full_every: "1s", ..self.setup() }, &self.meter)?;
        pause(self.warm_up)?;
        let window = psmond.window(self.length / 2)?;
        let ticks = window.ticks(&psmond.stop()?);
        let (full, seen) = (ticks.iter().filter(|tick| tick.full).count(), ticks.iter().map(|tick| tick.seen).sum());
        let us = Reading { cpu: window.cpu, samples: ticks.len() as u64, seen }.us();
        let note = if full == 0 {
            "no full sample came".to_owned()
        } else {
            let adds = (us - idle.reading.us()) / FULL_EVERY.1;
            format!("{full} of {} samples full; each {} it adds {adds:.3} us to every sample", ticks.len(), FULL_EVERY.0)
        };
        table.add("idle: a full sample, us per process", (full > 0).then_some(us)).note(note);
        Ok(())
    }

    pub(crate) fn wakeups(&self, table: &mut Table) -> Result<()> {
        let mut herd = Herd::new(Kind::Idle)?;
        herd.resize((self.herd / 10).max(1))?;
        say("psmond at 30 s, between two ticks");
        let mut psmond = Psmond::start(Setup { interval_s: 30, ..self.setup() }, &self.meter)?;
        pause(self.warm_up)?;
        let quiet = psmond.quiet(Duration::from_secs(10))?;
        psmond.stop()?;
        let threads: Vec<String> = quiet.wakeups.iter().map(|(name, count)| format!("{name} {count}")).collect();
        table
            .add("wakeups: of all threads between two ticks", quiet.wakeups.values().sum::<u64>() as f64)
            .target(Target::AtMost(0.0))
            .note(format!("in {:.0} s, {:.0} us of CPU {}", quiet.seconds, quiet.cpu.as_secs_f64() * 1e6, threads.join(", ")));
        Ok(())
    }

    pub(crate) fn bytes(&self, table: &mut Table) -> Result<()> {
        let running = (self.herd / 20).max(1);
        say(&format!("starting {running} running processes among {}", self.herd));
        let mut burning = Herd::new(Kind::Burning { us: 2000, period_ms: 1000 })?;
        burning.resize(running)?;
        let mut idle = Herd::new(Kind::Idle)?;
        idle.resize(self.herd - running)?;
        let run = self.run(&mut [&mut burning, &mut idle], self.length, false)?;
        let rows = median(run.ticks.iter().map(|tick| tick.n as f64));
        table.add("5 % running: bytes per process and sample", run.bytes()).target(Target::AtMost(10.0)).note(format!(
            "{rows:.0} rows a tick, {running} run; {:.2} of it the full sample each {}",
            run.full_bytes(),
            FULL_EVERY.0
        ));
        table.add("5 % running: CPU, us per process and sample", run.reading.us());
        completeness(table, "5 % running", &run);
        Ok(())
    }

    pub(crate) fn ticking(&self, table: &mut Table) -> Result<()> {
        say(&format!("starting {} ticking processes", self.herd));
        // A little more often than psmond looks, so that none is found that did not run.
        let mut herd = Herd::new(Kind::Ticking { ms: 900 })?;
        herd.resize(self.herd)?;
        self.against_rivals(table, "ticking", &mut herd, (Target::AtMost(10.0), Target::LessThan(1.0)))?;
        Ok(())
    }
}

fn remembered(table: &mut Table, name: &str, run: &Run, limit_mb: f64) {
    let (now, peak) = run.memory;
    table.add(format!("{name}: resident memory, MB"), now).target(Target::AtMost(limit_mb));
    table.add(format!("{name}:   peak, MB"), peak);
}

fn completeness(table: &mut Table, name: &str, run: &Run) {
    complete(table, name, &run.ticks);
}

/// No sample is missing, and few are late.
pub(crate) fn complete(table: &mut Table, name: &str, ticks: &[Tick]) {
    table.add(format!("{name}: samples lost"), lost(ticks, 1.0) as f64).target(Target::AtMost(0.0));
    let late = ticks.iter().filter(|tick| tick.late_ms >= LATE_MS).count();
    let worst = ticks.iter().map(|tick| tick.late_ms).max().unwrap_or(0);
    table.add(format!("{name}: ticks late by {LATE_MS} ms or more"), late as f64).note(format!("the latest by {worst} ms"));
}
