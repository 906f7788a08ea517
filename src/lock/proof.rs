//! What shows that the item of a lock is ours.

use super::record::{Nonce, is_ours, mark_of_record, nibble};
use core::fmt;

/// What shows that the item of a lock is ours, whatever was heard of the requests that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The nonce at the start of the record.
    Nonce(Nonce),
    /// The CAS unique of an item without a record.
    Token(LeanToken),
}

impl Proof {
    /// Whether an item with this value and this CAS unique is ours.
    #[must_use]
    pub fn is_of(self, value: &[u8], cas: u64) -> bool {
        match self {
            Self::Nonce(nonce) => is_ours(value, nonce),
            Self::Token(token) => token.is_of(cas),
        }
    }

    pub(super) const fn is_token(self) -> bool {
        matches!(self, Self::Token(_))
    }
}

/// A number that stays the same for as long as the same holder has the lock, however often it is
/// renewed.
pub(super) fn mark_of(value: &[u8], cas: u64) -> u64 {
    match mark_of_record(value) {
        Some(mark) => mark,
        None if cas >= TOP => cas & !COUNT,
        None => cas,
    }
}

/// The bits of a token that count the CAS uniques that its holder gives the item: 20.
///
/// When the count comes round, a renewal that is carried out so late names the right CAS unique
/// again, and sets the expiry back. A million renewals take eight days with the shortest lease of a
/// lean lock, and most of a minute where a program does nothing but renew. The 43 random bits that
/// are left make one in 9 · 10¹² attempts at a lock that is held take it for its own.
const COUNT: u64 = (1 << 20) - 1;

/// No server counts so far, so that no CAS unique of its own making is a token.
const TOP: u64 = 1 << 63;

/// A CAS unique that a holder without a record chooses: 43 random bits that stay, and 20 that count.
///
/// Every request that changes the item gives it the next one. Had it the same one all the time, a
/// renewal that is carried out late, behind a later one, would set the expiry back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeanToken(u64);

/// The first CAS unique, as parts write it.
impl fmt::LowerHex for LeanToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Hidden: whoever knows the token can pass for the holder.
impl fmt::Debug for LeanToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeanToken(..)")
    }
}

/// A CAS unique in `Debug`: hidden where it is of a holder's making, because it has the token in it.
pub(super) struct ShownCas(pub(super) u64);

impl fmt::Debug for ShownCas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match LeanToken::of(self.0) {
            Some(token) => token.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

impl LeanToken {
    /// A token from a nonce that nobody else has.
    #[must_use]
    pub const fn new(nonce: Nonce) -> Self {
        Self((nonce.mixed() | TOP) & !COUNT)
    }

    /// The token that this CAS unique is of, if it is none of a server's own making.
    pub(super) const fn of(cas: u64) -> Option<Self> {
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

    /// Whether this CAS unique is one of those.
    #[must_use]
    pub const fn is_of(self, cas: u64) -> bool {
        cas & !COUNT == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn tokens_are_told_apart_and_from_those_of_servers() {
        let mut firsts = BTreeSet::new();
        for number in 0..1000u128 {
            let nonce = (0xfeed_u128 << 96) + (number << 32);
            let token = LeanToken::new(Nonce::from_random(nonce.to_be_bytes()));
            assert!(token.first() >= TOP);
            assert!(!token.is_of(token.first() & !TOP));
            assert!(firsts.insert(token.first()));
            for other in &firsts {
                assert_eq!(token.is_of(*other), *other == token.first());
            }
        }
    }

    #[test]
    fn a_token_counts_and_stays_what_it_is() {
        let token = LeanToken::new(Nonce::from_random([7; 16]));
        let mut cas = token.first();
        for number in 0..=COUNT {
            assert!(token.is_of(cas) && cas == token.first() + number);
            assert_eq!(LeanToken::of(cas), Some(token));
            cas = token.after(cas);
        }
        assert_eq!(cas, token.first());
        assert_eq!(LeanToken::of(TOP - 1), None);
    }

    #[test]
    fn a_holder_is_told_from_others_whatever_its_renewals_do() {
        let record = |number: u8| {
            let mut record = Vec::from(b"m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f00 200 17 1 host -");
            record[34] = b'0' + number;
            record
        };
        let marks: BTreeSet<u64> = (0..10).map(|number| mark_of(&record(number), 5)).collect();
        assert_eq!(marks.len(), 10);
        assert_eq!(mark_of(&record(1), 5), mark_of(&record(1), 6));
        let token = LeanToken::new(Nonce::from_random([7; 16]));
        let renewed = token.after(token.first());
        assert_eq!(mark_of(b"", token.first()), mark_of(b"", renewed));
        assert_ne!(mark_of(b"", 5), mark_of(b"", 6));
    }

    #[test]
    fn a_record_is_no_proof_for_a_token_nor_a_token_for_a_record() {
        let nonce = Nonce::from_random([7; 16]);
        let token = LeanToken::new(nonce);
        assert!(Proof::Token(token).is_of(b"", token.first()));
        assert!(!Proof::Nonce(nonce).is_of(b"", token.first()));
        assert!(!Proof::Token(token).is_of(b"m1 0707", 7));
    }
}
