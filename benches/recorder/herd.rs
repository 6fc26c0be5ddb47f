//! The herd: processes that are there to be recorded.
//!
//! They are this program, executed again: a few hundred KiB each and nothing that runs unasked, so that a machine
//! holds thousands. None outlives the benchmark: an idle one ends when the pipe it reads is closed, and the kernel
//! kills each when the benchmark dies, however it dies. Each ends without a word: what costs one process a few MB (an
//! error with a backtrace is symbols of 30 MB) costs three thousand of them, at the same moment, the machine.

use std::hint::black_box;
use std::io::{PipeReader, PipeWriter, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};

/// The name of a member's program.
const NAME: &str = "grazer";
/// After so long a member is no newborn any more.
const GROWN_UP: Duration = Duration::from_secs(12);

/// What a member does all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Waits for a byte that never comes: uses no CPU at all.
    Idle,
    /// Wakes each `ms` and sleeps again: ran since the last tick, and that is all.
    Ticking { ms: u64 },
    /// Each `period_ms` burns `us` of CPU and changes its resident memory, so that it is worth a row in every sample.
    Burning { us: u64, period_ms: u64 },
    /// Has so many descriptors open, and of TCP connections both ends; wakes each `ms`, never where that is 0.
    Holding { fds: u64, connections: u64, ms: u64 },
}

/// Processes of one kind. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Herd {
    kind: Kind,
    children: Vec<Child>,
    /// This program under a name as long as a daemon's, not a build's: the length of a row is that of its command line.
    program: tempfile::TempDir,
    /// When the youngest was born.
    born: Instant,
    /// Never written to. Idle members read it; when the benchmark is gone, so is the only writer, and they end.
    gate: (PipeReader, PipeWriter),
}

impl Herd {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("a pipe for the herd")?;
        let program = tempfile::Builder::new().prefix("herd").tempdir()?;
        std::fs::copy(std::env::current_exe()?, program.path().join(NAME)).context("a copy of the benchmark for the herd")?;
        Ok(Herd { kind, children: Vec::new(), program, born: Instant::now(), gate: (reader, writer) })
    }

    /// Waits until the youngest is no newborn any more: psmond reads facts of a process again 1 s and 10 s after its
    /// birth, and a herd that lives for hours is not what a herd of newborns costs.
    pub(crate) fn settle(&self) {
        sleep(GROWN_UP.saturating_sub(self.born.elapsed()));
    }

    /// Starts or ends members until there are `wanted`.
    pub(crate) fn resize(&mut self, wanted: usize) -> Result<()> {
        end(self.children.split_off(wanted.min(self.children.len())));
        let exe = self.program.path().join(NAME);
        check_room(wanted.saturating_sub(self.children.len()))?;
        while self.children.len() < wanted {
            crate::stopped()?;
            let child = Command::new(&exe)
                .arg0(NAME)
                .args(self.kind.args())
                .env_clear()
                .stdin(self.gate.0.try_clone()?)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("member {} of {wanted} (limits: ulimit -u, pids.max)", self.children.len() + 1))?;
            self.children.push(child);
            self.born = Instant::now();
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.children.len()
    }

    /// A herd that thinned out unseen (OOM killer, limits) would make every number too good.
    pub(crate) fn check_intact(&mut self) -> Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("member {} of the herd ended: {status}", child.id());
            }
        }
        Ok(())
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        end(std::mem::take(&mut self.children));
    }
}

/// Only ever our own children, not yet waited for: their pids cannot be anybody else's. Killed, they do nothing more;
/// woken through the pipe they would all run at once.
fn end(mut children: Vec<Child>) {
    for child in &mut children {
        let _ = child.kill();
    }
    for child in &mut children {
        let _ = child.wait();
    }
}

/// Refuses a herd that the memory left on this machine does not hold twice over: others live here too.
fn check_room(more: usize) -> Result<()> {
    /// A member has 0.15 MB of its own and less than 1 MB with what the kernel keeps for it, a burning one 1 MB more.
    const EACH: u64 = 2 << 20;
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    let available = line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    let needed = more as u64 * EACH;
    ensure!(needed <= available / 2, "{more} more processes may need {} MiB, {} are left", needed >> 20, available >> 20);
    Ok(())
}

