//! Ending somebody else's hold on a lock.

use super::identity::Identity;
use super::incarnation::{Incarnation, ServerView};
use super::inspect::{Inspect, Inspected};
use super::items::{Compared, Failure, push_release, read_compared};
use super::moment::{Moment, Now};
use super::name::LockKeys;
use super::operation::{Interruption, Operation, Pause, Sealed, Step};
use crate::wire::{DecodeError, Flight, Replies};
use alloc::boxed::Box;
use core::time::Duration;

/// Between two attempts to reach a server that does not answer: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How often the holder may renew between our look and our request before that is no coincidence.
const MOST_CORRECTIONS: u8 = 8;

/// What came of breaking a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breaking {
    /// The record that was meant is gone, by this request or, where its answer was lost, at the
    /// latest when we looked again.
    Broken,
    /// Somebody else holds the lock by now.
    Changed(Box<Inspected>),
    /// Nobody held it any more.
    Free,
    /// The server did not do it, or does not say.
    Failed(Failure),
}

/// Removes the record of one holding of a lock, and only that.
///
/// Looks at the lock, and deletes what it has seen there by its CAS unique where that belongs to
/// the holding that is meant: in the next flight, to the same run of the server. Where the holder
/// renewed in between, it looks again.
#[derive(Debug)]
pub struct Break<'a> {
    keys: &'a LockKeys,
    identity: Identity,
    /// When to stop trying to reach the server.
    give_up: Moment,
    /// What the last look has found: to be deleted next.
    seen: Option<(u64, Incarnation)>,
    /// A deletion was sent and its answer lost.
    unanswered: bool,
    corrections: u8,
    /// How often in a row the server could not be reached.
    failures: u32,
}

impl<'a> Break<'a> {
    /// Ends the holding that has this identity.
    #[must_use]
    pub const fn new(keys: &'a LockKeys, identity: Identity, give_up: Moment) -> Self {
        Self {
            keys,
            identity,
            give_up,
            seen: None,
            unanswered: false,
            corrections: 0,
            failures: 0,
        }
    }

    /// The record that was meant is not there any more.
    const fn gone(&self) -> Breaking {
        // Behind an unanswered deletion it does not matter whether that or the holder did it.
        if self.unanswered {
            Breaking::Broken
        } else {
            Breaking::Free
        }
    }
}

impl Sealed for Break<'_> {}

impl Operation for Break<'_> {
    type Outcome = Breaking;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Breaking> {
        // On another run of the server, the CAS unique may be that of somebody else's record.
        self.seen = self.seen.filter(|(_, then)| server.is_run(*then));
        match self.seen {
            Some((cas, _)) => push_release(flight, server.capabilities.dialect, self.keys, cas),
            None => {
                // It has nothing to say before it has looked.
                let _ = Inspect::new(self.keys).prepare(server, now, flight);
            }
        }
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Breaking>, DecodeError> {
        self.failures = 0;
        if self.seen.is_some() {
            let compared = read_compared(replies)?;
            self.seen = None;
            return Ok(match compared {
                Compared::Done => Step::Done(Breaking::Broken),
                Compared::Missing => Step::Done(self.gone()),
                Compared::Failed(failure) => Step::Done(Breaking::Failed(failure)),
                Compared::Other if self.corrections < MOST_CORRECTIONS => {
                    self.corrections += 1;
                    Step::Send
                }
                Compared::Other => Step::Done(Breaking::Failed(Failure::ForgottenAtOnce)),
            });
        }
        let look = Inspect::new(self.keys).interpret(server, replies, sent, received)?;
        let Step::Done(seen) = look else {
            return Err(DecodeError::UnexpectedReply);
        };
        Ok(match seen {
            Inspected::Failed(failure) => Step::Done(Breaking::Failed(failure)),
            Inspected::Free => Step::Done(self.gone()),
            Inspected::Held { ref value, cas, .. } => {
                if self.identity.is_of(value, cas, server.incarnation) {
                    self.seen = Some((cas, server.incarnation));
                    Step::Send
                } else if self.unanswered {
                    // What was meant is gone, and another has come.
                    Step::Done(Breaking::Broken)
                } else {
                    Step::Done(Breaking::Changed(Box::new(seen)))
                }
            }
        })
    }

    fn interrupted(&mut self, how: Interruption, now: Now) -> Step<Breaking> {
        if how == Interruption::Unanswered {
            self.unanswered |= self.seen.is_some();
            self.seen = None;
        }
        let (shortest, longest) = PAUSES;
        let pause = shortest.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures += 1;
        let until = now.moment.after(pause.min(longest));
        if until >= self.give_up {
            return Step::GiveUp {
                unknown: self.unanswered,
            };
        }
        Step::Pause {
            until,
            why: Pause::Unreachable,
        }
    }
}
