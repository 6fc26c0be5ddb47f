//! The lives of `tree` and `restart`: processes that tell of their own CPU, at their end or where they change.
//!
//! Each is this program, executed again under a name of its own. What a life has spent it reads from its CPU clock, which
//! counts threads that ended too; what it uses after it has told, to end, is some ten microseconds of each hundred milliseconds.

use std::io::{Read as _, Write as _, stdin, stdout};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, geteuid, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};

use crate::sys;
use crate::worker::{burn, burn_in_threads};

/// The first argument of a life.
const LIFE: &str = "--life";

/// Longer than any part waits: an orphan ends by itself.
const LONGEST: Duration = Duration::from_secs(120);

/// How a process spends its CPU: what an account by program and user can get wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// So many children, each of which has a child and ends; the orphan burns on.
    DoubleFork(u64, Duration),
    /// The leader ends first, then one thread, then the other.
    LeaderFirst(Duration),
    /// Becomes nobody in the middle.
    Setuid(Duration),
    /// The same while two threads burn.
    SetuidInThreads(Duration),
    /// Becomes this program in the middle.
    Exec(Duration, PathBuf),
    /// The same out of a thread that is not the first.
    ExecInThread(Duration, PathBuf),
    /// What follows that: so many nanoseconds were told before.
    Rest(Duration, u64),
    /// So many children of which it is not told that they ended.
    Ignored(u64, Duration),
    /// Its threads are dead when standard input ends; then it burns, alone and in others.
    Old(Duration),
    /// Burns until standard input ends.
    Long,
    /// Has one burner of 5 to 20 ms after another until standard input ends.
    Short,
}

impl Life {
    pub(crate) fn args(&self) -> Vec<String> {
        let us = |work: &Duration| work.as_micros().to_string();
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let own = match self {
            Life::DoubleFork(count, work) => vec!["double-fork".to_owned(), us(work), count.to_string()],
            Life::LeaderFirst(work) => vec!["leader-first".to_owned(), us(work)],
            Life::Setuid(work) => vec!["setuid".to_owned(), us(work)],
            Life::SetuidInThreads(work) => vec!["setuid-in-threads".to_owned(), us(work)],
            Life::Exec(work, program) => vec!["exec".to_owned(), us(work), path(program)],
            Life::ExecInThread(work, program) => vec!["exec-in-thread".to_owned(), us(work), path(program)],
            Life::Rest(work, told) => vec!["rest".to_owned(), us(work), told.to_string()],
            Life::Ignored(count, work) => vec!["ignored".to_owned(), us(work), count.to_string()],
            Life::Old(work) => vec!["old".to_owned(), us(work)],
            Life::Long => vec!["long".to_owned(), "0".to_owned()],
            Life::Short => vec!["short".to_owned(), "0".to_owned()],
        };
        std::iter::once(LIFE.to_owned()).chain(own).collect()
    }

    /// The reverse of [`Life::args`]; none when the arguments are not a life's.
    pub(crate) fn from_args(args: &[String]) -> Result<Option<Life>> {
        let [first, kind, us, rest @ ..] = args else { return Ok(None) };
        if first != LIFE {
            return Ok(None);
        }
        let work = Duration::from_micros(us.parse()?);
        let number = || rest.first().context("no number")?.parse().context("not a number");
        let program = || rest.first().map(PathBuf::from).context("no program");
        Ok(Some(match kind.as_str() {
            "double-fork" => Life::DoubleFork(number()?, work),
            "leader-first" => Life::LeaderFirst(work),
            "setuid" => Life::Setuid(work),
            "setuid-in-threads" => Life::SetuidInThreads(work),
            "exec" => Life::Exec(work, program()?),
            "exec-in-thread" => Life::ExecInThread(work, program()?),
            "rest" => Life::Rest(work, number()?),
            "ignored" => Life::Ignored(number()?, work),
            "old" => Life::Old(work),
            "long" => Life::Long,
            "short" => Life::Short,
            other => bail!("no such life: {other}"),
        }))
    }

