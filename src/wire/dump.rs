//! Replies to `lru_crawler metadump` and `mgdump`.
//!
//! Grammars of their own: lines that are no replies, as many as there are items. They come on a
//! connection that is used for nothing else meanwhile.

use super::debug_item::{ItemMetadata, trim};
use super::error::DecodeError;
use super::error_reply::{AdminError, ErrorReply};
use super::limits::Limits;
use super::line_scan::{LineScanner, line_decoder};
use super::number::{self, put_u64};
use super::reply::Reply;
use super::reply_line::ReplyLine;
use super::token::{Tokens, at_end, word};
use super::uri::UriKey;
use bytes::BytesMut;

/// One line of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpLine<'a, T> {
    /// `OK`: it begins. Servers up to 1.6.38 do not say so, 1.6.45 now and then twice.
    Started,
    /// One item.
    Item(T),
    /// `END` or `EN`: that was all. The connection is free for other requests.
    End,
    /// There will be no dump: `BUSY`, `BADCLASS` or `NOTSTARTED`.
    Declined(AdminError<'a>),
    /// There will be no dump: not allowed (`-X`), no crawler, or unknown to this release.
    Error(ErrorReply<'a>),
}

/// An item in a `metadump` (1.4.31 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpedItem<'a> {
    /// The key.
    pub key: UriKey<'a>,
    /// Its metadata.
    pub facts: ItemMetadata,
    /// The client flags; 1.6.18 and older do not show them.
    pub client_flags: Option<u32>,
    /// Fields of other releases, as they stand.
    pub more: &'a [u8],
}

/// An item in an `mgdump` (1.6.19 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpedKey<'a> {
    /// The key, in no way encoded but by base64. An item that `mg` or `ma` created under a base64
    /// key is shown in raw bytes and can look like any other line: do not take this dump for the
    /// truth where strangers name the keys.
    pub key: &'a [u8],
    /// `true` if it is base64.
    pub base64: bool,
}

line_decoder! {
    /// Finds the lines of a `metadump` in a growing buffer and remembers how far it has looked.
    ///
    /// Passed the same buffer again with more after it, or, after a line, what follows it; exactly as
    /// [`ReplyDecoder`](super::ReplyDecoder) is. Keys may be three times as long as elsewhere.
    ///
    /// ```
    /// use memlatch::wire::{DumpLine, Limits, MetadumpDecoder};
    ///
    /// let mut bytes = &b"key=a%20b exp=-1 la=5 cas=2 fetch=no cls=1 size=63 flags=0 \nEND\r\n"[..];
    /// let mut decoder = MetadumpDecoder::new(Limits::LOCK);
    /// while let Some((line, length)) = decoder.decode(bytes)? {
    ///     if let DumpLine::Item(item) = line {
    ///         assert_eq!(item.key.bytes().collect::<Vec<u8>>(), b"a b");
    ///     }
    ///     bytes = &bytes[length..];
    /// }
    /// # Ok::<(), memlatch::wire::DecodeError>(())
    /// ```
    MetadumpDecoder, "metadump", DumpLine<'a, DumpedItem<'a>>, DumpedItem::read
}

line_decoder! {
    /// Finds the lines of an `mgdump` in a growing buffer and remembers how far it has looked.
    ///
    /// Used as [`MetadumpDecoder`] is.
    MgdumpDecoder, "mgdump", DumpLine<'a, DumpedKey<'a>>, DumpedKey::read
}

/// The lines that both dumps may begin with.
fn preamble<T>(line: &[u8]) -> Result<DumpLine<'_, T>, DecodeError> {
    match ReplyLine::parse(line)? {
        ReplyLine::Whole(Reply::Ok) => Ok(DumpLine::Started),
        ReplyLine::Whole(Reply::Declined(declined)) => Ok(DumpLine::Declined(declined)),
        ReplyLine::Whole(Reply::Error(error)) => Ok(DumpLine::Error(error)),
        _ => Err(DecodeError::UnexpectedReply),
    }
}

