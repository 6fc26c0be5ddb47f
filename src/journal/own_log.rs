//! `psmond.log`: where the daemon's own lines go. It is rotated with the streams, by their plan.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that can be exchanged under whoever writes to it. Without one, what is written is dropped:
/// the same lines go to standard error.
#[derive(Clone, Debug, Default)]
pub struct OwnLog(Arc<Mutex<Option<File>>>);

impl OwnLog {
    /// Exchanges the file; what was there is closed.
    pub fn exchange(&self, file: Option<File>) {
        *self.lock() = file;
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for OwnLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut *self.lock() {
            // A full disk takes the daemon's own lines, not the daemon.
            let _ = file.write_all(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
