//! The identity of an observed session of a lock.

use super::owner_id::{CasOwner, OwnerId};
use super::record::{Nonce, nonce_of};
use super::server_instance::ServerInstance;

/// One session of a lock, from its acquisition to its end, as other clients can distinguish it from
/// the next.
///
/// A renewal does not change it: the record keeps its nonce, and a lock without a record the random
/// bits of its CAS unique. A foreign item has nothing but its CAS unique, which belongs to one
/// server instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(SessionKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SessionKind {
    Known(OwnerId),
    Foreign { cas: u64, instance: ServerInstance },
}

impl SessionId {
    /// The identity of an item with this value and this CAS unique, on this server instance.
    #[must_use]
    pub(super) fn of(value: &[u8], cas: u64, instance: ServerInstance) -> Self {
        let proof = match (nonce_of(value), CasOwner::from_cas(cas)) {
            (Some(nonce), _) => Some(OwnerId::Nonce(nonce)),
            (None, Some(token)) if value.is_empty() => Some(OwnerId::Cas(token)),
            (None, _) => None,
        };
        Self(match proof {
            Some(proof) => SessionKind::Known(proof),
            None => SessionKind::Foreign { cas, instance },
        })
    }

    /// That of a record with this nonce.
    #[must_use]
    pub const fn from_nonce(nonce: Nonce) -> Self {
        Self(SessionKind::Known(OwnerId::Nonce(nonce)))
    }

    /// That of a lock that is shown by this proof.
    #[must_use]
    pub const fn from_owner_id(proof: OwnerId) -> Self {
        Self(SessionKind::Known(proof))
    }

    /// Returns `true` if an item belongs to this holding.
    #[must_use]
    pub(super) fn matches(&self, value: &[u8], cas: u64, instance: ServerInstance) -> bool {
        match self.0 {
            SessionKind::Known(proof) => {
                proof.matches(value, cas) && (!proof.is_cas() || value.is_empty())
            }
            SessionKind::Foreign {
                cas: seen,
                instance: then,
            } => cas == seen && instance == then && nonce_of(value).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::InstanceWord;

    const RUN: ServerInstance = ServerInstance {
        pid: 7,
        started: 1000,
        word: InstanceWord::from_bits(1),
    };
    const LATER: ServerInstance = ServerInstance {
        pid: 7,
        started: 1000,
        word: InstanceWord::from_bits(2),
    };
    const RECORD: &[u8] = b"m1 0123456789abcdef0011223344556677 10000 5 4711 h -";
    const OTHER: &[u8] = b"m1 0123456789abcdef0011223344556678 10000 5 4711 h -";

    #[test]
    fn nonce_identifies_record_despite_cas_unique() {
        let seen = SessionId::of(RECORD, 5, RUN);
        assert!(seen.matches(RECORD, 6, RUN) && seen.matches(RECORD, 5, LATER));
        assert!(!seen.matches(OTHER, 5, RUN) && !seen.matches(b"", 5, RUN));
        let nonce = nonce_of(RECORD).expect("a record");
        assert_eq!(SessionId::from_nonce(nonce), seen);
    }

    #[test]
    fn stable_bits_identify_recordless_lock() {
        let token = |number: u128| CasOwner::new(Nonce::from_random(number.to_be_bytes()));
        let (token, other) = (token(7), token(8));
        let seen = SessionId::of(b"", token.first(), RUN);
        assert!(seen.matches(b"", token.after(token.first()), RUN));
        assert!(!seen.matches(b"", other.first(), RUN));
        // Not even if another client's value has such a CAS unique.
        assert!(!seen.matches(b"x", token.first(), RUN));
    }

    #[test]
    fn cas_unique_identifies_foreign_item() {
        for value in [&b"x"[..], b""] {
            let seen = SessionId::of(value, 5, RUN);
            assert!(seen.matches(value, 5, RUN));
            assert!(!seen.matches(value, 6, RUN) && !seen.matches(value, 5, LATER));
            assert!(!seen.matches(RECORD, 5, RUN));
        }
    }
}
