//! Requests of both protocols, and how they are answered.

use super::admin::{CrawlerCommand, LruCommand, SlabsCommand};
use super::credentials::Credentials;
use super::flags::Flags;
use super::key::Key;
use super::token::Tokens;
use super::watch::WatchStreams;

/// One request, borrowed from its creator.
///
/// The embedded server reads the same type that a client writes; the grammar is that of memcached's
/// `protocol.txt`, with the real behaviour of the server where the two differ.
///
/// No request can be made to carry a second command: keys, tokens, flags and words are checked when
/// they are created, lengths are those of the values, and everything else is a number.
///
/// All of them are older than 1.6 unless a release is named; the meta commands are those of 1.6.10
/// and later, the first with a stable meta protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `get` or `gets`: reads items. Answered by one [`Reply::Value`](super::Reply::Value) for each
    /// that is there, and an `END`.
    Get {
        /// `true` if the replies carry the CAS unique (`gets`).
        with_cas: bool,
        /// The keys requested.
        keys: Keys<'a>,
    },
    /// `gat` or `gats`: reads items and gives them a new expiry.
    GetAndTouch {
        /// `true` if the replies carry the CAS unique (`gats`).
        with_cas: bool,
        /// The new expiry.
        exptime: i64,
        /// The keys requested.
        keys: Keys<'a>,
    },
    /// `set`, `add`, `replace`, `append`, `prepend` or `cas`: stores a value.
    Store(Store<'a>),
    /// `delete`: removes an item, whichever client stored it.
    Delete {
        /// The key to be deleted.
        key: Key<'a>,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `incr` or `decr`: changes a counter that is there. The first wraps at 2^64, the second stops
    /// at 0.
    Arithmetic {
        /// `true` if the delta is added (`incr`) or subtracted (`decr`).
        add: bool,
        /// The counter.
        key: Key<'a>,
        /// By how much.
        delta: u64,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `touch`: gives an item a new expiry.
    Touch {
        /// The item.
        key: Key<'a>,
        /// Its new expiry.
        exptime: i64,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `mg`: reads an item, and with `N` creates one that is missing. Answered by `HD`, `VA` or
    /// `EN`. Without flags from 1.6.18 on.
    MetaGet {
        /// The item.
        key: Key<'a>,
        /// The options, and the values to return.
        flags: Flags<'a>,
    },
    /// `ms`: stores a value. Answered by `HD`, `NS`, `EX` or `NF`.
    ///
    /// For the lock path this one is forbidden: with memory short it deletes the item it was not
    /// allowed to replace.
    MetaSet {
        /// The item.
        key: Key<'a>,
        /// The options, and the values to return.
        flags: Flags<'a>,
        /// The value: at most [`MAX_VALUE_LENGTH`] bytes.
        value: &'a [u8],
    },
    /// `md`: removes an item, or marks it stale (`I`), or empties it (`x`). Answered by `HD`, `NF`
    /// or `EX`.
    MetaDelete {
        /// The item.
        key: Key<'a>,
        /// The options, and the values to return.
        flags: Flags<'a>,
    },
    /// `ma`: changes a counter, and with `N` creates one that is missing. Answered by `HD`, `VA`,
    /// `NF`, `NS` or `EX`.
    MetaArithmetic {
        /// The counter.
        key: Key<'a>,
        /// The options, and the values to return.
        flags: Flags<'a>,
    },
    /// `mn`: nothing but an answer, so that all before it have been answered (documented from 1.6.6
    /// on). Words after it are ignored.
    MetaNoop,
    /// `me`: describes an item, see [`DebugItem`](super::DebugItem). Answered by `ME` or `EN`.
    MetaDebug {
        /// The item.
        key: Key<'a>,
        /// `true` if the key is base64 (`b`). 1.6.45 does not see it and answers `EN`.
        base64: bool,
    },
    /// `version`: which release the server is.
    Version,
    /// `verbosity`: how much the server writes to its standard error. 1.6.45 refuses it without a
    /// level as a malformed line, older ones as an unknown command.
    Verbosity {
        /// The level.
        level: u64,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `flush_all`: forgets all items, unless the server was started with `-F`.
    FlushAll {
        /// Seconds to wait, or the second at which to do it; `None` is now.
        delay: Option<i64>,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `stats`, with the words that name a group or none. Answered by any number of
    /// [`Reply::Stat`](super::Reply::Stat) and an `END`; by `RESET` or `OK` when the words do
    /// something instead.
    Stats {
        /// The words.
        group: Keys<'a>,
    },
    /// `quit`: the server closes the connection.
    Quit,
    /// `shutdown`, or `shutdown graceful`: ends the server, if it was started with `-A`.
    Shutdown {
        /// `true` if open connections may finish, and memory is kept in its file (`-e`).
        graceful: bool,
    },
    /// `cache_memlimit`: how much memory items may take, from now on.
    CacheMemlimit {
        /// In MiB; 8 at least.
        megabytes: u32,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `lru`: how items are kept by use.
    Lru {
        /// The setting to change.
        command: LruCommand,
        /// `true` if the server leaves out the answer.
        noreply: bool,
    },
    /// `lru_crawler`: the thread that looks at all items. Two of its commands are answered in
    /// [grammars](Request::grammar) of their own.
    LruCrawler(CrawlerCommand<'a>),
    /// `slabs`: the pages of memory.
    Slabs(SlabsCommand),
    /// `watch`: makes this connection a log, for good, in a [grammar](Request::grammar) of its own.
    /// Without a stream the server takes it for `fetchers`.
    Watch(WatchStreams),
    /// `refresh_certs`: reads the certificates for TLS again. 1.6.40 and later also do so when they
    /// are sent `SIGHUP`.
    RefreshCerts,
    /// The `set` that a server with accounts (`-Y`, 1.5.15 and later) requires first. Answered by
    /// `STORED` if the credentials are right. The parser of a server returns it as a
    /// [`Request::Store`]; only the connection knows its purpose, see [`Credentials::from_value`].
    ///
    /// A server that requires no credentials drops the value stored under the key, and nothing
    /// else: the value is written as one that has expired already.
    Authenticate {
        /// Any key to which nothing is stored.
        key: Key<'a>,
        /// The user and the password.
        credentials: Credentials<'a>,
    },
}

/// A classic storage request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store<'a> {
    /// When to store.
    pub verb: StoreVerb,
    /// The key to store under.
    pub key: Key<'a>,
    /// A number kept with the item for the client's use.
    pub client_flags: u32,
    /// Expiry: 0 never, negative at once, up to 30 days relative, beyond that a Unix second.
    pub exptime: i64,
    /// The value: at most [`MAX_VALUE_LENGTH`] bytes.
    pub value: &'a [u8],
    /// `true` if the server leaves out the answer.
    pub noreply: bool,
}

/// When a classic storage request stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreVerb {
    /// `set`: always. When there is no room the old item goes nonetheless; the other verbs keep it.
    Set,
    /// `add`: when there is no such item.
    Add,
    /// `replace`: when there is one.
    Replace,
    /// `append`: when there is one, after its value. Expiry and client flags stay those it has.
    Append,
    /// `prepend`: when there is one, before its value. Expiry and client flags stay those it has.
    Prepend,
    /// `cas`: when there is one with this CAS unique.
    Cas(u64),
}

/// The longest value, in bytes, that any server reads. What announces a longer one is refused and
/// the value read as commands, so there is no way to announce one.
pub const MAX_VALUE_LENGTH: usize = 0x7fff_ffff - 2;

/// The keys of a retrieval: a list to be sent, or the words of a line that was read.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a>(Repr<'a>);

#[derive(Debug, Clone, Copy)]
enum Repr<'a> {
    List(&'a [Key<'a>]),
    Line(&'a [u8]),
}

impl<'a> Keys<'a> {
    /// Keys to be sent, in this order.
    #[must_use]
    pub const fn list(keys: &'a [Key<'a>]) -> Self {
        Self(Repr::List(keys))
    }

    /// The words of a request line, each within the limit for keys.
    pub(crate) const fn from_line(line: &'a [u8]) -> Self {
        Self(Repr::Line(line))
    }

    /// The keys in the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = Key<'a>> + use<'a> {
        let (list, line) = match self.0 {
            Repr::List(list) => (list, &b""[..]),
            Repr::Line(line) => (&[][..], line),
        };
        list.iter().copied().chain(Tokens(line).map(Key::from_wire))
    }
}

impl PartialEq for Keys<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Keys<'_> {}

/// In which grammar a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplySyntax {
    /// That of [`Reply`](super::Reply): use a [`ReplyDecoder`](super::ReplyDecoder).
    Replies,
    /// That of `lru_crawler metadump`: use a [`MetadumpDecoder`](super::MetadumpDecoder).
    Metadump,
    /// That of `lru_crawler mgdump`: use a [`MgdumpDecoder`](super::MgdumpDecoder).
    Mgdump,
    /// That of `watch`: use a [`WatchDecoder`](super::WatchDecoder).
    Watch,
}

/// The number of replies to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyCount {
    /// One line, or one line and a value.
    One,
    /// Any number of `VALUE` or `STAT`, then one line that is neither.
    UntilEnd,
    /// Any number of replies, then `MN`: what requests with `q` and the `mn` after them have.
    UntilNoop,
}

