//! What the usage sampler remembers of a process, and how it is read: `io`, `status` and the number of descriptors, none of which
//! waits for a lock of the target's memory. They are read when the process ran, and of everyone at a full sample.

use std::os::fd::OwnedFd;

use super::facts::Reading;
use super::kept;
use super::own_io::OwnIo;
use super::radar::Measured;
use super::sockets::{Counts, Sockets};
use super::table::Process;
use crate::source::io::Io;
use crate::source::procdir::Proc;
use crate::source::status::{self, Brief};
use crate::source::taskstats::Taskstats;
use crate::source::{ReadError, clock};

/// `status` without the list of groups takes some 1.5 KiB; where a thousand of them push the switches out, they are not known.
const STATUS_BYTES: usize = 8192;

/// Context switches since birth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// It waited for something.
    pub voluntary: u64,
    /// Its time was up, or somebody more urgent came.
    pub involuntary: u64,
}

/// What is remembered of one process.
#[derive(Debug, Default)]
pub struct Usage {
    /// Its CPU clock when it was read last.
    cpu_ns: u64,
    /// When that was, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    pub read_ns: u64,
    /// Its io, of all its tasks, without that of children it waited for.
    pub io: Reading<Io>,
    /// Its context switches, of all its tasks.
    pub switches: Reading<Switches>,
    /// Its open descriptors.
    pub fds: Reading<u64>,
    /// What else its `status` said; `None` where it could not be had.
    pub brief: Option<Brief>,
    /// The list of its descriptors that was asked for last.
    pub listing: Listing,
    /// What its sockets were at the last sample.
    pub counts: Reading<Counts>,
    /// What it is nearest to of its limits.
    pub measured: Measured,
    /// What its row in stream `usage_process` was made of.
    pub row: RowState,
    /// How its io is known.
    own_io: OwnIo,
    /// Its `status`, kept open as long as there are descriptors to spare.
    kept_status: Option<OwnedFd>,
}

/// When a list of descriptors was asked for, and whether it may have changed since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listing {
    /// It was asked for.
    pub asked: bool,
    /// The process ran since.
    pub ran: bool,
    /// What [`Sockets::generation`](super::sockets::Sockets::generation) was then.
    pub generation: u64,
    /// How many of the sockets in it were those of a namespace's dump.
    pub present: u32,
    /// Ticks until it is worth its price again.
    pub rest: u32,
}

/// What stream `usage_process` remembers of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowState {
    /// It is in the stream.
    pub visible: bool,
    /// Something of it changed since.
    pub due: bool,
    /// It holds a refused value.
    pub refused: bool,
    /// It holds a value that could not be had in time.
    pub stuck: bool,
    /// It had used CPU in its interval, or had none behind it: it changes even if nothing happens now.
    pub running: bool,
    /// The CPU clock when it was made, and when that was read, nanoseconds.
    pub before: (u64, u64),
}

impl Usage {
    /// How many files it keeps open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.own_io.descriptors() + usize::from(self.kept_status.is_some())
    }
}

/// Whether a process ran since it was read last, or never was.
#[must_use]
pub fn is_stale(process: &Process) -> bool {
    process.usage.as_deref().is_none_or(|usage| usage.read_ns == 0 || usage.cpu_ns != process.cpu_ns)
}

/// Whether the list of its descriptors must be read again: it ran, and either their number is another, or sockets were made since and
/// one of those that it held is gone, in whose place it may hold a new one. Whoever closed a file and opened a socket instead, or was
/// handed one, is found when their number changes, or at the next full sample.
#[must_use]
pub fn wants_list(process: &Process, sockets: &Sockets) -> bool {
    let Some(usage) = process.usage.as_deref() else { return false };
    let listing = usage.listing;
    if !listing.asked {
        return true;
    }
    let Some(held) = process.held.as_deref().and_then(Reading::known) else { return listing.ran };
    let is_other = || listing.generation != sockets.generation() && sockets.present(&held.inodes) != listing.present;
    listing.ran && (Some(u64::from(held.fds)) != usage.fds.known().copied() || is_other())
}

/// What the kernel does for whoever reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel<'a> {
    /// It adds up the tasks of a process.
    pub taskstats: Option<&'a Taskstats>,
    /// It tells the number of descriptors as the size of their directory (Linux 6.2); else a list of them does.
    pub tells_fds: bool,
}

/// Reads a process that lives. Files are kept open while there are descriptors to `spare`.
pub fn read(proc: &Proc, kernel: Kernel<'_>, process: &mut Process, spare: &mut usize) {
    let Kernel { taskstats, tells_fds } = kernel;
    let pid = process.id.pid;
    let mut usage = process.usage.take().unwrap_or_default();
    if process.stat.is_dead() {
        // What it had is its parent's business now, and its counters stand in its records.
        usage.fds = Reading::Absent;
        usage.brief = None;
    } else {
        let mut buffer = [0; STATUS_BYTES];
        let answer = usage.own_io.read(proc, process, spare);
        update(&mut usage.io, answer);
        let read = kept::read(&mut usage.kept_status, spare, &mut buffer, || proc.open_status(pid));
        let brief = read.and_then(|length| status::brief(&buffer[..length]).ok_or(ReadError::Vanished));
        usage.brief = brief.ok();
        update(&mut usage.switches, switches(brief, taskstats, process));
        let held = process.held.as_deref().and_then(Reading::known).map(|held| u64::from(held.fds));
        match (tells_fds, held) {
            // Its first task ended and has given its descriptors back; those of the others nobody counts.
            _ if process.stat.is_zombie() => usage.fds = Reading::Refused,
            (true, _) => update(&mut usage.fds, proc.fd_count(pid)),
            (false, Some(held)) => usage.fds = Reading::Known(held),
            (false, None) => {}
        }
    }
    (usage.cpu_ns, usage.read_ns) = (process.cpu_ns, clock::monotonic_ns());
    usage.row.due = true;
    usage.listing.ran = true;
    process.usage = Some(usage);
}

