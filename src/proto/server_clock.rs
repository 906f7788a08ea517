//! The estimate of a server's clock.
//!
//! memcached counts whole seconds: a timer of its main thread copies the second into a variable,
//! and everything it says or does about time goes by that variable. It lags the true time by up
//! to a second, by two when a tick falls across a second's edge, and by any amount when the
//! process was stalled. It is never ahead. (Measured on 1.6.18, 1.6.38 and 1.6.45.)

use super::lease::{Lease, LeaseError, drift_over_nanos};
use super::time::{Instant, Now};

/// Nanoseconds in a second. All sums here are of nanoseconds in 64 bits, and saturate: servers count
/// seconds in 32 bits, so that what is real does not come near the ends.
const SECOND: i64 = 1_000_000_000;

/// Two readings with a tick between them pin the clock down when they are this close.
const PIN_GAP: u64 = 500_000_000;

/// The most that a sample may be behind the truth, besides its round trip, while the timer runs:
/// the rest of its second, and [`RARE_ERROR`].
const READING_ERROR: i64 = 2 * SECOND;

/// The timer ticks every 1.0008 s. About every twenty minutes a tick comes just before the edge of
/// a second and the next one just behind the edge after that, and for a second in between the
/// server is that much more behind.
const RARE_ERROR: u64 = SECOND.unsigned_abs();

/// By how much an expiry may rest on too low a bound: of its three spare seconds, one is the
/// floor's.
const BOUND_ERROR: u64 = 2 * SECOND.unsigned_abs();

/// The width that the bounds may reach before the clock is to be pinned down again. Below
/// [`BOUND_ERROR`] by what a lease of ten seconds adds.
const WIDEST: u64 = 1_800_000_000;

/// The last second that memcached's 32-bit times can say: 2038-01-19 03:14:07 UTC.
pub(super) const LAST_SECOND: u64 = i32::MAX.unsigned_abs() as u64;

/// The first second that memcached does not take for a relative time: 1970-01-31. As an expiry it
/// has passed on every server that locks are kept on ([`ServerError::ClockNotSet`](super::ServerError::ClockNotSet)). memcached puts it
/// in the place of a negative expiry as well, and proxies that refuse `-1` let it pass.
pub(super) const LONG_PAST: u64 = 2_592_001;

/// With clocks that agree this well, the wall clock may make an expiry later.
const WALL_AGREEMENT: u64 = 5;

/// A reading that is older than this is refreshed before a new lease is built on it.
const STALE_AFTER: u64 = 30 * SECOND.unsigned_abs();

/// One observation: the server's second, read by a request sent and answered at these instants.
#[derive(Debug, Clone, Copy)]
struct ClockSample {
    second: u64,
    sent: Instant,
    received: Instant,
}

/// A bound on server time minus local time, in nanoseconds, and when it was found. Clocks run
/// apart, so it gives way with time.
#[derive(Debug, Clone, Copy)]
struct OffsetBound {
    nanos: i64,
    found: Instant,
}

impl OffsetBound {
    fn drift(self, now: Instant) -> i64 {
        signed(drift_over_nanos(elapsed(self.found, now)))
    }

    fn as_lower(self, now: Instant) -> i64 {
        self.nanos.saturating_sub(self.drift(now))
    }

    fn as_upper(self, now: Instant) -> i64 {
        self.nanos.saturating_add(self.drift(now))
    }
}

/// Bounds on one server incarnation's clock, relative to the caller's.
///
/// Every reading gives a lower bound, for the server never says a second that has not come. An
/// upper bound that a stalled server cannot deceive comes from seeing it tick: the second that it
/// shows behind the tick was the true one at the tick. Until then, that the server is not stalled
/// is an assumption.
#[derive(Debug, Clone, Default)]
pub struct ServerClock {
    lower: Option<OffsetBound>,
    /// By a tick between two readings at most [`PIN_GAP`] apart.
    pinned: Option<OffsetBound>,
    /// By the assumption that a reading is at most [`READING_ERROR`] behind.
    assumed: Option<OffsetBound>,
    last: Option<ClockSample>,
    /// Number of times that the upper bound turned out to be too low.
    corrections: u64,
}

