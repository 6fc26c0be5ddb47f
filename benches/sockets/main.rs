//! What a reading of all sockets costs psmond, beside the kernel's own part of it.
//!
//! `benches/README.md` says what is measured and how to read it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "and says why it could not measure")]

#[path = "../storm/table.rs"]
#[expect(dead_code, reason = "shared with storm, which uses all of it")]
mod table;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use netlink_sys::constants::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use psmon::observer::readers::Request;
use psmon::observer::sockets::Sockets;
use psmon::source::namespace::{Visit, own};
use psmon::source::procdir::Proc;
use psmon::source::sockets::{Kind, Way, diag, read};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::table::{Table, Target};

/// A reading of all sockets: psmond's, the kernel's part, and the same from /proc.
#[derive(Debug, Parser)]
#[command(name = "sockets")]
struct Options {
    /// Seconds of measuring
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Established sockets, half of them the other ends; the target is meant for 10 000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=18_000))]
    sockets: u32,
    /// Exit with 1 when the target is missed
    #[arg(long)]
    assert: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("sockets: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    if !options.bench {
        // `cargo test --all-targets` runs benches too.
        println!("sockets measures only when run by `cargo bench --bench sockets`, or with --bench");
        return Ok(ExitCode::SUCCESS);
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("Linux {}, {} s, CPU of the reading thread; load before: {}", release.trim(), options.seconds, load.trim());
    let held = connections(options.sockets / 2)?;
    let table = measure(options)?;
    drop(held);
    print!("{}", table.render());
    Ok(if options.assert && table.missed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn connections(count: u32) -> Result<Vec<(TcpStream, TcpStream)>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let one = || Ok((TcpStream::connect(address)?, listener.accept()?.0));
    (0..count).map(|_| one()).collect::<Result<_>>().context("connections to ourselves")
}

fn measure(options: &Options) -> Result<Table> {
    let proc = Proc::open(Path::new("/proc"))?;
    let netns = own().context("this kernel has no network namespaces")?;
    let (pid, mut visit) = (std::process::id(), Visit::default());
    let mut sockets = Sockets::new(true);
    let mut reading = |way| -> Result<usize> {
        let requests = sockets.requests([(netns, pid)], Duration::ZERO);
        ensure!(matches!(requests[..], [Request::Sockets { .. }]), "no reading was planned");
        let read = read(&proc, netns, pid, way, &mut visit)?;
        ensure!(read.way == way, "there are no socket diagnostics here");
        let found = read.found.len();
        sockets.take(netns, pid, Some(Ok(read)));
        sockets.settle();
        Ok(found)
    };
    let found = reading(Way::Here)?;
    let (mut ours, mut kernels, mut files, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end || ratios.is_empty() {
        // Taking turns in who begins.
        let pair = if ratios.len() % 2 == 0 {
            let ours = timed(|| reading(Way::Here))?;
            (ours, timed(kernel)?)
        } else {
            let kernel = timed(kernel)?;
            (timed(|| reading(Way::Here))?, kernel)
        };
        ours.push(pair.0);
        kernels.push(pair.1);
        ratios.push(pair.0 / pair.1);
        // Seldom: it takes several times as long.
        if ratios.len() % 8 == 1 {
            files.push(timed(|| reading(Way::Files))?);
        }
    }
    let mut table = Table::default();
    let (ours, kernels, files) = (median(ours), median(kernels), median(files));
    let pairs = ratios.len();
    table.add("dump: psmond's reading, us", ours).note(format!("{found} sockets in the namespace, {:.2} us each", ours / found as f64));
    table.add("dump: the kernel's own time, us", kernels).note("the same requests, answers fetched and not looked at");
    table.add("dump: psmond by the kernel", median(ratios)).target(Target::AtMost(1.3)).note(format!("median of {pairs} pairs"));
    table.add("dump: from /proc/PID/net, us", files).note(format!("{:.1} times as much", files / ours));
    Ok(table)
}

/// What the kernel does for it: the same dumps into the same room, of which only the headers are walked.
fn kernel() -> Result<usize> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut room = vec![0; 32 * 1024];
    let mut messages = 0;
    for kind in Kind::ALL {
        send(&socket, &diag::request(kind, 1), SendFlags::empty())?;
        'dump: loop {
            let (length, _) = recv(&socket, &mut *room, RecvFlags::empty())?;
            let mut at = 0;
            while at + 16 <= length {
                let word = |at: usize| u32::from_ne_bytes([room[at], room[at + 1], room[at + 2], room[at + 3]]);
                let (size, kind) = (word(at) as usize, word(at + 4) & 0xffff);
                ensure!(size >= 16, "an answer that is none");
                // NLMSG_ERROR and NLMSG_DONE.
                if kind == 2 || kind == 3 {
                    break 'dump;
                }
                messages += 1;
                at += size.next_multiple_of(4);
            }
        }
    }
    Ok(messages)
}

/// Microseconds of this thread's CPU.
fn timed(act: impl FnOnce() -> Result<usize>) -> Result<f64> {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
    let began = now()?;
    std::hint::black_box(act()?);
    Ok((now()? - began).as_secs_f64() * 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
