//! Escapes: no process can forge a line or send an escape sequence to a terminal.
//!
//! Control characters, line separators and invalid UTF-8 become `\xHH`, a backslash `\\`. A space is
//! escaped where it would split a value. The inverse restores every byte.

/// How spaces are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    /// `\x20`: the value is one word of a line.
    Escape,
    /// As they stand: the value runs to the end of the line.
    Keep,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `byte` as `\xHH`.
pub fn write_hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// Appends `bytes` with everything escaped that could break a line, a value or a terminal.
pub fn write(bytes: &[u8], spaces: Spaces, out: &mut Vec<u8>) {
    // Nearly all values are plain ASCII words: copy those at once.
    let plain = |byte: &u8| matches!(byte, b'!'..=b'[' | b']'..=b'~') || (*byte == b' ' && spaces == Spaces::Keep);
    if bytes.iter().all(plain) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for symbol in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = symbol.encode_utf8(&mut buffer).as_bytes();
            match symbol {
                '\\' => out.extend_from_slice(b"\\\\"),
                ' ' if spaces == Spaces::Keep => out.push(b' '),
                ' ' | '\u{2028}' | '\u{2029}' => encoded.iter().for_each(|byte| write_hex(*byte, out)),
                _ if symbol.is_control() => encoded.iter().for_each(|byte| write_hex(*byte, out)),
                _ => out.extend_from_slice(encoded),
            }
        }
        chunk.invalid().iter().for_each(|byte| write_hex(*byte, out));
    }
}

/// Appends one word of a line. A value that *is* `-` or `?`, or begins with `'` or `#`, has its first
/// byte escaped, and an empty one is `''`, so that nothing can pass for an absent or refused value.
pub fn write_word(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes {
        [] => out.extend_from_slice(b"''"),
        [first, rest @ ..] if bytes == b"-" || bytes == b"?" || matches!(first, b'\'' | b'#') => {
            write_hex(*first, out);
            write(rest, Spaces::Escape, out);
        }
        _ => write(bytes, Spaces::Escape, out),
    }
}

/// Appends free text, which runs to the end of a line: as a word, with its spaces as they stand.
pub fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes {
        [] => out.extend_from_slice(b"''"),
        [first, rest @ ..] if bytes == b"-" || bytes == b"?" || matches!(first, b'\'' | b'#') => {
            write_hex(*first, out);
            write(rest, Spaces::Keep, out);
        }
        _ => write(bytes, Spaces::Keep, out),
    }
}

/// Restores the bytes of an escaped text; `None` where an escape is not one of ours.
#[must_use]
pub fn read(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        bytes.extend_from_slice(&rest[..at]);
        match rest[at + 1..] {
            [b'\\', ..] => {
                bytes.push(b'\\');
                rest = &rest[at + 2..];
            }
            [b'x', high, low, ..] => {
                bytes.push(hex_digit(high)? << 4 | hex_digit(low)?);
                rest = &rest[at + 4..];
            }
            _ => return None,
        }
    }
    bytes.extend_from_slice(rest);
    Some(bytes)
}

/// Restores what was written by [`write_word`] or [`write_text`].
#[must_use]
pub fn read_word(text: &[u8]) -> Option<Vec<u8>> {
    if text == b"''" { Some(Vec::new()) } else { read(text) }
}

/// The value of one hexadecimal digit.
#[must_use]
pub const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_word(bytes, &mut out);
        String::from_utf8(out).expect("escaped text is UTF-8")
    }

    #[test]
    fn nothing_passes_for_a_mark_of_ours() {
        assert_eq!(word(b"-"), "\\x2d");
        assert_eq!(word(b"?"), "\\x3f");
        assert_eq!(word(b""), "''");
        assert_eq!(word(b"'x"), "\\x27x");
        assert_eq!(word(b"#tick"), "\\x23tick");
        assert_eq!(word(b"-x"), "-x");
    }

    #[test]
    fn control_characters_and_bad_utf8_are_hexadecimal() {
        assert_eq!(word(b"a b\n\x1b[31m\\\xff"), "a\\x20b\\x0a\\x1b[31m\\\\\\xff");
        assert_eq!(word("grün\u{9b}\u{2028}".as_bytes()), "grün\\xc2\\x9b\\xe2\\x80\\xa8");
    }

    proptest! {
        // read(write(b)) = b, and the text holds no byte that could end a value, a line or a terminal's patience.
        #[test]
        fn words_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            write_word(&bytes, &mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok());
            prop_assert!(out.iter().all(|byte| *byte > b' ' && *byte != 0x7f));
            prop_assert!(!matches!(out.as_slice(), b"-" | b"?" | b""));
            prop_assert_eq!(read_word(&out), Some(bytes));
        }

        // read(write(b)) = b, and the text ends no line.
        #[test]
        fn texts_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            write_text(&bytes, &mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok());
            prop_assert!(out.iter().all(|byte| *byte >= b' ' && *byte != 0x7f));
            prop_assert!(!matches!(out.as_slice(), b"-" | b"?" | b""));
            prop_assert_eq!(read_word(&out), Some(bytes));
        }

        #[test]
        fn any_text_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }
    }
}
