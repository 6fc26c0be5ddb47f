//! How `/proc` is mounted: `proc(5)`, options hidepid and subset.

use std::path::Path;

use procfs::process::Process;

/// What hides processes from us: the mount option that does, as `hidepid=invisible`; `None` where nothing does,
/// or where it cannot be known.
#[must_use]
pub fn hides(proc: &Path) -> Option<String> {
    let mounts = Process::myself().ok()?.mountinfo().ok()?;
    // A later mount on the same place covers those before.
    let mount = mounts.into_iter().rfind(|mount| mount.mount_point == proc)?;
    let option = |name: &str| {
        mount
            .super_options
            .get(name)
            .cloned()
            .flatten()
            .filter(|value| value != "off" && value != "0")
            .map(|value| format!("{name}={value}"))
    };
    option("hidepid").or_else(|| option("subset"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_no_mount_hides_nothing() {
        assert_eq!(hides(Path::new("/nowhere")), None);
    }
}
