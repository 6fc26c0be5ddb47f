//! Where the hierarchies of control groups are mounted: `proc_pid_mountinfo(5)`, `cgroups(7)`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A hierarchy, mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The unified hierarchy (v2).
    pub unified: bool,
    /// Where.
    pub point: PathBuf,
    /// The group that stands at the mount point.
    pub root: Vec<u8>,
    /// Its options, the controllers of v1 among them.
    options: Vec<u8>,
}

impl Mount {
    /// Whether a controller of v1 is mounted with it.
    #[must_use]
    pub fn has(&self, controller: &[u8]) -> bool {
        !self.unified && self.options.split(|byte| *byte == b',').any(|option| option == controller)
    }
}

/// From `/proc/self/mountinfo`, in its order: the first of a kind is the machine's own, others are made by containers. `root` stands
/// before each mount point (`/`, or a made tree).
#[must_use]
pub fn parse(mountinfo: &[u8], root: &Path) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| mount(line, root)).collect()
}

fn mount(line: &[u8], root: &Path) -> Option<Mount> {
    let (place, kind) = memchr::memmem::find(line, b" - ").map(|at| (&line[..at], &line[at + 3..]))?;
    let mut words = place.split(|byte| *byte == b' ').skip(3);
    let (group, point) = (words.next()?, unescape(words.next()?));
    let mut words = kind.split(|byte| *byte == b' ');
    let (kind, options) = (words.next()?, words.nth(1).unwrap_or_default());
    let point = root.join(OsStr::from_bytes(point.strip_prefix(b"/").unwrap_or(&point)));
    matches!(kind, b"cgroup" | b"cgroup2").then(|| Mount {
        unified: kind == b"cgroup2",
        point,
        root: unescape(group),
        options: options.to_vec(),
    })
}

/// Blanks and backslashes of a path stand as three octal digits in mountinfo.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0_u8, |sum, digit| matches!(digit, b'0'..=b'7').then(|| sum.wrapping_mul(8).wrapping_add(digit - b'0')))
        };
        match (first, after.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_kinds() {
        let info = b"30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            31 24 0:27 /a\\040b /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw,cpuacct\n\
            32 24 0:28 / /proc rw - proc proc rw\nnonsense\n";
        let found = parse(info, Path::new("/root"));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].point, Path::new("/root/sys/fs/cgroup/cpu,cpuacct"));
        assert!(found[0].has(b"cpuacct") && found[0].has(b"cpu") && !found[0].has(b"memory"));
        assert!(found[1].unified && !found[1].has(b"cpuacct") && found[1].root == b"/a b");
        assert_eq!(found[1].point, Path::new("/root/sys/fs/cgroup/uni fied"));
        assert_eq!(unescape(b"/a\\040b\\134c\\9"), b"/a b\\c\\9");
    }
}
