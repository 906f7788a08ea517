//! Requests as a server reads them.
//!
//! The grammar is that of the newest memcached (1.6.45), with its leniencies and its refusals:
//! what it answers to a malformed request, and whether it takes the bytes after the line for a
//! value or for the next command, was measured and is kept here.

use super::admin_parse;
use super::error_reply::ErrorReply;
use super::key::Key;
use super::limits::Limits;
use super::meta_parse::{meta, meta_debug, meta_set};
use super::number;
use super::request::{Keys, Request, Store, StoreVerb};
use super::request_line::{Head, Rejected, RequestLine, fits, key, value_length};
use super::token::{Tokens, number_i64};
use nom::Parser;
use nom::combinator::map_opt;

/// The longest line of a `get` or `gets`, the only commands whose line may pass
/// [`Limits::line`]. memcached has no limit here; something has to.
const RETRIEVAL_LINE: usize = 1024 * 1024;

/// The response of a server to a request that it does not execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// Its reply, or `None` where it sends none: `noreply` silences errors too.
    pub reply: Option<ErrorReply<'static>>,
    /// The number of bytes from the start of the buffer that are done with. More than the buffer
    /// holds when a value is swallowed that has not arrived.
    pub skip: usize,
    /// `true` if the server closes the connection instead of going on after those bytes.
    pub close: bool,
    /// The request whose value was over the limit, with an empty value: `set` and `ms` delete
    /// what stands under their key even so.
    pub oversized: Option<Request<'a>>,
}

/// Finds requests in a growing buffer and remembers how far it has looked.
///
/// The counterpart of [`ReplyDecoder`](super::ReplyDecoder). Values over [`Limits::value`] are
/// never waited for.
#[derive(Debug, Clone)]
pub struct RequestDecoder {
    limits: Limits,
    /// Bytes at the start of the buffer known to hold no line end. 0 <= `scanned` <= buffer.
    scanned: usize,
    /// Once the line of a storage request has been read: how long line and value are together.
    needed: Option<usize>,
}

impl RequestDecoder {
    /// A decoder for the start of a buffer.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            scanned: 0,
            needed: None,
        }
    }

    /// The request at the start of `buffer` and its length in bytes, or `None` while it is
    /// incomplete. The caller passes the same bytes again with more after them, or, after a
    /// request or a refusal, what follows it.
    ///
    /// # Errors
    /// A [`Rejection`] says what the server does instead.
    pub fn decode<'a>(
        &mut self,
        buffer: &'a [u8],
    ) -> Result<Option<(Request<'a>, usize)>, Rejection<'a>> {
        if self.needed.is_some_and(|needed| buffer.len() < needed) {
            return Ok(None);
        }
        // The binary protocol shares the port with the text protocols and is not spoken here.
        if buffer.first() == Some(&0x80) {
            return Err(self.refuse(buffer.len(), Rejected::closing()));
        }
        let Some(end) = self.line_end(buffer)? else {
            return Ok(None);
        };
        let start = end + 1;
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let (head, length) = match parse_line(line, start) {
            Ok(RequestLine::Whole(request)) => {
                self.forget();
                return Ok(Some((request, start)));
            }
            Ok(RequestLine::Head(head, length)) => (head, length),
            Err(refused) => return Err(self.refuse(start, refused)),
        };
        if length > self.limits.value {
            let mut refusal = self.refuse(
                start,
                Rejected {
                    swallow: length.saturating_add(2),
                    silent: head.noreply(),
                    ..Rejected::server("object too large for cache")
                },
            );
            refusal.oversized = Some(head.with_value(b""));
            return Err(refusal);
        }
        let total = start + length + 2;
        let Some(block) = buffer.get(start..total) else {
            self.needed = Some(total);
            return Ok(None);
        };
        let Some(value) = block.strip_suffix(b"\r\n") else {
            return Err(self.refuse(
                total,
                Rejected {
                    silent: head.noreply(),
                    ..Rejected::client("bad data chunk")
                },
            ));
        };
        self.forget();
        Ok(Some((head.with_value(value), total)))
    }

    /// The position of the LF that ends the first line.
    fn line_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Rejection<'static>> {
        let limit = if is_retrieval(buffer) {
            RETRIEVAL_LINE
        } else {
            self.limits.line
        };
        let from = self.scanned.min(buffer.len());
        let window = &buffer[from..buffer.len().min(limit).max(from)];
        match memchr::memchr(b'\n', window) {
            Some(found) => {
                self.scanned = from + found;
                Ok(Some(from + found))
            }
            None if buffer.len() >= limit => Err(self.refuse(buffer.len(), Rejected::closing())),
            None => {
                self.scanned = buffer.len();
                Ok(None)
            }
        }
    }

    fn refuse<'a>(&mut self, start: usize, refused: Rejected) -> Rejection<'a> {
        self.forget();
        Rejection {
            reply: (!refused.silent).then_some(refused.reply),
            skip: start.saturating_add(refused.swallow),
            close: refused.close,
            oversized: None,
        }
    }

    fn forget(&mut self) {
        self.scanned = 0;
        self.needed = None;
    }
}

