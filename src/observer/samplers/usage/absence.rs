//! Whether fewer processes of a program live than are expected, where that is news.

use std::sync::Arc;

use crate::observer::accounts::Account;
use crate::observer::samplers::alerts::Alert;
use crate::record::alert::{AlertKind, Level};

/// Whether fewer live than are expected, where that is news.
pub(super) fn absence(account: &mut Account, procs: u64) -> Option<Alert> {
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

/// Nobody counts any more: what stands is over.
pub(super) fn unwatched(account: &mut Account) -> Option<Alert> {
    if !std::mem::take(&mut account.shown.absent) {
        return None;
    }
    let what = format!("Program {} is not watched any more: stream usage is off.", String::from_utf8_lossy(&account.name));
    Some(Alert { program: Some(Arc::clone(&account.name)), ..Alert::new(AlertKind::Absent, Level::Ok, what.into_bytes()) })
}
