//! A lock that is held.

use super::Client;
use super::pool::ConnectionPool;
use crate::engine::facade::guard_methods;
use crate::engine::guard::Guard;
use crate::engine::{Holder, LockError, ReleaseOutcome};
use crate::proto::{LockTicket, LossReason};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::string::String;

/// A lock that is held, until it is released, dropped or lost.
///
/// A keeper task renews it in the background. **Holding the guard does not mean holding the
/// lock**: ask [`is_valid`](Self::is_valid) or [`ensure`](Self::ensure) before each step that
/// needs it, or watch [`lost`](Self::lost), and let the resource check the
/// [fencing token](Self::fencing_token) where it can.
///
/// Dropping the guard stops the renewal at once and leaves the release to the keeper. To know that
/// the lock is free, and to learn whether it was held to the end, call
/// [`release`](Self::release).
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
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct LockGuard {
    pub(super) inner: Guard<ConnectionPool>,
}

impl From<Guard<ConnectionPool>> for LockGuard {
    fn from(inner: Guard<ConnectionPool>) -> Self {
        Self { inner }
    }
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
    guard_methods!();

    /// Waits until the lock is not held any more and says why: its time ran out, a renewal was
    /// refused, the server was restarted, or the client was shut down.
    ///
    /// It fires at the local deadline whether or not the server can be reached, and never before
    /// the lock stops being [valid](Self::is_valid).
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn lost(&self) -> LossReason {
        loop {
            // Without an end, the wait ends with a loss.
            if let Some(reason) = self.inner.lost(None).await {
                return reason;
            }
        }
    }

    /// Runs `work` for as long as the lock is held: returns its output, or ends it when the lock is lost.
    ///
    /// Work is ended by dropping it, at the `await` where it stands. It is not polled again once the lock
    /// is lost, but one poll that computes or blocks for longer than the lock [remains](Self::remaining)
    /// is not interrupted: the resource's check of the [fencing token](Self::fencing_token) covers that.
    /// The guard stays with the caller, to be released or dropped as usual.
    ///
    /// # Errors
    /// The lock was lost before the work was done ([`Lost`](crate::ErrorKind::Lost));
    /// [`loss_reason`](LockError::loss_reason) says why. An output that was ready by then is dropped.
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

    /// Gives the lock back and says what truly happened.
    ///
    /// # Errors
    /// The server refused, or did not answer for 5 s (the operation timeout, if that is longer) or
    /// until the end of the lease. In the second case the keeper goes on trying until the lease
    /// ends, and then the lock frees itself.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the release to the keeper.
    pub async fn release(self) -> Result<ReleaseOutcome, LockError> {
        self.inner.release().await
    }

    /// Gives the lock back without waiting for the answer: the request travels with whatever is
    /// sent next, such as the next acquisition, and by itself as soon as the keeper task runs.
    ///
    /// The lock is not free when this returns, and whether it was held to the end is not told.
    /// Where the answer is not that it was released, the keeper releases it once more and logs what
    /// comes of that; [`Client::quiet_failures`](crate::Client::quiet_failures) counts those. Where
    /// the program ends at once, the request may not be sent any more, and the lock frees itself
    /// with its lease.
    pub fn release_quietly(self) {
        self.inner.release_quietly();
    }

    /// Takes the lock apart, to be handed to another process: it is not released, and not renewed
    /// any more, until [`attach`](Self::attach) makes a guard of it again.
    ///
    /// Meanwhile nobody has it, and its lease runs on: where it is not taken up by the end of the
    /// lease, the lock is free. Use the parts once: guards made of the same parts twice would both
    /// be valid, for the lock is one and the same to the server.
    ///
    /// The parts are a capability: whoever has them can release the lock. Limits that were set with
    /// [`max_hold`](crate::Lock::max_hold) and [`min_hold`](crate::Lock::min_hold) are the handle's, and do not
    /// go along. Of a lock that was lost before they are worth nothing, also where its record
    /// still stands: they say so, and `attach` refuses them.
    #[must_use = "without them, the lock can only run out"]
    pub fn detach(self) -> LockTicket {
        self.inner.detach()
    }

