//! Netlink sockets, emptied many messages at a call: `netlink(7)`, `recvmmsg(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::net::sockopt;

/// Messages taken by one call.
const AT_ONCE: usize = 128;
/// Room for one message. The longest that anyone here gets is an exit record of taskstats with two structs, under
/// 1.5 KiB; what is longer is cut by the kernel, marked so, and passed over.
const ROOM: usize = 2048;

/// Where messages are received; made once and used again.
pub struct Inbox {
    bytes: Vec<u8>,
    senders: Vec<libc::sockaddr_nl>,
    lengths: [(usize, bool); AT_ONCE],
    received: usize,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("received", &self.received).finish_non_exhaustive()
    }
}

impl Default for Inbox {
    fn default() -> Self {
        // SAFETY: sockaddr_nl is four integers; all zeros is a value of it.
        #[expect(unsafe_code, reason = "its padding is private, so it can only be made of zeros")]
        let nobody: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        Self { bytes: vec![0; AT_ONCE * ROOM], senders: vec![nobody; AT_ONCE], lengths: [(0, false); AT_ONCE], received: 0 }
    }
}

impl Inbox {
    /// Takes what waits, [`Inbox::is_full`] says whether there may be more; never waits. Answers how many came.
    ///
    /// # Errors
    /// ENOBUFS: the receive buffer overflowed, and at least one message is lost; and whatever else `recvmmsg(2)` says.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.received = 0;
        // SAFETY: mmsghdr and iovec are integers and pointers; all zeros is a value of them.
        #[expect(unsafe_code, reason = "their padding is private, so they can only be made of zeros")]
        let (mut headers, mut places): ([libc::mmsghdr; AT_ONCE], [libc::iovec; AT_ONCE]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        for (((header, place), room), sender) in
            headers.iter_mut().zip(&mut places).zip(self.bytes.chunks_exact_mut(ROOM)).zip(&mut self.senders)
        {
            place.iov_base = room.as_mut_ptr().cast();
            place.iov_len = ROOM;
            header.msg_hdr.msg_iov = place;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
            header.msg_hdr.msg_namelen = u32::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or(0);
        }
        let count = loop {
            // SAFETY: each header points to one iovec, each iovec to ROOM bytes of its own, each name to a sockaddr_nl of its
            // own; all of them live and stay where they are until the call is back, and none is touched meanwhile.
            #[expect(unsafe_code, reason = "rustix has no recvmmsg, and a call for each event is half of its price")]
            let count = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    headers.as_mut_ptr(),
                    u32::try_from(AT_ONCE).unwrap_or(0),
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
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = (usize::try_from(header.msg_len).unwrap_or(0).min(ROOM), header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0);
        }
        self.received = count;
        Ok(count)
    }

    /// Whether the last call filled it: more may wait.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.received == AT_ONCE
    }

    /// What the kernel sent, whole. What another process sent, or what was cut, is passed over.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.bytes.chunks_exact(ROOM).zip(&self.senders).zip(&self.lengths).take(self.received);
        all.filter(|((_, sender), (_, cut))| sender.nl_pid == 0 && !cut).map(|((room, _), (length, _))| &room[..*length])
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
