//! All arithmetic of leases: how long one may be, when the server should forget it, until when
//! its holder may believe in it.
//!
//! The inequality that everything here keeps: with `s` the instant before the first byte of the
//! request left, `D` the lease and `X` the expiry sent, **the server forgets the item no earlier
//! than `s + D`** on the holder's clock, while the holder stops believing at `s + D` at the
//! latest. See [`ServerClock::expiry`](super::ServerClock::expiry) for how `X` is found.

use super::moment::Moment;
use core::fmt;
use core::time::Duration;

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(100);

/// The shortest lease of a lock without a record: nobody can see from its item how long it was asked
/// for, so it is only ever freed by the server, which counts whole seconds.
pub const MIN_LEAN_LEASE: Duration = Duration::from_secs(2);

/// The longest lease: memcached's limit for relative times (30 days), which we keep for absolute
/// ones as well so that a lease means the same on every path.
pub const MAX_LEASE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a clock that is at most 1 % fast or slow may be off after it has measured `duration`.
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

/// How long a lock is to be held without being renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(Duration);

impl Lease {
    /// Checks the length of a lease.
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
        Ok(Self(duration))
    }

    /// Its length in nanoseconds, which the longest lease does not come near the end of.
    pub(super) fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Checks that it is long enough for a lock without a record.
    ///
    /// # Errors
    /// It is shorter than [`MIN_LEAN_LEASE`].
    pub const fn check_lean(self) -> Result<(), LeaseError> {
        if self.0.as_nanos() < MIN_LEAN_LEASE.as_nanos() {
            return Err(LeaseError::TooShortForLean { lease: self.0 });
        }
        Ok(())
    }

    /// Its length.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Until when a holder may believe in a lease that it asked for at `sent`.
    #[must_use]
    pub fn valid_until(self, sent: Moment) -> Moment {
        sent.after(self.0)
    }

    /// When to renew a lease that was asked for at `sent`: after a third of it, so that two more
    /// attempts fit in.
    #[must_use]
    pub fn renew_at(self, sent: Moment) -> Moment {
        sent.after(self.0 / 3)
    }

    /// How long a server must have remembered everything before a lock is granted on it, if no
    /// lease in use is longer than this one: the lease, and what the clocks may disagree over it.
    #[must_use]
    pub fn memory_needed(self) -> Duration {
        #[cfg(seeded_bugs)]
        if crate::seeded::Bug::MemoryWithoutDrift.planted() {
            return self.0;
        }
        self.0 + drift_over(self.0)
    }
}

/// Why a lease cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseError {
    /// Shorter than [`MIN_LEASE`].
    TooShort {
        /// What was asked for.
        lease: Duration,
    },
    /// Shorter than [`MIN_LEAN_LEASE`], for a lock without a record.
    TooShortForLean {
        /// What was asked for.
        lease: Duration,
    },
    /// Longer than [`MAX_LEASE`].
    TooLong {
        /// What was asked for.
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
            Self::TooShortForLean { lease } => write!(
                f,
                "a lease of {lease:?} is too short for a lean lock; it must be at least \
                 {MIN_LEAN_LEASE:?}"
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
    fn leases_have_both_ends() {
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
}
