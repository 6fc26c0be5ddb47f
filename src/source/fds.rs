//! `/proc/PID/fd`: the open descriptors of a process, and which of them are sockets. `proc_pid_fd(5)`.

use std::mem::MaybeUninit;

use rustix::fs::{self, RawDir};
use rustix::io::Errno;

use super::procdir::ProcessDir;
use super::{ReadError, number};

/// What a process has open.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Listed {
    /// The inodes of its sockets, ascending, each once.
    pub sockets: Box<[u64]>,
    /// Open descriptors.
    pub fds: u32,
}

/// Lists them: one `readlinkat(2)` a descriptor, the dearest thing there is to ask of a process that has many. What it opens and
/// closes meanwhile may be listed or not.
///
/// # Errors
/// As [`ReadError`] says; of processes of others it needs CAP_SYS_PTRACE.
pub fn list(dir: &ProcessDir) -> Result<Listed, ReadError> {
    let fd = dir.open("fd")?;
    let mut room = [MaybeUninit::uninit(); 8 * 1024];
    let mut entries = RawDir::new(&fd, &mut room);
    let (mut fds, mut sockets) = (0_u32, Vec::new());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        // `socket:[` and twenty digits at most; what is longer is something else.
        let mut link = [MaybeUninit::uninit(); 32];
        match fs::readlinkat_raw(&fd, name, &mut link) {
            Ok((link, _)) => {
                fds = fds.saturating_add(1);
                sockets.extend(socket(link));
            }
            // Closed since it was listed.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    sockets.sort_unstable();
    sockets.dedup();
    Ok(Listed { sockets: sockets.into_boxed_slice(), fds })
}

/// The inode of `socket:[12345]`.
fn socket(link: &[u8]) -> Option<u64> {
    number(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?).filter(|inode| *inode != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::procdir::Proc;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn links_of_descriptors() {
        assert_eq!(socket(b"socket:[12345]"), Some(12345));
        for other in [&b"socket:[]"[..], b"socket:[0]", b"socket:[1x]", b"socket:[12", b"pipe:[12]", b"/tmp/socket:[12]", b"", b"\xff"] {
            assert_eq!(socket(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn sockets_held_twice_are_one() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let again = one.try_clone().unwrap();
        let listed = list(&Proc::open(Path::new("/proc")).unwrap().process(std::process::id()).unwrap()).unwrap();
        let inode = |socket: &std::os::unix::net::UnixStream| fs::fstat(socket).unwrap().st_ino;
        assert!(listed.sockets.is_sorted_by(|one, other| one < other));
        assert!(listed.sockets.contains(&inode(&one)) && listed.sockets.contains(&inode(&other)));
        assert!(listed.fds >= 6 && inode(&one) == inode(&again));
    }

    #[test]
    fn a_made_tree_is_read_alike_and_nobody_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        let fds = root.path().join("7/fd");
        std::fs::create_dir_all(&fds).unwrap();
        for (fd, to) in
            [("0", "/dev/null"), ("3", "socket:[40]"), ("4", "socket:[30]"), ("5", "socket:[40]"), ("6", "anon_inode:[eventpoll]")]
        {
            std::os::unix::fs::symlink(to, fds.join(fd)).unwrap();
        }
        let proc = Proc::open(root.path()).unwrap();
        assert_eq!(list(&proc.process(7).unwrap()), Ok(Listed { sockets: [30, 40].into(), fds: 5 }));
        std::fs::create_dir(root.path().join("8")).unwrap();
        assert_eq!(list(&proc.process(8).unwrap()), Err(ReadError::Vanished));
    }

    proptest! {
        #[test]
        fn any_link_is_survived(link in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = socket(&link);
        }
    }
}
