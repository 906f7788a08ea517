//! The time that a contender sleeps between two looks at a held lock.

use super::time::Instant;
use crate::wire::TimeLeft;
use core::time::Duration;

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(1000);

/// The shortest and the longest time between two attempts to reach a server.
const FIRST_FAILURE: Duration = Duration::from_millis(10);
const LONGEST_FAILURE: Duration = Duration::from_millis(500);

/// The least number of looks in one lease.
const LOOKS_PER_LEASE: u32 = 8;

/// When a record may run out with the next second, the longest sleep.
const NEAR_EXPIRY: Duration = Duration::from_millis(100);

/// Intervals that grow with how long the same holder has been watched.
///
/// A lock that changes hands often is looked at often; one that is held for long costs the server
/// a look a second, or eight in a lease where that is more: what ends by being abandoned is
/// noticed as soon as its last renewal is seen late. Intervals are jittered by a quarter either
/// way, so that contenders which started together do not stay together.
#[derive(Debug, Clone)]
pub struct Backoff {
    random: u64,
    /// The mark of the holder that is being watched, and since when.
    watched: Option<(u64, Instant)>,
}

impl Backoff {
    /// A backoff whose jitter follows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            random: seed | 1,
            watched: None,
        }
    }

    /// The time to sleep after having seen, at `now`, the lock of a holder with this mark, this
    /// lease, where it states one, and this time left.
    pub fn after_look(
        &mut self,
        holder: u64,
        lease: Option<Duration>,
        left: Option<TimeLeft>,
        now: Instant,
    ) -> Duration {
        let since = match self.watched {
            Some((watched, since)) if watched == holder => since,
            _ => now,
        };
        self.watched = Some((holder, since));
        let longest = lease.map_or(LONGEST, |lease| lease / LOOKS_PER_LEASE);
        let longest = longest.clamp(SHORTEST, LONGEST);
        let interval = (now.since(since) / 8).clamp(SHORTEST, longest);
        let until_expiry = match left {
            // The server's next tick may come at once, so `t` seconds are t - 1 for sure.
            Some(TimeLeft::Seconds(left)) => {
                Duration::from_secs(u64::from(left).saturating_sub(1)).max(NEAR_EXPIRY)
            }
            Some(TimeLeft::Expired) => SHORTEST,
            Some(TimeLeft::Never) | None => LONGEST,
        };
        self.jittered(interval).min(until_expiry)
    }

    /// The time to sleep after the attempt number `attempt`, counted from 0, to reach a server.
    pub fn after_failure(&mut self, attempt: u32) -> Duration {
        self.jittered(Self::doubling(FIRST_FAILURE, LONGEST_FAILURE, attempt))
    }

    /// The pause after this many failures, which doubles with each.
    pub(crate) fn doubling(first: Duration, longest: Duration, failures: u32) -> Duration {
        first
            .saturating_mul(2u32.saturating_pow(failures))
            .min(longest)
    }

    fn jittered(&mut self, interval: Duration) -> Duration {
        // xorshift64: not for secrets, and cheaper than asking the system.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        interval * 3 / 4 + interval / 2 / 1024 * u32::try_from(self.random % 1024).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn quiet_lock_is_polled_less_often() {
        let mut backoff = Backoff::new(7);
        let mut now = 0;
        let mut looks = 0;
        while now < 60_000 {
            let sleep = backoff.after_look(5, None, None, at(now));
            assert!(sleep >= SHORTEST * 3 / 4 && sleep <= LONGEST * 5 / 4);
            now += u64::try_from(sleep.as_millis()).expect("small").max(1);
            looks += 1;
        }
        assert!((80..130).contains(&looks), "{looks} looks in a minute");
    }

    #[test]
    fn new_holder_resets_polling() {
        let mut backoff = Backoff::new(7);
        backoff.after_look(5, None, None, at(0));
        assert!(backoff.after_look(5, None, None, at(60_000)) > Duration::from_millis(600));
        assert!(backoff.after_look(6, None, None, at(60_000)) < Duration::from_millis(2));
    }

    #[test]
    fn short_lease_is_polled_several_times() {
        let mut backoff = Backoff::new(7);
        for (lease, most) in [(100, 16), (1_000, 157), (8_000, 1250), (600_000, 1250)] {
            let lease = Some(Duration::from_millis(lease));
            backoff.after_look(5, lease, None, at(0));
            let sleep = backoff.after_look(5, lease, None, at(60_000_000));
            assert!(
                sleep <= Duration::from_millis(most),
                "{sleep:?} of {lease:?}"
            );
            assert!(
                sleep >= Duration::from_millis(most / 2),
                "{sleep:?} of {lease:?}"
            );
        }
    }

    #[test]
    fn waiter_wakes_when_record_expires() {
        let mut backoff = Backoff::new(7);
        backoff.after_look(5, None, None, at(0));
        let sleep = backoff.after_look(5, None, Some(TimeLeft::Seconds(1)), at(60_000));
        assert!(sleep <= NEAR_EXPIRY);
        let sleep = backoff.after_look(5, None, Some(TimeLeft::Expired), at(60_000));
        assert!(sleep <= SHORTEST);
    }

    #[test]
    fn contenders_poll_at_random_times() {
        let sleeps: alloc::collections::BTreeSet<_> = (0..50)
            .map(|seed| {
                let mut backoff = Backoff::new(seed * 7919);
                backoff.after_failure(3);
                backoff.after_failure(3)
            })
            .collect();
        assert!(sleeps.len() > 40, "{} different sleeps", sleeps.len());
    }
}
