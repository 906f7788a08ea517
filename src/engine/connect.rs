//! Connections without a lock: the handshake, the comparison of all addresses of a name, and the
//! probe of the doctor.

use super::addresses::{Comparison, Plan};
use super::check::Peer;
use super::client::{ClientInner, Transport};
use super::clock;
use super::config::Config;
use super::connect_error::ConnectError;
use super::diagnosis::{Diagnosis, surveyed, to_compare};
use super::error::LockError;
use super::exchange::Timeout;
use super::node::NodeConnection;
use crate::net::{NetCause, NetError};
use crate::proto::{ServerError, ServerProbe, ServerReport, ServerState};
use core::net::SocketAddr;
use core::time::Duration;
use std::vec::Vec;

/// A connection after the handshake, and the state of the server that the handshake found.
type Greeted<T> = (<T as Transport>::Connection, ServerState);

impl<T: Transport> ClientInner<T> {
    /// Opens a connection and makes the handshake, if all addresses of the name lead to the same
    /// server.
    ///
    /// # Cancel safety
    /// Dropping the future closes what it has opened.
    pub(crate) async fn open(
        &self,
        timeout: Timeout,
    ) -> Result<NodeConnection<T::Connection>, ConnectError> {
        let config = &self.node.config;
        let began = clock::monotonic();
        let limit = config.connect_timeout;
        let left = timeout
            .limit(limit, config.operation_timeout, began)
            .map_err(ConnectError::Net)?;
        let found = T::resolve(config, left).await;
        let found = found.map_err(ConnectError::Net)?;
        let addresses = &self.node.addresses;
        if let Plan::Use(usable) = addresses.plan(&found, began) {
            let reply_limit = config.operation_timeout;
            let greeted = self.greet(&usable, limit, reply_limit, timeout).await;
            let known = match &greeted {
                Ok((_, server)) => !self.node.was_restarted(server.instance),
                Err(_) => false,
            };
            if known || found.len() < 2 {
                let greeted = greeted?;
                if found.len() < 2 {
                    addresses.reached(&found, usable, began);
                }
                return Ok(self.connected(greeted));
            }
            addresses.ask_again();
        }
        let Plan::Compare(all) = addresses.plan(&found, began) else {
            return Err(ConnectError::Net(NetError::unsent(NetCause::NoAddress)));
        };
        // A server that is restarted between two replies is compared once more.
        let mut compared = self.compare(&all, &found, limit, timeout).await;
        if let Err(ConnectError::Rejected(ServerError::SeveralServers(_))) = compared {
            compared = self.compare(&all, &found, limit, timeout).await;
        }
        let (greeted, mut answered) = compared?;
        answered.retain(|address| found.contains(address));
        addresses.reached(&found, answered, began);
        Ok(self.connected(greeted))
    }

    /// Connects to all of these addresses, within `limit`, and compares the servers they lead to.
    /// Returns the connection to the first one of `found`, and the addresses that answered.
    async fn compare(
        &self,
        all: &[SocketAddr],
        found: &[SocketAddr],
        limit: Duration,
        timeout: Timeout,
    ) -> Result<(Greeted<T>, Vec<SocketAddr>), ConnectError> {
        let operation_timeout = self.node.config.operation_timeout;
        let now = clock::monotonic();
        let limit = timeout.limit(limit, operation_timeout, now);
        let end = now.after(limit.map_err(ConnectError::Net)?);
        let mut comparison = Comparison::default();
        let mut first = None;
        let mut silence = NetError::unsent(NetCause::NoAddress);
        for (number, address) in all.iter().enumerate() {
            let left = u32::try_from(all.len() - number).unwrap_or(u32::MAX);
            let share = end.since(clock::monotonic()) / left;
            // The connection that is to be used has the usual time limit.
            let reply_limit = match &first {
                None => operation_timeout,
                Some(_) => operation_timeout.min(share),
            };
            let only = core::slice::from_ref(address);
            match self.greet(only, share, reply_limit, timeout).await {
                Ok((connection, server)) => {
                    comparison.add(*address, server.instance);
                    if first.is_none() && found.contains(address) {
                        first = Some((connection, server));
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
    /// handshake, with the time limit `reply_limit` for each reply.
    async fn greet(
        &self,
        addresses: &[SocketAddr],
        limit: Duration,
        reply_limit: Duration,
        timeout: Timeout,
    ) -> Result<Greeted<T>, ConnectError> {
        let config = &self.node.config;
        let limit = timeout
            .limit(limit, config.operation_timeout, clock::monotonic())
            .map_err(ConnectError::Net)?;
        let connection = T::dial(config, addresses, limit).await;
        let mut connection = connection.map_err(ConnectError::Net)?;
        let mut handshake = config.handshake(self.node.nonces.draw(clock::monotonic()));
        loop {
            let now = clock::now();
            let limit = timeout
                .limit(reply_limit, config.operation_timeout, now.monotonic)
                .map_err(ConnectError::Net)?;
            let step = T::ask(&mut connection, limit, &mut handshake, now);
            match step.await {
                Ok(None) => {}
                Ok(Some(Ok(server))) => return Ok((connection, server)),
                Ok(Some(Err(error))) => return Err(ConnectError::Rejected(error)),
                Err(error) => return Err(ConnectError::from_handshake(&handshake, error)),
            }
        }
    }

    fn connected(&self, (connection, server): Greeted<T>) -> NodeConnection<T::Connection> {
        self.node.telemetry.connected();
        let instance = server.instance;
        self.server_found(server);
        NodeConnection::new(connection, instance)
    }
}

/// Probes the server of these settings, and compares the servers of several connections.
pub(crate) async fn diagnose<T: Transport>(config: &Config) -> Result<Diagnosis, LockError> {
    let probed = probe_all::<T>(config).await;
    let (report, peers) = probed.map_err(|why| why.into_lock_error(&config.address))?;
    let now = clock::now().unix_seconds;
    Ok(Diagnosis::new(config, report, &peers, now))
}

async fn probe_all<T: Transport>(
    config: &Config,
) -> Result<(ServerReport, Vec<Peer>), ConnectError> {
    let found = T::resolve(config, config.connect_timeout).await;
    let found = found.map_err(ConnectError::Net)?;
    let (report, _connection) = probe::<T>(config, &found, config.probe()).await?;
    // All of them are open at the same time: what spreads connections does so evenly.
    let mut open = Vec::new();
    let mut peers = Vec::new();
    for target in to_compare(&found) {
        let probed = probe::<T>(config, target, config.probe().briefly()).await;
        let report = probed.as_ref().ok().map(|(report, _)| report);
        peers.push(Peer::new(target.first().copied(), report));
        open.push(probed);
    }
    Ok((report, peers))
}

/// Returns the report of the first of these addresses that can be reached, and the connection.
async fn probe<T: Transport>(
    config: &Config,
    addresses: &[SocketAddr],
    mut probe: ServerProbe<'_>,
) -> Result<(ServerReport, T::Connection), ConnectError> {
    let connection = T::dial(config, addresses, config.connect_timeout).await;
    let mut connection = connection.map_err(ConnectError::Net)?;
    loop {
        let limit = config.operation_timeout;
        let step = T::ask(&mut connection, limit, &mut probe, clock::now()).await;
        probe = match surveyed(probe, step)? {
            Ok(report) => return Ok((report, connection)),
            Err(probe) => probe,
        };
    }
}
