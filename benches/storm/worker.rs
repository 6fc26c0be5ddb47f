//! The workers that make the storms, and know what they made: how many children, which, and what each used.
//!
//! A worker is this program, executed again: one thread and a small address space. It has one child at a time and waits
//! for it (but for `old`, a handful), so that a storm is fast and never large, and nothing is left when a worker dies.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};

use crate::{meter, pause, sys};

/// The first argument of a worker.
pub(crate) const WORKER: &str = "--worker";

/// What a worker does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// For so long: vfork and `_exit`.
    Vfork(Duration),
    /// For so long: fork and `_exit`.
    Fork(Duration),
    /// For so long: fork and exec of this program.
    ForkExec(Duration, PathBuf),
    /// So many: fork and exec of this program with [`argument`] of a tag and the number of the child.
    Exec(u64, PathBuf, String),
    /// So many, one after another: children that burn 1 to 20 ms of CPU, each in its way.
    Burn(u64),
    /// So many, one after another: children that are executed and then burn.
    Run(u64),
    /// Such a child: it burns so much.
    Once(Duration),
    /// So many at once: children that burn, wait until standard input ends, burn again and end.
    Old(u64),
    /// One vfork on each CPU.
    Touch,
}

/// The argument by which the child of an exec storm is known.
pub(crate) fn argument(tag: &str, number: u64) -> String {
    format!("storm-{tag}-{number}")
}

/// What a worker made, by its own account.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) worker: u32,
    pub(crate) children: u64,
    pub(crate) length: Duration,
    /// CPU of the worker itself, its children not counted.
    #[allow(dead_code, reason = "of use where the worker counts for the same program as its children")]
    pub(crate) own: Duration,
    /// Where it knows each child: the pid, and its number (exec) or its nanoseconds of CPU (burners).
    pub(crate) each: Vec<(u32, u64)>,
}

/// A running worker. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    out: PathBuf,
}

impl Worker {
    /// In the control group, if one is given, whose processes then storm among themselves.
    pub(crate) fn start(kind: &Kind, number: usize, work: &Path, group: Option<&Path>, input: Stdio) -> Result<Self> {
        Self::start_as(&std::env::current_exe()?, kind, number, work, group, input)
    }

    /// The same as this program, which is a copy of the benchmark under another name.
    pub(crate) fn start_as(program: &Path, kind: &Kind, number: usize, work: &Path, group: Option<&Path>, input: Stdio) -> Result<Self> {
        let out = work.join(format!("worker-{number}"));
        let child = Command::new(std::env::current_exe()?)
            .arg(meter::LAUNCH)
            .arg(group.unwrap_or(Path::new("-")))
            .arg(program)
            .args(kind.args(number))
            .env_clear()
            .stdin(input)
            .stdout(File::create(&out)?)
            .spawn()
            .context("a worker")?;
        Ok(Worker { child, out })
    }

    /// Waits, but not longer than this, until its account holds the line.
    pub(crate) fn wait_for_line(&mut self, line: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while !fs::read_to_string(&self.out)?.lines().any(|found| found == line) {
            ensure!(Instant::now() < end, "a worker did not say {line} within {limit:?}");
            ensure!(self.child.try_wait()?.is_none(), "a worker ended before it said {line}");
            pause(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Waits, but not longer than this, until it has ended, and reads its account.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Report> {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "a worker did not end within {limit:?}");
            pause(Duration::from_millis(20))?;
        };
        ensure!(status.success(), "a worker ended: {status}");
        let mut report = Report { worker: self.child.id(), ..Report::default() };
        for line in fs::read_to_string(&self.out)?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["child", pid, value] => report.each.push((pid.parse()?, value.parse()?)),
                ["children", count, ns, own] => {
                    (report.children, report.length) = (count.parse()?, Duration::from_nanos(ns.parse()?));
                    report.own = Duration::from_nanos(own.parse()?);
                }
                ["ready"] => {}
                _ => bail!("a worker said {line:?}"),
            }
        }
        Ok(report)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its children die with it, or end by themselves within microseconds.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    fn args(&self, worker: usize) -> Vec<String> {
        let ms = |length: &Duration| length.as_millis().to_string();
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let own = match self {
            Kind::Vfork(length) => vec!["vfork".to_owned(), ms(length)],
            Kind::Fork(length) => vec!["fork".to_owned(), ms(length)],
            Kind::ForkExec(length, program) => vec!["fork-exec".to_owned(), ms(length), path(program)],
            Kind::Exec(count, program, tag) => vec!["exec".to_owned(), count.to_string(), path(program), tag.clone()],
            Kind::Burn(count) => vec!["burn".to_owned(), count.to_string()],
            Kind::Run(count) => vec!["run".to_owned(), count.to_string()],
            Kind::Once(work) => vec!["once".to_owned(), ms(work)],
            Kind::Old(count) => vec!["old".to_owned(), count.to_string()],
            Kind::Touch => vec!["touch".to_owned(), "0".to_owned()],
        };
        [WORKER.to_owned(), worker.to_string()].into_iter().chain(own).collect()
    }

