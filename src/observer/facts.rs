//! What is known of a process besides its counters, and how it is asked for.

use std::hash::{Hash as _, Hasher as _};
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use super::life::Base;
use super::programs::Also;
use super::programs::family::Family;
use super::programs::member::Claim;
use super::sockets::Held;
use crate::record::cmd::Cmd;
use crate::record::scrub::Scrubber;
use crate::source::ReadError;
use crate::source::io::Io;
use crate::source::limits::Soft;
use crate::source::smaps::Taken;
use crate::source::stat::Stat;
use crate::source::status::Status;

/// How far a fact is known.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Reading<T> {
    /// Nobody asked yet.
    #[default]
    Unread,
    /// This is it.
    Known(T),
    /// There is none.
    Absent,
    /// The kernel refused it.
    Refused,
    /// It could not be had in time.
    Late,
}

impl<T> Reading<T> {
    /// From the answer of a read; a process that is gone has none of it.
    pub fn from_read(answer: Result<T, ReadError>) -> Self {
        match answer {
            Ok(value) => Self::Known(value),
            Err(ReadError::Vanished) => Self::Absent,
            Err(ReadError::NoDescriptor) => Self::Late,
            Err(ReadError::Refused | ReadError::Failed(_)) => Self::Refused,
        }
    }

    /// The value where it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }
}

/// A set of things to read of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wants(u32);

impl Wants {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `stat`: by the readers only where `/proc` is not the kernel's own and may wait.
    pub const STAT: Self = Self(1);
    /// `cmdline`.
    pub const CMD: Self = Self(1 << 1);
    /// The link `exe`.
    pub const EXE: Self = Self(1 << 2);
    /// `cgroup`.
    pub const CGROUP: Self = Self(1 << 3);
    /// Owner of the directory: the effective user.
    pub const OWNER: Self = Self(1 << 4);
    /// `status`.
    pub const STATUS: Self = Self(1 << 5);
    /// `io`.
    pub const IO: Self = Self(1 << 6);
    /// `oom_score` and `oom_score_adj`.
    pub const OOM: Self = Self(1 << 7);
    /// `wchan`.
    pub const WCHAN: Self = Self(1 << 8);
    /// `attr/current`.
    pub const LABEL: Self = Self(1 << 9);
    /// The number of open descriptors.
    pub const FDS: Self = Self(1 << 10);
    /// The links in `ns`.
    pub const NAMESPACES: Self = Self(1 << 11);

    /// What its ended tasks had used: of a process older than the recorder.
    pub const BASE: Self = Self(1 << 12);
    /// `smaps_rollup`: the dearest there is, and it holds the target up. What it cost is measured where nothing else is wanted.
    pub const MEMORY: Self = Self(1 << 13);
    /// `comm`.
    pub const COMM: Self = Self(1 << 14);
    /// The list of open descriptors, with the inodes of those that are sockets, and the network namespace.
    pub const SOCKETS: Self = Self(1 << 15);

    /// `limits`: with the radar, at first sight, when a service may have set its own, and at full samples.
    pub const LIMITS: Self = Self(1 << 20);
    /// The number of its mappings: takes its mmap_lock, so only where it could be near the most there may be.
    pub const MAPS: Self = Self(1 << 21);

    /// What every process is asked at first sight.
    pub const FIRST: Self = Self(Self::CMD.0 | Self::EXE.0 | Self::CGROUP.0 | Self::OWNER.0);

