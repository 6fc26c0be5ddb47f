//! Events as lines for people.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::event::{Event, word};
use super::name::{Naming, write_name};
use crate::cli::screen::Screen;
use crate::record::escape;
use crate::record::event::EventKind;
use crate::record::moment::Moment;
use crate::record::value::Value;
use crate::source::users::user_name;

/// Room for `SIGSEGV+core`.
const INFO: usize = 12;
/// Room for `999h59m`.
const DURATION: usize = 8;
/// What stands between the two names of a comm event in the journal.
const ARROW: &str = "\u{2192}";

/// What is shown of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Real and effective user, and terminal.
    pub extra: bool,
    /// A picture of each kind.
    pub glyphs: bool,
    /// The wait status as the kernel says it.
    pub raw: bool,
    /// No header.
    pub bare: bool,
    /// Names of processes.
    pub naming: Naming,
    /// The width of the column of events.
    pub kinds: usize,
    /// The width of the column of pids.
    pub pids: usize,
}

/// Writes them.
#[derive(Debug)]
pub struct Lines {
    style: Style,
    screen: Screen,
    users: FxHashMap<u32, Vec<u8>>,
}

/// One line, part by part.
struct Line<'a> {
    time: Moment,
    word: &'a str,
    pid: u32,
    glyph: char,
    info: Vec<u8>,
    duration: Option<i64>,
    name: Vec<u8>,
}

impl Lines {
    /// In this style, on standard output.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self { style, screen: Screen::of_stdout(), users: FxHashMap::default() }
    }

    /// Writes the header if the next line needs one before it.
    ///
    /// # Errors
    /// The output took it not.
    pub fn begin(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.style.bare || !self.screen.needs_header() {
            return Ok(());
        }
        let Style { kinds, pids, .. } = self.style;
        let mut line = format!("{:<23} {:<kinds$} {:>pids$} ", "Time", "Event", "PID").into_bytes();
        if self.style.extra {
            line.extend_from_slice(format!("{:<8} {:<8} {:<7} ", "UID", "EUID", "TTY").as_bytes());
        }
        if self.style.glyphs {
            line.extend_from_slice(b"  ");
        }
        line.extend_from_slice(format!("{:<INFO$} {:>DURATION$} Process", "Info", "Duration").as_bytes());
        self.end(line, out)
    }

    /// Writes an event: of a birth two lines, of all others one.
    ///
    /// # Errors
    /// The output took it not.
    pub fn print(&mut self, event: &Event<'_>, out: &mut impl Write) -> io::Result<()> {
        let naming = self.style.naming;
        let (time, word) = (event.time, event.kind.word());
        let line = |pid, glyph, info: &[u8], name| Line { time, word, pid, glyph, info: info.to_vec(), duration: None, name };
        match event.kind {
            EventKind::Fork => {
                self.line(event, &line(event.ppid.unwrap_or(0), '\u{252c}', b"parent", naming.of_parent(event)), out)?;
                self.line(event, &line(event.pid, '\u{2514}', b"child", naming.of(event)), out)
            }
            EventKind::Clone => {
                self.line(event, &line(event.pid, '\u{252c}', b"parent", naming.of(event)), out)?;
                self.line(event, &line(event.task, '\u{2514}', b"thread", naming.of(event)), out)
            }
            EventKind::ThreadExit => self.line(event, &line(event.task, '\u{21e5}', b"", naming.of(event)), out),
            EventKind::Exit => {
                let info = self.status(event);
                self.line(event, &Line { duration: event.duration, ..line(event.pid, '\u{21e5}', &info, naming.of(event)) }, out)
            }
            EventKind::Comm => {
                // A thread has a name of its own: the one of its process stays.
                let info = if event.task == event.pid { String::new() } else { format!("thread {}", event.task) };
                self.line(event, &line(event.pid, '\u{21bb}', info.as_bytes(), renamed(event)), out)
            }
            EventKind::Uid | EventKind::Gid => {
                let info = self.ids(event);
                self.line(event, &line(event.pid, ' ', &info, naming.of(event)), out)
            }
            EventKind::Exec => self.line(event, &line(event.pid, '\u{2192}', b"", naming.of(event)), out),
            EventKind::Core => self.line(event, &line(event.pid, '\u{2620}', &shown(event.info), naming.of(event)), out),
            EventKind::Sid | EventKind::Ptrace => self.line(event, &line(event.pid, ' ', &shown(event.info), naming.of(event)), out),
        }
    }

    fn line(&mut self, event: &Event<'_>, line: &Line<'_>, out: &mut impl Write) -> io::Result<()> {
        self.begin(out)?;
        let Style { kinds, pids, .. } = self.style;
        let mut text = Vec::with_capacity(128);
        write_time(line.time, &mut text);
        text.extend_from_slice(format!(" {:<kinds$} {:>pids$} ", line.word, line.pid).as_bytes());
        if self.style.extra {
            let uid = event.uid.number().and_then(|uid| u32::try_from(uid).ok());
            let uid = match uid {
                Some(uid) => self.user(uid),
                None => shown(event.uid),
            };
            for (cell, width) in [(uid, 8), (shown(event.user), 8), (shown(event.tty), 7)] {
                pad(&cell, width, &mut text);
                text.push(b' ');
            }
        }
        if self.style.glyphs {
            text.extend_from_slice(format!("{} ", line.glyph).as_bytes());
        }
        pad(&line.info, INFO, &mut text);
        let duration = line.duration.map_or_else(String::new, human);
        text.extend_from_slice(format!(" {duration:>DURATION$} ").as_bytes());
        text.extend_from_slice(&line.name);
        self.end(text, out)
    }

    fn end(&self, mut line: Vec<u8>, out: &mut impl Write) -> io::Result<()> {
        self.screen.cut(&mut line);
        line.push(b'\n');
        out.write_all(&line)
    }

    fn status(&self, event: &Event<'_>) -> Vec<u8> {
        match event.raw.filter(|_| self.style.raw) {
            Some(raw) => raw.to_string().into_bytes(),
            None => shown(event.info),
        }
    }

    /// Real and effective id with their names. Those of groups are numbers: so are they in the journal.
    fn ids(&mut self, event: &Event<'_>) -> Vec<u8> {
        let said = shown(event.info);
        let ids = std::str::from_utf8(&said).ok().and_then(|said| {
            let (real, effective) = said.split_once(':')?;
            Some((real.parse().ok()?, effective.parse().ok()?))
        });
        match ids.filter(|_| event.kind == EventKind::Uid) {
            Some((real, effective)) => [self.user(real), self.user(effective)].join(&b':'),
            None => said,
        }
    }

    fn user(&mut self, uid: u32) -> Vec<u8> {
        let name = || match user_name(uid) {
            Some(name) => {
                let mut shown = Vec::new();
                write_name(&name, &mut shown);
                shown
            }
            None => uid.to_string().into_bytes(),
        };
        self.users.entry(uid).or_insert_with(name).clone()
    }
}

