//! Scheduling of the recorder's own threads: `sched(7)`, `setpriority(2)`, `ioprio_set(2)`.

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

/// How soon a thread gets a CPU, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promptness {
    /// SCHED_FIFO 1: before everything that is not real-time.
    RealTime,
    /// Nice -20.
    Nice,
    /// An ordinary thread with a short slice, which is given a CPU sooner (Linux 6.12).
    ShortSlice,
    /// As everybody.
    Ordinary,
}

impl Promptness {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::RealTime => "SCHED_FIFO 1",
            Self::Nice => "nice -20",
            Self::ShortSlice => "a short slice",
            Self::Ordinary => "ordinary priority",
        }
    }
}

/// Makes the calling thread as prompt as it may be, and looks what it got.
#[must_use]
pub fn make_this_thread_prompt() -> Promptness {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a sched_param that lives through the call; on Linux id 0 is the calling thread.
    #[expect(unsafe_code, reason = "rustix has no sched_setscheduler")]
    let asked = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const first) };
    // SAFETY: the call takes an integer and touches no memory of ours.
    #[expect(unsafe_code, reason = "rustix has no sched_getscheduler")]
    let got = unsafe { libc::sched_getscheduler(0) };
    if asked == 0 && got & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO {
        return Promptness::RealTime;
    }
    // SAFETY: the call takes three integers and touches no memory of ours; on Linux id 0 is the calling thread.
    #[expect(unsafe_code, reason = "rustix changes the nice value of processes only by name of the caller's group")]
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if nice == 0 {
        return Promptness::Nice;
    }
    // Before Linux 6.12 the kernel takes the call and does nothing of it: what was got cannot be told from what was asked.
    if ask_for_short_slice() { Promptness::ShortSlice } else { Promptness::Ordinary }
}

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

fn ask_for_short_slice() -> bool {
    /// The shortest that the kernel takes: 0.1 ms.
    const SLICE_NS: u64 = 100_000;
    let attributes = Attributes { size: u32::try_from(size_of::<Attributes>()).unwrap_or(0), runtime: SLICE_NS, ..Attributes::default() };
    // SAFETY: the pointer is to a struct of the size that it states, which lives through the call.
    #[expect(unsafe_code, reason = "rustix and libc have no sched_setattr")]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    answer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_made_as_prompt_as_it_may_be() {
        // In a thread of its own: what it gets ends with it.
        let got = std::thread::spawn(make_this_thread_prompt).join().unwrap();
        println!("this test got {}", got.words());
        assert!(!got.words().is_empty());
    }
}
