//! `--user`: users by name or number, resolved once.

use super::Failure;
use crate::record::value::Value;
use crate::source::users::{user_id, user_name};

/// The users that are meant; none means all.
#[derive(Debug, Default)]
pub struct Users(Vec<Vec<u8>>);

impl Users {
    /// From what was said. A user is shown by its name or, where that is not known, by its number: each is looked for under both.
    #[must_use]
    pub fn new(said: &[String]) -> Self {
        let mut words = Vec::new();
        for word in said {
            words.push(word.as_bytes().to_vec());
            match word.parse() {
                Ok(uid) => words.extend(user_name(uid)),
                Err(_) => words.extend(user_id(word).map(|uid| uid.to_string().into_bytes())),
            }
        }
        Self(words)
    }

    /// The same for a view that waits: there a user nobody knows would be waited for in vain.
    ///
    /// # Errors
    /// A word that is neither a number nor the name of a user.
    pub fn known(said: &[String]) -> Result<Self, Failure> {
        match said.iter().find(|word| word.parse::<u32>().is_err() && user_id(word).is_none()) {
            Some(word) => Err(Failure::Config(format!("--user: '{word}' is no user of this machine; say a name or a number"))),
            None => Ok(Self::new(said)),
        }
    }

    /// Whether the value of a column `user` is one of them.
    #[must_use]
    pub fn take(&self, user: Option<&Value>) -> bool {
        self.0.is_empty() || matches!(user, Some(Value::Word(user)) if self.0.iter().any(|wanted| wanted[..] == **user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_under_its_name_and_its_number() {
        let root = [Some(Value::word(b"root")), Some(Value::word(b"0"))];
        for said in ["root", "0"] {
            let users = Users::known(&[said.to_owned()]).unwrap();
            assert!(root.iter().all(|user| users.take(user.as_ref())), "{said}");
            assert!(!users.take(Some(&Value::word(b"daemon"))) && !users.take(None));
        }
        assert!(Users::default().take(None), "none named is all");
        assert!(Users::known(&["nobody-has-this-name".to_owned()]).is_err());
    }
}
