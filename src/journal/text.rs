//! The text format: one record a line, columns padded for the eye and split by runs of spaces.

use super::line::{Header, Line, Names, Tick};
use crate::record::cmd::Cmd;
use crate::record::escape;
use crate::record::ledger::NoteKind;
use crate::record::moment::Moment;
use crate::record::schema::{Column, Columns, Kind};
use crate::record::value::Value;

/// Appends a header without its number: `seg` is what two headers may differ in.
pub fn write_header(header: &Header, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("#psmon {} {} seg={}", header.version, header.stream, header.seg).as_bytes());
    for (key, value) in &header.fields {
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        escape::write_word(value.as_bytes(), out);
    }
    out.extend_from_slice(b"\n#cols ");
    out.extend_from_slice(header.columns.join(" ").as_bytes());
    out.extend_from_slice(b"\n#help ");
    out.extend_from_slice(header.help.as_bytes());
    out.push(b'\n');
}

/// Appends one row. `time` is the text of the first column.
pub fn write_row(columns: &Columns, time: &[u8], values: &[Value], out: &mut Vec<u8>) {
    out.extend_from_slice(time);
    out.push(b' ');
    write_cells(columns.iter().skip(1).zip(values), out);
}

/// Appends the cells of a row, or of the rest of one, and ends the line.
pub fn write_cells<'a>(cells: impl Iterator<Item = (&'static Column, &'a Value)>, out: &mut Vec<u8>) {
    let mut cells = cells.peekable();
    let mut ends_free = false;
    while let Some((column, value)) = cells.next() {
        let next = cells.peek().map(|(next, _)| next.kind);
        // Exactly one space stands before free text, so the word before it is not padded.
        if !column.kind.is_number() && next.is_some_and(Kind::is_free) {
            write_value(column, value, out);
        } else {
            write_padded(column, value, out);
        }
        if next.is_some() {
            out.push(b' ');
        }
        ends_free = column.kind.is_free();
    }
    // Padding is for what follows; at the end of a line it is nothing but bytes.
    while !ends_free && out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b'\n');
}

/// Appends a value at the width of its column: numbers flush right, words flush left.
pub fn write_padded(column: &Column, value: &Value, out: &mut Vec<u8>) {
    let from = out.len();
    write_value(column, value, out);
    if column.kind.is_free() {
        return;
    }
    let missing = column.width.saturating_sub(out.len() - from);
    let filled = out.len() + missing;
    out.resize(filled, b' ');
    if column.kind.is_number() {
        out[from..].rotate_right(missing);
    }
}

/// Appends a value as it stands in a line.
pub fn write_value(column: &Column, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Absent => out.push(b'-'),
        Value::Refused => out.push(b'?'),
        Value::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        Value::Fixed(number) => write_fixed(*number, column.kind.digits().unwrap_or(0), out),
        Value::Word(word) if column.kind == Kind::Text => escape::write_text(word, out),
        Value::Word(word) => escape::write_word(word, out),
        Value::Cmd(cmd) => cmd.write(out),
    }
}

/// Appends a decimal of so many digits.
pub fn write_fixed(number: i64, digits: u8, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    let scale = 10_u64.pow(u32::from(digits.min(18)));
    let number = number.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(number / scale).as_bytes());
    if digits > 0 {
        out.push(b'.');
        let from = out.len();
        out.resize(from + usize::from(digits), b'0');
        let mut rest = number % scale;
        for place in out[from..].iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
    }
}

/// Reads a decimal of exactly so many digits.
#[must_use]
pub fn parse_fixed(text: &str, digits: u8) -> Option<i64> {
    if digits == 0 {
        return text.parse().ok();
    }
    let (whole, fraction) = text.split_once('.')?;
    if fraction.len() != usize::from(digits) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let joined: String = [whole, fraction].concat();
    joined.parse().ok()
}

/// Appends `#gone`.
pub fn write_gone(time: &[u8], id: &str, why: &str, out: &mut Vec<u8>) {
    for part in [b"#gone ".as_slice(), time, b" ", id.as_bytes(), b" ", why.as_bytes(), b"\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends `#note`.
pub fn write_note(time: Moment, kind: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"#note ");
    time.write(3, out);
    out.push(b' ');
    out.extend_from_slice(kind.as_bytes());
    if !text.is_empty() {
        out.push(b' ');
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'\n');
}

/// Appends a `#tick` up to its crc, whose domain ends here.
pub fn write_tick(time: &[u8], fields: &[(&str, String)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"#tick ");
    out.extend_from_slice(time);
    for (key, value) in fields {
        for part in [b" ", key.as_bytes(), b"=", value.as_bytes()] {
            out.extend_from_slice(part);
        }
    }
}

/// Ends a `#tick` begun by [`write_tick`].
pub fn end_tick(crc: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(" crc={crc:08x}\n").as_bytes());
}

