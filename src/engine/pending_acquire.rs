//! An acquisition under way, and its outcome.

use super::acquire_recorder::AcquireRecorder;
use super::holder::Holder;
use super::lock_state::{HandoffState, LockState, ReleaseOutcome};
use super::node::Node;
use super::scheduler::CleanupJob;
use crate::proto::{Acquire, LockKeys};
use std::sync::Arc;

/// The end of an acquisition without an error.
#[derive(Debug)]
pub(crate) enum Acquired<G> {
    Granted(G),
    /// Another client holds the lock. The holder, if it was requested and is known.
    Contended(Option<Holder>),
}

/// An acquisition that its caller may abandon at any point. The renewer undoes what it may have
/// stored at the server by then.
#[derive(Debug)]
pub(crate) struct PendingAcquire<'a, C> {
    node: &'a Node<C>,
    name: &'a Arc<str>,
    keys: &'a LockKeys,
    pub(crate) acquire: Acquire<'a>,
    pub(crate) recorder: AcquireRecorder<'a>,
    /// A lock that was handed off, until the outcome of the handoff is known.
    handoff: Option<Arc<LockState>>,
}

impl<'a, C> PendingAcquire<'a, C> {
    pub(crate) const fn new(
        node: &'a Node<C>,
        name: &'a Arc<str>,
        keys: &'a LockKeys,
        acquire: Acquire<'a>,
        recorder: AcquireRecorder<'a>,
    ) -> Self {
        Self {
            node,
            name,
            keys,
            acquire,
            recorder,
            handoff: None,
        }
    }

    /// Takes over a lock's record from its releasing holder.
    pub(crate) fn accept_handoff(&mut self, lock: Arc<LockState>) {
        let held = &*lock;
        let cas = held.state().cas;
        self.acquire.accept_handoff(&held.grant, cas);
        self.handoff = Some(lock);
    }

    /// Returns the lock that was handed off, once the outcome is known: then the caller notifies
    /// its releaser.
    pub(crate) fn finish(&mut self) -> Option<Arc<LockState>> {
        self.handoff.as_ref()?;
        let how = self.acquire.take_handoff_result()?;
        let lock = self.handoff.take()?;
        let held = &*lock;
        held.resolve_handoff(HandoffState::Resolved(match how {
            Ok(()) => ReleaseOutcome::Released,
            Err(reason) => ReleaseOutcome::AlreadyLost { reason },
        }));
        self.node.scheduler.end_handoff();
        Some(lock)
    }
}

impl<C> Drop for PendingAcquire<'_, C> {
    fn drop(&mut self) {
        let leftover = self.acquire.orphan();
        let left = leftover.is_some() || self.handoff.is_some();
        if let Some(lock) = self.handoff.take() {
            if leftover.is_some() {
                let held = &*lock;
                held.resolve_handoff(HandoffState::Unknown);
            }
            self.node.release_handoff(lock);
        }
        if let Some(leftover) = leftover {
            self.node.scheduler.push(CleanupJob::Undo {
                name: Arc::clone(self.name),
                keys: self.keys.clone(),
                leftover,
            });
        }
        if left {
            self.node.wake.notify();
        }
    }
}

impl<C> Node<C> {
    /// Leaves the release of a lock that was handed off, and that no waiter takes, to the renewer.
    pub(crate) fn release_handoff(&self, lock: Arc<LockState>) {
        self.scheduler.push(CleanupJob::Release(lock));
        self.scheduler.end_handoff();
        self.wake.notify();
    }
}
