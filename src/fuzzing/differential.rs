//! Two readers of replies against each other.

use super::reference_codec::{self, plain};
use super::reply::{TIGHT, decode_all};
use crate::wire::Limits;
use alloc::vec::Vec;

/// The decoder and the naive reader find the same replies in the same places, and where one
/// refuses to go on, so does the other, for the same reason.
pub fn differential(data: &[u8]) {
    for limits in [TIGHT, Limits::LOCK] {
        let (found, end) = decode_all(data, limits, [data.len()]);
        let found: Vec<_> = found
            .iter()
            .map(|(at, reply)| (*at, plain(reply)))
            .collect();
        assert_eq!(
            (found, end),
            reference_codec::decode_all(data, limits),
            "the decoder on the left, the naive reader on the right"
        );
    }
}