/// Reads one line without its newline; `None` where it is damaged or none of ours.
#[must_use]
pub fn parse(line: &[u8], names: &Names) -> Option<Line> {
    let Some(marked) = line.strip_prefix(b"#") else { return parse_row(line, names) };
    let text = std::str::from_utf8(marked).ok()?;
    let (mark, rest) = text.split_once(' ')?;
    match mark {
        "psmon" => parse_header(rest).map(Line::Header),
        "cols" => Some(Line::Columns(rest.split_ascii_whitespace().map(str::to_owned).collect())),
        "help" => Some(Line::Help(rest.to_owned())),
        "gone" => {
            let (time, rest) = split_time(rest)?;
            let (id, why) = rest.split_once(' ')?;
            Some(Line::Gone { time, id: id.to_owned(), why: why.to_owned() })
        }
        "tick" => {
            let (time, rest) = split_time(rest)?;
            let (rest, crc) = rest.rsplit_once("crc=")?;
            Some(Line::Tick(Tick { time, fields: fields(rest)?, crc: parse_crc(crc)? }))
        }
        "note" => {
            let (time, rest) = split_time(rest)?;
            let (kind, text) = split_kind(rest);
            Some(Line::Note { time, kind: kind.to_owned(), text: text.to_owned() })
        }
        _ => None,
    }
}

/// Eight hexadecimal digits.
pub(super) fn parse_crc(text: &str) -> Option<u32> {
    if text.len() == 8 { u32::from_str_radix(text, 16).ok() } else { None }
}

/// A kind is one word or two.
fn split_kind(rest: &str) -> (&str, &str) {
    let kind = NoteKind::ALL
        .iter()
        .map(|kind| kind.words())
        .find(|words| rest.strip_prefix(words).is_some_and(|after| after.is_empty() || after.starts_with(' ')));
    match kind {
        Some(words) => (words, rest[words.len()..].trim_start_matches(' ')),
        None => rest.split_once(' ').unwrap_or((rest, "")),
    }
}

fn split_time(rest: &str) -> Option<(Moment, &str)> {
    let (time, rest) = rest.split_once(' ')?;
    Some((Moment::parse(time.as_bytes())?, rest))
}

fn fields(text: &str) -> Option<Vec<(String, String)>> {
    text.split_ascii_whitespace().map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

fn parse_header(rest: &str) -> Option<Header> {
    let mut words = rest.split_ascii_whitespace();
    let version = words.next()?.parse().ok()?;
    let stream = words.next()?.to_owned();
    let mut seg = None;
    let mut fields = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=')?;
        if key == "seg" {
            seg = value.parse().ok();
        } else {
            fields.push((key.to_owned(), String::from_utf8(escape::read_word(value.as_bytes())?).ok()?));
        }
    }
    Some(Header { version, stream, seg: seg?, fields, columns: Vec::new(), help: String::new() })
}

fn parse_row(line: &[u8], names: &Names) -> Option<Line> {
    let mut rest = line;
    let mut values = Vec::with_capacity(names.0.len());
    let mut time = None;
    for (at, name) in names.0.iter().enumerate() {
        let last = at + 1 == names.0.len();
        let text = if last && name.kind().is_free() {
            // Free text begins after exactly one space, which the word before has taken.
            std::mem::take(&mut rest)
        } else {
            let begin = rest.iter().position(|byte| *byte != b' ')?;
            let word = &rest[begin..];
            let end = memchr::memchr(b' ', word).unwrap_or(word.len());
            rest = word.get(end + 1..).unwrap_or_default();
            &word[..end]
        };
        if at == 0 {
            time = Some(Moment::parse(text)?);
        } else {
            values.push(parse_value(name.kind(), text)?);
        }
    }
    // A padded last word leaves spaces; anything else is not of this line.
    rest.iter().all(|byte| *byte == b' ').then_some(Line::Row { time: time?, values })
}

fn parse_value(kind: Kind, text: &[u8]) -> Option<Value> {
    match text {
        b"" => return None,
        b"-" => return Some(Value::Absent),
        b"?" => return Some(Value::Refused),
        _ => {}
    }
    let plain = || std::str::from_utf8(text).ok();
    match kind {
        Kind::Count | Kind::Bytes | Kind::Ticks => plain()?.parse().ok().map(Value::Int),
        Kind::Seconds(digits) | Kind::Percent(digits) | Kind::UtilSeconds(digits) | Kind::Credits(digits) => {
            parse_fixed(plain()?, digits).map(Value::Fixed)
        }
        Kind::Word | Kind::Text | Kind::Time(_) => Some(Value::Word(escape::read_word(text)?.into())),
        Kind::Cmd => Cmd::parse(text).map(|cmd| Value::Cmd(cmd.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals() {
        let text = |number, digits| {
            let mut out = Vec::new();
            write_fixed(number, digits, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            (text(99_120, 3), text(-5, 1), text(7, 0), text(0, 2)),
            ("99.120".into(), "-0.5".into(), "7".into(), "0.00".into())
        );
        assert_eq!(parse_fixed("99.12", 3), None, "a decimal has its digits");
        assert_eq!(parse_fixed("99.1x0", 3), None);
    }

    proptest! {
        #[test]
        fn decimals_come_back(number in any::<i64>(), digits in 0_u8..9) {
            let mut out = Vec::new();
            write_fixed(number, digits, &mut out);
            prop_assert_eq!(parse_fixed(std::str::from_utf8(&out).unwrap(), digits), Some(number));
        }

        #[test]
        fn any_line_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let names = Names::parse(Some(crate::record::stream::Stream::Ps), "time pid start cmd");
            let _ = parse(&bytes, &names);
            let _ = parse(&[b"#tick ".as_slice(), &bytes].concat(), &names);
            let _ = parse(&[b"#psmon 1 ps ".as_slice(), &bytes].concat(), &names);
        }
    }
}
