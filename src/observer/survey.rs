//! One look at everyone's memory, for `psmon pss`: no table is kept, and nothing is read that is not shown.
//!
//! Names and memory are a [`scan`](super::scan)'s. Whatever else is asked of the readers at once and taken a few hundred at a time, so
//! that nobody is woken once for each process; one that never answers costs a thread for a second and nothing else.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::facts::{Counters, Got, Reading, Wants};
use super::names::Names;
use super::readers::{Answer, Readers, Request};
use super::scan::Scanner;
use crate::record::cmd::Cmd;
use crate::source::ReadError;
use crate::source::procdir::{Proc, read_at_start};
use crate::source::smaps::Memory;
use crate::source::stat;

/// How often answers are taken while they come: some hundred at a time, so that their memory is used again for the next.
const MOMENT: Duration = Duration::from_millis(3);
/// How often one looks while none come.
const LONGEST_MOMENT: Duration = Duration::from_millis(100);

/// What is known of one process after a look.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its pid.
    pub pid: u32,
    /// What it has in memory; absent where it has none, as a zombie.
    pub memory: Reading<Memory>,
    /// The name of its first task.
    pub comm: Reading<Vec<u8>>,
    /// The command line, as the process said it.
    pub cmd: Reading<Cmd>,
    /// Path of the executable.
    pub exe: Reading<Vec<u8>>,
    /// Path of the control group.
    pub cgroup: Reading<Vec<u8>>,
    /// The effective user.
    pub owner: Reading<u32>,
    /// The program it counts for by rules, where somebody found that out.
    pub program: Option<Vec<u8>>,
}

impl Seen {
    /// Takes in what was read, `None` where it could not be had in time; what was known before stays then.
    fn take(&mut self, wants: Wants, got: Option<Got>) {
        fn set<T>(place: &mut Reading<T>, is_late: bool, read: Option<Result<T, ReadError>>) {
            match read {
                Some(read) => *place = Reading::from_read(read),
                None if is_late && place.known().is_none() => *place = Reading::Late,
                None => {}
            }
        }
        let is_late = |want: Wants| got.is_none() && wants.has(want);
        let late = [Wants::COMM, Wants::CMD, Wants::EXE, Wants::CGROUP, Wants::OWNER, Wants::MEMORY].map(is_late);
        let got = got.unwrap_or_default();
        set(&mut self.comm, late[0], got.comm);
        set(&mut self.cmd, late[1], got.cmd);
        set(&mut self.exe, late[2], got.exe);
        set(&mut self.cgroup, late[3], got.cgroup);
        set(&mut self.owner, late[4], got.owner);
        set(&mut self.memory, late[5], got.memory.map(|taken| taken.memory));
    }
}

/// Whether a process is meant; `None` where what that depends on could not be had.
pub type Takes<'a> = &'a dyn Fn(&Seen) -> Option<bool>;

/// What is asked.
pub struct Asked<'a> {
    /// What to read besides memory.
    pub wants: Wants,
    /// Only of these; of all where none is named.
    pub pids: &'a [u32],
    /// Only of those it takes; memory is read of nobody else, as that holds a process up.
    pub takes: Option<Takes<'a>>,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("wants", &self.wants).field("pids", &self.pids).finish_non_exhaustive()
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Look {
    /// Those that are meant, by pid. Kernel threads have no memory of their own and are not among them.
    pub processes: Vec<Seen>,
    /// Meant, and ended before they were read.
    pub vanished: u64,
    /// Of whom it could not be said whether they are meant.
    pub unknown: u64,
}

/// Looks at processes.
#[derive(Debug)]
pub struct Survey {
    proc: Arc<Proc>,
    scanner: Scanner,
    /// Started when something is asked that the scanner does not read.
    readers: Option<(Readers, Receiver<()>)>,
    names: Names,
    pids: Vec<u32>,
}

