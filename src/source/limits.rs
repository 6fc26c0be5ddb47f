//! Limits: the recorder's own, `getrlimit(2)`, `mlockall(2)`, and those of others, `proc_pid_limits(5)`.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::mm::MlockAllFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{ReadError, number};

/// Raises the soft limit of open files to the hard one, and answers with what holds then.
///
/// Nothing here uses select(2), so a large limit harms nobody.
#[must_use]
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let raised = if limit.current == limit.maximum { Ok(()) } else { setrlimit(Resource::Nofile, wanted) };
    let holds = if raised.is_ok() { limit.maximum } else { limit.current };
    holds.unwrap_or(u64::MAX)
}

/// The soft limit of open files; `u64::MAX` where there is none.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Keeps all pages, those of now and those to come, in memory, so that the recorder outlives the memory
/// pressure it is there to record. Pages are locked as they are first touched, not before.
///
/// # Errors
/// The limit of locked memory (RLIMIT_MEMLOCK) is too small and CAP_IPC_LOCK is missing.
pub fn lock_memory() -> io::Result<()> {
    Ok(rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

/// The soft limits of a process that psmon watches; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Soft {
    /// RLIMIT_NOFILE: descriptors.
    pub nofile: Option<u64>,
    /// RLIMIT_NPROC: tasks of its real user.
    pub nproc: Option<u64>,
    /// RLIMIT_AS: bytes of address space.
    pub address_space: Option<u64>,
    /// RLIMIT_MEMLOCK: bytes locked into memory.
    pub memlock: Option<u64>,
    /// RLIMIT_STACK: bytes of the first task's stack.
    pub stack: Option<u64>,
}

/// Parses `/proc/PID/limits`; `None` where it holds none of these lines.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Soft> {
    let mut soft = Soft::default();
    let mut found = false;
    for line in text.split(|byte| *byte == b'\n') {
        // The names are those of `lnames` in `fs/proc/base.c`.
        let place = |name: &[u8]| line.strip_prefix(name)?.split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
        let lines: [(&[u8], &mut Option<u64>); 5] = [
            (b"Max open files ", &mut soft.nofile),
            (b"Max processes ", &mut soft.nproc),
            (b"Max address space ", &mut soft.address_space),
            (b"Max locked memory ", &mut soft.memlock),
            (b"Max stack size ", &mut soft.stack),
        ];
        for (name, limit) in lines {
            if let Some(word) = place(name) {
                *limit = number(word);
                found |= limit.is_some() || word == b"unlimited";
            }
        }
    }
    found.then_some(soft)
}

/// How many mappings a process has: the lines of its `maps`, `proc_pid_maps(5)`. Takes its mmap_lock, a page of lines at a time.
///
/// # Errors
/// As [`ReadError`] says.
pub fn mappings(maps: impl AsFd) -> Result<u64, ReadError> {
    let mut buffer = [0; 16 * 1024];
    let mut count = 0;
    loop {
        match rustix::io::read(&maps, &mut buffer) {
            Ok(0) => return Ok(count),
            Ok(length) => count += memchr::memchr_iter(b'\n', buffer.get(..length).unwrap_or_default()).count() as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax stack size            8388608              unlimited            bytes     \nMax processes             96365                96366                processes \nMax open files            1024                 20000                files     \nMax locked memory         65536                8388608              bytes     \nMax address space         unlimited            unlimited            bytes     \n";

    #[test]
    fn captured_limits() {
        let want = Soft { nofile: Some(1024), nproc: Some(96365), address_space: None, memlock: Some(65536), stack: Some(8 << 20) };
        assert_eq!(parse(TEXT), Some(want));
        assert_eq!((parse(b""), parse(b"Max open files x\n")), (None, None));
    }

    #[test]
    fn our_mappings_are_counted() {
        let lines = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count() as u64;
        let counted = mappings(std::fs::File::open("/proc/self/maps").unwrap()).unwrap();
        // Threads of other tests come and go, each with a stack.
        assert!(counted > 10 && counted.abs_diff(lines) < 100, "{counted} {lines}");
    }

    #[test]
    fn our_own_are_those_the_kernel_answers() {
        let soft = parse(&std::fs::read("/proc/self/limits").unwrap()).unwrap();
        assert_eq!(soft.nproc, getrlimit(Resource::Nproc).current);
        assert_eq!(soft.address_space, getrlimit(Resource::As).current);
        assert_eq!(soft.memlock, getrlimit(Resource::Memlock).current);
        assert_eq!(soft.stack, getrlimit(Resource::Stack).current);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"Max open files ".as_slice(), &bytes].concat());
        }
    }
}
