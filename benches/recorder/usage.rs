//! Stream `usage` over processes with descriptors and sockets: idle, and all of them active.

use anyhow::{Result, ensure};

use crate::herd::{Herd, Kind};
use crate::journal::{Tick, median};
use crate::parts::complete;
use crate::psmond::{Psmond, Setup, Stream};
use crate::table::{Table, Target};
use crate::{Bench, pause, say};

/// Descriptors of each member.
const FDS: u64 = 20;
/// Connections of each, of which it has both ends.
const CONNECTIONS: u64 = 2;
/// A little more often than psmond looks, so that none is found that did not run.
const PERIOD_MS: u64 = 900;

impl Bench {
    pub(crate) fn usage(&self, table: &mut Table) -> Result<()> {
        let kind = |connections, ms| Kind::Holding { fds: FDS, connections, ms };
        let (idle, active) = (kind(CONNECTIONS, 0), kind(CONNECTIONS, PERIOD_MS));
        self.usage_of(table, "usage, idle", idle, 6.0)?;
        self.usage_of(table, "usage, active with sockets", active, 150.0)?;
        self.usage_of(table, "usage, active without", kind(0, PERIOD_MS), 30.0)
    }

    fn usage_of(&self, table: &mut Table, name: &str, kind: Kind, limit: f64) -> Result<()> {
        let members = (self.herd / 3).max(1);
        say(&format!("{name}: starting {members} processes"));
        let mut herd = Herd::new(kind)?;
        herd.resize(members)?;
        herd.settle();
        let mut psmond = Psmond::start(Setup { stream: Stream::Usage, ..self.setup() }, &self.meter)?;
        pause(self.warm_up)?;
        say(&format!("{name}: psmond, {} s", self.length.as_secs()));
        let window = psmond.window(self.length)?;
        let calls = psmond.system_calls(std::time::Duration::from_secs(5));
        let all = psmond.stop()?;
        herd.check_intact()?;
        let ticks: Vec<Tick> = window.ticks(&all);
        ensure!(!ticks.is_empty(), "no sample in the window");
        let each = window.cpu.as_secs_f64() * 1e6 / (ticks.len() * members) as f64;
        table
            .add(format!("{name}: CPU, us per process and sample"), each)
            .target(Target::AtMost(limit))
            .note(format!("{} samples of {members} processes with {FDS} descriptors", ticks.len()));
        match calls {
            Ok(calls) => {
                let samples = calls.window.ticks(&all).len().max(1) * members;
                let of = |count: u64| count as f64 / samples as f64;
                let named: Vec<String> = calls.by_name.iter().take(5).map(|(name, count)| format!("{name} {:.2}", of(*count))).collect();
                table.add(format!("{name}:   system calls per process and tick"), of(calls.total())).note(named.join(", "));
            }
            Err(error) => drop(table.add(format!("{name}:   system calls per process and tick"), None).note(format!("strace: {error:#}"))),
        }
        let read_ms = median(ticks.iter().map(|tick| tick.read_us as f64 / 1e3));
        table.add(format!("{name}:   reading one sample, ms (median)"), read_ms).note("as its #tick says");
        complete(table, name, &ticks);
        Ok(())
    }
}
