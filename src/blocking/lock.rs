//! The lock of one name, not held.

use super::Connections;
use super::guard::LockGuard;
use crate::engine::client::ClientHandle;
use crate::engine::facade::lock_options;
use crate::engine::transport::run;
use crate::engine::{LockError, LockOptions};
use core::fmt;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;

/// The lock of one name: a handle that knows how to acquire it.
///
/// Made by [`Client::lock`](super::Client::lock); cheap to clone and to keep. Two handles of one
/// name are contenders like any others.
///
/// # Not reentrant
///
/// A thread that acquires a lock it holds already waits for itself. A lock that let it in again would
/// have to know by something else than its guard who asks: a thread is no holder, for work moves from
/// one to another, and the counter of how often it was taken would be one more thing that a loss, an
/// error or a cancelled future can leave wrong. So the guard is the proof of holding: a function that
/// needs the lock takes the guard, and asks it before each step; where several go on together, they
/// share it.
///
/// ```no_run
/// use memlatch::blocking::LockGuard;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// fn book(held: &LockGuard, amount: u64) -> Result<(), memlatch::LockError> {
///     // Called by whoever holds the lock, and never by anybody else.
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
/// // The last one gives it back.
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

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.options.name)
            .field("lease", &self.options.lease)
            .field("fencing", &self.options.fencing)
            .field("lean", &self.options.without_record)
            .finish_non_exhaustive()
    }
}

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
    /// The name or the lease cannot be used, the client was shut down, the system has no thread to
    /// spare for the keeper, or the server does not answer for longer than the lease (at least
    /// 5 s). [`is_unknown`](LockError::is_unknown)
    /// tells that a request was sent whose fate is not known; the keeper takes back what it may
    /// have left.
    pub fn acquire(&self) -> Result<LockGuard, LockError> {
        let acquired = self.shared.acquire(&self.options);
        run(acquired).map(LockGuard::from)
    }

    /// Acquires the lock if nobody holds it: `None` if somebody does, or if others in this process
    /// wait for it already. Where the server is silent, it takes up to two operation timeouts, and
    /// the time to connect.
    ///
    /// A server that does not answer is given up after about two operation timeouts (of 1 s,
    /// unless told otherwise).
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and at once when the server was started or flushed too
    /// recently ([`ErrorKind::RestartGuard`](crate::ErrorKind::RestartGuard)).
    pub fn try_acquire(&self) -> Result<Option<LockGuard>, LockError> {
        let acquired = self.shared.try_acquire(&self.options);
        Ok(run(acquired)?.map(LockGuard::from))
    }

    /// Acquires the lock, waiting at most `limit` for others, and one round trip more. However slowly
    /// the server answers, it ends within `limit` and one
    /// [operation timeout](crate::ClientBuilder::operation_timeout), and the time to look up a
    /// host name.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`is_timeout`](LockError::is_timeout) when others held the
    /// lock all the time.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<LockGuard, LockError> {
        let acquired = self.shared.acquire_timeout(&self.options, limit);
        run(acquired).map(LockGuard::from)
    }
}