/// What `stat` says of a process without memory.
enum Left {
    /// It ended, or is just ending.
    Nothing,
    /// A kernel thread.
    Kernel,
    /// A zombie, and its name; whether other threads of it live on.
    Zombie { comm: Vec<u8>, threads: bool },
}

impl Left {
    fn of(read: Option<Counters>) -> Self {
        match read {
            Some((stat, _)) if stat.is_kthread() => Self::Kernel,
            Some((stat, comm)) if stat.is_zombie() => Self::Zombie { comm: comm.into(), threads: stat.num_threads > 1 },
            _ => Self::Nothing,
        }
    }
}

impl Survey {
    /// Nothing is read yet.
    #[must_use]
    pub fn start(proc: Arc<Proc>) -> Self {
        Self { scanner: Scanner::new(Arc::clone(&proc)), proc, readers: None, names: Names::default(), pids: Vec::new() }
    }

    /// Looks at everyone who is meant, but not at ourselves.
    ///
    /// # Errors
    /// `/proc` could not be listed.
    pub fn look(&mut self, asked: &Asked<'_>) -> io::Result<Look> {
        self.proc.list(&mut self.pids)?;
        let own = self.proc.is_native().then(std::process::id);
        let is_meant = |pid: u32| Some(pid) != own && (asked.pids.is_empty() || asked.pids.contains(&pid));
        let mut seen: Vec<Seen> =
            self.pids.iter().copied().filter(|pid| is_meant(*pid)).map(|pid| Seen { pid, ..Seen::default() }).collect();
        let mut look = Look::default();
        if let Some(takes) = asked.takes {
            self.read(&mut seen, asked.wants);
            retain(&mut seen, takes, &mut look);
        }
        // All of it again, and not the memory alone: it is of one process then, whoever had the pid a moment ago.
        self.read(&mut seen, asked.wants | Wants::MEMORY);
        let kinds = self.without_memory(&seen);
        seen.retain_mut(|process| match kinds.get(&process.pid) {
            None => true,
            Some(Left::Kernel) => false,
            Some(Left::Nothing) => {
                look.vanished += 1;
                false
            }
            Some(Left::Zombie { comm, threads }) => {
                process.comm = Reading::Known(comm.clone());
                process.memory = if *threads { Reading::Unread } else { Reading::Absent };
                true
            }
        });
        self.read_others(&mut seen);
        if let Some(takes) = asked.takes {
            retain(&mut seen, takes, &mut look);
        }
        look.processes = seen;
        Ok(look)
    }

    /// Names of users, as they are shown.
    pub fn know_users(&mut self, uids: impl IntoIterator<Item = u32>) -> &Names {
        let requests: Vec<Request> = uids.into_iter().filter_map(|uid| self.names.ask_user(uid)).collect();
        self.ask(requests, |names, answer| {
            if let Answer::User(uid, name) = answer {
                names.set_user(uid, name);
            }
        });
        &self.names
    }

    /// Reads these things of these processes; they are in the order of their pids.
    fn read(&mut self, seen: &mut Vec<Seen>, wants: Wants) {
        if Scanner::can_read(wants) {
            self.scanner.scan(seen, wants);
        } else {
            let requests: Vec<Request> = seen.iter().map(|process| Request::Process { pid: process.pid, start: None, wants }).collect();
            self.ask(requests, |_, answer| {
                if let Answer::Process { pid, got, .. } = answer
                    && let Ok(at) = seen.binary_search_by_key(&pid, |process| process.pid)
                {
                    seen[at].take(wants, got.map(|got| *got));
                }
            });
        }
        // The name of who did not answer: the kernel's own stat never waits.
        if wants.has(Wants::COMM) && self.proc.is_native() {
            for process in seen.iter_mut().filter(|process| process.comm == Reading::Late) {
                if let Some((_, comm)) = self.stat(process.pid) {
                    process.comm = Reading::Known(comm.into());
                }
            }
        }
    }

