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

const NETLINK_HEADER: usize = 16;
/// `struct genlmsghdr`: command, version, reserved.
const GENERIC_HEADER: usize = 4;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// NLMSG_ERROR.
const ERROR: u16 = 2;
/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME.
const CONTROL: (u16, u8, u16, u16) = (0x10, 3, 1, 2);
/// TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_TGID.
const GET: (u8, u16) = (1, 2);
/// TASKSTATS_TYPE_PID, _TGID, _STATS, _AGGR_PID, _AGGR_TGID.
const TYPE: [u16; 5] = [1, 2, 3, 4, 5];

/// What a task, or all tasks of a process, used.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Name, up to its NUL.
    pub comm: Vec<u8>,
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
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
    /// The process it belonged to; from version 12 on.
    pub tgid: Option<u32>,
}

/// Parses the struct; what an older kernel does not send is 0. `None` where it is too short to be one.
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
        comm: stats[80..112].split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
        uid: u32_at(120)?,
        ppid: u32_at(132)?,
        cpu_ns: u64_at(72),
        elapsed_us: u64_at(144),
        user_us: u64_at(152),
        system_us: u64_at(160),
        min_flt: u64_at(168),
        maj_flt: u64_at(176),
        peak_rss: u64_at(200).saturating_mul(1024),
        read_bytes: u64_at(248),
        write_bytes: u64_at(256),
        nvcsw: u64_at(272),
        nivcsw: u64_at(280),
        tgid: if version >= 12 { u32_at(368) } else { None },
    })
}

/// Parses a netlink message of the family: one record, or none.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Record> {
    let buffer = NetlinkBuffer::new_checked(message).ok()?;
    let attributes = buffer.payload().get(GENERIC_HEADER..)?;
    let (kind, nested) = attributes_of(attributes).find(|(kind, _)| *kind == TYPE[3] || *kind == TYPE[4])?;
    let is_process = kind == TYPE[4];
    let id = attributes_of(nested).find(|(kind, _)| *kind == TYPE[usize::from(is_process)])?.1;
    let stats = attributes_of(nested).find(|(kind, _)| *kind == TYPE[2])?.1;
    parse_stats(is_process, u32::from_ne_bytes(id.get(..4)?.try_into().ok()?), stats)
}

/// Attributes: length and type of two bytes each, then the value, padded to four.
fn attributes_of(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
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
        parse(&reply).ok_or_else(|| io::Error::other("the kernel's answer was no taskstats record"))
    }
}

fn request(kind: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER + GENERIC_HEADER + (4 + value.len()).next_multiple_of(4);
    let mut message = vec![0; length];
    let mut header = NetlinkBuffer::new(message.as_mut_slice());
    header.set_length(u32::try_from(length).unwrap_or(0));
    header.set_message_type(kind);
    header.set_flags(REQUEST);
    message[NETLINK_HEADER] = command;
    message[NETLINK_HEADER + 1] = 1;
    let at = NETLINK_HEADER + GENERIC_HEADER;
    message[at..at + 2].copy_from_slice(&u16::try_from(4 + value.len()).unwrap_or(4).to_ne_bytes());
    message[at + 2..at + 4].copy_from_slice(&attribute.to_ne_bytes());
    message[at + 4..at + 4 + value.len()].copy_from_slice(value);
    message
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
        return Err(io::Error::from_raw_os_error(-errno));
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
    fn nobody_is_invented() {
        let taskstats = Taskstats::open().unwrap();
        assert!(taskstats.process(0x7fff_fff0).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse_stats(false, 1, &bytes);
            let mut message = vec![0; 16];
            message.extend_from_slice(&bytes);
            let length = u32::try_from(message.len()).unwrap();
            message[..4].copy_from_slice(&length.to_ne_bytes());
            let _ = parse(&message);
        }
    }
}
