//! Names and memory of many processes, one after the other, by a thread that does nothing else.
//!
//! What [`readers`](super::readers) do for any question costs more than to ask the kernel for a name; here a process costs three
//! calls for each file and nothing besides. A process that does not answer costs a thread, as it does there: it is given up, and
//! another goes on with those after it.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::facts::{Reading, Wants};
use super::readers::DEADLINE;
use super::survey::Seen;
use crate::source::procdir::Proc;
use crate::source::{ReadError, smaps};

/// Threads given up and not yet back: with so many nobody is asked any more.
const MOST: usize = 4;

/// How far a thread has come.
#[derive(Debug, Default)]
struct Progress {
    seen: Vec<Seen>,
    /// Who is being read, and since when.
    at: usize,
    since: Option<Instant>,
    given_up: bool,
    back: bool,
}

type Run = Arc<Mutex<Progress>>;

/// Reads names and memory.
#[derive(Debug)]
pub struct Scanner {
    proc: Arc<Proc>,
    /// Threads that were given up, and for whom they wait.
    hanging: Vec<(u32, Run)>,
}

impl Scanner {
    /// A scanner of this `/proc`.
    #[must_use]
    pub const fn new(proc: Arc<Proc>) -> Self {
        Self { proc, hanging: Vec::new() }
    }

    /// Whether it can read all of this.
    #[must_use]
    pub fn can_read(wants: Wants) -> bool {
        wants.without(Wants::COMM | Wants::MEMORY).is_empty()
    }

    /// Reads the memory of all of these, where it is wanted, and then their names.
    pub fn scan(&mut self, seen: &mut Vec<Seen>, wants: Wants) {
        self.hanging.retain(|(_, run)| !lock(run).back);
        let mut from = 0;
        while let Some(process) = seen.get_mut(from) {
            // Nobody is asked a second time while a thread still waits for him.
            if self.hanging.len() >= MOST || self.hanging.iter().any(|(pid, _)| *pid == process.pid) {
                late(process, wants);
                from += 1;
            } else {
                from = self.scan_from(from, seen, wants);
            }
        }
    }

    /// Reads from one on to the end, or until one does not answer; answers with who comes after those that were read.
    fn scan_from(&mut self, from: usize, seen: &mut Vec<Seen>, wants: Wants) -> usize {
        let hanging: Vec<u32> = self.hanging.iter().map(|(pid, _)| *pid).collect();
        let run = Arc::new(Mutex::new(Progress { seen: std::mem::take(seen), at: from, ..Progress::default() }));
        let (tell, ready) = mpsc::channel::<()>();
        let (proc, for_thread) = (Arc::clone(&self.proc), Arc::clone(&run));
        let work = move || {
            work(&proc, &for_thread, wants, &hanging);
            lock(&for_thread).back = true;
            drop(tell);
        };
        let started = thread::Builder::new().name("scan".to_owned()).stack_size(64 * 1024).spawn(work).is_ok();
        loop {
            let since = lock(&run).since;
            let left = DEADLINE.saturating_sub(since.map_or_else(Default::default, |since| since.elapsed()));
            let answer = if started { ready.recv_timeout(left) } else { Err(RecvTimeoutError::Disconnected) };
            let mut progress = lock(&run);
            let is_late = progress.since.is_some_and(|since| since.elapsed() >= DEADLINE);
            if answer == Err(RecvTimeoutError::Timeout) && !is_late {
                continue;
            }
            *seen = std::mem::take(&mut progress.seen);
            progress.given_up = true;
            let at = progress.at;
            // It has read all, or whom it waits for is late; where no thread was to be had, they all are, one after the other.
            if let Some(process) = seen.get_mut(at) {
                late(process, wants);
                if !progress.back && started {
                    self.hanging.push((process.pid, Arc::clone(&run)));
                }
            }
            return at + 1;
        }
    }
}

fn lock(run: &Run) -> MutexGuard<'_, Progress> {
    // Each change under the lock is complete.
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(proc: &Proc, run: &Run, wants: Wants, hanging: &[u32]) {
    let mut found = None;
    loop {
        let mut progress = lock(run);
        if progress.given_up {
            return;
        }
        let at = progress.at;
        if let (Some(found), Some(process)) = (found.take(), progress.seen.get_mut(at)) {
            take(process, found);
            progress.at += 1;
        }
        let at = progress.at;
        let Some(pid) = progress.seen.get(at).map(|process| process.pid).filter(|pid| !hanging.contains(pid)) else { return };
        progress.since = Some(Instant::now());
        drop(progress);
        found = Some(read(proc, pid, wants));
    }
}

