//! `/proc/PID/smaps_rollup` (Linux 4.14; `proc_pid_smaps(5)`, `Documentation/ABI/testing/procfs-smaps_rollup`): what a process
//! has in memory, what it shares divided by the number of those it shares it with. Older kernels have only `smaps`, the same
//! lines once for each mapping.
//!
//! The kernel walks the page tables under the target's mmap_lock, so a reading holds up a target that maps, unmaps or faults:
//! some 20 µs, and for each resident MiB 4 µs where the page tables are warm to 20 where they are not. Whoever reads measures what it cost.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::number;
use super::procdir::{Proc, ProcessDir, read_all, read_at_start};
use crate::source::ReadError;

/// The longest `smaps_rollup` there is: some 25 lines of 40 bytes.
const ROLLUP_BYTES: usize = 4096;

/// What a process has in memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Memory {
    /// Resident, shared or not.
    pub rss: u64,
    /// Proportional set size: what it shares with others divided by their number. Swapped memory is not in it.
    pub pss: u64,
    /// Of it what no file is behind; `None` before Linux 5.4.
    pub pss_anon: Option<u64>,
    /// Of it what is of files; likewise.
    pub pss_file: Option<u64>,
    /// Of it what is of shared memory and tmpfs; likewise.
    pub pss_shmem: Option<u64>,
    /// Of it what was written to; `None` before Linux 6.0.
    pub pss_dirty: Option<u64>,
    /// What nobody shares: it would be free if the process ended.
    pub uss: u64,
    /// Its share of what is swapped out.
    pub swap_pss: u64,
}

/// A reading, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was read.
    pub memory: Result<Memory, ReadError>,
    /// CPU time of the reading thread.
    pub cpu: Duration,
    /// From begin to end: so long at most the target's lock was held.
    pub took: Duration,
}

/// Adds up the lines of `smaps_rollup` or `smaps`; `None` where there is no `Pss:` line, as for what has no memory.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Memory> {
    let mut memory = Memory::default();
    let mut found = false;
    let add = |place: &mut Option<u64>, bytes| *place = Some(place.unwrap_or(0).saturating_add(bytes));
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(memchr::memchr(b'\n', rest).unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        // A mapping's own line begins with its address in lower-case hexadecimal digits, a key with a capital letter.
        let Some(colon) = line.first().filter(|first| first.is_ascii_uppercase()).and_then(|_| memchr::memchr(b':', line)) else {
            continue;
        };
        let Some(kib) = line[colon + 1..].strip_suffix(b"kB").and_then(|value| number(value.trim_ascii())) else { continue };
        let bytes = kib.saturating_mul(1024);
        match &line[..colon] {
            b"Rss" => memory.rss = memory.rss.saturating_add(bytes),
            b"Pss" => {
                found = true;
                memory.pss = memory.pss.saturating_add(bytes);
            }
            b"Pss_Anon" => add(&mut memory.pss_anon, bytes),
            b"Pss_File" => add(&mut memory.pss_file, bytes),
            b"Pss_Shmem" => add(&mut memory.pss_shmem, bytes),
            b"Pss_Dirty" => add(&mut memory.pss_dirty, bytes),
            b"Private_Clean" | b"Private_Dirty" => memory.uss = memory.uss.saturating_add(bytes),
            b"SwapPss" => memory.swap_pss = memory.swap_pss.saturating_add(bytes),
            _ => {}
        }
    }
    found.then_some(memory)
}

/// Reads the memory of a process and measures what that cost; otherwise as [`read`], by the pid and not by a directory.
#[must_use]
pub fn take(proc: &Proc, pid: u32) -> Taken {
    let (cpu, began) = (clock_gettime(ClockId::ThreadCPUTime), Instant::now());
    let mut memory = of(proc, pid);
    if memory == Err(ReadError::Vanished)
        && let Ok(dir) = proc.process(pid)
    {
        memory = read_of_another_task(&dir, pid);
    }
    let took = began.elapsed();
    let spent = clock_gettime(ClockId::ThreadCPUTime) - cpu;
    Taken { memory, cpu: Duration::try_from(spent).unwrap_or_default(), took }
}

/// As [`read`], by the pid and not by a directory.
///
/// # Errors
/// As [`read`] says.
pub fn of(proc: &Proc, pid: u32) -> Result<Memory, ReadError> {
    read_by(|rollup| proc.open_of(pid, if rollup { b"/smaps_rollup" } else { b"/smaps" }))
}

/// Reads the memory of a process: of `smaps_rollup`, or of `smaps` where that is not there.
///
/// # Errors
/// As [`ReadError`] says; `Vanished` also of what lives and has no memory: kernel threads and zombies.
pub fn read(dir: &ProcessDir) -> Result<Memory, ReadError> {
    read_by(|rollup| dir.open_or_errno(if rollup { "smaps_rollup" } else { "smaps" }))
}

