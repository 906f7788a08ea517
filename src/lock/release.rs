//! Giving a lock back, and taking back an acquisition that was abandoned.

use super::grant::{Grant, Leftover};
use super::incarnation::{Incarnation, ServerView};
use super::items::{
    Compared, Failure, LockItem, push_read_lock, push_release, push_rest, read_compared, read_lock,
};
use super::lease::{Lease, MAX_LEASE, MIN_LEASE};
use super::loss::LossReason;
use super::moment::{Moment, Now};
use super::name::LockKeys;
use super::operation::{Interruption, Operation, Pause, Sealed, Step};
use super::proof::Proof;
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;

/// Between two attempts to reach a server that does not answer: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A request whose connection was closed may be carried out a little later than one on another
/// connection, and an abandoned acquisition may have been sent on several. So it is looked for
/// again, this much later each time.
const LATE: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(300)];

/// What came of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// The record is gone, by this request or, where its answer was lost, at the latest when we
    /// looked again.
    Yes,
    /// It was not ours any more.
    AlreadyLost(LossReason),
    /// The server did not do it; the record will expire.
    Failed(Failure),
}

/// Removes the record of one attempt, and only that.
///
/// The request names the CAS unique. Where that has changed, or is not known, a look at the lock
/// finds it beside the proof that the item is ours. Nothing is sent to another incarnation than the one that granted:
/// there, the same CAS unique may be somebody else's.
#[derive(Debug)]
pub struct Release<'a> {
    keys: &'a LockKeys,
    incarnation: Incarnation,
    proof: Proof,
    cas: Option<u64>,
    /// Until when the name stays taken, and by what.
    keep: Option<(&'a Grant, Moment)>,
    /// When to stop trying to reach the server.
    give_up: Moment,
    /// A release was sent and its answer lost.
    unanswered: bool,
    corrections: u8,
    /// How many of the looks for a late request are still to come.
    late_looks: usize,
    /// A record was removed on the way.
    removed: bool,
    /// How often in a row the server could not be reached.
    failures: u32,
}

impl<'a> Release<'a> {
    /// A release of `grant`, whose record has the CAS unique `cas` as far as is known.
    #[must_use]
    pub const fn new(keys: &'a LockKeys, grant: &Grant, cas: u64, give_up: Moment) -> Self {
        Self {
            keys,
            incarnation: grant.incarnation,
            proof: grant.proof,
            cas: Some(cas),
            keep: None,
            give_up,
            unanswered: false,
            corrections: 0,
            late_looks: 0,
            removed: false,
            failures: 0,
        }
    }

    /// A request was sent that may have replaced the record, and was not answered: that it is not
    /// there any more is no loss then.
    #[must_use]
    pub const fn behind_an_unanswered_request(mut self) -> Self {
        self.unanswered = true;
        self
    }

    /// Leaves the name taken until then, for all who look, though nobody believes in the lock any
    /// more: in place of the record of `grant` comes one whose lease is the time until then. Whoever
    /// has watched a record for the lease that it states may take it over, so a later expiry alone
    /// would not do.
    ///
    /// A grant without a record is released at once.
    #[must_use]
    pub const fn keeping(mut self, grant: &'a Grant, until: Moment) -> Self {
        self.keep = Some((grant, until));
        self
    }

    /// Takes back what an abandoned acquisition may have left.
    #[must_use]
    pub const fn of_leftover(keys: &'a LockKeys, leftover: &Leftover, give_up: Moment) -> Self {
        Self {
            keys,
            incarnation: leftover.incarnation,
            proof: leftover.proof,
            cas: None,
            keep: None,
            give_up,
            unanswered: false,
            corrections: 0,
            late_looks: LATE.len(),
            removed: false,
            failures: 0,
        }
    }

    /// For how long the name is to stay taken, if it is.
    fn rest(&self, now: Moment) -> Option<(&'a Grant, Lease)> {
        let (grant, until) = self.keep?;
        let rest = until.since(now);
        if rest.is_zero() {
            return None;
        }
        let lease = Lease::new(rest.clamp(MIN_LEASE, MAX_LEASE)).ok()?;
        Some((grant, lease))
    }

