//! One writer at a time: `psmond.lock`, with an exclusive `flock(2)` and the pid of its holder.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use fs2::FileExt;

/// The lock's name in the log directory.
pub const NAME: &str = "psmond.lock";

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another psmond holds it.
    #[error("another psmond{} records there", .0.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Held(Option<u32>),
    /// The file could not be locked or written.
    #[error("{NAME} could not be locked: {0}")]
    Io(#[from] io::Error),
}

impl Lock {
    /// Takes the lock and writes our pid.
    ///
    /// # Errors
    /// As [`LockError`] says.
    pub fn take(mut file: File) -> Result<Self, LockError> {
        // By the trait's name: the standard library has methods of the same names by now.
        match FileExt::try_lock_exclusive(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == fs2::lock_contended_error().kind() => return Err(LockError::Held(holder(&mut file))),
            Err(error) => return Err(error.into()),
        }
        // A full disk must not keep the recorder from starting: the pid is for people, the lock is what counts.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// The pid that the holder wrote.
pub fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(dir.path().join(NAME)).unwrap();
        let first = Lock::take(open()).unwrap();
        match Lock::take(open()) {
            Err(LockError::Held(Some(pid))) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(first);
        Lock::take(open()).unwrap();
    }
}