    pub(crate) fn be(self) -> Result<()> {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        match self {
            Life::DoubleFork(count, work) => {
                for _ in 0..count {
                    let child = sys::fork(|| {
                        // The orphan has no wish to die with its parent, which it is there to survive.
                        let _ = sys::fork(|| {
                            burn(ClockId::ProcessCPUTime, work);
                            tell(0);
                        });
                        burn(ClockId::ProcessCPUTime, work / 4);
                        tell(0);
                    })?;
                    sys::wait_for(child)?;
                }
                tell(0);
            }
            Life::LeaderFirst(work) => {
                burn(ClockId::ProcessCPUTime, work / 4);
                let _last = thread(move || {
                    let first = thread(move || burn(ClockId::ThreadCPUTime, work / 2));
                    burn(ClockId::ThreadCPUTime, work);
                    let _ = first.map(JoinHandle::join);
                    tell(0);
                    sys::exit_now()
                })?;
                sys::exit_thread();
            }
            Life::Setuid(work) => {
                burn(ClockId::ProcessCPUTime, work);
                let told = tell(0);
                sys::become_nobody();
                burn(ClockId::ProcessCPUTime, work);
                tell(told);
            }
            Life::SetuidInThreads(work) => {
                let threads = [thread(move || burn(ClockId::ThreadCPUTime, work))?, thread(move || burn(ClockId::ThreadCPUTime, work))?];
                while spent() < work {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let told = tell(0);
                sys::become_nobody();
                for thread in threads {
                    let _ = thread.join();
                }
                tell(told);
            }
            Life::Exec(work, program) => {
                burn(ClockId::ProcessCPUTime, work);
                become_program(&program, work)?;
            }
            Life::ExecInThread(work, program) => {
                burn_in_threads(work);
                let _ = thread(move || become_program(&program, work))?.join();
            }
            Life::Rest(work, told) => {
                burn_in_threads(work / 2);
                burn(ClockId::ProcessCPUTime, work / 2);
                tell(told);
            }
            Life::Ignored(count, work) => {
                sys::ignore_children();
                for _ in 0..count {
                    let child = sys::fork(|| {
                        burn(ClockId::ProcessCPUTime, work);
                        tell(0);
                    })?;
                    // Returns when there is none left, and says that there never was one.
                    let _ = sys::wait_for(child);
                }
                tell(0);
            }
            Life::Old(work) => {
                burn_in_threads(work);
                say("ready");
                let _ = stdin().read(&mut [0]);
                let before = u64::try_from(spent().as_nanos())?;
                burn_in_threads(work / 2);
                burn(ClockId::ProcessCPUTime, work / 2);
                tell(before);
            }
            Life::Long => {
                let end = Instant::now() + LONGEST;
                while !ended() && Instant::now() < end {
                    burn(ClockId::ProcessCPUTime, Duration::from_millis(10));
                }
                tell(0);
            }
            Life::Short => {
                let end = Instant::now() + LONGEST;
                for number in 0.. {
                    if ended() || Instant::now() > end {
                        break;
                    }
                    let born = Timestamp::now();
                    let child = sys::fork(|| burn(ClockId::ProcessCPUTime, Duration::from_millis(5 + number % 16)))?;
                    let ns = sys::wait_for(child)?;
                    say(&format!("waited {child} {ns} {born} {}", Timestamp::now()));
                }
                tell(0);
            }
        }
        Ok(())
    }
}

fn become_program(program: &PathBuf, work: Duration) -> Result<()> {
    let told = tell(0);
    Err(Command::new(program).args(Life::Rest(work, told).args()).exec()).with_context(|| program.display().to_string())
}

fn thread<T: Send + 'static>(life: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().spawn(life).context("a thread")
}

/// Of all threads, those that ended too.
fn spent() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Says what this process has spent beyond what was told already, as whom and under which name; all it has spent, in
/// nanoseconds.
fn tell(told: u64) -> u64 {
    let name = std::env::args().next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let user = geteuid().as_raw();
    let all = u64::try_from(spent().as_nanos()).unwrap_or_default();
    say(&format!("spent {} {name} {user} {}", std::process::id(), all.saturating_sub(told)));
    all
}

/// One write, shorter than what a pipe takes in one piece: lives share it.
fn say(line: &str) {
    let _ = stdout().lock().write_all(format!("{line}\n").as_bytes());
}

/// Standard input has ended.
fn ended() -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}
