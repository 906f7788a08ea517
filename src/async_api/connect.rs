//! Connecting, and what a client does besides handing out locks.

use super::pool::ConnectionPool;
use super::{Client, Lock};
use crate::engine::client::{ClientHandle, ClientInner};
use crate::engine::facade::client_methods;
use crate::engine::transport::Timeout;
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
    /// The address cannot be used, the server cannot be reached within a second, or it is no
    /// memcached server that locks can be kept on.
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

    /// Who holds the lock of this name; `None` when nobody does.
    ///
    /// The answer may be out of date when it arrives. Never decide by it what only a held lock
    /// allows.
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

    /// Gives back every lock that is still held or whose guard was dropped, and waits for that up
    /// to `limit`. Guards that are still around learn that their lock was
    /// [released](crate::LossReason::Released); later acquisitions fail.
    ///
    /// Returns whether everything was given back. What was not runs out with its lease.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the keeper from giving back what is left.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.inner().shutdown(limit).await
    }

    /// How many [quiet releases](crate::LockGuard::release_quietly) were refused or not answered so far.
    /// Each was followed by a release that is waited for, in the background.
    #[must_use]
    pub fn quiet_failures(&self) -> u64 {
        self.inner().node.telemetry.quiet_failures()
    }

    pub(super) fn inner(&self) -> &Arc<ClientInner<ConnectionPool>> {
        &self.shared.inner
    }
}

/// On one connection the requests of all callers travel together.
pub(super) const COUNT: ConnectionLimits = ConnectionLimits { default: 1, max: 4 };

/// The runtime that this is called on.
pub(super) fn runtime() -> Result<Handle, LockError> {
    Handle::try_current().map_err(|_| {
        LockError::new(Cause::Setting(
            "the async client must be built within a tokio runtime".into(),
        ))
    })
}

impl ClientBuilder<Client> {
    /// Connects to the server and starts the keeper task.
    ///
    /// # Errors
    /// A setting cannot be used, there is no tokio runtime with I/O and time, the server cannot
    /// be reached (within [`wait_for_server`](Self::wait_for_server), if that was set), or it is no
    /// memcached server that locks can be kept on.
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

    /// Makes the client and starts the keeper task, without connecting: the first call that asks the
    /// server does. For programs that must start while the server is down.
    ///
    /// Until the server is there, calls fail or wait as they do while a server is away later:
    /// [`acquire`](crate::Lock::acquire) bears with it for the lease (at least 5 s),
    /// [`try_acquire`](crate::Lock::try_acquire) and the others fail with
    /// [`Unavailable`](crate::ErrorKind::Unavailable). What makes the server unsuitable is found by the
    /// first call, too.
    ///
    /// # Errors
    /// A setting cannot be used, or there is no tokio runtime with I/O and time.
    pub fn build_lazy(self) -> Result<Client, LockError> {
        let shared = self.handle()?;
        // Before the first lock: it also watches the timeouts of other calls.
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
