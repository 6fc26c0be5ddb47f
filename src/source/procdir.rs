//! `/proc`: the list of processes and their files.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::ReadError;

/// `statfs(2)`'s type of a real procfs, from `linux/magic.h`.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// An opened `/proc`, or a tree that looks like one.
#[derive(Debug)]
pub struct Proc {
    root: OwnedFd,
    path: PathBuf,
    native: bool,
}

impl Proc {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// It is not there, not a directory, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let procfs = fs::fstatfs(&root).is_ok_and(|info| info.f_type == PROC_SUPER_MAGIC);
        // A procfs of another pid namespace, or a mirror of one, names other processes than our system calls do.
        let own = fs::readlinkat(&root, "self", Vec::new()).ok().and_then(|link| super::number(link.to_bytes()));
        let native = procfs && own == Some(u64::from(std::process::id()));
        Ok(Self { root, path: path.to_owned(), native })
    }

    /// Whether this is the procfs of our own pid namespace: then process CPU clocks speak of the same
    /// processes, and files such as `stat` never wait. Of anything else (FUSE, a made tree) nothing is sure.
    #[must_use]
    pub const fn is_native(&self) -> bool {
        self.native
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the ids of all processes, in the kernel's order, which is ascending.
    ///
    /// # Errors
    /// `getdents64(2)` failed.
    pub fn list(&self, pids: &mut Vec<u32>) -> io::Result<()> {
        pids.clear();
        fs::seek(&self.root, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&self.root, &mut buffer);
        while let Some(entry) = entries.next() {
            if let Some(pid) = super::number(entry?.file_name().to_bytes()).and_then(|pid| u32::try_from(pid).ok()) {
                pids.push(pid);
            }
        }
        if !pids.is_sorted() {
            pids.sort_unstable();
        }
        Ok(())
    }

    /// Opens a file of the tree, for example `1234/stat`.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn open_file(&self, path: &str) -> Result<OwnedFd, ReadError> {
        Ok(open_at(&self.root, path)?)
    }

    /// Opens the directory of a process. What is read through it is of that process and no other, even
    /// when the pid is used again.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn process(&self, pid: u32) -> Result<ProcessDir, ReadError> {
        let mut name = itoa::Buffer::new();
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(ProcessDir(fs::openat(&self.root, name.format(pid), flags, Mode::empty())?))
    }

    /// Opens `/proc/PID/stat` for keeping: it survives exec, and answers ESRCH after the end even if the pid is used again.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn open_stat(&self, pid: u32) -> Result<OwnedFd, ReadError> {
        Ok(self.open_of(pid, b"/stat")?)
    }

    /// Opens `/proc/PID/statm`, which can be kept likewise.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn open_statm(&self, pid: u32) -> Result<OwnedFd, ReadError> {
        Ok(self.open_of(pid, b"/statm")?)
    }

    /// Opens `/proc/PID/io`, which can be kept likewise; whether it may be read is decided at each reading.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn open_io(&self, pid: u32) -> Result<OwnedFd, ReadError> {
        Ok(self.open_of(pid, b"/io")?)
    }

    /// Opens `/proc/PID/status`, which can be kept likewise.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn open_status(&self, pid: u32) -> Result<OwnedFd, ReadError> {
        Ok(self.open_of(pid, b"/status")?)
    }

    /// The name of a process's first task, in one read: it has 15 bytes at most, those of kernel workers 63
    /// (`include/linux/sched.h`, `fs/proc/array.c`).
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn comm(&self, pid: u32) -> Result<Vec<u8>, ReadError> {
        read_comm(&self.open_of(pid, b"/comm")?)
    }

    /// How many file descriptors a process has open, as the size of its `fd` directory (Linux 6.2, `proc_fd_getattr` in
    /// `fs/proc/fd.c`; no permission is needed); 0 also where the kernel does not tell it so.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn fd_count(&self, pid: u32) -> Result<u64, ReadError> {
        let mut path = [0_u8; 32];
        let mut name = itoa::Buffer::new();
        let digits = name.format(pid).as_bytes();
        path[..digits.len()].copy_from_slice(digits);
        path[digits.len()..digits.len() + 3].copy_from_slice(b"/fd");
        let size = fs::statat(&self.root, &path[..digits.len() + 3], AtFlags::empty())?.st_size;
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Opens a file of a process without an allocation: this is done for each process at each full sample.
    pub(super) fn open_of(&self, pid: u32, file: &[u8]) -> Result<OwnedFd, Errno> {
        let mut path = [0_u8; 32];
        let mut name = itoa::Buffer::new();
        let digits = name.format(pid).as_bytes();
        let end = digits.len() + file.len();
        path[..digits.len()].copy_from_slice(digits);
        path[digits.len()..end].copy_from_slice(file);
        open_at(&self.root, &path[..end])
    }

    /// The effective user of a process: the owner of its directory.
    ///
    /// The mode of `/proc/PID` itself is r-xr-xr-x, and for such directories the kernel answers with the
    /// effective user whether the process is dumpable or not (`task_dump_owner` in `fs/proc/base.c`).
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn owner(&self, pid: u32) -> Result<u32, ReadError> {
        let mut name = itoa::Buffer::new();
        Ok(fs::statat(&self.root, name.format(pid), AtFlags::empty())?.st_uid)
    }

    /// Reads a small file of the tree whole.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        read_all(self.open_file(path)?)
    }

    /// Reads a link of the tree, for example `1234/exe`.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn link(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        Ok(fs::readlinkat(&self.root, path, Vec::new())?.into_bytes())
    }
}

