//! Connecting, and what a client does besides handing out locks.

use super::pool::Connections;
use super::{Client, Lock};
use crate::engine::client::{ClientHandle, ClientInner};
use crate::engine::facade::client_methods;
use crate::engine::transport::{Timeout, run};
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
    /// The address cannot be used, the server cannot be reached within a second (looking up a
    /// host name may take longer), or it is no memcached server that locks can be kept on.
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

    /// Who holds the lock of this name; `None` when nobody does.
    ///
    /// The answer may be out of date when it arrives. Never decide by it what only a held lock
    /// allows.
    ///
    /// # Errors
    /// The name cannot be used, or the server does not answer.
    pub fn holder(&self, name: impl AsRef<str>) -> Result<Option<Holder>, LockError> {
        let client = self.inner();
        run(client.holder(name.as_ref()))
    }

    /// Gives back every lock that is still held, and waits for that up to `limit`. Guards that are
    /// still around learn that their lock was [released](crate::LossReason::Released);
    /// acquisitions that wait for others, and later ones, fail with
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// Returns whether everything was given back, [quiet releases](super::LockGuard::release_quietly)
    /// included. What was not runs out with its lease, unless the keeper still reaches the server
    /// before.
    pub fn shutdown(&self, limit: Duration) -> bool {
        run(self.inner().shutdown(limit))
    }

    /// How many [quiet releases](super::LockGuard::release_quietly) were refused or not answered, as far
    /// as is known by now. Each is followed by a release that is waited for, in the background.
    #[must_use]
    pub fn quiet_failures(&self) -> u64 {
        self.inner().node.telemetry.quiet_failures()
    }

    pub(super) fn inner(&self) -> &Arc<ClientInner<Connections>> {
        &self.shared.inner
    }
}

/// How many idle connections are kept.
pub(super) const COUNT: ConnectionLimits = ConnectionLimits {
    default: 4,
    max: 64,
};

impl ClientBuilder<Client> {
    /// Connects to the server.
    ///
    /// # Errors
    /// A setting cannot be used, the server cannot be reached (within
    /// [`wait_for_server`](Self::wait_for_server), if that was set), or it is no memcached server that
    /// locks can be kept on.
    pub fn build(self) -> Result<Client, LockError> {
        let client = self.build_lazy()?;
        let inner = client.inner();
        let until = inner.node.tries_until();
        let timeout = until.map_or(Timeout::Unlimited, Timeout::Wait);
        loop {
            match inner.open(timeout) {
                Ok(connection) => break drop(connection),
                Err(why) => thread::sleep(inner.node.pause_before_retry(why, until)?),
            }
        }
        Ok(client)
    }

    /// Makes the client without connecting: the first call that asks the server does. For programs
    /// that must start while the server is down.
    ///
    /// Until the server is there, calls fail or wait as they do while a server is away later:
    /// [`acquire`](Lock::acquire) bears with it for the lease (at least 5 s),
    /// [`try_acquire`](Lock::try_acquire) and the others fail with
    /// [`Unavailable`](crate::ErrorKind::Unavailable). What makes the server unsuitable is found by the
    /// first call, too.
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
