//! The async API, on tokio.

mod admin;
mod connect;
mod diagnose;
mod guard;
mod lock;
mod multi_lock;
mod multi_lock_guard;
mod pool;
mod renewer;
mod transport;

pub use guard::LockGuard;
pub use lock::Lock;
pub use multi_lock::MultiLock;
pub use multi_lock_guard::MultiLockGuard;

use crate::engine::client::ClientHandle;
use core::fmt;
use pool::ConnectionPool;
use std::sync::Arc;

/// A client of one memcached server. It makes the locks.
///
/// Cheap to clone; all clones share connections and one renewer task, which renews the held locks
/// and releases those whose guards were dropped. The task ends after the last clone and the last
/// guard are dropped.
///
/// The task runs on the runtime that the client was built on. When that runtime ends, the held
/// locks expire with their leases, and nothing can be acquired any more
/// ([`Closed`](crate::ErrorKind::Closed)).
///
/// A process that was forked from the client's process cannot use the client: each call fails
/// ([`Closed`](crate::ErrorKind::Closed)), and guards are not valid there
/// ([`Forked`](crate::LossReason::Forked)). The process that acquired a lock goes on holding it.
/// Make a client after the fork.
///
/// # Example
/// ```no_run
/// # async fn example() -> Result<(), memlatch::LockError> {
/// use std::time::Duration;
///
/// let client = memlatch::Client::connect("memcached://127.0.0.1:11211").await?;
/// let lock = client.lock("invoices/42").lease(Duration::from_secs(10));
/// let guard = lock.acquire().await?;
/// // … work, for as long as `guard.is_valid()` …
/// println!("{:?}", guard.release().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<ClientHandle<ConnectionPool>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.inner().node.config.address)
            .finish_non_exhaustive()
    }
}
