//! The recorder's own limits: `getrlimit(2)`, `mlockall(2)`.

use std::io;

use rustix::mm::MlockAllFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
