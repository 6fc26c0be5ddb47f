//! The system calls that std and rustix do not have: all of this program's `unsafe`.

#![expect(unsafe_code, reason = "storms are made of clone, fork and wait4, which no safe crate offers; each use says why it holds")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::null_mut;

use libc::{c_int, c_void};

/// User and group of nobody on Debian, Red Hat and the kernel's own overflow id.
const NOBODY: u32 = 65534;

/// The stack of a child that lives in our memory while we wait for it.
#[derive(Debug)]
pub(crate) struct Stack(Box<[u8]>);

impl Stack {
    pub(crate) fn new() -> Self {
        Stack(vec![0; 16 * 1024].into_boxed_slice())
    }
}

/// `vfork` and `_exit` in one: a process that is born, shares our memory and ends at once.
///
/// Not `libc::vfork`, which returns twice on one stack: the compiler does not know that (rust-lang/libc#1596).
pub(crate) fn vfork_and_exit(stack: &mut Stack) -> io::Result<i32> {
    extern "C" fn leave(_: *mut c_void) -> c_int {
        0
    }
    let end = stack.0.as_mut_ptr_range().end;
    let top = end.wrapping_sub(end as usize % 16);
    // SAFETY: the child runs `leave` on a stack of its own, which touches no memory of ours, and with CLONE_VFORK we
    // sleep until it has ended, so the stack outlives it. Returning from `leave` is an _exit (clone(2)).
    check(unsafe { libc::clone(leave, top.cast(), libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, null_mut()) })
}

/// A child that does this and ends. Only for a process with one thread.
pub(crate) fn fork(life: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: workers have one thread, so no lock is held by a thread the child does not have. The child never returns
    // into the code of its parent.
    match check(unsafe { libc::fork() })? {
        0 => {
            life();
            exit_now()
        }
        pid => Ok(pid),
    }
}

/// The end of this process, all threads, without running anything more of it.
pub(crate) fn exit_now() -> ! {
    // SAFETY: touches nothing.
    unsafe { libc::_exit(0) }
}

/// The end of this thread alone, as `pthread_exit` of a leader whose process lives on.
pub(crate) fn exit_thread() {
    // SAFETY: nothing of this thread is used by another: those that go on own what they use.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Waits for a child; the CPU it used in all its threads and waited-for children, in nanoseconds.
pub(crate) fn wait_for(pid: i32) -> io::Result<u64> {
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: both pointers are to values of ours that live through the call.
    check(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) })?;
    let ns = |time: libc::timeval| time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1000;
    Ok(ns(usage.ru_utime) + ns(usage.ru_stime))
}

/// Another user from now on; refused unless we are root.
pub(crate) fn become_nobody() {
    // SAFETY: a system call on numbers.
    unsafe { libc::setuid(NOBODY) };
}

/// Children that end are gone at once, and nobody is told of them.
#[allow(dead_code, reason = "of use to credits")]
pub(crate) fn ignore_children() {
    // SAFETY: no handler of ours is set.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// The CPUs this thread may run on.
pub(crate) fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set, which is ours.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: below CPU_SETSIZE.
    Ok((0..most).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// This thread runs on this CPU only.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a number that was in a set is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the size is that of the set, which is ours.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

/// The receive buffer of a socket, above `net.core.rmem_max` where we may.
pub(crate) fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    let set = |option| {
        let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(4);
        // SAFETY: the value is ours, and the length is its length.
        check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const bytes).cast(), length) })
    };
    set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF)).map(drop)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
