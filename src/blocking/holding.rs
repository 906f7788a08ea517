//! What can be asked of a lock while it is held.

use super::LockGuard;
use super::drive::{Bound, sleep};
use crate::front::{LockError, clock};
use crate::lock::Verify;
use core::time::Duration;

impl LockGuard {
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
        let held = &self.lock.held;
        let core = &self.shared.core;
        let now = clock::moment();
        held.check_held(now)?;
        if held.is_final() {
            return Ok(held.remaining(now));
        }
        let before = core.site.ask_for_renewal(self.index, &self.lock);
        core.wake.give();
        loop {
            let seen = self.lock.changed.seen();
            let now = clock::moment();
            if let Some(result) = core.site.renewed_since(held, before, now) {
                return result;
            }
            self.lock.changed.wait(seen, held.valid_until());
        }
    }

    /// Asks the server whether the lock is still held: one round trip, which changes nothing.
    ///
    /// A guard finds out by its next renewal, a third of the lease later at most, that a record was
    /// evicted, flushed or deleted. Before a step that must not be done twice this is the way to
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
        let held = &self.lock.held;
        let now = clock::now();
        held.check_held(now.moment)?;
        let core = &self.shared.core;
        let mut verify = Verify::new(&held.keys, &held.grant);
        let driven = core.drive(&mut verify, now, Bound::Open, sleep);
        let verified = driven.map_err(|error| error.about(&held.name))?;
        let result = core.site.verified(held, verified, clock::moment());
        if result.is_err() {
            self.lock.changed.give();
        }
        result
    }
}
