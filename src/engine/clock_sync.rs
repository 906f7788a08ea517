//! When a keeper reads the server's clock, and with it the longest lease in use.

use super::node::Node;
use crate::proto::Instant;
use core::time::Duration;

/// Between two readings of a server's clock that is not known well yet. Two with a tick between
/// them must be at most half a second apart.
const INTERVAL: Duration = Duration::from_millis(300);

/// A server whose clock has not ticked after so many readings is stalled or gone.
const MAX_SAMPLES: u32 = 20;

/// How long such a server is left alone. Renewals read its clock as well.
const REST: Duration = Duration::from_secs(30);

/// How often it is looked whether the clock is still known well. Clocks may run apart, so it is
/// for half a minute or a little more.
const REVIEW: Duration = Duration::from_secs(20);

/// How old the last reading may be while the client uses locks. Others may have raised the longest lease
/// since, or its item may be lost; both are learnt by a reading alone.
const LONGEST_LEASE_REVIEW: Duration = Duration::from_secs(30);

/// Readings of a server's clock, until it has been seen ticking, and again when that was too long
/// ago.
#[derive(Debug)]
pub(crate) struct ClockSync {
    last: Instant,
    samples: u32,
}

impl ClockSync {
    /// What begins with the keeper, a handshake or an acquisition, takes a reading by itself.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            last: now,
            samples: 0,
        }
    }

    /// When to take the next reading, or to ask again whether one is wanted. `None` once the
    /// client is shut down. `is_waiting` says whether a caller waits for a lock.
    pub(crate) fn due<C>(
        &mut self,
        site: &Node<C>,
        is_waiting: bool,
        now: Instant,
    ) -> Option<Instant> {
        if site.scheduler.is_closed() {
            return None;
        }
        if !site.needs_calibration(now) {
            let uses_locks = is_waiting || site.scheduler.len() > 0;
            return Some(self.next_review(uses_locks, now));
        }
        let tired = self.samples >= MAX_SAMPLES;
        Some(self.last.after(if tired { REST } else { INTERVAL }))
    }

    /// The same where the clock is known well.
    fn next_review(&mut self, uses_locks: bool, now: Instant) -> Instant {
        self.samples = 0;
        let review = now.after(REVIEW);
        match uses_locks {
            true => review.min(self.last.after(LONGEST_LEASE_REVIEW)),
            false => review,
        }
    }

    /// A reading is taken now.
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

    /// A client that uses locks reads every half minute, however well it knows the clock. One that does
    /// not sends nothing, and looks again soon whether it does.
    #[test]
    fn longest_lease_is_read_while_locks_are_in_use() {
        let mut calibration = ClockSync::new(at(100));
        assert_eq!(calibration.next_review(true, at(101)), at(121));
        assert_eq!(calibration.next_review(true, at(121)), at(130));
        assert_eq!(calibration.next_review(true, at(131)), at(130));
        calibration.begin(at(131));
        assert_eq!(calibration.next_review(true, at(132)), at(152));
        assert_eq!(calibration.next_review(true, at(152)), at(161));
        for now in [132, 152, 1000] {
            assert_eq!(calibration.next_review(false, at(now)), at(now + 20));
        }
        // The first lock behind a rest.
        assert_eq!(calibration.next_review(true, at(1001)), at(161));
    }
}
