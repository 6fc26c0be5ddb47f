//! What control groups spent, beside the accounts of programs and users: kept only where a view asks for it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::account::Totals;
use super::cpu::Cpu;
use crate::observer::facts::Reading;
use crate::observer::table::Process;

/// A path as `/proc/PID/cgroup` says it (cgroups(7)); `None` of those whose group could not be read.
pub type Path = Option<Arc<[u8]>>;

/// What was spent in a group, and who is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// CPU time since it was met.
    spent: Cpu,
    /// The same up to the last sample that was taken.
    sampled: Cpu,
    /// Processes in it now.
    pub members: u64,
}

impl Group {
    /// What was counted since the last sample that was taken.
    #[must_use]
    pub fn interval(&self) -> Totals {
        Totals { spent: self.spent.beyond(self.sampled), ..Totals::default() }
    }
}

/// All groups.
#[derive(Debug, Default)]
pub struct Groups(FxHashMap<Path, Group>);

impl Groups {
    /// A process used this. It counts for the group that it is in when it is counted.
    pub(super) fn add(&mut self, process: &Process, more: Cpu) {
        self.of(path_of(process), more);
    }

    /// Somebody of whom nothing but the end is known used this.
    pub(super) fn stranger(&mut self, cpu: Cpu) {
        self.of(None, cpu);
    }

    fn of(&mut self, path: Path, more: Cpu) {
        let group = self.0.entry(path).or_default();
        group.spent = group.spent.plus(more);
    }

    /// Counts who is where.
    pub fn census<'a>(&mut self, living: impl Iterator<Item = &'a Process>) {
        self.0.values_mut().for_each(|group| group.members = 0);
        for process in living {
            self.0.entry(path_of(process)).or_default().members += 1;
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Group)> {
        self.0.iter()
    }

    /// The sample of this tick was taken: the next interval begins.
    pub fn begin_interval(&mut self) {
        self.0.retain(|_, group| group.members > 0);
        self.0.values_mut().for_each(|group| group.sampled = group.spent);
    }
}

/// Kernel threads are in the root, whether that was read or not.
fn path_of(process: &Process) -> Path {
    match &process.facts.cgroup {
        Reading::Known(path) => Some(Arc::clone(path)),
        _ if process.stat.is_kthread() => Some(b"/"[..].into()),
        _ => None,
    }
}
