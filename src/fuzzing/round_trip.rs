//! Structured requests and replies, written and read back.

use super::input::Input;
use super::reply::{self, WIDE};
use super::request;
use crate::wire::{
    ErrorReply, ErrorSource, Flag, Flags, Flight, Key, Keys, MAX_FLAGS, MetaReply, MetaStatus,
    Mode, Opaque, Reply, ReplyDecoder, ReplyFlag, ReplyFlags, Request, RequestDecoder, Store,
    StoreVerb, Value,
};
use alloc::vec::Vec;
use bytes::BytesMut;

/// A key where there must be one.
const KEY: &[u8] = b"key";

/// Every request and every reply that can be made reads as it was written, alone and in a row;
/// and a key or a token that could become a second request cannot be made.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut bytes, mut flight) = (BytesMut::new(), Flight::new());
    let mut ends = Vec::new();
    while !input.is_empty() && ends.len() < 64 {
        if input.flip() {
            let before = bytes.len();
            one_reply(&mut input, &mut bytes);
            ends.push(bytes.len() - before);
        } else {
            one_request(&mut input, &mut flight);
        }
    }
    // In a row, each ends where it ended alone.
    let mut rest = &bytes[..];
    for length in ends {
        let found = ReplyDecoder::new(WIDE).decode(rest);
        assert_eq!(
            found.map(|found| found.map(|found| found.1)),
            Ok(Some(length))
        );
        rest = &rest[length..];
    }
    let mut rest = flight.bytes();
    while !rest.is_empty() {
        match RequestDecoder::new(WIDE).decode(rest) {
            Ok(Some((_, length))) => rest = &rest[length..],
            other => panic!("{other:?} at {}", rest.escape_ascii()),
        }
    }
}

fn key<'a>(input: &mut Input<'a>) -> Key<'a> {
    let length = input.below(256);
    let bytes = input.take(length);
    let key = Key::new(bytes).ok();
    let is_plain = bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    let fits = (1..=250).contains(&bytes.len()) && bytes != b"noreply";
    assert_eq!(key.is_some(), is_plain && fits, "{}", bytes.escape_ascii());
    key.or_else(|| Key::new(KEY).ok()).expect("it is a key")
}

fn opaque<'a>(input: &mut Input<'a>) -> Opaque<'a> {
    let length = input.below(40);
    let bytes = input.take(length);
    let token = Opaque::new(bytes);
    let is_plain = bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    assert_eq!(
        token.is_some(),
        is_plain && bytes.len() <= 31,
        "{}",
        bytes.escape_ascii()
    );
    token.or_else(|| Opaque::new(b"")).expect("it is a token")
}

/// Seconds that fit what the server keeps them in.
fn seconds(input: &mut Input<'_>) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "any will do")]
    let seconds = input.number() as i32;
    i64::from(seconds)
}

fn bits32(input: &mut Input<'_>) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "any will do")]
    let number = input.number() as u32;
    number
}

/// Flags with different letters, with modes that the command knows.
fn flags<'a>(input: &mut Input<'a>, modes: &[Mode]) -> Vec<Flag<'a>> {
    let mut flags: Vec<Flag<'a>> = Vec::new();
    for _ in 0..input.below(18) {
        let flag = match input.below(25) {
            0 => Flag::Base64,
            1 => Flag::Quiet,
            2 => Flag::ReturnValue,
            3 => Flag::ReturnTtl,
            4 => Flag::ReturnCas,
            5 => Flag::ReturnSize,
            6 => Flag::ReturnClientFlags,
            7 => Flag::ReturnLastAccess,
            8 => Flag::ReturnHit,
            9 => Flag::ReturnKey,
            10 => Flag::NoBump,
            11 => Flag::Opaque(opaque(input)),
            12 => Flag::CompareCas(input.number()),
            13 => Flag::ExplicitCas(input.number()),
            14 => Flag::ClientFlags(bits32(input)),
            15 => Flag::Invalidate,
            16 => Flag::RemoveValue,
            17 => Flag::Ttl(seconds(input)),
            18 => Flag::Vivify(seconds(input)),
            19 => Flag::Recache(seconds(input)),
            20 => Flag::Initial(input.number()),
            21 => Flag::Delta(input.number()),
            22 => Flag::ProxyHint(opaque(input)),
            23 => Flag::PathHint(opaque(input)),
            _ => match modes {
                [] => continue,
                modes => Flag::Mode(input.pick(modes)),
            },
        };
        if flags.len() < MAX_FLAGS && flags.iter().all(|known| known.letter() != flag.letter()) {
            flags.push(flag);
        }
    }
    flags
}

