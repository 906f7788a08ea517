//! Waiting until nobody holds a lock, without acquiring it.

use super::grant::Patience;
use super::incarnation::ServerView;
use super::inspect::{Inspect, Inspected};
use super::moment::{Moment, Now};
use super::name::LockKeys;
use super::operation::{Interruption, Operation, Sealed, Step};
use super::proof::mark_of;
use super::record::{Nonce, lease_of};
use super::stamina::Stamina;
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;

/// Looks at a lock, as often as a contender would, until nobody holds it or the caller's patience
/// is over. What it saw last is what comes of it.
///
/// Free means what it means to a look and to a single attempt: the server has no record. That of a
/// dead holder stays there for up to five seconds longer than its lease. A contender that waits may
/// take the lock over before that.
#[derive(Debug)]
pub struct AwaitFree<'a> {
    look: Inspect<'a>,
    stamina: Stamina,
}

impl<'a> AwaitFree<'a> {
    /// A wait for the lock with these keys. A server that does not answer is tried for as long as
    /// `tolerance`. The bits of `nonce` keep those who wait together from looking together.
    #[must_use]
    pub const fn new(
        keys: &'a LockKeys,
        patience: Patience,
        tolerance: Duration,
        nonce: Nonce,
    ) -> Self {
        Self {
            look: Inspect::new(keys),
            stamina: Stamina::of(patience, tolerance, nonce.seed()),
        }
    }

    fn judge(&mut self, seen: Inspected, now: Moment) -> Step<Inspected> {
        let Inspected::Held {
            ref value,
            cas,
            left,
            ..
        } = seen
        else {
            return Step::Done(seen);
        };
        if self.stamina.is_over(now) {
            return Step::Done(seen);
        }
        let (mark, lease) = (mark_of(value, cas), lease_of(value));
        self.stamina.wait(mark, lease, left, None, now)
    }
}

impl Sealed for AwaitFree<'_> {}

impl Operation for AwaitFree<'_> {
    type Outcome = Inspected;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Inspected> {
        self.look.prepare(server, now, flight)
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Inspected>, DecodeError> {
        let step = self.look.interpret(server, replies, sent, received)?;
        let step = match step {
            Step::Done(seen) => self.judge(seen, received),
            other => other,
        };
        Ok(self.stamina.answered(step, received, false))
    }

    fn interrupted(&mut self, _how: Interruption, now: Now) -> Step<Inspected> {
        // A look leaves nothing behind.
        self.stamina.unanswered(now.moment, false)
    }
}