impl<'a> DumpedItem<'a> {
    fn read(line: &'a [u8]) -> Result<DumpLine<'a, Self>, DecodeError> {
        match line.strip_prefix(b"key=") {
            Some(rest) => Self::parse(rest)
                .map(DumpLine::Item)
                .ok_or(DecodeError::MalformedReply),
            None if line == b"END" => Ok(DumpLine::End),
            None => preamble(line),
        }
    }

    /// Reads what stands after `key=`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (line, key) = word(line).ok()?;
        let (facts, line) = ItemMetadata::parse(line)?;
        let more = trim(line);
        let (client_flags, more) = match more.strip_prefix(b"flags=") {
            Some(rest) => {
                let (rest, digits) = word(rest).ok()?;
                (Some(number::parse_u32(digits)?), trim(rest))
            }
            None => (None, more),
        };
        Tokens(more)
            .all(|word| word.contains(&b'='))
            .then_some(Self {
                key: UriKey::parse(key)?,
                facts,
                client_flags,
                more,
            })
    }

    /// Appends the line, as the newest server writes it: with a space in front of its line end.
    pub fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"key=");
        self.key.encode(out);
        self.facts.encode(out);
        if let Some(client_flags) = self.client_flags {
            out.extend_from_slice(b" flags=");
            put_u64(out, u64::from(client_flags));
        }
        if !self.more.is_empty() {
            out.extend_from_slice(b" ");
            out.extend_from_slice(self.more);
        }
        out.extend_from_slice(b" \n");
    }
}

impl<'a> DumpedKey<'a> {
    fn read(line: &'a [u8]) -> Result<DumpLine<'a, Self>, DecodeError> {
        match line.strip_prefix(b"mg ") {
            Some(rest) => Self::parse(rest)
                .map(DumpLine::Item)
                .ok_or(DecodeError::MalformedReply),
            None if line == b"EN" => Ok(DumpLine::End),
            None => preamble(line),
        }
    }

    /// Reads what stands after `mg `.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (rest, key) = word(line).ok()?;
        let base64 = match Tokens(rest).next() {
            None => false,
            Some(b"b") => true,
            Some(_) => return None,
        };
        let (rest, _) = word(rest).unwrap_or((b"", b""));
        at_end(rest).then_some(Self { key, base64 })
    }

