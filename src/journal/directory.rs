//! The log directory: opened once, locked, and everything in it by its descriptor, following no links.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags};

use super::lock::{self, Lock, LockError};
use super::segment::{Found, Name};

/// The directory, locked for us.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
    group: Option<u32>,
    _lock: Lock,
}

/// Why a log directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It could not be made.
    #[error("the log directory {} could not be made: {error}{}", path.display(), mend(error))]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It could not be opened.
    #[error("the log directory {} could not be opened: {error}{}", path.display(), mend(error))]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is a link that somebody else may have laid.
    #[error("the log directory {} is a symbolic link of user {owner} in a directory that anyone may write to; records are not written through it. Name the directory itself.", path.display())]
    ForeignLink {
        /// Which.
        path: PathBuf,
        /// Whose link.
        owner: u32,
    },
    /// A file in it could not be opened.
    #[error("{} could not be opened for writing: {error}{}", path.display(), mend(error))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file in it is no plain file.
    #[error("{} is no regular file; records are not written to it. Remove it.", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Another psmond is at work there.
    #[error("{error} (directory {})", path.display())]
    Lock {
        /// Which directory.
        path: PathBuf,
        /// Why.
        error: LockError,
    },
}

fn mend(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ROFS) => ". Under systemd ProtectSystem= makes it read-only: add ReadWritePaths= for it to the unit.",
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            ". Give psmond's user the right to write there, or name another directory with -l."
        }
        Some(rustix::io::Errno::NOSPC) => ". Make room on that disk.",
        Some(rustix::io::Errno::LOOP) => ". It is a symbolic link, and records are not written through one.",
        _ => "",
    }
}

impl Directory {
    /// Makes the directory if it is missing (0750), opens and locks it. `group` is given files and a directory that are made.
    ///
    /// # Errors
    /// As [`DirectoryError`] says.
    pub fn open(path: &Path, group: Option<u32>) -> Result<Self, DirectoryError> {
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        refuse_foreign_link(path)?;
        let made = make(path).map_err(|error| DirectoryError::Make { path: path.clone(), error })?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| DirectoryError::Open { path: path.clone(), error: error.into() })?;
        if made && let Some(group) = group {
            // Where we may not, it stays with our own group.
            let _ = rustix::fs::fchown(&fd, None, Some(Gid::from_raw(group)));
        }
        let file = open_file(&fd, path, lock::NAME, group)?;
        let held = Lock::take(file).map_err(|error| DirectoryError::Lock { path: path.clone(), error })?;
        Ok(Self { path: path.clone(), fd, group, _lock: held })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The group that what is made is given to.
    #[must_use]
    pub const fn group(&self) -> Option<u32> {
        self.group
    }

    /// Opens a file for appending, and makes it (0640) if it is missing.
    ///
    /// # Errors
    /// As [`DirectoryError`] says.
    pub fn append(&self, name: &str) -> Result<File, DirectoryError> {
        open_file(&self.fd, &self.path, name, self.group)
    }

    /// Whether the opened file is still the one of that name, in the directory that is still at our path.
    #[must_use]
    pub fn is_current(&self, file: &File, name: &str) -> bool {
        let Ok(opened) = file.metadata() else { return false };
        let same = |found: &fs::Metadata| found.dev() == opened.dev() && found.ino() == opened.ino();
        fs::symlink_metadata(self.path.join(name)).is_ok_and(|found| same(&found))
    }

    /// Whether our path still leads to the directory that we hold.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let (Ok(held), Ok(found)) = (rustix::fs::fstat(&self.fd), rustix::fs::stat(&self.path)) else { return false };
        held.st_dev == found.st_dev && held.st_ino == found.st_ino
    }

    /// Renames a file; one that has the new name already is not replaced.
    ///
    /// # Errors
    /// `renameat2(2)` failed.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            // Some file systems (old NFS) do not know the flag.
            Err(rustix::io::Errno::INVAL) if rustix::fs::statat(&self.fd, to, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
                Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
            }
            other => Ok(other?),
        }
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// `unlinkat(2)` failed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Replaces a file whole: a temporary one beside it, brought to the disk, renamed over it.
    ///
    /// # Errors
    /// It could not be written; what was there stays.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.tmp");
        let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        let mut file = self.append(&temporary).map_err(io::Error::other)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        Ok(rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?)
    }

    /// Brings names to the disk.
    ///
    /// # Errors
    /// `fsync(2)` failed.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Bytes free to us.
    ///
    /// # Errors
    /// `statvfs(3)` failed.
    pub fn free(&self) -> io::Result<u64> {
        fs2::available_space(&self.path)
    }

    /// Bytes of the whole disk.
    ///
    /// # Errors
    /// `statvfs(3)` failed.
    pub fn total(&self) -> io::Result<u64> {
        fs2::total_space(&self.path)
    }

    /// The segments in it.
    ///
    /// # Errors
    /// It could not be listed.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        list(&self.path)
    }
}

