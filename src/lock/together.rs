//! Several operations of one kind, carried out together.

use super::incarnation::ServerView;
use super::moment::{Moment, Now};
use super::operation::{Interruption, Operation, Sealed, Step};
use crate::wire::{DecodeError, Flight, Replies};
use alloc::vec::Vec;
use core::fmt;

/// Several operations of one kind as one: the requests of all that are not over travel in the same
/// flight.
///
/// What one comes to does not depend on the others. One that has to pause holds up those that go on
/// beside it. The server's silence gives up as soon as all others are over; what came of each is
/// told by [`outcomes`](Self::outcomes) then as well.
pub struct Together<O: Operation> {
    parts: Vec<Part<O>>,
    /// Some were given up; whether something of them was sent whose fate is unknown.
    given_up: Option<bool>,
}

enum Part<O: Operation> {
    Pending(O),
    Done(O::Outcome),
    GivenUp,
}

impl<O: Operation> fmt::Debug for Together<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together")
            .field("parts", &self.parts.len())
            .field("given_up", &self.given_up)
            .finish_non_exhaustive()
    }
}

impl<O: Operation> Together<O> {
    /// These, in this order on the wire.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = O>) -> Self {
        Self {
            parts: parts.into_iter().map(Part::Pending).collect(),
            given_up: None,
        }
    }

    /// What came of each, in the order in which they were given; `None` for those without an
    /// answer.
    #[must_use]
    pub fn outcomes(self) -> Vec<Option<O::Outcome>> {
        let outcome = |part| match part {
            Part::Done(outcome) => Some(outcome),
            Part::Pending(_) | Part::GivenUp => None,
        };
        self.parts.into_iter().map(outcome).collect()
    }

    fn is_over(&self) -> bool {
        let mut parts = self.parts.iter();
        !parts.any(|part| matches!(part, Part::Pending(_)))
    }

    /// Lets all that are not over make their next step.
    fn step(
        &mut self,
        mut next: impl FnMut(&mut O) -> Result<Step<O::Outcome>, DecodeError>,
    ) -> Result<Step<()>, DecodeError> {
        let mut pause = None;
        for part in &mut self.parts {
            let Part::Pending(operation) = part else {
                continue;
            };
            match next(operation)? {
                Step::Send => {}
                Step::Pause { until, why } => {
                    pause = match pause {
                        Some((latest, _)) if latest >= until => pause,
                        _ => Some((until, why)),
                    };
                }
                Step::Done(outcome) => *part = Part::Done(outcome),
                Step::GiveUp { unknown } => {
                    *part = Part::GivenUp;
                    self.given_up = Some(unknown || self.given_up.unwrap_or(false));
                }
            }
        }
        Ok(match (pause, self.given_up) {
            (Some((until, why)), _) => Step::Pause { until, why },
            (None, _) if !self.is_over() => Step::Send,
            (None, Some(unknown)) => Step::GiveUp { unknown },
            (None, None) => Step::Done(()),
        })
    }
}

impl<O: Operation> Sealed for Together<O> {}

impl<O: Operation> Operation for Together<O> {
    /// Told by [`Together::outcomes`].
    type Outcome = ();

    fn prepare(&mut self, server: &ServerView, now: Now, flight: &mut Flight) -> Result<(), ()> {
        for part in &mut self.parts {
            if let Part::Pending(operation) = part {
                if let Err(outcome) = operation.prepare(server, now, flight) {
                    *part = Part::Done(outcome);
                }
            }
        }
        if self.is_over() { Err(()) } else { Ok(()) }
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<()>, DecodeError> {
        self.step(|operation| operation.interpret(server, replies, sent, received))
    }

    fn interrupted(&mut self, how: Interruption, now: Now) -> Step<()> {
        let stepped = self.step(|operation| Ok(operation.interrupted(how, now)));
        // Does not happen: nothing was decoded.
        stepped.unwrap_or(Step::GiveUp { unknown: true })
    }
}
