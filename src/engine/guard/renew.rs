//! A renewal at the request of the caller. The renewer does it.

use super::Guard;
use crate::engine::client::Transport;
use crate::engine::connect_error::ConnectError;
use crate::engine::error::{Cause, LockError};
use crate::engine::lock_state::{LockState, RenewError};
use crate::engine::node::Node;
use crate::net::NetError;
use crate::proto::Instant;
use core::time::Duration;
use std::sync::Arc;

impl<T: Transport> Guard<T> {
    /// Renews the lock now.
    pub(crate) async fn renew(&self) -> Result<Duration, LockError> {
        let requested = self.request_renewal()?;
        self.renewed(requested).await
    }

    /// Requests a renewal from the renewer, unless it would not make the lock last longer. Returns
    /// the number of renewals before.
    pub(crate) fn request_renewal(&self) -> Result<Option<u64>, LockError> {
        self.check_held()?;
        if self.lock.is_final() {
            return Ok(None);
        }
        let node = &self.client().node;
        Ok(Some(node.request_renewal(self.index, &self.lock)))
    }

    /// Waits for the renewal that was requested.
    pub(crate) async fn renewed(&self, requested: Option<u64>) -> Result<Duration, LockError> {
        let Some(before) = requested else {
            return Ok(self.remaining());
        };
        let node = &self.client().node;
        let renewed = self.wait(None, |now| {
            let renewed = node.renewed_since(&self.lock, before, now);
            renewed.ok_or_else(|| self.lock.valid_until())
        });
        // A wait without a time limit ends with a result.
        renewed.await.unwrap_or_else(|| Ok(self.remaining()))
    }
}

impl<C> Node<C> {
    /// Makes the renewal of a lock due at once, for the renewer, which must be woken. Returns the
    /// argument of [`renewed_since`](Self::renewed_since).
    ///
    /// The renewer does it, so that the caller may be dropped at any time: a renewal that has begun
    /// must end, because releases wait for that.
    pub(crate) fn request_renewal(&self, index: usize, lock: &Arc<LockState>) -> u64 {
        let before = lock.state().renewals;
        self.scheduler.renew_now(index, lock);
        self.wake.notify();
        before
    }

    /// Returns the outcome of the renewal that was requested, or was under way then: the time that
    /// remains now, or the reason for the failure. `None` while it is not known.
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
            // No task renews it any more.
            let closed = self.scheduler.is_closed();
            return closed.then(|| Err(LockError::new(Cause::Closed).with_name(&held.name)));
        }
        let Some(trouble) = state.renew_error.as_deref() else {
            return Some(Ok(held.remaining(now)));
        };
        let cause = match trouble {
            RenewError::NoReply => {
                return Some(Err(self.no_reply_error(true, None).with_name(&held.name)));
            }
            RenewError::Rejected(failure) => Cause::Server(failure.clone()),
            RenewError::Unreachable(ConnectError::Rejected(failure)) => {
                Cause::Server(failure.clone())
            }
            RenewError::Unreachable(ConnectError::Net(error)) => {
                let again = NetError {
                    sent: error.sent,
                    cause: error.cause.duplicate(),
                };
                if error.sent {
                    Cause::Unknown(again)
                } else {
                    Cause::Unavailable(again)
                }
            }
        };
        Some(Err(self.error(cause).with_name(&held.name)))
    }
}
