//! Meta requests, as a server reads them.

use super::flag::{Flag, FlagError};
use super::flags::Flags;
use super::key::Key;
use super::request::Request;
use super::request_line::{Head, Rejected, RequestLine, key, value_length};
use super::token::{Parsed, Tokens, word};
use nom::Parser;
use nom::combinator::map_opt;

/// A meta line has at most this many words, the command and the key included.
const META_WORDS: usize = 20;

/// `mg`, `md` and `ma`, distinguished by their second letter.
pub(super) fn meta(letter: u8, rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let (flags, name) = word(rest).map_err(|_| Rejected::format())?;
    if !flags_are_alphanumeric(flags) {
        return Err(Rejected::format());
    }
    let checked = check_meta(name, flags, 2);
    if letter == b'a' {
        let key = checked.map_err(|_| Rejected::client("invalid or duplicate flag"))?;
        let flags = Flags::from_line(flags);
        if !matches!(flags.mode_letter(), None | Some(b'I' | b'+' | b'D' | b'-')) {
            return Err(Rejected::client("invalid mode for ma M token"));
        }
        check_opaque(flags)?;
        return Ok(Request::MetaArithmetic { key, flags });
    }
    let key = checked?;
    let flags = Flags::from_line(flags);
    check_opaque(flags)?;
    Ok(match letter {
        b'g' => Request::MetaGet { key, flags },
        _ => Request::MetaDelete { key, flags },
    })
}

pub(super) fn meta_set(rest: &[u8]) -> Result<RequestLine<'_>, Rejected> {
    let (rest, name) = word(rest).map_err(|_| Rejected::format())?;
    let (flags, length) = datalen(rest).map_err(|_| Rejected::format())?;
    if !flags_are_alphanumeric(flags) {
        return Err(Rejected::format());
    }
    let swallow = |refused: Rejected| refused.swallowing(length + 2);
    let key = check_meta(name, flags, 3).map_err(swallow)?;
    let flags = Flags::from_line(flags);
    if !matches!(
        flags.mode_letter(),
        None | Some(b'E' | b'A' | b'P' | b'R' | b'S')
    ) {
        return Err(swallow(Rejected::client("invalid mode for ms M token")));
    }
    check_opaque(flags).map_err(swallow)?;
    Ok(RequestLine::Head(Head::Meta { key, flags }, length))
}

pub(super) fn meta_debug(rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let mut words = Tokens(rest);
    let name = words.next().ok_or(Rejected::format())?;
    let key = key(name).ok_or(Rejected::format())?;
    let base64 = words.next() == Some(b"b");
    if words.next().is_some() {
        return Err(Rejected::format());
    }
    Ok(Request::MetaDebug { key, base64 })
}

/// Checks what the server's tokenizer requires before it knows where a value would end.
fn flags_are_alphanumeric(flags: &[u8]) -> bool {
    Tokens(flags).all(|flag| flag[0].is_ascii_alphanumeric())
}

/// Key and flags of a meta request with this many words in front of the flags.
///
/// A repeated or unknown letter ends the search immediately; of several bad arguments the last one
/// is reported.
fn check_meta<'a>(name: &'a [u8], flags: &[u8], before: usize) -> Result<Key<'a>, Rejected> {
    let key = key(name).ok_or(Rejected::format())?;
    if Tokens(flags).count() + before > META_WORDS {
        return Err(Rejected::client("options flags are too long"));
    }
    let mut seen = 0u128;
    let mut bad = None;
    for flag in Tokens(flags) {
        let bit = 1u128.wrapping_shl(u32::from(flag[0]));
        if seen & bit != 0 {
            return Err(Rejected::client("duplicate flag"));
        }
        seen |= bit;
        match Flag::read(flag) {
            // Old protocol texts have an `S` for the length; the server has forgotten it.
            Ok(Flag::OldLength(_)) | Err(FlagError::Unknown) => {
                return Err(Rejected::client("invalid flag"));
            }
            // Judged later, as the length of a token is, and only by the commands that use it.
            Ok(_) | Err(FlagError::BadMode) => {}
            Err(_) if flag[0] == b'S' => return Err(Rejected::client("invalid flag")),
            // The server forgets to say anything about `F` and keeps what it said before.
            Err(_) if flag[0] == b'F' => bad = bad.or(Some("bad command line format")),
            Err(FlagError::BadDelta) => bad = Some("invalid numeric delta value"),
            Err(FlagError::BadInitial) => bad = Some("invalid numeric initial value"),
            Err(_) => bad = Some("bad token in command line format"),
        }
    }
    bad.map_or(Ok(key), |text| Err(Rejected::client(text)))
}

fn check_opaque(flags: Flags<'_>) -> Result<(), Rejected> {
    if flags.opaque_is_too_long() {
        return Err(Rejected::client("opaque token too long"));
    }
    Ok(())
}

fn datalen(line: &[u8]) -> Parsed<'_, usize> {
    map_opt(word, value_length).parse_complete(line)
}
