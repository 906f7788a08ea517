//! What a client does about locks of others: finding them, breaking one, waiting for its end.

use super::Client;
use crate::engine::transport::run;
use crate::engine::{BreakOutcome, Holder, LockError, LockList};
use core::time::Duration;

impl Client {
    /// The locks that are held under this client's prefix and whose names start with `start`;
    /// all of them if that is empty.
    ///
    /// The server is asked for a list of all its items (`lru_crawler metadump`), on a connection of
    /// its own, and those that are locks are looked at. That is a burden: about a hundred bytes
    /// for each item that anybody keeps there, a second or so for a million of them. At most
    /// [`MAX_LISTED`](crate::MAX_LISTED) locks are listed, see [`LockList::is_complete`]. Names too long to
    /// stand in a key are [marked](crate::LockEntry::is_hashed); they are listed where `start` is
    /// empty or begins like what stands for them.
    ///
    /// Locks that were acquired or given back meanwhile may be missing or listed. Items of more
    /// than 1 kB, which are no records of locks, are passed over.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer for an operation timeout or is not done after
    /// 5 minutes, or does not list its items
    /// ([`Unlisted`](crate::ErrorKind::DumpUnavailable): it was started with `-X`, without an LRU crawler,
    /// or is busy with its items).
    pub fn list(&self, start: impl AsRef<str>) -> Result<LockList, LockError> {
        run(self.inner().list(start.as_ref()))
    }

    /// Ends the hold of `holder`, as [`holder`](Self::holder) or [`list`](Self::list) has shown
    /// it, on the lock of this name: removes its record, so that others can acquire the lock.
    ///
    /// The record is removed only if it is still that of the same holding, whether or not it was
    /// renewed meanwhile. Whoever loses the lock like this learns of it with its next renewal, at
    /// most a third of its lease later, and may do until then what only a holder may. The
    /// [fencing token](super::LockGuard::fencing_token) keeps it out where tokens are checked.
    ///
    /// # Errors
    /// The name cannot be used, or the server does not answer for 2 s (or two operation timeouts,
    /// if that is longer); [`is_unknown`](LockError::is_unknown) tells that the request was sent,
    /// so that the record may be gone.
    pub fn break_lock(
        &self,
        name: impl AsRef<str>,
        holder: &Holder,
    ) -> Result<BreakOutcome, LockError> {
        run(self.inner().break_lock(name.as_ref(), holder))
    }

    /// Waits until nobody holds the lock of this name, without acquiring it; for at most `limit`
    /// if one is given, and one round trip more, which takes up to one
    /// [operation timeout](crate::ClientBuilder::operation_timeout). `None` when it was free, otherwise who
    /// held it at the end.
    ///
    /// It is looked at as often as by somebody who wants it: at first every millisecond, in the
    /// end about twice a second. Another may hold it again when this returns. The record of a
    /// holder that died is there for up to 5 s longer than its lease, and counts as held for as long,
    /// as it does for [`try_acquire`](super::Lock::try_acquire) and [`holder`](Self::holder).
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