/// `status` knows those of the first task only. Of several the kernel adds them up where psmond may ask, and those of ended tasks stand
/// in their records.
fn switches(brief: Result<Brief, ReadError>, taskstats: Option<&Taskstats>, process: &Process) -> Result<Switches, ReadError> {
    let brief = brief?;
    let first = Switches { voluntary: brief.nvcsw, involuntary: brief.nivcsw };
    let ended = Switches { voluntary: process.life.account.nvcsw, involuntary: process.life.account.nivcsw };
    if process.stat.num_threads <= 1 {
        return Ok(Switches { voluntary: first.voluntary + ended.voluntary, involuntary: first.involuntary + ended.involuntary });
    }
    let record = taskstats.ok_or(ReadError::Refused)?.process(process.id.pid).map_err(|_| ReadError::Refused)?;
    Ok(Switches { voluntary: record.nvcsw + ended.voluntary, involuntary: record.nivcsw + ended.involuntary })
}

/// What was known of one that ended meanwhile stays known.
fn update<T>(place: &mut Reading<T>, answer: Result<T, ReadError>) {
    if !(place.known().is_some() && matches!(answer, Err(ReadError::Vanished))) {
        *place = Reading::from_read(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::stat;
    use std::io::Write as _;
    use std::path::Path;

    const KERNEL: Kernel<'_> = Kernel { taskstats: None, tells_fds: true };

    fn own(proc: &Proc) -> Process {
        of(proc, std::process::id())
    }

    fn of(proc: &Proc, pid: u32) -> Process {
        let text = proc.read(&format!("{pid}/stat")).unwrap();
        let (stat, comm) = stat::parse(&text).unwrap();
        Process::new(stat, comm, None)
    }

    #[test]
    fn what_a_process_did_shows_at_the_next_reading() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let piped = std::process::Stdio::piped;
        let mut cat = std::process::Command::new("cat").stdin(piped()).stdout(piped()).spawn().unwrap();
        let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let mut says = |bytes: usize| {
            to.write_all(&vec![b'x'; bytes]).unwrap();
            std::io::Read::read_exact(&mut from, &mut vec![0; bytes]).unwrap();
        };
        says(1);
        let mut process = of(&proc, cat.id());
        assert!(is_stale(&process), "nobody read it yet");
        let mut spare = 2;
        read(&proc, KERNEL, &mut process, &mut spare);
        assert_eq!((spare, process.usage.as_ref().unwrap().descriptors()), (0, 2));
        assert!(!is_stale(&process));
        let before = process.usage.as_ref().unwrap().io.known().copied().unwrap();
        says(10_000);
        process.cpu_ns += 1;
        assert!(is_stale(&process), "it ran");
        // The kernel counts what was written a moment after somebody could read it.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            read(&proc, KERNEL, &mut process, &mut spare);
            let now = process.usage.as_ref().unwrap().io.known().copied().unwrap();
            if (now.wchar, now.rchar) == (before.wchar + 10_000, before.rchar + 10_000) {
                break;
            }
            assert!(now.wchar <= before.wchar + 10_000 && std::time::Instant::now() < until, "{now:?}, before {before:?}");
            std::thread::yield_now();
        }
        let usage = process.usage.as_ref().unwrap();
        let listed = std::fs::read_dir(format!("/proc/{}/fd", cat.id())).unwrap().count() as u64;
        assert_eq!(usage.fds.known().copied(), Some(listed));
        assert!(usage.brief.and_then(|brief| brief.stack).is_some_and(|bytes| bytes > 0));
        assert!(usage.switches.known().is_some_and(|switches| switches.voluntary > 0), "it waited for what was said");
        // Of several tasks nobody knows without the kernel's sum.
        process.stat.num_threads = 2;
        read(&proc, KERNEL, &mut process, &mut spare);
        assert_eq!(process.usage.as_ref().unwrap().switches, Reading::Refused);
        drop(to);
        cat.wait().unwrap();
    }

    #[test]
    fn the_switches_of_all_tasks_are_counted() {
        let Ok(taskstats) = Taskstats::open() else { return eprintln!("SKIPPED: no CAP_NET_ADMIN, so the kernel adds nothing up") };
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let mut process = own(&proc);
        process.stat.num_threads = 2;
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while told.recv().is_ok() {
                go.send(()).unwrap();
            }
        });
        let count = |process: &mut Process| {
            read(&proc, Kernel { taskstats: Some(&taskstats), ..KERNEL }, process, &mut 0);
            match process.usage.as_ref().unwrap().switches {
                Reading::Known(switches) => Some(switches.voluntary),
                _ => None,
            }
        };
        let Some(before) = count(&mut process) else { return eprintln!("SKIPPED: the kernel refuses taskstats") };
        for _ in 0..100 {
            tell.send(()).unwrap();
            gone.recv().unwrap();
        }
        let after = count(&mut process).unwrap();
        assert!(after >= before + 100, "one of them waited a hundred times at least: {before}, {after}");
        drop(tell);
        thread.join().unwrap();
    }
}
