//! Why a process counts for its program: each rule, and the first of its conditions that does not hold.

use super::rule::{Field, Texts};
use super::{Programs, Subject};

/// What became of one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The fact it looks at.
    pub field: Field,
    /// As the config says it; a regular expression between slashes.
    pub said: String,
    /// What the fact was; `None` where it is not known.
    pub fact: Option<Vec<u8>>,
    /// Whether it held.
    pub holds: bool,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its number, from 0.
    pub rule: u32,
    /// The conditions in the order in which they were tried, up to the first that does not hold.
    pub tried: Vec<Tried>,
    /// The program it names, where all hold.
    pub program: Option<Vec<u8>>,
    /// The fact its name needs and that is not there, where all conditions hold.
    pub unnamed: Option<&'static str>,
}

impl Asked {
    /// Whether it matched.
    #[must_use]
    pub const fn matched(&self) -> bool {
        self.program.is_some()
    }
}

impl Programs {
    /// Asks every rule in order, until one ends the search.
    #[must_use]
    pub fn explain(&self, subject: &Subject<'_>) -> Vec<Asked> {
        let mut all = Vec::new();
        if subject.is_kthread {
            return all;
        }
        let texts = Texts::of(subject, self.cmd);
        for (rule, number) in self.rules.iter().zip(0..) {
            let mut tried = Vec::new();
            for condition in &rule.conditions {
                let holds = condition.holds(&texts);
                let fact = texts.get(condition.field).map(<[u8]>::to_vec);
                tried.push(Tried { field: condition.field, said: condition.test.said(), fact, holds });
                if !holds {
                    break;
                }
            }
            let (mut program, mut unnamed) = (None, None);
            if !tried.is_empty() && tried.iter().all(|tried| tried.holds) {
                match rule.name(&texts) {
                    Ok(name) => program = Some(name.to_vec()),
                    Err(fact) => unnamed = Some(fact),
                }
            }
            let ends = program.is_some() && !rule.multi;
            all.push(Asked { rule: number, tried, program, unnamed });
            if ends {
                break;
            }
        }
        all
    }
}
