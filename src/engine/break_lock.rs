//! Breaking a lock: the request and the outcome for the caller.

use super::error::{Cause, LockError};
use super::holder::Holder;
use super::node::Node;
use crate::proto::{BreakLock, BreakStatus, Instant, LockKeys};
use core::time::Duration;

/// The minimum time for which an unreachable server is tried.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The outcome of [breaking](crate::Client::break_lock) a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakOutcome {
    /// The record was removed: any client can acquire the lock now. The former holder learns that
    /// from its next renewal, at most a third of its lease later, and acts as the holder until
    /// then.
    Broken,
    /// Another client holds the lock by now. Nothing was removed.
    Changed {
        /// The present holder.
        holder: Holder,
    },
    /// The lock was free.
    Free,
}

impl<C> Node<C> {
    /// Returns the operation that breaks the lock that `holder` held.
    pub(crate) fn begin_break<'a>(
        &self,
        keys: &'a LockKeys,
        holder: &Holder,
        now: Instant,
    ) -> BreakLock<'a> {
        let patience = UNREACHABLE_TIMEOUT.max(self.config.operation_timeout * 2);
        BreakLock::new(keys, holder.session, now.after(patience))
    }

    /// Converts the outcome for the caller.
    pub(crate) fn break_outcome(&self, breaking: BreakStatus) -> Result<BreakOutcome, LockError> {
        match breaking {
            BreakStatus::Broken => Ok(BreakOutcome::Broken),
            BreakStatus::Free => Ok(BreakOutcome::Free),
            BreakStatus::Changed(seen) => Ok(match Holder::from_inspected(*seen) {
                Some(holder) => BreakOutcome::Changed { holder },
                None => BreakOutcome::Free,
            }),
            BreakStatus::Failed(failure) => Err(self.error(Cause::Server(failure))),
        }
    }
}
