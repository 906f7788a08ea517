//! The release of a lock: handoff to a waiter of this process, the request to the server, and what
//! is left to the renewer.

use super::client::{ClientInner, Transport};
use super::clock;
use super::error::{Cause, LockError};
use super::events::in_span;
use super::exchange::{PauseMode, Timeout, run};
use super::lock_state::{HandoffState, LockState, ReleaseOutcome};
use super::node::Node;
use super::scheduler::CleanupJob;
use crate::proto::{Instant, Now, ReleaseStatus};
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

/// The longest time that the caller of a release waits for a server that does not reply, unless the
/// operation timeout is longer. The renewer then goes on trying.
pub(crate) const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A lock whose guard has ended, on its way to its release.
#[derive(Debug)]
pub(crate) struct EndedLock {
    pub(crate) lock: Arc<LockState>,
    /// The instant at which the release is given up.
    pub(crate) deadline: Instant,
    /// The outcome, if it needs no request.
    pub(crate) known: Option<ReleaseOutcome>,
    /// A waiter of this process takes the lock over.
    pub(crate) handed_off: bool,
}

/// Returns whether a release that failed with this error is worth another try.
fn may_succeed_later(error: &LockError) -> bool {
    error.is_unavailable() || error.is_unknown()
}

/// Returns the instant at which a release without a reply is given up: the end of the lease, after
/// which the record is about to expire, and at least a moment from now.
pub(crate) fn release_deadline(valid_until: Instant, now: Instant) -> Instant {
    valid_until.max(now.after(Duration::from_millis(100)))
}

impl<T: Transport> ClientInner<T> {
    /// Hands a lock that was ended off to the first waiter of this process, if one can take it
    /// over. If this returns `false`, the caller releases it.
    pub(crate) fn hand_off(&self, lock: &Arc<LockState>, now: Instant) -> bool {
        let scheduler = &self.node.scheduler;
        if self.queues.are_empty() || scheduler.is_closed() || !lock.can_hand_off(now) {
            return false;
        }
        scheduler.begin_handoff();
        let handed_off = self.queues.hand_off(&lock.keys, lock, now);
        if !handed_off {
            scheduler.end_handoff();
        }
        handed_off
    }

    /// Waits for the outcome of a handoff.
    pub(crate) async fn handoff_outcome(
        &self,
        lock: &LockState,
        deadline: Instant,
    ) -> Result<ReleaseOutcome, LockError> {
        loop {
            let seen = lock.changed.generation();
            match lock.handoff_state() {
                HandoffState::Resolved(outcome) => return Ok(outcome),
                HandoffState::Pending | HandoffState::Unknown if clock::monotonic() < deadline => {}
                HandoffState::Pending | HandoffState::Unknown | HandoffState::Failed => {
                    return Err(self.node.no_reply_error(true, None).with_name(&lock.name));
                }
            }
            T::wait(&lock.changed, seen, Some(deadline)).await;
        }
    }

    /// Sends the release of a lock whose guard has ended, if it needs one. Leaves a release that
    /// may succeed later to the renewer.
    pub(crate) async fn finish_release(
        &self,
        ended: &EndedLock,
        now: Now,
    ) -> Result<ReleaseOutcome, LockError> {
        if let Some(known) = ended.known {
            return Ok(known);
        }
        if ended.handed_off {
            return self.handoff_outcome(&ended.lock, ended.deadline).await;
        }
        let outcome = self.release(&ended.lock, now, ended.deadline).await;
        if let Err(error) = &outcome {
            self.release_failed(&ended.lock, error);
        }
        outcome
    }

    /// Reports a release that failed, and leaves it to the renewer if it may succeed later.
    pub(crate) fn release_failed(&self, lock: &Arc<LockState>, error: &LockError) {
        let later = may_succeed_later(error);
        lock.emit_release_failed(error, later);
        if later {
            self.schedule_release(lock);
        }
    }

    /// Removes the record of a lock that was ended, by `deadline` or not at all.
    pub(crate) async fn release(
        &self,
        lock: &LockState,
        now: Now,
        deadline: Instant,
    ) -> Result<ReleaseOutcome, LockError> {
        self.release_with(lock, now, deadline, &mut PauseMode::Sleep)
            .await
    }

