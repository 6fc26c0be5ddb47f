//! What psmond told: the streams `credits` and `credits_process`, read by the names of their columns, and added up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::journal::{Line, Logs};

/// The row of what the clock has and no process was found for.
const UNATTRIBUTED: &str = "(unattributed)";

/// One `#tick` of stream `credits`.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) time: Timestamp,
    /// What the programs had together, and what the clock of the machine says.
    pub(crate) sum: f64,
    pub(crate) clock: f64,
    /// The sum as per cent of user, nice and system of /proc/stat; none in a tick that says nothing of it.
    of_stat: Option<f64>,
    pub(crate) clock_name: String,
    /// The rows of the sample but the one of what is unattributed.
    rows: f64,
}

/// Stream `credits` over all segments and runs.
#[derive(Debug, Default)]
pub(crate) struct Credits {
    pub(crate) ticks: Vec<Tick>,
    /// Seconds by program and user.
    cpu: BTreeMap<(String, String), f64>,
}

impl Credits {
    pub(crate) fn read(logs: &Logs) -> Result<Self> {
        let (mut credits, mut rows, mut broken) = (Credits::default(), 0.0, None);
        let segments = logs.lines("credits", |line| match line {
            Line::Row(row) => {
                let Some(program) = row.get("program") else { return };
                let seconds = row.get("cpu_s").and_then(|text| text.parse().ok()).unwrap_or(0.0);
                if program != UNATTRIBUTED {
                    rows += seconds;
                }
                let user = row.get("user").unwrap_or("-").to_owned();
                *credits.cpu.entry((program.to_owned(), user)).or_default() += seconds;
            }
            Line::Tick(fields) => match tick(fields, std::mem::take(&mut rows)) {
                Ok(tick) => credits.ticks.push(tick),
                Err(error) => broken = Some(error.context(format!("#tick {fields}"))),
            },
        })?;
        if let Some(error) = broken {
            return Err(error);
        }
        ensure!(!credits.ticks.is_empty(), "no #tick in stream credits ({segments} segments)");
        Ok(credits)
    }

    /// Seconds of a program, of all its users.
    pub(crate) fn of(&self, program: &str) -> f64 {
        self.cpu.iter().filter(|((name, _), _)| name == program).map(|(_, seconds)| seconds).sum()
    }

    /// Seconds of a program as this user.
    pub(crate) fn of_user(&self, program: &str, user: u32) -> f64 {
        let by_name = uzers::get_user_by_uid(user).map(|user| user.name().to_string_lossy().into_owned());
        let key = (program.to_owned(), by_name.unwrap_or_else(|| user.to_string()));
        self.cpu.get(&key).copied().unwrap_or(0.0)
    }

    /// Of the clock by which psmond closes, over all samples.
    pub(crate) fn closure(&self) -> Option<f64> {
        per_cent(self.ticks.iter().map(|tick| tick.sum).sum(), self.ticks.iter().map(|tick| tick.clock).sum())
    }

    /// Of /proc/stat, over the samples that say something of it.
    pub(crate) fn closure_of_stat(&self) -> Option<f64> {
        let told = || self.ticks.iter().filter_map(|tick| Some((tick.sum, tick.of_stat.filter(|percent| *percent > 0.0)?)));
        per_cent(told().map(|(sum, _)| sum).sum(), told().map(|(sum, percent)| sum / percent * 100.0).sum())
    }

    /// What the rows add up to, of what the ticks say they do.
    pub(crate) fn rows_of_sums(&self) -> Option<f64> {
        per_cent(self.ticks.iter().map(|tick| tick.rows).sum(), self.ticks.iter().map(|tick| tick.sum).sum())
    }

    pub(crate) fn clock_name(&self) -> &str {
        self.ticks.last().map_or("", |tick| &tick.clock_name)
    }
}

