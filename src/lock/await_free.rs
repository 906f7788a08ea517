//! Waiting until nobody holds a lock, without acquiring it.

use super::grant::Patience;
use super::incarnation::{Incarnation, ServerView};
use super::inspect::{Inspect, Inspected};
use super::moment::{Moment, Now};
use super::name::LockKeys;
use super::observation::Observation;
use super::operation::{Interruption, Operation, Sealed, Step};
use super::proof::mark_of;
use super::record::Nonce;
use super::stamina::Stamina;
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;

/// Looks at a lock, as often as a contender would, until nobody holds it or the caller's patience
/// is over. What it saw last is what comes of it.
///
/// A record that has been watched for its whole lease, and a little more, without a renewal counts
/// as free: nobody believes in it any more, and whoever wants the lock could take it over.
#[derive(Debug)]
pub struct AwaitFree<'a> {
    look: Inspect<'a>,
    observation: Observation,
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
            observation: Observation::new(),
            stamina: Stamina::of(patience, tolerance, nonce.seed()),
        }
    }

    fn judge(&mut self, seen: Inspected, on: Incarnation, now: Moment) -> Step<Inspected> {
        let Inspected::Held {
            ref value,
            cas,
            left,
            ..
        } = seen
        else {
            return Step::Done(seen);
        };
        self.observation.held(on, value, cas, now);
        if self.observation.ripe(on, now).is_some() {
            return Step::Done(Inspected::Free);
        }
        if self.stamina.is_over(now) {
            return Step::Done(seen);
        }
        let (lease, ripe) = (self.observation.lease(), self.observation.ripe_at());
        self.stamina
            .wait(mark_of(value, cas), lease, left, ripe, now)
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
            Step::Done(seen) => self.judge(seen, server.incarnation, received),
            other => other,
        };
        Ok(self.stamina.answered(step, received, false))
    }

    fn interrupted(&mut self, _how: Interruption, now: Now) -> Step<Inspected> {
        // A look leaves nothing behind.
        self.stamina.unanswered(now.moment, false)
    }
}
