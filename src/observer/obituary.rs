//! The last record of a process: who it was, how it ended, and what it used.

use std::sync::Arc;

use super::credits::cpu;
use super::facts::Reading;
use super::life::{Exec, Sources};
use super::programs::family::Family;
use super::programs::member::executable;
use super::table::Process;
use crate::record::cmd::Cmd;
use crate::source::clock::ticks_to_ns;
use crate::source::taskstats::Record;

/// How a process ended, from its wait status (`wait(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// The exit code; `None` where a signal ended it.
    #[must_use]
    pub const fn code(self) -> Option<u32> {
        if self.0 & 0x7f == 0 { Some(self.0 >> 8 & 0xff) } else { None }
    }

    /// The signal that ended it.
    #[must_use]
    pub const fn signal(self) -> Option<u32> {
        if self.0 & 0x7f == 0 { None } else { Some(self.0 & 0x7f) }
    }

    /// Whether its memory was dumped.
    #[must_use]
    pub const fn dumped(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// The word of the column `how`.
    #[must_use]
    pub const fn how(self) -> &'static str {
        match (self.signal(), self.dumped()) {
            (None, _) => "exit",
            (Some(_), false) => "signal",
            (Some(_), true) => "core",
        }
    }

    /// Whether nothing went wrong: neither a signal nor a code.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        self.0 & 0xffff == 0
    }

    /// `0`, `3`, `SIGTERM`, `SIGSEGV+core`.
    #[must_use]
    pub fn words(self) -> String {
        match (self.code(), self.signal()) {
            (Some(code), _) => code.to_string(),
            (None, signal) => format!("{}{}", signal_name(signal.unwrap_or(0)), if self.dumped() { "+core" } else { "" }),
        }
    }
}

/// The name of a signal, `signal(7)`; real-time signals are counted from the first.
#[must_use]
pub fn signal_name(number: u32) -> String {
    if let Some(name) = i32::try_from(number).ok().and_then(|number| signal_hook::low_level::signal_name(number)) {
        return name.to_owned();
    }
    match number {
        16 => "SIGSTKFLT".to_owned(),
        30 => "SIGPWR".to_owned(),
        32 => "SIGRTMIN-2".to_owned(),
        33 => "SIGRTMIN-1".to_owned(),
        34 => "SIGRTMIN".to_owned(),
        35..=64 => format!("SIGRTMIN+{}", number - 34),
        _ => format!("SIG{number}"),
    }
}

/// What a process used over its life; what nobody could know is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// CPU time, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Its user part.
    pub user_ns: Option<u64>,
    /// Its system part.
    pub system_ns: Option<u64>,
    /// Largest resident memory, bytes.
    pub max_rss: Option<u64>,
    /// Bytes fetched from storage.
    pub read_bytes: Option<u64>,
    /// Bytes sent to storage.
    pub write_bytes: Option<u64>,
    /// Minor faults.
    pub min_flt: Option<u64>,
    /// Major faults.
    pub maj_flt: Option<u64>,
    /// Voluntary context switches.
    pub nvcsw: Option<u64>,
    /// Involuntary context switches.
    pub nivcsw: Option<u64>,
}

/// The last record of a process.
#[derive(Clone, Debug)]
pub struct Obituary {
    /// When it ended, nanoseconds since the epoch.
    pub unix_ns: i64,
    /// Its pid.
    pub pid: u32,
    /// Its start ticks; `None` of one whose birth nobody told.
    pub start: Option<u64>,
    /// Its parent's pid.
    pub ppid: Option<u32>,
    /// Its parent's start ticks.
    pub pstart: Option<u64>,
    /// Its parent's name.
    pub pcomm: Option<Arc<[u8]>>,
    /// Its effective user.
    pub owner: Reading<u32>,
    /// The program it counted for.
    pub program: Reading<Arc<[u8]>>,
    /// Path of its control group.
    pub cgroup: Reading<Arc<[u8]>>,
    /// The unit it ran in.
    pub unit: Reading<Arc<[u8]>>,
    /// The family it was born into.
    pub family: Option<Arc<Family>>,
    /// How it ended; `None` where nobody saw it.
    pub status: Option<Status>,
    /// From birth to end, nanoseconds.
    pub lifetime_ns: Option<u64>,
    /// What it used.
    pub used: Used,
    /// Where all that comes from.
    pub sources: Sources,
    /// The command line.
    pub cmd: Reading<Arc<Cmd>>,
    /// The execution whose arguments are still to come.
    pub exec: Option<Exec>,
    /// Its name.
    pub comm: Arc<[u8]>,
    /// It was a kernel thread.
    pub is_kthread: bool,
    /// It stands in a census: a restart after a crash must find its own row.
    pub counted: bool,
}

