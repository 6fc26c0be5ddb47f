//! What single processes used, for stream `credits_process`: at their end, and in parts while they live.
//!
//! A row is about what no row before it told: all rows of a process add up to what it used while it was recorded, across restarts.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::account::{Key, Whose};
use super::credit::Told;
use crate::observer::accounts::OTHER;
use crate::observer::facts::Reading;
use crate::observer::obituary::Obituary;
use crate::observer::table::Process;
use crate::record::cmd::Cmd;

/// Rows for each second between two ticks, as many as stream `exits` has by default; beyond them those of a program and user stand in
/// one.
const MOST_PER_S: u64 = 2000;
/// Rows between two ticks, however long that is: what waits takes memory.
const MOST: usize = 50_000;

/// What a row tells.
#[derive(Clone, Debug)]
pub struct Life {
    /// Who.
    pub pid: u32,
    /// Its start ticks; `None` of one whose birth nobody told.
    pub start: Option<u64>,
    /// What it counted for at the end.
    pub key: Key,
    /// It lives on, and this is its so manieth row.
    pub part: Option<u32>,
    /// How long this row is about, nanoseconds.
    pub wall_ns: Option<u64>,
    /// What it used in that time, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// What it used in its whole life, and how long that is, nanoseconds.
    pub whole: Option<(u64, u64)>,
    /// How many stand in this row.
    pub lives: u64,
    /// The command line.
    pub cmd: Option<Arc<Cmd>>,
}

/// Rows that wait for the tick.
#[derive(Debug, Default)]
pub struct Lives {
    /// How often those that live on have a row; `None` while the stream is off.
    every: Option<Duration>,
    /// So many rows stand for one life each.
    most: usize,
    waiting: Vec<Life>,
    /// Where the rows are that stand for many.
    folded: FxHashMap<Key, usize>,
    /// When the living were looked through last, CLOCK_BOOTTIME nanoseconds.
    looked_ns: u64,
}

impl Lives {
    /// How often those that live on have a row, and how long it is from tick to tick; `None` switches the stream off.
    pub fn set(&mut self, every: Option<Duration>, interval: Duration) {
        self.every = every;
        self.most = usize::try_from(interval.as_secs().max(1).saturating_mul(MOST_PER_S)).unwrap_or(MOST).min(MOST);
        if every.is_none() {
            self.taken();
        }
    }

    /// Somebody ended: all it used is counted by now.
    pub fn ended(&mut self, process: &Process, obituary: &Obituary, hz: u64) {
        if self.every.is_none() || obituary.is_kthread {
            return;
        }
        let (used_ns, Told { cpu_ns, boot_ns, .. }) = (process.credit.counted.ns, process.credit.told);
        let is_known = obituary.used.cpu_ns.is_some() || used_ns > 0;
        // What of its life was told, or came before recording.
        let before_ns = boot_ns.saturating_sub(process.born_ns(hz));
        self.add(
            obituary,
            obituary.lifetime_ns.map(|life_ns| life_ns.saturating_sub(before_ns)),
            is_known.then(|| used_ns.saturating_sub(cpu_ns)),
            obituary.lifetime_ns.filter(|_| is_known).map(|life_ns| (used_ns, life_ns)),
        );
    }

    /// Somebody ended whom nobody knew.
    pub fn stranger(&mut self, obituary: &Obituary) {
        if self.every.is_some() {
            let whole = obituary.used.cpu_ns.zip(obituary.lifetime_ns);
            self.add(obituary, obituary.lifetime_ns, obituary.used.cpu_ns, whole);
        }
    }

    fn add(&mut self, obituary: &Obituary, wall_ns: Option<u64>, cpu_ns: Option<u64>, whole: Option<(u64, u64)>) {
        let program = obituary.program.known().unwrap_or(&obituary.comm);
        let key = (Whose::Program(Arc::clone(program)), obituary.owner.known().copied());
        let mut key = key;
        if self.waiting.len() >= self.most {
            // Who names programs without end has one row for all of them.
            if self.folded.len() >= self.most && !self.folded.contains_key(&key) {
                key = (Whose::Program(OTHER.into()), None);
            }
            if let Some(row) = self.folded.get(&key).and_then(|at| self.waiting.get_mut(*at)) {
                row.lives += 1;
                row.wall_ns = sum(row.wall_ns, wall_ns);
                row.cpu_ns = sum(row.cpu_ns, cpu_ns);
                row.whole = None;
                return;
            }
            self.folded.insert(key.clone(), self.waiting.len());
        }
        let cmd = match &obituary.cmd {
            Reading::Known(cmd) => Some(Arc::clone(cmd)),
            _ if obituary.comm.is_empty() => None,
            _ => Some(Arc::new(Cmd::Comm(obituary.comm.as_ref().into()))),
        };
        self.waiting.push(Life { pid: obituary.pid, start: obituary.start, key, part: None, wall_ns, cpu_ns, whole, lives: 1, cmd });
    }

