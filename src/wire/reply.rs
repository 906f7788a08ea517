//! Replies of both protocols: what they are, how they are written, how one line is read.

use super::error::DecodeError;
use super::number::{self, put_u64};
use super::reply_flag::ReplyFlags;
use super::token::{at_end, number_u32, number_u64, word};
use bytes::BytesMut;
use core::fmt;

/// One reply, borrowed from the buffer it was read in.
///
/// A retrieval or `stats` is answered by several: `VALUE` or `STAT` replies and a closing one.
/// All of them are older than 1.6 unless a release is named. What answers `watch` and the dumps of
/// `lru_crawler` are no replies, see [`Request::grammar`](super::Request::grammar).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// `STORED`: done, of `set` and its like; also that a password was the right one.
    Stored,
    /// `NOT_STORED`: `add` found an item, or `replace`, `append` or `prepend` found none.
    NotStored,
    /// `EXISTS`: of `cas`, the CAS unique was another.
    Exists,
    /// `NOT_FOUND`: of `cas`, `delete`, `incr`, `decr` and `touch`, there is no such item.
    NotFound,
    /// `DELETED`: of `delete`, done.
    Deleted,
    /// `TOUCHED`: of `touch`, done.
    Touched,
    /// `OK`: of `flush_all`, `verbosity`, `stats detail` and the commands for administrators, done.
    Ok,
    /// `RESET`, of `stats reset`.
    Reset,
    /// `END`, after the last `VALUE` or `STAT`.
    End,
    /// The new number of a counter, of `incr` and `decr`.
    Number(u64),
    /// `VALUE`, with its data: an item of a `get` or one of its kin. Others may follow, then `END`.
    Value(Value<'a>),
    /// `STAT`: one of the answers to `stats`. Others may follow, then `END`.
    Stat {
        /// The name.
        name: &'a [u8],
        /// The value, which may be empty or hold spaces.
        value: &'a [u8],
    },
    /// `VERSION`: the release, as the server calls it.
    Version(&'a [u8]),
    /// `HD`, `VA`, `EN`, `NS`, `EX` or `NF`: of `mg`, `ms`, `md` and `ma` (1.6.10 and later; before
    /// that `HD` was `OK`), and `EN` of `me`.
    Meta(MetaReply<'a>),
    /// `MN`: of `mn`. Everything asked for before has been answered.
    Noop,
    /// `ME`: the rest of the line. [`DebugItem::parse`](super::DebugItem::parse) reads its fields.
    Debug(&'a [u8]),
    /// The server understood and did not do it: `BUSY` and its like, of the commands for
    /// administrators.
    Declined(AdminError<'a>),
    /// Any of the three error lines.
    Error(ErrorReply<'a>),
}

/// One item of a classic retrieval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The number kept with the item.
    pub client_flags: u32,
    /// The CAS unique, with `gets` and `gats`.
    pub cas: Option<u64>,
    /// The data.
    pub data: &'a [u8],
}

/// The reply to a meta request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaReply<'a> {
    /// Which of the six.
    pub status: MetaStatus,
    /// The value requested.
    pub flags: ReplyFlags<'a>,
    /// The data of a `VA`, else nothing.
    pub data: &'a [u8],
}

/// The two letters that a meta reply starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaStatus {
    /// `HD`: done.
    Done,
    /// `VA`: done, with a value (`mg` and `ma` with `v`).
    Value,
    /// `EN`: no such item (`mg`, `me`). Also of `mg` with `N` when memory is short.
    Miss,
    /// `NS`: not stored (`ms` with the mode `E`, `R`, `A` or `P`; `ma`).
    NotStored,
    /// `EX`: the CAS unique was another (`ms`, `md`, `ma` with `C`).
    Exists,
    /// `NF`: no such item (`md`, `ma`, `ms` with `C`).
    NotFound,
}

impl MetaStatus {
    /// The status that a line starts with, if it does, and what stands after it.
    #[inline(always)]
    pub(super) fn split(line: &[u8]) -> Option<(Self, &[u8])> {
        let (letters, rest) = line.split_first_chunk()?;
        if !matches!(rest, [] | [b' ', ..]) {
            return None;
        }
        let status = match letters {
            b"HD" => Self::Done,
            b"VA" => Self::Value,
            b"EN" => Self::Miss,
            b"NS" => Self::NotStored,
            b"EX" => Self::Exists,
            b"NF" => Self::NotFound,
            _ => return None,
        };
        Some((status, rest))
    }

    /// The two letters.
    #[must_use]
    pub const fn as_bytes(self) -> &'static [u8; 2] {
        match self {
            Self::Done => b"HD",
            Self::Value => b"VA",
            Self::Miss => b"EN",
            Self::NotStored => b"NS",
            Self::Exists => b"EX",
            Self::NotFound => b"NF",
        }
    }
}

/// An error line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// Whom the server blames.
    pub source: ErrorSource,
    /// Its words, without the word that names the kind. After `ERROR` and `SERVER_ERROR` some
    /// start with a colon.
    pub text: &'a [u8],
}

