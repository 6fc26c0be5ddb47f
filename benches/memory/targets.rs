//! The processes whose memory is read: what each does with it.
//!
//! Each is this program, executed again, with one thread (but for the one that is timed), and dies with the benchmark. Who
//! forks for the sake of sharing forks itself; those die with it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::process::{Pid, Signal, WaitOptions, getppid, set_parent_process_death_signal, setpriority_process, setsid, wait};

use crate::latency::Latencies;
use crate::map::Map;
use crate::sys;

/// The first argument of a target.
const LIFE: &str = "--live";

const MIB: usize = 1 << 20;

/// How long targets may take to have the memory they are to have.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a target does with its memory. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Has so much, and sleeps.
    Idle(usize),
    /// Takes 1 MiB more each second, gives all back when it has so much, and begins anew.
    Growing(usize),
    /// Maps between the one and the other, keeps it 0.5 to 3 s, unmaps it, does without it as long.
    Mapping(usize, usize),
    /// Has so much and forks so many workers, which share it, unshare parts of it by writing, end, and are replaced.
    Prefork(usize, usize),
    /// Two that share so much memory that is no file's.
    Sharing(usize),
    /// Two that map so much of a file.
    Reading(usize, PathBuf),
    /// Beside so much, which it never touches again, maps, touches and unmaps a little in a loop, and tells how long that took.
    Timed(usize),
}

impl Life {
    /// Processes that say when they are ready.
    fn heads(&self) -> usize {
        if matches!(self, Life::Sharing(_) | Life::Reading(..)) { 2 } else { 1 }
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec![LIFE.to_owned()];
        let (word, sizes) = match self {
            Life::Idle(bytes) => ("idle", [*bytes, 0]),
            Life::Growing(most) => ("growing", [*most, 0]),
            Life::Mapping(least, most) => ("mapping", [*least, *most]),
            Life::Prefork(bytes, workers) => ("prefork", [*bytes, *workers]),
            Life::Sharing(bytes) => ("sharing", [*bytes, 0]),
            Life::Reading(bytes, _) => ("reading", [*bytes, 0]),
            Life::Timed(bytes) => ("timed", [*bytes, 0]),
        };
        args.push(word.to_owned());
        args.extend(sizes.map(|size| size.to_string()));
        if let Life::Reading(_, path) = self {
            args.push(path.to_string_lossy().into_owned());
        }
        args
    }

    /// The reverse of [`Life::args`]; none when the arguments are not a target's.
    pub(crate) fn from_args(args: &[String]) -> Result<Option<Life>> {
        let [first, word, one, other, rest @ ..] = args else { return Ok(None) };
        if first != LIFE {
            return Ok(None);
        }
        let (one, other) = (one.parse()?, other.parse()?);
        Ok(Some(match word.as_str() {
            "idle" => Life::Idle(one),
            "growing" => Life::Growing(one),
            "mapping" => Life::Mapping(one, other),
            "prefork" => Life::Prefork(one, other),
            "sharing" => Life::Sharing(one),
            "reading" => Life::Reading(one, rest.first().map(PathBuf::from).context("no file")?),
            "timed" => Life::Timed(one),
            other => bail!("no such life: {other}"),
        }))
    }

