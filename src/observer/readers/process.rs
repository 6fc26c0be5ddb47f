//! What is read of one process.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::observer::facts::{Counters, Details, Got, NAMESPACES, Reading, Wants};
use crate::observer::life::Base;
use crate::observer::sockets::Held;
use crate::source::procdir::{Proc, ProcessDir};
use crate::source::smaps::{self, Taken};
use crate::source::{ReadError, cgroup, cmdline, fds, io, limits, signed, stat, statm, status};

/// Reads what is wanted of one process, all of it through one directory descriptor, so that it is of one process.
pub(super) fn read(proc: &Proc, pid: u32, start: Option<u64>, wants: Wants) -> Got {
    if wants == Wants::MEMORY {
        // The only file: whoever asked knows by its own means whose it was.
        return Got { memory: Some(smaps::take(proc, pid)), ..Got::default() };
    }
    let dir = match proc.process(pid) {
        Ok(dir) => dir,
        Err(error) => return all_failed(wants, error),
    };
    let stat = (start.is_some() || wants.has(Wants::STAT)).then(|| read_stat(&dir));
    if let (Some(start), Some(Ok((now, _)))) = (start, &stat)
        && now.start != start
    {
        return all_failed(wants, ReadError::Vanished);
    }
    let want = |one: Wants| wants.has(one);
    let mut details = Details::default();
    if want(Wants::STATUS) {
        details.status = Reading::from_read(dir.read("status").map(|text| Box::new(status::parse(&text))));
    }
    if want(Wants::IO) {
        details.io = Reading::from_read(dir.read("io").and_then(|text| io::parse(&text).ok_or(ReadError::Vanished)));
    }
    if want(Wants::OOM) {
        let value = |name| dir.read(name).and_then(|text| signed(text.trim_ascii()).ok_or(ReadError::Vanished));
        details.oom_score = Reading::from_read(value("oom_score"));
        details.oom_score_adj = Reading::from_read(value("oom_score_adj"));
    }
    if want(Wants::WCHAN) {
        details.wchan = word(dir.read("wchan"));
    }
    if want(Wants::LABEL) {
        details.label = word(dir.read("attr/current"));
    }
    if want(Wants::FDS) {
        details.fds = Reading::from_read(dir.fd_count());
    }
    if want(Wants::NAMESPACES) {
        for (place, name) in details.namespaces.iter_mut().zip(NAMESPACES) {
            *place = Reading::from_read(dir.link(&format!("ns/{name}")).map(|link| inode(&link)));
        }
    }
    let cgroup = want(Wants::CGROUP).then(|| dir.read("cgroup"));
    let memory = want(Wants::MEMORY).then(|| Taken { memory: smaps::read(&dir), cpu: Duration::ZERO, took: Duration::ZERO });
    // Whoever has no memory is a kernel thread, a zombie or gone: that only his stat tells, and with it the name.
    let has_none = memory.is_some_and(|taken| taken.memory == Err(ReadError::Vanished));
    Got {
        memory,
        comm: (want(Wants::COMM) && !has_none).then(|| dir.comm()),
        base: want(Wants::BASE).then(|| base(&dir)).flatten(),
        stat: stat.filter(|_| wants.has(Wants::STAT)),
        cmd: want(Wants::CMD).then(|| dir.open("cmdline").and_then(|fd: OwnedFd| cmdline::read(&fd))),
        exe: want(Wants::EXE).then(|| dir.link("exe")),
        cgroup: cgroup.as_ref().map(|text| {
            text.as_ref().map_err(|error| *error).and_then(|text| cgroup::parse(text).map(<[u8]>::to_vec).ok_or(ReadError::Vanished))
        }),
        cgroup_text: cgroup.and_then(Result::ok),
        limits: want(Wants::LIMITS).then(|| dir.read("limits").and_then(|text| limits::parse(&text).ok_or(ReadError::Vanished))),
        maps: want(Wants::MAPS).then(|| dir.open("maps").and_then(|fd| limits::mappings(&fd))),
        owner: want(Wants::OWNER).then(|| dir.owner()),
        held: want(Wants::SOCKETS).then(|| Ok(Held::new(dir.network_namespace()?, fds::list(&dir)?))),
        details,
    }
}

fn read_stat(dir: &ProcessDir) -> Result<Counters, ReadError> {
    let line = dir.read("stat")?;
    let (mut stat, comm) = stat::parse(&line).ok_or(ReadError::Vanished)?;
    stat.rss_pages = dir.read("statm").ok().and_then(|text| statm::resident_pages(&text)).unwrap_or(stat.rss_pages);
    Ok((stat, comm.into()))
}

