//! `--tree`: a process and all its descendants, also those still to come, through as many forks as they like.
//!
//! Who is one of them is known by birth: a process whose parent ended still is.

use rustc_hash::FxHashMap;

use super::{Failure, complain};
use crate::record::event::EventKind;
use crate::source::procdir::Proc;
use crate::source::stat;

/// The living of a tree.
#[derive(Debug)]
pub struct Tree(FxHashMap<u32, u64>);

impl Tree {
    /// A process and who descends from it now; `None`, and said so, where it is not there.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn plant(proc: &Proc, root: u32) -> Result<Option<Self>, Failure> {
        let mut tree = Self(FxHashMap::default());
        let Some((_, start)) = read(proc, root) else {
            complain(&format!("no process has the pid {root}"));
            return Ok(None);
        };
        tree.0.insert(root, start);
        tree.look(proc)?;
        Ok(Some(tree))
    }

    /// Takes in who descends from it now. To be done before events are listened to and once more after: in between a birth is
    /// untold, and so is the end of a parent.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn look(&mut self, proc: &Proc) -> Result<(), Failure> {
        let mut pids = Vec::new();
        proc.list(&mut pids)?;
        let mut children: FxHashMap<u32, Vec<(u32, u64)>> = FxHashMap::default();
        for pid in pids {
            if let Some((ppid, start)) = read(proc, pid) {
                children.entry(ppid).or_default().push((pid, start));
            }
        }
        let mut next: Vec<u32> = self.0.keys().copied().collect();
        while let Some(parent) = next.pop() {
            for (pid, start) in children.remove(&parent).unwrap_or_default() {
                self.0.insert(pid, start);
                next.push(pid);
            }
        }
        Ok(())
    }

    /// Hears of an event, and says whether it is of the tree.
    pub fn hear(&mut self, kind: EventKind, pid: u32, start: Option<u64>, ppid: Option<u32>) -> bool {
        if kind == EventKind::Fork {
            let is_born_here = ppid.is_some_and(|ppid| self.0.contains_key(&ppid));
            if is_born_here {
                self.0.insert(pid, start.unwrap_or(0));
            } else if !self.holds(pid, start) {
                // Its pid was that of another, whose end was lost.
                self.0.remove(&pid);
            }
        }
        let holds = self.holds(pid, start);
        if kind == EventKind::Exit && holds {
            self.0.remove(&pid);
        }
        holds
    }

    /// Whether a process is in it. A start taken from an event may be one tick off.
    #[must_use]
    pub fn holds(&self, pid: u32, start: Option<u64>) -> bool {
        self.0.get(&pid).is_some_and(|known| start.is_none_or(|start| known.abs_diff(start) <= 1))
    }
}

/// Parent and start.
fn read(proc: &Proc, pid: u32) -> Option<(u32, u64)> {
    let text = proc.read(&format!("{pid}/stat")).ok()?;
    stat::parse(&text).map(|(stat, _)| (stat.ppid, stat.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_is_by_birth_and_outlives_the_parent() {
        let mut tree = Tree([(10, 100)].into_iter().collect());
        assert!(tree.hear(EventKind::Fork, 11, Some(200), Some(10)));
        assert!(tree.hear(EventKind::Fork, 12, Some(201), Some(11)));
        assert!(tree.hear(EventKind::Exit, 11, Some(200), Some(10)), "its own end is of the tree");
        assert!(!tree.hear(EventKind::Exec, 11, Some(200), Some(10)));
        assert!(tree.hear(EventKind::Exec, 12, Some(201), Some(1)), "whoever takes it over is not its parent");
        assert!(!tree.hear(EventKind::Fork, 13, Some(202), Some(1)));
        assert!(!tree.hear(EventKind::Exec, 12, Some(999), None), "the pid is used again");
        assert!(!tree.hear(EventKind::Fork, 12, Some(999), Some(1)) && !tree.holds(12, None));
    }

    #[test]
    fn those_alive_are_found() {
        let proc = Proc::open(std::path::Path::new("/proc")).unwrap();
        let me = std::process::id();
        let tree =
            Tree::plant(&proc, rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get().unsigned_abs())).unwrap().unwrap();
        assert!(tree.holds(me, None) && !tree.holds(1, Some(u64::MAX)));
        assert!(Tree::plant(&proc, u32::MAX).unwrap().is_none());
    }
}
