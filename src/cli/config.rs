//! `psmon config`: what the config is, and whether it is right.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Answer, Failure};
use crate::config::{self, Overrides, Sources};

/// Shows or checks the config. Without a switch: as it is in force here.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").multiple(false))]
pub struct Arguments {
    /// Every setting and where its value came from.
    #[arg(long, group = "what")]
    pub effective: bool,

    /// The default config with its comments.
    #[arg(long, group = "what")]
    pub default: bool,

    /// Whether the config is right; all mistakes at once.
    #[arg(long, group = "what")]
    pub check: bool,

    /// Read this config file instead of /etc/psmond.toml.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// The config is wrong.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    if arguments.default {
        out.write_all(config::DEFAULT.as_bytes())?;
        return Ok(Answer::Yes);
    }
    let sources = Sources::new(arguments.config.clone(), Overrides::default());
    let loaded = config::load(&sources).map_err(|error| Failure::Config(error.to_string()))?;
    for warning in &loaded.warnings {
        super::complain(&format!("warning: {warning}"));
    }
    if arguments.check {
        writeln!(out, "{}", loaded.verdict())?;
    } else {
        out.write_all(loaded.effective().as_bytes())?;
    }
    Ok(Answer::Yes)
}