    /// What only columns on request need.
    pub const DETAILS: Self =
        Self(Self::STATUS.0 | Self::IO.0 | Self::OOM.0 | Self::WCHAN.0 | Self::LABEL.0 | Self::FDS.0 | Self::NAMESPACES.0);

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in it and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Wants {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Wants {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The names of the links in `/proc/PID/ns` that have a column.
pub const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// The counters of a process and its name.
pub type Counters = (Stat, Box<[u8]>);

/// What one request brought. What was not asked for is `None`.
#[derive(Debug, Default)]
pub struct Got {
    /// The counters and the name.
    pub stat: Option<Result<Counters, ReadError>>,
    /// The command line, as the process said it.
    pub cmd: Option<Result<Cmd, ReadError>>,
    /// Path of the executable.
    pub exe: Option<Result<Vec<u8>, ReadError>>,
    /// Path of the control group.
    pub cgroup: Option<Result<Vec<u8>, ReadError>>,
    /// What its file says of all hierarchies.
    pub cgroup_text: Option<Vec<u8>>,
    /// Its soft limits.
    pub limits: Option<Result<Soft, ReadError>>,
    /// Its mappings.
    pub maps: Option<Result<u64, ReadError>>,
    /// The effective user.
    pub owner: Option<Result<u32, ReadError>>,
    /// What its ended tasks had used.
    pub base: Option<Base>,
    /// What it has in memory.
    pub memory: Option<Taken>,
    /// The name of its first task; not read where memory was wanted too and there is none, as `stat` must be asked then anyway.
    pub comm: Option<Result<Vec<u8>, ReadError>>,
    /// What it holds open.
    pub held: Option<Result<Held, ReadError>>,
    /// What columns on request need.
    pub details: Details,
}

/// What only columns on request need.
#[derive(Debug, Default)]
pub struct Details {
    /// `status`.
    pub status: Reading<Box<Status>>,
    /// `io`.
    pub io: Reading<Io>,
    /// `oom_score`.
    pub oom_score: Reading<i64>,
    /// `oom_score_adj`.
    pub oom_score_adj: Reading<i64>,
    /// `wchan`.
    pub wchan: Reading<Box<[u8]>>,
    /// `attr/current`.
    pub label: Reading<Box<[u8]>>,
    /// Open descriptors.
    pub fds: Reading<u64>,
    /// Inodes of the namespaces, in the order of [`NAMESPACES`].
    pub namespaces: [Reading<Box<[u8]>>; 8],
}

impl Details {
    /// Takes over what `other` read, and keeps what it did not.
    pub fn update(&mut self, other: Self) {
        fn take<T>(place: &mut Reading<T>, new: Reading<T>) {
            if !matches!(new, Reading::Unread) {
                *place = new;
            }
        }
        take(&mut self.status, other.status);
        take(&mut self.io, other.io);
        take(&mut self.oom_score, other.oom_score);
        take(&mut self.oom_score_adj, other.oom_score_adj);
        take(&mut self.wchan, other.wchan);
        take(&mut self.label, other.label);
        take(&mut self.fds, other.fds);
        for (place, new) in self.namespaces.iter_mut().zip(other.namespaces) {
            take(place, new);
        }
    }
}

/// The facts of one process.
#[derive(Debug, Default)]
pub struct Facts {
    /// The command line as it may be recorded; absent where nothing of it may.
    pub cmd: Reading<Arc<Cmd>>,
    /// The command line as the process really said it, where program rules look at it. Never stored, shown or sent; one with
    /// `cmd` where nothing of it had to go.
    pub really: Option<Arc<Cmd>>,
    /// A hash of what the process really said, so that the same words are not scrubbed twice.
    pub said: u64,
    /// Path of the executable.
    pub exe: Reading<Arc<[u8]>>,
    /// The program it counts for.
    pub program: Reading<Arc<[u8]>>,
    /// Further programs, where rules let it count for several.
    pub also: Option<Also>,
    /// By what it counts for them.
    pub claim: Claim,
    /// The family it was born into: what it counts for where no rule claims it.
    pub family: Option<Arc<Family>>,
    /// What its children are born into, where a rule claims it.
    pub heads: Option<Arc<Family>>,
    /// Path of the control group.
    pub cgroup: Reading<Arc<[u8]>>,
    /// The unit that the path names.
    pub unit: Reading<Arc<[u8]>>,
    /// The effective user.
    pub owner: Reading<u32>,
    /// What columns on request need; `None` until one was asked for.
    pub details: Option<Box<Details>>,
}

impl Facts {
    /// What a child has of its parent.
    #[must_use]
    pub fn inherited(&self) -> Self {
        let Self { cmd, really, said, exe, program, also, claim, family, heads, cgroup, unit, owner, details: _ } = self;
        Self {
            cmd: cmd.clone(),
            really: really.clone(),
            said: *said,
            exe: exe.clone(),
            program: program.clone(),
            also: also.clone(),
            claim: *claim,
            family: family.clone(),
            heads: heads.clone(),
            cgroup: cgroup.clone(),
            unit: unit.clone(),
            owner: owner.clone(),
            details: None,
        }
    }

    /// Without what an execution makes another: what is known of the program before. Who belongs to it still does, until it is
    /// known what it executed.
    pub fn forget_program(&mut self) {
        self.cmd = Reading::Unread;
        self.really = None;
        self.said = 0;
        self.exe = Reading::Unread;
        self.program = Reading::Unread;
        self.also = None;
    }

    /// Whether a rule claims it.
    #[must_use]
    pub const fn is_claimed(&self) -> bool {
        matches!(self.claim, Claim::Rule(_))
    }

    /// What a child is born into.
    #[must_use]
    pub const fn passes_on(&self) -> Option<&Arc<Family>> {
        if self.is_claimed() { self.heads.as_ref() } else { self.family.as_ref() }
    }
}

/// The base name of an executable: of `/usr/bin/x (deleted)` it is `x`.
#[must_use]
pub fn program_of(exe: &[u8]) -> &[u8] {
    let path = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    path.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

/// A hash of what a process said; 0 stands for nothing said yet.
pub(super) fn said(cmd: &Cmd) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    cmd.args().for_each(|arg| arg.hash(&mut hasher));
    hasher.finish() | 1
}

/// The hash of what was said, the command line as it may be recorded, and as it was said where that is to be kept.
pub(super) fn recordable(cmd: Cmd, scrubber: &Scrubber, keep: bool) -> (u64, Reading<Arc<Cmd>>, Option<Arc<Cmd>>) {
    let said = said(&cmd);
    let of = |cmd: Option<Arc<Cmd>>| cmd.map_or(Reading::Absent, Reading::Known);
    if keep {
        let really = Arc::new(cmd);
        return (said, of(scrubber.apply_shared(&really)), Some(really));
    }
    (said, of(scrubber.apply(cmd).map(Arc::new)), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_base_name() {
        assert_eq!(program_of(b"/usr/sbin/nginx"), b"nginx");
        assert_eq!(program_of(b"/usr/sbin/nginx (deleted)"), b"nginx");
        assert_eq!(program_of(b"/memfd:x (deleted)"), b"memfd:x");
        assert_eq!(program_of(b"/"), b"/");
        assert_eq!(program_of(b""), b"");
    }

    #[test]
    fn sets() {
        let wants = Wants::CMD | Wants::IO;
        assert!(wants.has(Wants::CMD) && !wants.has(Wants::CMD | Wants::EXE));
        assert_eq!(wants.without(Wants::CMD), Wants::IO);
        assert!(wants.and(Wants::EXE).is_empty());
    }
}
