//! The columns of streams `usage` and `usage_process`: what programs, and processes, use.

use super::{Column, Kind, MEMORY, Threshold, standard};

use Kind::{Bytes, Count, Percent, Seconds, Ticks, Time, Word};
use Threshold::{Any, By, ByOrZero, Never, State};

const TIME: Column = standard("time", &[], Time(3), 29, Never, "When the tick was due.");
const PROGRAM: Column = standard(
    "program",
    &[],
    Word,
    15,
    Any,
    "The program: what the rules of the config say, else the base name of the executable.",
);
const PROCS: Column = standard("procs", &["num_procs"], Count, 5, Any, "Processes that live; zombies are in states only.");
const UP: Column = standard(
    "up",
    &[],
    Count,
    2,
    Any,
    "1 while there are as many processes as the rules expect, else 0; - where nothing is expected.",
);
const CPU_PCT: Column = standard(
    "cpu_pct",
    &["pcpu", "%cpu"],
    Percent(1),
    7,
    ByOrZero(1.0),
    "CPU of the interval, 100 is one core; - at first sight.",
);
const CPU_S: Column = standard(
    "cpu_s",
    &["cputime"],
    Seconds(3),
    10,
    By(1.0),
    "CPU time, cumulative, of the dead too (process CPU clock, taskstats).",
);
const RSS: Column = standard("rss", &["rsz"], Bytes, 12, MEMORY, "Resident memory: what processes share is counted in each.");
const VSZ: Column = standard("vsz", &["vsize"], Bytes, 14, MEMORY, "Address space.");
const PSS: Column = standard("pss", &[], Bytes, 12, MEMORY, "Proportional set size, from stream pss; - while none was read.");
const PSS_AGE: Column = standard("pss_age_s", &[], Seconds(1), 9, Never, "Age of the oldest reading in pss.");
const RCHAR: Column =
    standard("rchar", &[], Bytes, 12, Never, "Bytes passed to read(2) and its kin, cumulative (proc_pid_io(5), taskstats).");
const WCHAR: Column = standard("wchar", &[], Bytes, 12, Never, "Bytes passed to write(2) and its kin, cumulative.");
const SYSCR: Column = standard("syscr", &[], Count, 9, Never, "Read system calls, cumulative.");
const SYSCW: Column = standard("syscw", &[], Count, 9, Never, "Write system calls, cumulative.");
const READ_BYTES: Column = standard("read_bytes", &[], Bytes, 12, Never, "Bytes fetched from storage, cumulative.");
const WRITE_BYTES: Column = standard("write_bytes", &[], Bytes, 12, Never, "Bytes sent to storage, cumulative.");
const CANCELLED: Column = standard(
    "cancelled_write_bytes",
    &[],
    Bytes,
    21,
    Never,
    "Bytes dirtied and then discarded before they were written, cumulative.",
);
const FDS: Column = standard("fds", &["open_filedesc"], Count, 5, By(1.0), "Open file descriptors.");
const FD_LIMIT_PCT: Column = standard(
    "fd_limit_pct",
    &[],
    Percent(1),
    12,
    By(1.0),
    "Open descriptors of the soft limit (RLIMIT_NOFILE), of the process that is nearest to its own.",
);
const THREADS: Column = standard("threads", &["nlwp"], Count, 7, By(1.0), "Tasks.");
const TCP: Column = standard("tcp", &[], Count, 4, By(1.0), "Established TCP connections over IPv4.");
const TCP6: Column = standard("tcp6", &[], Count, 4, By(1.0), "Established TCP connections of IPv6 sockets, IPv4 through them too.");
const UDP: Column = standard("udp", &[], Count, 4, By(1.0), "Connected UDP sockets over IPv4.");
const UDP6: Column = standard("udp6", &[], Count, 4, By(1.0), "Connected UDP sockets of IPv6.");
const UNIX: Column = standard("unix", &[], Count, 4, By(1.0), "Connected Unix sockets.");
const TCP_LISTEN: Column = standard("tcp_listen", &[], Count, 10, By(1.0), "TCP sockets over IPv4 that listen.");
const TCP6_LISTEN: Column = standard("tcp6_listen", &[], Count, 11, By(1.0), "TCP sockets of IPv6 that listen.");
const SOCKETS: Column = standard("sockets", &[], Count, 7, By(1.0), "Sockets of every kind and state.");
const STARTED: Column = standard("started", &[], Count, 7, Any, "Processes that came to it, cumulative: born in it, or executed into it.");
const EXITED: Column = standard("exited", &[], Count, 6, Any, "Processes that left it, cumulative: ended, or executed into another.");
const MIN_FLT: Column = standard("min_flt", &["minflt"], Count, 9, Never, "Minor faults, cumulative.");
const MAJ_FLT: Column = standard("maj_flt", &["majflt"], Count, 7, Never, "Major faults, cumulative.");
const NVCSW: Column = standard("nvcsw", &[], Count, 9, Never, "Voluntary context switches of all tasks, cumulative.");
const NIVCSW: Column = standard("nivcsw", &[], Count, 9, Never, "Involuntary context switches of all tasks, cumulative.");
const OLDEST: Column = standard("oldest_s", &["age_s"], Seconds(0), 9, Never, "Age of the oldest process.");
const STATES: Column = standard("states", &[], Word, 8, State, "Processes by their state (proc_pid_stat(5)), as R1,S7,Z1.");
const LIMIT: Column = standard(
    "limit",
    &[],
    Word,
    10,
    Any,
    "The nearest limit: nofile nproc as memlock stack memory.max pids.max max_map_count; - without any.",
);
const LIMIT_PCT: Column = standard("limit_pct", &[], Percent(1), 9, By(1.0), "How much of that limit is used.");

/// What both streams have, behind the key of the one and of the other; in the order of the journal.
macro_rules! behind {
    ($($key:expr),*) => {
        &[
            TIME, $($key,)*
            PROGRAM, PROCS, UP, CPU_PCT, CPU_S, RSS, VSZ, PSS, PSS_AGE, RCHAR, WCHAR, SYSCR, SYSCW, READ_BYTES, WRITE_BYTES,
            CANCELLED, FDS, FD_LIMIT_PCT, THREADS, TCP, TCP6, UDP, UDP6, UNIX, TCP_LISTEN, TCP6_LISTEN, SOCKETS, STARTED,
            EXITED, MIN_FLT, MAJ_FLT, NVCSW, NIVCSW, OLDEST, STATES, LIMIT, LIMIT_PCT,
        ]
    };
}

/// Of programs, whose name is the key.
pub(super) const COLUMNS: &[Column] = behind!();

/// Of processes: the same behind their identity.
pub(super) const OF_PROCESSES: &[Column] = behind!(
    standard("pid", &["tgid"], Count, 7, Any, "Id of the process (its thread group)."),
    standard(
        "start",
        &[],
        Ticks,
        9,
        Any,
        "Start of the process in clock ticks since boot: with the pid its identity (/proc/PID/stat field 22).",
    ),
    standard("user", &["euser", "uname"], Word, 8, Any, "Effective user; the number where it has no name.")
);
