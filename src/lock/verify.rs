//! Asking whether a lock is still held.

use super::grant::Grant;
use super::incarnation::{Incarnation, ServerView};
use super::items::{Failure, LockItem, push_read_lock, read_lock};
use super::loss::LossReason;
use super::moment::{Moment, Now};
use super::name::LockKeys;
use super::operation::{Interruption, Operation, Sealed, Step};
use super::proof::Proof;
use crate::wire::{DecodeError, Flight, Replies};

/// What a look at a lock that is held has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// The item is still ours.
    Yes,
    /// The lock is not ours any more.
    Lost(LossReason),
    /// The server does not say.
    Failed(Failure),
}

/// Asks the server whether a lock is still held: one look, which changes nothing.
///
/// What it finds is judged by the [`Proof`] alone. The CAS unique says nothing: a renewal that is
/// under way may have changed it. And a loss that is found so is one, whatever else is under way: no
/// renewal brings back what is gone.
#[derive(Debug)]
pub struct Verify<'a> {
    keys: &'a LockKeys,
    incarnation: Incarnation,
    proof: Proof,
}

impl<'a> Verify<'a> {
    /// A look at the lock that `grant` is about.
    #[must_use]
    pub const fn new(keys: &'a LockKeys, grant: &Grant) -> Self {
        Self {
            keys,
            incarnation: grant.incarnation,
            proof: grant.proof,
        }
    }
}

impl Sealed for Verify<'_> {}

impl Operation for Verify<'_> {
    type Outcome = Verified;

    fn prepare(
        &mut self,
        server: &ServerView,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), Verified> {
        if !server.incarnation.is_like(&self.incarnation) {
            return Err(Verified::Lost(LossReason::ServerRestarted));
        }
        push_read_lock(flight, server.capabilities.dialect, self.keys);
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        _sent: Moment,
        _received: Moment,
    ) -> Result<Step<Verified>, DecodeError> {
        let item = read_lock(replies, server.capabilities.dialect)?;
        Ok(Step::Done(match item {
            Err(failure) => Verified::Failed(failure),
            Ok(LockItem::Free) => Verified::Lost(LossReason::Vanished),
            Ok(LockItem::Held { value, cas, .. }) if self.proof.is_of(value, cas) => Verified::Yes,
            Ok(LockItem::Held { .. }) => Verified::Lost(LossReason::TakenOver),
        }))
    }

    fn interrupted(&mut self, how: Interruption, _now: Now) -> Step<Verified> {
        Step::GiveUp {
            unknown: how == Interruption::Unanswered,
        }
    }
}
