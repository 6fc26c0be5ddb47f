//! The file: its bytes, its text, and what line and column an offset is.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use toml::Spanned;
use toml::de::DeTable;

use super::error::{At, Problem};

/// No config is so large; a file that is was named by mistake.
pub(super) const LARGEST: u64 = 1 << 20;

/// How much of an offending line is shown.
const EXCERPT: usize = 160;

/// The bytes of a file, at most [`LARGEST`].
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    // The limit holds for /dev/zero too, whose length says nothing.
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB: not a config"));
    }
    Ok(bytes)
}

/// The text of a config file and where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// The text of the bytes, without a byte order mark.
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Problem> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let at = Source { path, text: &good }.at(good.len());
                Err(Problem { at, message: "not UTF-8 from here on; a config is UTF-8 text".to_owned() })
            }
        }
    }

    /// The document, or all that keeps it from being one.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, Vec<Problem>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(document);
        }
        let problem = |error: &toml::de::Error| Problem {
            at: self.at(error.span().map_or(0, |span| span.start)),
            message: error.message().lines().collect::<Vec<_>>().join("; "),
        };
        Err(errors.iter().map(problem).collect())
    }

    /// The place of an offset.
    pub(super) fn at(&self, offset: usize) -> At {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at);
        At::Line {
            file: self.path.to_owned(),
            line: self.line(offset),
            column: self.text[start..offset].chars().count() + 1,
            text: excerpt(&self.text[start..end]),
        }
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        memchr::memchr_iter(b'\n', before).count() + 1
    }

    /// The problem at a span.
    pub(super) fn problem(&self, span: &Range<usize>, message: String) -> Problem {
        Problem { at: self.at(span.start), message }
    }
}

/// What must not reach a log with the message of an error: credentials within a URL, and whatever is
/// assigned to a name that says it is a secret. A file that holds one is named by a harmless path.
static SECRETS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)(?P<k>://)[^\s@]*@|(?P<v>(?:token|password|passwd|passphrase|secret|api_?key)[a-z0-9_.-]*[\x22']?\s*[=:]\s*).*").ok()
});

/// An offending line as it may be shown: no secrets, no control characters, not too long.
pub(super) fn excerpt(line: &str) -> String {
    let line = line.trim();
    let line = match SECRETS.as_ref() {
        Some(secrets) if !names_a_file(line) => secrets.replace_all(line, "${k}${v}***"),
        _ => line.into(),
    };
    let mut shown: String = line.chars().take(EXCERPT).map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    if line.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether the one thing the line assigns is the path of a file, which may be shown.
fn names_a_file(line: &str) -> bool {
    let mut parts = line.split('=');
    let key = parts.next().unwrap_or("").trim();
    key.ends_with("_file") && parts.count() == 1
}
