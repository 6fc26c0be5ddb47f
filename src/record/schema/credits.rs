//! The columns of streams `credits` and `credits_process`.
//!
//! One credit is one CPU busy for a minute: 60 CPU-seconds, 6000 utilisation-seconds (%·s). CPU-seconds are what is kept; the rest
//! is derived from them, and each column names its unit. Counters are of the interval, or of the part of a life that the row names.

use super::{Column, Kind, Threshold, on_request, standard};

use Kind::{Cmd, Count, Credits, Percent, Seconds, Ticks, Time, UtilSeconds, Word};
use Threshold::Never;

const UTIL: Column = standard(
    "util_s",
    &[],
    UtilSeconds(3),
    11,
    Never,
    "The same in utilisation-seconds: 100 x cpu_s, per cent of a CPU times seconds.",
);
const CREDITS: Column = standard("credits", &[], Credits(6), 11, Never, "The same in credits: cpu_s / 60.");

/// Of programs and users.
pub(super) const COLUMNS: &[Column] = &[
    standard("time", &[], Time(3), 29, Never, "When the tick was due: the end of the interval."),
    standard(
        "program",
        &[],
        Word,
        15,
        Never,
        "The program; (kernel) is all kernel threads, (unattributed) what the machine's clock says beyond the sum of all others: below zero where that clock was read a moment before them.",
    ),
    standard(
        "user",
        &["euser", "uname"],
        Word,
        8,
        Never,
        "Effective user when it was spent; the number where it has no name.",
    ),
    standard("procs", &["nproc"], Count, 5, Never, "Processes at the end of the interval."),
    standard(
        "started",
        &[],
        Count,
        7,
        Never,
        "Processes that came to it in the interval: born in it, executed into it, or changed to its user.",
    ),
    standard(
        "exited",
        &[],
        Count,
        6,
        Never,
        "Processes that left it in the interval: ended, executed into another, or changed to another user.",
    ),
    standard(
        "user_s",
        &[],
        Seconds(6),
        11,
        Never,
        "User part of cpu_s, split as the sampled ticks of its processes are (utime and stime of proc_pid_stat(5), ac_utime and ac_stime of taskstats); - where none was sampled.",
    ),
    standard("sys_s", &[], Seconds(6), 11, Never, "System part of cpu_s, likewise."),
    standard(
        "cpu_s",
        &[],
        Seconds(6),
        11,
        Never,
        "CPU time spent in the interval, by the living (their CPU clocks, clock_getcpuclockid(3)) and by those that ended in it (cpu_run_virtual_total of taskstats).",
    ),
    UTIL,
    CREDITS,
    standard("cpu_pct", &["%cpu", "pcpu"], Percent(2), 8, Never, "Average over the interval; 100 is one CPU."),
    standard("share_pct", &[], Percent(2), 9, Never, "Share of the machine: cpu_pct / CPUs."),
    standard(
        "day_cpu_s",
        &[],
        Seconds(6),
        13,
        Never,
        "CPU time since local midnight, as far as it was counted. An interval belongs to the day in which it ends; one that ends at midnight ends the day before.",
    ),
    standard(
        "day_credits_left",
        &[],
        Credits(3),
        16,
        Never,
        "CPUs x minutes of this local day - credits of all programs since midnight: the same in every row of a tick.",
    ),
    on_request(
        "day",
        &["date"],
        Word,
        10,
        Never,
        "With --by day: the local day. An interval belongs to that in which it ends; one that ends at midnight ends the day before.",
    ),
    on_request(
        "cgroup",
        &["cgname"],
        Word,
        30,
        Never,
        "With --by cgroup: the control group, as /proc/PID/cgroup says it (cgroups(7)); - of those who ended before that could be read. What a process used counts for the group it was in when it was counted.",
    ),
    on_request("total_s", &[], Seconds(6), 12, Never, "CPU time since the view began."),
];

/// Of processes.
pub(super) const OF_PROCESSES: &[Column] = &[
    standard(
        "time",
        &[],
        Time(3),
        29,
        Never,
        "When the tick was due that tells of it: the end came in the interval before.",
    ),
    standard("pid", &["tgid"], Count, 7, Never, "Id of the process (its thread group); of a folded row the first of them."),
    standard("start", &[], Ticks, 9, Never, "Its start in clock ticks since boot: with the pid its identity."),
    standard("program", &[], Word, 15, Never, "The program it counted for at the end."),
    standard("user", &["euser", "uname"], Word, 8, Never, "Effective user at the end; the number where it has no name."),
    standard(
        "part",
        &[],
        Count,
        4,
        Never,
        "1, 2, ... where it lives on: the rest comes in further rows; - at its end. All rows of a process add up to what it used while it was recorded.",
    ),
    standard(
        "wall_s",
        &[],
        Seconds(6),
        14,
        Never,
        "Seconds that this row is about: from its birth, from the row before, or from when recording began, whichever came last; of a folded row the sum.",
    ),
    standard("cpu_s", &[], Seconds(6), 11, Never, "CPU time it used in them, all threads; - where nobody could know it."),
    UTIL,
    CREDITS,
    standard(
        "life_pct",
        &[],
        Percent(2),
        8,
        Never,
        "Average over its whole life, from birth; 100 is one CPU. - in a folded row.",
    ),
    standard(
        "lives",
        &[],
        Count,
        5,
        Never,
        "How many ended alike: 1, or more where a row stands for those of a program and user beyond 2000 a second or 50 000 in an interval.",
    ),
    standard("cmd", &["args", "command"], Cmd, 0, Never, "Command line; [comm] where only the name is known."),
];
