//! That no request can be made to carry another one.
//!
//! The list is that of what real servers do not swallow: where they refuse a storage request
//! before they know its length, they read its value as commands. For each such input there is a
//! test that it cannot be built. What is left to construction: verbs, flag letters, numbers and
//! lengths have no bytes of their own that a caller could choose.

use super::token::Tokens;
use super::*;
use alloc::vec::Vec;
use bytes::BytesMut;

const LIMITS: Limits = Limits {
    line: 2048,
    value: 64,
};

/// The bytes that end a word or a line, or that some server takes for an end.
const ENDS: &[u8] = b"\n\r \0\t\x7f";

fn encoded(request: &Request<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out
}

fn key() -> Key<'static> {
    Key::new(b"L").expect("a plain key")
}

fn store<'a>(verb: StoreVerb, value: &'a [u8], exptime: i64, client_flags: u32) -> Request<'a> {
    Request::Store(Store {
        verb,
        key: key(),
        client_flags,
        exptime,
        value,
        noreply: false,
    })
}

/// The one that two published clients fall for.
#[test]
fn injection_by_line_end_in_key() {
    let hostile = b"x\r\ndelete victim";
    assert_eq!(
        Key::new(hostile),
        Err(KeyError::ForbiddenByte { byte: b'\r', at: 1 })
    );
    for end in ENDS {
        assert!(Key::new(&[b'x', *end]).is_err());
        assert!(Key::new(&[*end, b'x']).is_err());
    }
}

#[test]
fn injection_by_overlong_key() {
    // Servers up to 1.6.38 do not swallow the value after it; 1.6.45 answers one line too many.
    let long = [b'k'; MAX_KEY_LENGTH + 1];
    assert!(matches!(Key::new(&long), Err(KeyError::TooLong { .. })));
    assert!(
        Key::new(b"").is_err(),
        "which would make the next word the key"
    );
}

#[test]
fn injection_by_option_as_key() {
    assert_eq!(Key::new(b"noreply"), Err(KeyError::Reserved));
}

#[test]
fn injection_by_an_opaque_token() {
    for end in ENDS {
        let token = [b'a', *end, b'b'];
        assert_eq!(Opaque::new(&token), None);
        for letter in [b'O', b'P', b'L'] {
            let flag = [letter, b'a', *end, b'b'];
            assert_eq!(Flag::parse(&flag), Err(FlagError::ForbiddenByte));
            let line = Flags::parse(&flag);
            // A space ends the word, and what is after it is no flag without `b` being one.
            assert!(line.is_err() || *end == b' ', "{line:?}");
        }
    }
    for letter in [b'O', b'P', b'L'] {
        let mut long = [b'x'; MAX_OPAQUE_LENGTH + 2];
        long[0] = letter;
        assert_eq!(Opaque::new(&long[1..]), None);
        assert_eq!(Flag::parse(&long), Err(FlagError::OpaqueTooLong));
        let longest = &long[..=MAX_OPAQUE_LENGTH];
        assert!(Flag::parse(longest).is_ok_and(|flag| flag.letter() == letter));
    }
}

#[test]
fn injection_by_invalid_flag_letter() {
    for byte in 0..=u8::MAX {
        if let Ok(flag) = Flag::parse(&[byte, b'1']) {
            assert!(flag.letter().is_ascii_alphanumeric());
        }
        if !byte.is_ascii_alphanumeric() {
            assert_eq!(Flag::parse(&[byte]), Err(FlagError::Unknown));
            assert!(Flags::parse(&[b'v', b' ', byte]).is_err() || byte == b' ');
        }
    }
}

#[test]
fn injection_by_flag_argument() {
    // An argument that means nothing is not kept, one that means something is a number.
    for hostile in [
        &b"v\r\nflush_all"[..],
        b"T1\r\nflush_all",
        b"C1\nx",
        b"ME\r\nx",
        b"F1\0",
    ] {
        if let Ok(flag) = Flag::parse(hostile) {
            let mut out = BytesMut::new();
            flag.encode(&mut out);
            assert!(!out.iter().any(|byte| *byte < b' '), "{out:?}");
        }
    }
}

#[test]
fn injection_by_too_many_flags() {
    let many = [Flag::ReturnTtl; MAX_FLAGS + 1];
    assert_eq!(Flags::new(&many), Err(FlagError::TooMany));
    let line = b"b c f h l O1 q s t v u E5 F1 I T5 N5 x";
    assert_eq!(Flags::parse(line), Err(FlagError::TooMany));
}

