//! `/proc/PID/cmdline`: `proc_pid_cmdline(5)`. Reading it takes the target's mmap_lock and may wait.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::ReadError;
use crate::record::cmd::{Cmd, MAX_BYTES};

/// Reads the arguments. At most [`MAX_BYTES`] of them are kept; the rest is only counted.
///
/// # Errors
/// As [`ReadError`] says. A file without a byte is `Vanished` too: a process that has arguments, even one empty
/// one, answers with bytes, so this one has ended or an exec is just setting its arguments up
/// (`get_mm_cmdline` in `fs/proc/base.c`).
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
    if at == 0 {
        return Err(ReadError::Vanished);
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
            let cmd = read(&proc.process(child.id()).unwrap().open("cmdline").unwrap());
            if let Ok(cmd) = &cmd
                && cmd.args().next().is_some_and(|arg| arg == b"sh")
            {
                break cmd.clone();
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
    fn no_byte_is_no_empty_command_line() {
        let mut child = Command::new("true").spawn().unwrap();
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let stat = || proc.read(&format!("{}/stat", child.id())).unwrap();
        while !stat().windows(4).any(|part| part == b") Z ") {
            assert!(std::time::Instant::now() < limit);
        }
        let zombie = proc.process(child.id()).unwrap().open("cmdline").unwrap();
        assert_eq!(read(&zombie), Err(ReadError::Vanished));
        child.wait().unwrap();
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, b"\0").unwrap();
        assert_eq!(read(&file.into()), Ok(Cmd::from_proc(b"\0", 0)), "one empty argument is one");
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
