//! The guard of several locks that are held together.

use super::guard::{LockGuard, run_while_held};
use super::pool::ConnectionPool;
use crate::engine::facade::{impl_multi_lock_guard, multi_lock_guard_methods};
use crate::engine::guard::Guard;
use crate::engine::multi_lock::{
    AcquiredLocks, outcome, release_dropped, release_together, renew_all, verify_all, wait_any,
};
use crate::engine::notify::Notify;
use crate::engine::{LockError, MultiReleaseOutcome};
use crate::proto::{Instant, LossReason};
use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;

/// The guard of several locks that are held together, until they are released, dropped or one of
/// them is lost.
///
/// Made by a [`MultiLock`](crate::MultiLock). It [is valid](Self::is_valid) only while all of its
/// locks are. The documentation of [`LockGuard`] on holding a lock applies to each of them.
///
/// The locks are renewed together, by one flight (of 32 locks at most), and released together: all
/// requests are sent before the client waits for the first reply, beginning with the lock that was
/// acquired last. When one is lost the others are still held, until the guard is dropped or
/// released.
///
/// Dropping the guard stops the renewals at once and leaves the releases to the renewer.
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
#[must_use = "the locks are released as soon as their guard is dropped"]
pub struct MultiLockGuard {
    /// The guards, in the order of acquisition. At least one.
    guards: Vec<LockGuard>,
    /// Notified when any of the locks changes.
    changed: Arc<Notify>,
}

impl_multi_lock_guard!(ConnectionPool);

impl MultiLockGuard {
    multi_lock_guard_methods!();

    /// Waits until one of the locks is lost, and returns its name and the reason, see
    /// [`LockGuard::lost`]. If several are lost by then, it is the one that was acquired first.
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn lost(&self) -> (&str, LossReason) {
        loop {
            // A wait without a time limit ends with a result.
            if let Some(found) = self.lost_until(None).await {
                return found;
            }
        }
    }

    /// Waits until less than `margin` remains of one of the locks, and returns its name and the
    /// time that remains, see [`LockGuard::expiring`].
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn expiring(&self, margin: Duration) -> (&str, Duration) {
        loop {
            // A wait without a time limit ends with a result.
            if let Some(found) = self.expiring_until(margin, None).await {
                return found;
            }
        }
    }

    /// Runs `work` while all of the locks are held, see [`LockGuard::run`].
    ///
    /// # Errors
    /// One of the locks was lost before the work was done ([`Lost`](crate::ErrorKind::Lost)): the
    /// error names it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and leaves the locks held.
    pub async fn run<W: Future>(&self, work: W) -> Result<W::Output, LockError> {
        run_while_held(work, self.lost(), || self.check_held()).await
    }

    /// Renews all of the locks now, and returns how long all of them are certain then, see
    /// [`LockGuard::renew`].
    ///
    /// # Errors
    /// As for [`LockGuard::renew`]: the first error, in the order of acquisition. The other locks
    /// were renewed if possible.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the renewals, which the renewer does.
    pub async fn renew(&self) -> Result<Duration, LockError> {
        renew_all(&self.inner()).await?;
        Ok(self.remaining())
    }

    /// Asks the server whether all of the locks are still held, in one round trip, see
    /// [`LockGuard::verify`].
    ///
    /// # Errors
    /// As for [`LockGuard::verify`]: the first error, in the order of acquisition.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn verify(&self) -> Result<(), LockError> {
        verify_all(&self.inner()).await
    }

    /// Releases all of the locks and returns whether they were held to the end.
    ///
    /// # Errors
    /// As for [`LockGuard::release`]: the first error, in the order of acquisition. The others are
    /// released all the same; whether one of them was lost before is then not reported.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the releases to the renewer.
    pub async fn release(mut self) -> Result<MultiReleaseOutcome, LockError> {
        let guards = self.guards.drain(..).map(|guard| guard.inner).collect();
        outcome(release_together(guards).await)
    }
}
