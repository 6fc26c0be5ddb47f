//! `/proc/PID/stat`: `proc_pid_stat(5)`.

use super::{number, signed};

/// PF_KTHREAD in field 9, `include/linux/sched.h`: a kernel thread.
pub const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields psmon uses, numbers as the kernel wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)] // In this order: what is looked at most often comes first.
pub struct Stat {
    /// Field 1.
    pub pid: u32,
    /// Field 4.
    pub ppid: u32,
    /// Field 3: one letter.
    pub state: u8,
    /// Field 5.
    pub pgrp: i64,
    /// Field 6.
    pub session: i64,
    /// Field 7: device of the controlling terminal, 0 without one.
    pub tty_nr: u32,
    /// Field 8: -1 without a terminal.
    pub tpgid: i64,
    /// Field 9: `PF_*`.
    pub flags: u64,
    /// Field 10.
    pub min_flt: u64,
    /// Field 12.
    pub maj_flt: u64,
    /// Field 14, clock ticks.
    pub utime: u64,
    /// Field 15, clock ticks.
    pub stime: u64,
    /// Field 16, clock ticks.
    pub cutime: i64,
    /// Field 17, clock ticks.
    pub cstime: i64,
    /// Field 18.
    pub priority: i64,
    /// Field 19.
    pub nice: i64,
    /// Field 20.
    pub num_threads: u64,
    /// Field 22, clock ticks since boot.
    pub start: u64,
    /// Field 23, bytes.
    pub vsize: u64,
    /// Field 24, pages.
    pub rss_pages: u64,
    /// Field 39.
    pub processor: u64,
    /// Field 40.
    pub rt_priority: u64,
    /// Field 41: `SCHED_*`.
    pub policy: u64,
    /// Field 42, clock ticks.
    pub blkio_ticks: u64,
    /// Field 48: address of the arguments; 0 where it was refused. A new one means an exec.
    pub arg_start: u64,
    /// Field 11: minor faults of children that were waited for. Not 0 of whoever waited for one: to be born costs faults.
    pub cmin_flt: u64,
}

impl Stat {
    /// Whether it is a kernel thread.
    #[must_use]
    pub const fn is_kthread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it ended and waits for its parent.
    #[must_use]
    pub const fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether all of its tasks did: the first may have ended while others live on (`pthread_exit(3)`).
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.is_zombie() && self.num_threads <= 1
    }
}

/// Longest there is: 52 numbers of 20 digits and a name.
pub const STAT_BYTES: usize = 2048;

