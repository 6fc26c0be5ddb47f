//! Scheduling of the recorder's own threads: `setpriority(2)`, `ioprio_set(2)`.

/// Puts the calling thread at idle I/O priority and the lowest nice value: for compressing closed days.
///
/// What cannot be had is gone without; the work is then done at ordinary priority.
pub fn make_this_thread_idle() {
    /// IOPRIO_WHO_PROCESS, `include/uapi/linux/ioprio.h`; with id 0 the calling thread.
    const WHO_PROCESS: libc::c_int = 1;
    /// IOPRIO_CLASS_IDLE in the upper three bits.
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: the call takes three integers and touches no memory of ours.
    #[expect(unsafe_code, reason = "rustix has no ioprio_set")]
    let _ = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) };
    // SAFETY: the call takes three integers and touches no memory of ours; on Linux id 0 is the calling thread.
    #[expect(unsafe_code, reason = "rustix changes the nice value of processes only by name of the caller's group")]
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}