/// Reads a line without its line end, which was `length` bytes long with it.
fn parse_line<'a>(line: &'a [u8], length: usize) -> Result<RequestLine<'a>, Rejected> {
    // Two letters and CR LF is the least there is; a bare LF makes `mn` too short.
    if length < 4 {
        return Err(Rejected::format());
    }
    let split = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (verb, rest) = line.split_at(split);
    let store = |verb| classic_store(verb, rest);
    let whole = |request: Result<Request<'a>, Rejected>| request.map(RequestLine::Whole);
    match verb {
        b"mg" => whole(meta(b'g', rest)),
        b"ms" => meta_set(rest),
        b"md" => whole(meta(b'd', rest)),
        b"ma" => whole(meta(b'a', rest)),
        b"mn" => Ok(RequestLine::Whole(Request::MetaNoop)),
        b"me" => whole(meta_debug(rest)),
        b"get" => whole(get(false, rest)),
        b"gets" => whole(get(true, rest)),
        b"gat" => whole(get_and_touch(false, rest)),
        b"gats" => whole(get_and_touch(true, rest)),
        b"set" => store(StoreVerb::Set),
        b"add" => store(StoreVerb::Add),
        b"replace" => store(StoreVerb::Replace),
        b"append" => store(StoreVerb::Append),
        b"prepend" => store(StoreVerb::Prepend),
        b"cas" => store(StoreVerb::Cas(0)),
        b"delete" => whole(delete(rest)),
        b"incr" => whole(arithmetic(true, rest)),
        b"decr" => whole(arithmetic(false, rest)),
        b"touch" => whole(touch(rest)),
        b"version" => Ok(RequestLine::Whole(Request::Version)),
        b"quit" => Ok(RequestLine::Whole(Request::Quit)),
        b"stats" => Ok(RequestLine::Whole(Request::Stats {
            group: Keys::from_line(rest),
        })),
        _ => whole(uncommon(line)),
    }
}

/// The commands that the server looks up by their first word wherever it stands, and the rest.
fn uncommon(line: &[u8]) -> Result<Request<'_>, Rejected> {
    let noreply = last_word(line) == Some(b"noreply");
    let mut words = Tokens(line);
    let request = match words.next() {
        // `noreply` is no stream, and both of these answer in spite of it.
        Some(b"watch") => return admin_parse::watch(words.0),
        Some(b"refresh_certs") => return Ok(Request::RefreshCerts),
        Some(b"cache_memlimit") => admin_parse::cache_memlimit(words.0, noreply),
        Some(b"lru") => admin_parse::lru(words.0, noreply),
        // Counts its words, so that with `noreply` it is never one of its commands.
        Some(b"lru_crawler") if noreply => Err(Rejected::unknown()),
        Some(b"lru_crawler") => admin_parse::lru_crawler(words.0),
        Some(b"slabs") => admin_parse::slabs(words.0, noreply),
        Some(b"flush_all") => flush_all(words.0, noreply),
        Some(b"verbosity") => verbosity(words.0, noreply),
        Some(b"shutdown") => shutdown(words),
        // A stray web browser. The command `HTTP/1.1` alone is only unknown.
        Some(_) if words.last().is_some_and(|last| last.starts_with(b"HTTP/")) => {
            return Err(Rejected::closing());
        }
        _ => Err(Rejected::unknown()),
    };
    request.map_err(|refused| refused.silent_if(noreply))
}

fn get(with_cas: bool, rest: &[u8]) -> Result<Request<'_>, Rejected> {
    if Tokens(rest).next().is_none() {
        return Err(Rejected::format());
    }
    keys(rest).map(|keys| Request::Get { with_cas, keys })
}

fn get_and_touch(with_cas: bool, rest: &[u8]) -> Result<Request<'_>, Rejected> {
    if Tokens(rest).nth(1).is_none() {
        return Err(Rejected::format());
    }
    let (rest, exptime) = map_opt(number_i64, within_int)
        .parse_complete(rest)
        .map_err(|_| Rejected::client("invalid exptime argument"))?;
    keys(rest).map(|keys| Request::GetAndTouch {
        with_cas,
        exptime,
        keys,
    })
}

/// The keys of a retrieval. One that is too long spoils all.
fn keys(rest: &[u8]) -> Result<Keys<'_>, Rejected> {
    if Tokens(rest).all(fits) {
        Ok(Keys::from_line(rest))
    } else {
        // 1.6.45 ends this one line twice.
        Err(Rejected::client("bad command line format\r\n"))
    }
}

