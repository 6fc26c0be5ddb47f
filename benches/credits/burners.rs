//! Short lives of three programs: what each used, beside what psmond told, what `ps` each second sees, and whether the
//! programs of the machine add up to its clock.

use std::process::Stdio;

use anyhow::Result;

use crate::accounts::Accountant;
use crate::clock::{Clock, Readings};
use crate::family::{name, program};
use crate::journal::Logs;
use crate::meter::Meter;
use crate::polls::{Poller, Polls};
use crate::psmond::Way;
use crate::table::{NONE, Table, Target};
use crate::told::{Budget, Credits, Lives, degraded, per_cent};
use crate::worker::{Kind, Worker};
use crate::{BAND, Bench, CREDITS, say};

/// `ps` as shipped beside it.
const PS: &str = "[ps]\nenabled = true\n";

/// The first of the programs, which has a budget.
const FIRST: &str = "forkers";
/// Credits that the first program has at the beginning: more than it spends, less than it could keep.
const START: f64 = 5.0;

/// A program whose burners burn, and what they used, in seconds.
#[derive(Debug)]
struct Truth {
    program: String,
    /// How they come to be.
    how: &'static str,
    burners: u64,
    /// As wait4 told the worker, and the worker of itself.
    waited: f64,
    /// As their control group counted, where they can have one.
    counted: Option<f64>,
}

/// Burners with psmond over them.
#[derive(Debug)]
struct Watched {
    truths: Vec<Truth>,
    polls: Result<Polls>,
    clock: Readings,
    credits: Credits,
    logs: Logs,
}

impl Bench {
    /// Each worker is itself a process of its program.
    fn burn(&self) -> Result<Vec<Truth>> {
        let each = self.burners() / 3;
        let plans = [
            (FIRST, "forked", Kind::Burn(each)),
            ("runners", "executed", Kind::Run(each)),
            ("users", "forked", Kind::Burn(self.burners() - 2 * each)),
        ];
        let mut running = Vec::new();
        for (number, (tag, how, kind)) in plans.into_iter().enumerate() {
            let program = program(self.work.path(), tag)?;
            let group = Meter::named(tag)?;
            let before = group.at_rest()?;
            let worker = Worker::start_as(&program, &kind, number, self.work.path(), group.group(), Stdio::null())?;
            // The worker first: its group can go only when it has.
            running.push((name(&program), how, kind, worker, group, before));
        }
        let mut truths = Vec::new();
        for (program, how, kind, worker, group, before) in running {
            let report = worker.finish(kind.limit())?;
            let children: u64 = report.each.iter().map(|(_, ns)| ns).sum();
            let counted = group.group().is_some().then(|| group.at_rest()).transpose()?;
            truths.push(Truth {
                program,
                how,
                burners: report.children,
                waited: children as f64 / 1e9 + report.own.as_secs_f64(),
                counted: counted.map(|after| after.saturating_sub(before).as_secs_f64()),
            });
        }
        Ok(truths)
    }

    fn watched(&self, way: Way<'_>) -> Result<Watched> {
        let clock = Clock::start()?;
        let first = name(&program(self.work.path(), FIRST)?);
        let budget = format!("[[budget]]\nname = \"{FIRST}\"\nprogram = \"{first}\"\nearn = 60\ncap = {}\nstart = {START}\n", START * 2.0);
        let mut psmond = self.psmond(&format!("{PS}{CREDITS}{budget}"), way)?;
        let poller = Poller::start();
        let truths = self.burn()?;
        psmond.settle()?;
        let polls = poller.and_then(Poller::stop);
        let logs = psmond.stop()?;
        Ok(Watched { truths, polls, clock: clock.stop()?, credits: Credits::read(&logs)?, logs })
    }

    pub(crate) fn short_lives(&self, table: &mut Table) -> Result<()> {
        say("burners: three programs");
        let watched = self.watched(Way::Plain)?;
        let Watched { truths, credits, .. } = &watched;
        for truth in truths {
            let told = credits.of(&truth.program);
            let short = truth.program.split('-').next().unwrap_or_default();
            let note = format!("{told:.3} of {:.3} s, {} {}", truth.waited, truth.burners, truth.how);
            table.add(format!("burners: {short}, % of what wait4 told"), per_cent(told, truth.waited)).target(BAND).note(note);
            let what = format!("burners: {short}, % of what its control group counted");
            match truth.counted {
                Some(counted) => table.add(what, per_cent(told, counted)).target(BAND).note(format!("of {counted:.3} s")),
                None => table.add(what, None).note("no control group could be made"),
            };
        }
        polled(table, truths, &watched.polls);
        self.closure.set(credits.closure());
        closure(table, credits, &watched.clock);
        budget(table, &Budget::read(&watched.logs, FIRST)?, truths.first().map(|truth| credits.of(&truth.program)));
        let lives = Lives::read(&watched.logs)?;
        table.add("burners: rows of credits_process", lives.rows as f64).note(format!("of {} burners and what else ended", self.burners()));
        table.add("burners: rows of credits_process that stood there before", lives.twice.len() as f64).target(NONE).note(lives.examples());
        say("burners: a plain listener of taskstats");
        match self.told_by_taskstats() {
            Ok(percent) => {
                table.add("burners:   told to a plain listener of taskstats, %", percent).note("what can be known, in a storm of its own")
            }
            Err(error) => table.add("burners:   told to a plain listener of taskstats, %", None).note(format!("{error:#}")),
        };
        Ok(())
    }