    /// Does the same; `pause` says how the pauses are spent.
    pub(crate) async fn release_with(
        &self,
        lock: &LockState,
        mut now: Now,
        deadline: Instant,
        pause: &mut PauseMode<'_>,
    ) -> Result<ReleaseOutcome, LockError> {
        let about = |error: LockError| error.with_name(&lock.name);
        let Some(cas) = self.settled_cas(lock, &mut now, deadline).await else {
            return Err(about(self.node.no_reply_error(false, None)));
        };
        let mut release = lock.release_operation(cas, deadline);
        let span = self.node.telemetry.release_span(&lock.name);
        let timeout = Timeout::Deadline(deadline);
        let released = self.drive_with(&mut release, Some(&lock.keys), now, timeout, pause);
        let released = in_span(&span, pin!(released)).await;
        let _entered = span.enter();
        self.notify_free(lock);
        self.released(lock, released.map_err(about)?).map_err(about)
    }

    /// Applies the reply to a release.
    pub(crate) fn released(
        &self,
        lock: &LockState,
        released: ReleaseStatus,
    ) -> Result<ReleaseOutcome, LockError> {
        self.node.schedule_orphan_check(lock);
        let outcome = self.node.released(released)?;
        lock.emit_released(outcome);
        Ok(outcome)
    }

    /// Returns the CAS unique of a lock that was ended, once no renewal is under way that may
    /// change it. `None` if that takes until `deadline`.
    pub(crate) async fn settled_cas(
        &self,
        lock: &LockState,
        now: &mut Now,
        deadline: Instant,
    ) -> Option<u64> {
        loop {
            let seen = lock.changed.generation();
            {
                let state = lock.state();
                if !state.renewing {
                    return Some(state.cas);
                }
            }
            if now.monotonic >= deadline {
                return None;
            }
            T::wait(&lock.changed, seen, Some(deadline)).await;
            *now = clock::now();
        }
    }

    /// Returns whether the CAS unique is certain and no earlier request can still be executed:
    /// otherwise, a release without a reply could fail unnoticed.
    pub(crate) fn can_release_quietly(&self, lock: &LockState) -> bool {
        let state = lock.state();
        !(state.renewing || state.is_unanswered() || lock.grant.may_be_replayed)
    }

    /// Releases a lock that was ended because its guard was dropped.
    pub(crate) fn release_dropped(&self, lock: &Arc<LockState>, now: Now) {
        if !T::BLOCKS {
            return self.schedule_release(lock);
        }
        let deadline = now.monotonic.after(self.node.config.operation_timeout);
        if let Err(error) = run(self.release(lock, now, deadline)) {
            self.release_failed(lock, &error);
        }
    }

    /// Leaves the release to the renewer, which goes on trying.
    pub(crate) fn schedule_release(&self, lock: &Arc<LockState>) {
        let job = CleanupJob::Release(Arc::clone(lock));
        self.node.scheduler.push(job);
        self.node.wake.notify();
    }
}

impl<C> Node<C> {
    /// After a release, leaves it to the renewer to undo a record that an unanswered request may
    /// still store.
    pub(crate) fn schedule_orphan_check(&self, held: &LockState) {
        if held.is_retained(clock::monotonic()) {
            // The record there is retained on purpose, and keeps a late request out.
            return;
        }
        let Some(leftover) = held.grant.orphan() else {
            return;
        };
        self.scheduler.push(CleanupJob::Undo {
            name: Arc::clone(&held.name),
            keys: held.keys.clone(),
            leftover,
        });
        self.wake.notify();
    }

    /// Converts the outcome of a release for the caller.
    pub(crate) fn released(&self, released: ReleaseStatus) -> Result<ReleaseOutcome, LockError> {
        match released {
            ReleaseStatus::Released => Ok(ReleaseOutcome::Released),
            ReleaseStatus::AlreadyLost(reason) => Ok(ReleaseOutcome::AlreadyLost { reason }),
            ReleaseStatus::Failed(failure) => Err(self.error(Cause::Server(failure))),
        }
    }
}
