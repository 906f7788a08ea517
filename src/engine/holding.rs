//! What is asked of a lock while it is held, in both fronts.

use super::config::ConfigError;
use super::error::{Cause, LockError};
use super::holder::Holder;
use super::lock_state::{LockState, RenewError};
use super::node::{ConnectError, Node};
use crate::net::NetError;
use crate::proto::{
    Grant, HolderRecord, Instant, LockKeys, LockTicket, LossReason, Namespace, RenewOutcome,
    SessionId, VerifyOutcome,
};
use crate::wire::TimeLeft;
use core::time::Duration;
use std::sync::Arc;

impl LockState {
    /// What it consists of.
    pub(crate) fn parts(&self, namespace: &Namespace, lost: Option<LossReason>) -> LockTicket {
        let (cas, expiry) = {
            let state = self.state();
            (state.cas, state.expiry)
        };
        LockTicket::new(namespace, &self.name, &self.grant, cas, expiry).lost_before(lost)
    }

    /// The error of a lock that is not held any more.
    pub(crate) fn lost(&self, reason: LossReason) -> LockError {
        LockError::new(Cause::Lost(reason)).about(&self.name)
    }

    /// Checks that it is not over: then there is nothing to ask the server.
    pub(crate) fn check_held(&self, now: Instant) -> Result<(), LockError> {
        match self.loss(now) {
            Some(reason) => Err(self.lost(reason)),
            None => Ok(()),
        }
    }
}

impl<C, L: AsRef<LockState>> Node<C, L> {
    /// Checks whether the lock that these are parts of can be held by this client. Its keys.
    pub(crate) fn check_parts(&self, parts: &LockTicket) -> Result<LockKeys, LockError> {
        let about = |cause| LockError::new(cause).about(parts.name());
        self.check_process()?;
        if self.scheduler.is_closed() {
            return Err(about(Cause::Closed));
        }
        let prefix = self.config.namespace.prefix();
        if parts.prefix() != prefix {
            let (parts, client) = (parts.prefix().into(), prefix.into());
            return Err(about(Cause::Setting(ConfigError::Prefix { parts, client })));
        }
        if let Some(reason) = parts.lost() {
            return Err(self.error(Cause::Lost(reason)).about(parts.name()));
        }
        self.keys(parts.name())
    }

    /// What the first renewal of a lock has shown that came in parts, as `grant`: it is held, or why
    /// not.
    pub(crate) fn attach(
        &self,
        parts: &LockTicket,
        keys: LockKeys,
        grant: Grant,
        renewed: RenewOutcome,
    ) -> Result<LockState, LockError> {
        let cause = match renewed {
            RenewOutcome::Renewed {
                cas,
                expiry,
                sent,
                valid_until,
            } => {
                let grant = Grant {
                    cas,
                    expiry,
                    sent_at: sent,
                    valid_until,
                    ..grant
                };
                let chronicle = Arc::clone(&self.telemetry);
                let name = parts.name().into();
                return Ok(LockState::new(name, keys, grant.lease, grant, chronicle));
            }
            RenewOutcome::Lost(reason) => Cause::Lost(reason),
            RenewOutcome::Failed(failure) => Cause::Server(failure),
        };
        Err(self.error(cause).about(parts.name()))
    }

    /// Makes the renewal of a lock due at once, for the keeper, which must be woken. Returns what
    /// [`renewed_since`](Self::renewed_since) wants to know.
    ///
    /// The keeper does it, so that whoever asked may go away at any time: a renewal that is begun
    /// must be ended, because releases wait for that.
    pub(crate) fn request_renewal(&self, index: usize, lock: &Arc<L>) -> u64 {
        let before = (**lock).as_ref().state().renewals;
        self.scheduler.renew_now(index, lock);
        before
    }

    /// What came of the renewal that was asked for, or was under way then: what remains now, or
    /// why it came to nothing. `None` when that is not known yet.
    pub(crate) fn renewed_since(
        &self,
        held: &LockState,
        before: u64,
        now: Instant,
    ) -> Option<Result<Duration, LockError>> {
        if let Err(error) = held.check_held(now) {
            return Some(Err(error));
        }
        let state = held.state();
        if state.renewals == before {
            // Nobody renews it any more.
            let closed = self.scheduler.is_closed();
            return closed.then(|| Err(LockError::new(Cause::Closed).about(&held.name)));
        }
        let Some(trouble) = state.renew_error.as_deref() else {
            return Some(match state.renewal_unanswered {
                false => Ok(held.remaining(now)),
                true => Err(self.given_up(true, None).about(&held.name)),
            });
        };
        let cause = match trouble {
            RenewError::Rejected(failure) => Cause::Server(failure.clone()),
            RenewError::Unreachable(ConnectError::Rejected(failure)) => {
                Cause::Server(failure.clone())
            }
            RenewError::Unreachable(ConnectError::Net(error)) => {
                let again = NetError {
                    sent: error.sent,
                    cause: error.cause.again(),
                };
                match error.sent {
                    true => Cause::Unknown(again),
                    false => Cause::Unavailable(again),
                }
            }
        };
        Some(Err(self.error(cause).about(&held.name)))
    }

    /// The holder of a lock that is held, as others see it. Asks nobody.
    pub(crate) fn holder_of(&self, held: &LockState, now: Instant) -> Holder {
        let grant = &held.grant;
        let (cas, expiry) = {
            let state = held.state();
            (state.cas, state.expiry)
        };
        let second = self
            .with_server(grant.instance, |view| view.clock.seconds_lower_bound(now))
            .flatten();
        let left = second.map(|second| expiry.saturating_sub(second));
        let left = left.and_then(|left| u32::try_from(left).ok());
        let record = grant.record();
        let record = record.and_then(|record| HolderRecord::parse(record.as_bytes()));
        Holder {
            last_fencing_token: grant.token,
            cas_unique: cas,
            session: SessionId::from_owner_id(grant.owner_id),
            ..Holder::seen(record, left.map(TimeLeft::Seconds), second)
        }
    }

    /// What a look at a lock that is held has found, to the user. Ends the lock if it is lost;
    /// whoever waits for news of it is to be told then.
    pub(crate) fn verified(
        &self,
        held: &LockState,
        verified: VerifyOutcome,
        now: Instant,
    ) -> Result<(), LockError> {
        match verified {
            // The time may have run out while the answer was on its way.
            VerifyOutcome::Held => held.check_held(now),
            VerifyOutcome::Lost(reason) => {
                held.end(reason);
                // It may have ended for another reason before, and that one counts.
                Err(held.lost(held.loss(now).unwrap_or(reason)))
            }
            VerifyOutcome::Failed(failure) => {
                Err(self.error(Cause::Server(failure)).about(&held.name))
            }
        }
    }
}
