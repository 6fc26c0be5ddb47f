//! `psmon verify`: is the journal whole?

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::civil::Date;

use super::{Answer, Failure, said, table};
use crate::journal::verify::{Finding, Report, verify};

/// Checks headers, order, numbers and CRCs of every segment.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 0: whole (places that a start marked as torn are told, and are no damage); 1: something is damaged or missing."
)]
pub struct Arguments {
    /// The log directory; that of the config unless named.
    pub dir: Option<PathBuf>,

    /// Segments of this date and later only: 2026-11-20.
    #[arg(long, value_name = "DATE")]
    pub since: Option<Date>,

    /// The report as one JSON object.
    #[arg(long)]
    pub json: bool,

    /// Read this config file instead of /etc/psmond.toml.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let dir = said::log_dir(arguments.dir.as_deref(), arguments.config.as_deref())?;
    let report =
        verify(&dir, arguments.since).map_err(|error| Failure::System(format!("{} could not be read: {error}.", dir.display())))?;
    if arguments.json {
        writeln!(out, "{}", json(&report))?;
    } else {
        for (kind, findings) in [("torn", &report.torn), ("remark", &report.remarks), ("DAMAGE", &report.damage)] {
            for finding in findings {
                writeln!(out, "{kind} {}:{}: {}", finding.file, finding.offset, finding.what)?;
            }
        }
        let verdict = if report.segments == 0 {
            "no segments"
        } else if report.is_whole() {
            "whole"
        } else if report.is_clean() {
            "no samples"
        } else {
            "NOT whole"
        };
        let size = table::scaled(i64::try_from(report.bytes).unwrap_or(i64::MAX));
        writeln!(
            out,
            "{}: {verdict}: {} segments, {} samples, {} rows, {size}; {} torn places marked, {} damaged or missing",
            dir.display(),
            report.segments,
            report.samples,
            report.rows,
            report.torn.len(),
            report.damage.len()
        )?;
    }
    Ok(if report.is_whole() { Answer::Yes } else { Answer::No })
}

fn json(report: &Report) -> serde_json::Value {
    let list = |findings: &[Finding]| -> Vec<serde_json::Value> {
        findings.iter().map(|finding| serde_json::json!({ "file": finding.file, "offset": finding.offset, "what": finding.what })).collect()
    };
    serde_json::json!({
        "whole": report.is_whole(),
        "segments": report.segments,
        "samples": report.samples,
        "rows": report.rows,
        "bytes": report.bytes,
        "torn": list(&report.torn),
        "remarks": list(&report.remarks),
        "damage": list(&report.damage),
    })
}
