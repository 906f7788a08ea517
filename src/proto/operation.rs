//! The parts of every lock operation: flights, and the meaning of their replies.

use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};

mod sealed {
    /// Operations are rules of this crate; other crates cannot add one.
    #[expect(unnameable_types, reason = "that is what sealing is")]
    pub trait Sealed {}
}
pub(super) use sealed::Sealed;

/// One operation at a server, as a machine without sockets and clocks.
///
/// Its driver sends what [`poll_transmit`](Self::poll_transmit) wrote, passes the replies to
/// [`handle_replies`](Self::handle_replies) or calls [`handle_failure`](Self::handle_failure) if
/// there are none, and continues with the [`Action`] that this returns.
pub trait Operation: Sealed {
    /// The result of the operation.
    type Outcome;

    /// Writes the requests of the next flight.
    ///
    /// # Errors
    /// The outcome, when nothing is to be sent any more, such as to another incarnation of the
    /// server than the lock came from.
    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Self::Outcome>;

    /// Takes in the replies to the flight, which was sent and answered at these instants.
    ///
    /// # Errors
    /// A reply that cannot belong to its request. The connection must be closed, and the driver
    /// goes on with [`FlightError::NoReply`].
    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<Self::Outcome>, DecodeError>;

    /// Takes in that the flight was not sent, or sent and not answered.
    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<Self::Outcome>;
}

/// The next action of the driver of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action<T> {
    /// Prepare a flight and send it.
    Transmit,
    /// Wait until this instant, then send.
    Sleep {
        /// When to go on.
        until: Instant,
        /// The reason for the pause.
        why: SleepReason,
    },
    /// The operation is over.
    Done(T),
    /// The operation is over because the server did not answer; the driver knows the cause.
    Fail {
        /// `true` if something was sent whose fate is unknown.
        unknown: bool,
    },
}

/// The reason why an operation pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SleepReason {
    /// Another client holds the lock.
    Contended,
    /// The server has not remembered everything for as long as the longest lease yet.
    RestartGuard,
    /// The server cannot be reached.
    Unreachable,
    /// A request was sent on a connection that is closed now, and may be carried out late.
    LateRequest,
}

/// A reason why a flight has no replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightError {
    /// Not a byte of it left.
    NotSent,
    /// It was sent, at least in part: what became of it is unknown.
    NoReply,
}
