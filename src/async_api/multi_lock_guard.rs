//! Several locks that are held together.

use super::guard::{LockGuard, run_while_held};
use crate::engine::multi_lock::outcome;
use crate::engine::{LockError, MultiReleaseOutcome, ReleaseOutcome};
use crate::proto::LossReason;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// Several locks that are held together, until they are released, dropped or one of them is lost.
///
/// Made by a [`MultiLock`](crate::MultiLock). It is worth no more than the weakest of its locks: it
/// [is valid](Self::is_valid) for as long as all of them are. What a [`LockGuard`] says about
/// holding it goes for each of them.
///
/// They are renewed together, by one flight (of 32 locks at most), and released together: all
/// requests are on their way before the first answer is waited for, the one of the lock that was
/// taken last first. When one is lost the others are still held, until the guard is dropped or
/// released.
///
/// Dropping the guard stops the renewals at once and leaves the releases to the keeper.
///
/// # Example
/// ```
/// # #[cfg(all(feature = "tokio", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::Client::connect(server.address()).await?;
/// let accounts = client.lock_all(["account/17", "account/4"]);
/// let guard = accounts.acquire().await?;
/// assert!(guard.is_valid());
/// assert!(guard.fencing_token("account/4").is_some());
/// println!("{:?}", guard.release().await?);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "tokio", feature = "server")))]
/// # fn main() {}
/// ```
#[must_use = "the locks are given back as soon as their guard is dropped"]
pub struct MultiLockGuard {
    /// In the order in which they were taken. At least one.
    guards: Vec<LockGuard>,
}

impl fmt::Debug for MultiLockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.guards).finish()
    }
}

impl Drop for MultiLockGuard {
    fn drop(&mut self) {
        // The last one first: who waits for all of them finds the rest free when it is his turn.
        while self.guards.pop().is_some() {}
    }
}

impl MultiLockGuard {
    /// Guards of locks of one client, all of them held.
    pub(super) fn new(guards: Vec<LockGuard>) -> Self {
        if let Some(guard) = guards.first() {
            let registry = &guard.shared.core.node.scheduler;
            registry.group(guards.iter().map(|guard| (guard.index, &guard.lock)));
        }
        Self { guards }
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
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn lost(&self) -> (&str, LossReason) {
        let (guard, reason) = first(self.guards.iter().map(LockGuard::lost)).await;
        (self.guards[guard].name(), reason)
    }

    /// Waits until one of the locks is nearer to its end than `margin`, and says which and what
    /// remains of it, see [`LockGuard::expiring`].
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn expiring(&self, margin: Duration) -> (&str, Duration) {
        let danger = self.guards.iter().map(|guard| guard.expiring(margin));
        let (guard, remaining) = first(danger).await;
        (self.guards[guard].name(), remaining)
    }

    /// Runs `work` for as long as all of the locks are held, see [`LockGuard::run`].
    ///
    /// # Errors
    /// One of the locks was lost before the work was done ([`Lost`](crate::ErrorKind::Lost)): the error
    /// names it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and leaves the locks held.
    pub async fn run<W: Future>(&self, work: W) -> Result<W::Output, LockError> {
        let check = || self.guards.iter().try_for_each(LockGuard::check_held);
        run_while_held(work, self.lost(), check).await
    }

    /// Renews all of the locks now, and returns for how long all of them are certain then, see
    /// [`LockGuard::renew`].
    ///
    /// # Errors
    /// As [`LockGuard::renew`]: the first error, in the order in which the locks were taken. The
    /// others were renewed if they could be.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the renewals, which are the keeper's.
    pub async fn renew(&self) -> Result<Duration, LockError> {
        for renewed in all(self.guards.iter().map(LockGuard::renew)).await {
            renewed?;
        }
        Ok(self.remaining())
    }

    /// Asks the server whether all of the locks are still held, in one round trip, see
    /// [`LockGuard::verify`].
    ///
    /// # Errors
    /// As [`LockGuard::verify`]: the first error, in the order in which the locks were taken.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn verify(&self) -> Result<(), LockError> {
        let verified = all(self.guards.iter().map(LockGuard::verify)).await;
        verified.into_iter().collect()
    }

    /// Gives all of the locks back and says what truly happened.
    ///
    /// # Errors
    /// As [`LockGuard::release`]: the first error, in the order in which the locks were taken. It
    /// does not keep the others from being released; whether one of them was lost before is not told
    /// then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the releases to the keeper.
    pub async fn release(mut self) -> Result<MultiReleaseOutcome, LockError> {
        outcome(release(core::mem::take(&mut self.guards)).await)
    }
}

/// Releases locks together, the last one first. What came of each, in the order of the guards.
pub(super) async fn release(
    guards: Vec<LockGuard>,
) -> Vec<(Arc<str>, Result<ReleaseOutcome, LockError>)> {
    let releases = guards.into_iter().rev().map(|guard| async move {
        let name = Arc::clone(&guard.lock.held.name);
        (name, guard.release().await)
    });
    let mut released = all(releases).await;
    released.reverse();
    released
}

/// What comes of each of these, all of which are begun before any is waited for.
pub(super) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<Option<Pin<Box<F>>>> = futures
        .into_iter()
        .map(|future| Some(Box::pin(future)))
        .collect();
    let mut outputs: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut over = true;
        for (slot, output) in pending.iter_mut().zip(&mut outputs) {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(cx) {
                Poll::Ready(ready) => {
                    *output = Some(ready);
                    *slot = None;
                }
                Poll::Pending => over = false,
            }
        }
        if over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// The first of these to be over, by its place, and what came of it. Of none, nothing ever comes.
pub(super) async fn first<F: Future>(futures: impl IntoIterator<Item = F>) -> (usize, F::Output) {
    let mut pending: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|cx| {
        for (place, future) in pending.iter_mut().enumerate() {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready((place, output));
            }
        }
        Poll::Pending
    })
    .await
}