    /// Makes a guard of the parts of a lock, which this client keeps from then on.
    ///
    /// The lock is renewed before this returns. That shows that it is still ours, and its
    /// [`remaining`](Self::remaining) counts by the clock of this process.
    ///
    /// # Errors
    /// The client has another prefix ([`InvalidInput`](crate::ErrorKind::InvalidInput)). The lock is
    /// not ours any more ([`Lost`](crate::ErrorKind::Lost)): its lease has run out, or the server was
    /// restarted, or this client is connected to another server, which looks the same. Or the server
    /// does not answer within the operation timeout: then the lock is left as it is, and
    /// this may be called again before its lease ends.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the lock as it is, at most renewed once.
    pub async fn attach(client: &Client, parts: &LockTicket) -> Result<Self, LockError> {
        Guard::attach(&client.shared, parts).await.map(Self::from)
    }

    /// What the holder is called in the record, see [`Lock::label`](crate::Lock::label).
    #[must_use]
    pub fn label(&self) -> String {
        self.inner.lock.grant.owner.label()
    }

    /// Who holds the lock, as others see it ([`Client::holder`](crate::Client::holder)) for as long as
    /// it is held: what its own record says. Asks nobody.
    ///
    /// The [`last_token`](crate::Holder::last_fencing_token) is the guard's own. A lock
    /// [without a record](crate::Lock::without_record) says nothing about its holder.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.inner.holder()
    }

    /// Waits until the lock is nearer to its end than `margin`, because renewals fail or it is to
    /// end, or until it is over. Returns what [remains](Self::remaining) then: nothing when it is
    /// over.
    ///
    /// A warning ahead of [`lost`](Self::lost), while there is still time to stop what must not go
    /// on without the lock. A lock that is renewed as it should be keeps two thirds of its lease and
    /// more, so a useful margin is less than half of that. It returns at once where less remains
    /// already.
    ///
    /// # Cancel safety
    /// Safe to drop and to call again.
    pub async fn expiring(&self, margin: Duration) -> Duration {
        let remaining = self.inner.expiring(margin, None);
        remaining.await.unwrap_or_default()
    }

    /// Renews the lock now, and returns for how long it is certain then.
    ///
    /// The keeper does that by itself, every third of the lease. Before a step that takes long,
    /// or cannot be stopped once it has begun, this gives it all of the lease. Where a renewal is
    /// under way, that one is waited for. Where the lock is to end before
    /// ([`max_hold`](crate::Lock::max_hold)), nothing is sent.
    ///
    /// # Errors
    /// The lock is not held any more ([`Lost`](crate::ErrorKind::Lost)). Or the server does not
    /// answer within the operation timeout and a third of the lease, or refuses: then the lock is
    /// held for as long as it [is valid](Self::is_valid), and the keeper tries again.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the renewal, which is the keeper's, and leaves nothing
    /// behind.
    pub async fn renew(&self) -> Result<Duration, LockError> {
        self.inner.renew().await
    }

    /// Asks the server whether the lock is still held: one round trip, which changes nothing.
    ///
    /// A guard finds out by its next renewal, a third of the lease later at most, that a record was
    /// evicted, flushed, deleted or broken. Before a step that must not be done twice this is the way to
    /// know sooner. The answer is as old as its way back, so it does not take the place of the
    /// [fencing token](Self::fencing_token).
    ///
    /// # Errors
    /// The lock is not held any more ([`Lost`](crate::ErrorKind::Lost)): the guard is not
    /// [valid](Self::is_valid) from then on, and [`lost`](Self::lost) says why. Or the server does
    /// not answer within the operation timeout
    /// ([`Unavailable`](crate::ErrorKind::Unavailable), [`Unknown`](crate::ErrorKind::Unknown)),
    /// which says nothing about the lock: it is held for as long as it [is valid](Self::is_valid).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn verify(&self) -> Result<(), LockError> {
        self.inner.verify().await
    }
}

/// Polls `work` until it is over, or `check` says that it must not go on. `lost` is polled beside it,
/// to be woken when a check would fail.
pub(super) async fn run_while_held<W: Future>(
    work: W,
    lost: impl Future,
    check: impl Fn() -> Result<(), LockError>,
) -> Result<W::Output, LockError> {
    let (mut work, mut lost) = (pin!(work), pin!(lost));
    let mut is_lost = false;
    poll_fn(|cx| {
        is_lost = is_lost || lost.as_mut().poll(cx).is_ready();
        // Not only when `lost` has noticed: its timer may come late, behind work that blocks.
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
