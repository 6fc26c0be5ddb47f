//! How a process is named: the column Process, and what statistics are grouped by.

use super::event::{Event, word};
use crate::record::cmd::Cmd;
use crate::record::escape::{self, Spaces};
use crate::record::value::Value;

/// What of a command line is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Naming {
    /// The first argument only.
    pub short: bool,
    /// The first argument without its directory; the others as they are.
    pub dirstrip: bool,
    /// The name the kernel has for it, 15 bytes at most.
    pub comm: bool,
}

impl Naming {
    /// The process an event happened to.
    #[must_use]
    pub fn of(self, event: &Event<'_>) -> Vec<u8> {
        self.name(event, event.cmd)
    }

    /// The parent in a fork: its child has its name from it.
    #[must_use]
    pub fn of_parent(self, event: &Event<'_>) -> Vec<u8> {
        self.name(event, event.pcmd)
    }

    fn name(self, event: &Event<'_>, cmd: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        let named = |name: &[u8], out: &mut Vec<u8>| {
            // Kernel threads are told from programs of the same name.
            if event.is_kthread() {
                out.push(b'[');
                write_name(name, out);
                out.push(b']');
            } else {
                write_name(name, out);
            }
        };
        match cmd {
            _ if self.comm => match word(event.comm) {
                Some(comm) => named(comm, &mut out),
                None => out.push(b'-'),
            },
            Value::Cmd(cmd) => match &**cmd {
                Cmd::Comm(comm) => named(comm, &mut out),
                Cmd::Argv { .. } => self.line(cmd).write(&mut out),
            },
            Value::Refused => out.push(b'?'),
            _ => out.push(b'-'),
        }
        out
    }

    fn line(self, cmd: &Cmd) -> Cmd {
        let cmd = if self.short { cmd.program_only() } else { cmd.clone() };
        if self.dirstrip { without_directory(&cmd) } else { cmd }
    }
}

/// Appends a name as it is, with nothing in it that a terminal would obey.
pub fn write_name(name: &[u8], out: &mut Vec<u8>) {
    if name.is_empty() {
        out.extend_from_slice(b"''");
    } else {
        escape::write(name, Spaces::Keep, out);
    }
}

/// Strips the directory of the first argument; of a rewritten title, which is one argument, that of its first word.
fn without_directory(cmd: &Cmd) -> Cmd {
    let Cmd::Argv { left_out, .. } = cmd else { return cmd.clone() };
    let mut args: Vec<&[u8]> = cmd.args().collect();
    let is_title = args.len() == 1;
    if let Some(first) = args.first_mut() {
        let end = if is_title { memchr::memchr(b' ', first).unwrap_or(first.len()) } else { first.len() };
        if let Some(slash) = memchr::memrchr(b'/', &first[..end]).filter(|slash| slash + 1 < end) {
            *first = &first[slash + 1..];
        }
    }
    Cmd::from_args(args, *left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(naming: Naming, args: &[&str]) -> String {
        let cmd = Cmd::from_args(args.iter().map(|arg| arg.as_bytes()), 0);
        let mut out = Vec::new();
        naming.line(&cmd).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_directory_is_stripped_of_the_first_argument_only() {
        let dirstrip = Naming { dirstrip: true, ..Naming::default() };
        assert_eq!(shown(dirstrip, &["/bin/sh", "/a/b"]), "sh /a/b");
        assert_eq!(shown(dirstrip, &["/opt/my tools/run", "x"]), "run x");
        assert_eq!(shown(dirstrip, &["/usr/sbin/nginx: worker /etc/x"]), "'nginx: worker /etc/x");
        assert_eq!(shown(dirstrip, &["/"]), "/");
        let both = Naming { short: true, ..dirstrip };
        assert_eq!(shown(both, &["/bin/sh", "/a/b"]), "sh");
        assert_eq!(shown(Naming { short: true, ..Naming::default() }, &["/bin/sh", "/a/b"]), "/bin/sh");
    }
}
