//! The terminal that is written to, if it is one: lines end at its edge, and a header stands on each of its pages.

use std::io::{self, Write};
use std::os::fd::AsFd;

use crate::record::moment::Moment;

/// Where lines go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// Columns and lines; `None` where it is no terminal.
    size: Option<(usize, usize)>,
    /// Lines since the header.
    lines: usize,
    headed: bool,
}

impl Screen {
    /// Standard output as it is now.
    #[must_use]
    pub fn of_stdout() -> Self {
        Self { size: size(io::stdout()), ..Self::default() }
    }

    /// Columns and lines of the terminal; `None` where it is none.
    #[must_use]
    pub const fn size(&self) -> Option<(usize, usize)> {
        self.size
    }

    /// Begins one of many tables: on a terminal at its top, else after a blank line. The moment heads it.
    ///
    /// # Errors
    /// The output took it not.
    pub fn begin(&self, now: Moment, first: bool, out: &mut impl Write) -> io::Result<()> {
        if self.size.is_some() {
            // Home, and clear what is below.
            out.write_all(b"\x1b[H\x1b[J")?;
        } else if !first {
            writeln!(out)?;
        }
        writeln!(out, "{now}")
    }

    /// One line is to be written: whether the header stands before it. Once, and again on each page of a terminal.
    pub const fn needs_header(&mut self) -> bool {
        let page_is_full = match self.size {
            // The header itself, and the line where the cursor stands.
            Some((_, height)) => self.lines + 2 >= height,
            None => false,
        };
        if self.headed && !page_is_full {
            self.lines += 1;
            return false;
        }
        self.headed = true;
        self.lines = 1;
        true
    }

    /// Cuts a line at the edge.
    pub fn cut(&self, line: &mut Vec<u8>) {
        let Some((width, _)) = self.size else { return };
        let ends = line.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80).map(|(at, _)| at).nth(width);
        if let Some(end) = ends {
            line.truncate(end);
        }
        while line.last() == Some(&b' ') {
            line.pop();
        }
    }
}

fn size(out: impl AsFd) -> Option<(usize, usize)> {
    // What is no terminal has no size.
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    (size.ws_col > 0).then(|| (size.ws_col.into(), if size.ws_row > 2 { size.ws_row.into() } else { usize::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_header_and_a_terminal_one_on_each_page() {
        let mut file = Screen::default();
        assert_eq!((0..100).filter(|_| file.needs_header()).count(), 1);
        let mut terminal = Screen { size: Some((80, 10)), ..Screen::default() };
        let headers: Vec<usize> = (0..20).filter(|_| terminal.needs_header()).collect();
        assert_eq!(headers, [0, 8, 16], "eight lines, the header and the cursor");
    }

    #[test]
    fn lines_end_at_the_edge_and_within_no_letter() {
        let screen = Screen { size: Some((4, 10)), ..Screen::default() };
        for (line, cut) in [("äöüßx", "äöüß"), ("ab  cd", "ab"), ("abc", "abc")] {
            let mut line = line.as_bytes().to_vec();
            screen.cut(&mut line);
            assert_eq!(String::from_utf8(line).unwrap(), cut);
        }
    }
}
