//! How a round looks at one process: at first sight, when its birth was told, and again.

use crate::observer::facts::{Reading, Wants};
use crate::observer::kept;
use crate::observer::life::Sources;
use crate::observer::radar::Radar;
use crate::observer::readers::Request;
use crate::observer::table::Process;
use crate::observer::world::World;
use crate::source::procdir::{Proc, read_at_start};
use crate::source::stat::{self, STAT_BYTES, Stat};
use crate::source::{ReadError, clock, statm};

use super::Round;

/// A command line is read again after so long, if its process ran: setproctitle raises no event.
const CMD_AGE_NS: u64 = 60_000_000_000;
/// The effective user is looked at again after so long, if its process ran: setuid raises no event either.
const OWNER_AGE_NS: u64 = 9_000_000_000;

impl Round {
    /// Takes in a process that was not in the table.
    pub(super) fn discover(&mut self, world: &mut World, pid: u32) {
        if !world.proc.is_native() {
            // Nothing of this tree is sure to answer: the readers ask even for its counters.
            let mut process = Process::unknown(pid);
            process.asked = Wants::STAT | Wants::FIRST | world.details | world.once;
            self.requests.push(Request::Process { pid, start: None, wants: process.asked });
            world.table.insert(process);
            self.touched.push(pid);
            return;
        }
        let mut buffer = [0; STAT_BYTES];
        let read = world.proc.open_stat(pid).and_then(|fd| read_at_start(&fd, &mut buffer).map(|length| (fd, length)));
        if matches!(read, Err(ReadError::NoDescriptor)) {
            // It lives, and nothing of it can be opened now: it is shown as what it is.
            world.table.insert(Process::unknown(pid));
            self.touched.push(pid);
            return;
        }
        let Some((fd, (stat, comm))) = read.ok().and_then(|(fd, length)| Some((fd, stat::parse(&buffer[..length])?))) else {
            self.vanished += 1;
            return;
        };
        // A kernel thread is rarely read again: no descriptor is spent on it.
        let kept = (world.table.may_keep() && !stat.is_kthread()).then_some(fd);
        let mut process = Process::new(stat, comm, kept);
        reread_memory(&world.proc, &mut process, &mut 0);
        let wants = if stat.is_kthread() { Wants::OWNER | Wants::CGROUP } else { Wants::FIRST | self.once_wants(&process, &stat) };
        if stat.is_kthread() || stat.is_zombie() {
            process.facts.cmd = Reading::Absent;
            process.facts.exe = Reading::Absent;
        }
        process.cgroup_reads =
            cgroup_reads_due(process.id.start, clock::boottime_ns() / (1_000_000_000 / world.machine.hz.max(1)).max(1), world.machine.hz);
        self.want(wants | world.details | swap_wants(world.swap, &process), &mut process);
        if world.hears && !process.stat.is_kthread() {
            // What its ended tasks used is in no record to come.
            self.want(Wants::BASE, &mut process);
        }
        process.life.many = process.stat.num_threads > 1 || world.hears;
        process.life.was_zombie = process.stat.is_zombie() && process.stat.num_threads <= 1;
        if let Some(before) = world.remove(pid) {
            world.unseen.push(before);
        }
        world.table.insert(process);
        world.classify(pid);
        // Whoever bore it may have a family.
        world.families_moved |= world.programs.have_children();
        self.touched.push(pid);
    }