    /// The reverse of [`Kind::args`], with the number of the worker; none when the arguments are not a worker's.
    pub(crate) fn from_args(args: &[String]) -> Result<Option<(Kind, usize)>> {
        let [first, worker, kind, number, rest @ ..] = args else { return Ok(None) };
        if first != WORKER {
            return Ok(None);
        }
        let number = number.parse()?;
        let length = Duration::from_millis(number);
        let program = || rest.first().map(PathBuf::from).context("no program");
        let kind = match kind.as_str() {
            "vfork" => Kind::Vfork(length),
            "fork" => Kind::Fork(length),
            "fork-exec" => Kind::ForkExec(length, program()?),
            "exec" => Kind::Exec(number, program()?, rest.get(1).context("no tag")?.clone()),
            "burn" => Kind::Burn(number),
            "run" => Kind::Run(number),
            "once" => Kind::Once(length),
            "old" => Kind::Old(number),
            "touch" => Kind::Touch,
            other => bail!("no such worker: {other}"),
        };
        Ok(Some((kind, worker.parse()?)))
    }

    /// How long a worker of this kind may take on a busy machine.
    pub(crate) fn limit(&self) -> Duration {
        let work = match self {
            Kind::Vfork(length) | Kind::Fork(length) | Kind::ForkExec(length, _) => *length,
            Kind::Exec(count, ..) => Duration::from_millis(20) * u32::try_from(*count).unwrap_or(u32::MAX),
            Kind::Burn(count) | Kind::Run(count) | Kind::Old(count) => {
                Duration::from_millis(200) * u32::try_from(*count).unwrap_or(u32::MAX)
            }
            Kind::Once(_) | Kind::Touch => Duration::ZERO,
        };
        work + Duration::from_secs(30)
    }

    /// The life of the worker of this number.
    pub(crate) fn be(self, worker: usize) -> Result<()> {
        if matches!(self, Kind::Vfork(_) | Kind::Fork(_) | Kind::ForkExec(..)) {
            // A child born on the other CPU, which must be woken for it, makes a storm a third as fast, and as the scheduler likes.
            let cpus = sys::cpus()?;
            sys::pin(cpus[worker % cpus.len()])?;
        }
        let begin = Instant::now();
        let mut out = BufWriter::new(stdout().lock());
        let mut children = 0_u64;
        let mut while_it_lasts = |length: Duration, make: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            while begin.elapsed() < length {
                make()?;
                children += 1;
            }
            Ok(())
        };
        match self {
            Kind::Vfork(length) => {
                let mut stack = sys::Stack::new();
                while_it_lasts(length, &mut || Ok(sys::wait_for(sys::vfork_and_exit(&mut stack)?).map(drop)?))?;
            }
            Kind::Fork(length) => while_it_lasts(length, &mut || Ok(sys::wait_for(sys::fork(|| {})?).map(drop)?))?,
            Kind::ForkExec(length, program) => while_it_lasts(length, &mut || {
                let status = Command::new(&program).status()?;
                ensure!(status.success(), "{}: {status}", program.display());
                Ok(())
            })?,
            Kind::Exec(count, program, tag) => {
                for number in 0..count {
                    let mut child = Command::new(&program).arg(argument(&tag, number)).spawn()?;
                    let pid = child.id();
                    child.wait()?;
                    writeln!(out, "child {pid} {number}")?;
                }
                children = count;
            }
            Kind::Burn(count) => {
                for number in 0..count {
                    let work = Way::work(number);
                    let pid = sys::fork(|| Way::of(number).live(work))?;
                    writeln!(out, "child {pid} {}", sys::wait_for(pid)?)?;
                }
                children = count;
            }
            Kind::Run(count) => {
                let program = std::env::current_exe()?;
                for number in 0..count {
                    let once = Kind::Once(Duration::from_millis(1 + number % 20));
                    let child = Command::new(&program).args(once.args(0)).stdout(Stdio::null()).spawn()?;
                    let pid = child.id();
                    writeln!(out, "child {pid} {}", sys::wait_for(pid.cast_signed())?)?;
                }
                children = count;
            }
            Kind::Once(work) => {
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
                burn(ClockId::ProcessCPUTime, work);
            }
            Kind::Old(count) => {
                let (mut all_burnt, mut burnt) = std::io::pipe()?;
                let mut pids = Vec::new();
                for number in 0..count {
                    pids.push(sys::fork(|| {
                        let way = Way::of(number);
                        way.begin(Duration::from_millis(5 + number % 16));
                        let _ = burnt.write_all(b"x");
                        // Until the benchmark closes the other end.
                        let _ = stdin().read(&mut [0]);
                        way.live(Way::work(number));
                    })?);
                }
                drop(burnt);
                all_burnt.read_exact(&mut vec![0; pids.len()])?;
                writeln!(out, "ready")?;
                out.flush()?;
                for pid in pids {
                    writeln!(out, "child {pid} {}", sys::wait_for(pid)?)?;
                }
                children = count;
            }
            Kind::Touch => {
                let mut stack = sys::Stack::new();
                for cpu in sys::cpus()? {
                    sys::pin(cpu)?;
                    sys::wait_for(sys::vfork_and_exit(&mut stack)?)?;
                    children += 1;
                }
            }
        }
        let own = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?;
        writeln!(out, "children {children} {} {}", begin.elapsed().as_nanos(), own.as_nanos())?;
        out.flush()?;
        Ok(())
    }
}

