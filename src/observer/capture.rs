//! The thread that reads command lines at exec, within microseconds, before a short-lived process is gone.
//!
//! It has a connector socket of its own, to which the kernel sends executions only (Linux 6.6). An older kernel goes on sending
//! everything: as soon as that shows, the socket is closed and drain tells of executions instead. It asks for real-time priority
//! and says what it got: the scheduler decides between reading 99 % and half of the command lines of a machine under load.
//!
//! Above some thousands of executions a second it collects them before it reads what is left.
//!
//! What it reads may wait for the target's mmap_lock. A target that never answers costs this thread; the observer then sees
//! that it is stuck and does without, and later reads of such processes are the readers'.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::record::cmd::Cmd;
use crate::source::bell::Bell;
use crate::source::connector::{Connector, What};
use crate::source::netlink::{self, Inbox};
use crate::source::procdir::Proc;
use crate::source::sched::{self, Promptness};
use crate::source::{ReadError, clock, cmdline};

/// How long the acknowledgement of LISTEN is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Messages taken by one call: executions come one by one.
const AT_ONCE: usize = 32;
/// Above so many executions a second they are collected before they are read: reading each at once costs those who execute as
/// much as the execution itself. Most are gone by then, and `sources` says so.
const MANY_PER_S: u64 = 4000;
/// How long they are collected.
const COLLECT: Duration = Duration::from_millis(5);
/// Over so long their number is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Receive buffer.
const BUFFER: usize = 4 << 20;
/// What may wait for the observer.
const QUEUE: usize = 4000;
/// A read that takes longer is not waited for.
const STUCK_NS: u64 = 1_000_000_000;

/// What was read at an execution.
#[derive(Debug)]
pub struct Captured {
    /// Whose.
    pub pid: u32,
    /// The kernel's stamp of the execution: with the pid it names which one.
    pub time_ns: u64,
    /// The command line, as the process said it.
    pub cmd: Result<Cmd, ReadError>,
    /// Path of the executable.
    pub exe: Result<Vec<u8>, ReadError>,
    /// Its name.
    pub comm: Option<Box<[u8]>>,
}

#[derive(Debug)]
struct Shared {
    bell: Bell,
    stop: AtomicBool,
    /// It has no socket of its own.
    fed: AtomicBool,
    promptness: OnceLock<Promptness>,
    waiting: AtomicUsize,
    /// When the read under way began; 0 while there is none.
    busy_since: AtomicU64,
}

/// The thread as the observer holds it.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    results: Receiver<Captured>,
    feed: Sender<(u32, u64)>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How drain tells of executions.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    feed: Sender<(u32, u64)>,
}

impl Feed {
    /// Tells of an execution, if capture does not hear of it by itself.
    pub fn exec(&self, pid: u32, time_ns: u64) {
        if self.shared.fed.load(Ordering::Relaxed) {
            let _ = self.feed.send((pid, time_ns));
            self.shared.bell.ring();
        }
    }
}

