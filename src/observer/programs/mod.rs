//! Programs: which named group a process counts for.
//!
//! * [`rule`]: one compiled rule, with [`glob`] for its globs.
//! * [`index`]: which of many may match, by what must be there.
//! * [`interpret`]: what an interpreter runs.
//! * [`member`]: the same for a process of the table: its rule, the family it was born into, its default.
//! * `everyone`: for all of them, as facts come and as other rules are put in force.
//! * [`family`]: descendants that no rule claims; [`explain`]: why.
//!
//! A process counts for the first rule all of whose conditions hold; where that one is `multi`, for later ones as well, and the
//! first is its program. A condition on a fact that is not known does not hold; the process is asked again when the fact comes.
//! Threads of the kernel count for no program.

mod everyone;
pub mod explain;
pub mod family;
pub mod glob;
pub mod index;
pub mod interpret;
pub mod member;
pub mod rule;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::config::rules::ProgramRule;
use crate::observer::facts::Reading;
use crate::record::cmd::Cmd;
use index::Index;
use rule::{Field, Rule, Texts};

/// Further programs that a process counts for.
pub type Also = Arc<[Arc<[u8]>]>;

/// What rules look at of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The name of its first task; empty where it is not known.
    pub comm: &'a [u8],
    /// Path of its executable; ` (deleted)` at its end makes no difference.
    pub exe: Option<&'a [u8]>,
    /// Its command line as it really said it.
    pub cmd: Option<&'a Cmd>,
    /// Its effective user, by name or, where that has none, by number.
    pub user: Option<&'a [u8]>,
    /// Path of its control group.
    pub cgroup: Option<&'a [u8]>,
    /// The unit it runs in.
    pub unit: Option<&'a [u8]>,
    /// It is a thread of the kernel.
    pub is_kthread: bool,
}

/// What the rules say of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rule that matched first, from 0.
    pub rule: u32,
    /// The program it names.
    pub program: Arc<[u8]>,
    /// Further programs, by rules that are `multi` before them.
    pub also: Option<Also>,
    /// What descendants count for that no rule claims; `None` where all these rules are without children.
    pub children: Option<(Arc<[u8]>, Option<Also>)>,
}

/// The rules, compiled.
#[derive(Debug, Default)]
pub struct Programs {
    said: Vec<ProgramRule>,
    rules: Vec<Rule>,
    index: Index,
    interpreters: Vec<Box<[u8]>>,
    cmd: bool,
    comm: bool,
    user: bool,
    children: bool,
}

impl Programs {
    /// Compiles rules, and the names of interpreters whose script names the program.
    #[must_use]
    pub fn new(said: &[ProgramRule], interpreters: &[String]) -> Self {
        let rules: Vec<Rule> = said.iter().map(Rule::new).collect();
        Self {
            said: said.to_vec(),
            index: Index::new(&rules),
            cmd: rules.iter().any(|rule| rule.looks_at(Field::Cmd)),
            comm: rules.iter().any(|rule| rule.looks_at(Field::Comm)),
            user: rules.iter().any(|rule| rule.looks_at(Field::User)),
            children: rules.iter().any(|rule| rule.children),
            interpreters: interpreters.iter().filter(|name| !name.is_empty()).map(|name| name.as_bytes().into()).collect(),
            rules,
        }
    }

    /// Whether there is neither a rule nor an interpreter: every process counts for its executable.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.interpreters.is_empty()
    }

    /// Whether a process is asked anew for nothing: both say the same of everyone, from the same place.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.said == other.said && self.interpreters == other.interpreters
    }

    /// For each rule the number that the same one has among others.
    #[must_use]
    pub fn kept_by(&self, other: &Self) -> Vec<Option<u32>> {
        let unplaced = |rule: &ProgramRule| format!("{:?}", ProgramRule { place: None, ..rule.clone() });
        let others: FxHashMap<String, u32> = other.said.iter().map(unplaced).zip(0..).collect();
        self.said.iter().map(|rule| others.get(&unplaced(rule)).copied()).collect()
    }

    /// Whether the command line matters, as it was really said.
    #[must_use]
    pub fn needs_cmd(&self) -> bool {
        self.cmd || !self.interpreters.is_empty()
    }

    /// Whether another name may make another program of a process with this executable: a rule looks at it, or it stands in for the
    /// executable. One that is still to be read is asked about when it is.
    #[must_use]
    pub fn needs_comm(&self, exe: &Reading<Arc<[u8]>>) -> bool {
        self.comm || !(matches!(exe, Reading::Known(_)) || (matches!(exe, Reading::Unread) && self.is_plain()))
    }

    /// Whether the name of the user matters.
    #[must_use]
    pub const fn needs_user(&self) -> bool {
        self.user
    }

    /// Whether descendants ever join an ancestor.
    #[must_use]
    pub const fn have_children(&self) -> bool {
        self.children
    }

    /// The rules as the config says them, in their order: those of `[[program]]`, then those of `programs_file`.
    #[must_use]
    pub fn said(&self) -> &[ProgramRule] {
        &self.said
    }

    /// What the rules say of a process; `None` where none matches.
    #[must_use]
    pub fn verdict(&self, subject: &Subject<'_>) -> Option<Verdict> {
        if subject.is_kthread || self.rules.is_empty() {
            return None;
        }
        let texts = Texts::of(subject, self.cmd);
        let mut first: Option<(u32, Arc<[u8]>)> = None;
        let mut also: Vec<Arc<[u8]>> = Vec::new();
        let mut children: Vec<Arc<[u8]>> = Vec::new();
        for number in self.index.candidates(&texts) {
            let Some(rule) = self.rules.get(number as usize) else { continue };
            let Some(program) = rule.program(&texts) else { continue };
            if rule.children && !children.contains(&program) {
                children.push(Arc::clone(&program));
            }
            match &first {
                None => first = Some((number, program)),
                Some((_, name)) if *name == program || also.contains(&program) => {}
                Some(_) => also.push(program),
            }
            if !rule.multi {
                break;
            }
        }
        let (rule, program) = first?;
        let several = |names: Vec<Arc<[u8]>>| if names.is_empty() { None } else { Some(Also::from(names)) };
        let mut children = children.into_iter();
        let children = children.next().map(|first| (first, several(children.collect())));
        Some(Verdict { rule, program, also: several(also), children })
    }

    /// The name of what an interpreter runs, where a process is one of those asked for.
    #[must_use]
    pub fn script(&self, exe: &[u8], cmd: &Cmd) -> Option<Vec<u8>> {
        if self.interpreters.is_empty() { None } else { interpret::script(&self.interpreters, exe, cmd) }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
