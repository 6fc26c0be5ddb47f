//! The columns of stream `events`: what happened to processes, as the kernel told it.

use super::{Column, Kind, Threshold, on_request, standard};

use Kind::{Cmd, Count, Seconds, Ticks, Time, Word};
use Threshold::Any;

/// All of them; the standard ones in the order of the journal.
pub(super) const COLUMNS: &[Column] = &[
    standard("time", &[], Time(9), 35, Any, "When it happened, from the kernel's stamp."),
    standard(
        "event",
        &[],
        Word,
        5,
        Any,
        "fork, exec, exit, core, comm, uid, gid, sid, ptrace; with threads also clone and thread_exit.",
    ),
    standard("pid", &["tgid"], Count, 6, Any, "The process it happened to; of a fork the child."),
    standard(
        "start",
        &[],
        Ticks,
        8,
        Any,
        "Its start in clock ticks since boot: with the pid its identity; - of a process nobody knew.",
    ),
    standard("task", &["tid", "lwp"], Count, 6, Any, "The thread it happened to."),
    standard("ppid", &[], Count, 6, Any, "The parent."),
    standard("user", &["euser"], Word, 8, Any, "Effective user; the number where it has no name."),
    on_request("uid", &[], Count, 6, Any, "Real user id, where an event told it."),
    on_request("euid", &[], Count, 6, Any, "Effective user id."),
    on_request("tty", &["tt"], Word, 5, Any, "Controlling terminal; - without one."),
    on_request("pgrp", &["pgid"], Count, 6, Any, "Process group."),
    standard("program", &[], Word, 12, Any, "The program it counts for: the base name of its executable."),
    on_request("exe", &[], Word, 24, Any, "Path of the executable."),
    on_request("comm", &[], Word, 15, Any, "Name of the process, 15 bytes at most."),
    on_request("cgroup", &[], Word, 24, Any, "Path of its control group."),
    on_request("unit", &[], Word, 12, Any, "systemd unit, else the container's id, else the last part of the cgroup."),
    standard(
        "info",
        &[],
        Word,
        1,
        Any,
        "exit: code or signal, with +core where memory was dumped; core: the signal; comm: old\u{2192}new; uid, gid: real:effective; sid: the new session; ptrace: attach:PID or detach.",
    ),
    on_request("raw", &[], Count, 6, Any, "exit: the wait status as the kernel says it (wait(2))."),
    standard("duration_s", &["duration"], Seconds(6), 9, Any, "Its life so far."),
    standard(
        "sources",
        &[],
        Word,
        4,
        Any,
        "c connector, t taskstats, p /proc read in time, s last sample, a arguments read at exec, i facts inherited from the parent.",
    ),
    on_request("pcmd", &[], Cmd, 0, Any, "Command line of the parent."),
    standard("cmd", &["args", "command"], Cmd, 0, Any, "Command line; [comm] where only the name is known."),
];
