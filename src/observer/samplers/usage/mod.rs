//! Streams `usage` and `usage_process`: what programs, and processes, use.
//!
//! Both show the same figures: of one process, or added up over the members of a program, whose counters come from its
//! [account](crate::observer::accounts) and so hold those of the dead. A figure that was refused of one member is not known of the
//! program.

mod absence;
mod columns;
mod figures;

use std::sync::Arc;

use self::absence::{absence, unwatched};
use self::columns::{Measure, Shown, measure};
use self::figures::{Figures, counts_of};
use super::measure::{Context, per_cent_tenths};
use super::ps::Rows;
use crate::observer::accounts::{self, Spent, Standing};
use crate::observer::crossings::Crossings;
use crate::observer::radar::UserTasks;
use crate::observer::table::Process;
use crate::observer::world::World;
use crate::record::identity::Id;
use crate::record::ledger::Why;
use crate::record::sample::{Counts, Left, Row};
use crate::record::schema::Columns;
use crate::record::value::Value;
use crate::source::clock;

/// What is recorded of programs and processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The columns of stream `usage`; a first `time` is the row's own.
    pub programs: Columns,
    /// Those of stream `usage_process`.
    pub processes: Columns,
}

/// The sampler of both streams.
#[derive(Debug)]
pub struct UsageSampler {
    selection: Selection,
    programs: Vec<Measure>,
    processes: Vec<Measure>,
    /// When the sample before was taken, CLOCK_MONOTONIC nanoseconds; 0 before the first.
    last_ns: [u64; 2],
    /// Programs that are near a limit.
    crossings: Crossings,
    /// The programs of the members at the sample before have other rules now.
    reclassified: bool,
}

