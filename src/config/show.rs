//! The settings in effect, as a valid config whose every line says where its value came from.

use std::fmt::Write as _;
use std::path::Path;

use super::layers::{Line, Origin};

/// Renders all values under their headers.
pub(super) fn effective(file: &Path, lines: &[Line]) -> String {
    let mut out = String::new();
    let mut last = ("", 0);
    for line in lines {
        let here = (line.header.as_str(), line.number);
        if here != last {
            let _ = writeln!(out, "\n{}", line.header);
            last = here;
        }
        let origin = match &line.origin {
            Origin::Default => "default".to_owned(),
            Origin::LogsDirectory => "environment $LOGS_DIRECTORY".to_owned(),
            Origin::Fallback => "the user's own: the one meant cannot be written".to_owned(),
            Origin::File(number) => format!("file {}:{number}", file.display().to_string().escape_debug()),
            Origin::Env(name) => format!("environment {name}"),
            Origin::CommandLine(switch) => format!("command line {switch}"),
        };
        let said = format!("{} = {}", key(&line.key), line.value);
        let _ = writeln!(out, "{said:<40} # {origin}");
    }
    out
}

/// A key, in quotes where it needs them.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare { name.to_owned() } else { string(name) }
}

/// A string on one line, whatever it holds.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of strings on one line.
pub(super) fn strings<S: AsRef<str>>(items: &[S]) -> String {
    format!("[{}]", items.iter().map(|item| string(item.as_ref())).collect::<Vec<_>>().join(", "))
}

/// A path; bytes that are not UTF-8 cannot be said in TOML and are shown as they can be.
pub(super) fn path(path: &Path) -> String {
    string(&path.to_string_lossy())
}

/// A number; large ones with an exponent, as TOML's integers end at 64 bits.
pub(super) fn number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { number.to_string() } else { format!("{number:?}") }
}
