//! The cells of a table, one after the other in one piece of memory: a table of everyone has thousands.

use std::io::{self, Write};

use crate::cli::table::shown_width;

/// A table whose first column is flush left, the others flush right.
#[derive(Debug)]
pub struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    across: usize,
}

impl Cells {
    /// A table with this header.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let mut cells = Self { bytes: Vec::new(), ends: Vec::new(), across: header.len().max(1) };
        for word in header {
            cells.push(|out| out.extend_from_slice(word.as_bytes()));
        }
        cells
    }

    /// Adds the next cell of a row, or the first of the next row.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
    }

    /// Writes it. Where a line has only so many letters of `room`, long names are cut, so that the numbers stay on their line; else
    /// one longer than `widest` pushes them away.
    ///
    /// # Errors
    /// The output took it not.
    pub fn write(&self, room: Option<usize>, widest: usize, out: &mut impl Write) -> io::Result<()> {
        let shown: Vec<usize> = self.all().map(shown_width).collect();
        let mut widths = vec![0; self.across];
        for row in shown.chunks(self.across) {
            widths.iter_mut().zip(row).for_each(|(width, shown)| *width = (*width).max(*shown));
        }
        let numbers: usize = widths.iter().skip(1).map(|width| width + 1).sum();
        let room = room.map(|across| across.saturating_sub(numbers).max(10));
        if let Some(first) = widths.first_mut() {
            *first = (*first).min(room.unwrap_or(widest));
        }
        let mut line = Vec::new();
        for (at, ((cell, shown), width)) in self.all().zip(&shown).zip(widths.iter().cycle()).enumerate() {
            let missing = width.saturating_sub(*shown);
            if at % self.across == 0 {
                line.extend_from_slice(cut(cell, room));
                line.resize(line.len() + missing, b' ');
            } else {
                line.resize(line.len() + 1 + missing, b' ');
                line.extend_from_slice(cell);
            }
            if (at + 1) % self.across == 0 {
                line.push(b'\n');
                out.write_all(&line)?;
                line.clear();
            }
        }
        Ok(())
    }
}

/// A name's first so many letters.
fn cut(name: &[u8], room: Option<usize>) -> &[u8] {
    let end = room.and_then(|room| name.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80).nth(room));
    end.and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_within_no_letter() {
        let name = "grüne Äpfel".as_bytes();
        assert_eq!(cut(name, Some(3)), "grü".as_bytes());
        assert_eq!(cut(name, Some(40)), name);
        assert_eq!(cut(name, None), name);
    }

    #[test]
    fn where_there_is_room_a_name_pushes_and_else_it_is_cut() {
        let mut cells = Cells::new(&["NAME", "PID"]);
        for (name, pid) in [("a", "1"), ("abcdefghijkl", "23")] {
            cells.push(|out| out.extend_from_slice(name.as_bytes()));
            cells.push(|out| out.extend_from_slice(pid.as_bytes()));
        }
        let written = |room, widest| {
            let mut out = Vec::new();
            cells.write(room, widest, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(None, 4), "NAME PID\na      1\nabcdefghijkl  23\n");
        assert_eq!(written(Some(8), 4), "NAME       PID\na            1\nabcdefghij  23\n");
    }
}
