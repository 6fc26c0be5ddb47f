//! Whether psmond's streams `credits` and `credits_process` give each program and user the CPU it used, and what that costs.
//!
//! `benches/README.md` says what is measured and how to read it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "and says on the way what it is doing")]

#[path = "../storm/accounts.rs"]
mod accounts;
mod burners;
mod clock;
mod cost;
#[path = "../shared/ending.rs"]
mod ending;
mod family;
#[path = "../recorder/herd.rs"]
#[expect(dead_code, reason = "shared with recorder, which uses all of it")]
mod herd;
#[path = "../storm/journal.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod journal;
mod lives;
#[path = "../recorder/meter.rs"]
#[expect(dead_code, reason = "shared with recorder, which uses all of it")]
mod meter;
#[path = "../shared/parts.rs"]
mod parts;
mod polls;
#[path = "../storm/psmond.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod psmond;
mod restart;
#[path = "../storm/sys.rs"]
mod sys;
#[path = "../storm/table.rs"]
mod table;
mod told;
mod tree;
#[path = "../storm/worker.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod worker;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::ending::{pause, say, stopped};
use crate::meter::Meter;
use crate::psmond::{Psmond, Setup, Way};
use crate::table::{Table, Target};

/// The CPU of programs and users, held against what they know they used.
#[derive(Debug, Parser)]
#[command(name = "credits")]
struct Options {
    /// Only these parts; without any, all of them
    parts: Vec<Part>,
    /// Length of each measurement of `cost`, and a tenth of the size of the others that the targets are meant for
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=60))]
    seconds: u64,
    /// Processes in the herd of `cost`; the target is meant for 1000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(20..))]
    herd: u16,
    /// How often `cost` is measured without and with credits; the median of the differences counts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
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
    /// 2000 short lives of three programs, and the clock of the machine
    Burners,
    /// Double forks, dead leaders, other users, other programs, children nobody waits for, lives older than psmond
    Tree,
    /// psmond stops and starts twice while they burn
    Restart,
    /// psmond without events and taskstats
    Blind,
    /// What it costs, per process and sample and per life
    Cost,
}

/// Per cent of the truth.
const BAND: Target = Target::Within(98.5, 100.5);

/// What is measured, at the cadence that the targets are meant for.
const CREDITS: &str = "[credits]\nenabled = true\ninterval = \"1s\"\n";
/// One sample.
const INTERVAL: Duration = Duration::from_secs(1);

/// What every part needs.
#[derive(Debug)]
struct Bench {
    meter: Meter,
    exe: PathBuf,
    /// Where programs and accounts of workers are; psmond has directories of its own.
    work: TempDir,
    seconds: u64,
    herd: usize,
    rounds: u8,
    /// What `burners` measured, for `blind` to be held against.
    closure: Cell<Option<f64>>,
}

fn main() -> ExitCode {
    // Never as `main() -> Result`: that prints the backtrace of the error, and this program runs as a life too.
    run().unwrap_or_else(|error| {
        eprintln!("credits: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((kind, worker)) = worker::Kind::from_args(&args)? {
        return kind.be(worker).map(|()| ExitCode::SUCCESS);
    }
    if let Some(life) = lives::Life::from_args(&args)? {
        return life.be().map(|()| ExitCode::SUCCESS);
    }
    if let Some(member) = herd::Kind::from_args(&args)? {
        member.be();
        return Ok(ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|arg| arg == meter::LAUNCH) {
        return meter::launch(&args[1..]).map(|()| ExitCode::SUCCESS);
    }
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` runs benches too, and wants no storm.
        println!("credits measures only when run by `cargo bench --bench credits`, or with --bench");
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
        work: tempfile::Builder::new().prefix("psmon-credits-").tempdir()?,
        seconds: options.seconds,
        herd: options.herd.into(),
        rounds: options.rounds,
        closure: Cell::new(None),
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    println!("Linux {}, {cpus} CPUs, {} burners", release.trim(), bench.burners());
    println!("CPU: {}; load before: {}", bench.meter.name(), std::fs::read_to_string("/proc/loadavg")?.trim());
    let mut table = Table::default();
    let whole = parts::each("credits", &options.parts, &mut table, |part, table| match part {
        Part::Burners => bench.short_lives(table),
        Part::Tree => bench.tree(table),
        Part::Restart => bench.restart(table),
        Part::Blind => bench.blind(table),
        Part::Cost => bench.cost(table),
    })?;
    Ok((table, whole))
}

impl Bench {
    fn psmond(&self, streams: &str, way: Way<'_>) -> Result<Psmond<'_>> {
        Psmond::start(Setup { exe: &self.exe, streams, way, environment: None }, &self.meter)
    }

    fn burners(&self) -> u64 {
        self.seconds * 200
    }
}

/// The middle value, of two the one between them; none of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[half - 1], upper) } else { upper })
}