/// What an end is told with.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Nanoseconds since the epoch.
    pub unix_ns: i64,
    /// CLOCK_BOOTTIME nanoseconds.
    pub boot_ns: u64,
    /// The wait status; `None` where nobody saw it.
    pub status: Option<Status>,
}

impl Obituary {
    /// Of a process of the table. Its account is complete by now.
    #[must_use]
    pub fn of(process: &Process, end: End, hz: u64) -> Self {
        let life = &process.life;
        let born_ns = process.born_ns(hz);
        let recorded = life.account.records > 0;
        let mut sources = life.sources;
        if recorded {
            sources = sources.and(Sources::TASKSTATS);
        } else if process.is_read() {
            sources = sources.and(Sources::SAMPLE);
        }
        let mut facts = process.facts_to_tell();
        if process.stat.is_kthread() {
            facts.program = Reading::Absent;
        } else if facts.program.known().is_none() && life.exec.is_none() {
            facts.program = executable(&facts.exe, &process.comm);
        }
        let parent = life.parent;
        Self {
            unix_ns: end.unix_ns,
            pid: process.id.pid,
            start: (process.id.start != 0).then_some(process.id.start),
            ppid: Some(parent.map_or(process.stat.ppid, |parent| parent.pid)),
            pstart: parent.map(|parent| parent.start).filter(|start| *start != 0),
            pcomm: life.pcomm.clone(),
            owner: facts.owner,
            program: facts.program,
            cgroup: facts.cgroup,
            unit: facts.unit,
            family: facts.family,
            status: end.status,
            lifetime_ns: end.status.map(|_| end.boot_ns.saturating_sub(born_ns)),
            used: if recorded { used(process, hz) } else { used_by_sample(process, hz) },
            sources,
            cmd: facts.cmd,
            exec: life.exec,
            comm: Arc::clone(&process.comm),
            is_kthread: process.stat.is_kthread(),
            counted: life.counted,
        }
    }

    /// Of a process that nobody knew: its birth was lost, and its record is all there is.
    #[must_use]
    pub fn of_stranger(pid: u32, parent: Option<u32>, records: (Option<&Record>, Option<&Record>), end: End, hz: u64) -> Self {
        let (record, whole) = records;
        let lifetime_ns = record.map(|record| record.elapsed_us.saturating_mul(1000));
        let start = lifetime_ns.map(|life| end.boot_ns.saturating_sub(life) / (1_000_000_000 / hz.max(1)).max(1));
        let sources = Sources::CONNECTOR;
        let used = record.map_or_else(Used::default, |record| {
            let mut account = super::life::Account::default();
            account.add(record);
            whole.into_iter().for_each(|whole| account.add(whole));
            from_account(&account)
        });
        Self {
            unix_ns: end.unix_ns,
            pid,
            start,
            ppid: parent.or_else(|| record.map(|record| record.ppid)),
            pstart: None,
            pcomm: None,
            owner: Reading::Absent,
            program: record.map_or(Reading::Absent, |record| Reading::Known(record.name().into())),
            cgroup: Reading::Absent,
            unit: Reading::Absent,
            family: None,
            status: end.status,
            lifetime_ns,
            used,
            sources: if record.is_some() { sources.and(Sources::TASKSTATS) } else { sources },
            cmd: Reading::Absent,
            exec: None,
            comm: record.map_or(&b""[..], Record::name).into(),
            is_kthread: false,
            counted: false,
        }
    }
}

