//! `programs_file`: program rules in psstat's two columns, as its users have them.
//!
//! ```text
//! # image   regular expression, found anywhere in the arguments joined by a space
//! web       /usr/sbin/nginx
//! backup    "rsync .* /srv"
//! ```
//!
//! A line is wrong by itself: the others count. As psstat did, a process counts for every image whose expression finds its
//! command line (`multi`), and its children for none of them by descent.

use std::path::Path;
use std::sync::Arc;

use super::file;
use super::lists::rule_pattern;
use super::rules::{NamePart, NameTemplate, Place, ProgramRule};
use super::units::clip;

/// The most wrong lines that are told one by one.
const TOLD: usize = 20;

/// What was made of a rules file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesFile {
    /// Its bytes; `None` where it could not be read.
    pub content: Option<Vec<u8>>,
    /// The rules of the good lines.
    pub rules: Vec<ProgramRule>,
    /// What is wrong with the others, a sentence each.
    pub problems: Vec<String>,
    /// Why there is no rule at all.
    pub trouble: Option<String>,
}

/// No file of rules is larger, bytes: ten thousand of them are less.
pub const LARGEST: u64 = file::LARGEST;

/// Reads and parses a file.
pub(super) fn load(path: &Path) -> RulesFile {
    let content = match file::read(path) {
        Ok(content) => content,
        Err(error) => {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
                std::io::ErrorKind::IsADirectory => "this is a directory".to_owned(),
                std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                std::io::ErrorKind::FileTooLarge => "it is larger than 1 MiB".to_owned(),
                _ => error.to_string(),
            };
            return RulesFile {
                trouble: Some(format!("{}: the program rules cannot be read: {why}", path.display())),
                ..RulesFile::default()
            };
        }
    };
    let (rules, wrong) = parse(&content, path);
    let mut problems: Vec<String> = wrong
        .iter()
        .take(TOLD)
        .map(|(line, why)| format!("{}:{line}: {why}. The line is left out, the others count.", path.display()))
        .collect();
    if wrong.len() > TOLD {
        problems.push(format!("{}: {} more lines are wrong and left out.", path.display(), wrong.len() - TOLD));
    }
    let trouble = rules.is_empty().then(|| format!("{}: not one line of it is a program rule", path.display()));
    RulesFile { content: Some(content), rules, problems, trouble }
}

/// The rules of the good lines in their order, and what is wrong with the others, with the number of the line.
#[must_use]
pub fn parse(content: &[u8], path: &Path) -> (Vec<ProgramRule>, Vec<(usize, String)>) {
    let path: Arc<Path> = path.into();
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let (mut rules, mut wrong) = (Vec::new(), Vec::new());
    for (line, number) in content.split(|byte| *byte == b'\n').zip(1..) {
        if line.first() == Some(&b'#') || line.trim_ascii().is_empty() {
            continue;
        }
        match std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned()).and_then(columns) {
            Ok((image, pattern)) => rules.push(rule(image, pattern, Place { file: Arc::clone(&path), line: number })),
            Err(why) => wrong.push((number, why)),
        }
    }
    (rules, wrong)
}

/// The two columns of a line.
fn columns(line: &str) -> Result<(String, String), String> {
    const WANTED: &str = "two columns are needed, a name and a regular expression";
    let (image, rest) = line.trim().split_once(|c: char| c.is_ascii_whitespace()).ok_or(WANTED)?;
    let rest = rest.trim();
    let pattern = match rest.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None if rest.contains(|c: char| c.is_ascii_whitespace()) => {
            return Err(format!("{WANTED}; one that holds white space stands in \"quotes\""));
        }
        None => rest.to_owned(),
    };
    if pattern.is_empty() {
        return Err(WANTED.to_owned());
    }
    if image.chars().any(char::is_control) {
        return Err(format!("'{}' is no name: it holds a control character", clip(image).escape_debug()));
    }
    Ok((image.to_owned(), rule_pattern(&pattern)?))
}

