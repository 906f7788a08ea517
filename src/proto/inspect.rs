//! Looking at a lock without touching it.

use super::failure::ServerError;
use super::fence::{push_read_fence, read_last_token};
use super::lock_item::{LockItem, push_get_lock, read_lock};
use super::name::LockKeys;
use super::operation::{Action, FlightError, Operation, Sealed};
use super::record::HolderRecord;
use super::server_state::ServerState;
use super::session_id::SessionId;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies, TimeLeft};
use alloc::vec::Vec;

/// The outcome of a look at a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InspectOutcome {
    /// The lock is free.
    Free,
    /// A client holds it.
    Held {
        /// The record, if it is one of ours.
        holder: Option<HolderRecord>,
        /// The value as it stands.
        value: Vec<u8>,
        /// The CAS unique of the record.
        cas: u64,
        /// Which holding it is.
        identity: SessionId,
        /// The time that is left, as the server reports it.
        left: Option<TimeLeft>,
        /// The last fencing token drawn for this name. The holder's is not higher; it is lower
        /// where others were refused since.
        last_token: Option<u64>,
        /// The server's second at least.
        second: Option<u64>,
    },
    /// The server does not say.
    Failed(ServerError),
}

/// Looks at a lock.
#[derive(Debug)]
pub struct Inspect<'a> {
    keys: &'a LockKeys,
}

impl<'a> Inspect<'a> {
    /// A look at the lock with these keys.
    #[must_use]
    pub const fn new(keys: &'a LockKeys) -> Self {
        Self { keys }
    }
}

impl Sealed for Inspect<'_> {}

impl Operation for Inspect<'_> {
    type Outcome = InspectOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), InspectOutcome> {
        push_get_lock(flight, server.capabilities.protocol, self.keys);
        push_read_fence(flight, self.keys);
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        _sent: Instant,
        received: Instant,
    ) -> Result<Action<InspectOutcome>, DecodeError> {
        let item = read_lock(replies, server.capabilities.protocol)?;
        let last_token = read_last_token(replies)?;
        Ok(Action::Done(match (item, last_token) {
            (Err(failure), _) | (_, Err(failure)) => InspectOutcome::Failed(failure),
            (Ok(LockItem::Free), _) => InspectOutcome::Free,
            (Ok(LockItem::Held { value, cas, left }), Ok(last_token)) => InspectOutcome::Held {
                holder: HolderRecord::parse(value),
                value: value.into(),
                cas,
                identity: SessionId::of(value, cas, server.instance),
                left,
                last_token,
                second: server.clock.seconds_lower_bound(received),
            },
        }))
    }

    fn handle_failure(&mut self, _how: FlightError, _now: Now) -> Action<InspectOutcome> {
        Action::Fail { unknown: false }
    }
}
