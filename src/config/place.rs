//! Where the journal lives when nobody was explicit.
//!
//! A switch or a variable is taken at its word. Below those stand the file, and `$LOGS_DIRECTORY`
//! (systemd.exec(5), set for `LogsDirectory=`) as the default in place of the built-in one. Where that variable
//! is unset and the directory cannot be written by an ordinary user, the user's own state directory serves
//! (XDG Base Directory Specification), and the caller is told. Root never falls back: what it cannot
//! write is a mistake to be shown.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::env::Environment;
use super::layers::Origin;

/// What the choice must know of the machine.
pub trait Machine: fmt::Debug {
    /// Whether this process is root.
    fn is_root(&self) -> bool;

    /// Whether files can be made in this directory, or the directory itself where it does not exist yet.
    fn can_write(&self, dir: &Path) -> bool;
}

/// The machine this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Machine for System {
    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn can_write(&self, dir: &Path) -> bool {
        // The nearest ancestor that exists decides: whoever can write there can make the rest.
        let parent = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
        let Some(existing) = parent.into_iter().find(|dir| dir.symlink_metadata().is_ok()) else { return false };
        let writable = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        existing.is_dir() && rustix::fs::access(existing, writable).is_ok()
    }
}

/// A directory in place of the one that was meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) dir: PathBuf,
    pub(super) origin: Origin,
    /// What to tell the operator.
    pub(super) sentence: Option<String>,
}

/// The directory that serves in place of `meant`; `None` where that one stays.
pub(super) fn choose(meant: &Path, origin: &Origin, environment: &Environment<'_>, machine: &dyn Machine) -> Option<Chosen> {
    if let Origin::CommandLine(_) | Origin::Env(_) = origin {
        return None;
    }
    // More than one `LogsDirectory=` makes a list; the first is the journal's.
    let first = environment.get("LOGS_DIRECTORY").and_then(|list| list.as_bytes().split(|byte| *byte == b':').next());
    if let Some(first) = first.filter(|first| !first.is_empty()) {
        let dir = PathBuf::from(OsStr::from_bytes(first));
        return (*origin == Origin::Default).then_some(Chosen { dir, origin: Origin::LogsDirectory, sentence: None });
    }
    if machine.is_root() || machine.can_write(meant) {
        return None;
    }
    // A relative path in an XDG variable is invalid and to be ignored, says the specification.
    let absolute = |name| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    let dir = state.join("psmon");
    let sentence = format!("log_dir: {} cannot be written by this user; the journal goes to {}", meant.display(), dir.display());
    Some(Chosen { dir, origin: Origin::Fallback, sentence: Some(sentence) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[derive(Debug)]
    struct Fake {
        root: bool,
        writable: bool,
    }

    impl Machine for Fake {
        fn is_root(&self) -> bool {
            self.root
        }

        fn can_write(&self, _: &Path) -> bool {
            self.writable
        }
    }

    fn chosen(origin: &Origin, env: &[(&str, &str)], root: bool, writable: bool) -> Option<(String, Origin)> {
        let env: Vec<(OsString, OsString)> = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let chosen = choose(Path::new("/var/log/psmon"), origin, &Environment::new(&env), &Fake { root, writable })?;
        assert_eq!(chosen.sentence.is_some(), chosen.origin == Origin::Fallback, "only a fallback must be told");
        Some((chosen.dir.to_str().unwrap().to_owned(), chosen.origin))
    }

    #[test]
    fn an_ordinary_user_falls_back_and_nobody_else() {
        let home = [("HOME", "/home/me")];
        let both = [("HOME", "/home/me"), ("XDG_STATE_HOME", "/state")];
        let relative = [("HOME", "/home/me"), ("XDG_STATE_HOME", "state")];
        let fallback = |dir: &str| Some((dir.to_owned(), Origin::Fallback));
        for origin in [Origin::Default, Origin::File(1)] {
            assert_eq!(chosen(&origin, &home, false, false), fallback("/home/me/.local/state/psmon"));
            assert_eq!(chosen(&origin, &both, false, false), fallback("/state/psmon"));
            assert_eq!(chosen(&origin, &relative, false, false), fallback("/home/me/.local/state/psmon"));
            assert_eq!(chosen(&origin, &home, false, true), None, "it can be written");
            assert_eq!(chosen(&origin, &home, true, false), None, "root never falls back");
            assert_eq!(chosen(&origin, &[], false, false), None, "nowhere to go");
        }
        assert_eq!(chosen(&Origin::CommandLine("--log-dir"), &home, false, false), None);
        assert_eq!(chosen(&Origin::Env("PSMON_LOG_DIR".to_owned()), &home, false, false), None);
    }

    #[test]
    fn the_logs_directory_of_systemd_is_the_default_and_ends_the_question() {
        let env = [("LOGS_DIRECTORY", "/srv/log/a:/srv/log/b"), ("HOME", "/home/me")];
        assert_eq!(chosen(&Origin::Default, &env, false, false), Some(("/srv/log/a".to_owned(), Origin::LogsDirectory)));
        assert_eq!(chosen(&Origin::File(1), &env, false, false), None, "the file is stronger");
        assert_eq!(chosen(&Origin::Default, &[("LOGS_DIRECTORY", "")], true, true), None, "empty is unset");
    }

    #[test]
    fn a_directory_to_come_is_as_writable_as_its_nearest_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(System.can_write(&dir.path().join("a/b/c")));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!System.can_write(&file), "a file is no directory");
        assert!(!System.can_write(&file.join("below")));
    }
}
