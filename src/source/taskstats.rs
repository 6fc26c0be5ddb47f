//! taskstats: what a task used, to the nanosecond, also when it ends.
//!
//! `include/uapi/linux/taskstats.h`, `Documentation/accounting/taskstats.rst`. A generic netlink family; asking it
//! needs CAP_NET_ADMIN. The struct only ever grows, so it is read by the length that came.

use std::io;
use std::time::Duration;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::constants::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{self, Inbox};

const NETLINK_HEADER: usize = 16;
/// `struct genlmsghdr`: command, version, reserved.
const GENERIC_HEADER: usize = 4;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// NLM_F_ACK.
const ACKNOWLEDGE: u16 = 4;
/// NLMSG_ERROR.
const ERROR: u16 = 2;
/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME.
const CONTROL: (u16, u8, u16, u16) = (0x10, 3, 1, 2);
/// TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_TGID.
const GET: (u8, u16) = (1, 2);
/// TASKSTATS_CMD_ATTR_REGISTER_CPUMASK.
const REGISTER: u16 = 3;
/// AGROUP in `flag`, from version 12 on: the last task of its process.
const LAST_OF_PROCESS: u8 = 0x20;
/// TASKSTATS_TYPE_PID, _TGID, _STATS, _AGGR_PID, _AGGR_TGID.
const TYPE: [u16; 5] = [1, 2, 3, 4, 5];

/// The kernel rounds the io counters of a record, even the numbers of system calls, down to a multiple of this, task by task
/// (`KB_MASK` in `xacct_add_tsk`, `kernel/tsacct.c`). What `/proc/PID/io` said last may therefore be more, and is then the truer.
pub const IO_STEP: u64 = 1024;

/// What a task, or all tasks of a process, used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whether it speaks of the whole process.
    pub is_process: bool,
    /// The task, or the process.
    pub id: u32,
    /// Version of the kernel's struct.
    pub version: u16,
    /// Wait status of an ended task.
    pub exit_code: u32,
    /// AFORK 1, ASU 2, ACORE 8, AXSIG 16, and from version 12 on AGROUP 32: the last task of its process.
    pub flag: u8,
    /// Name, NUL-padded.
    pub comm: [u8; 16],
    /// User.
    pub uid: u32,
    /// Parent.
    pub ppid: u32,
    /// CPU time as the scheduler accounts it, nanoseconds (cpu_run_virtual_total).
    pub cpu_ns: u64,
    /// User part of the CPU time, sampled, microseconds.
    pub user_us: u64,
    /// System part, sampled, microseconds.
    pub system_us: u64,
    /// Time since its birth, microseconds.
    pub elapsed_us: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// Largest resident memory of its address space, bytes.
    pub peak_rss: u64,
    /// Bytes passed to read(2) and its kin; like all seven io counters a multiple of 1024, see [`IO_STEP`].
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
    /// The process it belonged to; from version 12 on.
    pub tgid: Option<u32>,
}

impl Record {
    /// Whether it was the last task of its process; `None` where the kernel does not say.
    #[must_use]
    pub const fn is_last(&self) -> Option<bool> {
        if self.version >= 12 { Some(self.flag & LAST_OF_PROCESS != 0) } else { None }
    }

