//! Finds where one reply ends and the next begins.
//!
//! "Not all here yet" lives in this file alone: everything after it sees whole lines and whole
//! values, so short input can never be confused with bad input.

use super::error::DecodeError;
use super::limits::Limits;
use super::line_scan::{LineScanner, split_line};
use super::reply::{MetaStatus, Reply};
use super::reply_line::{ReplyLine, value_length};
use super::request::ReplyCount;

/// Finds replies in a growing buffer and remembers how far it has looked.
#[derive(Debug, Clone)]
pub struct ReplyDecoder {
    limits: Limits,
    lines: LineScanner,
    /// Once the head of a value has been read: how long head and value are together.
    needed: Option<usize>,
}

impl ReplyDecoder {
    /// A decoder for the start of a buffer.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: LineScanner::new(),
            needed: None,
        }
    }

    /// The reply at the start of `buffer` and its length in bytes, or `None` while it is
    /// incomplete. The caller passes the same bytes again with more after them, or, after a
    /// reply, what follows it.
    ///
    /// # Errors
    /// See [`DecodeError`]; the stream cannot be used any further.
    pub fn decode<'a>(
        &mut self,
        buffer: &'a [u8],
    ) -> Result<Option<(Reply<'a>, usize)>, DecodeError> {
        let Some((line, start)) = self.line(buffer)? else {
            return Ok(None);
        };
        match ReplyLine::parse(line)? {
            ReplyLine::Whole(reply) => {
                self.lines.forget();
                Ok(Some((reply, start)))
            }
            ReplyLine::Head { head, length } => {
                let value = self.value(buffer, start, length)?;
                Ok(value.map(|(data, total)| (head.with_data(data), total)))
            }
        }
    }

    /// The same for callers that need only the end of the reply. Flags of a meta reply are not
    /// checked.
    fn skip(&mut self, buffer: &[u8]) -> Result<Option<(Position, usize)>, DecodeError> {
        let Some((line, start)) = self.line(buffer)? else {
            return Ok(None);
        };
        let (place, length) = match MetaStatus::split(line) {
            Some((MetaStatus::Value, rest)) => {
                let (length, _) = value_length(rest).ok_or(DecodeError::MalformedReply)?;
                (Position::Last, length)
            }
            Some(_) => {
                self.lines.forget();
                return Ok(Some((Position::Last, start)));
            }
            None => match ReplyLine::other(line)? {
                ReplyLine::Head { length, .. } => (Position::Within, length),
                ReplyLine::Whole(reply) => {
                    self.lines.forget();
                    let place = match reply {
                        Reply::Stat { .. } => Position::Within,
                        Reply::Noop => Position::Noop,
                        Reply::Error(error)
                            if error.is_unauthenticated() || error.is_too_many_connections() =>
                        {
                            // It replaces all replies: no caller may wait for others.
                            return Err(DecodeError::UnexpectedReply);
                        }
                        _ => Position::Last,
                    };
                    return Ok(Some((place, start)));
                }
            },
        };
        let value = self.value(buffer, start, length)?;
        Ok(value.map(|(_, total)| (place, total)))
    }

    /// The line at the start of `buffer`, and where what follows it starts.
    #[inline(always)]
    fn line<'a>(&mut self, buffer: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
        if self.needed.is_some_and(|needed| buffer.len() < needed) {
            return Ok(None);
        }
        if buffer.first().is_some_and(|byte| is_binary(*byte)) {
            return Err(DecodeError::UnknownReply);
        }
        let end = self.lines.end(buffer, self.limits.line)?;
        Ok(end.map(|end| {
            let line = &buffer[..end];
            (line.strip_suffix(b"\r").unwrap_or(line), end + 1)
        }))
    }

    /// The value of `length` bytes at `start`, and where what follows it starts.
    #[inline(always)]
    fn value<'a>(
        &mut self,
        buffer: &'a [u8],
        start: usize,
        length: usize,
    ) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
        if length > self.limits.value {
            return Err(DecodeError::ValueTooLong);
        }
        let total = start + length + 2;
        let Some(block) = buffer.get(start..total) else {
            self.needed = Some(total);
            return Ok(None);
        };
        let data = block
            .strip_suffix(b"\r\n")
            .ok_or(DecodeError::UnterminatedValue)?;
        self.lines.forget();
        self.needed = None;
        Ok(Some((data, total)))
    }
}

