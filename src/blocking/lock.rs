//! The handle of one name's lock.

use super::Connections;
use super::guard::LockGuard;
use crate::engine::client::ClientHandle;
use crate::engine::exchange::run;
use crate::engine::facade::{impl_lock, lock_options};
use crate::engine::{LockError, LockOptions};
use core::fmt;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;

/// The lock of one name: a handle that acquires it.
///
/// Made by [`Client::lock`](super::Client::lock); cheap to clone and to keep. Two handles of one
/// name are contenders like any others.
///
/// # Not reentrant
///
/// A thread that acquires a lock which it already holds waits for itself. A reentrant lock would
/// need something other than its guard to identify the caller: a thread is not a holder, because
/// work moves from one thread to another, and the counter of acquisitions would be one more thing
/// that a loss, an error or a cancelled future can leave wrong. So the guard is the proof of
/// holding: a function that needs the lock takes the guard, and checks it before each step; several
/// threads that work under one lock share the guard.
///
/// ```no_run
/// use memlatch::blocking::LockGuard;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// fn book(held: &LockGuard, amount: u64) -> Result<(), memlatch::LockError> {
///     // Only a caller that holds the lock can call this.
///     held.ensure(Duration::from_secs(1))?;
///     // … with `held.fencing_token()`
///     # let _ = amount;
///     Ok(())
/// }
///
/// # fn main() -> Result<(), memlatch::LockError> {
/// # let client = memlatch::blocking::Client::connect("memcached://127.0.0.1:11211")?;
/// let held = Arc::new(client.lock("invoices/42").acquire()?);
/// book(&held, 1)?;
/// let shared = Arc::clone(&held);
/// let other = std::thread::spawn(move || book(&shared, 2));
/// other.join().expect("no panic")?;
/// // The last user releases it.
/// if let Some(held) = Arc::into_inner(held) {
///     let _ = held.release()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    shared: Arc<ClientHandle<Connections>>,
    pub(super) options: LockOptions,
}

impl_lock!();

impl Lock {
    lock_options!();

    pub(super) fn new(shared: Arc<ClientHandle<Connections>>, name: &str) -> Self {
        let wish = LockOptions::new(name, &shared.inner.node.config.namespace);
        Self {
            shared,
            options: wish,
        }
    }

    /// Acquires the lock, waiting for as long as others hold it. A
    /// [shutdown](super::Client::shutdown) of the client ends the wait.
    ///
    /// # Errors
    /// The name or the lease cannot be used, the client was shut down, the system has no thread for
    /// the renewer, or the server does not answer for longer than the lease (at least 5 s). If
    /// [`is_unknown`](LockError::is_unknown) returns `true`, a request was sent and its fate is
    /// unknown; the renewer undoes what it may have stored.
    pub fn acquire(&self) -> Result<LockGuard, LockError> {
        let acquired = self.shared.acquire(&self.options);
        run(acquired).map(LockGuard::from)
    }

    /// Acquires the lock if it is free: `None` if another client holds it, or if others in this
    /// process wait for it already. If the server does not answer, the call takes up to two
    /// operation timeouts, and the time to connect.
    ///
    /// The call gives up a server that does not answer after about two operation timeouts (of 1 s,
    /// unless set otherwise).
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire), and at once when the server was started or flushed too
    /// recently ([`ErrorKind::RestartGuard`](crate::ErrorKind::RestartGuard)).
    pub fn try_acquire(&self) -> Result<Option<LockGuard>, LockError> {
        let acquired = self.shared.try_acquire(&self.options);
        Ok(run(acquired)?.map(LockGuard::from))
    }

    /// Acquires the lock, waiting at most `limit` for others, and one round trip more. However slow
    /// the server is, the call ends within `limit` and one [operation
    /// timeout](crate::ClientBuilder::operation_timeout), and the time to look up a host name.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire); [`is_timeout`](LockError::is_timeout) returns `true` if
    /// others held the lock all the time.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<LockGuard, LockError> {
        let acquired = self.shared.acquire_timeout(&self.options, limit);
        run(acquired).map(LockGuard::from)
    }
}
