//! The process connector: the kernel tells of fork, exec, exit and more as they happen.
//!
//! `include/uapi/linux/cn_proc.h`, `Documentation/driver-api/connector.rst`. Messages are of type NLMSG_DONE.
//! A successful LISTEN is answered by an acknowledgement; a listener in another pid or user namespace gets
//! none, though events may still arrive as long as somebody else listens. So only the acknowledgement counts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::constants::NETLINK_CONNECTOR;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::Inbox;

/// CN_IDX_PROC and CN_VAL_PROC.
const PROC_CONNECTOR: [u32; 2] = [1, 1];
/// NLMSG_DONE: the only type the connector sends.
const DONE: u16 = 3;
const NETLINK_HEADER: usize = 16;
/// `struct cn_msg`: id (8), seq (4), ack (4), len (2), flags (2).
const CONNECTOR_HEADER: usize = 20;
/// `struct proc_event` before its union: what (4), cpu (4), timestamp (8).
const EVENT_HEADER: usize = 16;
/// PROC_EVENT_EXEC.
const EXEC: u32 = 2;

/// What can be asked of the connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// PROC_CN_MCAST_LISTEN.
    Listen = 1,
    /// PROC_CN_MCAST_IGNORE.
    Ignore = 2,
}

/// A process and one of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The task (thread) id.
    pub task: u32,
    /// The process (thread group) id.
    pub pid: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The answer to LISTEN or IGNORE; 0 is success, else an errno.
    Acknowledged(u32),
    /// A process was born, or, where both are of one process, a thread.
    Fork {
        /// The parent; of a thread's clone the *parent* of its process.
        parent: Task,
        /// The child.
        child: Task,
    },
    /// A process runs another program.
    Exec(Task),
    /// Real and effective user changed.
    Uid(Task, [u32; 2]),
    /// Real and effective group changed.
    Gid(Task, [u32; 2]),
    /// It leads a new session.
    Sid(Task),
    /// A tracer attached; its task is 0 when it detached.
    Ptrace(Task, Task),
    /// Its name changed: NUL-padded.
    Comm(Task, [u8; 16]),
    /// It dies of a signal that dumps core.
    Core(Task),
    /// A task ended.
    Exit {
        /// The task.
        task: Task,
        /// The wait status, `wait(2)`.
        code: u32,
        /// The signal its parent gets.
        signal: u32,
        /// Its parent; older kernels do not tell.
        parent: Option<Task>,
    },
    /// A kind this version does not know.
    Unknown(u32),
}

impl What {
    /// Whether a process or a thread was born.
    #[must_use]
    pub const fn is_birth(self) -> bool {
        matches!(self, Self::Fork { .. })
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts up by one on each CPU: a gap is a loss.
    pub seq: u32,
    /// The acknowledged number of an [`What::Acknowledged`], plus one.
    pub ack: u32,
    /// The CPU it happened on.
    pub cpu: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// What happened.
    pub what: What,
}

/// Parses one netlink message; `None` for what is not an event of the connector, or is cut short.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Event> {
    let buffer = NetlinkBuffer::new_checked(message).ok()?;
    if buffer.message_type() != DONE {
        return None;
    }
    let payload = buffer.payload();
    let word = |at: usize| Some(u32::from_ne_bytes(payload.get(at..at + 4)?.try_into().ok()?));
    if [word(0)?, word(4)?] != PROC_CONNECTOR {
        return None;
    }
    let event = CONNECTOR_HEADER;
    let time_ns = u64::from_ne_bytes(payload.get(event + 8..event + 16)?.try_into().ok()?);
    let data = |at: usize| word(event + EVENT_HEADER + at);
    // The kernel's pid is our task, its tgid our process.
    let task = |at: usize| Some(Task { task: data(at)?, pid: data(at + 4)? });
    let what = match word(event)? {
        0 => What::Acknowledged(data(0)?),
        0x1 => What::Fork { parent: task(0)?, child: task(8)? },
        0x2 => What::Exec(task(0)?),
        0x4 => What::Uid(task(0)?, [data(8)?, data(12)?]),
        0x40 => What::Gid(task(0)?, [data(8)?, data(12)?]),
        0x80 => What::Sid(task(0)?),
        0x100 => What::Ptrace(task(0)?, task(8)?),
        0x200 => {
            let at = event + EVENT_HEADER + 8;
            What::Comm(task(0)?, payload.get(at..at + 16)?.try_into().ok()?)
        }
        0x4000_0000 => What::Core(task(0)?),
        0x8000_0000 => What::Exit { task: task(0)?, code: data(8)?, signal: data(12)?, parent: task(16) },
        other => What::Unknown(other),
    };
    Some(Event { seq: word(8)?, ack: word(12)?, cpu: word(event + 4)?, time_ns, what })
}

/// Why no events are to be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No socket: the kernel has no connector, or we may not use it.
    #[error("no connector socket: {0}")]
    Socket(#[from] io::Error),
    /// No acknowledgement came.
    #[error(
        "the kernel did not acknowledge: it has no process events (CONFIG_PROC_EVENTS), or this is not its first pid and user namespace"
    )]
    NotAcknowledged,
    /// The kernel refused.
    #[error("the kernel refused to tell of events: {0}")]
    Refused(io::Error),
}

