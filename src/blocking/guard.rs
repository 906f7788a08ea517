//! The guard of a held lock.

use super::{Client, Connections};
use crate::engine::exchange::run;
use crate::engine::facade::{guard_methods, impl_lock_guard};
use crate::engine::guard::Guard;
use crate::engine::{Holder, LockError, ReleaseOutcome, clock};
use crate::proto::{LockTicket, LossReason};
use core::fmt;
use core::time::Duration;
use std::string::String;

/// The guard of a lock that is held until it is released, dropped or lost.
///
/// The renewer thread renews the lock in the background. **Holding the guard does not mean holding
/// the lock**: call [`is_valid`](Self::is_valid) or [`ensure`](Self::ensure) before each step that
/// needs it, or watch [`lost`](Self::lost) from another thread, and let the resource check the
/// [fencing token](Self::fencing_token) where it can.
///
/// Dropping the guard stops the renewal at once and releases the lock before the drop returns,
/// which takes at most the operation timeout (1 s unless set otherwise). A failure of that release
/// is logged, and the renewer retries it. To learn whether the lock was held to the end, call
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
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct LockGuard {
    pub(super) inner: Guard<Connections>,
}

impl_lock_guard!(Connections);

impl LockGuard {
    guard_methods!();

    /// Waits until the lock is lost and returns the reason: its time is over, a renewal was
    /// refused, the server was restarted, or the client was shut down.
    ///
    /// It returns at the local deadline whether or not the server can be reached, and never before
    /// the lock stops being [valid](Self::is_valid). While the lock is held it does not return:
    /// call it in a thread that has no other work, such as one of a [`std::thread::scope`] around
    /// the guard, or use [`lost_timeout`](Self::lost_timeout).
    #[must_use]
    pub fn lost(&self) -> LossReason {
        loop {
            // A wait without a time limit ends only with a loss.
            if let Some(reason) = run(self.inner.lost(None)) {
                return reason;
            }
        }
    }

    /// Waits as [`lost`](Self::lost) does, for at most `limit`: `None` if the lock is still held
    /// then.
    #[must_use]
    pub fn lost_timeout(&self, limit: Duration) -> Option<LossReason> {
        run(self.inner.lost(Some(clock::monotonic().after(limit))))
    }

