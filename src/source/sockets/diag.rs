//! Socket diagnostics: `sock_diag(7)`, one dump for each kind.
//!
//! `include/uapi/linux/inet_diag.h`, `unix_diag.h` and `sock_diag.h`. A dump needs no capability, and says the sockets of the
//! network namespace that the asking socket was opened in.

use std::io;
use std::time::Duration;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::constants::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket as Netlink, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};

use super::{Kind, Socket, State};

/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// NLMSG_ERROR and NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST and NLM_F_DUMP.
const DUMP: u16 = 1 | 0x300;
/// NLM_F_DUMP_INTR: what was dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const NETLINK_HEADER: usize = 16;
/// `struct inet_diag_req_v2`, and where in `struct inet_diag_msg` the inode is.
const INET_REQUEST: usize = 56;
const INET_INODE: usize = 68;
/// `struct unix_diag_req`, and where in `struct unix_diag_msg` the inode is.
const UNIX_REQUEST: usize = 24;
const UNIX_INODE: usize = 4;
/// All states but TIME_WAIT (6), SYN_RECV (3) and NEW_SYN_RECV (12), which have no inode: `include/net/tcp_states.h`.
const STATES: u32 = 0x1fff & !(1 << 6 | 1 << 3 | 1 << 12) & !1;
/// The kernel answers in pieces as long as the reader's room, at most 32 KiB (`netlink_recvmsg` in `net/netlink/af_netlink.c`).
const ROOM: usize = 32 * 1024;
/// An interrupted dump is begun again so often; then it is taken as it is.
const AGAIN: usize = 3;

/// Why a kind could not be dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Modules `tcp_diag`, `udp_diag`, `unix_diag`, or IPv6.
    #[error("the kernel has no diagnostics of this kind")]
    NoModule,
    /// A filter of system calls, or a security module.
    #[error("permission denied")]
    Refused,
    /// Anything else.
    #[error("{0}")]
    Failed(Errno),
}

impl From<Errno> for DumpError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Self::NoModule,
            Errno::PERM | Errno::ACCESS => Self::Refused,
            other => Self::Failed(other),
        }
    }
}

/// How far one piece of an answer brought its dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// That was all.
    Done,
    /// The kernel's word for why there is no more.
    Failed(Errno),
}

/// What one piece of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How far it brought the dump.
    pub progress: Progress,
    /// What is dumped changed meanwhile.
    pub interrupted: bool,
}

