//! Reading a server's clock, for its own sake.

use super::incarnation::ServerView;
use super::items::{Failure, push_read_sentinel, read_sentinel};
use super::moment::{Moment, Now};
use super::name::Namespace;
use super::operation::{Interruption, Operation, Sealed, Step};
use crate::wire::{DecodeError, Flight, Replies};

/// Takes one reading of the server's clock, into the [`ServerView`]. Nothing comes of it where
/// there is no sentinel.
#[derive(Debug)]
pub struct ReadClock<'a> {
    namespace: &'a Namespace,
}

impl<'a> ReadClock<'a> {
    /// A reading by the sentinel of this namespace.
    #[must_use]
    pub const fn new(namespace: &'a Namespace) -> Self {
        Self { namespace }
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
        push_read_sentinel(flight, server.capabilities.dialect, self.namespace);
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Self::Outcome>, DecodeError> {
        let read = read_sentinel(replies, server, sent, received)?;
        Ok(Step::Done(read.map(|_| ())))
    }

    fn interrupted(&mut self, _how: Interruption, _now: Now) -> Step<Self::Outcome> {
        Step::GiveUp { unknown: false }
    }
}
