//! A view that goes on: how often it looks, and what ends it: a signal, or that nobody reads it any more.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Failure;
use crate::config::units;
use crate::source::procdir::Proc;
use crate::source::status;

/// Reads `--watch`: samples without a pause would do nothing but hold processes up.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn interval(text: &str) -> Result<Duration, String> {
    units::duration(text).and_then(long_enough)
}

/// The interval, if it is none too short.
///
/// # Errors
/// A sentence that says what would be right.
pub fn long_enough(every: Duration) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(100);
    if every < LEAST { Err("it is 0.1 s at least".to_owned()) } else { Ok(every) }
}

/// Tells when a view that looks again and again is to end.
///
/// # Errors
/// Signals could not be caught.
pub fn of_view(proc: &Proc) -> Result<Receiver<()>, Failure> {
    let (tell, ends) = mpsc::channel();
    let signals = tell.clone();
    on_signal(proc, move || signals.send(()).is_ok())?;
    on_unread(move || {
        let _ = tell.send(());
    });
    Ok(ends)
}

/// What a collector is told while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It is to end.
    End,
    /// It is to read its rules again.
    Reload,
}

/// Tells when a collector is to end, or to read its rules again: nobody sits at a terminal whose hangup would end it.
///
/// # Errors
/// Signals could not be caught.
pub fn of_collector() -> Result<Receiver<Call>, Failure> {
    let (tell, calls) = mpsc::channel();
    let (ends, reloads) = (tell.clone(), tell.clone());
    end_on(&[SIGINT, SIGTERM], move || ends.send(Call::End).is_ok())?;
    hear(&[SIGHUP], move || reloads.send(Call::Reload).is_ok())?;
    on_unread(move || {
        let _ = tell.send(Call::End);
    });
    Ok(calls)
}

/// The first signal ends the view, with all it has to say; `tell` answers whether anyone still listens. A second one ends psmon at
/// once, even where whoever should read the view holds it up.
///
/// # Errors
/// Signals could not be caught.
pub fn on_signal(proc: &Proc, tell: impl Fn() -> bool + Send + 'static) -> Result<(), Failure> {
    let mut obeyed = vec![SIGINT, SIGTERM];
    // nohup(1) has it so, and means it.
    if !is_ignored(proc, SIGHUP) {
        obeyed.push(SIGHUP);
    }
    end_on(&obeyed, tell)
}

fn end_on(obeyed: &[c_int], tell: impl Fn() -> bool + Send + 'static) -> Result<(), Failure> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in obeyed {
        // In this order: the first one finds the flag down.
        signal_hook::flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(&again)).map_err(refused)?;
        signal_hook::flag::register(*signal, Arc::clone(&again)).map_err(refused)?;
    }
    hear(obeyed, tell)
}

fn hear(signals: &[c_int], tell: impl Fn() -> bool + Send + 'static) -> Result<(), Failure> {
    let mut signals = Signals::new(signals).map_err(refused)?;
    let waits = thread::Builder::new().name("signals".to_owned()).stack_size(64 * 1024).spawn(move || {
        for _ in signals.forever() {
            if !tell() {
                return;
            }
        }
    });
    waits.map(drop).map_err(refused)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands on")]
fn refused(error: io::Error) -> Failure {
    Failure::System(format!("signals could not be caught: {error}"))
}

/// Whether whoever started psmon has it ignore this signal.
#[must_use]
pub fn is_ignored(proc: &Proc, signal: c_int) -> bool {
    let ignored = proc.read("self/status").map(|text| status::parse(&text).signals[2].clone()).unwrap_or_default();
    let mask = std::str::from_utf8(&ignored).ok().and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    mask & 1 << (signal - 1) != 0
}

/// A view may have nothing to write for hours: that nobody reads any more must not first show then.
pub fn on_unread(tell: impl FnOnce() + Send + 'static) {
    // Without this thread the next line finds it out.
    let _ = thread::Builder::new().name("output".to_owned()).stack_size(64 * 1024).spawn(move || {
        let out = io::stdout();
        loop {
            let mut gone = [PollFd::new(&out, PollFlags::empty())];
            match poll(&mut gone, None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) if gone[0].revents().is_empty() => {}
                _ => break,
            }
        }
        tell();
    });
}