/// The segments in a directory, by name.
///
/// # Errors
/// It could not be listed.
pub fn list(path: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(Name::parse) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            found.push(Found { name, bytes: metadata.len() });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn open_file(fd: &OwnedFd, path: &Path, name: &str, group: Option<u32>) -> Result<File, DirectoryError> {
    // NONBLOCK so that a FIFO laid there cannot hold us.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let file: File = rustix::fs::openat(fd, name, flags, mode)
        .map_err(|error| DirectoryError::File { path: path.join(name), error: error.into() })?
        .into();
    let metadata = file.metadata().map_err(|error| DirectoryError::File { path: path.join(name), error })?;
    if !metadata.is_file() || metadata.file_type().is_fifo() {
        return Err(DirectoryError::NotAFile { path: path.join(name) });
    }
    if metadata.len() == 0
        && let Some(group) = group.filter(|group| *group != metadata.gid())
    {
        let _ = rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)));
    }
    Ok(file)
}

/// Makes the directory and its parents; says whether it was missing.
fn make(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    }
}

/// In a directory that anyone may write to, a link is followed only if it is ours or the directory owner's:
/// the rule of `fs.protected_symlinks` (`proc_sys_fs(5)`), held here whatever the machine's setting.
fn refuse_foreign_link(path: &Path) -> Result<(), DirectoryError> {
    let Ok(link) = fs::symlink_metadata(path) else { return Ok(()) };
    let Some(parent) = path.parent().and_then(|parent| fs::metadata(parent).ok()) else { return Ok(()) };
    let foreign = link.uid() != rustix::process::geteuid().as_raw() && link.uid() != parent.uid();
    if link.is_symlink() && parent.mode() & 0o002 != 0 && foreign {
        return Err(DirectoryError::ForeignLink { path: path.to_owned(), owner: link.uid() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_made_locked_and_private() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let dir = Directory::open(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o750 & !umask());
        let mut file = dir.append("ps.log").unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640 & !umask());
        assert!(matches!(Directory::open(&path, None), Err(DirectoryError::Lock { error: LockError::Held(Some(_)), .. })));
        assert!(dir.is_current(&file, "ps.log") && dir.is_in_place());
        dir.rename("ps.log", "ps-2026-11-20.log").unwrap();
        assert!(!dir.is_current(&file, "ps.log"));
        assert_eq!(dir.list().unwrap().len(), 1);
        fs::remove_dir_all(&path).unwrap();
        assert!(!dir.is_in_place());
    }

    fn umask() -> u32 {
        let probe = tempfile::tempdir().unwrap();
        let path = probe.path().join("x");
        fs::File::create(&path).unwrap();
        0o666 & !(fs::metadata(&path).unwrap().mode() & 0o777)
    }

    #[test]
    fn links_and_fifos_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = Directory::open(root.path(), None).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("ps.log")).unwrap();
        let error = dir.append("ps.log").unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        rustix::fs::mknodat(rustix::fs::CWD, root.path().join("pss.log"), rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(dir.append("pss.log"), Err(DirectoryError::NotAFile { .. })));
    }

    #[test]
    fn somebody_elses_link_in_a_public_place_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: laying another user's link needs root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let link = root.path().join("log");
        std::os::unix::fs::symlink("/nonexistent", &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
        assert!(matches!(Directory::open(&link, None), Err(DirectoryError::ForeignLink { owner: 12345, .. })));
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let dir = Directory::open(root.path(), None).unwrap();
        dir.replace("psmond.state", b"one").unwrap();
        dir.replace("psmond.state", b"two").unwrap();
        assert_eq!(fs::read(root.path().join("psmond.state")).unwrap(), b"two");
    }
}
