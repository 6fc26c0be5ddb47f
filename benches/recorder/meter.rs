//! The meter: how much CPU a program has used, in nanoseconds.
//!
//! A control group counts whatever runs in it, threads and children that ended included; utime and stime of
//! /proc/PID/stat would round a tick of psmond (a few milliseconds) to hundredths. Where no group can be made, the sum
//! of schedstat over the threads stands in, and the table says so: it forgets threads that ended.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};

/// The first argument of a child that puts itself into a group and becomes another program.
pub(crate) const LAUNCH: &str = "--launch";

#[derive(Debug)]
pub(crate) enum Meter {
    /// Version 1: cpuacct.usage, in nanoseconds.
    Cpuacct(PathBuf),
    /// Version 2: usage_usec of cpu.stat.
    CpuStat(PathBuf),
    /// No group: first field of /proc/PID/task/*/schedstat.
    Schedstat,
}

impl Meter {
    /// The best meter that works here, tried out with a real process.
    pub(crate) fn open() -> Result<Self> {
        Self::named("bench")
    }

    /// One of several, by this part of its group's name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let name = format!("psmon-{name}-{}", std::process::id());
        let candidates = [("cpuacct", Meter::Cpuacct as fn(PathBuf) -> Meter), ("", Meter::CpuStat)];
        for (controller, make) in candidates {
            let Some(parent) = own_group(controller)? else { continue };
            let group = parent.join(&name);
            if fs::create_dir(&group).is_err() {
                continue;
            }
            let meter = make(group);
            if meter.works() {
                return Ok(meter);
            }
        }
        Ok(Meter::Schedstat)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Meter::Cpuacct(_) => "cpuacct.usage of a control group (v1), exact",
            Meter::CpuStat(_) => "usage_usec of a control group (v2), exact",
            Meter::Schedstat => "schedstat of the living threads (no control group could be made)",
        }
    }

    /// What it counts in, where it is a group.
    pub(crate) fn group(&self) -> Option<&Path> {
        match self {
            Meter::Cpuacct(group) | Meter::CpuStat(group) => Some(group),
            Meter::Schedstat => None,
        }
    }

    fn works(&self) -> bool {
        let Ok(before) = self.at_rest() else { return false };
        let status = self.command("true").and_then(|mut command| Ok(command.stderr(Stdio::null()).status()?));
        status.is_ok_and(|status| status.success()) && self.at_rest().is_ok_and(|after| after > before)
    }

    /// A command whose process will be counted, from its own exec on.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(LAUNCH).arg(self.group().unwrap_or(Path::new("-"))).arg(program);
        Ok(command)
    }

    /// What the meter stands at while nothing is measured: where the count of the next program begins.
    pub(crate) fn at_rest(&self) -> Result<Duration> {
        match self {
            Meter::Cpuacct(group) => {
                let text = read(&group.join("cpuacct.usage"))?;
                Ok(Duration::from_nanos(text.trim().parse().context("cpuacct.usage")?))
            }
            Meter::CpuStat(group) => {
                let text = read(&group.join("cpu.stat"))?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("cpu.stat without usage_usec")?;
                Ok(Duration::from_micros(usage.trim().parse().context("usage_usec")?))
            }
            Meter::Schedstat => Ok(Duration::ZERO),
        }
    }

    /// What the meter stands at while `child` runs, or has ended and was not yet waited for.
    pub(crate) fn of(&self, child: &Child) -> Result<Duration> {
        match self {
            Meter::Schedstat => {
                let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).context("the threads of a measured process")?;
                let mut sum = 0;
                for task in tasks {
                    // A thread may end between the list and the read.
                    let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
                    sum += text.split(' ').next().unwrap_or_default().parse::<u64>().context("schedstat")?;
                }
                Ok(Duration::from_nanos(sum))
            }
            _ => self.at_rest(),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Some(group) = self.group() else { return };
        // A process that was just waited for may still be on its way out of the group.
        for _ in 0..20 {
            if fs::remove_dir(group).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Waits until `child` has ended but leaves it to be waited for, so that its last numbers can still be read.
pub(crate) fn wait_for_end(child: &Child) -> Result<()> {
    waitid(WaitId::Pid(Pid::from_child(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    Ok(())
}

/// The other side of [`Meter::command`]: does not return unless it failed.
///
/// No shell does this, because the program must die with the benchmark, and the wish survives the exec.
pub(crate) fn launch(args: &[String]) -> Result<()> {
    let [group, program, rest @ ..] = args else { bail!("{LAUNCH} GROUP PROGRAM [ARGUMENTS]") };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if group != "-" {
        let procs = Path::new(group).join("cgroup.procs");
        fs::write(&procs, std::process::id().to_string()).with_context(|| procs.display().to_string())?;
    }
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("cannot execute {program}"))
}

/// The directory of the group this process is in, for a controller of version 1, or for version 2 if it is empty.
pub(crate) fn own_group(controller: &str) -> Result<Option<PathBuf>> {
    let listed = |list: &str| list.split(',').any(|name| name == controller);
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let own = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        listed(fields.next()?).then(|| fields.next())?
    });
    // proc_pid_mountinfo(5): ID PARENT DEVICE ROOT MOUNT_POINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let mount = mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let (mut front, mut back) = (front.split(' ').skip(3), back.split(' '));
        let (root, point) = (front.next()?, front.next()?);
        let kind = if controller.is_empty() { "cgroup2" } else { "cgroup" };
        let fits = back.next()? == kind && (controller.is_empty() || listed(back.nth(1)?));
        fits.then_some((root, point))
    });
    let (Some(own), Some((root, point))) = (own, mount) else { return Ok(None) };
    let below = own.strip_prefix(root).unwrap_or(own).trim_start_matches('/');
    Ok(Some(Path::new(point).join(below)).filter(|path| path.is_dir()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