    /// Appends the line.
    pub fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(self.key);
        out.extend_from_slice(if self.base64 { b" b\r\n" } else { b"\r\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::super::error_reply::{AdminErrorReason, ErrorSource};
    use super::*;

    const LIMITS: Limits = Limits {
        line: 128,
        value: 0,
    };

    fn items() -> [DumpedItem<'static>; 3] {
        let facts = ItemMetadata {
            exp: 1_795_335_617,
            last_access: 1_795_335_517,
            cas: u64::MAX,
            fetched: true,
            class: 1,
            size: 63,
        };
        let item = DumpedItem {
            key: UriKey::from_raw(b"md%2 \r\n"),
            facts,
            client_flags: Some(u32::MAX),
            more: b"",
        };
        [
            item,
            DumpedItem {
                client_flags: None,
                facts: ItemMetadata { exp: -1, ..facts },
                ..item
            },
            DumpedItem {
                more: b"a=1 b=",
                ..item
            },
        ]
    }

    #[test]
    fn split_dump_items_survive_round_trip() {
        for item in items() {
            let mut bytes = BytesMut::new();
            item.encode(&mut bytes);
            let mut decoder = MetadumpDecoder::new(LIMITS);
            for end in 0..bytes.len() {
                assert_eq!(decoder.decode(&bytes[..end]), Ok(None));
            }
            let whole = decoder.decode(&bytes);
            assert_eq!(whole, Ok(Some((DumpLine::Item(item), bytes.len()))));
        }
        for base64 in [false, true] {
            let item = DumpedKey {
                key: b"AAFiNA==",
                base64,
            };
            let mut bytes = BytesMut::new();
            item.encode(&mut bytes);
            let mut decoder = MgdumpDecoder::new(LIMITS);
            for end in 0..bytes.len() {
                assert_eq!(decoder.decode(&bytes[..end]), Ok(None));
            }
            let whole = decoder.decode(&bytes);
            assert_eq!(whole, Ok(Some((DumpLine::Item(item), bytes.len()))));
        }
    }

    #[test]
    fn lines_of_every_release_are_read() {
        for line in [
            &b"key=md1 exp=1 la=2 cas=431 fetch=no cls=1 size=63\n"[..],
            b"key=md1 exp=1 la=2 cas=431 fetch=no cls=1 size=63 flags=0\n",
            b"key=md1 exp=1 la=2 cas=431 fetch=no cls=1 size=63 flags=0 \n",
        ] {
            let found = MetadumpDecoder::new(LIMITS).decode(line);
            let Ok(Some((DumpLine::Item(item), _))) = found else {
                panic!("{found:?}");
            };
            assert_eq!(item.key, UriKey::from_raw(b"md1"));
            assert_eq!(item.facts.cas, 431);
        }
    }

    #[test]
    fn dump_starts_ends_and_refusals_differ() {
        let read = |bytes| MetadumpDecoder::new(LIMITS).decode(bytes);
        assert_eq!(read(b"OK\r\n"), Ok(Some((DumpLine::Started, 4))));
        assert_eq!(read(b"END\r\n"), Ok(Some((DumpLine::End, 5))));
        assert!(matches!(
            read(b"BADCLASS invalid class id\r\n"),
            Ok(Some((
                DumpLine::Declined(AdminError {
                    reason: AdminErrorReason::BadClass,
                    text: b"invalid class id"
                }),
                27
            )))
        ));
        assert!(matches!(
            read(b"ERROR metadump not allowed\r\n"),
            Ok(Some((
                DumpLine::Error(ErrorReply {
                    source: ErrorSource::Command,
                    ..
                }),
                28
            )))
        ));
        let read = |bytes| MgdumpDecoder::new(LIMITS).decode(bytes);
        assert_eq!(read(b"OK\r\n"), Ok(Some((DumpLine::Started, 4))));
        assert_eq!(read(b"EN\r\n"), Ok(Some((DumpLine::End, 4))));
        assert!(matches!(
            read(b"CLIENT_ERROR lru crawler disabled\r\n"),
            Ok(Some((DumpLine::Error(_), 35)))
        ));
    }

    #[test]
    fn malformed_input_is_an_error() {
        for bytes in [
            &b"EN\r\n"[..],
            b"STORED\r\n",
            b"mg a\r\n",
            b"VALUE a 0 1\r\n",
            b"\r\n",
            b"key=a\n",
            b"key= exp=1\n",
            b"key=a% exp=1 la=2 cas=431 fetch=no cls=1 size=63\n",
            b"key=a exp=1 la=2 cas=431 fetch=no cls=1 size=63 flags=x\n",
            b"key=a exp=1 la=2 cas=431 fetch=no cls=1 size=63 flags=\n",
            b"key=a exp=1 la=2 cas=431 fetch=no cls=1 size=63 odd\n",
        ] {
            let found = MetadumpDecoder::new(LIMITS).decode(bytes);
            assert!(found.is_err(), "{}: {found:?}", bytes.escape_ascii());
        }
        for bytes in [
            &b"END\r\n"[..],
            b"MN\r\n",
            b"mg\r\n",
            b"mg \r\n",
            b"mg a c\r\n",
            b"mg a b c\r\n",
            b"key=a\n",
        ] {
            let found = MgdumpDecoder::new(LIMITS).decode(bytes);
            assert!(found.is_err(), "{}: {found:?}", bytes.escape_ascii());
        }
        assert_eq!(
            MetadumpDecoder::new(LIMITS).decode(&[b'k'; 128]),
            Err(DecodeError::LineTooLong)
        );
        assert_eq!(
            MgdumpDecoder::new(LIMITS).decode(&[b'k'; 128]),
            Err(DecodeError::LineTooLong)
        );
    }
}
