//! The JSON format: one object a line, keys are column names, numbers are numbers.
//!
//! What is absent is null; what was refused is null and named in `refused`. Bytes that are not UTF-8 stand as
//! `\xHH` within the string; a backslash of the text itself that could be taken for such an escape is `\x5c`.

use serde_json::{Map, Value as Json};

use super::line::{Header, Line, Name, Names, Tick};
use super::text::{parse_crc, parse_fixed, write_fixed};
use crate::record::cmd::Cmd;
use crate::record::escape::hex_digit;
use crate::record::identity::word;
use crate::record::moment::Moment;
use crate::record::schema::{Columns, Kind};
use crate::record::value::Value;

fn open(stream: &str, rec: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"stream\":\"{stream}\",\"rec\":\"{rec}\"").as_bytes());
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    write_string(name.as_bytes(), out);
    out.push(b':');
}

fn string(name: &str, text: &[u8], out: &mut Vec<u8>) {
    key(name, out);
    write_string(text, out);
}

/// Appends a JSON string of any bytes.
pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        for (at, symbol) in valid.char_indices() {
            match symbol {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' if looks_like_escape(&valid.as_bytes()[at..]) => out.extend_from_slice(b"\\\\x5c"),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\t' => out.extend_from_slice(b"\\t"),
                // Line separators and all control characters, so that no terminal obeys one.
                '\u{2028}' | '\u{2029}' => out.extend_from_slice(format!("\\u{:04x}", u32::from(symbol)).as_bytes()),
                _ if symbol.is_control() => out.extend_from_slice(format!("\\u{:04x}", u32::from(symbol)).as_bytes()),
                _ => out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\\\x{byte:02x}").as_bytes());
        }
    }
    out.push(b'"');
}

/// `\xHH` at the start. A backslash before the end of a valid stretch may be followed by an escape of ours for
/// the bytes after it, but those begin with a backslash of their own.
fn looks_like_escape(text: &[u8]) -> bool {
    matches!(text, [b'\\', b'x', high, low, ..] if hex_digit(*high).is_some() && hex_digit(*low).is_some())
}

/// The bytes of a JSON string written by [`write_string`].
#[must_use]
pub fn read_string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if looks_like_escape(rest)
            && let [_, _, high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            bytes.push(high << 4 | low);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

/// Appends a header.
pub fn write_header(header: &Header, out: &mut Vec<u8>) {
    open(&header.stream, "header", out);
    out.extend_from_slice(format!(",\"psmon\":{},\"seg\":{}", header.version, header.seg).as_bytes());
    for (name, value) in &header.fields {
        if value.parse::<u64>().is_ok_and(|number| number.to_string() == *value) {
            key(name, out);
            out.extend_from_slice(value.as_bytes());
        } else {
            string(name, value.as_bytes(), out);
        }
    }
    out.extend_from_slice(b",\"cols\":[");
    for (at, name) in header.columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(name.as_bytes(), out);
    }
    out.push(b']');
    string("help", header.help.as_bytes(), out);
    out.extend_from_slice(b"}\n");
}

/// Appends one row; `stream` and `rec` stand first in the journal, and not in a view.
pub fn write_row(stream: Option<&str>, columns: &Columns, time: Option<&[u8]>, values: &[Value], out: &mut Vec<u8>) {
    let from = out.len();
    match stream {
        Some(stream) => open(stream, "row", out),
        None => out.push(b'{'),
    }
    if let Some(time) = time {
        string("time", time, out);
    }
    let cells = columns.iter().filter(|column| column.name != "time").zip(values).map(|(column, value)| (column.name, column.kind, value));
    write_cells_of(cells, columns.position("comm").is_some(), out);
    if stream.is_none() && out.get(from + 1) == Some(&b',') {
        out.remove(from + 1);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a row of any columns, those of a later version too: their names, kinds and values; the time is one of them.
pub fn write_cells<'a>(stream: &str, cells: impl Iterator<Item = (&'a str, Kind, &'a Value)> + Clone, out: &mut Vec<u8>) {
    open(stream, "row", out);
    let has_comm = cells.clone().any(|(name, ..)| name == "comm");
    write_cells_of(cells, has_comm, out);
    out.extend_from_slice(b"}\n");
}

fn write_cells_of<'a>(cells: impl Iterator<Item = (&'a str, Kind, &'a Value)>, has_comm: bool, out: &mut Vec<u8>) {
    let mut refused = Vec::new();
    for (name, kind, value) in cells {
        if *value == Value::Refused {
            refused.push(name);
        }
        write_value(name, kind, value, out);
        // The name that stands for a command line, unless it has a column of its own.
        if let Value::Cmd(cmd) = value
            && let Cmd::Comm(comm) = &**cmd
            && !has_comm
        {
            string("comm", comm, out);
        }
    }
    if !refused.is_empty() {
        key("refused", out);
        out.push(b'[');
        for (at, name) in refused.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(name.as_bytes(), out);
        }
        out.push(b']');
    }
}