    /// The memory of those whose first task has ended before the others: another one has it still.
    fn read_others(&mut self, seen: &mut [Seen]) {
        let pids = seen.iter().filter(|process| process.memory == Reading::Unread).map(|process| process.pid);
        let requests: Vec<Request> = pids.map(|pid| Request::Process { pid, start: None, wants: Wants::MEMORY }).collect();
        if requests.is_empty() {
            return;
        }
        self.ask(requests, |_, answer| {
            if let Answer::Process { pid, got, .. } = answer
                && let Ok(at) = seen.binary_search_by_key(&pid, |process| process.pid)
            {
                seen[at].memory = got.and_then(|got| got.memory).map_or(Reading::Late, |taken| Reading::from_read(taken.memory));
            }
        });
    }

    /// What those are who have no memory.
    fn without_memory(&mut self, seen: &[Seen]) -> FxHashMap<u32, Left> {
        let pids = seen.iter().filter(|process| process.memory == Reading::Absent).map(|process| process.pid);
        if self.proc.is_native() {
            return pids.map(|pid| (pid, Left::of(self.stat(pid)))).collect();
        }
        let requests: Vec<Request> = pids.map(|pid| Request::Process { pid, start: None, wants: Wants::STAT }).collect();
        let mut left = FxHashMap::default();
        self.ask(requests, |_, answer| {
            if let Answer::Process { pid, got, .. } = answer {
                left.insert(pid, Left::of(got.and_then(|got| got.stat).and_then(Result::ok)));
            }
        });
        left
    }

    fn stat(&self, pid: u32) -> Option<Counters> {
        let mut buffer = [0; 1024];
        let length = read_at_start(self.proc.open_stat(pid).ok()?, &mut buffer).ok()?;
        stat::parse(&buffer[..length]).map(|(stat, comm)| (stat, comm.into()))
    }

    /// Asks all of it and takes each answer, until there is one for everything.
    fn ask(&mut self, requests: Vec<Request>, mut take: impl FnMut(&mut Names, Answer)) {
        if requests.is_empty() {
            return;
        }
        let Self { proc, readers, names, .. } = self;
        let (readers, ready) = readers.get_or_insert_with(|| {
            let (tell, ready) = mpsc::channel();
            let tell = move || {
                let _ = tell.send(());
            };
            (Readers::start_one(Arc::clone(proc), Box::new(tell)), ready)
        });
        // What was told of an earlier question is no answer to this one.
        while ready.try_recv().is_ok() {}
        readers.ask(requests);
        let mut pause = MOMENT;
        loop {
            let answers = readers.take();
            pause = if answers.is_empty() { (pause * 2).min(LONGEST_MOMENT) } else { MOMENT };
            for answer in answers {
                take(names, answer);
            }
            if !readers.outstanding() && !readers.has_answers() {
                return;
            }
            let now = Instant::now();
            let wake = readers.deadline().map_or(now + pause, |deadline| deadline.min(now + pause));
            let _ = ready.recv_timeout(wake.saturating_duration_since(now));
            readers.expire(Instant::now());
        }
    }
}

