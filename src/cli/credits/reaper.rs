//! Waits for whoever ended of those that are children of psmon: the command, and every orphan among its descendants.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use crate::observer::obituary::Status;
use crate::source::procdir::Proc;
use crate::source::{stat, wait};

/// Somebody who came to psmon, and ended.
#[derive(Clone, Debug)]
pub struct Reaped {
    /// Its pid.
    pub pid: u32,
    /// Its start ticks: with the pid its identity; `None` where `/proc` did not say.
    pub start: Option<u64>,
    /// Its name.
    pub comm: Option<Arc<[u8]>>,
    /// How it ended.
    pub status: Status,
    /// What it used, and all those that it waited for.
    pub used: wait::Used,
    /// When.
    pub at: Instant,
}

/// Waits on a thread of its own, until no child is left: then the channel is closed.
///
/// # Errors
/// The thread could not be started.
pub fn start(proc: Arc<Proc>) -> io::Result<Receiver<Reaped>> {
    let (tell, reaped) = mpsc::channel();
    thread::Builder::new().name("reaper".to_owned()).stack_size(128 * 1024).spawn(move || {
        while let Ok(Some(pid)) = wait::next_ended() {
            let at = Instant::now();
            // Who it was is asked while its pid is still its own.
            let text = proc.read(&format!("{pid}/stat")).unwrap_or_default();
            let (start, comm) = stat::parse(&text).map(|(stat, comm)| (stat.start, Arc::from(comm))).unzip();
            let Ok((status, used)) = wait::reap(pid) else { return };
            if tell.send(Reaped { pid, start, comm, status: Status(status), used, at }).is_err() {
                return;
            }
        }
    })?;
    Ok(reaped)
}
