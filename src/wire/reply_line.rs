//! Parses one line of a reply.

use super::error::DecodeError;
use super::error_reply::{AdminError, AdminErrorReason, ErrorReply, ErrorSource};
use super::number;
use super::reply::{MetaReply, MetaStatus, Reply, Value};
use super::reply_flag::ReplyFlags;
use super::token::{at_end, number_u32, number_u64, word};

/// A parsed line: a whole reply, or the head of a value that follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReplyLine<'a> {
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

impl<'a> ReplyLine<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use bytes::BytesMut;

    fn read(line: &[u8]) -> Option<Reply<'_>> {
        match ReplyLine::parse(line) {
            Ok(ReplyLine::Whole(reply)) => Some(reply),
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