impl Kind {
    fn args(self) -> Vec<String> {
        match self {
            Kind::Idle => vec!["--be-idle".to_owned()],
            Kind::Ticking { ms } => vec!["--be-ticking".to_owned(), ms.to_string()],
            Kind::Burning { us, period_ms } => vec!["--be-burning".to_owned(), us.to_string(), period_ms.to_string()],
            Kind::Holding { fds, connections, ms } => {
                vec!["--be-holding".to_owned(), fds.to_string(), connections.to_string(), ms.to_string()]
            }
        }
    }

    /// The reverse of [`Kind::args`]; none when the arguments are not a member's.
    pub(crate) fn from_args(args: &[String]) -> Result<Option<Kind>> {
        Ok(match args.first().map(String::as_str) {
            Some("--be-idle") => Some(Kind::Idle),
            Some("--be-ticking") => Some(Kind::Ticking { ms: number(args, 1)? }),
            Some("--be-burning") => Some(Kind::Burning { us: number(args, 1)?, period_ms: number(args, 2)? }),
            Some("--be-holding") => Some(Kind::Holding { fds: number(args, 1)?, connections: number(args, 2)?, ms: number(args, 3)? }),
            _ => None,
        })
    }

    /// The life of a member. Returns when the benchmark is gone, and never an error: see the head of this file.
    pub(crate) fn be(self) {
        if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
            return;
        }
        // Where memory runs out all the same, the herd goes before anything of value.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        // psmond hides what has a controlling terminal; in a session of its own a member has none.
        let _ = setsid();
        match self {
            Kind::Idle => {
                let _ = std::io::stdin().read(&mut [0]);
            }
            Kind::Ticking { ms } => {
                let period = Duration::from_millis(ms);
                sleep(stagger(period));
                loop {
                    sleep(period);
                }
            }
            Kind::Holding { fds, connections, ms } => hold(fds, connections, Duration::from_millis(ms)),
            Kind::Burning { us, period_ms } => burn(Duration::from_micros(us), Duration::from_millis(period_ms)),
        }
    }
}

fn hold(fds: u64, connections: u64, period: Duration) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return };
    let Ok(address) = listener.local_addr() else { return };
    let mut ends = Vec::new();
    for _ in 0..connections {
        let (Ok(one), Ok((other, _))) = (TcpStream::connect(address), listener.accept()) else { return };
        ends.extend([one, other]);
    }
    drop(listener);
    // Three it was born with.
    let files = fds.saturating_sub(ends.len() as u64 + 3);
    let Ok(files) = (0..files).map(|_| std::fs::File::open("/dev/null")).collect::<Result<Vec<_>, _>>() else { return };
    if period.is_zero() {
        let _ = std::io::stdin().read(&mut [0]);
    } else {
        sleep(stagger(period));
        loop {
            sleep(period);
            black_box((&ends, &files));
        }
    }
}

fn burn(work: Duration, period: Duration) {
    // The kernel counts resident pages per CPU and may show up to 32 of them per CPU late (lib/percpu_counter.c); a
    // block of 64 always shows. Four sizes in turn, so that two periods within one tick still leave a difference.
    const BLOCK: usize = 64 * 4096;
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    sleep(stagger(period));
    let mut due = Instant::now();
    loop {
        let begin = Instant::now();
        if blocks.len() == 4 {
            blocks.clear();
        }
        blocks.push(vec![1; BLOCK]);
        while begin.elapsed() < work {
            black_box(&mut blocks);
        }
        due += period;
        sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// A herd started in one go would wake in one go: spread it over its period.
fn stagger(period: Duration) -> Duration {
    period * (std::process::id() % 97) / 97
}

fn number(args: &[String], at: usize) -> Result<u64> {
    args.get(at).context("a number is missing")?.parse().context("not a number")
}
