//! Requests as a server reads them, one by one and in streams.

use super::super::admin::{
    Automove, ClassIds, CrawlerCommand, Decimal, LruCommand, LruMode, SlabClasses, SlabsCommand,
};
use super::super::credentials::Credentials;
use super::super::error_reply::ErrorSource;
use super::super::flag::{Flag, Mode};
use super::super::flags::Flags;
use super::super::key::MAX_KEY_LENGTH;
use super::super::request::{MAX_VALUE_LENGTH, ReplySyntax};
use super::super::watch::WatchStreams;
use super::*;
use alloc::vec::Vec;
use bytes::BytesMut;

const LIMITS: Limits = Limits {
    line: 2048,
    value: 64,
};

fn named(name: &str) -> Key<'_> {
    Key::new(name.as_bytes()).expect("a plain key")
}

/// One of each kind, and of each way to be silent.
fn samples() -> Vec<Request<'static>> {
    const KEYS: &[Key<'static>] = &[Key::from_wire(b"a"), Key::from_wire(b"b/c")];
    const FLAGS: &[Flag<'static>] = &[
        Flag::ReturnTtl,
        Flag::CompareCas(u64::MAX),
        Flag::ExplicitCas(1 << 63),
        Flag::Ttl(-1),
        Flag::Vivify(86_400),
        Flag::Initial(1_795_337_329_000_000_000),
        Flag::Delta(1),
        Flag::ClientFlags(u32::MAX),
        Flag::Invalidate,
        Flag::RemoveValue,
        Flag::Quiet,
    ];
    let key = named("L");
    let flags = Flags::list(FLAGS);
    let store = |verb, noreply| {
        Request::Store(Store {
            verb,
            key,
            client_flags: 7,
            exptime: 1_795_337_339,
            value: b"two\r\nlines",
            noreply,
        })
    };
    let mut all = Vec::from([
        Request::Get {
            with_cas: false,
            keys: Keys::list(KEYS),
        },
        Request::Get {
            with_cas: true,
            keys: Keys::list(KEYS),
        },
        Request::GetAndTouch {
            with_cas: true,
            exptime: -1,
            keys: Keys::list(KEYS),
        },
        Request::GetAndTouch {
            with_cas: false,
            exptime: 30,
            keys: Keys::list(KEYS),
        },
        store(StoreVerb::Set, false),
        store(StoreVerb::Add, true),
        store(StoreVerb::Replace, false),
        store(StoreVerb::Append, true),
        store(StoreVerb::Prepend, false),
        store(StoreVerb::Cas(u64::MAX), false),
        store(StoreVerb::Cas(1), true),
        Request::MetaGet { key, flags },
        Request::MetaSet {
            key,
            flags: Flags::list(&[Flag::Mode(Mode::Add), Flag::Base64, Flag::ReturnKey]),
            value: b"",
        },
        Request::MetaDelete { key, flags },
        Request::MetaArithmetic { key, flags },
        Request::MetaNoop,
        Request::MetaDebug { key, base64: false },
        Request::MetaDebug { key, base64: true },
        Request::Version,
        Request::FlushAll {
            delay: None,
            noreply: false,
        },
        Request::FlushAll {
            delay: None,
            noreply: true,
        },
        Request::FlushAll {
            delay: Some(10),
            noreply: true,
        },
        Request::Stats {
            group: Keys::list(&[]),
        },
        Request::Stats {
            group: Keys::list(KEYS),
        },
        Request::Quit,
        Request::Shutdown { graceful: false },
        Request::Shutdown { graceful: true },
        Request::RefreshCerts,
        Request::Watch(WatchStreams::DELETIONS.and(WatchStreams::MUTATIONS)),
        Request::Slabs(SlabsCommand::Reassign {
            source: -1,
            destination: 39,
        }),
    ]);
    let decimal = |number| Decimal::new(number).expect("finite");
    for command in [
        CrawlerCommand::Enable,
        CrawlerCommand::Disable,
        CrawlerCommand::Sleep(1_000_000),
        CrawlerCommand::ToCrawl(u32::MAX),
        CrawlerCommand::Crawl(SlabClasses::All),
        CrawlerCommand::Crawl(SlabClasses::Some(ClassIds::list(&[1, 63]))),
        CrawlerCommand::Metadump(SlabClasses::Hash),
        CrawlerCommand::Mgdump(SlabClasses::Some(ClassIds::list(&[]))),
    ] {
        all.push(Request::LruCrawler(command));
    }
    for noreply in [false, true] {
        all.push(Request::Delete { key, noreply });
        all.push(Request::Touch {
            key,
            exptime: 30,
            noreply,
        });
        all.push(Request::Verbosity { level: 1, noreply });
        all.push(Request::CacheMemlimit {
            megabytes: u32::MAX,
            noreply,
        });
        for command in [
            LruCommand::Tune {
                hot_percent: 20,
                warm_percent: 60,
                hot_factor: decimal(0.2),
                warm_factor: decimal(2.0),
            },
            LruCommand::Mode(LruMode::Flat),
            LruCommand::Mode(LruMode::Segmented),
            LruCommand::TemporaryTtl(61),
            LruCommand::TemporaryTtl(i32::MIN),
        ] {
            all.push(Request::Lru { command, noreply });
        }
        for setting in [
            Automove::Off,
            Automove::On,
            Automove::Aggressive,
            Automove::Ratio(decimal(0.8)),
            Automove::FreeRatio(decimal(1e-9)),
            Automove::Window(30),
        ] {
            all.push(Request::Slabs(SlabsCommand::Automove { setting, noreply }));
        }
        for add in [false, true] {
            all.push(Request::Arithmetic {
                add,
                key,
                delta: u64::MAX,
                noreply,
            });
        }
    }
    all
}

