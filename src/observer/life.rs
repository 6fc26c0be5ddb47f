//! What is remembered of a process from its birth on so that its obituary can be written: where its facts come from, who bore
//! it, and what its tasks that have ended used.

use std::sync::Arc;

use crate::record::identity::Identity;
use crate::source::io::Io;
use crate::source::taskstats::Record;

/// Where what is said of a process comes from, as the letters of the column `sources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sources(u8);

impl Sources {
    /// `c`: the connector told of it.
    pub const CONNECTOR: Self = Self(1);
    /// `t`: an exit record of taskstats.
    pub const TASKSTATS: Self = Self(1 << 1);
    /// `p`: read from `/proc` in time.
    pub const PROC: Self = Self(1 << 2);
    /// `s`: the last sample.
    pub const SAMPLE: Self = Self(1 << 3);
    /// `a`: arguments read at exec.
    pub const ARGUMENTS: Self = Self(1 << 4);
    /// `i`: facts inherited from the parent.
    pub const INHERITED: Self = Self(1 << 5);

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without those of the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other are in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The letters; `-` for none.
    #[must_use]
    pub fn letters(self) -> Vec<u8> {
        let letters: Vec<u8> = b"ctpsai".iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0).map(|(_, letter)| *letter).collect();
        if letters.is_empty() { b"-".to_vec() } else { letters }
    }
}

/// What tasks used: those that have ended, and, of a process older than the recorder, what had ended before it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// CPU time of the tasks recorded, nanoseconds.
    pub cpu_ns: u64,
    /// CPU time of the whole process since its birth, where the kernel sent a record of it.
    pub whole_cpu_ns: Option<u64>,
    /// User part, sampled, microseconds.
    pub user_us: u64,
    /// System part, sampled, microseconds.
    pub system_us: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// Largest resident memory, bytes.
    pub peak_rss: u64,
    /// Bytes passed to read(2) and its kin.
    pub rchar: u64,
    /// Bytes passed to write(2) and its kin.
    pub wchar: u64,
    /// Read system calls.
    pub syscr: u64,
    /// Write system calls.
    pub syscw: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// Bytes dirtied and discarded before they were written.
    pub cancelled_write_bytes: u64,
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
    /// Records taken in.
    pub records: u64,
}

impl Account {
    /// Takes in what a task, or the whole process, used.
    ///
    /// The record of a process holds its CPU time only, exact since its birth; io, faults and switches are in those of the
    /// tasks, and peak memory is of the address space they share.
    pub fn add(&mut self, record: &Record) {
        if record.is_process {
            self.whole_cpu_ns = Some(record.cpu_ns);
            return;
        }
        self.records += 1;
        self.cpu_ns += record.cpu_ns;
        self.user_us += record.user_us;
        self.system_us += record.system_us;
        self.min_flt += record.min_flt;
        self.maj_flt += record.maj_flt;
        self.peak_rss = self.peak_rss.max(record.peak_rss);
        self.rchar += record.rchar;
        self.wchar += record.wchar;
        self.syscr += record.syscr;
        self.syscw += record.syscw;
        self.read_bytes += record.read_bytes;
        self.write_bytes += record.write_bytes;
        self.cancelled_write_bytes += record.cancelled_write_bytes;
        self.nvcsw += record.nvcsw;
        self.nivcsw += record.nivcsw;
    }

    /// Takes in what tasks used that had ended before the recorder came.
    pub const fn add_base(&mut self, base: &Base) {
        self.user_us += base.user_us;
        self.system_us += base.system_us;
        self.min_flt += base.min_flt;
        self.maj_flt += base.maj_flt;
        self.rchar += base.rchar;
        self.wchar += base.wchar;
        self.syscr += base.syscr;
        self.syscw += base.syscw;
        self.read_bytes += base.read_bytes;
        self.write_bytes += base.write_bytes;
        self.cancelled_write_bytes += base.cancelled_write_bytes;
    }

    /// The io counters, as `/proc/PID/io` names them. Of each task up to a KiB, and up to 1023 system calls, may be missing:
    /// [`crate::source::taskstats::IO_STEP`]. Whoever read the file of the process before it ended takes the larger of both,
    /// counter by counter ([`Io::largest`]).
    #[must_use]
    pub const fn io(&self) -> Io {
        Io {
            rchar: self.rchar,
            wchar: self.wchar,
            syscr: self.syscr,
            syscw: self.syscw,
            read_bytes: self.read_bytes,
            write_bytes: self.write_bytes,
            cancelled_write_bytes: self.cancelled_write_bytes,
        }
    }