/// Rows stand before their tick.
fn tick(fields: &str, rows: f64) -> Result<Tick> {
    let (time, rest) = fields.split_once(' ').context("no fields")?;
    let fields: HashMap<&str, &str> = rest.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let number = |name: &str| -> Result<f64> {
        let text = fields.get(name).with_context(|| format!("no {name}="))?;
        text.parse().with_context(|| format!("{name}={text}"))
    };
    Ok(Tick {
        time: time.parse()?,
        sum: number("sum_s")?,
        clock: number("clock_s")?,
        of_stat: fields.get("closure_stat").and_then(|text| text.parse().ok()),
        clock_name: fields.get("closure_of").copied().unwrap_or("?").to_owned(),
        rows,
    })
}

/// Stream `credits_process` over all segments and runs.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    /// Seconds by pid; pids come round again only after all others.
    cpu: HashMap<u32, f64>,
    pub(crate) rows: u64,
    /// Rows of one process and part that stood there before: pid, start, part, program and user.
    pub(crate) twice: Vec<String>,
}

impl Lives {
    pub(crate) fn read(logs: &Logs) -> Result<Self> {
        let (mut lives, mut known) = (Lives::default(), BTreeSet::new());
        logs.lines("credits_process", |line| {
            let Line::Row(row) = line else { return };
            lives.rows += 1;
            // A row that stands for many is nobody's.
            if row.number("lives").is_some_and(|lives| lives > 1) {
                return;
            }
            let (Some(pid), Some(start)) = (row.pid("pid"), row.get("start")) else { return };
            let seconds: f64 = row.get("cpu_s").and_then(|text| text.parse().ok()).unwrap_or(0.0);
            *lives.cpu.entry(pid).or_default() += seconds;
            // One that changed its program or user may have a row for each.
            let of = ["part", "program", "user"].map(|column| row.get(column).unwrap_or("-"));
            let key = format!("{pid} {start} {}", of.join(" "));
            if !known.insert(key.clone()) {
                lives.twice.push(key);
            }
        })?;
        Ok(lives)
    }

    /// Seconds of these processes together.
    pub(crate) fn of(&self, pids: &BTreeSet<u32>) -> f64 {
        pids.iter().filter_map(|pid| self.cpu.get(pid)).sum()
    }

    /// The first few of what stood there twice: psmond would have to be very wrong for a note to hold them all.
    pub(crate) fn examples(&self) -> String {
        self.twice.iter().take(3).cloned().collect::<Vec<_>>().join("; ")
    }

    /// Those of them that have no row.
    pub(crate) fn without(&self, pids: &BTreeSet<u32>) -> usize {
        pids.iter().filter(|pid| !self.has(**pid)).count()
    }

    pub(crate) fn has(&self, pid: u32) -> bool {
        self.cpu.contains_key(&pid)
    }
}

/// A budget of stream `budgets`, in credits: what its samples say together, and what is left at the end.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    pub(crate) earned: f64,
    pub(crate) spent: f64,
    pub(crate) balance: Option<f64>,
}

impl Budget {
    pub(crate) fn read(logs: &Logs, name: &str) -> Result<Self> {
        let mut budget = Budget::default();
        logs.lines("budgets", |line| {
            let Line::Row(row) = line else { return };
            if row.get("name") == Some(name) {
                let credits = |column| row.get(column).and_then(|text| text.parse::<f64>().ok());
                budget.earned += credits("earned").unwrap_or(0.0);
                budget.spent += credits("spent").unwrap_or(0.0);
                budget.balance = credits("balance").or(budget.balance);
            }
        })?;
        Ok(budget)
    }
}

/// What psmond noted as degraded, in any stream, each once.
pub(crate) fn degraded(logs: &Logs) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(logs.0.path().join("log"))? {
        let bytes = fs::read(entry?.path())?;
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| line.starts_with("#note ")) {
            let text: Vec<&str> = line.split(' ').skip(2).collect();
            if text.first() == Some(&"degraded") {
                found.insert(text[1..].join(" "));
            }
        }
    }
    Ok(found)
}

/// None of nothing.
pub(crate) fn per_cent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole * 100.0)
}