fn encoded(request: &Request<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out
}

/// The answer to `bytes` and how many of them it is for.
fn refusal(bytes: &[u8]) -> Rejection<'_> {
    match RequestDecoder::new(LIMITS).decode(bytes) {
        Err(refusal) => refusal,
        other => panic!("{} gives {other:?}", bytes.escape_ascii()),
    }
}

#[test]
fn requests_round_trip_and_prefixes_wait() {
    for request in samples() {
        let mut bytes = encoded(&request);
        if matches!(request, Request::MetaSet { .. }) {
            // An empty value still has its line end.
            assert!(bytes.ends_with(b"\r\n\r\n"));
        }
        let length = bytes.len();
        let mut grown = RequestDecoder::new(LIMITS);
        for end in 0..length {
            assert_eq!(
                grown.decode(&bytes[..end]),
                Ok(None),
                "{request:?} at {end}"
            );
            let fresh = RequestDecoder::new(LIMITS).decode(&bytes[..end]);
            assert_eq!(fresh, Ok(None), "{request:?} at {end}");
        }
        // With its last byte, and not only when the next request begins.
        let whole = grown.clone().decode(&bytes);
        assert_eq!(whole, Ok(Some((request, length))));
        bytes.extend_from_slice(b"mn\r\n");
        assert_eq!(grown.decode(&bytes), Ok(Some((request, length))));
        assert_eq!(
            grown.decode(&bytes[length..]),
            Ok(Some((Request::MetaNoop, 4)))
        );
    }
}

#[test]
fn split_request_equals_whole_request() {
    for bytes in [
        &b"set a 0 0 3\r\nabc\r\n"[..],
        b"ms a 3 T5\r\n\n\n\n\r\n",
        b"set a 0 0 65\r\n",
    ] {
        let whole = RequestDecoder::new(LIMITS).decode(bytes);
        assert_ne!(whole, Ok(None));
        for second in 0..bytes.len() {
            for first in 0..second {
                let mut decoder = RequestDecoder::new(LIMITS);
                assert_eq!(decoder.decode(&bytes[..first]), Ok(None));
                assert_eq!(decoder.decode(&bytes[..second]), Ok(None));
                assert_eq!(decoder.decode(bytes), whole, "{first}, {second}");
            }
        }
    }
}