/// What the ended tasks of a process had used: its own counters less those of its living tasks. What cannot be read, and what
/// changed meanwhile, counts for nothing.
fn base(dir: &ProcessDir) -> Option<Base> {
    let counters = |prefix: &str| {
        let stat = stat::parse(&dir.read(&format!("{prefix}stat")).ok()?)?.0;
        let io = dir.read(&format!("{prefix}io")).ok().and_then(|text| io::parse(&text)).unwrap_or_default();
        Some((stat, io))
    };
    // First the whole, then its parts: what they do meanwhile is then left out, and not counted as done by ended ones.
    let (whole, io) = counters("")?;
    let tasks = dir.tasks().ok()?;
    let (mut user, mut system, mut min_flt, mut maj_flt, mut living) = (0_u64, 0_u64, 0_u64, 0_u64, io::Io::default());
    for task in tasks {
        let Some((stat, io)) = counters(&format!("task/{task}/")) else { continue };
        user += stat.utime;
        system += stat.stime;
        min_flt += stat.min_flt;
        maj_flt += stat.maj_flt;
        living = living.plus(io);
    }
    let us_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let io = ended_io(&whole, io, living);
    Some(Base {
        user_us: whole.utime.saturating_sub(user).saturating_mul(us_per_tick),
        system_us: whole.stime.saturating_sub(system).saturating_mul(us_per_tick),
        min_flt: whole.min_flt.saturating_sub(min_flt),
        maj_flt: whole.maj_flt.saturating_sub(maj_flt),
        rchar: io.rchar,
        wchar: io.wchar,
        syscr: io.syscr,
        syscw: io.syscw,
        read_bytes: io.read_bytes,
        write_bytes: io.write_bytes,
        cancelled_write_bytes: io.cancelled_write_bytes,
    })
}

/// The io of a process's ended tasks: that of the whole less that of its living tasks. The whole has that of children it waited
/// for too (`wait_task_zombie`, `kernel/exit.c`), and nobody can tell the two apart: then it counts for nothing.
fn ended_io(whole: &stat::Stat, io: io::Io, living: io::Io) -> io::Io {
    if whole.cmin_flt == 0 { io.less(living) } else { io::Io::default() }
}

/// A file of one word: `0` and nothing mean none, whatever follows a NUL or newline is cut.
fn word(text: Result<Vec<u8>, ReadError>) -> Reading<Box<[u8]>> {
    match text {
        Ok(text) => match text.split(|byte| matches!(byte, 0 | b'\n')).next() {
            None | Some(b"" | b"0") => Reading::Absent,
            Some(word) => Reading::Known(word.into()),
        },
        // The file is there only where the kernel has the feature.
        Err(ReadError::Failed(_)) => Reading::Absent,
        Err(error) => Reading::from_read(Err(error)),
    }
}

/// `net:[4026531840]` is 4026531840.
fn inode(link: &[u8]) -> Box<[u8]> {
    link.iter().copied().filter(u8::is_ascii_digit).collect()
}

fn all_failed(wants: Wants, error: ReadError) -> Got {
    Got {
        stat: wants.has(Wants::STAT).then_some(Err(error)),
        cmd: wants.has(Wants::CMD).then_some(Err(error)),
        exe: wants.has(Wants::EXE).then_some(Err(error)),
        cgroup: wants.has(Wants::CGROUP).then_some(Err(error)),
        owner: wants.has(Wants::OWNER).then_some(Err(error)),
        comm: wants.has(Wants::COMM).then_some(Err(error)),
        memory: wants.has(Wants::MEMORY).then_some(Taken { memory: Err(error), cpu: Duration::ZERO, took: Duration::ZERO }),
        cgroup_text: None,
        limits: wants.has(Wants::LIMITS).then_some(Err(error)),
        maps: wants.has(Wants::MAPS).then_some(Err(error)),
        base: None,
        held: wants.has(Wants::SOCKETS).then_some(Err(error)),
        details: Details::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn io_of_children_is_not_that_of_ended_tasks() {
        // A shell that waited for a child that wrote a MiB, and waits now.
        let script = "head -c 1048576 /dev/zero >/dev/null; echo; read x";
        let piped = std::process::Stdio::piped;
        let mut shell = std::process::Command::new("sh").args(["-c", script]).stdin(piped()).stdout(piped()).spawn().unwrap();
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let dir = Proc::open(Path::new("/proc")).unwrap().process(shell.id()).unwrap();
        let whole = io::parse(&dir.read("io").unwrap()).unwrap();
        let base = base(&dir).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(whole.wchar >= 1 << 20, "the kernel counts it as the shell's: {whole:?}");
        assert_eq!((base.rchar, base.wchar, base.syscr, base.syscw, base.read_bytes), (0, 0, 0, 0, 0));
        // Whoever waited for nobody had it from its own tasks.
        let (all, living) = (io::Io { wchar: 9, syscw: 3, ..io::Io::default() }, io::Io { wchar: 4, syscw: 5, ..io::Io::default() });
        assert_eq!(ended_io(&stat::Stat::default(), all, living), io::Io { wchar: 5, ..io::Io::default() });
        assert_eq!(ended_io(&stat::Stat { cmin_flt: 1, ..stat::Stat::default() }, all, living), io::Io::default());
    }
}