impl Capture {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or descriptor could be had.
    pub fn start(proc: Arc<Proc>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            fed: AtomicBool::new(false),
            promptness: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            busy_since: AtomicU64::new(0),
        });
        let (tell, results) = mpsc::channel();
        let (feed, fed) = mpsc::channel();
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || Capturing { proc, shared: for_thread, tell, fed }.run())?;
        Ok(Self { shared, results, feed, thread: Some(thread) })
    }

    /// How drain tells of executions.
    #[must_use]
    pub fn feed(&self) -> Feed {
        Feed { shared: Arc::clone(&self.shared), feed: self.feed.clone() }
    }

    /// Takes what was read since.
    pub fn take(&self) -> impl Iterator<Item = Captured> + '_ {
        self.results.try_iter().inspect(|_| {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// How prompt it is; `None` until it has asked.
    #[must_use]
    pub fn promptness(&self) -> Option<Promptness> {
        self.shared.promptness.get().copied()
    }

    /// Whether a target has kept it waiting for more than a second.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        match self.shared.busy_since.load(Ordering::Relaxed) {
            0 => false,
            since => clock::monotonic_ns().saturating_sub(since) > STUCK_NS,
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        let Some(thread) = self.thread.take() else { return };
        // One that waits for a target is left to it: it ends when that answers.
        while !thread.is_finished() && !self.is_stuck() {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// How fast executions come.
#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    count: u64,
    is_fast: bool,
}

impl Pace {
    fn count(&mut self, execs: u64) {
        self.count += execs;
        let now = Instant::now();
        let elapsed = now.duration_since(*self.since.get_or_insert(now));
        if elapsed >= LOOK {
            self.is_fast = self.count * 1000 / u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1) > MANY_PER_S;
            (self.since, self.count) = (Some(now), 0);
        }
    }
}

struct Capturing {
    proc: Arc<Proc>,
    shared: Arc<Shared>,
    tell: Sender<Captured>,
    fed: Receiver<(u32, u64)>,
}

impl Capturing {
    fn run(self) {
        let connector = Connector::listen(PATIENCE).and_then(|connector| Ok(connector.only_exec().map(|()| connector)?)).ok();
        let promptness = sched::make_this_thread_prompt();
        let _ = self.shared.promptness.set(promptness);
        let filtered_since = clock::monotonic_ns();
        if let Some(connector) = connector {
            self.listen(&connector, filtered_since);
        }
        // Dropped by now: it said IGNORE.
        self.shared.fed.store(true, Ordering::Release);
        while !self.shared.stop.load(Ordering::Acquire) {
            let mut bell = [PollFd::from_borrowed_fd(self.shared.bell.as_fd(), PollFlags::IN)];
            let _ = poll(&mut bell, None);
            self.shared.bell.still();
            let execs: Vec<_> = self.fed.try_iter().collect();
            self.read(&execs);
        }
    }

    /// Hears of executions until it is stopped, or until it shows that the kernel does not filter.
    fn listen(&self, connector: &Connector, filtered_since: u64) {
        let mut inbox = Inbox::new(AT_ONCE);
        let mut execs = Vec::new();
        let mut pace = Pace::default();
        let _ = netlink::enlarge(connector, BUFFER);
        while !self.shared.stop.load(Ordering::Acquire) {
            let mut both = [PollFd::new(connector, PollFlags::IN), PollFd::from_borrowed_fd(self.shared.bell.as_fd(), PollFlags::IN)];
            if poll(&mut both, None).is_err() {
                continue;
            }
            if pace.is_fast {
                thread::sleep(COLLECT);
            }
            loop {
                let mut foreign = false;
                let received = connector.receive(&mut inbox, |event| match event.what {
                    What::Exec(task) => execs.push((task.pid, event.time_ns)),
                    What::Acknowledged(_) => {}
                    _ => foreign |= event.time_ns > filtered_since,
                });
                pace.count(execs.len() as u64);
                self.read(&execs);
                execs.clear();
                if foreign {
                    return;
                }
                // An overrun costs command lines, and no event: drain counts those.
                if matches!(received, Ok(false) | Err(_)) {
                    break;
                }
            }
        }
    }

    /// Of several executions first all the command lines: the rest is of less worth, and a process may be gone before its turn.
    fn read(&self, execs: &[(u32, u64)]) {
        let room = QUEUE.saturating_sub(self.shared.waiting.load(Ordering::Relaxed));
        let execs = &execs[..execs.len().min(room)];
        if execs.is_empty() {
            return;
        }
        let mut digits = itoa::Buffer::new();
        let cmds: Vec<_> = execs.iter().map(|(pid, _)| self.timed(|| self.command_line(digits.format(*pid)))).collect();
        for ((pid, time_ns), cmd) in execs.iter().zip(cmds) {
            let digits = digits.format(*pid);
            let exe = self.timed(|| self.proc.link(&format!("{digits}/exe")));
            let comm = self.timed(|| self.proc.read(&format!("{digits}/comm"))).ok();
            let comm = comm.map(|comm| comm.strip_suffix(b"\n").unwrap_or(&comm).into());
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = self.tell.send(Captured { pid: *pid, time_ns: *time_ns, cmd, exe, comm });
        }
    }

    /// Lets the observer see how long a read takes.
    fn timed<T>(&self, read: impl FnOnce() -> T) -> T {
        self.shared.busy_since.store(clock::monotonic_ns(), Ordering::Relaxed);
        let done = read();
        self.shared.busy_since.store(0, Ordering::Relaxed);
        done
    }

    fn command_line(&self, pid: &str) -> Result<Cmd, ReadError> {
        let read = || self.proc.open_file(&format!("{pid}/cmdline")).and_then(|fd| cmdline::read(&fd));
        // Nothing at all: it ended, or is within the next exec, whose arguments are not yet set up.
        match read() {
            Err(ReadError::Vanished) => read(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_arguments_of_an_execution_are_read() {
        let capture = Capture::start(Arc::new(Proc::open(Path::new("/proc")).unwrap())).unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while capture.promptness().is_none() {
            assert!(Instant::now() < limit);
            thread::yield_now();
        }
        if Connector::listen(PATIENCE).is_err() {
            println!("SKIPPED: no process events here");
            return;
        }
        // Kept open by its input, so that it is there to be read.
        let mut child =
            std::process::Command::new("sh").args(["-c", "read x", "told"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut found = None;
        while found.is_none() {
            assert!(Instant::now() < limit, "nothing was captured");
            found = capture.take().find(|captured| captured.pid == child.id());
            thread::yield_now();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        let found = found.unwrap();
        let cmd = found.cmd.unwrap();
        assert_eq!(cmd.args().collect::<Vec<_>>(), [&b"sh"[..], b"-c", b"read x", b"told"]);
        assert!(found.exe.unwrap().starts_with(b"/") && found.comm.as_deref() == Some(b"sh"));
    }
}
