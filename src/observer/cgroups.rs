//! What the control groups of the living have and may have: each is read once a tick, however many processes it holds, and only
//! where it has a limit at all; whether it has one is looked at when it is met and at full samples.

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

/// Groups that are read in one go; beyond that the others wait for the next.
const MOST: usize = 2000;

/// The groups of the living.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Arc<Hierarchies>,
    known: FxHashMap<Group, Reading<Pair>>,
}

impl Cgroups {
    /// Of the machine whose `/proc` this is; of a made tree none, as its groups are not this machine's.
    #[must_use]
    pub fn new(proc: &Proc) -> Self {
        Self { hierarchies: Arc::new(hierarchies(proc)), known: FxHashMap::default() }
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
        self.known.insert(group, Reading::Unread);
        Some(path)
    }

    /// Which are to be read at a tick. At a full sample all of them, and those nobody is in any more are forgotten.
    pub fn due(&mut self, proc: &Proc, everyone: bool) -> Vec<Group> {
        if everyone {
            // Hierarchies are mounted and unmounted; what was read under the ones before stays until it is read again.
            let now = hierarchies(proc);
            if now != *self.hierarchies {
                self.hierarchies = Arc::new(now);
            }
            self.known.retain(|(_, path), _| Arc::strong_count(path) > 1);
        }
        let is_due = |reading: &Reading<Pair>| everyone || matches!(reading, Reading::Unread | Reading::Known(_) | Reading::Late);
        self.known.iter().filter(|(_, reading)| is_due(reading)).take(MOST).map(|(group, _)| group.clone()).collect()
    }

    /// Takes what was read.
    pub fn take(&mut self, found: Vec<Found>) {
        for (group, answer) in found {
            let Some(place) = self.known.get_mut(&group) else { continue };
            *place = match answer {
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
        self.known.get(&(controller, Arc::clone(path))).cloned().unwrap_or_default()
    }
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
        Cgroups { hierarchies: Arc::new(Hierarchies::parse(info, Path::new("/"))), known: FxHashMap::default() }
    }

    #[test]
    fn a_group_is_read_once_a_tick_and_only_where_it_is_limited() {
        let proc = Proc::open(tempfile::tempdir().unwrap().path()).unwrap();
        let mut cgroups = cgroups();
        let (a, again) = (cgroups.meet(Controller::Pids, b"0::/a\n").unwrap(), cgroups.meet(Controller::Pids, b"0::/a\n").unwrap());
        assert!(Arc::ptr_eq(&a, &again), "however many are in it");
        let b = cgroups.meet(Controller::Pids, b"0::/b\n").unwrap();
        assert_eq!(cgroups.due(&proc, false).len(), 2, "both are new");
        let pair = Pair { value: 1, limit: 2 };
        cgroups.take(vec![((Controller::Pids, Arc::clone(&a)), Ok(Some(pair))), ((Controller::Pids, Arc::clone(&b)), Ok(None))]);
        assert_eq!(cgroups.due(&proc, false), [(Controller::Pids, Arc::clone(&a))]);
        assert_eq!(
            (cgroups.of(Controller::Pids, Some(&a)), cgroups.of(Controller::Pids, Some(&b))),
            (Reading::Known(pair), Reading::Absent)
        );
        assert_eq!(cgroups.of(Controller::Memory, Some(&a)), Reading::Unread);
        assert_eq!(cgroups.of(Controller::Pids, None), Reading::Absent);
        // At a full sample whoever has no limit is asked too, and whom nobody is in is forgotten.
        drop(b);
        assert_eq!(cgroups.due(&proc, true), [(Controller::Pids, Arc::clone(&a))]);
        cgroups.take(vec![((Controller::Pids, a), Err(ReadError::Refused))]);
        assert_eq!(cgroups.of(Controller::Pids, Some(&again)), Reading::Refused);
    }
}
