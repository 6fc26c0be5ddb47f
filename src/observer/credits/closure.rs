//! The sum over all accounts beside the machine's own clock. It is never clamped: what it says beyond 100, or below, is the truth
//! about how well the seconds were attributed.

use crate::record::carried::{Busy, MachineClocks};
use crate::source::machine_cpu::{self, Kind, MachineCpu};
use crate::source::procdir::Proc;

/// Both, over one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// CPU time of all accounts, nanoseconds.
    pub sum_ns: u64,
    /// The clock that was compared with, and what it says; `None` where there was none to read, or it went back.
    pub clock: Option<Clock>,
    /// What `/proc/stat` says, apart.
    pub busy: Option<Busy>,
}

/// What a clock says of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Which.
    pub kind: Kind,
    /// Nanoseconds.
    pub ns: u64,
    /// Of the sum, what this clock sees.
    pub seen_ns: u64,
}

impl Clock {
    /// What it says beyond the sum, nanoseconds.
    #[must_use]
    pub fn beyond_ns(&self) -> i64 {
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        signed(self.ns).saturating_sub(signed(self.seen_ns))
    }
}

impl Interval {
    fn add(&mut self, more: &Self) {
        self.sum_ns += more.sum_ns;
        self.clock = match (self.clock, more.clock) {
            (Some(one), Some(other)) => Some(Clock { kind: other.kind, ns: one.ns + other.ns, seen_ns: one.seen_ns + other.seen_ns }),
            _ => None,
        };
        self.busy = self.busy.zip(more.busy).map(|(one, other)| Busy {
            work_ns: one.work_ns + other.work_ns,
            irq_ns: one.irq_ns + other.irq_ns,
            softirq_ns: one.softirq_ns + other.softirq_ns,
            steal_ns: one.steal_ns + other.steal_ns,
        });
    }

    /// The fields of the `#tick`.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let unknown = || "?".to_owned();
        let mut fields = vec![
            ("closure", self.clock.map_or_else(unknown, |clock| per_cent(clock.seen_ns, clock.ns))),
            ("closure_of", self.clock.map_or_else(unknown, |clock| clock.kind.word().to_owned())),
            ("sum_s", seconds(self.sum_ns)),
            ("clock_s", self.clock.map_or_else(unknown, |clock| seconds(clock.ns))),
        ];
        let busy = |part: fn(&Busy) -> u64| self.busy.as_ref().map_or_else(unknown, |busy| seconds(part(busy)));
        fields.push(("closure_stat", self.busy.map_or_else(unknown, |busy| per_cent(self.sum_ns, busy.work_ns))));
        fields.push(("steal_s", busy(|busy| busy.steal_ns)));
        fields.push(("irq_s", busy(|busy| busy.irq_ns)));
        fields.push(("softirq_s", busy(|busy| busy.softirq_ns)));
        fields
    }
}

/// Seconds with six digits.
pub(super) fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1000)
}

/// Per cent with one digit; of nothing there is no share.
fn per_cent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Reads the machine's clocks, and compares.
#[derive(Debug, Default)]
pub struct Closure {
    clocks: MachineCpu,
    /// At the tick before; `None` before the first.
    before: Option<MachineClocks>,
    /// As they were when everyone was looked at for this tick.
    now: Option<MachineClocks>,
    root_ns: u64,
    /// Since the last sample that was taken.
    interval: Option<Interval>,
}

impl Closure {
    /// Looks what clocks there are.
    pub fn find(&mut self, proc: &Proc) {
        self.clocks = MachineCpu::find(proc);
    }

    /// Everyone's clock has just been read: so are the machine's.
    pub fn look(&mut self, proc: &Proc, hz: u64) {
        self.now = Some(self.clocks.read(proc, hz));
    }

    /// Whether they were read since the tick before.
    #[must_use]
    pub const fn has_looked(&self) -> bool {
        self.now.is_some()
    }

    /// The first interval begins with these, or with what was just read.
    pub fn begin(&mut self, before: Option<MachineClocks>) {
        // Where there is an interval behind, what was just read ends it.
        self.before = if before.is_some() { before } else { self.now.take() };
        (self.root_ns, self.interval) = (0, None);
    }