/// The directory of one process.
#[derive(Debug)]
pub struct ProcessDir(OwnedFd);

impl ProcessDir {
    /// Opens one of its files.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn open(&self, name: &str) -> Result<OwnedFd, ReadError> {
        Ok(self.open_or_errno(name)?)
    }

    /// The same with the kernel's own word for why not.
    pub(super) fn open_or_errno(&self, name: &str) -> Result<OwnedFd, Errno> {
        open_at(&self.0, name)
    }

    /// Reads one of its small files whole.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        read_all(self.open(name)?)
    }

    /// Reads one of its links, for example `exe` or `ns/net`.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn link(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        Ok(fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Its effective user: see [`Proc::owner`].
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn owner(&self) -> Result<u32, ReadError> {
        Ok(fs::statat(&self.0, "", AtFlags::EMPTY_PATH)?.st_uid)
    }

    /// Its name: see [`Proc::comm`].
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn comm(&self) -> Result<Vec<u8>, ReadError> {
        read_comm(&self.open("comm")?)
    }

    /// The inode by which the network namespace it is in is known.
    ///
    /// # Errors
    /// As [`ReadError`] says; of processes of others it needs CAP_SYS_PTRACE.
    pub fn network_namespace(&self) -> Result<u64, ReadError> {
        let mut link = [MaybeUninit::uninit(); 64];
        let (link, _) = fs::readlinkat_raw(&self.0, "ns/net", &mut link)?;
        super::namespace::inode(link).ok_or(ReadError::Vanished)
    }

    /// The ids of its tasks.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn tasks(&self) -> Result<Vec<u32>, ReadError> {
        let dir = fs::openat(&self.0, "task", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&dir, &mut buffer);
        let mut tasks = Vec::new();
        while let Some(entry) = entries.next() {
            tasks.extend(super::number(entry?.file_name().to_bytes()).and_then(|task| u32::try_from(task).ok()));
        }
        Ok(tasks)
    }

    /// How many file descriptors it has open.
    ///
    /// Linux 6.2 and later tell it as the size of the directory; before that they are counted.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn fd_count(&self) -> Result<u64, ReadError> {
        let fd = fs::openat(&self.0, "fd", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let size = fs::fstat(&fd)?.st_size;
        if size > 0 {
            return Ok(u64::try_from(size).unwrap_or(0));
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&fd, &mut buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            if entry?.file_name().to_bytes()[0] != b'.' {
                count += 1;
            }
        }
        Ok(count)
    }
}

/// Reads an opened `/proc` file from its start into `buffer`; what does not fit is left out.
///
/// # Errors
/// As [`ReadError`] says; ESRCH, and so `Vanished`, after the end of the process.
pub fn read_at_start(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, ReadError> {
    loop {
        match rustix::io::pread(&fd, &mut *buffer, 0) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn read_comm(fd: &OwnedFd) -> Result<Vec<u8>, ReadError> {
    let mut buffer = [0; 128];
    let length = read_at_start(fd, &mut buffer)?;
    let name = buffer.get(..length).unwrap_or_default();
    Ok(name.strip_suffix(b"\n").unwrap_or(name).to_vec())
}

fn open_at(dir: &OwnedFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

pub(super) fn read_all(fd: OwnedFd) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(1024);
    io::Read::read_to_end(&mut File::from(fd), &mut bytes)
        .map_err(|error| error.raw_os_error().map_or(ReadError::Failed(Errno::IO), |code| Errno::from_raw_os_error(code).into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_ourselves_and_is_sorted() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        assert!(proc.is_native());
        let mut pids = Vec::new();
        proc.list(&mut pids).unwrap();
        assert!(pids.is_sorted() && pids.contains(&std::process::id()));
        proc.list(&mut pids).unwrap();
        assert!(pids.contains(&std::process::id()), "a second list begins at the start again");
    }

    #[test]
    fn a_made_tree_is_not_native() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("42")).unwrap();
        std::fs::write(root.path().join("42/stat"), "42 (x) S").unwrap();
        let proc = Proc::open(root.path()).unwrap();
        assert!(!proc.is_native());
        let mut pids = Vec::new();
        proc.list(&mut pids).unwrap();
        assert_eq!(pids, [42]);
        assert_eq!(proc.read("42/stat").unwrap(), b"42 (x) S");
        assert_eq!(proc.read("43/stat"), Err(ReadError::Vanished));
    }

    #[test]
    fn a_kept_stat_says_when_its_process_is_gone() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let kept = proc.open_stat(child.id()).unwrap();
        let mut buffer = [0; 1024];
        assert!(read_at_start(&kept, &mut buffer).unwrap() > 100);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read_at_start(&kept, &mut buffer), Err(ReadError::Vanished));
    }

    #[test]
    fn the_owner_is_the_effective_user_even_of_the_undumpable() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let me = proc.owner(std::process::id()).unwrap();
        assert_eq!(me, rustix::process::geteuid().as_raw());
        assert_eq!(proc.process(std::process::id()).unwrap().owner().unwrap(), me);
    }

    #[test]
    fn open_descriptors_are_counted() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let dir = proc.process(std::process::id()).unwrap();
        assert!(dir.fd_count().unwrap() >= 3);
    }
}
