//! `psmond.log`: where the daemon's own lines go. It is rotated with the streams, by their plan.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines from before the first file are kept up to so many bytes.
const EARLY: usize = 64 * 1024;

#[derive(Debug)]
enum Place {
    /// No directory is open yet.
    Early(Vec<u8>),
    File(File),
    /// The file could not be opened; the same lines go to standard error.
    Nowhere,
}

/// A file that can be exchanged under whoever writes to it.
#[derive(Clone, Debug)]
pub struct OwnLog(Arc<Mutex<Place>>);

impl Default for OwnLog {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Place::Early(Vec::new()))))
    }
}

impl OwnLog {
    /// Exchanges the file; what was there is closed, and what came before the first goes into it.
    pub fn exchange(&self, file: Option<File>) {
        let mut place = self.lock();
        let new = match file {
            Some(mut file) => {
                if let Place::Early(lines) = &*place {
                    let _ = file.write_all(lines);
                }
                Place::File(file)
            }
            None => Place::Nowhere,
        };
        *place = new;
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for OwnLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.lock() {
            Place::Early(lines) if lines.len() < EARLY => lines.extend_from_slice(line),
            // A full disk takes the daemon's own lines, not the daemon.
            Place::File(file) => drop(file.write_all(line)),
            Place::Early(_) | Place::Nowhere => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
