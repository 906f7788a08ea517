//! Instants on the caller's own clock.

use core::time::Duration;

/// An instant on the caller's clock: nanoseconds since an origin that the caller chose.
///
/// The clock must never go backwards and must go on while the machine is suspended
/// (`CLOCK_BOOTTIME` on Linux). Instants of different clocks must not be mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant this many nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant `duration` later, or the last one there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The time from `earlier` to this instant; zero if it is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The present as the rules need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// On the caller's clock.
    pub monotonic: Instant,
    /// Seconds since 1970 by the caller's wall clock. Only ever used to make an expiry later.
    pub unix_seconds: u64,
}
