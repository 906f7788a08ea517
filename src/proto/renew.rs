//! Renewing a lock that is held.

use super::failure::ServerError;
use super::grant::Grant;
use super::items::{CasOutcome, read_cas_outcome};
use super::lease::Lease;
use super::lock_item::{LockItem, push_get_lock, push_recordless_renewal, push_renewal, read_lock};
use super::loss::LossReason;
use super::memory_probe::read_memory;
use super::name::{LockKeys, Namespace};
use super::operation::{Action, FlightError, Operation, Sealed};
use super::owner_id::OwnerId;
use super::record::Record;
use super::server_instance::Protocol;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};

/// Number of times that a renewal is repeated because the record had another CAS unique than was
/// thought: each earlier one whose answer was lost may still be carried out.
const MAX_CORRECTIONS: u8 = 4;

/// The outcome of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewOutcome {
    /// The lease runs anew.
    Renewed {
        /// The CAS unique that the record has now.
        cas: u64,
        /// The expiry that the server received.
        expiry: u64,
        /// The instant before the request was sent.
        sent: Instant,
        /// The instant until which the holder may rely on it.
        valid_until: Instant,
    },
    /// The lock is not ours any more.
    Lost(LossReason),
    /// The server did not do it; the lease runs on.
    Failed(ServerError),
}

/// Renews a lease.
///
/// The request names the CAS unique, so it never touches a record of another; a look at the lock
/// goes with it, because an answer of "changed" may only mean that an earlier renewal was carried
/// out and its answer lost. Then the record still bears our nonce, and the renewal is repeated
/// with the CAS unique found (or, without a record, one of our tokens as the CAS unique). Nothing is sent to another incarnation than the one that granted.
#[derive(Debug)]
pub struct Renew<'a> {
    namespace: &'a Namespace,
    keys: &'a LockKeys,
    grant: &'a Grant,
    lease: Lease,
    cas: u64,
    /// The outcome of the flight under way if it succeeds.
    sent_at: Option<(Instant, u64)>,
    /// Number of times that the CAS unique was corrected.
    corrections: u8,
}

impl<'a> Renew<'a> {
    /// A renewal of `grant`, whose record has the CAS unique `cas` as far as is known.
    #[must_use]
    pub const fn new(
        namespace: &'a Namespace,
        keys: &'a LockKeys,
        grant: &'a Grant,
        lease: Lease,
        cas: u64,
    ) -> Self {
        Self {
            namespace,
            keys,
            grant,
            lease,
            cas,
            sent_at: None,
            corrections: 0,
        }
    }
}

impl Sealed for Renew<'_> {}

impl Operation for Renew<'_> {
    type Outcome = RenewOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), RenewOutcome> {
        let granted = self.grant.instance;
        if !server.instance.is_same_process(&granted) {
            return Err(RenewOutcome::Lost(LossReason::ServerRestarted));
        }
        if !server.is_instance(granted) {
            // The sentinel was created anew, or a different instance only looks like this one: the
            // proof decides, and the CAS unique found beside it is one of this instance.
            push_get_lock(flight, server.capabilities.protocol, self.keys);
            return Ok(());
        }
        let expiry = server
            .clock
            .expiry(self.lease, now)
            .map_err(|error| RenewOutcome::Failed(ServerError::Lease(error)))?;
        let protocol = server.capabilities.protocol;
        match self.grant.owner_id {
            OwnerId::Nonce(_) => {
                // The meta protocol leaves the record as it is.
                let record = match protocol {
                    Protocol::Classic => self.grant.record(),
                    Protocol::Meta => None,
                };
                let record = record.as_ref().map_or(&b""[..], Record::as_bytes);
                let about = (self.namespace, self.keys);
                push_renewal(flight, protocol, about, record, self.cas, expiry);
            }
            OwnerId::Cas(token) => {
                let cas = (self.cas, token.after(self.cas));
                push_recordless_renewal(flight, protocol, self.keys, cas, expiry);
            }
        }
        self.sent_at = Some((now.monotonic, expiry));
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<RenewOutcome>, DecodeError> {
        let protocol = server.capabilities.protocol;
        if self.sent_at.is_none() {
            return Ok(match read_lock(replies, protocol)? {
                Err(failure) => Action::Done(RenewOutcome::Failed(failure)),
                Ok(LockItem::Held { value, cas, .. })
                    if self.grant.owner_id.matches(value, cas) =>
                {
                    self.cas = cas;
                    server.knows_as(self.grant.instance.word);
                    Action::Transmit
                }
                Ok(_) => Action::Done(RenewOutcome::Lost(LossReason::ServerRestarted)),
            });
        }
        let compared = read_cas_outcome(replies)?;
        let item = read_lock(replies, protocol)?;
        // Only for the server's second. An absent sentinel is the next acquirer's business: our
        // record is proof that this lock was not forgotten.
        if matches!(self.grant.owner_id, OwnerId::Nonce(_)) {
            let _ = read_memory(replies, server, false, sent, received)?;
        }
        let Some((sent, expiry)) = self.sent_at.take() else {
            return Err(DecodeError::UnexpectedReply);
        };
        let (cas, ours) = match item {
            Err(failure) => return Ok(Action::Done(RenewOutcome::Failed(failure))),
            Ok(LockItem::Free) => {
                return Ok(Action::Done(RenewOutcome::Lost(LossReason::Missing)));
            }
            Ok(LockItem::Held { value, cas, .. }) => (cas, self.grant.owner_id.matches(value, cas)),
        };
        if !ours {
            return Ok(Action::Done(RenewOutcome::Lost(LossReason::TakenOver)));
        }
        Ok(match compared {
            CasOutcome::Done => {
                let mut valid_until = self.lease.valid_until(sent);
                if let Some(kept) = server.clock.retained_until(expiry, received) {
                    valid_until = valid_until.min(kept);
                }
                Action::Done(RenewOutcome::Renewed {
                    cas,
                    expiry,
                    sent,
                    valid_until,
                })
            }
            CasOutcome::Failed(failure) => Action::Done(RenewOutcome::Failed(failure)),
            CasOutcome::Mismatch | CasOutcome::NotFound if self.corrections < MAX_CORRECTIONS => {
                self.corrections += 1;
                self.cas = cas;
                Action::Transmit
            }
            CasOutcome::Mismatch | CasOutcome::NotFound => {
                Action::Done(RenewOutcome::Failed(ServerError::DropsItems))
            }
        })
    }

    fn handle_failure(&mut self, how: FlightError, _now: Now) -> Action<RenewOutcome> {
        // The renewer decides when to try again.
        Action::Fail {
            unknown: how == FlightError::NoReply,
        }
    }
}
