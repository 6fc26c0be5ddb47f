//! Secrets taken out of command lines before anything is stored, shown or sent.
//!
//! Rules of programs match what a process really said; this comes after.

use std::sync::Arc;

use regex::bytes::Regex;

use super::cmd::Cmd;

/// How much of a command line is recorded (`args` in the config).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Args {
    /// All of it, secrets too.
    Full,
    /// All of it but what the patterns take for a secret.
    #[default]
    Scrub,
    /// The first argument only.
    Program,
    /// Nothing.
    None,
}

/// The patterns that mark a secret, in the order of their trial. What a group named `secret` matched, or
/// else the whole match, is replaced. An argument that matches `--?(password|…)` alone takes the next one along.
pub const DEFAULT_PATTERNS: &[&str] = &[
    r"(?i)\b(?:bearer|basic)\s+(?P<secret>[a-z0-9+/=._~-]+)",
    r"(?i)(?:^|[^a-z0-9])[a-z0-9_.-]*(?:passw(?:or)?d|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|authorization)[a-z0-9_.-]*[=:]\s*(?P<secret>[^\s&;,]+)",
    r"(?i)[a-z][a-z0-9+.-]*://[^\s/:@]*:(?P<secret>[^\s@/]+)@",
];

/// Arguments whose *next* argument is a secret.
const NEXT: &str = r"(?i)^--?(?:[a-z0-9_-]*-)?(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)(?:-[a-z0-9]+)?$";

/// What stands where a secret stood.
pub const MARK: &[u8] = b"***";

/// The compiled patterns.
#[derive(Debug, Clone)]
pub struct Scrubber {
    args: Args,
    patterns: Vec<Regex>,
    next: Option<Regex>,
}

impl Scrubber {
    /// Compiles the default patterns and the config's own.
    ///
    /// # Errors
    /// The first pattern that is not a regular expression.
    pub fn new<'a>(args: Args, more: impl IntoIterator<Item = &'a str>) -> Result<Self, regex::Error> {
        if args != Args::Scrub {
            return Ok(Self { args, patterns: Vec::new(), next: None });
        }
        let patterns = DEFAULT_PATTERNS.iter().copied().chain(more).map(Regex::new).collect::<Result<_, _>>()?;
        Ok(Self { args, patterns, next: Some(Regex::new(NEXT)?) })
    }

    /// Whether both let the same be recorded.
    #[must_use]
    pub fn has_rules_of(&self, other: &Self) -> bool {
        self.args == other.args && self.patterns.iter().map(Regex::as_str).eq(other.patterns.iter().map(Regex::as_str))
    }

    /// The command line as it may be recorded; `None` where nothing may.
    #[must_use]
    pub fn apply(&self, cmd: Cmd) -> Option<Cmd> {
        match (self.args, &cmd) {
            (Args::Full, _) | (Args::Scrub | Args::Program, Cmd::Comm(_)) => Some(cmd),
            (Args::Scrub, Cmd::Argv { left_out, .. }) => Some(self.scrubbed(&cmd, *left_out).unwrap_or(cmd)),
            (Args::Program, _) => Some(cmd.program_only()),
            (Args::None, _) => None,
        }
    }

    /// The same for one that is kept as it was said too: where nothing has to go, both are one.
    #[must_use]
    pub fn apply_shared(&self, cmd: &Arc<Cmd>) -> Option<Arc<Cmd>> {
        match (self.args, &**cmd) {
            (Args::Full, _) | (Args::Scrub | Args::Program, Cmd::Comm(_)) => Some(Arc::clone(cmd)),
            (Args::Scrub, Cmd::Argv { left_out, .. }) => Some(self.scrubbed(cmd, *left_out).map_or_else(|| Arc::clone(cmd), Arc::new)),
            (Args::Program, _) => Some(Arc::new(cmd.program_only())),
            (Args::None, _) => None,
        }
    }

    /// The command line without its secrets; `None` where it has none.
    fn scrubbed(&self, cmd: &Cmd, left_out: u64) -> Option<Cmd> {
        let mut changed = false;
        let mut takes_next = false;
        let mut args = Vec::new();
        for arg in cmd.args() {
            if takes_next && !arg.is_empty() {
                args.push(MARK.to_vec());
                changed = true;
                takes_next = false;
                continue;
            }
            takes_next = self.next.as_ref().is_some_and(|next| next.is_match(arg));
            let mut arg = arg.to_vec();
            for pattern in &self.patterns {
                changed |= replace(pattern, &mut arg);
            }
            args.push(arg);
        }
        changed.then(|| Cmd::from_args(args.iter().map(Vec::as_slice), left_out))
    }
}

/// Replaces each secret that the pattern finds; says whether it found one.
fn replace(pattern: &Regex, arg: &mut Vec<u8>) -> bool {
    let secrets: Vec<_> = pattern
        .captures_iter(arg)
        .filter_map(|found| found.name("secret").or_else(|| found.get(0)).map(|secret| secret.range()))
        .filter(|range| !range.is_empty())
        .collect();
    for range in secrets.iter().rev() {
        arg.splice(range.clone(), MARK.iter().copied());
    }
    !secrets.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(args: &[&str]) -> Vec<String> {
        let scrubber = Scrubber::new(Args::Scrub, []).expect("the default patterns compile");
        let cmd = scrubber.apply(Cmd::from_args(args.iter().map(|arg| arg.as_bytes()), 0)).expect("scrubbing keeps the line");
        cmd.args().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
    }

    #[test]
    fn secrets_go_and_all_else_stays() {
        assert_eq!(scrubbed(&["mysql", "--password=hunter2", "-u", "root"]), ["mysql", "--password=***", "-u", "root"]);
        assert_eq!(scrubbed(&["x", "--token", "abc", "y"]), ["x", "--token", "***", "y"]);
        assert_eq!(scrubbed(&["curl", "https://me:s3cret@example.org/a"]), ["curl", "https://me:***@example.org/a"]);
        assert_eq!(scrubbed(&["curl", "-H", "Authorization: Bearer abc.def"]), ["curl", "-H", "Authorization: *** ***"]);
        assert_eq!(
            scrubbed(&["env", "AWS_SECRET_ACCESS_KEY=abc", "DB_PASSWORD=x"]),
            ["env", "AWS_SECRET_ACCESS_KEY=***", "DB_PASSWORD=***"]
        );
        assert_eq!(
            scrubbed(&["vim", "/home/me/passwords.txt", "--tokenizer", "x"]),
            ["vim", "/home/me/passwords.txt", "--tokenizer", "x"]
        );
    }

    #[test]
    fn own_patterns_and_modes() {
        let scrubber = Scrubber::new(Args::Scrub, [r"-p(?P<secret>\S+)"]).expect("a valid pattern");
        let cmd = Cmd::from_args([b"mysql".as_slice(), b"-phunter2"], 0);
        assert_eq!(scrubber.apply(cmd.clone()), Some(Cmd::from_args([b"mysql".as_slice(), b"-p***"], 0)));
        assert!(scrubber.has_rules_of(&scrubber.clone()) && !scrubber.has_rules_of(&Scrubber::new(Args::Scrub, []).expect("no pattern")));
        let none = Scrubber::new(Args::None, []).expect("no pattern");
        assert_eq!(none.apply(cmd.clone()), None);
        let program = Scrubber::new(Args::Program, []).expect("no pattern");
        assert_eq!(program.apply(cmd), Some(Cmd::from_args([b"mysql".as_slice()], 0)));
        assert!(Scrubber::new(Args::Scrub, ["("]).is_err());
    }
}
