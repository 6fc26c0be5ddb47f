//! Families of which each process knows what it used: whose CPU goes to the wrong program or user, or to none.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::family::{Family, Spent, by_program_and_user, pids, program, seconds};
use crate::lives::Life;
use crate::psmond::Way;
use crate::table::{NONE, Table, Target};
use crate::told::{Credits, Lives, per_cent};
use crate::{BAND, Bench, CREDITS, INTERVAL, say};

/// How long a family may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Families of one kind.
#[derive(Debug)]
struct Case {
    name: &'static str,
    families: Vec<Family>,
    /// What they told, when they have ended.
    spent: Vec<Spent>,
    /// It changes user or program on the way, so that each has to be told apart.
    changes: bool,
}

impl Bench {
    pub(crate) fn tree(&self, table: &mut Table) -> Result<()> {
        say("tree: lives that began before psmond");
        let work = Duration::from_millis(self.seconds * 100);
        let start = |tag, lives: &[Life]| -> Result<Vec<Family>> {
            let program = program(self.work.path(), tag)?;
            lives.iter().map(|life| Family::start(&program, life)).collect()
        };
        let mut old = start("old", &[Life::Old(work), Life::Old(work)])?;
        for family in &mut old {
            family.wait_until_ready(PATIENCE)?;
        }
        let mut psmond = self.psmond(CREDITS, Way::Plain)?;
        say("tree: families");
        for family in &mut old {
            family.open_gate();
        }
        let other = program(self.work.path(), "becomes")?;
        let case = |name, changes, families| Case { name, families, spent: Vec::new(), changes };
        let mut cases = vec![
            case("double forks", false, start("orphans", &[Life::DoubleFork(12, work / 8)])?),
            case("leaders that end first", false, start("leaders", &[Life::LeaderFirst(work), Life::LeaderFirst(work / 2)])?),
            case("setuid", true, start("setuid", &[Life::Setuid(work * 2), Life::SetuidInThreads(work * 2)])?),
            case(
                "exec",
                true,
                start("was", &[Life::Exec(work * 2, other.clone()), Life::ExecInThread(work * 2, other.clone())])?,
            ),
            case("SIGCHLD ignored", false, start("ignored", &[Life::Ignored(20, work / 10)])?),
            case("older than psmond", false, old),
        ];
        for case in &mut cases {
            for family in case.families.drain(..) {
                case.spent.extend(family.finish(PATIENCE)?);
            }
        }
        psmond.settle()?;
        let logs = psmond.stop()?;
        let (credits, lives) = (Credits::read(&logs)?, Lives::read(&logs)?);
        for case in &cases {
            case.close(table, &credits);
            if case.changes {
                case.close_each(table, &credits);
            }
        }
        // What the oldest used before psmond came is in their lives.
        let young: Vec<Spent> = cases.iter().filter(|case| case.name != "older than psmond").flat_map(|case| case.spent.clone()).collect();
        let all = pids(&young);
        table.add("tree: credits_process, % of the truth", per_cent(lives.of(&all), seconds(&young))).target(BAND).note(format!(
            "{:.3} of {:.3} s",
            lives.of(&all),
            seconds(&young)
        ));
        table
            .add("tree: processes without a row in credits_process", lives.without(&all) as f64)
            .target(NONE)
            .note(format!("of {}", all.len()));
        table.add("tree: rows of credits_process that stood there before", lives.twice.len() as f64).target(NONE).note(lives.examples());
        Ok(())
    }
}

impl Case {
    /// All of its programs and users together.
    fn close(&self, table: &mut Table, credits: &Credits) {
        let programs: BTreeMap<&str, ()> = self.spent.iter().map(|one| (one.program.as_str(), ())).collect();
        let (told, truth) = (programs.keys().map(|program| credits.of(program)).sum(), seconds(&self.spent));
        table
            .add(format!("tree: {}, % of the truth", self.name), per_cent(told, truth))
            .target(BAND)
            .note(format!("{told:.3} of {truth:.3} s, {} processes", pids(&self.spent).len()));
    }

    /// Each program as each user.
    fn close_each(&self, table: &mut Table, credits: &Credits) {
        let most = INTERVAL.as_secs_f64() * self.spent.len() as f64 / 2.0;
        for ((program, user), truth) in by_program_and_user(&self.spent) {
            let told = credits.of_user(&program, user);
            let short = program.split('-').next().unwrap_or_default();
            table
                .add(format!("tree:   {short} as user {user}, seconds off"), told - truth)
                .target(Target::Within(-most, most))
                .note(format!("{told:.3} of {truth:.3} s, {:.2} %", per_cent(told, truth).unwrap_or_default()));
        }
    }
}
