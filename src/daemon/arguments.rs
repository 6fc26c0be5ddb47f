//! psmond's command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

use crate::config::{Overrides, PsOverrides};
use crate::record::stream::Stream;

/// Records the process table of this machine into daily logs.
///
/// Settings come from the command line, then from the environment (PSMON_ and the key in capitals), then from
/// the config file, then from the defaults. SIGHUP and a change of the file reload it; SIGTERM and Ctrl-C end it.
#[derive(Debug, Parser)]
#[command(name = "psmond", version, max_term_width = 100)]
#[command(after_help = "Exit status: 0 done; 1 another psmond records there; 2 command line or config wrong; 3 the system refused.")]
pub struct Arguments {
    /// Read this config file instead of /etc/psmond.toml.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Record into this directory.
    #[arg(short, long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Sample the process table so often: at least 1s.
    #[arg(short, long, value_name = "DURATION")]
    pub interval: Option<String>,

    /// Record kernel threads too.
    #[arg(short = 'K', long, overrides_with = "no_kthreads")]
    pub kthreads: bool,

    /// Leave kernel threads out, whatever the config says.
    #[arg(long, overrides_with = "kthreads")]
    pub no_kthreads: bool,

    /// Record processes with a controlling terminal too.
    #[arg(short = 'I', long, overrides_with = "no_interactive")]
    pub interactive: bool,

    /// Leave processes with a controlling terminal out, whatever the config says.
    #[arg(long, overrides_with = "interactive")]
    pub no_interactive: bool,

    /// Columns of stream ps, by psmon's names or ps's: pid,ppid,user,rss,args.
    #[arg(short = 'o', long, value_name = "COLUMNS", action = ArgAction::Append)]
    pub columns: Vec<String>,

    /// Order of the rows within a sample: -cpu_pct,pid.
    #[arg(long, value_name = "KEYS", action = ArgAction::Append, allow_hyphen_values = true)]
    pub sort: Vec<String>,

    /// Write rows of what changed only (the default).
    #[arg(long, overrides_with = "no_changes")]
    pub changes: bool,

    /// Write every row each time.
    #[arg(long, overrides_with = "changes")]
    pub no_changes: bool,

    /// Format of the journal: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Keep all memory locked, so that pressure cannot stop the recorder.
    #[arg(long, overrides_with = "no_mlock")]
    pub mlock: bool,

    /// Do not lock memory, whatever the config says.
    #[arg(long, overrides_with = "mlock")]
    pub no_mlock: bool,

    /// Check the config and exit.
    #[arg(long, overrides_with = "no_check")]
    pub check: bool,

    /// Run, whatever was said before.
    #[arg(long, overrides_with = "check", hide = true)]
    pub no_check: bool,

    /// When another psmond records into the directory: end with success (ok) or say so and fail.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = IfRunning::Fail)]
    pub if_running: IfRunning,

    /// Write one stream to standard output: no files, no lock.
    #[arg(long, value_name = "STREAM", num_args = 0..=1, require_equals = true, default_missing_value = "ps", overrides_with = "no_stdout")]
    pub stdout: Option<Stream>,

    /// Record into files, whatever was said before.
    #[arg(long, overrides_with = "stdout", hide = true)]
    pub no_stdout: bool,

    /// Read processes from here instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
}

/// What to do when another psmond runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IfRunning {
    /// End with success: cron may start psmond as a watchdog.
    Ok,
    /// Say so and fail.
    Fail,
}

impl Arguments {
    /// What the command line says of the config.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            log_dir: self.log_dir.clone(),
            format: self.format.clone(),
            mlock: either(self.mlock, self.no_mlock),
            ps: PsOverrides {
                interval: self.interval.clone(),
                kthreads: either(self.kthreads, self.no_kthreads),
                interactive: either(self.interactive, self.no_interactive),
                columns: (!self.columns.is_empty()).then(|| self.columns.clone()),
                sort: (!self.sort.is_empty()).then(|| self.sort.clone()),
                changes: either(self.changes, self.no_changes),
            },
        }
    }

    /// The stream that goes to standard output, if one does.
    #[must_use]
    pub const fn stream(&self) -> Option<Stream> {
        if self.no_stdout { None } else { self.stdout }
    }
}

/// A switch and its negative; what was said last holds.
const fn either(on: bool, off: bool) -> Option<bool> {
    match (on, off) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Arguments {
        Arguments::try_parse_from(std::iter::once("psmond").chain(words.iter().copied())).unwrap()
    }

    #[test]
    fn every_switch_has_its_negative_and_the_last_word_holds() {
        let overrides = parse(&["-K", "--no-interactive", "-I", "--no-changes", "--mlock", "--no-mlock"]).overrides();
        assert_eq!((overrides.ps.kthreads, overrides.ps.interactive), (Some(true), Some(true)));
        assert_eq!((overrides.ps.changes, overrides.mlock), (Some(false), Some(false)));
        assert_eq!(parse(&["-K", "--no-kthreads"]).overrides().ps.kthreads, Some(false));
        assert_eq!(parse(&[]).overrides().ps.kthreads, None);
    }

    #[test]
    fn stdout_takes_a_stream_or_means_ps() {
        assert_eq!(parse(&["--stdout"]).stream(), Some(Stream::Ps));
        assert_eq!(parse(&["--stdout=ps"]).stream(), Some(Stream::Ps));
        assert_eq!(parse(&["--stdout", "--no-stdout"]).stream(), None);
        assert!(Arguments::try_parse_from(["psmond", "--stdout=nope"]).is_err());
    }

    #[test]
    fn psscans_letters_are_understood() {
        let arguments = parse(&["-c", "x.toml", "-l", "logs", "-i", "60", "-KI", "-o", "pid,args", "--sort", "-rss,pid"]);
        assert_eq!(arguments.config.as_deref(), Some(std::path::Path::new("x.toml")));
        assert_eq!(arguments.overrides().ps.sort, Some(vec!["-rss,pid".to_owned()]));
    }
}
