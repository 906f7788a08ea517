//! The server's clock: whole seconds, one time base for `stats` and for absolute expiries.

use super::item::Second;
use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Up to here an expiry is relative; beyond, it is a Unix second.
const LONGEST_RELATIVE: i64 = 60 * 60 * 24 * 30;

/// memcached starts its clock at 2, so that neither "never" (0) nor "expired" (1) is a second
/// that passes.
pub(crate) const FIRST_SECOND: Second = 2;

/// What an expiry that has passed is stored as.
const LONG_GONE: Second = 1;

/// Ticks once a second from the instant at which it was made.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    started: Instant,
    /// By how much a test has pushed the clock forward.
    ahead: Duration,
    base: TimeBase,
}

impl Clock {
    /// A clock that starts now, or a second after `previous` if that has not ended yet: the second
    /// of the start tells one incarnation from the next.
    pub(crate) fn start(previous: Option<&Self>) -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let started = previous.map_or(unix, |previous| unix.max(previous.base.started + 1));
        Self {
            started: Instant::now(),
            ahead: Duration::ZERO,
            base: TimeBase { started },
        }
    }

    /// The second it is.
    pub(crate) fn now(&self) -> Second {
        let elapsed = self.started.elapsed().saturating_add(self.ahead).as_secs();
        Second::try_from(elapsed)
            .unwrap_or(Second::MAX)
            .saturating_add(FIRST_SECOND)
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(by);
    }

    pub(crate) fn base(&self) -> TimeBase {
        self.base
    }
}

/// What relates seconds of the clock to Unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeBase {
    /// The Unix second of the start, that is of [`FIRST_SECOND`].
    started: u64,
}

impl TimeBase {
    #[cfg(test)]
    pub(crate) const fn at(started: u64) -> Self {
        Self { started }
    }

    /// Seconds since the start.
    pub(crate) fn uptime(now: Second) -> Second {
        now.saturating_sub(FIRST_SECOND)
    }

    /// The Unix second that `now` stands for.
    pub(crate) fn unix(self, now: Second) -> u64 {
        self.started + u64::from(Self::uptime(now))
    }

    /// The second at which an item given this expiry at `now` is dead; 0 is never.
    pub(crate) fn deadline(self, exptime: i64, now: Second) -> Second {
        if exptime == 0 {
            return 0;
        }
        if exptime < 0 {
            return LONG_GONE;
        }
        if exptime <= LONGEST_RELATIVE {
            return now.saturating_add(Second::try_from(exptime).unwrap_or(Second::MAX));
        }
        let zero = i64::try_from(self.started)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::from(FIRST_SECOND));
        match Second::try_from(exptime.saturating_sub(zero)) {
            Ok(second) if second > 0 => second,
            _ => LONG_GONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_read_in_the_servers_own_time_base() {
        let base = TimeBase::at(1_795_337_329);
        let now = 10;
        assert_eq!(base.deadline(0, now), 0);
        assert_eq!(base.deadline(-1, now), LONG_GONE);
        assert_eq!(base.deadline(1, now), 11);
        assert_eq!(base.deadline(LONGEST_RELATIVE, now), 2_592_010);
        // One second more and it is a second of the year 1970.
        assert_eq!(base.deadline(LONGEST_RELATIVE + 1, now), LONG_GONE);
        let in_five = i64::try_from(base.unix(now)).expect("small") + 5;
        assert_eq!(base.deadline(in_five, now), now + 5);
        assert_eq!(base.deadline(1_795_337_329, FIRST_SECOND), FIRST_SECOND);
        assert_eq!(base.deadline(1_795_337_000, now), LONG_GONE);
        // An item with absolute expiry A tells the server's second: A - t.
        assert_eq!(
            u64::from(base.deadline(2_145_916_800, now) - now),
            2_145_916_800 - base.unix(now)
        );
    }

    #[test]
    fn no_two_incarnations_start_in_one_second() {
        let first = Clock::start(None);
        let second = Clock::start(Some(&first));
        assert!(second.base.started > first.base.started);
        assert_eq!(second.now(), FIRST_SECOND);
    }

    #[test]
    fn a_pushed_clock_is_ahead() {
        let mut clock = Clock::start(None);
        clock.advance(Duration::from_secs(60));
        assert!(clock.now() >= FIRST_SECOND + 60);
    }
}
