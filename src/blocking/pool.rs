//! The connections of a client: opened when they are needed, and kept for their next use.

use crate::engine::client::ClientInner;
use crate::engine::exchange::{Timeout, run};
use crate::engine::{Clear, ConnectError, LockState, NodeConnection, clock};
use crate::net::blocking::{Connection, ReplyObserver};
use crate::net::pool::Pool;
use crate::net::{NetCause, NetError};
use crate::proto::{Instant, Now};
use std::sync::{Arc, Weak};

/// A connection, and the quiet release that may have been sent ahead on it.
pub(super) type Link = Connection<QuietRelease>;

/// The idle connections of a client.
pub(super) type Connections = Pool<NodeConnection<Link>>;

type Client = ClientInner<Connections>;

/// A connection for one exchange. Dropping it returns it to the pool if it is still usable.
pub(super) struct PooledConnection<'a> {
    client: &'a Client,
    pub(super) connection: Option<NodeConnection<Link>>,
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(seat) if seat.connection.is_dirty() => self.client.node.telemetry.disconnected(),
            Some(seat) => self.client.put_back(seat),
            None => {}
        }
    }
}

impl<'a> PooledConnection<'a> {
    pub(super) const fn new(client: &'a Client, connection: NodeConnection<Link>) -> Self {
        Self {
            client,
            connection: Some(connection),
        }
    }

    /// Closes the connection: it is not usable any more.
    pub(super) fn close(&mut self) {
        self.connection = None;
        self.client.node.telemetry.disconnected();
    }

    /// Returns the connection. There is one from the checkout until the drop.
    pub(super) fn get(&mut self) -> Result<&mut NodeConnection<Link>, NetError> {
        self.connection
            .as_mut()
            .ok_or(NetError::unsent(NetCause::Closed))
    }
}

impl Clear for Connections {
    fn clear(&self) {
        self.close_all();
    }
}

impl Client {
    /// Returns a connection to the pool. If the pool is full the connection is closed, once the
    /// quiet release that was sent ahead is answered: as a rule that release is done, and need not
    /// be repeated.
    pub(super) fn put_back(&self, seat: NodeConnection<Link>) {
        if self.node.with_server(seat.instance, |_| ()).is_some() {
            if let Some(mut seat) = self.node.connections.put(seat) {
                let limit = self.node.config.operation_timeout;
                let began = clock::monotonic();
                let elapsed = || clock::monotonic().since(began);
                seat.connection.settle(limit, elapsed);
            }
        }
    }

    /// Returns a connection after the handshake: an idle one if there is one.
    pub(super) fn connect(
        &self,
        bound: Timeout,
        now: &mut Now,
    ) -> Result<PooledConnection<'_>, ConnectError> {
        let until = now.monotonic.after(self.node.config.operation_timeout);
        while let Some(mut seat) = self.node.connections.take() {
            if seat.was_recently_used(now.monotonic)
                || self.is_reusable(&mut seat, until, bound, now)
            {
                return Ok(PooledConnection::new(self, seat));
            }
            self.node.telemetry.disconnected();
        }
        let connection = run(self.open(bound))?;
        *now = clock::now();
        Ok(PooledConnection::new(self, connection))
    }

    /// Returns whether a connection that was idle for a while can be used. The reply to a quiet
    /// release that was sent ahead is read first: until then the server's unrequested bytes cannot
    /// be recognized.
    fn is_reusable(
        &self,
        seat: &mut NodeConnection<Link>,
        until: Instant,
        bound: Timeout,
        now: &mut Now,
    ) -> bool {
        if seat.connection.has_ahead() {
            let began = now.monotonic;
            let operation_timeout = self.node.config.operation_timeout;
            let limit = bound.limit(until.since(began), operation_timeout, began);
            let settled = limit.is_ok_and(|limit| {
                let elapsed = || clock::monotonic().since(began);
                seat.connection.settle(limit, elapsed)
            });
            *now = clock::now();
            if !settled {
                return false;
            }
        }
        seat.connection.is_reusable()
    }
}

/// A release that was sent and is not answered yet. Dropped before it is known to be done, it is
/// left to the renewer.
///
/// After a restart of the server, which closes all connections, the renewer sends nothing: the held
/// locks are gone. After the end of the client there is no renewer, and no need for one: the
/// request is with the operating system, which sends it even if this process ends.
#[derive(Debug)]
pub(super) struct QuietRelease {
    /// The client that the connection belongs to.
    pub(super) core: Weak<ClientInner<Connections>>,
    pub(super) lock: Option<Arc<LockState>>,
}

impl ReplyObserver for QuietRelease {
    fn done(mut self) {
        self.lock = None;
    }
}

impl Drop for QuietRelease {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        let Some(core) = self.core.upgrade() else {
            return;
        };
        lock.emit_quiet_failure();
        core.schedule_release(&lock);
    }
}