/// The position of a reply among the replies to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// `VALUE` or `STAT`: more of the same request follow.
    Within,
    /// `MN`.
    Noop,
    /// It stands alone, or is the last one of its request.
    Last,
}

/// Returns `true` if a reply that starts with this byte is one of the binary protocol, which does
/// not end in a line end that could be waited for. 0x81 is what a server sends, 0x80 what a client
/// does.
const fn is_binary(byte: u8) -> bool {
    matches!(byte, 0x80 | 0x81)
}

/// Finds out when all replies to a flight are there.
#[derive(Debug, Clone)]
pub struct FlightDecoder {
    decoder: ReplyDecoder,
    /// Replies of the flight that are complete. 0 <= `answered` <= number of shapes.
    answered: usize,
    /// Bytes of the buffer that belong to complete replies. 0 <= `consumed` <= buffer.
    consumed: usize,
}

impl FlightDecoder {
    /// A decoder for the replies to one flight.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            decoder: ReplyDecoder::new(limits),
            answered: 0,
            consumed: 0,
        }
    }

    /// The number of bytes at the start of `buffer` that hold all replies that `shapes` asks for,
    /// or `None` while some are missing. The caller passes the same bytes again with more after.
    ///
    /// Flags of meta replies are not looked at: what is wrong with them is found out by
    /// [`Replies`].
    ///
    /// A server that wants credentials first, or has no connection to spare, answers all requests
    /// with one error: that is a [`DecodeError::UnexpectedReply`] here.
    ///
    /// # Errors
    /// See [`DecodeError`]; the stream cannot be used any further.
    pub fn advance(
        &mut self,
        shapes: &[ReplyCount],
        buffer: &[u8],
    ) -> Result<Option<usize>, DecodeError> {
        while let Some(shape) = shapes.get(self.answered) {
            let Some((place, length)) = self.decoder.skip(&buffer[self.consumed..])? else {
                return Ok(None);
            };
            self.consumed += length;
            match (shape, place) {
                (ReplyCount::One, Position::Within) => return Err(DecodeError::UnexpectedReply),
                (ReplyCount::UntilEnd, Position::Within)
                | (ReplyCount::UntilNoop, Position::Within | Position::Last) => {}
                _ => self.answered += 1,
            }
        }
        Ok(Some(self.consumed))
    }
}

/// The replies to a flight, one after the other.
#[derive(Debug, Clone)]
pub struct Replies<'a> {
    rest: &'a [u8],
}

impl<'a> Replies<'a> {
    /// The replies in bytes that [`FlightDecoder::advance`] found complete.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next reply.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedReply`] when there is none: the request asked for has no answer.
    /// [`DecodeError::MalformedReply`] when a flag is none that a server sends. In either case the
    /// stream cannot be used any further.
    pub fn next_reply(&mut self) -> Result<Reply<'a>, DecodeError> {
        // They are complete and have passed the caller's limits already.
        let (line, behind) = split_line(self.rest).ok_or(DecodeError::UnexpectedReply)?;
        let (head, length) = match ReplyLine::parse(line)? {
            ReplyLine::Whole(reply) => {
                self.rest = behind;
                return Ok(reply);
            }
            ReplyLine::Head { head, length } => (head, length),
        };
        let (block, behind) = behind
            .split_at_checked(length.saturating_add(2))
            .ok_or(DecodeError::UnexpectedReply)?;
        let data = block
            .strip_suffix(b"\r\n")
            .ok_or(DecodeError::UnterminatedValue)?;
        self.rest = behind;
        Ok(head.with_data(data))
    }
}

