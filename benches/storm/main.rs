//! Whether psmond loses anything in a storm of processes, and what it costs: storms of which the truth is known.
//!
//! `benches/README.md` says what is measured and how to read it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "and says on the way what it is doing")]

mod accounts;
mod burners;
#[path = "../shared/ending.rs"]
mod ending;
mod exec;
mod journal;
mod listener;
mod loss;
#[path = "../recorder/meter.rs"]
#[expect(dead_code, reason = "shared with recorder, which uses all of it")]
mod meter;
#[path = "../shared/parts.rs"]
mod parts;
mod psmond;
mod rivals;
mod speed;
mod sys;
mod table;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::ending::{pause, say, stopped};
use crate::journal::Logs;
use crate::meter::Meter;
use crate::psmond::{Psmond, Setup, Way};
use crate::table::Table;
use crate::worker::{Kind, Report, Worker};

/// Storms of processes, and what psmond makes of them.
#[derive(Debug, Parser)]
#[command(name = "storm")]
struct Options {
    /// Only these parts; without any, all of them
    parts: Vec<Part>,
    /// Seconds of each storm; of `exec` and `cpu` a tenth of the size of the targets' storms
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often the storms of `vfork` and `fork` are repeated; medians of speed and CPU, sums of what is missing
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Measure the psmond in this directory instead of the one just built
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Exit with 1 when a target is missed
    #[arg(long)]
    assert: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// vfork and exit at the machine's limit: nothing lost, CPU per event and per life
    Vfork,
    /// fork and exit, fork and exec: a row for every life, beside forkstat
    Fork,
    /// exec of /bin/true: every row, the true parent, the arguments
    Exec,
    /// The CPU of short lives
    Cpu,
    /// The CPU of lives that began before psmond
    Old,
    /// A receive buffer of 64 KiB: the losses are counted
    Loss,
}

/// What every part needs.
#[derive(Debug)]
struct Bench {
    meter: Meter,
    exe: PathBuf,
    /// Where workers and rivals write; psmond has directories of its own.
    work: TempDir,
    seconds: u64,
    rounds: u8,
}

/// What workers made together.
#[derive(Debug)]
struct Storm {
    reports: Vec<Report>,
}

impl Storm {
    fn children(&self) -> u64 {
        self.reports.iter().map(|report| report.children).sum()
    }

    fn a_second(&self) -> f64 {
        let longest = self.reports.iter().map(|report| report.length).max().unwrap_or_default();
        self.children() as f64 / longest.as_secs_f64()
    }

    fn made_by(&self, ppid: Option<u32>) -> bool {
        ppid.is_some_and(|ppid| self.reports.iter().any(|report| report.worker == ppid))
    }
}

/// A storm with psmond over it.
#[derive(Debug)]
struct Watched {
    storm: Storm,
    /// Of psmond, from just before the storm until it had worked it off.
    cpu: Duration,
    peak_mb: f64,
    urgent: Vec<String>,
    logs: Logs,
}

fn main() -> ExitCode {
    // Never as `main() -> Result`: that prints the backtrace of the error, and this program runs as a worker too.
    run().unwrap_or_else(|error| {
        eprintln!("storm: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((kind, worker)) = Kind::from_args(&args)? {
        return kind.be(worker).map(|()| ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|arg| arg == meter::LAUNCH) {
        return meter::launch(&args[1..]).map(|()| ExitCode::SUCCESS);
    }
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` runs benches too, and wants no storm.
        println!("storm measures only when run by `cargo bench --bench storm`, or with --bench");
        return Ok(ExitCode::SUCCESS);
    }
    ending::hear_signals()?;
    let (table, whole) = measure(&options)?;
    print!("{}", table.render());
    Ok(if !whole || options.assert && table.missed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The table, and whether every part could be measured.
fn measure(options: &Options) -> Result<(Table, bool)> {
    let exe = options.bin.as_ref().map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_psmond")), |dir| dir.join("psmond"));
    let bench = Bench {
        meter: Meter::open()?,
        exe: exe.canonicalize().with_context(|| exe.display().to_string())?,
        work: tempfile::Builder::new().prefix("psmon-storm-").tempdir()?,
        seconds: options.seconds,
        rounds: options.rounds,
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    println!("Linux {}, {cpus} CPUs, storms of {} s", release.trim(), bench.seconds);
    println!("CPU: {}; load before: {}", bench.meter.name(), std::fs::read_to_string("/proc/loadavg")?.trim());
    let mut table = Table::default();
    let whole = parts::each("storm", &options.parts, &mut table, |part, table| match part {
        Part::Vfork => bench.vfork(table),
        Part::Fork => bench.fork(table),
        Part::Exec => bench.exec(table),
        Part::Cpu => bench.short_lives(table),
        Part::Old => bench.old_lives(table),
        Part::Loss => bench.loss(table),
    })?;
    Ok((table, whole))
}

impl Bench {
    /// As many workers of a kind at once as there are kinds.
    fn storm(&self, kinds: &[Kind], group: Option<&Path>) -> Result<Storm> {
        let start = |(number, kind)| Worker::start(kind, number, self.work.path(), group, Stdio::null());
        let workers: Vec<Worker> = kinds.iter().enumerate().map(start).collect::<Result<_>>()?;
        let limit = kinds.iter().map(Kind::limit).max().unwrap_or_default();
        let reports = workers.into_iter().map(|worker| worker.finish(limit)).collect::<Result<_>>()?;
        Ok(Storm { reports })
    }

    /// The same with psmond over it.
    fn watched(&self, streams: &str, way: Way<'_>, kinds: &[Kind]) -> Result<Watched> {
        let mut psmond = Psmond::start(Setup { exe: &self.exe, streams, way, environment: None }, &self.meter)?;
        let group = if let Way::Group(group) = way { Some(group) } else { None };
        let storm = self.storm(kinds, group)?;
        let cpu = psmond.settle()?;
        let (peak_mb, urgent) = (psmond.peak_mb()?, psmond.urgent()?);
        Ok(Watched { storm, cpu, peak_mb, urgent, logs: psmond.stop()? })
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The middle value; none of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
