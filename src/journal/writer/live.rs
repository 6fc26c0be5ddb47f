//! A live segment: a file of which every byte up to a length is good.

use std::fs::File;
use std::io::{self, Write as _};

use crate::journal::changes::Changes;
use crate::journal::encode::Format;
use crate::record::schema::Columns;

/// A live segment.
pub(super) struct Live {
    pub(super) file: File,
    pub(super) format: Format,
    pub(super) columns: Columns,
    pub(super) changes: Changes,
    /// Good bytes: what is beyond them is cut off again.
    pub(super) len: u64,
    /// Half a write may stand beyond them.
    pub(super) torn: bool,
    /// The mark of a torn tail for which there was no room at the start.
    pub(super) owed: Vec<u8>,
    pub(super) crc: crc32fast::Hasher,
    /// Its header is still to be written.
    pub(super) header: Vec<u8>,
}

impl Live {
    /// Writes lines, the last a tick without its end where it `ticks`, which it is given; or leaves the file as it was.
    pub(super) fn append(&mut self, lines: &mut Vec<u8>, ticks: bool) -> io::Result<()> {
        let mut crc = self.crc.clone();
        crc.update(lines);
        if ticks {
            self.format.end_tick(std::mem::take(&mut crc).finalize(), lines);
        }
        self.write(lines)?;
        self.crc = crc;
        self.header.clear();
        Ok(())
    }

    /// Writes all of it, or leaves the file as it was.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            // It could not be cut off when it was made. While it stands, nothing may follow it.
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        if !self.owed.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            self.write_all(&owed).inspect_err(|_| self.owed = owed)?;
        }
        self.write_all(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.torn = self.file.set_len(self.len).is_err();
                Err(error)
            }
        }
    }
}
