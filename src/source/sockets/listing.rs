//! `/proc/PID/net/{tcp,tcp6,udp,udp6,unix}`: `proc_pid_net(5)`, the sockets of the network namespace that a process is in.
//!
//! Several times as dear as socket diagnostics, but to be had by whoever may not enter the namespace. Unix sockets have no
//! state here that says all: "listens" is a flag (`unix_seq_show` in `net/unix/af_unix.c`).

use rustix::io::{Errno, read as read_some};

use super::{Kind, LISTEN, Socket, State};
use crate::source::procdir::ProcessDir;
use crate::source::{ReadError, number};

/// One line is 150 bytes (TCP, UDP) or at most 54 and a path of 108 (unix).
const ROOM: usize = 32 * 1024;
/// SS_CONNECTED of `include/uapi/linux/net.h`.
const CONNECTED: u8 = 3;
/// `__SO_ACCEPTCON` of `include/uapi/linux/net.h`: it listens.
const ACCEPTS: u64 = 1 << 16;

/// Adds the sockets of whole lines, and answers how many lines could not be understood.
pub fn parse(text: &[u8], kind: Kind, into: &mut Vec<Socket>) -> u64 {
    let mut damaged = 0;
    for line in text.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let first = words.next();
        // Nothing follows the last newline; the title line begins with its first column's name.
        if matches!(first, None | Some(b"sl" | b"Num")) {
            continue;
        }
        let socket = if kind == Kind::Unix { unix(words) } else { inet(words) };
        match socket {
            // Nobody holds it.
            Some((0, _)) => {}
            Some((inode, state)) => into.push(Socket { inode, state, kind }),
            None => damaged += 1,
        }
    }
    damaged
}

/// What follows the number of the line: local and remote address, state, queues, timer, retransmissions, user, timeout, inode.
fn inet<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<(u64, State)> {
    let state = State::of(u8::try_from(hex(words.nth(2)?)?).ok()?);
    Some((number(words.nth(5)?)?, state))
}

/// What follows the address: references, protocol, flags, type, state, inode, and perhaps a path.
fn unix<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<(u64, State)> {
    let flags = hex(words.nth(2)?)?;
    let state = hex(words.nth(1)?)?;
    let state = match u8::try_from(state).ok()? {
        _ if flags & ACCEPTS != 0 => State::of(LISTEN),
        CONNECTED => State::Established,
        _ => State::Other,
    };
    Some((number(words.next()?)?, state))
}

fn hex(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    word.iter().try_fold(0, |sum, byte| Some(sum << 4 | u64::from(char::from(*byte).to_digit(16)?)))
}

