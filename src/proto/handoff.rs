//! The record of a holder in the same process that hands the lock on.

use super::grant::Grant;
use super::loss::LossReason;
use super::owner_id::OwnerId;
use super::server_instance::ServerInstance;

/// A lock that was handed off, and the outcome for its record.
#[derive(Debug, Clone, Default)]
pub(super) enum Handoff {
    /// Nothing was.
    #[default]
    None,
    /// The record of the one before, as far as is known.
    Pending {
        instance: ServerInstance,
        proof: OwnerId,
    },
    /// It is clear whether it was still that holder's.
    Resolved(Result<(), LossReason>),
}

impl Handoff {
    pub(super) const fn pending(grant: &Grant) -> Self {
        Self::Pending {
            instance: grant.instance,
            proof: grant.owner_id,
        }
    }

    /// Returns `true` if an item is the record that was handed off. Where it is, the server has not forgotten
    /// it.
    pub(super) fn replaces(&self, value: &[u8], cas: u64) -> bool {
        matches!(self, Self::Pending { proof, .. } if proof.matches(value, cas))
    }

    /// The record was replaced, or something else was found in its place.
    pub(super) fn resolve(&mut self, on: ServerInstance, how: Result<(), LossReason>) {
        if let Self::Pending { instance, .. } = self {
            *self = Self::Resolved(if instance.is_same_process(&on) {
                how
            } else {
                Err(LossReason::ServerRestarted)
            });
        }
    }

    /// Takes the outcome, once.
    pub(super) fn take_result(&mut self) -> Option<Result<(), LossReason>> {
        match core::mem::take(self) {
            Self::Resolved(how) => Some(how),
            other => {
                *self = other;
                None
            }
        }
    }
}
