//! One attempt to acquire: what is sent, and what is known of it.

use super::failure::ServerError;
use super::grant::{AcquireRequest, Grant, GrantKind, OrphanedAttempt};
use super::lock_item::push_attempt;
use super::memory::UPTIME_AHEAD;
use super::owner_id::OwnerId;
use super::record::{Nonce, Record, is_ours};
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::time::{Instant, Now};

use crate::wire::Flight;

const NANOS: u64 = 1_000_000_000;

/// One attempt: a nonce and what was sent with it.
#[derive(Debug, Clone)]
pub(super) struct RecordAttempt {
    pub(super) nonce: Nonce,
    pub(super) instance: ServerInstance,
    /// The CAS unique of the record that it replaces, and how that came about; `None` for one that
    /// stores a record where there is none.
    replaces: Option<(u64, GrantKind)>,
    /// The server's second when it was made.
    acquired_at: u64,
    expiry: u64,
    /// The first time it was sent; repeating it does not prolong the lease.
    pub(super) sent_at: Instant,
    /// The record may stand at the server.
    pub(super) outstanding: bool,
    /// The same, before the flight that is under way.
    was_outstanding: bool,
    /// It was sent and not answered at least once, and may be carried out late.
    may_be_replayed: bool,
    /// The flight under way asks for the counters as well.
    pub(super) evidence: bool,
}

impl RecordAttempt {
    /// An attempt to be sent at `now`, to this server.
    pub(super) fn new(
        nonce: Nonce,
        over: Option<(u64, GrantKind)>,
        request: &AcquireRequest<'_>,
        server: &ServerState,
        now: Now,
    ) -> Result<Self, ServerError> {
        let expiry = server.clock.expiry(request.lease, now);
        Ok(Self {
            nonce,
            instance: server.instance,
            replaces: over,
            acquired_at: server.clock.seconds_lower_bound(now.monotonic).unwrap_or(0),
            expiry: expiry.map_err(ServerError::Lease)?,
            sent_at: now.monotonic,
            outstanding: false,
            was_outstanding: false,
            may_be_replayed: false,
            evidence: false,
        })
    }

    /// Returns `true` if repeating it may still lead to a lock that is held.
    pub(super) fn is_alive(
        &self,
        request: &AcquireRequest<'_>,
        server: &ServerState,
        now: Instant,
    ) -> bool {
        // It was never sent to a different instance, and never will be.
        server.is_instance(self.instance) && now < request.lease.valid_until(self.sent_at)
    }

    /// Returns `true` if this is its record.
    pub(super) fn is_on(&self, value: &[u8]) -> bool {
        is_ours(value, self.nonce)
    }

    /// Writes it.
    pub(super) fn push(
        &mut self,
        request: &AcquireRequest<'_>,
        server: &ServerState,
        now: Instant,
        flight: &mut Flight,
    ) {
        self.was_outstanding = self.outstanding;
        // From here on it may reach the server; that it was not sent is the exception.
        self.outstanding = true;
        let seed = request.fencing.then(|| {
            // Above every token that the run before this one can have given out.
            let started = (server.instance.started + UPTIME_AHEAD) * NANOS + 1;
            let present = server.clock.nanos_at_least(now).unwrap_or(0);
            present.max(started)
        });
        self.evidence = request.min_memory.is_some_and(|longest| {
            let longest = longest.max(request.lease);
            server.memory.needs_evidence(self.acquired_at, longest)
        });
        let lease = request.lease.duration();
        let mut record = Record::empty();
        record.lay_out(self.nonce, lease, self.acquired_at, request.owner);
        push_attempt(
            flight,
            server.capabilities.protocol,
            (request.namespace, request.keys),
            (record.as_bytes(), self.replaces.map(|(cas, _)| cas)),
            self.expiry,
            (seed, self.evidence),
        );
    }

    /// Not a byte of what was written last was sent.
    pub(super) const fn not_sent(&mut self) {
        self.outstanding = self.was_outstanding;
    }

    /// The last attempt written was sent, and not answered.
    pub(super) const fn no_reply(&mut self) {
        self.may_be_replayed = true;
    }

    /// The grant, if its record is found with this CAS unique.
    pub(super) fn grant(&self, request: &AcquireRequest<'_>, cas: u64) -> Grant {
        Grant {
            instance: self.instance,
            owner_id: OwnerId::Nonce(self.nonce),
            owner: request.owner.clone(),
            lease: request.lease,
            acquired_at: self.acquired_at,
            cas,
            token: None,
            expiry: self.expiry,
            sent_at: self.sent_at,
            may_be_replayed: self.may_be_replayed,
            valid_until: request.lease.valid_until(self.sent_at),
            kind: self.replaces.map_or(GrantKind::Free, |(_, origin)| origin),
        }
    }

    /// The attempt that the caller should undo if it gives up now.
    pub(super) fn orphan(&self, request: &AcquireRequest<'_>) -> Option<OrphanedAttempt> {
        self.outstanding.then(|| OrphanedAttempt {
            instance: self.instance,
            owner_id: OwnerId::Nonce(self.nonce),
            expires_at: request.lease.valid_until(self.sent_at),
        })
    }
}
