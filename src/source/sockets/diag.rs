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

    /// As Linux 6.18 on x86-64 answered request 7: a listener, one end of a connection to it, and one whose peer had closed.
    const LISTENER: &str = "7c000000140002000700000044140000020a00008ff100007f00000100000000000000000000000000000000000000000000000000000000000000005b0000000000000000000000000000008000000000000000fecb2900050008000000000008000f00000000000c00150001000000000000000600160052000000";
    const CONNECTED: &str = "7c00000014000200070000004414000002010000ed628ff17f0000010000000000000000000000007f000001000000000000000000000000000000005c0000000000000000000000000000000000000000000000ffcb2900050008000000000008000f00000000000c00150001000000000000000600160052000000";
    const CLOSE_WAIT: &str = "7c00000014000200070000004414000002080000ed668ff17f0000010000000000000000000000007f000001000000000000000000000000000000005d000000000000000000000001000000000000000000000001d02900050008000100000008000f00000000000c00150001000000000000000600160052000000";
    const END: &str = "1400000003000200070000004414000000000000";
    /// Likewise: one of a pair, a listener, an unconnected datagram socket.
    const UNIX: [&str; 3] = [
        "280000001400020007000000441400000101010004d0290065000000000000000500060000000000",
        "2800000014000200070000004414000001010a0006d0290075000000000000000500060000000000",
        "280000001400020007000000441400000102070007d0290062000000000000000500060000000000",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn done(error: i32) -> Vec<u8> {
        let mut message = bytes(END);
        message[16..].copy_from_slice(&error.to_ne_bytes());
        message
    }

    fn read(bytes: &[u8], kind: Kind) -> (Piece, Vec<(u64, State)>) {
        let mut found = Vec::new();
        let piece = parse(bytes, kind, 7, &mut found);
        assert!(found.iter().all(|socket| socket.kind == kind));
        (piece, found.into_iter().map(|socket| (socket.inode, socket.state)).collect())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_captured_answer() {
        let sockets = [bytes(LISTENER), bytes(CONNECTED), bytes(CLOSE_WAIT)].concat();
        let want = vec![(2_739_198, State::Listening), (2_739_199, State::Established), (2_740_225, State::Other)];
        let more = Piece { progress: Progress::More, interrupted: false };
        let done = Piece { progress: Progress::Done, interrupted: false };
        assert_eq!(read(&sockets, Kind::Tcp), (more, want.clone()));
        assert_eq!(
            read(&[sockets.clone(), bytes(END), sockets.clone()].concat(), Kind::Tcp),
            (done, want.clone()),
            "nothing follows the end"
        );
        assert_eq!(parse(&sockets, Kind::Tcp, 8, &mut Vec::new()), more);
        let mut interrupted = sockets.clone();
        interrupted[6] |= 0x10;
        assert_eq!(read(&interrupted, Kind::Tcp), (Piece { interrupted: true, ..more }, want.clone()));
        let mut other = sockets.clone();
        other[8] = 6;
        assert_eq!(read(&other, Kind::Tcp).1, want[1..], "the answer to another request is not ours");
        let mut nobodys = sockets;
        nobodys[16 + INET_INODE..][..4].fill(0);
        assert_eq!(read(&nobodys, Kind::Tcp).1, want[1..]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_captured_unix_answer() {
        let (piece, found) = read(&UNIX.map(bytes).concat(), Kind::Unix);
        assert_eq!(piece.progress, Progress::More);
        assert_eq!(found, [(2_740_228, State::Established), (2_740_230, State::Listening), (2_740_231, State::Other)]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn refusals_are_told_apart() {
        let answer = |error| read(&done(error), Kind::Udp).0.progress;
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
        fn a_cut_or_damaged_answer_is_survived(cut in 0_usize..400, at in 0_usize..390, byte in any::<u8>()) {
            let mut bytes = [bytes(LISTENER), bytes(CONNECTED), bytes(CLOSE_WAIT), done(-2)].concat();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            let mut found = Vec::new();
            let _ = parse(&bytes, Kind::Tcp, 7, &mut found);
            prop_assert!(found.len() <= 3);
        }
    }
}
