//! Who does not answer: told once, when a read of it is given up, and once when it answers again or ends.

use super::facts::Reading;
use super::samplers::alerts::Alert;
use super::table::Process;
use crate::record::alert::{AlertKind, Level};
use crate::source::clock;

/// Alerts that may wait for the next flush.
const KEPT: usize = 1000;

/// A thread waits for it.
pub(super) fn does_not_answer(process: &mut Process, alerts: &mut Vec<Alert>) {
    if process.stuck_ns == 0 && alerts.len() < KEPT {
        process.stuck_ns = clock::monotonic_ns().max(1);
        let what = "does not answer: reading it took more than a second, perhaps it hangs in the kernel. What could not be had is shown as ?, and it is asked again once it has run";
        alerts.push(alert(process, Level::Warn, what));
    }
}

/// It does now.
pub(super) fn answers(process: &mut Process, alerts: &mut Vec<Alert>) {
    let since = std::mem::take(&mut process.stuck_ns);
    if since != 0 {
        alerts.push(alert(process, Level::Ok, &format!("answers again, {} s after it did not", seconds_since(since))));
    }
}

/// It is gone.
pub(super) fn ended(process: &Process, alerts: &mut Vec<Alert>) {
    if process.stuck_ns != 0 {
        let what = format!("ended, {} s after it did not answer", seconds_since(process.stuck_ns));
        alerts.push(alert(process, Level::Ok, &what));
    }
}

fn seconds_since(since_ns: u64) -> u64 {
    clock::monotonic_ns().saturating_sub(since_ns) / 1_000_000_000
}

fn alert(process: &Process, level: Level, what: &str) -> Alert {
    let mut text = format!("Process {}", process.id.pid).into_bytes();
    if !process.comm.is_empty() {
        text.extend_from_slice(b" (");
        text.extend_from_slice(&process.comm);
        text.extend_from_slice(b")");
    }
    text.extend_from_slice(format!(" {what}.").as_bytes());
    let program = match &process.facts.program {
        Reading::Known(program) => Some(program.clone()),
        _ => None,
    };
    Alert { program, owner: process.facts.owner.known().copied(), id: Some(process.id), ..Alert::new(AlertKind::Stuck, level, text) }
}