    /// The record is not there, or not ours.
    fn gone(&mut self, reason: LossReason, now: Moment) -> Step<Released> {
        if self.late_looks > 0 {
            let until = now.after(LATE[LATE.len() - self.late_looks]);
            self.late_looks -= 1;
            self.cas = None;
            if until <= self.give_up {
                return Step::Pause {
                    until,
                    why: Pause::LateRequest,
                };
            }
        }
        // Behind an unanswered release it does not matter whether that or the expiry did it.
        Step::Done(if self.unanswered || self.removed {
            Released::Yes
        } else {
            Released::AlreadyLost(reason)
        })
    }
}

impl Sealed for Release<'_> {}

impl Operation for Release<'_> {
    type Outcome = Released;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Released> {
        #[cfg(seeded_bugs)]
        let server = &crate::seeded::Bug::ReleaseOnAnotherRun.choose(
            ServerView {
                incarnation: self.incarnation,
                ..server.clone()
            },
            server.clone(),
        );
        if !server.incarnation.is_like(&self.incarnation) {
            return Err(Released::AlreadyLost(LossReason::ServerRestarted));
        }
        if !server.is_run(self.incarnation) {
            // The sentinel was founded anew, or another run only looks like this one: the proof
            // tells, and the CAS unique found beside it is one of this run.
            self.cas = None;
        }
        let dialect = server.capabilities.dialect;
        match (self.cas, self.rest(now.moment)) {
            (Some(cas), Some((grant, rest))) => {
                let expiry = server.clock.expiry(rest, now);
                let expiry = expiry.map_err(|error| Released::Failed(Failure::Lease(error)))?;
                match grant.record_for(rest) {
                    Some(record) => push_rest(flight, self.keys, record.as_bytes(), cas, expiry),
                    None => push_release(flight, dialect, self.keys, cas),
                }
            }
            (Some(cas), None) => push_release(flight, dialect, self.keys, cas),
            (None, _) => push_read_lock(flight, dialect, self.keys),
        }
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        _sent: Moment,
        received: Moment,
    ) -> Result<Step<Released>, DecodeError> {
        self.failures = 0;
        if self.cas.is_some() {
            return Ok(match read_compared(replies)? {
                Compared::Done => {
                    self.removed = true;
                    self.gone(LossReason::Released, received)
                }
                Compared::Missing => self.gone(LossReason::Vanished, received),
                Compared::Failed(failure) => Step::Done(Released::Failed(failure)),
                Compared::Other if self.corrections < 3 => {
                    self.corrections += 1;
                    self.cas = None;
                    Step::Send
                }
                Compared::Other => Step::Done(Released::Failed(Failure::ForgottenAtOnce)),
            });
        }
        Ok(match read_lock(replies, server.capabilities.dialect)? {
            Err(failure) => Step::Done(Released::Failed(failure)),
            Ok(LockItem::Free) => self.gone(LossReason::Vanished, received),
            Ok(LockItem::Held { value, cas, .. }) if self.proof.is_of(value, cas) => {
                self.cas = Some(cas);
                server.knows_as(self.incarnation.instance);
                Step::Send
            }
            Ok(LockItem::Held { .. }) => self.gone(LossReason::TakenOver, received),
        })
    }

    fn interrupted(&mut self, how: Interruption, now: Now) -> Step<Released> {
        if how == Interruption::Unanswered {
            self.unanswered |= self.cas.is_some();
            self.cas = None;
        }
        let (shortest, longest) = PAUSES;
        let pause = shortest.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures += 1;
        let until = now.moment.after(pause.min(longest));
        if until >= self.give_up {
            return Step::GiveUp {
                unknown: self.unanswered,
            };
        }
        Step::Pause {
            until,
            why: Pause::Unreachable,
        }
    }
}
