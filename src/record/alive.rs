//! Who is alive: what a restart must know of the living, kept in `psmond.state`.

use std::sync::Arc;

use super::carried::{Carried, Counted};
use super::identity::Identity;

/// One living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Who.
    pub id: Identity,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its effective user's id, where it is known.
    pub uid: Option<u32>,
    /// The program it counts for, where it is known.
    pub program: Option<Arc<[u8]>>,
    /// What was counted of its CPU time; `None` where nobody counts.
    pub counted: Option<Counted>,
}

/// All that live, and the count of those that ever lived.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Census {
    /// Everyone in the table, by pid.
    pub alive: Vec<Alive>,
    /// `processes` of `/proc/stat`: forks and clones since boot; `None` where it could not be read.
    pub processes: Option<u64>,
    /// What the accounts of CPU time know; `None` where nobody counts.
    pub carried: Option<Box<Carried>>,
}
