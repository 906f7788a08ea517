//! Replies of both protocols, and how they are written.

use super::error_reply::{AdminError, ErrorReply};
use super::number::put_u64;
use super::reply_flag::ReplyFlags;
use bytes::BytesMut;

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
