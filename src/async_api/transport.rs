//! Operations, driven over connections: the one loop behind every call of the async front.

use super::ClientInner;
use super::pool::SharedNodeConnection;
use crate::engine::{Cause, ConnectError, LockError, clamp_timeout, clock};
use crate::net::shared::FlightFuture;
use crate::net::stream::Stream;
use crate::net::{NetCause, NetError};
use crate::proto::{
    Action, FlightError, Instant, LockKeys, Now, Operation, ServerError, ServerState,
};
use crate::wire::{DecodeError, Flight, Replies};
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;
use tokio::time::sleep;

/// How long an operation may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timeout {
    /// As long as it likes.
    Unlimited,
    /// The caller's patience ends then; what is begun before may end an operation timeout later.
    Wait(Instant),
    /// The caller's patience was over when the last pause was, which a busy machine may do late: from
    /// then on the same is left as at its end.
    Over(Instant),
}

impl Timeout {
    /// A pause is over, maybe behind the end of the caller's patience.
    pub(super) fn resume(&mut self, now: Instant) {
        match *self {
            Self::Wait(until) if until < now => *self = Self::Over(now),
            _ => {}
        }
    }

    const fn until(self) -> Option<Instant> {
        match self {
            Self::Wait(until) | Self::Over(until) => Some(until),
            Self::Unlimited => None,
        }
    }
}

/// What is sent and understood in one exchange: an operation, or several at once.
pub(super) trait FlightHandler {
    /// What comes of it when nothing had to be sent.
    type Skipped;
    /// What comes of it.
    type Output;

