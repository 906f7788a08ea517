//! Raising a counter of fencing tokens that was made too low.

use super::failure::ServerError;
use super::fence::{DrawnToken, push_fence, read_fence};
use super::items::StoreOutcome;
use super::items::{push_gets, push_store, read_gets, read_stored};
use super::name::LockKeys;
use super::requests::FENCE_TTL;
use super::server_instance::Protocol;
use crate::wire::{DecodeError, Flight, Replies, StoreVerb, TimeLeft, parse_u64};

/// By how many seconds the seed of a new counter may be behind the server's second in which it is made:
/// a client knows that second to within one or two. A seed that is further behind was sent long before,
/// and others may have drawn higher tokens since, from a counter that is lost.
const SEED_BEHIND: u64 = 2;

const NANOS: u64 = 1_000_000_000;

/// Number of attempts; others draw tokens in between, and then it fails.
const MAX_TRIES: u8 = 16;

/// The number that a token must exceed so that no older one is as high.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenBound {
    /// A token that is not above this comes from a counter that was made too low.
    pub(super) above: u64,
    /// A counter that is too low is raised above this. It is not ahead of the server's clock, or the
    /// next counter would begin below.
    raised_above: u64,
}

impl TokenBound {
    /// The bound for a token that was drawn at about the server's second `second`, where tokens
    /// from before the server's memory began are below `floor` seconds in nanoseconds.
    ///
    /// Both numbers follow the server's clock, so a counter must not lag the second of its creation
    /// by more than the error of the clients' estimate of it. Its remaining time shows that second:
    /// a counter is kept for a day from its creation or its last raise, and drawing does not
    /// prolong that.
    pub(super) fn of(drawn: DrawnToken, floor: u64, second: u64) -> Self {
        let made = match drawn.left {
            // A counter to which another client has given a longer life was not created in the
            // future.
            Some(TimeLeft::Seconds(left)) => (second + u64::from(left))
                .saturating_sub(FENCE_TTL)
                .min(second),
            _ => 0,
        };
        let above = floor
            .max(made.saturating_sub(SEED_BEHIND))
            .saturating_mul(NANOS);
        Self {
            above,
            raised_above: above.max(second.saturating_mul(NANOS)),
        }
    }

    /// Returns `true` if a token is too low and can be replaced by a higher one.
    pub(super) fn is_missed_by(&self, token: Option<u64>) -> bool {
        token <= Some(self.above) && i64::try_from(self.raised_above).is_ok()
    }
}

/// Draws a token above a bound from a counter that is below it.
///
/// The counter is replaced by `cas`, not added to: a request that is executed late, after its
/// repetition, then does nothing, whereas adding twice would make the counter run ahead of the
/// server's clock, and the next one start behind it.
#[derive(Debug, Clone)]
pub(super) struct FenceRepair {
    bound: TokenBound,
    next: RepairPhase,
    tries: u8,
}

#[derive(Debug, Clone, Copy)]
enum RepairPhase {
    Read,
    Replace { cas: u64 },
    Draw,
}

/// The next step after one flight of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RepairStep {
    Token(u64),
    Retry,
    Failed(ServerError),
}

impl FenceRepair {
    pub(super) const fn new(bound: TokenBound) -> Self {
        Self {
            bound,
            next: RepairPhase::Read,
            tries: 0,
        }
    }

    pub(super) fn prepare(&self, protocol: Protocol, keys: &LockKeys, flight: &mut Flight) {
        let first = self.bound.raised_above.saturating_add(1);
        match self.next {
            RepairPhase::Read => push_gets(flight, keys.fence()),
            RepairPhase::Replace { cas } => {
                let mut digits = itoa::Buffer::new();
                let value = digits.format(first).as_bytes();
                push_store(flight, StoreVerb::Cas(cas), keys.fence(), value, FENCE_TTL);
            }
            RepairPhase::Draw => push_fence(flight, protocol, keys, first),
        }
    }

    pub(super) fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        protocol: Protocol,
    ) -> Result<RepairStep, DecodeError> {
        self.tries += 1;
        self.next = match self.next {
            RepairPhase::Read => match read_gets(replies)? {
                Err(failure) => return Ok(RepairStep::Failed(failure)),
                Ok(None) => RepairPhase::Draw,
                Ok(Some((value, cas))) => match parse_u64(value.trim_ascii_end()) {
                    None => return Ok(RepairStep::Failed(ServerError::ForeignItem)),
                    Some(last) if last > self.bound.above => RepairPhase::Draw,
                    Some(_) => RepairPhase::Replace { cas },
                },
            },
            RepairPhase::Replace { .. } => match read_stored(replies)? {
                StoreOutcome::Stored => {
                    return Ok(RepairStep::Token(self.bound.raised_above.saturating_add(1)));
                }
                StoreOutcome::Failed(failure) => return Ok(RepairStep::Failed(failure)),
                StoreOutcome::NotStored => RepairPhase::Read,
            },
            RepairPhase::Draw => match read_fence(replies, protocol)? {
                Err(failure) => return Ok(RepairStep::Failed(failure)),
                Ok(DrawnToken { token, .. }) if token > self.bound.above => {
                    return Ok(RepairStep::Token(token));
                }
                Ok(_) => RepairPhase::Read,
            },
        };
        Ok(if self.tries < MAX_TRIES {
            RepairStep::Retry
        } else {
            RepairStep::Failed(ServerError::DropsItems)
        })
    }
}
