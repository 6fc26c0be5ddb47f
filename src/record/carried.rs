//! What the accounts of CPU time know over a restart: it stands in `psmond.state`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was counted of a living process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// CPU time of its life that was counted, or was used before anybody counted, nanoseconds.
    pub cpu_ns: u64,
    /// Its user part, sampled, microseconds.
    pub user_us: u64,
    /// Its system part, sampled, microseconds.
    pub system_us: u64,
    /// CPU time of its life up to its last row in stream `credits_process`, nanoseconds.
    pub told_cpu_ns: u64,
    /// When that was, CLOCK_BOOTTIME nanoseconds; 0: no row yet, and recorded from its birth.
    pub told_boot_ns: u64,
    /// How many rows it has.
    pub parts: u32,
}

/// What the accounts know besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// What means nothing in another boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boot: Option<OfBoot>,
    /// The local day, as `2026-11-20`.
    pub day: String,
    /// What the machine's clock said beyond all accounts on that day, nanoseconds.
    pub unattributed_ns: i64,
    /// What each account spent on that day.
    pub spent: Vec<Spent>,
    /// Budgets by name: credits.
    pub balances: BTreeMap<String, f64>,
}

impl Carried {
    /// What of it holds in another boot, or after a time in which nobody counted.
    #[must_use]
    pub fn without_boot(mut self: Box<Self>) -> Box<Self> {
        self.boot = None;
        self
    }
}

/// What means nothing in another boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfBoot {
    /// When this was so, CLOCK_BOOTTIME nanoseconds: whoever was born later was not counted.
    pub now_ns: u64,
    /// When the last tick looked at the clocks, CLOCK_MONOTONIC nanoseconds.
    pub tick_ns: u64,
    /// The machine's clocks then.
    pub clocks: MachineClocks,
}

/// What one account spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The program, bytes that are not UTF-8 replaced; `None` for the kernel's threads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<String>,
    /// The effective user's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
}

/// The clocks of the whole machine at one moment, cumulative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineClocks {
    /// `cpuacct.usage` of the root group, nanoseconds.
    pub cpuacct_ns: Option<u64>,
    /// What each group below the root of the unified hierarchy used, nanoseconds.
    pub groups_ns: Option<BTreeMap<String, u64>>,
    /// `/proc/stat`.
    pub busy: Option<Busy>,
}

/// What `/proc/stat` says of all CPUs since boot, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// user + nice + system, guests included.
    pub work_ns: u64,
    /// Interrupts.
    pub irq_ns: u64,
    /// Soft interrupts.
    pub softirq_ns: u64,
    /// What the host gave to others.
    pub steal_ns: u64,
}
