//! The client's operations on locks of other clients: list them, break one, wait until one is free.

use super::Client;
use crate::engine::exchange::run;
use crate::engine::{BreakOutcome, Holder, LockError, LockList};
use core::time::Duration;

impl Client {
    /// Lists the held locks that are under this client's prefix and whose names start with `start`;
    /// all of them if `start` is empty.
    ///
    /// The client requests a list of all items of the server (`lru_crawler metadump`) on a separate
    /// connection, and inspects the items that are locks. The list is expensive: about a hundred
    /// bytes for each item of any client, and about a second for a million items. At most
    /// [`MAX_LISTED`](crate::MAX_LISTED) locks are listed, see [`LockList::is_complete`]. Names too
    /// long for a key are [marked](crate::LockEntry::is_hashed); they are listed if `start` is
    /// empty or is the beginning of their replacement.
    ///
    /// Locks that are acquired or released meanwhile may be missing or listed. Items of more than 1
    /// kB, which cannot be records of locks, are skipped.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer for an operation timeout, is not done after 5
    /// minutes, or does not list its items ([`DumpUnavailable`](crate::ErrorKind::DumpUnavailable):
    /// it was started with `-X` or without an LRU crawler, or its crawler is busy).
    pub fn list(&self, start: impl AsRef<str>) -> Result<LockList, LockError> {
        run(self.inner().list(start.as_ref()))
    }

    /// Breaks the lock of this name, which `holder` holds as [`holder`](Self::holder) or
    /// [`list`](Self::list) returned it: removes its record, so that other clients can acquire the
    /// lock.
    ///
    /// The record is removed only if it still belongs to the same session, renewed meanwhile or
    /// not. The holder that loses the lock learns of it from its next renewal, at most a third of
    /// its lease later, and may act as the holder until then. The [fencing
    /// token](super::LockGuard::fencing_token) excludes it where the resource checks tokens.
    ///
    /// # Errors
    /// The name cannot be used, or the server does not answer for 2 s (or two operation timeouts,
    /// if that is longer). If [`is_unknown`](LockError::is_unknown) returns `true`, the request was
    /// sent, so the record may be gone.
    pub fn break_lock(
        &self,
        name: impl AsRef<str>,
        holder: &Holder,
    ) -> Result<BreakOutcome, LockError> {
        run(self.inner().break_lock(name.as_ref(), holder))
    }

    /// Waits until the lock of this name is free, without acquiring it; for at most `limit` if one
    /// is given, and one round trip more, which takes up to one [operation
    /// timeout](crate::ClientBuilder::operation_timeout). Returns `None` if the lock was free,
    /// otherwise the holder at the end of the wait.
    ///
    /// The client inspects the lock as often as a waiter that wants to acquire it: at first every
    /// millisecond, later about twice a second. Another client may hold the lock again when this
    /// returns. The record of a holder that died remains for up to 5 s longer than its lease, and
    /// counts as held for that time, as it does for [`try_acquire`](super::Lock::try_acquire) and
    /// [`holder`](Self::holder).
    ///
    /// # Errors
    /// The name cannot be used, the client was [shut down](Self::shutdown), or the server does not
    /// answer for the client's default lease (at least 5 s).
    pub fn wait_until_free(
        &self,
        name: impl AsRef<str>,
        limit: Option<Duration>,
    ) -> Result<Option<Holder>, LockError> {
        let client = self.inner();
        run(client.wait_until_free(name.as_ref(), limit))
    }
}
