//! The machine: who it is, how it counts, and the counters of the whole.

use std::fs;

use super::procdir::Proc;
use super::{ReadError, number};

/// What does not change while the machine is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `uname(2)`'s nodename.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id` without hyphens; empty where it could not be read.
    pub boot_id: String,
    /// Inode of our pid namespace; `?` where it could not be read.
    pub pidns: String,
    /// Clock ticks a second.
    pub hz: u64,
    /// Bytes of a page.
    pub page: u64,
    /// MemTotal, bytes; 0 where it could not be read.
    pub mem_total: u64,
}

impl Machine {
    /// Asks the kernel; of what it does not tell the field's own mark is kept, as none of it is worth failing for.
    #[must_use]
    pub fn read(proc: &Proc) -> Self {
        let text = |path: &str| proc.read(path).unwrap_or_default();
        let boot_id = String::from_utf8_lossy(&text("sys/kernel/random/boot_id")).trim().replace('-', "");
        let pidns = fs::read_link(proc.path().join("self/ns/pid"))
            .ok()
            .and_then(|link| Some(link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.to_owned()))
            .unwrap_or_else(|| "?".to_owned());
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id,
            pidns,
            hz: rustix::param::clock_ticks_per_second(),
            page: rustix::param::page_size() as u64,
            mem_total: meminfo(&text("meminfo"), b"MemTotal").unwrap_or(0),
        }
    }
}

/// The most mappings a process may have (`vm.max_map_count`); `None` where it could not be read.
#[must_use]
pub fn max_map_count(proc: &Proc) -> Option<u64> {
    number(proc.read("sys/vm/max_map_count").ok()?.trim_ascii())
}

/// CPUs online, from `/proc/stat`'s `cpuN` lines; 1 at least.
#[must_use]
pub fn cpus(stat: &[u8]) -> u64 {
    let lines = stat.split(|byte| *byte == b'\n');
    let count = lines.filter(|line| line.strip_prefix(b"cpu").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)).count();
    count.max(1) as u64
}

/// CPUs online: from sysfs, which is cheap, else from `/proc/stat`.
#[must_use]
pub fn cpus_online(proc: &Proc) -> u64 {
    let listed = fs::read("/sys/devices/system/cpu/online").ok().filter(|_| proc.is_native()).and_then(|list| count_list(&list));
    listed.unwrap_or_else(|| cpus(&proc.read("stat").unwrap_or_default()))
}

/// Lists of the CPUs that are online and of those that could be, as the kernel writes them.
#[must_use]
pub fn cpu_lists() -> (String, String) {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/{name}")).unwrap_or_default().trim().to_owned();
    let online = read("online");
    let online = if online.is_empty() { "0".to_owned() } else { online };
    let possible = read("possible");
    let possible = if possible.is_empty() { online.clone() } else { possible };
    (online, possible)
}

/// Counts a list such as `0-3,8`.
fn count_list(list: &[u8]) -> Option<u64> {
    list.trim_ascii().split(|byte| *byte == b',').try_fold(0, |sum, range| {
        let mut ends = range.splitn(2, |byte| *byte == b'-');
        let first = number(ends.next()?)?;
        let last = ends.next().map_or(Some(first), number)?;
        Some(sum + last.checked_sub(first)? + 1)
    })
}

/// Forks and clones since boot, threads too: `processes` of `/proc/stat`.
#[must_use]
pub fn processes(stat: &[u8]) -> Option<u64> {
    field(stat, b"processes")
}

/// A line of `/proc/meminfo`, in bytes.
#[must_use]
pub fn meminfo(text: &[u8], name: &[u8]) -> Option<u64> {
    let line = text.split(|byte| *byte == b'\n').find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(b":")))?;
    let value = line[name.len() + 1..].trim_ascii();
    number(value.split(u8::is_ascii_whitespace).next()?)?.checked_mul(1024)
}

/// Pages swapped and reclaimed since boot, from `/proc/vmstat`: while the sum stands still, memory of a
/// process that did not run stayed where it was.
///
/// # Errors
/// As [`ReadError`] says.
pub fn reclaim_activity(proc: &Proc) -> Result<u64, ReadError> {
    const COUNTERS: [&[u8]; 6] = [b"pswpin", b"pswpout", b"pgsteal_kswapd", b"pgsteal_direct", b"pgsteal_khugepaged", b"pgsteal_proactive"];
    let text = proc.read("vmstat")?;
    Ok(COUNTERS.iter().filter_map(|name| field(&text, name)).fold(0, u64::wrapping_add))
}

fn field(text: &[u8], name: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| number(line.strip_prefix(name)?.strip_prefix(b" ")?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5 6\nctxt 7\nbtime 1795190400\nprocesses 16680\nprocs_running 2\n";

    #[test]
    fn counters_of_the_whole() {
        assert_eq!(cpus(STAT), 2);
        assert_eq!((count_list(b"0-3,8\n"), count_list(b"0\n"), count_list(b"")), (Some(5), Some(1), None));
        assert_eq!(processes(STAT), Some(16_680));
        assert_eq!(processes(b"procs_running 2\n"), None);
        assert_eq!(meminfo(b"MemTotal:       1000 kB\nSwapTotal: 0 kB\n", b"SwapTotal"), Some(0));
        assert_eq!(meminfo(b"MemTotal:       1000 kB\n", b"MemTotal"), Some(1_024_000));
        assert_eq!(meminfo(b"", b"MemTotal"), None);
    }

    #[test]
    fn this_machine_names_itself() {
        let machine = Machine::read(&Proc::open(std::path::Path::new("/proc")).unwrap());
        assert_eq!(machine.boot_id.len(), 32);
        assert!(machine.pidns.parse::<u64>().is_ok() && machine.mem_total > 0 && machine.hz >= 100);
    }
}
