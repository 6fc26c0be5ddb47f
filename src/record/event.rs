//! Kinds of event, as the journal and the config name them.

/// A kind of event that the kernel tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words are the kernel's own")]
pub enum EventKind {
    Fork,
    /// A thread was born.
    Clone,
    Exec,
    /// A process ended: its last task did.
    Exit,
    /// A task ended that was not the last of its process.
    ThreadExit,
    Core,
    Comm,
    Uid,
    Gid,
    Sid,
    Ptrace,
}

impl EventKind {
    /// All kinds by the words of the journal.
    pub const WORDS: [(&'static str, Self); 11] = [
        ("fork", Self::Fork),
        ("clone", Self::Clone),
        ("exec", Self::Exec),
        ("exit", Self::Exit),
        ("thread_exit", Self::ThreadExit),
        ("core", Self::Core),
        ("comm", Self::Comm),
        ("uid", Self::Uid),
        ("gid", Self::Gid),
        ("sid", Self::Sid),
        ("ptrace", Self::Ptrace),
    ];

    /// Those that the config chooses among, in the order of the kernel's `proc_cn_event`. Threads have a switch of their own.
    pub const CHOSEN: &[(&'static str, Self)] = &[
        ("fork", Self::Fork),
        ("exec", Self::Exec),
        ("exit", Self::Exit),
        ("core", Self::Core),
        ("comm", Self::Comm),
        ("uid", Self::Uid),
        ("gid", Self::Gid),
        ("sid", Self::Sid),
        ("ptrace", Self::Ptrace),
    ];

    /// The word in the column `event`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }

    /// Whether it concerns a thread and not its process.
    #[must_use]
    pub const fn is_of_thread(self) -> bool {
        matches!(self, Self::Clone | Self::ThreadExit)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Kinds(u16);

impl Kinds {
    /// Whether a kind is in it.
    #[must_use]
    pub const fn has(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<EventKind> for Kinds {
    fn from_iter<T: IntoIterator<Item = EventKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_word() {
        for (word, kind) in EventKind::WORDS {
            assert_eq!(kind.word(), word);
        }
        let kinds: Kinds = [EventKind::Fork, EventKind::Ptrace].into_iter().collect();
        assert!(kinds.has(EventKind::Ptrace) && kinds.has(EventKind::Fork) && !kinds.has(EventKind::Exec));
    }
}
