//! The shared connections of a client: the choice of one for each flight, connecting, and closing.

use crate::engine::client::ClientInner;
use crate::engine::exchange::Timeout;
use crate::engine::{Clear, ConnectError, NodeConnection, clock};
use crate::net::shared::{ReplyObserver, SharedConnection};
use crate::net::stream::Stream;
use crate::net::{NetCause, NetError};
use crate::proto::{Backoff, Instant, LockKeys};
use core::hash::BuildHasher;
use core::sync::atomic::AtomicBool;
use core::task::{Context, Waker};
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;
use tokio::runtime::Handle;

/// A shared connection and the server instance it leads to.
pub(super) type SharedNodeConnection = NodeConnection<SharedConnection<Stream>>;

/// The shortest pause in connecting after the first failure. Doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause in connecting after any failure.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// The connections of a client. Each is opened when it is first needed.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    slots: Vec<ConnectionSlot>,
    /// Connections that were replaced while flights were outstanding on them.
    retired: Mutex<Vec<Arc<SharedNodeConnection>>>,
    hasher: RandomState,
    /// The runtime that the client was built on.
    pub(super) runtime: Handle,
    /// The renewer watches how long the outstanding flights take.
    pub(super) watch: AtomicBool,
    /// The renewer has ended, and watches nothing.
    pub(super) unwatched: AtomicBool,
    /// A quiet release is to be sent.
    pub(super) quiet: AtomicBool,
}

/// The place of one connection, open or not.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    current: Mutex<Option<Arc<SharedNodeConnection>>>,
    /// Locked by the caller that connects; the other callers wait for its result.
    connecting: tokio::sync::Mutex<ReconnectBackoff>,
}

/// A pause in connecting to a server that could not be reached.
#[derive(Debug, Default)]
struct ReconnectBackoff {
    failures: u32,
    /// The end of the pause, and the error that caused it.
    pause: Option<(Instant, ConnectError)>,
}

impl ConnectionPool {
    pub(super) fn new(count: usize, runtime: Handle) -> Self {
        let places = (0..count).map(|_| ConnectionSlot {
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::default(),
        });
        Self {
            slots: places.collect(),
            retired: Mutex::default(),
            hasher: RandomState::new(),
            runtime,
            watch: AtomicBool::new(false),
            unwatched: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
        }
    }

    /// Returns the slot of the connection for the requests about a lock: always the same, so that
    /// the request that undoes an attempt to acquire cannot overtake the attempt.
    pub(super) fn slot(&self, keys: Option<&LockKeys>) -> &ConnectionSlot {
        let number = match keys {
            Some(keys) if self.slots.len() > 1 => {
                self.hasher.hash_one(keys.lock().as_bytes()) as usize % self.slots.len()
            }
            _ => 0,
        };
        &self.slots[number]
    }

    /// Ends connections with a flight that has timed out, see [`SharedConnection::watch`], and
    /// collects the releases without a waiting caller that failed. Returns whether any flight is
    /// outstanding.
    pub(super) fn watch(&self, undone: &mut Vec<ReplyObserver>) -> bool {
        let mut look = |seat: &SharedNodeConnection| {
            let busy = seat.connection.watch();
            undone.append(&mut seat.connection.undone());
            busy
        };
        let mut busy = false;
        for seat in self.slots.iter().filter_map(ConnectionSlot::get) {
            busy |= look(&seat);
        }
        let mut retired = self.retired();
        // A caller that still has the connection may be about to send on it.
        retired.retain(|seat| look(seat) | (Arc::strong_count(seat) > 1));
        busy || !retired.is_empty()
    }

    /// Ends all connections, and the flights that are outstanding on them.
    pub(super) fn close(&self) {
        self.clear();
        for seat in self.retired().drain(..) {
            seat.connection.close();
        }
    }

    /// Sends the quiet releases. Returns the connections that accept no more for now.
    pub(super) fn send_quiet(&self) -> Vec<Arc<SharedNodeConnection>> {
        let mut slow = Vec::new();
        for seat in self.slots.iter().filter_map(ConnectionSlot::get) {
            let cx = &mut Context::from_waker(Waker::noop());
            if seat.connection.poll_send_quiet(cx).is_pending() {
                slow.push(seat);
            }
        }
        slow
    }