/// Requests and refusals of a stream that arrives in these two parts.
fn outcomes(stream: &[u8], split: usize) -> Vec<(usize, bool)> {
    let mut decoder = RequestDecoder::new(LIMITS);
    let mut found = Vec::new();
    let mut at = 0;
    for end in [split, stream.len()] {
        while at < end {
            match decoder.decode(&stream[at..end]) {
                Ok(None) => break,
                Ok(Some((_, length))) => {
                    at += length;
                    found.push((at, true));
                }
                Err(refusal) => {
                    at += refusal.skip;
                    found.push((at, false));
                }
            }
        }
    }
    found
}

#[test]
fn split_stream_means_the_same() {
    let mut stream = BytesMut::new();
    for (index, request) in samples().iter().enumerate() {
        request.encode(&mut stream);
        if index % 8 != 0 {
            continue;
        }
        stream.extend_from_slice(
            b"bogus\r\nset a 0 0 3x\r\nset a x 0 3\r\nabc\r\nms a 3\r\nabcdefg\r\nms a 2 c c\r\nxy\r\n\n",
        );
        stream.extend_from_slice(b"set a 0 0 65\r\n");
        stream.extend_from_slice(&[b'v'; 65]);
        stream.extend_from_slice(b"\r\n");
    }
    let whole = outcomes(&stream, stream.len());
    assert_eq!(whole.last().map(|last| last.0), Some(stream.len()));
    for split in 0..stream.len() {
        assert_eq!(outcomes(&stream, split), whole, "split at {split}");
    }
}

#[test]
fn damaged_streams_are_read_through() {
    let mut stream = BytesMut::new();
    samples()
        .iter()
        .for_each(|request| request.encode(&mut stream));
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let odd = b" \r\n\0\x7f\x80\xff-+0919kqTMO";
    for _ in 0..500 {
        let mut damaged = stream.clone();
        for _ in 0..8 {
            let at = random(damaged.len());
            damaged[at] = odd[random(odd.len())];
        }
        let split = random(damaged.len());
        let whole = outcomes(&damaged, damaged.len());
        // The place at which a connection is closed depends on how much has arrived.
        if !damaged.contains(&0x80) {
            assert_eq!(outcomes(&damaged, split), whole, "split at {split}");
        }
    }
}

