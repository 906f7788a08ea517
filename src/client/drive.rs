//! Operations, driven over connections: the one loop behind every call of the async front.

use super::Core;
use crate::front::{Cause, LockError, Unconnected, clock, within};
use crate::lock::{Interruption, LockKeys, Moment, Operation, Step};
use crate::net::{NetCause, NetError};

impl Core {
    /// Runs an operation to its end. `keys` are those of the lock that it is about.
    ///
    /// `until` bounds every wait of it for the server; the operation itself bounds the whole.
    ///
    /// # Cancel safety
    /// Dropping the future takes back requests of which nothing has been sent. What the operation
    /// may have left at the server is for its caller to know.
    pub(super) async fn drive<O: Operation>(
        &self,
        operation: &mut O,
        keys: Option<&LockKeys>,
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
            step = match self.exchange(operation, keys, until).await {
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
        keys: Option<&LockKeys>,
        until: Option<Moment>,
    ) -> Result<Result<Step<O::Outcome>, O::Outcome>, Unconnected> {
        let seat = self.connect(keys, until).await?;
        let mut now = clock::now();
        let operation_timeout = self.site.settings.operation_timeout;
        let limit = within(operation_timeout, until, now.moment);
        let begun = seat.connection.begin(limit, |flight| {
            // Who has waited for room is not to count from before that.
            now = clock::now();
            let prepared = self.site.with_view(seat.incarnation, |view| {
                operation.prepare(view, now, flight)
            });
            match prepared {
                Some(Ok(())) => Ok(()),
                Some(Err(outcome)) => Err(Some(outcome)),
                None => Err(None),
            }
        });
        let flight = match begun.await.map_err(Unconnected::Net)? {
            Ok(flight) => flight,
            Err(Some(outcome)) => return Ok(Err(outcome)),
            Err(None) => return Err(Unconnected::Net(NetError::unsent(NetCause::Closed))),
        };
        let limit = within(operation_timeout, until, now.moment);
        let interpreted = flight.replies(limit, |replies| {
            let received = clock::moment();
            let interpreted = self.site.with_view(seat.incarnation, |view| {
                operation.interpret(view, replies, now.moment, received)
            });
            interpreted.transpose()
        });
        match interpreted.await.map_err(Unconnected::Net)? {
            Some(step) => Ok(Ok(step)),
            // The server was restarted while the answer was on its way.
            None => Err(Unconnected::Net(NetError::sent(NetCause::Closed))),
        }
    }
}
