//! Operations, driven over connections: the one loop behind every call of the blocking front.

use super::{ClientInner, Link};
use crate::engine::{
    Cause, Clear, Comparison, ConnectError, LockError, NodeConnection, Plan, clamp_timeout, clock,
};
use crate::net::pool::Pool;
use crate::net::{NetCause, NetError};
use crate::proto::{Action, FlightError, Instant, Now, Operation, ServerError, ServerState};
use core::net::SocketAddr;
use core::time::Duration;
use std::thread;
use std::vec::Vec;

/// A connection on which the handshake was made, and what that has found.
type Greeted = (Link, ServerState);

/// Deadlines cut limits in whole steps of this, so that those of the sockets seldom change.
const STEP: Duration = Duration::from_millis(100);

/// Until when a drive may wait for the server, besides the limits that each exchange has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timeout {
    /// For as long as the operation likes.
    Unlimited,
    /// The caller's patience ends then; what is begun before may end an operation timeout later.
    Wait(Instant),
    /// The caller's patience was over when the last pause was, which a busy machine may do late: from
    /// then on the same is left as at its end.
    Over(Instant),
    /// Nothing goes on after that, by more than a [`STEP`].
    Deadline(Instant),
}

impl Timeout {
    /// A pause is over, maybe behind the end of the caller's patience.
    pub(super) fn resume(&mut self, now: Instant) {
        match *self {
            Self::Wait(until) if until < now => *self = Self::Over(now),
            _ => {}
        }
    }

    /// How long a step with this limit may take, at a server with this operation timeout.
    pub(super) fn limit(
        self,
        limit: Duration,
        operation_timeout: Duration,
        now: Instant,
    ) -> Result<Duration, NetError> {
        match self {
            Self::Unlimited => Ok(limit),
            Self::Wait(until) | Self::Over(until) => {
                let left = clamp_timeout(limit, Some(until), operation_timeout, now);
                match left.is_zero() {
                    true => Err(NetError::unsent(NetCause::Timeout(limit))),
                    false => Ok(left),
                }
            }
            Self::Deadline(until) if until <= now => {
                Err(NetError::unsent(NetCause::Timeout(limit)))
            }
            Self::Deadline(until) => {
                let steps = until.since(now).as_nanos().div_ceil(STEP.as_nanos());
                let steps = u32::try_from(steps).unwrap_or(u32::MAX);
                Ok(limit.min(STEP.saturating_mul(steps)))
            }
        }
    }
}

/// Sleeps until then: how the pauses of most operations are spent.
pub(super) fn sleep(until: Instant) -> Result<(), LockError> {
    thread::sleep(until.since(clock::monotonic()));
    Ok(())
}

/// A connection for one exchange. Dropping it gives it back if it is still of use.
pub(super) struct PooledConnection<'a> {
    core: &'a ClientInner,
    connection: Option<NodeConnection<Link>>,
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(seat) if seat.connection.is_dirty() => self.core.node.telemetry.disconnected(),
            Some(seat) => self.core.give_back(seat),
            None => {}
        }
    }
}

impl<'a> PooledConnection<'a> {
    pub(super) const fn new(core: &'a ClientInner, seat: NodeConnection<Link>) -> Self {
        Self {
            core,
            connection: Some(seat),
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
        self.core.node.telemetry.disconnected();
    }

    /// The connection. There is one from the making of the checkout to its drop.
    pub(super) fn seat(&mut self) -> Result<&mut NodeConnection<Link>, NetError> {
        self.connection
            .as_mut()
            .ok_or(NetError::unsent(NetCause::Closed))
    }
}

impl Clear for Pool<NodeConnection<Link>> {
    fn clear(&self) {
        self.close_all();
    }
}

impl ClientInner {
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
        let incarnation = view.instance;
        for lock in self.node.update_server(view) {
            self.notify_free(&lock);
            lock.changed.notify();
        }
        PooledConnection::new(self, NodeConnection::new(connection, incarnation))
    }

    /// Runs an operation to its end, from `now` on. Its pauses are spent in `rest`, which must not
    /// return before the instant that it is given, and may end everything with an error.
    pub(super) fn drive<O: Operation>(
        &self,
        operation: &mut O,
        mut now: Now,
        mut bound: Timeout,
        mut rest: impl FnMut(Instant) -> Result<(), LockError>,
    ) -> Result<O::Outcome, LockError> {
        let mut failure = None;
        loop {
            match self.step(operation, now, bound, &mut failure)? {
                Action::Transmit => {}
                Action::Sleep { until, why } => {
                    self.node.note_pause(why, until.since(clock::monotonic()));
                    rest(until)?;
                    bound.resume(clock::monotonic());
                }
                Action::Done(outcome) => return Ok(outcome),
                Action::Fail { unknown } => return Err(self.node.given_up(unknown, failure)),
            }
            now = clock::now();
        }
    }

