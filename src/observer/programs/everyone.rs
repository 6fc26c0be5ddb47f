//! Everyone's program: kept up as facts come, as families move, and as other rules are put in force.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::family::Families;
use super::{Programs, family, member};
use crate::observer::facts::said;
use crate::observer::facts::{Reading, Wants};
use crate::observer::life::Renamed;
use crate::observer::readers::Request;
use crate::observer::world::World;
use crate::record::identity::Identity;

impl World {
    /// Finds out which program a process counts for, from what is known of it now.
    pub fn classify(&mut self, pid: u32) {
        #[cfg(test)]
        (self.asked += 1);
        let Some(process) = self.table.get_mut(pid) else { return };
        let changed = member::classify(process, &self.programs, &self.names);
        self.families_moved |= changed.family && process.life.concerns_others;
        if changed.program && process.is_read() {
            self.reclassified.push(pid);
        }
    }

    /// A process got another name. The rules are asked at once the first time, and of the last name when the batch ends.
    pub(in crate::observer) fn rename(&mut self, pid: u32) {
        let Some(process) = self.table.get_mut(pid) else { return };
        if process.life.exec.is_some() || !self.programs.needs_comm(&process.facts.exe) {
            return;
        }
        if process.life.renamed == Renamed::No {
            process.life.renamed = Renamed::Asked;
            self.renamed.push(pid);
            self.classify(pid);
        } else {
            process.life.renamed = Renamed::Again;
        }
    }

    /// Asks the rules of somebody whose program is about to be told, if its name is another since.
    pub(in crate::observer) fn ask_if_renamed(&mut self, pid: u32) {
        if let Some(process) = self.table.get_mut(pid).filter(|process| process.life.renamed == Renamed::Again) {
            process.life.renamed = Renamed::Asked;
            // Until what it executed is read, it is what it was.
            if process.life.exec.is_none() {
                self.classify(pid);
            }
        }
    }

    /// The batch is over.
    pub(in crate::observer) fn ask_renamed(&mut self) {
        for pid in std::mem::take(&mut self.renamed) {
            self.ask_if_renamed(pid);
            if let Some(process) = self.table.get_mut(pid) {
                process.life.renamed = Renamed::No;
            }
        }
    }

    /// Lets everyone follow whom it belongs to, where somebody's descendants belong to another family now. Where that goes on and
    /// on, as in a storm of wrappers, the next call or the next round does it: no more than a twentieth of the time goes into it.
    pub fn settle(&mut self) {
        const SHARE: u32 = 20;
        if self.families_moved && self.settled.is_none_or(|(at, took)| at.elapsed() >= took * SHARE) {
            self.settle_now();
        }
    }

    /// The same, however often.
    pub fn settle_now(&mut self) {
        if !std::mem::take(&mut self.families_moved) || self.programs.is_plain() {
            return;
        }
        let began = Instant::now();
        // Once is enough but for those whose parent is gone and whose family has a head that belongs to another one itself.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            let mut others = Vec::new();
            let mut families = Families::default();
            for process in self.table.iter().filter(|process| !process.stat.is_kthread()) {
                let family = families.of(process, &self.table);
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
        self.settled = Some((began, began.elapsed()));
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
        self.settle_now();
    }
}

#[cfg(test)]
#[path = "everyone_tests.rs"]
mod tests;
