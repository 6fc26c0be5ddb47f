//! `/proc/PID/status`: `proc_pid_status(5)`. Read where a column asks for it, not each tick.

use super::number;

/// The lines psmon uses. A line that is not there (kernel threads have no memory) is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Status {
    /// Real, effective, saved and file-system user.
    pub uids: [u32; 4],
    /// Real, effective, saved and file-system group.
    pub gids: [u32; 4],
    /// Supplementary groups as the kernel lists them.
    pub groups: Vec<u32>,
    /// Pid of the tracer, 0 without one.
    pub tracer: u32,
    /// Pid in the innermost pid namespace.
    pub ns_pid: Option<u32>,
    /// VmHWM, bytes.
    pub peak_rss: Option<u64>,
    /// RssAnon, bytes.
    pub rss_anon: Option<u64>,
    /// RssFile, bytes.
    pub rss_file: Option<u64>,
    /// RssShmem, bytes.
    pub rss_shmem: Option<u64>,
    /// VmData, bytes.
    pub data: Option<u64>,
    /// VmStk, bytes.
    pub stack: Option<u64>,
    /// VmLck, bytes.
    pub locked: Option<u64>,
    /// VmSwap, bytes.
    pub swap: Option<u64>,
    /// ShdPnd, SigBlk, SigIgn, SigCgt as written.
    pub signals: [Vec<u8>; 4],
    /// CapEff as written.
    pub cap_eff: Vec<u8>,
    /// Voluntary context switches of the first task.
    pub nvcsw: u64,
    /// Involuntary context switches of the first task.
    pub nivcsw: u64,
}

/// Parses the file. Unknown lines are passed over, damaged ones too.
#[must_use]
pub fn parse(text: &[u8]) -> Status {
    let mut status = Status::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let value = line[colon + 1..].trim_ascii();
        let kib = || number(value.split(u8::is_ascii_whitespace).next()?)?.checked_mul(1024);
        let plain = || number(value).and_then(|count| u32::try_from(count).ok());
        match &line[..colon] {
            b"Uid" => status.uids = four(value),
            b"Gid" => status.gids = four(value),
            b"Groups" => status.groups = list(value).collect(),
            b"TracerPid" => status.tracer = plain().unwrap_or(0),
            b"NSpid" => status.ns_pid = list(value).last(),
            b"VmHWM" => status.peak_rss = kib(),
            b"RssAnon" => status.rss_anon = kib(),
            b"RssFile" => status.rss_file = kib(),
            b"RssShmem" => status.rss_shmem = kib(),
            b"VmData" => status.data = kib(),
            b"VmStk" => status.stack = kib(),
            b"VmLck" => status.locked = kib(),
            b"VmSwap" => status.swap = kib(),
            b"ShdPnd" => status.signals[0] = value.to_vec(),
            b"SigBlk" => status.signals[1] = value.to_vec(),
            b"SigIgn" => status.signals[2] = value.to_vec(),
            b"SigCgt" => status.signals[3] = value.to_vec(),
            b"CapEff" => status.cap_eff = value.to_vec(),
            b"voluntary_ctxt_switches" => status.nvcsw = number(value).unwrap_or(0),
            b"nonvoluntary_ctxt_switches" => status.nivcsw = number(value).unwrap_or(0),
            _ => {}
        }
    }
    status
}

/// What is read of a process each time it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Brief {
    /// Real user.
    pub uid: Option<u32>,
    /// CapEff, its bits.
    pub cap_eff: Option<u64>,
    /// VmLck, bytes.
    pub locked: Option<u64>,
    /// VmStk, bytes.
    pub stack: Option<u64>,
    /// Voluntary context switches of the first task.
    pub nvcsw: u64,
    /// Involuntary context switches of the first task.
    pub nivcsw: u64,
}

