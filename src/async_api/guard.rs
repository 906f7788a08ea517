//! A lock that is held.

use super::lock::wait_for_release_until;
use super::transport::Timeout;
use super::{ClientHandle, HeldLock};
use crate::engine::{CleanupJob, HandoffState, HoldEnd, LockError, ReleaseOutcome, clock, in_span};
use crate::net::shared::ReplyObserver;
use crate::proto::{Instant, LossReason, Now, Operation};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

/// The longest sleep at a stretch for whoever waits for the end of a lease.
pub(super) const STRETCH: Duration = Duration::from_secs(1);

/// A lock that is held, until it is released, dropped or lost.
///
/// A keeper task renews it in the background. **Holding the guard does not mean holding the
/// lock**: ask [`is_valid`](Self::is_valid) or [`ensure`](Self::ensure) before each step that
/// needs it, or watch [`lost`](Self::lost), and let the resource check the
/// [fencing token](Self::fencing_token) where it can.
///
/// Dropping the guard stops the renewal at once and leaves the release to the keeper. To know that
/// the lock is free, and to learn whether it was held to the end, call
/// [`release`](Self::release).
///
/// # Example
/// ```
/// # #[cfg(all(feature = "tokio", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::Client::connect(server.address()).await?;
/// use std::time::Duration;
///
/// let guard = client.lock("invoices/42").acquire().await?;
/// guard.ensure(Duration::from_secs(1))?; // before each step that needs the lock
/// guard.run(async { /* … or work that ends when the lock is lost … */ }).await?;
/// println!("{:?}", guard.release().await?);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "tokio", feature = "server")))]
/// # fn main() {}
/// ```
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct LockGuard {
    pub(super) shared: Arc<ClientHandle>,
    pub(super) lock: Arc<HeldLock>,
    pub(super) index: usize,
    /// The release has been taken care of.
    pub(super) spent: bool,
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", &self.name())
            .field("fencing_token", &self.fencing_token())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

impl LockGuard {
    pub(super) fn new(shared: Arc<ClientHandle>, lock: Arc<HeldLock>, index: usize) -> Self {
        Self {
            shared,
            lock,
            index,
            spent: false,
        }
    }

    /// The name of the lock.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.lock.held.name
    }

    /// The memcached key of the lock's record, as it stands on the wire.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.lock.held.keys.lock().as_bytes()
    }

    /// The fencing token: a number that rises with every acquisition of this name, over all
    /// clients. `None` when fencing is off for this lock.
    ///
    /// Send it with every write to the resource, and let the resource refuse numbers lower than
    /// the highest it has seen. That keeps a holder which does not know that its time is over from
    /// doing harm; nothing on the holder's side can. Fits a signed 64-bit column.
    #[must_use]
    pub fn fencing_token(&self) -> Option<u64> {
        self.lock.held.grant.token
    }

    /// How long the lock is certain without another renewal; nothing once it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lock.held.remaining(clock::monotonic())
    }

    /// Whether the lock is held for sure at this instant. Asks nobody; costs a look at the clock.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Checks that the lock is certain for at least `wanted` longer, without a renewal.
    ///
    /// # Errors
    /// It is lost, or nearer to its end than that. [`kind`](LockError::kind) is
    /// [`Lost`](crate::ErrorKind::Lost).
    pub fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
        self.lock.held.ensure(wanted, clock::monotonic())
    }

    /// Waits until the lock is not held any more and says why: its time ran out, a renewal was
    /// refused, the server was restarted, or the client was shut down.
    ///
    /// It fires at the local deadline whether or not the server can be reached, and never before
    /// the lock stops being [valid](Self::is_valid).
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn lost(&self) -> LossReason {
        loop {
            let mut changed = pin!(self.lock.changed.notified());
            // Registered before looking, so that no change between the two goes unnoticed.
            changed.as_mut().enable();
            let now = clock::monotonic();
            if let Some(reason) = self.lock.held.loss(now) {
                return reason;
            }
            // The timer stands still while the machine is suspended, the lease does not.
            let length = self.lock.held.remaining(now).min(STRETCH);
            let mut deadline = pin!(tokio::time::sleep(length));
            poll_fn(|cx| {
                if changed.as_mut().poll(cx).is_ready() || deadline.as_mut().poll(cx).is_ready() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    /// Runs `work` for as long as the lock is held: returns its output, or ends it when the lock is lost.
    ///
    /// Work is ended by dropping it, at the `await` where it stands. It is not polled again once the lock
    /// is lost, but one poll that computes or blocks for longer than the lock [remains](Self::remaining)
    /// is not interrupted: the resource's check of the [fencing token](Self::fencing_token) covers that.
    /// The guard stays with the caller, to be released or dropped as usual.
    ///
    /// # Errors
    /// The lock was lost before the work was done ([`Lost`](crate::ErrorKind::Lost));
    /// [`loss_reason`](LockError::loss_reason) says why. An output that was ready by then is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and leaves the lock held.
    ///
    /// # Example
    /// ```
    /// # #[cfg(feature = "server")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = memlatch::server::Server::start()?;
    /// # let client = memlatch::Client::connect(server.address()).await?;
    /// let guard = client.lock("invoices/42").acquire().await?;
    /// let token = guard.fencing_token();
    /// let sum = guard
    ///     .run(async {
    ///         // … any number of steps, none of which begins without the lock …
    ///         # let _ = token;
    ///         1 + 1
    ///     })
    ///     .await?;
    /// assert_eq!(sum, 2);
    /// # let _ = guard.release().await?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "server"))]
    /// # fn main() {}
    /// ```
    pub async fn run<W: Future>(&self, work: W) -> Result<W::Output, LockError> {
        run_while_held(work, self.lost(), || self.check_held()).await
    }

    /// Whether the lock is still held, as an error that says why not.
    pub(super) fn check_held(&self) -> Result<(), LockError> {
        self.lock.held.check_held(clock::monotonic())
    }

    /// Gives the lock back and says what truly happened.
    ///
    /// # Errors
    /// The server refused, or did not answer for 5 s (the operation timeout, if that is longer) or
    /// until the end of the lease. In the second case the keeper goes on trying until the lease
    /// ends, and then the lock frees itself.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the release to the keeper.
    pub async fn release(mut self) -> Result<ReleaseOutcome, LockError> {
        let now = clock::now();
        let valid_until = self.lock.held.valid_until();
        if let Some(reason) = self.end(now.monotonic) {
            self.spent = true;
            self.shared.core.notify_free(&self.lock);
            return Ok(ReleaseOutcome::AlreadyLost { reason });
        }
        let core = &self.shared.core;
        let operation_timeout = core.node.config.operation_timeout;
        let give_up = wait_for_release_until(valid_until, operation_timeout, now.monotonic);
        if core.hand_off(&self.lock, now.monotonic) {
            // From here on it is the business of who inherits it.
            self.spent = true;
            return core.handed_on(&self.lock, give_up).await;
        }
        let outcome = core.release(&self.lock, now, give_up).await;
        // What may succeed later is left to the keeper by the drop.
        let later = |error: &LockError| error.is_unavailable() || error.is_unknown();
        self.spent = !outcome.as_ref().is_err_and(later);
        if let Err(error) = &outcome {
            self.lock.held.emit_release_failed(error, !self.spent);
        }
        outcome
    }

    /// Gives the lock back without waiting for the answer: the request travels with whatever is
    /// sent next, such as the next acquisition, and by itself as soon as the keeper task runs.
    ///
    /// The lock is not free when this returns, and whether it was held to the end is not told.
    /// Where the answer is not that it was released, the keeper releases it once more and logs what
    /// comes of that; [`Client::quiet_failures`](crate::Client::quiet_failures) counts those. Where
    /// the program ends at once, the request may not be sent any more, and the lock frees itself
    /// with its lease.
    pub fn release_quietly(mut self) {
        let now = clock::now();
        self.spent = true;
        if self.end(now.monotonic).is_some() {
            self.shared.core.notify_free(&self.lock);
            return;
        }
        let core = &self.shared.core;
        if core.hand_off(&self.lock, now.monotonic) {
            return;
        }
        match core.release_quietly(&self.lock, now) {
            Ok(()) => {
                core.quiet.store(true, Ordering::Release);
                core.watched();
                self.lock.held.tell(HoldEnd::ReleasedQuietly);
                // Whoever asks next is behind it on the connection.
                core.notify_free(&self.lock);
            }
            // There is no connection, a renewal is under way, or an earlier request may come late:
            // what takes time is the keeper's.
            Err(lock) => core.node.scheduler.push(CleanupJob::Release(lock)),
        }
        core.wake.notify_one();
    }

    /// Stops the keeping. The reason if the lock was over before.
    pub(super) fn end(&self, now: Instant) -> Option<LossReason> {
        let over = self.lock.held.give_up(now);
        let core = &self.shared.core;
        let (_, owed) = core.node.unschedule(self.index, &self.lock);
        if owed {
            core.wake.notify_one();
        }
        self.lock.changed.notify_waiters();
        over
    }
}

/// Polls `work` until it is over, or `check` says that it must not go on. `lost` is polled beside it,
/// to be woken when a check would fail.
pub(super) async fn run_while_held<W: Future>(
    work: W,
    lost: impl Future,
    check: impl Fn() -> Result<(), LockError>,
) -> Result<W::Output, LockError> {
    let (mut work, mut lost) = (pin!(work), pin!(lost));
    let mut is_lost = false;
    poll_fn(|cx| {
        is_lost = is_lost || lost.as_mut().poll(cx).is_ready();
        // Not only when `lost` has noticed: its timer may come late, behind work that blocks.
        if let Err(error) = check() {
            return Poll::Ready(Err(error));
        }
        match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(check().map(|()| output)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if !self.spent {
            self.release_on_drop();
        }
        self.shared.core.node.scheduler.free_slot(self.index);
    }
}

impl LockGuard {
    /// What a guard that is dropped leaves to be done.
    fn release_on_drop(&self) {
        let core = &self.shared.core;
        // From here on no renewal is begun; one that is under way is waited for by the release.
        let now = clock::monotonic();
        match self.end(now) {
            None if core.hand_off(&self.lock, now) => {}
            None | Some(LossReason::Released) => {
                core.node
                    .scheduler
                    .push(CleanupJob::Release(Arc::clone(&self.lock)));
                core.wake.notify_one();
            }
            Some(_) => core.notify_free(&self.lock),
        }
    }
}

impl super::ClientInner {
    /// Writes the release of a lock that was ended, to be sent with the next write. Gives the lock
    /// back where that is not possible.
    fn release_quietly(&self, lock: &Arc<HeldLock>, now: Now) -> Result<(), Arc<HeldLock>> {
        let held = &lock.held;
        let cas = {
            let state = held.state();
            if state.renewing || held.grant.may_be_replayed {
                return Err(Arc::clone(lock));
            }
            state.cas
        };
        let place = self.node.connections.slot(Some(&held.keys));
        let Some(seat) = place.get() else {
            return Err(Arc::clone(lock));
        };
        let mut release = held.release_operation(cas, now.monotonic);
        let begun = seat
            .connection
            .begin_quiet(Arc::clone(lock) as ReplyObserver, |flight| {
                let prepared = self.node.with_server(seat.instance, |view| {
                    release.poll_transmit(view, now, flight).is_ok()
                });
                prepared == Some(true)
            });
        begun.map_err(|_| Arc::clone(lock))
    }

    /// Hands a lock that was ended on to who waits for it in this process, if somebody does. Where
    /// this returns `false`, it is to be released.
    fn hand_off(&self, lock: &Arc<HeldLock>, now: Instant) -> bool {
        let registry = &self.node.scheduler;
        if self.queues.are_empty() || registry.is_closed() || !lock.held.can_hand_off(now) {
            return false;
        }
        registry.begin_handoff();
        let handed_on = self.queues.hand_off(&lock.held.keys, lock, now);
        if !handed_on {
            registry.end_handoff();
        }
        handed_on
    }

    /// Waits until it is clear what became of a lock that was handed on.
    async fn handed_on(
        &self,
        lock: &HeldLock,
        give_up: Instant,
    ) -> Result<ReleaseOutcome, LockError> {
        loop {
            let mut changed = pin!(lock.changed.notified());
            changed.as_mut().enable();
            match lock.held.begin_handoff() {
                HandoffState::Resolved(outcome) => return Ok(outcome),
                HandoffState::Pending | HandoffState::Unknown if clock::monotonic() < give_up => {}
                HandoffState::Pending | HandoffState::Unknown | HandoffState::Failed => {
                    return Err(self.node.given_up(true, None).about(&lock.held.name));
                }
            }
            let length = give_up.since(clock::monotonic());
            let _ = tokio::time::timeout(length, changed).await;
        }
    }

    /// Nobody in this process holds this lock any more: who waits for it may ask the server.
    pub(super) fn notify_free(&self, lock: &HeldLock) {
        self.queues.notify_free(&lock.held.keys);
    }

    /// Removes the record of a lock that was ended.
    pub(super) async fn release(
        &self,
        lock: &HeldLock,
        mut now: Now,
        give_up: Instant,
    ) -> Result<ReleaseOutcome, LockError> {
        let held = &lock.held;
        let cas = loop {
            let changed = lock.changed.notified();
            {
                let state = held.state();
                if !state.renewing {
                    break state.cas;
                }
            }
            // The renewal may be changing the CAS unique; its end is bounded by its time limit.
            changed.await;
            now = clock::now();
        };
        let mut release = held.release_operation(cas, give_up);
        let about = |error: LockError| error.about(&held.name);
        let span = self.node.telemetry.release_span(&held.name);
        let released = self.drive(&mut release, Some(&held.keys), now, Timeout::Unlimited);
        let released = in_span(&span, pin!(released)).await.map_err(about);
        let _entered = span.enter();
        self.notify_free(lock);
        let released = released?;
        if self.node.schedule_orphan_check(held) {
            self.wake.notify_one();
        }
        let outcome = self.node.released(released).map_err(about)?;
        held.emit_released(outcome);
        Ok(outcome)
    }
}