fn retain(seen: &mut Vec<Seen>, takes: Takes<'_>, look: &mut Look) {
    seen.retain(|process| {
        let is_meant = takes(process);
        look.unknown += u64::from(is_meant.is_none());
        is_meant == Some(true)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::path::Path;
    use std::process::Command;

    fn survey(root: &Path) -> Survey {
        Survey::start(Arc::new(Proc::open(root).unwrap()))
    }

    fn names() -> Asked<'static> {
        Asked { wants: Wants::COMM, pids: &[], takes: None }
    }

    fn process(root: &Path, pid: u32, state: char, flags: u64, rollup: Option<&str>) {
        let dir = root.join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("comm"), "made\n").unwrap();
        let zeros = " 0".repeat(30);
        std::fs::write(dir.join("stat"), format!("{pid} (made up) {state} 1 1 1 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 9 0{zeros}\n"))
            .unwrap();
        if let Some(rollup) = rollup {
            std::fs::write(dir.join("smaps_rollup"), rollup).unwrap();
        }
    }

    #[test]
    fn of_this_machine_everybody_but_ourselves_and_kernel_threads() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut zombie = Command::new("true").spawn().unwrap();
        let mut survey = survey(Path::new("/proc"));
        let limit = Instant::now() + Duration::from_secs(20);
        let look = loop {
            let look = survey.look(&names()).unwrap();
            let of = |pid: u32| look.processes.iter().find(|process| process.pid == pid);
            // Until the one is executed and the other has ended.
            let ready = of(child.id()).is_some_and(|process| process.comm == Reading::Known(b"sleep".to_vec()))
                && of(zombie.id()).is_some_and(|process| process.memory == Reading::Absent);
            if ready {
                break look;
            }
            assert!(Instant::now() < limit, "{look:?}");
        };
        let of = |pid: u32| look.processes.iter().find(|process| process.pid == pid);
        assert!(of(child.id()).unwrap().memory.known().unwrap().pss > 0);
        assert_eq!(of(zombie.id()).unwrap().comm, Reading::Known(b"true".to_vec()));
        assert!(of(std::process::id()).is_none());
        assert!(look.processes.iter().all(|process| process.comm != Reading::Known(b"kthreadd".to_vec())));
        child.kill().unwrap();
        child.wait().unwrap();
        zombie.wait().unwrap();
    }

    #[test]
    fn each_is_seen_as_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 1, 'S', 0, Some("Pss: 4 kB\n"));
        process(root.path(), 2, 'S', stat::PF_KTHREAD, None);
        process(root.path(), 3, 'Z', 0, None);
        process(root.path(), 4, 'S', 0, None);
        std::fs::create_dir(root.path().join("5")).unwrap();
        std::fs::create_dir(root.path().join("6")).unwrap();
        mknodat(CWD, root.path().join("6/smaps_rollup"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let began = Instant::now();
        let look = survey(root.path()).look(&names()).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        let pids: Vec<u32> = look.processes.iter().map(|process| process.pid).collect();
        assert_eq!((pids, look.vanished), (vec![1, 3, 6], 2), "{look:?}");
        assert_eq!(look.processes[0].memory.known().unwrap().pss, 4096);
        assert_eq!((&look.processes[1].memory, &look.processes[1].comm), (&Reading::Absent, &Reading::Known(b"made up".to_vec())));
        assert_eq!((&look.processes[2].memory, &look.processes[2].comm), (&Reading::Late, &Reading::Late));
    }

    #[test]
    fn memory_is_read_of_those_that_are_meant_only() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 1, 'S', 0, Some("Pss: 4 kB\n"));
        process(root.path(), 2, 'S', 0, None);
        std::fs::write(root.path().join("2/comm"), "other\n").unwrap();
        // Whoever read it would wait for a second.
        mknodat(CWD, root.path().join("2/smaps_rollup"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let takes = |process: &Seen| process.comm.known().map(|comm| comm == b"made");
        let asked = Asked { wants: Wants::COMM, pids: &[], takes: Some(&takes) };
        let mut survey = survey(root.path());
        let look = survey.look(&asked).unwrap();
        assert!(look.processes.len() == 1 && look.processes[0].pid == 1 && look.unknown == 0, "{look:?}");
        let look = survey.look(&Asked { pids: &[2, 3], ..asked }).unwrap();
        assert!(look.processes.is_empty() && look.vanished == 0, "{look:?}");
    }

    #[test]
    fn users_are_named_once_asked() {
        let mut survey = survey(Path::new("/proc"));
        assert_eq!(*survey.know_users([0, 0]).user(0), *b"root");
        assert_eq!(*survey.know_users([0, 4_000_000_001]).user(4_000_000_001), *b"4000000001");
    }
}
