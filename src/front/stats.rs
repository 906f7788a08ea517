//! How often things have happened to a client, and how long they took.

use crate::proto::LossReason;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// How many lengths of time are told apart, see [`Times`].
const BUCKETS: usize = 24;

/// What ends before this is in the first bucket, in microseconds. Each further bucket is twice as
/// wide.
const FIRST_BOUND: u64 = 64;

/// What has happened to one client since it was built: counts, what is the case now, and lengths of
/// time. From `Client::stats()` of either front.
///
/// A snapshot that costs no request, and a look at each lock that is held. The numbers are read one after the other while the client goes
/// on, so two of them may differ by what happened in between. Counts never go down.
///
/// Each call that would acquire a lock ends in exactly one of `acquired`, `refused`, `timed_out`,
/// `unknown`, `failed` and `abandoned`; not counted is what is refused before anything is sent, such
/// as a name that cannot be used. Each lock that was acquired or taken up ends in exactly one of
/// `released`, `lost`, `unreleased` and `taken_apart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Locks that were acquired.
    pub acquired: u64,
    /// Of these, how many not at the first try: somebody held the lock or stood in line for it, the
    /// server's memory was too young, or it was not reached at first.
    pub acquired_after_wait: u64,
    /// Of these, how many were handed on by a holder of the same client, without being free in
    /// between.
    pub handed_on: u64,
    /// Of these, how many were taken over from a holder that had not renewed for longer than its
    /// lease: it died, or was cut off.
    pub taken_over: u64,
    /// Locks of whose parts a guard was made (`LockGuard::attach`). They are not in `acquired`.
    pub taken_up: u64,
    /// Calls of `try_acquire` that found the lock held, or others in line for it.
    pub refused: u64,
    /// Calls of `acquire_timeout` that ended because the lock was held for all of that time.
    pub timed_out: u64,
    /// Calls that ended with [`Unknown`](crate::ErrorKind::Unknown): a request was sent and not
    /// answered.
    pub unknown: u64,
    /// Calls that ended with any other error: the server was not reached or cannot serve, its
    /// memory is too young, or the client was shut down.
    pub failed: u64,
    /// Calls whose future was dropped before it was ready. Always 0 in the blocking front.
    pub abandoned: u64,

    /// Locks that were given back and had been ours to the end. A quiet release counts when it is
    /// sent.
    pub released: u64,
    /// Of these, how many were released quietly.
    pub released_quietly: u64,
    /// Quiet releases that came to nothing by themselves: the server refused them, or its answer did
    /// not come. Each is done once more in the background.
    pub quiet_failures: u64,
    /// Locks that were lost, including those of which the release found out.
    pub lost: Losses,
    /// Locks whose release was given up, because the server refused it or was not reached in time.
    /// Their records go with their leases.
    pub unreleased: u64,
    /// Locks that were taken apart for another process (`LockGuard::detach`).
    pub taken_apart: u64,

    /// Renewals that were done.
    pub renewals: u64,
    /// Renewals that were refused or not answered. Each is tried again for as long as the lock is
    /// held.
    pub renewals_failed: u64,
    /// Renewals that the client began so late that half of the lease was over, because it had too
    /// much to do: it holds more locks, with shorter leases, than it can renew. See the event
    /// `falling_behind`.
    pub renewals_late: u64,

    /// Connections that were opened, from the first one on.
    pub connections_opened: u64,
    /// Connections that ended otherwise than by the client's wish: the server closed them, they
    /// broke, or an answer did not come in time. Counted when that is noticed, at the next use.
    pub connections_lost: u64,
    /// How often the server was found to be another run than before.
    pub server_restarts: u64,

    /// Locks that are held now.
    pub held: u64,
    /// Calls that wait now, see `acquired_after_wait`. A call that waits for another holder and is
    /// counted here has its place in the line: calls that begin later come behind it.
    pub waiting: u64,

    /// How long calls waited that did not get the lock at the first try, whatever came of them: from
    /// the call on.
    pub waits: Times,
    /// How long locks were held that are not held any more: from the request that acquired them to
    /// their release or loss.
    pub holds: Times,
}

/// Lost locks, by [`LossReason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// [`LossReason::Expired`].
    pub expired: u64,
    /// [`LossReason::TakenOver`].
    pub taken_over: u64,
    /// [`LossReason::Missing`].
    pub vanished: u64,
    /// [`LossReason::ServerRestarted`].
    pub server_restarted: u64,
    /// [`LossReason::Unreachable`].
    pub unreachable: u64,
}

