//! Acquiring a lock: when it is somebody's turn to ask, and what comes of it.

use super::transport::Timeout;
use super::{ClientInner, HeldLock};
use crate::engine::{
    Cause, Departure, LockError, Notifier, Turn, ValidatedOptions, WaiterHandle, clock,
};
use crate::proto::{
    AcquireOutcome, Action, Contended, Instant, LockKeys, Now, SleepReason, WaitPolicy,
};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use std::sync::Arc;
use tokio::sync::Notify;

type Acquiring<'a, W> = crate::engine::PendingAcquire<'a, super::pool::ConnectionPool, HeldLock, W>;

impl Notifier for Notify {
    fn notify(&self) {
        // One waits; where he does not just now, he is told as soon as he does.
        self.notify_one();
    }
}

/// A place in the line of those who wait in this process, if one was needed. Dropping it gives it
/// back.
pub(super) struct QueueGuard<'a> {
    core: &'a ClientInner,
    keys: &'a LockKeys,
    /// Whether the lock can be handed on to who waits.
    inherits: bool,
    place: Option<WaiterHandle<Notify>>,
}

impl<'a> QueueGuard<'a> {
    pub(super) const fn new(core: &'a ClientInner, keys: &'a LockKeys, inherits: bool) -> Self {
        Self {
            core,
            keys,
            inherits,
            place: None,
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
                self.core.wake.notify_one();
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
    ///
    /// # Cancel safety
    /// Dropping the future takes back requests of which nothing has been sent. What the operation
    /// may have left at the server is for its caller to know.
    pub(super) async fn acquire<C: Fn()>(
        &self,
        asked: &ValidatedOptions<'_, super::pool::ConnectionPool, HeldLock>,
        acquiring: &mut Acquiring<'_, C>,
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
                let turn = self.turn(waiting, acquiring, pause, ends).await?;
                if turn == WaitOutcome::TimedOut && !acquiring.acquire.probe_only() {
                    return Ok(nobody);
                }
                now = clock::now();
                bound.resume(now.monotonic);
            }
            let step = self
                .step(
                    &mut acquiring.acquire,
                    Some(asked.keys),
                    now,
                    bound,
                    &mut failure,
                )
                .await;
            if let Some(lock) = acquiring.finish() {
                // Who handed it on waits for this.
                lock.changed.notify_waiters();
                self.done.notify_waiters();
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
    async fn turn<C: Fn()>(
        &self,
        waiting: &QueueGuard<'_>,
        acquiring: &mut Acquiring<'_, C>,
        mut pause: Option<Instant>,
        ends: Option<Instant>,
    ) -> Result<WaitOutcome, LockError> {
        loop {
            let mut closed = pin!(self.closed.notified());
            // Registered before looking, so that no shutdown between the two goes unnoticed.
            closed.as_mut().enable();
            if self.node.scheduler.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            let now = clock::monotonic();
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
                    Some(from)
                }
                Turn::Wait(_) if ends.is_some_and(|ends| ends <= now) => {
                    return Ok(WaitOutcome::TimedOut);
                }
                Turn::Wait(until) => match (until, ends) {
                    (Some(until), Some(ends)) => Some(until.min(ends)),
                    (until, ends) => until.or(ends),
                },
            };
            let mut timer = pin!(until.map(|until| tokio::time::sleep(until.since(now))));
            let mut news = pin!(
                waiting
                    .place
                    .as_ref()
                    .map(|place| place.notifier.notified())
            );
            let told = poll_fn(|cx| {
                if closed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(false);
                }
                if let Some(news) = news.as_mut().as_pin_mut() {
                    if news.poll(cx).is_ready() {
                        return Poll::Ready(true);
                    }
                }
                match timer.as_mut().as_pin_mut() {
                    Some(timer) => timer.poll(cx).map(|()| false),
                    None => Poll::Pending,
                }
            });
            if told.await {
                // What was waited for may have come about.
                pause = None;
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
}