impl Request<'_> {
    /// Returns `true` if the request hides some of its replies (`q`), so that only the reply to a
    /// `mn` after it shows that there will be none.
    #[must_use]
    #[inline]
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::MetaGet { flags, .. }
            | Self::MetaSet { flags, .. }
            | Self::MetaDelete { flags, .. }
            | Self::MetaArithmetic { flags, .. } => flags.are_quiet(),
            _ => false,
        }
    }

    /// The number of replies to the request by itself, or `None` where the server sends none on
    /// success: with `noreply`, with `q`, for `quit` and `shutdown`, and for what is answered in
    /// another [grammar](Request::grammar).
    #[must_use]
    #[inline]
    pub fn shape(&self) -> Option<ReplyCount> {
        let answered = |noreply: bool| (!noreply).then_some(ReplyCount::One);
        match self {
            Self::Get { .. } | Self::GetAndTouch { .. } | Self::Stats { .. } => {
                Some(ReplyCount::UntilEnd)
            }
            Self::Store(store) => answered(store.noreply),
            Self::Delete { noreply, .. }
            | Self::Arithmetic { noreply, .. }
            | Self::Touch { noreply, .. }
            | Self::Verbosity { noreply, .. }
            | Self::FlushAll { noreply, .. } => answered(*noreply),
            Self::MetaGet { .. }
            | Self::MetaSet { .. }
            | Self::MetaDelete { .. }
            | Self::MetaArithmetic { .. } => answered(self.is_quiet()),
            Self::CacheMemlimit { noreply, .. }
            | Self::Lru { noreply, .. }
            | Self::Slabs(SlabsCommand::Automove { noreply, .. }) => answered(*noreply),
            Self::MetaNoop
            | Self::MetaDebug { .. }
            | Self::Version
            | Self::Slabs(SlabsCommand::Reassign { .. })
            | Self::RefreshCerts
            | Self::Authenticate { .. } => Some(ReplyCount::One),
            Self::LruCrawler(_) if self.grammar() == ReplySyntax::Replies => Some(ReplyCount::One),
            Self::LruCrawler(_) | Self::Watch(_) | Self::Quit | Self::Shutdown { .. } => None,
        }
    }

    /// The grammar of the replies to the request. A grammar other than [`ReplySyntax::Replies`]
    /// needs a connection on which nothing else is requested meanwhile: after other requests the
    /// server refuses a dump or answers it out of turn, and bytes sent directly after one may
    /// remain unread until something else is sent.
    #[must_use]
    #[inline]
    pub const fn grammar(&self) -> ReplySyntax {
        match self {
            Self::LruCrawler(CrawlerCommand::Metadump(_)) => ReplySyntax::Metadump,
            Self::LruCrawler(CrawlerCommand::Mgdump(_)) => ReplySyntax::Mgdump,
            Self::Watch(_) => ReplySyntax::Watch,
            _ => ReplySyntax::Replies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::admin::SlabClasses;
    use super::super::flag::Flag;
    use super::*;

    fn key(name: &str) -> Key<'_> {
        Key::new(name.as_bytes()).expect("a plain key")
    }

    #[test]
    fn keys_compare_in_order() {
        let both = [key("a"), key("b")];
        let list = Keys::list(&both);
        assert_eq!(Keys::from_line(b" a  b "), list);
        for other in [&b"b a"[..], b"a", b"a b c", b"a c", b""] {
            assert_ne!(Keys::from_line(other), list, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn crawler_dumps_have_no_plain_reply() {
        let shape = |command| Request::LruCrawler(command).shape();
        for command in [
            CrawlerCommand::Enable,
            CrawlerCommand::Sleep(1),
            CrawlerCommand::Crawl(SlabClasses::All),
        ] {
            assert_eq!(shape(command), Some(ReplyCount::One));
        }
        assert_eq!(shape(CrawlerCommand::Metadump(SlabClasses::All)), None);
        assert_eq!(shape(CrawlerCommand::Mgdump(SlabClasses::All)), None);
    }

    #[test]
    fn request_shape_knows_quiet_requests() {
        let quiet = Request::MetaDelete {
            key: key("L"),
            flags: Flags::list(&[Flag::Quiet]),
        };
        assert_eq!(quiet.shape(), None);
        assert_eq!(Request::MetaNoop.shape(), Some(ReplyCount::One));
        assert_eq!(
            Request::Stats {
                group: Keys::list(&[])
            }
            .shape(),
            Some(ReplyCount::UntilEnd)
        );
        let delete = |noreply| Request::Delete {
            key: key("L"),
            noreply,
        };
        assert_eq!(delete(true).shape(), None);
        assert_eq!(delete(false).shape(), Some(ReplyCount::One));
    }
}
