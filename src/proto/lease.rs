//! All arithmetic of leases: the length of a lease, the time when the server should forget it, and
//! the time until which its holder may consider it valid.
//!
//! With `s` the instant before the first byte of the request was sent and `D` the lease, the holder
//! considers the lock valid until `s + D` on its own clock, at the latest. Everything else keeps
//! after that:
//!
//! | who | may have the name | because |
//! |---|---|---|
//! | a client that finds it free | not before `s + D` | the server forgets the item no earlier, see [`ServerClock::expiry`](super::ServerClock::expiry) |
//! | a client that takes it over | not before `s + D` | the same CAS unique was watched for [`watch_needed`], and had been given to the item after `s` |
//! | a client that finds a server that has forgotten | not before `s + D` | its memory is older than [`Lease::min_memory`] of the longest lease |
//! | the holder itself | renews at `s + D / 3` | two more tries fit in |
//!
//! Clocks may be up to 1 % fast or slow.

use super::time::Instant;
use core::fmt;
use core::time::Duration;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(100);

/// The shortest lease of a lock without a record: its item does not show the requested lease, so
/// only the server ever frees it, and the server counts whole seconds.
pub const MIN_RECORDLESS_LEASE: Duration = Duration::from_secs(2);

/// The longest lease: memcached's limit for relative times (30 days), which we keep for absolute
/// ones as well so that a lease means the same on every path.
pub const MAX_LEASE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The error of a clock that is at most 1 % fast or slow after it has measured `duration`.
///
/// One hundredth slow means that the clock measures 0.99 s in a second, so what it measures took
/// up to one ninety-ninth longer.
pub(super) fn drift_over(duration: Duration) -> Duration {
    duration / 99
}

/// The same in nanoseconds.
pub(super) const fn drift_over_nanos(nanos: u64) -> u64 {
    nanos / 99
}

/// The time for which a contender must have seen the same CAS unique before it takes over a lock
/// whose record states this lease.
///
/// Every request that prolongs a lease gives the item another CAS unique, so the holder sent the
/// request for this one before it was first seen, and considers the lock valid for at most the
/// lease from then on. The holder's clock may be slow, which the first part of the drift covers,
/// and the contender's fast, which the second part covers.
pub(super) fn watch_needed(lease: Lease) -> Duration {
    let on_the_holders_clock = lease.0 + drift_over(lease.0);
    // Rounded up: the divisions round down.
    on_the_holders_clock + on_the_holders_clock / 100 + Duration::from_nanos(2)
}

/// The time for which a lock is held without being renewed, in whole milliseconds, as records state
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(Duration);

impl Lease {
    /// Checks the length of a lease, and rounds it up to whole milliseconds: a holder must not count
    /// on a lease for longer than its record states.
    ///
    /// # Errors
    /// It is shorter than [`MIN_LEASE`] or longer than [`MAX_LEASE`].
    pub const fn new(duration: Duration) -> Result<Self, LeaseError> {
        if duration.as_nanos() < MIN_LEASE.as_nanos() {
            return Err(LeaseError::TooShort { lease: duration });
        }
        if duration.as_nanos() > MAX_LEASE.as_nanos() {
            return Err(LeaseError::TooLong { lease: duration });
        }
        // It keeps below the longest lease, which is a whole number of milliseconds.
        let whole = Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000);
        if whole.as_nanos() == duration.as_nanos() {
            return Ok(Self(whole));
        }
        Ok(Self(whole.saturating_add(Duration::from_millis(1))))
    }

    /// Its length in nanoseconds; those of the longest lease fit many times over.
    pub(super) const fn nanos(self) -> u64 {
        self.0.as_secs() * 1_000_000_000 + self.0.subsec_nanos() as u64
    }

    /// Its length in milliseconds, rounded up.
    pub(super) fn whole_millis(self) -> u64 {
        self.nanos().div_ceil(1_000_000)
    }

    /// Checks that it is long enough for a lock without a record.
    ///
    /// # Errors
    /// It is shorter than [`MIN_RECORDLESS_LEASE`].
    pub const fn check_recordless(self) -> Result<(), LeaseError> {
        if self.0.as_nanos() < MIN_RECORDLESS_LEASE.as_nanos() {
            return Err(LeaseError::TooShortWithoutRecord { lease: self.0 });
        }
        Ok(())
    }

    /// Its length.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// The instant until which a holder may rely on a lease that it requested at `sent`.
    #[must_use]
    pub fn valid_until(self, sent: Instant) -> Instant {
        sent.after(self.0)
    }

    /// When to renew a lease that was asked for at `sent`: after a third of it, so that two more
    /// attempts fit in.
    #[must_use]
    pub fn renew_at(self, sent: Instant) -> Instant {
        sent.after(self.0 / 3)
    }

    /// [`min_memory`](Self::min_memory) in whole seconds, rounded up.
    pub(super) fn min_memory_seconds(self) -> u64 {
        let nanos = self.nanos();
        // Rounded down twice by less than a nanosecond, which is no second.
        (nanos + drift_over_nanos(nanos)).div_ceil(1_000_000_000)
    }

    /// The time for which a server must have remembered everything before a lock is granted on it,
    /// if no lease in use is longer than this one: the lease, and what the clocks may disagree over
    /// it.
    #[must_use]
    pub fn min_memory(self) -> Duration {
        self.0 + drift_over(self.0)
    }
}

