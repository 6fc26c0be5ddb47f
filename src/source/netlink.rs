//! Netlink sockets, emptied many messages at a call: `netlink(7)`, `recvmmsg(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::net::sockopt;

/// Room for one message. The longest that anyone here gets is an exit record of taskstats with two structs, under
/// 1.5 KiB; what is longer is cut by the kernel, marked so, and passed over.
const ROOM: usize = 2048;

/// Where messages are received; made once and used again.
pub struct Inbox {
    /// What `headers` point into: never resized, so it stays where it is however the inbox is moved.
    bytes: Vec<u8>,
    senders: Vec<libc::sockaddr_nl>,
    places: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

// SAFETY: the pointers within are to heap memory that the inbox itself owns and that nobody else has; only `receive`, which takes
// it by unique reference, lets the kernel write through them.
#[expect(unsafe_code, reason = "the kernel's headers hold pointers")]
unsafe impl Send for Inbox {}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("received", &self.received).finish_non_exhaustive()
    }
}

impl Inbox {
    /// Room for so many messages at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        // SAFETY: these are integers and pointers; all zeros is a value of each.
        #[expect(unsafe_code, reason = "their padding is private, so they can only be made of zeros")]
        let (nobody, place, header): (libc::sockaddr_nl, libc::iovec, libc::mmsghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        let mut inbox = Self {
            bytes: vec![0; at_once * ROOM],
            senders: vec![nobody; at_once],
            places: vec![place; at_once],
            headers: vec![header; at_once],
            received: 0,
        };
        let rooms = inbox.bytes.chunks_exact_mut(ROOM).zip(&mut inbox.senders);
        for ((header, place), (room, sender)) in inbox.headers.iter_mut().zip(&mut inbox.places).zip(rooms) {
            place.iov_base = room.as_mut_ptr().cast();
            place.iov_len = ROOM;
            header.msg_hdr.msg_iov = place;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
        }
        inbox
    }

    /// Takes what waits, [`Inbox::is_full`] says whether there may be more; never waits. Answers how many came.
    ///
    /// # Errors
    /// ENOBUFS: the receive buffer overflowed, and at least one message is lost; and whatever else `recvmmsg(2)` says.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        // What the call before left in the headers it used.
        for header in &mut self.headers[..self.received] {
            header.msg_hdr.msg_flags = 0;
        }
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = u32::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or(0);
        }
        self.received = 0;
        self.received = loop {
            // SAFETY: each header points to one iovec, each iovec to ROOM bytes of its own, each name to a sockaddr_nl of its
            // own; all are on the heap, owned by `self`, which is borrowed uniquely for the call.
            #[expect(unsafe_code, reason = "rustix has no recvmmsg, and a call for each event is half of its price")]
            let count = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    u32::try_from(self.headers.len()).unwrap_or(0),
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            if let Ok(count) = usize::try_from(count) {
                break count;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(0),
                _ => return Err(error),
            }
        };
        Ok(self.received)
    }

    /// Whether the last call filled it: more may wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.received == self.headers.len()
    }

    /// What the kernel sent, whole. What another process sent, or what was cut, is passed over.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.bytes.chunks_exact(ROOM).zip(&self.senders).zip(&self.headers).take(self.received);
        all.filter(|((_, sender), header)| sender.nl_pid == 0 && header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0)
            .map(|((room, _), header)| &room[..usize::try_from(header.msg_len).unwrap_or(0).min(ROOM)])
    }
}

/// Asks for a receive buffer of so many bytes; answers with what the kernel gives, which is twice what was asked, as it
/// counts its own overhead too (`socket(7)`). Beyond `net.core.rmem_max` it needs CAP_NET_ADMIN.
///
/// # Errors
/// Not even its size could be had.
pub fn enlarge(socket: &impl AsFd, bytes: usize) -> io::Result<usize> {
    if sockopt::set_socket_recv_buffer_size_force(socket.as_fd(), bytes).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket.as_fd(), bytes);
    }
    Ok(sockopt::socket_recv_buffer_size(socket.as_fd())?)
}
