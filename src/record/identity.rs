//! Who a process is: a pid alone is never an identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where identities mean something: the same pid and start are somebody else in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `/proc/sys/kernel/random/boot_id`, without hyphens.
    pub boot_id: String,
    /// The inode of the pid namespace that `/proc` shows (`pid_namespaces(7)`).
    pub pidns: String,
}

/// A process within one [`Domain`] (it stands in the header of each segment).
///
/// `start` are the raw start ticks, field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`), counted from
/// boot on CLOCK_BOOTTIME. Wall-clock start times drift; they are shown, never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The id of the thread group.
    pub pid: u32,
    /// Start ticks since boot.
    pub start: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start)
    }
}

/// What a row of a sample is about, and what is said to have left: a process, in stream `usage` a program,
/// in stream `budgets` a budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A process.
    Process(Identity),
    /// A program, or a budget, by its name.
    Program(Arc<[u8]>),
}

impl From<Identity> for Id {
    fn from(id: Identity) -> Self {
        Self::Process(id)
    }
}

impl Id {
    /// `pid@start`, or the program's name as it is.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        match self {
            Self::Process(id) => id.to_string().into_bytes(),
            Self::Program(name) => name.to_vec(),
        }
    }

    /// As it stands in `#gone`: the name as values are written.
    #[must_use]
    pub fn word(&self) -> String {
        word(&self.name())
    }
}

/// A name as it stands in a line.
#[must_use]
pub fn word(name: &[u8]) -> String {
    let mut word = Vec::new();
    super::escape::write_word(name, &mut word);
    String::from_utf8_lossy(&word).into_owned()
}

/// Text that is not `pid@start`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("'{0}' is not an identity; one is written pid@start, for example 1234@8839201")]
pub struct NotAnIdentity(pub String);

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAnIdentity(text.to_owned());
        let (pid, start) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self { pid: pid.parse().map_err(|_| wrong())?, start: start.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_and_read_back() {
        let id = Identity { pid: 1234, start: 8_839_201 };
        assert_eq!(id.to_string(), "1234@8839201");
        assert_eq!("1234@8839201".parse::<Identity>().unwrap(), id);
        assert!("1234".parse::<Identity>().is_err());
        assert!("x@1".parse::<Identity>().is_err());
    }

    #[test]
    fn a_program_cannot_forge_a_line() {
        assert_eq!(Id::from(Identity { pid: 7, start: 9 }).word(), "7@9");
        assert_eq!(Id::Program(b"nginx"[..].into()).word(), "nginx");
        assert_eq!(Id::Program(b"my prog\n"[..].into()).word(), "my\\x20prog\\x0a");
    }
}
