//! What a client does about locks of others: finding them, breaking one, waiting for its end.

use super::transport::{self, Timeout};
use super::{Client, ClientInner};
use crate::engine::{
    BreakOutcome, Cause, ConnectError, Holder, LockError, LockList, MAX_LISTED, clock,
};
use crate::proto::{AwaitFree, InspectPage, Instant, ListLocks, ListStep, WaitPolicy};
use core::time::Duration;
use std::thread;

impl Client {
    /// The locks that are held under this client's prefix and whose names start with `start`;
    /// all of them if that is empty.
    ///
    /// The server is asked for a list of all its items (`lru_crawler metadump`), on a connection of
    /// its own, and those that are locks are looked at. That is a burden: about a hundred bytes
    /// for each item that anybody keeps there, a second or so for a million of them. At most
    /// [`MAX_LISTED`] locks are listed, see [`LockList::is_complete`]. Names too long to
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
        let core = self.core();
        let namespace = &core.node.config.namespace;
        let mut search = ListLocks::new(namespace, start.as_ref(), MAX_LISTED);
        core.search(&mut search)?;
        let mut listing = LockList::new();
        loop {
            let batch = search.next_batch();
            if batch.keys.is_empty() {
                return Ok(listing.finish(search.is_complete()));
            }
            let mut looks = InspectPage::new(&batch.keys);
            let seen = core.drive(
                &mut looks,
                clock::now(),
                Timeout::Unlimited,
                transport::sleep,
            )?;
            listing.add(&core.node, &batch, seen)?;
        }
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
        let name = name.as_ref();
        let about = |error: LockError| error.about(name);
        let core = self.core();
        let keys = core.node.keys(name)?;
        let now = clock::now();
        let mut breaking = core.node.begin_break(&keys, holder, now.monotonic);
        let broken = core.drive(&mut breaking, now, Timeout::Unlimited, transport::sleep);
        core.node
            .break_outcome(broken.map_err(about)?)
            .map_err(about)
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
        let name = name.as_ref();
        let about = |error: LockError| error.about(name);
        let core = self.core();
        let site = &core.node;
        let keys = site.keys(name)?;
        let now = clock::now();
        let (patience, bound) = match limit.map(|limit| now.monotonic.after(limit)) {
            Some(end) => (WaitPolicy::Until(end), Timeout::Wait(end)),
            None => (WaitPolicy::Forever, Timeout::Unlimited),
        };
        let tolerance = site.tolerance(site.config.default_lease, true);
        let mut wait = AwaitFree::new(&keys, patience, tolerance, site.nonces.draw(now.monotonic));
        let seen = core.drive(&mut wait, now, bound, |until| core.rest(until));
        site.inspected(seen.map_err(about)?).map_err(about)
    }
}

impl ClientInner {
    /// Spends a pause of a wait, which a shutdown ends.
    fn rest(&self, until: Instant) -> Result<(), LockError> {
        loop {
            let seen = self.closing.generation();
            if self.node.scheduler.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            if clock::monotonic() >= until {
                return Ok(());
            }
            self.closing.wait(seen, until);
        }
    }

    /// Goes through all items of the server.
    fn search(&self, search: &mut ListLocks<'_>) -> Result<(), LockError> {
        let failed = |why| self.node.unconnected(why);
        // A dump may be refused behind other requests, and nothing else is to wait for it.
        let checkout = self.open(Timeout::Unlimited).map_err(failed)?;
        let unconnected = |error| failed(ConnectError::Net(error));
        let mut connection = checkout.take().map_err(unconnected)?.connection;
        let limit = self.node.config.operation_timeout;
        loop {
            search.prepare(connection.next_flight());
            let over = connection.dump(limit, |line| search.take(line));
            match over.map_err(unconnected)? {
                ListStep::Done => return Ok(()),
                ListStep::Retry { after } => thread::sleep(after),
                ListStep::Failed(failure) => return Err(self.node.error(Cause::Server(failure))),
            }
        }
    }
}