/// In turn, by the number of the child.
pub(crate) const WAYS: [Way; 8] =
    [Way::Alone, Way::Threads, Way::Alone, Way::Nobody, Way::Alone, Way::NobodyThreads, Way::Alone, Way::LeaderFirst];

/// How a burner uses its CPU: what an account of the dead can get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Alone,
    /// In two threads that end before the process does.
    Threads,
    /// As another user than the one it was born as.
    Nobody,
    /// Both.
    NobodyThreads,
    /// The leader ends first; a thread burns on and ends the process.
    LeaderFirst,
}

impl Way {
    fn of(number: u64) -> Self {
        WAYS[number as usize % WAYS.len()]
    }

    /// All of 1 to 20 ms in every way.
    fn work(number: u64) -> Duration {
        Duration::from_millis(1 + number / WAYS.len() as u64 % 20)
    }

    fn has_threads(self) -> bool {
        matches!(self, Way::Threads | Way::NobodyThreads)
    }

    /// What a process that outlives this does first: threads end, user and leader stay as they are.
    fn begin(self, work: Duration) {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        if self.has_threads() { burn_in_threads(work) } else { burn(ClockId::ProcessCPUTime, work) }
    }

    /// The rest of its life. Never returns an error, and does not return at all where the leader ends first.
    fn live(self, work: Duration) {
        if matches!(self, Way::Nobody | Way::NobodyThreads) {
            sys::become_nobody();
        }
        // After the change of user, which takes this wish back (prctl(2)).
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        match self {
            Way::Alone | Way::Nobody => burn(ClockId::ProcessCPUTime, work),
            Way::Threads | Way::NobodyThreads => burn_in_threads(work),
            Way::LeaderFirst => {
                let last = move || {
                    burn(ClockId::ThreadCPUTime, work);
                    sys::exit_now()
                };
                if std::thread::Builder::new().spawn(last).is_ok() {
                    sys::exit_thread();
                }
            }
        }
    }
}

pub(crate) fn burn_in_threads(work: Duration) {
    let threads: Vec<_> =
        (0..2).filter_map(|_| std::thread::Builder::new().spawn(move || burn(ClockId::ThreadCPUTime, work / 2)).ok()).collect();
    for thread in threads {
        let _ = thread.join();
    }
}

/// Until this clock has gone on by this much.
pub(crate) fn burn(clock: ClockId, work: Duration) {
    let now = || Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    let begin = now();
    while now().saturating_sub(begin) < work {
        for _ in 0..100 {
            std::hint::spin_loop();
        }
    }
}