    /// CPU time of the process: the kernel's own sum where there is one. A task that was still on its way out when that was
    /// made is not in it, but then it is in the sum of the tasks.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.whole_cpu_ns.unwrap_or(0).max(self.cpu_ns)
    }
}

/// What ended tasks of a process older than the recorder had used: the counters of the process less those of its living tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// User part, sampled, microseconds.
    pub user_us: u64,
    /// System part, sampled, microseconds.
    pub system_us: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// Bytes passed to read(2) and its kin.
    pub rchar: u64,
    /// Bytes passed to write(2) and its kin.
    pub wchar: u64,
    /// Read system calls.
    pub syscr: u64,
    /// Write system calls.
    pub syscw: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// Bytes dirtied and discarded before they were written.
    pub cancelled_write_bytes: u64,
}

/// An execution: the process and the kernel's stamp.
pub type Exec = (u32, u64);

/// What is remembered of a process from its birth on.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// When it was born, CLOCK_BOOTTIME nanoseconds, where its birth was told.
    pub born_ns: Option<u64>,
    /// Who bore it.
    pub parent: Option<Identity>,
    /// The name of who bore it, then.
    pub pcomm: Option<Arc<[u8]>>,
    /// Where its facts come from.
    pub sources: Sources,
    /// The execution whose arguments are still to come; of a child born in between, its parent's.
    pub exec: Option<Exec>,
    /// Tasks that are not known to have ended.
    pub tasks: u32,
    /// It ever had a second task, or events were lost since: the end of its first task is not its own.
    pub many: bool,
    /// It stands in a census.
    pub counted: bool,
    /// The status its first task ended with; none from an execution on.
    pub first_code: Option<u32>,
    /// It executed before its first task's end was told: that comes under the id of whoever executed, or never.
    pub owes_an_end: bool,
    /// Its last task was told to have ended, others are still on their way out: when, and with which status.
    pub dying: Option<(u64, u32)>,
    /// Its obituary is written; it stays in the table for as long as it waits to be reaped.
    pub ended: bool,
    /// It was a zombie when first it was seen: its death is older than the recorder, unless an event tells otherwise.
    pub was_zombie: bool,
    /// What readers were asked before its last execution is of the program before.
    pub distrusts: bool,
    /// What its ended tasks used.
    pub account: Account,
    /// Who bore it is gone: its parent is somebody else by now.
    pub adopted: bool,
    /// It bore someone, or leads a session: its end changes others.
    pub concerns_others: bool,
    /// Whether its program is still that of the name before.
    pub renamed: Renamed,
}

/// Whether a process got another name in this batch of events. Who changes it in a loop is asked about twice, and not each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renamed {
    /// Not that anybody told.
    #[default]
    No,
    /// The rules were asked since.
    Asked,
    /// They were asked of a name before this one.
    Again,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of which each io counter is another.
    fn record(is_process: bool) -> Record {
        let stats: Vec<u8> = (0_u64..64).flat_map(|word| (word * 8).to_ne_bytes()).collect();
        crate::source::taskstats::parse_stats(is_process, 1, &stats).unwrap()
    }

    #[test]
    fn io_adds_up_over_tasks_and_what_was_before() {
        let mut account = Account::default();
        account.add(&record(false));
        account.add(&record(false));
        let want = Io { rchar: 432, wchar: 448, syscr: 464, syscw: 480, read_bytes: 496, write_bytes: 512, cancelled_write_bytes: 528 };
        assert_eq!(account.io(), want);
        // The record of a whole process holds none.
        account.add(&record(true));
        assert_eq!(account.io(), want);
        let base =
            Base { rchar: 1, wchar: 2, syscr: 3, syscw: 4, read_bytes: 5, write_bytes: 6, cancelled_write_bytes: 7, ..Base::default() };
        account.add_base(&base);
        let want = Io { rchar: 433, wchar: 450, syscr: 467, syscw: 484, read_bytes: 501, write_bytes: 518, cancelled_write_bytes: 535 };
        assert_eq!(account.io(), want);
        // What the file said last is truer where it says more.
        let seen = Io { rchar: 500, syscw: 1, ..Io::default() };
        assert_eq!(account.io().largest(seen), Io { rchar: 500, ..want });
    }

    #[test]
    fn letters() {
        let sources = Sources::CONNECTOR.and(Sources::TASKSTATS).and(Sources::ARGUMENTS);
        assert_eq!(sources.letters(), b"cta");
        assert_eq!(sources.without(Sources::TASKSTATS).letters(), b"ca");
        assert_eq!(Sources::default().letters(), b"-");
    }
}
