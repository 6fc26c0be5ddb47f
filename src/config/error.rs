//! What can be wrong with a config, as sentences that name the place.

use std::fmt;
use std::path::PathBuf;

/// The most problems that are printed; a file of noise need not be answered in full.
const SHOWN: usize = 20;

/// Where something wrong was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The file as a whole.
    File(PathBuf),
    /// A place in the file.
    Line {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// The offending line, without its secrets and fit for a terminal.
        text: String,
    },
    /// A variable of the environment.
    Variable(String),
    /// A switch of the command line.
    Switch(&'static str),
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) at: At,
    pub(super) message: String,
}

impl Problem {
    /// The sentence without its place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column (in characters), both from 1, where the problem lies at one place of the file.
    #[must_use]
    pub const fn position(&self) -> Option<(usize, usize)> {
        match &self.at {
            At::Line { line, column, .. } => Some((*line, *column)),
            _ => None,
        }
    }

    /// The problem on one line, with its place and without the offending line: for notes and the status.
    #[must_use]
    pub fn one_line(&self) -> String {
        let place = match &self.at {
            At::File(file) => file.display().to_string(),
            At::Line { file, line, column, .. } => format!("{}:{line}:{column}", file.display()),
            At::Variable(name) => name.clone(),
            At::Switch(switch) => (*switch).to_owned(),
        };
        format!("{place}: {}", self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())?;
        match &self.at {
            At::Line { text, .. } if !text.is_empty() => write!(f, "\n    {text}"),
            _ => Ok(()),
        }
    }
}

/// A config that is wrong: every problem found, at least one, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) const fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// All of them.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The first problem on one line, and how many more there are: for notes and the service's status.
    #[must_use]
    pub fn brief(&self) -> String {
        let first = self.problems.first().map(Problem::one_line).unwrap_or_default();
        match self.problems.len() {
            0 | 1 => first,
            n => format!("{first} (and {} more)", n - 1),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().take(SHOWN).enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "\n" })?;
        }
        match self.problems.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => write!(f, "\nand {more} more"),
            _ => Ok(()),
        }
    }
}