impl Losses {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.expired + self.taken_over + self.vanished + self.server_restarted + self.unreachable
    }

    /// Those for this reason. For [`LossReason::Released`] and [`LossReason::Forked`], which are no
    /// losses, 0.
    #[must_use]
    pub const fn of(&self, reason: LossReason) -> u64 {
        match reason {
            LossReason::Expired => self.expired,
            LossReason::TakenOver => self.taken_over,
            LossReason::Missing => self.vanished,
            LossReason::ServerRestarted => self.server_restarted,
            LossReason::Unreachable => self.unreachable,
            LossReason::Released | LossReason::Forked => 0,
        }
    }
}

/// Lengths of time: their sum, the longest, and how many there were of each order.
///
/// The first bucket counts those shorter than 64 µs, each further one those shorter than twice the
/// bound before it, the last one all that are longer than 268 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// All of them together, each in whole microseconds.
    pub total: Duration,
    /// The longest, in whole microseconds.
    pub max: Duration,
    /// How many there were, by length. See [`bound`](Self::bound).
    pub buckets: [u64; BUCKETS],
}

impl Times {
    /// What the lengths in this bucket are shorter than (and not in the buckets before it). `None`
    /// for the last bucket, and where there is none.
    #[must_use]
    pub const fn bound(bucket: usize) -> Option<Duration> {
        if bucket + 1 < BUCKETS {
            Some(Duration::from_micros(FIRST_BOUND << bucket))
        } else {
            None
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their mean; nothing where there were none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let total = u64::try_from(self.total.as_micros()).unwrap_or(u64::MAX);
        total.checked_div(self.count()).map(Duration::from_micros)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mean() {
            Some(mean) => write!(f, "mean {mean:.1?}, max {:.1?}", self.max),
            None => f.write_str("none"),
        }
    }
}

/// One line, for people.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "held {}, waiting {}; acquired {} ({} after a wait, {} handed on, {} taken over), \
             taken up {}, refused {}, timed out {}, unknown {}, failed {}, abandoned {}; released {} ({} \
             quietly, {} of them in vain), lost {}, unreleased {}, \
             taken apart {}; renewals {}, failed {}, late {}; \
             connections {}, lost {}; server restarts {}; waits: {}; holds: {}",
            self.held,
            self.waiting,
            self.acquired,
            self.acquired_after_wait,
            self.handed_on,
            self.taken_over,
            self.taken_up,
            self.refused,
            self.timed_out,
            self.unknown,
            self.failed,
            self.abandoned,
            self.released,
            self.released_quietly,
            self.quiet_failures,
            self.lost.total(),
            self.unreleased,
            self.taken_apart,
            self.renewals,
            self.renewals_failed,
            self.renewals_late,
            self.connections_opened,
            self.connections_lost,
            self.server_restarts,
            self.waits,
            self.holds,
        )
    }
}

/// A number that rises. Nothing is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.add_many(1);
    }

    pub(super) fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// For what is the case now, and then is not.
    pub(super) fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// [`Times`] while they are collected.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// In microseconds, of which 64 bits hold half a million years.
    total: AtomicU64,
    max: AtomicU64,
    buckets: [Counter; BUCKETS],
}

impl Stopwatch {
    pub(super) fn add(&self, nanos: u64) {
        let micros = nanos / 1000;
        self.total.fetch_add(micros, Ordering::Relaxed);
        // Seldom so: a look is cheaper than an exchange.
        if micros > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(micros, Ordering::Relaxed);
        }
        let doublings = u64::BITS - (micros / FIRST_BOUND).leading_zeros();
        self.buckets[(doublings as usize).min(BUCKETS - 1)].add();
    }

    fn read(&self) -> Times {
        let micros = |number: &AtomicU64| Duration::from_micros(number.load(Ordering::Relaxed));
        Times {
            total: micros(&self.total),
            max: micros(&self.max),
            buckets: core::array::from_fn(|bucket| self.buckets[bucket].get()),
        }
    }
}