impl ServerClock {
    /// A clock of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lower: None,
            pinned: None,
            assumed: None,
            last: None,
            corrections: 0,
        }
    }

    /// Takes in that the server said `second` in answer to a request sent and answered at these
    /// instants.
    pub fn observe(&mut self, second: u64, sent: Instant, received: Instant) {
        let now = received;
        let bound = |nanos| OffsetBound { nanos, found: now };
        let said = signed(second).saturating_mul(SECOND);
        // The present state of each bound.
        let mut lower = self.lower.map(|lower| lower.as_lower(now));
        let mut assumed = self.assumed.map(|upper| upper.as_upper(now));
        let mut pinned = self.pinned.map(|upper| upper.as_upper(now));
        let believed = pinned.or(assumed).max(lower);
        // Said at or before the answer's arrival, and true then.
        let found = said.saturating_sub(instant(received));
        if lower.is_none_or(|known| found >= known) {
            lower = Some(found);
            self.lower = Some(bound(found));
        }
        let upper = said
            .saturating_add(READING_ERROR)
            .saturating_sub(instant(sent));
        // A bound below what the server has said since was found while it was stalled.
        if assumed.is_none_or(|known| upper <= known || known < found) {
            assumed = Some(upper);
            self.assumed = Some(bound(upper));
        }
        let old = |last: ClockSample| second < last.second || received < last.received;
        if !self.last.is_some_and(old) {
            if let Some(last) = self.last {
                let ticked = second > last.second && elapsed(last.sent, received) <= PIN_GAP;
                // The tick came behind the earlier request, and before the second was over.
                let upper = said.saturating_add(SECOND);
                let upper = upper.saturating_sub(instant(last.sent));
                if ticked && pinned.is_none_or(|known| upper <= known) {
                    pinned = Some(upper);
                    self.pinned = Some(bound(upper));
                }
            }
            self.last = Some(ClockSample {
                second,
                sent,
                received,
            });
        }
        let corrected = believed.is_some() && pinned.or(assumed).max(lower) > believed;
        self.corrections += u64::from(corrected);
    }

    /// Number of times that a sample has shown that [`retained_until`](Self::retained_until) had
    /// said too much: what it says is less since.
    #[must_use]
    pub const fn corrections(&self) -> u64 {
        self.corrections
    }

    /// Takes in the last reading that another view of the same clock has.
    pub fn absorb(&mut self, other: &Self) {
        if let Some(last) = other.last {
            self.observe(last.second, last.sent, last.received);
        }
    }

    /// The bounds at `now`: lower, and upper where that is proven, else assumed.
    fn bounds(&self, now: Instant) -> Option<(i64, i64)> {
        let lower = self.lower?.as_lower(now);
        let upper = self.pinned.or(self.assumed)?.as_upper(now);
        Some((lower, upper.max(lower)))
    }

    /// The distance between the bounds at `now`, in nanoseconds.
    fn error(&self, now: Instant) -> Option<u64> {
        let (lower, upper) = self.bounds(now)?;
        Some(upper.abs_diff(lower))
    }

    /// Returns `true` if the clock has been seen to tick between two close readings, which rules
    /// out that everything known of it comes from a stalled server.
    #[must_use]
    pub const fn is_steady(&self) -> bool {
        self.pinned.is_some()
    }

    /// Returns `true` if the clock has been seen to tick, and not so long ago that clocks may have
    /// run apart since. Where it has not, readings at most 300 ms apart make it so within about a
    /// second.
    #[must_use]
    pub fn is_synchronized(&self, now: Instant) -> bool {
        self.is_steady() && self.error(now).is_some_and(|error| error <= WIDEST)
    }

    /// Returns `true` if a reading should be taken before the next lease.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| elapsed(last.received, now) > STALE_AFTER)
    }

    /// The server's time, in nanoseconds since 1970 in its own base: never more than the truth.
    /// `None` before the first reading.
    #[must_use]
    pub fn nanos_at_least(&self, now: Instant) -> Option<u64> {
        let nanos = instant(now).saturating_add(self.bounds(now)?.0);
        u64::try_from(nanos).ok()
    }

    /// The server's second: never more than the truth. `None` before the first reading.
    #[must_use]
    pub fn seconds_lower_bound(&self, now: Instant) -> Option<u64> {
        Some(self.nanos_at_least(now)? / SECOND.unsigned_abs())
    }

    /// A second that the server's clock has not passed yet. `None` before the first reading.
    ///
    /// Before the clock was seen to tick: unless the server is stalled.
    #[must_use]
    pub fn seconds_upper_bound(&self, now: Instant) -> Option<u64> {
        let nanos = instant(now).saturating_add(self.bounds(now)?.1);
        Some(whole_seconds(u64::try_from(nanos).ok()?))
    }

    /// The absolute expiry for a lease that is asked for at `now`.
    ///
    /// `floor(s + LB) + ceil(D) + 3`, where `LB` is the lower bound. One of the three seconds
    /// pays for the floor, two for a bound that is that much too low. Where it may be further
    /// off, by clocks that run apart over a long lease or since a reading long ago, as many whole
    /// seconds are added. Until the clock was seen to tick and where it agrees with the caller's
    /// wall clock, the later of the two counts.
    ///
    /// # Errors
    /// [`LeaseError::BeyondServerTime`], also when nothing is known of the clock.
    pub fn expiry(&self, lease: Lease, now: Now) -> Result<u64, LeaseError> {
        let (lower, (_, upper)) = self
            .lower
            .zip(self.bounds(now.monotonic))
            .ok_or(LeaseError::BeyondServerTime)?;
        // Not giving way: too late an expiry is no danger.
        let lower = lower.nanos;
        let second = instant(now.monotonic).saturating_add(lower);
        let second = u64::try_from(second.div_euclid(SECOND));
        let mut second = second.map_err(|_| LeaseError::BeyondServerTime)?;
        if self.pinned.is_none() && now.unix_seconds.abs_diff(second) <= WALL_AGREEMENT {
            second = second.max(now.unix_seconds);
        }
        let error = u64::try_from(upper.saturating_sub(lower)).unwrap_or(0);
        let mut error = error.saturating_add(drift_over_nanos(lease.nanos()));
        if self.pinned.is_none() {
            // Instead of a later expiry in every case, the lock is considered valid for a shorter
            // time here: see `retained_until`.
            error = error.saturating_sub(RARE_ERROR);
        }
        let extra = whole_seconds(error.saturating_sub(BOUND_ERROR));
        let expiry = whole_seconds(lease.nanos())
            .checked_add(second)
            .and_then(|expiry| expiry.checked_add(3 + extra))
            .filter(|expiry| *expiry <= LAST_SECOND);
        expiry.ok_or(LeaseError::BeyondServerTime)
    }

    /// The instant before which the server keeps an item with this absolute expiry: for certain
    /// once the clock was seen to tick, before that unless the server was stalled at every
    /// reading. `None` when nothing is known of the clock.
    #[must_use]
    pub fn retained_until(&self, expiry: u64, now: Instant) -> Option<Instant> {
        let (_, upper) = self.bounds(now)?;
        let local = signed(expiry).saturating_mul(SECOND).saturating_sub(upper);
        let local = u64::try_from(local).unwrap_or(0);
        // Until then the clocks run further apart.
        let ahead = local.saturating_sub(now.as_nanos());
        let kept = now
            .as_nanos()
            .saturating_add(ahead - drift_over_nanos(ahead));
        Some(Instant::from_nanos(kept.min(local)))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Nanoseconds since the origin.
fn instant(moment: Instant) -> i64 {
    signed(moment.as_nanos())
}

/// Nanoseconds between two instants; none if the second is not later.
const fn elapsed(from: Instant, to: Instant) -> u64 {
    to.as_nanos().saturating_sub(from.as_nanos())
}

/// Whole seconds, rounded up.
const fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(SECOND.unsigned_abs())
}

