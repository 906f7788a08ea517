//! The record of a holder in the same process that hands the lock on.

use super::grant::Grant;
use super::incarnation::Incarnation;
use super::loss::LossReason;
use super::proof::Proof;

/// What was handed on, and what became of it.
#[derive(Debug, Clone, Default)]
pub(super) enum Legacy {
    /// Nothing was.
    #[default]
    None,
    /// The record of the one before, as far as is known.
    Open {
        incarnation: Incarnation,
        proof: Proof,
    },
    /// It is clear whether it was still that holder's.
    Settled(Result<(), LossReason>),
}

impl Legacy {
    pub(super) const fn of(grant: &Grant) -> Self {
        Self::Open {
            incarnation: grant.incarnation,
            proof: grant.proof,
        }
    }

    /// Whether an item is what was handed on. Where it is, the server has not forgotten it.
    pub(super) fn is(&self, value: &[u8], cas: u64) -> bool {
        matches!(self, Self::Open { proof, .. } if proof.is_of(value, cas))
    }

    /// The record was replaced, or something else was found in its place.
    pub(super) fn settle(&mut self, on: Incarnation, how: Result<(), LossReason>) {
        if let Self::Open { incarnation, .. } = self {
            *self = Self::Settled(match incarnation.is_like(&on) {
                true => how,
                false => Err(LossReason::ServerRestarted),
            });
        }
    }

    /// What became of it, once.
    pub(super) fn take_settled(&mut self) -> Option<Result<(), LossReason>> {
        match core::mem::take(self) {
            Self::Settled(how) => Some(how),
            other => {
                *self = other;
                None
            }
        }
    }
}
