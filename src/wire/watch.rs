//! The events that `watch` sends.
//!
//! A grammar of its own: one line a happening, for as long as the connection lives. Nothing else
//! can be asked for on it.

use super::debug_item::trim;
use super::error::DecodeError;
use super::error_reply::{AdminError, ErrorReply};
use super::limits::Limits;
use super::line_scan::{LineScanner, line_decoder};
use super::number::{self, put_u64};
use super::reply::Reply;
use super::reply_line::ReplyLine;
use super::token::{Tokens, word};
use super::uri::UriKey;
use bytes::BytesMut;

/// The logs that `watch` can ask for.
///
/// All of them are older than 1.6, but for `deletions` (1.6.20) and those of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchStreams(u16);

impl WatchStreams {
    /// `rawcmds`: commands as they came.
    pub const RAW_COMMANDS: Self = Self(1);
    /// `evictions`: items that made way for others.
    pub const EVICTIONS: Self = Self(1 << 1);
    /// `fetchers`: items that were looked up. What `watch` without a word means.
    pub const FETCHERS: Self = Self(1 << 2);
    /// `mutations`: items that were stored, or were not.
    pub const MUTATIONS: Self = Self(1 << 3);
    /// `sysevents`: what the server does by itself.
    pub const SYSTEM: Self = Self(1 << 4);
    /// `connevents`: connections that come and go.
    pub const CONNECTIONS: Self = Self(1 << 5);
    /// `proxyreqs`: requests through the built-in proxy.
    pub const PROXY_REQUESTS: Self = Self(1 << 6);
    /// `proxyevents`: what the built-in proxy does by itself.
    pub const PROXY_EVENTS: Self = Self(1 << 7);
    /// `proxyuser`: what the proxy's configuration writes.
    pub const PROXY_USER: Self = Self(1 << 8);
    /// `deletions`: items that `delete` or `md` removed (1.6.20 and later). Not those that expired,
    /// were evicted, overwritten or flushed.
    pub const DELETIONS: Self = Self(1 << 9);

    /// In the order in which the server looks for a word that is cut short.
    const NAMES: [(&'static str, Self); 10] = [
        ("rawcmds", Self::RAW_COMMANDS),
        ("evictions", Self::EVICTIONS),
        ("fetchers", Self::FETCHERS),
        ("mutations", Self::MUTATIONS),
        ("sysevents", Self::SYSTEM),
        ("connevents", Self::CONNECTIONS),
        ("proxyreqs", Self::PROXY_REQUESTS),
        ("proxyevents", Self::PROXY_EVENTS),
        ("proxyuser", Self::PROXY_USER),
        ("deletions", Self::DELETIONS),
    ];

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns `true` if all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns `true` if there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The stream that this word names. 1.6.40 and later take the beginning of a name for it.
    pub(super) fn from_word(word: &[u8]) -> Option<Self> {
        let named = |(name, _): &&(&str, Self)| name.as_bytes().starts_with(word);
        Self::NAMES.iter().find(named).map(|(_, stream)| *stream)
    }

    /// Appends the names, each with a space in front of it.
    pub(super) fn encode(self, out: &mut BytesMut) {
        for (name, stream) in Self::NAMES {
            if self.contains(stream) {
                out.extend_from_slice(b" ");
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
}

/// One line that a watcher gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchLine<'a> {
    /// `OK`: from now on there are events.
    Started,
    /// Something happened.
    Event(WatchEvent<'a>),
    /// So many events were left out because this side read too slowly. Events that were lost before
    /// they got this far are not reported.
    Skipped(u64),
    /// There will be no events: `WATCHER_TOO_MANY` or `WATCHER_FAILED`.
    Declined(AdminError<'a>),
    /// There will be no events: not allowed (`-W`), or a stream that this release does not know.
    Error(ErrorReply<'a>),
}

/// An event as a watcher receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchEvent<'a> {
    /// When: seconds of the Unix clock …
    pub seconds: u64,
    /// … and millionths of one. The server does not pad them.
    pub micros: u32,
    /// The number of the event. Rises by one for each, whichever connection watches it.
    pub gid: u64,
    /// The kind of the event: `deleted`, `item_store`, `item_get`, `eviction`, `conn_new`,
    /// `conn_close` and others.
    pub kind: &'a [u8],
    /// The fields, as they stand. [`field`](Self::field) finds one.
    pub fields: &'a [u8],
}

impl<'a> WatchEvent<'a> {
    /// The value after `name=`: `cmd`, `status`, `ttl`, `clsid`, `cfd`, `size`, `fetch`, `la`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        Tokens(self.fields).find_map(|word| {
            let value = word.strip_prefix(name.as_bytes())?;
            value.strip_prefix(b"=")
        })
    }

    /// The key, of events about items.
    #[must_use]
    pub fn key(&self) -> Option<UriKey<'a>> {
        UriKey::parse(self.field("key")?)
    }

    fn parse(line: &'a [u8]) -> Option<Self> {
        let (line, time) = word(line).ok()?;
        let time = time.strip_prefix(b"ts=")?;
        let (line, gid) = word(line).ok()?;
        let gid = gid.strip_prefix(b"gid=")?;
        let (line, kind) = word(line).ok()?;
        let kind = kind.strip_prefix(b"type=")?;
        let dot = memchr::memchr(b'.', time)?;
        Some(Self {
            seconds: number::parse_u64(&time[..dot])?,
            micros: number::parse_u32(&time[dot + 1..]).filter(|micros| *micros < 1_000_000)?,
            gid: number::parse_u64(gid)?,
            kind,
            fields: trim(line),
        })
    }

    /// Appends the line.
    pub fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"ts=");
        put_u64(out, self.seconds);
        out.extend_from_slice(b".");
        put_u64(out, u64::from(self.micros));
        out.extend_from_slice(b" gid=");
        put_u64(out, self.gid);
        out.extend_from_slice(b" type=");
        out.extend_from_slice(self.kind);
        if !self.fields.is_empty() {
            out.extend_from_slice(b" ");
            out.extend_from_slice(self.fields);
        }
        out.extend_from_slice(b"\n");
    }
}

