//! What the totals of stream `pss` hold, kept as it changes: nobody adds up a machine that did nothing.

use super::facts::Reading;
use super::footprint::Footprint;

/// What the totals hold of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pss: u64,
    swap_pss: u64,
    /// Its memory is known.
    known: bool,
    /// It was never read.
    unread: bool,
    cooling: bool,
    refused: bool,
    stuck: bool,
    /// It is in the stream.
    counted: bool,
}

impl Part {
    fn of(footprint: &Footprint) -> Self {
        let memory = footprint.memory.known();
        Self {
            pss: memory.map_or(0, |memory| memory.pss),
            swap_pss: memory.map_or(0, |memory| memory.swap_pss),
            known: memory.is_some(),
            unread: footprint.memory == Reading::Unread,
            cooling: footprint.cooling,
            refused: footprint.refused,
            stuck: footprint.stuck,
            counted: true,
        }
    }
}

/// Sums over all processes of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Proportional set sizes.
    pub pss: u64,
    /// What is swapped out.
    pub swap_pss: u64,
    /// Those whose memory is known.
    pub known: u64,
    /// Those never read.
    pub unread: u64,
    /// Those too dear to be read often.
    pub cooling: u64,
    /// Those whose row holds a refused value.
    pub refused: u64,
    /// Those whose row holds a value that could not be had in time.
    pub stuck: u64,
    /// All.
    pub counted: u64,
}

impl Totals {
    /// What is known of a process now takes the place of what was.
    pub fn bring_up_to_date(&mut self, footprint: &mut Footprint) {
        let now = Part::of(footprint);
        let before = std::mem::replace(&mut footprint.part, now);
        if now != before {
            self.leave(before);
            self.pss = self.pss.saturating_add(now.pss);
            self.swap_pss = self.swap_pss.saturating_add(now.swap_pss);
            for (sum, is) in self.counts(now) {
                *sum += u64::from(is);
            }
        }
    }

    /// It is in the stream no more.
    pub fn leave(&mut self, part: Part) {
        self.pss = self.pss.saturating_sub(part.pss);
        self.swap_pss = self.swap_pss.saturating_sub(part.swap_pss);
        for (sum, was) in self.counts(part) {
            *sum = sum.saturating_sub(u64::from(was));
        }
    }

    fn counts(&mut self, part: Part) -> [(&mut u64, bool); 6] {
        [
            (&mut self.known, part.known),
            (&mut self.unread, part.unread),
            (&mut self.cooling, part.cooling),
            (&mut self.refused, part.refused),
            (&mut self.stuck, part.stuck),
            (&mut self.counted, part.counted),
        ]
    }

    /// As a `#tick` says them.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, String); 5] {
        [
            ("pss", self.pss.to_string()),
            ("swap_pss", self.swap_pss.to_string()),
            ("procs", self.known.to_string()),
            ("unread", self.unread.to_string()),
            ("cooling", self.cooling.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::smaps::Memory;
    use proptest::prelude::*;

    proptest! {
        // Whatever comes, changes and goes: the totals are the sum over those who are there.
        #[test]
        fn they_are_the_sums(steps in proptest::collection::vec((0_usize..6, 0_u8..5, 0_u64..1000), 0..80)) {
            let mut there: Vec<Footprint> = (0..6).map(|_| Footprint::default()).collect();
            let mut totals = Totals::default();
            for (who, what, pss) in steps {
                let footprint = &mut there[who];
                match what {
                    0 => {
                        totals.leave(footprint.part);
                        *footprint = Footprint::default();
                        continue;
                    }
                    1 => footprint.memory = Reading::Late,
                    2 => footprint.cooling = !footprint.cooling,
                    3 => footprint.refused = !footprint.refused,
                    _ => footprint.memory = Reading::Known(Memory { pss, swap_pss: pss / 2, ..Memory::default() }),
                }
                totals.bring_up_to_date(footprint);
            }
            let mut anew = Totals::default();
            for footprint in there.iter_mut().filter(|footprint| footprint.part != Part::default()) {
                footprint.part = Part::default();
                anew.bring_up_to_date(footprint);
            }
            prop_assert_eq!(totals, anew);
        }
    }
}
