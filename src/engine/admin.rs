//! Operations on locks of other clients: list them, break one, wait until one is free.

use super::break_lock::BreakOutcome;
use super::client::{ClientInner, Transport};
use super::clock;
use super::error::{Cause, LockError};
use super::exchange::{PauseMode, Timeout};
use super::holder::Holder;
use super::list::{LockList, MAX_LISTED};
use super::node::Node;
use crate::proto::{
    AwaitFree, EnableTemporaryLru, InspectOutcome, InspectPage, ListLocks, TemporaryLru, WaitPolicy,
};
use core::time::Duration;

impl<T: Transport> ClientInner<T> {
    pub(crate) async fn list(&self, start: &str) -> Result<LockList, LockError> {
        let mut search = ListLocks::new(&self.node.config.namespace, start, MAX_LISTED);
        T::dump(self, &mut search).await?;
        let mut list = LockList::new();
        loop {
            let page = search.next_batch();
            if page.keys.is_empty() {
                return Ok(list.finish(search.is_complete()));
            }
            let mut inspect = InspectPage::new(&page.keys);
            let inspected = self.drive(&mut inspect, None, clock::now(), Timeout::Unlimited);
            list.add(&self.node, &page, inspected.await?)?;
        }
    }

    pub(crate) async fn break_lock(
        &self,
        name: &str,
        holder: &Holder,
    ) -> Result<BreakOutcome, LockError> {
        let about = |error: LockError| error.with_name(name);
        let keys = self.node.keys(name)?;
        let now = clock::now();
        let mut break_lock = self.node.begin_break(&keys, holder, now.monotonic);
        let broken = self.drive(&mut break_lock, Some(&keys), now, Timeout::Unlimited);
        let broken = broken.await.map_err(about)?;
        self.node.break_outcome(broken).map_err(about)
    }

    pub(crate) async fn wait_until_free(
        &self,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Option<Holder>, LockError> {
        let about = |error: LockError| error.with_name(name);
        let node = &self.node;
        let keys = node.keys(name)?;
        let now = clock::now();
        let (wait, timeout) = match limit.map(|limit| now.monotonic.after(limit)) {
            Some(end) => (WaitPolicy::Until(end), Timeout::Wait(end)),
            None => (WaitPolicy::Forever, Timeout::Unlimited),
        };
        let retry_timeout = node.retry_timeout(node.config.default_lease, true);
        let nonce = node.nonces.draw(now.monotonic);
        let mut await_free = AwaitFree::new(&keys, wait, retry_timeout, nonce);
        let pause = &mut PauseMode::SleepUnlessClosed;
        let inspected = self.drive_with(&mut await_free, Some(&keys), now, timeout, pause);
        let inspected = inspected.await.map_err(about)?;
        node.inspected(inspected).map_err(about)
    }

    pub(crate) async fn enable_temporary_lru(&self) -> Result<TemporaryLru, LockError> {
        let mut enable = EnableTemporaryLru::new(self.node.longest_lease());
        let enabled = self.drive(&mut enable, None, clock::now(), Timeout::Unlimited);
        let enabled = enabled.await?;
        enabled.map_err(|error| self.node.error(Cause::Server(error)))
    }
}

impl<C> Node<C> {
    /// Converts the outcome of an inspection for the caller.
    pub(crate) fn inspected(&self, inspected: InspectOutcome) -> Result<Option<Holder>, LockError> {
        match inspected {
            InspectOutcome::Failed(failure) => Err(self.error(Cause::Server(failure))),
            seen => Ok(Holder::from_inspected(seen)),
        }
    }
}
