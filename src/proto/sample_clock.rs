//! Reading a server's clock, for its own sake.

use super::failure::ServerError;
use super::lease::Lease;
use super::longest_lease::{RaiseLongestLease, push_longest_lease, read_longest_lease};
use super::memory_probe::{push_memory_probe, read_memory};
use super::name::Namespace;
use super::operation::{Action, FlightError, Operation, Sealed};
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};

/// Takes one reading of the server's clock and of what it remembers, into the [`ServerState`], and
/// raises the longest lease in use where the server says less than this client asks for. Nothing
/// comes of it where there is no sentinel.
#[derive(Debug)]
pub struct SampleClock<'a> {
    namespace: &'a Namespace,
    longest: Lease,
    raise: Option<RaiseLongestLease>,
}

impl<'a> SampleClock<'a> {
    /// A reading by the sentinel of this namespace, by a client that asks for leases of at most
    /// `longest`.
    #[must_use]
    pub const fn new(namespace: &'a Namespace, longest: Lease) -> Self {
        Self {
            namespace,
            longest,
            raise: None,
        }
    }
}

impl Sealed for SampleClock<'_> {}

impl Operation for SampleClock<'_> {
    type Outcome = Result<(), ServerError>;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), Self::Outcome> {
        let protocol = server.capabilities.protocol;
        if let Some(raise) = &self.raise {
            raise.prepare(self.namespace, protocol, flight);
            return Ok(());
        }
        push_longest_lease(flight, protocol, self.namespace.longest());
        push_memory_probe(flight, protocol, self.namespace, true);
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<Self::Outcome>, DecodeError> {
        let protocol = server.capabilities.protocol;
        if let Some(raise) = &mut self.raise {
            return Ok(match raise.interpret(replies, protocol)? {
                None => Action::Transmit,
                Some(raised) => {
                    let raised = raised.map(|lease| server.memory.longest_lease_seen(Some(lease)));
                    Action::Done(raised)
                }
            });
        }
        let longest = read_longest_lease(replies, protocol)?;
        let read = read_memory(replies, server, true, sent, received)?;
        Ok(match longest.and_then(|longest| read.map(|_| longest)) {
            Err(failure) => Action::Done(Err(failure)),
            Ok(found) => {
                let seen = found.map(|(lease, _)| lease);
                server.memory.longest_lease_seen(seen);
                self.raise = RaiseLongestLease::after(found, self.longest);
                match self.raise {
                    Some(_) => Action::Transmit,
                    None => Action::Done(Ok(())),
                }
            }
        })
    }

    fn handle_failure(&mut self, _how: FlightError, _now: Now) -> Action<Self::Outcome> {
        Action::Fail { unknown: false }
    }
}
