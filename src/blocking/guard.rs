//! A lock that is held.

use super::transport::{Timeout, sleep};
use super::{ClientHandle, ClientInner, HeldLock};
use crate::engine::{
    CleanupJob, HandoffState, HoldEnd, LockError, LockState, ReleaseOutcome, clock,
};
use crate::proto::{Instant, LossReason, Now};
use core::fmt;
use core::time::Duration;
use std::sync::Arc;

/// The longest that [`LockGuard::release`] waits for a server that does not answer, unless the
/// operation timeout is longer.
pub(super) const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A lock that is held, until it is released, dropped or lost.
///
/// A keeper thread renews it in the background. **Holding the guard does not mean holding the
/// lock**: ask [`is_valid`](Self::is_valid) or [`ensure`](Self::ensure) before each step that
/// needs it, or watch [`lost`](Self::lost) from another thread, and let the resource check the
/// [fencing token](Self::fencing_token) where it can.
///
/// Dropping the guard stops the renewal at once and gives the lock back before the drop returns,
/// for which it takes at most the operation timeout (1 s unless told otherwise). What goes wrong
/// there is logged, and left to the keeper. To learn whether the lock was held to the end, call
/// [`release`](Self::release).
///
/// # Example
/// ```
/// # #[cfg(all(feature = "blocking", feature = "server"))]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::blocking::Client::connect(server.address())?;
/// use std::time::Duration;
///
/// let guard = client.lock("invoices/42").acquire()?;
/// guard.ensure(Duration::from_secs(1))?; // before each step that needs the lock
/// println!("{:?}", guard.release()?);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "blocking", feature = "server")))]
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

    pub(super) fn held(&self) -> &LockState {
        &self.lock.held
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
    /// It returns at the local deadline whether or not the server can be reached, and never before
    /// the lock stops being [valid](Self::is_valid). For as long as the lock is held it does not
    /// return at all: call it in a thread that has nothing else to do, such as one of a
    /// [`std::thread::scope`] around the guard, or use [`lost_timeout`](Self::lost_timeout).
    #[must_use]
    pub fn lost(&self) -> LossReason {
        loop {
            if let Some(reason) = self.lost_until(Instant::from_nanos(u64::MAX)) {
                return reason;
            }
        }
    }

    /// As [`lost`](Self::lost), for at most `limit`: `None` if the lock is still held then.
    #[must_use]
    pub fn lost_timeout(&self, limit: Duration) -> Option<LossReason> {
        self.lost_until(clock::monotonic().after(limit))
    }

    fn lost_until(&self, until: Instant) -> Option<LossReason> {
        loop {
            let seen = self.lock.changed.generation();
            let now = clock::monotonic();
            let over = self.lock.held.loss(now);
            if over.is_some() || now >= until {
                return over;
            }
            let deadline = self.lock.held.valid_until();
            self.lock.changed.wait(seen, deadline.min(until));
        }
    }

    /// Runs `work` if the lock is held, and returns what it returned if the lock was held until then.
    ///
    /// A thread cannot be ended from outside, so the work gets the guard to ask: [`ensure`](Self::ensure)
    /// before each step that needs the lock. The guard stays with the caller, to be released or
    /// dropped as usual.
    ///
    /// # Errors
    /// The lock was lost before the work began, which it does not then, or before it was over
    /// ([`Lost`](crate::ErrorKind::Lost)); [`loss_reason`](LockError::loss_reason) says why. What the work
    /// returned is dropped then.
    ///
    /// # Example
    /// ```
    /// # #[cfg(feature = "server")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// # let server = memlatch::server::Server::start()?;
    /// # let client = memlatch::blocking::Client::connect(server.address())?;
    /// let guard = client.lock("invoices/42").acquire()?;
    /// let written = guard.run(|held| {
    ///     for step in 1..=3 {
    ///         held.ensure(Duration::from_secs(1))?;
    ///         // … write it, with `held.fencing_token()` …
    ///         # let _ = step;
    ///     }
    ///     Ok::<_, memlatch::LockError>(3)
    /// })??;
    /// assert_eq!(written, 3);
    /// # let _ = guard.release()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "server"))]
    /// # fn main() {}
    /// ```
    pub fn run<T>(&self, work: impl FnOnce(&Self) -> T) -> Result<T, LockError> {
        self.check_held()?;
        let output = work(self);
        self.check_held()?;
        Ok(output)
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
    pub fn release(mut self) -> Result<ReleaseOutcome, LockError> {
        let now = clock::now();
        let valid_until = self.lock.held.valid_until();
        let (over, _) = self.end(now.monotonic);
        self.spent = true;
        let core = &self.shared.core;
        if let Some(reason) = over {
            core.notify_free(&self.lock);
            return Ok(ReleaseOutcome::AlreadyLost { reason });
        }
        let limit = RELEASE_LIMIT.max(core.node.config.operation_timeout);
        let give_up = release_until(valid_until, now.monotonic).min(now.monotonic.after(limit));
        if core.hand_off(&self.lock, now.monotonic) {
            return core.handed_on(&self.lock, give_up);
        }
        let outcome = core.release(&self.lock, now, give_up);
        if let Err(error) = &outcome {
            let later = may_succeed_later(error);
            self.lock.held.emit_release_failed(error, later);
            if later {
                core.schedule_release(&self.lock);
            }
        }
        outcome
    }

    /// Gives the lock back without waiting for the answer: the request is sent at once, and the
    /// answer is read with that to the next request on the same connection, such as the next
    /// acquisition.
    ///
    /// The lock may not be free yet when this returns, and whether it was held to the end is not
    /// told. Where the answer is not that it was released, or none comes, the keeper releases it
    /// once more and logs what comes of that;
    /// [`Client::quiet_failures`](super::Client::quiet_failures) counts those. It is noticed when
    /// the connection is used again, or at a [shutdown](super::Client::shutdown); without either,
    /// the lock frees itself with its lease.
    ///
    /// Where no idle connection can take the request, or the last renewal is not answered, the
    /// release is left to the keeper, as by a drop that finds no answer. Where more connections are
    /// idle than are kept, this one's answer is waited for, for at most the operation timeout.
    pub fn release_quietly(mut self) {
        let now = clock::now();
        self.spent = true;
        let (over, _) = self.end(now.monotonic);
        let core = &self.shared.core;
        if over.is_some() {
            core.notify_free(&self.lock);
            return;
        }
        if core.hand_off(&self.lock, now.monotonic) {
            return;
        }
        if core.release_quietly(&self.lock, now) {
            self.lock.held.tell(HoldEnd::ReleasedQuietly);
            core.notify_free(&self.lock);
        } else {
            core.schedule_release(&self.lock);
        }
    }

    /// Stops the keeping. Returns the reason if the lock was over before, and whether it was still
    /// kept, so that nobody else gives it back.
    pub(super) fn end(&self, now: Instant) -> (Option<LossReason>, bool) {
        let over = self.lock.held.give_up(now);
        let core = &self.shared.core;
        let (kept, owed) = core.node.unschedule(self.index, &self.lock);
        if owed {
            core.wake.notify();
        }
        self.lock.changed.notify();
        (over, kept)
    }
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
        // From here on no renewal is begun; one that is under way is waited for by the release.
        let now = clock::now();
        let (over, kept) = self.end(now.monotonic);
        let ours = match over {
            None => true,
            // Shut down: what was taken out of keeping before is the keeper's to give back.
            Some(LossReason::Released) => kept,
            Some(_) => false,
        };
        let core = &self.shared.core;
        if !ours {
            core.notify_free(&self.lock);
            return;
        }
        if over.is_none() && core.hand_off(&self.lock, now.monotonic) {
            return;
        }
        let deadline = now.monotonic.after(core.node.config.operation_timeout);
        if let Err(error) = core.release(&self.lock, now, deadline) {
            let later = may_succeed_later(&error);
            self.lock.held.emit_release_failed(&error, later);
            if later {
                core.schedule_release(&self.lock);
            }
        }
    }
}

