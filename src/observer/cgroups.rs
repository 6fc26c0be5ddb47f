//! What the control groups of the living have and may have. Each is read once, however many processes it holds: when it is met, when a
//! member ran and it has a limit, from time to time where it has one, and at full samples, as it may have one by then.

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::facts::Reading;
use crate::source::ReadError;
use crate::source::cgroup_limits::{Controller, Hierarchies, Pair};
use crate::source::procdir::Proc;

/// A group in the hierarchy of a controller.
pub type Group = (Controller, Arc<[u8]>);
/// What became of reading one: `Ok(None)` where neither it nor an ancestor has a limit.
pub type Found = (Group, Result<Option<Pair>, ReadError>);

/// Groups that are read in one go; beyond that the others wait for the next, when it is their turn.
const MOST: usize = 2000;

/// Which groups a tick reads, besides those that were never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of whoever ran, where they have a limit ([`Cgroups::ran`] says whose).
    Ran,
    /// All that have a limit: others may have used what they share.
    Limited,
    /// All.
    Everyone,
}

/// What is known of a group.
#[derive(Debug, Default)]
struct Known {
    reading: Reading<Pair>,
    /// It is to be read.
    due: bool,
    /// At which tick it was asked for last.
    asked: u64,
}

/// The groups of the living.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Arc<Hierarchies>,
    known: FxHashMap<Group, Known>,
    /// Ticks.
    ticks: u64,
}

impl Cgroups {
    /// Of the machine whose `/proc` this is; of a made tree none, as its groups are not this machine's.
    #[must_use]
    pub fn new(proc: &Proc) -> Self {
        Self { hierarchies: Arc::new(hierarchies(proc)), known: FxHashMap::default(), ticks: 0 }
    }

    /// Where they are mounted.
    #[must_use]
    pub fn hierarchies(&self) -> Arc<Hierarchies> {
        Arc::clone(&self.hierarchies)
    }

    /// The group a process is in, from its `/proc/PID/cgroup`, to be kept with it; `None` where nothing of it is mounted.
    pub fn meet(&mut self, controller: Controller, text: &[u8]) -> Option<Arc<[u8]>> {
        let path = self.hierarchies.group(controller, text)?;
        let group: Group = (controller, path.into());
        if let Some(((_, known), _)) = self.known.get_key_value(&group) {
            return Some(Arc::clone(known));
        }
        let path = Arc::clone(&group.1);
        self.known.insert(group, Known { due: true, ..Known::default() });
        Some(path)
    }

    /// A member ran: what it has of its limit may be another by now.
    pub fn ran(&mut self, controller: Controller, path: &Arc<[u8]>) {
        if let Some(known) = self.known.get_mut(&(controller, Arc::clone(path))) {
            known.due |= is_limited(&known.reading);
        }
    }

    /// Which are to be read at a tick, those first whose turn is longest ago. Those nobody is in any more are forgotten, unless it is
    /// only about those that ran.
    pub fn due(&mut self, proc: &Proc, reach: Reach) -> Vec<Group> {
        if reach == Reach::Everyone {
            // Hierarchies are mounted and unmounted; what was read under the ones before stays until it is read again.
            let now = hierarchies(proc);
            if now != *self.hierarchies {
                self.hierarchies = Arc::new(now);
            }
        }
        if reach != Reach::Ran {
            self.known.retain(|(_, path), _| Arc::strong_count(path) > 1);
            if self.known.len() < self.known.capacity() / 4 {
                self.known.shrink_to_fit();
            }
            for known in self.known.values_mut() {
                known.due |= reach == Reach::Everyone || is_limited(&known.reading);
            }
        }
        self.ticks += 1;
        let mut due: Vec<(&Group, &mut Known)> = self.known.iter_mut().filter(|(_, known)| known.due).collect();
        if due.len() > MOST {
            due.select_nth_unstable_by_key(MOST, |(_, known)| known.asked);
            due.truncate(MOST);
        }
        // Due until there is an answer: readers that are behind drop what they were asked before.
        for (_, known) in &mut due {
            known.asked = self.ticks;
        }
        due.into_iter().map(|(group, _)| group.clone()).collect()
    }

    /// Takes what was read.
    pub fn take(&mut self, found: Vec<Found>) {
        for (group, answer) in found {
            let Some(known) = self.known.get_mut(&group) else { continue };
            known.due = false;
            known.reading = match answer {
                Ok(Some(pair)) => Reading::Known(pair),
                Ok(None) => Reading::Absent,
                Err(error) => Reading::from_read(Err(error)),
            };
        }
    }

