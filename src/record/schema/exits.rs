//! The columns of stream `exits`: one obituary for each process that ended.

use super::{Column, Kind, Threshold, on_request, standard};

use Kind::{Bytes, Cmd, Count, Seconds, Ticks, Time, Word};
use Threshold::Any;

/// All of them; the standard ones in the order of the journal.
pub(super) const COLUMNS: &[Column] = &[
    standard(
        "time",
        &[],
        Time(9),
        35,
        Any,
        "When its last task ended, from the kernel's stamp; of a folded row the last of them.",
    ),
    standard("pid", &["tgid"], Count, 6, Any, "Id of the process; of a folded row the first of them."),
    standard("start", &[], Ticks, 8, Any, "Its start in clock ticks since boot: with the pid its identity."),
    standard("ppid", &[], Count, 6, Any, "The parent at its end."),
    standard("pstart", &[], Ticks, 8, Any, "The parent's start: with ppid its identity."),
    standard("pcomm", &[], Word, 15, Any, "The parent's name."),
    standard("user", &["euser"], Word, 8, Any, "Effective user; the number where it has no name."),
    standard("program", &[], Word, 12, Any, "The program it counted for: the base name of its executable."),
    on_request("comm", &[], Word, 15, Any, "Name of the process, 15 bytes at most."),
    standard("unit", &[], Word, 12, Any, "systemd unit, else the container's id, else the last part of the cgroup."),
    standard("lives", &[], Count, 5, Any, "How many ended alike: 1, or more in a folded row."),
    standard("how", &[], Word, 6, Any, "exit, signal, core (a signal, and memory was dumped), or - where nobody saw it."),
    standard("code", &[], Count, 4, Any, "Exit code."),
    standard("signal", &[], Word, 7, Any, "The signal that ended it."),
    standard("raw", &[], Count, 5, Any, "The wait status as the kernel says it (wait(2))."),
    standard("lifetime_s", &[], Seconds(6), 12, Any, "From birth to end; of a folded row the sum."),
    standard(
        "user_s",
        &[],
        Seconds(6),
        9,
        Any,
        "User part of cpu_s, split as its sampled ticks are; - where none was sampled.",
    ),
    standard("sys_s", &[], Seconds(6), 9, Any, "System part of cpu_s, likewise."),
    standard(
        "cpu_s",
        &[],
        Seconds(6),
        9,
        Any,
        "CPU time of all its threads, nanoseconds of the scheduler (taskstats cpu_run_virtual_total).",
    ),
    standard("max_rss", &[], Bytes, 10, Any, "Largest resident memory; of a folded row the largest."),
    standard("read_bytes", &[], Bytes, 10, Any, "Bytes fetched from storage."),
    standard("write_bytes", &[], Bytes, 11, Any, "Bytes sent to storage."),
    standard("min_flt", &[], Count, 7, Any, "Minor faults."),
    standard("maj_flt", &[], Count, 7, Any, "Major faults."),
    standard("nvcsw", &[], Count, 6, Any, "Voluntary context switches of all its threads that ended while psmond ran."),
    standard("nivcsw", &[], Count, 6, Any, "Involuntary context switches, likewise."),
    standard(
        "sources",
        &[],
        Word,
        4,
        Any,
        "c connector, t taskstats, p /proc read in time, s last sample, a arguments read at exec, i facts inherited from the parent.",
    ),
    standard("cmd", &["args", "command"], Cmd, 0, Any, "Command line; [comm] where only the name is known."),
];
