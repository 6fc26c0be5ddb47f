//! A listener of the benchmark's own: a second opinion on what the kernel said, and what a plain program reads at exec.
//!
//! Not `psmon::source::connector`, for the reason that `journal.rs` has. `include/uapi/linux/cn_proc.h`.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use netlink_sys::constants::NETLINK_CONNECTOR;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use crate::sys;

/// CN_IDX_PROC, CN_VAL_PROC; PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE.
const PROC: u32 = 1;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// `struct nlmsghdr`, `struct cn_msg` and the part of `struct proc_event` before its union: 16, 20 and 16 bytes.
const SEQ: usize = 24;
const ACK: usize = 28;
const WHAT: usize = 36;
const CPU: usize = 40;
const TIME: usize = 44;
const DATA: usize = 52;
/// PROC_EVENT_NONE (an acknowledgement), PROC_EVENT_EXEC.
const ACKNOWLEDGED: u32 = 0;
const EXEC: u32 = 2;
/// The kernel doubles it and charges 832 bytes for an event: room for 300 000, a second and a half of the fastest storm.
const BUFFER: i32 = 128 << 20;

/// Now, on the clock of the events.
pub(crate) fn now_ns() -> u64 {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default().as_nanos() as u64
}

/// What a listener saw.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The stamp of each event, as they came.
    pub(crate) times: Vec<u64>,
    /// The stamps of other listeners' acknowledgements.
    pub(crate) others: Vec<u64>,
    /// What this listener missed itself, by the gaps in each CPU's `seq`.
    pub(crate) lost: u64,
    /// Arguments of processes that just did an exec, where it could read any; asked for with [`Listener::start`].
    pub(crate) arguments: Vec<Vec<u8>>,
}

/// Listens until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Heard>>>,
}

impl Listener {
    /// Returns once the kernel has acknowledged.
    pub(crate) fn start(read_arguments: bool) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_CONNECTOR)?;
        socket.bind(&SocketAddr::new(0, PROC))?;
        sys::set_receive_buffer(socket.as_fd(), BUFFER)?;
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address)?;
        socket.set_non_blocking(true)?;
        let port = address.port_number();
        socket.send(&request(LISTEN, port), 0)?;
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicBool::new(false));
        let flags = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::Builder::new().name("listener".to_owned()).spawn(move || {
            let heard = listen(&socket, port, read_arguments, &flags.0, &flags.1);
            let _ = socket.send(&request(IGNORE, port), 0);
            heard
        })?;
        let listener = Listener { stop, thread: Some(thread) };
        let begin = Instant::now();
        while !acknowledged.load(Ordering::Relaxed) {
            if begin.elapsed() > Duration::from_secs(2) {
                bail!("the kernel acknowledges no listener here (first pid and user namespace? CAP_NET_ADMIN?)");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(listener)
    }

    /// Ends it, after what is waiting was received.
    pub(crate) fn stop(mut self) -> Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already stopped")?;
        thread.join().map_err(|_| anyhow!("the listener panicked"))?.context("the listener")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(socket: &Socket, port: u32, read_arguments: bool, stop: &AtomicBool, acknowledged: &AtomicBool) -> io::Result<Heard> {
    let mut heard = Heard::default();
    let mut next: HashMap<u32, u32> = HashMap::new();
    let mut message = Vec::with_capacity(4096);
    let limit = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    loop {
        // Looked at before the socket is emptied: what came before the wish to stop is still counted.
        let last = stop.load(Ordering::Relaxed);
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit))?;
        loop {
            message.clear();
            match socket.recv_from(&mut message, 0) {
                Ok((_, sender)) if sender.port_number() == 0 => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Overflow: what is missing shows in seq.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error),
            }
            let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
            let long = |at: usize| Some(u64::from_ne_bytes(message.get(at..at + 8)?.try_into().ok()?));
            let (Some(seq), Some(what), Some(cpu), Some(time)) = (word(SEQ), word(WHAT), word(CPU), long(TIME)) else { continue };
            if let Some(expected) = next.insert(cpu, seq.wrapping_add(1)) {
                heard.lost += u64::from(seq.wrapping_sub(expected));
            }
            heard.times.push(time);
            match what {
                ACKNOWLEDGED if word(ACK) == Some(port.wrapping_add(1)) => acknowledged.store(true, Ordering::Relaxed),
                ACKNOWLEDGED => heard.others.push(time),
                EXEC if read_arguments => {
                    let pid = word(DATA + 4).unwrap_or(0);
                    heard.arguments.extend(std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|bytes| !bytes.is_empty()));
                }
                _ => {}
            }
        }
        if last {
            return Ok(heard);
        }
    }
}

/// `struct nlmsghdr` (length, type NLMSG_DONE, port), `struct cn_msg` (id, seq, ack, len), then the operation.
fn request(operation: u32, port: u32) -> Vec<u8> {
    let words = [40, 3, 0, port, PROC, PROC, 0, port, 4, operation];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
