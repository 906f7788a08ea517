//! Acquiring a lock: when it is somebody's turn to ask, and what comes of it.

use super::drive::Bound;
use super::{Core, HeldLock};
use crate::front::{Asked, Cause, Leave, LockError, News, Place, Standing, clock};
use crate::proto::{
    AcquireOutcome, Action, Contended, Instant, LockKeys, Now, SleepReason, WaitPolicy,
};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use std::sync::Arc;
use tokio::sync::Notify;

type Acquiring<'a, W> = crate::front::Acquiring<'a, super::connections::Connections, HeldLock, W>;

impl News for Notify {
    fn tell(&self) {
        // One waits; where he does not just now, he is told as soon as he does.
        self.notify_one();
    }
}

/// A place in the line of those who wait in this process, if one was needed. Dropping it gives it
/// back.
pub(super) struct Waiting<'a> {
    core: &'a Core,
    keys: &'a LockKeys,
    /// Whether the lock can be handed on to who waits.
    inherits: bool,
    place: Option<Place<Notify>>,
}

impl<'a> Waiting<'a> {
    pub(super) const fn new(core: &'a Core, keys: &'a LockKeys, inherits: bool) -> Self {
        Self {
            core,
            keys,
            inherits,
            place: None,
        }
    }

    fn join(&mut self) {
        if self.place.is_none() {
            let (queues, registry) = (&self.core.queues, &self.core.site.registry);
            let holder = || registry.find(self.keys);
            self.place = Some(queues.join(self.keys, self.inherits, holder));
        }
    }

    /// Gives the place back with the lock in hand.
    pub(super) fn won(mut self, lock: &Arc<HeldLock>) {
        self.leave(Leave::Holding(Arc::clone(lock), clock::moment()));
    }

    fn leave(&mut self, how: Leave<HeldLock>) {
        if let Some(place) = self.place.take() {
            if let Some(unwanted) = self.core.queues.leave(self.keys, place, how) {
                self.core.site.release_legacy(unwanted);
                self.core.wake.notify_one();
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave(Leave::GivingUp);
    }
}

impl Core {
    /// Runs an acquisition to its end, from `now` on.
    ///
    /// # Cancel safety
    /// Dropping the future takes back requests of which nothing has been sent. What the operation
    /// may have left at the server is for its caller to know.
    pub(super) async fn acquire<C: Fn()>(
        &self,
        asked: &Asked<'_, super::connections::Connections, HeldLock>,
        acquiring: &mut Acquiring<'_, C>,
        waiting: &mut Waiting<'_>,
        patience: WaitPolicy,
        mut now: Now,
    ) -> Result<AcquireOutcome, LockError> {
        let nobody = AcquireOutcome::Contended(Contended {
            holder: None,
            free_in: None,
        });
        let (mut bound, ends) = match patience {
            WaitPolicy::Until(end) => (Bound::Patience(end), Some(end)),
            WaitPolicy::Try | WaitPolicy::Forever => (Bound::Open, None),
        };
        if self.queues.has_line(asked.keys) {
            if patience == WaitPolicy::Try {
                return Ok(nobody);
            }
            // Who is counted among those who wait has its place.
            waiting.join();
            acquiring.account.waits_for_holder(None);
        }
        let mut pause = None;
        let mut failure = None;
        loop {
            if pause.is_some() || waiting.place.is_some() {
                let turn = self.turn(waiting, acquiring, pause, ends).await?;
                if turn == Turn::TooLate && !acquiring.acquire.probe_only() {
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
            if let Some(lock) = acquiring.settle() {
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
                    self.site.note_pause(why, until.since(clock::moment()));
                    if why == SleepReason::Contended {
                        waiting.join();
                        let free_by = acquiring.acquire.free_by();
                        acquiring.account.waits_for_holder(free_by);
                    }
                    acquiring.account.waits();
                    pause = Some(until);
                }
                Ok(Action::Done(acquired)) => {
                    if matches!(acquired, AcquireOutcome::Failed(_)) {
                        waiting.leave(Leave::Failed);
                    }
                    return Ok(acquired);
                }
                Ok(Action::Fail { unknown }) => {
                    waiting.leave(Leave::Failed);
                    return Err(self.site.given_up(unknown, failure));
                }
                Err(error) => {
                    waiting.leave(Leave::Failed);
                    return Err(error);
                }
            }
        }
    }

    /// Waits until the acquisition may go on: its pause is over, and it is its turn to ask. A
    /// shutdown ends the wait.
    async fn turn<C: Fn()>(
        &self,
        waiting: &Waiting<'_>,
        acquiring: &mut Acquiring<'_, C>,
        mut pause: Option<Instant>,
        ends: Option<Instant>,
    ) -> Result<Turn, LockError> {
        loop {
            let mut closed = pin!(self.closed.notified());
            // Registered before looking, so that no shutdown between the two goes unnoticed.
            closed.as_mut().enable();
            if self.site.registry.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            let now = clock::moment();
            let standing = match &waiting.place {
                Some(place) => self.queues.standing(waiting.keys, place, now),
                None => Standing::Contend(now),
            };
            let until = match standing {
                Standing::Inherit(lock) => {
                    acquiring.inherit(lock);
                    return Ok(Turn::Mine);
                }
                Standing::Contend(from) => {
                    let from = pause.map_or(from, |pause| pause.max(from));
                    if from <= now {
                        return Ok(Turn::Mine);
                    }
                    Some(from)
                }
                Standing::Wait(_) if ends.is_some_and(|ends| ends <= now) => {
                    return Ok(Turn::TooLate);
                }
                Standing::Wait(until) => match (until, ends) {
                    (Some(until), Some(ends)) => Some(until.min(ends)),
                    (until, ends) => until.or(ends),
                },
            };
            let mut timer = pin!(until.map(|until| tokio::time::sleep(until.since(now))));
            let mut news = pin!(waiting.place.as_ref().map(|place| place.news.notified()));
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
enum Turn {
    Mine,
    /// His patience ended before.
    TooLate,
}
