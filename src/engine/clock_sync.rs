//! The schedule of the renewer's readings of the server's clock, and with it of the longest lease
//! in use.

use super::node::Node;
use crate::proto::Instant;
use core::time::Duration;

/// The time between two readings of a server's clock that is not synchronized yet. Two readings
/// with a tick between them must be at most half a second apart.
const INTERVAL: Duration = Duration::from_millis(300);

/// A server whose clock has not ticked after so many readings is stalled or down.
const MAX_SAMPLES: u32 = 20;

/// The pause before the next readings of such a server. Renewals read its clock as well.
const REST: Duration = Duration::from_secs(30);

/// The interval of the checks whether the clock is still synchronized. Clocks may run apart, so it
/// is synchronized for half a minute or a little more.
const REVIEW: Duration = Duration::from_secs(20);

/// The maximum age of the last reading while the client uses locks. Other clients may have raised
/// the longest lease since, or its item may be lost; only a reading shows either.
const LONGEST_LEASE_REVIEW: Duration = Duration::from_secs(30);

/// The schedule of the readings of a server's clock: until it has been seen ticking, and again when
/// that was too long ago.
#[derive(Debug)]
pub(crate) struct ClockSync {
    last: Instant,
    samples: u32,
}

impl ClockSync {
    /// Returns the schedule of a new client. The start of the renewer, a handshake and an
    /// acquisition each take a reading by themselves.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            samples: 0,
        }
    }

    /// Returns the instant of the next reading, or of the next check whether one is needed. `None`
    /// once the client is shut down. `is_waiting` returns whether a caller waits for a lock.
    pub(crate) fn due<C>(
        &mut self,
        node: &Node<C>,
        is_waiting: bool,
        now: Instant,
    ) -> Option<Instant> {
        if node.scheduler.is_closed() {
            return None;
        }
        if !node.needs_clock_sync(now) {
            let uses_locks = is_waiting || node.scheduler.len() > 0;
            return Some(self.next_review(uses_locks, now));
        }
        let tired = self.samples >= MAX_SAMPLES;
        Some(self.last.after(if tired { REST } else { INTERVAL }))
    }

    /// Returns the same for a clock that is synchronized.
    fn next_review(&mut self, uses_locks: bool, now: Instant) -> Instant {
        self.samples = 0;
        let review = now.after(REVIEW);
        if uses_locks {
            review.min(self.last.after(LONGEST_LEASE_REVIEW))
        } else {
            review
        }
    }

    /// Records that a reading begins.
    pub(crate) const fn begin(&mut self, now: Instant) {
        self.last = now;
        self.samples = self.samples % MAX_SAMPLES + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// A client that uses locks reads every half minute, however well the clock is synchronized. A
    /// client that uses none sends nothing, and checks again soon.
    #[test]
    fn lock_use_refreshes_longest_lease() {
        let mut clock_sync = ClockSync::new(at(100));
        assert_eq!(clock_sync.next_review(true, at(101)), at(121));
        assert_eq!(clock_sync.next_review(true, at(121)), at(130));
        assert_eq!(clock_sync.next_review(true, at(131)), at(130));
        clock_sync.begin(at(131));
        assert_eq!(clock_sync.next_review(true, at(132)), at(152));
        assert_eq!(clock_sync.next_review(true, at(152)), at(161));
        for now in [132, 152, 1000] {
            assert_eq!(clock_sync.next_review(false, at(now)), at(now + 20));
        }
        // The first lock after a pause.
        assert_eq!(clock_sync.next_review(true, at(1001)), at(161));
    }
}
