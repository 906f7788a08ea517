//! The transport on tokio: flights travel on shared connections, and waits are timers and wakers.

use super::pool::{ConnectionPool, SharedNodeConnection};
use super::renewer;
use crate::engine::client::{ClientInner, Transport};
use crate::engine::exchange::{Ask, ExchangeOutcome, FlightHandler, FlightResult, Timeout};
use crate::engine::notify::{Notify, STRETCH};
use crate::engine::{Cause, Config, ConnectError, LockError, LockState, clock};
use crate::net::dump::dump;
use crate::net::shared::{Begun, ReplyObserver, SharedConnection};
use crate::net::stream::Stream;
use crate::net::{NetCause, NetError};
use crate::proto::{Instant, ListLocks, ListStep, LockKeys, Now, Operation};
use crate::wire::{Flight, Limits};
use core::convert::Infallible;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;
use tokio::time::sleep;

impl Transport for ConnectionPool {
    const BLOCKS: bool = false;

    type Connection = SharedConnection<Stream>;

    async fn resolve(config: &Config, limit: Duration) -> Result<Vec<SocketAddr>, NetError> {
        Stream::resolve(&config.address, &config.connect_options, limit).await
    }

    async fn dial(
        config: &Config,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> Result<SharedConnection<Stream>, NetError> {
        let options = &config.connect_options;
        let stream = Stream::dial(&config.address, addresses, options, limit).await?;
        let limit = config.operation_timeout;
        Ok(SharedConnection::new(stream, Limits::LOCK, limit))
    }

    async fn ask<A: Ask>(
        connection: &mut SharedConnection<Stream>,
        limit: Duration,
        ask: &mut A,
        now: Now,
    ) -> Result<A::Output, NetError> {
        let begun = connection.begin(false, limit, |flight, _| {
            ask.encode(now, flight);
            Ok::<(), Infallible>(())
        });
        let Begun::InFlight(flight) = begun.await?;
        let step = flight.replies(Some(limit), |replies| {
            ask.handle_replies(replies, now.monotonic, clock::monotonic())
        });
        step.await
    }

    async fn exchange<H: FlightHandler>(
        client: &ClientInner<Self>,
        handler: &mut H,
        keys: Option<&LockKeys>,
        mut now: Now,
        timeout: Timeout,
        limit: Duration,
    ) -> FlightResult<H> {
        let node = &client.node;
        let operation_timeout = node.config.operation_timeout;
        let slot = node.connections.slot(keys);
        let mut old = slot.get();
        loop {
            let was_there = old.is_some();
            let connection = match old.take() {
                Some(connection) => connection,
                None => {
                    let connection = client.connect(slot, timeout).await?;
                    now = clock::now();
                    connection
                }
            };
            let left = timeout
                .limit(limit, operation_timeout, now.monotonic)
                .map_err(ConnectError::Net)?;
            let begun = client.begin(&connection, handler, &mut now, left).await;
            let flight = match begun {
                Ok(Begun::InFlight(flight)) => flight,
                Ok(Begun::Skipped(Some(skipped))) => return Ok(ExchangeOutcome::Skipped(skipped)),
                // The connection was reused, and nothing was sent on it.
                Ok(Begun::Skipped(None)) | Err(_) if was_there && client.has_ended(&connection) => {
                    continue;
                }
                Ok(Begun::Skipped(None)) => {
                    return Err(ConnectError::Net(NetError::unsent(NetCause::Closed)));
                }
                Err(error) => return Err(ConnectError::Net(error)),
            };
            client.watch_timeouts();
            let left = timeout
                .limit(limit, operation_timeout, now.monotonic)
                .unwrap_or_default();
            // The renewer watches the usual limit. Read after the begin: a renewer that ends also
            // ends the flights that are outstanding then.
            let unwatched =
                node.connections.unwatched.load(Ordering::Acquire) || left < operation_timeout;
            let left = unwatched.then_some(left);
            let handled = flight.replies(left, |replies| {
                let received = clock::monotonic();
                connection.answered(received);
                let handled = node.with_server(connection.instance, |server| {
                    handler.handle_replies(server, replies, now.monotonic, received)
                });
                handled.transpose()
            });
            return match handled.await.map_err(ConnectError::Net)? {
                Some(output) => Ok(ExchangeOutcome::Replied(output)),
                // The server was restarted while the reply was on its way.
                None => Err(ConnectError::Net(NetError::sent(NetCause::Closed))),
            };
        }
    }

    async fn wait(notify: &Notify, seen: u64, until: Option<Instant>) {
        let mut changed = pin!(notify.changed(seen));
        let Some(until) = until else {
            return changed.await;
        };
        let length = until.since(clock::monotonic()).min(STRETCH);
        let mut timer = pin!(sleep(length));
        poll_fn(|cx| {
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            timer.as_mut().poll(cx)
        })
        .await;
    }

    async fn sleep(until: Instant) {
        sleep(until.since(clock::monotonic())).await;
    }

    async fn dump(client: &ClientInner<Self>, search: &mut ListLocks<'_>) -> Result<(), LockError> {
        let node = &client.node;
        let failed = |why| node.connect_error(why);
        let opened = client.open(Timeout::Unlimited).await.map_err(failed)?;
        // A dump may be refused after other requests, and delays those after it.
        let mut stream = opened.connection.into_stream();
        let limit = node.config.operation_timeout;
        let mut flight = Flight::new();
        loop {
            flight.clear();
            search.prepare(&mut flight);
            let step = dump(&mut stream, flight.bytes(), limit, |line| search.take(line)).await;
            match step.map_err(|error| failed(ConnectError::Net(error)))? {
                ListStep::Done => return Ok(()),
                ListStep::Retry { after } => sleep(after).await,
                ListStep::Failed(error) => return Err(node.error(Cause::Server(error))),
            }
        }
    }

    fn start_renewer(client: &Arc<ClientInner<Self>>) -> Result<(), LockError> {
        let connections = &client.node.connections;
        connections.runtime.spawn(renewer::run(Arc::clone(client)));
        Ok(())
    }

    fn release_quietly(client: &Arc<ClientInner<Self>>, lock: &Arc<LockState>, now: Now) -> bool {
        let node = &client.node;
        let Some(connection) = node.connections.slot(Some(&lock.keys)).get() else {
            return false;
        };
        let cas = lock.state().cas;
        let mut release = lock.release_operation(cas, now.monotonic);
        let observer = Arc::clone(lock) as ReplyObserver;
        let begun = connection.connection.begin_quiet(observer, |flight| {
            let encoded = node.with_server(connection.instance, |server| {
                release.poll_transmit(server, now, flight).is_ok()
            });
            encoded == Some(true)
        });
        if begun.is_err() {
            return false;
        }
        node.connections.quiet.store(true, Ordering::Release);
        client.watch_timeouts();
        node.wake.notify();
        true
    }

    fn settle_quiet(client: &ClientInner<Self>, _: Instant) {
        // The renewer reads their replies when they come.
        client.node.connections.send_quiet();
    }
}

impl ClientInner<ConnectionPool> {
    /// Writes the flight. It is skipped with an outcome, or with `None` when another server instance
    /// is there by now.
    async fn begin<'a, H: FlightHandler>(
        &self,
        seat: &'a Arc<SharedNodeConnection>,
        handler: &mut H,
        now: &mut Now,
        limit: Duration,
    ) -> Result<Begun<'a, Stream, Option<H::Skipped>>, NetError> {
        let look = !seat.was_recently_used(now.monotonic);
        let begun = seat.connection.begin(look, limit, |flight, waited| {
            if waited {
                // The time before there was room does not count.
                *now = clock::now();
            }
            let prepared = self
                .node
                .with_server(seat.instance, |view| handler.encode(view, *now, flight));
            match prepared {
                Some(Ok(())) => Ok(()),
                Some(Err(spared)) => Err(Some(spared)),
                None => Err(None),
            }
        });
        begun.await
    }

    /// Returns whether a connection is not usable any more.
    fn has_ended(&self, seat: &SharedNodeConnection) -> bool {
        let current = self.node.with_server(seat.instance, |_| ()).is_some();
        !current || seat.connection.has_ended()
    }

    /// Lets the renewer watch how long the outstanding flights take.
    pub(super) fn watch_timeouts(&self) {
        let watch = &self.node.connections.watch;
        if !watch.load(Ordering::Relaxed) && !watch.swap(true, Ordering::AcqRel) {
            self.node.wake.notify();
        }
    }
}
