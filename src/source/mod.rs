//! The kernel's interfaces, one file each. They return plain values: no thresholds, no formatting.
//!
//! Parsing (`&[u8]` to value) stands apart from opening, and whatever opens takes its root, so that a
//! captured `/proc` is a test. The only room where `unsafe` is allowed, each use with its reason.

pub mod bell;
pub mod capability;
pub mod cgroup;
pub mod cgroup_limits;
pub mod cgroup_mounts;
pub mod clock;
pub mod cmdline;
pub mod connector;
pub mod fds;
pub mod host;
pub mod io;
pub mod limits;
pub mod machine_cpu;
pub mod mounts;
pub mod namespace;
pub mod netlink;
pub mod procdir;
pub mod sched;
pub mod smaps;
pub mod sockets;
pub mod stat;
pub mod statm;
pub mod status;
pub mod taskstats;
pub mod tty;
pub mod users;
pub mod wait;

use rustix::io::Errno;

/// Why a value could not be read. All three are normal in the life of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The process ended, or the file is not there for it.
    #[error("it is gone")]
    Vanished,
    /// The kernel did not allow it.
    #[error("permission denied")]
    Refused,
    /// No file descriptor is left.
    #[error("no file descriptor is left")]
    NoDescriptor,
    /// Any other answer.
    #[error("{0}")]
    Failed(Errno),
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::SRCH | Errno::NOENT | Errno::NODEV | Errno::NXIO => Self::Vanished,
            Errno::ACCESS | Errno::PERM => Self::Refused,
            Errno::MFILE | Errno::NFILE => Self::NoDescriptor,
            other => Self::Failed(other),
        }
    }
}

/// Whole decimal digits as a number; `None` for anything else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'))))
}

/// Decimal digits with an optional minus sign.
pub(crate) fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|value| 0_i64.wrapping_sub_unsigned(value)),
        None => number(text).map(|value| i64::try_from(value).unwrap_or(i64::MAX)),
    }
}