impl UsageSampler {
    /// A sampler for a selection.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        let measures = |columns: &Columns| columns.iter().filter(|column| column.name != "time").map(measure).collect();
        let (programs, processes) = (measures(&selection.programs), measures(&selection.processes));
        Self { selection, programs, processes, last_ns: [0; 2], crossings: Crossings::default(), reclassified: false }
    }

    /// Takes another selection; the intervals go on.
    pub fn select(&mut self, selection: Selection) {
        let crossings = std::mem::take(&mut self.crossings);
        *self = Self { last_ns: self.last_ns, crossings, reclassified: self.reclassified, ..Self::new(selection) };
    }

    /// The columns of stream `usage`.
    #[must_use]
    pub const fn programs(&self) -> &Columns {
        &self.selection.programs
    }

    /// The columns of stream `usage_process`.
    #[must_use]
    pub const fn processes(&self) -> &Columns {
        &self.selection.processes
    }

    /// Who leaves a program at the next sample does so by other rules.
    pub const fn rules_changed(&mut self) {
        self.reclassified = true;
    }

    /// The intervals of the first sample begin with the clocks as they were read last.
    pub fn begin(&mut self, world: &mut World) {
        self.last_ns = [world.this_round_ns; 2];
        for process in world.table.iter_mut_from(0) {
            let before = (process.cpu_ns, process.looked_ns);
            if is_used(process) {
                process.usage.get_or_insert_default().row.before = before;
            }
        }
    }

    /// Counts what these used since they were last counted: whoever ran, or changed otherwise. Goes before the rows.
    pub fn count(&self, world: &mut World, touched: &[u32], everyone: bool) {
        let World { table, accounts, radar, machine, .. } = world;
        accounts.look_for_room();
        // Whom nobody has looked at yet may still become another program: his turn comes with the next sample, or his end.
        for pid in touched {
            if let Some(process) = table.get_mut(*pid).filter(|process| process.is_read()) {
                accounts.count(process);
                accounts.touch(process);
                if let Some(usage) = process.usage.as_deref_mut() {
                    usage.row.due = true;
                }
            }
        }
        let Some(radar) = radar else { return };
        let tasks = UserTasks::count(table);
        let mut measure = |process: &mut Process| {
            let measured = radar.measure(process, &tasks, machine.page);
            if let Some(usage) = process.usage.as_deref_mut()
                && usage.measured != measured
            {
                usage.measured = measured;
                usage.row.due = true;
                accounts.touch(process);
            }
        };
        if everyone {
            table.iter_mut_from(0).filter(|process| is_used(process)).for_each(measure);
        } else {
            touched.iter().for_each(|pid| table.get_mut(*pid).filter(|process| is_used(process)).into_iter().for_each(&mut measure));
        }
    }

    /// The rows of stream `usage`: of each program that has members or had some since the sample before, or that is expected. Between
    /// full samples those are left out of which nothing changed.
    pub fn programs_now(&mut self, world: &mut World, full: bool) -> Rows {
        let mut made = Rows::default();
        let now_ns = clock::monotonic_ns();
        let last_ns = std::mem::replace(&mut self.last_ns[0], world.this_round_ns);
        let World { table, accounts, names, terminals, machine, swap, this_round_ns, alerts, sockets, .. } = world;
        let context = Context::new(names, terminals, machine, *swap);
        if full {
            accounts.touch_all();
        }
        let changed = accounts.take_changed();
        let mut all: Vec<Option<Figures>> = changed.iter().map(|changed| changed.then(Figures::default)).collect();
        if changed.contains(&true) {
            for process in table.iter() {
                for place in process.membership.places() {
                    if let Some(Some(figures)) = all.get_mut(place.index()) {
                        figures.add(process, machine.page, now_ns);
                    }
                }
                if let Some(Some(figures)) = process.membership.grave().and_then(|place| all.get_mut(place.index())) {
                    figures.add_zombie();
                }
            }
        }
        let why = if std::mem::take(&mut self.reclassified) { Why::Rules } else { Why::Empty };
        for place in accounts.by_name() {
            let (Some(figures), Some(account)) = (all.get_mut(place.index()), accounts.get_mut(place)) else { continue };
            let activity = (account.started, account.exited);
            let shown = account.shown;
            let Some(figures) = figures else {
                // As it was, but for its age.
                if shown.visible {
                    made.counts.add_unchanged(shown.refused, shown.stuck);
                    self.crossings.stays(&account.name);
                }
                continue;
            };
            let is_there = figures.states.iter().any(|count| *count > 0) || account.expect.is_some() || shown.activity != activity;
            alerts.extend(absence(account, figures.procs));
            let cpu_ns = account.spent.cpu_ns.saturating_sub(shown.cpu_ns);
            figures.pct = (last_ns > 0).then(|| per_cent_tenths(cpu_ns, this_round_ns.saturating_sub(last_ns)));
            figures.count_sockets(sockets);
            let (refused, stuck) = figures.marks();
            // What came and went in this interval stands in this row, and is no reason for another.
            let running = is_there && (figures.pct.is_none_or(|tenths| tenths > 0) || (shown.activity != activity && figures.procs == 0));
            let absent = account.shown.absent;
            account.shown = Standing { visible: is_there, cpu_ns: account.spent.cpu_ns, activity, absent, running, refused, stuck };
            if !is_there {
                if shown.visible {
                    made.left.push(Left { id: Id::Program(Arc::clone(&account.name)), why });
                }
                continue;
            }
            made.counts.seen += 1;
            made.counts.refused += u64::from(refused);
            made.counts.stuck += u64::from(stuck);
            figures.spent = account.spent;
            // Of one without processes nothing stands any more, though its row lingers.
            if figures.procs > 0 {
                alerts.extend(self.crossings.look(&account.name, &figures.measured));
            }
            figures.account = Some((account.started, account.exited, account.expect));
            let view = Shown { figures, program: Value::Word(Arc::clone(&account.name)), process: None, context: &context };
            let values = self.programs.iter().map(|measure| measure(&view)).collect();
            made.rows.push(Row { id: Id::Program(Arc::clone(&account.name)), values });
        }
        alerts.extend(self.crossings.end());
        made
    }

    /// Nothing is looked at any more: what stands of limits and of who is missing is over.
    pub fn unwatch(&mut self, world: &mut World) {
        let World { accounts, alerts, .. } = world;
        alerts.extend(self.crossings.unwatch());
        for place in accounts.by_name() {
            alerts.extend(accounts.get_mut(place).and_then(unwatched));
        }
    }

    /// The rows of stream `usage_process`: of everyone if the sample is full, else of whoever may have changed.
    pub fn processes_now(&mut self, world: &mut World, full: bool) -> Rows {
        let mut made = Rows::default();
        for id in world.ended_with_usage.drain(..) {
            made.left.push(Left { id: id.into(), why: Why::Exit });
        }
        let now_ns = clock::monotonic_ns();
        let last_ns = std::mem::replace(&mut self.last_ns[1], world.this_round_ns);
        let World { table, names, terminals, machine, swap, sockets, .. } = world;
        let context = Context::new(names, terminals, machine, *swap);
        let mut counts = Counts { seen: table.len() as u64, ..Counts::default() };
        for process in table.iter_mut_from(0) {
            if process.stat.is_kthread() || !process.is_read() {
                counts.hidden += u64::from(process.is_read());
                counts.vanished += u64::from(!process.is_read());
                continue;
            }
            let Some(mut usage) = process.usage.take() else {
                // Born after the reading: its turn comes with the next.
                counts.vanished += 1;
                continue;
            };
            let row = &mut usage.row;
            let (cpu, since) = match row.before {
                (_, 0) => (0, last_ns),
                before => before,
            };
            let interval = process.looked_ns.saturating_sub(since);
            let pct = (since > 0 && process.looked_ns > 0).then(|| per_cent_tenths(process.cpu_ns.saturating_sub(cpu), interval));
            row.before = (process.cpu_ns, process.looked_ns);
            let mut due = std::mem::take(&mut row.due) || row.running || !row.visible;
            row.running = pct.is_none_or(|tenths| tenths > 0);
            row.visible = true;
            // What a peer closed shows in the sockets, of whomever they are.
            let held = counts_of(process, sockets);
            due |= usage.counts != held;
            usage.counts = held.clone();
            process.usage = Some(usage);
            if full || due {
                let mut figures = Figures { pct, spent: Spent::of(process), ..Figures::default() };
                figures.add(process, machine.page, now_ns);
                figures.counts = held;
                let program = process.facts.program.known().map_or(Value::Absent, |name| Value::Word(Arc::clone(name)));
                let view = Shown { figures: &figures, program, process: Some(process), context: &context };
                let values = self.processes.iter().map(|measure| measure(&view)).collect();
                let (refused, late) = figures.marks();
                made.rows.push(Row { id: process.id.into(), values });
                if let Some(usage) = process.usage.as_deref_mut() {
                    (usage.row.refused, usage.row.stuck) = (refused, late);
                }
            }
            if let Some(usage) = process.usage.as_deref() {
                counts.refused += u64::from(usage.row.refused);
                counts.stuck += u64::from(usage.row.stuck);
            }
        }
        made.counts = counts;
        made
    }
}

/// Whether a process is one of the streams': the kernel's own threads use nothing of their own.
#[must_use]
pub const fn is_used(process: &Process) -> bool {
    process.is_read() && accounts::counts(process)
}

/// Forgets what was shown: a stream that is switched on again says everything anew.
pub fn forget(world: &mut World) {
    let mut files = 0;
    for process in world.table.iter_mut_from(0) {
        files += process.usage.take().map_or(0, |usage| usage.descriptors());
    }
    world.table.kept_fewer(files);
    world.ended_with_usage.clear();
}