/// A listening socket. IGNORE is sent when it is dropped: without that the kernel goes on telling for ever.
#[derive(Debug)]
pub struct Connector {
    socket: Socket,
    port: u32,
    listening: bool,
}

impl Connector {
    /// Subscribes to all kinds of events and waits so long for the acknowledgement.
    ///
    /// # Errors
    /// As [`ListenError`] says.
    pub fn listen(patience: Duration) -> Result<Self, ListenError> {
        let mut socket = Socket::new(NETLINK_CONNECTOR)?;
        socket.bind(&SocketAddr::new(0, PROC_CONNECTOR[0]))?;
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address)?;
        socket.set_non_blocking(true)?;
        let mut connector = Self { socket, port: address.port_number(), listening: false };
        connector.ask(patience)?;
        Ok(connector)
    }

    /// Sends LISTEN and waits for its acknowledgement; what came before that is not ours to see.
    fn ask(&mut self, patience: Duration) -> Result<(), ListenError> {
        // The kernel hands our `ack` back plus one: so our answer is told from another listener's.
        self.request(Operation::Listen, self.port, None)?;
        self.listening = true;
        let until = Instant::now() + patience;
        let mut inbox = Inbox::new(32);
        loop {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return Err(ListenError::NotAcknowledged) };
            if !self.wait(left)? {
                return Err(ListenError::NotAcknowledged);
            }
            let mut answer = None;
            match self.receive(&mut inbox, |event| {
                if let What::Acknowledged(errno) = event.what
                    && event.ack == self.port.wrapping_add(1)
                {
                    answer = Some(errno);
                }
            }) {
                Err(error) if is_overrun(&error) => {}
                other => drop(other?),
            }
            match answer {
                Some(0) => return Ok(()),
                Some(errno) => {
                    self.listening = false;
                    return Err(ListenError::Refused(io::Error::from_raw_os_error(errno.cast_signed())));
                }
                None => {}
            }
        }
    }

    /// Lets the kernel send executions only, from Linux 6.6 on. Nothing acknowledges it (an acknowledgement is filtered like
    /// all else); an older kernel passes over it and goes on sending everything.
    ///
    /// # Errors
    /// It could not be sent.
    pub fn only_exec(&self) -> io::Result<()> {
        self.request(Operation::Listen, 0, Some(EXEC))
    }

    /// Closes the socket without an IGNORE: ours was used up by somebody else's surplus one.
    pub fn forget(mut self) {
        self.listening = false;
    }

    /// Hands on the events that wait, up to a hundred or so; answers whether there may be more. Never waits.
    ///
    /// # Errors
    /// ENOBUFS ([`is_overrun`]): the receive buffer overflowed, and at least one event is lost; and whatever else
    /// `recvmmsg(2)` says.
    pub fn receive(&self, inbox: &mut Inbox, take: impl FnMut(Event)) -> io::Result<bool> {
        inbox.receive(&self.socket)?;
        inbox.messages().filter_map(parse).for_each(take);
        Ok(inbox.is_full())
    }

    /// Waits until something can be received; `false` when the time was over first.
    ///
    /// # Errors
    /// `poll(2)` failed.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn request(&self, operation: Operation, ack: u32, only: Option<u32>) -> io::Result<()> {
        self.socket.send(&request(operation, self.port, ack, only), 0).map(drop)
    }
}

/// Whether an error of [`Connector::receive`] says that the buffer overflowed.
#[must_use]
pub fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if self.listening {
            let _ = self.request(Operation::Ignore, 0, None);
        }
    }
}