/// Reads one piece of the answer to request `sequence`; what answers another, and what is cut short, is passed over.
#[must_use]
pub fn parse(mut bytes: &[u8], kind: Kind, sequence: u32, into: &mut Vec<Socket>) -> Piece {
    let mut piece = Piece { progress: Progress::More, interrupted: false };
    let at = if kind == Kind::Unix { UNIX_INODE } else { INET_INODE };
    while let Ok(message) = NetlinkBuffer::new_checked(bytes) {
        let length = (message.length() as usize).max(NETLINK_HEADER);
        let payload = bytes.get(NETLINK_HEADER..length).unwrap_or_default();
        if message.sequence_number() == sequence {
            piece.interrupted |= message.flags() & INTERRUPTED != 0;
            match message.message_type() {
                // Sockets of other states than asked for may come too, and those without an inode are nobody's.
                BY_FAMILY => match (payload.get(at..at + 4).and_then(|inode| inode.try_into().ok()), message_state(payload, kind)) {
                    (Some(inode), Some(state)) if inode != [0; 4] => {
                        into.push(Socket { inode: u64::from(u32::from_ne_bytes(inode)), state, kind });
                    }
                    _ => {}
                },
                DONE | ERROR => {
                    let number = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    // Positive numbers are none the kernel gives; an acknowledgement is an error of the number 0.
                    let failed = number < 0 && number > -4096;
                    piece.progress = if failed { Progress::Failed(Errno::from_raw_os_error(-number)) } else { Progress::Done };
                    return piece;
                }
                _ => {}
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    piece
}

/// `idiag_state` is the second byte, `udiag_state` the third.
fn message_state(payload: &[u8], kind: Kind) -> Option<State> {
    payload.get(if kind == Kind::Unix { 2 } else { 1 }).map(|number| State::of(*number))
}

/// A socket that can be asked for dumps of the namespace it was opened in.
#[derive(Debug)]
pub struct Diagnostics {
    socket: Netlink,
    room: Box<[u8]>,
    sequence: u32,
}

impl Diagnostics {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel has no socket diagnostics (CONFIG_INET_DIAG, CONFIG_UNIX_DIAG), or this process may open no netlink socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        // Then nobody but the kernel is heard.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Answers are made when they are fetched: this limit is for kernels of which that is not true.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(1)))?;
        Ok(Self { socket, room: vec![0; ROOM].into_boxed_slice(), sequence: 0 })
    }

    /// Adds all sockets of a kind that have an inode, in the kernel's order. On an error nothing is added.
    ///
    /// # Errors
    /// As [`DumpError`] says.
    pub fn dump(&mut self, kind: Kind, into: &mut Vec<Socket>) -> Result<(), DumpError> {
        let before = into.len();
        for attempt in 1.. {
            match self.dump_once(kind, into) {
                Ok(interrupted) if !interrupted || attempt > AGAIN => break,
                Ok(_) => into.truncate(before),
                Err(errno) => {
                    into.truncate(before);
                    return Err(errno.into());
                }
            }
        }
        Ok(())
    }

    /// Whether it was interrupted.
    fn dump_once(&mut self, kind: Kind, into: &mut Vec<Socket>) -> Result<bool, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(&self.socket, &request(kind, self.sequence), rustix::net::SendFlags::empty())?;
        let mut interrupted = false;
        loop {
            let (length, _) = match recv(&self.socket, &mut *self.room, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let piece = parse(self.room.get(..length).unwrap_or_default(), kind, self.sequence, into);
            interrupted |= piece.interrupted;
            match piece.progress {
                Progress::More if length > 0 => {}
                Progress::More => return Err(Errno::IO),
                Progress::Done => return Ok(interrupted),
                Progress::Failed(errno) => return Err(errno),
            }
        }
    }
}

/// A request for all sockets of a kind.
#[must_use]
pub fn request(kind: Kind, sequence: u32) -> Vec<u8> {
    let body = if kind == Kind::Unix { UNIX_REQUEST } else { INET_REQUEST };
    let mut message = vec![0; NETLINK_HEADER + body];
    let mut header = NetlinkBuffer::new(message.as_mut_slice());
    header.set_length(u32::try_from(NETLINK_HEADER + body).unwrap_or(0));
    header.set_message_type(BY_FAMILY);
    header.set_flags(DUMP);
    header.set_sequence_number(sequence);
    let (family, protocol) = match kind {
        Kind::Tcp => (libc::AF_INET, libc::IPPROTO_TCP),
        Kind::Tcp6 => (libc::AF_INET6, libc::IPPROTO_TCP),
        Kind::Udp => (libc::AF_INET, libc::IPPROTO_UDP),
        Kind::Udp6 => (libc::AF_INET6, libc::IPPROTO_UDP),
        Kind::Unix => (libc::AF_UNIX, 0),
    };
    message[NETLINK_HEADER] = u8::try_from(family).unwrap_or(0);
    message[NETLINK_HEADER + 1] = u8::try_from(protocol).unwrap_or(0);
    // In both requests the states come after four bytes; what else could be told of each socket is not asked for.
    message[NETLINK_HEADER + 4..NETLINK_HEADER + 8].copy_from_slice(&STATES.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the kernel (6.18, little-endian) answered: a listener on 127.0.0.1, inode 0x0001e240, without its attributes.
    fn captured_tcp(sequence: u32) -> Vec<u8> {
        let mut message = vec![88, 0, 0, 0, 20, 0, 2, 0];
        message.extend(sequence.to_ne_bytes());
        message.extend([0x39, 0x05, 0, 0]);
        message.extend([2, 10, 0, 0, 0x1f, 0x90, 0, 0, 127, 0, 0, 1]);
        message.resize(16 + INET_INODE, 0);
        message.extend(123_456_u32.to_ne_bytes());
        message
    }

    fn done(sequence: u32, error: i32) -> Vec<u8> {
        let mut message = vec![20, 0, 0, 0, 3, 0, 2, 0];
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(error.to_ne_bytes());
        message
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_captured_answer() {
        let mut found = Vec::new();
        let mut bytes = captured_tcp(7);
        assert_eq!(parse(&bytes, Kind::Tcp, 7, &mut found), Piece { progress: Progress::More, interrupted: false });
        assert_eq!(found, [Socket { inode: 123_456, state: State::Listening, kind: Kind::Tcp }]);
        assert_eq!(parse(&bytes, Kind::Tcp, 8, &mut found).progress, Progress::More);
        assert_eq!(found.len(), 1, "the answer to another request is not ours");
        bytes[6] |= 0x10;
        bytes[17] = 1;
        bytes.extend(done(7, 0));
        bytes.extend(captured_tcp(7));
        found.clear();
        assert_eq!(parse(&bytes, Kind::Tcp, 7, &mut found), Piece { progress: Progress::Done, interrupted: true });
        assert_eq!(
            found,
            [Socket { inode: 123_456, state: State::Established, kind: Kind::Tcp }],
            "what follows the end is not read"
        );
        // What nobody holds.
        let end = bytes.len();
        bytes[16 + INET_INODE..88].fill(0);
        found.clear();
        assert_eq!(parse(&bytes[..end], Kind::Tcp, 7, &mut found).progress, Progress::Done);
        assert!(found.is_empty());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_captured_unix_answer() {
        let mut bytes = vec![40, 0, 0, 0, 20, 0, 2, 0, 1, 0, 0, 0, 0x39, 0x05, 0, 0];
        bytes.extend([1, 1, 1, 0, 0x43, 0x2f, 0, 0, 0x01, 0x10, 0, 0, 0, 0, 0, 0]);
        bytes.extend([5, 0, 6, 0, 0, 0, 0, 0]);
        let mut found = Vec::new();
        assert_eq!(parse(&bytes, Kind::Unix, 1, &mut found).progress, Progress::More);
        assert_eq!(found, [Socket { inode: 0x2f43, state: State::Established, kind: Kind::Unix }]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn refusals_are_told_apart() {
        let answer = |error| parse(&done(1, error), Kind::Udp, 1, &mut Vec::new()).progress;
        let why = |error| match answer(error) {
            Progress::Failed(errno) => DumpError::from(errno),
            other => panic!("{other:?}"),
        };
        assert_eq!(answer(0), Progress::Done);
        assert_eq!(why(-2), DumpError::NoModule);
        assert_eq!(why(-1), DumpError::Refused);
        assert_eq!(why(-22), DumpError::Failed(Errno::INVAL));
        assert_eq!(answer(i32::MIN), Progress::Done, "a number that is no errno");
    }

    #[test]
    fn our_own_sockets_are_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut diagnostics = match Diagnostics::open() {
            Ok(diagnostics) => diagnostics,
            Err(error) => {
                println!("SKIPPED: socket diagnostics: {error}");
                return;
            }
        };
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        let mut found = Vec::new();
        diagnostics.dump(Kind::Tcp, &mut found).unwrap();
        assert!(found.contains(&Socket { inode, state: State::Listening, kind: Kind::Tcp }), "{found:?}");
        let before = found.len();
        diagnostics.dump(Kind::Unix, &mut found).unwrap();
        assert!(found[before..].iter().all(|socket| socket.kind == Kind::Unix && socket.inode != 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), unix in any::<bool>()) {
            let kind = if unix { Kind::Unix } else { Kind::Tcp6 };
            let sequence = bytes.get(8..12).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
            let mut found = Vec::new();
            let _ = parse(&bytes, kind, sequence, &mut found);
            prop_assert!(found.iter().all(|socket| socket.inode != 0 && socket.kind == kind));
        }

        #[test]
        fn a_cut_or_damaged_answer_is_survived(cut in 0_usize..300, at in 0_usize..280, byte in any::<u8>()) {
            let mut bytes = [captured_tcp(3), captured_tcp(3), captured_tcp(3), done(3, -2)].concat();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let mut found = Vec::new();
            let _ = parse(&bytes, Kind::Tcp, 3, &mut found);
            prop_assert!(found.len() <= 3);
        }
    }
}
