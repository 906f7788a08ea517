//! The engine of a guard: loss, expiry, renewal, release and handoff of a held lock.

use super::client::{ClientHandle, ClientInner, Transport};
use super::clock;
use super::config_error::ConfigError;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::events::HoldEnd;
use super::holder::Holder;
use super::lock_state::{LockState, ReleaseOutcome, RenewError};
use super::node::Node;
use super::release::{EndedLock, RELEASE_LIMIT, release_deadline};
use super::scheduler::Scheduled;
use super::transport::Timeout;
use crate::net::NetError;
use crate::proto::{
    Grant, HolderRecord, InspectOutcome, Instant, LockKeys, LockTicket, LossReason, Namespace,
    Renew, RenewOutcome, SessionId, Verify, VerifyOutcome,
};
use crate::wire::TimeLeft;
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;

/// A held lock and its slot in the scheduler. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Guard<T: Transport> {
    pub(crate) handle: Arc<ClientHandle<T>>,
    pub(crate) lock: Arc<LockState>,
    pub(crate) index: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Held,
    /// The release has begun: a drop leaves the rest of it to the renewer.
    Releasing,
    /// The drop has nothing left to do.
    Ended,
}

impl<T: Transport> Guard<T> {
    /// Makes the guard of a lock that was acquired just now; returns the lock if the client was
    /// shut down.
    pub(crate) fn new(
        handle: &Arc<ClientHandle<T>>,
        lock: LockState,
    ) -> Result<Self, Box<LockState>> {
        let node = &handle.inner.node;
        let due = lock.due(lock.grant.sent_at);
        let Scheduled { lock, index, wake } = node.scheduler.insert(lock, due)?;
        if wake {
            node.wake.notify();
        }
        Ok(Self {
            handle: Arc::clone(handle),
            lock,
            index,
            phase: Phase::Held,
        })
    }

    pub(crate) fn client(&self) -> &Arc<ClientInner<T>> {
        &self.handle.inner
    }

    /// Returns how long the lock is certain without another renewal.
    pub(crate) fn remaining(&self) -> Duration {
        self.lock.remaining(clock::monotonic())
    }