/// A reason why a lease cannot be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseError {
    /// Shorter than [`MIN_LEASE`].
    TooShort {
        /// The value requested.
        lease: Duration,
    },
    /// Shorter than [`MIN_RECORDLESS_LEASE`], for a lock without a record.
    TooShortWithoutRecord {
        /// The value requested.
        lease: Duration,
    },
    /// Longer than [`MAX_LEASE`].
    TooLong {
        /// The value requested.
        lease: Duration,
    },
    /// It would end after 2038-01-19, which memcached's 32-bit times cannot say.
    BeyondServerTime,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { lease } => write!(
                f,
                "a lease of {lease:?} is too short; it must be at least {MIN_LEASE:?}"
            ),
            Self::TooShortWithoutRecord { lease } => write!(
                f,
                "a lease of {lease:?} is too short for a lock without a record; it must be at least \
                 {MIN_RECORDLESS_LEASE:?}"
            ),
            Self::TooLong { lease } => write!(
                f,
                "a lease of {} s is too long; memcached allows at most 30 days ({} s), and a \
                 lease is renewed for as long as the lock is held",
                lease.as_secs(),
                MAX_LEASE.as_secs()
            ),
            Self::BeyondServerTime => f.write_str(
                "the lease would end after 2038-01-19, beyond memcached's 32-bit expiry times",
            ),
        }
    }
}

impl core::error::Error for LeaseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_limits_are_enforced() {
        assert!(Lease::new(MIN_LEASE).is_ok());
        assert!(Lease::new(MAX_LEASE).is_ok());
        for short in [Duration::ZERO, MIN_LEASE - Duration::from_nanos(1)] {
            assert_eq!(
                Lease::new(short),
                Err(LeaseError::TooShort { lease: short })
            );
        }
        let days = Duration::from_secs(40 * 86_400);
        assert_eq!(Lease::new(days), Err(LeaseError::TooLong { lease: days }));
    }

    #[test]
    fn part_milliseconds_are_rounded_up() {
        for (nanos, millis) in [
            (100_000_000, 100),
            (100_000_001, 101),
            (100_999_000, 101),
            (101_000_000, 101),
            (2_999_999_999, 3000),
        ] {
            let lease = Lease::new(Duration::from_nanos(nanos)).expect("in range");
            assert_eq!(lease.duration(), Duration::from_millis(millis), "{nanos}");
        }
        let longest = Lease::new(MAX_LEASE - Duration::from_nanos(1)).expect("in range");
        assert_eq!(longest.duration(), MAX_LEASE);
    }

    /// The slowest clock that is allowed measures the lease, the fastest one the watch: the watch
    /// still takes longer.
    #[test]
    fn takeover_wait_outlasts_holders_lease() {
        for length in [MIN_LEASE, Duration::from_secs(10), MAX_LEASE] {
            let lease = Lease::new(length).expect("in range");
            let believed = length.as_nanos() * 100 / 99;
            let watched = watch_needed(lease).as_nanos() * 100 / 101;
            assert!(watched >= believed, "{length:?}: {watched} < {believed}");
            assert!(watched <= believed + believed / 1000 + 10, "{length:?}");
        }
    }

    #[test]
    fn restart_guard_outlasts_holders_lease() {
        let lease = Lease::new(Duration::from_secs(99)).expect("in range");
        assert_eq!(lease.min_memory(), Duration::from_secs(100));
    }

    #[test]
    fn two_retries_fit_after_first_renewal() {
        for length in [MIN_LEASE, MAX_LEASE] {
            let lease = Lease::new(length).expect("in range");
            let sent = Instant::from_nanos(5);
            let left = lease.valid_until(sent).since(lease.renew_at(sent));
            assert!(left >= length / 3 * 2, "{left:?} of {length:?}");
        }
    }
}
