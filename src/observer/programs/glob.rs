//! Globs: `*` is any text, `?` any byte, `[a-z]` and `[!a-z]` one of some, `\` takes away the meaning of what follows.
//!
//! They match bytes, and the whole text; `/` is a byte as others are: `*/nginx` is nginx wherever it lies.

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    Any,
    Many,
    /// One of these, or of all but these.
    OneOf {
        ranges: Vec<(u8, u8)>,
        not: bool,
    },
}

impl Piece {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(wanted) => *wanted == byte,
            Self::Any => true,
            Self::Many => false,
            Self::OneOf { ranges, not } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *not,
        }
    }
}

impl Glob {
    /// Compiles any text; a bracket without its other half stands for itself.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'*' if pieces.last() == Some(&Piece::Many) => {}
                b'*' => pieces.push(Piece::Many),
                b'?' => pieces.push(Piece::Any),
                b'\\' => match after.split_first() {
                    Some((&next, after)) => {
                        pieces.push(Piece::Byte(next));
                        rest = after;
                    }
                    None => pieces.push(Piece::Byte(b'\\')),
                },
                b'[' => match class(after) {
                    Some((piece, after)) => {
                        pieces.push(piece);
                        rest = after;
                    }
                    None => pieces.push(Piece::Byte(b'[')),
                },
                byte => pieces.push(Piece::Byte(byte)),
            }
        }
        Self(pieces)
    }

    /// Whether the whole text is meant. Only the last `*` is ever tried again: the time is the product of both lengths at most.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut piece, mut at) = (0, 0);
        let mut again: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(piece), text.get(at)) {
                (Some(Piece::Many), _) => {
                    piece += 1;
                    again = Some((piece, at));
                }
                (Some(wanted), Some(byte)) if wanted.takes(*byte) => {
                    piece += 1;
                    at += 1;
                }
                (None, None) => return true,
                _ => {
                    let Some((after, from)) = again.filter(|(_, from)| *from < text.len()) else { return false };
                    (piece, at) = (after, from + 1);
                    again = Some((after, from + 1));
                }
            }
        }
    }

    /// The runs of bytes that stand in every text it means.
    #[must_use]
    pub fn literals(&self) -> Vec<Vec<u8>> {
        let mut runs = vec![Vec::new()];
        for piece in &self.0 {
            match (piece, runs.last_mut()) {
                (Piece::Byte(byte), Some(run)) => run.push(*byte),
                _ => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    }
}

/// What stands in brackets, behind the first one; a `]` in the first place is one of those meant.
fn class(text: &[u8]) -> Option<(Piece, &[u8])> {
    let (not, text) = match text.split_first() {
        Some((b'!' | b'^', after)) => (true, after),
        _ => (false, text),
    };
    let end = 1 + text.get(1..)?.iter().position(|byte| *byte == b']')?;
    let (inner, after) = (text.get(..end)?, text.get(end + 1..)?);
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(&low) = inner.get(at) {
        match (inner.get(at + 1), inner.get(at + 2)) {
            (Some(b'-'), Some(&high)) => {
                ranges.push((low, high));
                at += 3;
            }
            _ => {
                ranges.push((low, low));
                at += 1;
            }
        }
    }
    Some((Piece::OneOf { ranges, not }, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs_mean_the_whole_text() {
        let means = |glob: &str, text: &str| Glob::new(glob).matches(text.as_bytes());
        assert!(means("*/nginx", "/usr/sbin/nginx") && !means("*/nginx", "/usr/sbin/nginx-debug") && !means("*/nginx", "nginx"));
        assert!(means("/usr/*/py*3", "/usr/local/bin/python3") && means("*", "") && means("", "") && !means("", "x"));
        assert!(means("user-[0-9]?.slice", "user-10.slice") && !means("user-[!0-9]*", "user-1"));
        assert!(means("a[]x]b", "a]b") && means("a[", "a[") && means(r"\*", "*") && !means(r"\*", "x") && means("a\\", "a\\"));
        assert!(means("*.service", "a.service.service") && means("a*b*c", "a-b-b-c") && !means("a*b*c", "a-b-b"));
    }

    #[test]
    fn many_stars_take_no_time() {
        let glob = Glob::new(&"*a".repeat(200));
        let began = std::time::Instant::now();
        assert!(!glob.matches(&[b'a'; 199]) && !glob.matches("b".repeat(30_000).as_bytes()));
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    }

    proptest! {
        // A regular expression made of the same pieces says the same.
        #[test]
        fn a_regex_agrees(glob in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let pattern = format!("(?s-u)^{}$", glob.replace('*', ".*").replace('?', "."));
            let regex = regex::bytes::Regex::new(&pattern).unwrap();
            prop_assert_eq!(Glob::new(&glob).matches(text.as_bytes()), regex.is_match(text.as_bytes()));
        }

        // Whatever it means holds all its literals; no text panics.
        #[test]
        fn literals_stand_in_every_match(glob in r"[ab/*?\[\]!\\-]{0,12}", text in "[ab/]{0,14}") {
            let glob = Glob::new(&glob);
            if glob.matches(text.as_bytes()) {
                for literal in glob.literals() {
                    prop_assert!(memchr::memmem::find(text.as_bytes(), &literal).is_some());
                }
            }
        }
    }
}