    /// Runs `work` if the lock is held, and returns its result if the lock was held to the end of
    /// it.
    ///
    /// A thread cannot be ended from outside, so the work gets the guard: call
    /// [`ensure`](Self::ensure) before each step that needs the lock. The guard stays with the
    /// caller, to be released or dropped as usual.
    ///
    /// # Errors
    /// The lock was lost before the work began, and the work does not run, or before the work ended
    /// ([`Lost`](crate::ErrorKind::Lost)); [`loss_reason`](LockError::loss_reason) returns the
    /// reason. The result of the work is dropped then.
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
        self.inner.check_held()?;
        let output = work(self);
        self.inner.check_held()?;
        Ok(output)
    }

    /// Releases the lock and returns whether it was held to the end.
    ///
    /// # Errors
    /// The server refused, or did not answer for 5 s (the operation timeout, if that is longer) or
    /// until the end of the lease. If it did not answer, the renewer retries until the end of the
    /// lease, and then the lock expires.
    pub fn release(self) -> Result<ReleaseOutcome, LockError> {
        run(self.inner.release())
    }

    /// Releases the lock without waiting for the reply: the request is sent at once, and the reply
    /// is read with the reply to the next request on the same connection, such as the next
    /// acquisition.
    ///
    /// The lock may not be free yet when this returns, and the caller does not learn whether it was
    /// held to the end. If the reply is not that the lock was released, or there is none, the
    /// renewer releases it once more and logs the outcome;
    /// [`Client::quiet_failures`](super::Client::quiet_failures) counts those. The client notices
    /// it at the next use of the connection, or at a [shutdown](super::Client::shutdown); without
    /// either, the lock expires with its lease.
    ///
    /// If no idle connection can take the request, or the last renewal is not answered, the renewer
    /// does the release, as after a drop without a reply. If more connections are idle than the
    /// client keeps, the call waits for the reply on this one, for at most the operation timeout.
    pub fn release_quietly(self) {
        self.inner.release_quietly();
    }

    /// Makes a guard of the ticket of a lock, which this client renews from then on.
    ///
    /// The lock is renewed before this returns. That proves that it is still the ticket's lock, and
    /// its [`remaining`](Self::remaining) counts by the clock of this process.
    ///
    /// # Errors
    /// The client has another prefix ([`InvalidInput`](crate::ErrorKind::InvalidInput)). The lock
    /// is lost ([`Lost`](crate::ErrorKind::Lost)): its lease is over, the server was restarted, or
    /// this client is connected to another server, which looks the same. Or the server does not
    /// answer within the operation timeout: then the lock is left as it is, and this may be called
    /// again before its lease ends.
    pub fn attach(client: &Client, parts: &LockTicket) -> Result<Self, LockError> {
        run(Guard::attach(&client.shared, parts)).map(Self::from)
    }

    /// Waits until less than `margin` remains, because renewals fail or a limit is near, or until
    /// the lock is lost. Returns the time that [remains](Self::remaining) then: zero if the lock is
    /// lost.
    ///
    /// It warns earlier than [`lost`](Self::lost), while there is time to stop work that requires
    /// the lock. A lock whose renewals succeed keeps two thirds of its lease and more, so a useful
    /// margin is less than half of the lease. It returns at once if less than `margin` remains
    /// already. Otherwise it does not return while renewals succeed: call it in a thread that has
    /// no other work, or use [`expiring_timeout`](Self::expiring_timeout).
    #[must_use]
    pub fn expiring(&self, margin: Duration) -> Duration {
        run(self.inner.expiring(margin, None)).unwrap_or_default()
    }

    /// Waits as [`expiring`](Self::expiring) does, for at most `limit`: `None` if more than
    /// `margin` remains then.
    #[must_use]
    pub fn expiring_timeout(&self, margin: Duration, limit: Duration) -> Option<Duration> {
        let until = clock::monotonic().after(limit);
        run(self.inner.expiring(margin, Some(until)))
    }

    /// Renews the lock now, and returns how long it is certain then.
    ///
    /// The renewer does that by itself, every third of the lease. Call it before a step that takes
    /// long, or cannot be stopped once it has begun, to have the whole lease for it. If a renewal
    /// is under way, the call waits for that one. If the limit of
    /// [`max_hold`](super::Lock::max_hold) comes before the end of the lease, nothing is sent.
    ///
    /// # Errors
    /// The lock is not held any more ([`Lost`](crate::ErrorKind::Lost)). Or the server does not
    /// answer within the operation timeout and a third of the lease, or refuses: then the lock is
    /// held for as long as it [is valid](Self::is_valid), and the renewer tries again.
    pub fn renew(&self) -> Result<Duration, LockError> {
        run(self.inner.renew())
    }

    /// Asks the server whether the lock is still held: one round trip, which changes nothing.
    ///
    /// A guard learns from its next renewal, at most a third of the lease later, that a record was
    /// evicted, flushed, deleted or broken. Before a step that must not be done twice, call this to
    /// know sooner. The reply is as old as its way back, so it does not replace the [fencing
    /// token](Self::fencing_token).
    ///
    /// # Errors
    /// The lock is not held any more ([`Lost`](crate::ErrorKind::Lost)): the guard is not
    /// [valid](Self::is_valid) from then on, and [`lost`](Self::lost) returns the reason. Or the
    /// server does not answer within the operation timeout
    /// ([`Unavailable`](crate::ErrorKind::Unavailable), [`Unknown`](crate::ErrorKind::Unknown)),
    /// which proves nothing about the lock: it is held for as long as it [is
    /// valid](Self::is_valid).
    pub fn verify(&self) -> Result<(), LockError> {
        run(self.inner.verify())
    }
}
