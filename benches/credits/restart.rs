//! psmond stops and starts while they burn: nothing is told twice, and what can be known is told.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::family::{Family, Spent, name, pids, program, seconds};
use crate::journal::Logs;
use crate::lives::Life;
use crate::psmond::{Psmond, SETTLED, Setup, Way};
use crate::table::{NONE, Table, Target};
use crate::told::{Credits, Lives, per_cent};
use crate::{BAND, Bench, CREDITS, INTERVAL, pause, say};

/// How long psmond is away.
const AWAY: Duration = Duration::from_millis(500);
/// How long those that burn may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
const RUNS: u32 = 3;

impl Bench {
    pub(crate) fn restart(&self, table: &mut Table) -> Result<()> {
        let setup = Setup { exe: &self.exe, streams: CREDITS, way: Way::Plain, environment: None };
        let each = Duration::from_secs(self.seconds) / RUNS;
        let (mut psmond, mut gaps) = (Some(Psmond::start(setup, &self.meter)?), Vec::new());
        let programs = [program(self.work.path(), "long")?, program(self.work.path(), "short")?];
        let mut families = [Family::start(&programs[0], &Life::Long)?, Family::start(&programs[1], &Life::Short)?];
        for run in 1..=RUNS {
            say(&format!("restart: run {run} of {RUNS}"));
            pause(each)?;
            if run < RUNS {
                let from = Timestamp::now();
                let logs = psmond.take().map(Psmond::stop).transpose()?;
                pause(AWAY)?;
                psmond = logs.map(|logs| Psmond::start_in(logs.0, setup, &self.meter)).transpose()?;
                gaps.push((from, Timestamp::now() - SETTLED));
            }
        }
        families.iter_mut().for_each(Family::open_gate);
        let [long, short] = families.map(|family| family.finish(PATIENCE));
        let (long, short) = (long?, short?);
        let Some(mut psmond) = psmond else { return Ok(()) };
        psmond.settle()?;
        let logs: Logs = psmond.stop()?;
        let (credits, lives) = (Credits::read(&logs)?, Lives::read(&logs)?);

        // Of the living what they burnt in one interval may be missing at each restart, or be told late.
        let (told, truth) = (credits.of(&name(&programs[0])), seconds(&long));
        let slack = per_cent(INTERVAL.as_secs_f64(), truth).unwrap_or_default();
        table
            .add("restart: one that lives on, % of the truth", per_cent(told, truth))
            .target(Target::Within(98.5 - slack, 100.5 + slack))
            .note(format!("{told:.3} of {truth:.3} s; the target is the band and what it burns in one interval"));
        let told = lives.of(&pids(&long));
        table
            .add("restart: its rows of credits_process, % of the truth", per_cent(told, truth))
            .target(BAND)
            .note(format!("{told:.3} of {truth:.3} s"));

        // Who ended while psmond was away is known to nobody; who lived then may be.
        let away = |one: &&Spent| one.lived.is_some_and(|(from, to)| gaps.iter().any(|gap| from < gap.1 && gap.0 < to));
        let (told, all, unknown) = (credits.of(&name(&programs[1])), seconds(&short), seconds(short.iter().filter(away)));
        let known = all - unknown;
        let seen: Vec<Spent> = short.iter().filter(|one| one.lived.is_some() && !away(one)).cloned().collect();
        table
            .add("restart: short lives, % of those that psmond could see", per_cent(told, known))
            .target(Target::Within(98.5, per_cent(all, known).unwrap_or(100.0) * 1.005))
            .note(format!(
                "{told:.3} of {known:.3} s, {unknown:.3} s while psmond was away or came; of {} lives {} have no row in credits_process, the others {:.2} %",
                seen.len(),
                lives.without(&pids(&seen)),
                per_cent(lives.of(&pids(&seen)), seconds(seen.iter().filter(|one| lives.has(one.pid)))).unwrap_or_default()
            ));
        table.add("restart: rows of credits_process that stood there before", lives.twice.len() as f64).target(NONE).note(lives.examples());
        Ok(())
    }
}