#[cfg(test)]
mod tests {
    use super::super::error_reply::{AdminError, AdminErrorReason, ErrorReply, ErrorSource};
    use super::super::flag::Flag;
    use super::super::flags::Flags;
    use super::super::flight::Flight;
    use super::super::key::Key;
    use super::super::reply::{MetaReply, MetaStatus, Value};
    use super::super::reply_flag::{ReplyFlag, ReplyFlags};
    use super::super::request::{Keys, Request};
    use super::*;
    use alloc::vec::Vec;
    use bytes::BytesMut;

    const LIMITS: Limits = Limits {
        line: 64,
        value: 32,
    };

    fn samples() -> Vec<Reply<'static>> {
        const FLAGS: &[ReplyFlag<'static>] = &[
            ReplyFlag::Ttl(10),
            ReplyFlag::Cas(3),
            ReplyFlag::Stale,
            ReplyFlag::Won,
        ];
        let meta = |status, data| {
            Reply::Meta(MetaReply {
                status,
                flags: ReplyFlags::list(FLAGS),
                data,
            })
        };
        let error = |blame, text| {
            Reply::Error(ErrorReply {
                source: blame,
                text,
            })
        };
        Vec::from([
            Reply::Stored,
            Reply::NotStored,
            Reply::Exists,
            Reply::NotFound,
            Reply::Deleted,
            Reply::Touched,
            Reply::Ok,
            Reply::Reset,
            Reply::End,
            Reply::Number(u64::MAX),
            Reply::Value(Value {
                key: b"k",
                client_flags: 7,
                cas: None,
                data: b"a\r\nb",
            }),
            Reply::Value(Value {
                key: b"k",
                client_flags: 0,
                cas: Some(12),
                data: b"",
            }),
            Reply::Stat {
                name: b"pid",
                value: b"12 and more",
            },
            Reply::Stat {
                name: b"empty",
                value: b"",
            },
            Reply::Version(b"1.6.45"),
            meta(MetaStatus::Done, b""),
            meta(MetaStatus::Value, b"nonce"),
            meta(MetaStatus::Miss, b""),
            meta(MetaStatus::NotStored, b""),
            meta(MetaStatus::Exists, b""),
            meta(MetaStatus::NotFound, b""),
            Reply::Noop,
            Reply::Debug(b"k exp=-1"),
            Reply::Declined(AdminError {
                reason: AdminErrorReason::Busy,
                text: b"currently processing crawler request",
            }),
            Reply::Declined(AdminError {
                reason: AdminErrorReason::NoCertificates,
                text: b"",
            }),
            error(ErrorSource::Command, b""),
            error(ErrorSource::Command, b"Too many open connections"),
            error(ErrorSource::Command, b": shutdown not enabled"),
            error(ErrorSource::Client, b"bad data chunk"),
            error(ErrorSource::Server, b": shutdown not enabled"),
        ])
    }

    #[test]
    fn replies_round_trip_and_prefixes_wait() {
        for reply in samples() {
            let mut bytes = BytesMut::new();
            reply.encode(&mut bytes);
            let mut decoder = ReplyDecoder::new(LIMITS);
            for end in 0..bytes.len() {
                assert_eq!(
                    decoder.decode(&bytes[..end]),
                    Ok(None),
                    "{reply:?} at {end}"
                );
            }
            let length = bytes.len();
            assert_eq!(decoder.clone().decode(&bytes), Ok(Some((reply, length))));
            // The next reply may have come with the end of this one.
            bytes.extend_from_slice(b"MN\r\n");
            assert_eq!(decoder.decode(&bytes), Ok(Some((reply, length))));
            let next = decoder.decode(&bytes[length..]);
            assert_eq!(next, Ok(Some((Reply::Noop, 4))));
        }
    }

    #[test]
    fn split_value_equals_whole_value() {
        for bytes in [&b"VA 5 t1 c12\r\n\nabc\n\r\n"[..], b"VALUE k 0 2\r\nab\r\n"] {
            let whole = ReplyDecoder::new(LIMITS).decode(bytes);
            assert!(matches!(whole, Ok(Some((_, length))) if length == bytes.len()));
            for second in 0..bytes.len() {
                for first in 0..second {
                    let mut decoder = ReplyDecoder::new(LIMITS);
                    assert_eq!(decoder.decode(&bytes[..first]), Ok(None));
                    assert_eq!(decoder.decode(&bytes[..second]), Ok(None));
                    assert_eq!(decoder.decode(bytes), whole, "{first}, {second}");
                }
            }
        }
    }

    #[test]
    fn longest_value_is_accepted() {
        let bytes = b"VA 32 t1\r\n0123456789abcdef0123456789abcdef\r\n";
        let found = ReplyDecoder::new(LIMITS).decode(bytes);
        assert!(matches!(found, Ok(Some((_, length))) if length == bytes.len()));
        // Items of a server with default settings: 1 MiB, and no byte more.
        let mut decoder = ReplyDecoder::new(Limits::SERVER);
        assert_eq!(decoder.decode(b"VALUE k 0 1048576\r\n"), Ok(None));
        let mut decoder = ReplyDecoder::new(Limits::SERVER);
        assert_eq!(
            decoder.decode(b"VALUE k 0 1048577\r\n"),
            Err(DecodeError::ValueTooLong)
        );
    }

    #[test]
    fn overlong_line_or_value_is_cut() {
        let mut decoder = ReplyDecoder::new(LIMITS);
        assert_eq!(decoder.decode(&[b'x'; 63]), Ok(None));
        assert_eq!(decoder.decode(&[b'x'; 64]), Err(DecodeError::LineTooLong));
        let mut decoder = ReplyDecoder::new(LIMITS);
        assert_eq!(
            decoder.decode(b"VA 33 t1\r\n"),
            Err(DecodeError::ValueTooLong)
        );
        // The second one has a 2 in its lower 32 bits.
        for length in ["18446744073709551615", "4294967298"] {
            let reply = alloc::format!("VA {length} t1\r\nab\r\n");
            assert_eq!(
                ReplyDecoder::new(LIMITS).decode(reply.as_bytes()),
                Err(DecodeError::MalformedReply)
            );
        }
    }

    #[test]
    fn malformed_input_is_an_error() {
        for (bytes, error) in [
            (&b"VA 2\r\nabc\r\n"[..], DecodeError::UnterminatedValue),
            (b"HTTP/1.1 400 Bad Request\r\n", DecodeError::UnknownReply),
            (b"STORE\r\n", DecodeError::UnknownReply),
            (b"\r\n", DecodeError::UnknownReply),
            (b"STORED yes\r\n", DecodeError::MalformedReply),
            (b"HD c\r\n", DecodeError::MalformedReply),
            (b"HD ?\r\n", DecodeError::MalformedReply),
            (b"VALUE k 0\r\n", DecodeError::MalformedReply),
            (b"VALUE k 0 1 2 3\r\na\r\n", DecodeError::MalformedReply),
            (b"12a\r\n", DecodeError::UnknownReply),
            (b"BUSYX\r\n", DecodeError::UnknownReply),
            (b"error\r\n", DecodeError::UnknownReply),
            (b"VA\r\n", DecodeError::MalformedReply),
            (b"VA 1 h2\r\n", DecodeError::MalformedReply),
            (b"STAT\r\n", DecodeError::MalformedReply),
            // Binary answers have no line end that could be waited for.
            (b"\x81", DecodeError::UnknownReply),
            (b"\x80", DecodeError::UnknownReply),
        ] {
            assert_eq!(
                ReplyDecoder::new(LIMITS).decode(bytes),
                Err(error),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn flight_ends_with_its_last_reply() {
        let mut flight = Flight::new();
        assert!(flight.is_empty());
        flight.push(&Request::Version);
        assert!(!flight.is_empty());
        flight.push(&Request::Stats {
            group: Keys::list(&[]),
        });
        flight.push(&Request::MetaNoop);
        let bytes = b"VERSION 1.6.18\r\nSTAT pid 1\r\nSTAT time 2\r\nEND\r\nMN\r\nHD\r\n";
        let whole = bytes.len() - b"HD\r\n".len();
        let mut decoder = FlightDecoder::new(LIMITS);
        for end in 0..whole {
            assert_eq!(decoder.advance(flight.shapes(), &bytes[..end]), Ok(None));
        }
        assert_eq!(decoder.advance(flight.shapes(), bytes), Ok(Some(whole)));
        let mut replies = Replies::new(&bytes[..whole]);
        assert_eq!(replies.next_reply(), Ok(Reply::Version(b"1.6.18")));
        for _ in 0..3 {
            assert!(replies.next_reply().is_ok());
        }
        assert_eq!(replies.next_reply(), Ok(Reply::Noop));
        assert_eq!(replies.next_reply(), Err(DecodeError::UnexpectedReply));
    }

    #[test]
    fn quiet_requests_end_at_noop() {
        let flags = [Flag::Quiet, Flag::ReturnValue];
        let quiet = Request::MetaGet {
            key: Key::new(b"k").expect("a plain key"),
            flags: Flags::list(&flags),
        };
        let mut flight = Flight::new();
        flight.push(&Request::Version);
        flight.push(&quiet);
        assert!(!flight.is_answerable());
        flight.push(&Request::Version);
        flight.push(&Request::MetaNoop);
        flight.push(&Request::Version);
        assert!(flight.is_answerable());
        assert_eq!(
            flight.shapes(),
            [ReplyCount::One, ReplyCount::UntilNoop, ReplyCount::One]
        );
        let version = b"VERSION 1.6.45\r\n";
        for hit in [&b""[..], b"VA 1\r\nx\r\n"] {
            let bytes = [version, hit, version, b"MN\r\n", version].concat();
            let mut decoder = FlightDecoder::new(LIMITS);
            assert_eq!(
                decoder.advance(flight.shapes(), &bytes),
                Ok(Some(bytes.len()))
            );
        }
    }

    #[test]
    fn unrequested_value_is_an_error() {
        let mut decoder = FlightDecoder::new(LIMITS);
        assert_eq!(
            decoder.advance(&[ReplyCount::One], b"STAT pid 1\r\n"),
            Err(DecodeError::UnexpectedReply)
        );
    }

    #[test]
    fn one_error_may_answer_all_requests() {
        for line in [
            "CLIENT_ERROR unauthenticated\r\n",
            "ERROR Too many open connections\r\n",
        ] {
            for shapes in [
                &[ReplyCount::One][..],
                &[ReplyCount::One, ReplyCount::UntilEnd],
            ] {
                let mut decoder = FlightDecoder::new(LIMITS);
                assert_eq!(
                    decoder.advance(shapes, line.as_bytes()),
                    Err(DecodeError::UnexpectedReply)
                );
            }
            // If it is one of many lines, it is a line like others.
            let (reply, length) = ReplyDecoder::new(LIMITS)
                .decode(line.as_bytes())
                .expect("a reply")
                .expect("a whole one");
            assert!(matches!(reply, Reply::Error(_)));
            assert_eq!(length, line.len());
        }
        let mut decoder = FlightDecoder::new(LIMITS);
        let others = b"CLIENT_ERROR bad data chunk\r\n";
        assert_eq!(
            decoder.advance(&[ReplyCount::One, ReplyCount::One], others),
            Ok(None)
        );
    }
}
