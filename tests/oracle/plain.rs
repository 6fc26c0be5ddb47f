//! The oracle: what a plain reader sees in /proc. No gate, no cache, no parser of psmon's.

#![allow(unreachable_pub)] // of a test

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

/// `pid`, `start`.
pub type Id = (i64, i64);

/// One process, read file by file.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub comm: Vec<u8>,
    pub state: u8,
    /// Numbers by the names of psmon's columns.
    pub numbers: BTreeMap<&'static str, i64>,
    /// Clock ticks of CPU.
    pub cpu_ticks: i64,
    /// Nanoseconds of CPU of its first task.
    pub ran_ns: Vec<u8>,
    pub tty: i64,
    pub kthread: bool,
    pub user: Vec<u8>,
    pub program: Vec<u8>,
    pub cgroup: Vec<u8>,
    /// The arguments without trailing empty ones; `None` where there is no byte of them.
    pub args: Option<Vec<Vec<u8>>>,
}

/// Everyone there is now.
#[derive(Clone, Debug)]
pub struct Reading {
    pub ended_ns: i128,
    pub began_uptime_s: f64,
    pub all: BTreeMap<Id, Seen>,
}

pub fn unix_ns() -> i128 {
    i128::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

pub fn uptime_s() -> f64 {
    fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
}

pub fn read_all() -> Reading {
    let began_uptime_s = uptime_s();
    let users = users();
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        if let Ok(pid) = name.to_string_lossy().parse::<u32>()
            && let Some((start, seen)) = read(pid, &users)
        {
            all.insert((i64::from(pid), start), seen);
        }
    }
    Reading { ended_ns: unix_ns(), began_uptime_s, all }
}

fn users() -> BTreeMap<u32, Vec<u8>> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.as_bytes().to_vec();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    passwd.lines().filter_map(user).collect()
}

/// One process; `None` if it went away meanwhile.
fn read(pid: u32, users: &BTreeMap<u32, Vec<u8>>) -> Option<(i64, Seen)> {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}"));
    let stat = file("stat").ok()?;
    let from = stat.iter().position(|byte| *byte == b'(')? + 1;
    let to = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = stat[from..to].to_vec();
    let rest = String::from_utf8_lossy(&stat[to + 2..]).into_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Field N of the manual stands at N - 3.
    let field = |number: usize| fields[number - 3].parse::<i64>().unwrap_or(i64::MAX);
    let kthread = field(9) & 0x0020_0000 != 0;
    let status = String::from_utf8_lossy(&file("status").ok()?).into_owned();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let euid: u32 = line("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let swap = line("VmSwap:").map_or(0, |kib| kib.trim_end_matches(" kB").parse::<i64>().unwrap() * 1024);
    let page = i64::try_from(rustix::param::page_size()).unwrap();
    // statm, not field 24 of stat, which lags by what each CPU has not yet added up.
    let statm = String::from_utf8_lossy(&file("statm").ok()?).into_owned();
    let resident: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let numbers = BTreeMap::from([
        ("ppid", field(4)),
        ("pgrp", field(5)),
        ("session", field(6)),
        ("nice", field(19)),
        ("threads", field(20)),
        ("vsz", field(23)),
        ("rss", resident * page),
        ("swap", swap),
        ("min_flt", field(10)),
        ("maj_flt", field(12)),
        ("uid", i64::from(euid)),
    ]);
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let program = exe.and_then(|exe| {
        let text = exe.as_os_str().as_bytes().to_vec();
        let text = text.strip_suffix(b" (deleted)").map_or(text.clone(), <[u8]>::to_vec);
        text.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec)
    });
    let groups = String::from_utf8_lossy(&file("cgroup").ok()?).into_owned();
    let group = |prefix: &str| groups.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path.to_owned());
    let cgroup = group(":name=systemd:").filter(|path| path != "/").or_else(|| group("0::")).unwrap_or_default();
    let cmdline = file("cmdline").ok()?;
    let end = cmdline.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let args = (!cmdline.is_empty()).then(|| cmdline[..end].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect());
    let seen = Seen {
        program: program.unwrap_or_else(|| comm.clone()),
        comm,
        state: fields[0].as_bytes()[0],
        numbers,
        cpu_ticks: field(14) + field(15),
        ran_ns: file("schedstat").unwrap_or_default().split(|byte| *byte == b' ').next().unwrap_or_default().to_vec(),
        tty: field(7),
        kthread,
        user: users.get(&euid).cloned().unwrap_or_else(|| euid.to_string().into_bytes()),
        cgroup: cgroup.into_bytes(),
        args,
    };
    Some((field(22), seen))
}
