//! Releases that nobody waits for.
//!
//! They are sent ahead of whatever the connection carries next, see
//! [`Connection::send_ahead`](crate::net::blocking::Connection::send_ahead).

use super::transport::{Connections, PooledConnection};
use crate::engine::client::ClientInner;
use crate::engine::transport::Timeout;
use crate::engine::{LockState, clock};
use crate::net::blocking::ReplyObserver;
use crate::proto::{Instant, Now, Operation};
use std::sync::{Arc, Weak};

/// A release that was sent and is not answered yet. Dropped before it is known to be done, it is
/// left to the keeper.
///
/// Behind a restart of the server, which closes all connections, the keeper sends nothing: what was
/// held is gone. Behind the end of the client there is no keeper, and no need for one: the request
/// is with the system, which sends it whatever becomes of this process.
#[derive(Debug)]
pub(super) struct QuietRelease {
    /// The connection belongs to it.
    core: Weak<ClientInner<Connections>>,
    lock: Option<Arc<LockState>>,
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

/// Sends the release of a lock that was ended, and does not wait for the answer. Returns
/// whether it was sent.
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
        // So that who comes next need not read the answer before it asks.
        seat.answered(now.monotonic);
    }
    let incarnation = seat.instance;
    let mut checkout = PooledConnection::new(client, seat);
    let Ok(seat) = checkout.seat() else {
        return false;
    };
    let mut release = lock.release_operation(cas, now.monotonic);
    let flight = seat.connection.next_flight();
    let prepared = client.node.with_server(incarnation, |view| {
        release.poll_transmit(view, now, flight).is_ok()
    });
    prepared == Some(true)
        && seat
            .connection
            .send_ahead(client.node.config.operation_timeout, || QuietRelease {
                core: Arc::downgrade(client),
                lock: Some(Arc::clone(lock)),
            })
}

/// Reads what is still to be answered on idle connections, by `until`: what came to nothing is
/// the keeper's then.
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
            client.give_back(seat);
        } else {
            client.node.telemetry.disconnected();
        }
    }
}
