//! Network namespaces: which one a process is in, and how to enter another for a moment. `network_namespaces(7)`, `setns(2)`.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{self, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};

use super::procdir::ProcessDir;
use super::{ReadError, number};

/// The inode in the link of a network namespace: `net:[4026531840]`.
pub(super) fn inode(link: &[u8]) -> Option<u64> {
    number(link.strip_prefix(b"net:[")?.strip_suffix(b"]")?)
}

/// The inode by which the network namespace of the calling process is known; `None` where the kernel has none to tell of.
#[must_use]
pub fn own() -> Option<u64> {
    // The thread's own: of /proc/self it would be that of the first thread, which is the same as long as `Visit` keeps its word.
    fs::stat("/proc/thread-self/ns/net").ok().map(|stat| stat.st_ino)
}

/// What a thread needs to enter other network namespaces and come back. A thread that could not come back must end: what it
/// opened from then on would be in the wrong place.
#[derive(Debug, Default)]
pub struct Visit {
    home: Option<OwnedFd>,
    is_lost: bool,
}

impl Visit {
    /// Whether the thread could not come back from its last visit. Then it must end.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Does something small, such as opening a socket, in the network namespace of a process, provided that it is `netns`. What is
    /// opened there stays there.
    ///
    /// # Errors
    /// The process is gone or in another namespace by now (`Vanished`); without CAP_SYS_ADMIN, or under a filter of system calls,
    /// `Refused`.
    pub fn namespace<T>(&mut self, dir: &ProcessDir, netns: u64, act: impl FnOnce() -> T) -> Result<T, ReadError> {
        if self.is_lost {
            return Err(ReadError::Refused);
        }
        let there = dir.open("ns/net")?;
        if fs::fstat(&there)?.st_ino != netns {
            return Err(ReadError::Vanished);
        }
        let home = match self.home.take() {
            Some(home) => home,
            None => fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
        };
        enter(&there)?;
        let done = act();
        // It may fail for want of memory (`create_new_namespaces` in `kernel/nsproxy.c`).
        self.is_lost = enter(&home).is_err() && enter(&home).is_err();
        self.home = Some(home);
        Ok(done)
    }

    /// Whether other network namespaces may be entered: tried with our own, which changes nothing. Without the capability it is
    /// not even tried: a filter of system calls may kill for it.
    #[must_use]
    pub fn is_allowed() -> bool {
        if !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)) {
            return false;
        }
        let home = fs::openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        home.is_ok_and(|home| enter(&home).is_ok())
    }
}

fn enter(namespace: &OwnedFd) -> Result<(), Errno> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::procdir::Proc;
    use std::path::Path;

    #[test]
    fn whoever_visits_comes_home() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let dir = proc.process(std::process::id()).unwrap();
        let home = own().unwrap();
        assert_eq!(dir.network_namespace(), Ok(home));
        let mut visit = Visit::default();
        assert_eq!(visit.namespace(&dir, home + 1, || ()), Err(ReadError::Vanished), "it is another namespace");
        match visit.namespace(&dir, home, own) {
            Ok(seen) => assert!(Visit::is_allowed() && seen == Some(home)),
            Err(error) => {
                assert_eq!((error, Visit::is_allowed()), (ReadError::Refused, false));
                println!("SKIPPED: entering namespaces needs CAP_SYS_ADMIN");
            }
        }
        assert!(!visit.is_lost() && own() == Some(home));
    }
}
