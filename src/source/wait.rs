//! Children that ended: `waitid(2)`, which shows who, and `wait4(2)`, which tells what they used.

use std::io;

/// What an ended child used, and all those of its descendants that were waited for: `getrusage(2)`. The sum of both times is that
/// of the scheduler, to the end of the task; only the split between them is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// CPU time in user mode, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// Largest resident memory of one of them, bytes. What a child shared with its parent before its execution counts too.
    pub max_rss: u64,
}

impl Used {
    /// CPU time, microseconds.
    #[must_use]
    pub const fn cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }
}

/// Waits until a child of any thread of ours has ended, and leaves it as it is: until it is [reaped](reap) its pid is nobody
/// else's, and `/proc` tells who it was. `None` where no child is left, neither born here nor come as an orphan to a subreaper.
///
/// # Errors
/// The kernel has no `waitid(2)` of this form.
pub fn next_ended() -> io::Result<Option<u32>> {
    loop {
        // SAFETY: all bits zero is a value of this plain struct of integers.
        #[expect(unsafe_code, reason = "rustix has no __WALL for waitid(2), which those need that were born with another signal")]
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one siginfo_t to the pointer, which is valid for the call.
        #[expect(unsafe_code, reason = "as above")]
        let answer = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::__WALL) };
        if answer == 0 {
            // SAFETY: of a child that ended the kernel has filled in the part of the union that si_pid reads.
            #[expect(unsafe_code, reason = "siginfo_t is a union")]
            let pid = unsafe { info.si_pid() };
            return u32::try_from(pid).map(Some).map_err(io::Error::other);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Whether we have children, living or ended.
#[must_use]
pub fn has_children() -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the kernel writes nothing where no pointer is given; with WNOHANG and WNOWAIT nothing waits and nothing is changed.
    #[expect(unsafe_code, reason = "rustix has no __WALL for waitid(2)")]
    let answer = unsafe { libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), options) };
    answer == 0
}

/// Reaps a child that ended: its wait status and what it used.
///
/// # Errors
/// It is no child of ours, or somebody reaped it before.
pub fn reap(pid: u32) -> io::Result<(u32, Used)> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    loop {
        let mut status = 0;
        // SAFETY: all bits zero is a value of this plain struct of integers.
        #[expect(unsafe_code, reason = "rustix has no wait4(2)")]
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one int and one rusage to the pointers, which are valid for the call.
        #[expect(unsafe_code, reason = "rustix has no wait4(2)")]
        let answer = unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, &raw mut usage) };
        if answer == pid {
            let used = Used {
                user_us: micros(usage.ru_utime),
                system_us: micros(usage.ru_stime),
                // In KiB: getrusage(2).
                max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
            };
            return Ok((status.cast_unsigned(), used));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

fn micros(time: libc::timeval) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_reaped_with_its_status_and_its_time() {
        // Other tests have children of their own at the same time: of them nothing may be taken here.
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7"]);
        let mut child = command.spawn().unwrap();
        assert!(has_children());
        let (status, used) = reap(child.id()).unwrap();
        assert_eq!(status, 7 << 8);
        assert!(used.cpu_us() > 0 && used.cpu_us() < 60_000_000 && used.max_rss > 0, "{used:?}");
        assert!(reap(child.id()).is_err() && child.wait().is_err(), "it is reaped");
    }
}
