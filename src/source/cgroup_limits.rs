//! What control groups may have, and have: memory and tasks, `cgroups(7)`, v1 and v2.
//!
//! `Documentation/admin-guide/cgroup-v2.rst` (memory.max, memory.current, pids.max, pids.current),
//! `cgroup-v1/memory.rst` (memory.limit_in_bytes, memory.usage_in_bytes, memory.stat's total_ lines), `cgroup-v1/pids.rst`.
//! None of these files takes a lock of a process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use super::cgroup_mounts::{self, Mount};
use super::{ReadError, number};

/// A controller that limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// Memory, bytes.
    Memory,
    /// Tasks.
    Pids,
}

/// What a group has, and what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Has.
    pub value: u64,
    /// May have.
    pub limit: u64,
}

impl Pair {
    /// Whether it is nearer to its limit than the other; of two as near the smaller limit is.
    #[must_use]
    pub fn is_nearer(self, other: Self) -> bool {
        let (mine, theirs) = (
            u128::from(self.value) * u128::from(other.limit.max(1)),
            u128::from(other.value) * u128::from(self.limit.max(1)),
        );
        (mine, other.limit) > (theirs, self.limit)
    }
}

/// Where the hierarchies of both controllers are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    memory: Option<Mount>,
    pids: Option<Mount>,
}

impl Hierarchies {
    /// From `/proc/self/mountinfo`, `proc_pid_mountinfo(5)`; `root` stands before each mount point (`/`, or a made tree). A
    /// controller that is mounted on its own (v1) is no part of the unified hierarchy.
    #[must_use]
    pub fn parse(mountinfo: &[u8], root: &Path) -> Self {
        let mut found = Self::default();
        let mut unified = None;
        for mount in cgroup_mounts::parse(mountinfo, root) {
            if mount.unified {
                unified = unified.or(Some(mount));
                continue;
            }
            if mount.has(b"memory") {
                found.memory = found.memory.or_else(|| Some(mount.clone()));
            }
            if mount.has(b"pids") {
                found.pids = found.pids.or(Some(mount));
            }
        }
        found.memory = found.memory.or_else(|| unified.clone());
        found.pids = found.pids.or(unified);
        found
    }

    const fn of(&self, controller: Controller) -> Option<&Mount> {
        match controller {
            Controller::Memory => self.memory.as_ref(),
            Controller::Pids => self.pids.as_ref(),
        }
    }

    /// The group of a process in a controller's hierarchy, from its `/proc/PID/cgroup`; `None` where it is in none, or outside of
    /// what is mounted here.
    #[must_use]
    pub fn group<'a>(&self, controller: Controller, text: &'a [u8]) -> Option<&'a [u8]> {
        let mount = self.of(controller)?;
        let name: &[u8] = match controller {
            Controller::Memory => b"memory",
            Controller::Pids => b"pids",
        };
        text.split(|byte| *byte == b'\n').find_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_it = if mount.unified {
                hierarchy == b"0" && controllers.is_empty()
            } else {
                controllers.split(|byte| *byte == b',').any(|one| one == name)
            };
            (is_it && is_within(path)).then_some(path)
        })
    }

    /// What a group has and may have: of it and its ancestors, up to what is mounted, the one nearest to its limit. `Ok(None)`
    /// where none of them has one.
    ///
    /// Of memory, what counts is what the kernel cannot simply drop: usage without `inactive_file`, as kubelet's working set is.
    /// Page cache fills every limited group sooner or later, and harms nobody.
    ///
    /// # Errors
    /// The group is gone, or its files are refused.
    pub fn read(&self, controller: Controller, group: &[u8]) -> Result<Option<Pair>, ReadError> {
        self.read_with(controller, group, &mut Seen::default())
    }

    /// Reads one of many groups of one moment: what was `seen` of their ancestors is not read again.
    ///
    /// # Errors
    /// The group is gone, or its files are refused.
    pub fn read_with(&self, controller: Controller, group: &[u8], seen: &mut Seen) -> Result<Option<Pair>, ReadError> {
        let mount = self.of(controller).ok_or(ReadError::Vanished)?;
        let below = match mount.root.as_slice() {
            b"/" => group,
            root => group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/")).unwrap_or(group),
        };
        if !is_within(below) {
            return Err(ReadError::Vanished);
        }
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let mut dir = mount.point.join(OsStr::from_bytes(below));
        // A group that is gone has no ancestors to ask.
        std::fs::metadata(&dir).map_err(|error| refused_or_gone(&error))?;
        let mut nearest: Option<Pair> = None;
        loop {
            if let Some(pair) = seen.read(controller, mount.unified, &dir)
                && nearest.is_none_or(|nearest| pair.is_nearer(nearest))
            {
                nearest = Some(pair);
            }
            if dir == mount.point || !dir.pop() || !dir.starts_with(&mount.point) {
                return Ok(nearest);
            }
        }
    }
}