/// What a process used, from the records of its tasks. Nothing is below what a sample has already shown.
fn used(process: &Process, hz: u64) -> Used {
    let mut account = process.life.account;
    account.cpu_ns = account.cpu_ns.max(process.cpu_ns);
    account.min_flt = account.min_flt.max(process.stat.min_flt);
    account.maj_flt = account.maj_flt.max(process.stat.maj_flt);
    account.user_us = account.user_us.max(ticks_to_ns(process.stat.utime, hz) / 1000);
    account.system_us = account.system_us.max(ticks_to_ns(process.stat.stime, hz) / 1000);
    from_account(&account)
}

fn from_account(account: &super::life::Account) -> Used {
    let cpu_ns = account.cpu_ns();
    let (user_ns, system_ns) = split(cpu_ns, account.user_us, account.system_us);
    Used {
        cpu_ns: Some(cpu_ns),
        user_ns,
        system_ns,
        max_rss: Some(account.peak_rss).filter(|peak| *peak > 0),
        read_bytes: Some(account.read_bytes),
        write_bytes: Some(account.write_bytes),
        min_flt: Some(account.min_flt),
        maj_flt: Some(account.maj_flt),
        nvcsw: Some(account.nvcsw),
        nivcsw: Some(account.nivcsw),
    }
}

/// Without a record: the CPU clock and the counters of the last look, where there was one.
fn used_by_sample(process: &Process, hz: u64) -> Used {
    if !process.is_read() {
        return Used::default();
    }
    let (user_ns, system_ns) = split(process.cpu_ns, ticks_to_ns(process.stat.utime, hz), ticks_to_ns(process.stat.stime, hz));
    let io = process.facts.details.as_ref().and_then(|details| details.io.known().copied());
    Used {
        cpu_ns: Some(process.cpu_ns),
        user_ns,
        system_ns,
        read_bytes: io.map(|io| io.read_bytes),
        write_bytes: io.map(|io| io.write_bytes),
        min_flt: Some(process.stat.min_flt),
        maj_flt: Some(process.stat.maj_flt),
        ..Used::default()
    }
}

/// Both parts, where they are known.
fn split(cpu_ns: u64, user: u64, system: u64) -> (Option<u64>, Option<u64>) {
    cpu::split(cpu_ns, user, system).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_are_decoded() {
        let say = |raw: u32| {
            let status = Status(raw);
            (status.how(), status.code(), status.signal(), status.words())
        };
        assert_eq!(say(0), ("exit", Some(0), None, "0".to_owned()));
        assert_eq!(say(768), ("exit", Some(3), None, "3".to_owned()));
        assert_eq!(say(9), ("signal", None, Some(9), "SIGKILL".to_owned()));
        assert_eq!(say(139), ("core", None, Some(11), "SIGSEGV+core".to_owned()));
        assert_eq!(say(35), ("signal", None, Some(35), "SIGRTMIN+1".to_owned()));
        assert!(Status(0).is_clean() && !Status(256).is_clean() && !Status(15).is_clean());
    }

    #[test]
    fn every_signal_has_a_name() {
        for number in 1..=64 {
            assert!(signal_name(number).starts_with("SIG") && signal_name(number) != format!("SIG{number}"), "{number}");
        }
    }

    proptest! {
        // Of wait(2): the decoder of the standard library says the same of any status.
        #[test]
        fn the_library_agrees(raw in 0_u32..0x1_0000) {
            use std::os::unix::process::ExitStatusExt as _;
            let theirs = std::process::ExitStatus::from_raw(raw.cast_signed());
            // 0x7f is a stop, which is no end.
            prop_assume!(raw & 0x7f != 0x7f);
            let ours = Status(raw);
            prop_assert_eq!(ours.code().map(u32::cast_signed), theirs.code());
            prop_assert_eq!(ours.signal().map(u32::cast_signed), theirs.signal());
            prop_assert_eq!(ours.signal().is_some() && ours.dumped(), theirs.signal().is_some() && theirs.core_dumped());
        }
    }
}