/// Whether a release that ended with this error is worth another try.
pub(super) fn may_succeed_later(error: &LockError) -> bool {
    error.is_unavailable() || error.is_unknown()
}

/// The instant at which a release that finds no answer is given up: the end of the lease, after
/// which the record is about to go by itself, and at least a moment from now.
pub(super) fn release_until(valid_until: Instant, now: Instant) -> Instant {
    valid_until.max(now.after(Duration::from_millis(100)))
}

impl ClientInner {
    /// Hands a lock that was ended on to who waits for it in this process, if somebody does. Where
    /// this returns `false`, it is to be released.
    pub(super) fn hand_off(&self, lock: &Arc<HeldLock>, now: Instant) -> bool {
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
    pub(super) fn handed_on(
        &self,
        lock: &HeldLock,
        give_up: Instant,
    ) -> Result<ReleaseOutcome, LockError> {
        loop {
            let seen = lock.changed.generation();
            match lock.held.begin_handoff() {
                HandoffState::Resolved(outcome) => return Ok(outcome),
                HandoffState::Pending | HandoffState::Unknown if clock::monotonic() < give_up => {}
                HandoffState::Pending | HandoffState::Unknown | HandoffState::Failed => {
                    return Err(self.node.given_up(true, None).about(&lock.held.name));
                }
            }
            lock.changed.wait(seen, give_up);
        }
    }

    /// Nobody in this process holds this lock any more: who waits for it may ask the server.
    pub(super) fn notify_free(&self, lock: &HeldLock) {
        self.queues.notify_free(&lock.held.keys);
    }

    /// Removes the record of a lock that was ended, by `deadline` or not at all.
    fn release(
        &self,
        lock: &HeldLock,
        mut now: Now,
        deadline: Instant,
    ) -> Result<ReleaseOutcome, LockError> {
        let held = &lock.held;
        let about = |error: LockError| error.about(&held.name);
        let Some(cas) = self.settled_cas(lock, &mut now, deadline) else {
            return Err(about(self.node.given_up(false, None)));
        };
        let span = self.node.telemetry.release_span(&held.name);
        let _entered = span.enter();
        let mut release = held.release_operation(cas, deadline);
        let released = self.drive(&mut release, now, Timeout::Deadline(deadline), sleep);
        self.notify_free(lock);
        let released = released.map_err(about)?;
        if self.node.schedule_orphan_check(held) {
            self.wake.notify();
        }
        let outcome = self.node.released(released).map_err(about)?;
        held.emit_released(outcome);
        Ok(outcome)
    }

    /// The CAS unique of a lock that was ended: not before a renewal is over that may be changing
    /// it. Nothing if that takes until `deadline`.
    pub(super) fn settled_cas(
        &self,
        lock: &HeldLock,
        now: &mut Now,
        deadline: Instant,
    ) -> Option<u64> {
        loop {
            let seen = lock.changed.generation();
            {
                let state = lock.held.state();
                if !state.renewing {
                    return Some(state.cas);
                }
            }
            if now.monotonic >= deadline {
                return None;
            }
            lock.changed.wait(seen, deadline);
            *now = clock::now();
        }
    }

    /// Leaves the release to the keeper, which goes on trying.
    pub(super) fn schedule_release(&self, lock: &Arc<HeldLock>) {
        self.node
            .scheduler
            .push(CleanupJob::Release(Arc::clone(lock)));
        self.wake.notify();
    }
}
