//! Several locks that are held together.

use super::guard::{LockGuard, RELEASE_LIMIT, may_succeed_later, release_until};
use super::notify::ThreadNotify;
use super::transport::{Timeout, sleep};
use super::{ClientInner, HeldLock};
use crate::engine::multi_lock::outcome;
use crate::engine::{LockError, LockState, MultiReleaseOutcome, ReleaseOutcome, clock};
use crate::proto::{Batch, Instant, LossReason, Now, ReleaseStatus, Verify};
use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;

/// Several locks that are held together, until they are released, dropped or one of them is lost.
///
/// Made by a [`MultiLock`](super::MultiLock). It is worth no more than the weakest of its locks: it
/// [is valid](Self::is_valid) for as long as all of them are. What a [`LockGuard`] says about
/// holding it goes for each of them.
///
/// They are renewed together, by one flight (of 32 locks at most), and released together, by one
/// flight in which the one that was taken last comes first. When one is lost the others are still
/// held, until the guard is dropped or released.
///
/// Dropping the guard stops the renewals at once and gives the locks back before the drop returns,
/// for which it takes at most the operation timeout (1 s unless told otherwise). What goes wrong
/// there is logged, and left to the keeper.
///
/// # Example
/// ```
/// # #[cfg(all(feature = "blocking", feature = "server"))]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::blocking::Client::connect(server.address())?;
/// let accounts = client.lock_all(["account/17", "account/4"]);
/// let guard = accounts.acquire()?;
/// assert!(guard.is_valid());
/// assert!(guard.fencing_token("account/4").is_some());
/// println!("{:?}", guard.release()?);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "blocking", feature = "server")))]
/// # fn main() {}
/// ```
#[must_use = "the locks are given back as soon as their guard is dropped"]
pub struct MultiLockGuard {
    /// In the order in which they were taken. At least one.
    guards: Vec<LockGuard>,
    /// Something about one of them has changed.
    changed: Arc<ThreadNotify>,
}

impl fmt::Debug for MultiLockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.guards).finish()
    }
}

impl Drop for MultiLockGuard {
    fn drop(&mut self) {
        let guards = core::mem::take(&mut self.guards);
        if let Some(limit) = operation_timeout(&guards) {
            give_back(guards, limit);
        }
    }
}

impl MultiLockGuard {
    /// Guards of locks of one client, all of them held.
    pub(super) fn new(guards: Vec<LockGuard>) -> Self {
        let changed = Arc::new(ThreadNotify::default());
        for guard in &guards {
            guard.lock.changed.chain(Arc::clone(&changed));
        }
        if let Some(guard) = guards.first() {
            let registry = &guard.shared.core.node.scheduler;
            registry.group(guards.iter().map(|guard| (guard.index, &guard.lock)));
        }
        Self { guards, changed }
    }

