//! The connections of a client: made when they are needed, and kept for their next use.

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

/// A connection, and what may have been sent ahead on it.
pub(super) type Link = Connection<QuietRelease>;

/// The idle connections of a client.
pub(super) type Connections = Pool<NodeConnection<Link>>;

type Client = ClientInner<Connections>;

/// A connection on which the handshake was made, and what that has found.
type Greeted = (Link, ServerState);

/// A connection for one exchange. Dropping it gives it back if it is still of use.
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

    /// The connection, not to be given back.
    pub(super) fn take(mut self) -> Result<NodeConnection<Link>, NetError> {
        self.connection
            .take()
            .ok_or(NetError::unsent(NetCause::Closed))
    }

    /// Closes the connection: it is of no use any more.
    pub(super) fn close(&mut self) {
        self.connection = None;
        self.client.node.telemetry.disconnected();
    }

    /// The connection. There is one from the making of the checkout to its drop.
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
    /// Takes a connection back for later use. Where enough are waiting it is closed, once what it
    /// was sent ahead is answered: that is done, as a rule, and need not be done once more.
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

    /// A connection on which the handshake has been made: one that was used before, if there is.
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

    /// Whether a connection that was not used for a moment can be. What it was sent ahead is
    /// answered first: until then nothing can be said unasked.
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
        // A server that is restarted between two answers is asked once more.
        let mut compared = self.compare(&all, &found, limit, bound);
        if let Err(ConnectError::Rejected(ServerError::SeveralServers(_))) = compared {
            compared = self.compare(&all, &found, limit, bound);
        }
        let ((connection, view), mut answered) = compared?;
        answered.retain(|address| found.contains(address));
        addresses.reached(&found, answered, began);
        Ok(self.seated(connection, view))
    }

    /// Asks all of these addresses, within `limit` for connecting, which server they lead to.
    /// Returns the connection to the first one of `found`, and those that have answered.
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
            // The one that is to be used may take its time, as any other server.
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
    /// handshake, with as much time for each answer as `patience`.
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

    /// A connection that is to be used, and what its handshake has found.
    fn seated(&self, connection: Link, view: ServerState) -> PooledConnection<'_> {
        self.node.telemetry.connected();
        let instance = view.instance;
        self.server_found(view);
        PooledConnection::new(self, NodeConnection::new(connection, instance))
    }
}

/// A release that was sent and is not answered yet. Dropped before it is known to be done, it is
/// left to the keeper.
///
/// Behind a restart of the server, which closes all connections, the keeper sends nothing: what was
/// held is gone. Behind the end of the client there is no keeper, and no need for one: the request
/// is with the system, which sends it whatever becomes of this process.
#[derive(Debug)]
pub(super) struct QuietRelease {
    /// The connection belongs to it.
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