    /// The life of a target: until it is killed.
    pub(crate) fn be(self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Where memory runs out all the same, they go before anything of value.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        let _ = setsid();
        let mut chance = Chance(u64::from(std::process::id()));
        match self {
            Life::Idle(bytes) => {
                let mut map = Map::of_small_pages(bytes)?;
                map.write_all();
                ready()?;
                forever()
            }
            Life::Growing(most) => {
                ready()?;
                sleep(Duration::from_millis(chance.between(0, 1000)));
                loop {
                    let mut map = Map::of_small_pages(most)?;
                    for done in (0..most).step_by(MIB) {
                        map.write(done, MIB);
                        sleep(Duration::from_secs(1));
                    }
                }
            }
            Life::Mapping(least, most) => {
                ready()?;
                loop {
                    let mut map = Map::of_small_pages(chance.between(least as u64, most as u64) as usize)?;
                    map.write_all();
                    sleep(Duration::from_millis(chance.between(500, 3000)));
                    drop(map);
                    sleep(Duration::from_millis(chance.between(500, 3000)));
                }
            }
            Life::Prefork(bytes, workers) => prefork(bytes, workers),
            Life::Sharing(bytes) => {
                let file = memfd_create("shared", MemfdFlags::CLOEXEC)?;
                ftruncate(&file, bytes as u64)?;
                File::from(file.try_clone()?).write_all(&vec![1; bytes])?;
                two_that_read(&Map::shared(file.as_fd(), bytes)?)
            }
            Life::Reading(bytes, path) => two_that_read(&Map::shared(File::open(path)?.as_fd(), bytes)?),
            Life::Timed(bytes) => timed(bytes),
        }
    }
}

/// Tells the benchmark that the memory is there.
fn ready() -> Result<()> {
    Ok(std::io::stdout().write_all(b"x").and_then(|()| std::io::stdout().flush())?)
}

fn forever() -> ! {
    loop {
        sleep(Duration::from_secs(3600));
    }
}

/// Dies with the parent, also with one that was gone before it could say so.
fn die_with_parent() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid().is_none_or(Pid::is_init) {
        sys::exit_now();
    }
}

fn two_that_read(map: &Map) -> Result<()> {
    // After the fork: what is of a file is not in the page tables of a child until it looks.
    sys::fork(|| {
        die_with_parent();
        map.read_all();
        let _ = ready();
        forever()
    })?;
    map.read_all();
    ready()?;
    forever()
}

fn prefork(bytes: usize, workers: usize) -> Result<()> {
    /// Written at once by a worker, and thereby its own.
    const PART: usize = MIB / 4;
    let mut map = Map::of_small_pages(bytes)?;
    map.write_all();
    let parts = (map.bytes() / PART).max(1) as u64;
    let mut worker = || {
        sys::fork(|| {
            die_with_parent();
            let mut chance = Chance(u64::from(std::process::id()));
            for _ in 0..chance.between(8, 32) {
                sleep(Duration::from_millis(chance.between(200, 1000)));
                map.write(chance.between(0, parts) as usize * PART, PART);
            }
        })
    };
    for _ in 0..workers {
        worker()?;
    }
    ready()?;
    loop {
        wait(WaitOptions::empty())?;
        worker()?;
    }
}

/// Maps, touches and unmaps in one thread; in the other it waits to be told. One letter begins a count, the next ends it, and is
/// answered with a line.
fn timed(bytes: usize) -> Result<()> {
    const LITTLE: usize = MIB / 4;
    // What others run on this machine is not what holds it up. Both are refused without CAP_SYS_NICE; the second is for its
    // session, within which alone the first counts where sched_autogroup_enabled is set (sched(7)).
    let _ = setpriority_process(None, -20);
    let _ = std::fs::write("/proc/self/autogroup", "-20");
    let mut beside = Map::of_small_pages(bytes)?;
    beside.write_all();
    let letters: &'static AtomicU32 = Box::leak(Box::default());
    std::thread::Builder::new().spawn(|| {
        let mut letter = [0];
        while std::io::stdin().read_exact(&mut letter).is_ok() {
            letters.fetch_add(1, Ordering::Relaxed);
        }
        sys::exit_now();
    })?;
    let schedstat = Schedstat(File::open("/proc/thread-self/schedstat").ok());
    ready()?;
    let mut seen = 0;
    loop {
        let (mut latencies, begin) = (Latencies::default(), Instant::now());
        let mut before = schedstat.waited();
        while letters.load(Ordering::Relaxed) == seen {
            let from = Instant::now();
            let mut map = Map::anonymous(LITTLE)?;
            map.write_all();
            drop(map);
            let took = from.elapsed();
            let waited = schedstat.waited();
            latencies.add(took, waited.saturating_sub(before));
            before = waited;
        }
        seen += 1;
        latencies.length = begin.elapsed();
        if seen.is_multiple_of(2) {
            writeln!(std::io::stdout(), "{}", latencies.line())?;
        }
    }
}

