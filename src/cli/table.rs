//! How people see records: columns as wide as what is in them, memory scaled unless asked otherwise. And how programs read them.

use std::io::{self, Write};

use super::screen::Screen;
use crate::journal::{json, text};
use crate::record::escape::{self, Spaces};
use crate::record::moment::Moment;
use crate::record::schema::{Column, Columns, Kind};
use crate::record::value::Value;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A table, memory scaled.
    Scaled,
    /// A table, bytes as they are.
    Exact,
    /// RFC 4180.
    Csv,
    /// An object a line.
    Json,
}

impl Form {
    /// As the switches `--csv`, `--json` and `--bytes` say.
    #[must_use]
    pub const fn said(csv: bool, json: bool, bytes: bool) -> Self {
        match (csv, json, bytes) {
            (true, ..) => Self::Csv,
            (_, true, _) => Self::Json,
            (_, _, true) => Self::Exact,
            _ => Self::Scaled,
        }
    }

    /// Whether people read it.
    #[must_use]
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Scaled | Self::Exact)
    }
}

/// Bytes as people say them: `9.2M`; powers of 1024.
#[must_use]
pub fn scaled(bytes: i64) -> String {
    let mut out = Vec::new();
    write_scaled(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends [`scaled`] bytes. By whole numbers: a table has thousands, and a fraction takes long to write.
pub fn write_scaled(bytes: i64, out: &mut Vec<u8>) {
    const UNITS: [u8; 7] = *b" KMGTPE";
    if bytes < 0 {
        out.push(b'-');
    }
    let size = bytes.unsigned_abs();
    let power = size.max(1).ilog2() / 10;
    let mut number = itoa::Buffer::new();
    let mut write = |number_of: u128| out.extend_from_slice(number.format(number_of).as_bytes());
    if power == 0 {
        write(size.into());
        return;
    }
    // Half goes to the even one.
    let rounded = |tenths: u128| {
        let (whole, rest) = ((u128::from(size) * tenths) >> (10 * power), (u128::from(size) * tenths) & ((1 << (10 * power)) - 1));
        let half = 1 << (10 * power - 1);
        whole + u128::from(rest > half || (rest == half && whole % 2 == 1))
    };
    if u128::from(size) * 100 < 995 << (10 * power) {
        let tenths = rounded(10);
        write(tenths / 10);
        out.push(b'.');
        out.extend_from_slice(itoa::Buffer::new().format(tenths % 10).as_bytes());
    } else {
        write(rounded(1));
    }
    out.extend(UNITS.get(power as usize));
}

/// Prints a table with a header line. On a terminal, lines end at its edge.
///
/// # Errors
/// The output took it not.
pub fn print(columns: &Columns, rows: &[Vec<Value>], exact: bool, out: &mut impl Write) -> io::Result<()> {
    let cells: Vec<Vec<Vec<u8>>> =
        rows.iter().map(|row| columns.iter().zip(row).map(|(column, value)| cell(column, value, exact)).collect()).collect();
    let width = |at: usize, column: &Column| {
        let longest = cells.iter().map(|row| shown_width(&row[at])).max().unwrap_or(0);
        longest.max(column.name.len()).min(40.max(column.name.len()))
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(at, column)| width(at, column)).collect();
    let screen = Screen::of_stdout();
    let header: Vec<Vec<u8>> = columns.iter().map(|column| column.name.to_ascii_uppercase().into_bytes()).collect();
    for row in std::iter::once(&header).chain(&cells) {
        let mut line = line(columns, &widths, row);
        screen.cut(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

/// One line: numbers flush right, words flush left, the last as it is.
#[must_use]
pub fn line(columns: &Columns, widths: &[usize], cells: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::new();
    for (at, ((column, width), cell)) in columns.iter().zip(widths).zip(cells).enumerate() {
        if at > 0 {
            line.push(b' ');
        }
        let missing = width.saturating_sub(shown_width(cell));
        if column.kind.is_number() {
            line.resize(line.len() + missing, b' ');
            line.extend_from_slice(cell);
        } else {
            line.extend_from_slice(cell);
            if at + 1 < columns.len() {
                line.resize(line.len() + missing, b' ');
            }
        }
    }
    line
}

/// Prints one JSON object a line, with the time where there is one.
///
/// # Errors
/// The output took it not.
pub fn print_json(columns: &Columns, rows: &[Vec<Value>], time: Option<Moment>, out: &mut impl Write) -> io::Result<()> {
    let time = time.map(|time| time.to_string());
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        json::write_row(None, columns, time.as_deref().map(str::as_bytes), row, &mut line);
        out.write_all(&line)?;
    }
    Ok(())
}

/// Prints comma-separated values (RFC 4180): the names first where they are wanted, `time` before them where there is one. What does
/// not exist or was refused is empty.
///
/// # Errors
/// The output took it not.
pub fn print_csv(columns: &Columns, rows: &[Vec<Value>], time: Option<Moment>, header: bool, out: &mut impl Write) -> io::Result<()> {
    let time = time.map(|time| time.to_string());
    if header {
        let names = columns.names().replace(' ', ",");
        write!(out, "{}{names}\r\n", if time.is_some() { "time," } else { "" })?;
    }
    let (mut line, mut value) = (Vec::new(), Vec::new());
    for row in rows {
        line.clear();
        if let Some(time) = &time {
            line.extend_from_slice(time.as_bytes());
            line.push(b',');
        }
        for (at, (column, cell)) in columns.iter().zip(row).enumerate() {
            if at > 0 {
                line.push(b',');
            }
            write_csv(column, cell, &mut value, &mut line);
        }
        line.extend_from_slice(b"\r\n");
        out.write_all(&line)?;
    }
    Ok(())
}

/// Appends a value as it stands in CSV, empty where there is none; `buffer` is for work.
pub fn write_csv(column: &Column, cell: &Value, buffer: &mut Vec<u8>, line: &mut Vec<u8>) {
    buffer.clear();
    match cell {
        Value::Absent | Value::Refused => {}
        Value::Word(word) => escape::write(word, Spaces::Keep, buffer),
        cell => text::write_value(column, cell, buffer),
    }
    quote(buffer, line);
}

/// RFC 4180: in quotes what would be taken for more than one value, and a quote twice.
pub fn quote(value: &[u8], out: &mut Vec<u8>) {
    if value.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) || value.starts_with(b" ") || value.ends_with(b" ") {
        out.push(b'"');
        for byte in value {
            out.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(value);
    }
}

/// A value as people see it; exact is without a scale.
#[must_use]
pub fn cell(column: &Column, value: &Value, exact: bool) -> Vec<u8> {
    match value {
        Value::Int(bytes) if column.kind == Kind::Bytes && !exact => scaled(*bytes).into_bytes(),
        _ => {
            let mut cell = Vec::new();
            text::write_value(column, value, &mut cell);
            cell
        }
    }
}

/// So many of something, as a sentence says it.
#[must_use]
pub fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// How many letters wide.
#[must_use]
pub fn shown_width(cell: &[u8]) -> usize {
    cell.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::stream::Stream;

    #[test]
    fn bytes_are_said_with_two_or_three_digits() {
        let said = [0, 1023, 1024, 9_646_899, 10_485_760, 1 << 40, 5_000_000_000].map(scaled);
        assert_eq!(said, ["0", "1023", "1.0K", "9.2M", "10M", "1.0T", "4.7G"]);
        assert_eq!([-1, -2048, i64::MAX, i64::MIN].map(scaled), ["-1", "-2.0K", "8.0E", "-8.0E"]);
    }

    proptest::proptest! {
        #[test]
        fn bytes_are_said_as_their_fraction_is_written(bytes in 1024_i64..1 << 50, shift in 0_u32..40) {
            let bytes = (bytes >> shift).max(1024);
            let (mut value, mut unit) = (bytes as f64, ' ');
            for next in "KMGTPE".chars() {
                if value >= 1024.0 {
                    (value, unit) = (value / 1024.0, next);
                }
            }
            let written = if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") };
            proptest::prop_assert_eq!(scaled(bytes), written);
        }
    }

    #[test]
    fn values_in_quotes_and_unknown_ones_empty() {
        let columns = Columns::for_view(Stream::Ps, &["pid", "user", "rss"]).unwrap();
        let rows =
            [vec![Value::Int(1), Value::word(b"a,\"b\""), Value::Refused], vec![Value::Int(2), Value::word(b"c\n"), Value::Int(2048)]];
        let mut out = Vec::new();
        print_csv(&columns, &rows, None, true, &mut out).unwrap();
        print_csv(&columns, &rows[1..], Some(Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 0 }), false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(
            lines,
            ["pid,user,rss", "1,\"a,\"\"b\"\"\",", "2,c\\x0a,2048", "2026-11-20T16:02:10.000+00:00,2,c\\x0a,2048", ""]
        );
    }

    #[test]
    fn columns_are_aligned() {
        let columns = Columns::for_view(Stream::Ps, &["pid", "user", "rss"]).unwrap();
        let rows = [
            vec![Value::Int(1), Value::word(b"root"), Value::Int(9_646_899)],
            vec![Value::Int(12345), Value::word("jürgen".as_bytes()), Value::Refused],
        ];
        let mut out = Vec::new();
        print(&columns, &rows, false, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  PID USER    RSS\n    1 root   9.2M\n12345 jürgen    ?\n");
    }
}
