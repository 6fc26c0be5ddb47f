//! One compiled rule: its conditions, and the name it gives.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use regex::bytes::Regex;

use super::Subject;
use super::glob::Glob;
use crate::config::rules::{self, Fact, Matcher, NamePart, ProgramRule};
use crate::observer::facts::program_of;

/// The longest name of a program, bytes: captures may be as long as a command line.
pub const LONGEST_NAME: usize = 255;

/// A fact that a condition looks at; cheap ones first, as they are tried in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The name of the first task.
    Comm,
    /// The effective user's name.
    User,
    /// Path of the executable.
    Exe,
    /// Path of the control group.
    Cgroup,
    /// The unit.
    Unit,
    /// The arguments joined by one space.
    Cmd,
}

/// How many there are.
pub const FIELDS: usize = 6;

impl Field {
    /// The key of the config.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Comm => "comm",
            Self::User => "user",
            Self::Exe => "exe",
            Self::Cgroup => "cgroup",
            Self::Unit => "unit",
            Self::Cmd => "cmd",
        }
    }
}

/// The facts of a process as conditions look at them; `None` is not known.
#[derive(Debug)]
pub struct Texts<'a>([Option<Cow<'a, [u8]>>; FIELDS]);

impl<'a> Texts<'a> {
    /// Of a process. The command line is joined only where somebody looks at it.
    #[must_use]
    pub fn of(subject: &Subject<'a>, cmd: bool) -> Self {
        let exe = subject.exe.map(|exe| exe.strip_suffix(b" (deleted)").unwrap_or(exe));
        let mut joined = None;
        if let Some(line) = subject.cmd.filter(|_| cmd) {
            let mut text = Vec::new();
            for (at, arg) in line.args().enumerate() {
                if at > 0 {
                    text.push(b' ');
                }
                text.extend_from_slice(arg);
            }
            joined = Some(Cow::Owned(text));
        }
        let comm = Some(subject.comm).filter(|comm| !comm.is_empty());
        let [comm, user, exe, cgroup, unit] = [comm, subject.user, exe, subject.cgroup, subject.unit].map(|text| text.map(Cow::Borrowed));
        Self([comm, user, exe, cgroup, unit, joined])
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&[u8]> {
        self.0[field as usize].as_deref()
    }

    /// All, in the order of [`Field`].
    pub fn all(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.0.iter().map(Option::as_deref)
    }
}

/// A regular expression that is compiled when first it is asked: of ten thousand most never are.
#[derive(Debug)]
pub struct Lazy {
    pattern: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Lazy {
    fn new(pattern: &str) -> Self {
        Self { pattern: pattern.into(), compiled: OnceLock::new() }
    }

    /// As it was said.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Compiled; `None` where it is no expression, which loading the config has ruled out.
    #[must_use]
    pub fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| rules::compile(&self.pattern).ok()).as_ref()
    }
}

/// How a fact is tried.
#[derive(Debug)]
pub enum Test {
    /// The whole text.
    Exact(Box<[u8]>),
    /// A glob on the whole text, and as it was said.
    Glob(Glob, Box<str>),
    /// A regular expression found anywhere.
    Regex(Lazy),
}

impl Test {
    fn new(matcher: &Matcher) -> Self {
        match matcher {
            Matcher::Exact(text) => Self::Exact(text.as_bytes().into()),
            Matcher::Glob(text) => Self::Glob(Glob::new(text), text.as_str().into()),
            Matcher::Regex(pattern) => Self::Regex(Lazy::new(pattern)),
        }
    }

    /// As the config says it.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Exact(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Glob(_, text) => text.to_string(),
            Self::Regex(lazy) => format!("/{}/", lazy.pattern()),
        }
    }

    fn holds(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *text,
            Self::Glob(glob, _) => glob.matches(text),
            Self::Regex(lazy) => lazy.regex().is_some_and(|regex| regex.is_match(text)),
        }
    }
}

/// A condition on one fact.
#[derive(Debug)]
pub struct Condition {
    /// Which fact.
    pub field: Field,
    /// How it is tried.
    pub test: Test,
}

impl Condition {
    /// Whether it holds; what is not known does not.
    #[must_use]
    pub fn holds(&self, texts: &Texts<'_>) -> bool {
        texts.get(self.field).is_some_and(|text| self.test.holds(text))
    }
}