#[test]
fn malformed_requests_get_servers_reply() {
    let format = "bad command line format";
    let token = "bad token in command line format";
    let flag = "invalid or duplicate flag";
    for (bytes, text, skip) in [
        (&b"ab\n"[..], format, 3),
        (b"\r\n", format, 2),
        (b"get \r\n", format, 6),
        (b"gat 30\r\n", format, 8),
        (b"gat x a\r\n", "invalid exptime argument", 9),
        (b"touch a x\r\n", "invalid exptime argument", 11),
        (b"touch a 4294967296\r\n", "invalid exptime argument", 20),
        (b"incr n -1\r\n", "invalid numeric delta argument", 11),
        (b"verbosity\r\n", format, 11),
        (b"flush_all x\r\n", "invalid exptime argument", 13),
        (b"shutdown now\r\n", "invalid shutdown mode", 14),
        // No length, nothing to swallow, and `noreply` is not seen.
        (b"set a 0 0 -1 noreply\r\n", format, 22),
        (b"set a 0 0 3x\r\nabc\r\n", format, 14),
        (b"set a 0 0 2147483646\r\n", format, 22),
        (b"ms a S3\r\nabc\r\n", format, 9),
        (b"ms a 3 !\r\nabc\r\n", format, 10),
        // A length, and the value goes.
        (b"set a -1 0 3\r\nabc\r\n", format, 19),
        (b"set a 0 x 3\r\nabc\r\n", format, 18),
        (b"cas a 0 0 3 x\r\nabc\r\n", format, 20),
        (b"ms a 3 S3\r\nabc\r\n", "invalid flag", 16),
        (b"ms a 3 Sx\r\nabc\r\n", "invalid flag", 16),
        (b"ms a 3 Me\r\nabc\r\n", "invalid mode for ms M token", 16),
        (b"ms a 3 M\r\nabc\r\n", "invalid mode for ms M token", 15),
        (b"ms a 3 Fx\r\nabc\r\n", format, 16),
        (
            b"ms a 3 Tx Jx\r\nabc\r\n",
            "invalid numeric initial value",
            19,
        ),
        (b"ms a 3 Jx Tx Fx\r\nabc\r\n", token, 22),
        (b"ms a 3 Tx c c\r\nabc\r\n", "duplicate flag", 20),
        (b"set a 0 0 3\r\nabcdef\r\n", "bad data chunk", 18),
        (b"ms a 3 q\r\nabcdef\r\n", "bad data chunk", 15),
        (b"mg a C\r\n", token, 8),
        (b"mg a W\r\n", "invalid flag", 8),
        (b"mg a \xff\r\n", format, 8),
        (
            b"mg a v O12345678901234567890123456789012\r\n",
            "opaque token too long",
            42,
        ),
        (
            b"mg a 1 2 3 4 5 6 7 8 9 a b c d e f g h i j\r\n",
            "options flags are too long",
            44,
        ),
        (b"ma n S3\r\n", flag, 9),
        (b"ma n Dx\r\n", flag, 9),
        (b"ma n Mi\r\n", "invalid mode for ma M token", 9),
    ] {
        let found = refusal(bytes);
        let expected = ErrorReply {
            source: ErrorSource::Client,
            text: text.as_bytes(),
        };
        assert_eq!(found.reply, Some(expected), "{}", bytes.escape_ascii());
        assert_eq!(found.skip, skip, "{}", bytes.escape_ascii());
        assert!(!found.close);
    }
}

#[test]
fn meta_request_has_twenty_words() {
    let flags = "q v t c s f l h k u I x O1 C5 E7 F1 T5 N5";
    for (start, flags, value) in [
        ("mg a ", flags, ""),
        ("md a ", flags, ""),
        ("ma a ", flags, ""),
        ("ms a 1 ", &flags[2..], "x\r\n"),
    ] {
        let line = [start, flags].concat();
        assert_eq!(Tokens(line.as_bytes()).count(), 20);
        let bytes = [&line, "\r\n", value].concat();
        let outcome = RequestDecoder::new(LIMITS).decode(bytes.as_bytes());
        assert!(matches!(outcome, Ok(Some((_, length))) if length == bytes.len()));
        let bytes = [&line, " P\r\n", value].concat();
        assert_eq!(refusal(bytes.as_bytes()).skip, bytes.len(), "{line}");
    }
}

#[test]
fn opaque_token_has_31_bytes() {
    for (start, value) in [
        ("mg a O", ""),
        ("md a O", ""),
        ("ma a O", ""),
        ("ms a 1 O", "x\r\n"),
    ] {
        let token = "0123456789abcdef0123456789abcde";
        let bytes = [start, token, "\r\n", value].concat();
        let outcome = RequestDecoder::new(LIMITS).decode(bytes.as_bytes());
        assert!(matches!(outcome, Ok(Some((_, length))) if length == bytes.len()));
        let bytes = [start, token, "f\r\n", value].concat();
        let reply = refusal(bytes.as_bytes()).reply;
        let text = reply.map(|reply| reply.text);
        assert_eq!(text, Some(&b"opaque token too long"[..]), "{start}");
    }
}

