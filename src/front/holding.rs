//! What is asked of a lock while it is held, in both fronts.

use super::error::{Cause, LockError};
use super::held::Held;
use super::site::Site;
use crate::lock::{LossReason, Moment, Verified};

impl Held {
    /// The error of a lock that is not held any more.
    pub(crate) fn lost(&self, reason: LossReason) -> LockError {
        LockError::new(Cause::Lost(reason)).about(&self.name)
    }

    /// Checks that it is not over: then there is nothing to ask the server.
    pub(crate) fn check_held(&self, now: Moment) -> Result<(), LockError> {
        match self.over(now) {
            Some(reason) => Err(self.lost(reason)),
            None => Ok(()),
        }
    }
}

impl<C, L: AsRef<Held>> Site<C, L> {
    /// What a look at a lock that is held has found, to the user. Ends the lock if it is lost;
    /// whoever waits for news of it is to be told then.
    pub(crate) fn verified(
        &self,
        held: &Held,
        verified: Verified,
        now: Moment,
    ) -> Result<(), LockError> {
        match verified {
            // The time may have run out while the answer was on its way.
            Verified::Yes => held.check_held(now),
            Verified::Lost(reason) => {
                if held.end(reason) {
                    tracing::warn!(name = %held.name, %reason, "lock lost");
                }
                // It may have ended for another reason before, and that one counts.
                Err(held.lost(held.over(now).unwrap_or(reason)))
            }
            Verified::Failed(failure) => Err(self.error(Cause::Server(failure)).about(&held.name)),
        }
    }
}