    /// Puts a connection into a slot. Flights on the one that was there go on.
    fn set(&self, place: &ConnectionSlot, seat: Option<Arc<SharedNodeConnection>>) {
        let old = core::mem::replace(&mut *place.current(), seat);
        let used = |seat: &Arc<SharedNodeConnection>| {
            Arc::strong_count(seat) > 1 || seat.connection.is_busy()
        };
        self.retired().extend(old.filter(used));
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<SharedNodeConnection>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clear for ConnectionPool {
    fn clear(&self) {
        for place in &self.slots {
            self.set(place, None);
        }
    }
}

impl ConnectionSlot {
    pub(super) fn get(&self) -> Option<Arc<SharedNodeConnection>> {
        self.current().as_ref().map(Arc::clone)
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<SharedNodeConnection>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReconnectBackoff {
    /// Returns an error if a caller comes too soon after a failure.
    fn check(&self, now: Instant) -> Result<(), ConnectError> {
        match &self.pause {
            Some((until, why)) if now < *until => Err(why.duplicate()),
            _ => Ok(()),
        }
    }

    /// Begins a pause after a failed connect. It is random, so that the many clients of one server
    /// do not return at the same instant.
    fn failed(&mut self, now: Instant, why: &ConnectError, random: u64) {
        let rest = Backoff::doubling(FIRST_PAUSE, LONGEST_PAUSE, self.failures);
        self.failures += 1;
        let half = rest / 2;
        let jitter = Duration::from_nanos(random % half.as_nanos() as u64);
        self.pause = Some((now.after(half + jitter), why.duplicate()));
    }
}

impl ClientInner<ConnectionPool> {
    /// Returns a connection after the handshake, by `until` if that is given: the one in this slot,
    /// if it is usable.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection it has opened; other callers that wait for it open
    /// their own.
    pub(super) async fn connect(
        &self,
        place: &ConnectionSlot,
        timeout: Timeout,
    ) -> Result<Arc<SharedNodeConnection>, ConnectError> {
        let usable = |place: &ConnectionSlot| {
            place.get().filter(|seat| {
                let current = self.node.with_server(seat.instance, |_| ()).is_some();
                current && !seat.connection.has_ended()
            })
        };
        let config = &self.node.config;
        let limit = timeout
            .limit(
                config.connect_timeout,
                config.operation_timeout,
                clock::monotonic(),
            )
            .map_err(ConnectError::Net)?;
        let connecting = tokio::time::timeout(limit, place.connecting.lock()).await;
        let mut rest = connecting
            .map_err(|_| ConnectError::Net(NetError::unsent(NetCause::Timeout(limit))))?;
        if let Some(seat) = usable(place) {
            return Ok(seat);
        }
        if place.get().is_some_and(|seat| seat.connection.has_ended()) {
            self.node.connections.set(place, None);
            self.node.telemetry.disconnected();
        }
        rest.check(clock::monotonic())?;
        let opened = self.open(timeout).await;
        match &opened {
            Err(why) if why.should_back_off() => {
                let now = clock::monotonic();
                let random = self.node.connections.hasher.hash_one(now);
                rest.failed(now, why, random);
            }
            _ => *rest = ReconnectBackoff::default(),
        }
        let seat = Arc::new(opened?);
        self.node.connections.set(place, Some(Arc::clone(&seat)));
        Ok(seat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_server_is_retried_after_pause() {
        let error = ConnectError::Net(NetError::unsent(NetCause::Closed));
        let mut rest = ReconnectBackoff::default();
        let mut now = Instant::from_nanos(5_000_000_000);
        assert!(rest.check(now).is_ok());
        let mut longest = Duration::ZERO;
        for random in 0..20 {
            rest.failed(
                now,
                &error,
                u64::wrapping_mul(random, 0x9e37_79b9_7f4a_7c15),
            );
            assert!(matches!(
                rest.check(now),
                Err(ConnectError::Net(NetError {
                    sent: false,
                    cause: NetCause::Closed
                }))
            ));
            let (until, _) = rest.pause.as_ref().expect("a pause");
            let pause = until.since(now);
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE,
                "{pause:?}"
            );
            longest = longest.max(pause);
            now = *until;
            assert!(rest.check(now).is_ok());
        }
        assert!(longest >= LONGEST_PAUSE / 2, "{longest:?}");
    }

    #[test]
    fn same_lock_keeps_one_connection() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let namespace = crate::proto::Namespace::new("test:").expect("a plain prefix");
        let connections = ConnectionPool::new(4, runtime.handle().clone());
        let mut used = std::collections::BTreeSet::new();
        for name in 0..100u8 {
            let keys = namespace.keys(std::format!("{name}").as_bytes());
            let keys = keys.expect("a plain name");
            let place: *const ConnectionSlot = connections.slot(Some(&keys));
            assert_eq!(place, core::ptr::from_ref(connections.slot(Some(&keys))));
            used.insert(place);
        }
        assert_eq!(used.len(), 4);
    }
}
