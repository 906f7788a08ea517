//! The request for a lock, and its outcome.

use super::failure::ServerError;
use super::lease::Lease;
use super::name::{LockKeys, Namespace};
use super::owner_id::{OwnerId, RedactedCas};
use super::record::{HolderRecord, Owner, Record};
use super::server_instance::ServerInstance;
use super::time::Instant;
use crate::wire::TimeLeft;
use core::fmt;
use core::time::Duration;

/// A limit on how long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Once.
    Try,
    /// Until this instant.
    Until(Instant),
    /// For ever.
    Forever,
}

/// A request for a lock.
#[derive(Debug, Clone)]
pub struct AcquireRequest<'a> {
    /// The prefix, for its sentinel.
    pub namespace: &'a Namespace,
    /// The lock.
    pub keys: &'a LockKeys,
    /// The owner that asks.
    pub owner: &'a Owner,
    /// For how long.
    pub lease: Lease,
    /// `true` if a fencing token is drawn.
    pub fencing: bool,
    /// `true` if the lock is held without a record and without a token, where the server can do
    /// that (memcached 1.6.27 and later): one request and one answer, each of one line. It needs no
    /// memory of the server's then.
    pub without_record: bool,
    /// `true` if a refusal names the holder of the lock, which takes two allocations.
    pub report_holder: bool,
    /// The longest lease in use under the prefix, for which a server must have remembered
    /// everything before a lock is granted; `None` grants it anyway.
    pub min_memory: Option<Lease>,
    /// The limit while others hold the lock.
    pub wait: WaitPolicy,
    /// The limit while the server cannot be reached.
    pub retry_timeout: Duration,
}

/// The way in which a lock came to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// The lock was free.
    Free,
    /// The holder before had not renewed it for longer than its lease.
    Takeover,
    /// The holder before is in the same process, and [handed it on](super::RecordAcquire::accept_handoff).
    Handoff,
    /// It came [in parts](super::LockTicket).
    Attached,
}

/// A lock that is held, as the rules know it.
#[derive(Clone)]
pub struct Grant {
    /// The server instance that granted it.
    pub instance: ServerInstance,
    /// The identity that shows that the item is ours.
    pub owner_id: OwnerId,
    /// The holder, as the record says.
    pub owner: Owner,
    /// For how long at a time.
    pub lease: Lease,
    /// The server's second at the acquisition, as the record says.
    pub acquired_at: u64,
    /// The CAS unique that renewal and release name.
    pub cas: u64,
    /// The fencing token, if one was asked for.
    pub token: Option<u64>,
    /// The expiry that the server received.
    pub expiry: u64,
    /// The instant before the request was sent.
    pub sent_at: Instant,
    /// A request for it was sent and not answered: it may still be carried out, and be found
    /// behind the release.
    pub may_be_replayed: bool,
    /// The instant until which the holder may rely on it.
    pub valid_until: Instant,
    /// The way in which it came to the holder.
    pub kind: GrantKind,
}

/// Without what it takes to release or renew it.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("instance", &self.instance)
            .field("owner", &self.owner)
            .field("lease", &self.lease)
            .field("acquired_at", &self.acquired_at)
            .field("cas", &RedactedCas(self.cas))
            .field("token", &self.token)
            .field("expiry", &self.expiry)
            .field("sent_at", &self.sent_at)
            .field("valid_until", &self.valid_until)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// The attempt that may still be stored after the release, to be undone.
    #[must_use]
    pub fn orphan(&self) -> Option<OrphanedAttempt> {
        self.may_be_replayed.then(|| OrphanedAttempt {
            instance: self.instance,
            owner_id: self.owner_id,
            expires_at: self.lease.valid_until(self.sent_at),
        })
    }

    /// The record as stored; `None` when there is none, see [`AcquireRequest::without_record`].
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.record_for(self.lease)
    }

    /// The same with another lease.
    pub(super) fn record_for(&self, lease: Lease) -> Option<Record> {
        match self.owner_id {
            OwnerId::Nonce(nonce) => Some(Record::new(
                nonce,
                lease.duration(),
                self.acquired_at,
                &self.owner,
            )),
            OwnerId::Cas(_) => None,
        }
    }
}

/// The holder that stood in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contended {
    /// The record, if that was requested, it is one of ours and was still there.
    pub holder: Option<HolderRecord>,
    /// The time that is left, as the server reports it.
    pub free_in: Option<TimeLeft>,
}

impl Contended {
    pub(super) const UNKNOWN: Self = Self {
        holder: None,
        free_in: None,
    };
}

/// The outcome of an attempt to acquire.
#[derive(Debug, Clone)]
pub enum AcquireOutcome {
    /// It is held now.
    Granted(Grant),
    /// Another client holds it, and the wait limit has passed.
    Contended(Contended),
    /// The server has not remembered everything for long enough, and the patience does not reach
    /// to when it will have.
    RestartGuard {
        /// The time that is still to be waited.
        retry_after: Duration,
    },
    /// The server cannot serve it.
    Failed(ServerError),
}

/// An attempt that may still be stored when an acquisition is abandoned.
#[derive(Debug, Clone)]
pub struct OrphanedAttempt {
    /// The server instance that received it.
    pub instance: ServerInstance,
    /// The identity that shows that an item is that attempt.
    pub owner_id: OwnerId,
    /// After this instant the record, should it exist, is about to expire by itself.
    pub expires_at: Instant,
}
