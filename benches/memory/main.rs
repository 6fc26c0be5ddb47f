//! What psmond's stream `pss` is worth, what it costs, and what it does to those it reads, beside reading everything.
//!
//! `benches/README.md` says what is measured and how to read it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "and says on the way what it is doing")]

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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::meter::Meter;
use crate::psmond::{Psmond, Setup, Way};
use crate::table::{NONE, Table};

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

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

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
    // Ended by a signal it would leave its control group and files behind.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&STOP))?;
    }
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
    let (mut table, mut whole) = (Table::default(), true);
    for &part in Part::value_variants() {
        if !options.parts.is_empty() && !options.parts.contains(&part) {
            continue;
        }
        let measured = match part {
            Part::Mix => bench.mix(&mut table),
            Part::Idle => bench.idle(&mut table),
            Part::Hold => bench.hold(&mut table),
            Part::Once => bench.once(&mut table),
        };
        stopped()?;
        // The other parts are worth having all the same.
        if let Err(error) = measured {
            eprintln!("memory: part {part:?}: {error:#}");
            table.add(format!("{part:?}: not measured").to_lowercase(), None).target(NONE).note("see above");
            whole = false;
        }
    }
    Ok((table, whole))
}

impl Bench {
    fn psmond(&self, streams: &str) -> Result<Psmond<'_>> {
        Psmond::start(Setup { exe: &self.exe, streams, way: Way::Plain, environment: None }, &self.meter)
    }
}

/// What is going on, for whoever waits.
fn say(text: &str) {
    eprintln!("... {text}");
}

/// An error once the benchmark was told to end: everything it started ends on the way out.
fn stopped() -> Result<()> {
    if STOP.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but not through an interruption.
fn pause(length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    loop {
        stopped()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(200)));
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
