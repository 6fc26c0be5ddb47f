//! What psmond costs, measured from outside at a real cadence, beside top and ps in the same run.
//!
//! `benches/README.md` says what is measured and how to read it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "and says on the way what it is doing")]

#[path = "../shared/ending.rs"]
mod ending;
mod herd;
mod journal;
mod meter;
mod parts;
mod psmond;
mod rivals;
mod table;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::ending::{pause, say, stopped};
use crate::meter::Meter;
use crate::table::Table;

/// What psmond costs, beside top and ps in the same run.
#[derive(Debug, Parser)]
#[command(name = "recorder")]
struct Options {
    /// Only these parts; without any, all of them
    parts: Vec<Part>,
    /// Seconds of each measurement, after the warm-up
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..))]
    seconds: u64,
    /// Processes in the herd; the targets are meant for 3000
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u16).range(20..))]
    herd: u16,
    /// How often psmond, top and ps take turns; the medians are shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Measure the psmond in this directory instead of the one just built
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Leave the other streams at their defaults instead of off
    #[arg(long)]
    all_streams: bool,
    /// Exit with 1 when a target is missed
    #[arg(long)]
    assert: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Resident memory with a tenth of the herd
    Memory,
    /// An idle herd: CPU, bytes, memory, system calls
    Idle,
    /// Wake-ups between two ticks
    Wakeups,
    /// Bytes with 5 % of the herd running
    Bytes,
    /// A herd that all ran since the last tick
    Ticking,
    /// Stream usage: a third of the herd with descriptors and sockets, idle, and all of it active
    Usage,
}

/// What every part needs.
#[derive(Debug)]
struct Bench {
    meter: Meter,
    exe: PathBuf,
    /// Where top and ps write; psmond has directories of its own.
    work: TempDir,
    herd: usize,
    length: Duration,
    warm_up: Duration,
    rounds: u8,
    all_streams: bool,
}

fn main() -> ExitCode {
    // Never as `main() -> Result`: that prints the backtrace of the error, and this program runs by the thousand.
    run().unwrap_or_else(|error| {
        eprintln!("recorder: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(kind) = herd::Kind::from_args(&args)? {
        kind.be();
        return Ok(ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|arg| arg == meter::LAUNCH) {
        return meter::launch(&args[1..]).map(|()| ExitCode::SUCCESS);
    }
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` runs benches too, and wants no four minutes of thousands of processes.
        println!("recorder measures only when run by `cargo bench --bench recorder`, or with --bench");
        return Ok(ExitCode::SUCCESS);
    }
    ending::hear_signals()?;
    let table = measure(&options)?;
    print!("{}", table.render());
    Ok(if options.assert && table.missed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(options: &Options) -> Result<Table> {
    let exe = options.bin.as_ref().map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_psmond")), |dir| dir.join("psmond"));
    let bench = Bench {
        meter: Meter::open()?,
        exe: exe.canonicalize().with_context(|| exe.display().to_string())?,
        work: tempfile::Builder::new().prefix("psmon-bench-").tempdir()?,
        herd: options.herd.into(),
        length: Duration::from_secs(options.seconds),
        warm_up: Duration::from_secs(3),
        rounds: options.rounds,
        all_streams: options.all_streams,
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    println!("Linux {}, {cpus} CPUs, a herd of {}, interval 1 s, {} s each", release.trim(), bench.herd, options.seconds);
    println!("CPU: {}; load before: {}", bench.meter.name(), std::fs::read_to_string("/proc/loadavg")?.trim());
    let mut table = Table::default();
    for &part in Part::value_variants() {
        if !options.parts.is_empty() && !options.parts.contains(&part) {
            continue;
        }
        match part {
            Part::Memory => bench.memory(&mut table),
            Part::Idle => bench.idle(&mut table),
            Part::Wakeups => bench.wakeups(&mut table),
            Part::Bytes => bench.bytes(&mut table),
            Part::Ticking => bench.ticking(&mut table),
            Part::Usage => bench.usage(&mut table),
        }
        .with_context(|| format!("part {part:?}"))?;
    }
    Ok(table)
}