/// The most seconds to live that an item with this lease is stored with, by the server's count: what
/// `temporary_ttl` must be, at least, for the server to keep it when memory is short.
///
/// memcached goes by the expiry and its clock at the instant of storing (`items.c`, `do_item_alloc`).
/// To the lease, [`expiry`](ServerClock::expiry) adds three seconds, what clocks that run apart may
/// be off over it, and, before the clock was seen to tick, up to five for a wall clock that is
/// ahead. The server's clock may be up to two behind. A server that was stalled for longer may take an
/// item for longer-lived than that.
#[must_use]
pub fn seconds_to_live(lease: Lease) -> u64 {
    const SPARE: u64 = 3 + WALL_AGREEMENT + READING_ERROR.unsigned_abs() / SECOND.unsigned_abs();
    whole_seconds(lease.nanos()) + whole_seconds(drift_over_nanos(lease.nanos())) + SPARE
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const EPOCH: u64 = 1_795_337_329;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn now(millis: u64, unix_seconds: u64) -> Now {
        Now {
            monotonic: at(millis),
            unix_seconds,
        }
    }

    fn lease(millis: u64) -> Lease {
        Lease::new(Duration::from_millis(millis)).expect("in range")
    }

    #[test]
    fn expiry_follows_the_rule() {
        let mut clock = ServerClock::new();
        clock.observe(EPOCH, at(1000), at(1000));
        // floor(s + LB) + ceil(D) + 3
        assert_eq!(clock.expiry(lease(10_000), now(1000, 0)), Ok(EPOCH + 13));
        assert_eq!(clock.expiry(lease(9_001), now(1999, 0)), Ok(EPOCH + 13));
        assert_eq!(clock.expiry(lease(9_001), now(2000, 0)), Ok(EPOCH + 14));
    }

    #[test]
    fn stalled_server_keeps_the_bound() {
        let mut clock = ServerClock::new();
        clock.observe(EPOCH, at(1000), at(1000));
        clock.observe(EPOCH, at(4000), at(5000));
        assert_eq!(clock.seconds_lower_bound(at(5000)), Some(EPOCH + 3));
        // It gives way by what clocks may run apart, or it could never follow a server whose
        // clock is the slower one.
        let second = clock.seconds_lower_bound(at(101_000));
        assert_eq!(second, Some(EPOCH + 98));
    }

    #[test]
    fn steady_needs_tick_between_close_readings() {
        let mut clock = ServerClock::new();
        clock.observe(EPOCH, at(0), at(1));
        clock.observe(EPOCH + 3, at(3000), at(3001));
        assert!(!clock.is_steady());
        clock.observe(EPOCH + 3, at(3400), at(3401));
        assert!(!clock.is_steady());
        clock.observe(EPOCH + 4, at(3800), at(3801));
        assert!(clock.is_steady() && clock.is_synchronized(at(3801)));
        // Not for ever: clocks run apart.
        assert!(clock.is_synchronized(at(15_000)));
        assert!(!clock.is_synchronized(at(90_000)));
    }

    /// The promise itself, over every phase of the server's second and of the request, with a
    /// timer that now and then leaves the server two seconds behind.
    #[test]
    fn server_retains_longer_than_holder_counts() {
        for phase in (0..1000).step_by(37) {
            // True server time at local 0 is EPOCH seconds and `phase` ms.
            let truth = |local: u64| EPOCH * 1000 + local + phase;
            for (read_at, behind) in (0..2000).step_by(101).flat_map(|r| [(r, 0), (r, 1)]) {
                for trip in [0, 1, 400, 1900] {
                    let mut clock = ServerClock::new();
                    let second = truth(read_at) / 1000 - behind;
                    clock.observe(second, at(read_at), at(read_at + trip));
                    for wait in [0, 333, 999, 20_000] {
                        for length in [100, 1_000, 2_500, 10_000, 45_000] {
                            let sent = read_at + trip + wait;
                            let lease = lease(length);
                            let expiry = clock.expiry(lease, now(sent, 0)).expect("in range");
                            let kept = clock.retained_until(expiry, at(sent)).expect("was read");
                            let believed = lease.valid_until(at(sent)).min(kept);
                            // Dead as soon as the server's variable can show the expiry.
                            let dies = (expiry - EPOCH) * 1000 - phase;
                            assert!(at(dies) >= believed, "{phase} {read_at} {trip} {wait}");
                            // Belief is not cut short by more than what is not known better.
                            let unsure = trip + 10 + (wait + length) / 45 + 1000 * behind;
                            assert!(
                                believed.after(Duration::from_millis(unsure))
                                    >= lease.valid_until(at(sent)),
                                "{phase} {read_at} {trip} {wait} {length}"
                            );
                            // The server may be behind still when it stores the item.
                            let stored = EPOCH + (sent + phase) / 1000 - 2;
                            assert!(expiry - stored <= seconds_to_live(lease));
                            // And the name is not blocked for long behind a dead holder.
                            assert!(
                                dies <= sent + length + 4_500 + trip,
                                "{phase} {read_at} {trip}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn stall_at_first_reading_is_detected() {
        let mut clock = ServerClock::new();
        // The server says EPOCH although it is EPOCH + 4: an expiry built on that is too early.
        clock.observe(EPOCH, at(1000), at(1001));
        let expiry = clock.expiry(lease(5000), now(1001, 0)).expect("in range");
        clock.observe(EPOCH, at(1100), at(1101));
        assert_eq!(clock.corrections(), 0);
        clock.observe(EPOCH + 4, at(1200), at(1201));
        assert_eq!(clock.corrections(), 1);
        let kept = clock.retained_until(expiry, at(1201)).expect("was read");
        // True death: the server's clock was EPOCH + 4 at 1200 at the latest.
        assert!(kept <= at(1200 + 1000 * (expiry - EPOCH - 4)));
        assert!(kept < lease(5000).valid_until(at(1001)));
        // An expiry made now is certain for the whole lease.
        let expiry = clock.expiry(lease(5000), now(1300, 0)).expect("in range");
        let kept = clock.retained_until(expiry, at(1300)).expect("was read");
        assert!(kept >= lease(5000).valid_until(at(1300)));
    }

    /// A caller that asks again only after a correction misses none: whatever a server says, the
    /// time until which it retains an item never decreases without one.
    #[test]
    fn only_corrections_shorten_retention() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut corrected = 0;
        for _ in 0..2000 {
            let mut clock = ServerClock::new();
            let (mut time, mut lag) = (1000, 0);
            for _ in 0..20 {
                time += [1, 100, 400, 5000, 600_000][random(5) as usize] + random(100);
                lag = [lag, 0, 900, random(9000)][random(4) as usize];
                let (sent, received) = (at(time), at(time + random(300)));
                let second = EPOCH + time.saturating_sub(lag) / 1000;
                let kept = |clock: &ServerClock| clock.retained_until(EPOCH + 10_000, received);
                let (before, corrections) = (kept(&clock), clock.corrections());
                clock.observe(second, sent, received);
                let less = before.is_some() && kept(&clock) < before;
                let risen = clock.corrections() > corrections;
                assert!(risen || !less, "{before:?} {:?}", kept(&clock));
                corrected += u64::from(less);
            }
        }
        assert!(corrected > 100, "{corrected}");
    }

    #[test]
    fn stall_after_silence_is_no_drift() {
        let mut clock = ServerClock::new();
        clock.observe(EPOCH, at(0), at(1));
        clock.observe(EPOCH + 1, at(300), at(301));
        assert!(clock.is_steady());
        // Ten minutes later the server is stalled for five seconds.
        let truth = EPOCH + 601;
        clock.observe(truth - 5, at(600_300), at(600_301));
        let expiry = clock
            .expiry(lease(1000), now(600_301, 0))
            .expect("in range");
        // The expiry that would have been enough without the stall, plus the stall.
        assert!(expiry >= truth + 1 + 5, "{}", expiry - truth);
        let kept = clock.retained_until(expiry, at(600_301)).expect("was read");
        assert!(kept >= lease(1000).valid_until(at(600_301)));
    }

    #[test]
    fn only_agreeing_wall_clock_counts() {
        let mut clock = ServerClock::new();
        clock.observe(EPOCH, at(0), at(0));
        assert_eq!(clock.expiry(lease(1000), now(0, EPOCH + 4)), Ok(EPOCH + 8));
        assert_eq!(clock.expiry(lease(1000), now(0, EPOCH - 4)), Ok(EPOCH + 4));
        assert_eq!(clock.expiry(lease(1000), now(0, EPOCH + 6)), Ok(EPOCH + 4));
    }

    #[test]
    fn seconds_to_live_bound_the_expiry() {
        assert_eq!(seconds_to_live(lease(10_000)), 21);
        assert_eq!(seconds_to_live(lease(100)), 12);
        assert_eq!(seconds_to_live(lease(99_000)), 110);
        // Over a month as well, at a server whose clock is two seconds behind, with a wall clock
        // that just agrees.
        for days in [1, 30] {
            let lease = lease(days * 86_400_000);
            let mut clock = ServerClock::new();
            clock.observe(EPOCH, at(0), at(0));
            let expiry = clock.expiry(lease, now(999, EPOCH + 5)).expect("in range");
            assert!(expiry - (EPOCH - 2) <= seconds_to_live(lease), "{days}");
        }
    }

    #[test]
    fn clock_drift_widens_the_bounds() {
        let mut clock = ServerClock::new();
        clock.observe(EPOCH, at(0), at(0));
        assert_eq!(clock.expiry(lease(50_000), now(0, 0)), Ok(EPOCH + 53));
        assert_eq!(clock.expiry(lease(90_000), now(0, 0)), Ok(EPOCH + 93));
        assert_eq!(clock.expiry(lease(100_000), now(0, 0)), Ok(EPOCH + 104));
        assert_eq!(clock.expiry(lease(1_000), now(120_000, 0)), Ok(EPOCH + 125));
    }

    #[test]
    fn expiry_after_2038_is_refused() {
        let mut clock = ServerClock::new();
        assert_eq!(
            clock.expiry(lease(1000), now(0, 0)),
            Err(LeaseError::BeyondServerTime)
        );
        let last = LAST_SECOND;
        clock.observe(last - 4, at(0), at(0));
        assert_eq!(clock.expiry(lease(1000), now(0, 0)), Ok(last));
        assert_eq!(
            clock.expiry(lease(2000), now(0, 0)),
            Err(LeaseError::BeyondServerTime)
        );
    }

    #[test]
    fn server_second_lies_between_bounds() {
        for phase in 0..10 {
            let second_at = |local: u64| EPOCH + (local + phase * 100) / 1000;
            let mut clock = ServerClock::new();
            assert_eq!(clock.seconds_upper_bound(at(0)), None);
            clock.observe(second_at(1000), at(1000), at(1300));
            for later in (1300..9000).step_by(77) {
                let second = second_at(later);
                assert!(clock.seconds_lower_bound(at(later)) <= Some(second));
                assert!(clock.seconds_upper_bound(at(later)) >= Some(second));
                assert!(clock.seconds_upper_bound(at(later)) <= Some(second + 4));
            }
        }
    }

    #[test]
    fn clock_samples_grow_stale() {
        let mut clock = ServerClock::new();
        assert!(clock.is_stale(at(0)));
        clock.observe(EPOCH, at(0), at(0));
        assert!(!clock.is_stale(at(30_000)));
        assert!(clock.is_stale(at(30_001)));
    }
}
