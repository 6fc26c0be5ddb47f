//! The environment: `PSMON_` and a key in capitals, tables joined by `_`.
//!
//! `PSMON_LOG_DIR`, `PSMON_PS_INTERVAL`; lists are cut at commas. An empty variable counts as one that is
//! not set, as in the XDG specification. Lists of tables (`[[program]]`, `[[budget]]`) cannot be said here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::record::schema::nearest;

const PREFIX: &str = "PSMON_";

/// The variables of the environment that are not empty, each once.
#[derive(Debug)]
pub(super) struct Environment<'a>(BTreeMap<&'a OsStr, &'a OsStr>);

impl<'a> Environment<'a> {
    pub(super) fn new(variables: &'a [(OsString, OsString)]) -> Self {
        let set = variables.iter().filter(|(_, value)| !value.is_empty());
        Self(set.map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a OsStr> {
        self.0.get(OsStr::new(name)).copied()
    }

    /// The variables that begin with `prefix`: what follows it, the whole name, and the value.
    pub(super) fn beginning(&self, prefix: &str) -> Vec<(String, String, &'a OsStr)> {
        self.0
            .iter()
            .filter_map(|(name, value)| {
                let name = name.to_str()?;
                Some((name.strip_prefix(prefix)?.to_owned(), name.to_owned(), *value))
            })
            .collect()
    }

    /// A sentence for each variable that looks like ours and is not.
    pub(super) fn unknown(&self, known: &[String]) -> Vec<String> {
        let ours = self.0.keys().map(|name| name.to_string_lossy()).filter(|name| name.starts_with(PREFIX));
        ours.filter(|name| !known.iter().any(|known| known == name.as_ref()))
            .map(|name| {
                let near = nearest(&name, known.iter().map(String::as_str));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                format!("{}: no such setting, ignored{hint}", name.escape_debug())
            })
            .collect()
    }
}

/// The variable that sets a key.
pub(super) fn variable(path: &[&str]) -> String {
    let mut name = PREFIX.to_owned();
    name.push_str(&path.join("_").to_ascii_uppercase().replace('-', "_"));
    name
}
