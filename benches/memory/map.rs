//! Memory by the page, asked of the kernel itself: all of this program's own `unsafe`.
//!
//! Not a `Vec`: an allocator keeps what was given back, and takes large blocks from its heap once it has freed one.

#![expect(unsafe_code, reason = "mapping memory is what is measured, and no safe crate offers it; each use says why it holds")]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;

use libc::c_void;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

const PAGE: usize = 4096;

/// A mapping of our own. Dropping it unmaps it.
#[derive(Debug)]
pub(crate) struct Map {
    at: *mut c_void,
    bytes: usize,
}

impl Map {
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        // SAFETY: without an address the kernel chooses a place where nothing of ours is.
        let at = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
        Ok(Map { at, bytes })
    }

    /// Anonymous, and of pages of 4 KiB: with large ones there is next to nothing to walk, and the kernel hands them out as it
    /// likes.
    pub(crate) fn of_small_pages(bytes: usize) -> io::Result<Self> {
        let map = Map::anonymous(bytes)?;
        // SAFETY: a mapping of ours that nothing refers to; the advice changes none of its content. A kernel without large
        // pages refuses it, and needs it not.
        let _ = unsafe { madvise(map.at, map.bytes, Advice::LinuxNoHugepage) };
        Ok(map)
    }

    /// A file that has at least as many bytes for as long as this is used, shared with whoever else maps it, to be read.
    pub(crate) fn shared(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // SAFETY: as above. The content may change under us: it is read through `read_volatile` alone.
        let at = unsafe { mmap(null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        Ok(Map { at, bytes })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes to each page from this byte on, so many bytes, as far as it reaches.
    pub(crate) fn write(&mut self, from: usize, bytes: usize) {
        for offset in (from..from.saturating_add(bytes).min(self.bytes)).step_by(PAGE) {
            // SAFETY: below the length of a mapping of ours that may be written (`shared` ones are not given to this) and that
            // nothing refers to.
            unsafe { self.at.cast::<u8>().add(offset).write_volatile(1) };
        }
    }

    pub(crate) fn write_all(&mut self) {
        self.write(0, self.bytes);
    }

    /// Reads each page.
    pub(crate) fn read_all(&self) {
        for offset in (0..self.bytes).step_by(PAGE) {
            // SAFETY: below the length of a mapping of ours that may be read.
            unsafe { self.at.cast::<u8>().add(offset).read_volatile() };
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: our mapping, whole, of which no reference was ever given out.
        let _ = unsafe { munmap(self.at, self.bytes) };
    }
}
