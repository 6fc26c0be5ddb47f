//! What the config of this machine says to every view: what of command lines may be shown, which program a process counts for, and
//! where the journal is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use crate::config::{self, Loaded, Overrides, Settings, Sources};
use crate::observer::programs::Programs;
use crate::record::scrub::Scrubber;

/// What the config says.
#[derive(Debug)]
pub struct Said {
    /// What of command lines may be shown.
    pub scrubber: Scrubber,
    /// Which program a process counts for.
    pub programs: Arc<Programs>,
}

/// Of the config; where there is none that can be read and none was named, secrets are scrubbed and there are no rules.
///
/// # Errors
/// The config that was named is wrong.
pub fn said(config: Option<&Path>) -> Result<Said, Failure> {
    Said::of(&load(config)?.map(|loaded| loaded.settings).unwrap_or_default())
}

impl Said {
    /// Of these settings.
    ///
    /// # Errors
    /// A pattern is no regular expression, which loading the config has ruled out.
    pub fn of(settings: &Settings) -> Result<Self, Failure> {
        let programs = Arc::new(Programs::new(&settings.programs, &settings.interpreters));
        Ok(Self { scrubber: scrubber_of(settings)?, programs })
    }
}

/// Of the config what of command lines may be shown.
///
/// # Errors
/// The config that was named is wrong.
pub fn scrubber(config: Option<&Path>) -> Result<Scrubber, Failure> {
    scrubber_of(&load(config)?.map(|loaded| loaded.settings).unwrap_or_default())
}

/// The config; `None` where there is none that can be read and none was named.
///
/// # Errors
/// The config that was named is wrong.
pub fn load(config: Option<&Path>) -> Result<Option<Loaded>, Failure> {
    let sources = Sources::new(config.map(Path::to_owned), Overrides::default());
    match config::load(&sources) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(error) if config.is_some() => Err(Failure::Config(error.to_string())),
        Err(_) => Ok(None),
    }
}

/// The journal's directory: the one that was named, else that of the config.
///
/// # Errors
/// The config is wrong.
pub fn log_dir(named: Option<&Path>, config: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = named {
        return Ok(dir.to_owned());
    }
    let loaded = config::load(&Sources::new(config.map(Path::to_owned), Overrides::default()));
    Ok(loaded.map_err(|error| Failure::Config(error.to_string()))?.settings.log_dir)
}

fn scrubber_of(settings: &Settings) -> Result<Scrubber, Failure> {
    Scrubber::new(settings.args, settings.scrub.iter().map(String::as_str)).map_err(|error| Failure::Config(error.to_string()))
}