    /// Looks for the first time at a process whose birth was told; `false` if it is gone.
    pub(super) fn meet(&mut self, proc: &Proc, process: &mut Process, details: Wants, swap: bool) -> bool {
        let pid = process.id.pid;
        let mut buffer = [0; STAT_BYTES];
        let read = proc.open_stat(pid).and_then(|fd| read_at_start(&fd, &mut buffer).map(|length| (fd, length)));
        let (fd, length) = match read {
            Ok(read) => read,
            Err(ReadError::Vanished) => return false,
            Err(_) => {
                // It lives, and nothing of it can be opened now.
                process.late |= Wants::STAT;
                return true;
            }
        };
        let Some((stat, comm)) = stat::parse(&buffer[..length]).filter(|(stat, _)| process.started_at(stat.start)) else { return false };
        if process.id.start == 0 {
            process.id.start = stat.start;
        }
        process.late = process.late.without(Wants::STAT);
        process.life.adopted |= process.stat.ppid != stat.ppid;
        process.stat = stat;
        if *process.comm != *comm {
            process.comm = comm.into();
            self.renamed.push(pid);
        }
        if self.spare > 0 && !stat.is_kthread() {
            self.spare -= 1;
            process.kept = Some(fd);
        }
        reread_memory(proc, process, &mut 0);
        process.life.many |= stat.num_threads > 1;
        process.life.sources = process.life.sources.and(Sources::PROC);
        let mut wants = details | swap_wants(swap, process) | self.once_wants(process, &stat);
        if process.facts.owner.known().is_none() {
            wants |= Wants::OWNER;
        }
        // Whoever starts a process may have moved it since its birth.
        if process.facts.cgroup.known().is_none() || process.life.sources.has(Sources::INHERITED) {
            wants |= Wants::CGROUP;
        }
        if process.life.exec.is_some() {
            process.facts = process.facts_to_tell();
        }
        if stat.is_kthread() {
            process.facts.cmd = Reading::Absent;
            process.facts.exe = Reading::Absent;
            self.renamed.push(pid);
        } else if stat.is_zombie() {
            // Its obituary is about to be written: what was known of it stays.
            wants = Wants::NONE;
        } else if process.facts.cmd.known().is_none() || process.facts.exe.known().is_none() {
            wants |= Wants::CMD | Wants::EXE;
        }
        self.want(wants, process);
        self.touched.push(pid);
        self.sharers.extend(process.facts.exe.known().cloned());
        true
    }

    /// What is read of a process at first sight besides what is of everyone.
    fn once_wants(&self, process: &Process, stat: &Stat) -> Wants {
        if stat.is_kthread() || stat.is_zombie() {
            return Wants::NONE;
        }
        self.once | if Radar::wants_maps(process, stat, self.counting, true) { Wants::MAPS } else { Wants::NONE }
    }

    /// Asks for facts of a process unless they are being read.
    fn want(&mut self, wants: Wants, process: &mut Process) {
        let new = wants.without(process.asked);
        if !new.is_empty() {
            process.asked |= new;
            self.requests.push(Request::Process { pid: process.id.pid, start: Some(process.stat.start), wants: new });
        }
    }

