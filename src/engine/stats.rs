//! Counts of a client's events, and their durations.

use crate::proto::LossReason;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// The number of buckets of durations, see [`DurationStats`].
const BUCKETS: usize = 24;

/// The upper bound of the first bucket, in microseconds. Each further bucket is twice as wide.
const FIRST_BOUND: u64 = 64;

/// Counts of what has happened to one client since it was built, its present state, and durations.
/// Returned by `Client::stats()` of either API.
///
/// A snapshot. It costs no request, and one look at each held lock. The numbers are read one after
/// another while the client goes on, so two of them may differ by what happened in between. Counts
/// never decrease.
///
/// Each call that would acquire a lock ends in exactly one of `acquired`, `contended`, `timed_out`,
/// `unknown`, `failed` and `cancelled`; a call that is rejected before anything is sent, for
/// instance for its name, is not counted. Each lock that was acquired or attached ends in exactly
/// one of `released`, `lost`, `release_failures` and `detached`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Locks that were acquired.
    pub acquired: u64,
    /// Of these, those that were not acquired at the first try: the lock was held or had earlier
    /// waiters, the restart guard waited, or the server was not reached at first.
    pub acquired_after_wait: u64,
    /// Of these, those that a holder of the same client handed off, without being free in between.
    pub handoffs: u64,
    /// Of these, those that were taken over from a holder that had not renewed for longer than its
    /// lease: it died, or was cut off.
    pub takeovers: u64,
    /// Locks that were attached by a ticket (`LockGuard::attach`). They are not in `acquired`.
    pub attached: u64,
    /// Calls of `try_acquire` that found the lock held, or with earlier waiters.
    pub contended: u64,
    /// Calls of `acquire_timeout` that ended because the lock was held for all of that time.
    pub timed_out: u64,
    /// Calls that ended with [`Unknown`](crate::ErrorKind::Unknown): a request was sent and got no
    /// reply.
    pub unknown: u64,
    /// Calls that ended with any other error: the server was not reached or cannot serve, the
    /// restart guard rejected the call, or the client was shut down.
    pub failed: u64,
    /// Calls whose future was dropped before it was ready. Always 0 in the blocking API.
    pub cancelled: u64,

    /// Locks that were released after they had been held to the end. A quiet release counts when it
    /// is sent.
    pub released: u64,
    /// Of these, those that were released quietly.
    pub released_quietly: u64,
    /// Quiet releases that failed: the server refused them, or there was no reply. The renewer
    /// repeats each in the background.
    pub quiet_failures: u64,
    /// Locks that were lost, including those whose release found the loss.
    pub lost: LossCounts,
    /// Locks whose release was given up, because the server refused it or was not reached in time.
    /// Their records expire with their leases.
    pub release_failures: u64,
    /// Locks that were detached for another process (`LockGuard::detach`).
    pub detached: u64,

    /// Renewals that succeeded.
    pub renewals: u64,
    /// Renewals that were refused or got no reply. Each is tried again for as long as the lock is
    /// held.
    pub renewals_failed: u64,
    /// Renewals that the client began so late that half of the lease was over, because it had too
    /// much to do: it holds more locks, with shorter leases, than it can renew. See the event
    /// `falling_behind`.
    pub renewals_late: u64,

    /// Connections that were opened, the first one included.
    pub connections_opened: u64,
    /// Connections that ended, but not by the client's wish: the server closed them, they broke, or
    /// a reply did not come in time. Counted when the client notices it, at the next use.
    pub connections_lost: u64,
    /// The number of times that the server was found to be another instance than before.
    pub server_restarts: u64,

    /// Locks that are held now.
    pub held: u64,
    /// Calls that wait now, see `acquired_after_wait`. A call that waits for another holder and is
    /// counted here has its place in the wait queue: later calls come after it.
    pub waiting: u64,

    /// Waits of calls that did not get the lock at the first try, with any outcome: counted from
    /// the call on.
    pub wait_time: DurationStats,
    /// Times for which locks were held that are not held any more: from the request that acquired
    /// them to their release or loss.
    pub hold_time: DurationStats,
}

/// Lost locks, by [`LossReason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LossCounts {
    /// [`LossReason::Expired`].
    pub expired: u64,
    /// [`LossReason::MaxHold`].
    pub max_hold: u64,
    /// [`LossReason::TakenOver`].
    pub takeover: u64,
    /// [`LossReason::Missing`].
    pub missing: u64,
    /// [`LossReason::ServerRestarted`].
    pub server_restarted: u64,
    /// [`LossReason::Unreachable`].
    pub unreachable: u64,
}

