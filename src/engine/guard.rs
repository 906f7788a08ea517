//! The engine of a guard: loss, expiry, renewal, release and handoff of a held lock.

mod attach;
mod renew;

use super::client::{ClientHandle, ClientInner, Transport};
use super::clock;
use super::error::{Cause, LockError};
use super::events::HoldEnd;
use super::exchange::Timeout;
use super::holder::Holder;
use super::lock_state::{LockState, ReleaseOutcome};
use super::node::Node;
use super::release::{EndedLock, RELEASE_LIMIT, release_deadline};
use super::scheduler::Scheduled;
use crate::proto::{HolderRecord, Instant, LossReason, SessionId, Verify, VerifyOutcome};
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
}
