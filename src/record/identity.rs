//! Who a process is: a pid alone is never an identity.

use std::fmt;
use std::str::FromStr;

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
}
