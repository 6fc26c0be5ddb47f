//! Who is to be considered at a plan of stream `pss`: whoever was touched, whose reading is old, who waits for one, and who shares
//! memory with somebody who was born or died. Nobody else's reading can have become another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::footprint::{Footprint, Now, SAMPLES};
use super::table::{Process, Table};

/// A reading, and when it was made.
#[derive(Clone, Copy, Debug)]
struct Read {
    tick: u64,
    ns: u64,
    pid: u32,
}

/// What the plans remember.
#[derive(Debug, Default)]
pub struct Due {
    /// Readings in the order in which they were made, which is that in which they are old.
    readings: VecDeque<Read>,
    /// Those who waited for a reading at the plan before.
    waiting: Vec<u32>,
    /// Who has an executable: their processes share memory. Some of them may have ended, or have another by now.
    sharing: FxHashMap<Arc<[u8]>, Vec<u32>>,
}

impl Due {
    /// A reading of a process came.
    pub fn was_read(&mut self, pid: u32, footprint: &Footprint) {
        let (tick, ns) = footprint.read_at();
        self.readings.push_back(Read { tick, ns, pid });
    }

    /// A process waits for a reading.
    pub fn waits(&mut self, pid: u32) {
        self.waiting.push(pid);
    }

    /// Those who wait, and those whose readings are old by now, are added to `pids`; none of them waits any more.
    pub fn take(&mut self, table: &Table, now: Now, max_age: Duration, pids: &mut Vec<u32>) {
        pids.append(&mut self.waiting);
        let is_old = |read: &Read| read.tick + u64::from(SAMPLES) <= now.tick || now.since(read.ns) >= max_age;
        while let Some(read) = self.readings.front().copied().filter(is_old) {
            self.readings.pop_front();
            if is_last(table, read) {
                pids.push(read.pid);
            }
        }
    }

    /// How many have each of these executables, by the pids of those who do.
    pub fn count_sharers(&mut self, table: &Table, exes: &mut FxHashSet<Arc<[u8]>>) -> FxHashMap<u32, u32> {
        let mut counts = FxHashMap::default();
        for exe in exes.drain() {
            let Some(pids) = self.sharing.get_mut(&exe) else { continue };
            pids.sort_unstable();
            pids.dedup();
            let has_it = |process: &Process| !process.stat.is_zombie() && process.facts.exe.known() == Some(&exe);
            pids.retain(|pid| table.get(*pid).is_some_and(has_it));
            let count = u32::try_from(pids.len()).unwrap_or(u32::MAX);
            counts.extend(pids.iter().map(|pid| (*pid, count)));
            if pids.is_empty() {
                self.sharing.remove(&exe);
            }
        }
        counts
    }

    /// Notes which executable a process has.
    pub fn note_sharer(&mut self, process: &mut Process) {
        let (Some(footprint), Some(exe)) = (process.footprint.as_mut(), process.facts.exe.known()) else { return };
        if !footprint.exe.as_ref().is_some_and(|noted| Arc::ptr_eq(noted, exe)) {
            footprint.exe = Some(Arc::clone(exe));
            self.sharing.entry(Arc::clone(exe)).or_default().push(process.id.pid);
        }
    }

    /// Forgets those who have an executable no longer.
    pub fn forget_strangers(&mut self, table: &Table) {
        self.sharing.retain(|exe, pids| {
            pids.retain(|pid| table.get(*pid).is_some_and(|process| process.facts.exe.known() == Some(exe)));
            !pids.is_empty()
        });
    }

    /// How old the oldest reading of anybody is.
    pub fn oldest(&mut self, table: &Table, now_ns: u64) -> Duration {
        let age = |pid: u32| table.get(pid).and_then(|process| process.footprint.as_ref()?.age(now_ns));
        while self.readings.front().is_some_and(|read| !is_last(table, *read)) {
            self.readings.pop_front();
        }
        let first = self.readings.front().map(|read| read.pid);
        first.into_iter().chain(self.waiting.iter().copied()).filter_map(age).max().unwrap_or_default()
    }
}

/// Whether this is the last reading of a process that is still there.
fn is_last(table: &Table, read: Read) -> bool {
    table.get(read.pid).and_then(|process| process.footprint.as_ref()).is_some_and(|footprint| footprint.read_at().1 == read.ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::facts::Reading;
    use crate::source::stat::Stat;

    const S: u64 = 1_000_000_000;

    fn table(exes: &[(u32, &[u8])]) -> (Table, Due) {
        let (mut table, mut due) = (Table::new(0), Due::default());
        for (pid, exe) in exes {
            let mut process = Process::new(Stat { pid: *pid, start: 1, state: b'S', ..Stat::default() }, b"x", None);
            process.facts.exe = Reading::Known((*exe).into());
            process.footprint = Some(Box::default());
            due.note_sharer(&mut process);
            due.note_sharer(&mut process);
            table.insert(process);
        }
        (table, due)
    }

    fn read(table: &mut Table, due: &mut Due, pid: u32, tick: u64) {
        let footprint = table.get_mut(pid).and_then(|process| process.footprint.as_mut()).unwrap();
        footprint.was_read_at(tick, tick * S);
        due.was_read(pid, footprint);
    }

    #[test]
    fn readings_are_due_when_they_are_old_and_the_last_of_their_process() {
        let (mut table, mut due) = table(&[(1, b"/a"), (2, b"/a"), (3, b"/a"), (4, b"/a")]);
        for (pid, tick) in [(1, 5), (2, 5), (3, 6), (1, 8), (4, 9)] {
            read(&mut table, &mut due, pid, tick);
        }
        table.remove(3);
        let mut at = |tick: u64, max_age: u64| {
            let mut pids = Vec::new();
            due.take(&table, Now { tick, ns: tick * S }, Duration::from_secs(max_age), &mut pids);
            due.waiting.extend_from_slice(&pids);
            (pids, due.oldest(&table, tick * S).as_secs())
        };
        assert_eq!(at(34, 300), (vec![], 29));
        assert_eq!(at(35, 300), (vec![2], 30), "the first was read again since, and who waits is as old as it is");
        assert_eq!(at(38, 300), (vec![2, 1], 33));
        assert_eq!(at(38, 29), (vec![2, 1, 4], 33));
    }

    #[test]
    fn sharers_are_those_who_have_the_executable_now() {
        let (mut table, mut due) = table(&[(1, b"/a"), (2, b"/a"), (3, b"/a"), (4, b"/b")]);
        let exes = |names: [&[u8]; 2]| names.into_iter().map(Arc::from).collect::<FxHashSet<Arc<[u8]>>>();
        table.remove(1);
        let executes = table.get_mut(2).unwrap();
        executes.facts.exe = Reading::Known(b"/b".as_slice().into());
        due.note_sharer(executes);
        let counted = |due: &mut Due, table: &Table, names| {
            let mut counts: Vec<(u32, u32)> = due.count_sharers(table, &mut exes(names)).into_iter().collect();
            counts.sort_unstable();
            counts
        };
        assert_eq!(counted(&mut due, &table, [b"/a", b"/c"]), [(3, 1)]);
        assert_eq!(counted(&mut due, &table, [b"/b", b"/c"]), [(2, 2), (4, 2)]);
        table.remove(3);
        assert_eq!(counted(&mut due, &table, [b"/a", b"/c"]), []);
        assert_eq!(due.sharing.len(), 1, "nobody has it any more");
    }
}