fn write_value(name: &str, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    if let Value::Word(word) = value {
        return string(name, word, out);
    }
    key(name, out);
    match value {
        Value::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        Value::Fixed(number) => write_fixed(*number, kind.digits().unwrap_or(0), out),
        Value::Cmd(cmd) => match &**cmd {
            Cmd::Comm(_) => out.extend_from_slice(b"null"),
            Cmd::Argv { left_out, .. } => {
                out.push(b'[');
                for (at, arg) in cmd.args().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_string(arg, out);
                }
                out.push(b']');
                if *left_out > 0 {
                    key("cmd_left_out", out);
                    out.extend_from_slice(left_out.to_string().as_bytes());
                }
            }
        },
        Value::Absent | Value::Refused | Value::Word(_) => out.extend_from_slice(b"null"),
    }
}

/// Appends a `gone`.
pub fn write_gone(stream: &str, time: &[u8], id: &[u8], why: &str, out: &mut Vec<u8>) {
    open(stream, "gone", out);
    string("time", time, out);
    string("id", id, out);
    string("why", why.as_bytes(), out);
    out.extend_from_slice(b"}\n");
}

/// Appends a `note`.
pub fn write_note(stream: &str, time: Moment, kind: &str, text: &str, out: &mut Vec<u8>) {
    open(stream, "note", out);
    let mut when = Vec::with_capacity(29);
    time.write(3, &mut when);
    string("time", &when, out);
    string("kind", kind.as_bytes(), out);
    string("text", text.as_bytes(), out);
    out.extend_from_slice(b"}\n");
}

/// Appends a `tick` up to its crc, whose domain ends here.
pub fn write_tick(stream: &str, time: &[u8], fields: &[(&str, String)], out: &mut Vec<u8>) {
    open(stream, "tick", out);
    string("time", time, out);
    for (name, value) in fields {
        if is_number(value) {
            key(name, out);
            out.extend_from_slice(value.as_bytes());
        } else {
            string(name, value.as_bytes(), out);
        }
    }
}

/// Ends a tick begun by [`write_tick`].
pub fn end_tick(crc: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
}

fn is_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok_and(|number| number.to_string() == text)
}

/// Reads one line without its newline; `None` where it is damaged or none of ours.
#[must_use]
pub fn parse(line: &[u8], names: &Names) -> Option<Line> {
    let Ok(Json::Object(mut object)) = serde_json::from_slice(line) else { return None };
    let stream = take_text(&mut object, "stream")?;
    match take_text(&mut object, "rec")?.as_str() {
        "header" => parse_header(stream, object).map(Line::Header),
        "row" => parse_row(&object, names),
        "gone" => Some(Line::Gone {
            time: take_time(&mut object)?,
            id: word(&read_string(&take_text(&mut object, "id")?)),
            why: take_text(&mut object, "why")?,
        }),
        "note" => Some(Line::Note {
            time: take_time(&mut object)?,
            kind: take_text(&mut object, "kind")?,
            text: String::from_utf8(read_string(&take_text(&mut object, "text")?)).ok()?,
        }),
        "tick" => {
            let time = take_time(&mut object)?;
            let crc = parse_crc(&take_text(&mut object, "crc")?)?;
            Some(Line::Tick(Tick {
                time,
                fields: object.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
                crc,
            }))
        }
        _ => None,
    }
}

