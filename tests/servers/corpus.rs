//! The codec and the embedded server against transcripts of real servers.
//!
//! `tests/data/corpus/<version>.tsv` holds one exchange a row, see the first line for the columns.
//! CAS uniques, pids, times and versions in them are those of that run.
#![cfg(feature = "server")]

mod cases;
mod embedded;
mod exchange;
#[cfg(unix)]
mod real;

#[cfg(unix)]
use crate::support::memcached;
use bytes::BytesMut;
use cases::{Case, NEWEST, VERSIONS, cases};
use core::fmt::Write as _;
use exchange::{Rules, Told, requests, understand};
use memlatch::wire::{DecodeError, Limits, ReplyDecoder, RequestDecoder};

/// Responses that no decoder can attribute, by version and name, and the error that is reported
/// instead.
const NOT_UNDERSTOOD: &[(&str, &str, &str)] = &[
    // The binary protocol has no lines; one that is not spoken can only be distinguished from the
    // others, which its first byte does.
    ("1.6.18", "binary-magic", ""),
    ("1.6.38", "binary-magic", ""),
    ("1.6.45", "binary-magic", ""),
    // One line too many: an empty one, which is no reply to anything. To pass over it would be to
    // guess. Our keys are never that long.
    (
        "1.6.45",
        "get-key251",
        "CLIENT_ERROR bad command line format\r\n",
    ),
    (
        "1.6.45",
        "get-multi-key251",
        "CLIENT_ERROR bad command line format\r\n",
    ),
];

/// Well-formed requests that servers before 1.6.40 take for something else.
const READ_OTHERWISE: &[(&str, &str)] = &[
    (
        "set-extra-arg",
        "too many words, and the value is a command",
    ),
    ("delete-key-noreply", "the key is a key and nothing else"),
];

/// Requests that are spelt in a way of their own: what they mean comes back, but in the spelling
/// that there is for it.
const OTHER_SPELLINGS: &[(&str, &str)] = &[
    ("set-flags-over", "more than 32 bits are cut off"),
    ("set-exp-overflow", "more than 32 bits are cut off"),
    ("set-exp-u32", "more than 31 bits are a negative number"),
    ("set-extra-arg", "words behind the last are dropped"),
    ("set-noreply-misspelt", "words behind the last are dropped"),
    ("delete-zero", "words behind the last are dropped"),
    ("delete-nonzero", "words behind the last are dropped"),
    (
        "delete-key-noreply",
        "the key stands for the option as well",
    ),
    ("mn-args", "words behind the last are dropped"),
    ("ms-M-2char", "of the mode only one letter is looked at"),
    ("watch-prefix", "names of streams may be cut short"),
];

fn limits(case: &Case) -> Limits {
    let value = if case.args.contains("-I 4k") {
        4096
    } else {
        Limits::SERVER.value
    };
    Limits {
        value,
        ..Limits::SERVER
    }
}

#[test]
fn recorded_replies_decode_at_any_split() {
    let mut wrong = String::new();
    for version in VERSIONS {
        let mut understood = 0;
        for case in cases(version) {
            let excepted = NOT_UNDERSTOOD
                .iter()
                .any(|(of, name, _)| *of == version && *name == case.name);
            if excepted {
                continue;
            }
            understood += 1;
            let told = requests(&case.request, limits(&case));
            let refused = told.iter().any(|told| matches!(told, Told::Refused(_)));
            let otherwise = READ_OTHERWISE.iter().any(|(name, _)| *name == case.name);
            let rules = Rules {
                as_the_parser: version == NEWEST || !(refused || otherwise),
                password: case.args.contains("-Y"),
            };
            let mut splits = 0..=case.response.len();
            let failure =
                splits.find_map(|split| understand(&told, &case.response, split, rules).err());
            if let Some(failure) = failure {
                let response = case.response.escape_ascii();
                let _ = writeln!(wrong, "{version} {}: {failure}: {response}", case.name);
            }
        }
        assert!(understood > 230, "{version}: {understood}");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn unattributable_reply_is_an_error() {
    for (version, name, before) in NOT_UNDERSTOOD {
        let mut cases = cases(version).into_iter();
        let case = cases.find(|case| case.name == *name).expect("the case");
        let rest = case.response.strip_prefix(before.as_bytes());
        let mut rest = rest.expect("what comes before it");
        // At its first byte where that tells it, else at the end of its line.
        if before.is_empty() {
            rest = &rest[..1];
        }
        let mut decoder = ReplyDecoder::new(Limits::SERVER);
        let told = decoder.decode(rest);
        assert_eq!(told, Err(DecodeError::UnknownReply), "{version} {name}");
    }
}

/// With single spaces, none at the end of the line, and CR LF.
fn normalised(request: &[u8], value: usize) -> Vec<u8> {
    let (line, value) = request.split_at(request.len() - value);
    let line = line.strip_suffix(b"\n").expect("a line end");
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words = line.split(|byte| *byte == b' ');
    let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
    [&words.join(&b' ')[..], b"\r\n", value].concat()
}

#[test]
fn recorded_requests_survive_round_trip() {
    let mut wrong = String::new();
    let mut other_spellings = Vec::new();
    let mut read = 0;
    for version in VERSIONS {
        for case in cases(version) {
            for told in requests(&case.request, limits(&case)) {
                let Told::Request(request, bytes) = told else {
                    continue;
                };
                read += 1;
                let mut again = BytesMut::new();
                request.encode(&mut again);
                let decoded = RequestDecoder::new(limits(&case)).decode(&again);
                if decoded != Ok(Some((request, again.len()))) {
                    let _ = writeln!(
                        wrong,
                        "{version} {}: {} became {}, which is {decoded:?}",
                        case.name,
                        bytes.escape_ascii(),
                        again.escape_ascii()
                    );
                }
                let line = memchr::memchr(b'\n', bytes).expect("a line end");
                if normalised(bytes, bytes.len() - line - 1) != again[..] {
                    other_spellings.push(case.name.clone());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(read > 700, "{read}");
    other_spellings.sort();
    other_spellings.dedup();
    let mut listed: Vec<&str> = OTHER_SPELLINGS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(other_spellings, listed);
}

/// That the refusals in the transcript of the newest server are looked at, and how many there are.
#[test]
fn malformed_requests_get_newest_servers_reply() {
    let mut refusals = 0;
    for case in cases(NEWEST) {
        let told = requests(&case.request, limits(&case));
        for told in told {
            let Told::Refused(Some(reply)) = told else {
                continue;
            };
            refusals += 1;
            let mut line = BytesMut::new();
            memlatch::wire::Reply::Error(reply).encode(&mut line);
            let mut windows = case.response.windows(line.len());
            // Before the password nothing else is looked at.
            assert!(
                windows.any(|window| window == line) || case.args.contains("-Y"),
                "{}: {}",
                case.name,
                line.escape_ascii()
            );
        }
    }
    assert!(refusals > 60, "{refusals}");
}
