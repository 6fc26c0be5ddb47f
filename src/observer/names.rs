//! Names of users and groups, as the readers bring them. A name is shown until a newer one comes.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::readers::Request;

/// The names known by now.
#[derive(Debug, Default)]
pub struct Names {
    users: FxHashMap<u32, Arc<[u8]>>,
    groups: FxHashMap<u32, Arc<[u8]>>,
    asked_users: FxHashSet<u32>,
    asked_groups: FxHashSet<u32>,
}

impl Names {
    /// What must be asked to show this user; `None` where it was asked already.
    pub fn ask_user(&mut self, uid: u32) -> Option<Request> {
        self.asked_users.insert(uid).then_some(Request::User(uid))
    }

    /// What must be asked to show this group; `None` where it was asked already.
    pub fn ask_group(&mut self, gid: u32) -> Option<Request> {
        self.asked_groups.insert(gid).then_some(Request::Group(gid))
    }

    /// Lets all names be asked anew when next they are wanted: users are renamed, and servers come back.
    pub fn expire(&mut self) {
        self.asked_users.clear();
        self.asked_groups.clear();
    }

    /// Takes the name of a user; says whether what is shown changes.
    pub fn set_user(&mut self, uid: u32, name: Option<Vec<u8>>) -> bool {
        set(&mut self.users, uid, name)
    }

    /// Takes the name of a group; says whether what is shown changes.
    pub fn set_group(&mut self, gid: u32, name: Option<Vec<u8>>) -> bool {
        set(&mut self.groups, gid, name)
    }

    /// How a user is shown: by its name, else by its number.
    #[must_use]
    pub fn user(&self, uid: u32) -> Arc<[u8]> {
        shown(&self.users, uid)
    }

    /// The same once it was answered: by its name, or by its number where it has none.
    #[must_use]
    pub fn known_user(&self, uid: u32) -> Option<&[u8]> {
        self.users.get(&uid).map(|name| &**name)
    }

    /// How a group is shown: by its name, else by its number.
    #[must_use]
    pub fn group(&self, gid: u32) -> Arc<[u8]> {
        shown(&self.groups, gid)
    }
}

fn set(names: &mut FxHashMap<u32, Arc<[u8]>>, id: u32, name: Option<Vec<u8>>) -> bool {
    let new: Arc<[u8]> = match name {
        Some(name) => name.into(),
        // A name once known is not forgotten because its server is away.
        None if names.contains_key(&id) => return false,
        None => digits(id),
    };
    names.insert(id, Arc::clone(&new)).is_none_or(|old| old != new)
}

fn shown(names: &FxHashMap<u32, Arc<[u8]>>, id: u32) -> Arc<[u8]> {
    names.get(&id).map_or_else(|| digits(id), Arc::clone)
}

fn digits(id: u32) -> Arc<[u8]> {
    Arc::from(itoa::Buffer::new().format(id).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_once_and_kept() {
        let mut names = Names::default();
        assert_eq!(names.ask_user(33), Some(Request::User(33)));
        assert_eq!(names.ask_user(33), None);
        assert_eq!(&*names.user(33), b"33");
        assert!(names.set_user(33, Some(b"www-data".to_vec())));
        names.expire();
        assert_eq!(names.ask_user(33), Some(Request::User(33)));
        assert!(!names.set_user(33, None), "the server is away, the name stays");
        assert_eq!(&*names.user(33), b"www-data");
    }
}
