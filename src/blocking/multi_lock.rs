//! The handle of several names' locks.

use super::Client;
use super::Connections;
use super::multi_lock_guard::MultiLockGuard;
use crate::engine::client::ClientHandle;
use crate::engine::exchange::run;
use crate::engine::facade::impl_multi_lock;
use crate::engine::multi_lock::{names, sort_by_key};
use crate::engine::{LockError, LockOptions};
use core::fmt;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// The locks of several names, to be held together: a handle that acquires them.
///
/// Made by [`Client::lock_all`]. The client acquires the locks one after another, with one round
/// trip each if they are free, and always in the same order: that of the bytes of their memcached
/// keys, whatever order the caller named them in. So multi-locks never wait for each other in a
/// circle: a waiter holds only locks that come before the one it waits for, in an order that is the
/// same for every client. That is true of multi-locks only; a program that acquires one more lock
/// while it holds a multi-lock must avoid circles itself.
///
/// While the client waits for one lock, those it has acquired already are held and renewed. If one
/// of these is lost meanwhile, the others are released within about a second, and the acquisition
/// starts over. If the acquisition fails, the acquired locks are released: either all of the locks
/// are held or none.
///
/// # Example
/// ```no_run
/// # fn example(client: memlatch::blocking::Client) -> Result<(), memlatch::LockError> {
/// use memlatch::MultiReleaseOutcome;
/// use std::time::Duration;
///
/// // Two transfers between the same accounts, in opposite directions, do not block each other
/// // for ever.
/// let accounts = client.lock_all(["account/17", "account/4"]);
/// let guard = accounts.acquire_timeout(Duration::from_secs(5))?;
/// guard.ensure(Duration::from_secs(1))?;
/// // … book it, with the fencing tokens of both …
/// let tokens = (guard.fencing_token("account/17"), guard.fencing_token("account/4"));
/// # println!("{tokens:?}");
/// match guard.release()? {
///     MultiReleaseOutcome::Released => {}
///     MultiReleaseOutcome::AlreadyLost { lost } => eprintln!("check what was booked: lost {lost:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MultiLock {
    shared: Arc<ClientHandle<Connections>>,
    /// The locks, in the order of their acquisition.
    locks: Vec<LockOptions>,
}

impl_multi_lock!();

impl MultiLock {
    /// Acquires all of the locks, waiting for as long as others hold one of them. A
    /// [shutdown](Client::shutdown) of the client ends the wait.
    ///
    /// # Errors
    /// As for [`Lock::acquire`](super::Lock::acquire), with the name of the lock concerned; also if
    /// there is no name, there are too many, or one occurs twice.
    pub fn acquire(&self) -> Result<MultiLockGuard, LockError> {
        let acquired = self.shared.acquire_all(&self.locks);
        run(acquired).map(MultiLockGuard::from)
    }

    /// Acquires all of the locks if all are free: `None` if another client holds one, or if others
    /// in this process wait for one already. The locks that were acquired until then are released
    /// before this returns.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire) and [`Lock::try_acquire`](super::Lock::try_acquire).
    /// [`Lost`](crate::ErrorKind::Lost) if an acquired lock was lost before the others were
    /// acquired.
    pub fn try_acquire(&self) -> Result<Option<MultiLockGuard>, LockError> {
        let acquired = self.shared.try_acquire_all(&self.locks);
        Ok(run(acquired)?.map(MultiLockGuard::from))
    }

    /// Acquires all of the locks, waiting at most `limit` for others, and one round trip more for
    /// each lock that is not acquired by then.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire); [`is_timeout`](LockError::is_timeout) returns `true` if
    /// others held one of the locks all the time: the error names that lock and its holder. The
    /// locks that were acquired until then are released before this returns, which takes at most
    /// the operation timeout; then the renewer goes on. [`Lost`](crate::ErrorKind::Lost) if an
    /// acquired lock was lost and there was no time to start over.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<MultiLockGuard, LockError> {
        let acquired = self.shared.acquire_all_timeout(&self.locks, limit);
        run(acquired).map(MultiLockGuard::from)
    }
}