#[test]
#[should_panic(expected = "more flags than every server takes")]
fn injection_by_too_many_listed_flags() {
    let many = [Flag::ReturnTtl; MAX_FLAGS + 1];
    let _ = Flags::list(&many);
}

#[test]
fn injection_by_repeated_flag() {
    let twice = [Flag::ReturnTtl, Flag::ReturnTtl];
    assert_eq!(Flags::new(&twice), Err(FlagError::Duplicate));
}

#[test]
fn injection_by_raw_base64_key() {
    let pair = [Flag::ReturnKey, Flag::Base64];
    assert_eq!(Flags::new(&pair), Err(FlagError::RawKey));
    assert_eq!(Flags::parse(b"b v k"), Err(FlagError::RawKey));
}

#[test]
fn injection_by_malformed_numbers() {
    // Client flags, expiry and CAS unique at their ends: decimal digits and a sign, no more.
    for exptime in [i64::MIN, -1, 0, i64::MAX] {
        for client_flags in [0, u32::MAX] {
            for verb in [
                StoreVerb::Set,
                StoreVerb::Add,
                StoreVerb::Replace,
                StoreVerb::Append,
                StoreVerb::Prepend,
                StoreVerb::Cas(u64::MAX),
            ] {
                let bytes = encoded(&store(verb, b"x", exptime, client_flags));
                let line = bytes[..].split(|byte| *byte == b'\r').next();
                let line = line.expect("a line");
                for word in Tokens(line).skip(2) {
                    let digits = word.strip_prefix(b"-").unwrap_or(word);
                    assert!((1..=20).contains(&digits.len()));
                    assert!(digits.iter().all(u8::is_ascii_digit));
                }
            }
        }
    }
}

#[test]
fn injection_by_wrong_value_length() {
    for length in [0, 1, 9, 10, 11, 64] {
        // The worst that a value can hold is what looks like its end.
        let value: Vec<u8> = b"\r\nflush_all\r\n"
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect();
        for request in [
            store(StoreVerb::Set, &value, 0, 0),
            store(StoreVerb::Cas(1), &value, 0, 0),
            Request::MetaSet {
                key: key(),
                flags: Flags::list(&[Flag::Mode(Mode::Add)]),
                value: &value,
            },
        ] {
            let bytes = encoded(&request);
            assert_eq!(
                RequestDecoder::new(LIMITS).decode(&bytes),
                Ok(Some((request, bytes.len())))
            );
        }
    }
}

/// Memory that is asked for and not touched, so that it costs nothing.
fn too_long() -> Vec<u8> {
    alloc::vec![0; MAX_VALUE_LENGTH + 1]
}

#[test]
#[cfg(target_pointer_width = "64")]
#[should_panic(expected = "a value longer than any server reads")]
fn injection_by_overlong_value() {
    encoded(&store(StoreVerb::Set, &too_long(), 0, 0));
}

#[test]
#[cfg(target_pointer_width = "64")]
#[should_panic(expected = "a value longer than any server reads")]
fn injection_by_overlong_meta_value() {
    encoded(&Request::MetaSet {
        key: key(),
        flags: Flags::list(&[]),
        value: &too_long(),
    });
}

#[test]
fn injection_by_credentials() {
    for end in ENDS {
        let hostile = [b'u', *end, b'x'];
        assert!(Credentials::new(&hostile, b"password").is_err());
        assert!(Credentials::new(b"user", &hostile).is_err());
    }
}

#[test]
fn injection_by_stats_arguments() {
    // They are keys, and those are checked.
    for hostile in [&b"items\r\nflush_all"[..], b"items flush_all", b""] {
        assert!(Key::new(hostile).is_err());
    }
}

#[test]
fn injection_by_admin_commands() {
    assert_eq!(Decimal::new(f64::INFINITY), None);
    assert_eq!(Decimal::new(f64::NAN), None);
    for number in [0.0, -0.5, 1e300, -1e-300, f64::MIN, f64::MAX] {
        let ratio = Decimal::new(number).expect("finite");
        let bytes = encoded(&Request::Slabs(SlabsCommand::Automove {
            setting: Automove::Ratio(ratio),
            noreply: false,
        }));
        let digits = bytes
            .strip_prefix(b"slabs automove ratio ")
            .expect("its words");
        let digits = digits.strip_suffix(b"\r\n").expect("its end");
        let plain = |byte: &u8| byte.is_ascii_digit() || b"-.".contains(byte);
        assert!(digits.iter().all(plain), "{}", digits.escape_ascii());
        assert!(bytes.len() < LIMITS.line);
    }
    let every = [0, 1, 255];
    for ids in [&every[..], &[]] {
        let classes = SlabClasses::Some(ClassIds::list(ids));
        let bytes = encoded(&Request::LruCrawler(CrawlerCommand::Crawl(classes)));
        assert_eq!(Tokens(&bytes[..bytes.len() - 2]).count(), 3);
    }
}