fn one_request(input: &mut Input<'_>, flight: &mut Flight) {
    const STORING: &[Mode] = &[
        Mode::Add,
        Mode::Append,
        Mode::Prepend,
        Mode::Replace,
        Mode::Set,
    ];
    const COUNTING: &[Mode] = &[Mode::Increment, Mode::Decrement];
    let kind = input.below(19);
    let key = key(input);
    let noreply = input.flip();
    let keys: Vec<Key<'_>> = (0..=input.below(4)).map(|_| self::key(input)).collect();
    let listed = flags(
        input,
        match kind {
            4 => STORING,
            6 => COUNTING,
            _ => &[],
        },
    );
    let length = input.below(200);
    let value = input.take(length);
    let (keys, flags) = (Keys::list(&keys), Flags::list(&listed));
    let request = match kind {
        0 => Request::Get {
            with_cas: noreply,
            keys,
        },
        1 => Request::GetAndTouch {
            with_cas: noreply,
            exptime: seconds(input),
            keys,
        },
        2 => Request::Store(Store {
            verb: match input.below(6) {
                0 => StoreVerb::Set,
                1 => StoreVerb::Add,
                2 => StoreVerb::Replace,
                3 => StoreVerb::Append,
                4 => StoreVerb::Prepend,
                _ => StoreVerb::Cas(input.number()),
            },
            key,
            client_flags: bits32(input),
            exptime: seconds(input),
            value,
            noreply,
        }),
        3 => Request::MetaGet { key, flags },
        4 => Request::MetaSet { key, flags, value },
        5 => Request::MetaDelete { key, flags },
        6 => Request::MetaArithmetic { key, flags },
        7 => Request::MetaNoop,
        8 => Request::MetaDebug {
            key,
            base64: noreply,
        },
        9 => Request::Version,
        10 => Request::Verbosity {
            level: u64::from(bits32(input)),
            noreply,
        },
        11 => Request::FlushAll {
            delay: input.flip().then(|| seconds(input)),
            noreply,
        },
        12 => Request::Stats {
            group: Keys::list(&[]),
        },
        13 => Request::Stats { group: keys },
        14 => Request::Quit,
        15 => Request::Shutdown { graceful: noreply },
        16 => Request::Delete { key, noreply },
        17 => Request::Arithmetic {
            add: input.flip(),
            key,
            delta: input.number(),
            noreply,
        },
        _ => Request::Touch {
            key,
            exptime: seconds(input),
            noreply,
        },
    };
    request::reads_as_written(&request);
    flight.push(&request);
}

/// Text that a server could send: no line end in it.
fn text<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let length = input.below(60);
    let bytes = input.take(length);
    let end = bytes.iter().position(|byte| *byte == b'\n');
    &bytes[..end.unwrap_or(bytes.len())]
}

fn word<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let text = text(input);
    let end = text.iter().position(|byte| *byte == b' ');
    &text[..end.unwrap_or(text.len())]
}

fn one_reply(input: &mut Input<'_>, out: &mut BytesMut) {
    let kind = input.below(20);
    let mut flags = Vec::new();
    for _ in 0..input.below(8) {
        flags.push(match input.below(12) {
            0 => ReplyFlag::Won,
            1 => ReplyFlag::Stale,
            2 => ReplyFlag::WonBefore,
            3 => ReplyFlag::Base64,
            4 => ReplyFlag::Cas(input.number()),
            5 => ReplyFlag::ClientFlags(bits32(input)),
            6 => ReplyFlag::Hit(input.flip()),
            7 => ReplyFlag::Key(word(input)),
            8 => ReplyFlag::LastAccess(bits32(input)),
            9 => ReplyFlag::Opaque(word(input)),
            10 => ReplyFlag::Size(input.number()),
            _ => ReplyFlag::Ttl(i64::from_le_bytes(input.number().to_le_bytes())),
        });
    }
    let status = input.pick(&[
        MetaStatus::Done,
        MetaStatus::Value,
        MetaStatus::Miss,
        MetaStatus::NotStored,
        MetaStatus::Exists,
        MetaStatus::NotFound,
    ]);
    let named = match word(input) {
        b"" => KEY,
        word => word,
    };
    let text = text(input);
    let length = input.below(200);
    let data = input.take(length);
    let reply = match kind {
        0 => Reply::Stored,
        1 => Reply::NotStored,
        2 => Reply::Exists,
        3 => Reply::NotFound,
        4 => Reply::Deleted,
        5 => Reply::Touched,
        6 => Reply::Ok,
        7 => Reply::Reset,
        8 => Reply::End,
        9 => Reply::Number(input.number()),
        10 => Reply::Value(Value {
            key: named,
            client_flags: bits32(input),
            cas: input.flip().then(|| input.number()),
            data,
        }),
        11 => Reply::Stat {
            name: named,
            value: text,
        },
        12 => Reply::Version(text),
        13 => Reply::Noop,
        14 => Reply::Debug(text),
        15 => Reply::Error(ErrorReply {
            source: input.pick(&[
                ErrorSource::Command,
                ErrorSource::Client,
                ErrorSource::Server,
            ]),
            text,
        }),
        _ => Reply::Meta(MetaReply {
            status,
            flags: ReplyFlags::list(&flags),
            data: if status == MetaStatus::Value {
                data
            } else {
                b""
            },
        }),
    };
    reply::reads_as_written(&reply);
    reply.encode(out);
}
