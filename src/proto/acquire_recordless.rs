//! Acquiring a lock without a record, by one request of one line.

use super::acquire_record::runs_out;
use super::failure::ServerError;
use super::grant::{AcquireOutcome, AcquireRequest, Contended, Grant, GrantKind, OrphanedAttempt};
use super::items::{CasOutcome, read_cas_outcome};
use super::lock_item::{push_recordless_attempt, push_release, read_recordless_attempt};
use super::operation::{Action, FlightError, Operation, Sealed};
use super::owner_id::{CasOwner, OwnerId, holder_fingerprint};
use super::record::Nonce;
use super::retry::RetryPolicy;
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies, TimeLeft};

/// Number of items of this client that are removed, because their reply came too late or an earlier
/// attempt left them, before the server counts as one on which nothing can be acquired.
const ROLLED_BACK: u8 = 8;

/// One attempt: a CAS unique and what was sent with it.
#[derive(Debug, Clone, Copy)]
struct CasAttempt {
    cas: u64,
    expiry: u64,
    instance: ServerInstance,
    /// The first time it was sent; repeating it does not prolong the lease.
    sent_at: Instant,
    /// An item of it may stand at the server.
    outstanding: bool,
    /// The same, before the flight that is under way.
    was_outstanding: bool,
    /// A request that names the CAS unique may still be carried out, so the next attempt gets
    /// another.
    may_be_replayed: bool,
}

/// Acquires a lock without a record.
///
/// `mg` creates an empty item with the CAS unique that the client chooses, if there is none, and
/// returns the CAS unique of the item: the lock is held if and only if that is the client's, so an
/// attempt whose reply was lost is repeated unchanged and recognised. A look at a lock that is held
/// and the attempt to acquire it are the same request.
#[derive(Debug)]
pub struct RecordlessAcquire<'a> {
    request: AcquireRequest<'a>,
    token: CasOwner,
    attempt: Option<CasAttempt>,
    /// The CAS unique of an item of this client that is being removed.
    rollback: Option<u64>,
    /// Number of items removed so far.
    rolled_back: u8,
    /// The instant by which the lock is free unless its holder renews it, by the last look.
    free_by: Option<Instant>,
    /// A flight has been written and nothing heard of it yet.
    prepared: bool,
    retry_policy: RetryPolicy,
}

impl<'a> RecordlessAcquire<'a> {
    /// An acquisition whose token comes from `nonce`.
    #[must_use]
    pub const fn new(request: AcquireRequest<'a>, nonce: Nonce) -> Self {
        Self {
            retry_policy: RetryPolicy::new(&request, nonce.seed()),
            request,
            token: CasOwner::new(nonce),
            attempt: None,
            rollback: None,
            rolled_back: 0,
            free_by: None,
            prepared: false,
        }
    }

    /// The attempt that the caller should undo if it gives up now.
    #[must_use]
    pub fn orphan(&self) -> Option<OrphanedAttempt> {
        let attempt = self
            .attempt
            .as_ref()
            .filter(|attempt| attempt.outstanding)?;
        Some(OrphanedAttempt {
            instance: attempt.instance,
            owner_id: OwnerId::Cas(self.token),
            expires_at: self.request.lease.valid_until(attempt.sent_at),
        })
    }

    /// See [`RecordAcquire::free_by`](super::RecordAcquire::free_by).
    #[must_use]
    pub const fn free_by(&self) -> Option<Instant> {
        self.free_by
    }

    /// The attempt to be sent: the one that is open, or a new one.
    fn attempt_for(&mut self, server: &ServerState, now: Now) -> Result<CasAttempt, ServerError> {
        let lease = self.request.lease;
        let open = self.attempt.filter(|attempt| {
            attempt.outstanding
                // It was never sent to a different instance, and never will be.
                && server.is_instance(attempt.instance)
                && now.monotonic < lease.valid_until(attempt.sent_at)
        });
        if let Some(attempt) = open {
            return Ok(attempt);
        }
        let cas = match self.attempt {
            None => self.token.first(),
            Some(attempt) if attempt.may_be_replayed => self.token.after(attempt.cas),
            Some(attempt) => attempt.cas,
        };
        Ok(CasAttempt {
            cas,
            expiry: server
                .clock
                .expiry(lease, now)
                .map_err(ServerError::Lease)?,
            instance: server.instance,
            sent_at: now.monotonic,
            outstanding: false,
            was_outstanding: false,
            may_be_replayed: false,
        })
    }