/// A value as it stands in the journal.
fn shown(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Word(word) => escape::write_word(word, &mut out),
        Value::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        Value::Refused => out.push(b'?'),
        _ => out.push(b'-'),
    }
    out
}

/// `old -> new`.
fn renamed(event: &Event<'_>) -> Vec<u8> {
    let info = word(event.info).unwrap_or_default();
    let mut out = Vec::new();
    match memchr::memmem::find(info, ARROW.as_bytes()) {
        Some(at) => {
            write_name(&info[..at], &mut out);
            out.extend_from_slice(b" -> ");
            write_name(&info[at + ARROW.len()..], &mut out);
        }
        None => write_name(info, &mut out),
    }
    out
}

/// `2026-11-20 17:02:10.123`, local.
pub fn write_time(time: Moment, out: &mut Vec<u8>) {
    const SHOWN: usize = 23;
    let from = out.len();
    time.write(3, out);
    out.truncate(from + SHOWN);
    if let Some(between) = out.get_mut(from + 10) {
        *between = b' ';
    }
}

fn pad(cell: &[u8], width: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(cell);
    let missing = width.saturating_sub(crate::cli::table::shown_width(cell));
    out.resize(out.len() + missing, b' ');
}

/// Microseconds as people read them: `12.345` are seconds, then `1m30s`, `1h30m`, `1d12h`; what is beyond is cut off.
#[must_use]
pub fn human(us: i64) -> String {
    let ms = us.max(0) / 1000;
    let (s, m, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match (s, m, h) {
        (0..60, ..) => format!("{s}.{:03}", ms % 1000),
        (_, 0..60, _) => format!("{m}m{:02}s", s % 60),
        (_, _, 0..24) => format!("{h}h{:02}m", m % 60),
        _ => format!("{}d{:02}h", h / 24, h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_true_in_every_unit() {
        for (seconds, shown) in [
            (0.0, "0.000"),
            (0.0015, "0.001"),
            (59.9999, "59.999"),
            (60.0, "1m00s"),
            (60.5, "1m00s"),
            (90.0, "1m30s"),
            (3599.9, "59m59s"),
            (5400.0, "1h30m"),
            (86_399.0, "23h59m"),
            (129_600.0, "1d12h"),
            (400.0 * 86_400.0, "400d00h"),
        ] {
            #[expect(clippy::cast_possible_truncation, reason = "a test")]
            let us = (seconds * 1e6_f64).round() as i64;
            assert_eq!(human(us), shown);
        }
    }

    #[test]
    fn times_have_a_date_and_milliseconds() {
        let mut out = Vec::new();
        write_time(Moment { unix_ns: 1_795_190_530_123_456_789, offset_s: 3600 }, &mut out);
        assert_eq!(out, b"2026-11-20 17:02:10.123");
    }
}