#[derive(Debug)]
enum Name {
    /// The same for everyone.
    Fixed(Arc<[u8]>),
    /// Filled in.
    Parts(Vec<NamePart>),
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// All must hold; the cheap ones come first.
    pub conditions: Vec<Condition>,
    /// Whether descendants that no rule claims belong too.
    pub children: bool,
    /// Whether later rules may claim the same process as well.
    pub multi: bool,
    name: Name,
}

impl Rule {
    /// Compiles a rule of the config.
    #[must_use]
    pub fn new(rule: &ProgramRule) -> Self {
        let cmd = rule.cmd.as_ref().map(|pattern| Test::Regex(Lazy::new(pattern)));
        let [comm, user, exe, cgroup, unit] =
            [&rule.comm, &rule.user, &rule.exe, &rule.cgroup, &rule.unit].map(|matcher| matcher.as_ref().map(Test::new));
        let tests =
            [(Field::Comm, comm), (Field::User, user), (Field::Exe, exe), (Field::Cgroup, cgroup), (Field::Unit, unit), (Field::Cmd, cmd)];
        let conditions = tests.into_iter().filter_map(|(field, test)| Some(Condition { field, test: test? })).collect();
        let fixed: Option<Vec<&str>> = rule
            .name
            .parts
            .iter()
            .map(|part| match part {
                NamePart::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let name = match fixed {
            Some(texts) => Name::Fixed(cut(texts.concat().into_bytes()).into()),
            None => Name::Parts(rule.name.parts.clone()),
        };
        Self { conditions, children: rule.children, multi: rule.multi, name }
    }

    /// The program of a process, where it matches. A rule whose name needs a fact that is not known or not there, or that gives no
    /// name at all, does not match.
    #[must_use]
    pub fn program(&self, texts: &Texts<'_>) -> Option<Arc<[u8]>> {
        if self.conditions.is_empty() || !self.conditions.iter().all(|condition| condition.holds(texts)) {
            return None;
        }
        self.name(texts).ok()
    }

    /// The name it gives, or which fact is missing for it.
    ///
    /// # Errors
    /// The fact that is not known; the name's own where nothing is left of it.
    pub fn name(&self, texts: &Texts<'_>) -> Result<Arc<[u8]>, &'static str> {
        let parts = match &self.name {
            Name::Fixed(name) => return Ok(Arc::clone(name)),
            Name::Parts(parts) => parts,
        };
        let mut name = Vec::new();
        for part in parts {
            match part {
                NamePart::Text(text) => name.extend_from_slice(text.as_bytes()),
                NamePart::Fact(fact) => {
                    let field = match fact {
                        Fact::Comm => Field::Comm,
                        Fact::Exe => Field::Exe,
                        Fact::User => Field::User,
                        Fact::Unit => Field::Unit,
                    };
                    let text = texts.get(field).ok_or(field.word())?;
                    name.extend_from_slice(if field == Field::Exe { program_of(text) } else { text });
                }
                NamePart::Number(number) => name.extend_from_slice(self.capture(texts, |captures| captures.get(*number))),
                NamePart::Capture(word) => name.extend_from_slice(self.capture(texts, |captures| captures.name(word))),
            }
        }
        if name.is_empty() { Err("name") } else { Ok(cut(name).into()) }
    }

    /// Whether its name or a condition looks at this fact.
    #[must_use]
    pub fn looks_at(&self, field: Field) -> bool {
        let fact = |part: &NamePart| {
            matches!((part, field), (NamePart::Fact(Fact::User), Field::User) | (NamePart::Fact(Fact::Comm), Field::Comm))
        };
        self.conditions.iter().any(|condition| condition.field == field)
            || matches!(&self.name, Name::Parts(parts) if parts.iter().any(fact))
    }

    /// What a capture found, in the rule's first expression that has it; one that took no part found nothing.
    fn capture<'t>(&self, texts: &'t Texts<'_>, pick: impl Fn(&regex::bytes::Captures<'t>) -> Option<regex::bytes::Match<'t>>) -> &'t [u8] {
        const ORDER: [Field; FIELDS] = [Field::Cmd, Field::Exe, Field::Comm, Field::User, Field::Cgroup, Field::Unit];
        for field in ORDER {
            let condition = self.conditions.iter().find(|condition| condition.field == field);
            if let Some(Condition { test: Test::Regex(lazy), .. }) = condition
                && let Some(captures) = lazy.regex().zip(texts.get(field)).and_then(|(regex, text)| regex.captures(text))
                && let Some(found) = pick(&captures)
            {
                return found.as_bytes();
            }
        }
        b""
    }
}

/// Not longer than a name may be.
fn cut(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(LONGEST_NAME);
    name
}
