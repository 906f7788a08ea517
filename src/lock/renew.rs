//! Renewing a lock that is held.

use super::grant::Grant;
use super::incarnation::{Dialect, ServerView};
use super::items::{
    Compared, Failure, LockItem, push_lean_renewal, push_read_lock, push_renewal, read_compared,
    read_lock, read_memory,
};
use super::lease::Lease;
use super::loss::LossReason;
use super::moment::{Moment, Now};
use super::name::{LockKeys, Namespace};
use super::operation::{Interruption, Operation, Sealed, Step};
use super::proof::Proof;
use super::record::Record;
use crate::wire::{DecodeError, Flight, Replies};

/// How often a renewal is repeated because the record had another CAS unique than was thought:
/// each earlier one whose answer was lost may still be carried out.
const CORRECTIONS: u8 = 4;

/// What came of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// The lease runs anew.
    Yes {
        /// The CAS unique that the record has now.
        cas: u64,
        /// The expiry that the server was told.
        expiry: u64,
        /// The instant before the request was sent.
        sent: Moment,
        /// Until when the holder may believe in it.
        valid_until: Moment,
    },
    /// The lock is not ours any more.
    Lost(LossReason),
    /// The server did not do it; the lease runs on.
    Failed(Failure),
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
    /// What the flight under way would lead to.
    sent: Option<(Moment, u64)>,
    /// How often the CAS unique was corrected.
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
            sent: None,
            corrections: 0,
        }
    }
}

impl Sealed for Renew<'_> {}

impl Operation for Renew<'_> {
    type Outcome = Renewed;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Renewed> {
        #[cfg(seeded_bugs)]
        let server = &crate::seeded::Bug::RenewalOnAnotherRun.choose(
            ServerView {
                incarnation: self.grant.incarnation,
                ..server.clone()
            },
            server.clone(),
        );
        let granted = self.grant.incarnation;
        if !server.incarnation.is_like(&granted) {
            return Err(Renewed::Lost(LossReason::ServerRestarted));
        }
        if !server.is_run(granted) {
            // The sentinel was founded anew, or another run only looks like this one: the proof
            // tells, and the CAS unique found beside it is one of this run.
            push_read_lock(flight, server.capabilities.dialect, self.keys);
            return Ok(());
        }
        let expiry = server
            .clock
            .expiry(self.lease, now)
            .map_err(|error| Renewed::Failed(Failure::Lease(error)))?;
        let dialect = server.capabilities.dialect;
        match self.grant.proof {
            Proof::Nonce(_) => {
                // The meta dialect leaves the record as it is.
                let record = match dialect {
                    Dialect::Classic => self.grant.record(),
                    Dialect::Meta => None,
                };
                let record = record.as_ref().map_or(&b""[..], Record::as_bytes);
                let about = (self.namespace, self.keys);
                push_renewal(flight, dialect, about, record, self.cas, expiry);
            }
            Proof::Token(token) => {
                let cas = (self.cas, token.after(self.cas));
                push_lean_renewal(flight, dialect, self.keys, cas, expiry);
            }
        }
        self.sent = Some((now.moment, expiry));
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Renewed>, DecodeError> {
        let dialect = server.capabilities.dialect;
        if self.sent.is_none() {
            return Ok(match read_lock(replies, dialect)? {
                Err(failure) => Step::Done(Renewed::Failed(failure)),
                Ok(LockItem::Held { value, cas, .. }) if self.grant.proof.is_of(value, cas) => {
                    self.cas = cas;
                    server.knows_as(self.grant.incarnation.instance);
                    Step::Send
                }
                Ok(_) => Step::Done(Renewed::Lost(LossReason::ServerRestarted)),
            });
        }
        let compared = read_compared(replies)?;
        let item = read_lock(replies, dialect)?;
        // Only for the server's second. An absent sentinel is the next acquirer's business: our
        // record is proof that this lock was not forgotten.
        if matches!(self.grant.proof, Proof::Nonce(_)) {
            let _ = read_memory(replies, server, false, sent, received)?;
        }
        let Some((sent, expiry)) = self.sent.take() else {
            return Err(DecodeError::UnexpectedReply);
        };
        let (cas, ours) = match item {
            Err(failure) => return Ok(Step::Done(Renewed::Failed(failure))),
            Ok(LockItem::Free) => {
                return Ok(Step::Done(Renewed::Lost(LossReason::Vanished)));
            }
            Ok(LockItem::Held { value, cas, .. }) => (cas, self.grant.proof.is_of(value, cas)),
        };
        if !ours {
            return Ok(Step::Done(Renewed::Lost(LossReason::TakenOver)));
        }
        #[cfg(seeded_bugs)]
        if crate::seeded::Bug::LostAnswerIsLoss.planted() && compared == Compared::Other {
            return Ok(Step::Done(Renewed::Lost(LossReason::TakenOver)));
        }
        #[cfg(seeded_bugs)]
        let sent = crate::seeded::Bug::RenewedLeaseFromReply.choose(received, sent);
        Ok(match compared {
            Compared::Done => {
                let mut valid_until = self.lease.valid_until(sent);
                if let Some(kept) = server.clock.kept_until(expiry, received) {
                    valid_until = valid_until.min(kept);
                }
                Step::Done(Renewed::Yes {
                    cas,
                    expiry,
                    sent,
                    valid_until,
                })
            }
            Compared::Failed(failure) => Step::Done(Renewed::Failed(failure)),
            Compared::Other | Compared::Missing if self.corrections < CORRECTIONS => {
                self.corrections += 1;
                self.cas = cas;
                Step::Send
            }
            Compared::Other | Compared::Missing => {
                Step::Done(Renewed::Failed(Failure::ForgottenAtOnce))
            }
        })
    }

    fn interrupted(&mut self, how: Interruption, _now: Now) -> Step<Renewed> {
        // Whoever keeps the lock decides when to try again.
        Step::GiveUp {
            unknown: how == Interruption::Unanswered,
        }
    }
}
