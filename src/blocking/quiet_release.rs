//! Quiet releases: releases without a waiting caller.
//!
//! They are sent ahead of the next flight of the connection, see
//! [`Connection::send_ahead`](crate::net::blocking::Connection::send_ahead).

use super::pool::{Connections, PooledConnection, QuietRelease};
use crate::engine::client::ClientInner;
use crate::engine::exchange::Timeout;
use crate::engine::{LockState, clock};
use crate::proto::{Instant, Now, Operation};
use std::sync::Arc;

/// Sends the release of a lock that was ended, and does not wait for the reply. Returns whether it
/// was sent.
pub(super) fn release_quietly(
    client: &Arc<ClientInner<Connections>>,
    lock: &Arc<LockState>,
    now: Now,
) -> bool {
    let cas = lock.state().cas;
    let connections = &client.node.connections;
    let Some(mut seat) = connections.take_where(|seat| !seat.connection.has_ahead()) else {
        return false;
    };
    if !seat.was_recently_used(now.monotonic) {
        if !seat.connection.is_reusable() {
            client.node.telemetry.disconnected();
            return false;
        }
        // So that the next caller need not read the reply before it sends its request.
        seat.answered(now.monotonic);
    }
    let instance = seat.instance;
    let mut checkout = PooledConnection::new(client, seat);
    let Ok(seat) = checkout.get() else {
        return false;
    };
    let mut release = lock.release_operation(cas, now.monotonic);
    let flight = seat.connection.next_flight();
    let prepared = client.node.with_server(instance, |server| {
        release.poll_transmit(server, now, flight).is_ok()
    });
    prepared == Some(true)
        && seat
            .connection
            .send_ahead(client.node.config.operation_timeout, || QuietRelease {
                core: Arc::downgrade(client),
                lock: Some(Arc::clone(lock)),
            })
}

/// Reads the outstanding replies on idle connections, by `until`: the renewer repeats the releases
/// that failed.
pub(super) fn settle(client: &ClientInner<Connections>, until: Instant) {
    let connections = &client.node.connections;
    while let Some(mut seat) = connections.take_where(|seat| seat.connection.has_ahead()) {
        let now = clock::monotonic();
        let limit = {
            let limit = client.node.config.operation_timeout;
            Timeout::Deadline(until).limit(limit, limit, now)
        };
        let elapsed = || clock::monotonic().since(now);
        if limit.is_ok_and(|limit| seat.connection.settle(limit, elapsed)) {
            client.put_back(seat);
        } else {
            client.node.telemetry.disconnected();
        }
    }
}
