//! The io of a process itself: of all its tasks, living and ended, and of nobody else.
//!
//! `/proc/PID/io` holds that of children that were waited for as well (`wait_task_zombie` in `kernel/exit.c`), and they count for
//! programs of their own. As long as no child was waited for, which the faults of children in `stat` tell, what it grows by is the
//! process's own. After that it is added up anew over the tasks: that of ended ones stands in their records, rounded down
//! ([`IO_STEP`](crate::source::taskstats::IO_STEP)), or in what was known before. It never goes back; what a process did itself in an
//! interval in which a child was waited for may be missing, what a child did is never in it.

use std::os::fd::OwnedFd;

use super::kept;
use super::table::Process;
use crate::source::ReadError;
use crate::source::io::{self, Io};
use crate::source::procdir::Proc;
use crate::source::stat::{self, STAT_BYTES};

/// Longest `io` there is: seven lines of a name and 20 digits.
const IO_BYTES: usize = 512;
/// Tasks that are read one by one at most: some 5 microseconds each.
const MOST_TASKS: usize = 64;
/// As many are read at each reading, once a child was waited for.
const FEW_TASKS: u64 = 4;

/// What is remembered of a process's io.
#[derive(Debug, Default)]
pub struct OwnIo {
    /// `/proc/PID/io`, kept open as long as there are descriptors to spare.
    kept: Option<OwnedFd>,
    last: Option<Last>,
}

/// The reading before.
#[derive(Clone, Copy, Debug)]
struct Last {
    own: Io,
    whole: Io,
    /// Faults of children that were waited for until then.
    cmin_flt: u64,
}

impl OwnIo {
    /// How many files it keeps open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        usize::from(self.kept.is_some())
    }

    /// Reads it.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn read(&mut self, proc: &Proc, process: &Process, spare: &mut usize) -> Result<Io, ReadError> {
        let whole = self.whole(proc, process, spare)?;
        // After it: whoever was waited for meanwhile is in both.
        let cmin_flt = if process.stat.cmin_flt > 0 { faults_of_children(proc, process)? } else { 0 };
        let own = match self.last {
            // The record of a task that ended may have been on its way when it was added up.
            Some(last) if last.cmin_flt == cmin_flt => {
                let own = last.own.plus(whole.less(last.whole));
                let is_cheap = cmin_flt > 0 && process.stat.num_threads <= FEW_TASKS;
                if is_cheap { own.largest(tasks(proc, process)?.plus(process.life.account.io())) } else { own }
            }
            None if cmin_flt == 0 => whole,
            last => {
                let tasks = tasks(proc, process)?.plus(process.life.account.io());
                last.map_or(tasks, |last| last.own.largest(tasks))
            }
        };
        self.last = Some(Last { own, whole, cmin_flt });
        Ok(own)
    }

    fn whole(&mut self, proc: &Proc, process: &Process, spare: &mut usize) -> Result<Io, ReadError> {
        let mut buffer = [0; IO_BYTES];
        let length = kept::read(&mut self.kept, spare, &mut buffer, || proc.open_io(process.id.pid))?;
        io::parse(&buffer[..length]).ok_or(ReadError::Vanished)
    }
}

fn faults_of_children(proc: &Proc, process: &Process) -> Result<u64, ReadError> {
    let mut buffer = [0; STAT_BYTES];
    let length = process.read_stat(proc, &mut buffer)?;
    stat::parse(&buffer[..length]).map(|(stat, _)| stat.cmin_flt).ok_or(ReadError::Vanished)
}

/// That of the tasks that live; of very many only the first ones.
fn tasks(proc: &Proc, process: &Process) -> Result<Io, ReadError> {
    let dir = proc.process(process.id.pid)?;
    let mut sum = Io::default();
    for task in dir.tasks()?.into_iter().take(MOST_TASKS) {
        // One that ended since the list was made stands in its record.
        match dir.read(&format!("task/{task}/io")) {
            Ok(text) => sum = io::parse(&text).map_or(sum, |io| sum.plus(io)),
            Err(ReadError::Vanished) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::Path;
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_child_did_is_in_the_file_and_not_in_it() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let script = "echo; read x; printf %1000s >/dev/null; echo; read x; head -c 500000 /dev/zero >/dev/null; echo; read x; printf %2000s >/dev/null; echo; read x";
        let mut shell = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, mut from) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        let mut own = OwnIo::default();
        let pid = shell.id();
        // It has said so, and waits for the next line: nothing of it moves any more.
        let mut then = |own: &mut OwnIo| {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            let waits = || std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with("0 "));
            while !waits() {
                std::thread::yield_now();
            }
            let text = proc.read(&format!("{pid}/stat")).unwrap();
            let (stat, comm) = stat::parse(&text).unwrap();
            let process = Process::new(stat, comm, None);
            let io = own.read(&proc, &process, &mut 0).unwrap();
            writeln!(to).unwrap();
            (io, io::parse(&proc.read(&format!("{pid}/io")).unwrap()).unwrap())
        };
        let (first, _) = then(&mut own);
        let (second, _) = then(&mut own);
        assert_eq!(second.wchar - first.wchar, 1001);
        let (third, whole) = then(&mut own);
        assert!(whole.wchar >= 500_000 && third.wchar < 500_000 && third.wchar >= second.wchar, "{third:?} of {whole:?}");
        let (last, _) = then(&mut own);
        assert_eq!(last.wchar - third.wchar, 2001, "no child was waited for since");
        drop(to);
        shell.wait().unwrap();
    }
}
