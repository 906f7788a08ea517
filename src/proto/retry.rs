//! Limits how long and how often an acquisition, or a wait for a free lock, tries.

use super::backoff::Backoff;
use super::grant::{AcquireRequest, WaitPolicy};
use super::lease::Lease;
use super::operation::{Action, SleepReason};
use super::time::Instant;
use crate::wire::TimeLeft;
use core::time::Duration;

/// Number of flights that may follow each other without a pause. Founding a sentinel, raising a counter
/// and acquiring need about half as many together.
const MAX_FLIGHTS_WITHOUT_PAUSE: u8 = 24;

/// Number of flights allowed after the caller's deadline, to undo changes on the server. For a
/// single attempt, that is all of them.
const MAX_FLIGHTS_AFTER_DEADLINE: u8 = 24;

/// Limits how long an acquisition waits for the holder and retries an unreachable server.
#[derive(Debug)]
pub(super) struct RetryPolicy {
    wait: WaitPolicy,
    /// The time for which a server may be silent.
    retry_timeout: Duration,
    backoff: Backoff,
    /// Flights since the last pause.
    flights: u8,
    /// Flights behind the end of all patience.
    late: u8,
    /// Since when the server has not answered, and how often it was tried.
    unreachable_since: Option<(Instant, u32)>,
}

impl RetryPolicy {
    pub(super) const fn new(request: &AcquireRequest<'_>, seed: u64) -> Self {
        Self::of(request.wait, request.retry_timeout, seed)
    }

    pub(super) const fn of(patience: WaitPolicy, tolerance: Duration, seed: u64) -> Self {
        Self {
            wait: patience,
            retry_timeout: tolerance,
            backoff: Backoff::new(seed),
            flights: 0,
            late: 0,
            unreachable_since: None,
        }
    }

    /// When the caller's patience ends, if it does.
    pub(super) const fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.wait {
            WaitPolicy::Try => Some(now),
            WaitPolicy::Until(end) => Some(end),
            WaitPolicy::Forever => None,
        }
    }

    /// Returns `true` if the caller's deadline has passed.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.deadline(now).is_some_and(|end| end <= now)
    }

    /// Sleeps, but not beyond the caller's patience.
    pub(super) fn pause<T>(&self, now: Instant, length: Duration, why: SleepReason) -> Action<T> {
        let until = now.after(length);
        let end = self.deadline(now).unwrap_or(until);
        Action::Sleep {
            until: until.min(end),
            why,
        }
    }

    /// Sleeps until the next look at a lock that is held by a holder with this mark, for so long,
    /// and can be taken over at `ripe` if it states a lease.
    pub(super) fn wait<T>(
        &mut self,
        holder: u64,
        lease: Option<Lease>,
        left: Option<TimeLeft>,
        ripe: Option<Instant>,
        now: Instant,
    ) -> Action<T> {
        let lease = lease.map(Lease::duration);
        let mut sleep = self.backoff.after_look(holder, lease, left, now);
        // If a takeover was due before, it has failed.
        if let Some(ripe) = ripe.filter(|ripe| *ripe > now) {
            sleep = sleep.min(ripe.since(now));
        }
        self.pause(now, sleep, SleepReason::Contended)
    }

    /// Records that the server has replied, and that `step` is to follow. Whatever the server
    /// replies, it is not asked at the speed of the network for ever, and no caller waits beyond
    /// its limit because of it. `unknown` says whether the server may have stored something.
    pub(super) fn replied<T>(&mut self, step: Action<T>, now: Instant, unknown: bool) -> Action<T> {
        self.unreachable_since = None;
        if matches!(step, Action::Transmit | Action::Sleep { .. }) && self.is_expired(now) {
            self.late += 1;
            if self.late > MAX_FLIGHTS_AFTER_DEADLINE {
                return Action::Fail { unknown };
            }
        }
        if !matches!(step, Action::Transmit) {
            self.flights = 0;
            return step;
        }
        self.flights += 1;
        if self.flights < MAX_FLIGHTS_WITHOUT_PAUSE {
            return step;
        }
        self.flights = 0;
        if self.is_expired(now) {
            return Action::Fail { unknown };
        }
        let sleep = self.backoff.after_failure(0);
        self.pause(now, sleep, SleepReason::Contended)
    }

    /// The server has not answered.
    pub(super) fn no_reply<T>(&mut self, now: Instant, unknown: bool) -> Action<T> {
        let (since, tries) = self.unreachable_since.unwrap_or((now, 0));
        self.unreachable_since = Some((since, tries + 1));
        let mut give_up = since.after(self.retry_timeout);
        if let WaitPolicy::Until(end) = self.wait {
            give_up = give_up.min(end);
        }
        let until = now.after(self.backoff.after_failure(tries));
        self.late += u8::from(self.is_expired(now));
        if until >= give_up || self.late > MAX_FLIGHTS_AFTER_DEADLINE {
            return Action::Fail { unknown };
        }
        Action::Sleep {
            until,
            why: SleepReason::Unreachable,
        }
    }
}
