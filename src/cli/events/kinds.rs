//! `--event`: kinds of events, by the names of forkstat, pstat and the journal.

use crate::cli::Failure;
use crate::record::event::{EventKind, Kinds};
use crate::record::schema::nearest;

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    Kind(EventKind),
    /// Exits that went wrong.
    Failure,
    All,
    Nothing,
}

/// The names, those of the journal first.
const NAMES: [(&str, Meant); 17] = [
    ("fork", Meant::Kind(EventKind::Fork)),
    ("exec", Meant::Kind(EventKind::Exec)),
    ("exit", Meant::Kind(EventKind::Exit)),
    ("core", Meant::Kind(EventKind::Core)),
    ("comm", Meant::Kind(EventKind::Comm)),
    ("clone", Meant::Kind(EventKind::Clone)),
    ("thread_exit", Meant::Kind(EventKind::ThreadExit)),
    ("ptrace", Meant::Kind(EventKind::Ptrace)),
    ("uid", Meant::Kind(EventKind::Uid)),
    ("gid", Meant::Kind(EventKind::Gid)),
    ("sid", Meant::Kind(EventKind::Sid)),
    ("nonzeroexit", Meant::Failure),
    // That is what forkstat's manual calls it.
    ("exitnonzero", Meant::Failure),
    ("coredump", Meant::Kind(EventKind::Core)),
    ("ptrce", Meant::Kind(EventKind::Ptrace)),
    ("all", Meant::All),
    ("none", Meant::Nothing),
];

/// Which events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Chosen {
    kinds: Kinds,
    failures: bool,
}

impl Chosen {
    /// What is shown unless events are named: pstat's.
    #[must_use]
    pub fn usual() -> Self {
        let kinds = [EventKind::Fork, EventKind::Exec, EventKind::Exit, EventKind::Core, EventKind::Comm];
        Self { kinds: kinds.into_iter().collect(), failures: true }
    }

    /// All there are.
    #[must_use]
    pub fn all() -> Self {
        Self { kinds: EventKind::WORDS.into_iter().map(|(_, kind)| kind).collect(), failures: true }
    }

    /// Exits that went wrong, and nothing else.
    #[must_use]
    pub fn failures() -> Self {
        Self { failures: true, ..Self::default() }
    }

    /// What the names say, in capitals or not.
    ///
    /// # Errors
    /// A name that is none, with those that are.
    pub fn named(names: &[String]) -> Result<Self, Failure> {
        let mut kinds = Vec::new();
        let mut failures = false;
        for name in names {
            let name = name.trim().to_ascii_lowercase();
            match NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(&name))?.1 {
                Meant::Kind(kind) => kinds.push(kind),
                Meant::Failure => failures = true,
                Meant::All => return Ok(Self::all()),
                Meant::Nothing => {}
            }
        }
        Ok(Self { failures: failures || kinds.contains(&EventKind::Exit), kinds: kinds.into_iter().collect() })
    }

    /// Whether an event is shown; of an exit, whether it went wrong.
    #[must_use]
    pub const fn has(self, kind: EventKind, failed: bool) -> bool {
        self.kinds.has(kind) || (self.failures && failed && matches!(kind, EventKind::Exit))
    }

    /// Whether all of a kind are shown.
    #[must_use]
    pub const fn has_all(self, kind: EventKind) -> bool {
        self.kinds.has(kind)
    }

    /// The kinds the kernel must be asked for, with these besides.
    #[must_use]
    pub fn asked(self, besides: &[EventKind]) -> Kinds {
        let exits = self.failures.then_some(EventKind::Exit);
        let shown = EventKind::WORDS.into_iter().map(|(_, kind)| kind).filter(|kind| self.kinds.has(*kind));
        shown.chain(exits).chain(besides.iter().copied()).collect()
    }

    /// The longest word that may stand in the column of events.
    #[must_use]
    pub fn width(self) -> usize {
        EventKind::WORDS.into_iter().filter(|(_, kind)| self.kinds.has(*kind)).map(|(word, _)| word.len()).max().unwrap_or(0).max(5)
    }
}

fn unknown(name: &str) -> Failure {
    let names = NAMES.map(|(name, _)| name);
    let hint = nearest(name, names).map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"));
    Failure::Config(format!("--event: '{name}' is no event{hint}; the events are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Chosen {
        Chosen::named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn names_of_both_tools_are_understood() {
        assert_eq!(named(&["CoreDump", "PTRCE"]), named(&["core", "ptrace"]));
        assert_eq!(named(&["all"]), Chosen::all());
        assert_eq!(named(&["exitnonzero"]), Chosen::failures());
        assert_eq!(named(&["none"]), Chosen::default());
        assert_eq!(named(&["fork", "exec", "exit", "core", "comm"]), Chosen::usual());
    }

    #[test]
    fn only_the_exits_asked_for_are_shown() {
        let failures = named(&["nonzeroexit"]);
        assert!(failures.has(EventKind::Exit, true) && !failures.has(EventKind::Exit, false) && !failures.has(EventKind::Fork, false));
        assert!(failures.asked(&[]).has(EventKind::Exit) && !failures.asked(&[]).has(EventKind::Fork));
        assert!(named(&["exit"]).has(EventKind::Exit, false));
        assert!(named(&["none"]).asked(&[]).is_empty());
        assert!(named(&["sid"]).asked(&[EventKind::Fork]).has(EventKind::Fork));
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_and_all() {
        let said = Chosen::named(&["forc".to_owned()]).unwrap_err().to_string();
        assert!(
            said.contains("'forc' is no event (did you mean 'fork'?)") && said.contains("thread_exit") && said.contains("none"),
            "{said}"
        );
    }
}
