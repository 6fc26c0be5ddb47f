//! Which programs stand above the threshold of a limit: an alert when one comes near, when it is reached, and when that is over.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::radar::{LimitKind, Measured, Nearest};
use super::samplers::alerts::Alert;
use crate::record::alert::{AlertKind, Level};
use crate::record::identity::Identity;

/// From here on it is near, tenths of a per cent.
const NEAR: u64 = 900;
/// Reached.
const REACHED: u64 = 1000;
/// Below this it is over: a little lower than near, so that one that sways there is told once.
const OVER: u64 = 850;

/// The process of a program that is nearest to its limit.
#[derive(Clone, Copy, Debug)]
pub struct Worst {
    /// Who.
    pub id: Identity,
    /// Its user's id.
    pub owner: Option<u32>,
}

/// What stands of a program.
#[derive(Clone, Copy, Debug)]
struct Standing {
    level: Level,
    /// Looked at since the last [`Crossings::end`].
    seen: bool,
}

/// Programs above the threshold.
#[derive(Debug, Default)]
pub struct Crossings {
    standing: FxHashMap<Arc<[u8]>, Standing>,
}

impl Crossings {
    /// Looks at what was measured of a program at a tick; answers with an alert where that says something new.
    ///
    /// Where something is unknown that could be near, what stands goes on standing.
    pub fn look(&mut self, program: &Arc<[u8]>, measured: Measured, worst: Option<Worst>) -> Option<Alert> {
        let tenths = measured.nearest.map_or(0, |nearest| nearest.tenths());
        let level = match tenths {
            REACHED.. => Some(Level::Crit),
            NEAR.. => Some(Level::Warn),
            _ => None,
        };
        let standing = self.standing.get_mut(program);
        match (standing, level, measured.nearest) {
            (Some(standing), Some(level), Some(nearest)) => {
                standing.seen = true;
                if level <= standing.level {
                    return None;
                }
                standing.level = level;
                Some(alert(program, level, Some(nearest), worst))
            }
            (Some(standing), ..) if tenths >= OVER || !measured.whole() => {
                standing.seen = true;
                None
            }
            (Some(_), ..) => {
                self.standing.remove(program);
                Some(alert(program, Level::Ok, measured.nearest, worst))
            }
            (None, Some(level), Some(nearest)) => {
                self.standing.insert(Arc::clone(program), Standing { level, seen: true });
                Some(alert(program, level, Some(nearest), worst))
            }
            (None, ..) => None,
        }
    }

    /// Of a program nothing changed since it was looked at.
    pub fn stays(&mut self, program: &Arc<[u8]>) {
        if let Some(standing) = self.standing.get_mut(program) {
            standing.seen = true;
        }
    }

    /// After the last program of a tick: programs that were not looked at are gone, and so is what stood of them.
    pub fn end(&mut self) -> Vec<Alert> {
        let mut over = Vec::new();
        self.standing.retain(|program, standing| {
            let seen = std::mem::take(&mut standing.seen);
            if !seen {
                let text = [b"No process of ".as_slice(), program, b" is left: what stood of its limits is over."].concat();
                over.push(Alert { program: Some(Arc::clone(program)), ..Alert::new(AlertKind::Limit, Level::Ok, text) });
            }
            seen
        });
        over
    }

    /// How many stand.
    #[must_use]
    pub fn standing(&self) -> usize {
        self.standing.len()
    }
}

fn alert(program: &Arc<[u8]>, level: Level, nearest: Option<Nearest>, worst: Option<Worst>) -> Alert {
    let mut text = program.to_vec();
    match (level, nearest) {
        (Level::Ok, Some(nearest)) => {
            text.extend_from_slice(format!(" is clear of its limits again: the nearest is {}.", share(nearest)).as_bytes());
        }
        (_, None) => text.extend_from_slice(b" has no limit any more."),
        (_, Some(nearest)) => {
            let Words { what, fails, mend } = words(nearest.kind);
            let (when, share) = (if level == Level::Crit { "Now" } else { "At 100 %" }, share(nearest));
            text.extend_from_slice(format!(" has {what}: {share}. {when} {fails}; {mend}.").as_bytes());
        }
    }
    Alert {
        program: Some(Arc::clone(program)),
        owner: worst.and_then(|worst| worst.owner),
        id: worst.map(|worst| worst.id),
        value: nearest.map(|nearest| nearest.value),
        limit: nearest.map(|nearest| nearest.limit),
        ..Alert::new(AlertKind::Limit, level, text)
    }
}

fn share(nearest: Nearest) -> String {
    let (kind, tenths) = (nearest.kind.word(), nearest.tenths());
    format!("{kind}, {} of {}, {}.{} %", nearest.value, nearest.limit, tenths / 10, tenths % 10)
}

struct Words {
    what: &'static str,
    fails: &'static str,
    mend: &'static str,
}

