//! The CPU of the dead, beside what the kernel told their parents (`wait4(2)`).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;

use crate::accounts::Accountant;
use crate::psmond::{Psmond, Setup, Way};
use crate::speed::EACH_ITS_ROW;
use crate::table::{NONE, Table, Target};
use crate::worker::{Kind, WAYS, Way as Burning, Worker};
use crate::{Bench, Storm, say};

/// Per cent of the truth.
const BAND: Target = Target::Within(98.5, 100.5);

/// How many of the older ones.
const OLD: u64 = 20;

impl Bench {
    pub(crate) fn short_lives(&self, table: &mut Table) -> Result<()> {
        let half = self.seconds * 100;
        say("cpu: short lives");
        let watched = self.watched(EACH_ITS_ROW, Way::Plain, &[Kind::Burn(half), Kind::Burn(half)])?;
        close(table, "cpu", &watched.storm, &watched.logs)?;
        say("cpu: a plain listener of taskstats");
        match self.told_by_taskstats(half / 2) {
            Ok(percent) => {
                table.add("cpu:   told to a plain listener of taskstats, %", percent).note("what can be known, in a storm of its own")
            }
            Err(error) => table.add("cpu:   told to a plain listener of taskstats, %", None).note(format!("{error:#}")),
        };
        crate::stopped()
    }

    fn told_by_taskstats(&self, count: u64) -> Result<f64> {
        let accountant = Accountant::start()?;
        let storm = self.storm(&[Kind::Burn(count), Kind::Burn(count)], None)?;
        let accounts = accountant.stop()?;
        let each = || storm.reports.iter().flat_map(|report| &report.each);
        let told: u64 = each().filter_map(|(pid, _)| accounts.get(pid)).sum();
        Ok(told as f64 / each().map(|(_, ns)| ns).sum::<u64>() as f64 * 100.0)
    }

    pub(crate) fn old_lives(&self, table: &mut Table) -> Result<()> {
        say("old: lives that began before psmond");
        let kind = Kind::Old(OLD);
        let (reader, writer) = std::io::pipe()?;
        let mut worker = Worker::start(&kind, 0, self.work.path(), None, reader.into())?;
        worker.wait_for_line("ready", kind.limit())?;
        let setup = Setup { exe: &self.exe, streams: EACH_ITS_ROW, way: Way::Plain, environment: None };
        let mut psmond = Psmond::start(setup, &self.meter)?;
        drop(writer);
        let storm = Storm { reports: vec![worker.finish(kind.limit())?] };
        psmond.settle()?;
        close(table, "old", &storm, &psmond.stop()?)
    }
}

fn close(table: &mut Table, name: &str, storm: &Storm, logs: &crate::journal::Logs) -> Result<()> {
    let mut told: HashMap<(u32, u32), Vec<Option<f64>>> = HashMap::new();
    logs.read("exits", |row| {
        if let (Some(ppid), Some(pid)) = (row.pid("ppid"), row.pid("pid")) {
            told.entry((ppid, pid)).or_default().push(row.get("cpu_s").and_then(|seconds| seconds.parse().ok()));
        }
    })?;
    let mut missing = 0;
    // What is true and what was told, in each way of burning.
    let mut sums: BTreeMap<Burning, (f64, f64)> = BTreeMap::new();
    for report in &storm.reports {
        for (number, (pid, ns)) in report.each.iter().enumerate() {
            let sum = sums.entry(WAYS[number % WAYS.len()]).or_default();
            sum.0 += Duration::from_nanos(*ns).as_secs_f64();
            // Pids come round again; the rows stand in the order of the deaths.
            match told.get_mut(&(report.worker, *pid)).filter(|rows| !rows.is_empty()).map(|rows| rows.remove(0)) {
                Some(Some(seconds)) => sum.1 += seconds,
                Some(None) | None => missing += 1,
            }
        }
    }
    let (truth, known) = sums.values().fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
    let ways: Vec<String> = sums.iter().map(|(way, sum)| format!("{way:?} {:.2}", sum.1 / sum.0 * 100.0)).collect();
    table.add(format!("{name}: lives without cpu_s"), f64::from(missing)).target(NONE).note(format!("of {}", storm.children()));
    table
        .add(format!("{name}: CPU told, % of what wait4 told"), (truth > 0.0).then(|| known / truth * 100.0))
        .target(BAND)
        .note(format!("{known:.3} of {truth:.3} s: {}", ways.join(", ")));
    Ok(())
}
