//! What psmond's stream `pss` is worth, what it costs, and what it does to those it reads, beside reading everything.
//!
//! `benches/README.md` says what is measured and how to read it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "and says on the way what it is doing")]

#[path = "../shared/ending.rs"]
mod ending;
mod hold;
mod idle;
#[path = "../storm/journal.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod journal;
mod latency;
mod map;
#[path = "../recorder/meter.rs"]
#[expect(dead_code, reason = "shared with recorder, which uses all of it")]
mod meter;
mod mix;
mod once;
#[path = "../shared/parts.rs"]
mod parts;
#[path = "../storm/psmond.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod psmond;
#[path = "../storm/sys.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod sys;
#[path = "../storm/table.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod table;
mod targets;
mod truth;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::ending::{pause, say, stopped};
use crate::meter::Meter;
use crate::psmond::{Psmond, Setup, Way};
use crate::table::Table;

/// Proportional set sizes: how true they are, what they cost, and what they do to those whose they are.
#[derive(Debug, Parser)]
#[command(name = "memory")]
struct Options {
    /// Only these parts; without any, all of them
    parts: Vec<Part>,
    /// Samples of `mix`, and seconds of each of the two states of `hold`; `idle` takes two thirds as many samples
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(6..=600))]
    seconds: u64,
    /// Processes in the herd of `idle` and `once`; the targets are meant for 1000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(20..))]
    herd: u16,
    /// Measure the psmond and the psmon in this directory instead of those just built
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
    /// Processes whose memory changes in every way: how near the truth, at what part of the cost of reading everything
    Mix,
    /// An idle herd, after the first pass: at what part of that cost
    Idle,
    /// A process that maps and unmaps beside 500 MiB: how long it is held up
    Hold,
    /// `psmon pss` once, beside the kernel's own time
    Once,
}

/// What every part needs.
#[derive(Debug)]
struct Bench {
    meter: Meter,
    exe: PathBuf,
    psmon: PathBuf,
    /// For a file that is mapped; psmond has directories of its own.
    work: TempDir,
    seconds: u64,
    herd: usize,
}

fn main() -> ExitCode {
    // Never as `main() -> Result`: that prints the backtrace of the error, and this program runs by the thousand.
    run().unwrap_or_else(|error| {
        eprintln!("memory: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(life) = targets::Life::from_args(&args)? {
        return life.be().map(|()| ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|arg| arg == meter::LAUNCH) {
        return meter::launch(&args[1..]).map(|()| ExitCode::SUCCESS);
    }
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` runs benches too, and wants no six minutes of a GiB.
        println!("memory measures only when run by `cargo bench --bench memory`, or with --bench");
        return Ok(ExitCode::SUCCESS);
    }
    ending::hear_signals()?;
    let (table, whole) = measure(&options)?;
    print!("{}", table.render());
    Ok(if !whole || options.assert && table.missed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The table, and whether every part could be measured.
fn measure(options: &Options) -> Result<(Table, bool)> {
    let program = |name: &str, built: &str| options.bin.as_ref().map_or_else(|| PathBuf::from(built), |dir| dir.join(name));
    let exe = program("psmond", env!("CARGO_BIN_EXE_psmond"));
    let bench = Bench {
        meter: Meter::open()?,
        exe: exe.canonicalize().with_context(|| exe.display().to_string())?,
        psmon: program("psmon", env!("CARGO_BIN_EXE_psmon")),
        work: tempfile::Builder::new().prefix("psmon-memory-").tempdir()?,
        seconds: options.seconds,
        herd: options.herd.into(),
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    println!("Linux {}, {cpus} CPUs, {} MiB available, {} s", release.trim(), targets::available()? >> 20, bench.seconds);
    println!("CPU: {}; load before: {}", bench.meter.name(), std::fs::read_to_string("/proc/loadavg")?.trim());
    let mut table = Table::default();
    let whole = parts::each("memory", &options.parts, &mut table, |part, table| match part {
        Part::Mix => bench.mix(table),
        Part::Idle => bench.idle(table),
        Part::Hold => bench.hold(table),
        Part::Once => bench.once(table),
    })?;
    Ok((table, whole))
}

impl Bench {
    fn psmond(&self, streams: &str) -> Result<Psmond<'_>> {
        Psmond::start(Setup { exe: &self.exe, streams, way: Way::Plain, environment: None }, &self.meter)
    }
}

/// Waits until it is this long after a full second, and returns that second. A tick of psmond's is due at each.
fn after_the_second(offset: Duration) -> Result<Timestamp> {
    const SECOND: i128 = 1_000_000_000;
    let (now, offset) = (Timestamp::now().as_nanosecond(), offset.as_nanos().cast_signed());
    let due = ((now - offset).div_euclid(SECOND) + 1) * SECOND;
    pause(Duration::from_nanos(u64::try_from(due + offset - now)?))?;
    Ok(Timestamp::from_nanosecond(due)?)
}

/// The middle value; none of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// None of nothing.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
