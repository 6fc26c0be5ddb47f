//! The CPU time of the whole machine, by the best clock there is.
//!
//! * `cpuacct`: `cpuacct.usage` of the root group, nanoseconds as the scheduler accounts them
//!   (`Documentation/admin-guide/cgroup-v1/cpuacct.rst`).
//! * `cgroup2`: the sum of `usage_usec` in `cpu.stat` of the groups below the root
//!   (`Documentation/admin-guide/cgroup-v2.rst`): what runs in the root itself, the kernel's threads among it, is in none of them.
//! * `stat`: user, nice and system of `/proc/stat` (`proc_stat(5)`), which on most machines is sampled by ticks.
//!
//! In a container these are of what is mounted there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup_mounts;
use super::clock::ticks_to_ns;
use super::procdir::Proc;
use super::{ReadError, number};
use crate::record::carried::{Busy, MachineClocks};

/// Which clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `cpuacct.usage` of the root.
    Cpuacct,
    /// The groups below the root of the unified hierarchy.
    Cgroup2,
    /// `/proc/stat`.
    Stat,
}

impl Kind {
    /// The word in `closure_of`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpuacct => "cpuacct",
            Self::Cgroup2 => "cgroup2",
            Self::Stat => "stat",
        }
    }
}

/// From `/proc/stat`: `cpu  user nice system idle iowait irq softirq steal guest guest_nice`, in ticks.
#[must_use]
pub fn parse_stat(stat: &[u8], hz: u64) -> Option<Busy> {
    let line = stat.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"cpu "))?;
    let mut fields = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(number);
    let mut next = || fields.next().map_or(Some(0), |field| field.map(|ticks| ticks_to_ns(ticks, hz)));
    let (user, nice, system, _idle, _iowait) = (next()?, next()?, next()?, next()?, next()?);
    Some(Busy { work_ns: user.saturating_add(nice).saturating_add(system), irq_ns: next()?, softirq_ns: next()?, steal_ns: next()? })
}

/// Where the clocks are read.
#[derive(Clone, Debug, Default)]
pub struct MachineCpu {
    cpuacct: Option<PathBuf>,
    unified: Option<PathBuf>,
}

impl MachineCpu {
    /// Looks what there is. Of a `/proc` that is not our own only that itself speaks.
    #[must_use]
    pub fn find(proc: &Proc) -> Self {
        if !proc.is_native() {
            return Self::default();
        }
        let mountinfo = proc.read("self/mountinfo").unwrap_or_default();
        Self::parse(&mountinfo, Path::new("/"))
    }

    /// From `/proc/self/mountinfo`; `root` stands before each mount point.
    #[must_use]
    pub fn parse(mountinfo: &[u8], root: &Path) -> Self {
        let mut found = Self::default();
        for mount in cgroup_mounts::parse(mountinfo, root) {
            let file = mount.point.join("cpuacct.usage");
            if mount.unified {
                found.unified.get_or_insert(mount.point);
            } else if mount.has(b"cpuacct") && file.exists() {
                found.cpuacct.get_or_insert(file);
            }
        }
        found
    }

    /// Reads the clocks.
    #[must_use]
    pub fn read(&self, proc: &Proc, hz: u64) -> MachineClocks {
        let cpuacct_ns = self.cpuacct.as_ref().and_then(|file| number(fs::read(file).ok()?.trim_ascii()));
        let groups_ns = if cpuacct_ns.is_some() { None } else { self.unified.as_deref().and_then(groups) };
        let stat: Result<Vec<u8>, ReadError> = proc.read("stat");
        MachineClocks { cpuacct_ns, groups_ns, busy: stat.ok().and_then(|stat| parse_stat(&stat, hz)) }
    }
}

/// What each group below the root used; `None` where there is none.
fn groups(root: &Path) -> Option<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).ok()?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(stat) = fs::read(entry.path().join("cpu.stat"))
            && let Some(ns) = usage_ns(&stat)
        {
            found.insert(entry.file_name().to_string_lossy().into_owned(), ns);
        }
    }
    (!found.is_empty()).then_some(found)
}

/// `usage_usec` of a `cpu.stat`.
fn usage_ns(stat: &[u8]) -> Option<u64> {
    let value = stat.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"usage_usec "))?;
    number(value.trim_ascii())?.checked_mul(1000)
}

/// What grew between two readings, by the best clock that both have: nanoseconds. A group that went took its last moments along.
#[must_use]
pub fn grown(before: &MachineClocks, now: &MachineClocks) -> Option<(Kind, u64)> {
    if let (Some(before), Some(now)) = (before.cpuacct_ns, now.cpuacct_ns) {
        return Some((Kind::Cpuacct, now.checked_sub(before)?));
    }
    if let (Some(before), Some(now)) = (&before.groups_ns, &now.groups_ns) {
        // One made anew under an old name begins at nothing.
        let grew = |(name, now): (&String, &u64)| now.checked_sub(before.get(name).copied().unwrap_or(0)).unwrap_or(*now);
        return Some((Kind::Cgroup2, now.iter().map(grew).sum()));
    }
    let (before, now) = (before.busy?, now.busy?);
    Some((Kind::Stat, now.work_ns.checked_sub(before.work_ns)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"cpu  100 10 50 1000 5 3 4 7 20 0\ncpu0 1 2 3\n";

    #[test]
    fn the_lines_of_stat() {
        let busy = parse_stat(STAT, 100).unwrap();
        let tick = 10_000_000;
        assert_eq!(busy, Busy { work_ns: 160 * tick, irq_ns: 3 * tick, softirq_ns: 4 * tick, steal_ns: 7 * tick });
        assert_eq!(parse_stat(b"cpu  1 2\n", 100).unwrap().work_ns, 3 * tick, "an old kernel has fewer");
        assert_eq!(parse_stat(b"intr 1\n", 100), None);
        assert_eq!(parse_stat(b"cpu  1 x 3\n", 100), None);
    }

    #[test]
    fn the_best_clock_that_both_have() {
        let groups = |list: &[(&str, u64)]| Some(list.iter().map(|(name, ns)| ((*name).to_owned(), *ns)).collect());
        let busy = |work_ns| Some(Busy { work_ns, ..Busy::default() });
        let one = MachineClocks { cpuacct_ns: Some(10), groups_ns: None, busy: busy(100) };
        let two = MachineClocks { cpuacct_ns: Some(30), groups_ns: groups(&[("a", 5)]), busy: busy(150) };
        assert_eq!(grown(&one, &two), Some((Kind::Cpuacct, 20)));
        let three = MachineClocks { cpuacct_ns: None, groups_ns: groups(&[("a", 9), ("b", 3)]), busy: busy(250) };
        assert_eq!(grown(&two, &three), Some((Kind::Cgroup2, 7)), "b is new, and all of it is of this interval");
        let four = MachineClocks { cpuacct_ns: None, groups_ns: groups(&[("a", 2)]), busy: None };
        assert_eq!(grown(&three, &four), Some((Kind::Cgroup2, 2)), "a was made anew");
        assert_eq!(grown(&one, &three), Some((Kind::Stat, 150)));
        assert_eq!(grown(&three, &one), None, "a clock does not go back");
    }

    #[test]
    fn this_machine_has_one_that_runs() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let clocks = MachineCpu::find(&proc);
        let before = clocks.read(&proc, 100);
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let (kind, ns) = grown(&before, &clocks.read(&proc, 100)).unwrap();
            if ns > 0 {
                println!("{} grew by {ns} ns", kind.word());
                break;
            }
            assert!(std::time::Instant::now() < limit, "{kind:?} stands still");
        }
    }
}
