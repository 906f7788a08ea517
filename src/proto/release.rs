//! Giving a lock back, and taking back an acquisition that was abandoned.

use super::failure::ServerError;
use super::grant::{Grant, OrphanedAttempt};
use super::items::{CasOutcome, read_cas_outcome};
use super::lease::{Lease, MAX_LEASE, MIN_LEASE};
use super::lock_item::{LockItem, push_get_lock, push_release, push_retained_record, read_lock};
use super::loss::LossReason;
use super::name::LockKeys;
use super::operation::{Action, FlightError, Operation, Sealed, SleepReason};
use super::owner_id::OwnerId;
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;

/// Between two attempts to reach a server that does not answer: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A request whose connection was closed may be carried out a little later than one on another
/// connection, and an abandoned acquisition may have been sent on several. So it is looked for
/// again, this much later each time.
const LATE_REQUEST_DELAYS: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(300)];

/// The outcome of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseStatus {
    /// The record is gone, by this request or, where its answer was lost, at the latest when we
    /// looked again.
    Released,
    /// It was not ours any more.
    AlreadyLost(LossReason),
    /// The server did not do it; the record will expire.
    Failed(ServerError),
}

/// Removes the record of one attempt, and only that.
///
/// The request names the CAS unique. If that has changed, or is not known, a look at the lock finds
/// it beside the proof that this client owns the item. Nothing is sent to a different instance than
/// the one that granted: there, the same CAS unique may be that of another client's item.
#[derive(Debug)]
pub struct Release<'a> {
    keys: &'a LockKeys,
    instance: ServerInstance,
    owner_id: OwnerId,
    cas: Option<u64>,
    /// The instant until which the name stays taken, and the record for it.
    retain_until: Option<(&'a Grant, Instant)>,
    /// When to stop trying to reach the server.
    deadline: Instant,
    /// A release was sent and its answer lost.
    unanswered: bool,
    corrections: u8,
    /// Number of the looks for a late request that are still to come.
    replay_checks: usize,
    /// A record was removed on the way.
    removed: bool,
    /// Number of times in a row that the server could not be reached.
    failures: u32,
}

impl<'a> Release<'a> {
    /// A release of `grant`, whose record has the CAS unique `cas` as far as is known.
    #[must_use]
    pub const fn new(keys: &'a LockKeys, grant: &Grant, cas: u64, give_up: Instant) -> Self {
        Self {
            keys,
            instance: grant.instance,
            owner_id: grant.owner_id,
            cas: Some(cas),
            retain_until: None,
            deadline: give_up,
            unanswered: false,
            corrections: 0,
            replay_checks: 0,
            removed: false,
            failures: 0,
        }
    }

    /// A request was sent that may have replaced the record, and was not answered: that it is not
    /// there any more is no loss then.
    #[must_use]
    pub const fn after_unanswered_request(mut self) -> Self {
        self.unanswered = true;
        self
    }

    /// Keeps the name held until then, for all clients that look, although its holder no longer
    /// considers the lock valid: a record whose lease is the time until then replaces the record of
    /// `grant`. A client that has watched a record for the lease that it states may take it over,
    /// so a later expiry alone would not do.
    ///
    /// A grant without a record is released immediately.
    #[must_use]
    pub const fn retaining_until(mut self, grant: &'a Grant, until: Instant) -> Self {
        self.retain_until = Some((grant, until));
        self
    }

    /// Takes back what an abandoned acquisition may have left.
    #[must_use]
    pub const fn for_orphan(
        keys: &'a LockKeys,
        leftover: &OrphanedAttempt,
        give_up: Instant,
    ) -> Self {
        Self {
            keys,
            instance: leftover.instance,
            owner_id: leftover.owner_id,
            cas: None,
            retain_until: None,
            deadline: give_up,
            unanswered: false,
            corrections: 0,
            replay_checks: LATE_REQUEST_DELAYS.len(),
            removed: false,
            failures: 0,
        }
    }

