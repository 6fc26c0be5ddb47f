//! Which programs stand above the threshold of which limits: an alert when one comes near, when it is reached, and when that is over,
//! of each limit by itself.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::radar::{LimitKind, Nearest, Together, Worst};
use super::samplers::alerts::Alert;
use crate::record::alert::{AlertKind, Level};

/// From here on it is near, tenths of a per cent. It is over below [`NEAR_FROM`](super::radar::NEAR_FROM).
const NEAR: u64 = 900;
/// Reached.
const REACHED: u64 = 1000;

/// What stands of a program.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Of which limits; never none.
    levels: Vec<(LimitKind, Level)>,
    /// Looked at since the last [`Crossings::end`].
    seen: bool,
}

/// Programs above a threshold.
#[derive(Debug, Default)]
pub struct Crossings {
    standing: FxHashMap<Arc<[u8]>, Standing>,
}

impl Crossings {
    /// Looks at what was measured of a program at a tick, where a process of it lives; answers with alerts where that says something
    /// new.
    ///
    /// Where something is unknown that could be near, what stands goes on standing.
    pub fn look(&mut self, program: &Arc<[u8]>, measured: &Together) -> Vec<Alert> {
        let mut found = Vec::new();
        let near = measured.near.iter().filter_map(|(limit, worst)| Some((*limit, *worst, level(limit)?)));
        // Of nearly all programs nothing stands, and nothing is near.
        for (limit, worst, level) in near {
            let levels = &mut self.standing.entry(Arc::clone(program)).or_default().levels;
            match levels.iter_mut().find(|(kind, _)| *kind == limit.kind) {
                Some((_, before)) if level <= *before => continue,
                Some((_, before)) => *before = level,
                None => levels.push((limit.kind, level)),
            }
            found.push(near_alert(program, level, limit, worst));
        }
        let Some(standing) = self.standing.get_mut(program) else { return found };
        standing.seen = true;
        if !measured.partial {
            standing.levels.retain(|(kind, _)| {
                let stays = measured.near.iter().any(|(limit, _)| limit.kind == *kind);
                if !stays {
                    found.push(clear(program, *kind, measured.nearest));
                }
                stays
            });
            if standing.levels.is_empty() {
                self.standing.remove(program);
            }
        }
        found
    }

    /// Of a program nothing changed since it was looked at.
    pub fn stays(&mut self, program: &Arc<[u8]>) {
        if let Some(standing) = self.standing.get_mut(program) {
            standing.seen = true;
        }
    }

    /// After the last program of a tick: programs that were not looked at are gone, and so is what stood of them.
    pub fn end(&mut self) -> Vec<Alert> {
        let mut found = Vec::new();
        self.standing.retain(|program, standing| {
            let seen = std::mem::take(&mut standing.seen);
            if !seen {
                let what = b"no process of it is left.";
                found.extend(standing.levels.iter().map(|(kind, _)| over(program, *kind, what)));
            }
            seen
        });
        found
    }

    /// Nobody looks any more: what stood is over.
    pub fn unwatch(&mut self) -> Vec<Alert> {
        let what = b"it is not watched any more, stream usage is off.";
        let all = self.standing.drain();
        all.flat_map(|(program, standing)| standing.levels.into_iter().map(move |(kind, _)| over(&program, kind, what))).collect()
    }

    /// Of how many limits of how many programs something stands.
    #[cfg(test)]
    pub fn standing(&self) -> usize {
        self.standing.values().map(|standing| standing.levels.len()).sum()
    }
}

fn level(limit: &Nearest) -> Option<Level> {
    match limit.tenths() {
        REACHED.. => Some(Level::Crit),
        NEAR.. => Some(Level::Warn),
        _ => None,
    }
}

fn near_alert(program: &Arc<[u8]>, level: Level, limit: Nearest, worst: Worst) -> Alert {
    let Words { what, fails, mend } = words(limit.kind);
    let (when, share) = (if level == Level::Crit { "Now" } else { "At 100 %" }, share(limit));
    let text = [program, format!(" has {what}: {share}. {when} {fails}; {mend}.").as_bytes()].concat();
    Alert {
        program: Some(Arc::clone(program)),
        owner: worst.owner,
        id: Some(worst.id),
        value: Some(limit.value),
        limit: Some(limit.limit),
        which: Some(limit.kind),
        ..Alert::new(AlertKind::Limit, level, text)
    }
}