    /// The name without its padding.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.comm.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Parses the struct, by the offsets of `struct taskstats` in `include/uapi/linux/taskstats.h`; what an older kernel does not send is 0. `None` where it is too short to be one.
#[must_use]
pub fn parse_stats(is_process: bool, id: u32, stats: &[u8]) -> Option<Record> {
    /// Up to and with `nivcsw`: version 3, of Linux 2.6.20.
    const SHORTEST: usize = 288;
    if stats.len() < SHORTEST {
        return None;
    }
    let u32_at = |at: usize| stats.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let u64_at = |at: usize| stats.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let version = u16::from_ne_bytes([stats[0], stats[1]]);
    Some(Record {
        is_process,
        id,
        version,
        exit_code: u32_at(4)?,
        flag: stats[8],
        comm: stats[80..96].try_into().ok()?,
        uid: u32_at(120)?,
        ppid: u32_at(132)?,
        cpu_ns: u64_at(72),
        elapsed_us: u64_at(144),
        user_us: u64_at(152),
        system_us: u64_at(160),
        min_flt: u64_at(168),
        maj_flt: u64_at(176),
        peak_rss: u64_at(200).saturating_mul(1024),
        // `read_char` and what follows it; 0 where the kernel lacks CONFIG_TASK_XACCT, the last three where it lacks
        // CONFIG_TASK_IO_ACCOUNTING.
        rchar: u64_at(216),
        wchar: u64_at(224),
        syscr: u64_at(232),
        syscw: u64_at(240),
        read_bytes: u64_at(248),
        write_bytes: u64_at(256),
        cancelled_write_bytes: u64_at(264),
        nvcsw: u64_at(272),
        nivcsw: u64_at(280),
        tgid: if version >= 12 { u32_at(368) } else { None },
    })
}

/// Parses a netlink message of the family. At its exit a task sends its own record; the last one of a process that ever had a
/// second task sends one of the whole process along, in the same message.
pub fn parse(message: &[u8]) -> impl Iterator<Item = Record> {
    let buffer = NetlinkBuffer::new_checked(message).ok();
    let attributes = buffer.and_then(|buffer| buffer.payload().get(GENERIC_HEADER..)).unwrap_or_default();
    attributes_of(attributes).filter(|(kind, _)| *kind == TYPE[3] || *kind == TYPE[4]).filter_map(|(kind, nested)| {
        let is_process = kind == TYPE[4];
        let id = attributes_of(nested).find(|(kind, _)| *kind == TYPE[usize::from(is_process)])?.1;
        let stats = attributes_of(nested).find(|(kind, _)| *kind == TYPE[2])?.1;
        parse_stats(is_process, u32::from_ne_bytes(id.get(..4)?.try_into().ok()?), stats)
    })
}

/// Attributes: length and type of two bytes each, then the value, padded to four.
fn attributes_of(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?)).max(4);
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A socket that can be asked.
#[derive(Debug)]
pub struct Taskstats {
    socket: Socket,
    family: u16,
}

impl Taskstats {
    /// Finds the family.
    ///
    /// # Errors
    /// The kernel has no taskstats (CONFIG_TASKSTATS), or none for this network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let (id, command, wanted, name) = CONTROL;
        let reply = exchange(&socket, &request(id, command, name, b"TASKSTATS\0"))?;
        let found = NetlinkBuffer::new_checked(&reply).ok().and_then(|buffer| {
            let attributes = buffer.payload().get(GENERIC_HEADER..)?.to_vec();
            let value = attributes_of(&attributes).find(|(kind, _)| *kind == wanted)?.1;
            Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?))
        });
        let family = found.ok_or_else(|| io::Error::other("the kernel named no family TASKSTATS"))?;
        Ok(Self { socket, family })
    }

    /// What a live process used so far.
    ///
    /// # Errors
    /// It is gone, or CAP_NET_ADMIN is missing.
    pub fn process(&self, pid: u32) -> io::Result<Record> {
        let (command, attribute) = GET;
        let reply = exchange(&self.socket, &request(self.family, command, attribute, &pid.to_ne_bytes()))?;
        parse(&reply).next().ok_or_else(|| io::Error::other("the kernel's answer was no taskstats record"))
    }
}

fn request(kind: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    request_with(kind, command, attribute, value, REQUEST)
}

fn request_with(kind: u16, command: u8, attribute: u16, value: &[u8], flags: u16) -> Vec<u8> {
    let length = NETLINK_HEADER + GENERIC_HEADER + (4 + value.len()).next_multiple_of(4);
    let mut message = vec![0; length];
    let mut header = NetlinkBuffer::new(message.as_mut_slice());
    header.set_length(u32::try_from(length).unwrap_or(0));
    header.set_message_type(kind);
    header.set_flags(flags);
    message[NETLINK_HEADER] = command;
    message[NETLINK_HEADER + 1] = 1;
    let at = NETLINK_HEADER + GENERIC_HEADER;
    message[at..at + 2].copy_from_slice(&u16::try_from(4 + value.len()).unwrap_or(4).to_ne_bytes());
    message[at + 2..at + 4].copy_from_slice(&attribute.to_ne_bytes());
    message[at + 4..at + 4 + value.len()].copy_from_slice(value);
    message
}

