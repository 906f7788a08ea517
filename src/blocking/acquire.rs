//! Acquiring a lock: when it is somebody's turn to ask, and what comes of it.

use super::guard::LockGuard;
use super::notify::ThreadNotify;
use super::transport::Timeout;
use super::{ClientInner, HeldLock, Link};
use crate::engine::{
    Cause, Departure, LockError, NodeConnection, Notifier, Turn, ValidatedOptions, WaiterHandle,
    clock,
};
use crate::net::pool::Pool;
use crate::proto::{
    AcquireOutcome, Action, Contended, Instant, LockKeys, Now, SleepReason, WaitPolicy,
};
use std::sync::Arc;

type Connections = Pool<NodeConnection<Link>>;
type Acquiring<'a, W> = crate::engine::PendingAcquire<'a, Connections, HeldLock, W>;

impl Notifier for ThreadNotify {
    fn notify(&self) {
        self.notify();
    }
}

/// A place in the line of those who wait in this process, if one was needed. Dropping it gives it
/// back.
pub(super) struct QueueGuard<'a> {
    core: &'a ClientInner,
    keys: &'a LockKeys,
    /// Whether the lock can be handed on to who waits.
    inherits: bool,
    place: Option<WaiterHandle<ThreadNotify>>,
    /// It is of no use to wait any longer when one of these is lost.
    beside: &'a [LockGuard],
}

impl<'a> QueueGuard<'a> {
    pub(super) const fn new(
        core: &'a ClientInner,
        keys: &'a LockKeys,
        inherits: bool,
        beside: &'a [LockGuard],
    ) -> Self {
        Self {
            core,
            keys,
            inherits,
            place: None,
            beside,
        }
    }

    fn join(&mut self) {
        if self.place.is_none() {
            let (queues, registry) = (&self.core.queues, &self.core.node.scheduler);
            let holder = || registry.find(self.keys);
            self.place = Some(queues.join(self.keys, self.inherits, holder));
        }
    }

    /// Gives the place back with the lock in hand.
    pub(super) fn won(mut self, lock: &Arc<HeldLock>) {
        self.leave(Departure::Acquired(Arc::clone(lock), clock::monotonic()));
    }

    fn leave(&mut self, how: Departure<HeldLock>) {
        if let Some(place) = self.place.take() {
            if let Some(unwanted) = self.core.queues.leave(self.keys, place, how) {
                self.core.node.release_handoff(unwanted);
                self.core.wake.notify();
            }
        }
    }
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        self.leave(Departure::Cancelled);
    }
}

impl ClientInner {
    /// Runs an acquisition to its end, from `now` on.
    pub(super) fn acquire<W: Fn()>(
        &self,
        asked: &ValidatedOptions<'_, Connections, HeldLock>,
        acquiring: &mut Acquiring<'_, W>,
        waiting: &mut QueueGuard<'_>,
        patience: WaitPolicy,
        mut now: Now,
    ) -> Result<AcquireOutcome, LockError> {
        let nobody = AcquireOutcome::Contended(Contended {
            holder: None,
            free_in: None,
        });
        let (mut bound, ends) = match patience {
            WaitPolicy::Until(end) => (Timeout::Wait(end), Some(end)),
            WaitPolicy::Try | WaitPolicy::Forever => (Timeout::Unlimited, None),
        };
        if self.queues.has_waiters(asked.keys) {
            if patience == WaitPolicy::Try {
                return Ok(nobody);
            }
            // Who is counted among those who wait has its place.
            waiting.join();
            acquiring.recorder.waits_for_holder(None);
        }
        let mut pause = None;
        let mut failure = None;
        loop {
            if pause.is_some() || waiting.place.is_some() {
                let turn = self.turn(waiting, acquiring, pause, ends)?;
                if turn == WaitOutcome::Aborted {
                    return Ok(nobody);
                }
                if turn == WaitOutcome::TimedOut && !acquiring.acquire.probe_only() {
                    return Ok(nobody);
                }
                now = clock::now();
                bound.resume(now.monotonic);
            }
            let step = self.step(&mut acquiring.acquire, now, bound, &mut failure);
            if let Some(lock) = acquiring.finish() {
                // Who handed it on waits for this.
                lock.changed.notify();
                self.done.notify();
            }
            match step {
                Ok(Action::Transmit) => {
                    pause = None;
                    now = clock::now();
                }
                Ok(Action::Sleep { until, why }) => {
                    self.node.note_pause(why, until.since(clock::monotonic()));
                    if why == SleepReason::Contended {
                        waiting.join();
                        let free_by = acquiring.acquire.free_by();
                        acquiring.recorder.waits_for_holder(free_by);
                    }
                    acquiring.recorder.waits();
                    pause = Some(until);
                }
                Ok(Action::Done(acquired)) => {
                    if matches!(acquired, AcquireOutcome::Failed(_)) {
                        waiting.leave(Departure::Failed);
                    }
                    return Ok(acquired);
                }
                Ok(Action::Fail { unknown }) => {
                    waiting.leave(Departure::Failed);
                    return Err(self.node.given_up(unknown, failure));
                }
                Err(error) => {
                    waiting.leave(Departure::Failed);
                    return Err(error);
                }
            }
        }
    }

    /// Waits until the acquisition may go on: its pause is over, and it is its turn to ask. A
    /// shutdown ends the wait.
    fn turn<W: Fn()>(
        &self,
        waiting: &QueueGuard<'_>,
        acquiring: &mut Acquiring<'_, W>,
        mut pause: Option<Instant>,
        ends: Option<Instant>,
    ) -> Result<WaitOutcome, LockError> {
        // A shutdown tells everybody in a line; who is in none hears of it by the signal for that.
        let news = match &waiting.place {
            Some(place) => &*place.notifier,
            None => &self.closing,
        };
        let mut seen = news.generation();
        loop {
            if self.node.scheduler.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            let now = clock::monotonic();
            let beside = waiting.beside.iter();
            // Looked at once in a second at least, which is how long a signal lets wait.
            if beside
                .map(LockGuard::held)
                .any(|held| held.loss(now).is_some())
            {
                return Ok(WaitOutcome::Aborted);
            }
            let standing = match &waiting.place {
                Some(place) => self.queues.turn(waiting.keys, place, now),
                None => Turn::Contend(now),
            };
            let until = match standing {
                Turn::Handoff(lock) => {
                    acquiring.accept_handoff(lock);
                    return Ok(WaitOutcome::Ready);
                }
                Turn::Contend(from) => {
                    let from = pause.map_or(from, |pause| pause.max(from));
                    if from <= now {
                        return Ok(WaitOutcome::Ready);
                    }
                    from
                }
                Turn::Wait(_) if ends.is_some_and(|ends| ends <= now) => {
                    return Ok(WaitOutcome::TimedOut);
                }
                Turn::Wait(until) => {
                    let never = Instant::from_nanos(u64::MAX);
                    until.unwrap_or(never).min(ends.unwrap_or(never))
                }
            };
            news.wait(seen, until);
            let told = news.generation();
            if told != seen {
                // What was waited for may have come about.
                pause = None;
                seen = told;
            }
        }
    }
}

/// Whether it is somebody's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitOutcome {
    Ready,
    /// His patience ended before.
    TimedOut,
    /// What was to be held besides is lost.
    Aborted,
}
