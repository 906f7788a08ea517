//! The identity of a holder, as the lock item shows it.

use super::escape::nibble;
use super::record::{Nonce, is_ours, record_fingerprint};
use core::fmt;

/// The identity that shows that the item of a lock is ours, whatever was heard of the requests that
/// made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnerId {
    /// The nonce at the start of the record.
    Nonce(Nonce),
    /// The CAS unique of an item without a record.
    Cas(CasOwner),
}

impl OwnerId {
    /// Returns `true` if an item with this value and this CAS unique is ours.
    #[must_use]
    pub fn matches(self, value: &[u8], cas: u64) -> bool {
        match self {
            Self::Nonce(nonce) => is_ours(value, nonce),
            Self::Cas(token) => token.matches(cas),
        }
    }

    pub(super) const fn is_cas(self) -> bool {
        matches!(self, Self::Cas(_))
    }
}

/// A number that stays the same for as long as the same holder has the lock, however often it is
/// renewed.
pub(super) fn holder_fingerprint(value: &[u8], cas: u64) -> u64 {
    match record_fingerprint(value) {
        Some(mark) => mark,
        None if cas >= TOP => cas & !COUNT,
        None => cas,
    }
}

/// The bits of a token that count the CAS uniques that its holder gives the item: 20.
///
/// When the count comes round, a renewal that is carried out so late names the right CAS unique
/// again, and sets the expiry back. A million renewals take eight days with the shortest lease of a
/// lock without a record, and most of a minute where a program does nothing but renew. The 43 random bits that
/// are left make one in 9 · 10¹² attempts at a lock that is held take it for its own.
const COUNT: u64 = (1 << 20) - 1;

/// No server counts so far, so that no CAS unique of its own making is a token.
const TOP: u64 = 1 << 63;

/// A CAS unique that a holder without a record chooses: 43 random bits that stay, and 20 that count.
///
/// Every request that changes the item gives it the next one. Had it the same one all the time, a
/// renewal that is carried out late, behind a later one, would set the expiry back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CasOwner(u64);

/// The first CAS unique, as parts write it.
impl fmt::LowerHex for CasOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Hidden: any client that knows the token can pass for the holder.
impl fmt::Debug for CasOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeanToken(..)")
    }
}

/// A CAS unique in `Debug`: hidden where it is of a holder's making, because it has the token in it.
pub(super) struct RedactedCas(pub(super) u64);

impl fmt::Debug for RedactedCas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CasOwner::from_cas(self.0) {
            Some(token) => token.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

impl CasOwner {
    /// A token from a nonce that no other client has.
    #[must_use]
    pub const fn new(nonce: Nonce) -> Self {
        Self((nonce.mixed() | TOP) & !COUNT)
    }

    /// The token that this CAS unique is of, if it is none of a server's own making.
    pub(super) const fn from_cas(cas: u64) -> Option<Self> {
        if cas >= TOP {
            Some(Self(cas & !COUNT))
        } else {
            None
        }
    }

    /// The first CAS unique.
    pub(super) const fn first(self) -> u64 {
        self.0
    }

    /// A token from the 16 hex digits of its first CAS unique.
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        let digits: &[u8; 16] = word.try_into().ok()?;
        let mut bits = 0;
        for digit in digits {
            bits = bits << 4 | u64::from(nibble(*digit)?);
        }
        (bits >= TOP && bits & COUNT == 0).then_some(Self(bits))
    }

    /// The CAS unique that follows this one.
    pub(super) const fn after(self, cas: u64) -> u64 {
        self.0 | cas.wrapping_add(1) & COUNT
    }

    /// Returns `true` if this CAS unique is one of those.
    #[must_use]
    pub const fn matches(self, cas: u64) -> bool {
        cas & !COUNT == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn owner_tokens_differ_from_server_uniques() {
        let mut firsts = BTreeSet::new();
        for number in 0..1000u128 {
            let nonce = (0xfeed_u128 << 96) + (number << 32);
            let token = CasOwner::new(Nonce::from_random(nonce.to_be_bytes()));
            assert!(token.first() >= TOP);
            assert!(!token.matches(token.first() & !TOP));
            assert!(firsts.insert(token.first()));
            for other in &firsts {
                assert_eq!(token.matches(*other), *other == token.first());
            }
        }
    }

    #[test]
    fn token_counter_keeps_owner_bits() {
        let token = CasOwner::new(Nonce::from_random([7; 16]));
        let mut cas = token.first();
        for number in 0..=COUNT {
            assert!(token.matches(cas) && cas == token.first() + number);
            assert_eq!(CasOwner::from_cas(cas), Some(token));
            cas = token.after(cas);
        }
        assert_eq!(cas, token.first());
        assert_eq!(CasOwner::from_cas(TOP - 1), None);
    }

    #[test]
    fn renewals_keep_the_owner() {
        let record = |number: u8| {
            let mut record = Vec::from(b"m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f00 200 17 1 host -");
            record[34] = b'0' + number;
            record
        };
        let marks: BTreeSet<u64> = (0..10)
            .map(|number| holder_fingerprint(&record(number), 5))
            .collect();
        assert_eq!(marks.len(), 10);
        assert_eq!(
            holder_fingerprint(&record(1), 5),
            holder_fingerprint(&record(1), 6)
        );
        let token = CasOwner::new(Nonce::from_random([7; 16]));
        let renewed = token.after(token.first());
        assert_eq!(
            holder_fingerprint(b"", token.first()),
            holder_fingerprint(b"", renewed)
        );
        assert_ne!(holder_fingerprint(b"", 5), holder_fingerprint(b"", 6));
    }

    #[test]
    fn record_and_token_never_match() {
        let nonce = Nonce::from_random([7; 16]);
        let token = CasOwner::new(nonce);
        assert!(OwnerId::Cas(token).matches(b"", token.first()));
        assert!(!OwnerId::Nonce(nonce).matches(b"", token.first()));
        assert!(!OwnerId::Cas(token).matches(b"m1 0707", 7));
    }
}
