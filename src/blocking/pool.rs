//! The connections of a client: opened when they are needed, and kept for their next use.

use crate::engine::client::ClientInner;
use crate::engine::transport::Timeout;
use crate::engine::{Clear, Comparison, ConnectError, LockState, NodeConnection, Plan, clock};
use crate::net::blocking::{Connection, ReplyObserver};
use crate::net::pool::Pool;
use crate::net::{NetCause, NetError};
use crate::proto::{Instant, Now, ServerError, ServerState};
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Weak};
use std::vec::Vec;

/// A connection, and the quiet release that may have been sent ahead on it.
pub(super) type Link = Connection<QuietRelease>;

/// The idle connections of a client.
pub(super) type Connections = Pool<NodeConnection<Link>>;

type Client = ClientInner<Connections>;

/// A connection after the handshake, and the state of the server that the handshake found.
type Greeted = (Link, ServerState);

/// A connection for one exchange. Dropping it returns it to the pool if it is still usable.
pub(super) struct PooledConnection<'a> {
    client: &'a Client,
    pub(super) connection: Option<NodeConnection<Link>>,
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(seat) if seat.connection.is_dirty() => self.client.node.telemetry.disconnected(),
            Some(seat) => self.client.give_back(seat),
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

    /// Takes the connection out of the pool for good.
    pub(super) fn take(mut self) -> Result<NodeConnection<Link>, NetError> {
        self.connection
            .take()
            .ok_or(NetError::unsent(NetCause::Closed))
    }

    /// Closes the connection: it is not usable any more.
    pub(super) fn close(&mut self) {
        self.connection = None;
        self.client.node.telemetry.disconnected();
    }

    /// Returns the connection. There is one from the checkout until the drop.
    pub(super) fn seat(&mut self) -> Result<&mut NodeConnection<Link>, NetError> {
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
    pub(super) fn give_back(&self, seat: NodeConnection<Link>) {
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
        let checkout = self.open(bound)?;
        *now = clock::now();
        Ok(checkout)
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

    /// Opens a connection and makes the handshake, if all addresses of the name lead to the same
    /// server.
    pub(super) fn open(&self, bound: Timeout) -> Result<PooledConnection<'_>, ConnectError> {
        let settings = &self.node.config;
        let began = clock::monotonic();
        let limit = settings.connect_timeout;
        bound
            .limit(limit, settings.operation_timeout, began)
            .map_err(ConnectError::Net)?;
        let found = Link::resolve(&settings.address, &settings.connect_options);
        let found = found.map_err(ConnectError::Net)?;
        let addresses = &self.node.addresses;
        if let Plan::Use(usable) = addresses.plan(&found, began) {
            let greeted = self.greet(&usable, limit, settings.operation_timeout, bound);
            let known = match &greeted {
                Ok((_, view)) => !self.node.was_restarted(view.instance),
                Err(_) => false,
            };
            if known || found.len() < 2 {
                let (connection, view) = greeted?;
                if found.len() < 2 {
                    addresses.reached(&found, usable, began);
                }
                return Ok(self.seated(connection, view));
            }
            addresses.ask_again();
        }
        let Plan::Compare(all) = addresses.plan(&found, began) else {
            return Err(ConnectError::Net(NetError::unsent(NetCause::NoAddress)));
        };
        // A server that is restarted between two replies is compared once more.
        let mut compared = self.compare(&all, &found, limit, bound);
        if let Err(ConnectError::Rejected(ServerError::SeveralServers(_))) = compared {
            compared = self.compare(&all, &found, limit, bound);
        }
        let ((connection, view), mut answered) = compared?;
        answered.retain(|address| found.contains(address));
        addresses.reached(&found, answered, began);
        Ok(self.seated(connection, view))
    }

    /// Connects to all of these addresses, within `limit`, and compares the servers they lead to.
    /// Returns the connection to the first one of `found`, and the addresses that answered.
    fn compare(
        &self,
        all: &[SocketAddr],
        found: &[SocketAddr],
        limit: Duration,
        bound: Timeout,
    ) -> Result<(Greeted, Vec<SocketAddr>), ConnectError> {
        let settings = &self.node.config;
        let now = clock::monotonic();
        let limit = bound.limit(limit, settings.operation_timeout, now);
        let until = now.after(limit.map_err(ConnectError::Net)?);
        let mut comparison = Comparison::default();
        let mut first = None;
        let mut silence = NetError::unsent(NetCause::NoAddress);
        for (number, address) in all.iter().enumerate() {
            let left = u32::try_from(all.len() - number).unwrap_or(u32::MAX);
            let share = until.since(clock::monotonic()) / left;
            // The connection that is to be used has the usual time limit.
            let patience = match &first {
                None => settings.operation_timeout,
                Some(_) => settings.operation_timeout.min(share),
            };
            match self.greet(core::slice::from_ref(address), share, patience, bound) {
                Ok((connection, view)) => {
                    comparison.add(*address, view.instance);
                    if first.is_none() && found.contains(address) {
                        first = Some((connection, view));
                    }
                }
                Err(ConnectError::Net(error)) => silence = error,
                Err(error) => return Err(error),
            }
        }
        let answered = comparison.conclude(found).map_err(ConnectError::Rejected)?;
        first
            .map(|greeted| (greeted, answered))
            .ok_or(ConnectError::Net(silence))
    }

    /// Connects to the first of these addresses that can be reached, within `limit`, and makes the
    /// handshake, with the time limit `patience` for each reply.
    fn greet(
        &self,
        addresses: &[SocketAddr],
        limit: Duration,
        patience: Duration,
        bound: Timeout,
    ) -> Result<Greeted, ConnectError> {
        let settings = &self.node.config;
        let limit = bound
            .limit(limit, settings.operation_timeout, clock::monotonic())
            .map_err(ConnectError::Net)?;
        let mut connection = Link::dial(
            &settings.address,
            addresses,
            &settings.connect_options,
            limit,
        )
        .map_err(ConnectError::Net)?;
        let mut handshake = settings.handshake(self.node.nonces.draw(clock::monotonic()));
        loop {
            let now = clock::now();
            handshake.prepare(now, connection.next_flight());
            let mut replies = bound
                .limit(patience, settings.operation_timeout, now.monotonic)
                .and_then(|limit| {
                    connection.exchange(limit, || clock::monotonic().since(now.monotonic))
                })
                .map_err(|error| ConnectError::greeting(&handshake, error))?;
            let answer = handshake
                .interpret(&mut replies, now.monotonic, clock::monotonic())
                .map_err(|error| {
                    ConnectError::Net(NetError::unsent(NetCause::unexpected(error)))
                })?;
            match answer {
                None => {}
                Some(Err(failure)) => return Err(ConnectError::Rejected(failure)),
                Some(Ok(view)) => return Ok((connection, view)),
            }
        }
    }

    /// Returns a connection with the server state that its handshake found.
    fn seated(&self, connection: Link, view: ServerState) -> PooledConnection<'_> {
        self.node.telemetry.connected();
        let instance = view.instance;
        self.server_found(view);
        PooledConnection::new(self, NodeConnection::new(connection, instance))
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
