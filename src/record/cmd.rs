//! Command lines: what a process said it is, exactly, within one line.
//!
//! Arguments are joined by one space; a space inside an argument is `\x20`, an empty one `''`. A single
//! argument that holds spaces (a title rewritten by setproctitle) stands as it is after one `'`.
//! Trailing empty arguments, the padding of setproctitle, are dropped. Otherwise argv comes back exactly.

use super::escape::{self, Spaces};

/// The longest command line that is kept, in bytes.
pub const MAX_BYTES: usize = 32 * 1024;

/// A command line, or the name that stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cmd {
    /// The arguments, each ended by a NUL, without trailing empty ones.
    Argv {
        /// `arg0\0arg1\0`.
        args: Box<[u8]>,
        /// Bytes beyond [`MAX_BYTES`] that were left out.
        left_out: u64,
    },
    /// A kernel thread or a zombie has no arguments: its name, shown as `[comm]`.
    Comm(Box<[u8]>),
}

impl Cmd {
    /// From the bytes of `/proc/PID/cmdline`: the first [`MAX_BYTES`] of them at most are looked at, and
    /// `total` is the length up to the last byte that is not a NUL.
    #[must_use]
    pub fn from_proc(bytes: &[u8], total: u64) -> Self {
        let kept = &bytes[..bytes.len().min(MAX_BYTES)];
        let end = kept.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let left_out = total.saturating_sub(if total > kept.len() as u64 { kept.len() } else { end } as u64);
        let mut args = Vec::with_capacity(end + 1);
        args.extend_from_slice(&kept[..end]);
        if end > 0 {
            args.push(0);
        }
        Self::Argv { args: args.into_boxed_slice(), left_out }
    }

    /// From a list of arguments.
    #[must_use]
    pub fn from_args<'a>(list: impl IntoIterator<Item = &'a [u8]>, left_out: u64) -> Self {
        let mut args = Vec::new();
        let mut end = 0;
        for arg in list {
            args.extend_from_slice(arg);
            args.push(0);
            if !arg.is_empty() {
                end = args.len();
            }
        }
        args.truncate(end);
        Self::Argv { args: args.into_boxed_slice(), left_out }
    }

    /// The arguments; none for a [`Cmd::Comm`].
    pub fn args(&self) -> impl Iterator<Item = &[u8]> {
        let args: &[u8] = match self {
            Self::Argv { args, .. } => args,
            Self::Comm(_) => b"",
        };
        args.strip_suffix(b"\0").into_iter().flat_map(|list| list.split(|byte| *byte == 0))
    }

    /// The program only: the first argument, of a title its first word.
    #[must_use]
    pub fn program_only(&self) -> Self {
        match self {
            Self::Argv { .. } => {
                let first = self.args().next().unwrap_or_default();
                let word = first.split(|byte| *byte == b' ').next().unwrap_or_default();
                let whole = if self.args().nth(1).is_none() { word } else { first };
                Self::from_args([whole], 0)
            }
            Self::Comm(_) => self.clone(),
        }
    }

    /// Appends the command line as the last column of a line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (args, left_out) = match self {
            Self::Comm(comm) => {
                out.push(b'[');
                escape::write(comm, Spaces::Escape, out);
                out.push(b']');
                return;
            }
            Self::Argv { args, left_out } => (args, *left_out),
        };
        if args.is_empty() {
            out.extend_from_slice(b"''");
        } else if self.args().nth(1).is_none() && args.contains(&b' ') {
            out.push(b'\'');
            let title = &args[..args.len() - 1];
            let rest = title.strip_prefix(b"'");
            if rest.is_some() {
                escape::write_hex(b'\'', out);
            }
            escape::write(rest.unwrap_or(title), Spaces::Keep, out);
        } else {
            self.write_args(out);
        }
        if left_out > 0 {
            out.extend_from_slice(b" \\+");
            out.extend_from_slice(itoa::Buffer::new().format(left_out).as_bytes());
        }
    }

    fn write_args(&self, out: &mut Vec<u8>) {
        let whole = self.args().nth(1).is_none();
        for (at, arg) in self.args().enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            let (first, rest) = match arg {
                [] => {
                    out.extend_from_slice(b"''");
                    continue;
                }
                [first, rest @ ..] => (*first, rest),
            };
            // What would be taken for a mark of ours: a lone `-` or `?`, and the first byte of the column.
            let mark = first == b'\'' || (at == 0 && matches!(first, b'#' | b'[')) || (whole && (arg == b"-" || arg == b"?"));
            if mark {
                escape::write_hex(first, out);
                escape::write(rest, Spaces::Escape, out);
            } else {
                escape::write(arg, Spaces::Escape, out);
            }
        }
    }

    /// Reads what [`Cmd::write`] wrote; `None` where it is damaged.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if let Some(name) = text.strip_prefix(b"[") {
            return Some(Self::Comm(escape::read(name.strip_suffix(b"]")?)?.into_boxed_slice()));
        }
        let (text, left_out) = split_left_out(text)?;
        if let Some(title) = text.strip_prefix(b"'")
            && !title.starts_with(b"'")
        {
            return Some(Self::from_args([escape::read(title)?.as_slice()], left_out));
        }
        let args = text.split(|byte| *byte == b' ').map(escape::read_word).collect::<Option<Vec<_>>>()?;
        Some(Self::from_args(args.iter().map(Vec::as_slice), left_out))
    }
}