/// What it is, what happens at the limit (the errors of open(2), fork(2), mmap(2), mlock(2), getrlimit(2)), and what to do.
const fn words(kind: LimitKind) -> Words {
    let (what, fails, mend) = match kind {
        LimitKind::Nofile => (
            "nearly as many open files as it may",
            "open, accept and socket fail (EMFILE)",
            "raise RLIMIT_NOFILE (LimitNOFILE= of its unit), or look for descriptors it does not close",
        ),
        LimitKind::Nproc => (
            "a user with nearly as many tasks as he may have",
            "fork and new threads fail (EAGAIN)",
            "raise RLIMIT_NPROC (LimitNPROC=), or look for processes that are too many",
        ),
        LimitKind::As => (
            "nearly as much address space, in bytes, as it may",
            "mmap and malloc fail (ENOMEM)",
            "raise RLIMIT_AS (LimitAS=), or give it less to hold",
        ),
        LimitKind::Memlock => (
            "locked nearly as many bytes of memory as it may",
            "mlock fails (ENOMEM)",
            "raise RLIMIT_MEMLOCK (LimitMEMLOCK=)",
        ),
        LimitKind::Stack => (
            "a stack of nearly as many bytes as it may be",
            "it is killed by SIGSEGV",
            "raise RLIMIT_STACK (LimitSTACK=), or look for endless recursion",
        ),
        LimitKind::MemoryMax => (
            "a control group with nearly as many bytes of memory as it may have",
            "the kernel kills a process of it",
            "raise memory.max (MemoryMax= of its unit), or give it less to hold",
        ),
        LimitKind::PidsMax => (
            "a control group with nearly as many tasks as it may have",
            "fork and new threads fail (EAGAIN)",
            "raise pids.max (TasksMax= of its unit)",
        ),
        LimitKind::MaxMapCount => (
            "nearly as many mappings as a process may have",
            "mmap and malloc fail (ENOMEM)",
            "raise the sysctl vm.max_map_count",
        ),
    };
    Words { what, fails, mend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(value: u64) -> Measured {
        Measured { nearest: Some(Nearest { kind: LimitKind::Nofile, value, limit: 1000 }), partial: false }
    }

    fn web() -> Arc<[u8]> {
        b"web".as_slice().into()
    }

    #[test]
    fn each_crossing_is_told_once() {
        let mut crossings = Crossings::default();
        let worst = Some(Worst { id: Identity { pid: 7, start: 8 }, owner: Some(33) });
        let mut tick = |value| {
            let alert = crossings.look(&web(), at(value), worst);
            assert!(crossings.end().is_empty());
            alert.map(|alert| alert.level)
        };
        let told: Vec<_> = [10, 899, 900, 950, 999, 1000, 1500, 950, 860, 849, 100, 1000, 0].into_iter().map(&mut tick).collect();
        let (warn, crit, ok) = (Some(Level::Warn), Some(Level::Crit), Some(Level::Ok));
        assert_eq!(told, [None, None, warn, None, None, crit, None, None, None, ok, None, crit, ok]);
    }

    #[test]
    fn an_alert_says_who_what_and_what_to_do() {
        let mut crossings = Crossings::default();
        let worst = Some(Worst { id: Identity { pid: 7, start: 8 }, owner: Some(33) });
        let alert = crossings.look(&web(), at(950), worst).unwrap();
        assert_eq!((alert.kind, alert.level, alert.program, alert.owner), (AlertKind::Limit, Level::Warn, Some(web()), Some(33)));
        assert_eq!((alert.id, alert.value, alert.limit), (Some(Identity { pid: 7, start: 8 }), Some(950), Some(1000)));
        assert_eq!(
            String::from_utf8_lossy(&alert.text),
            "web has nearly as many open files as it may: nofile, 950 of 1000, 95.0 %. At 100 % open, accept and socket fail (EMFILE); raise RLIMIT_NOFILE (LimitNOFILE= of its unit), or look for descriptors it does not close."
        );
        let over = crossings.look(&web(), at(5), worst).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&over.text),
            "web is clear of its limits again: the nearest is nofile, 5 of 1000, 0.5 %."
        );
    }

    #[test]
    fn a_program_that_goes_ends_what_stood_and_the_unknown_does_not() {
        let mut crossings = Crossings::default();
        assert!(crossings.look(&web(), at(990), None).is_some());
        assert!(crossings.end().is_empty());
        let unknown = Measured { nearest: None, partial: true };
        assert!(crossings.look(&web(), unknown, None).is_none() && crossings.end().is_empty() && crossings.standing() == 1);
        // Nobody looked.
        let over = crossings.end();
        assert_eq!((over.len(), over[0].level, crossings.standing()), (1, Level::Ok, 0));
        assert!(crossings.end().is_empty());
    }

    proptest! {
        // What is told rises until it is over, and what stands is what was told last and is not ok.
        #[test]
        fn levels_rise_until_they_are_over(values in proptest::collection::vec(0_u64..1200, 0..100)) {
            let mut crossings = Crossings::default();
            let mut stands: Option<Level> = None;
            for value in values {
                if let Some(alert) = crossings.look(&web(), at(value), None) {
                    match alert.level {
                        Level::Ok => { prop_assert!(stands.is_some() && value < OVER); stands = None; }
                        level => { prop_assert!(stands.is_none_or(|before| level > before) && value >= NEAR); stands = Some(level); }
                    }
                }
                crossings.end();
                prop_assert_eq!(crossings.standing(), usize::from(stands.is_some()));
            }
        }
    }
}