/// Groups that were read at one moment, each by itself.
#[derive(Debug, Default)]
pub struct Seen(FxHashMap<(Controller, PathBuf), Option<Pair>>);

impl Seen {
    fn read(&mut self, controller: Controller, unified: bool, dir: &Path) -> Option<Pair> {
        *self.0.entry((controller, dir.to_path_buf())).or_insert_with(|| read_one(controller, unified, dir))
    }
}

/// A path that does not leave what is mounted: that of a process outside of our cgroup namespace begins with `/..`.
fn is_within(path: &[u8]) -> bool {
    !path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

fn refused_or_gone(error: &std::io::Error) -> ReadError {
    if error.kind() == std::io::ErrorKind::PermissionDenied { ReadError::Refused } else { ReadError::Vanished }
}

/// One group by itself; `None` where it has no limit, as the root has none.
fn read_one(controller: Controller, unified: bool, dir: &Path) -> Option<Pair> {
    let text = |name: &str| std::fs::read(dir.join(name)).ok();
    let count = |name: &str| number(text(name)?.trim_ascii());
    let (limit, value) = match (controller, unified) {
        (Controller::Memory, true) => ("memory.max", "memory.current"),
        (Controller::Memory, false) => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        (Controller::Pids, _) => ("pids.max", "pids.current"),
    };
    let limit = finite(&text(limit)?)?;
    let mut value = count(value)?;
    if controller == Controller::Memory {
        // In v1 the plain lines are of the group without those below it.
        let line: &[u8] = if unified { b"inactive_file" } else { b"total_inactive_file" };
        value = value.saturating_sub(text("memory.stat").and_then(|stat| line_of(&stat, line)).unwrap_or(0));
    }
    Some(Pair { value, limit })
}

/// A limit; `None` for `max`, and for the number v1 says instead: the largest count of pages, in bytes (`PAGE_COUNTER_MAX`,
/// `include/linux/page_counter.h`), a little below 2^63.
#[must_use]
pub fn finite(text: &[u8]) -> Option<u64> {
    number(text.trim_ascii()).filter(|limit| *limit < 1 << 62)
}

/// The number of a line `name number`.
fn line_of(stat: &[u8], name: &[u8]) -> Option<u64> {
    stat.split(|byte| *byte == b'\n').find_map(|line| number(line.strip_prefix(name)?.strip_prefix(b" ")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &[u8] = b"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn write(dir: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_process_is_in_a_group_of_each_hierarchy() {
        let text = b"9:name=systemd:/init.scope\n8:pids:/p\n4:memory,hugetlb:/a/b:c\n0::/u\n";
        let hybrid = Hierarchies::parse(HYBRID, Path::new("/"));
        assert_eq!(hybrid.group(Controller::Memory, text), Some(&b"/a/b:c"[..]));
        assert_eq!(hybrid.group(Controller::Pids, text), Some(&b"/p"[..]));
        let unified = Hierarchies::parse(UNIFIED, Path::new("/"));
        assert_eq!(unified.group(Controller::Memory, text), Some(&b"/u"[..]));
        assert_eq!(unified.group(Controller::Pids, b"0::/../../other\n"), None, "outside of our cgroup namespace");
        assert_eq!(Hierarchies::parse(b"", Path::new("/")).group(Controller::Pids, text), None);
    }

    #[test]
    fn in_v2_a_parent_binds_too_and_the_tightest_counts() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("sys/fs/cgroup");
        write(&mount, &[("memory.stat", "anon 5\n")]);
        write(
            &mount.join("a"),
            &[("memory.max", "1000\n"), ("memory.current", "900\n"), ("memory.stat", "anon 1\ninactive_file 50\n")],
        );
        write(
            &mount.join("a/b"),
            &[("memory.max", "max\n"), ("memory.current", "100\n"), ("pids.max", "10\n"), ("pids.current", "3\n")],
        );
        write(
            &mount.join("a/b/c"),
            &[("memory.max", "200\n"), ("memory.current", "20\n"), ("memory.stat", "inactive_file 0\n")],
        );
        let found = Hierarchies::parse(UNIFIED, root.path());
        assert_eq!(
            found.read(Controller::Memory, b"/a/b/c"),
            Ok(Some(Pair { value: 850, limit: 1000 })),
            "less what can be dropped"
        );
        assert_eq!(found.read(Controller::Pids, b"/a/b/c"), Ok(Some(Pair { value: 3, limit: 10 })));
        assert_eq!(found.read(Controller::Pids, b"/a"), Ok(None));
        assert_eq!(found.read(Controller::Memory, b"/"), Ok(None));
        assert_eq!(found.read(Controller::Memory, b"/gone"), Err(ReadError::Vanished));
        assert_eq!(found.read(Controller::Memory, b"/../../../etc"), Err(ReadError::Vanished));
    }

    #[test]
    fn an_ancestor_of_many_groups_is_read_once() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("sys/fs/cgroup");
        for (at, value) in [("s", "5"), ("s/a", "1"), ("s/b", "2")] {
            write(&mount.join(at), &[("pids.max", if at == "s" { "10" } else { "100" }), ("pids.current", value)]);
        }
        let (found, mut seen) = (Hierarchies::parse(UNIFIED, root.path()), Seen::default());
        let parent = Ok(Some(Pair { value: 5, limit: 10 }));
        assert_eq!(found.read_with(Controller::Pids, b"/s/a", &mut seen), parent);
        write(&mount.join("s"), &[("pids.current", "6")]);
        assert_eq!(found.read_with(Controller::Pids, b"/s/b", &mut seen), parent, "as it was a moment ago");
        assert_eq!(found.read(Controller::Pids, b"/s/b"), Ok(Some(Pair { value: 6, limit: 10 })));
    }

    #[test]
    fn in_v1_a_huge_number_is_no_limit() {
        assert_eq!(finite(b"9223372036854771712\n"), None);
        assert_eq!(finite(b"9223372036854710272\n"), None, "pages of 64 KiB");
        assert_eq!((finite(b"max\n"), finite(b"1048576\n"), finite(b"")), (None, Some(1 << 20), None));
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("sys/fs/cgroup/memory");
        write(&mount, &[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "5\n")]);
        let stat = "inactive_file 1\ntotal_inactive_file 24\n";
        write(
            &mount.join("a"),
            &[("memory.limit_in_bytes", "4096\n"), ("memory.usage_in_bytes", "1024\n"), ("memory.stat", stat)],
        );
        let found = Hierarchies::parse(HYBRID, root.path());
        assert_eq!(found.read(Controller::Memory, b"/a"), Ok(Some(Pair { value: 1000, limit: 4096 })));
        assert_eq!(found.read(Controller::Memory, b"/"), Ok(None));
    }

    #[test]
    fn what_is_mounted_may_begin_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let info = b"30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        write(&root.path().join("sys/fs/cgroup/in"), &[("pids.max", "7\n"), ("pids.current", "1\n")]);
        let found = Hierarchies::parse(info, root.path());
        assert_eq!(found.read(Controller::Pids, b"/docker/x/in"), Ok(Some(Pair { value: 1, limit: 7 })));
        assert_eq!(found.read(Controller::Pids, b"/in"), Ok(Some(Pair { value: 1, limit: 7 })));
    }

    #[test]
    fn a_real_group_of_this_machine() {
        let found = Hierarchies::parse(&fs::read("/proc/self/mountinfo").unwrap(), Path::new("/"));
        for (controller, limit, value) in [(Controller::Pids, "pids.max", "64"), (Controller::Memory, "memory.limit_in_bytes", "104857600")]
        {
            let Some(mount) = found.of(controller).filter(|mount| !mount.unified) else {
                println!("SKIPPED: {controller:?} is not mounted as v1 here");
                continue;
            };
            // At the root of what is mounted: nothing above binds.
            let name = format!("psmon-test-{}", std::process::id());
            let dir = mount.point.join(&name);
            if let Err(error) = fs::create_dir(&dir).and_then(|()| fs::write(dir.join(limit), value)) {
                let _ = fs::remove_dir(&dir);
                println!("SKIPPED: no group can be made in {}: {error}", mount.point.display());
                continue;
            }
            let pair = found.read(controller, format!("/{name}").as_bytes());
            let mut child = std::process::Command::new("sleep").arg("1012").spawn().unwrap();
            let moved = fs::write(dir.join("cgroup.procs"), child.id().to_string());
            let with_child = found.read(controller, format!("/{name}").as_bytes());
            let text = fs::read(format!("/proc/{}/cgroup", child.id())).unwrap();
            let group = found.group(controller, &text).map(<[u8]>::to_vec);
            child.kill().unwrap();
            child.wait().unwrap();
            // Whoever was waited for leaves its group a moment later.
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while fs::remove_dir(&dir).is_err() && std::time::Instant::now() < limit {
                std::thread::yield_now();
            }
            moved.unwrap();
            assert_eq!(pair, Ok(Some(Pair { value: 0, limit: value.parse().unwrap() })));
            assert_eq!(group, Some(format!("/{name}").into_bytes()));
            let with_child = with_child.unwrap().unwrap();
            assert_eq!(with_child.limit, value.parse::<u64>().unwrap());
            assert!(controller == Controller::Memory || with_child.value == 1, "{with_child:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = Hierarchies::parse(&bytes, Path::new("/nowhere"));
            let _ = found.group(Controller::Memory, &bytes);
            let _ = Hierarchies::parse(UNIFIED, Path::new("/nowhere")).read(Controller::Pids, &bytes);
            let _ = finite(&bytes);
        }

        // Of any two one is nearer, unless they are the same; and none is nearer than itself.
        #[test]
        fn nearer_is_an_order(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            let (a, b) = (Pair { value: a.0, limit: a.1 }, Pair { value: b.0, limit: b.1 });
            prop_assert!(!a.is_nearer(a));
            prop_assert!(!(a.is_nearer(b) && b.is_nearer(a)));
        }
    }
}
