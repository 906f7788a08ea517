//! Operations, driven over connections: the one loop behind every call of the async front.

use super::Core;
use crate::front::{Cause, LockError, Seat, Unconnected, clock, within};
use crate::lock::{Handshake, Interruption, Moment, Operation, Step};
use crate::net::connection::Connection;
use crate::net::{NetCause, NetError};

/// A connection for one exchange. Dropping it gives it back if it is still of use.
pub(super) struct Checkout<'a> {
    core: &'a Core,
    seat: Option<Seat<Connection>>,
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take().filter(|seat| !seat.connection.is_dirty()) {
            self.core.site.give_back(seat);
        }
    }
}

impl Checkout<'_> {
    /// The connection. There is one from the making of the checkout to its drop.
    pub(super) fn seat(&mut self) -> Result<&mut Seat<Connection>, NetError> {
        self.seat.as_mut().ok_or(NetError::unsent(NetCause::Closed))
    }
}

impl Core {
    /// A connection on which the handshake has been made, by `until` if that is given.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(super) async fn connect(&self, until: Option<Moment>) -> Result<Checkout<'_>, Unconnected> {
        while let Some(seat) = self.site.pool.take() {
            let current = self.site.with_view(seat.incarnation, |_| ()).is_some();
            if current && seat.connection.is_reusable() {
                return Ok(Checkout {
                    core: self,
                    seat: Some(seat),
                });
            }
        }
        let settings = &self.site.settings;
        let limit = within(settings.connect_timeout, until, clock::moment());
        let mut connection = Connection::dial(&settings.address, limit)
            .await
            .map_err(Unconnected::Net)?;
        let mut handshake = Handshake::new(&settings.namespace, settings.dialect);
        loop {
            let now = clock::now();
            handshake.prepare(now, connection.next_flight());
            let limit = within(settings.operation_timeout, until, now.moment);
            let mut replies = connection
                .exchange(limit)
                .await
                // Of the caller's request, nothing has been sent.
                .map_err(|error| Unconnected::Net(NetError::unsent(error.cause)))?;
            let answer = handshake
                .interpret(&mut replies, now.moment, clock::moment())
                .map_err(|error| Unconnected::Net(NetError::unsent(NetCause::unexpected(error))))?;
            match answer {
                None => {}
                Some(Err(failure)) => return Err(Unconnected::Unsuitable(failure)),
                Some(Ok(view)) => {
                    let incarnation = view.incarnation;
                    for lock in self.site.learn(view) {
                        lock.changed.notify_waiters();
                    }
                    return Ok(Checkout {
                        core: self,
                        seat: Some(Seat {
                            connection,
                            incarnation,
                        }),
                    });
                }
            }
        }
    }

    /// Runs an operation to its end.
    ///
    /// `until` bounds every wait of it for the server; the operation itself bounds the whole.
    ///
    /// # Cancel safety
    /// Dropping the future closes a connection with an exchange under way. What the operation may
    /// have left at the server is for its caller to know.
    pub(super) async fn drive<O: Operation>(
        &self,
        operation: &mut O,
        until: Option<Moment>,
    ) -> Result<O::Outcome, LockError> {
        let mut failure = None;
        let mut step = operation.begin(clock::now());
        loop {
            match step {
                Step::Send => {}
                Step::Pause { until, why } => {
                    let length = until.since(clock::moment());
                    self.site.note_pause(why, length);
                    tokio::time::sleep(length).await;
                }
                Step::Done(outcome) => return Ok(outcome),
                Step::GiveUp { unknown } => return Err(self.site.given_up(unknown, failure)),
            }
            step = match self.exchange(operation, until).await {
                Ok(Ok(step)) => step,
                Ok(Err(outcome)) => return Ok(outcome),
                Err(Unconnected::Unsuitable(failure)) => {
                    return Err(self.site.error(Cause::Server(failure)));
                }
                Err(Unconnected::Net(error)) => {
                    tracing::debug!(server = %self.site.settings.address, %error, "no answer");
                    let how = if error.sent {
                        Interruption::Unanswered
                    } else {
                        Interruption::NotSent
                    };
                    failure = Some(error);
                    operation.interrupted(how, clock::now())
                }
            };
        }
    }

    /// One flight of an operation, there and back. The inner error is an outcome for which
    /// nothing had to be sent.
    async fn exchange<O: Operation>(
        &self,
        operation: &mut O,
        until: Option<Moment>,
    ) -> Result<Result<Step<O::Outcome>, O::Outcome>, Unconnected> {
        let mut checkout = self.connect(until).await?;
        let seat = checkout.seat().map_err(Unconnected::Net)?;
        let incarnation = seat.incarnation;
        let now = clock::now();
        let flight = seat.connection.next_flight();
        let prepared = self
            .site
            .with_view(incarnation, |view| operation.prepare(view, now, flight));
        match prepared {
            None => return Err(Unconnected::Net(NetError::unsent(NetCause::Closed))),
            Some(Err(outcome)) => return Ok(Err(outcome)),
            Some(Ok(())) => {}
        }
        let limit = within(self.site.settings.operation_timeout, until, now.moment);
        let mut replies = seat
            .connection
            .exchange(limit)
            .await
            .map_err(Unconnected::Net)?;
        let received = clock::moment();
        let interpreted = self.site.with_view(incarnation, |view| {
            operation.interpret(view, &mut replies, now.moment, received)
        });
        match interpreted {
            Some(Ok(step)) => Ok(Ok(step)),
            Some(Err(error)) => {
                // Whatever it was, the next bytes are not to be trusted either.
                checkout.seat = None;
                Err(Unconnected::Net(NetError::sent(NetCause::unexpected(
                    error,
                ))))
            }
            // The server was restarted while the answer was on its way.
            None => Err(Unconnected::Net(NetError::sent(NetCause::Closed))),
        }
    }
}
