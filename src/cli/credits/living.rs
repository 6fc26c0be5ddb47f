//! Who still lives of those that descend from psmon. It is their subreaper, so each of them is below it in the tree of `/proc`,
//! however often its parents ended.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cli::Failure;
use crate::source::procdir::Proc;
use crate::source::stat::{self, Stat};
use crate::source::{clock, status};

/// Somebody who lives.
#[derive(Clone, Debug)]
pub struct Living {
    /// Its pid.
    pub pid: u32,
    /// Its start ticks.
    pub start: u64,
    /// Its name.
    pub comm: Arc<[u8]>,
    /// CPU time of all its threads so far, microseconds.
    pub cpu_us: u64,
    /// Its user part, sampled, clock ticks.
    pub user: u64,
    /// Its system part, sampled, clock ticks.
    pub system: u64,
    /// CPU time of the children it waited for, clock ticks.
    pub waited_for: u64,
    /// Its largest resident memory so far, bytes; `None` where that could not be read.
    pub max_rss: Option<u64>,
}

/// All of them, but not those who only wait to be reaped.
///
/// # Errors
/// `/proc` could not be listed.
pub fn find(proc: &Proc, root: u32) -> Result<Vec<Living>, Failure> {
    let mut pids = Vec::new();
    proc.list(&mut pids)?;
    let mut children: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    for pid in pids {
        if let Some((stat, _)) = read(proc, pid) {
            children.entry(stat.ppid).or_default().push(pid);
        }
    }
    let mut living = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            next.push(pid);
            living.extend(look(proc, pid));
        }
    }
    living.sort_by_key(|one| (std::cmp::Reverse(one.cpu_us), one.pid));
    Ok(living)
}

fn look(proc: &Proc, pid: u32) -> Option<Living> {
    // The clock first: of whoever is there after it the pid was its own all the time.
    let cpu_us = clock::process_cpu_ns(pid)? / 1000;
    let (stat, comm) = read(proc, pid)?;
    if stat.is_zombie() && stat.num_threads <= 1 {
        return None;
    }
    let waited_for = u64::try_from(stat.cutime.saturating_add(stat.cstime)).unwrap_or(0);
    let max_rss = proc.read(&format!("{pid}/status")).ok().and_then(|text| status::parse(&text).peak_rss);
    Some(Living { pid, start: stat.start, comm, cpu_us, user: stat.utime, system: stat.stime, waited_for, max_rss })
}

fn read(proc: &Proc, pid: u32) -> Option<(Stat, Arc<[u8]>)> {
    let text = proc.read(&format!("{pid}/stat")).ok()?;
    stat::parse(&text).map(|(stat, comm)| (stat, Arc::from(comm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_and_zombies_are_not() {
        let proc = Proc::open(std::path::Path::new("/proc")).unwrap();
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 4243.5 & wait"]).spawn().unwrap();
        let sleeps = |living: &[Living]| living.iter().find(|one| &*one.comm == b"sleep").map(|one| one.pid);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let sleeper = loop {
            let living = find(&proc, child.id()).unwrap();
            if let Some(pid) = sleeps(&living) {
                assert!(living.iter().all(|one| one.pid != child.id()), "not the root itself");
                break pid;
            }
            assert!(std::time::Instant::now() < end);
        };
        assert!(find(&proc, std::process::id()).unwrap().iter().any(|one| one.pid == sleeper && one.max_rss > Some(0)));
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(i32::try_from(sleeper).unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        // The shell ends with it; nobody has reaped it until this waits for it.
        while find(&proc, std::process::id()).unwrap().iter().any(|one| one.pid == child.id()) {
            assert!(std::time::Instant::now() < end);
        }
        child.wait().unwrap();
    }
}
