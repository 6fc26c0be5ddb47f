//! Families: descendants that no rule claims belong to the nearest ancestor that one does.
//!
//! Whom a process belongs to is settled at its birth and stays when its parent dies: a daemon that detached itself belongs to
//! whoever started it. While its ancestors live it follows them: when one becomes another program (a wrapper that executes
//! after five seconds), its descendants go along.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Also;
use crate::observer::table::{Process, Table};
use crate::record::identity::Identity;

/// What descendants of a process count for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Whose descendants they are.
    pub head: Identity,
    /// The rule that claimed it, from 0.
    pub rule: u32,
    /// The program.
    pub program: Arc<[u8]>,
    /// Further programs.
    pub also: Option<Also>,
}

/// Whether both are the same family, or say the same of those who belong to it.
#[must_use]
pub fn is_same(one: Option<&Arc<Family>>, other: Option<&Arc<Family>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

/// Everyone's family as their ancestors are now, each found once however long the chains are.
#[derive(Debug, Default)]
pub struct Families {
    found: FxHashMap<u32, Option<Arc<Family>>>,
    way: Vec<u32>,
}

impl Families {
    /// The family a process belongs to.
    #[must_use]
    pub fn of(&mut self, process: &Process, table: &Table) -> Option<Arc<Family>> {
        let mut at = process;
        let family = loop {
            if let Some(found) = self.found.get(&at.id.pid) {
                break found.clone();
            }
            // A chain read piece by piece while it changed may even be a ring: whoever comes back to himself has none.
            self.found.insert(at.id.pid, None);
            self.way.push(at.id.pid);
            // Whoever lost its parent has another one now, which did not bear it.
            // The stamp of a birth's event may be one tick later than the start in `stat`.
            let is_older = |parent: &&Process| parent.id.start <= at.id.start.saturating_add(1);
            let parent = if at.life.adopted { None } else { table.get(at.stat.ppid).filter(is_older) };
            match parent {
                None => break kept(at, table),
                Some(parent) if parent.facts.is_claimed() => break parent.facts.heads.clone(),
                Some(parent) => at = parent,
            }
        };
        for pid in self.way.drain(..) {
            self.found.insert(pid, family.clone());
        }
        family
    }
}

/// The family of one whose parent is gone: the one it was born into, and what that is now where its head lives.
fn kept(process: &Process, table: &Table) -> Option<Arc<Family>> {
    let family = process.facts.family.as_ref()?;
    match table.get(family.head.pid).filter(|head| head.id == family.head && head.id != process.id) {
        Some(head) => head.facts.passes_on().cloned(),
        None => Some(Arc::clone(family)),
    }
}
