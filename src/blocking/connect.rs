//! Connecting, and the client's methods that are not about acquiring a lock.

use super::pool::Connections;
use super::{Client, Lock};
use crate::engine::client::{ClientHandle, ClientInner};
use crate::engine::exchange::{Timeout, run};
use crate::engine::facade::client_methods;
use crate::engine::{ClientBuilder, ClientStats, ConnectionLimits, Holder, LockError};
use core::time::Duration;
use std::string::{String, ToString};
use std::sync::Arc;
use std::thread;

impl Client {
    client_methods!();

    /// Connects to a server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the
    /// feature `tls`), `unix:///path`, or `host:port`.
    ///
    /// # Errors
    /// The address cannot be used, the server cannot be reached within a second (looking up a host
    /// name may take longer), or the server is not a memcached that can hold locks.
    pub fn connect(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build()
    }

    /// Makes a client without connecting, see [`ClientBuilder::build_lazy`].
    ///
    /// # Errors
    /// The address cannot be used.
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
    pub fn holder(&self, name: impl AsRef<str>) -> Result<Option<Holder>, LockError> {
        let client = self.inner();
        run(client.holder(name.as_ref()))
    }

    /// Releases every lock that is still held, and waits for that up to `limit`. The remaining
    /// guards report that their lock was [released](crate::LossReason::Released); acquisitions that
    /// wait for others, and later ones, fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// Returns whether everything was released, [quiet releases](super::LockGuard::release_quietly)
    /// included. A lock that was not released expires with its lease, unless the renewer reaches
    /// the server before.
    pub fn shutdown(&self, limit: Duration) -> bool {
        run(self.inner().shutdown(limit))
    }

    /// Returns how many [quiet releases](super::LockGuard::release_quietly) were refused or not
    /// answered, as far as the client knows by now. After each, the renewer releases the lock once
    /// more in the background and waits for the reply.
    #[must_use]
    pub fn quiet_failures(&self) -> u64 {
        self.inner().node.telemetry.quiet_failures()
    }

    pub(super) fn inner(&self) -> &Arc<ClientInner<Connections>> {
        &self.shared.inner
    }
}

/// The number of idle connections that are kept.
pub(super) const COUNT: ConnectionLimits = ConnectionLimits {
    default: 4,
    max: 64,
};

impl ClientBuilder<Client> {
    /// Connects to the server.
    ///
    /// # Errors
    /// A setting cannot be used, the server cannot be reached (within
    /// [`wait_for_server`](Self::wait_for_server), if that was set), or the server is not a
    /// memcached that can hold locks.
    pub fn build(self) -> Result<Client, LockError> {
        let client = self.build_lazy()?;
        let inner = client.inner();
        let until = inner.node.tries_until();
        let timeout = until.map_or(Timeout::Unlimited, Timeout::Wait);
        loop {
            match run(inner.open(timeout)) {
                Ok(connection) => break inner.put_back(connection),
                Err(why) => thread::sleep(inner.node.pause_before_retry(why, until)?),
            }
        }
        Ok(client)
    }

    /// Makes the client without connecting: the first call that sends a request connects. For
    /// programs that must start while the server is down.
    ///
    /// Until the server is up, calls fail or wait as they do during a later outage:
    /// [`acquire`](Lock::acquire) retries for the lease (at least 5 s),
    /// [`try_acquire`](Lock::try_acquire) and the others fail with
    /// [`Unavailable`](crate::ErrorKind::Unavailable). The first call also reports an unsuitable
    /// server.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn build_lazy(self) -> Result<Client, LockError> {
        let config = self.validate(COUNT)?;
        let connections = Connections::new(config.connections);
        let inner = Arc::new(ClientInner::new(config, connections)?);
        Ok(Client {
            shared: Arc::new(ClientHandle::new(inner)),
        })
    }
}