fn take_text(object: &mut Map<String, Json>, name: &str) -> Option<String> {
    match object.shift_remove(name)? {
        Json::String(text) => Some(text),
        _ => None,
    }
}

fn take_time(object: &mut Map<String, Json>) -> Option<Moment> {
    Moment::parse(take_text(object, "time")?.as_bytes())
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn parse_header(stream: String, mut object: Map<String, Json>) -> Option<Header> {
    let version = object.shift_remove("psmon")?.as_u64()?;
    let seg = object.shift_remove("seg")?.as_u64()?;
    let Json::Array(columns) = object.shift_remove("cols")? else { return None };
    let help = take_text(&mut object, "help").unwrap_or_default();
    Some(Header {
        version: u32::try_from(version).ok()?,
        stream,
        seg,
        fields: object
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(&read_string(&plain(value))).into_owned()))
            .collect(),
        columns: columns.iter().map(plain).collect(),
        help,
    })
}

fn parse_row(object: &Map<String, Json>, names: &Names) -> Option<Line> {
    let refused = |name: &str| matches!(object.get("refused"), Some(Json::Array(list)) if list.iter().any(|item| item == name));
    let mut values = Vec::with_capacity(names.0.len());
    let mut time = None;
    for name in &names.0 {
        let value = object.get(&name.name)?;
        if name.name == "time" {
            time = Some(Moment::parse(value.as_str()?.as_bytes())?);
        } else {
            values.push(match value {
                Json::Null if name.kind() == Kind::Cmd && !refused(&name.name) => match object.get("comm").and_then(Json::as_str) {
                    Some(comm) => Value::Cmd(Cmd::Comm(read_string(comm).into()).into()),
                    None => Value::Absent,
                },
                Json::Null if refused(&name.name) => Value::Refused,
                Json::Null => Value::Absent,
                value => parse_value(name, value, object)?,
            });
        }
    }
    Some(Line::Row { time: time?, values })
}

fn parse_value(name: &Name, value: &Json, object: &Map<String, Json>) -> Option<Value> {
    match (name.kind(), value) {
        (Kind::Count | Kind::Bytes | Kind::Ticks, Json::Number(number)) => number.as_i64().map(Value::Int),
        (Kind::Seconds(digits) | Kind::Percent(digits) | Kind::UtilSeconds(digits) | Kind::Credits(digits), Json::Number(number)) => {
            parse_fixed(&number.to_string(), digits).map(Value::Fixed)
        }
        (Kind::Word | Kind::Text | Kind::Time(_), Json::String(text)) => Some(Value::Word(read_string(text).into())),
        // A column of a later version.
        (Kind::Word, other) => Some(Value::word(plain(other).as_bytes())),
        (Kind::Cmd, Json::Array(list)) => {
            let args = list.iter().map(|arg| arg.as_str().map(read_string)).collect::<Option<Vec<_>>>()?;
            let left_out = object.get("cmd_left_out").and_then(Json::as_u64).unwrap_or(0);
            Some(Value::Cmd(Cmd::from_args(args.iter().map(Vec::as_slice), left_out).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_json_and_readable() {
        assert_eq!(shown(b"C:\\foo"), r#""C:\\foo""#);
        assert_eq!(shown(b"\xff"), r#""\\xff""#);
        assert_eq!(shown(b"\\xff"), r#""\\x5cxff""#);
        assert_eq!(shown(b"\x1b[31m"), r#""\u001b[31m""#);
    }

    proptest! {
        // read(json(write(b))) = b for any bytes.
        #[test]
        fn strings_come_back(bytes in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 2 => Just(b'\\'), 2 => Just(b'x'), 2 => Just(b'f')], 0..40)) {
            let text = shown(&bytes);
            let parsed: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read_string(&parsed), bytes);
            prop_assert!(text.bytes().all(|byte| byte >= b' ' && byte != 0x7f));
        }

        #[test]
        fn any_line_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes, &Names::default());
        }
    }
}
