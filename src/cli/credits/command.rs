//! The command: how it is started, and the signals that psmon hears meanwhile.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use crate::cli::ending::is_ignored;
use crate::observer::obituary::Status;
use crate::source::procdir::Proc;

/// Starts it with our own standard streams, and answers with its pid.
///
/// # Errors
/// The status to exit with, and why.
pub fn start(words: &[OsString]) -> Result<u32, (u8, String)> {
    let Some((name, arguments)) = words.split_first() else { return Err((125, "no command was given".to_owned())) };
    let started = match Command::new(name).args(arguments).spawn() {
        // A script that does not name its shell is the shell's, as execvp(3) has it.
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => match find(name) {
            Some(path) => Command::new("/bin/sh").arg(path).args(arguments).spawn(),
            None => Err(error),
        },
        started => started,
    };
    started.map(|child| child.id()).map_err(|error| {
        let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        let what = match status {
            127 => "there is no such command, or the interpreter it names is not there",
            _ => "it could not be run",
        };
        (status, format!("{}: {what}: {error}", name.display()))
    })
}

/// The file that a name means.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    let is_program = |file: &PathBuf| file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(is_program)
}

/// The status to exit with, as shells and time(1) have it.
#[must_use]
pub fn exit_status(status: Status) -> u8 {
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(status).unwrap_or(u8::MAX)
}

/// The signals that psmon was sent.
#[derive(Debug)]
pub struct Signals {
    interrupted: Arc<AtomicBool>,
    ended_by: Arc<AtomicUsize>,
}

impl Signals {
    /// Hears of them from now on. They are caught and not ignored, so that the command has them as psmon had them.
    ///
    /// # Errors
    /// They could not be caught.
    pub fn hear(proc: &Proc) -> io::Result<Self> {
        let signals = Self { interrupted: Arc::default(), ended_by: Arc::default() };
        for signal in [SIGINT, SIGQUIT] {
            if !is_ignored(proc, signal) {
                flag::register(signal, Arc::clone(&signals.interrupted))?;
            }
        }
        for signal in [SIGHUP, SIGTERM] {
            if !is_ignored(proc, signal) {
                flag::register_usize(signal, Arc::clone(&signals.ended_by), usize::try_from(signal).unwrap_or(0))?;
            }
        }
        // Whoever starts psmon may have it ignored, and then the kernel keeps no child until it is waited for.
        flag::register(SIGCHLD, Arc::default())?;
        Ok(signals)
    }

    /// Whether Ctrl-C or Ctrl-\ was pressed since this was asked last.
    #[must_use]
    pub fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::Relaxed)
    }

    /// The signal that wants psmon to end.
    #[must_use]
    pub fn end(&self) -> Option<u8> {
        u8::try_from(self.ended_by.load(Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_shells() {
        assert_eq!([0, 7 << 8, 255 << 8, 9, 11 | 0x80].map(|raw| exit_status(Status(raw))), [0, 7, 255, 137, 139]);
    }

    #[test]
    fn what_cannot_be_run_is_told_apart() {
        let run = |words: &[&str]| start(&words.iter().map(OsString::from).collect::<Vec<_>>()).unwrap_err();
        let (status, why) = run(&["psmon-no-such-command", "x"]);
        assert!(status == 127 && why.contains("psmon-no-such-command"), "{why}");
        assert_eq!(run(&["/etc/passwd"]).0, 126);
        assert_eq!(run(&["/"]).0, 126);
        assert_eq!(run(&[]).0, 125);
    }

    #[test]
    fn names_are_found_in_the_path() {
        assert!(find(OsStr::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(OsStr::new("./x")), Some(PathBuf::from("./x")));
        assert_eq!(find(OsStr::new("psmon-no-such-command")), None);
    }
}
