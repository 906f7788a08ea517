//! Asking whether a lock is still held.

use super::failure::ServerError;
use super::grant::Grant;
use super::lock_item::{LockItem, push_get_lock, read_lock};
use super::loss::LossReason;
use super::name::LockKeys;
use super::operation::{Action, FlightError, Operation, Sealed};
use super::owner_id::OwnerId;
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};

/// The outcome of a check of a held lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The item is still ours.
    Held,
    /// The lock is not ours any more.
    Lost(LossReason),
    /// The server does not say.
    Failed(ServerError),
}

/// Asks the server whether a lock is still held: one look, which changes nothing.
///
/// The item found is judged by its [`OwnerId`] alone. The CAS unique says nothing: a renewal that
/// is under way may have changed it. And a loss that is found so is one, whatever else is under
/// way: no renewal brings back what is gone.
#[derive(Debug)]
pub struct Verify<'a> {
    keys: &'a LockKeys,
    instance: ServerInstance,
    owner_id: OwnerId,
}

impl<'a> Verify<'a> {
    /// A look at the lock that `grant` is about.
    #[must_use]
    pub const fn new(keys: &'a LockKeys, grant: &Grant) -> Self {
        Self {
            keys,
            instance: grant.instance,
            owner_id: grant.owner_id,
        }
    }
}

impl Sealed for Verify<'_> {}

impl Operation for Verify<'_> {
    type Outcome = VerifyOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), VerifyOutcome> {
        if !server.instance.is_same_process(&self.instance) {
            return Err(VerifyOutcome::Lost(LossReason::ServerRestarted));
        }
        push_get_lock(flight, server.capabilities.protocol, self.keys);
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        _sent: Instant,
        _received: Instant,
    ) -> Result<Action<VerifyOutcome>, DecodeError> {
        let item = read_lock(replies, server.capabilities.protocol)?;
        Ok(Action::Done(match item {
            Err(failure) => VerifyOutcome::Failed(failure),
            Ok(LockItem::Free) => VerifyOutcome::Lost(LossReason::Missing),
            Ok(LockItem::Held { value, cas, .. }) if self.owner_id.matches(value, cas) => {
                VerifyOutcome::Held
            }
            Ok(LockItem::Held { .. }) => VerifyOutcome::Lost(LossReason::TakenOver),
        }))
    }

    fn handle_failure(&mut self, how: FlightError, _now: Now) -> Action<VerifyOutcome> {
        Action::Fail {
            unknown: how == FlightError::NoReply,
        }
    }
}