#[test]
fn leniency_matches_memcached() {
    let read = |bytes| match RequestDecoder::new(LIMITS).decode(bytes) {
        Ok(Some((Request::Store(store), _))) => (store.client_flags, store.exptime),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(b"set a 4294967297 +100 1 norepl x\r\nv\r\n"), (1, 100));
    assert_eq!(read(b"set a +5 4294967295 1\r\nv\r\n"), (5, -1));
    for bytes in [
        &b"ms a 1 MEE\r\nx\r\n"[..],
        b"mg a M1 J1 D5 vfoo\r\n",
        b"mg  a   v  \r\n",
        b"get a\n",
        b"delete a b c\r\n",
        b" flush_all\r\n",
        b"mn a b\r\n",
    ] {
        let outcome = RequestDecoder::new(LIMITS).decode(bytes);
        assert!(
            matches!(outcome, Ok(Some((_, length))) if length == bytes.len()),
            "{}",
            bytes.escape_ascii()
        );
    }
    let mut key = None;
    if let Ok(Some((Request::Get { keys, .. }, _))) =
        RequestDecoder::new(LIMITS).decode(b"get a\r\r\n")
    {
        key = keys.iter().next();
    }
    assert_eq!(key, Some(Key::from_wire(b"a\r")));
}

/// `noreply` counts only where memcached looks for it.
#[test]
fn noreply_silences_errors_as_in_memcached() {
    for bytes in [
        &b"bogus noreply\r\n"[..],
        b"noreply\r\n",
        b"incr n noreply\r\n",
        b"touch a noreply\r\n",
        b"verbosity noreply\r\n",
        b"flush_all x noreply\r\n",
        b"set a b 0 1 noreply\r\nx\r\n",
        b"cas a 0 0 1 noreply\r\nx\r\n",
        b"set a 0 0 1 noreply\r\nxyz\r\n",
    ] {
        assert_eq!(refusal(bytes).reply, None, "{}", bytes.escape_ascii());
    }
    let key = named("noreply2");
    assert_eq!(
        RequestDecoder::new(LIMITS).decode(b"delete noreply2\r\n"),
        Ok(Some((
            Request::Delete {
                key,
                noreply: false
            },
            17
        )))
    );
}

#[test]
fn overlong_keys_are_refused_everywhere() {
    let long = "k".repeat(MAX_KEY_LENGTH + 1);
    for (line, value) in [
        ("get a K", ""),
        ("gats 5 K", ""),
        ("set K 0 0 3", "abc\r\n"),
        ("delete K", ""),
        ("incr K 1", ""),
        ("touch K 1", ""),
        ("mg K v", ""),
        ("ms K 3", "abc\r\n"),
        ("md K", ""),
        ("ma K", ""),
        ("me K", ""),
    ] {
        let bytes = [&line.replace('K', &long), "\r\n", value].concat();
        let found = refusal(bytes.as_bytes());
        assert!(found.reply.is_some(), "{line}");
        assert_eq!(found.skip, bytes.len(), "{line}");
    }
}

#[test]
fn overlong_value_is_never_awaited() {
    let found = refusal(b"set a 0 0 2147483645\r\n");
    assert_eq!(found.skip, 22 + 2_147_483_645 + 2);
    assert_eq!(
        found.reply.map(|reply| reply.text),
        Some(&b"object too large for cache"[..])
    );
    assert!(matches!(
        found.oversized,
        Some(Request::Store(Store {
            verb: StoreVerb::Set,
            value: b"",
            ..
        }))
    ));
    // The longest that we can announce is the longest that is taken for a length.
    for (length, is_one) in [(MAX_VALUE_LENGTH, true), (MAX_VALUE_LENGTH + 1, false)] {
        let line = alloc::format!("set a 0 0 {length}\r\n");
        assert_eq!(refusal(line.as_bytes()).oversized.is_some(), is_one);
    }
    assert_eq!(refusal(b"add a 0 0 65 noreply\r\n").reply, None);
    assert!(refusal(b"ms a 65 q\r\n").reply.is_some());
    assert_eq!(RequestDecoder::new(LIMITS).decode(b"ms a 64\r\n"), Ok(None));
}

