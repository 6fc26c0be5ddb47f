//! Names of users and groups: `getpwuid_r(3)`, `getgrgid_r(3)`. They may ask a server, and wait.

use std::os::unix::ffi::OsStrExt as _;

/// The name of a user; `None` where it has none.
#[must_use]
pub fn user_name(uid: u32) -> Option<Vec<u8>> {
    uzers::get_user_by_uid(uid).map(|user| user.name().as_bytes().to_vec())
}

/// The name of a group; `None` where it has none.
#[must_use]
pub fn group_name(gid: u32) -> Option<Vec<u8>> {
    uzers::get_group_by_gid(gid).map(|group| group.name().as_bytes().to_vec())
}

/// The id of a group by its name.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    uzers::get_group_by_name(name).map(|group| group.gid())
}

/// The id of a user by its name.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    uzers::get_user_by_name(name).map(|user| user.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_else_is_invented() {
        assert_eq!(user_name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(group_name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(user_name(3_999_999_999), None);
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(user_id("root"), Some(0));
    }
}