/// Bytes that look like requests, more or less.
struct RandomRequests(u64);

impl RandomRequests {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    fn bytes(&mut self) -> Vec<u8> {
        const WORDS: &[&[u8]] = &[
            b"get",
            b"gets",
            b"gat",
            b"gats",
            b"set",
            b"add",
            b"cas",
            b"append",
            b"delete",
            b"incr",
            b"decr",
            b"touch",
            b"mg",
            b"ms",
            b"md",
            b"ma",
            b"mn",
            b"me",
            b"version",
            b"verbosity",
            b"flush_all",
            b"stats",
            b"quit",
            b"shutdown",
            b"watch",
            b"lru",
            b"lru_crawler",
            b"slabs",
            b"cache_memlimit",
            b"refresh_certs",
            b"noreply",
            b"graceful",
            b"tune",
            b"mode",
            b"temp_ttl",
            b"flat",
            b"seg",
            b"crawl",
            b"metadump",
            b"mgdump",
            b"all",
            b"hash",
            b"sleep",
            b"tocrawl",
            b"enable",
            b"reassign",
            b"automove",
            b"ratio",
            b"win",
            b"deletions",
            b"m",
            b"1,2",
            b"0",
            b"1",
            b"2",
            b"3",
            b"-1",
            b"+5",
            b"0.5",
            b"4294967296",
            b"a",
            b"a\r",
            b"\0",
            b"\x80k",
            b"b",
            b"q",
            b"v",
            b"k",
            b"c",
            b"O",
            b"Ox\r",
            b"T30",
            b"T-1",
            b"ME",
            b"MEE",
            b"M+",
            b"MX",
            b"C5",
            b"E7",
            b"F1",
            b"I",
            b"x",
            b"N0",
            b"J1",
            b"D1",
            b"S3",
            b"P\x01",
            b"L",
            b"!",
            b"vfoo",
        ];
        const SEPARATORS: &[&[u8]] = &[b" ", b" ", b" ", b"  ", b"\t", b"\r", b""];
        const ENDS: &[&[u8]] = &[b"\r\n", b"\r\n", b"\n", b"\r\r\n", b" \r\n", b"\r\nabc\r\n"];
        let mut bytes = Vec::new();
        for _ in 0..=self.below(3) {
            for _ in 0..=self.below(7) {
                bytes.extend_from_slice(WORDS[self.below(WORDS.len())]);
                bytes.extend_from_slice(SEPARATORS[self.below(SEPARATORS.len())]);
            }
            bytes.extend_from_slice(ENDS[self.below(ENDS.len())]);
        }
        bytes
    }
}

#[test]
fn injection_by_forwarded_input() {
    // A proxy that reads requests and writes them again makes one out of one, with one meaning.
    let mut hostile = RandomRequests(7);
    let mut read = 0;
    for _ in 0..60_000 {
        let bytes = hostile.bytes();
        let mut decoder = RequestDecoder::new(LIMITS);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match decoder.decode(rest) {
                Ok(None) => break,
                Err(refusal) => rest = &rest[refusal.skip.min(rest.len())..],
                Ok(Some((request, length))) => {
                    read += 1;
                    let again = encoded(&request);
                    assert_eq!(
                        RequestDecoder::new(LIMITS).decode(&again),
                        Ok(Some((request, again.len()))),
                        "{} became {}",
                        rest[..length].escape_ascii(),
                        again.escape_ascii()
                    );
                    rest = &rest[length..];
                }
            }
        }
    }
    assert!(read > 5_000, "{read}");
}

#[test]
fn injection_by_retrieval_without_keys() {
    let bytes = encoded(&Request::Get {
        with_cas: false,
        keys: Keys::list(&[]),
    });
    let refusal = RequestDecoder::new(LIMITS).decode(&bytes);
    assert!(refusal.is_err_and(|refusal| refusal.skip == bytes.len()));
}
