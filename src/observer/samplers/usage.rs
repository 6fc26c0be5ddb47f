//! Streams `usage` and `usage_process`: what programs, and processes, use.
//!
//! Both show the same figures: of one process, or added up over the members of a program, whose counters come from its
//! [account](crate::observer::accounts) and so hold those of the dead. A figure that was refused of one member is not known of the
//! program.

use std::sync::Arc;

use super::alerts::Alert;
use super::measure::{Context, per_cent_tenths};
use super::ps::Rows;
use crate::observer::accounts::{self, Account, Spent, Standing};
use crate::observer::crossings::{Crossings, Worst};
use crate::observer::facts::Reading;
use crate::observer::radar::{LimitKind, Measured, Nearest, UserTasks};
use crate::observer::sockets::{self, Sockets};
use crate::observer::table::Process;
use crate::observer::world::World;
use crate::record::alert::{AlertKind, Level};
use crate::record::identity::Id;
use crate::record::ledger::Why;
use crate::record::sample::{Counts, Left, Row};
use crate::record::schema::{Column, Columns};
use crate::record::value::Value;
use crate::source::clock;

/// The states of proc_pid_stat(5), those that do not wait for anything first.
const STATES: [u8; 9] = *b"RSDZTtIXx";
/// The place of Z among them.
const ZOMBIE: usize = 3;

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

/// A sum, and what is missing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    total: u64,
    known: bool,
    refused: bool,
    late: bool,
}

impl Sum {
    const fn add(&mut self, value: u64) {
        self.total = self.total.saturating_add(value);
        self.known = true;
    }

    fn read<T>(&mut self, reading: &Reading<T>, value: impl FnOnce(&T) -> u64) {
        match reading {
            Reading::Known(known) => self.add(value(known)),
            Reading::Absent => {}
            Reading::Refused => self.refused = true,
            Reading::Late | Reading::Unread => self.late = true,
        }
    }
}

/// What one row shows.
#[derive(Debug, Default)]
struct Figures {
    procs: u64,
    threads: u64,
    pct: Option<i64>,
    spent: Spent,
    /// Whether all io, and all switches, of those in `spent` are known.
    io: Sum,
    switches: Sum,
    rss: u64,
    vsz: u64,
    pss: Sum,
    pss_age_ms: Option<u64>,
    fds: Sum,
    /// The inodes of all sockets, those that several hold as often, and the namespaces they are of.
    inodes: Vec<u64>,
    namespaces: Vec<u64>,
    /// What could not be listed.
    lists: Sum,
    counts: Reading<sockets::Counts>,
    /// Soft limits of descriptors, in per cent of which they are used: tenths, the largest.
    fd_tenths: Option<i64>,
    measured: Measured,
    worst: Option<Worst>,
    oldest: Option<u64>,
    states: [u32; STATES.len()],
    /// Of a program.
    account: Option<(u64, u64, Option<u32>)>,
}

impl Figures {
    fn add(&mut self, process: &Process, page: u64, now_ns: u64) {
        if let Some(count) = STATES.iter().position(|state| *state == process.stat.state).and_then(|at| self.states.get_mut(at)) {
            *count += 1;
        }
        if process.stat.is_zombie() {
            return;
        }
        self.procs += 1;
        self.threads += process.stat.num_threads;
        self.rss = self.rss.saturating_add(process.rss_pages.saturating_mul(page));
        self.vsz = self.vsz.saturating_add(process.stat.vsize);
        self.oldest = Some(self.oldest.map_or(process.id.start, |oldest| oldest.min(process.id.start)));
        match process.usage.as_deref() {
            Some(usage) => {
                self.io.read(&usage.io, |_| 0);
                self.switches.read(&usage.switches, |_| 0);
                self.fds.read(&usage.fds, |count| *count);
            }
            None => [&mut self.io, &mut self.switches, &mut self.fds].into_iter().for_each(|sum| sum.late = true),
        }
        if let Some(usage) = process.usage.as_deref() {
            let soft = process.limits.as_deref().and_then(|limits| limits.soft.known()).and_then(|soft| soft.nofile);
            if let (Some(fds), Some(limit)) = (usage.fds.known(), soft) {
                let tenths = Nearest { kind: LimitKind::Nofile, value: *fds, limit }.tenths();
                let tenths = i64::try_from(tenths).unwrap_or(i64::MAX);
                self.fd_tenths = Some(self.fd_tenths.map_or(tenths, |most| most.max(tenths)));
            }
            let (measured, is_worse) = self.measured.worse(usage.measured);
            self.measured = measured;
            if is_worse {
                self.worst = Some(Worst { id: process.id, owner: process.facts.owner.known().copied() });
            }
        }
        match process.held.as_deref() {
            Some(held) => {
                self.lists.read(held, |_| 0);
                if let Reading::Known(held) = held {
                    self.inodes.extend_from_slice(&held.inodes);
                    if !held.inodes.is_empty() && self.namespaces.last() != Some(&held.netns) {
                        self.namespaces.push(held.netns);
                    }
                }
            }
            None => self.lists.late = true,
        }
        if let Some(footprint) = process.footprint.as_deref() {
            match &footprint.memory {
                // Its turn has not come: what is known of the others is all there is.
                Reading::Unread | Reading::Absent => {}
                memory => self.pss.read(memory, |memory| memory.pss),
            }
            if let Some(age) = footprint.age(now_ns).filter(|_| footprint.memory.known().is_some()) {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                self.pss_age_ms = Some(self.pss_age_ms.map_or(age, |oldest| oldest.max(age)));
            }
        }
    }