/// What the kernel says of this thread's wait for a CPU (`Documentation/scheduler/sched-stats.rst`).
#[derive(Debug)]
struct Schedstat(Option<File>);

impl Schedstat {
    /// Since it was born; nothing where the kernel does not say.
    fn waited(&self) -> Duration {
        let mut buffer = [0; 64];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
        Duration::from_nanos(text.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0))
    }
}

/// Numbers that are as good as random and the same for the same pid: SplitMix64.
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    /// At least the one, less than the other.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        // Pids differ in their last bits alone.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (value ^ value >> 31) % most.saturating_sub(least).max(1)
    }
}

/// Targets that run. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Crowd {
    children: Vec<Child>,
}

impl Crowd {
    /// Starts them, and waits until each has its memory.
    pub(crate) fn start(lives: &[Life]) -> Result<Self> {
        let (mut reader, writer) = std::io::pipe()?;
        let mut crowd = Crowd { children: Vec::new() };
        for life in lives {
            crowd.children.push(command(life)?.stdin(Stdio::null()).stdout(writer.try_clone()?).spawn().context("a target")?);
        }
        drop(writer);
        let end = Instant::now() + PATIENCE;
        for _ in 0..lives.iter().map(Life::heads).sum() {
            crowd.wait_for_one(&mut reader, end)?;
        }
        Ok(crowd)
    }

    fn wait_for_one(&mut self, reader: &mut PipeReader, end: Instant) -> Result<()> {
        while !readable(&*reader, Duration::from_millis(200))? {
            crate::stopped()?;
            self.check_intact()?;
            ensure!(Instant::now() < end, "the targets did not get their memory within {PATIENCE:?}");
        }
        reader.read_exact(&mut [0]).context("the targets ended")
    }

    /// One that ended unseen (OOM killer, limits) would make every number too good.
    pub(crate) fn check_intact(&mut self) -> Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("target {} ended: {status}", child.id());
            }
        }
        Ok(())
    }
}

impl Drop for Crowd {
    /// Only ever our own children, not yet waited for: their pids cannot be anybody else's.
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// The one that is timed. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Timed {
    child: Child,
    letters: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl Timed {
    pub(crate) fn start(bytes: usize) -> Result<Self> {
        let mut child = command(&Life::Timed(bytes))?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a target")?;
        let (letters, lines) = (child.stdin.take().context("no pipe")?, child.stdout.take().context("no pipe")?);
        let mut timed = Timed { child, letters, lines: BufReader::new(lines) };
        timed.wait()?;
        timed.lines.read_exact(&mut [0])?;
        Ok(timed)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it took each time while something is done.
    pub(crate) fn during<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(Latencies, T)> {
        self.letters.write_all(b"x")?;
        let done = work()?;
        self.letters.write_all(b"x")?;
        self.wait()?;
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        let latencies = Latencies::from_line(&line).with_context(|| format!("the timed target said {line:?}"))?;
        ensure!(latencies.count() > 0, "the timed target did nothing");
        Ok((latencies, done))
    }

    fn wait(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !readable(self.lines.get_ref(), Duration::from_millis(200))? {
            crate::stopped()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("the timed target ended: {status}");
            }
            ensure!(Instant::now() < end, "the timed target said nothing within {PATIENCE:?}");
        }
        Ok(())
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(life: &Life) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(life.args()).env_clear();
    Ok(command)
}

fn readable(fd: impl std::os::fd::AsFd, limit: Duration) -> Result<bool> {
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    Ok(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit))? > 0)
}

/// Memory that may be had without swapping, in bytes.
pub(crate) fn available() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// A file of so many bytes, to be mapped.
pub(crate) fn make_file(path: &Path, bytes: usize) -> Result<()> {
    std::fs::write(path, vec![1; bytes]).with_context(|| path.display().to_string())
}
