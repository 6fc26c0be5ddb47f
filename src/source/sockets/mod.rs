//! Sockets of a network namespace: from socket diagnostics ([`diag`]) or from `/proc/PID/net` ([`listing`]).
//!
//! Both say the same of each socket: its inode, by which it is joined to the descriptors of processes (`socket:[INODE]`), its
//! kind and its state. What has no inode is held by nobody: closed by its process and lingering (TIME_WAIT, FIN_WAIT), or not
//! accepted yet.

pub mod diag;
pub mod listing;

use std::time::{Duration, Instant};

use super::ReadError;
use super::namespace::Visit;
use super::procdir::{Proc, ProcessDir};

/// What a socket is of. Raw, packet and netlink sockets are of none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6, also where the peer's address is a mapped IPv4 one: what counts is the socket.
    Tcp6,
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
    /// A unix socket: stream, datagram or seqpacket.
    Unix,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tcp6, Self::Udp, Self::Udp6, Self::Unix];

    /// Its file in `/proc/PID/net`, and its name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
            Self::Unix => "unix",
        }
    }
}

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It has a peer: TCP in ESTABLISHED and nothing after it, UDP and unix once connected.
    Established,
    /// It accepts connections.
    Listening,
    /// Neither: not connected, on the way there, or shut down by its peer (CLOSE_WAIT).
    Other,
}

/// TCP_ESTABLISHED and TCP_LISTEN of `include/net/tcp_states.h`; UDP and unix sockets use the same numbers.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

impl State {
    const fn of(number: u8) -> Self {
        match number {
            ESTABLISHED => Self::Established,
            LISTEN => Self::Listening,
            _ => Self::Other,
        }
    }
}

/// One socket that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket {
    /// Its inode, unique among all network namespaces; never 0.
    pub inode: u64,
    /// How far it has come.
    pub state: State,
    /// What it is of.
    pub kind: Kind,
}

/// By which way the sockets of a namespace are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By diagnostics: it is the namespace of whoever asks.
    Here,
    /// By diagnostics, after entering it. Where that is refused, from its member's files.
    Enter,
    /// From `/proc/PID/net` of a member: for whoever may not enter.
    Files,
}

/// The sockets of a namespace at one time.
#[derive(Debug)]
pub struct Sockets {
    /// By inode, each once.
    pub found: Vec<Socket>,
    /// The way that was gone in the end: [`Way::Files`] where there are no diagnostics, or it may not be entered. Single kinds of
    /// which the kernel has no diagnostics are read from the files on each way.
    pub way: Way,
    /// Lines of `/proc` that could not be understood.
    pub damaged: u64,
    /// How long it took.
    pub took: Duration,
}

/// Reads the sockets of the network namespace `netns` (the inode of its `ns/net`), of which `pid` is a member. A kind that the
/// kernel has not (IPv6 switched off) has no sockets. `thread` is what the calling thread knows of its own namespace.
///
/// # Errors
/// The process is gone or is in another namespace by now (`Vanished`), or a kind could be had by no way.
pub fn read(proc: &Proc, netns: u64, pid: u32, way: Way, visit: &mut Visit) -> Result<Sockets, ReadError> {
    let began = Instant::now();
    let mut sockets = Sockets { found: Vec::new(), way, damaged: 0, took: Duration::ZERO };
    let dir = proc.process(pid)?;
    let mut diagnostics = match way {
        Way::Here => diag::Diagnostics::open().ok(),
        Way::Enter => match visit.namespace(&dir, netns, diag::Diagnostics::open) {
            Ok(opened) => opened.ok(),
            Err(ReadError::Vanished) => return Err(ReadError::Vanished),
            Err(_) => None,
        },
        Way::Files => None,
    };
    if diagnostics.is_none() {
        sockets.way = Way::Files;
    }
    for kind in Kind::ALL {
        let dumped = diagnostics.as_mut().is_some_and(|diagnostics| diagnostics.dump(kind, &mut sockets.found).is_ok());
        if !dumped {
            sockets.damaged += listing_of(&dir, netns, kind, &mut sockets.found)?;
        }
    }
    tidy(&mut sockets.found);
    sockets.took = began.elapsed();
    Ok(sockets)
}

fn listing_of(dir: &ProcessDir, netns: u64, kind: Kind, found: &mut Vec<Socket>) -> Result<u64, ReadError> {
    if dir.network_namespace()? != netns {
        return Err(ReadError::Vanished);
    }
    match listing::read(dir, kind, found) {
        // The process is there: the kernel has no such sockets.
        Err(ReadError::Vanished) if dir.network_namespace().is_ok() => Ok(0),
        read => read,
    }
}

/// Sorts by inode and leaves one of each: while a table is walked a socket may move and be met twice; and the TCP sockets that an
/// MPTCP socket is made of bear its inode (`mptcp_subflow_create_socket` in `net/mptcp/subflow.c`). One that is established speaks
/// for all.
pub fn tidy(found: &mut Vec<Socket>) {
    found.sort_unstable();
    found.dedup_by_key(|socket| socket.inode);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_with_an_inode_the_established_one_counts() {
        let socket = |inode, kind, state| Socket { inode, state, kind };
        let mut found = vec![
            socket(9, Kind::Tcp, State::Other),
            socket(3, Kind::Unix, State::Listening),
            socket(9, Kind::Tcp6, State::Established),
            socket(9, Kind::Tcp, State::Listening),
        ];
        tidy(&mut found);
        assert_eq!(found, [socket(3, Kind::Unix, State::Listening), socket(9, Kind::Tcp6, State::Established)]);
    }
}
