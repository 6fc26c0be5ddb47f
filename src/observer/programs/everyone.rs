//! Everyone's program: kept up as facts come, as families move, and as other rules are put in force.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Programs, family, member};
use crate::observer::facts::{Reading, Wants};
use crate::observer::readers::Request;
use crate::observer::world::{World, said};
use crate::record::identity::Identity;

impl World {
    /// Finds out which program a process counts for, from what is known of it now.
    pub fn classify(&mut self, pid: u32) {
        let Some(process) = self.table.get_mut(pid) else { return };
        let changed = member::classify(process, &self.programs, &self.names);
        self.families_moved |= changed.family && process.life.concerns_others;
        if changed.program && process.is_read() {
            self.reclassified.push(pid);
        }
    }

    /// Lets everyone follow whom it belongs to, where somebody's descendants belong to another family now.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.families_moved) || self.programs.is_plain() {
            return;
        }
        // Once is enough but for those whose parent is gone and whose family has a head that belongs to another one itself.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            let mut others = Vec::new();
            for process in self.table.iter().filter(|process| !process.stat.is_kthread()) {
                let family = family::of(process, &self.table);
                if !family::is_same(process.facts.family.as_ref(), family.as_ref()) {
                    others.push((process.id.pid, family));
                }
            }
            if others.is_empty() {
                break;
            }
            for (pid, family) in others {
                if let Some(process) = self.table.get_mut(pid) {
                    process.facts.family = family;
                    if process.life.exec.is_none() {
                        self.classify(pid);
                    }
                }
            }
        }
        self.families_moved = false;
    }

    /// Puts other rules in force, for everyone at once. Where the command line as it was said was not kept, the readers are asked.
    pub fn set_programs(&mut self, programs: Arc<Programs>) {
        if self.programs.says_the_same_as(&programs) {
            return;
        }
        let keep = programs.needs_cmd();
        let before = std::mem::replace(&mut self.programs, programs);
        let kept = before.kept_by(&self.programs);
        let alive: FxHashSet<Identity> = self.table.iter().map(|process| process.id).collect();
        let mut requests = Vec::new();
        let mut pids = Vec::with_capacity(self.table.len());
        for process in self.table.iter_mut_from(0) {
            pids.push(process.id.pid);
            let facts = &mut process.facts;
            (facts.claim, facts.heads, facts.also) = (member::Claim::None, None, None);
            // Whose head is gone belongs to it for as long as the rule is there; whose head lives follows it.
            facts.family = facts.family.take().and_then(|family| match kept.get(family.rule as usize).copied().flatten() {
                Some(rule) => Some(Arc::new(family::Family { rule, ..(*family).clone() })),
                None => alive.contains(&family.head).then_some(family),
            });
            if !keep {
                facts.really = None;
            } else if facts.really.is_none() && !process.stat.is_kthread() && !process.stat.is_zombie() {
                match &facts.cmd {
                    Reading::Known(cmd) if said(cmd) == facts.said => facts.really = Some(Arc::clone(cmd)),
                    _ if process.asked.has(Wants::CMD) || process.life.exec.is_some() => {}
                    _ => {
                        process.asked |= Wants::CMD;
                        let start = process.is_known().then_some(process.stat.start);
                        requests.push(Request::Process { pid: process.id.pid, start, wants: Wants::CMD });
                    }
                }
            }
        }
        self.readers.ask(requests);
        for pid in pids {
            if self.table.get(pid).is_some_and(|process| process.life.exec.is_none()) {
                self.classify(pid);
            }
        }
        self.families_moved = true;
        self.settle();
    }
}

#[cfg(test)]
#[path = "everyone_tests.rs"]
mod tests;