    /// Of the burners of half a storm, without their workers.
    fn told_by_taskstats(&self) -> Result<Option<f64>> {
        let count = self.burners() / 4;
        let accountant = Accountant::start()?;
        let start = |number| Worker::start(&Kind::Burn(count), number, self.work.path(), None, Stdio::null());
        let workers = [start(0)?, start(1)?];
        let mut each = Vec::new();
        for worker in workers {
            each.extend(worker.finish(Kind::Burn(count).limit())?.each);
        }
        let accounts = accountant.stop()?;
        let told: u64 = each.iter().filter_map(|(pid, _)| accounts.get(pid)).sum();
        Ok(per_cent(told as f64, each.iter().map(|(_, ns)| ns).sum::<u64>() as f64))
    }

    pub(crate) fn blind(&self, table: &mut Table) -> Result<()> {
        say("blind: without CAP_NET_ADMIN");
        let watched = self.watched(Way::Without("net_admin"))?;
        let per_program = watched.truths.iter().map(|truth| {
            let told = per_cent(watched.credits.of(&truth.program), truth.waited).unwrap_or_default();
            format!("{} {told:.1}", truth.program.split('-').next().unwrap_or_default())
        });
        let note = format!("programs, % of their truth: {}", per_program.collect::<Vec<_>>().join(", "));
        let row = table.add("blind: closure, % of the clock psmond closes by", watched.credits.closure()).note(note);
        if let Some(seeing) = self.closure.get() {
            row.target(Target::AtMost(seeing));
        }
        let notes = degraded(&watched.logs)?;
        let named = notes.iter().filter(|note| note.contains("taskstats") || note.contains("events")).count();
        table
            .add("blind: notes that say that taskstats or events are degraded", named as f64)
            .target(Target::AtLeast(1.0))
            .note(notes.into_iter().collect::<Vec<_>>().join("; "));
        Ok(())
    }
}

fn polled(table: &mut Table, truths: &[Truth], polls: &Result<Polls>) {
    let what = "burners:   ps each second, last TIME of each pid, % of the truth";
    match polls {
        Ok(polls) => {
            let seen: f64 = truths.iter().map(|truth| polls.of(&truth.program)).sum();
            let processes: usize = truths.iter().map(|truth| polls.processes(&truth.program)).sum();
            let lives: u64 = truths.iter().map(|truth| truth.burners).sum();
            table
                .add(what, per_cent(seen, truths.iter().map(|truth| truth.waited).sum()))
                .note(format!("{} polls saw {processes} of {lives} burners and their 3 workers; TIME has full seconds", polls.count));
        }
        Err(error) => {
            table.add(what, None).note(format!("{error:#}"));
        }
    }
}

/// What a budget spends is what the account of its program says, and nothing of it is lost on the way to the balance.
fn budget(table: &mut Table, budget: &Budget, told: Option<f64>) {
    /// Each row is rounded to a millionth.
    const ROUNDED: f64 = 200.0;
    let spent = budget.spent * 60.0;
    table
        .add(
            "burners: spent of a budget, % of what credits told of its program",
            told.and_then(|told| per_cent(spent, told)),
        )
        .target(Target::Within(99.9, 100.1))
        .note(format!("{:.6} credits, {spent:.3} s", budget.spent));
    table
        .add(
            "burners: its balance, millionths of a credit off",
            budget.balance.map(|balance| (balance - (START + budget.earned - budget.spent)) * 1e6),
        )
        .target(Target::Within(-ROUNDED, ROUNDED))
        .note(format!("{START} + {:.6} earned", budget.earned));
}

/// Of psmond's own clock, and of that which the benchmark read, from the first sample on.
fn closure(table: &mut Table, credits: &Credits, clock: &Readings) {
    let (close, coarse) = (Target::Within(98.0, 101.5), Target::Within(95.0, 106.0));
    let note = format!("closure_of={}, {} samples", credits.clock_name(), credits.ticks.len());
    table.add("burners: closure, % of the clock psmond closes by", credits.closure()).target(close).note(note);
    let ends = credits.ticks.first().zip(credits.ticks.last()).map(|(first, last)| (first.time, last.time));
    let sum: f64 = credits.ticks.iter().skip(1).map(|tick| tick.sum).sum();
    let groups = ends.and_then(|(from, to)| clock.groups(from, to));
    let row = table.add("burners: closure, % of the control groups' root", groups.and_then(|clock| per_cent(sum, clock)));
    match groups {
        Some(clock) => row.target(close).note(format!("{sum:.3} of {clock:.3} s that the benchmark read")),
        None => row.note("no root of control groups is readable here"),
    };
    table.add("burners: closure, % of /proc/stat by psmond", credits.closure_of_stat()).target(coarse);
    let stat = ends.and_then(|(from, to)| clock.stat(from, to));
    table
        .add("burners: closure, % of /proc/stat", stat.and_then(|clock| per_cent(sum, clock)))
        .target(coarse)
        .note(format!("of {:.2} s that the benchmark read", stat.unwrap_or_default()));
    table.add("burners: rows, % of the sums in their ticks", credits.rows_of_sums()).target(Target::Within(99.5, 100.5));
}