    fn encode(
        &mut self,
        view: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Self::Skipped>;

    fn handle_replies(
        &mut self,
        view: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Self::Output, DecodeError>;
}

impl<O: Operation> FlightHandler for O {
    type Skipped = O::Outcome;
    type Output = Action<O::Outcome>;

    fn encode(
        &mut self,
        view: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), O::Outcome> {
        Operation::poll_transmit(self, view, now, flight)
    }

    fn handle_replies(
        &mut self,
        view: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<O::Outcome>, DecodeError> {
        Operation::handle_replies(self, view, replies, sent, received)
    }
}

/// What came of an exchange: an answer, or what there was to say without one.
pub(super) type FlightResult<X> =
    Result<Result<<X as FlightHandler>::Output, <X as FlightHandler>::Skipped>, ConnectError>;

impl ClientInner {
    /// Runs an operation to its end, from `now` on. `keys` are those of the lock that it is about.
    ///
    /// # Cancel safety
    /// Dropping the future takes back requests of which nothing has been sent. What the operation
    /// may have left at the server is for its caller to know.
    pub(super) async fn drive<O: Operation>(
        &self,
        operation: &mut O,
        keys: Option<&LockKeys>,
        mut now: Now,
        mut bound: Timeout,
    ) -> Result<O::Outcome, LockError> {
        let mut failure = None;
        loop {
            match self.step(operation, keys, now, bound, &mut failure).await? {
                Action::Transmit => {}
                Action::Sleep { until, why } => {
                    let length = until.since(clock::monotonic());
                    self.node.note_pause(why, length);
                    sleep(length).await;
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
    ///
    /// # Cancel safety
    /// As [`drive`](Self::drive).
    pub(super) async fn step<O: Operation>(
        &self,
        operation: &mut O,
        keys: Option<&LockKeys>,
        now: Now,
        bound: Timeout,
        failure: &mut Option<NetError>,
    ) -> Result<Action<O::Outcome>, LockError> {
        self.node.check_process()?;
        let most = self.node.config.operation_timeout;
        let exchanged = self.exchange(operation, keys, now, bound.until(), most);
        match exchanged.await {
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

    /// One flight there and back, within `most`, and by an operation timeout behind `until` if that is
    /// given.
    pub(super) async fn exchange<X: FlightHandler>(
        &self,
        exchange: &mut X,
        keys: Option<&LockKeys>,
        mut now: Now,
        until: Option<Instant>,
        most: Duration,
    ) -> FlightResult<X> {
        let place = self.node.connections.slot(keys);
        let mut old = place.get();
        loop {
            let was_there = old.is_some();
            let seat = match old.take() {
                Some(seat) => seat,
                None => {
                    let seat = self.connect(place, until).await?;
                    now = clock::now();
                    seat
                }
            };
            let limit = self.within(most, until, now.monotonic)?;
            let begun = self.begin(&seat, exchange, &mut now, limit).await;
            let flight = match begun {
                Ok(Ok(flight)) => flight,
                Ok(Err(Some(spared))) => return Ok(Err(spared)),
                // The connection is one of old, and nothing was sent on it.
                Ok(Err(None)) | Err(_) if was_there && self.is_over(&seat) => continue,
                Ok(Err(None)) => return Err(ConnectError::Net(NetError::unsent(NetCause::Closed))),
                Err(error) => return Err(ConnectError::Net(error)),
            };
            self.watched();
            let limit = clamp_timeout(
                most,
                until,
                self.node.config.operation_timeout,
                now.monotonic,
            );
            // The keeper sees to the usual limit. Looked at behind the begin: what the keeper leaves
            // under way when it goes, it ends.
            let unwatched =
                self.unkept.load(Ordering::Acquire) || limit < self.node.config.operation_timeout;
            let limit = unwatched.then_some(limit);
            let interpreted = flight.replies(limit, |replies| {
                let received = clock::monotonic();
                seat.answered(received);
                let interpreted = self.node.with_server(seat.instance, |view| {
                    exchange.handle_replies(view, replies, now.monotonic, received)
                });
                interpreted.transpose()
            });
            return match interpreted.await.map_err(ConnectError::Net)? {
                Some(answer) => Ok(Ok(answer)),
                // The server was restarted while the answer was on its way.
                None => Err(ConnectError::Net(NetError::sent(NetCause::Closed))),
            };
        }
    }

    /// How long a step with the limit `limit` may take for a caller whose patience ends at `until`;
    /// an error if it may not begin any more.
    pub(super) fn within(
        &self,
        limit: Duration,
        until: Option<Instant>,
        now: Instant,
    ) -> Result<Duration, ConnectError> {
        let left = clamp_timeout(limit, until, self.node.config.operation_timeout, now);
        match left.is_zero() {
            true => Err(ConnectError::Net(NetError::unsent(NetCause::Timeout(
                limit,
            )))),
            false => Ok(left),
        }
    }

    /// Writes the flight. The inner error is what there was to say without one, or nothing when
    /// another run of the server is there by now.
    async fn begin<'a, X: FlightHandler>(
        &self,
        seat: &'a Arc<SharedNodeConnection>,
        exchange: &mut X,
        now: &mut Now,
        limit: Duration,
    ) -> Result<Result<FlightFuture<'a, Stream>, Option<X::Skipped>>, NetError> {
        let look = !seat.was_recently_used(now.monotonic);
        let begun = seat.connection.begin(look, limit, |flight, waited| {
            if waited {
                // Nothing is to count from before there was room.
                *now = clock::now();
            }
            let prepared = self
                .node
                .with_server(seat.instance, |view| exchange.encode(view, *now, flight));
            match prepared {
                Some(Ok(())) => Ok(()),
                Some(Err(spared)) => Err(Some(spared)),
                None => Err(None),
            }
        });
        begun.await
    }

    /// Whether a connection is of no use any more.
    fn is_over(&self, seat: &SharedNodeConnection) -> bool {
        let current = self.node.with_server(seat.instance, |_| ()).is_some();
        !current || seat.connection.has_ended()
    }

    /// Something is under way: sees to it that the keeper watches how long it takes.
    pub(super) fn watched(&self) {
        if !self.watch.load(Ordering::Relaxed) && !self.watch.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }
}