/// Whom an error line blames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorSource {
    /// `ERROR`: the command is unknown, or the connection is refused
    /// ([`is_too_many_connections`](ErrorReply::is_too_many_connections)).
    Command,
    /// `CLIENT_ERROR`: the request is malformed or not allowed.
    Client,
    /// `SERVER_ERROR`: the server cannot execute the request, mostly because memory is short.
    Server,
}

impl ErrorSource {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "ERROR",
            Self::Client => "CLIENT_ERROR",
            Self::Server => "SERVER_ERROR",
        }
    }
}

impl ErrorReply<'_> {
    /// Returns `true` if the text stands close to the word, as in `ERROR: shutdown not enabled`.
    fn is_glued(&self) -> bool {
        self.source != ErrorSource::Client && (self.text == b":" || self.text.starts_with(b": "))
    }

    /// Returns `true` if the server had no memory for the item.
    ///
    /// The wording differs by command and release: `out of memory storing object`,
    /// `Out of memory allocating new item`, `out of memory`.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        const START: &[u8] = b"out of memory";
        self.source == ErrorSource::Server
            && self
                .text
                .get(..START.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(START))
    }

    /// Returns `true` if the server has no connection to spare and is about to close this one.
    #[must_use]
    pub fn is_too_many_connections(&self) -> bool {
        self.source == ErrorSource::Command && self.text == b"Too many open connections"
    }

    /// Returns `true` if the server executes nothing before it receives a user and a password
    /// ([`Request::Authenticate`](super::Request::Authenticate)). Of requests that arrive together,
    /// it answers one only.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.source == ErrorSource::Client && self.text == b"unauthenticated"
    }

    /// Returns `true` if the server did not accept a user and a password.
    #[must_use]
    pub fn is_authentication_failure(&self) -> bool {
        self.source == ErrorSource::Client && self.text == b"authentication failure"
    }
}

impl fmt::Display for ErrorReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source.as_str())?;
        if self.text.is_empty() {
            return Ok(());
        }
        let space = if self.is_glued() { "" } else { " " };
        write!(f, "{space}{}", self.text.escape_ascii())
    }
}

/// An answer of the commands for administrators that says no, in words of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminError<'a> {
    /// The word that the line starts with.
    pub reason: AdminErrorReason,
    /// The server's explanation after it.
    pub text: &'a [u8],
}

/// A reason why the server does not do what was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminErrorReason {
    /// `BUSY`: the crawler or the page mover is at work (`lru_crawler`, `slabs reassign`).
    Busy,
    /// `BADCLASS`: there is no such slab class (`lru_crawler`, `slabs reassign`).
    BadClass,
    /// `NOTSTARTED`: there is nothing to crawl (`lru_crawler`).
    NotStarted,
    /// `NOSPARE`: the slab class has no page to give (`slabs reassign`).
    NoSpare,
    /// `SAME`: source and destination are one (`slabs reassign`).
    Same,
    /// `MEMLIMIT_TOO_SMALL` (`cache_memlimit`).
    MemlimitTooSmall,
    /// `MEMLIMIT_ADJUST_FAILED` (`cache_memlimit`).
    MemlimitAdjustFailed,
    /// `WATCHER_TOO_MANY`: there are twenty already (`watch`).
    WatcherTooMany,
    /// `WATCHER_FAILED` (`watch`).
    WatcherFailed,
    /// `Error`, in lower case: the certificates were not read, or there is no TLS
    /// (`refresh_certs`).
    NoCertificates,
}

