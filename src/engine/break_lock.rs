//! Breaking a lock, as users see it.

use super::error::{Cause, LockError};
use super::holder::Holder;
use super::node::Node;
use crate::proto::{BreakLock, BreakStatus, Instant, LockKeys};
use core::time::Duration;

/// How long a server that does not answer is tried, at least.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// What came of [breaking](crate::Client::break_lock) a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakOutcome {
    /// The record is gone: anybody can have the lock now. The holder that it was of learns that
    /// with its next renewal, at most a third of its lease later, and believes until then that it
    /// holds the lock.
    Broken,
    /// Somebody else holds the lock by now. Nothing was removed.
    Changed {
        /// Who does.
        holder: Holder,
    },
    /// Nobody held the lock any more.
    Free,
}

impl<C> Node<C> {
    /// What breaks the lock that was held by `holder`.
    pub(crate) fn begin_break<'a>(
        &self,
        keys: &'a LockKeys,
        holder: &Holder,
        now: Instant,
    ) -> BreakLock<'a> {
        let patience = UNREACHABLE_TIMEOUT.max(self.config.operation_timeout * 2);
        BreakLock::new(keys, holder.session, now.after(patience))
    }

    /// What came of it, to the user.
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