line_decoder! {
    /// Finds the lines of a log in a growing buffer and remembers how far it has looked.
    ///
    /// Used as [`MetadumpDecoder`](super::MetadumpDecoder) is.
    ///
    /// ```
    /// use memlatch::wire::{Limits, WatchDecoder, WatchLine};
    ///
    /// let line = b"ts=1795333257.442310 gid=2 type=deleted key=s cmd=md clsid=1 size=0\n";
    /// let Some((WatchLine::Event(event), _)) = WatchDecoder::new(Limits::LOCK).decode(line)? else {
    ///     panic!()
    /// };
    /// assert_eq!((event.kind, event.field("cmd")), (&b"deleted"[..], Some(&b"md"[..])));
    /// # Ok::<(), memlatch::wire::DecodeError>(())
    /// ```
    WatchDecoder, "watch", WatchLine<'a>, WatchLine::read
}

impl<'a> WatchLine<'a> {
    fn read(line: &'a [u8]) -> Result<Self, DecodeError> {
        let malformed = DecodeError::MalformedReply;
        if line.starts_with(b"ts=") {
            return WatchEvent::parse(line).map(Self::Event).ok_or(malformed);
        }
        if let Some(digits) = line.strip_prefix(b"skipped=") {
            return number::parse_u64(digits)
                .map(Self::Skipped)
                .ok_or(malformed);
        }
        match ReplyLine::parse(line)? {
            ReplyLine::Whole(Reply::Ok) => Ok(Self::Started),
            ReplyLine::Whole(Reply::Declined(declined)) => Ok(Self::Declined(declined)),
            ReplyLine::Whole(Reply::Error(error)) => Ok(Self::Error(error)),
            _ => Err(DecodeError::UnexpectedReply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::error_reply::AdminErrorReason;
    use super::*;

    const LIMITS: Limits = Limits {
        line: 192,
        value: 0,
    };

    #[test]
    fn split_watch_events_survive_round_trip() {
        for line in [
            &b"ts=1795333257.442310 gid=2 type=deleted key=lk%2525 cmd=md clsid=1 size=0\n"[..],
            b"ts=1795350788.5425 gid=35 type=item_store key=a status=stored cmd=set ttl=30 clsid=1 cfd=39 size=3\n",
            b"ts=1.0 gid=18446744073709551615 type=conn_close rip=127.0.0.1 rport=5 transport=tcp reason=error cfd=27\n",
            b"ts=1.999999 gid=0 type=bare\n",
        ] {
            let mut decoder = WatchDecoder::new(LIMITS);
            for end in 0..line.len() {
                assert_eq!(decoder.decode(&line[..end]), Ok(None));
            }
            let found = decoder.decode(line);
            let Ok(Some((WatchLine::Event(event), length))) = found else {
                panic!("{found:?}");
            };
            assert_eq!(length, line.len());
            let mut again = BytesMut::new();
            event.encode(&mut again);
            assert_eq!(&again[..], line);
        }
    }

    #[test]
    fn fields_are_found_by_their_names() {
        let line = b"ts=1.5 gid=2 type=item_store key=lk%25 keys=1 cmd=add ttl=30 x\n";
        let found = WatchDecoder::new(LIMITS).decode(line);
        let Ok(Some((WatchLine::Event(event), _))) = found else {
            panic!("{found:?}");
        };
        assert_eq!((event.seconds, event.micros, event.gid), (1, 5, 2));
        assert_eq!(event.kind, b"item_store");
        assert_eq!(event.key(), Some(UriKey::from_raw(b"lk%")));
        assert_eq!(event.field("ttl"), Some(&b"30"[..]));
        assert_eq!(event.field("x"), None);
        assert_eq!(event.field("tt"), None);
    }

    #[test]
    fn watch_starts_and_refusals_differ() {
        let read = |bytes| WatchDecoder::new(LIMITS).decode(bytes);
        assert_eq!(read(b"OK\r\n"), Ok(Some((WatchLine::Started, 4))));
        assert_eq!(
            read(b"skipped=12\n"),
            Ok(Some((WatchLine::Skipped(12), 11)))
        );
        assert!(matches!(
            read(b"WATCHER_TOO_MANY log watcher limit reached\r\n"),
            Ok(Some((
                WatchLine::Declined(AdminError {
                    reason: AdminErrorReason::WatcherTooMany,
                    ..
                }),
                _
            )))
        ));
        assert!(matches!(
            read(b"CLIENT_ERROR watch commands not allowed\r\n"),
            Ok(Some((WatchLine::Error(_), _)))
        ));
        for bytes in [
            &b"ts=1 gid=2 type=x\n"[..],
            b"ts=1.1000000 gid=2 type=x\n",
            b"ts=1.x gid=2 type=x\n",
            b"ts=x.1 gid=2 type=x\n",
            b"ts=1.1 gid=x type=x\n",
            b"ts=1.1 id=2 type=x\n",
            b"ts=1.1 gid=2\n",
            b"ts=1.1 gid=2 kind=x\n",
            b"skipped=x\n",
            b"skipped=\n",
            b"END\r\n",
            b"what\n",
            b"VA 2\r\n",
        ] {
            let found = read(bytes);
            assert!(found.is_err(), "{}: {found:?}", bytes.escape_ascii());
        }
        assert_eq!(read(&[b't'; 192]), Err(DecodeError::LineTooLong));
    }

    #[test]
    fn watch_streams_form_a_set() {
        let both = WatchStreams::DELETIONS.and(WatchStreams::EVICTIONS);
        assert!(both.contains(WatchStreams::DELETIONS) && both.contains(both));
        assert!(!both.contains(WatchStreams::FETCHERS));
        assert!(!both.is_empty() && WatchStreams::default().is_empty());
        for (name, stream) in WatchStreams::NAMES {
            assert_eq!(WatchStreams::from_word(name.as_bytes()), Some(stream));
        }
        assert_eq!(
            WatchStreams::from_word(b"del"),
            Some(WatchStreams::DELETIONS)
        );
        assert_eq!(WatchStreams::from_word(b"delx"), None);
        let mut out = BytesMut::new();
        both.encode(&mut out);
        assert_eq!(&out[..], b" evictions deletions");
    }
}