    /// Sends the next flight of an operation and takes in what comes of it. Why there was no
    /// answer, if there was none, is left in `failure`.
    pub(super) fn step<O: Operation>(
        &self,
        operation: &mut O,
        now: Now,
        bound: Timeout,
        failure: &mut Option<NetError>,
    ) -> Result<Action<O::Outcome>, LockError> {
        self.node.check_process()?;
        match self.exchange(operation, now, bound) {
            Ok(Ok(step)) => Ok(step),
            Ok(Err(outcome)) => Ok(Action::Done(outcome)),
            // In the second in which a delayed flush takes effect.
            Err(ConnectError::Rejected(ServerError::DropsItems)) => {
                Ok(operation.handle_failure(FlightError::NotSent, clock::now()))
            }
            Err(ConnectError::Rejected(failure)) => Err(self.node.error(Cause::Server(failure))),
            Err(ConnectError::Net(error)) => {
                self.node.telemetry.request_failed(&error);
                let how = if error.sent {
                    FlightError::NoReply
                } else {
                    FlightError::NotSent
                };
                *failure = Some(error);
                Ok(operation.handle_failure(how, clock::now()))
            }
        }
    }

    /// One flight of an operation, there and back. The inner error is an outcome for which
    /// nothing had to be sent.
    fn exchange<O: Operation>(
        &self,
        operation: &mut O,
        mut now: Now,
        bound: Timeout,
    ) -> Result<Result<Action<O::Outcome>, O::Outcome>, ConnectError> {
        let mut checkout = self.connect(bound, &mut now)?;
        let seat = checkout.seat().map_err(ConnectError::Net)?;
        let incarnation = seat.instance;
        let flight = seat.connection.next_flight();
        let prepared = self.node.with_server(incarnation, |view| {
            operation.poll_transmit(view, now, flight)
        });
        match prepared {
            None => return Err(ConnectError::Net(NetError::unsent(NetCause::Closed))),
            Some(Err(outcome)) => return Ok(Err(outcome)),
            Some(Ok(())) => {}
        }
        let operation_timeout = self.node.config.operation_timeout;
        let mut replies = bound
            .limit(operation_timeout, operation_timeout, now.monotonic)
            .and_then(|limit| {
                let elapsed = || clock::monotonic().since(now.monotonic);
                seat.connection.exchange(limit, elapsed)
            })
            .map_err(ConnectError::Net)?;
        let received = clock::monotonic();
        let interpreted = self.node.with_server(incarnation, |view| {
            operation.handle_replies(view, &mut replies, now.monotonic, received)
        });
        match interpreted {
            Some(Ok(step)) => {
                if let Some(seat) = &checkout.connection {
                    seat.answered(received);
                }
                Ok(Ok(step))
            }
            Some(Err(error)) => {
                // Whatever it was, the next bytes are not to be trusted either.
                checkout.close();
                Err(ConnectError::Net(NetError::sent(NetCause::unexpected(
                    error,
                ))))
            }
            // The server was restarted while the answer was on its way.
            None => Err(ConnectError::Net(NetError::sent(NetCause::Closed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn deadlines_cut_limits_in_steps_and_end_them() {
        let limit = |until, now| {
            let limit = Timeout::Deadline(at(until)).limit(SECOND, SECOND, at(now));
            limit.map_err(|error| error.sent)
        };
        assert_eq!(limit(1000, 0), Ok(SECOND));
        assert_eq!(limit(1000, 99), Ok(SECOND));
        assert_eq!(limit(1000, 100), Ok(STEP * 9));
        assert_eq!(limit(1000, 999), Ok(STEP));
        assert_eq!(limit(1000, 1000), Err(false));
        assert_eq!(limit(u64::MAX / 1_000_000, 0), Ok(SECOND));
    }

    #[test]
    fn patience_leaves_a_last_round_trip_its_time() {
        let limit = |limit, until, now| {
            let limit = Timeout::Wait(at(until)).limit(limit, SECOND, at(now));
            limit.map_err(|error| error.sent)
        };
        assert_eq!(limit(SECOND, 5000, 0), Ok(SECOND));
        assert_eq!(limit(SECOND, 5000, 4500), Ok(SECOND / 2));
        assert_eq!(limit(SECOND, 5000, 4999), Ok(SECOND));
        assert_eq!(limit(SECOND, 5000, 5000), Ok(SECOND));
        // However many steps there are, each with a limit of its own, they end then.
        assert_eq!(limit(SECOND, 5000, 5900), Ok(SECOND / 10));
        assert_eq!(limit(SECOND * 60, 5000, 4999), Ok(at(6000).since(at(4999))));
        assert_eq!(limit(SECOND, 5000, 6000), Err(false));
        assert_eq!(limit(SECOND, 5000, 9000), Err(false));
    }
}
