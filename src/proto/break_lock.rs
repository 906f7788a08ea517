//! Ending the session of another client.

use super::failure::ServerError;
use super::inspect::{Inspect, InspectOutcome};
use super::items::{CasOutcome, read_cas_outcome};
use super::lock_item::push_release;
use super::name::LockKeys;
use super::operation::{Action, FlightError, Operation, Sealed, SleepReason};
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::session_id::SessionId;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};
use alloc::boxed::Box;
use core::time::Duration;

/// Between two attempts to reach a server that does not answer: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Number of times that the holder may renew between our look and our request before that is no
/// coincidence.
const MOST_CORRECTIONS: u8 = 8;

/// The outcome of breaking a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakStatus {
    /// The record that was meant is gone, by this request or, where its answer was lost, at the
    /// latest when we looked again.
    Broken,
    /// A different holder has the lock by now.
    Changed(Box<InspectOutcome>),
    /// The lock was free already.
    Free,
    /// The server did not do it, or does not say.
    Failed(ServerError),
}

/// Removes the record of one session of a lock, and only that.
///
/// Looks at the lock, and deletes the observed item by its CAS unique if it belongs to the given
/// session: in the next flight, to the same server instance. If the holder renewed in between, it
/// looks again.
#[derive(Debug)]
pub struct BreakLock<'a> {
    keys: &'a LockKeys,
    session: SessionId,
    /// When to stop trying to reach the server.
    deadline: Instant,
    /// The item that the last look has found: to be deleted next.
    seen: Option<(u64, ServerInstance)>,
    /// A deletion was sent and its answer lost.
    unanswered: bool,
    corrections: u8,
    /// Number of times in a row that the server could not be reached.
    failures: u32,
}

impl<'a> BreakLock<'a> {
    /// Ends the holding that has this identity.
    #[must_use]
    pub const fn new(keys: &'a LockKeys, identity: SessionId, give_up: Instant) -> Self {
        Self {
            keys,
            session: identity,
            deadline: give_up,
            seen: None,
            unanswered: false,
            corrections: 0,
            failures: 0,
        }
    }

    /// The record that was meant is not there any more.
    const fn not_found(&self) -> BreakStatus {
        // Behind an unanswered deletion it does not matter whether that or the holder did it.
        if self.unanswered {
            BreakStatus::Broken
        } else {
            BreakStatus::Free
        }
    }
}

impl Sealed for BreakLock<'_> {}

impl Operation for BreakLock<'_> {
    type Outcome = BreakStatus;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), BreakStatus> {
        // On a different server instance, the CAS unique may be that of another client's record.
        self.seen = self.seen.filter(|(_, then)| server.is_instance(*then));
        match self.seen {
            Some((cas, _)) => push_release(flight, server.capabilities.protocol, self.keys, cas),
            None => {
                // It has nothing to say before it has looked.
                let _ = Inspect::new(self.keys).poll_transmit(server, now, flight);
            }
        }
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<BreakStatus>, DecodeError> {
        self.failures = 0;
        if self.seen.is_some() {
            let compared = read_cas_outcome(replies)?;
            self.seen = None;
            return Ok(match compared {
                CasOutcome::Done => Action::Done(BreakStatus::Broken),
                CasOutcome::NotFound => Action::Done(self.not_found()),
                CasOutcome::Failed(failure) => Action::Done(BreakStatus::Failed(failure)),
                CasOutcome::Mismatch if self.corrections < MOST_CORRECTIONS => {
                    self.corrections += 1;
                    Action::Transmit
                }
                CasOutcome::Mismatch => Action::Done(BreakStatus::Failed(ServerError::DropsItems)),
            });
        }
        let look = Inspect::new(self.keys).handle_replies(server, replies, sent, received)?;
        let Action::Done(seen) = look else {
            return Err(DecodeError::UnexpectedReply);
        };
        Ok(match seen {
            InspectOutcome::Failed(failure) => Action::Done(BreakStatus::Failed(failure)),
            InspectOutcome::Free => Action::Done(self.not_found()),
            InspectOutcome::Held { ref value, cas, .. } => {
                if self.session.matches(value, cas, server.instance) {
                    self.seen = Some((cas, server.instance));
                    Action::Transmit
                } else if self.unanswered {
                    // The given session has ended, and another has begun.
                    Action::Done(BreakStatus::Broken)
                } else {
                    Action::Done(BreakStatus::Changed(Box::new(seen)))
                }
            }
        })
    }

    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<BreakStatus> {
        if how == FlightError::NoReply {
            self.unanswered |= self.seen.is_some();
            self.seen = None;
        }
        let (shortest, longest) = PAUSES;
        let pause = shortest.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures += 1;
        let until = now.monotonic.after(pause.min(longest));
        if until >= self.deadline {
            return Action::Fail {
                unknown: self.unanswered,
            };
        }
        Action::Sleep {
            until,
            why: SleepReason::Unreachable,
        }
    }
}