#[test]
fn foreign_protocols_are_disconnected() {
    for bytes in [
        &b"\x80\x0b\x00"[..],
        b"GET / HTTP/1.1\r\n",
        b"CONNECT x:443 HTTP/1.1 \r\n",
        &[b'x'; 2048],
    ] {
        let found = refusal(bytes);
        assert!(found.close && found.reply.is_none());
    }
    assert_eq!(RequestDecoder::new(LIMITS).decode(&[b'x'; 2047]), Ok(None));
    let mut retrieval = Vec::from(*b"get");
    while retrieval.len() < 17_000 {
        retrieval.extend_from_slice(b" some-key");
    }
    let mut decoder = RequestDecoder::new(LIMITS);
    assert_eq!(decoder.decode(&retrieval), Ok(None));
    retrieval.extend_from_slice(b"\r\n");
    assert!(matches!(decoder.decode(&retrieval), Ok(Some(_))));
}

#[test]
fn admin_refusals_use_servers_words() {
    let unknown = (ErrorSource::Command, "");
    let format = (ErrorSource::Client, "bad command line format");
    for (line, (blame, text)) in [
        ("lru", unknown),
        ("lru x 1", unknown),
        ("lru mode", unknown),
        ("lru mode x", unknown),
        ("lru temp_ttl", unknown),
        ("lru temp_ttl x", unknown),
        ("lru temp_ttl 99999999999", unknown),
        ("lru temp_ttl +5", unknown),
        ("lru tune 10 25 0.1", unknown),
        ("lru tune 10 25 x 2.0", unknown),
        ("lru tune 10 25 0.1 1e400", unknown),
        ("lru tune x 25 0.1 1", unknown),
        (
            "lru tune 50 40 0.1 2.0",
            (ErrorSource::Command, "hot and warm pcts must not exceed 80"),
        ),
        (
            "lru tune 10 25 0 2.0",
            (
                ErrorSource::Command,
                "hot/warm age factors must be greater than 0",
            ),
        ),
        (
            "lru tune 10 25 1 -2.0",
            (
                ErrorSource::Command,
                "hot/warm age factors must be greater than 0",
            ),
        ),
        ("lru_crawler", unknown),
        ("lru_crawler enable x", unknown),
        ("lru_crawler crawl", unknown),
        ("lru_crawler crawl all x", unknown),
        ("lru_crawler foo", unknown),
        ("lru_crawler foo bar", unknown),
        ("lru_crawler sleep x", format),
        ("lru_crawler tocrawl -1", format),
        (
            "lru_crawler sleep 1000001",
            (ErrorSource::Client, "sleep must be one second or less"),
        ),
        ("slabs", unknown),
        ("slabs reassign", unknown),
        ("slabs reassign 1 2 3", unknown),
        ("slabs reassign x 1", format),
        ("slabs reassign 1 99999999999", format),
        ("slabs automove", unknown),
        ("slabs automove 3", unknown),
        ("slabs automove x", format),
        ("slabs automove -1", format),
        ("slabs automove ratio", unknown),
        ("slabs automove ratio x", unknown),
        ("slabs automove window", format),
        ("slabs automove window 1.5", format),
        ("cache_memlimit", unknown),
        ("cache_memlimit x", unknown),
        ("cache_memlimit +64", unknown),
        ("watch x", unknown),
        ("watch noreply", unknown),
        ("watch fetchers x", unknown),
        ("watchx", unknown),
        ("verbosity 99999999999", format),
        ("me a b c", format),
        ("me a b q", format),
    ] {
        let bytes = alloc::format!("{line}\r\n");
        let found = refusal(bytes.as_bytes());
        let expected = ErrorReply {
            source: blame,
            text: text.as_bytes(),
        };
        assert_eq!(found.reply, Some(expected), "{line}");
        assert_eq!(found.skip, bytes.len(), "{line}");
    }
    for line in [
        "lru noreply",
        "lru mode x noreply",
        "lru_crawler tocrawl 10 noreply",
        "lru_crawler enable noreply",
        "lru_crawler crawl noreply",
        "slabs noreply",
        "slabs automove noreply",
        "slabs reassign 1 2 noreply",
        "cache_memlimit noreply",
    ] {
        let bytes = alloc::format!("{line}\r\n");
        assert_eq!(refusal(bytes.as_bytes()).reply, None, "{line}");
    }
}

