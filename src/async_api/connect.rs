//! Connecting, and the client's methods that are not about acquiring a lock.

use super::pool::ConnectionPool;
use super::{Client, Lock};
use crate::engine::client::{ClientHandle, ClientInner};
use crate::engine::exchange::Timeout;
use crate::engine::facade::client_methods;
use crate::engine::{Cause, ClientBuilder, ClientStats, ConnectionLimits, Holder, LockError};
use core::time::Duration;
use std::string::{String, ToString};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::sleep;

impl Client {
    client_methods!();

    /// Connects to a server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the
    /// feature `tls`), `unix:///path`, or `host:port`.
    ///
    /// # Errors
    /// The address cannot be used, the server cannot be reached within a second, or the server is
    /// not a memcached that can hold locks.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build().await
    }

    /// Makes a client without connecting, see [`ClientBuilder::build_lazy`].
    ///
    /// # Errors
    /// The address cannot be used, or there is no tokio runtime.
    pub fn connect_lazy(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build_lazy()
    }

    /// Returns the holder of the lock of this name; `None` if the lock is free.
    ///
    /// The result may be out of date when it arrives. Never do anything on its account that
    /// requires holding the lock.
    ///
    /// # Errors
    /// The name cannot be used, or the server does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing at the server.
    pub async fn holder(&self, name: impl AsRef<str>) -> Result<Option<Holder>, LockError> {
        let client = self.inner();
        client.holder(name.as_ref()).await
    }

    /// Releases every lock that is still held or whose guard was dropped, and waits for that up to
    /// `limit`. The remaining guards report that their lock was
    /// [released](crate::LossReason::Released); later acquisitions fail.
    ///
    /// Returns whether everything was released. A lock that was not released expires with its
    /// lease.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the renewer from releasing the remaining locks.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.inner().shutdown(limit).await
    }

    /// Returns how many [quiet releases](super::LockGuard::release_quietly) were refused or not
    /// answered so far. After each, the renewer releases the lock once more in the background and
    /// waits for the reply.
    #[must_use]
    pub fn quiet_failures(&self) -> u64 {
        self.inner().node.telemetry.quiet_failures()
    }

    pub(super) fn inner(&self) -> &Arc<ClientInner<ConnectionPool>> {
        &self.shared.inner
    }
}

/// The number of connections. The requests of all callers travel together on one.
pub(super) const COUNT: ConnectionLimits = ConnectionLimits { default: 1, max: 4 };

/// Returns the runtime that this is called on.
pub(super) fn runtime() -> Result<Handle, LockError> {
    Handle::try_current().map_err(|_| {
        LockError::new(Cause::Setting(
            "the async client must be built within a tokio runtime".into(),
        ))
    })
}

impl ClientBuilder<Client> {
    /// Connects to the server and starts the renewer task.
    ///
    /// # Errors
    /// A setting cannot be used, there is no tokio runtime with I/O and time, the server cannot be
    /// reached (within [`wait_for_server`](Self::wait_for_server), if that was set), or the server
    /// is not a memcached that can hold locks.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn build(self) -> Result<Client, LockError> {
        let shared = self.handle()?;
        let inner = &shared.inner;
        let until = inner.node.tries_until();
        let timeout = until.map_or(Timeout::Unlimited, Timeout::Wait);
        let slot = inner.node.connections.slot(None);
        while let Err(why) = inner.connect(slot, timeout).await {
            sleep(inner.node.pause_before_retry(why, until)?).await;
        }
        shared.ensure_renewer()?;
        Ok(Client { shared })
    }

    /// Makes the client and starts the renewer task, without connecting: the first call that sends
    /// a request connects. For programs that must start while the server is down.
    ///
    /// Until the server is up, calls fail or wait as they do during a later outage:
    /// [`acquire`](super::Lock::acquire) retries for the lease (at least 5 s),
    /// [`try_acquire`](super::Lock::try_acquire) and the others fail with
    /// [`Unavailable`](crate::ErrorKind::Unavailable). The first call also reports an unsuitable
    /// server.
    ///
    /// # Errors
    /// A setting cannot be used, or there is no tokio runtime with I/O and time.
    pub fn build_lazy(self) -> Result<Client, LockError> {
        let shared = self.handle()?;
        // Started before the first lock: the renewer also watches the timeouts of other calls.
        shared.ensure_renewer()?;
        Ok(Client { shared })
    }

    fn handle(self) -> Result<Arc<ClientHandle<ConnectionPool>>, LockError> {
        let config = self.validate(COUNT)?;
        let connections = ConnectionPool::new(config.connections, runtime()?);
        let inner = Arc::new(ClientInner::new(config, connections)?);
        Ok(Arc::new(ClientHandle::new(inner)))
    }
}
