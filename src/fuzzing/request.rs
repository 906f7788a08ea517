//! The request decoder against any bytes.

use super::input::{cuts, hash};
use super::reply::WIDE;
use crate::wire::{ErrorReply, Flags, Limits, Mode, Request, RequestDecoder};
use alloc::vec::Vec;
use bytes::BytesMut;

const TIGHT: Limits = Limits {
    line: 200,
    value: 40,
};

/// The longest value that a line can announce, and its line end.
const LONGEST_SKIP: usize = i32::MAX as usize;

#[derive(Debug, Clone, Copy, PartialEq)]
enum DecodedRequest<'a> {
    Request(Request<'a>),
    Refused {
        reply: Option<ErrorReply<'static>>,
        oversized: Option<Request<'a>>,
    },
    /// The place at which a connection is closed depends on how much has arrived; the fact that it
    /// is closed does not.
    Closed,
}

/// Never panics, never claims more than it was given or announced, says the same however the
/// bytes arrive, never waits for more than its limits allow; and a request that was read is
/// written as one request that reads the same.
pub fn request(data: &[u8]) {
    for limits in [TIGHT, Limits::SERVER] {
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
        for (_, decoded) in &whole {
            match decoded {
                DecodedRequest::Request(request) => reads_as_written(request),
                DecodedRequest::Refused {
                    oversized: Some(request),
                    ..
                } => reads_as_written(request),
                _ => {}
            }
        }
    }
}

/// Everything in a stream that is known up to each of these ends in turn, with where it ends.
fn decode_all(
    data: &[u8],
    limits: Limits,
    ends: impl IntoIterator<Item = usize>,
) -> Vec<(usize, DecodedRequest<'_>)> {
    let mut decoder = RequestDecoder::new(limits);
    let (mut at, mut found) = (0, Vec::new());
    for end in ends {
        while at < end {
            let buffer = &data[at..end];
            // Only looked for when there is something to judge: an input may arrive byte by byte.
            let line = || {
                1 + buffer
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .expect("a line end")
            };
            match decoder.decode(buffer) {
                Ok(None) => {
                    // The lines of `get` and `gets` may be longer than any input here.
                    let most = limits.line + limits.value + 2;
                    let may = buffer.len() < most || buffer.starts_with(b"get");
                    assert!(may, "it waits for more than {most} bytes");
                    break;
                }
                Ok(Some((request, length))) => {
                    let line = line();
                    assert!(line <= length && length <= buffer.len(), "{length} bytes");
                    at += length;
                    found.push((at, DecodedRequest::Request(request)));
                }
                Err(refusal) if refusal.close => {
                    assert!(refusal.skip >= 1, "it cannot go on from where it is");
                    assert_eq!(refusal.reply, None, "the server closes without a word");
                    found.push((0, DecodedRequest::Closed));
                    return found;
                }
                Err(refusal) => {
                    let line = line();
                    assert!(line <= refusal.skip, "a line that is refused goes");
                    assert!(
                        refusal.skip <= line + LONGEST_SKIP,
                        "{} bytes",
                        refusal.skip
                    );
                    at = at.saturating_add(refusal.skip);
                    let decoded = DecodedRequest::Refused {
                        reply: refusal.reply,
                        oversized: refusal.oversized,
                    };
                    found.push((at, decoded));
                }
            }
        }
    }
    found
}

pub(super) fn reads_as_written(request: &Request<'_>) {
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes);
    let again = RequestDecoder::new(WIDE).decode(&bytes);
    assert_eq!(
        again,
        Ok(Some((*request, bytes.len()))),
        "written as {}",
        bytes.escape_ascii()
    );
    // Two lists of flags are equal if the flags in them are; a mode is decided by the letter in the
    // line alone, not by anything after it. `mg` and `md` do not look at it. Two modes of `ma` have
    // two letters each.
    let mode = |flags: Flags<'_>| {
        let letter = flags.mode_letter()?;
        Some(Mode::from_letter(letter).ok_or(letter))
    };
    if let (Some(before), Ok(Some((again, _)))) = (flags(request), again) {
        assert_eq!(
            flags(&again).and_then(mode),
            mode(before),
            "written as {}",
            bytes.escape_ascii()
        );
    }
}

fn flags<'a>(request: &Request<'a>) -> Option<Flags<'a>> {
    match *request {
        Request::MetaSet { flags, .. } | Request::MetaArithmetic { flags, .. } => Some(flags),
        _ => None,
    }
}