    fn roll_back(&mut self, cas: u64) -> Action<AcquireOutcome> {
        self.rolled_back += 1;
        if self.rolled_back > ROLLED_BACK {
            return Action::Done(AcquireOutcome::Failed(ServerError::DropsItems));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.may_be_replayed = true;
        }
        self.rollback = Some(cas);
        Action::Transmit
    }

    fn attempted(
        &mut self,
        server: &mut ServerState,
        (cas, left): (u64, Option<TimeLeft>),
        (sent, received): (Instant, Instant),
    ) -> Result<Action<AcquireOutcome>, DecodeError> {
        let Some(attempt) = &mut self.attempt else {
            return Err(DecodeError::UnexpectedReply);
        };
        if cas != attempt.cas {
            attempt.outstanding = false;
            if self.token.matches(cas) {
                // An earlier attempt was carried out late.
                return Ok(self.roll_back(cas));
            }
            if self.retry_policy.is_expired(received) {
                return Ok(Action::Done(AcquireOutcome::Contended(Contended {
                    holder: None,
                    free_in: left,
                })));
            }
            self.free_by = runs_out(left, received);
            let holder = holder_fingerprint(b"", cas);
            return Ok(self.retry_policy.wait(holder, None, left, None, received));
        }
        let attempt = *attempt;
        if let Some(TimeLeft::Seconds(left)) = left {
            // That much before the expiry, which we know.
            let second = attempt.expiry.saturating_sub(left.into());
            server.clock.observe(second, sent, received);
        }
        let mut valid_until = self.request.lease.valid_until(attempt.sent_at);
        if let Some(kept) = server.clock.retained_until(attempt.expiry, received) {
            valid_until = valid_until.min(kept);
        }
        if received >= valid_until {
            return Ok(self.roll_back(cas));
        }
        self.close_attempt();
        Ok(Action::Done(AcquireOutcome::Granted(Grant {
            instance: attempt.instance,
            owner_id: OwnerId::Cas(self.token),
            owner: self.request.owner.clone(),
            lease: self.request.lease,
            acquired_at: 0,
            cas,
            token: None,
            expiry: attempt.expiry,
            sent_at: attempt.sent_at,
            may_be_replayed: attempt.may_be_replayed,
            valid_until,
            kind: GrantKind::Free,
        })))
    }

    fn close_attempt(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.outstanding = false;
        }
    }
}

impl Sealed for RecordlessAcquire<'_> {}

impl Operation for RecordlessAcquire<'_> {
    type Outcome = AcquireOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), AcquireOutcome> {
        let protocol = server.capabilities.protocol;
        self.prepared = true;
        match self.rollback {
            // The item to remove ended with another server instance.
            Some(cas) if self.attempt.is_some_and(|a| server.is_instance(a.instance)) => {
                push_release(flight, protocol, self.request.keys, cas);
            }
            _ => {
                self.rollback = None;
                let mut attempt = self
                    .attempt_for(server, now)
                    .map_err(AcquireOutcome::Failed)?;
                attempt.was_outstanding = attempt.outstanding;
                // From here on it may reach the server; that it was not sent is the exception.
                attempt.outstanding = true;
                push_recordless_attempt(flight, self.request.keys, attempt.cas, attempt.expiry);
                self.attempt = Some(attempt);
            }
        }
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<AcquireOutcome>, DecodeError> {
        let step = if self.rollback.take().is_some() {
            match read_cas_outcome(replies)? {
                CasOutcome::Failed(failure) => Action::Done(AcquireOutcome::Failed(failure)),
                CasOutcome::Done | CasOutcome::Mismatch | CasOutcome::NotFound => {
                    self.close_attempt();
                    if self.retry_policy.is_expired(received) {
                        Action::Fail { unknown: false }
                    } else {
                        Action::Transmit
                    }
                }
            }
        } else {
            match read_recordless_attempt(replies)? {
                Ok(found) => self.attempted(server, found, (sent, received))?,
                Err(failure) => {
                    self.close_attempt();
                    Action::Done(AcquireOutcome::Failed(failure))
                }
            }
        };
        self.prepared = false;
        let unknown = self.orphan().is_some();
        Ok(self.retry_policy.replied(step, received, unknown))
    }

    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<AcquireOutcome> {
        let prepared = core::mem::take(&mut self.prepared);
        if let Some(attempt) = self.attempt.as_mut().filter(|_| self.rollback.is_none()) {
            match how {
                FlightError::NotSent if prepared => attempt.outstanding = attempt.was_outstanding,
                FlightError::NotSent => {}
                FlightError::NoReply => attempt.may_be_replayed = true,
            }
        }
        let unknown = self.orphan().is_some();
        self.retry_policy.no_reply(now.monotonic, unknown)
    }
}
