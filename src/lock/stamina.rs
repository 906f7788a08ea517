//! How long and how often an acquisition, or a wait for one, tries.

use super::backoff::Backoff;
use super::grant::{Patience, Request};
use super::lease::Lease;
use super::moment::Moment;
use super::operation::{Pause, Step};
use crate::wire::TimeLeft;
use core::time::Duration;

/// How many flights may follow each other without a pause. Founding a sentinel, raising a counter
/// and acquiring need about half as many together.
const BREATH: u8 = 24;

/// How many flights there may be behind the end of the caller's patience, to take back what stands
/// at the server. For who tries once, that is all of them.
const LATE: u8 = 24;

/// What an acquisition has left of its caller's patience, and of its own with a server.
#[derive(Debug)]
pub(super) struct Stamina {
    patience: Patience,
    /// How long a server may be silent.
    tolerance: Duration,
    backoff: Backoff,
    /// Flights since the last pause.
    flights: u8,
    /// Flights behind the end of all patience.
    late: u8,
    /// Since when the server has not answered, and how often it was tried.
    silent: Option<(Moment, u32)>,
}

impl Stamina {
    pub(super) const fn new(request: &Request<'_>, seed: u64) -> Self {
        Self::of(request.patience, request.tolerance, seed)
    }

    pub(super) const fn of(patience: Patience, tolerance: Duration, seed: u64) -> Self {
        Self {
            patience,
            tolerance,
            backoff: Backoff::new(seed),
            flights: 0,
            late: 0,
            silent: None,
        }
    }

    /// When the caller's patience ends, if it does.
    pub(super) const fn ends(&self, now: Moment) -> Option<Moment> {
        match self.patience {
            Patience::Once => Some(now),
            Patience::Until(end) => Some(end),
            Patience::Forever => None,
        }
    }

    /// Whether the caller's patience is over.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.ends(now).is_some_and(|end| end <= now)
    }

    /// Sleeps, but not beyond the caller's patience.
    pub(super) fn pause<T>(&self, now: Moment, length: Duration, why: Pause) -> Step<T> {
        let until = now.after(length);
        let end = self.ends(now).unwrap_or(until);
        Step::Pause {
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
        ripe: Option<Moment>,
        now: Moment,
    ) -> Step<T> {
        let lease = lease.map(Lease::duration);
        let mut sleep = self.backoff.after_look(holder, lease, left, now);
        // Where it was ripe before, taking it over has failed.
        if let Some(ripe) = ripe.filter(|ripe| *ripe > now) {
            sleep = sleep.min(ripe.since(now));
        }
        self.pause(now, sleep, Pause::Held)
    }

    /// The server has answered, and `step` is to follow. Whatever it answers, it is not asked at
    /// the speed of the network for ever, and nobody is kept beyond his patience by it. `unknown`
    /// says whether something may stand at the server.
    pub(super) fn answered<T>(&mut self, step: Step<T>, now: Moment, unknown: bool) -> Step<T> {
        self.silent = None;
        if matches!(step, Step::Send | Step::Pause { .. }) && self.is_over(now) {
            self.late += 1;
            if self.late > LATE {
                return Step::GiveUp { unknown };
            }
        }
        if !matches!(step, Step::Send) {
            self.flights = 0;
            return step;
        }
        self.flights += 1;
        if self.flights < BREATH {
            return step;
        }
        self.flights = 0;
        if self.is_over(now) {
            return Step::GiveUp { unknown };
        }
        let sleep = self.backoff.after_failure(0);
        self.pause(now, sleep, Pause::Held)
    }

    /// The server has not answered.
    pub(super) fn unanswered<T>(&mut self, now: Moment, unknown: bool) -> Step<T> {
        let (since, tries) = self.silent.unwrap_or((now, 0));
        self.silent = Some((since, tries + 1));
        let mut give_up = since.after(self.tolerance);
        if let Patience::Until(end) = self.patience {
            give_up = give_up.min(end);
        }
        let until = now.after(self.backoff.after_failure(tries));
        self.late += u8::from(self.is_over(now));
        if until >= give_up || self.late > LATE {
            return Step::GiveUp { unknown };
        }
        Step::Pause {
            until,
            why: Pause::Unreachable,
        }
    }
}
