//! What taskstats tell a plain listener of the CPU of the dead: the most that a recorder can know of it.
//!
//! The kernel tells before a task gives back its memory and before its last switch, whose CPU it tells the parent alone. How
//! much that is depends on the machine and its load. `Documentation/accounting/taskstats.rst`.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use netlink_sys::Socket;
use netlink_sys::constants::NETLINK_GENERIC;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys;

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY; CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// TASKSTATS_CMD_GET; TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, _DEREGISTER_CPUMASK.
const GET: u8 = 1;
const REGISTER: u16 = 3;
const DEREGISTER: u16 = 4;
/// TASKSTATS_TYPE_PID, _TGID, _STATS, _AGGR_PID, _AGGR_TGID.
const PID: u16 = 1;
const TGID: u16 = 2;
const STATS: u16 = 3;
const OF_TASK: u16 = 4;
const OF_PROCESS: u16 = 5;
/// `cpu_run_virtual_total` in `struct taskstats`.
const CPU: usize = 72;
/// Headers: `struct nlmsghdr`, and that with `struct genlmsghdr`.
const NETLINK: usize = 16;
const GENERIC: usize = NETLINK + 4;

/// Nanoseconds by pid; of a process that had threads, those of all of them.
pub(crate) type Accounts = HashMap<u32, u64>;

/// Listens until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Accountant {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Accounts>>,
}

impl Accountant {
    pub(crate) fn start() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        sys::set_receive_buffer(socket.as_fd(), 16 << 20)?;
        socket.set_non_blocking(true)?;
        socket.send(&request(CONTROL, GET_FAMILY, FAMILY_NAME, b"TASKSTATS\0"), 0)?;
        let mut message = Vec::with_capacity(8192);
        ensure!(wait(&socket)?, "no answer of the kernel");
        socket.recv(&mut message, 0)?;
        let attribute = attributes(message.get(GENERIC..).unwrap_or_default()).find(|(kind, _)| *kind == FAMILY_ID);
        let family = attribute.and_then(|(_, data)| data.first_chunk()).map(|id| u16::from_ne_bytes(*id)).context("no taskstats here")?;
        let mut cpus = fs::read("/sys/devices/system/cpu/possible")?.trim_ascii().to_vec();
        cpus.push(0);
        socket.send(&request(family, GET, REGISTER, &cpus), 0)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("accountant".to_owned()).spawn(move || {
            let (mut tasks, mut processes) = (Accounts::new(), Accounts::new());
            loop {
                let last = flag.load(Ordering::Relaxed);
                let _ = wait(&socket);
                message.clear();
                while socket.recv(&mut message, 0).is_ok() {
                    for (kind, data) in attributes(message.get(GENERIC..).unwrap_or_default()) {
                        let one = |wanted| attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, data)| data);
                        let id = |data: &[u8]| data.first_chunk().map(|id| u32::from_ne_bytes(*id));
                        let ns = |data: &[u8]| Some(u64::from_ne_bytes(data.get(CPU..CPU + 8)?.try_into().ok()?));
                        let (into, id) = match kind {
                            OF_TASK => (&mut tasks, one(PID).and_then(id)),
                            OF_PROCESS => (&mut processes, one(TGID).and_then(id)),
                            _ => continue,
                        };
                        if let (Some(id), Some(ns)) = (id, one(STATS).and_then(ns)) {
                            into.insert(id, ns);
                        }
                    }
                    message.clear();
                }
                if last {
                    let _ = socket.send(&request(family, GET, DEREGISTER, &cpus), 0);
                    tasks.extend(processes);
                    return tasks;
                }
            }
        })?;
        Ok(Accountant { stop, thread: Some(thread) })
    }

    /// Ends it, after what is waiting was received.
    pub(crate) fn stop(mut self) -> Result<Accounts> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already stopped")?;
        thread.join().map_err(|_| anyhow!("the accountant panicked"))
    }
}

impl Drop for Accountant {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wait(socket: &Socket) -> rustix::io::Result<bool> {
    let limit = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)).map(|ready| ready > 0)
}

/// One attribute in a generic request: `NLM_F_REQUEST`, the command, version 1.
fn request(family: u16, command: u8, kind: u16, data: &[u8]) -> Vec<u8> {
    let padded = data.len().next_multiple_of(4);
    let length = GENERIC + 4 + padded;
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    for half in [family, 1, 0, 0, 0, 0] {
        message.extend(half.to_ne_bytes());
    }
    message.extend([command, 1, 0, 0]);
    message.extend((data.len() as u16 + 4).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    message.resize(length, 0);
    message
}

/// Kind and data of each `struct nlattr`.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(half(0)?), half(2)?);
        let data = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The upper two bits are flags.
        Some((kind & 0x3fff, data))
    })
}
