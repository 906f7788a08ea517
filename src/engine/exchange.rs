//! Flights and timeouts, as the engine passes them to a transport.

use super::connect_error::ConnectError;
use crate::net::{NetCause, NetError};
use crate::proto::{
    Action, Handshake, Instant, Now, Operation, ProbeStep, ServerError, ServerProbe, ServerState,
};
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;

/// The content of one flight: an operation, or several at once.
pub(crate) trait FlightHandler {
    /// The outcome when nothing had to be sent.
    type Skipped;
    /// The outcome of the replies.
    type Output;

    fn encode(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Self::Skipped>;

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
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
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), O::Outcome> {
        Operation::poll_transmit(self, server, now, flight)
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<O::Outcome>, DecodeError> {
        Operation::handle_replies(self, server, replies, sent, received)
    }
}

/// A conversation on a connection of its own, before there is a server state: a handshake or a
/// probe.
pub(crate) trait Ask {
    /// The outcome of one flight.
    type Output;

    fn encode(&mut self, now: Now, flight: &mut Flight);

    fn handle_replies(
        &mut self,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Self::Output, DecodeError>;
}

impl Ask for Handshake<'_> {
    type Output = Option<Result<ServerState, ServerError>>;

    fn encode(&mut self, now: Now, flight: &mut Flight) {
        self.prepare(now, flight);
    }

    fn handle_replies(
        &mut self,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Self::Output, DecodeError> {
        self.interpret(replies, sent, received)
    }
}

impl Ask for ServerProbe<'_> {
    type Output = ProbeStep;

    fn encode(&mut self, _: Now, flight: &mut Flight) {
        self.prepare(flight);
    }

    fn handle_replies(
        &mut self,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<ProbeStep, DecodeError> {
        self.interpret(replies, sent, received)
    }
}

/// The outcome of a flight that did not fail.
#[derive(Debug)]
pub(crate) enum ExchangeOutcome<O, S> {
    /// The replies came.
    Replied(O),
    /// Nothing had to be sent.
    Skipped(S),
}

pub(crate) type FlightResult<H> = Result<
    ExchangeOutcome<<H as FlightHandler>::Output, <H as FlightHandler>::Skipped>,
    ConnectError,
>;

/// Deadlines shorten limits in whole steps of this, so that the limits of sockets seldom change.
const STEP: Duration = Duration::from_millis(100);

/// The limit of an operation's wait for the server, besides the limit of each exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timeout {
    /// No limit: the operation sets its own end.
    Unlimited,
    /// The end of the caller's wait; exchanges that began before may end an operation timeout
    /// later.
    Wait(Instant),
    /// The caller's wait had ended when the last pause was over, which a busy machine may do late:
    /// from this instant on as much time is left as at the end of the wait.
    Overdue(Instant),
    /// Nothing goes on after this, by more than 100 ms.
    Deadline(Instant),
}

impl Timeout {
    /// Records that a pause has ended, maybe after the end of the caller's wait.
    pub(crate) fn resume(&mut self, now: Instant) {
        match *self {
            Self::Wait(until) if until < now => *self = Self::Overdue(now),
            _ => {}
        }
    }

    /// Returns how long a step with the limit `limit` may take; an error if it may not begin any
    /// more.
    pub(crate) fn limit(
        self,
        limit: Duration,
        operation_timeout: Duration,
        now: Instant,
    ) -> Result<Duration, NetError> {
        match self {
            Self::Unlimited => Ok(limit),
            Self::Wait(until) | Self::Overdue(until) => {
                let left = clamp_timeout(limit, until, operation_timeout, now);
                if left.is_zero() {
                    return Err(NetError::unsent(NetCause::Timeout(limit)));
                }
                Ok(left)
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

/// If the caller's wait ends sooner than this, it does not shorten an exchange: a reply that the
/// lock is held is worth more than an exchange that was cut off.
const MIN_FINAL_TIMEOUT: Duration = Duration::from_millis(100);

/// Returns how long a step with the limit `limit` may take for a caller whose wait ends at `until`.
/// Zero: it may not begin any more.
///
/// An instant that has passed, or is about to, still allows one round trip: all steps that begin
/// from then on share `overrun`.
fn clamp_timeout(limit: Duration, until: Instant, overrun: Duration, now: Instant) -> Duration {
    let end = if until > now.after(MIN_FINAL_TIMEOUT) {
        until
    } else {
        until.after(overrun)
    };
    limit.min(end.since(now))
}

/// The way in which an operation spends its pauses.
pub(crate) enum PauseMode<'a> {
    Sleep,
    /// A shutdown of the client ends the operation.
    SleepUnlessClosed,
    /// By this function, which blocks at least until the given instant.
    #[cfg_attr(
        not(feature = "blocking"),
        expect(dead_code, reason = "only a thread can")
    )]
    Work(&'a mut (dyn FnMut(Instant) + Send)),
}

/// Returns the output of a future of a transport whose waits block.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    let mut future = pin!(future);
    let cx = &mut Context::from_waker(Waker::noop());
    loop {
        // Ready at the first poll: every wait in it blocks until it is over.
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return output;
        }
        std::thread::yield_now();
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
    fn deadline_cuts_limits_in_steps() {
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
    fn wait_limit_spares_last_round_trip() {
        let limit = |limit, until, now| {
            let limit = Timeout::Wait(at(until)).limit(limit, SECOND, at(now));
            limit.map_err(|error| error.sent)
        };
        assert_eq!(limit(SECOND, 5000, 0), Ok(SECOND));
        assert_eq!(limit(SECOND, 5000, 4500), Ok(SECOND / 2));
        assert_eq!(limit(SECOND, 5000, 4999), Ok(SECOND));
        assert_eq!(limit(SECOND, 5000, 5000), Ok(SECOND));
        // For any number of steps, each with a limit of its own, they end then.
        assert_eq!(limit(SECOND, 5000, 5900), Ok(SECOND / 10));
        assert_eq!(limit(SECOND * 60, 5000, 4999), Ok(at(6000).since(at(4999))));
        assert_eq!(limit(SECOND, 5000, 6000), Err(false));
        assert_eq!(limit(SECOND, 5000, 9000), Err(false));
    }
}