    pub(crate) fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
        self.lock.ensure(wanted, clock::monotonic())
    }

    pub(crate) fn check_held(&self) -> Result<(), LockError> {
        self.lock.check_held(clock::monotonic())
    }

    pub(crate) fn holder(&self) -> Holder {
        let node = &self.client().node;
        node.holder_of(&self.lock, clock::monotonic())
    }

    /// Waits until the lock is lost, and until `until` at the latest.
    pub(crate) async fn lost(&self, until: Option<Instant>) -> Option<LossReason> {
        self.wait(until, |now| match self.lock.loss(now) {
            Some(reason) => Ok(reason),
            None => Err(self.lock.valid_until()),
        })
        .await
    }

    /// Waits until no more than `margin` remains, and until `until` at the latest. Returns the time
    /// that remains.
    pub(crate) async fn expiring(
        &self,
        margin: Duration,
        until: Option<Instant>,
    ) -> Option<Duration> {
        self.wait(until, |now| self.lock.expiring(margin, now))
            .await
    }

    /// Waits until `look` returns a value; its error is the instant of the next look.
    async fn wait<V>(
        &self,
        until: Option<Instant>,
        look: impl Fn(Instant) -> Result<V, Instant>,
    ) -> Option<V> {
        loop {
            let seen = self.lock.changed.generation();
            let now = clock::monotonic();
            let next = match look(now) {
                Ok(found) => return Some(found),
                Err(next) => next,
            };
            if until.is_some_and(|until| now >= until) {
                return None;
            }
            let next = until.map_or(next, |until| until.min(next));
            T::wait(&self.lock.changed, seen, Some(next)).await;
        }
    }

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

    /// Asks the server whether the lock is still held.
    pub(crate) async fn verify(&self) -> Result<(), LockError> {
        let now = clock::now();
        self.lock.check_held(now.monotonic)?;
        let (client, keys) = (self.client(), &self.lock.keys);
        let mut verify = Verify::new(keys, &self.lock.grant);
        let verified = client.drive(&mut verify, Some(keys), now, Timeout::Unlimited);
        let verified = verified.await;
        self.verified(verified.map_err(|error| error.with_name(&self.lock.name))?)
    }

    /// Applies the outcome of the request to the server.
    pub(crate) fn verified(&self, verified: VerifyOutcome) -> Result<(), LockError> {
        let client = self.client();
        let now = clock::monotonic();
        let result = client.node.verified(&self.lock, verified, now);
        if result.is_err() {
            client.notify_free(&self.lock);
            self.lock.changed.notify();
        }
        result
    }

    /// Ends the guard and keeps the lock, so that another process can attach it.
    pub(crate) fn detach(mut self) -> LockTicket {
        self.phase = Phase::Ended;
        let (lost, _) = self.end(clock::monotonic());
        self.lock.emit_end(HoldEnd::Detached);
        let client = self.client();
        client.notify_free(&self.lock);
        self.lock.ticket(&client.node.config.namespace, lost)
    }

    /// Makes a guard of a ticket, by a renewal.
    pub(crate) async fn attach(
        handle: &Arc<ClientHandle<T>>,
        ticket: &LockTicket,
    ) -> Result<Self, LockError> {
        let client = &handle.inner;
        let keys = client.node.check_ticket(ticket)?;
        handle.ensure_renewer()?;
        let now = clock::now();
        let grant = ticket.grant(now.monotonic);
        let namespace = &client.node.config.namespace;
        let mut renew = Renew::new(namespace, &keys, &grant, grant.lease, grant.cas);
        let renewed = client.drive(&mut renew, Some(&keys), now, Timeout::Unlimited);
        let renewed = renewed
            .await
            .map_err(|error| error.with_name(ticket.name()))?;
        let lock = client
            .node
            .attach(ticket, keys.clone(), grant.clone(), renewed)?;
        match Self::new(handle, lock) {
            Ok(guard) => {
                client.node.telemetry.attached(guard.lock.info());
                Ok(guard)
            }
            // The client was shut down while the reply was on its way. The lock belongs to the
            // ticket.
            Err(_) => Err(LockError::new(Cause::Closed).with_name(ticket.name())),
        }
    }

    /// Ends the guard. Returns the reason if the lock had ended before, and whether it was still in
    /// the scheduler: then nothing else releases it.
    fn end(&self, now: Instant) -> (Option<LossReason>, bool) {
        let loss = self.lock.end_by_release(now);
        let node = &self.client().node;
        let (kept, release_pending) = node.unschedule(self.index, &self.lock);
        if release_pending {
            node.wake.notify();
        }
        self.lock.changed.notify();
        (loss, kept)
    }

    /// Releases the lock, or hands it off to a waiter of this process.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the release to the renewer.
    pub(crate) async fn release(mut self) -> Result<ReleaseOutcome, LockError> {
        let now = clock::now();
        let client = Arc::clone(self.client());
        let limit = RELEASE_LIMIT.max(client.node.config.operation_timeout);
        let ended = self.begin_release(now.monotonic, now.monotonic.after(limit));
        let outcome = client.finish_release(&ended, now).await;
        self.phase = Phase::Ended;
        outcome
    }

    /// Ends the guard and hands the lock off, if a waiter of this process takes it over.
    pub(crate) fn begin_release(&mut self, now: Instant, limit: Instant) -> EndedLock {
        let deadline = release_deadline(self.lock.valid_until(), now).min(limit);
        let (loss, kept) = self.end(now);
        let client = self.client();
        let known = match loss {
            // The client was shut down, and this call took the lock out of the scheduler: nothing
            // else releases it.
            Some(LossReason::Released) if kept => None,
            Some(reason) => {
                client.notify_free(&self.lock);
                Some(ReleaseOutcome::AlreadyLost { reason })
            }
            None => None,
        };
        let handed_off = loss.is_none() && client.hand_off(&self.lock, now);
        self.phase = if handed_off || known.is_some() {
            Phase::Ended
        } else {
            Phase::Releasing
        };
        EndedLock {
            lock: Arc::clone(&self.lock),
            deadline,
            known,
            handed_off,
        }
    }

    /// Records that the rest of the release, if there was any, was done or left to the renewer.
    pub(crate) fn set_released(&mut self) {
        self.phase = Phase::Ended;
    }

    /// Sends the release without waiting for its reply.
    pub(crate) fn release_quietly(mut self) {
        let now = clock::now();
        self.phase = Phase::Ended;
        let (loss, _) = self.end(now.monotonic);
        let client = self.client();
        if loss.is_some() {
            client.notify_free(&self.lock);
        } else if client.hand_off(&self.lock, now.monotonic) {
        } else if client.can_release_quietly(&self.lock)
            && T::release_quietly(client, &self.lock, now)
        {
            self.lock.emit_end(HoldEnd::ReleasedQuietly);
            // The next request on the connection comes after the release.
            client.notify_free(&self.lock);
        } else {
            client.schedule_release(&self.lock);
        }
    }

    fn release_on_drop(&self) {
        let client = self.client();
        if self.phase == Phase::Releasing {
            client.schedule_release(&self.lock);
            return;
        }
        // From here on no renewal begins; the release waits for one that is under way.
        let now = clock::now();
        let (loss, kept) = self.end(now.monotonic);
        match loss {
            None if client.hand_off(&self.lock, now.monotonic) => {}
            None => client.release_dropped(&self.lock, now),
            // The client was shut down: the renewer releases a lock that was out of the scheduler
            // before.
            Some(LossReason::Released) if kept => client.release_dropped(&self.lock, now),
            Some(_) => client.notify_free(&self.lock),
        }
    }
}

