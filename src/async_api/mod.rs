//! The async front, on tokio.

mod acquire;
mod admin;
mod connect;
mod diagnose;
mod guard;
mod holding;
mod lock;
mod multi_lock;
mod multi_lock_guard;
mod pool;
mod renewer;
#[cfg(all(test, feature = "server"))]
mod several;
mod transport;

pub use guard::LockGuard;
pub use lock::Lock;
pub use multi_lock::MultiLock;
pub use multi_lock_guard::MultiLockGuard;

use crate::engine::{LockState, Node, WaitQueues};
use core::fmt;
use core::sync::atomic::AtomicBool;
use pool::ConnectionPool;
use std::sync::Arc;
use tokio::sync::Notify;

/// A lock that is held, and who is to be told when it is over.
#[derive(Debug)]
struct HeldLock {
    held: LockState,
    /// Something about it has changed.
    changed: Notify,
}

impl AsRef<LockState> for HeldLock {
    fn as_ref(&self) -> &LockState {
        &self.held
    }
}

/// What the client, its guards and its keeper share.
#[derive(Debug)]
struct ClientInner {
    node: Node<ConnectionPool, HeldLock>,
    /// Those who wait for the same lock in this process.
    queues: WaitQueues<HeldLock, Notify>,
    /// The keeper has something to do.
    wake: Notify,
    /// The keeper has done something.
    done: Notify,
    /// The client was shut down.
    closed: Notify,
    /// The keeper watches how long what is under way takes.
    watch: AtomicBool,
    /// The keeper has gone.
    unkept: AtomicBool,
    /// Something is to be sent that nobody waits for.
    quiet: AtomicBool,
}

/// The handle whose last drop lets the keeper end.
#[derive(Debug)]
struct ClientHandle {
    core: Arc<ClientInner>,
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.core.node.scheduler.detach_client();
        self.core.wake.notify_one();
    }
}

/// A client of one memcached server: the place where locks come from.
///
/// Cheap to clone; all clones share connections and one keeper task, which renews the locks that
/// are held and gives back those whose guards were dropped. The task ends when the last clone and
/// the last guard are gone.
///
/// It lives on the runtime that the client was built on. When that ends, what is held runs out with
/// its lease, and nothing can be acquired any more ([`Closed`](crate::ErrorKind::Closed)).
///
/// A process that was forked from the one that made the client cannot use it: each call fails
/// ([`Closed`](crate::ErrorKind::Closed)), and guards are not valid there
/// ([`Forked`](crate::LossReason::Forked)). What is held goes on in the process that acquired it.
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
    shared: Arc<ClientHandle>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.core().node.config.address)
            .finish_non_exhaustive()
    }
}
