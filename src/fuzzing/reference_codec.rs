//! A second reader of replies, written from the protocol's text and not from the first.
//!
//! Slow and plain: whole lines, lists of words, the standard library's numbers.

use crate::wire::{DecodeError, ErrorSource, Limits, MetaStatus, Reply, ReplyFlag};
use alloc::vec::Vec;

/// A reply as words: what it is, its fields in the order in which they stand, its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReferenceReply<'a> {
    kind: &'static str,
    fields: Vec<Field<'a>>,
    data: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field<'a> {
    Text(&'a [u8]),
    Number(i128),
    /// A flag whose argument, if there is one, means nothing.
    Mark(u8),
    NumberOf(u8, i128),
    TextOf(u8, &'a [u8]),
}

use Field::{Mark, Number, NumberOf, Text, TextOf};

/// The replies in a stream that are complete, with where each ends, and what the stream ends
/// with.
pub(super) type DecodedReplies<'a> = (Vec<(usize, ReferenceReply<'a>)>, Option<DecodeError>);

pub(super) fn decode_all(data: &[u8], limits: Limits) -> DecodedReplies<'_> {
    let (mut rest, mut found) = (data, Vec::new());
    loop {
        // The binary protocol has no lines to wait for.
        if matches!(rest.first(), Some(0x80 | 0x81)) {
            return (found, Some(DecodeError::UnknownReply));
        }
        let Some(end) = rest
            .iter()
            .take(limits.line)
            .position(|byte| *byte == b'\n')
        else {
            let too_long = rest.len() >= limits.line;
            return (found, too_long.then_some(DecodeError::LineTooLong));
        };
        let line = match &rest[..end] {
            [shorter @ .., b'\r'] => shorter,
            line => line,
        };
        let (mut plain, length) = match read(line) {
            Ok(read) => read,
            Err(error) => return (found, Some(error)),
        };
        rest = &rest[end + 1..];
        if let Some(length) = length {
            if length > limits.value {
                return (found, Some(DecodeError::ValueTooLong));
            }
            if rest.len() < length + 2 {
                return (found, None);
            }
            if &rest[length..length + 2] != b"\r\n" {
                return (found, Some(DecodeError::UnterminatedValue));
            }
            plain.data = &rest[..length];
            rest = &rest[length + 2..];
        }
        found.push((data.len() - rest.len(), plain));
    }
}

/// The words without an argument.
const BARE: &[&str] = &[
    "STORED",
    "NOT_STORED",
    "EXISTS",
    "NOT_FOUND",
    "DELETED",
    "TOUCHED",
    "OK",
    "RESET",
    "END",
    "MN",
];

/// The words that an explanation follows.
const DECLINED: &[&str] = &[
    "BUSY",
    "BADCLASS",
    "NOTSTARTED",
    "NOSPARE",
    "SAME",
    "MEMLIMIT_TOO_SMALL",
    "MEMLIMIT_ADJUST_FAILED",
    "WATCHER_TOO_MANY",
    "WATCHER_FAILED",
    "Error",
];

/// The words that flags follow.
const META: &[&str] = &["HD", "VA", "EN", "NS", "EX", "NF"];

/// A reply without its data, and how long that is when there is any.
fn read(line: &[u8]) -> Result<(ReferenceReply<'_>, Option<usize>), DecodeError> {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let first = parts.next().unwrap_or_default();
    let text = parts.next().unwrap_or_default();
    let words: Vec<&[u8]> = text
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    let named =
        |names: &[&'static str]| names.iter().copied().find(|name| name.as_bytes() == first);
    let whole = |kind, fields| {
        let data = &b""[..];
        Ok((ReferenceReply { kind, fields, data }, None))
    };
    let malformed = Err(DecodeError::MalformedReply);
    if let Some(kind) = named(BARE) {
        return if words.is_empty() {
            whole(kind, Vec::new())
        } else {
            malformed
        };
    }
    if let Some(kind) = named(DECLINED) {
        return whole(kind, Vec::from([Text(text)]));
    }
    if let Some(kind) = named(META) {
        let mut words = &words[..];
        let mut length = None;
        if kind == "VA" {
            let Some(number) = words.first().and_then(|word| unsigned(word, 32)) else {
                return malformed;
            };
            length = usize::try_from(number).ok();
            words = &words[1..];
        }
        let Some(fields) = words.iter().map(|word| flag(word)).collect() else {
            return malformed;
        };
        return Ok((
            ReferenceReply {
                kind,
                fields,
                data: b"",
            },
            length,
        ));
    }
    match first {
        b"VALUE" => {
            let numbers: Option<Vec<i128>> = words
                .iter()
                .skip(1)
                .zip([32, 32, 64, 0])
                .map(|(word, bits)| unsigned(word, bits))
                .collect();
            let (key, length, mut fields) = match (&words[..], numbers.as_deref()) {
                ([key, ..], Some([flags, length])) => (key, length, [Number(*flags)].into()),
                ([key, ..], Some([flags, length, cas])) => {
                    (key, length, Vec::from([Number(*flags), Number(*cas)]))
                }
                _ => return malformed,
            };
            fields.insert(0, Text(key));
            let plain = ReferenceReply {
                kind: "VALUE",
                fields,
                data: b"",
            };
            Ok((plain, usize::try_from(*length).ok()))
        }
        b"STAT" => {
            let Some(name) = words.first() else {
                return malformed;
            };
            // The value is everything after the name and one space, further spaces included.
            let spaces = text.iter().take_while(|byte| **byte == b' ').count();
            let value = text.get(spaces + name.len() + 1..).unwrap_or_default();
            whole("STAT", Vec::from([Text(name), Text(value)]))
        }
        b"VERSION" => whole("VERSION", Vec::from([Text(text)])),
        b"ME" => whole("ME", Vec::from([Text(text)])),
        b"ERROR" => whole("ERROR", Vec::from([Text(text)])),
        b"CLIENT_ERROR" => whole("CLIENT_ERROR", Vec::from([Text(text)])),
        b"SERVER_ERROR" => whole("SERVER_ERROR", Vec::from([Text(text)])),
        b"ERROR:" => whole("ERROR", Vec::from([Text(&line[5..])])),
        b"SERVER_ERROR:" => whole("SERVER_ERROR", Vec::from([Text(&line[12..])])),
        _ => match unsigned(first, 64) {
            None => Err(DecodeError::UnknownReply),
            Some(_) if !words.is_empty() => malformed,
            Some(number) => whole("number", Vec::from([Number(number)])),
        },
    }
}

/// One flag of a meta reply.
fn flag(word: &[u8]) -> Option<Field<'_>> {
    let (letter, argument) = (word[0], &word[1..]);
    Some(match letter {
        b'W' | b'X' | b'Z' | b'b' => Mark(letter),
        b'c' | b's' => NumberOf(letter, unsigned(argument, 64)?),
        b'f' | b'l' => NumberOf(letter, unsigned(argument, 32)?),
        b'h' if argument == b"0" || argument == b"1" => NumberOf(letter, unsigned(argument, 1)?),
        b't' => {
            let number = match argument {
                [b'-', digits @ ..] => -unsigned(digits, 64)?,
                digits => unsigned(digits, 64)?,
            };
            NumberOf(letter, i128::from(i64::try_from(number).ok()?))
        }
        b'k' | b'O' => TextOf(letter, argument),
        _ => return None,
    })
}