/// Hears of every task that ends: one socket for each CPU, so that none overflows and each counts its own numbers; those of
/// CPUs that are possible but off come to one more, so that a CPU that is switched on is heard from its first moment.
#[derive(Debug)]
pub struct ExitListener {
    sockets: Vec<Heard>,
}

#[derive(Debug)]
struct Heard {
    socket: Socket,
    /// The number of the message to come; `None` before the first, and where several CPUs count.
    next: Option<u32>,
    counts: bool,
}

/// What came of emptying the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Messages that are missing from the numbers.
    pub lost: u64,
    /// Times that a buffer overflowed.
    pub overruns: u64,
}

impl ExitListener {
    /// Registers for all CPUs, with a receive buffer of so many bytes each. Lists are the kernel's: `0-3,8`.
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing, or this is not the machine's first pid or user namespace.
    pub fn open(online: &str, possible: &str, buffer: usize) -> io::Result<Self> {
        let family = Taskstats::open()?.family;
        let online = cpu_list(online);
        let off: Vec<u32> = cpu_list(possible).into_iter().filter(|cpu| !online.contains(cpu)).collect();
        let mut sockets = Vec::with_capacity(online.len() + 1);
        let each = online.iter().map(|cpu| (cpu.to_string(), true));
        let rest = (!off.is_empty()).then(|| (off.iter().map(u32::to_string).collect::<Vec<_>>().join(","), false));
        for (mask, counts) in each.chain(rest) {
            let mut socket = Socket::new(NETLINK_GENERIC)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            netlink::enlarge(&socket, buffer)?;
            let mut text = mask.into_bytes();
            text.push(0);
            // With an acknowledgement, so that a refusal is seen.
            let message = request_with(family, GET.0, REGISTER, &text, REQUEST | ACKNOWLEDGE);
            exchange(&socket, &message)?;
            socket.set_non_blocking(true)?;
            sockets.push(Heard { socket, next: None, counts });
        }
        Ok(Self { sockets })
    }

    /// Hands on all records that wait, and says what is missing. Never waits.
    pub fn receive(&mut self, inbox: &mut Inbox, mut take: impl FnMut(Record)) -> Received {
        let mut received = Received::default();
        for heard in &mut self.sockets {
            loop {
                match inbox.receive(&heard.socket) {
                    Ok(_) => {}
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                        received.overruns += 1;
                        continue;
                    }
                    Err(_) => break,
                }
                for message in inbox.messages() {
                    let Ok(buffer) = NetlinkBuffer::new_checked(message) else { continue };
                    if heard.counts {
                        let number = buffer.sequence_number();
                        let missing = number.wrapping_sub(heard.next.unwrap_or(number));
                        // A task that moved to another CPU on its way out brings that one's number: a step back is no loss.
                        if missing.cast_signed() >= 0 {
                            received.lost += u64::from(missing);
                            heard.next = Some(number.wrapping_add(1));
                        }
                    }
                    parse(message).for_each(&mut take);
                }
                if !inbox.is_full() {
                    break;
                }
            }
        }
        received
    }
}