    /// For how long the name is to stay taken, if it is.
    fn remaining_retention(&self, now: Instant) -> Option<(&'a Grant, Lease)> {
        let (grant, until) = self.retain_until?;
        let rest = until.since(now);
        if rest.is_zero() {
            return None;
        }
        let lease = Lease::new(rest.clamp(MIN_LEASE, MAX_LEASE)).ok()?;
        Some((grant, lease))
    }

    /// The record is not there, or not ours.
    fn conclude(&mut self, reason: LossReason, now: Instant) -> Action<ReleaseStatus> {
        if self.replay_checks > 0 {
            let until =
                now.after(LATE_REQUEST_DELAYS[LATE_REQUEST_DELAYS.len() - self.replay_checks]);
            self.replay_checks -= 1;
            self.cas = None;
            if until <= self.deadline {
                return Action::Sleep {
                    until,
                    why: SleepReason::LateRequest,
                };
            }
        }
        // Behind an unanswered release it does not matter whether that or the expiry did it.
        Action::Done(if self.unanswered || self.removed {
            ReleaseStatus::Released
        } else {
            ReleaseStatus::AlreadyLost(reason)
        })
    }
}

impl Sealed for Release<'_> {}

impl Operation for Release<'_> {
    type Outcome = ReleaseStatus;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), ReleaseStatus> {
        if !server.instance.is_same_process(&self.instance) {
            return Err(ReleaseStatus::AlreadyLost(LossReason::ServerRestarted));
        }
        if !server.is_instance(self.instance) {
            // The sentinel was created anew, or a different instance only looks like this one: the
            // proof decides, and the CAS unique found beside it is one of this instance.
            self.cas = None;
        }
        let protocol = server.capabilities.protocol;
        match (self.cas, self.remaining_retention(now.monotonic)) {
            (Some(cas), Some((grant, rest))) => {
                let expiry = server.clock.expiry(rest, now);
                let expiry =
                    expiry.map_err(|error| ReleaseStatus::Failed(ServerError::Lease(error)))?;
                match grant.record_for(rest) {
                    Some(record) => {
                        push_retained_record(flight, self.keys, record.as_bytes(), cas, expiry);
                    }
                    None => push_release(flight, protocol, self.keys, cas),
                }
            }
            (Some(cas), None) => push_release(flight, protocol, self.keys, cas),
            (None, _) => push_get_lock(flight, protocol, self.keys),
        }
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        _sent: Instant,
        received: Instant,
    ) -> Result<Action<ReleaseStatus>, DecodeError> {
        self.failures = 0;
        if self.cas.is_some() {
            return Ok(match read_cas_outcome(replies)? {
                CasOutcome::Done => {
                    self.removed = true;
                    self.conclude(LossReason::Released, received)
                }
                CasOutcome::NotFound => self.conclude(LossReason::Missing, received),
                CasOutcome::Failed(failure) => Action::Done(ReleaseStatus::Failed(failure)),
                CasOutcome::Mismatch if self.corrections < 3 => {
                    self.corrections += 1;
                    self.cas = None;
                    Action::Transmit
                }
                CasOutcome::Mismatch => {
                    Action::Done(ReleaseStatus::Failed(ServerError::DropsItems))
                }
            });
        }
        Ok(match read_lock(replies, server.capabilities.protocol)? {
            Err(failure) => Action::Done(ReleaseStatus::Failed(failure)),
            Ok(LockItem::Free) => self.conclude(LossReason::Missing, received),
            Ok(LockItem::Held { value, cas, .. }) if self.owner_id.matches(value, cas) => {
                self.cas = Some(cas);
                server.knows_as(self.instance.word);
                Action::Transmit
            }
            Ok(LockItem::Held { .. }) => self.conclude(LossReason::TakenOver, received),
        })
    }

    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<ReleaseStatus> {
        if how == FlightError::NoReply {
            self.unanswered |= self.cas.is_some();
            self.cas = None;
        }
        let (shortest, longest) = PAUSES;
        let pause = shortest.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures += 1;
        let until = now.monotonic.after(pause.min(longest));
        if until >= self.deadline {
            return Action::Fail {
                unknown: self.unanswered,
            };
        }
        Action::Sleep {
            until,
            why: SleepReason::Unreachable,
        }
    }
}
