//! Several operations of one kind, carried out together.

use super::operation::{Action, FlightError, Operation, Sealed};
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};
use alloc::vec::Vec;
use core::fmt;

/// Several operations of one kind as one: the requests of all that are not over travel in the same
/// flight.
///
/// The outcome of one does not depend on the others. One that has to pause holds up those that go
/// on beside it. The batch gives up on a silent server as soon as all others are over;
/// [`outcomes`](Self::outcomes) has the result of each then as well.
pub struct Batch<O: Operation> {
    items: Vec<BatchItem<O>>,
    /// Some were given up; whether something of them was sent whose fate is unknown.
    failed: Option<bool>,
}

enum BatchItem<O: Operation> {
    Pending(O),
    Done(O::Outcome),
    Failed,
}

impl<O: Operation> fmt::Debug for Batch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("items", &self.items.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl<O: Operation> Batch<O> {
    /// These, in this order on the wire.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = O>) -> Self {
        Self {
            items: parts.into_iter().map(BatchItem::Pending).collect(),
            failed: None,
        }
    }

    /// The outcome of each, in the order in which they were given; `None` for those without an
    /// answer.
    #[must_use]
    pub fn outcomes(self) -> Vec<Option<O::Outcome>> {
        let outcome = |part| match part {
            BatchItem::Done(outcome) => Some(outcome),
            BatchItem::Pending(_) | BatchItem::Failed => None,
        };
        self.items.into_iter().map(outcome).collect()
    }

    fn is_done(&self) -> bool {
        let mut parts = self.items.iter();
        !parts.any(|part| matches!(part, BatchItem::Pending(_)))
    }

    /// Lets all that are not over make their next step.
    fn step(
        &mut self,
        mut next: impl FnMut(&mut O) -> Result<Action<O::Outcome>, DecodeError>,
    ) -> Result<Action<()>, DecodeError> {
        let mut pause = None;
        for part in &mut self.items {
            let BatchItem::Pending(operation) = part else {
                continue;
            };
            match next(operation)? {
                Action::Transmit => {}
                Action::Sleep { until, why } => {
                    pause = match pause {
                        Some((latest, _)) if latest >= until => pause,
                        _ => Some((until, why)),
                    };
                }
                Action::Done(outcome) => *part = BatchItem::Done(outcome),
                Action::Fail { unknown } => {
                    *part = BatchItem::Failed;
                    self.failed = Some(unknown || self.failed.unwrap_or(false));
                }
            }
        }
        Ok(match (pause, self.failed) {
            (Some((until, why)), _) => Action::Sleep { until, why },
            (None, _) if !self.is_done() => Action::Transmit,
            (None, Some(unknown)) => Action::Fail { unknown },
            (None, None) => Action::Done(()),
        })
    }
}

impl<O: Operation> Sealed for Batch<O> {}

impl<O: Operation> Operation for Batch<O> {
    /// [`outcomes`](Batch::outcomes) has the results.
    type Outcome = ();

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), ()> {
        for part in &mut self.items {
            if let BatchItem::Pending(operation) = part {
                if let Err(outcome) = operation.poll_transmit(server, now, flight) {
                    *part = BatchItem::Done(outcome);
                }
            }
        }
        if self.is_done() { Err(()) } else { Ok(()) }
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<()>, DecodeError> {
        self.step(|operation| operation.handle_replies(server, replies, sent, received))
    }

    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<()> {
        let stepped = self.step(|operation| Ok(operation.handle_failure(how, now)));
        // Does not happen: nothing was decoded.
        stepped.unwrap_or(Action::Fail { unknown: true })
    }
}
