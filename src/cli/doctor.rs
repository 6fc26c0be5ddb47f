//! `psmon doctor`: what psmon can see on this machine, what is lost where it cannot, and the mend.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Answer, Failure};
use crate::config::{self, Overrides, Sources};
use crate::journal::lock;
use crate::source::capability::Capability;
use crate::source::connector::Connector;
use crate::source::machine_cpu::{self, MachineCpu};
use crate::source::namespace::Visit;
use crate::source::procdir::Proc;
use crate::source::sched::{self, Promptness};
use crate::source::sockets::Kind;
use crate::source::sockets::diag::Diagnostics;
use crate::source::taskstats::{ExitListener, Taskstats};
use crate::source::{ReadError, clock, host, limits, mounts, netlink};

/// Looks at each kernel source and capability: is it here, what is lost without it, what mends it.
#[derive(Debug, Args)]
#[command(
    after_help = "It speaks of whoever runs it: to see with the eyes of the service, run it as the service does:\n  systemd-run --pty -p User=psmon -p AmbientCapabilities=… psmon doctor\nExit status 1 where something is missing."
)]
pub struct Arguments {
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,

    /// Read this config file instead of /etc/psmond.toml.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read processes from here instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
}

/// One thing looked at.
struct Finding {
    what: &'static str,
    here: bool,
    /// What was seen.
    seen: String,
    /// What is lost without it, and the mend.
    lost: &'static str,
    mend: &'static str,
}

/// Runs the command.
///
/// # Errors
/// `/proc` could not be opened.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let opened = Proc::open(&arguments.proc);
    let proc = opened.map_err(|error| {
        Failure::System(format!(
            "{} could not be opened: {error}. Mount it: without it there is nothing to record.",
            arguments.proc.display()
        ))
    })?;
    let mut findings = kernel(&proc);
    findings.extend(permissions(&proc));
    findings.extend(capabilities(&proc));
    findings.extend(place(arguments));
    for finding in &findings {
        if arguments.json {
            let object = serde_json::json!({ "what": finding.what, "here": finding.here, "seen": finding.seen, "lost": finding.lost, "mend": finding.mend });
            writeln!(out, "{object}")?;
        } else if finding.here {
            writeln!(out, "ok       {}: {}", finding.what, finding.seen)?;
        } else {
            writeln!(
                out,
                "missing  {}: {}\n         lost: {}\n         mend: {}",
                finding.what, finding.seen, finding.lost, finding.mend
            )?;
        }
    }
    Ok(if findings.iter().all(|finding| finding.here) { Answer::Yes } else { Answer::No })
}

fn kernel(proc: &Proc) -> Vec<Finding> {
    let own = std::process::id();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut pids = Vec::new();
    let listed = proc.list(&mut pids).is_ok();
    let clocks = pids.iter().filter(|pid| clock::process_cpu_ns(**pid).is_some()).count();
    let rollup = proc.read("self/smaps_rollup").is_ok();
    let fds = proc.process(own).and_then(|dir| dir.fd_count());
    let pressure = proc.read("pressure/memory").is_ok();
    let stat = proc.read("stat").unwrap_or_default();
    vec![
        Finding {
            what: "process list",
            here: listed && pids.contains(&1),
            seen: format!(
                "{} processes in {} on Linux {release}{}",
                pids.len(),
                proc.path().display(),
                mounts::hides(proc.path()).map_or_else(String::new, |option| format!(", mounted with {option}"))
            ),
            lost: "processes of other users: /proc is mounted with hidepid, or it is not that of the machine",
            mend: "give CAP_SYS_PTRACE, or mount /proc with gid= of psmond's group",
        },
        Finding {
            what: "process CPU clocks",
            here: proc.is_native() && clocks > 0,
            seen: format!("{clocks} of {} answer", pids.len()),
            lost: "the gate: every process is read at every tick, and CPU time is in clock ticks",
            mend: "run psmond in the pid namespace whose processes it records, with its own /proc",
        },
        events(),
        buffer(),
        accounting(),
        promptness(),
        diagnostics(),
        namespaces(proc),
        machine_clock(proc),
        Finding {
            what: "births since boot",
            here: host::processes(&stat).is_some(),
            seen: host::processes(&stat)
                .map_or_else(|| "no line 'processes' in /proc/stat".to_owned(), |count| format!("{count} forks and clones")),
            lost: "the independent count of births that proves completeness",
            mend: "mount /proc without subset=pid",
        },
        Finding {
            what: "smaps_rollup",
            here: rollup,
            seen: if rollup { "readable".to_owned() } else { "not readable".to_owned() },
            lost: "cheap PSS: it must be summed from smaps",
            mend: "Linux 4.14 or later with CONFIG_PROC_PAGE_MONITOR",
        },
        Finding {
            what: "descriptor count",
            here: fds.is_ok(),
            seen: fds.map_or_else(|error| error.to_string(), |count| format!("{count} of our own")),
            lost: "column fds",
            mend: "mount /proc",
        },
        Finding {
            what: "pressure (PSI)",
            here: pressure,
            seen: if pressure { "on".to_owned() } else { "off".to_owned() },
            lost: "pressure in stream host, and bursts that pressure triggers",
            mend: "boot with psi=1",
        },
    ]
}

