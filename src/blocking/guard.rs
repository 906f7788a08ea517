//! A lock that is held.

use super::{Client, Connections};
use crate::engine::facade::guard_methods;
use crate::engine::guard::Guard;
use crate::engine::transport::run;
use crate::engine::{Holder, LockError, ReleaseOutcome, clock};
use crate::proto::{LockTicket, LossReason};
use core::fmt;
use core::time::Duration;
use std::string::String;

/// A lock that is held, until it is released, dropped or lost.
///
/// A keeper thread renews it in the background. **Holding the guard does not mean holding the
/// lock**: ask [`is_valid`](Self::is_valid) or [`ensure`](Self::ensure) before each step that
/// needs it, or watch [`lost`](Self::lost) from another thread, and let the resource check the
/// [fencing token](Self::fencing_token) where it can.
///
/// Dropping the guard stops the renewal at once and gives the lock back before the drop returns,
/// for which it takes at most the operation timeout (1 s unless told otherwise). What goes wrong
/// there is logged, and left to the keeper. To learn whether the lock was held to the end, call
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
#[must_use = "the lock is given back as soon as its guard is dropped"]
pub struct LockGuard {
    pub(super) inner: Guard<Connections>,
}

impl From<Guard<Connections>> for LockGuard {
    fn from(inner: Guard<Connections>) -> Self {
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
    /// It returns at the local deadline whether or not the server can be reached, and never before
    /// the lock stops being [valid](Self::is_valid). For as long as the lock is held it does not
    /// return at all: call it in a thread that has nothing else to do, such as one of a
    /// [`std::thread::scope`] around the guard, or use [`lost_timeout`](Self::lost_timeout).
    #[must_use]
    pub fn lost(&self) -> LossReason {
        loop {
            // Without an end, the wait ends with a loss.
            if let Some(reason) = run(self.inner.lost(None)) {
                return reason;
            }
        }
    }

    /// As [`lost`](Self::lost), for at most `limit`: `None` if the lock is still held then.
    #[must_use]
    pub fn lost_timeout(&self, limit: Duration) -> Option<LossReason> {
        run(self.inner.lost(Some(clock::monotonic().after(limit))))
    }

    /// Runs `work` if the lock is held, and returns what it returned if the lock was held until then.
    ///
    /// A thread cannot be ended from outside, so the work gets the guard to ask: [`ensure`](Self::ensure)
    /// before each step that needs the lock. The guard stays with the caller, to be released or
    /// dropped as usual.
    ///
    /// # Errors
    /// The lock was lost before the work began, which it does not then, or before it was over
    /// ([`Lost`](crate::ErrorKind::Lost)); [`loss_reason`](LockError::loss_reason) says why. What the work
    /// returned is dropped then.
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

    /// Gives the lock back and says what truly happened.
    ///
    /// # Errors
    /// The server refused, or did not answer for 5 s (the operation timeout, if that is longer) or
    /// until the end of the lease. In the second case the keeper goes on trying until the lease
    /// ends, and then the lock frees itself.
    pub fn release(self) -> Result<ReleaseOutcome, LockError> {
        run(self.inner.release())
    }

    /// Gives the lock back without waiting for the answer: the request is sent at once, and the
    /// answer is read with that to the next request on the same connection, such as the next
    /// acquisition.
    ///
    /// The lock may not be free yet when this returns, and whether it was held to the end is not
    /// told. Where the answer is not that it was released, or none comes, the keeper releases it
    /// once more and logs what comes of that;
    /// [`Client::quiet_failures`](super::Client::quiet_failures) counts those. It is noticed when
    /// the connection is used again, or at a [shutdown](super::Client::shutdown); without either,
    /// the lock frees itself with its lease.
    ///
    /// Where no idle connection can take the request, or the last renewal is not answered, the
    /// release is left to the keeper, as by a drop that finds no answer. Where more connections are
    /// idle than are kept, this one's answer is waited for, for at most the operation timeout.
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
    /// [`max_hold`](super::Lock::max_hold) and [`min_hold`](super::Lock::min_hold) are the handle's, and do not
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
    pub fn attach(client: &Client, parts: &LockTicket) -> Result<Self, LockError> {
        run(Guard::attach(&client.shared, parts)).map(Self::from)
    }

    /// What the holder is called in the record, see [`Lock::label`](super::Lock::label).
    #[must_use]
    pub fn label(&self) -> String {
        self.inner.lock.grant.owner.label()
    }

    /// Who holds the lock, as others see it ([`Client::holder`](super::Client::holder)) for as long as
    /// it is held: what its own record says. Asks nobody.
    ///
    /// The [`last_token`](crate::Holder::last_fencing_token) is the guard's own. A lock
    /// [without a record](super::Lock::without_record) says nothing about its holder.
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
    /// already. Otherwise it does not return for as long as all is well: call it in a thread that has
    /// nothing else to do, or use [`expiring_timeout`](Self::expiring_timeout).
    #[must_use]
    pub fn expiring(&self, margin: Duration) -> Duration {
        run(self.inner.expiring(margin, None)).unwrap_or_default()
    }

    /// As [`danger`](Self::expiring), for at most `limit`: `None` if all is well then.
    #[must_use]
    pub fn expiring_timeout(&self, margin: Duration, limit: Duration) -> Option<Duration> {
        let until = clock::monotonic().after(limit);
        run(self.inner.expiring(margin, Some(until)))
    }

    /// Renews the lock now, and returns for how long it is certain then.
    ///
    /// The keeper does that by itself, every third of the lease. Before a step that takes long,
    /// or cannot be stopped once it has begun, this gives it all of the lease. Where a renewal is
    /// under way, that one is waited for. Where the lock is to end before
    /// ([`max_hold`](super::Lock::max_hold)), nothing is sent.
    ///
    /// # Errors
    /// The lock is not held any more ([`Lost`](crate::ErrorKind::Lost)). Or the server does not
    /// answer within the operation timeout and a third of the lease, or refuses: then the lock is
    /// held for as long as it [is valid](Self::is_valid), and the keeper tries again.
    pub fn renew(&self) -> Result<Duration, LockError> {
        run(self.inner.renew())
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
    pub fn verify(&self) -> Result<(), LockError> {
        run(self.inner.verify())
    }
}