impl AdminErrorReason {
    const ALL: [Self; 10] = [
        Self::Busy,
        Self::BadClass,
        Self::NotStarted,
        Self::NoSpare,
        Self::Same,
        Self::MemlimitTooSmall,
        Self::MemlimitAdjustFailed,
        Self::WatcherTooMany,
        Self::WatcherFailed,
        Self::NoCertificates,
    ];

    /// The word that the line starts with.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "BUSY",
            Self::BadClass => "BADCLASS",
            Self::NotStarted => "NOTSTARTED",
            Self::NoSpare => "NOSPARE",
            Self::Same => "SAME",
            Self::MemlimitTooSmall => "MEMLIMIT_TOO_SMALL",
            Self::MemlimitAdjustFailed => "MEMLIMIT_ADJUST_FAILED",
            Self::WatcherTooMany => "WATCHER_TOO_MANY",
            Self::WatcherFailed => "WATCHER_FAILED",
            Self::NoCertificates => "Error",
        }
    }
}

impl fmt::Display for AdminError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())?;
        if self.text.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.text.escape_ascii())
    }
}

/// A parsed line: a whole reply, or the head of a value that follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line<'a> {
    Whole(Reply<'a>),
    Head { head: Head<'a>, length: usize },
}

/// The line in front of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head<'a> {
    Classic {
        key: &'a [u8],
        client_flags: u32,
        cas: Option<u64>,
    },
    Meta(ReplyFlags<'a>),
}

impl<'a> Head<'a> {
    pub(crate) fn with_data(self, data: &'a [u8]) -> Reply<'a> {
        match self {
            Self::Classic {
                key,
                client_flags,
                cas,
            } => Reply::Value(Value {
                key,
                client_flags,
                cas,
                data,
            }),
            Self::Meta(flags) => Reply::Meta(MetaReply {
                status: MetaStatus::Value,
                flags,
                data,
            }),
        }
    }
}

impl<'a> Line<'a> {
    /// Reads a line without its line end.
    #[inline(always)]
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, DecodeError> {
        match MetaStatus::split(line) {
            Some((status, rest)) => Self::meta(status, rest).ok_or(DecodeError::MalformedReply),
            None => Self::other(line),
        }
    }

    #[inline(always)]
    fn meta(status: MetaStatus, rest: &'a [u8]) -> Option<Self> {
        if status != MetaStatus::Value {
            return Some(Self::Whole(Reply::Meta(MetaReply {
                status,
                flags: ReplyFlags::parse(rest)?,
                data: b"",
            })));
        }
        let (length, rest) = value_length(rest)?;
        Some(Self::Head {
            head: Head::Meta(ReplyFlags::parse(rest)?),
            length,
        })
    }

    /// Dispatch is a `match` on the first word, so that a half-known word is never taken for a
    /// shorter one (`EN` and `END`).
    #[inline(never)]
    pub(super) fn other(line: &'a [u8]) -> Result<Self, DecodeError> {
        let whole = |reply| Ok(Self::Whole(reply));
        // To compare the whole line takes less than to look for the end of its first word.
        if let Some(reply) = Self::without_arguments(line) {
            return whole(reply);
        }
        let split = line.iter().position(|byte| *byte == b' ');
        let (first, rest) = line.split_at(split.unwrap_or(line.len()));
        let error = |blame| {
            let text = rest.strip_prefix(b" ").unwrap_or(rest);
            whole(Reply::Error(ErrorReply {
                source: blame,
                text,
            }))
        };
        match first {
            b"VALUE" => Self::classic_head(rest),
            b"STAT" => {
                let (rest, name) = word(rest).map_err(|_| DecodeError::MalformedReply)?;
                let value = rest.strip_prefix(b" ").unwrap_or(rest);
                whole(Reply::Stat { name, value })
            }
            b"VERSION" => whole(Reply::Version(rest.strip_prefix(b" ").unwrap_or(rest))),
            b"ME" => whole(Reply::Debug(rest.strip_prefix(b" ").unwrap_or(rest))),
            b"ERROR" => error(ErrorSource::Command),
            b"CLIENT_ERROR" => error(ErrorSource::Client),
            b"SERVER_ERROR" => error(ErrorSource::Server),
            // `ERROR: shutdown not enabled` and `SERVER_ERROR: …` have their colon glued on.
            b"ERROR:" => whole(Reply::Error(ErrorReply {
                source: ErrorSource::Command,
                text: &line[b"ERROR".len()..],
            })),
            b"SERVER_ERROR:" => whole(Reply::Error(ErrorReply {
                source: ErrorSource::Server,
                text: &line[b"SERVER_ERROR".len()..],
            })),
            _ => match number::parse_u64(first) {
                Some(number) if at_end(rest) => whole(Reply::Number(number)),
                Some(_) => Err(DecodeError::MalformedReply),
                None => Self::rare(first, rest),
            },
        }
    }

    /// Tested last: no caller waits for these.
    #[cold]
    fn rare(first: &[u8], rest: &'a [u8]) -> Result<Self, DecodeError> {
        match Self::without_arguments(first) {
            // Stray spaces may follow (older `HD `).
            Some(reply) if at_end(rest) => Ok(Self::Whole(reply)),
            Some(_) => Err(DecodeError::MalformedReply),
            None => Self::declined(first, rest)
                .map(|declined| Self::Whole(Reply::Declined(declined)))
                .ok_or(DecodeError::UnknownReply),
        }
    }

    /// The reply that a word alone makes.
    #[inline(always)]
    fn without_arguments(word: &[u8]) -> Option<Reply<'a>> {
        Some(match word {
            b"MN" => Reply::Noop,
            b"STORED" => Reply::Stored,
            b"NOT_STORED" => Reply::NotStored,
            b"EXISTS" => Reply::Exists,
            b"NOT_FOUND" => Reply::NotFound,
            b"DELETED" => Reply::Deleted,
            b"TOUCHED" => Reply::Touched,
            b"OK" => Reply::Ok,
            b"RESET" => Reply::Reset,
            b"END" => Reply::End,
            _ => return None,
        })
    }

    /// An answer of the commands for administrators.
    fn declined(first: &[u8], rest: &'a [u8]) -> Option<AdminError<'a>> {
        let reason = AdminErrorReason::ALL
            .into_iter()
            .find(|reason| reason.as_str().as_bytes() == first)?;
        let text = rest.strip_prefix(b" ").unwrap_or(rest);
        Some(AdminError { reason, text })
    }

    fn classic_head(rest: &'a [u8]) -> Result<Self, DecodeError> {
        let malformed = |_| DecodeError::MalformedReply;
        let (rest, key) = word(rest).map_err(malformed)?;
        let (rest, client_flags) = number_u32(rest).map_err(malformed)?;
        let (rest, length) = number_u32(rest).map_err(malformed)?;
        let (rest, cas) = match number_u64(rest) {
            Ok((rest, cas)) => (rest, Some(cas)),
            Err(_) => (rest, None),
        };
        if !at_end(rest) {
            return Err(DecodeError::MalformedReply);
        }
        Ok(Self::Head {
            head: Head::Classic {
                key,
                client_flags,
                cas,
            },
            length: length as usize,
        })
    }
}

/// The length in the head of a value, and what stands after it.
#[inline(always)]
pub(super) fn value_length(mut text: &[u8]) -> Option<(usize, &[u8])> {
    while let [b' ', behind @ ..] = text {
        text = behind;
    }
    let (length, rest) = number::split_u64(text)?;
    Some((u32::try_from(length).ok()? as usize, rest))
}

impl Reply<'_> {
    /// Appends the bytes of the reply.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Stored => out.extend_from_slice(b"STORED"),
            Self::NotStored => out.extend_from_slice(b"NOT_STORED"),
            Self::Exists => out.extend_from_slice(b"EXISTS"),
            Self::NotFound => out.extend_from_slice(b"NOT_FOUND"),
            Self::Deleted => out.extend_from_slice(b"DELETED"),
            Self::Touched => out.extend_from_slice(b"TOUCHED"),
            Self::Ok => out.extend_from_slice(b"OK"),
            Self::Reset => out.extend_from_slice(b"RESET"),
            Self::End => out.extend_from_slice(b"END"),
            Self::Number(number) => put_u64(out, *number),
            Self::Value(value) => {
                out.extend_from_slice(b"VALUE ");
                out.extend_from_slice(value.key);
                out.extend_from_slice(b" ");
                put_u64(out, u64::from(value.client_flags));
                out.extend_from_slice(b" ");
                put_u64(out, value.data.len() as u64);
                if let Some(cas) = value.cas {
                    out.extend_from_slice(b" ");
                    put_u64(out, cas);
                }
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(value.data);
            }
            Self::Stat { name, value } => {
                out.extend_from_slice(b"STAT ");
                out.extend_from_slice(name);
                out.extend_from_slice(b" ");
                out.extend_from_slice(value);
            }
            Self::Version(version) => {
                out.extend_from_slice(b"VERSION ");
                out.extend_from_slice(version);
            }
            Self::Meta(meta) => {
                out.extend_from_slice(meta.status.as_bytes());
                if meta.status == MetaStatus::Value {
                    out.extend_from_slice(b" ");
                    put_u64(out, meta.data.len() as u64);
                }
                meta.flags.iter().for_each(|flag| flag.encode(out));
                if meta.status == MetaStatus::Value {
                    out.extend_from_slice(b"\r\n");
                    out.extend_from_slice(meta.data);
                }
            }
            Self::Noop => out.extend_from_slice(b"MN"),
            Self::Debug(line) => {
                out.extend_from_slice(b"ME ");
                out.extend_from_slice(line);
            }
            Self::Declined(declined) => {
                out.extend_from_slice(declined.reason.as_str().as_bytes());
                if !declined.text.is_empty() {
                    out.extend_from_slice(b" ");
                    out.extend_from_slice(declined.text);
                }
            }
            Self::Error(error) => {
                out.extend_from_slice(error.source.as_str().as_bytes());
                if !error.text.is_empty() && !error.is_glued() {
                    out.extend_from_slice(b" ");
                }
                out.extend_from_slice(error.text);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn read(line: &[u8]) -> Option<Reply<'_>> {
        match Line::parse(line) {
            Ok(Line::Whole(reply)) => Some(reply),
            _ => None,
        }
    }

    #[test]
    fn refusals_are_known_by_word() {
        for reason in AdminErrorReason::ALL {
            let line = format!("{} and why", reason.as_str());
            let declined = AdminError {
                reason,
                text: b"and why",
            };
            assert_eq!(read(line.as_bytes()), Some(Reply::Declined(declined)));
            assert_eq!(format!("{declined}"), line);
            let bare = AdminError {
                text: b"",
                ..declined
            };
            assert_eq!(
                read(reason.as_str().as_bytes()),
                Some(Reply::Declined(bare))
            );
            assert_eq!(format!("{bare}"), reason.as_str());
        }
    }

    #[test]
    fn reply_errors_name_their_cause() {
        let error = |line| match read(line) {
            Some(Reply::Error(error)) => error,
            other => panic!("{other:?}"),
        };
        for line in [
            &b"SERVER_ERROR out of memory storing object"[..],
            b"SERVER_ERROR Out of memory allocating new item",
            b"SERVER_ERROR out of memory",
        ] {
            assert!(error(line).is_out_of_memory());
        }
        assert!(!error(b"CLIENT_ERROR out of memory").is_out_of_memory());
        assert!(!error(b"SERVER_ERROR out of").is_out_of_memory());
        assert!(error(b"ERROR Too many open connections").is_too_many_connections());
        assert!(!error(b"ERROR").is_too_many_connections());
        assert!(error(b"CLIENT_ERROR unauthenticated").is_unauthenticated());
        assert!(!error(b"SERVER_ERROR unauthenticated").is_unauthenticated());
        assert!(error(b"CLIENT_ERROR authentication failure").is_authentication_failure());
        assert!(!error(b"CLIENT_ERROR unauthenticated").is_authentication_failure());
        for line in [
            "ERROR: shutdown not enabled",
            "SERVER_ERROR: shutdown not enabled",
            "ERROR:",
            "ERROR :x",
            "SERVER_ERROR :x",
            "CLIENT_ERROR :x",
            "CLIENT_ERROR : x",
        ] {
            let mut out = BytesMut::new();
            Reply::Error(error(line.as_bytes())).encode(&mut out);
            assert_eq!(out, format!("{line}\r\n"));
        }
        for line in [
            "ERROR",
            "CLIENT_ERROR bad data chunk",
            "SERVER_ERROR out of memory",
        ] {
            assert_eq!(format!("{}", error(line.as_bytes())), line);
        }
    }
}