#[test]
fn admin_words_may_be_shortened() {
    for (line, full) in [
        ("lru m f", "lru mode flat"),
        ("lru mode segm", "lru mode segmented"),
        ("lru te -0", "lru temp_ttl 0"),
        ("lru t 061", "lru temp_ttl 61"),
        ("lru t 10 25 .5 5. x", "lru tune 10 25 0.5 5"),
        ("  lru temp_ttl 5 x", "lru temp_ttl 5"),
        ("lru_crawler e", "lru_crawler enable"),
        ("lru_crawler m all", "lru_crawler metadump all"),
        ("lru_crawler mg hash", "lru_crawler mgdump hash"),
        ("lru_crawler c 1,,2", "lru_crawler crawl 1,,2"),
        ("lru_crawler crawl x", "lru_crawler crawl x"),
        ("slabs a 1 foo", "slabs automove 1"),
        ("slabs r 1 2", "slabs reassign 1 2"),
        ("slabs automove f 0.01", "slabs automove freeratio 0.01"),
        (
            "slabs automove w 10 noreply",
            "slabs automove window 10 noreply",
        ),
        ("cache_memlimit  064 x", "cache_memlimit 64"),
        ("watch", "watch fetchers"),
        ("watch d  m d", "watch mutations deletions"),
        ("refresh_certs noreply", "refresh_certs"),
        ("verbosity 1 noreply x", "verbosity 1"),
    ] {
        let bytes = alloc::format!("{line}\r\n");
        let outcome = RequestDecoder::new(LIMITS).decode(bytes.as_bytes());
        let Ok(Some((request, length))) = outcome else {
            panic!("{line}: {outcome:?}");
        };
        assert_eq!(length, bytes.len());
        assert_eq!(encoded(&request), alloc::format!("{full}\r\n"), "{line}");
    }
}

#[test]
fn class_numbers_differ_from_words() {
    let ids = ClassIds::from_word(b"1,,63,256,x");
    let ids: Vec<_> = ids.iter().collect();
    assert_eq!(ids, [Some(1), Some(63), None, None]);
    assert_eq!(ClassIds::from_word(b",").iter().count(), 0);
    assert_eq!(ClassIds::from_word(b"1,2"), ClassIds::list(&[1, 2]));
}

#[test]
fn credentials_arrive_as_set_value() {
    let credentials = Credentials::new(b"user", b"pass").expect("plain");
    let key = Key::new(b"any").expect("plain");
    let bytes = encoded(&Request::Authenticate { key, credentials });
    let outcome = RequestDecoder::new(LIMITS).decode(&bytes);
    let Ok(Some((Request::Store(store), length))) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((store.verb, length), (StoreVerb::Set, bytes.len()));
    assert_eq!(Credentials::from_value(store.value), Some(credentials));
    // A server without accounts keeps it, though no client uses it.
    assert_eq!(store.exptime, 2_592_001);
}

#[test]
fn only_dumps_and_logs_differ() {
    for request in samples() {
        let grammar = request.grammar();
        let replies = grammar == ReplySyntax::Replies;
        let other = matches!(
            request,
            Request::Watch(_)
                | Request::LruCrawler(CrawlerCommand::Metadump(_) | CrawlerCommand::Mgdump(_))
        );
        assert_eq!(other, !replies, "{request:?}");
        assert!(replies || request.shape().is_none());
        let mut flight = super::super::flight::Flight::new();
        flight.push(&request);
        assert_eq!(
            flight.is_answerable(),
            replies && !request.is_quiet(),
            "{request:?}"
        );
        flight.clear();
        assert!(flight.is_answerable() && flight.is_empty());
    }
}
