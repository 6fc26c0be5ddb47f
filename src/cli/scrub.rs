//! What of command lines may be shown: the config of this machine says it, for every view.

use std::path::Path;

use super::Failure;
use crate::config::{self, Overrides, Sources};
use crate::record::scrub::{Args, Scrubber};

/// The rules of the config; where there is none that can be read and none was named, secrets are scrubbed.
///
/// # Errors
/// The config that was named is wrong.
pub fn scrubber(config: Option<&Path>) -> Result<Scrubber, Failure> {
    let sources = Sources::new(config.map(Path::to_owned), Overrides::default());
    let (args, more) = match config::load(&sources) {
        Ok(loaded) => (loaded.settings.args, loaded.settings.scrub),
        Err(error) if config.is_some() => return Err(Failure::Config(error.to_string())),
        Err(_) => (Args::Scrub, Vec::new()),
    };
    Scrubber::new(args, more.iter().map(String::as_str)).map_err(|error| Failure::Config(error.to_string()))
}
