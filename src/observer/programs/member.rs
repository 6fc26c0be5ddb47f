//! A process of the table and the program it counts for.

use std::sync::Arc;

use super::family::{self, Family};
use super::{Programs, Subject};
use crate::observer::facts::{Facts, Reading, program_of};
use crate::observer::names::Names;
use crate::observer::table::Process;
use crate::record::cmd::Cmd;

/// By what a process counts for its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Claim {
    /// Nobody asked yet.
    #[default]
    None,
    /// A rule, by its number from 0.
    Rule(u32),
    /// The family it was born into.
    Family,
    /// The script its interpreter runs.
    Script,
    /// Its executable, or its name where that is refused.
    Default,
}

/// What a classification changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The program, or further programs.
    pub program: bool,
    /// What its descendants belong to.
    pub family: bool,
}

/// What rules look at, of the facts of a process.
#[must_use]
pub fn subject<'a>(facts: &'a Facts, comm: &'a [u8], names: &'a Names, is_kthread: bool) -> Subject<'a> {
    Subject {
        comm,
        exe: facts.exe.known().map(|exe| &**exe),
        cmd: facts.really.as_deref(),
        user: facts.owner.known().and_then(|uid| names.known_user(*uid)),
        cgroup: facts.cgroup.known().map(|path| &**path),
        unit: facts.unit.known().map(|unit| &**unit),
        is_kthread,
    }
}

/// What somebody counts for whom no rule claims and who has no family: what its interpreter runs, its executable, its name.
#[must_use]
pub fn by_default(exe: &Reading<Arc<[u8]>>, really: Option<&Cmd>, comm: &Arc<[u8]>, programs: &Programs) -> (Claim, Reading<Arc<[u8]>>) {
    if let (Reading::Known(exe), Some(cmd)) = (exe, really)
        && let Some(script) = programs.script(exe, cmd)
    {
        return (Claim::Script, Reading::Known(script.into()));
    }
    (Claim::Default, executable(exe, comm))
}

/// The base name of an executable; where that is refused, the process's own name.
#[must_use]
pub fn executable(exe: &Reading<Arc<[u8]>>, comm: &Arc<[u8]>) -> Reading<Arc<[u8]>> {
    match exe {
        Reading::Known(exe) => Reading::Known(program_of(exe).into()),
        Reading::Late => Reading::Late,
        _ if comm.is_empty() => Reading::Absent,
        _ => Reading::Known(Arc::clone(comm)),
    }
}

/// Finds out which program a process counts for, from what is known of it now.
pub fn classify(process: &mut Process, programs: &Programs, names: &Names) -> Changed {
    let is_kthread = process.stat.is_kthread();
    // One that has ended is what it was: its command line and executable are gone, and its obituary is about to be written.
    if process.stat.is_zombie() && process.facts.claim != Claim::None && process.facts.program.known().is_some() {
        return match (process.facts.claim, process.facts.family.clone()) {
            (Claim::Default | Claim::Family, Some(family)) if !programs.is_plain() => join(process, &family),
            _ => Changed::default(),
        };
    }
    if programs.is_plain() {
        let (claim, program) =
            if is_kthread { (Claim::None, Reading::Absent) } else { by_default(&process.facts.exe, None, &process.comm, programs) };
        return take(process, claim, program, None, None);
    }
    if is_kthread {
        return take(process, Claim::None, Reading::Absent, None, None);
    }
    let verdict = programs.verdict(&subject(&process.facts, &process.comm, names, false));
    let facts = &process.facts;
    match verdict {
        Some(verdict) => {
            let heads = verdict.children.map(|(program, also)| Family { head: process.id, rule: verdict.rule, program, also });
            let heads = heads.map(|family| match &facts.heads {
                Some(before) if **before == family => Arc::clone(before),
                _ => Arc::new(family),
            });
            take(process, Claim::Rule(verdict.rule), Reading::Known(verdict.program), verdict.also, heads)
        }
        None => match &facts.family {
            Some(family) => {
                let family = Arc::clone(family);
                join(process, &family)
            }
            None => {
                let (claim, program) = by_default(&facts.exe, facts.really.as_deref(), &process.comm, programs);
                take(process, claim, program, None, None)
            }
        },
    }
}

fn join(process: &mut Process, family: &Family) -> Changed {
    take(process, Claim::Family, Reading::Known(Arc::clone(&family.program)), family.also.clone(), None)
}

fn take(
    process: &mut Process,
    claim: Claim,
    program: Reading<Arc<[u8]>>,
    also: Option<super::Also>,
    heads: Option<Arc<Family>>,
) -> Changed {
    let facts = &mut process.facts;
    let before = facts.passes_on().cloned();
    let changed = facts.program != program || facts.also != also;
    if changed {
        facts.program = program;
        facts.also = also;
    }
    facts.claim = claim;
    facts.heads = heads;
    Changed { program: changed, family: !family::is_same(before.as_ref(), facts.passes_on()) }
}
