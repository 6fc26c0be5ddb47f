//! `psmon credits`: CPU in credits. One credit is one CPU busy for 60 seconds.
//!
//! * [`mod@run`]: a command and all its descendants. [`command`] starts it, [`reaper`] waits for whoever ended, [`descent`] knows who is
//!   of it and [`early`] what is told before that, [`living`] who still lives, [`bill`] adds up, [`report`] tells. [`again`] is psmon
//!   once more, where it had children before.

pub mod again;
pub mod bill;
pub mod command;
pub mod descent;
pub mod early;
pub mod living;
pub mod reaper;
pub mod report;
pub mod run;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Answer, Failure};

/// What a command and all its descendants use: CPU seconds and credits. One credit is one CPU busy for 60 seconds: 60 CPU-seconds, 6000 utilisation-seconds (%·s).
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: that of the command; 128 and its number where a signal ended it; 126 it could not be run; 127 it was not found; 125 psmon itself failed."
)]
pub struct Arguments {
    /// Run a command, and tell what it and all its descendants used once all of them have ended: like time(1), but true for those too who left it (daemons) and whom nobody waited for.
    #[arg(long, requires = "command")]
    pub run: bool,

    /// Do not wait for descendants: tell when the command itself has ended. Those who still live count as far as they are then.
    #[arg(long, requires = "run")]
    pub no_wait: bool,

    /// Write the report into this file instead of standard error.
    #[arg(long, value_name = "FILE", requires = "run")]
    pub output: Option<PathBuf>,

    /// The report as one JSON object.
    #[arg(long)]
    pub json: bool,

    /// Read this config file instead of /etc/psmond.toml: it says what a program is.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The command and its arguments, after --.
    #[arg(last = true, requires = "run")]
    pub command: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, _out: &mut impl Write) -> Result<Answer, Failure> {
    if arguments.run {
        return Ok(run::run(arguments));
    }
    Err(Failure::Config("psmon credits: --run and a command are wanted: psmon credits --run -- make".to_owned()))
}
