//! The server's clock: whole seconds, one time base for `stats` and for absolute expiries.

use super::item::Second;
use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Up to here an expiry is relative; beyond, it is a Unix second.
const LONGEST_RELATIVE: i64 = 60 * 60 * 24 * 30;

/// The uptime that memcached shows in the second of its start.
const FIRST_UPTIME: Second = 2;

/// By how much memcached's clock is ahead of the uptime that it shows (`ITEM_UPDATE_INTERVAL`).
const AHEAD_OF_UPTIME: Second = 60;

/// The second in which a server starts. Neither "never" (0) nor "expired" (1) is a second that
/// passes.
pub(crate) const FIRST_SECOND: Second = AHEAD_OF_UPTIME + FIRST_UPTIME;

/// The stored form of an expiry that has passed.
const LONG_GONE: Second = 1;

/// The start of a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockStart {
    /// The time for which the server appears to have run already.
    pub(crate) age: Duration,
    /// `true` if time passes by itself. If not, only [`Clock::advance`] moves it.
    pub(crate) ticks: bool,
}

/// Ticks once a second from the instant at which it was made.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// `None` for a clock that only tests move.
    started: Option<Instant>,
    /// By how much the clock is ahead of the time since `started`.
    ahead: Duration,
    base: TimeBase,
}

impl Clock {
    pub(crate) fn start(how: ClockStart) -> Self {
        Self {
            started: how.ticks.then(Instant::now),
            ahead: how.age,
            base: TimeBase::started_at(unix_now().saturating_sub(how.age.as_secs())),
        }
    }

    /// The clock of the next instance, which starts now, or a second after this one if that second
    /// has not ended yet: the second of the start distinguishes the instances.
    pub(crate) fn restart(&self) -> Self {
        let now = match self.started {
            Some(_) => unix_now(),
            None => self.base.unix(self.now()),
        };
        let started = now.max(self.base.unix(FIRST_SECOND) + 1);
        Self {
            started: self.started.map(|_| Instant::now()),
            ahead: Duration::ZERO,
            base: TimeBase::started_at(started),
        }
    }

    /// The second it is.
    pub(crate) fn now(&self) -> Second {
        let elapsed = self.started.map_or(Duration::ZERO, |at| at.elapsed());
        let elapsed = elapsed.saturating_add(self.ahead).as_secs();
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

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Relates seconds of the clock to Unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeBase {
    /// The Unix second that would be second 0 (`process_started`).
    zero: u64,
}

impl TimeBase {
    /// The base of a server that started in this Unix second.
    pub(crate) fn started_at(unix: u64) -> Self {
        Self {
            zero: unix.saturating_sub(FIRST_SECOND.into()),
        }
    }

    /// The uptime that the server shows.
    pub(crate) fn uptime(now: Second) -> Second {
        now.saturating_sub(AHEAD_OF_UPTIME)
    }

    /// The Unix second that `now` stands for.
    pub(crate) fn unix(self, now: Second) -> u64 {
        self.zero + u64::from(now)
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
        let zero = i64::try_from(self.zero).unwrap_or(i64::MAX);
        match Second::try_from(exptime.saturating_sub(zero)) {
            Ok(second) if second > 0 => second,
            _ => LONG_GONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: ClockStart = ClockStart {
        age: Duration::ZERO,
        ticks: true,
    };

    #[test]
    fn expiries_use_the_servers_time_base() {
        let base = TimeBase::started_at(1_795_337_329);
        let now = 70;
        assert_eq!(base.deadline(0, now), 0);
        assert_eq!(base.deadline(-1, now), LONG_GONE);
        assert_eq!(base.deadline(1, now), 71);
        assert_eq!(base.deadline(LONGEST_RELATIVE, now), 2_592_070);
        // One second more and it is a second of the year 1970.
        assert_eq!(base.deadline(LONGEST_RELATIVE + 1, now), LONG_GONE);
        let in_five = i64::try_from(base.unix(now)).expect("small") + 5;
        assert_eq!(base.deadline(in_five, now), now + 5);
        assert_eq!(base.deadline(1_795_337_329, FIRST_SECOND), FIRST_SECOND);
        assert_eq!(base.deadline(1_795_337_000, now), LONG_GONE);
        // An item with absolute expiry A shows the server's second: A - t.
        assert_eq!(
            u64::from(base.deadline(2_145_916_800, now) - now),
            2_145_916_800 - base.unix(now)
        );
    }

    #[test]
    fn restart_begins_in_another_second() {
        let first = Clock::start(NEW);
        let second = first.restart();
        assert!(second.base.zero > first.base.zero);
        assert_eq!(second.now(), FIRST_SECOND);
    }

    #[test]
    fn age_moves_start_into_past() {
        let age = Duration::from_secs(1000);
        let clock = Clock::start(ClockStart { age, ticks: false });
        assert_eq!(TimeBase::uptime(clock.now()), 1002);
        let new = Clock::start(NEW);
        assert!(new.base.unix(FIRST_SECOND) - clock.base.unix(FIRST_SECOND) >= 1000);
        let restarted = clock.restart();
        assert_eq!(TimeBase::uptime(restarted.now()), 2);
        assert_eq!(
            restarted.base.unix(FIRST_SECOND),
            clock.base.unix(clock.now())
        );
    }

    #[test]
    fn advanced_clock_is_ahead() {
        let mut clock = Clock::start(NEW);
        clock.advance(Duration::from_secs(60));
        assert!(clock.now() >= FIRST_SECOND + 60);
    }

    #[test]
    fn manual_clock_stands_still() {
        let mut clock = Clock::start(ClockStart {
            ticks: false,
            ..NEW
        });
        clock.advance(Duration::from_millis(999));
        assert_eq!(clock.now(), FIRST_SECOND);
        clock.advance(Duration::from_millis(1));
        assert_eq!(clock.now(), FIRST_SECOND + 1);
    }
}
