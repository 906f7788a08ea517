//! One attempt to acquire: what is sent, and what is known of it.

use super::grant::{Grant, Leftover, Origin, Request};
use super::incarnation::{Incarnation, ServerView};
use super::items::{Failure, push_attempt};
use super::memory::UPTIME_AHEAD;
use super::moment::{Moment, Now};
use super::proof::Proof;
use super::record::{Nonce, Record, is_ours};

use crate::wire::Flight;

const NANOS: u64 = 1_000_000_000;

/// One attempt: a nonce and what was sent with it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) nonce: Nonce,
    pub(super) incarnation: Incarnation,
    /// The CAS unique of the record that it replaces, and how that came about; `None` for one that
    /// stores a record where there is none.
    over: Option<(u64, Origin)>,
    /// The server's second when it was made.
    since: u64,
    expiry: u64,
    /// The first time it was sent; repeating it does not prolong the lease.
    pub(super) sent: Moment,
    /// The record may stand at the server.
    pub(super) open: bool,
    /// The same, before the flight that is under way.
    open_before: bool,
    /// It was sent and not answered at least once, and may be carried out late.
    echoes: bool,
    /// The flight under way asks for the counters as well.
    pub(super) evidence: bool,
}

impl Attempt {
    /// An attempt to be sent at `now`, to this server.
    pub(super) fn new(
        nonce: Nonce,
        over: Option<(u64, Origin)>,
        request: &Request<'_>,
        server: &ServerView,
        now: Now,
    ) -> Result<Self, Failure> {
        let expiry = server.clock.expiry(request.lease, now);
        Ok(Self {
            nonce,
            incarnation: server.incarnation,
            over,
            since: server.clock.second_at_least(now.moment).unwrap_or(0),
            expiry: expiry.map_err(Failure::Lease)?,
            sent: now.moment,
            open: false,
            open_before: false,
            echoes: false,
            evidence: false,
        })
    }

    /// Whether repeating it may still lead to a lock that is held.
    pub(super) fn is_alive(&self, request: &Request<'_>, server: &ServerView, now: Moment) -> bool {
        // To another incarnation it never went, and never will.
        server.is_run(self.incarnation) && now < request.lease.valid_until(self.sent)
    }

    /// Whether this is its record.
    pub(super) fn is_of(&self, value: &[u8]) -> bool {
        is_ours(value, self.nonce)
    }

    /// Writes it.
    pub(super) fn push(
        &mut self,
        request: &Request<'_>,
        server: &ServerView,
        now: Moment,
        flight: &mut Flight,
    ) {
        self.open_before = self.open;
        // From here on it may reach the server; that it was not sent is the exception.
        self.open = true;
        let seed = request.fencing.then(|| {
            // Above every token that the run before this one can have given out.
            let started = (server.incarnation.started + UPTIME_AHEAD) * NANOS + 1;
            let present = server.clock.nanos_at_least(now).unwrap_or(0);
            present.max(started)
        });
        self.evidence = request.memory.is_some_and(|longest| {
            let longest = longest.max(request.lease);
            server.memory.needs_evidence(self.since, longest)
        });
        let lease = request.lease.duration();
        let mut record = Record::empty();
        record.lay_out(self.nonce, lease, self.since, request.owner);
        push_attempt(
            flight,
            server.capabilities.dialect,
            (request.namespace, request.keys),
            (record.as_bytes(), self.over.map(|(cas, _)| cas)),
            self.expiry,
            (seed, self.evidence),
        );
    }

    /// Not a byte of what was written last was sent.
    pub(super) const fn not_sent(&mut self) {
        self.open = self.open_before;
    }

    /// What was written last was sent, and not answered.
    pub(super) const fn not_answered(&mut self) {
        self.echoes = true;
    }

    /// What it leads to when its record is found with this CAS unique.
    pub(super) fn grant(&self, request: &Request<'_>, cas: u64) -> Grant {
        Grant {
            incarnation: self.incarnation,
            proof: Proof::Nonce(self.nonce),
            owner: request.owner.clone(),
            lease: request.lease,
            since: self.since,
            cas,
            token: None,
            expiry: self.expiry,
            sent: self.sent,
            echoes: self.echoes,
            valid_until: request.lease.valid_until(self.sent),
            origin: self.over.map_or(Origin::Free, |(_, origin)| origin),
        }
    }

    /// What the caller should take back if it gives up now.
    pub(super) fn leftover(&self, request: &Request<'_>) -> Option<Leftover> {
        self.open.then(|| Leftover {
            incarnation: self.incarnation,
            proof: Proof::Nonce(self.nonce),
            moot_after: request.lease.valid_until(self.sent),
        })
    }
}