/// Splits off the ` \+N` of a command line that was cut.
fn split_left_out(text: &[u8]) -> Option<(&[u8], u64)> {
    let Some(at) = memchr::memmem::rfind(text, b" \\+") else {
        return Some((text, 0));
    };
    let number = std::str::from_utf8(&text[at + 3..]).ok()?;
    Some((&text[..at], number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(args: &[&str]) -> String {
        let mut out = Vec::new();
        Cmd::from_args(args.iter().map(|arg| arg.as_bytes()), 0).write(&mut out);
        String::from_utf8(out).expect("escaped text is UTF-8")
    }

    #[test]
    fn arguments_titles_and_marks() {
        assert_eq!(shown(&["ls", "-l", "a b", "", "x"]), "ls -l a\\x20b '' x");
        assert_eq!(shown(&["nginx: worker process", "", ""]), "'nginx: worker process");
        assert_eq!(shown(&["' a"]), "'\\x27 a");
        assert_eq!(shown(&["", "a"]), "'' a");
        assert_eq!(shown(&["-"]), "\\x2d");
        assert_eq!(shown(&["cat", "-"]), "cat -");
        assert_eq!(shown(&["?"]), "\\x3f");
        assert_eq!(shown(&["#tick", "#x"]), "\\x23tick #x");
        assert_eq!(shown(&["[kthreadd]"]), "\\x5bkthreadd]");
        assert_eq!(shown(&[]), "''");
        assert_eq!(shown(&["a\nb"]), "a\\x0ab");
    }

    #[test]
    fn the_padding_of_setproctitle_is_dropped() {
        assert_eq!(Cmd::from_proc(b"sshd: root\0\0\0\0", 10), Cmd::from_args([b"sshd: root".as_slice()], 0));
        assert_eq!(Cmd::from_proc(b"", 0), Cmd::from_args([], 0));
    }

    #[test]
    fn what_is_too_long_says_how_much_is_missing() {
        let long = vec![b'a'; MAX_BYTES];
        let cmd = Cmd::from_proc(&long, 2_000_000);
        let mut out = Vec::new();
        cmd.write(&mut out);
        assert!(out.ends_with(b"a \\+1967232"), "2000000 - 32768 bytes were left out");
        assert_eq!(Cmd::parse(&out), Some(cmd));
    }

    #[test]
    fn program_only_keeps_no_argument() {
        assert_eq!(Cmd::from_args([b"mysql".as_slice(), b"-psecret"], 0).program_only(), Cmd::from_args([b"mysql".as_slice()], 0));
        assert_eq!(
            Cmd::from_args([b"postgres: u secret".as_slice()], 0).program_only(),
            Cmd::from_args([b"postgres:".as_slice()], 0)
        );
    }

    fn argument() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => proptest::collection::vec(1_u8..=255, 0..12),
            2 => proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\''), Just(b'\\'), Just(b'+'), Just(b'1'), Just(b'x'), Just(b'['), Just(b']')], 0..8),
            1 => prop_oneof![Just(b"-".to_vec()), Just(b"?".to_vec()), Just(b"''".to_vec()), Just(b"#tick".to_vec()), Just(b"\\+5".to_vec())],
        ]
    }

    proptest! {
        // parse(write(cmd)) = cmd for any argv, and no line can be forged.
        #[test]
        fn argv_comes_back(args in proptest::collection::vec(argument(), 0..6), left_out in prop_oneof![Just(0_u64), any::<u64>()]) {
            let cmd = Cmd::from_args(args.iter().map(Vec::as_slice), left_out);
            let mut out = Vec::new();
            cmd.write(&mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok());
            prop_assert!(out.iter().all(|byte| *byte >= b' ' && *byte != 0x7f));
            prop_assert!(!matches!(out.as_slice(), b"-" | b"?" | b"") && out[0] != b'#');
            prop_assert_eq!(Cmd::parse(&out), Some(cmd));
        }

        #[test]
        fn names_come_back(comm in proptest::collection::vec(1_u8..=255, 0..16)) {
            let cmd = Cmd::Comm(comm.into_boxed_slice());
            let mut out = Vec::new();
            cmd.write(&mut out);
            prop_assert_eq!(Cmd::parse(&out), Some(cmd));
        }

        // The kernel's bytes and the list of arguments agree.
        #[test]
        fn the_kernels_bytes_are_the_arguments(args in proptest::collection::vec(proptest::collection::vec(1_u8..=255, 0..5), 0..5)) {
            let mut raw = Vec::new();
            for arg in &args { raw.extend_from_slice(arg); raw.push(0); }
            let total = raw.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1) as u64;
            prop_assert_eq!(Cmd::from_proc(&raw, total), Cmd::from_args(args.iter().map(Vec::as_slice), 0));
        }

        #[test]
        fn any_text_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Cmd::parse(&bytes);
        }
    }
}
