//! The transport on `std::net`: each flight has a connection of its own for a moment, and waits
//! block.

use super::pool::{Connections, Link};
use super::{quiet_release, renewer};
use crate::engine::client::{ClientInner, Transport};
use crate::engine::exchange::{Ask, ExchangeOutcome, FlightHandler, FlightResult, Timeout};
use crate::engine::notify::Notify;
use crate::engine::{Cause, Config, ConfigError, ConnectError, LockError, LockState, clock};
use crate::net::{NetCause, NetError};
use crate::proto::{Instant, ListLocks, ListStep, LockKeys, Now};
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

type Client = ClientInner<Connections>;

impl Transport for Connections {
    const BLOCKS: bool = true;

    type Connection = Link;

    async fn resolve(config: &Config, _: Duration) -> Result<Vec<SocketAddr>, NetError> {
        Link::resolve(&config.address, &config.connect_options)
    }

    async fn dial(
        config: &Config,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> Result<Link, NetError> {
        Link::dial(&config.address, addresses, &config.connect_options, limit)
    }

    async fn ask<A: Ask>(
        connection: &mut Link,
        limit: Duration,
        ask: &mut A,
        now: Now,
    ) -> Result<A::Output, NetError> {
        ask.encode(now, connection.next_flight());
        let elapsed = || clock::monotonic().since(now.monotonic);
        let mut replies = connection.exchange(limit, elapsed)?;
        let step = ask.handle_replies(&mut replies, now.monotonic, clock::monotonic());
        step.map_err(|error| NetError::sent(NetCause::unexpected(error)))
    }

    async fn exchange<H: FlightHandler>(
        client: &Client,
        handler: &mut H,
        _: Option<&LockKeys>,
        mut now: Now,
        timeout: Timeout,
        limit: Duration,
    ) -> FlightResult<H> {
        let node = &client.node;
        let mut checkout = client.connect(timeout, &mut now)?;
        let connection = checkout.get().map_err(ConnectError::Net)?;
        let instance = connection.instance;
        let flight = connection.connection.next_flight();
        let encoded = node.with_server(instance, |server| handler.encode(server, now, flight));
        match encoded {
            None => return Err(ConnectError::Net(NetError::unsent(NetCause::Closed))),
            Some(Err(skipped)) => return Ok(ExchangeOutcome::Skipped(skipped)),
            Some(Ok(())) => {}
        }
        let mut replies = timeout
            .limit(limit, node.config.operation_timeout, now.monotonic)
            .and_then(|limit| {
                let elapsed = || clock::monotonic().since(now.monotonic);
                connection.connection.exchange(limit, elapsed)
            })
            .map_err(ConnectError::Net)?;
        let received = clock::monotonic();
        let handled = node.with_server(instance, |server| {
            handler.handle_replies(server, &mut replies, now.monotonic, received)
        });
        match handled {
            Some(Ok(output)) => {
                if let Some(connection) = &checkout.connection {
                    connection.answered(received);
                }
                Ok(ExchangeOutcome::Replied(output))
            }
            Some(Err(error)) => {
                // After any failure, the next bytes cannot be trusted either.
                checkout.close();
                Err(ConnectError::Net(NetError::sent(NetCause::unexpected(
                    error,
                ))))
            }
            // The server was restarted while the reply was on its way.
            None => Err(ConnectError::Net(NetError::sent(NetCause::Closed))),
        }
    }

    async fn wait(notify: &Notify, seen: u64, until: Option<Instant>) {
        notify.block(seen, until);
    }

    async fn sleep(until: Instant) {
        thread::sleep(until.since(clock::monotonic()));
    }

    async fn dump(client: &Client, search: &mut ListLocks<'_>) -> Result<(), LockError> {
        let failed = |why| client.node.connect_error(why);
        // A dump may be refused after other requests, and delays those after it.
        let opened = client.open(Timeout::Unlimited).await.map_err(failed)?;
        let mut connection = opened.connection;
        let limit = client.node.config.operation_timeout;
        loop {
            search.prepare(connection.next_flight());
            let step = connection.dump(limit, |line| search.take(line));
            match step.map_err(|error| failed(ConnectError::Net(error)))? {
                ListStep::Done => return Ok(()),
                ListStep::Retry { after } => thread::sleep(after),
                ListStep::Failed(error) => return Err(client.node.error(Cause::Server(error))),
            }
        }
    }

    fn start_renewer(client: &Arc<Client>) -> Result<(), LockError> {
        let client = Arc::clone(client);
        thread::Builder::new()
            .name("memlatch-renew".into())
            .spawn(move || renewer::run(&client))
            .map_err(|error| LockError::new(Cause::Setting(ConfigError::Thread(error))))?;
        Ok(())
    }

    fn release_quietly(client: &Arc<Client>, lock: &Arc<LockState>, now: Now) -> bool {
        quiet_release::release_quietly(client, lock, now)
    }

    fn settle_quiet(client: &Client, until: Instant) {
        quiet_release::settle(client, until);
    }
}
