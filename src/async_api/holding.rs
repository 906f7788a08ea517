//! What can be asked of a lock while it is held.

use super::guard::STRETCH;
use super::transport::Timeout;
use super::{Client, HeldLock, LockGuard};
use crate::engine::{Cause, HoldEnd, Holder, LockError, Scheduled, clock};
use crate::proto::{LockTicket, Renew, Verify};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Waits for news of a lock, for at most so long and never for long at a stretch: the timer stands
/// still while the machine is suspended, the lease does not.
async fn news(mut changed: Pin<&mut Notified<'_>>, length: Duration) {
    let mut over = pin!(tokio::time::sleep(length.min(STRETCH)));
    poll_fn(|cx| {
        if changed.as_mut().poll(cx).is_ready() || over.as_mut().poll(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl LockGuard {
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
    pub fn detach(mut self) -> LockTicket {
        self.spent = true;
        let lost = self.end(clock::monotonic());
        self.lock.held.tell(HoldEnd::Detached);
        let core = &self.shared.core;
        core.notify_free(&self.lock);
        self.lock.held.parts(&core.node.config.namespace, lost)
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
        let core = client.core();
        let keys = core.node.check_parts(parts)?;
        let now = clock::now();
        let grant = parts.grant(now.monotonic);
        let namespace = &core.node.config.namespace;
        let mut renew = Renew::new(namespace, &keys, &grant, grant.lease, grant.cas);
        let driven = core.drive(&mut renew, Some(&keys), now, Timeout::Unlimited);
        let renewed = driven.await.map_err(|error| error.about(parts.name()))?;
        let held = core
            .node
            .attach(parts, keys.clone(), grant.clone(), renewed)?;
        let lock = HeldLock {
            changed: Notify::new(),
            held,
        };
        let due = lock.held.due(lock.held.grant.sent_at);
        match core.node.scheduler.insert(lock, due) {
            Ok(Scheduled { lock, index, wake }) => {
                core.node.telemetry.attached(&lock.held);
                if wake {
                    core.wake.notify_one();
                }
                Ok(Self::new(Arc::clone(&client.shared), lock, index))
            }
            // Shut down while the answer was on its way. The lock is whose parts it is.
            Err(_) => Err(LockError::new(Cause::Closed).about(parts.name())),
        }
    }

    /// What the holder is called in the record, see [`Lock::label`](crate::Lock::label).
    #[must_use]
    pub fn label(&self) -> String {
        self.lock.held.grant.owner.label()
    }

    /// The lease: how long the lock outlives a holder that dies.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lock.held.lease.duration()
    }

    /// Who holds the lock, as others see it ([`Client::holder`](crate::Client::holder)) for as long as
    /// it is held: what its own record says. Asks nobody.
    ///
    /// The [`last_token`](crate::Holder::last_fencing_token) is the guard's own. A lock
    /// [without a record](crate::Lock::without_record) says nothing about its holder.
    #[must_use]
    pub fn holder(&self) -> Holder {
        let core = &self.shared.core;
        core.node.holder_of(&self.lock.held, clock::monotonic())
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
        let held = &self.lock.held;
        loop {
            let mut changed = pin!(self.lock.changed.notified());
            // Registered before looking, so that no change between the two goes unnoticed.
            changed.as_mut().enable();
            let remaining = held.remaining(clock::monotonic());
            if remaining <= margin {
                return remaining;
            }
            news(changed, remaining - margin).await;
        }
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
        let held = &self.lock.held;
        let core = &self.shared.core;
        let now = clock::monotonic();
        held.check_held(now)?;
        if held.is_final() {
            return Ok(held.remaining(now));
        }
        let mut before = None;
        loop {
            let mut changed = pin!(self.lock.changed.notified());
            // Registered before looking, so that no change between the two goes unnoticed.
            changed.as_mut().enable();
            let before = *before.get_or_insert_with(|| {
                let before = core.node.request_renewal(self.index, &self.lock);
                core.wake.notify_one();
                before
            });
            let now = clock::monotonic();
            if let Some(result) = core.node.renewed_since(held, before, now) {
                return result;
            }
            news(changed, held.remaining(now)).await;
        }
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
        let held = &self.lock.held;
        let now = clock::now();
        held.check_held(now.monotonic)?;
        let core = &self.shared.core;
        let mut verify = Verify::new(&held.keys, &held.grant);
        let driven = core.drive(&mut verify, Some(&held.keys), now, Timeout::Unlimited);
        let verified = driven.await.map_err(|error| error.about(&held.name))?;
        let result = core.node.verified(held, verified, clock::monotonic());
        if result.is_err() {
            core.notify_free(&self.lock);
            self.lock.changed.notify_waiters();
        }
        result
    }
}