/// Only an acknowledgement proves that the kernel tells us of events.
fn events() -> Finding {
    let listened = Connector::listen(Duration::from_secs(1));
    Finding {
        what: "process events",
        here: listened.is_ok(),
        seen: listened.map_or_else(|error| error.to_string(), |_| "the kernel acknowledged a listener".to_owned()),
        lost: "births and ends between two samples: they are found by comparing samples, and how a process ended is not known",
        mend: "run in the machine's first pid, user and network namespace; before Linux 6.6 give CAP_NET_ADMIN",
    }
}

/// How much the kernel would hold for psmond while it is busy.
fn buffer() -> Finding {
    /// Some twenty thousand events of 832 bytes each.
    const ENOUGH: usize = 16 << 20;
    let got = Connector::listen(Duration::from_secs(1)).map_err(|error| error.to_string());
    let got = got.and_then(|connector| netlink::enlarge(&connector, ENOUGH).map_err(|error| error.to_string()));
    Finding {
        what: "event buffer",
        here: matches!(got, Ok(bytes) if bytes >= ENOUGH),
        seen: got.map_or_else(|error| error, |bytes| format!("{bytes} bytes, {} events", bytes / 832)),
        lost: "events of bursts that are longer than the buffer; they are counted as lost",
        mend: "give CAP_NET_ADMIN, as the packaged unit does, or raise net.core.rmem_max to 16777216",
    }
}

/// How soon command lines are read at exec. Asked by a thread of its own, as capture asks.
fn promptness() -> Finding {
    let got = std::thread::spawn(sched::make_this_thread_prompt).join().unwrap_or(Promptness::Ordinary);
    Finding {
        what: "prompt reading at exec",
        here: got == Promptness::RealTime,
        seen: got.words().to_owned(),
        lost: "command lines of processes that live for less than a millisecond, on a busy machine",
        mend: "give CAP_SYS_NICE, as the packaged unit does; a cpu control group of version 1 refuses real-time even to root: run psmond in its root group",
    }
}

fn accounting() -> Finding {
    let (online, possible) = host::cpu_lists();
    let asked = Taskstats::open().and_then(|taskstats| taskstats.process(std::process::id()));
    // Being told of ends is asked for apart, and refused apart.
    let heard = asked.and_then(|record| ExitListener::open(&online, &possible, 1 << 16).map(|_| record));
    Finding {
        what: "exit accounting (taskstats)",
        here: heard.is_ok(),
        seen: heard.map_or_else(|error| error.to_string(), |record| format!("version {}, CPUs {online} of {possible}", record.version)),
        lost: "what processes used that lived between two samples, and peak memory, io and switches of all that end",
        mend: "a kernel with CONFIG_TASKSTATS, CAP_NET_ADMIN, and the machine's first network namespace",
    }
}

/// Sockets of this network namespace, kind by kind.
fn diagnostics() -> Finding {
    let dumped = Diagnostics::open().map_err(|error| error.to_string()).and_then(|mut diagnostics| {
        let mut found = Vec::new();
        let mut dump = |kind: Kind| diagnostics.dump(kind, &mut found).map_err(|error| format!("{}: {error}", kind.name()));
        Kind::ALL.into_iter().try_for_each(&mut dump).map(|()| found.len())
    });
    Finding {
        what: "socket diagnostics",
        here: dumped.is_ok(),
        seen: dumped.map_or_else(|error| error, |count| format!("{count} sockets of this network namespace")),
        lost: "nothing, but it costs several times as much: sockets are read from /proc/PID/net",
        mend: "a kernel with the modules tcp_diag, udp_diag and unix_diag, and AF_NETLINK among the unit's RestrictAddressFamilies",
    }
}

/// Sockets of containers: either way they are had, so nothing is missing.
fn namespaces(proc: &Proc) -> Finding {
    let entered = proc.is_native() && Visit::is_allowed();
    Finding {
        what: "sockets of other network namespaces",
        here: true,
        seen: if entered {
            "by diagnostics: they may be entered".to_owned()
        } else {
            "from /proc/PID/net of one member each, as many a tick as usage.netns_budget_ms allows; by diagnostics with CAP_SYS_ADMIN (drop-in psmond.service.d/netns.conf)".to_owned()
        },
        lost: "",
        mend: "",
    }
}

/// How much of the others this user may read.
/// What the sum of stream `credits` is held against.
fn machine_clock(proc: &Proc) -> Finding {
    let clocks = MachineCpu::find(proc).read(proc, rustix::param::clock_ticks_per_second());
    let kind = machine_cpu::grown(&clocks, &clocks).map(|(kind, _)| kind);
    Finding {
        what: "CPU clock of the machine",
        here: kind.is_some_and(|kind| kind != machine_cpu::Kind::Stat),
        seen: match kind {
            Some(machine_cpu::Kind::Cpuacct) => "cpuacct.usage of the root control group, nanoseconds".to_owned(),
            Some(machine_cpu::Kind::Cgroup2) => {
                "usage_usec of the control groups below the root, microseconds; what is in the root itself is held against nothing"
                    .to_owned()
            }
            Some(machine_cpu::Kind::Stat) => "/proc/stat, which is sampled by ticks".to_owned(),
            None => "none could be read".to_owned(),
        },
        lost: "an exact closure of stream credits: ticks are some per cent off",
        mend: "mount cgroup2, or the cpuacct controller, where psmond sees it",
    }
}

