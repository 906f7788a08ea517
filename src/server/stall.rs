//! The door in front of the items: shut while the server is stalled.

use super::item::Second;
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Models a process that gets no CPU: whatever arrives meanwhile runs afterwards, and runs on the
/// clock as it stood, since the tick that corrects it comes no sooner than the requests.
#[derive(Debug, Default)]
pub(crate) struct StallControl {
    stall: Mutex<Option<StallEnd>>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct StallEnd {
    until: Instant,
    /// The second in which the server stood still.
    second: Second,
}

impl StallControl {
    fn stall(&self) -> MutexGuard<'_, Option<StallEnd>> {
        self.stall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts the gate. A stall that lasts longer already is left as it is.
    pub(crate) fn shut(&self, length: Duration, second: Second) {
        let mut stall = self.stall();
        let begun = Instant::now();
        let until = begun + length;
        let second = match *stall {
            Some(running) if running.until > begun => running.second,
            _ => second,
        };
        if stall.is_none_or(|running| running.until < until) {
            *stall = Some(StallEnd { until, second });
        }
        self.changed.notify_all();
    }

    /// Opens the gate at once.
    pub(crate) fn open(&self) {
        *self.stall() = None;
        self.changed.notify_all();
    }

    /// Waits for the gate to open. The second of the stall, if there was something to wait for.
    pub(crate) fn pass(&self) -> Option<Second> {
        let mut stall = self.stall();
        let mut waited = None;
        while let Some(running) = *stall {
            let left = running.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waited = Some(running.second);
            stall = self
                .changed
                .wait_timeout(stall, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        waited
    }
}