    /// Those that live on, where their time has come, or all of them `at_stop`; who used nothing since its last row has none. All that
    /// they used is counted by now.
    pub fn parts<'a>(
        &mut self,
        processes: impl Iterator<Item = &'a mut Process>,
        hz: u64,
        boot_ns: u64,
        at_stop: bool,
        key: impl Fn(&Process) -> Option<Key>,
    ) {
        let Some(every) = self.every else { return };
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        // A part may come a twentieth of its time late: everybody need not be looked through at each tick.
        if !at_stop && boot_ns.saturating_sub(self.looked_ns) < every_ns / 20 {
            return;
        }
        self.looked_ns = boot_ns;
        for process in processes {
            let credit = &process.credit;
            let used_ns = credit.counted.ns;
            let born_ns = process.born_ns(hz);
            let since_ns = credit.told.boot_ns.max(born_ns);
            let cpu_ns = used_ns.saturating_sub(credit.told.cpu_ns);
            let is_due = at_stop || boot_ns.saturating_sub(since_ns) >= every_ns;
            if !is_due || cpu_ns == 0 || process.stat.is_kthread() {
                continue;
            }
            let Some(key) = key(process) else { continue };
            let parts = credit.told.parts.saturating_add(1);
            self.waiting.push(Life {
                pid: process.id.pid,
                start: Some(process.id.start),
                key,
                part: Some(parts),
                wall_ns: Some(boot_ns.saturating_sub(since_ns)),
                cpu_ns: Some(cpu_ns),
                whole: Some((used_ns, boot_ns.saturating_sub(born_ns))),
                lives: 1,
                cmd: match &process.facts.cmd {
                    Reading::Known(cmd) => Some(Arc::clone(cmd)),
                    _ => Some(Arc::new(Cmd::Comm(process.comm.as_ref().into()))),
                },
            });
            process.credit.told = Told { cpu_ns: used_ns, boot_ns, parts };
        }
    }

    /// What waits, ordered by pid.
    #[must_use]
    pub fn waiting(&self) -> Vec<&Life> {
        let mut all: Vec<&Life> = self.waiting.iter().collect();
        all.sort_by_key(|life| (life.pid, life.start));
        all
    }

    /// What waited was taken.
    pub fn taken(&mut self) {
        self.waiting.clear();
        self.folded.clear();
    }
}

/// The sum of what is known; of nothing known, nothing.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::life::Sources;
    use crate::observer::obituary::{Obituary, Used};

    fn obituary(pid: u32, program: &str) -> Obituary {
        Obituary {
            unix_ns: 0,
            pid,
            start: Some(1),
            ppid: None,
            pstart: None,
            pcomm: None,
            owner: Reading::Known(0),
            program: Reading::Known(program.as_bytes().into()),
            cgroup: Reading::Absent,
            unit: Reading::Absent,
            family: None,
            status: None,
            lifetime_ns: Some(10),
            used: Used { cpu_ns: Some(5), ..Used::default() },
            sources: Sources::default(),
            cmd: Reading::Absent,
            exec: None,
            comm: program.as_bytes().into(),
            is_kthread: false,
            counted: false,
        }
    }

    #[test]
    fn above_a_rate_like_ones_stand_in_one_row_and_rows_have_an_end() {
        let mut lives = Lives::default();
        lives.stranger(&obituary(1, "a"));
        assert!(lives.waiting().is_empty(), "the stream is off");
        lives.set(Some(Duration::from_secs(3600)), Duration::from_secs(1));
        for pid in (1..=2000).rev() {
            lives.stranger(&obituary(pid, "a"));
        }
        assert!(
            lives.waiting().iter().map(|life| (life.pid, life.lives)).eq((1..=2000).map(|pid| (pid, 1))),
            "by pid, each its own"
        );
        for pid in 3000..3010 {
            lives.stranger(&obituary(pid, "a"));
        }
        // Nobody took them: they go on standing in that row.
        assert_eq!(lives.waiting().len(), 2001);
        lives.stranger(&obituary(4000, "a"));
        let folded = lives.waiting()[2000].clone();
        assert_eq!((folded.pid, folded.lives, folded.cpu_ns, folded.wall_ns, folded.whole), (3000, 11, Some(55), Some(110), None));
        for number in 0..10_000 {
            lives.stranger(&obituary(5000 + number, &format!("p{number}")));
        }
        let all = lives.waiting();
        assert!(all.len() <= 4001, "{}", all.len());
        assert_eq!(all.iter().map(|life| life.lives).sum::<u64>(), 12_011, "no life is left out");
        lives.taken();
        lives.stranger(&obituary(1, "a"));
        assert_eq!(lives.waiting().len(), 1);
    }
}