fn permissions(proc: &Proc) -> Vec<Finding> {
    let mut pids = Vec::new();
    let _ = proc.list(&mut pids);
    let (mut asked, mut exe, mut io) = (0_u64, 0_u64, 0_u64);
    for pid in pids {
        let Ok(dir) = proc.process(pid) else { continue };
        match dir.link("exe") {
            // A kernel thread has none.
            Err(ReadError::Vanished) => continue,
            Ok(_) => exe += 1,
            Err(_) => {}
        }
        asked += 1;
        io += u64::from(dir.read("io").is_ok());
    }
    let finding = |what, readable, lost| Finding {
        what,
        // One or two, such as the machine's first process in a sandbox, are refused even to root.
        here: readable + 2 >= asked && (readable > 1 || asked < 2),
        seen: format!("readable of {readable} of {asked} processes"),
        lost,
        mend: "run as root, or give CAP_SYS_PTRACE (and CAP_DAC_READ_SEARCH), as the packaged unit does",
    };
    vec![
        finding("executables of others", exe, "the program is then the process's own name (comm), 15 bytes at most"),
        finding("io counters of others", io, "columns of io: ? for those processes"),
    ]
}

fn capabilities(proc: &Proc) -> Vec<Finding> {
    let status = proc.read("self/status").unwrap_or_default();
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"CapEff:"));
    let set = line.map(<[u8]>::trim_ascii).unwrap_or_default();
    let has = |capability: Capability| capability.is_in(set).unwrap_or(false);
    let finding = |capability: Capability, lost, mend| Finding {
        what: capability.name(),
        here: has(capability),
        seen: if has(capability) { "held".to_owned() } else { "not held".to_owned() },
        lost,
        mend,
    };
    let nofile = limits::open_files();
    vec![
        finding(
            Capability::SysPtrace,
            "facts of other users' processes: executable, io, descriptors, PSS",
            "AmbientCapabilities=CAP_SYS_PTRACE in the unit",
        ),
        finding(
            Capability::DacReadSearch,
            "files of /proc that only their owner may open",
            "AmbientCapabilities=CAP_DAC_READ_SEARCH in the unit",
        ),
        finding(
            Capability::NetAdmin,
            "exit accounting, and large buffers of the event sockets",
            "AmbientCapabilities=CAP_NET_ADMIN in the unit",
        ),
        finding(
            Capability::SysNice,
            "real-time priority for the thread that reads command lines at exec",
            "AmbientCapabilities=CAP_SYS_NICE in the unit",
        ),
        Finding {
            what: "open files",
            here: nofile >= 4096,
            seen: format!("limit {nofile}"),
            lost: "kept stat files: processes beyond the limit are opened at each reading, which costs twice as much",
            mend: "LimitNOFILE=524288 in the unit, or ulimit -n",
        },
    ]
}

fn place(arguments: &Arguments) -> Vec<Finding> {
    let loaded = match config::load(&Sources::new(arguments.config.clone(), Overrides::default())) {
        Ok(loaded) => loaded,
        Err(error) => {
            return vec![Finding {
                what: "config",
                here: false,
                seen: error.brief(),
                lost: "psmond does not start on it",
                mend: "psmon config --check shows every mistake",
            }];
        }
    };
    let dir = &loaded.settings.log_dir;
    let space = |path: &Path| Some((fs2::available_space(path).ok()?, fs2::total_space(path).ok()?));
    let existing = dir.ancestors().find(|path| path.exists());
    let free = existing.and_then(space);
    let writable = existing.is_some_and(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok());
    let holder = fs::File::options().read(true).open(dir.join(lock::NAME)).ok().and_then(|mut file| lock::holder(&mut file));
    let running = holder.filter(|pid| fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_ascii() == b"psmond"));
    vec![
        Finding {
            what: "log directory",
            here: writable,
            seen: match free {
                Some((free, total)) => format!(
                    "{}, {} free of {}",
                    dir.display(),
                    super::table::scaled(i64::try_from(free).unwrap_or(i64::MAX)),
                    super::table::scaled(i64::try_from(total).unwrap_or(i64::MAX))
                ),
                None => dir.display().to_string(),
            },
            lost: "records: nothing can be written there by this user",
            mend: "chown it to psmond's user, or name another with log_dir",
        },
        Finding {
            what: "recorder",
            here: running.is_some(),
            seen: running.map_or_else(|| "no psmond records there".to_owned(), |pid| format!("psmond runs, pid {pid}")),
            lost: "everything: nobody is recording",
            mend: "systemctl enable --now psmond, or run psmond",
        },
    ]
}