    /// What a group has and may have, as it was read last: of it and its ancestors, the one nearest to its limit.
    #[must_use]
    pub fn of(&self, controller: Controller, path: Option<&Arc<[u8]>>) -> Reading<Pair> {
        let Some(path) = path else { return Reading::Absent };
        self.known.get(&(controller, Arc::clone(path))).map(|known| known.reading.clone()).unwrap_or_default()
    }
}

/// Whether it has a limit, or could have for all that is known.
const fn is_limited(reading: &Reading<Pair>) -> bool {
    matches!(reading, Reading::Unread | Reading::Known(_) | Reading::Late)
}

fn hierarchies(proc: &Proc) -> Hierarchies {
    if !proc.is_native() {
        return Hierarchies::default();
    }
    Hierarchies::parse(&proc.read("self/mountinfo").unwrap_or_default(), Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups() -> Cgroups {
        let info = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        Cgroups { hierarchies: Arc::new(Hierarchies::parse(info, Path::new("/"))), known: FxHashMap::default(), ticks: 0 }
    }

    fn proc() -> Proc {
        Proc::open(tempfile::tempdir().unwrap().path()).unwrap()
    }

    const PAIR: Pair = Pair { value: 1, limit: 2 };

    #[test]
    fn a_group_is_read_once_a_tick_and_only_where_it_is_limited_and_somebody_ran() {
        let (proc, mut cgroups) = (proc(), cgroups());
        let (a, again) = (cgroups.meet(Controller::Pids, b"0::/a\n").unwrap(), cgroups.meet(Controller::Pids, b"0::/a\n").unwrap());
        assert!(Arc::ptr_eq(&a, &again), "however many are in it");
        let b = cgroups.meet(Controller::Pids, b"0::/b\n").unwrap();
        assert_eq!(cgroups.due(&proc, Reach::Ran).len(), 2, "both are new");
        assert_eq!(cgroups.due(&proc, Reach::Ran).len(), 2, "nobody answered");
        cgroups.take(vec![((Controller::Pids, Arc::clone(&a)), Ok(Some(PAIR))), ((Controller::Pids, Arc::clone(&b)), Ok(None))]);
        assert_eq!(cgroups.due(&proc, Reach::Ran), [], "nobody ran");
        for group in [&a, &again, &b] {
            cgroups.ran(Controller::Pids, group);
        }
        let limited = [(Controller::Pids, Arc::clone(&a))];
        assert_eq!(cgroups.due(&proc, Reach::Ran), limited);
        cgroups.take(vec![(limited[0].clone(), Ok(Some(PAIR)))]);
        assert_eq!(cgroups.due(&proc, Reach::Ran), []);
        assert_eq!(cgroups.due(&proc, Reach::Limited), limited);
        assert_eq!(
            (cgroups.of(Controller::Pids, Some(&a)), cgroups.of(Controller::Pids, Some(&b))),
            (Reading::Known(PAIR), Reading::Absent)
        );
        assert_eq!(cgroups.of(Controller::Memory, Some(&a)), Reading::Unread);
        assert_eq!(cgroups.of(Controller::Pids, None), Reading::Absent);
        assert_eq!(cgroups.due(&proc, Reach::Everyone).len(), 2, "whoever has no limit is asked too");
        cgroups.take(vec![((Controller::Pids, a), Err(ReadError::Refused))]);
        assert_eq!(cgroups.of(Controller::Pids, Some(&again)), Reading::Refused);
    }

    #[test]
    fn each_of_many_groups_has_its_turn() {
        let (proc, mut cgroups) = (proc(), cgroups());
        let meet = |number| cgroups.meet(Controller::Pids, format!("0::/{number}\n").as_bytes());
        let members: Vec<Option<Arc<[u8]>>> = (0..MOST * 5 / 2).map(meet).collect();
        let mut turns = rustc_hash::FxHashSet::default();
        for _ in 0..3 {
            let due = cgroups.due(&proc, Reach::Limited);
            assert_eq!(due.len(), MOST);
            turns.extend(due.iter().cloned());
            cgroups.take(due.into_iter().map(|group| (group, Ok(Some(PAIR)))).collect());
        }
        assert_eq!(turns.len(), members.len());
    }

    #[test]
    fn groups_nobody_is_in_any_more_are_forgotten() {
        let (proc, mut cgroups) = (proc(), cgroups());
        let meet = |number| cgroups.meet(Controller::Pids, format!("0::/{number}\n").as_bytes());
        let mut members: Vec<Option<Arc<[u8]>>> = (0..1000).map(meet).collect();
        let before = cgroups.known.capacity();
        members.truncate(1);
        assert_eq!(cgroups.due(&proc, Reach::Everyone).len(), 1);
        assert!(cgroups.known.len() == 1 && cgroups.known.capacity() < before / 4, "{}", cgroups.known.capacity());
    }
}