    /// Reads the counters of a process again, and asks for what they show to be stale. False if it is gone.
    pub(super) fn reread(&mut self, proc: &Proc, process: &mut Process, ran: bool, details: Wants, swap: bool) -> bool {
        let mut buffer = [0; STAT_BYTES];
        let length = match process.read_stat(proc, &mut buffer) {
            Ok(length) => length,
            Err(ReadError::Vanished) => return false,
            Err(_) => {
                // No descriptor left, or worse: what was known stays, and is said to be late.
                process.late |= Wants::STAT;
                return true;
            }
        };
        let Some((stat, comm)) = stat::parse(&buffer[..length]).filter(|(stat, _)| process.started_at(stat.start)) else { return false };
        process.late = process.late.without(Wants::STAT);
        let renamed = *process.comm != *comm;
        let became_zombie = stat.is_zombie() && !process.stat.is_zombie();
        // Events say when there was one; what capture could not read then is read now.
        let exec = if self.hears {
            let unread = matches!(process.facts.cmd, Reading::Unread);
            if process.life.exec.is_some() {
                // What is shown is of the program before; what it is now must be read, or is said to be unknown.
                process.facts.forget_program();
            }
            (unread || process.life.exec.is_some()) && process.late.is_empty()
        } else {
            renamed || stat.arg_start != process.stat.arg_start
        };
        if !ran && differs(&process.stat, &stat, renamed) {
            self.gate_missed += 1;
        }
        if renamed {
            process.comm = comm.into();
            self.renamed.push(process.id.pid);
        }
        process.life.adopted |= process.stat.ppid != stat.ppid;
        let was_kthread = process.stat.is_kthread();
        let before = std::mem::replace(&mut process.stat, stat);
        // Pages come by faults and go with their mappings: without either the exact number stands still too.
        let memory = |stat: &Stat| (stat.min_flt, stat.maj_flt, stat.vsize, stat.rss_pages);
        if self.everyone || memory(&before) != memory(&stat) {
            // At a reading of everyone nothing is opened for good: most of them are idle.
            let mut none = 0;
            reread_memory(proc, process, if ran { &mut self.spare } else { &mut none });
        }
        if stat.is_zombie() || stat.is_kthread() {
            if became_zombie {
                // Where its end is told, what was known of it stays for its obituary.
                if !self.hears {
                    process.facts.cmd = Reading::Absent;
                }
                self.parents.insert(process.id.pid);
            }
            if self.everyone {
                self.want(Wants::OWNER | Wants::CGROUP | details, process);
            }
            return true;
        }
        if was_kthread {
            process.facts.said = 0;
        }
        let now_ns = clock::monotonic_ns();
        let mut wants = if ran || self.everyone { details } else { Wants::NONE };
        if exec || was_kthread {
            wants |= Wants::CMD | Wants::EXE | Wants::OWNER;
        } else if self.everyone {
            wants |= Wants::FIRST | swap_wants(swap, process) | self.once;
        } else if ran && now_ns.saturating_sub(process.cmd_read_ns) > CMD_AGE_NS {
            wants |= Wants::CMD;
        }
        if Radar::wants_maps(process, &process.stat, self.counting, self.everyone) {
            wants |= Wants::MAPS;
        }
        // Where an answer never came, asking again costs a thread for a second: only once it ran.
        if ran && !process.late.is_empty() {
            wants |= process.late.without(Wants::STAT);
        } else if self.everyone {
            wants = wants.without(process.late);
        }
        // Without events a change of user shows only here.
        let due = !self.hears && now_ns.saturating_sub(process.owner_read_ns) > OWNER_AGE_NS;
        if ran && due && !wants.has(Wants::OWNER) && process.facts.owner.known().is_some() {
            process.owner_read_ns = now_ns;
            match proc.owner(process.id.pid) {
                Ok(owner) if process.facts.owner != Reading::Known(owner) => wants |= Wants::OWNER,
                _ => {}
            }
        }
        self.want(wants, process);
        true
    }

    /// The control group is set by whoever starts a process, shortly after its birth: read again after 1 s and 10 s.
    pub(super) fn follow_cgroup(&mut self, process: &mut Process, boot_ticks: u64, hz: u64) {
        if process.cgroup_reads >= 2 {
            return;
        }
        let due = cgroup_reads_due(process.id.start, boot_ticks, hz);
        if due > process.cgroup_reads {
            process.cgroup_reads = due;
            self.want(Wants::CGROUP | self.once, process);
        }
    }
}

/// How often the control group of a process of this age is read after its discovery.
fn cgroup_reads_due(start: u64, boot_ticks: u64, hz: u64) -> u8 {
    match boot_ticks.saturating_sub(start) / hz.max(1) {
        0 => 0,
        1..10 => 1,
        _ => 2,
    }
}

/// Reads the exact resident pages. The file is kept open while there are descriptors to `spare`.
fn reread_memory(proc: &Proc, process: &mut Process, spare: &mut usize) {
    if process.stat.is_kthread() {
        return;
    }
    let mut buffer = [0; 256];
    let pid = process.id.pid;
    let read = kept::read(&mut process.kept_statm, spare, &mut buffer, || proc.open_statm(pid));
    let exact = read.ok().and_then(|length| statm::resident_pages(&buffer[..length]));
    process.rss_pages = exact.unwrap_or(process.stat.rss_pages);
}

fn swap_wants(swap: bool, process: &Process) -> Wants {
    if swap && !process.stat.is_kthread() && !process.stat.is_zombie() { Wants::STATUS } else { Wants::NONE }
}

/// Whether a process changed in what a column shows. The CPU it last ran on is not of its own doing.
fn differs(before: &Stat, now: &Stat, renamed: bool) -> bool {
    // An exec that was told makes the address unknown until it is read.
    let arg_start = if before.arg_start == 0 { now.arg_start } else { before.arg_start };
    renamed || Stat { processor: now.processor, arg_start, ..*before } != *now
}
