//! Reading a server's clock, for its own sake.

use super::incarnation::ServerView;
use super::items::{Failure, push_look_at_memory, read_memory};
use super::lease::Lease;
use super::longest::{RaiseLongest, push_longest, read_longest};
use super::moment::{Moment, Now};
use super::name::Namespace;
use super::operation::{Interruption, Operation, Sealed, Step};
use crate::wire::{DecodeError, Flight, Replies};

/// Takes one reading of the server's clock and of what it remembers, into the [`ServerView`], and
/// raises the longest lease in use where the server says less than this client asks for. Nothing
/// comes of it where there is no sentinel.
#[derive(Debug)]
pub struct ReadClock<'a> {
    namespace: &'a Namespace,
    longest: Lease,
    raise: Option<RaiseLongest>,
}

impl<'a> ReadClock<'a> {
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

impl Sealed for ReadClock<'_> {}

impl Operation for ReadClock<'_> {
    type Outcome = Result<(), Failure>;

    fn prepare(
        &mut self,
        server: &ServerView,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), Self::Outcome> {
        let dialect = server.capabilities.dialect;
        if let Some(raise) = &self.raise {
            raise.prepare(self.namespace, dialect, flight);
            return Ok(());
        }
        push_longest(flight, dialect, self.namespace.longest());
        push_look_at_memory(flight, dialect, self.namespace, true);
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Self::Outcome>, DecodeError> {
        let dialect = server.capabilities.dialect;
        if let Some(raise) = &mut self.raise {
            return Ok(match raise.interpret(replies, dialect)? {
                None => Step::Send,
                Some(raised) => {
                    let raised = raised.map(|lease| server.memory.longest_lease_seen(Some(lease)));
                    Step::Done(raised)
                }
            });
        }
        let longest = read_longest(replies, dialect)?;
        let read = read_memory(replies, server, true, sent, received)?;
        Ok(match longest.and_then(|longest| read.map(|_| longest)) {
            Err(failure) => Step::Done(Err(failure)),
            Ok(found) => {
                let seen = found.map(|(lease, _)| lease);
                server.memory.longest_lease_seen(seen);
                self.raise = RaiseLongest::after(found, self.longest);
                match self.raise {
                    Some(_) => Step::Send,
                    None => Step::Done(Ok(())),
                }
            }
        })
    }

    fn interrupted(&mut self, _how: Interruption, _now: Now) -> Step<Self::Outcome> {
        Step::GiveUp { unknown: false }
    }
}