type Found = (Option<Result<smaps::Memory, ReadError>>, Option<Result<Vec<u8>, ReadError>>);

fn read(proc: &Proc, pid: u32, wants: Wants) -> Found {
    let memory = wants.has(Wants::MEMORY).then(|| smaps::of(proc, pid));
    // Whoever has no memory is a kernel thread, a zombie or gone: that only his stat tells, and with it the name.
    let has_none = memory == Some(Err(ReadError::Vanished));
    (memory, (wants.has(Wants::COMM) && !has_none).then(|| proc.comm(pid)))
}

fn take(process: &mut Seen, (memory, comm): Found) {
    if let Some(memory) = memory {
        process.memory = Reading::from_read(memory);
    }
    if let Some(comm) = comm {
        process.comm = Reading::from_read(comm);
    }
}

/// What was known before stays.
fn late(process: &mut Seen, wants: Wants) {
    if wants.has(Wants::MEMORY) && process.memory.known().is_none() {
        process.memory = Reading::Late;
    }
    if wants.has(Wants::COMM) && process.comm.known().is_none() {
        process.comm = Reading::Late;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::path::Path;

    #[test]
    fn who_does_not_answer_costs_a_second_once_and_the_others_nothing() {
        let root = tempfile::tempdir().unwrap();
        for pid in 1..=9_u32 {
            let dir = root.path().join(pid.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("comm"), format!("name{pid}\n")).unwrap();
            // Whoever opens it waits.
            match pid {
                3 | 6 => mknodat(CWD, dir.join("smaps_rollup"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
                _ => std::fs::write(dir.join("smaps_rollup"), format!("Pss: {pid} kB\n")).unwrap(),
            }
        }
        let mut scanner = Scanner::new(Arc::new(Proc::open(root.path()).unwrap()));
        let fresh = || (1..=9).map(|pid| Seen { pid, ..Seen::default() }).collect::<Vec<_>>();
        let check = |seen: &[Seen]| {
            for process in seen {
                let waits = [3, 6].contains(&process.pid);
                assert_eq!(process.memory == Reading::Late, waits, "{process:?}");
                let pss = process.memory.known().map(|memory| memory.pss);
                assert_eq!(pss, (!waits).then_some(u64::from(process.pid) << 10), "{process:?}");
                assert_eq!(process.comm.known().is_some(), !waits, "{process:?}");
            }
        };
        let mut seen = fresh();
        let began = Instant::now();
        scanner.scan(&mut seen, Wants::COMM | Wants::MEMORY);
        assert!(began.elapsed() >= DEADLINE * 2 && seen.len() == 9);
        check(&seen);
        let mut seen = fresh();
        let began = Instant::now();
        scanner.scan(&mut seen, Wants::COMM | Wants::MEMORY);
        assert!(began.elapsed() < DEADLINE, "it is known that they do not answer");
        check(&seen);
        // Where somebody opens it, who waits comes back, and is asked again.
        for pid in [3, 6] {
            let path = root.path().join(format!("{pid}/smaps_rollup"));
            drop(std::fs::File::options().write(true).open(&path).unwrap());
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "Pss: 1 kB\n").unwrap();
        }
        let until = Instant::now() + DEADLINE * 20;
        while scanner.hanging.iter().any(|(_, run)| !lock(run).back) {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
        scanner.scan(&mut seen, Wants::COMM | Wants::MEMORY);
        assert!(seen.iter().all(|process| process.memory.known().is_some()));
    }

    #[test]
    fn of_ourselves() {
        let mut scanner = Scanner::new(Arc::new(Proc::open(Path::new("/proc")).unwrap()));
        let mut seen = vec![Seen { pid: std::process::id(), ..Seen::default() }];
        scanner.scan(&mut seen, Wants::COMM | Wants::MEMORY);
        assert!(seen[0].memory.known().unwrap().pss > 0 && !seen[0].comm.known().unwrap().is_empty());
        assert!(Scanner::can_read(Wants::COMM) && !Scanner::can_read(Wants::COMM | Wants::EXE));
    }
}
