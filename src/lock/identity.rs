//! Which holding of a lock it is that somebody has seen.

use super::incarnation::Incarnation;
use super::proof::{LeanToken, Proof};
use super::record::{Nonce, nonce_of};

/// One holding of a lock, from its acquisition to its end, as others can tell it from the next.
///
/// A renewal does not change it: the record keeps its nonce, and a lock without a record the
/// random bits of its CAS unique. An item that is none of ours has nothing but its CAS unique,
/// which is of one run of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Ours(Proof),
    Foreign { cas: u64, incarnation: Incarnation },
}

impl Identity {
    /// That of an item with this value and this CAS unique, on this run of the server.
    #[must_use]
    pub(super) fn of(value: &[u8], cas: u64, incarnation: Incarnation) -> Self {
        let proof = match (nonce_of(value), LeanToken::of(cas)) {
            (Some(nonce), _) => Some(Proof::Nonce(nonce)),
            (None, Some(token)) if value.is_empty() => Some(Proof::Token(token)),
            (None, _) => None,
        };
        Self(match proof {
            Some(proof) => Kind::Ours(proof),
            None => Kind::Foreign { cas, incarnation },
        })
    }

    /// That of a record with this nonce.
    #[must_use]
    pub const fn of_nonce(nonce: Nonce) -> Self {
        Self(Kind::Ours(Proof::Nonce(nonce)))
    }

    /// That of a lock that is shown by this proof.
    #[must_use]
    pub const fn of_proof(proof: Proof) -> Self {
        Self(Kind::Ours(proof))
    }

    /// Whether an item belongs to this holding.
    #[must_use]
    pub(super) fn is_of(&self, value: &[u8], cas: u64, incarnation: Incarnation) -> bool {
        match self.0 {
            Kind::Ours(proof) => proof.is_of(value, cas) && (!proof.is_token() || value.is_empty()),
            Kind::Foreign {
                cas: seen,
                incarnation: then,
            } => cas == seen && incarnation == then && nonce_of(value).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Instance;

    const RUN: Incarnation = Incarnation {
        pid: 7,
        started: 1000,
        instance: Instance::from_bits(1),
    };
    const LATER: Incarnation = Incarnation {
        pid: 7,
        started: 1000,
        instance: Instance::from_bits(2),
    };
    const RECORD: &[u8] = b"m1 0123456789abcdef0011223344556677 10000 5 4711 h -";
    const OTHER: &[u8] = b"m1 0123456789abcdef0011223344556678 10000 5 4711 h -";

    #[test]
    fn a_record_is_told_by_its_nonce_whatever_its_cas_unique() {
        let seen = Identity::of(RECORD, 5, RUN);
        assert!(seen.is_of(RECORD, 6, RUN) && seen.is_of(RECORD, 5, LATER));
        assert!(!seen.is_of(OTHER, 5, RUN) && !seen.is_of(b"", 5, RUN));
        let nonce = nonce_of(RECORD).expect("a record");
        assert_eq!(Identity::of_nonce(nonce), seen);
    }

    #[test]
    fn a_lock_without_a_record_is_told_by_the_bits_that_stay() {
        let token = |number: u128| LeanToken::new(Nonce::from_random(number.to_be_bytes()));
        let (token, other) = (token(7), token(8));
        let seen = Identity::of(b"", token.first(), RUN);
        assert!(seen.is_of(b"", token.after(token.first()), RUN));
        assert!(!seen.is_of(b"", other.first(), RUN));
        // Not even where somebody else's value has such a CAS unique.
        assert!(!seen.is_of(b"x", token.first(), RUN));
    }

    #[test]
    fn what_is_none_of_ours_is_told_by_the_cas_unique_on_the_same_run_of_the_server() {
        for value in [&b"x"[..], b""] {
            let seen = Identity::of(value, 5, RUN);
            assert!(seen.is_of(value, 5, RUN));
            assert!(!seen.is_of(value, 6, RUN) && !seen.is_of(value, 5, LATER));
            assert!(!seen.is_of(RECORD, 5, RUN));
        }
    }
}