/// Somebody is left, and he is not near this limit.
fn clear(program: &Arc<[u8]>, kind: LimitKind, nearest: Option<Nearest>) -> Alert {
    let Some(nearest) = nearest else { return over(program, kind, b"it has no limit any more.") };
    let alert = over(program, kind, format!("what it is nearest to is {}.", share(nearest)).as_bytes());
    let same = Some(nearest).filter(|nearest| nearest.kind == kind);
    Alert { value: same.map(|nearest| nearest.value), limit: same.map(|nearest| nearest.limit), ..alert }
}

fn over(program: &Arc<[u8]>, kind: LimitKind, why: &[u8]) -> Alert {
    let text = [program.as_ref(), b" is clear of its limit ", kind.word().as_bytes(), b": ", why].concat();
    Alert { program: Some(Arc::clone(program)), which: Some(kind), ..Alert::new(AlertKind::Limit, Level::Ok, text) }
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
    use crate::observer::radar::{Measured, NEAR_FROM};
    use crate::record::identity::Identity;
    use proptest::prelude::*;

    const WORST: Worst = Worst { id: Identity { pid: 7, start: 8 }, owner: Some(33) };

    /// Of each limit so much of 1000.
    fn of(values: &[(LimitKind, u64)]) -> Together {
        let all = || values.iter().map(|(kind, value)| Nearest { kind: *kind, value: *value, limit: 1000 });
        let near = all().filter(|limit| limit.tenths() >= NEAR_FROM).collect();
        let mut together = Together::default();
        together.add(&Measured { nearest: all().max_by_key(Nearest::tenths), near, partial: false }, WORST);
        together
    }

    fn at(value: u64) -> Together {
        of(&[(LimitKind::Nofile, value)])
    }

    fn web() -> Arc<[u8]> {
        b"web".as_slice().into()
    }

    fn text(alert: &Alert) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&alert.text)
    }

    #[test]
    fn each_crossing_is_told_once() {
        let mut crossings = Crossings::default();
        let mut tick = |value| {
            let found = crossings.look(&web(), &at(value));
            assert!(crossings.end().is_empty() && found.len() <= 1);
            found.first().map(|alert| alert.level)
        };
        let told: Vec<_> = [10, 899, 900, 950, 999, 1000, 1500, 950, 860, 849, 100, 1000, 0].into_iter().map(&mut tick).collect();
        let (warn, crit, ok) = (Some(Level::Warn), Some(Level::Crit), Some(Level::Ok));
        assert_eq!(told, [None, None, warn, None, None, crit, None, None, None, ok, None, crit, ok]);
    }

    #[test]
    fn each_limit_of_a_program_is_told_by_itself() {
        use LimitKind::{As, Nofile};
        let mut crossings = Crossings::default();
        let mut tick = |nofile, address_space| {
            let found = crossings.look(&web(), &of(&[(Nofile, nofile), (As, address_space)]));
            assert!(crossings.end().is_empty());
            found.into_iter().map(|alert| (alert.which, alert.level, alert.value)).collect::<Vec<_>>()
        };
        assert_eq!(tick(970, 100), [(Some(Nofile), Level::Warn, Some(970))]);
        // Not the nearest, nor the first; and at its limit while the other stands at nearly so.
        assert_eq!(tick(970, 960), [(Some(As), Level::Warn, Some(960))]);
        assert_eq!(tick(970, 1000), [(Some(As), Level::Crit, Some(1000))]);
        assert_eq!(tick(970, 1000), []);
        assert_eq!(tick(100, 1000), [(Some(Nofile), Level::Ok, None)]);
        assert_eq!(tick(100, 200), [(Some(As), Level::Ok, Some(200))]);
        assert_eq!(crossings.standing(), 0);
    }

    #[test]
    fn who_is_nearest_to_each_limit_is_named() {
        use LimitKind::{As, Nofile};
        let limit = |kind, value| Nearest { kind, value, limit: 1000 };
        let one = |pid, nofile, address_space| {
            let near = Box::new([limit(Nofile, nofile), limit(As, address_space)]);
            let worst = Worst { id: Identity { pid, start: 1 }, owner: None };
            (Measured { nearest: Some(limit(Nofile, nofile)), near, partial: false }, worst)
        };
        let mut together = Together::default();
        for (measured, worst) in [one(1, 910, 930), one(2, 920, 920), one(3, 915, 925)] {
            together.add(&measured, worst);
        }
        let found = Crossings::default().look(&web(), &together);
        let who: Vec<_> = found.iter().map(|alert| (alert.which, alert.id.map(|id| id.pid), alert.value)).collect();
        assert_eq!(who, [(Some(Nofile), Some(2), Some(920)), (Some(As), Some(1), Some(930))]);
        assert_eq!(together.nearest, Some(limit(Nofile, 920)));
    }

    #[test]
    fn an_alert_says_who_what_and_what_to_do() {
        let mut crossings = Crossings::default();
        let found = crossings.look(&web(), &at(950));
        let alert = &found[0];
        assert_eq!(
            (alert.kind, alert.level, &alert.program, alert.owner),
            (AlertKind::Limit, Level::Warn, &Some(web()), Some(33))
        );
        assert_eq!((alert.id, alert.value, alert.limit), (Some(WORST.id), Some(950), Some(1000)));
        assert_eq!(
            text(alert),
            "web has nearly as many open files as it may: nofile, 950 of 1000, 95.0 %. At 100 % open, accept and socket fail (EMFILE); raise RLIMIT_NOFILE (LimitNOFILE= of its unit), or look for descriptors it does not close."
        );
        let over = crossings.look(&web(), &at(5));
        assert_eq!(text(&over[0]), "web is clear of its limit nofile: what it is nearest to is nofile, 5 of 1000, 0.5 %.");
        crossings.look(&web(), &at(950));
        assert_eq!(
            text(&crossings.look(&web(), &Together::default())[0]),
            "web is clear of its limit nofile: it has no limit any more."
        );
    }

    #[test]
    fn a_program_that_goes_ends_what_stood_and_the_unknown_does_not() {
        let mut crossings = Crossings::default();
        assert_eq!(crossings.look(&web(), &of(&[(LimitKind::Nofile, 990), (LimitKind::As, 1000)])).len(), 2);
        assert!(crossings.end().is_empty());
        let unknown = Together { partial: true, ..Together::default() };
        assert!(crossings.look(&web(), &unknown).is_empty() && crossings.end().is_empty() && crossings.standing() == 2);
        // Nobody looked.
        let over = crossings.end();
        assert_eq!((over.len(), over[0].level, crossings.standing()), (2, Level::Ok, 0));
        assert_eq!(text(&over[0]), "web is clear of its limit nofile: no process of it is left.");
        assert!(crossings.end().is_empty());
    }

    proptest! {
        // What is told of a limit rises until it is over, and what stands is what was told last and is not ok.
        #[test]
        fn levels_rise_until_they_are_over(values in proptest::collection::vec((0_u64..1200, 0_u64..1200), 0..100)) {
            let mut crossings = Crossings::default();
            let mut stands: [Option<Level>; 2] = [None; 2];
            for (nofile, address_space) in values {
                for alert in crossings.look(&web(), &of(&[(LimitKind::Nofile, nofile), (LimitKind::As, address_space)])) {
                    let (stands, value) =
                        if alert.which == Some(LimitKind::Nofile) { (&mut stands[0], nofile) } else { (&mut stands[1], address_space) };
                    match alert.level {
                        Level::Ok => { prop_assert!(stands.is_some() && value < NEAR_FROM); *stands = None; }
                        level => { prop_assert!(stands.is_none_or(|before| level > before) && value >= NEAR); *stands = Some(level); }
                    }
                }
                crossings.end();
                prop_assert_eq!(crossings.standing(), stands.iter().flatten().count());
            }
        }
    }
}