    /// What the sockets are, each counted once; whoever's could not be listed leaves nothing known of all.
    fn count_sockets(&mut self, all: &Sockets) {
        self.counts = match self.lists {
            Sum { refused: true, .. } => Reading::Refused,
            Sum { late: true, .. } => Reading::Late,
            _ => {
                self.inodes.sort_unstable();
                self.inodes.dedup();
                all.count(self.namespaces.iter().copied(), self.inodes.iter().copied())
            }
        };
    }

    /// Whether something was refused, and whether something did not come in time.
    fn marks(&self) -> (bool, bool) {
        let sums = [self.io, self.switches, self.pss, self.fds];
        let refused = self.counts == Reading::Refused || sums.iter().any(|sum| sum.refused);
        (refused, matches!(self.counts, Reading::Late | Reading::Unread) || sums.iter().any(|sum| sum.late))
    }

    fn states(&self) -> Value {
        let mut text = Vec::with_capacity(16);
        for (state, count) in STATES.iter().zip(self.states).filter(|(_, count)| *count > 0) {
            if !text.is_empty() {
                text.push(b',');
            }
            text.push(*state);
            text.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        }
        if text.is_empty() { Value::Absent } else { Value::Word(text.into()) }
    }
}

/// Reads one column off a row's figures.
type Measure = fn(&Shown<'_>) -> Value;

/// A row's figures, and whose they are.
struct Shown<'a> {
    figures: &'a Figures,
    program: Value,
    process: Option<&'a Process>,
    context: &'a Context<'a>,
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

    /// Counts what everyone used since it was last counted. Goes before the rows.
    pub fn count(&self, world: &mut World) {
        let World { table, accounts, .. } = world;
        // Whom nobody has looked at yet may still become another program: his turn comes with the next sample, or his end.
        for process in table.iter_mut_from(0).filter(|process| process.is_read()) {
            accounts.count(process);
        }
        // Limits may come nearer without the process having run: those of its user and of its control group.
        let World { table, radar, machine, .. } = world;
        let Some(radar) = radar else { return };
        let tasks = UserTasks::count(table);
        for process in table.iter_mut_from(0).filter(|process| is_used(process)) {
            let measured = radar.measure(process, &tasks, machine.page);
            if let Some(usage) = process.usage.as_deref_mut() {
                usage.row.due |= usage.measured != measured;
                usage.measured = measured;
            }
        }
    }

    /// The rows of stream `usage`: of each program that has members or had some since the sample before, or that is expected.
    ///
    /// Between full samples none is left out: there are few of them, and the writer tells what is news.
    pub fn programs_now(&mut self, world: &mut World) -> Rows {
        let mut made = Rows::default();
        let now_ns = clock::monotonic_ns();
        let last_ns = std::mem::replace(&mut self.last_ns[0], world.this_round_ns);
        let World { table, accounts, names, terminals, machine, swap, this_round_ns, alerts, sockets, .. } = world;
        let context = Context::new(names, terminals, machine, *swap);
        let mut all: Vec<Figures> = std::iter::repeat_with(Figures::default).take(accounts.len()).collect();
        for process in table.iter() {
            for place in process.membership.places() {
                if let Some(figures) = all.get_mut(place.index()) {
                    figures.add(process, machine.page, now_ns);
                }
            }
            if let Some(figures) = process.membership.grave().and_then(|place| all.get_mut(place.index())) {
                figures.states[ZOMBIE] += 1;
            }
        }
        let why = if std::mem::take(&mut self.reclassified) { Why::Rules } else { Why::Empty };
        for place in accounts.by_name() {
            let (Some(figures), Some(account)) = (all.get_mut(place.index()), accounts.get_mut(place)) else { continue };
            let activity = (account.started, account.exited);
            let shown = account.shown;
            account.shown = Standing { activity, ..shown };
            let is_there = figures.states.iter().any(|count| *count > 0) || account.expect.is_some() || shown.activity != activity;
            account.shown.visible = is_there;
            alerts.extend(absence(account, figures.procs));
            if !is_there {
                if shown.visible {
                    made.left.push(Left { id: Id::Program(Arc::clone(&account.name)), why });
                }
                account.shown.cpu_ns = account.spent.cpu_ns;
                continue;
            }
            made.counts.seen += 1;
            figures.spent = account.spent;
            figures.count_sockets(sockets);
            alerts.extend(self.crossings.look(&account.name, figures.measured, figures.worst));
            let cpu_ns = account.spent.cpu_ns.saturating_sub(shown.cpu_ns);
            figures.pct = (last_ns > 0).then(|| per_cent_tenths(cpu_ns, this_round_ns.saturating_sub(last_ns)));
            account.shown.cpu_ns = account.spent.cpu_ns;
            figures.account = Some((account.started, account.exited, account.expect));
            let (refused, late) = figures.marks();
            made.counts.refused += u64::from(refused);
            made.counts.stuck += u64::from(late);
            let view = Shown { figures, program: Value::Word(Arc::clone(&account.name)), process: None, context: &context };
            let values = self.programs.iter().map(|measure| measure(&view)).collect();
            made.rows.push(Row { id: Id::Program(Arc::clone(&account.name)), values });
        }
        alerts.extend(self.crossings.end());
        made
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

/// What the sockets of one process are.
fn counts_of(process: &Process, all: &Sockets) -> Reading<sockets::Counts> {
    match process.held.as_deref() {
        None => Reading::Late,
        Some(Reading::Known(held)) => all.count(std::iter::once(held.netns), held.inodes.iter().copied()),
        Some(Reading::Refused) => Reading::Refused,
        Some(Reading::Absent) => Reading::Absent,
        Some(Reading::Late | Reading::Unread) => Reading::Late,
    }
}

/// Whether fewer live than are expected, where that is news.
fn absence(account: &mut Account, procs: u64) -> Option<Alert> {
    let lacks = account.expect.filter(|expect| procs < u64::from(*expect));
    if lacks.is_some() == account.shown.absent {
        return None;
    }
    account.shown.absent = lacks.is_some();
    let name = String::from_utf8_lossy(&account.name);
    let (level, what) = match (lacks, account.expect) {
        (Some(1), _) => (Level::Warn, format!("Program {name} is not there: one process is expected.")),
        (Some(expect), _) => (Level::Warn, format!("Program {name} has {procs} processes, {expect} are expected.")),
        (None, Some(expect)) => (Level::Ok, format!("Program {name} is there: {procs} of {expect} expected processes.")),
        (None, None) => (Level::Ok, format!("Program {name} is not expected any more.")),
    };
    let limit = account.expect.map(u64::from);
    Some(Alert {
        program: Some(Arc::clone(&account.name)),
        value: Some(procs),
        limit,
        ..Alert::new(AlertKind::Absent, level, what.into_bytes())
    })
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

fn of_sum(sum: Sum, value: impl FnOnce(u64) -> Value) -> Value {
    match sum {
        Sum { refused: true, .. } | Sum { late: true, .. } => Value::Refused,
        Sum { known: true, total, .. } => value(total),
        _ => Value::Absent,
    }
}

/// A counter of the living and, of a program, of the dead: what is refused of one that lives is not known of all.
fn counter(shown: &Shown<'_>, of: Sum, value: u64) -> Value {
    match of {
        Sum { refused: true, .. } | Sum { late: true, .. } => Value::Refused,
        Sum { known: false, .. } if shown.process.is_some() => Value::Absent,
        _ => Value::count(value),
    }
}

fn io(shown: &Shown<'_>, value: u64) -> Value {
    counter(shown, shown.figures.io, value)
}

/// What only processes that live have: of none of them it is nothing.
fn of_living(shown: &Shown<'_>, sum: Sum) -> Value {
    if shown.figures.procs == 0 && shown.process.is_none() { Value::Int(0) } else { of_sum(sum, Value::count) }
}

fn sockets_of(shown: &Shown<'_>, part: fn(&sockets::Counts) -> u64) -> Value {
    match &shown.figures.counts {
        Reading::Known(counts) => Value::count(part(counts)),
        Reading::Absent => Value::Absent,
        _ => Value::Refused,
    }
}

fn measure(column: &'static Column) -> Measure {
    find(column.name).unwrap_or(|_| Value::Absent)
}

fn find(column: &str) -> Option<Measure> {
    Some(match column {
        "pid" => |shown| shown.process.map_or(Value::Absent, |process| Value::count(process.id.pid.into())),
        "start" => |shown| shown.process.map_or(Value::Absent, |process| Value::count(process.id.start)),
        "user" => |shown| shown.process.map_or(Value::Absent, |process| shown.context.user(process)),
        "program" => |shown| shown.program.clone(),
        "procs" => |shown| Value::count(shown.figures.procs),
        "up" => |shown| match shown.figures.account {
            Some((.., Some(expect))) => Value::count(u64::from(shown.figures.procs >= u64::from(expect))),
            _ => Value::Absent,
        },
        "cpu_pct" => |shown| shown.figures.pct.map_or(Value::Absent, Value::Fixed),
        "cpu_s" => |shown| Value::Fixed(i64::try_from(shown.figures.spent.cpu_ns / 1_000_000).unwrap_or(i64::MAX)),
        "rss" => |shown| Value::count(shown.figures.rss),
        "vsz" => |shown| Value::count(shown.figures.vsz),
        "pss" => |shown| of_sum(shown.figures.pss, Value::count),
        "pss_age_s" => |shown| match shown.figures.pss_age_ms {
            Some(age) => Value::Fixed(i64::try_from((age + 50) / 100).unwrap_or(i64::MAX)),
            None => Value::Absent,
        },
        "rchar" => |shown| io(shown, shown.figures.spent.io.rchar),
        "wchar" => |shown| io(shown, shown.figures.spent.io.wchar),
        "syscr" => |shown| io(shown, shown.figures.spent.io.syscr),
        "syscw" => |shown| io(shown, shown.figures.spent.io.syscw),
        "read_bytes" => |shown| io(shown, shown.figures.spent.io.read_bytes),
        "write_bytes" => |shown| io(shown, shown.figures.spent.io.write_bytes),
        "cancelled_write_bytes" => |shown| io(shown, shown.figures.spent.io.cancelled_write_bytes),
        "fds" => |shown| of_living(shown, shown.figures.fds),
        "fd_limit_pct" => |shown| shown.figures.fd_tenths.map_or(Value::Absent, Value::Fixed),
        "tcp" => |shown| sockets_of(shown, |counts| counts.tcp),
        "tcp6" => |shown| sockets_of(shown, |counts| counts.tcp6),
        "udp" => |shown| sockets_of(shown, |counts| counts.udp),
        "udp6" => |shown| sockets_of(shown, |counts| counts.udp6),
        "unix" => |shown| sockets_of(shown, |counts| counts.unix),
        "tcp_listen" => |shown| sockets_of(shown, |counts| counts.tcp_listen),
        "tcp6_listen" => |shown| sockets_of(shown, |counts| counts.tcp6_listen),
        "sockets" => |shown| sockets_of(shown, |counts| counts.sockets),
        "limit" => |shown| match shown.figures.measured.nearest {
            Some(nearest) => Value::word(nearest.kind.word().as_bytes()),
            None => Value::Absent,
        },
        "limit_pct" => |shown| match shown.figures.measured.nearest {
            Some(nearest) => Value::Fixed(i64::try_from(nearest.tenths()).unwrap_or(i64::MAX)),
            None => Value::Absent,
        },
        "threads" => |shown| Value::count(shown.figures.threads),
        "started" => |shown| shown.figures.account.map_or(Value::Absent, |(started, ..)| Value::count(started)),
        "exited" => |shown| shown.figures.account.map_or(Value::Absent, |(_, exited, _)| Value::count(exited)),
        "min_flt" => |shown| Value::count(shown.figures.spent.min_flt),
        "maj_flt" => |shown| Value::count(shown.figures.spent.maj_flt),
        "nvcsw" => |shown| counter(shown, shown.figures.switches, shown.figures.spent.nvcsw),
        "nivcsw" => |shown| counter(shown, shown.figures.switches, shown.figures.spent.nivcsw),
        "oldest_s" => |shown| match shown.figures.oldest {
            Some(start) => Value::Fixed(i64::try_from(shown.context.age_ns(start) / 1_000_000_000).unwrap_or(i64::MAX)),
            None => Value::Absent,
        },
        "states" => |shown| shown.figures.states(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::schema::columns;
    use crate::record::stream::Stream;

    #[test]
    fn every_column_has_its_measure() {
        for column in columns(Stream::UsageProcess).iter().filter(|column| column.name != "time") {
            assert!(find(column.name).is_some(), "{} is described and not measured", column.name);
        }
    }

    #[test]
    fn what_is_refused_of_one_is_not_known_of_all() {
        let mut sum = Sum::default();
        assert_eq!(of_sum(sum, Value::count), Value::Absent);
        sum.read(&Reading::Known(3), |count| *count);
        sum.read(&Reading::<u64>::Absent, |count| *count);
        assert_eq!(of_sum(sum, Value::count), Value::Int(3));
        sum.read(&Reading::<u64>::Refused, |count| *count);
        assert_eq!(of_sum(sum, Value::count), Value::Refused);
    }
}
