//! What is asked for when a lock is to be acquired, and what may come of it.

use super::incarnation::Incarnation;
use super::items::Failure;
use super::lease::Lease;
use super::moment::Moment;
use super::name::{LockKeys, Namespace};
use super::proof::{Proof, ShownCas};
use super::record::{HolderRecord, Owner, Record};
use crate::wire::TimeLeft;
use core::fmt;
use core::time::Duration;

/// How long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Once.
    Once,
    /// Until this instant.
    Until(Moment),
    /// For ever.
    Forever,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The prefix, for its sentinel.
    pub namespace: &'a Namespace,
    /// The lock.
    pub keys: &'a LockKeys,
    /// Who asks.
    pub owner: &'a Owner,
    /// For how long.
    pub lease: Lease,
    /// Whether a fencing token is drawn.
    pub fencing: bool,
    /// Whether the lock is held without a record and without a token, where the server can do
    /// that (memcached 1.6.27 and later): one request and one answer, each of one line. It needs no
    /// memory of the server's then.
    pub lean: bool,
    /// Whether a refusal says who holds the lock, which takes two allocations.
    pub tell_holder: bool,
    /// The longest lease in use under the prefix, for which a server must have remembered
    /// everything before a lock is granted; `None` grants it anyway.
    pub memory: Option<Lease>,
    /// How long to try while others hold it.
    pub patience: Patience,
    /// How long to try while the server cannot be reached.
    pub tolerance: Duration,
}

/// How a lock came to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Nobody had it.
    Free,
    /// The holder before had not renewed it for longer than its lease.
    TakenOver,
    /// The holder before is in the same process, and [handed it on](super::Acquire::inherit).
    HandedOn,
    /// It came [in parts](super::LockParts).
    TakenUp,
}

/// A lock that is held, as the rules know it.
#[derive(Clone)]
pub struct Grant {
    /// The run of the server that granted it.
    pub incarnation: Incarnation,
    /// What shows that the item is ours.
    pub proof: Proof,
    /// Who holds it, as the record says.
    pub owner: Owner,
    /// For how long at a time.
    pub lease: Lease,
    /// The server's second at the acquisition, as the record says.
    pub since: u64,
    /// The CAS unique that renewal and release name.
    pub cas: u64,
    /// The fencing token, if one was asked for.
    pub token: Option<u64>,
    /// The expiry that the server was told.
    pub expiry: u64,
    /// The instant before the request was sent.
    pub sent: Moment,
    /// A request for it was sent and not answered: it may still be carried out, and be found
    /// behind the release.
    pub echoes: bool,
    /// Until when the holder may believe in it.
    pub valid_until: Moment,
    /// How it came to the holder.
    pub origin: Origin,
}

/// Without what it takes to release or renew it.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("incarnation", &self.incarnation)
            .field("owner", &self.owner)
            .field("lease", &self.lease)
            .field("since", &self.since)
            .field("cas", &ShownCas(self.cas))
            .field("token", &self.token)
            .field("expiry", &self.expiry)
            .field("sent", &self.sent)
            .field("valid_until", &self.valid_until)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// What may stand at the server behind the release, to be taken back.
    #[must_use]
    pub fn echo(&self) -> Option<Leftover> {
        self.echoes.then(|| Leftover {
            incarnation: self.incarnation,
            proof: self.proof,
            moot_after: self.lease.valid_until(self.sent),
        })
    }

    /// The record as stored; `None` when there is none, see [`Request::lean`].
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.record_for(self.lease)
    }

    /// The same with another lease.
    pub(super) fn record_for(&self, lease: Lease) -> Option<Record> {
        match self.proof {
            Proof::Nonce(nonce) => Some(Record::new(
                nonce,
                lease.duration(),
                self.since,
                &self.owner,
            )),
            Proof::Token(_) => None,
        }
    }
}

/// Who stood in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the record says, if that was asked for, it is one of ours and was still there.
    pub holder: Option<HolderRecord>,
    /// What the server said about its time.
    pub left: Option<TimeLeft>,
}

impl Refusal {
    pub(super) const NOBODY: Self = Self {
        holder: None,
        left: None,
    };
}

/// What came of an attempt to acquire.
#[derive(Debug, Clone)]
pub enum Acquired {
    /// It is held now.
    Granted(Grant),
    /// Somebody else holds it, and the patience was spent.
    Refused(Refusal),
    /// The server has not remembered everything for long enough, and the patience does not reach
    /// to when it will have.
    YoungMemory {
        /// How much longer it takes.
        lacking: Duration,
    },
    /// The server cannot serve it.
    Failed(Failure),
}

/// What may still stand at the server when an acquisition is abandoned.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// The run of the server it was sent to.
    pub incarnation: Incarnation,
    /// What shows that an item is what was left.
    pub proof: Proof,
    /// After this instant the record, should it exist, is about to expire by itself.
    pub moot_after: Moment,
}