/// [`StatsSummary`] while they are collected.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) acquired: Counter,
    pub(super) acquired_after_wait: Counter,
    pub(super) handed_on: Counter,
    pub(super) taken_over: Counter,
    pub(super) taken_up: Counter,
    pub(super) refused: Counter,
    pub(super) timed_out: Counter,
    pub(super) unknown: Counter,
    pub(super) failed: Counter,
    pub(super) abandoned: Counter,
    pub(super) released: Counter,
    pub(super) released_quietly: Counter,
    pub(super) quiet_failures: Counter,
    expired: Counter,
    lost_by_takeover: Counter,
    vanished: Counter,
    server_restarted: Counter,
    unreachable: Counter,
    pub(super) unreleased: Counter,
    pub(super) taken_apart: Counter,
    pub(super) renewals: Counter,
    pub(super) renewals_failed: Counter,
    pub(super) renewals_late: Counter,
    pub(super) connections_opened: Counter,
    pub(super) connections_lost: Counter,
    pub(super) server_restarts: Counter,
    pub(super) waiting: Counter,
    pub(super) waits: Stopwatch,
    pub(super) holds: Stopwatch,
}

impl Counts {
    pub(super) fn lost(&self, reason: LossReason) {
        match reason {
            LossReason::Expired => self.expired.add(),
            LossReason::TakenOver => self.lost_by_takeover.add(),
            LossReason::Missing => self.vanished.add(),
            LossReason::ServerRestarted => self.server_restarted.add(),
            LossReason::Unreachable => self.unreachable.add(),
            LossReason::Released | LossReason::Forked => {}
        }
    }

    /// All of it. How many locks are held is known elsewhere.
    pub(super) fn read(&self, held: u64) -> Stats {
        Stats {
            acquired: self.acquired.get(),
            acquired_after_wait: self.acquired_after_wait.get(),
            handed_on: self.handed_on.get(),
            taken_over: self.taken_over.get(),
            taken_up: self.taken_up.get(),
            refused: self.refused.get(),
            timed_out: self.timed_out.get(),
            unknown: self.unknown.get(),
            failed: self.failed.get(),
            abandoned: self.abandoned.get(),
            released: self.released.get(),
            released_quietly: self.released_quietly.get(),
            quiet_failures: self.quiet_failures.get(),
            lost: Losses {
                expired: self.expired.get(),
                taken_over: self.lost_by_takeover.get(),
                vanished: self.vanished.get(),
                server_restarted: self.server_restarted.get(),
                unreachable: self.unreachable.get(),
            },
            unreleased: self.unreleased.get(),
            taken_apart: self.taken_apart.get(),
            renewals: self.renewals.get(),
            renewals_failed: self.renewals_failed.get(),
            renewals_late: self.renewals_late.get(),
            connections_opened: self.connections_opened.get(),
            connections_lost: self.connections_lost.get(),
            server_restarts: self.server_restarts.get(),
            held,
            waiting: self.waiting.get(),
            waits: self.waits.read(),
            holds: self.holds.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_in_the_bucket_whose_bounds_say_so() {
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
            let watch = Stopwatch::default();
            let length = Duration::from_micros(micros);
            watch.add(micros * 1000);
            let times = watch.read();
            assert_eq!((times.total, times.max, times.count()), (length, length, 1));
            let bucket = times.buckets.iter().position(|count| *count == 1);
            let bucket = bucket.expect("it is somewhere");
            assert!(
                Times::bound(bucket).is_none_or(|bound| length < bound),
                "{micros}"
            );
            let before = bucket.checked_sub(1).and_then(Times::bound);
            assert!(before.is_none_or(|bound| length >= bound), "{micros}");
        }
        let watch = Stopwatch::default();
        watch.add(u64::MAX);
        assert_eq!(watch.read().buckets[BUCKETS - 1], 1);
        assert_eq!(Times::bound(BUCKETS - 1), None);
        assert_eq!(Times::bound(usize::MAX - 1), None);
    }

    #[test]
    fn sums_maxima_and_means() {
        let watch = Stopwatch::default();
        assert_eq!(watch.read(), Times::default());
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
    fn losses_are_told_apart() {
        let counts = Counts::default();
        let reasons = [
            LossReason::Expired,
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
        assert_eq!(reasons.map(|reason| lost.of(reason)), [1, 2, 3, 4, 5]);
        assert_eq!(lost.total(), 15);
        assert_eq!(lost.of(LossReason::Released), 0);
    }
}