    /// The names of the locks, in the order in which they were taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.guards.iter().map(LockGuard::name)
    }

    /// The guards of the locks, in the order in which they were taken.
    pub fn guards(&self) -> &[LockGuard] {
        &self.guards
    }

    /// The guard of the lock of this name, if it is one of these.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LockGuard> {
        self.guards.iter().find(|guard| guard.name() == name)
    }

    /// Makes single guards of it, in the order in which the locks were taken: for who is done with
    /// some of them earlier than with others.
    #[must_use = "the locks are given back as soon as their guards are dropped"]
    pub fn into_guards(mut self) -> Vec<LockGuard> {
        core::mem::take(&mut self.guards)
    }

    /// The fencing token of the lock of this name, see [`LockGuard::fencing_token`]. `None` also
    /// where the name is none of these.
    #[must_use]
    pub fn fencing_token(&self, name: &str) -> Option<u64> {
        self.get(name)?.fencing_token()
    }

    /// How long all of the locks are certain without another renewal; nothing once one is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let remaining = self.guards.iter().map(LockGuard::remaining);
        remaining.min().unwrap_or_default()
    }

    /// Whether all of the locks are held for sure at this instant. Asks nobody.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.guards.iter().all(LockGuard::is_valid)
    }

    /// Checks that all of the locks are certain for at least `wanted` longer, without a renewal.
    ///
    /// # Errors
    /// One is lost, or nearer to its end than that: the error names it. [`kind`](LockError::kind)
    /// is [`Lost`](crate::ErrorKind::Lost).
    pub fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
        self.guards
            .iter()
            .try_for_each(|guard| guard.ensure(wanted))
    }

    /// Waits until one of the locks is not held any more, and says which and why, see
    /// [`LockGuard::lost`]. Where several are lost by then, it is the one that was taken first.
    ///
    /// For as long as all are held it does not return: call it in a thread that has nothing else to
    /// do, or use [`lost_timeout`](Self::lost_timeout).
    #[must_use]
    pub fn lost(&self) -> (&str, LossReason) {
        loop {
            if let Some(lost) = self.lost_until(NEVER) {
                return lost;
            }
        }
    }

    /// As [`lost`](Self::lost), for at most `limit`: `None` if all are still held then.
    #[must_use]
    pub fn lost_timeout(&self, limit: Duration) -> Option<(&str, LossReason)> {
        self.lost_until(clock::monotonic().after(limit))
    }

    fn lost_until(&self, until: Instant) -> Option<(&str, LossReason)> {
        self.wait_until(until, |guard, now| match guard.held().loss(now) {
            Some(reason) => Ok((guard.name(), reason)),
            None => Err(guard.held().valid_until()),
        })
    }

    /// Waits until one of the locks is nearer to its end than `margin`, and says which and what
    /// remains of it, see [`LockGuard::expiring`]. As long as all is well it does not return, see
    /// [`expiring_timeout`](Self::expiring_timeout).
    #[must_use]
    pub fn expiring(&self, margin: Duration) -> (&str, Duration) {
        loop {
            if let Some(danger) = self.expiring_until(margin, NEVER) {
                return danger;
            }
        }
    }

    /// As [`danger`](Self::expiring), for at most `limit`: `None` if all is well then.
    #[must_use]
    pub fn expiring_timeout(&self, margin: Duration, limit: Duration) -> Option<(&str, Duration)> {
        self.expiring_until(margin, clock::monotonic().after(limit))
    }

    fn expiring_until(&self, margin: Duration, until: Instant) -> Option<(&str, Duration)> {
        self.wait_until(until, |guard, now| {
            let remaining = guard.held().remaining(now);
            match remaining.checked_sub(margin).filter(|left| !left.is_zero()) {
                Some(left) => Err(now.after(left)),
                None => Ok((guard.name(), remaining)),
            }
        })
    }

    /// Waits until there is something to say about one of the locks, for at most until then. `look`
    /// finds it, or says when to look again if there is no news before.
    fn wait_until<'a, T>(
        &'a self,
        until: Instant,
        mut look: impl FnMut(&'a LockGuard, Instant) -> Result<T, Instant>,
    ) -> Option<T> {
        loop {
            let seen = self.changed.generation();
            let now = clock::monotonic();
            let mut next = until;
            for guard in &self.guards {
                match look(guard, now) {
                    Ok(found) => return Some(found),
                    Err(again) => next = next.min(again),
                }
            }
            if now >= until {
                return None;
            }
            self.changed.wait(seen, next);
        }
    }

    /// Runs `work` if all of the locks are held, and returns what it returned if they were held until
    /// then, see [`LockGuard::run`].
    ///
    /// # Errors
    /// One of the locks was lost before the work began or was over
    /// ([`Lost`](crate::ErrorKind::Lost)): the error names it.
    pub fn run<T>(&self, work: impl FnOnce(&Self) -> T) -> Result<T, LockError> {
        let check = || self.guards.iter().try_for_each(LockGuard::check_held);
        check()?;
        let output = work(self);
        check()?;
        Ok(output)
    }

    /// Renews all of the locks now, and returns for how long all of them are certain then, see
    /// [`LockGuard::renew`].
    ///
    /// # Errors
    /// As [`LockGuard::renew`]: the first error, in the order in which the locks were taken. The
    /// others were renewed if they could be.
    pub fn renew(&self) -> Result<Duration, LockError> {
        // All are asked for before the first is waited for.
        let asked: Vec<_> = self.guards.iter().map(LockGuard::ask_for_renewal).collect();
        let renewed = self.guards.iter().zip(asked);
        let renewed: Vec<_> = renewed
            .map(|(guard, asked)| guard.renewed(asked?))
            .collect();
        for result in renewed {
            result?;
        }
        Ok(self.remaining())
    }

    /// Asks the server whether all of the locks are still held, in one round trip, see
    /// [`LockGuard::verify`].
    ///
    /// # Errors
    /// As [`LockGuard::verify`]: the first error, in the order in which the locks were taken.
    pub fn verify(&self) -> Result<(), LockError> {
        let Some(first) = self.guards.first() else {
            return Ok(());
        };
        let now = clock::now();
        for guard in &self.guards {
            guard.held().check_held(now.monotonic)?;
        }
        let looks = self.guards.iter().map(LockGuard::held);
        let mut looks = Batch::new(looks.map(|held| Verify::new(&held.keys, &held.grant)));
        let core = &first.shared.core;
        let driven = core.drive(&mut looks, now, Timeout::Unlimited, sleep);
        let mut silence = driven.err();
        let mut verified = Ok(());
        for (guard, outcome) in self.guards.iter().zip(looks.outcomes()) {
            let result = match outcome {
                Some(outcome) => guard.verified(outcome),
                None => silence
                    .take()
                    .map_or(Ok(()), |error| Err(error.about(guard.name()))),
            };
            verified = verified.and(result);
        }
        verified
    }

    /// Gives all of the locks back and says what truly happened.
    ///
    /// # Errors
    /// As [`LockGuard::release`]: the first error, in the order in which the locks were taken. It
    /// does not keep the others from being released; whether one of them was lost before is not told
    /// then.
    pub fn release(mut self) -> Result<MultiReleaseOutcome, LockError> {
        let guards = core::mem::take(&mut self.guards);
        let limit = operation_timeout(&guards).unwrap_or_default();
        outcome(release(guards, RELEASE_LIMIT.max(limit)))
    }
}

