//! psmon once more, as a child of its own: whoever had children before it became psmon (`cmd & exec psmon …`, or a shell with
//! `> >(tee log)`) would else wait for them too, and perhaps for ever.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::command::{Signals, exit_status};
use crate::observer::obituary::Status;

/// How often it is looked whether it ended, and whether a signal came.
const TURN: Duration = Duration::from_millis(20);

/// Runs the same command line again and answers with its status. What wants us to end is handed on; what a terminal sends, it gets
/// by itself.
///
/// # Errors
/// It could not be started.
pub fn run(signals: &Signals) -> io::Result<u8> {
    let mut child = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).spawn()?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(exit_status(Status(status.into_raw().cast_unsigned())));
        }
        if let Some(signal) = signals.end().filter(|_| !told) {
            told = tell(&child, signal);
        }
        thread::sleep(TURN);
    }
}

fn tell(child: &Child, signal: u8) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = Signal::from_named_raw(signal.into());
    pid.zip(signal).is_some_and(|(pid, signal)| kill_process(pid, signal).is_ok())
}
