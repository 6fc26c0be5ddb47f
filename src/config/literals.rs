//! What must stand in a text for a regular expression to find anything: so that of ten thousand expressions only those few are
//! asked that may find something.
//!
//! Only what is plain is read, and whatever is not breaks a run or gives up: nothing is taken for required that is not.

/// The literals of an expression: one list for each alternative, each with the runs that all stand in whatever that one finds.
/// `None` where there is an alternative of which nothing is known.
#[must_use]
pub fn required(pattern: &str) -> Option<Vec<Vec<Vec<u8>>>> {
    let mut reader = Reader {
        rest: pattern.chars().collect::<Vec<_>>().into_iter().peekable(),
        alternatives: Vec::new(),
        runs: Vec::new(),
        run: Vec::new(),
    };
    reader.read()?;
    let known = reader.alternatives.iter().all(|runs| !runs.is_empty());
    known.then_some(reader.alternatives)
}

struct Reader {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    alternatives: Vec<Vec<Vec<u8>>>,
    runs: Vec<Vec<u8>>,
    /// The run being read, character by character: a repetition takes the last one back.
    run: Vec<char>,
}

impl Reader {
    fn read(&mut self) -> Option<()> {
        while let Some(c) = self.rest.next() {
            match c {
                '|' => self.end_alternative(),
                '.' | '^' | '$' => self.end_run(),
                '*' | '?' => self.take_back(),
                '{' => {
                    self.take_back();
                    while self.rest.next()? != '}' {}
                }
                '+' => self.end_run(),
                '[' => {
                    self.end_run();
                    self.skip_class()?;
                }
                '(' => {
                    self.end_run();
                    self.skip_group()?;
                }
                ')' => return None,
                '\\' => match self.rest.next()? {
                    // Of letters and digits each means something of its own; those that are longer than one letter give up.
                    'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'b' | 'B' | 'A' | 'z' => self.end_run(),
                    'n' => self.run.push('\n'),
                    't' => self.run.push('\t'),
                    c if c.is_ascii_punctuation() && c != '<' && c != '>' => self.run.push(c),
                    _ => return None,
                },
                c => self.run.push(c),
            }
        }
        self.end_alternative();
        Some(())
    }

    /// The character before may be missing, and so does not belong to the run.
    fn take_back(&mut self) {
        self.run.pop();
        self.end_run();
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            let run: String = self.run.drain(..).collect();
            self.runs.push(run.into_bytes());
        }
    }

    fn end_alternative(&mut self) {
        self.end_run();
        self.alternatives.push(std::mem::take(&mut self.runs));
    }

    /// Passes over `[…]`, with classes within it.
    fn skip_class(&mut self) -> Option<()> {
        let mut depth = 1;
        let mut first = true;
        if self.rest.peek() == Some(&'^') {
            self.rest.next();
        }
        loop {
            match self.rest.next()? {
                '\\' => drop(self.rest.next()?),
                '[' => depth += 1,
                ']' if first => {}
                ']' => depth -= 1,
                _ => {}
            }
            first = false;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes over `(…)`; flags change what everything after them means.
    fn skip_group(&mut self) -> Option<()> {
        if self.rest.peek() == Some(&'?') {
            self.rest.next();
            match self.rest.next()? {
                ':' | 'P' | '<' => {}
                _ => return None,
            }
        }
        loop {
            match self.rest.next()? {
                '\\' => drop(self.rest.next()?),
                '[' => self.skip_class()?,
                '(' => self.skip_group()?,
                ')' => return Some(()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(pattern: &str) -> Option<Vec<Vec<String>>> {
        let text = |run: Vec<u8>| String::from_utf8(run).unwrap();
        Some(required(pattern)?.into_iter().map(|runs| runs.into_iter().map(text).collect()).collect())
    }

    #[test]
    fn what_is_required() {
        let one = |runs: &[&str]| Some(vec![runs.iter().map(|run| (*run).to_owned()).collect::<Vec<_>>()]);
        assert_eq!(shown("nginx: worker"), one(&["nginx: worker"]));
        assert_eq!(shown(r"-jar\s+app\.jar$"), one(&["-jar", "app.jar"]));
        assert_eq!(shown("colou?r+s"), one(&["colo", "r", "s"]));
        assert_eq!(shown("[]a](x|y)+ab{0}c"), one(&["a", "c"]));
        assert_eq!(shown("one|two"), Some(vec![vec!["one".to_owned()], vec!["two".to_owned()]]));
        for nothing in ["", "one|", "(?i)nginx", r"\d+", r"\x41bc", "(a|b)", ".*"] {
            assert_eq!(shown(nothing), None, "{nothing}");
        }
    }

    proptest! {
        // Whatever a pattern finds anything in holds all runs of one of its alternatives.
        #[test]
        fn nothing_is_required_that_is_not(pattern in r"([ab]|[ab][*+?]|\[ab\]|\[\^a\]|\(a|b\)|\\b|\\\.|[|.^$]|a\{0,2\}|\(\?:|\)|\\w){0,8}", text in "[ab.]{0,8}") {
            let Ok(regex) = regex::bytes::Regex::new(&pattern) else { return Ok(()) };
            let Some(alternatives) = required(&pattern) else { return Ok(()) };
            if regex.is_match(text.as_bytes()) {
                let holds = |run: &Vec<u8>| memchr::memmem::find(text.as_bytes(), run).is_some();
                prop_assert!(alternatives.iter().any(|runs| runs.iter().all(holds)), "{} finds something in {}", pattern, text);
            }
        }
    }
}
