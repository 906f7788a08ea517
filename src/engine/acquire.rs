//! The acquisition of one lock: waiting for the turn to contend, and the outcome.

use super::client::{ClientHandle, ClientInner, Transport};
use super::clock;
use super::error::{Cause, LockError};
use super::events::in_span;
use super::exchange::Timeout;
use super::guard::Guard;
use super::holder::Holder;
use super::lock_state::LockState;
use super::node::Node;
use super::notify::Notify;
use super::options::{LockOptions, ValidatedOptions};
use super::pending_acquire::{Acquired, PendingAcquire};
use super::wait_queue::{Departure, Turn, WaiterHandle};
use crate::proto::{
    AcquireOutcome, Action, Contended, Instant, LockKeys, Now, SleepReason, WaitPolicy,
};
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

/// Locks that the caller already holds, to be held together with the next one.
#[derive(Debug)]
pub(crate) struct Beside<'a, T: Transport> {
    pub(crate) guards: &'a [Guard<T>],
    /// Notified when any of these locks changes.
    pub(crate) changed: &'a Arc<Notify>,
}

impl<T: Transport> Beside<'_, T> {
    fn is_lost(&self, now: Instant) -> bool {
        self.guards
            .iter()
            .any(|guard| guard.lock.loss(now).is_some())
    }

    /// Returns the first instant at which one of the locks expires unless it is renewed.
    fn valid_until(&self) -> Option<Instant> {
        let deadlines = self.guards.iter().map(|guard| guard.lock.valid_until());
        deadlines.min()
    }
}

impl<T: Transport> ClientHandle<T> {
    /// Acquires the lock, waiting for as long as others hold it.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        options: &LockOptions,
    ) -> Result<Guard<T>, LockError> {
        self.acquire_or_time_out(options, WaitPolicy::Forever, clock::now())
            .await
    }

    /// Acquires the lock if no other holds it or waits for it in this process.
    pub(crate) async fn try_acquire(
        self: &Arc<Self>,
        options: &LockOptions,
    ) -> Result<Option<Guard<T>>, LockError> {
        let acquired = self.acquire_beside(options, WaitPolicy::Try, clock::now(), None);
        Ok(match acquired.await? {
            Acquired::Granted(guard) => Some(guard),
            Acquired::Contended(_) => None,
        })
    }

    /// Acquires the lock, waiting at most `limit` for others.
    pub(crate) async fn acquire_timeout(
        self: &Arc<Self>,
        options: &LockOptions,
        limit: Duration,
    ) -> Result<Guard<T>, LockError> {
        let now = clock::now();
        let wait = WaitPolicy::Until(now.monotonic.after(limit));
        self.acquire_or_time_out(options, wait, now).await
    }

    async fn acquire_or_time_out(
        self: &Arc<Self>,
        options: &LockOptions,
        wait: WaitPolicy,
        now: Now,
    ) -> Result<Guard<T>, LockError> {
        match self.acquire_beside(options, wait, now, None).await? {
            Acquired::Granted(guard) => Ok(guard),
            // Does not happen with `Forever`.
            Acquired::Contended(holder) => {
                let began = now.monotonic;
                Err(self.inner.node.timeout(&options.name, began, holder))
            }
        }
    }

    /// Acquires the lock beside others. The loss of one of those ends the wait.
    ///
    /// # Cancel safety
    /// The renewer undoes what the attempt may have stored at the server.
    pub(crate) async fn acquire_beside(
        self: &Arc<Self>,
        options: &LockOptions,
        wait: WaitPolicy,
        now: Now,
        beside: Option<Beside<'_, T>>,
    ) -> Result<Acquired<Guard<T>>, LockError> {
        let client = &*self.inner;
        let validated = options.validate(&client.node)?;
        self.ensure_renewer()?;
        let mut queued = QueueGuard::new(client, &validated, beside);
        let mut pending = validated.begin(wait, now.monotonic);
        let span = client.node.telemetry.acquire_span(&options.name);
        let acquired = client.acquire(&mut pending, &mut queued, wait, now);
        let acquired = in_span(&span, pin!(acquired)).await;
        let _entered = span.enter();
        let acquired = acquired.map_err(|error| error.with_name(&options.name));
        let result = match acquired.and_then(|acquired| validated.result(acquired)) {
            Ok(Acquired::Granted(grant)) => {
                let lock = validated.lock(grant);
                self.keep(lock, queued).map(Acquired::Granted)
            }
            Ok(Acquired::Contended(holder)) => Ok(Acquired::Contended(holder)),
            Err(error) => Err(error),
        };
        pending.recorder.ended(match &result {
            Ok(Acquired::Granted(guard)) => Ok(Some(guard.lock.info())),
            Ok(Acquired::Contended(_)) => Ok(None),
            Err(error) => Err(error),
        });
        result
    }

    /// Puts an acquired lock into the scheduler.
    fn keep(
        self: &Arc<Self>,
        lock: LockState,
        queued: QueueGuard<'_, T>,
    ) -> Result<Guard<T>, LockError> {
        match Guard::new(self, lock) {
            Ok(guard) => {
                queued.acquired(&guard.lock);
                Ok(guard)
            }
            Err(lock) => {
                // The client was shut down while the reply was on its way.
                lock.end(crate::proto::LossReason::Released);
                // The lock had no guard, so there is no end to report.
                let _ = lock.take_unreported();
                let error = LockError::new(Cause::Closed).with_name(&lock.name);
                self.inner.schedule_release(&Arc::new(*lock));
                Err(error)
            }
        }
    }
}

