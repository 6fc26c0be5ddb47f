//! Clocks: the wall, the boot, and the CPU time of a process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::time::ClockId;

use crate::record::moment::{self, Moment};

/// CPU time of a whole process in nanoseconds, all threads, the ended ones too; `None` once it was reaped.
///
/// `clock_getcpuclockid(3)` documents the clock; its id is made here as the kernel's
/// `include/linux/posix-timers_types.h` makes it, because asking the C library costs a second call.
/// It takes no lock of the target and needs no privilege.
#[must_use]
pub fn process_cpu_ns(pid: u32) -> Option<u64> {
    /// CPUCLOCK_SCHED: nanoseconds as the scheduler accounts them.
    const SCHED: i32 = 2;
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let id = !pid << 3 | SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the pointer, which is valid for the call; any clock id may be asked for.
    #[expect(unsafe_code, reason = "rustix has no clock of another process")]
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::c_long::from(id), &raw mut time) };
    if answer != 0 {
        return None;
    }
    Some(u64::try_from(time.tv_sec).ok()? * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}

/// CLOCK_BOOTTIME in nanoseconds: since boot, sleep included.
#[must_use]
pub fn boottime_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// CLOCK_MONOTONIC in nanoseconds: since boot, sleep excluded.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(id: ClockId) -> u64 {
    let time = rustix::time::clock_gettime(id);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// No machine gives all its pids away in less, nanoseconds: of the default 32 768 that were 300 000 births a second. An answer under a
/// pid, or news of it, that is younger is of whoever has it now.
pub const PIDS_LAST_NS: u64 = 100_000_000;

/// Clock ticks in nanoseconds; a large machine's process has more of them than 64 bits of nanoseconds in between.
#[must_use]
pub fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1))).unwrap_or(u64::MAX)
}

/// The wall clock and its zone.
#[derive(Debug, Default)]
pub struct Wall {
    zone: Option<(Instant, TimeZone)>,
}

/// How long a zone is used before the system is asked again: `/etc/localtime` may change.
const ZONE_AGE: std::time::Duration = std::time::Duration::from_secs(60);

impl Wall {
    /// Now, in nanoseconds since the epoch.
    #[must_use]
    pub fn unix_ns() -> i64 {
        // Through the C library and not rustix, so that a faked clock is seen.
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// Now, with the local offset.
    pub fn now(&mut self) -> Moment {
        self.at(Self::unix_ns())
    }

    /// Some time, with the offset that holds there.
    pub fn at(&mut self, unix_ns: i64) -> Moment {
        let offset_s = Timestamp::from_nanosecond(i128::from(unix_ns)).map_or(0, |time| self.zone().to_offset(time).seconds());
        Moment { unix_ns, offset_s }
    }

    /// Minutes of a local day: 1440, but where its clocks are set.
    pub fn minutes_of(&mut self, date: jiff::civil::Date) -> u64 {
        let span = moment::day(date, self.zone()).map(|(from, to)| (to.as_second() - from.as_second()) / 60);
        span.and_then(|minutes| u64::try_from(minutes).ok()).unwrap_or(1440)
    }

    /// Name of the zone; its offset now where it has none.
    pub fn zone_name(&mut self) -> String {
        let now = Timestamp::now();
        let zone = self.zone();
        zone.iana_name().map_or_else(|| zone.to_offset(now).to_string(), str::to_owned)
    }

    fn zone(&mut self) -> &TimeZone {
        let now = Instant::now();
        if self.zone.as_ref().is_none_or(|(asked, _)| now.duration_since(*asked) > ZONE_AGE) {
            self.zone = None;
        }
        &self.zone.get_or_insert_with(|| (now, TimeZone::system())).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_clock_runs_and_a_missing_one_is_told() {
        let before = process_cpu_ns(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while process_cpu_ns(std::process::id()).unwrap() < before + 5_000_000 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(sum > 0);
        assert_eq!(process_cpu_ns(0), None);
        assert_eq!(process_cpu_ns(u32::MAX), None);
        assert_eq!(process_cpu_ns(4_194_305), None, "beyond the largest pid there is");
    }

    #[test]
    fn the_clock_is_the_one_of_the_c_library() {
        let ours = process_cpu_ns(std::process::id()).unwrap();
        let library = nanoseconds(ClockId::ProcessCPUTime);
        assert!(library >= ours && library - ours < 1_000_000_000);
    }

    #[test]
    fn boottime_is_not_behind_monotonic() {
        let monotonic = monotonic_ns();
        assert!(boottime_ns() >= monotonic);
    }
}
