//! News for threads that wait.

use crate::engine::clock;
use crate::proto::Instant;
use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// The longest sleep at a stretch. Timers of threads stand still while the machine is suspended,
/// leases do not: after the wake-up, whoever waits for the end of one looks at the clock within
/// this time.
const STRETCH: Duration = Duration::from_secs(1);

/// An instant further away than this stands for never.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Tells any number of threads that something has changed.
///
/// Take [`seen`](Self::seen) before looking at what may change, so that no change between the look
/// and the [`wait`](Self::wait) goes unnoticed.
#[derive(Default)]
pub(super) struct ThreadNotify {
    state: Mutex<State>,
    changed: Condvar,
    /// Who is told besides.
    also: OnceLock<Arc<Self>>,
}

#[derive(Debug, Default)]
struct State {
    /// How often it was given.
    given: u64,
    /// How many threads wait. To wake nobody would cost a system call.
    waiting: u32,
}

impl fmt::Debug for ThreadNotify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.generation()).finish()
    }
}

impl ThreadNotify {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to now has been seen.
    pub(super) fn generation(&self) -> u64 {
        self.state().given
    }

    /// From now on `other` is given whenever this one is. Can be said once.
    pub(super) fn chain(&self, other: Arc<Self>) {
        // Said twice, the first one counts.
        let _ = self.also.set(other);
    }

    /// Wakes all who wait.
    pub(super) fn notify(&self) {
        if let Some(other) = self.also.get() {
            other.notify();
        }
        let mut state = self.state();
        state.given += 1;
        if state.waiting > 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until the signal has been given after `seen`, or until `until`, or less: the caller
    /// looks anew and waits again.
    pub(super) fn wait(&self, seen: u64, until: Instant) {
        let mut state = self.state();
        if state.given != seen {
            return;
        }
        let length = until.since(clock::monotonic());
        if length.is_zero() {
            return;
        }
        state.waiting += 1;
        let mut state = if length > NEVER {
            let woken = self.changed.wait(state);
            woken.unwrap_or_else(PoisonError::into_inner)
        } else {
            let woken = self.changed.wait_timeout(state, length.min(STRETCH));
            woken.unwrap_or_else(PoisonError::into_inner).0
        };
        state.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_not_seen_is_not_waited_for() {
        let signal = ThreadNotify::default();
        let seen = signal.generation();
        signal.notify();
        let began = clock::monotonic();
        signal.wait(seen, Instant::from_nanos(u64::MAX));
        signal.wait(signal.generation(), began);
        assert!(clock::monotonic().since(began) < LONG);
    }

    #[test]
    fn all_who_wait_are_woken() {
        let signal = ThreadNotify::default();
        let seen = signal.generation();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while signal.generation() == seen {
                        signal.wait(seen, Instant::from_nanos(u64::MAX));
                    }
                });
            }
            signal.notify();
        });
    }

    #[test]
    fn waits_end() {
        let signal = ThreadNotify::default();
        let until = clock::monotonic().after(Duration::from_millis(20));
        while clock::monotonic() < until {
            signal.wait(signal.generation(), until);
        }
    }
}