/// The waiter's entry in the wait queue of this process for a lock, if it needed one. Dropping it
/// leaves the queue.
struct QueueGuard<'a, T: Transport> {
    client: &'a ClientInner<T>,
    keys: &'a LockKeys,
    /// A holder in this process can hand the lock off to this waiter.
    accepts_handoff: bool,
    handle: Option<WaiterHandle>,
    beside: Option<Beside<'a, T>>,
}

impl<'a, T: Transport> QueueGuard<'a, T> {
    fn new(
        client: &'a ClientInner<T>,
        options: &ValidatedOptions<'a, T>,
        beside: Option<Beside<'a, T>>,
    ) -> Self {
        Self {
            client,
            keys: options.keys,
            accepts_handoff: options.accepts_handoff(),
            handle: None,
            beside,
        }
    }

    fn join(&mut self) {
        if self.handle.is_none() {
            let (queues, scheduler) = (&self.client.queues, &self.client.node.scheduler);
            let shared = self.beside.as_ref().map(|beside| beside.changed);
            let holder = || scheduler.find(self.keys);
            self.handle = Some(queues.join(self.keys, self.accepts_handoff, shared, holder));
        }
    }

    /// Returns the notifier that wakes the waiter. A shutdown notifies each of these.
    fn notify(&self) -> &Notify {
        match (&self.handle, &self.beside) {
            (Some(handle), _) => &handle.notifier,
            (None, Some(beside)) => beside.changed,
            (None, None) => &self.client.closed,
        }
    }

    /// Leaves the queue after the lock was acquired.
    fn acquired(mut self, lock: &Arc<LockState>) {
        self.leave(Departure::Acquired(Arc::clone(lock), clock::monotonic()));
    }

    fn leave(&mut self, how: Departure) {
        if let Some(handle) = self.handle.take() {
            if let Some(unwanted) = self.client.queues.leave(self.keys, handle, how) {
                self.client.node.release_handoff(unwanted);
            }
        }
    }
}

impl<T: Transport> Drop for QueueGuard<'_, T> {
    fn drop(&mut self) {
        self.leave(Departure::GaveUp);
    }
}

/// The permission of a waiter to contend for the lock, or the end of its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitOutcome {
    Ready,
    /// The caller's wait ended first.
    TimedOut,
    /// A lock that was to be held beside this one is lost.
    Aborted,
}

