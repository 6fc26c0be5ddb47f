//! What `psmon pss` shows: rows in their order, and totals that say what is not in them.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::names::Naming;
use crate::observer::facts::Reading;
use crate::observer::names::Names;
use crate::observer::survey::Look;
use crate::source::smaps::Memory;

/// How far the memory of a process is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It ended and waits for its parent: it has none.
    Zombie,
    /// The kernel refused it.
    Refused,
    /// It did not answer.
    Late,
    /// It was read.
    Read,
}

impl State {
    /// The word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Zombie => "zombie",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Read => "read",
        }
    }
}

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// One process.
    Process {
        /// Its pid.
        pid: u32,
        /// How far its memory is known.
        state: State,
    },
    /// All of one group.
    Group {
        /// Those that are in the sum.
        procs: u64,
        /// Those whose memory could not be read.
        unread: u64,
    },
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name; `None` where it could not be had.
    pub name: Option<Vec<u8>>,
    /// Whose it is.
    pub of: Of,
    /// The memory, of a group the sum of those that were read; `None` where none was.
    pub memory: Option<Memory>,
}

impl Row {
    /// Unknown ones first, then the small ones: the largest stands next to the total.
    fn order(&self, other: &Self) -> Ordering {
        let key = |row: &Self| match row.of {
            Of::Process { pid, state } => (row.memory.map(|memory| memory.pss), state, u64::from(pid)),
            Of::Group { procs, .. } => (row.memory.map(|memory| memory.pss), State::Read, procs),
        };
        key(self).cmp(&key(other)).then_with(|| self.name.cmp(&other.name))
    }

    /// Whether it has memory that is not known, not even a part of it.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        match self.of {
            Of::Process { state, .. } => matches!(state, State::Refused | State::Late),
            Of::Group { procs, unread } => procs == 0 && unread > 0,
        }
    }
}

/// Totals of all that are meant, shown or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of the proportional set sizes.
    pub pss: u64,
    /// Sum of what is swapped out, which is not in `pss`.
    pub swap_pss: u64,
    /// Sum of what nobody shares.
    pub uss: u64,
    /// How many processes are in these sums.
    pub procs: u64,
    /// How many the kernel refused.
    pub refused: u64,
    /// How many did not answer.
    pub late: u64,
    /// How many are zombies.
    pub zombies: u64,
    /// How many ended before they were read.
    pub vanished: u64,
    /// Of how many it could not be said whether they are meant.
    pub unknown: u64,
    /// Rows left out by `--top`.
    pub left_out: u64,
    /// What those have.
    pub left_out_pss: u64,
}

/// Rows and totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// In their order.
    pub rows: Vec<Row>,
    /// Of all.
    pub totals: Totals,
    /// Whether we have all the privilege there is to read memory: then more of it mends nothing.
    pub privileged: bool,
}

impl Sums {
    /// From a look; of more than `top` rows, the largest.
    #[must_use]
    pub fn of(look: &Look, naming: &Naming, users: &Names, top: Option<u64>) -> Self {
        let mut totals = Totals { vanished: look.vanished, unknown: look.unknown, ..Totals::default() };
        let mut rows = Vec::with_capacity(look.processes.len());
        let mut groups: HashMap<Option<Vec<u8>>, (Option<Memory>, u64, u64)> = HashMap::new();
        for process in &look.processes {
            let state = match &process.memory {
                Reading::Known(_) => State::Read,
                Reading::Absent => State::Zombie,
                Reading::Late | Reading::Unread => State::Late,
                Reading::Refused => State::Refused,
            };
            let memory = process.memory.known().copied();
            totals.count(state, memory);
            match naming.group(process, users) {
                None => rows.push(Row { name: naming.name(process), of: Of::Process { pid: process.pid, state }, memory }),
                Some(name) => {
                    let (sum, procs, unread) = groups.entry(name).or_default();
                    if let Some(memory) = memory {
                        *sum = Some(sum.map_or(memory, |sum| plus(sum, memory)));
                        *procs += 1;
                    }
                    *unread += u64::from(matches!(state, State::Refused | State::Late));
                }
            }
        }
        rows.extend(groups.into_iter().map(|(name, (memory, procs, unread))| Row { name, of: Of::Group { procs, unread }, memory }));
        rows.sort_unstable_by(Row::order);
        let mut sums = Self { rows, totals, privileged: false };
        if let Some(top) = top {
            sums.keep_largest(usize::try_from(top).unwrap_or(usize::MAX));
        }
        sums
    }

    /// Leaves out all but the last so many rows.
    pub fn keep_largest(&mut self, count: usize) {
        let out = self.rows.len().saturating_sub(count);
        self.totals.left_out += out as u64;
        let left_out = self.rows.drain(..out).filter_map(|row| row.memory).map(|memory| memory.pss);
        self.totals.left_out_pss = left_out.fold(self.totals.left_out_pss, u64::saturating_add);
    }

    /// Whether nobody is meant.
    #[must_use]
    pub const fn nothing_matched(&self) -> bool {
        self.rows.is_empty() && self.totals.left_out == 0
    }

