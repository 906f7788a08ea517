//! The guard of several locks that are held together.

use super::Connections;
use super::guard::LockGuard;
use crate::engine::exchange::run;
use crate::engine::facade::{impl_multi_lock_guard, multi_lock_guard_methods};
use crate::engine::guard::Guard;
use crate::engine::multi_lock::{
    AcquiredLocks, outcome, release_dropped, release_together, renew_all, verify_all, wait_any,
};
use crate::engine::notify::Notify;
use crate::engine::{LockError, MultiReleaseOutcome, clock};
use crate::proto::{Instant, LossReason};
use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;

/// The guard of several locks that are held together, until they are released, dropped or one of
/// them is lost.
///
/// Made by a [`MultiLock`](super::MultiLock). It [is valid](Self::is_valid) only while all of its
/// locks are. The documentation of [`LockGuard`] on holding a lock applies to each of them.
///
/// The locks are renewed together, by one flight (of 32 locks at most), and released together, by
/// one flight that begins with the lock that was acquired last. When one is lost the others are
/// still held, until the guard is dropped or released.
///
/// Dropping the guard stops the renewals at once and releases the locks before the drop returns,
/// which takes at most the operation timeout (1 s unless set otherwise). A failure of that is
/// logged, and the renewer retries it.
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
#[must_use = "the locks are released as soon as their guard is dropped"]
pub struct MultiLockGuard {
    /// The guards, in the order of acquisition. At least one.
    guards: Vec<LockGuard>,
    /// Notified when any of the locks changes.
    changed: Arc<Notify>,
}

impl_multi_lock_guard!(Connections);

impl MultiLockGuard {
    multi_lock_guard_methods!();

    /// Waits until one of the locks is lost, and returns its name and the reason, see
    /// [`LockGuard::lost`]. If several are lost by then, it is the one that was acquired first.
    ///
    /// While all are held it does not return: call it in a thread that has no other work, or use
    /// [`lost_timeout`](Self::lost_timeout).
    #[must_use]
    pub fn lost(&self) -> (&str, LossReason) {
        loop {
            // A wait without a time limit ends with a result.
            if let Some(found) = run(self.lost_until(None)) {
                return found;
            }
        }
    }

    /// Waits as [`lost`](Self::lost) does, for at most `limit`: `None` if all are still held then.
    #[must_use]
    pub fn lost_timeout(&self, limit: Duration) -> Option<(&str, LossReason)> {
        run(self.lost_until(Some(clock::monotonic().after(limit))))
    }

    /// Waits until less than `margin` remains of one of the locks, and returns its name and the
    /// time that remains, see [`LockGuard::expiring`]. While all renewals succeed it does not
    /// return, see [`expiring_timeout`](Self::expiring_timeout).
    #[must_use]
    pub fn expiring(&self, margin: Duration) -> (&str, Duration) {
        loop {
            // A wait without a time limit ends with a result.
            if let Some(found) = run(self.expiring_until(margin, None)) {
                return found;
            }
        }
    }

    /// Waits as [`expiring`](Self::expiring) does, for at most `limit`: `None` if more than
    /// `margin` remains then.
    #[must_use]
    pub fn expiring_timeout(&self, margin: Duration, limit: Duration) -> Option<(&str, Duration)> {
        let until = clock::monotonic().after(limit);
        run(self.expiring_until(margin, Some(until)))
    }

    /// Runs `work` if all of the locks are held, and returns its result if they were held to the
    /// end of it, see [`LockGuard::run`].
    ///
    /// # Errors
    /// One of the locks was lost before the work began or before it ended
    /// ([`Lost`](crate::ErrorKind::Lost)): the error names it.
    pub fn run<T>(&self, work: impl FnOnce(&Self) -> T) -> Result<T, LockError> {
        self.check_held()?;
        let output = work(self);
        self.check_held()?;
        Ok(output)
    }

    /// Renews all of the locks now, and returns how long all of them are certain then, see
    /// [`LockGuard::renew`].
    ///
    /// # Errors
    /// As for [`LockGuard::renew`]: the first error, in the order of acquisition. The other locks
    /// were renewed if possible.
    pub fn renew(&self) -> Result<Duration, LockError> {
        run(renew_all(&self.inner()))?;
        Ok(self.remaining())
    }

    /// Asks the server whether all of the locks are still held, in one round trip, see
    /// [`LockGuard::verify`].
    ///
    /// # Errors
    /// As for [`LockGuard::verify`]: the first error, in the order of acquisition.
    pub fn verify(&self) -> Result<(), LockError> {
        run(verify_all(&self.inner()))
    }

    /// Releases all of the locks and returns whether they were held to the end.
    ///
    /// # Errors
    /// As for [`LockGuard::release`]: the first error, in the order of acquisition. The others are
    /// released all the same; whether one of them was lost before is then not reported.
    pub fn release(mut self) -> Result<MultiReleaseOutcome, LockError> {
        let guards = self.guards.drain(..).map(|guard| guard.inner).collect();
        outcome(run(release_together(guards)))
    }
}