impl<T: Transport> ClientInner<T> {
    /// Runs an acquisition to its end, from `now` on.
    ///
    /// # Cancel safety
    /// As for [`drive`](Self::drive).
    async fn acquire(
        &self,
        pending: &mut PendingAcquire<'_, T>,
        queued: &mut QueueGuard<'_, T>,
        wait: WaitPolicy,
        mut now: Now,
    ) -> Result<AcquireOutcome, LockError> {
        let contended = AcquireOutcome::Contended(Contended {
            holder: None,
            free_in: None,
        });
        let (mut timeout, ends) = match wait {
            WaitPolicy::Until(end) => (Timeout::Wait(end), Some(end)),
            WaitPolicy::Try | WaitPolicy::Forever => (Timeout::Unlimited, None),
        };
        let keys = queued.keys;
        if self.queues.has_waiters(keys) {
            if wait == WaitPolicy::Try {
                return Ok(contended);
            }
            // Joined before it is counted among the waiters.
            queued.join();
            pending.recorder.waits_for_holder(None);
        }
        let mut pause = None;
        let mut failure = None;
        loop {
            if pause.is_some() || queued.handle.is_some() {
                match self.turn(queued, pending, pause, ends).await? {
                    WaitOutcome::Ready => {}
                    WaitOutcome::TimedOut if pending.acquire.probe_only() => {}
                    WaitOutcome::TimedOut | WaitOutcome::Aborted => return Ok(contended),
                }
                now = clock::now();
                timeout.resume(now.monotonic);
            }
            let action = self.step(&mut pending.acquire, Some(keys), now, timeout, &mut failure);
            let action = action.await;
            if let Some(lock) = pending.finish() {
                // The releaser that handed it off waits for this.
                lock.changed.notify();
                self.done.notify();
            }
            match action {
                Ok(Action::Transmit) => {
                    pause = None;
                    now = clock::now();
                }
                Ok(Action::Sleep { until, why }) => {
                    self.node.report_pause(why, until.since(clock::monotonic()));
                    if why == SleepReason::Contended {
                        queued.join();
                        let free_by = pending.acquire.free_by();
                        pending.recorder.waits_for_holder(free_by);
                    }
                    pending.recorder.waits();
                    pause = Some(until);
                }
                Ok(Action::Done(acquired)) => {
                    if matches!(acquired, AcquireOutcome::Failed(_)) {
                        queued.leave(Departure::Failed);
                    }
                    return Ok(acquired);
                }
                Ok(Action::Fail { unknown }) => {
                    queued.leave(Departure::Failed);
                    return Err(self.node.no_reply_error(unknown, failure));
                }
                Err(error) => {
                    queued.leave(Departure::Failed);
                    return Err(error);
                }
            }
        }
    }

    /// Waits until the acquisition may go on: its pause is over, and it is its turn to contend. A
    /// shutdown ends the wait.
    async fn turn(
        &self,
        queued: &QueueGuard<'_, T>,
        pending: &mut PendingAcquire<'_, T>,
        mut pause: Option<Instant>,
        ends: Option<Instant>,
    ) -> Result<WaitOutcome, LockError> {
        let notify = queued.notify();
        let mut seen = notify.generation();
        loop {
            if self.node.scheduler.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            let now = clock::monotonic();
            let beside = queued.beside.as_ref();
            if beside.is_some_and(|beside| beside.is_lost(now)) {
                return Ok(WaitOutcome::Aborted);
            }
            let turn = match &queued.handle {
                Some(handle) => self.queues.turn(queued.keys, handle, now),
                None => Turn::Contend(now),
            };
            let until = match turn {
                Turn::Handoff(lock) => {
                    pending.accept_handoff(lock);
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
                Turn::Wait(until) => earlier(until, ends),
            };
            let until = earlier(until, beside.and_then(Beside::valid_until));
            T::wait(notify, seen, until).await;
            let generation = notify.generation();
            if generation != seen {
                // The lock may be free.
                pause = None;
                seen = generation;
            }
        }
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl<C> Node<C> {
    /// Returns the error of a wait that began at `began` and in which `holder` was seen last.
    pub(crate) fn timeout(&self, name: &str, began: Instant, holder: Option<Holder>) -> LockError {
        let waited = clock::monotonic().since(began);
        self.error(Cause::Timeout { waited, holder })
            .with_name(name)
    }
}
