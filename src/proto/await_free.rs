//! Waiting until a lock is free, without acquiring it.

use super::grant::WaitPolicy;
use super::inspect::{Inspect, InspectOutcome};
use super::name::LockKeys;
use super::operation::{Action, FlightError, Operation, Sealed};
use super::owner_id::holder_fingerprint;
use super::record::{Nonce, lease_of};
use super::retry::RetryPolicy;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;

/// Looks at a lock, as often as a contender would, until the lock is free or the caller's wait
/// limit has passed. The last observation is the outcome.
///
/// Free means the same as for an inspection and a single attempt: the server has no record. The
/// record of a dead holder stays there for up to five seconds longer than its lease. A waiting
/// contender may take the lock over before that.
#[derive(Debug)]
pub struct AwaitFree<'a> {
    inspect: Inspect<'a>,
    retry_policy: RetryPolicy,
}

impl<'a> AwaitFree<'a> {
    /// A wait for the lock with these keys. A server that does not reply is tried for as long as
    /// `tolerance`. The bits of `nonce` spread the looks of several concurrent waiters over time.
    #[must_use]
    pub const fn new(
        keys: &'a LockKeys,
        patience: WaitPolicy,
        retry_timeout: Duration,
        nonce: Nonce,
    ) -> Self {
        Self {
            inspect: Inspect::new(keys),
            retry_policy: RetryPolicy::of(patience, retry_timeout, nonce.seed()),
        }
    }

    fn judge(&mut self, seen: InspectOutcome, now: Instant) -> Action<InspectOutcome> {
        let InspectOutcome::Held {
            ref value,
            cas,
            left,
            ..
        } = seen
        else {
            return Action::Done(seen);
        };
        if self.retry_policy.is_expired(now) {
            return Action::Done(seen);
        }
        let (mark, lease) = (holder_fingerprint(value, cas), lease_of(value));
        self.retry_policy.wait(mark, lease, left, None, now)
    }
}

impl Sealed for AwaitFree<'_> {}

impl Operation for AwaitFree<'_> {
    type Outcome = InspectOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), InspectOutcome> {
        self.inspect.poll_transmit(server, now, flight)
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<InspectOutcome>, DecodeError> {
        let step = self
            .inspect
            .handle_replies(server, replies, sent, received)?;
        let step = match step {
            Action::Done(seen) => self.judge(seen, received),
            other => other,
        };
        Ok(self.retry_policy.replied(step, received, false))
    }

    fn handle_failure(&mut self, _how: FlightError, now: Now) -> Action<InspectOutcome> {
        // A look stores nothing.
        self.retry_policy.no_reply(now.monotonic, false)
    }
}
