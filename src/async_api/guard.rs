//! The guard of a held lock.

use super::Client;
use super::pool::ConnectionPool;
use crate::engine::facade::{guard_methods, impl_lock_guard};
use crate::engine::guard::Guard;
use crate::engine::{Holder, LockError, ReleaseOutcome};
use crate::proto::{LockTicket, LossReason};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::string::String;

/// The guard of a lock that is held until it is released, dropped or lost.
///
/// The renewer task renews the lock in the background. **Holding the guard does not mean holding
/// the lock**: call [`is_valid`](Self::is_valid) or [`ensure`](Self::ensure) before each step that
/// needs it, or watch [`lost`](Self::lost), and let the resource check the [fencing
/// token](Self::fencing_token) where it can.
///
/// Dropping the guard stops the renewal at once and leaves the release to the renewer. To know that
/// the lock is free, and whether it was held to the end, call [`release`](Self::release).
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
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct LockGuard {
    pub(super) inner: Guard<ConnectionPool>,
}

impl_lock_guard!(ConnectionPool);

impl LockGuard {
    guard_methods!();

    /// Waits until the lock is lost and returns the reason: its time is over, a renewal was
    /// refused, the server was restarted, or the client was shut down.
    ///
    /// It completes at the local deadline whether or not the server can be reached, and never
    /// before the lock stops being [valid](Self::is_valid).
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn lost(&self) -> LossReason {
        loop {
            // A wait without a time limit ends only with a loss.
            if let Some(reason) = self.inner.lost(None).await {
                return reason;
            }
        }
    }

    /// Runs `work` while the lock is held: returns its output, or drops it when the lock is lost.
    ///
    /// The work is dropped at the `await` that it has reached. It is not polled again once the lock
    /// is lost, but one poll that computes or blocks for longer than the lock
    /// [remains](Self::remaining) is not interrupted: the resource's check of the [fencing
    /// token](Self::fencing_token) covers that. The guard stays with the caller, to be released or
    /// dropped as usual.
    ///
    /// # Errors
    /// The lock was lost before the work was done ([`Lost`](crate::ErrorKind::Lost));
    /// [`loss_reason`](LockError::loss_reason) returns the reason. An output that was ready by then
    /// is dropped.
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
        run_while_held(work, self.lost(), || self.inner.check_held()).await
    }

    /// Releases the lock and returns whether it was held to the end.
    ///
    /// # Errors
    /// The server refused, or did not answer for 5 s (the operation timeout, if that is longer) or
    /// until the end of the lease. If it did not answer, the renewer retries until the end of the
    /// lease, and then the lock expires.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the release to the renewer.
    pub async fn release(self) -> Result<ReleaseOutcome, LockError> {
        self.inner.release().await
    }

    /// Releases the lock without waiting for the reply: the request travels with the next flight,
    /// such as the next acquisition, or by itself as soon as the renewer task runs.
    ///
    /// The lock is not free yet when this returns, and the caller does not learn whether it was
    /// held to the end. If the reply is not that the lock was released, the renewer releases it
    /// once more and logs the outcome; [`Client::quiet_failures`](super::Client::quiet_failures)
    /// counts those. If the program ends at once, the request may not be sent, and the lock expires
    /// with its lease.
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
    ///
    /// # Cancel safety
    /// Dropping the future leaves the lock as it is, at most renewed once.
    pub async fn attach(client: &Client, parts: &LockTicket) -> Result<Self, LockError> {
        Guard::attach(&client.shared, parts).await.map(Self::from)
    }

    /// Waits until less than `margin` remains, because renewals fail or a limit is near, or until
    /// the lock is lost. Returns the time that [remains](Self::remaining) then: zero if the lock is
    /// lost.
    ///
    /// It warns earlier than [`lost`](Self::lost), while there is time to stop work that requires
    /// the lock. A lock whose renewals succeed keeps two thirds of its lease and more, so a useful
    /// margin is less than half of the lease. It completes at once if less than `margin` remains
    /// already.
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn expiring(&self, margin: Duration) -> Duration {
        let remaining = self.inner.expiring(margin, None);
        remaining.await.unwrap_or_default()
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
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the renewal, which the renewer does, and leaves nothing
    /// behind.
    pub async fn renew(&self) -> Result<Duration, LockError> {
        self.inner.renew().await
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
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn verify(&self) -> Result<(), LockError> {
        self.inner.verify().await
    }
}

/// Polls `work` until it is ready, or `check` fails. `lost` is polled beside it, so that the task
/// is woken when a check would fail.
pub(super) async fn run_while_held<W: Future>(
    work: W,
    lost: impl Future,
    check: impl Fn() -> Result<(), LockError>,
) -> Result<W::Output, LockError> {
    let (mut work, mut lost) = (pin!(work), pin!(lost));
    let mut is_lost = false;
    poll_fn(|cx| {
        is_lost = is_lost || lost.as_mut().poll(cx).is_ready();
        // Not only when `lost` is ready: its timer may be late, after work that blocks.
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
