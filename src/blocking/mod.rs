//! The blocking API, on `std::net`: the same locks without an async runtime.
//!
//! [`Client`], [`Lock`] and [`LockGuard`] have the methods of the async ones at the crate root;
//! each call blocks until it is done. All three can be shared between threads.
//!
//! ```no_run
//! use memlatch::blocking::Client;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), memlatch::LockError> {
//! let client = Client::connect("memcached://127.0.0.1:11211")?;
//! let guard = client
//!     .lock("invoices/42")
//!     .lease(Duration::from_secs(10))
//!     .acquire()?;
//! // … work, with `guard.ensure(…)?` before each step that needs the lock …
//! println!("{:?}", guard.release()?);
//! # Ok(())
//! # }
//! ```

mod admin;
mod connect;
mod diagnose;
mod guard;
mod lock;
mod multi_lock;
mod multi_lock_guard;
mod pool;
mod quiet_release;
mod renewer;
mod transport;

pub use guard::LockGuard;
pub use lock::Lock;
pub use multi_lock::MultiLock;
pub use multi_lock_guard::MultiLockGuard;

use crate::engine::client::ClientHandle;
use core::fmt;
use pool::Connections;
use std::sync::Arc;

/// A client of one memcached server. It makes the locks.
///
/// Cheap to clone; all clones share connections and one renewer thread (`memlatch-renew`), which
/// renews the held locks and undoes what failed acquisitions may have stored. The thread starts
/// with the first acquisition. It ends when the last clone, [`Lock`] and [`LockGuard`] are dropped
/// and nothing remains to be released.
///
/// A process that was forked from the client's process cannot use the client: each call fails
/// ([`Closed`](crate::ErrorKind::Closed)), and guards are not valid there
/// ([`Forked`](crate::LossReason::Forked)). The process that acquired a lock goes on holding it.
/// Make a client after the fork.
///
/// # Example
/// ```no_run
/// # fn main() -> Result<(), memlatch::LockError> {
/// use std::time::Duration;
///
/// let client = memlatch::blocking::Client::connect("memcached://127.0.0.1:11211")?;
/// let lock = client.lock("invoices/42").lease(Duration::from_secs(10));
/// let guard = lock.acquire()?;
/// // … work, for as long as `guard.is_valid()` …
/// println!("{:?}", guard.release()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<ClientHandle<Connections>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.inner().node.config.address)
            .finish_non_exhaustive()
    }
}