impl LossCounts {
    /// Returns the number of all losses.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.expired
            + self.max_hold
            + self.takeover
            + self.missing
            + self.server_restarted
            + self.unreachable
    }

    /// Returns the number of losses for this reason. For [`LossReason::Released`] and
    /// [`LossReason::Forked`], which are no losses, 0.
    #[must_use]
    pub const fn of(&self, reason: LossReason) -> u64 {
        match reason {
            LossReason::Expired => self.expired,
            LossReason::MaxHold => self.max_hold,
            LossReason::TakenOver => self.takeover,
            LossReason::Missing => self.missing,
            LossReason::ServerRestarted => self.server_restarted,
            LossReason::Unreachable => self.unreachable,
            LossReason::Released | LossReason::Forked => 0,
        }
    }
}

/// Durations: their sum, the longest, and the number in each bucket.
///
/// The first bucket counts durations shorter than 64 µs, each further one those shorter than twice
/// the bound before it, the last one all that are longer than 268 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DurationStats {
    /// The sum of all durations, each in whole microseconds.
    pub total: Duration,
    /// The longest, in whole microseconds.
    pub max: Duration,
    /// The number of durations in each bucket. See [`bound`](Self::bound).
    pub buckets: [u64; BUCKETS],
}

impl DurationStats {
    /// Returns the upper bound of this bucket: its durations are shorter (and not in the buckets
    /// before it). `None` for the last bucket, and if there is no such bucket.
    #[must_use]
    pub const fn bound(bucket: usize) -> Option<Duration> {
        if bucket + 1 < BUCKETS {
            Some(Duration::from_micros(FIRST_BOUND << bucket))
        } else {
            None
        }
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the mean; zero if there are none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let total = u64::try_from(self.total.as_micros()).unwrap_or(u64::MAX);
        total.checked_div(self.count()).map(Duration::from_micros)
    }
}

impl fmt::Display for DurationStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mean() {
            Some(mean) => write!(f, "mean {mean:.1?}, max {:.1?}", self.max),
            None => f.write_str("none"),
        }
    }
}

/// Prints one line, for people.
impl fmt::Display for ClientStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "held {}, waiting {}; acquired {} ({} after a wait, {} handed off, {} taken over), \
             attached {}, contended {}, timed out {}, unknown {}, failed {}, cancelled {}; \
             released {} ({} quietly, {} of them failed), lost {}, not released {}, detached {}; renewals {}, failed {}, late {}; \
             connections {}, lost {}; server restarts {}; waits: {}; holds: {}",
            self.held,
            self.waiting,
            self.acquired,
            self.acquired_after_wait,
            self.handoffs,
            self.takeovers,
            self.attached,
            self.contended,
            self.timed_out,
            self.unknown,
            self.failed,
            self.cancelled,
            self.released,
            self.released_quietly,
            self.quiet_failures,
            self.lost.total(),
            self.release_failures,
            self.detached,
            self.renewals,
            self.renewals_failed,
            self.renewals_late,
            self.connections_opened,
            self.connections_lost,
            self.server_restarts,
            self.wait_time,
            self.hold_time,
        )
    }
}

/// A count that rises. It orders no other memory access.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.add_many(1);
    }

    pub(super) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Decrements a count of a present state.
    pub(super) fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The content of [`DurationStats`] while it is collected.
#[derive(Debug, Default)]
pub(super) struct DurationHistogram {
    /// The sum in microseconds, of which 64 bits hold half a million years.
    total: AtomicU64,
    max: AtomicU64,
    buckets: [Counter; BUCKETS],
}

impl DurationHistogram {
    pub(super) fn add(&self, nanos: u64) {
        let micros = nanos / 1000;
        self.total.fetch_add(micros, Ordering::Relaxed);
        // Rarely true: a load is cheaper than an exchange.
        if micros > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(micros, Ordering::Relaxed);
        }
        let doublings = u64::BITS - (micros / FIRST_BOUND).leading_zeros();
        self.buckets[(doublings as usize).min(BUCKETS - 1)].add();
    }

    fn read(&self) -> DurationStats {
        let micros = |number: &AtomicU64| Duration::from_micros(number.load(Ordering::Relaxed));
        DurationStats {
            total: micros(&self.total),
            max: micros(&self.max),
            buckets: core::array::from_fn(|bucket| self.buckets[bucket].get()),
        }
    }
}