    /// What the totals do not hold, in sentences, and what to do about it.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        let Totals { refused, late, zombies, unknown, .. } = self.totals;
        let mut said = Vec::new();
        let missing: Vec<String> = [(refused, "could not be read (permission)"), (late, "did not answer")]
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !missing.is_empty() {
            let mend = match (refused, self.privileged) {
                (0, _) => "",
                (_, false) => " Run it as root, or with CAP_SYS_PTRACE, to see all.",
                (_, true) => " The kernel refuses those even to root.",
            };
            said.push(format!("{}: the total is without them.{mend}", missing.join(" and ")));
        }
        match zombies {
            0 => {}
            1 => said.push("1 is a zombie, which has no memory.".to_owned()),
            _ => said.push(format!("{zombies} are zombies, which have no memory.")),
        }
        if unknown > 0 {
            said.push(format!("{unknown} could not be named: whether they are meant cannot be said."));
        }
        said
    }
}

impl Totals {
    fn count(&mut self, state: State, memory: Option<Memory>) {
        match state {
            State::Read => self.procs += 1,
            State::Zombie => self.zombies += 1,
            State::Refused => self.refused += 1,
            State::Late => self.late += 1,
        }
        if let Some(memory) = memory {
            self.pss = self.pss.saturating_add(memory.pss);
            self.swap_pss = self.swap_pss.saturating_add(memory.swap_pss);
            self.uss = self.uss.saturating_add(memory.uss);
        }
    }
}

/// What is not told of one is not told of the sum.
fn plus(one: Memory, other: Memory) -> Memory {
    let both = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
    Memory {
        rss: one.rss.saturating_add(other.rss),
        pss: one.pss.saturating_add(other.pss),
        pss_anon: both(one.pss_anon, other.pss_anon),
        pss_file: both(one.pss_file, other.pss_file),
        pss_shmem: both(one.pss_shmem, other.pss_shmem),
        pss_dirty: both(one.pss_dirty, other.pss_dirty),
        uss: one.uss.saturating_add(other.uss),
        swap_pss: one.swap_pss.saturating_add(other.swap_pss),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::names::{By, NameFrom};
    use super::*;
    use crate::observer::survey::Seen;

    /// Some of each kind: two that share a name, one refused, one late, a zombie.
    pub(in crate::cli::pss) fn look() -> Look {
        let process = |pid: u32, name: &str, memory: Reading<Memory>| Seen {
            pid,
            memory,
            comm: Reading::Known(name.as_bytes().to_vec()),
            exe: Reading::Absent,
            owner: Reading::Known(0),
            ..Seen::default()
        };
        let known = |pss: u64| Reading::Known(Memory { pss, uss: pss / 2, rss: pss * 2, swap_pss: 1024, ..Memory::default() });
        Look {
            processes: vec![
                process(1, "big, \"b\"", known(9 << 20)),
                process(2, "small", known(2048)),
                process(3, "small", known(2048)),
                process(4, "secret", Reading::Refused),
                process(5, "stuck", Reading::Late),
                process(6, "ended", Reading::Absent),
            ],
            vanished: 1,
            unknown: 0,
        }
    }

    pub(in crate::cli::pss) fn sums(by: Option<By>, top: Option<u64>) -> Sums {
        Sums::of(&look(), &Naming::new(NameFrom::Comm, by, None).unwrap(), &Names::default(), top)
    }

    fn pids(sums: &Sums) -> Vec<u32> {
        sums.rows.iter().map(|row| if let Of::Process { pid, .. } = row.of { pid } else { 0 }).collect()
    }

    #[test]
    fn the_largest_stands_last_and_the_unknown_first() {
        let sums = sums(None, None);
        assert_eq!(pids(&sums), [6, 4, 5, 2, 3, 1]);
        let Totals { pss, swap_pss, uss, procs, refused, late, zombies, vanished, .. } = sums.totals;
        assert_eq!((pss, swap_pss, uss), ((9 << 20) + 4096, 3072, (9 << 19) + 2048));
        assert_eq!((procs, refused, late, zombies, vanished), (3, 1, 1, 1, 1));
    }

    #[test]
    fn the_totals_of_the_top_are_those_of_all() {
        let top = sums(None, Some(2));
        assert_eq!(pids(&top), [3, 1]);
        assert_eq!((top.totals.left_out, top.totals.left_out_pss), (4, 2048));
        assert_eq!(top.totals.pss, sums(None, None).totals.pss);
        assert!(!sums(None, Some(9)).nothing_matched() && Sums::default().nothing_matched());
    }

    #[test]
    fn groups_are_sums_of_those_that_were_read() {
        let program = sums(Some(By::Program), None);
        let small = program.rows.iter().find(|row| row.name.as_deref() == Some(b"small")).unwrap();
        assert_eq!((small.of, small.memory.unwrap().pss), (Of::Group { procs: 2, unread: 0 }, 4096));
        let secret = program.rows.iter().find(|row| row.name.as_deref() == Some(b"secret")).unwrap();
        assert!(secret.is_unknown() && secret.memory.is_none());
        let user = sums(Some(By::User), None);
        assert_eq!(user.rows.len(), 1);
        assert_eq!((user.rows[0].of, user.rows[0].memory.unwrap().pss), (Of::Group { procs: 3, unread: 2 }, user.totals.pss));
        let cgroup = sums(Some(By::Cgroup), None);
        assert_eq!((cgroup.rows.len(), &cgroup.rows[0].name), (1, &None));
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = sums(None, None).unread();
        assert_eq!(
            said,
            [
                "1 could not be read (permission) and 1 did not answer: the total is without them. Run it as root, or with CAP_SYS_PTRACE, to see all.",
                "1 is a zombie, which has no memory."
            ]
        );
        assert!(Sums::default().unread().is_empty());
    }
}