/// Parses the line; the name is between the first `(` and the last `)`, as it may hold both, spaces and newlines.
///
/// Answers `None` for what is not such a line. Fields that an older kernel does not have are 0.
#[must_use]
pub fn parse(line: &[u8]) -> Option<(Stat, &[u8])> {
    let open = memchr::memchr(b'(', line)?;
    let close = memchr::memrchr(b')', line)?;
    let pid = u32::try_from(number(line[..open].trim_ascii_end())?).ok()?;
    let comm = line.get(open + 1..close)?;
    let rest = line.get(close + 2..)?;
    let mut fields = rest.split(|byte| matches!(byte, b' ' | b'\n')).filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let mut stat = Stat { pid, state, ..Stat::default() };
    for (at, field) in (4_u8..=48).zip(fields) {
        match at {
            4 => stat.ppid = u32::try_from(number(field)?).ok()?,
            5 => stat.pgrp = signed(field)?,
            6 => stat.session = signed(field)?,
            // The kernel prints the device as a signed int.
            7 => stat.tty_nr = device(field)?,
            8 => stat.tpgid = signed(field)?,
            9 => stat.flags = number(field)?,
            10 => stat.min_flt = number(field)?,
            11 => stat.cmin_flt = number(field)?,
            12 => stat.maj_flt = number(field)?,
            14 => stat.utime = number(field)?,
            15 => stat.stime = number(field)?,
            16 => stat.cutime = signed(field)?,
            17 => stat.cstime = signed(field)?,
            18 => stat.priority = signed(field)?,
            19 => stat.nice = signed(field)?,
            20 => stat.num_threads = number(field)?,
            22 => stat.start = number(field)?,
            23 => stat.vsize = number(field)?,
            // Signed in the kernel, and below zero for an instant.
            24 => stat.rss_pages = u64::try_from(signed(field)?).unwrap_or(0),
            39 => stat.processor = number(field)?,
            40 => stat.rt_priority = number(field)?,
            41 => stat.policy = number(field)?,
            42 => stat.blkio_ticks = number(field)?,
            48 => stat.arg_start = number(field)?,
            _ => {}
        }
    }
    // A line cut before the start ticks names no process.
    (rest.iter().filter(|byte| **byte == b' ').count() >= 21).then_some((stat, comm))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the kernel's int, bit for bit")]
fn device(field: &[u8]) -> Option<u32> {
    signed(field).map(|value| value as i32 as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &[u8] = b"1234 (nginx: (w) x) S 1 1234 1234 34817 -1 4194560 950 10 3 0 12 34 5 6 20 -5 4 0 8839201 48234496 1024 18446744073709551615 94000 95000 140000 0 0 0 0 4096 16384 0 0 0 17 1 7 2 9 0 0 96000 97000 98000 140737 140738 140739 140740 0\n";

    #[test]
    fn the_fields_stand_where_the_manual_says() {
        let (stat, comm) = parse(LINE).unwrap();
        assert_eq!(comm, b"nginx: (w) x");
        let want = Stat {
            pid: 1234,
            state: b'S',
            ppid: 1,
            pgrp: 1234,
            session: 1234,
            tty_nr: 34817,
            tpgid: -1,
            flags: 4_194_560,
            min_flt: 950,
            maj_flt: 3,
            utime: 12,
            stime: 34,
            cutime: 5,
            cstime: 6,
            priority: 20,
            nice: -5,
            num_threads: 4,
            start: 8_839_201,
            vsize: 48_234_496,
            rss_pages: 1024,
            processor: 1,
            rt_priority: 7,
            policy: 2,
            blkio_ticks: 9,
            arg_start: 140_737,
            cmin_flt: 10,
        };
        assert_eq!(stat, want);
    }

    #[test]
    fn hostile_names_move_no_field() {
        for name in [&b"a b"[..], b")", b") R 9 9 9", b"\n", b"((", b"\xff\xfe", b"", b"x) Z 1 2 3 4"] {
            let mut line = b"77 (".to_vec();
            line.extend_from_slice(name);
            line.extend_from_slice(&LINE[LINE.iter().rposition(|byte| *byte == b')').unwrap()..]);
            let (stat, comm) = parse(&line).unwrap();
            assert_eq!((comm, stat.pid, stat.ppid, stat.start), (name, 77, 1, 8_839_201));
        }
    }

    #[test]
    fn cut_lines_are_refused() {
        let names_it = LINE.iter().rposition(|byte| *byte == b')').unwrap();
        let start_ends = memchr::memmem::find(LINE, b"8839201").unwrap() + 7;
        for end in 0..start_ends {
            assert!(parse(&LINE[..end]).is_none() || end > names_it, "{end}");
        }
        assert!(parse(&LINE[..names_it + 40]).is_none());
    }

    /// The procfs crate parses the same line of every process of this machine: both must agree on it.
    #[test]
    fn the_oracle_agrees_on_every_process() {
        use procfs::FromRead as _;
        let mut compared = 0;
        for process in procfs::process::all_processes().unwrap().flatten() {
            let Ok(line) = std::fs::read(format!("/proc/{}/stat", process.pid)) else { continue };
            let oracle = procfs::process::Stat::from_read(line.as_slice()).unwrap();
            let (stat, comm) = parse(&line).unwrap();
            assert_eq!(String::from_utf8_lossy(comm), oracle.comm);
            let theirs = Stat {
                pid: oracle.pid.unsigned_abs(),
                state: u8::try_from(oracle.state).unwrap(),
                ppid: oracle.ppid.unsigned_abs(),
                pgrp: oracle.pgrp.into(),
                session: oracle.session.into(),
                tty_nr: oracle.tty_nr.cast_unsigned(),
                tpgid: oracle.tpgid.into(),
                flags: oracle.flags.into(),
                min_flt: oracle.minflt,
                maj_flt: oracle.majflt,
                utime: oracle.utime,
                stime: oracle.stime,
                cutime: oracle.cutime,
                cstime: oracle.cstime,
                priority: oracle.priority,
                nice: oracle.nice,
                num_threads: oracle.num_threads.unsigned_abs(),
                start: oracle.starttime,
                vsize: oracle.vsize,
                rss_pages: oracle.rss,
                processor: oracle.processor.unwrap().unsigned_abs().into(),
                rt_priority: oracle.rt_priority.unwrap().into(),
                policy: oracle.policy.unwrap().into(),
                blkio_ticks: oracle.delayacct_blkio_ticks.unwrap(),
                arg_start: oracle.arg_start.unwrap(),
                cmin_flt: oracle.cminflt,
            };
            assert_eq!(stat, theirs);
            compared += 1;
        }
        assert!(compared > 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn damaged_lines_are_survived(at in 0..LINE.len(), byte in any::<u8>()) {
            let mut line = LINE.to_vec();
            line[at] = byte;
            let _ = parse(&line);
        }
    }
}