/// Reads a file piece by piece: of a machine with many sockets it has megabytes. Answers how many lines were damaged.
///
/// # Errors
/// As [`ReadError`] says; `Vanished` also where the kernel has no such sockets.
pub fn read(dir: &ProcessDir, kind: Kind, into: &mut Vec<Socket>) -> Result<u64, ReadError> {
    let file = dir.open(match kind {
        Kind::Tcp => "net/tcp",
        Kind::Tcp6 => "net/tcp6",
        Kind::Udp => "net/udp",
        Kind::Udp6 => "net/udp6",
        Kind::Unix => "net/unix",
    })?;
    let mut room = vec![0; ROOM];
    let (mut held, mut damaged) = (0, 0);
    loop {
        let length = match read_some(&file, &mut room[held..]) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if length == 0 {
            break;
        }
        let end = held + length;
        match memchr::memrchr(b'\n', &room[..end]) {
            Some(newline) => {
                damaged += parse(&room[..=newline], kind, into);
                room.copy_within(newline + 1..end, 0);
                held = end - newline - 1;
            }
            // No line is so long.
            None if end == room.len() => {
                damaged += 1;
                held = 0;
            }
            None => held = end,
        }
    }
    Ok(damaged + parse(&room[..held], kind, into))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // As Linux 6.18 wrote them: the sockets of the captured answers in `diag`, and others.
    const TCP: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n   0: 0100007F:8FF1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2739198 1 000000007c2f288d 100 0 0 10 0                   \n   2: 0100007F:ED62 0100007F:8FF1 01 00000000:00000000 00:00000000 00000000     0        0 2739199 2 000000002d154cca 20 0 0 10 -1                   \n   3: 0100007F:ED66 0100007F:8FF1 08 00000000:00000001 00:00000000 00000000     0        0 2740225 2 00000000e10461f0 20 4 0 10 -1                   \n   4: 0100007F:8FF1 0100007F:ED66 05 00000000:00000000 03:0000176E 00000000     0        0 0 3 00000000319f635b                                      \n";
    const TCP6: &[u8] = b"  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   2: 00000000000000000000000001000000:9016 00000000000000000000000001000000:9A37 01 00000000:00000000 00:00000000 00000000     0        0 2740235 2 00000000b55ecbdf 20 0 0 10 -1\n";
    const UDP: &[u8] = b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n 1798: 0100007F:C7AD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2740236 2 0000000031c01cb1 0       \n 5821: 0100007F:9764 0100007F:C7AD 01 00000000:00000000 00:00000000 00000000     0        0 2740237 2 000000001fe639c9 0       \n";
    const UNIX: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n00000000ac042b0f: 00000002 00000000 00000000 0002 01 2740231\n00000000b412d204: 00000003 00000000 00000000 0001 03 2740228\n000000008290c3bc: 00000002 00000000 00010000 0001 01 2740230 @psmon x\n";

    fn of(text: &[u8], kind: Kind) -> Vec<(u64, State)> {
        let mut found = Vec::new();
        assert_eq!(parse(text, kind, &mut found), 0);
        assert!(found.iter().all(|socket| socket.kind == kind));
        found.into_iter().map(|socket| (socket.inode, socket.state)).collect()
    }

    #[test]
    fn captured_files() {
        use State::{Established, Listening, Other};
        assert_eq!(of(TCP, Kind::Tcp), [(2_739_198, Listening), (2_739_199, Established), (2_740_225, Other)]);
        assert_eq!(of(TCP6, Kind::Tcp6), [(2_740_235, Established)]);
        assert_eq!(of(UDP, Kind::Udp), [(2_740_236, Other), (2_740_237, Established)]);
        assert_eq!(of(UNIX, Kind::Unix), [(2_740_231, Other), (2_740_228, Established), (2_740_230, Listening)]);
        assert_eq!(of(b"", Kind::Tcp), []);
    }

    #[test]
    fn damaged_lines_are_counted_and_the_others_read() {
        let mut text = TCP.to_vec();
        text.extend(b"   4: 0100007F:1F90 0100007F:C0EC ZZ 0:0 00:0 0 0 0 9 1\n   5: short\n\xff\xfe\n   6: a b 01 0:0 00:0 0 0 0 -9 1\n");
        let mut found = Vec::new();
        assert_eq!(parse(&text, Kind::Tcp, &mut found), 4);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn ten_thousand_lines_come_whole_whatever_the_pieces() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("5/net")).unwrap();
        let mut text = TCP[..=TCP.iter().position(|byte| *byte == b'\n').unwrap()].to_vec();
        for inode in 1..=10_000 {
            text.extend(format!("{inode:4}: 0100007F:1F90 0100007F:C0E8 01 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 00000000f0a5d7b1 20 4 30 10 -1\n").bytes());
        }
        std::fs::write(root.path().join("5/net/tcp"), &text).unwrap();
        let dir = crate::source::procdir::Proc::open(root.path()).unwrap().process(5).unwrap();
        let mut found = Vec::new();
        assert_eq!(read(&dir, Kind::Tcp, &mut found), Ok(0));
        assert!(found.iter().map(|socket| socket.inode).eq(1..=10_000));
        assert_eq!(read(&dir, Kind::Tcp6, &mut found), Err(ReadError::Vanished));
        // A line without an end, longer than any.
        std::fs::write(root.path().join("5/net/udp"), vec![b'x'; 3 * ROOM]).unwrap();
        assert!(read(&dir, Kind::Udp, &mut found).unwrap() > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text in proptest::collection::vec(any::<u8>(), 0..400), unix in any::<bool>()) {
            let mut found = Vec::new();
            parse(&text, if unix { Kind::Unix } else { Kind::Udp6 }, &mut found);
        }

        #[test]
        fn damage_to_a_line_harms_no_other(at in 0_usize..140, byte in any::<u8>()) {
            prop_assume!(byte != b'\n');
            let at = at + TCP.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
            let mut text = TCP.to_vec();
            text[at] = byte;
            let mut found = Vec::new();
            let damaged = parse(&text, Kind::Tcp, &mut found);
            prop_assert!(damaged <= 1);
            prop_assert!(found.iter().any(|socket| socket.inode == 2_739_198) && found.iter().any(|socket| socket.inode == 2_740_225));
        }
    }
}
