//! Releases that nobody waits for.
//!
//! They are sent ahead of whatever the connection carries next, see
//! [`Connection::send_ahead`](crate::net::blocking::Connection::send_ahead).

use super::transport::{PooledConnection, Timeout};
use super::{ClientInner, HeldLock};
use crate::engine::clock;
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
    core: Weak<ClientInner>,
    lock: Option<Arc<HeldLock>>,
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
        lock.held.emit_quiet_failure();
        core.schedule_release(&lock);
    }
}

impl ClientInner {
    /// Sends the release of a lock that was ended, and does not wait for the answer. Returns
    /// whether it was sent.
    pub(super) fn release_quietly(self: &Arc<Self>, lock: &Arc<HeldLock>, now: Now) -> bool {
        let held = &lock.held;
        let cas = {
            let state = held.state();
            // The CAS unique may be another by now, and a refusal would be noticed late.
            if state.renewing || state.renewal_unanswered || held.grant.may_be_replayed {
                return false;
            }
            state.cas
        };
        let connections = &self.node.connections;
        let Some(mut seat) = connections.take_where(|seat| !seat.connection.has_ahead()) else {
            return false;
        };
        if !seat.was_recently_used(now.monotonic) {
            if !seat.connection.is_reusable() {
                self.node.telemetry.disconnected();
                return false;
            }
            // So that who comes next need not read the answer before it asks.
            seat.answered(now.monotonic);
        }
        let incarnation = seat.instance;
        let mut checkout = PooledConnection::new(self, seat);
        let Ok(seat) = checkout.seat() else {
            return false;
        };
        let mut release = held.release_operation(cas, now.monotonic);
        let flight = seat.connection.next_flight();
        let prepared = self.node.with_server(incarnation, |view| {
            release.poll_transmit(view, now, flight).is_ok()
        });
        prepared == Some(true)
            && seat
                .connection
                .send_ahead(self.node.config.operation_timeout, || QuietRelease {
                    core: Arc::downgrade(self),
                    lock: Some(Arc::clone(lock)),
                })
    }

    /// Reads what is still to be answered on idle connections, by `until`: what came to nothing is
    /// the keeper's then.
    pub(super) fn settle_quiet(&self, until: Instant) {
        let connections = &self.node.connections;
        while let Some(mut seat) = connections.take_where(|seat| seat.connection.has_ahead()) {
            let now = clock::monotonic();
            let limit = self.node.config.operation_timeout;
            let limit = Timeout::Deadline(until).limit(limit, limit, now);
            let elapsed = || clock::monotonic().since(now);
            if limit.is_ok_and(|limit| seat.connection.settle(limit, elapsed)) {
                self.give_back(seat);
            } else {
                self.node.telemetry.disconnected();
            }
        }
    }
}