macro_rules! counters {
    ($($name:ident),+ $(,)?) => {
        /// The counts of [`ClientStats`] while they are collected.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
            losses: LossCounters,
            pub(super) wait_time: DurationHistogram,
            pub(super) hold_time: DurationHistogram,
        }

        impl Counters {
            /// Returns all counts. The caller knows the number of held locks.
            pub(super) fn read(&self, held: u64) -> ClientStats {
                ClientStats {
                    $($name: self.$name.get(),)+
                    lost: self.losses.read(),
                    held,
                    wait_time: self.wait_time.read(),
                    hold_time: self.hold_time.read(),
                }
            }
        }
    };
}

counters! {
    acquired,
    acquired_after_wait,
    handoffs,
    takeovers,
    attached,
    contended,
    timed_out,
    unknown,
    failed,
    cancelled,
    released,
    released_quietly,
    quiet_failures,
    release_failures,
    detached,
    renewals,
    renewals_failed,
    renewals_late,
    connections_opened,
    connections_lost,
    server_restarts,
    waiting,
}

/// The counts of [`LossCounts`] while they are collected.
#[derive(Debug, Default)]
struct LossCounters {
    expired: Counter,
    max_hold: Counter,
    takeover: Counter,
    missing: Counter,
    server_restarted: Counter,
    unreachable: Counter,
}

impl LossCounters {
    fn read(&self) -> LossCounts {
        LossCounts {
            expired: self.expired.get(),
            max_hold: self.max_hold.get(),
            takeover: self.takeover.get(),
            missing: self.missing.get(),
            server_restarted: self.server_restarted.get(),
            unreachable: self.unreachable.get(),
        }
    }
}

impl Counters {
    pub(super) fn lost(&self, reason: LossReason) {
        match reason {
            LossReason::Expired => self.losses.expired.add(),
            LossReason::MaxHold => self.losses.max_hold.add(),
            LossReason::TakenOver => self.losses.takeover.add(),
            LossReason::Missing => self.losses.missing.add(),
            LossReason::ServerRestarted => self.losses.server_restarted.add(),
            LossReason::Unreachable => self.losses.unreachable.add(),
            LossReason::Released | LossReason::Forked => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_falls_between_bucket_bounds() {
        for micros in [
            0,
            1,
            63,
            64,
            65,
            127,
            128,
            4095,
            4096,
            268_435_455,
            268_435_456,
        ] {
            let watch = DurationHistogram::default();
            let length = Duration::from_micros(micros);
            watch.add(micros * 1000);
            let times = watch.read();
            assert_eq!((times.total, times.max, times.count()), (length, length, 1));
            let bucket = times.buckets.iter().position(|count| *count == 1);
            let bucket = bucket.expect("it is somewhere");
            assert!(
                DurationStats::bound(bucket).is_none_or(|bound| length < bound),
                "{micros}"
            );
            let before = bucket.checked_sub(1).and_then(DurationStats::bound);
            assert!(before.is_none_or(|bound| length >= bound), "{micros}");
        }
        let watch = DurationHistogram::default();
        watch.add(u64::MAX);
        assert_eq!(watch.read().buckets[BUCKETS - 1], 1);
        assert_eq!(DurationStats::bound(BUCKETS - 1), None);
        assert_eq!(DurationStats::bound(usize::MAX - 1), None);
    }

    #[test]
    fn sums_maxima_means_are_right() {
        let watch = DurationHistogram::default();
        assert_eq!(watch.read(), DurationStats::default());
        assert_eq!(watch.read().mean(), None);
        for millis in [30, 10, 20] {
            watch.add(millis * 1_000_000);
        }
        let times = watch.read();
        assert_eq!(times.total, Duration::from_millis(60));
        assert_eq!(times.max, Duration::from_millis(30));
        assert_eq!(times.mean(), Some(Duration::from_millis(20)));
        assert_eq!(std::format!("{times}"), "mean 20.0ms, max 30.0ms");
    }

    #[test]
    fn loss_reasons_are_distinguished() {
        let counts = Counters::default();
        let reasons = [
            LossReason::Expired,
            LossReason::MaxHold,
            LossReason::TakenOver,
            LossReason::Missing,
            LossReason::ServerRestarted,
            LossReason::Unreachable,
        ];
        for (times, reason) in reasons.into_iter().enumerate() {
            (0..=times).for_each(|_| counts.lost(reason));
        }
        counts.lost(LossReason::Released);
        let lost = counts.read(0).lost;
        assert_eq!(reasons.map(|reason| lost.of(reason)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(lost.total(), 21);
        assert_eq!(lost.of(LossReason::Released), 0);
    }
}