impl<T: Transport> Drop for Guard<T> {
    fn drop(&mut self) {
        if self.phase != Phase::Ended {
            self.release_on_drop();
        }
        self.client().node.scheduler.free_slot(self.index);
    }
}

impl LockState {
    /// Returns the ticket of the lock.
    pub(crate) fn ticket(&self, namespace: &Namespace, lost: Option<LossReason>) -> LockTicket {
        let (cas, expiry) = {
            let state = self.state();
            (state.cas, state.expiry)
        };
        LockTicket::new(namespace, &self.name, &self.grant, cas, expiry).lost_before(lost)
    }

    /// Returns the error of a lock that is not held any more.
    pub(crate) fn lost_error(&self, reason: LossReason) -> LockError {
        LockError::new(Cause::Lost(reason)).with_name(&self.name)
    }

    /// Checks that the lock has not ended: after its end, no request is needed.
    pub(crate) fn check_held(&self, now: Instant) -> Result<(), LockError> {
        match self.loss(now) {
            Some(reason) => Err(self.lost_error(reason)),
            None => Ok(()),
        }
    }

    /// Returns the time that remains, if it is no more than `margin`; otherwise the instant when
    /// that will be so.
    pub(crate) fn expiring(&self, margin: Duration, now: Instant) -> Result<Duration, Instant> {
        let remaining = self.remaining(now);
        match remaining.checked_sub(margin).filter(|left| !left.is_zero()) {
            Some(left) => Err(now.after(left)),
            None => Ok(remaining),
        }
    }
}

impl<C> Node<C> {
    /// Checks whether this client can hold the lock of a ticket. Returns its keys.
    pub(crate) fn check_ticket(&self, parts: &LockTicket) -> Result<LockKeys, LockError> {
        let about = |cause| LockError::new(cause).with_name(parts.name());
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
            return Err(self.error(Cause::Lost(reason)).with_name(parts.name()));
        }
        self.keys(parts.name())
    }

    /// Returns the lock of a ticket after its first renewal, with `grant`, or the error that shows
    /// that it is not held.
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
                let telemetry = Arc::clone(&self.telemetry);
                let name = parts.name().into();
                return Ok(LockState::new(name, keys, grant.lease, grant, telemetry));
            }
            RenewOutcome::Lost(reason) => Cause::Lost(reason),
            RenewOutcome::Failed(failure) => Cause::Server(failure),
        };
        Err(self.error(cause).with_name(parts.name()))
    }

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
            return Some(if state.renewal_unanswered {
                Err(self.no_reply_error(true, None).with_name(&held.name))
            } else {
                Ok(held.remaining(now))
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

    /// Returns the holder of a held lock, as other clients see it. Sends nothing.
    pub(crate) fn holder_of(&self, held: &LockState, now: Instant) -> Holder {
        let grant = &held.grant;
        let (cas, expiry) = {
            let state = held.state();
            (state.cas, state.expiry)
        };
        let second = self
            .with_server(grant.instance, |server| {
                server.clock.seconds_lower_bound(now)
            })
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

    /// Converts the outcome of a verification for the caller. Ends the lock if it is lost; then the
    /// caller notifies the waiters.
    pub(crate) fn verified(
        &self,
        held: &LockState,
        verified: VerifyOutcome,
        now: Instant,
    ) -> Result<(), LockError> {
        match verified {
            // The deadline may have passed while the reply was on its way.
            VerifyOutcome::Held => held.check_held(now),
            VerifyOutcome::Lost(reason) => {
                held.end(reason);
                // It may have ended for another reason before, and that reason counts.
                Err(held.lost_error(held.loss(now).unwrap_or(reason)))
            }
            VerifyOutcome::Failed(failure) => {
                Err(self.error(Cause::Server(failure)).with_name(&held.name))
            }
        }
    }

    /// Returns the error of a wait that began at `began` and in which `holder` was seen last.
    pub(crate) fn timeout(&self, name: &str, began: Instant, holder: Option<Holder>) -> LockError {
        let waited = clock::monotonic().since(began);
        self.error(Cause::Timeout { waited, holder })
            .with_name(name)
    }

    /// Converts the outcome of an inspection for the caller.
    pub(crate) fn inspected(&self, inspected: InspectOutcome) -> Result<Option<Holder>, LockError> {
        match inspected {
            InspectOutcome::Failed(failure) => Err(self.error(Cause::Server(failure))),
            seen => Ok(Holder::from_inspected(seen)),
        }
    }
}
