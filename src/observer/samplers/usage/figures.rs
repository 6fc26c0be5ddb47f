//! What a row of streams `usage` and `usage_process` is made of: figures of one process, or added up over the members of a program. A
//! figure that was refused of one member is not known of the program.

use crate::observer::accounts::Spent;
use crate::observer::facts::Reading;
use crate::observer::radar::{LimitKind, Nearest, Together, Worst};
use crate::observer::samplers::measure::STATES;
use crate::observer::sockets::{self, Sockets};
use crate::observer::table::Process;
use crate::record::value::Value;

/// The place of Z among them.
const ZOMBIE: usize = 3;

/// A sum, and what is missing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) total: u64,
    pub(super) known: bool,
    pub(super) refused: bool,
    pub(super) late: bool,
}

impl Sum {
    const fn add(&mut self, value: u64) {
        self.total = self.total.saturating_add(value);
        self.known = true;
    }

    pub(super) fn read<T>(&mut self, reading: &Reading<T>, value: impl FnOnce(&T) -> u64) {
        match reading {
            Reading::Known(known) => self.add(value(known)),
            Reading::Absent => {}
            Reading::Refused => self.refused = true,
            Reading::Late | Reading::Unread => self.late = true,
        }
    }
}

/// What one row shows.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) procs: u64,
    pub(super) threads: u64,
    pub(super) pct: Option<i64>,
    pub(super) spent: Spent,
    /// Whether all io, and all switches, of those in `spent` are known.
    pub(super) io: Sum,
    pub(super) switches: Sum,
    pub(super) rss: Sum,
    pub(super) vsz: Sum,
    pub(super) pss: Sum,
    pub(super) pss_age_ms: Option<u64>,
    pub(super) fds: Sum,
    /// The inodes of all sockets, those that several hold as often, and the namespaces they are of.
    pub(super) inodes: Vec<u64>,
    pub(super) namespaces: Vec<u64>,
    /// What could not be listed.
    pub(super) lists: Sum,
    pub(super) counts: Reading<sockets::Counts>,
    /// Soft limits of descriptors, in per cent of which they are used: tenths, the largest.
    pub(super) fd_tenths: Option<i64>,
    pub(super) measured: Together,
    pub(super) oldest: Option<u64>,
    pub(super) states: [u32; STATES.len()],
    /// Of a program.
    pub(super) account: Option<(u64, u64, Option<u32>)>,
}

impl Figures {
    /// Adds a process.
    pub(super) fn add(&mut self, process: &Process, page: u64, now_ns: u64) {
        if let Some(count) = STATES.iter().position(|state| *state == process.stat.state).and_then(|at| self.states.get_mut(at)) {
            *count += 1;
        }
        if process.stat.is_dead() {
            return;
        }
        self.procs += 1;
        self.threads += process.stat.num_threads;
        // Of one whose first task ended the kernel tells no memory, though the others have theirs.
        let lives = !process.stat.is_zombie();
        for (sum, bytes) in [(&mut self.rss, process.rss_pages.saturating_mul(page)), (&mut self.vsz, process.stat.vsize)] {
            sum.read(&if lives { Reading::Known(bytes) } else { Reading::Refused }, |bytes| *bytes);
        }
        self.oldest = Some(self.oldest.map_or(process.id.start, |oldest| oldest.min(process.id.start)));
        match process.usage.as_deref() {
            Some(usage) => {
                self.io.read(&usage.io, |_| 0);
                self.switches.read(&usage.switches, |_| 0);
                self.fds.read(&usage.fds, |count| *count);
            }
            None => [&mut self.io, &mut self.switches, &mut self.fds].into_iter().for_each(|sum| sum.late = true),
        }
        if let Some(usage) = process.usage.as_deref() {
            let soft = process.limits.as_deref().and_then(|limits| limits.soft.known()).and_then(|soft| soft.nofile);
            if let (Some(fds), Some(limit)) = (usage.fds.known(), soft) {
                let tenths = Nearest { kind: LimitKind::Nofile, value: *fds, limit }.tenths();
                let tenths = i64::try_from(tenths).unwrap_or(i64::MAX);
                self.fd_tenths = Some(self.fd_tenths.map_or(tenths, |most| most.max(tenths)));
            }
            self.measured.add(&usage.measured, Worst { id: process.id, owner: process.facts.owner.known().copied() });
        }
        match process.held.as_deref() {
            Some(held) => {
                self.lists.read(held, |_| 0);
                if let Reading::Known(held) = held {
                    self.inodes.extend_from_slice(&held.inodes);
                    if !held.inodes.is_empty() && self.namespaces.last() != Some(&held.netns) {
                        self.namespaces.push(held.netns);
                    }
                }
            }
            None => self.lists.late = true,
        }
        if let Some(footprint) = process.footprint.as_deref() {
            match &footprint.memory {
                // Its turn has not come: what is known of the others is all there is.
                Reading::Unread | Reading::Absent => {}
                memory => self.pss.read(memory, |memory| memory.pss),
            }
            if let Some(age) = footprint.age(now_ns).filter(|_| footprint.memory.known().is_some()) {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                self.pss_age_ms = Some(self.pss_age_ms.map_or(age, |oldest| oldest.max(age)));
            }
        }
    }

    /// Adds one that ended and waits to be reaped.
    pub(super) fn add_zombie(&mut self) {
        self.states[ZOMBIE] += 1;
    }

    /// What the sockets are, each counted once; whoever's could not be listed leaves nothing known of all.
    pub(super) fn count_sockets(&mut self, all: &Sockets) {
        self.counts = match self.lists {
            Sum { refused: true, .. } => Reading::Refused,
            Sum { late: true, .. } => Reading::Late,
            _ => {
                self.inodes.sort_unstable();
                self.inodes.dedup();
                all.count(self.namespaces.iter().copied(), self.inodes.iter().copied())
            }
        };
    }

    /// Whether something was refused, and whether something did not come in time.
    pub(super) fn marks(&self) -> (bool, bool) {
        let sums = [self.io, self.switches, self.pss, self.fds, self.rss, self.vsz];
        let refused = self.counts == Reading::Refused || sums.iter().any(|sum| sum.refused);
        (refused, matches!(self.counts, Reading::Late | Reading::Unread) || sums.iter().any(|sum| sum.late))
    }

    /// As the column shows them.
    pub(super) fn states(&self) -> Value {
        let mut text = Vec::with_capacity(16);
        for (state, count) in STATES.iter().zip(self.states).filter(|(_, count)| *count > 0) {
            if !text.is_empty() {
                text.push(b',');
            }
            text.push(*state);
            text.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        }
        if text.is_empty() { Value::Absent } else { Value::Word(text.into()) }
    }
}

/// What the sockets of one process are.
pub(super) fn counts_of(process: &Process, all: &Sockets) -> Reading<sockets::Counts> {
    match process.held.as_deref() {
        None => Reading::Late,
        Some(Reading::Known(held)) => all.count(std::iter::once(held.netns), held.inodes.iter().copied()),
        Some(Reading::Refused) => Reading::Refused,
        Some(Reading::Absent) => Reading::Absent,
        Some(Reading::Late | Reading::Unread) => Reading::Late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_counted_by_letter() {
        let mut figures = Figures::default();
        assert_eq!(figures.states(), Value::Absent);
        figures.add_zombie();
        figures.add_zombie();
        assert_eq!(figures.states(), Value::word(b"Z2"));
    }
}
