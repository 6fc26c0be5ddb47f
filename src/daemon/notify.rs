//! What systemd is told (`sd_notify(3)`); without it, nothing happens here.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service runs.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it. systemd from 253 on wants to know since when.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// One line of truth.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The service ends.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// It is alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is due: half the time after which systemd would act. `None` without a watchdog.
#[must_use]
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(target: "daemon", "systemd could not be told: {error}.");
    }
}
