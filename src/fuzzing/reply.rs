//! The reply decoder against any bytes.

use super::input::{cuts, hash};
use crate::wire::{DecodeError, Limits, Reply, ReplyDecoder};
use alloc::vec::Vec;
use bytes::BytesMut;

/// Small, so that both limits are met often.
pub(super) const TIGHT: Limits = Limits {
    line: 100,
    value: 40,
};

/// For what has passed the limits already.
pub(super) const WIDE: Limits = Limits {
    line: usize::MAX,
    value: usize::MAX - 2,
};

/// The replies in a stream, each with where it ends, and what the stream ends with.
pub(super) type DecodedReplies<'a> = (Vec<(usize, Reply<'a>)>, Option<DecodeError>);

/// Never panics, never claims more than it was given, says the same however the bytes arrive,
/// stays with an error, never waits for more than its limits allow; and what was read is written
/// in a way that reads the same.
pub fn reply(data: &[u8]) {
    for limits in [TIGHT, Limits::LOCK] {
        let whole = decode_all(data, limits, [data.len()]);
        assert_eq!(
            decode_all(data, limits, 1..=data.len()),
            whole,
            "byte by byte"
        );
        let cuts = cuts(data.len(), 4, hash(data));
        assert_eq!(
            decode_all(data, limits, cuts.iter().copied()),
            whole,
            "cut at {cuts:?}"
        );
        for (_, reply) in &whole.0 {
            reads_as_written(reply);
        }
    }
}

/// Everything in a stream that is known up to each of these ends in turn.
pub(super) fn decode_all(
    data: &[u8],
    limits: Limits,
    ends: impl IntoIterator<Item = usize>,
) -> DecodedReplies<'_> {
    let mut decoder = ReplyDecoder::new(limits);
    let (mut at, mut found) = (0, Vec::new());
    for end in ends {
        while at < end {
            match decoder.decode(&data[at..end]) {
                Ok(None) => {
                    let most = limits.line + limits.value + 2;
                    assert!(end - at < most, "it waits for more than {most} bytes");
                    break;
                }
                Ok(Some((reply, length))) => {
                    assert!(
                        0 < length && length <= end - at,
                        "{length} bytes of {}",
                        end - at
                    );
                    at += length;
                    found.push((at, reply));
                }
                Err(error) => {
                    for longer in [end, data.len()] {
                        let again = decoder.decode(&data[at..longer]);
                        assert_eq!(again, Err(error), "an error that went away");
                    }
                    return (found, Some(error));
                }
            }
        }
    }
    (found, None)
}

pub(super) fn reads_as_written(reply: &Reply<'_>) {
    let mut bytes = BytesMut::new();
    reply.encode(&mut bytes);
    assert_eq!(
        ReplyDecoder::new(WIDE).decode(&bytes),
        Ok(Some((*reply, bytes.len()))),
        "written as {}",
        bytes.escape_ascii()
    );
}