/// The CPUs of a list such as `0-3,8`; what cannot be read is left out.
fn cpu_list(list: &str) -> Vec<u32> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Sends a request and waits for its answer; an NLMSG_ERROR is the error it names.
fn exchange(socket: &Socket, message: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(message, 0)?;
    let limit = Timespec::try_from(Duration::from_secs(1)).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (reply, _) = socket.recv_from_full()?;
    let buffer = NetlinkBuffer::new_checked(&reply).map_err(io::Error::other)?;
    if buffer.message_type() == ERROR {
        let errno = buffer.payload().get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
        // An acknowledgement is an error of the number 0.
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(-errno));
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn we_ourselves_are_accounted() {
        let taskstats = Taskstats::open().unwrap();
        match taskstats.process(std::process::id()) {
            Ok(record) => {
                assert!(record.is_process && record.id == std::process::id() && record.version >= 8);
                // The record of a whole process says CPU and switches of its live tasks, and its CPU is the CPU clock's.
                let clock = crate::source::clock::process_cpu_ns(std::process::id()).unwrap();
                assert!(record.cpu_ns > 0 && record.cpu_ns <= clock, "{} of {clock}", record.cpu_ns);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => println!("SKIPPED: taskstats needs CAP_NET_ADMIN"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn each_counter_has_its_place() {
        // `struct taskstats` of version 16, 512 bytes: each of its 64-bit words holds its own offset.
        let mut bytes: Vec<u8> = (0_u64..64).flat_map(|word| (word * 8).to_ne_bytes()).collect();
        bytes[..2].copy_from_slice(&16_u16.to_ne_bytes());
        let record = parse_stats(false, 7, &bytes).unwrap();
        assert_eq!((record.id, record.version, record.cpu_ns, record.peak_rss), (7, 16, 72, 200 * 1024));
        assert_eq!((record.rchar, record.wchar, record.syscr, record.syscw), (216, 224, 232, 240));
        assert_eq!((record.read_bytes, record.write_bytes, record.cancelled_write_bytes), (248, 256, 264));
        assert_eq!((record.nvcsw, record.nivcsw, record.tgid), (272, 280, Some(368)));
        assert_eq!(parse_stats(false, 7, &bytes[..287]), None);
        // The shortest there ever was holds all of them.
        assert_eq!(parse_stats(false, 7, &bytes[..288]).unwrap().cancelled_write_bytes, 264);
    }

    #[test]
    fn what_the_dead_wrote_is_told() {
        let (online, possible) = crate::source::host::cpu_lists();
        let mut listener = match ExitListener::open(&online, &possible, 4 << 20) {
            Ok(listener) => listener,
            Err(error) => {
                println!("SKIPPED: exit records: {error}");
                return;
            }
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        // 3000 blocks of 512 bytes, each read and written by a system call of its own.
        let arguments = ["if=/dev/zero".into(), format!("of={}", file.path().display()), "bs=512".into(), "count=3000".into()];
        let mut child = std::process::Command::new("dd").args(arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
        let pid = child.id();
        assert!(child.wait().unwrap().success());
        let (mut inbox, mut found) = (Inbox::new(32), None);
        listener.receive(&mut inbox, |record| {
            if record.id == pid {
                found = Some(record);
            }
        });
        let record = found.unwrap();
        let all = [record.rchar, record.wchar, record.syscr, record.syscw, record.read_bytes, record.write_bytes];
        if record.syscw == 0 {
            println!("SKIPPED: this kernel does not account io (CONFIG_TASK_XACCT): {all:?}");
            return;
        }
        assert!(all.iter().all(|count| count.is_multiple_of(IO_STEP)), "{all:?}");
        assert!(record.wchar >= 3000 * 512 && record.wchar < 3000 * 512 + (64 << 10), "{all:?}");
        assert!(record.rchar >= 3000 * 512 && record.syscr >= 2048 && record.syscw == 2048, "{all:?}");
    }

    #[test]
    fn nobody_is_invented() {
        let taskstats = Taskstats::open().unwrap();
        assert!(taskstats.process(0x7fff_fff0).is_err());
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!((cpu_list(""), cpu_list("x,1-")), (vec![], vec![]));
    }

    #[test]
    fn whoever_ends_is_heard_and_the_last_task_says_so() {
        let (online, possible) = crate::source::host::cpu_lists();
        let mut listener = match ExitListener::open(&online, &possible, 4 << 20) {
            Ok(listener) => listener,
            Err(error) => {
                println!("SKIPPED: exit records: {error}");
                return;
            }
        };
        // It sleeps for a moment: of whoever runs from its birth to its end without leaving the CPU, and without a tick, the kernel
        // has counted nothing yet when it makes the record (`update_curr` in `kernel/sched/fair.c`).
        let mut child = std::process::Command::new("sleep").arg("0.01").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        // A record is sent before its process can be waited for.
        let (mut inbox, mut found) = (Inbox::new(32), None);
        listener.receive(&mut inbox, |record| {
            if record.id == pid {
                found = Some(record);
            }
        });
        let record = found.unwrap();
        assert_eq!((record.name(), record.is_process, record.exit_code), (&b"sleep"[..], false, 0));
        assert!(record.cpu_ns > 0 && record.peak_rss > 0 && record.is_last() != Some(false), "{record:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse_stats(false, 1, &bytes);
            let mut message = vec![0; 16];
            message.extend_from_slice(&bytes);
            let length = u32::try_from(message.len()).unwrap();
            message[..4].copy_from_slice(&length.to_ne_bytes());
            let _ = parse(&message).count();
        }
    }
}