/// The memory of a process whose first task has ended before the others: the kernel looks for it at the task whose directory it is.
///
/// # Errors
/// As [`read`] says.
pub fn read_of_another_task(dir: &ProcessDir, pid: u32) -> Result<Memory, ReadError> {
    let mut tasks = dir.tasks()?.into_iter().filter(|task| *task != pid);
    let of = |task: u32| read_by(|rollup| dir.open_or_errno(&format!("task/{task}/{}", if rollup { "smaps_rollup" } else { "smaps" })));
    tasks.find_map(|task| of(task).ok()).ok_or(ReadError::Vanished)
}

/// `open` opens `smaps_rollup`, or else `smaps`.
fn read_by(open: impl Fn(bool) -> Result<OwnedFd, Errno>) -> Result<Memory, ReadError> {
    match open(true) {
        Ok(fd) => {
            // One call: the kernel makes the whole file at the first, and makes it again for none.
            let mut buffer = [0; ROLLUP_BYTES];
            let length = read_at_start(&fd, &mut buffer)?;
            parse(&buffer[..length]).ok_or(ReadError::Vanished)
        }
        // What has no memory says ESRCH, and would say nothing in `smaps` either.
        Err(Errno::NOENT) => parse(&read_all(open(false)?)?).ok_or(ReadError::Vanished),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const KIB: u64 = 1024;

    #[test]
    fn a_captured_rollup() {
        let text = b"55d0b8f06000-7ffe39ca8000 ---p 00000000 00:00 0                          [rollup]\n\
            Rss:                1796 kB\nPss:                 290 kB\nPss_Dirty:           112 kB\nPss_Anon:            111 kB\n\
            Pss_File:            178 kB\nPss_Shmem:             1 kB\nShared_Clean:       1640 kB\nShared_Dirty:          0 kB\n\
            Private_Clean:        44 kB\nPrivate_Dirty:       112 kB\nSwap:                  9 kB\nSwapPss:               7 kB\n";
        let want = Memory {
            rss: 1796 * KIB,
            pss: 290 * KIB,
            pss_anon: Some(111 * KIB),
            pss_file: Some(178 * KIB),
            pss_shmem: Some(KIB),
            pss_dirty: Some(112 * KIB),
            uss: 156 * KIB,
            swap_pss: 7 * KIB,
        };
        assert_eq!(parse(text), Some(want));
    }

    #[test]
    fn half_of_what_two_share_and_all_of_what_is_private() {
        // The example of psstop's manual, as `smaps` says it: 50 + 100/2 and 300 + 100/2.
        let smaps = |private: u64| {
            format!(
                "00400000-00419000 r-xp 00000000 08:01 9 /bin/x\nRss: {private} kB\nPss: {private} kB\nPrivate_Dirty: {private} kB\nSwapPss: 0 kB\n\
                 7f0000000000-7f0000019000 rw-s 00000000 00:05 9 /dev/shm/Pss: 999 kB\nRss: 100 kB\nPss: 50 kB\nShared_Dirty: 100 kB\nSwapPss: 8 kB\nVmFlags: rd\n"
            )
        };
        let (one, other) = (parse(smaps(50).as_bytes()).unwrap(), parse(smaps(300).as_bytes()).unwrap());
        assert_eq!((one.pss, other.pss), (100 * KIB, 350 * KIB));
        assert_eq!((one.swap_pss, one.uss, one.rss, one.pss_anon), (8 * KIB, 50 * KIB, 150 * KIB, None));
    }

    #[test]
    fn what_has_no_memory_has_no_reading() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"Pss: kB\nPss:\nPss: x kB\n\xff\xfe\nSwapPss: 4 kB"), None);
    }

    #[test]
    fn ourselves_a_kernel_thread_and_nobody() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let taken = take(&proc, std::process::id());
        let memory = taken.memory.unwrap();
        assert!(memory.pss > 0 && memory.pss <= memory.rss && memory.uss <= memory.pss);
        assert!(taken.took >= taken.cpu.saturating_sub(Duration::from_millis(1)) && taken.took > Duration::ZERO);
        assert_eq!(take(&proc, 2).memory, Err(ReadError::Vanished), "a kernel thread");
        let by_directory = read(&proc.process(std::process::id()).unwrap()).unwrap();
        assert!(by_directory.pss > 0 && by_directory.pss_anon.is_some() == memory.pss_anon.is_some());
        assert_eq!(take(&proc, 4_194_305).memory, Err(ReadError::Vanished));
    }

    #[test]
    fn without_a_rollup_the_mappings_are_added_up() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("7")).unwrap();
        std::fs::write(root.path().join("7/smaps"), "Pss: 3 kB\nPss: 4 kB\n").unwrap();
        let proc = Proc::open(root.path()).unwrap();
        assert_eq!(take(&proc, 7).memory.unwrap().pss, 7 * KIB);
        assert_eq!(read(&proc.process(7).unwrap()).unwrap().pss, 7 * KIB);
    }

    proptest::proptest! {
        #[test]
        fn nothing_a_file_may_hold_makes_it_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = parse(&text);
            let _ = parse(&[b"Pss: 99999999999999999999 kB\nPss: 18446744073709551615 kB\n".as_slice(), &text].concat());
        }
    }
}