    /// The clocks of the last tick.
    #[must_use]
    pub const fn before(&self) -> Option<&MachineClocks> {
        self.before.as_ref()
    }

    /// A tick: `sum_ns` was counted since the one before, and `root_ns` since the beginning of those that no group holds. Answers
    /// what the clock says beyond it.
    pub fn tick(&mut self, sum_ns: u64, root_ns: u64) -> Option<i64> {
        let in_root = root_ns - std::mem::replace(&mut self.root_ns, root_ns);
        let (before, now) = (self.before.take(), self.now.take());
        let grown = before.as_ref().zip(now.as_ref()).and_then(|(before, now)| machine_cpu::grown(before, now));
        let clock = grown.map(|(kind, ns)| {
            let seen_ns = if kind == Kind::Cgroup2 { sum_ns.saturating_sub(in_root) } else { sum_ns };
            Clock { kind, ns, seen_ns }
        });
        let busy = before.and_then(|before| before.busy).zip(now.as_ref().and_then(|now| now.busy)).and_then(|(before, now)| {
            Some(Busy {
                work_ns: now.work_ns.checked_sub(before.work_ns)?,
                irq_ns: now.irq_ns.checked_sub(before.irq_ns)?,
                softirq_ns: now.softirq_ns.checked_sub(before.softirq_ns)?,
                steal_ns: now.steal_ns.checked_sub(before.steal_ns)?,
            })
        });
        self.before = now;
        let more = Interval { sum_ns, clock, busy };
        match &mut self.interval {
            Some(interval) => interval.add(&more),
            None => self.interval = Some(more),
        }
        clock.map(|clock| clock.beyond_ns())
    }

    /// Since the last sample that was taken.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.interval.unwrap_or_default()
    }

    /// The sample was taken.
    pub const fn taken(&mut self) {
        self.interval = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(cpuacct_s: u64, work_s: u64) -> MachineClocks {
        let busy = Busy { work_ns: work_s * 1_000_000_000, steal_ns: 5, ..Busy::default() };
        MachineClocks { cpuacct_ns: Some(cpuacct_s * 1_000_000_000), groups_ns: None, busy: Some(busy) }
    }

    #[test]
    fn the_sum_beside_the_clock() {
        let mut closure = Closure { before: Some(clocks(100, 100)), now: Some(clocks(110, 108)), ..Closure::default() };
        assert_eq!(closure.tick(9_900_000_000, 0), Some(100_000_000));
        let text = |closure: &Closure| {
            closure.interval().fields().into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let one = "closure=99.0 closure_of=cpuacct sum_s=9.900000 clock_s=10.000000 closure_stat=123.8 steal_s=0.000000 irq_s=0.000000 softirq_s=0.000000";
        assert_eq!(text(&closure), one, "more than 100 is not hidden");
        // Nobody took that sample: the next is of both intervals.
        closure.now = Some(clocks(120, 118));
        assert_eq!(closure.tick(10_100_000_000, 0), Some(-100_000_000), "below zero where it was read before the others");
        assert!(text(&closure).starts_with("closure=100.0 closure_of=cpuacct sum_s=20.000000 clock_s=20.000000"));
        closure.taken();
        // A clock that went back says nothing.
        closure.now = Some(clocks(1, 200));
        assert_eq!(closure.tick(1_000_000_000, 0), None);
        assert!(text(&closure).starts_with("closure=? closure_of=? sum_s=1.000000 clock_s=? closure_stat="));
    }

    #[test]
    fn groups_do_not_see_who_is_in_none() {
        let groups = |ns: u64| MachineClocks { groups_ns: Some([("a".to_owned(), ns)].into()), ..MachineClocks::default() };
        let mut closure = Closure { before: Some(groups(0)), now: Some(groups(50)), ..Closure::default() };
        assert_eq!(closure.tick(70, 20), Some(0));
        assert_eq!(closure.interval().clock, Some(Clock { kind: Kind::Cgroup2, ns: 50, seen_ns: 50 }));
    }

    #[test]
    fn of_nothing_there_is_no_share() {
        assert_eq!(per_cent(5, 0), "-");
        assert_eq!(per_cent(1_015, 1_000), "101.5");
    }
}
