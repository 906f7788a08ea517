//! The blocking front, on `std::net`: the same locks without an async runtime.
//!
//! [`Client`], [`Lock`] and [`LockGuard`] have the verbs of the async ones at the crate root; each
//! call returns when it is over. All three can be shared between threads.
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

mod acquire;
mod admin;
mod connect;
mod diagnose;
mod guard;
mod holding;
mod lock;
mod multi_lock;
mod multi_lock_guard;
mod notify;
mod quiet_release;
mod renewer;
#[cfg(all(test, feature = "server"))]
mod several;
mod transport;

pub use guard::LockGuard;
pub use lock::Lock;
pub use multi_lock::MultiLock;
pub use multi_lock_guard::MultiLockGuard;

use crate::engine::{Cause, ConfigError, LockError, LockState, Node, NodeConnection, WaitQueues};
use crate::net::blocking::Connection;
use crate::net::pool::Pool;
use core::fmt;
use notify::ThreadNotify;
use quiet_release::QuietRelease;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A lock that is held, and who is to be told when it is over.
#[derive(Debug)]
struct HeldLock {
    held: LockState,
    /// Something about it has changed.
    changed: ThreadNotify,
}

impl AsRef<LockState> for HeldLock {
    fn as_ref(&self) -> &LockState {
        &self.held
    }
}

/// A connection, and what may have been sent ahead on it.
type Link = Connection<QuietRelease>;

/// What the client, its guards and its keeper share.
#[derive(Debug)]
struct ClientInner {
    node: Node<Pool<NodeConnection<Link>>, HeldLock>,
    /// Those who wait for the same lock in this process.
    queues: WaitQueues<HeldLock, ThreadNotify>,
    /// The keeper has something to do.
    wake: ThreadNotify,
    /// The keeper has done something.
    done: ThreadNotify,
    /// The client was shut down.
    closing: ThreadNotify,
}

/// The handle whose last drop lets the keeper end.
#[derive(Debug)]
struct ClientHandle {
    core: Arc<ClientInner>,
    /// Whether the keeper has been started.
    kept: Mutex<bool>,
}

impl ClientHandle {
    /// Sees to it that there is a keeper. Not before the first lock that needs one: a program that
    /// takes none has no thread for it, and where it cannot take any, no code either.
    fn keep(&self) -> Result<(), LockError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !*kept {
            let core = Arc::clone(&self.core);
            thread::Builder::new()
                .name("memlatch-keeper".into())
                .spawn(move || renewer::run(&core))
                .map_err(|error| LockError::new(Cause::Setting(ConfigError::Thread(error))))?;
            *kept = true;
        }
        Ok(())
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.core.node.scheduler.detach_client();
        self.core.wake.notify();
    }
}

/// A client of one memcached server: the place where locks come from.
///
/// Cheap to clone; all clones share connections and one keeper thread (`memlatch-keeper`), which
/// renews the locks that are held and takes back what failed acquisitions may have left. The
/// thread begins with the first acquisition and ends when the last clone, [`Lock`] and [`LockGuard`] are gone and nothing is left to be
/// given back.
///
/// A process that was forked from the one that made the client cannot use it: each call fails
/// ([`Closed`](crate::ErrorKind::Closed)), and guards are not valid there
/// ([`Forked`](crate::LossReason::Forked)). What is held goes on in the process that acquired it.
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
    shared: Arc<ClientHandle>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.core().node.config.address)
            .finish_non_exhaustive()
    }
}