/// Parses only that, without an allocation; `None` where the switches are not in it.
#[must_use]
pub fn brief(text: &[u8]) -> Option<Brief> {
    let mut brief = Brief::default();
    let mut switches = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
        rest = after;
        let value = |name: &[u8]| line.strip_prefix(name).map(<[u8]>::trim_ascii);
        let kib = |value: &[u8]| number(value.split(u8::is_ascii_whitespace).next()?)?.checked_mul(1024);
        match line.first() {
            Some(b'V') => {
                if let Some(value) = value(b"VmLck:") {
                    brief.locked = kib(value);
                } else if let Some(value) = value(b"VmStk:") {
                    brief.stack = kib(value);
                }
            }
            Some(b'U') => {
                if let Some(ids) = value(b"Uid:") {
                    brief.uid = list(ids).next();
                }
            }
            Some(b'C') => {
                if let Some(bits) = value(b"CapEff:") {
                    brief.cap_eff = std::str::from_utf8(bits).ok().and_then(|bits| u64::from_str_radix(bits, 16).ok());
                }
            }
            Some(b'v') => {
                if let Some(count) = value(b"voluntary_ctxt_switches:").and_then(number) {
                    brief.nvcsw = count;
                    switches += 1;
                }
            }
            Some(b'n') => {
                if let Some(count) = value(b"nonvoluntary_ctxt_switches:").and_then(number) {
                    brief.nivcsw = count;
                    switches += 1;
                }
            }
            _ => {}
        }
    }
    (switches == 2).then_some(brief)
}

fn list(value: &[u8]) -> impl Iterator<Item = u32> {
    value.split(u8::is_ascii_whitespace).filter_map(|word| number(word).and_then(|count| u32::try_from(count).ok()))
}

fn four(value: &[u8]) -> [u32; 4] {
    let mut ids = [0; 4];
    for (place, id) in ids.iter_mut().zip(list(value)) {
        *place = id;
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"Name:\tx\\ny\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t10\nPid:\t10\nPPid:\t1\nTracerPid:\t7\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t4 24 27 \nNSpid:\t10\t3\nVmHWM:\t    2048 kB\nVmLck:\t       0 kB\nRssAnon:\t     100 kB\nRssFile:\t     200 kB\nRssShmem:\t       4 kB\nVmData:\t     300 kB\nVmStk:\t     132 kB\nVmSwap:\t      12 kB\nShdPnd:\t0000000000000100\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180000000\nCapEff:\t000001ffffffffff\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t2\n";

    #[test]
    fn a_captured_status() {
        let status = parse(TEXT);
        assert_eq!((status.uids, status.gids), ([1000, 1001, 1002, 1003], [5, 6, 7, 8]));
        assert_eq!(status.groups, [4, 24, 27]);
        assert_eq!((status.tracer, status.ns_pid), (7, Some(3)));
        assert_eq!((status.peak_rss, status.swap, status.locked), (Some(2 << 20), Some(12 << 10), Some(0)));
        assert_eq!((status.rss_anon, status.rss_file, status.rss_shmem), (Some(100 << 10), Some(200 << 10), Some(4 << 10)));
        assert_eq!((status.data, status.stack), (Some(300 << 10), Some(132 << 10)));
        assert_eq!(status.signals[3], b"0000000180000000");
        assert_eq!((status.nvcsw, status.nivcsw), (15, 2));
    }

    #[test]
    fn in_brief_it_is_the_same() {
        let brief = brief(TEXT).unwrap();
        assert_eq!((brief.locked, brief.stack, brief.nvcsw, brief.nivcsw), (Some(0), Some(132 << 10), 15, 2));
        assert_eq!((brief.uid, brief.cap_eff), (Some(1000), Some(0x1ff_ffff_ffff)));
        assert_eq!(super::brief(b"VmLck:\t0 kB\n"), None, "a zombie's is short, and half a file says nothing");
        let own = std::fs::read("/proc/self/status").unwrap();
        let whole = parse(&own);
        let brief = super::brief(&own).unwrap();
        assert_eq!((brief.locked, brief.stack, brief.nvcsw, brief.nivcsw), (whole.locked, whole.stack, whole.nvcsw, whole.nivcsw));
        assert_eq!(brief.uid, Some(whole.uids[0]));
    }

    #[test]
    fn a_kernel_thread_has_no_memory() {
        assert_eq!(parse(b"Name:\tkthreadd\nUid:\t0\t0\t0\t0\n").swap, None);
    }

    #[test]
    fn the_oracle_agrees_about_ourselves() {
        let oracle = procfs::process::Process::myself().unwrap().status().unwrap();
        let status = parse(&std::fs::read("/proc/self/status").unwrap());
        assert_eq!(status.uids, [oracle.ruid, oracle.euid, oracle.suid, oracle.fuid]);
        assert_eq!(status.gids, [oracle.rgid, oracle.egid, oracle.sgid, oracle.fgid]);
        assert_eq!(status.swap, oracle.vmswap.map(|kib| kib * 1024));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = brief(&bytes);
        }
    }
}
