//! Looking at a lock without touching it.

use super::identity::Identity;
use super::incarnation::ServerView;
use super::items::{
    Failure, LockItem, push_read_fence, push_read_lock, read_last_token, read_lock,
};
use super::moment::{Moment, Now};
use super::name::LockKeys;
use super::operation::{Interruption, Operation, Sealed, Step};
use super::record::HolderRecord;
use crate::wire::{DecodeError, Flight, Replies, TimeLeft};
use alloc::vec::Vec;

/// What there is to see of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// Nobody holds it.
    Free,
    /// Somebody does.
    Held {
        /// What the record says, if it is one of ours.
        holder: Option<HolderRecord>,
        /// The value as it stands.
        value: Vec<u8>,
        /// The CAS unique of the record.
        cas: u64,
        /// Which holding it is.
        identity: Identity,
        /// What the server says about its time.
        left: Option<TimeLeft>,
        /// The last fencing token drawn for this name. The holder's is not higher; it is lower
        /// where others were refused since.
        last_token: Option<u64>,
        /// The server's second at least.
        second: Option<u64>,
    },
    /// The server does not say.
    Failed(Failure),
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
    type Outcome = Inspected;

    fn prepare(
        &mut self,
        server: &ServerView,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), Inspected> {
        push_read_lock(flight, server.capabilities.dialect, self.keys);
        push_read_fence(flight, self.keys);
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        _sent: Moment,
        received: Moment,
    ) -> Result<Step<Inspected>, DecodeError> {
        let item = read_lock(replies, server.capabilities.dialect)?;
        let last_token = read_last_token(replies)?;
        Ok(Step::Done(match (item, last_token) {
            (Err(failure), _) | (_, Err(failure)) => Inspected::Failed(failure),
            (Ok(LockItem::Free), _) => Inspected::Free,
            (Ok(LockItem::Held { value, cas, left }), Ok(last_token)) => Inspected::Held {
                holder: HolderRecord::parse(value),
                value: value.into(),
                cas,
                identity: Identity::of(value, cas, server.incarnation),
                left,
                last_token,
                second: server.clock.second_at_least(received),
            },
        }))
    }

    fn interrupted(&mut self, _how: Interruption, _now: Now) -> Step<Inspected> {
        Step::GiveUp { unknown: false }
    }
}