/// What stands before the closing quote; `\"` is a quote, any other backslash the expression's own.
fn unquoted(text: &str) -> Result<String, String> {
    let mut pattern = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' if chars.as_str().is_empty() => return Ok(pattern),
            '"' => return Err(format!("'{}' stands after the closing quote", clip(chars.as_str().trim()))),
            '\\' => match chars.next() {
                Some('"') => pattern.push('"'),
                Some(other) => pattern.extend(['\\', other]),
                None => break,
            },
            other => pattern.push(other),
        }
    }
    Err("a quote without its other half".to_owned())
}

fn rule(image: String, pattern: String, place: Place) -> ProgramRule {
    ProgramRule {
        name: NameTemplate { parts: vec![NamePart::Text(image)] },
        exe: None,
        comm: None,
        cmd: Some(pattern),
        user: None,
        cgroup: None,
        unit: None,
        expect: None,
        children: false,
        multi: true,
        place: Some(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row = (String, String, usize);

    fn parsed(text: &str) -> (Vec<Row>, Vec<(usize, String)>) {
        let (rules, wrong) = parse(text.as_bytes(), Path::new("/etc/psstat.conf"));
        let rules = rules.into_iter().map(|rule| {
            assert!(rule.multi && !rule.children);
            (rule.name.to_string(), rule.cmd.unwrap(), rule.place.unwrap().line)
        });
        (rules.collect(), wrong)
    }

    #[test]
    fn psstats_own_file_is_read_as_it_is() {
        let (rules, wrong) = parsed("# images\n\nweb   nginx: (master|worker)\\s\r\n \t\njava\t-jar\\s+app\\.jar\ntwo nginx\n");
        assert_eq!(
            wrong,
            [(
                3,
                "two columns are needed, a name and a regular expression; one that holds white space stands in \"quotes\"".to_owned()
            )]
        );
        assert_eq!(rules, [("java".into(), r"-jar\s+app\.jar".into(), 5), ("two".into(), "nginx".into(), 6)]);
    }

    #[test]
    fn white_space_stands_in_quotes() {
        let (rules, wrong) = parsed("a \"rsync .* /srv\"\nb  \"say \\\"hi\\\" \\d+\"  \n");
        assert_eq!(wrong, []);
        assert_eq!(rules, [("a".into(), "rsync .* /srv".into(), 1), ("b".into(), r#"say "hi" \d+"#.into(), 2)]);
    }

    #[test]
    fn each_wrong_line_is_told_and_the_good_ones_count() {
        let (rules, wrong) = parsed("alone\ngood x\nbad (\nopen \"x y\nafter \"x\" y\nempty \"\"\nlarge (\\w{100}){100}\n #indented x\n");
        assert_eq!(rules, [("good".into(), "x".into(), 2), ("#indented".into(), "x".into(), 8)]);
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7]);
        assert!(wrong[1].1.contains("'(' is no regular expression"), "{wrong:?}");
        assert!(wrong[5].1.contains("too large"), "{wrong:?}");
    }

    #[test]
    fn what_cannot_be_read_or_holds_no_rule_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let missing = load(&dir.path().join("none"));
        assert!(missing.content.is_none() && missing.trouble.unwrap().contains("there is no such file"));
        assert!(load(dir.path()).trouble.unwrap().contains("directory"));
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "# nothing\n").unwrap();
        let empty = load(&empty);
        assert!(empty.content.is_some() && empty.trouble.unwrap().contains("not one line"));
    }

    proptest! {
        // Every line is a rule, a problem, or nothing; no bytes panic.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b' '), Just(b'"'), Just(b'a')], 0..200)) {
            let (rules, wrong) = parse(&bytes, Path::new("x"));
            let lines = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(rules.len() + wrong.len() <= lines);
            for rule in rules {
                prop_assert!(regex::bytes::Regex::new(rule.cmd.as_deref().unwrap()).is_ok());
            }
        }

        // What is written in quotes comes back.
        #[test]
        fn quoting_is_undone(words in proptest::collection::vec("[a-z]{1,5}", 1..5)) {
            let pattern = words.join(" ");
            let text = format!("image \"{pattern}\"");
            let (rules, wrong) = parse(text.as_bytes(), Path::new("x"));
            prop_assert!(wrong.is_empty());
            prop_assert_eq!(rules[0].cmd.as_deref(), Some(pattern.as_str()));
        }
    }
}