fn classic_store(verb: StoreVerb, rest: &[u8]) -> Result<RequestLine<'_>, Rejected> {
    // Until the length is known nothing can be swallowed, and `noreply` is not looked for.
    let mut words = Tokens(rest);
    let (Some(name), Some(client_flags), Some(exptime), Some(length)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Rejected::format());
    };
    let length = value_length(length).ok_or(Rejected::format())?;
    let noreply = last_word(rest) == Some(b"noreply");
    let swallowed = Rejected {
        swallow: length + 2,
        silent: noreply,
        ..Rejected::format()
    };
    let key = key(name).ok_or(swallowed)?;
    let client_flags = lenient_u32(client_flags).ok_or(swallowed)?;
    let exptime = lenient_seconds(exptime).ok_or(swallowed)?;
    let verb = match verb {
        StoreVerb::Cas(_) => {
            let unique = words.next().and_then(number::parse_u64);
            StoreVerb::Cas(unique.ok_or(swallowed)?)
        }
        other => other,
    };
    let store = Store {
        verb,
        key,
        client_flags,
        exptime,
        value: b"",
        noreply,
    };
    Ok(RequestLine::Head(Head::Classic(store), length))
}

fn delete(rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let name = Tokens(rest).next().ok_or(Rejected::format())?;
    // With nothing after it, a key of that name is taken for the option as well.
    let noreply = last_word(rest) == Some(b"noreply");
    let key = key(name).ok_or(Rejected::format().silent_if(noreply))?;
    Ok(Request::Delete { key, noreply })
}

fn arithmetic(add: bool, rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let (key, delta, noreply) = key_and_argument(rest)?;
    let delta = number::parse_u64(delta)
        .ok_or(Rejected::client("invalid numeric delta argument").silent_if(noreply))?;
    Ok(Request::Arithmetic {
        add,
        key,
        delta,
        noreply,
    })
}

fn touch(rest: &[u8]) -> Result<Request<'_>, Rejected> {
    let (key, exptime, noreply) = key_and_argument(rest)?;
    let exptime =
        seconds(exptime).ok_or(Rejected::client("invalid exptime argument").silent_if(noreply))?;
    Ok(Request::Touch {
        key,
        exptime,
        noreply,
    })
}

fn key_and_argument(rest: &[u8]) -> Result<(Key<'_>, &[u8], bool), Rejected> {
    let mut words = Tokens(rest);
    let (Some(name), Some(argument)) = (words.next(), words.next()) else {
        return Err(Rejected::format());
    };
    let noreply = last_word(rest) == Some(b"noreply");
    let key = key(name).ok_or(Rejected::format().silent_if(noreply))?;
    Ok((key, argument, noreply))
}

fn flush_all(rest: &[u8], noreply: bool) -> Result<Request<'_>, Rejected> {
    let mut words = Tokens(rest);
    let delay = match (words.next(), words.next()) {
        (None, _) => None,
        (Some(_), None) if noreply => None,
        (Some(delay), _) => {
            Some(seconds(delay).ok_or(Rejected::client("invalid exptime argument"))?)
        }
    };
    Ok(Request::FlushAll { delay, noreply })
}

fn verbosity(rest: &[u8], noreply: bool) -> Result<Request<'_>, Rejected> {
    let level = Tokens(rest)
        .next()
        .and_then(number::parse_u32)
        .ok_or(Rejected::format())?;
    Ok(Request::Verbosity {
        level: u64::from(level),
        noreply,
    })
}

fn shutdown(mut words: Tokens<'_>) -> Result<Request<'_>, Rejected> {
    match (words.next(), words.next()) {
        (None, _) => Ok(Request::Shutdown { graceful: false }),
        // The server compares no further than the word goes.
        (Some(mode), None) if b"graceful".starts_with(mode) => {
            Ok(Request::Shutdown { graceful: true })
        }
        _ => Err(Rejected::client("invalid shutdown mode")),
    }
}

/// The lines that may be longer than others. Known only once the word is complete; before that
/// no line is long enough for it to matter.
fn is_retrieval(buffer: &[u8]) -> bool {
    buffer.starts_with(b"get ") || buffer.starts_with(b"gets ")
}

fn last_word(line: &[u8]) -> Option<&[u8]> {
    line.rsplit(|byte| *byte == b' ')
        .find(|word| !word.is_empty())
}

/// An `int` of seconds, strictly read.
fn seconds(digits: &[u8]) -> Option<i64> {
    number::parse_i64(digits).and_then(within_int)
}

fn within_int(seconds: i64) -> Option<i64> {
    i32::try_from(seconds).ok().map(i64::from)
}

/// An expiry as `set` and its like read it: through `strtol`, cut to an `int`.
fn lenient_seconds(digits: &[u8]) -> Option<i64> {
    let seconds = number::parse_i64(without_plus(digits))?;
    #[allow(clippy::cast_possible_truncation)]
    let cut = seconds as i32;
    Some(i64::from(cut))
}

/// Client flags as `set` and its like read them: through `strtoul`, cut to 32 bits.
fn lenient_u32(digits: &[u8]) -> Option<u32> {
    let number = number::parse_u64(without_plus(digits))?;
    #[allow(clippy::cast_possible_truncation)]
    let cut = number as u32;
    Some(cut)
}

fn without_plus(digits: &[u8]) -> &[u8] {
    digits.strip_prefix(b"+").unwrap_or(digits)
}

#[cfg(test)]
mod tests;