/// A number of digits that needs no more bits than these. More than twenty digits are none.
fn unsigned(word: &[u8], bits: u32) -> Option<i128> {
    if word.len() > 20 || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i128 = core::str::from_utf8(word).ok()?.parse().ok()?;
    (number < 1 << bits).then_some(number)
}

/// Writes the output of the decoder in the same words.
#[allow(
    unreachable_patterns,
    reason = "a reply that is new to the decoder shows up as a difference"
)]
pub(super) fn plain<'a>(reply: &Reply<'a>) -> ReferenceReply<'a> {
    let (kind, fields, data) = match *reply {
        Reply::Stored => ("STORED", Vec::new(), &b""[..]),
        Reply::NotStored => ("NOT_STORED", Vec::new(), &b""[..]),
        Reply::Exists => ("EXISTS", Vec::new(), &b""[..]),
        Reply::NotFound => ("NOT_FOUND", Vec::new(), &b""[..]),
        Reply::Deleted => ("DELETED", Vec::new(), &b""[..]),
        Reply::Touched => ("TOUCHED", Vec::new(), &b""[..]),
        Reply::Ok => ("OK", Vec::new(), &b""[..]),
        Reply::Reset => ("RESET", Vec::new(), &b""[..]),
        Reply::End => ("END", Vec::new(), &b""[..]),
        Reply::Noop => ("MN", Vec::new(), &b""[..]),
        Reply::Number(number) => ("number", Vec::from([Number(number.into())]), &b""[..]),
        Reply::Value(value) => {
            let mut fields = Vec::from([Text(value.key), Number(value.client_flags.into())]);
            fields.extend(value.cas.map(|cas| Number(cas.into())));
            ("VALUE", fields, value.data)
        }
        Reply::Stat { name, value } => ("STAT", Vec::from([Text(name), Text(value)]), &b""[..]),
        Reply::Version(text) => ("VERSION", Vec::from([Text(text)]), &b""[..]),
        Reply::Debug(text) => ("ME", Vec::from([Text(text)]), &b""[..]),
        Reply::Declined(declined) => (
            declined.reason.as_str(),
            Vec::from([Text(declined.text)]),
            &b""[..],
        ),
        Reply::Error(error) => {
            let kind = match error.source {
                ErrorSource::Command => "ERROR",
                ErrorSource::Client => "CLIENT_ERROR",
                ErrorSource::Server => "SERVER_ERROR",
            };
            (kind, Vec::from([Text(error.text)]), &b""[..])
        }
        Reply::Meta(meta) => {
            let kind = match meta.status {
                MetaStatus::Done => "HD",
                MetaStatus::Value => "VA",
                MetaStatus::Miss => "EN",
                MetaStatus::NotStored => "NS",
                MetaStatus::Exists => "EX",
                MetaStatus::NotFound => "NF",
            };
            let fields = meta.flags.iter().map(|flag| match flag {
                ReplyFlag::Won => Mark(b'W'),
                ReplyFlag::Stale => Mark(b'X'),
                ReplyFlag::WonBefore => Mark(b'Z'),
                ReplyFlag::Base64 => Mark(b'b'),
                ReplyFlag::Cas(number) => NumberOf(b'c', number.into()),
                ReplyFlag::ClientFlags(number) => NumberOf(b'f', number.into()),
                ReplyFlag::Hit(hit) => NumberOf(b'h', hit.into()),
                ReplyFlag::Key(key) => TextOf(b'k', key),
                ReplyFlag::LastAccess(number) => NumberOf(b'l', number.into()),
                ReplyFlag::Opaque(token) => TextOf(b'O', token),
                ReplyFlag::Size(number) => NumberOf(b's', number.into()),
                ReplyFlag::Ttl(number) => NumberOf(b't', number.into()),
                _ => Mark(b'?'),
            });
            (kind, fields.collect(), meta.data)
        }
        _ => (
            "a reply that the naive reader does not know",
            Vec::new(),
            &b""[..],
        ),
    };
    ReferenceReply { kind, fields, data }
}
