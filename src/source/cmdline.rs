//! `/proc/PID/cmdline`: `proc_pid_cmdline(5)`. Reading it takes the target's mmap_lock and may wait.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::ReadError;
use crate::record::cmd::{Cmd, MAX_BYTES};

/// Reads the arguments. At most [`MAX_BYTES`] of them are kept; the rest is only counted.
///
/// # Errors
/// As [`ReadError`] says.
pub fn read(fd: &OwnedFd) -> Result<Cmd, ReadError> {
    let mut kept = Vec::new();
    let mut total = 0_u64;
    let mut at = 0_u64;
    // Grown on demand: nearly all command lines fit the first buffer.
    let mut buffer = vec![0; 4096];
    loop {
        let count = match rustix::io::pread(fd, &mut buffer[..], at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let piece = &buffer[..count];
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            total = at + last as u64 + 1;
        }
        if kept.len() < MAX_BYTES {
            kept.extend_from_slice(&piece[..count.min(MAX_BYTES - kept.len())]);
        }
        at += count as u64;
        if buffer.len() == 4096 {
            buffer.resize(64 * 1024, 0);
        }
    }
    Ok(Cmd::from_proc(&kept, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::procdir::Proc;
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// Arguments of a shell that waits for a line it never gets.
    fn cmd_of(args: &[&str]) -> Cmd {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let mut child = Command::new("sh").args(["-c", "read x"]).args(args).stdin(Stdio::piped()).spawn().unwrap();
        // An exec shows its arguments only once the new image is set up, a little after the old one is gone.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let cmd = loop {
            let cmd = read(&proc.process(child.id()).unwrap().open("cmdline").unwrap()).unwrap();
            if cmd.args().next().is_some_and(|arg| arg == b"sh") {
                break cmd;
            }
            assert!(std::time::Instant::now() < limit, "the child never showed its arguments: {cmd:?}");
        };
        child.kill().unwrap();
        child.wait().unwrap();
        cmd
    }

    #[test]
    fn arguments_with_spaces_and_empty_ones() {
        let cmd = cmd_of(&["a b", "", "x"]);
        assert_eq!(cmd, Cmd::from_args([b"sh".as_slice(), b"-c", b"read x", b"a b", b"", b"x"], 0));
    }

    #[test]
    fn two_megabytes_of_arguments_are_cut_and_counted() {
        let long = "y".repeat(100_000);
        let args: Vec<&str> = std::iter::repeat_n(long.as_str(), 18).collect();
        let Cmd::Argv { args: kept, left_out } = cmd_of(&args) else { panic!("a live process has arguments") };
        assert_eq!(kept.len(), MAX_BYTES + 1);
        let total = "sh -c read x".len() as u64 + 18 * 100_001;
        assert_eq!(left_out, total - MAX_BYTES as u64);
    }
}
