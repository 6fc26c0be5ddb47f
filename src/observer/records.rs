//! Exit records of tasks and of whole processes, from the moment they come until the exit event that they belong to is told.

use rustc_hash::FxHashMap;

use crate::source::connector::Task;
use crate::source::taskstats::Record;

/// A record, and when it was taken, CLOCK_MONOTONIC nanoseconds.
type Stamped = (Record, u64);

/// Records whose exit event is still to come.
#[derive(Debug, Default)]
pub struct Records {
    /// Of tasks, by their ids.
    tasks: FxHashMap<u32, Stamped>,
    /// Second records of an id: an execution gave it to another task, and that ended too before the first one's end was told.
    again: Vec<Stamped>,
    /// Of whole processes.
    wholes: FxHashMap<u32, Stamped>,
}

impl Records {
    /// Takes one in.
    pub fn add(&mut self, record: Record, taken_ns: u64) {
        if record.is_process {
            self.wholes.insert(record.id, (record, taken_ns));
        } else if let Some(first) = self.tasks.insert(record.id, (record, taken_ns)) {
            self.tasks.insert(record.id, first);
            self.again.push((record, taken_ns));
        }
    }

    /// That of a whole process.
    pub fn of_whole(&mut self, pid: u32) -> Option<Record> {
        self.wholes.remove(&pid).map(|(record, _)| record)
    }

    /// Forgets what nobody can ask for any more. A record comes with its exit event or before it: what is left after a while had its
    /// event lost. Freeing the memory of a large process takes seconds, and that lies between the two.
    pub fn age(&mut self, is_young: impl Fn(u64) -> bool) {
        const STRAYS: usize = 10_000;
        self.tasks.retain(|_, (_, taken_ns)| is_young(*taken_ns));
        self.wholes.retain(|_, (_, taken_ns)| is_young(*taken_ns));
        self.again.retain(|(_, taken_ns)| is_young(*taken_ns));
        if self.tasks.len() + self.again.len() > STRAYS {
            self.tasks.clear();
            self.again.clear();
        }
        if self.wholes.len() > STRAYS {
            self.wholes.clear();
        }
    }

    /// The record of a task; the first, where its id has two.
    pub fn of_task(&mut self, task: u32) -> Option<Record> {
        let (record, _) = self.tasks.remove(&task)?;
        if let Some(at) = self.again.iter().position(|(again, _)| again.id == task) {
            self.tasks.insert(task, self.again.remove(at));
        }
        Some(record)
    }

    /// The record of the first task, where `told` is the id under which its exit event came: not its own, because it was
    /// exchanged between the two. No other task ends without a record of its own, unless that was lost.
    pub fn exchanged(&mut self, told: Task) -> Option<Record> {
        let (record, _) = self.tasks.get(&told.pid)?;
        if told.task == told.pid || record.is_last() != Some(false) {
            return None;
        }
        self.of_task(told.pid)
    }

    /// The record of the last task, where one of the same id waited before it.
    pub fn last_behind(&mut self, pid: u32) -> Option<Record> {
        let (record, _) = self.tasks.get(&pid)?;
        if record.is_last() == Some(true) { self.of_task(pid) } else { None }
    }

    /// An id was given anew: records of whoever had it before, whose exit event was lost, are not its own.
    pub fn forget(&mut self, id: u32, born_ns: u64) {
        if self.tasks.get(&id).is_some_and(|(_, taken_ns)| *taken_ns < born_ns) {
            self.again.retain(|(record, taken_ns)| record.id != id || *taken_ns >= born_ns);
            self.tasks.remove(&id);
            if let Some(at) = self.again.iter().position(|(again, _)| again.id == id) {
                self.tasks.insert(id, self.again.remove(at));
            }
        }
        if self.wholes.get(&id).is_some_and(|(_, taken_ns)| *taken_ns < born_ns) {
            self.wholes.remove(&id);
        }
    }
}