/// An instant that does not come.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// How long an answer to any of these is waited for; nothing where there are none.
pub(super) fn operation_timeout(guards: &[LockGuard]) -> Option<Duration> {
    let core = &guards.first()?.shared.core;
    Some(core.node.config.operation_timeout)
}

/// What came of a release.
type Release = (Arc<str>, Result<ReleaseOutcome, LockError>);

/// A lock that was ended.
struct PendingRelease {
    lock: Arc<HeldLock>,
    /// How long an answer is waited for.
    give_up: Instant,
    /// What came of its release, where that is known without asking.
    known: Option<ReleaseOutcome>,
    handed_on: bool,
}

/// Gives locks back together, as a drop does: within `limit`.
pub(super) fn give_back(guards: Vec<LockGuard>, limit: Duration) {
    // What came of it was told.
    drop(release(guards, limit));
}

/// Releases locks together, the last one first: all requests are on their way before the first
/// answer is waited for. What came of each, in the order of the guards. What is not answered within
/// `limit` is left to the keeper; without any, all of it.
fn release(guards: Vec<LockGuard>, limit: Duration) -> Vec<Release> {
    let Some(shared) = guards.first().map(|guard| Arc::clone(&guard.shared)) else {
        return Vec::new();
    };
    let core = &shared.core;
    let now = clock::now();
    let limit = now.monotonic.after(limit);
    let backwards = guards.into_iter().rev();
    let ended: Vec<PendingRelease> = backwards
        .map(|guard| end(core, guard, limit, now.monotonic))
        .collect();
    let mut released: Vec<Release> = core.release_together(&ended, now);
    released.reverse();
    released
}

/// Ends a lock, and hands it on to who waits for it in this process.
fn end(core: &ClientInner, mut guard: LockGuard, limit: Instant, now: Instant) -> PendingRelease {
    let give_up = release_until(guard.held().valid_until(), now).min(limit);
    let (over, kept) = guard.end(now);
    guard.spent = true;
    let lock = Arc::clone(&guard.lock);
    let known = match over {
        // Shut down, and taken out of keeping by this call: nobody else gives it back.
        Some(LossReason::Released) if kept => None,
        Some(reason) => {
            core.notify_free(&lock);
            Some(ReleaseOutcome::AlreadyLost { reason })
        }
        None => None,
    };
    PendingRelease {
        handed_on: over.is_none() && core.hand_off(&lock, now),
        lock,
        give_up,
        known,
    }
}

impl ClientInner {
    fn release_together(&self, ended: &[PendingRelease], mut now: Now) -> Vec<Release> {
        let mut batch = Vec::new();
        for (place, one) in ended.iter().enumerate() {
            if one.known.is_some() || one.handed_on {
                continue;
            }
            let in_time = now.monotonic < one.give_up;
            let settled = || self.settled_cas(&one.lock, &mut now, one.give_up);
            if let Some(cas) = in_time.then(settled).flatten() {
                batch.push((place, cas));
            }
        }
        let requests = batch.iter().map(|(place, cas)| {
            let one = &ended[*place];
            one.lock.held.release_operation(*cas, one.give_up)
        });
        let mut requests = Batch::new(requests);
        let latest = ended.iter().map(|one| one.give_up).max();
        let bound = latest.map_or(Timeout::Unlimited, Timeout::Deadline);
        let driven = match batch.is_empty() {
            true => Ok(()),
            false => self.drive(&mut requests, clock::now(), bound, sleep),
        };
        let mut silence = driven.err();
        let mut answers: Vec<_> = ended.iter().map(|_| None).collect();
        for ((place, _), answer) in batch.iter().zip(requests.outcomes()) {
            answers[*place] = Some(answer);
        }
        let mut results = Vec::with_capacity(ended.len());
        for (one, answer) in ended.iter().zip(answers) {
            let held = &one.lock.held;
            let result = match (one.known, answer) {
                (Some(known), _) => Ok(known),
                (None, _) if one.handed_on => self.handed_on(&one.lock, one.give_up),
                // A renewal is under way, or there was no time at all.
                (None, None) => Err(self.node.given_up(false, None)),
                (None, Some(answer)) => {
                    self.notify_free(&one.lock);
                    self.answered(held, answer.ok_or_else(|| silence.take()))
                }
            };
            let result = result.map_err(|error| error.about(&held.name));
            if let Some(error) = result.as_ref().err().filter(|_| !one.handed_on) {
                let later = may_succeed_later(error);
                held.emit_release_failed(error, later);
                if later {
                    self.schedule_release(&one.lock);
                }
            }
            results.push((Arc::clone(&held.name), result));
        }
        results
    }

    /// What the answer to a release means, or its want.
    fn answered(
        &self,
        held: &LockState,
        answer: Result<ReleaseStatus, Option<LockError>>,
    ) -> Result<ReleaseOutcome, LockError> {
        let released =
            answer.map_err(|why| why.unwrap_or_else(|| self.node.given_up(true, None)))?;
        if self.node.schedule_orphan_check(held) {
            self.wake.notify();
        }
        let outcome = self.node.released(released)?;
        held.emit_released(outcome);
        Ok(outcome)
    }
}
