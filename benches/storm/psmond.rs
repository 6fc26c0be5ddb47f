//! psmond under a storm: started with a configuration of the benchmark's own, metered, stopped, and then read.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::journal::Logs;
use crate::meter::{self, Meter};
use crate::{pause, stopped};

/// Off where the setup does not speak of them.
const OTHERS: [&str; 6] = ["ps", "pss", "usage", "credits", "host", "burst"];

/// How long psmond may take to say that it is ready, or to write what it has and stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// After READY: its first look at the machine is over, and it waits for events.
pub(crate) const SETTLED: Duration = Duration::from_secs(1);

/// In which circumstances psmond runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    Plain,
    /// In this control group of the cpu controller.
    Group(&'a Path),
    /// Without this capability, as setpriv(1) spells it: `sys_nice`.
    Without(&'a str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) exe: &'a Path,
    /// Sections of what is measured. `[events]` and `[exits]` are at their defaults where they are not among them.
    pub(crate) streams: &'a str,
    pub(crate) way: Way<'a>,
    pub(crate) environment: Option<(&'a str, &'a str)>,
}

fn others_off(streams: &str) -> String {
    let named = |name: &str| streams.lines().any(|line| line == format!("[{name}]"));
    OTHERS.into_iter().filter(|name| !named(name)).map(|name| format!("[{name}]\nenabled = false\n")).collect()
}

/// A psmond that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Psmond<'a> {
    pub(crate) meter: &'a Meter,
    pub(crate) child: Child,
    pub(crate) dir: Option<TempDir>,
    /// What the meter stood at when it was ready.
    ready: Duration,
}

impl<'a> Psmond<'a> {
    /// Starts it and waits until it says that it is ready, as systemd would.
    pub(crate) fn start(setup: Setup<'_>, meter: &'a Meter) -> Result<Self> {
        Self::start_in(tempfile::Builder::new().prefix("psmon-storm-").tempdir()?, setup, meter)
    }

    /// The same in the directory of one that has stopped: it goes on where that one left off.
    pub(crate) fn start_in(dir: TempDir, setup: Setup<'_>, meter: &'a Meter) -> Result<Self> {
        let log_dir = dir.path().join("log");
        fs::create_dir_all(&log_dir)?;
        let file = dir.path().join("psmond.toml");
        fs::write(&file, format!("log_dir = {log_dir:?}\n{}{}", setup.streams, others_off(setup.streams)))?;
        let address = dir.path().join("notify");
        let _ = fs::remove_file(&address);
        let notify = UnixDatagram::bind(&address)?;
        notify.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut command = match setup.way {
            Way::Plain => meter.command(setup.exe)?,
            Way::Group(group) => {
                let mut command = meter.command(std::env::current_exe()?)?;
                command.arg(meter::LAUNCH).arg(group).arg(setup.exe);
                command
            }
            Way::Without(capability) => {
                let (mut command, less) = (meter.command("setpriv")?, format!("-{capability}"));
                command.args(["--inh-caps", &less, "--bounding-set", &less]).arg(setup.exe);
                command
            }
        };
        command.arg("-c").arg(&file).arg("-l").arg(&log_dir);
        for (name, _) in std::env::vars_os() {
            // A watchdog or a setting of whoever runs the benchmark would be measured too.
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("PSMON_") || name.starts_with("WATCHDOG_") {
                command.env_remove(&name);
            }
        }
        command.env("NOTIFY_SOCKET", &address).envs(setup.environment);
        let stderr = fs::File::create(dir.path().join("stderr"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()?;
        let mut psmond = Psmond { meter, child, dir: Some(dir), ready: Duration::ZERO };
        let (begin, mut message) = (Instant::now(), [0; 4096]);
        loop {
            psmond.check_alive()?;
            ensure!(begin.elapsed() < PATIENCE, "psmond was not ready after {PATIENCE:?}\n{}", psmond.complaints());
            stopped()?;
            if let Ok(length) = notify.recv(&mut message)
                && message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                break;
            }
        }
        pause(SETTLED)?;
        psmond.ready = meter.of(&psmond.child)?;
        Ok(psmond)
    }

    /// CPU since it was ready.
    fn cpu(&self) -> Result<Duration> {
        Ok(self.meter.of(&self.child)?.saturating_sub(self.ready))
    }

    /// Waits until it has worked off what the storm left it, and returns its CPU since it was ready.
    pub(crate) fn settle(&mut self) -> Result<Duration> {
        /// What it uses in a second without a storm is less than this.
        const CALM: Duration = Duration::from_millis(10);
        let begin = Instant::now();
        let mut last = self.cpu()?;
        loop {
            pause(Duration::from_millis(1000))?;
            self.check_alive()?;
            let now = self.cpu()?;
            if now.saturating_sub(last) < CALM || begin.elapsed() > PATIENCE {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Peak resident memory, in MB.
    pub(crate) fn peak_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in status")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Which of its threads run otherwise than at normal priority: `capture SCHED_FIFO`, `capture nice -20`.
    pub(crate) fn urgent(&self) -> Result<Vec<String>> {
        let mut urgent = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
            let (Some(begin), Some(end)) = (stat.find('('), stat.rfind(')')) else { continue };
            // proc_pid_stat(5): state is field 3, nice 19, policy 41.
            let field = |number: usize| stat[end + 1..].split_whitespace().nth(number - 3).and_then(|word| word.parse::<i64>().ok());
            let name = &stat[begin + 1..end];
            match (field(19), field(41)) {
                (_, Some(1)) => urgent.push(format!("{name} SCHED_FIFO")),
                (_, Some(2)) => urgent.push(format!("{name} SCHED_RR")),
                (Some(nice), Some(0)) if nice < 0 => urgent.push(format!("{name} nice {nice}")),
                _ => {}
            }
        }
        Ok(urgent)
    }

    /// Stops it as systemd would: what it wrote, flushed by then.
    pub(crate) fn stop(mut self) -> Result<Logs> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begin.elapsed() < PATIENCE, "psmond did not stop on SIGTERM\n{}", self.complaints());
            std::thread::sleep(Duration::from_millis(20));
            stopped()?;
        };
        ensure!(status.success(), "psmond ended: {status}\n{}", self.complaints());
        Ok(Logs(self.dir.take().context("already stopped")?))
    }

    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("psmond ended: {status}\n{}", self.complaints());
        }
        Ok(())
    }

    pub(crate) fn complaints(&self) -> String {
        let Some(dir) = &self.dir else { return String::new() };
        let read = |name| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        let text = read("stderr") + &read("log/psmond.log");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Psmond<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A control group of the cpu controller, version 1, in which real-time is refused even to root. Removed when dropped.
#[derive(Debug)]
pub(crate) struct CpuGroup(PathBuf);

impl CpuGroup {
    pub(crate) fn make() -> Result<Self> {
        let parent = meter::own_group("cpu")?.context("no cpu controller of version 1 here, whose groups refuse real-time")?;
        let group = parent.join(format!("psmon-storm-{}", std::process::id()));
        fs::create_dir(&group).with_context(|| group.display().to_string())?;
        let made = CpuGroup(group);
        let budget = fs::read_to_string(made.0.join("cpu.rt_runtime_us")).unwrap_or_default();
        ensure!(budget.trim() == "0", "this kernel grants real-time to a group of the cpu controller too");
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        // A process that was just waited for may still be on its way out of the group.
        for _ in 0..20 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
