//! `/proc/PID/cgroup`: `cgroups(7)`.

/// The path of a process's control group: that of systemd's own hierarchy where there is one (v1 and hybrid),
/// else the unified one (v2).
///
/// Answers `None` where the file names neither.
#[must_use]
pub fn parse(text: &[u8]) -> Option<&[u8]> {
    let mut unified = None;
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if controllers == b"name=systemd" && path != b"/" {
            return Some(path);
        }
        if hierarchy == b"0" && controllers.is_empty() {
            unified = Some(path);
        }
    }
    unified
}

/// What a path says of the unit: the innermost systemd unit, else the container's id, else the last part.
///
/// Answers `None` for the root.
#[must_use]
pub fn unit(path: &[u8]) -> Option<&[u8]> {
    let parts = || path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    parts()
        .rfind(|part| is_unit(part))
        .or_else(|| parts().rfind(|part| container_id(part).is_some()).and_then(container_id))
        .or_else(|| parts().next_back())
}

/// The innermost slice of a path.
#[must_use]
pub fn slice(path: &[u8]) -> Option<&[u8]> {
    path.split(|byte| *byte == b'/').rfind(|part| part.ends_with(b".slice"))
}

fn is_unit(part: &[u8]) -> bool {
    [b".service".as_slice(), b".scope", b".socket", b".mount", b".swap"]
        .iter()
        .any(|suffix| part.ends_with(suffix) && part.len() > suffix.len())
}

/// Container runtimes name a group after 64 hexadecimal digits, some with a prefix (`docker-`, `cri-containerd-`).
fn container_id(part: &[u8]) -> Option<&[u8]> {
    let id = part.rsplit(|byte| *byte == b'-').next()?;
    (id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchies() {
        assert_eq!(parse(b"0::/system.slice/nginx.service\n"), Some(&b"/system.slice/nginx.service"[..]));
        assert_eq!(parse(b"9:name=systemd:/user.slice/x.scope\n1:cpu:/\n0::/\n"), Some(&b"/user.slice/x.scope"[..]));
        assert_eq!(parse(b"9:name=systemd:/\n1:cpu:/\n0::/a:b\n"), Some(&b"/a:b"[..]));
        assert_eq!(parse(b"1:cpu:/\n"), None);
        assert_eq!(parse(b"\xff\n::\n"), None);
    }

    #[test]
    fn the_unit_of_a_path() {
        let id = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let with = |before: &[u8], after: &[u8]| [before, id, after].concat();
        assert_eq!(unit(b"/system.slice/nginx.service"), Some(&b"nginx.service"[..]));
        assert_eq!(unit(b"/user.slice/user-1.slice/user@1.service/app.slice/foo.service/sub"), Some(&b"foo.service"[..]));
        assert_eq!(unit(&with(b"/docker/", b"")), Some(&id[..]));
        assert_eq!(unit(&with(b"/kubepods/burstable/pod1/cri-containerd-", b"/init")), Some(&id[..]));
        assert_eq!(unit(b"/lxc/web"), Some(&b"web"[..]));
        assert_eq!(unit(b"/"), None);
        assert_eq!(slice(b"/user.slice/user-1.slice/x.scope"), Some(&b"user-1.slice"[..]));
        assert_eq!(slice(b"/x"), None);
    }
}