fn request(operation: Operation, port: u32, ack: u32, only: Option<u32>) -> Vec<u8> {
    let data = if only.is_some() { 8_u16 } else { 4 };
    let length = NETLINK_HEADER + CONNECTOR_HEADER + usize::from(data);
    let mut message = vec![0; length];
    let mut header = NetlinkBuffer::new(message.as_mut_slice());
    header.set_length(u32::try_from(length).unwrap_or(0));
    header.set_message_type(DONE);
    header.set_port_number(port);
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    for (at, word) in (NETLINK_HEADER..).step_by(4).zip([PROC_CONNECTOR[0], PROC_CONNECTOR[1], 0, ack]) {
        put(at, &word.to_ne_bytes());
    }
    put(NETLINK_HEADER + 16, &data.to_ne_bytes());
    put(NETLINK_HEADER + CONNECTOR_HEADER, &(operation as u32).to_ne_bytes());
    if let Some(kinds) = only {
        put(NETLINK_HEADER + CONNECTOR_HEADER + 4, &kinds.to_ne_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message as the kernel builds it: 16 bytes of netlink, 20 of connector, then the event.
    fn message(what: u32, data: &[u32]) -> Vec<u8> {
        let body: Vec<u32> = [1, 1, 77, 6].into_iter().chain([40]).chain([what, 1]).collect();
        let mut bytes = Vec::new();
        let length = NETLINK_HEADER + CONNECTOR_HEADER + EVENT_HEADER + data.len() * 4;
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
        bytes.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
        bytes.extend_from_slice(&123_456_789_u64.to_ne_bytes());
        data.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
        bytes
    }

    fn what(kind: u32, data: &[u32]) -> What {
        parse(&message(kind, data)).unwrap().what
    }

    #[test]
    fn the_kinds_are_those_of_the_header() {
        let task = |task, pid| Task { task, pid };
        assert_eq!(what(1, &[10, 10, 11, 11]), What::Fork { parent: task(10, 10), child: task(11, 11) });
        assert_eq!(what(2, &[11, 11]), What::Exec(task(11, 11)));
        assert_eq!(what(4, &[11, 11, 0, 1000]), What::Uid(task(11, 11), [0, 1000]));
        assert_eq!(what(0x80, &[11, 11]), What::Sid(task(11, 11)));
        assert_eq!(what(0x100, &[11, 11, 9, 9]), What::Ptrace(task(11, 11), task(9, 9)));
        assert_eq!(
            what(0x8000_0000, &[12, 11, 256, 17, 10, 10]),
            What::Exit { task: task(12, 11), code: 256, signal: 17, parent: Some(task(10, 10)) }
        );
        // Before Linux 4.18 an exit told no parent.
        assert_eq!(what(0x8000_0000, &[12, 11, 256, 17]), What::Exit { task: task(12, 11), code: 256, signal: 17, parent: None });
        assert_eq!(what(0x1000, &[]), What::Unknown(0x1000));
        let event = parse(&message(2, &[1, 1])).unwrap();
        assert_eq!((event.seq, event.ack, event.cpu, event.time_ns), (77, 6, 1, 123_456_789));
    }

    #[test]
    fn other_messages_are_none_of_ours() {
        let mut foreign = message(2, &[1, 1]);
        foreign[NETLINK_HEADER] = 9;
        assert_eq!(parse(&foreign), None);
        let mut other = message(2, &[1, 1]);
        other[4] = 2;
        assert_eq!(parse(&other), None);
        let whole = message(2, &[1, 1]);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_fork_an_exec_and_an_exit_of_a_child_are_told() {
        let connector = match Connector::listen(Duration::from_secs(1)) {
            Ok(connector) => connector,
            Err(error) => {
                println!("SKIPPED: {error}");
                return;
            }
        };
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let (mut forked, mut execed, mut exited) = (false, false, None);
        let until = Instant::now() + Duration::from_secs(20);
        let mut inbox = Inbox::new(32);
        while exited.is_none() && Instant::now() < until {
            connector.wait(Duration::from_secs(1)).unwrap();
            let _ = connector.receive(&mut inbox, |event| match event.what {
                What::Fork { child, .. } if child.pid == pid => forked = true,
                What::Exec(task) if task.pid == pid => execed = true,
                What::Exit { task, code, .. } if task.pid == pid => exited = Some(code),
                _ => {}
            });
        }
        assert_eq!((forked, execed, exited), (true, true, Some(0)));
    }

    #[test]
    fn executions_alone_can_be_asked_for() {
        let connector = match Connector::listen(Duration::from_secs(1)) {
            Ok(connector) => connector,
            Err(error) => {
                println!("SKIPPED: {error}");
                return;
            }
        };
        connector.only_exec().unwrap();
        let mut inbox = Inbox::new(32);
        // What was on its way before the filter.
        while connector.receive(&mut inbox, |_| ()).unwrap() {}
        std::process::Command::new("true").status().unwrap();
        let (mut execs, mut others) = (0, 0);
        while execs == 0 {
            assert!(connector.wait(Duration::from_secs(20)).unwrap());
            connector
                .receive(&mut inbox, |event| match event.what {
                    What::Exec(_) => execs += 1,
                    _ => others += 1,
                })
                .unwrap();
        }
        println!("{execs} executions, {others} other events");
    }

    #[test]
    fn what_another_process_sends_is_not_believed() {
        let Ok(connector) = Connector::listen(Duration::from_secs(1)) else {
            println!("SKIPPED: no process events here");
            return;
        };
        let forger = Socket::new(NETLINK_CONNECTOR).unwrap();
        let forged = message(2, &[0x7fff_fff1, 0x7fff_fff1]);
        if forger.send_to(&forged, &SocketAddr::new(connector.port, 0), 0).is_err() {
            println!("SKIPPED: only root may send to another's socket at all");
            return;
        }
        std::process::Command::new("true").status().unwrap();
        let (mut inbox, mut forgeries, mut execs) = (Inbox::new(32), 0, 0);
        while execs == 0 {
            assert!(connector.wait(Duration::from_secs(20)).unwrap());
            connector
                .receive(&mut inbox, |event| match event.what {
                    What::Exec(task) if task.pid == 0x7fff_fff1 => forgeries += 1,
                    What::Exec(_) => execs += 1,
                    _ => {}
                })
                .unwrap();
        }
        assert_eq!(forgeries, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn damaged_events_are_survived(at in 0_usize..70, byte in any::<u8>(), kind in any::<u32>()) {
            let mut bytes = message(kind, &[1, 2, 3, 4]);
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
            let _ = parse(&bytes);
        }
    }
}
