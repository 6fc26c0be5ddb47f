//! A round that is for memory alone need not ask everyone.
//!
//! To ask a thousand sleeping processes whether they ran costs as much as to read the memory of thirty, second after second. Who has
//! slept for long is asked in every fourth round only, each round another quarter of them. What they might do to the sum is
//! bounded by asking the machine first: where what all processes together have in memory moved since the round before, everyone is asked.

use std::time::Duration;

use crate::observer::table::Process;
use crate::source::host::meminfo;
use crate::source::procdir::Proc;

/// Of samples that are no further apart: four of them are no long time, and of others asking everyone is no cost.
pub const SHORT: Duration = Duration::from_secs(2);
/// Rounds after which a process that did not run sleeps for long.
const LONG: u8 = 10;
/// In how many rounds everyone has been asked.
const TURNS: u32 = 4;
/// The machine's memory moved by more than a part of so many: everyone is asked.
const PART: u64 = 500;

/// What rounds remember of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// The next round is for memory alone.
    pub wanted: bool,
    turn: u32,
    in_memory: u64,
}

impl Patience {
    /// Whose turn it is in this round; `None` where everyone's.
    pub(super) fn turn(&mut self, proc: &Proc) -> Option<u32> {
        if !std::mem::take(&mut self.wanted) {
            return None;
        }
        let text = proc.read("meminfo").ok()?;
        self.turn_with(meminfo(&text, b"AnonPages")?.saturating_add(meminfo(&text, b"Mapped")?))
    }

    fn turn_with(&mut self, in_memory: u64) -> Option<u32> {
        let before = std::mem::replace(&mut self.in_memory, in_memory);
        self.turn = self.turn.wrapping_add(1);
        (before.abs_diff(in_memory) <= in_memory / PART).then_some(self.turn)
    }
}

/// Whether a process is left out of a round in which it is this turn.
pub(super) const fn sleeps_on(process: &Process, turn: u32) -> bool {
    process.still >= LONG && process.is_read() && process.id.pid % TURNS != turn % TURNS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::stat::Stat;

    #[test]
    fn who_sleeps_for_long_is_asked_once_in_four_rounds_and_who_ran_in_each() {
        let of = |pid, still| {
            let mut process = Process::new(Stat { pid, start: 1, state: b'S', ..Stat::default() }, b"x", None);
            process.still = still;
            process
        };
        for pid in 1..9 {
            assert_eq!((0..4).filter(|turn| sleeps_on(&of(pid, LONG), *turn)).count(), 3);
            assert_eq!((0..4).filter(|turn| sleeps_on(&of(pid, LONG - 1), *turn)).count(), 0);
        }
    }

    #[test]
    fn where_the_machine_s_memory_moved_it_is_everyone_s_turn() {
        let mut patience = Patience::default();
        let turns: Vec<bool> =
            [5_000, 5_000, 5_010, 5_021, 5_021, 4_000].into_iter().map(|bytes| patience.turn_with(bytes).is_some()).collect();
        assert_eq!(turns, [false, true, true, false, true, false]);
    }
}
