//! Layer 1: the bytes of memcached's two text protocols.
//!
//! Requests and replies as types, written and read without allocating. Knows nothing of locks,
//! sockets or time, and builds without `std`.
//!
//! # What is stable
//!
//! The documented items follow semantic versioning: [`Request`] and [`Flight`] to write,
//! [`ReplyDecoder`] and [`Replies`] to read, [`RequestDecoder`] for servers, and the types in their
//! signatures. New replies and flags of memcached's may become variants. Public items that are not in this
//! documentation may change in any release.

mod admin;
mod admin_parse;
mod credentials;
mod debug_item;
mod decoder;
mod dump;
mod error;
mod error_reply;
mod flag;
mod flags;
mod flight;
#[cfg(test)]
mod injection;
mod key;
mod limits;
mod line_scan;
mod meta_parse;
mod number;
mod prepared;
mod reply;
mod reply_flag;
mod reply_line;
mod request;
mod request_encode;
mod request_line;
mod request_parse;
mod token;
mod uri;
mod watch;

#[doc(hidden)]
pub use admin::{
    Automove, ClassIds, CrawlerCommand, Decimal, LruCommand, LruMode, SlabClasses, SlabsCommand,
};
pub use credentials::{Credentials, CredentialsError, MAX_CREDENTIAL_LENGTH, OwnedCredentials};
#[doc(hidden)]
pub use debug_item::{DebugItem, ItemMetadata};
#[doc(hidden)]
pub use decoder::FlightDecoder;
pub use decoder::{Replies, ReplyDecoder};
#[doc(hidden)]
pub use dump::{DumpLine, DumpedItem, DumpedKey, MetadumpDecoder, MgdumpDecoder};
pub use error::DecodeError;
pub use error_reply::{AdminError, AdminErrorReason, ErrorReply, ErrorSource};
pub use flag::{Flag, FlagError, MAX_OPAQUE_LENGTH, Mode, Opaque};
pub use flags::{Flags, MAX_FLAGS};
pub use flight::Flight;
pub use key::{Key, KeyError, MAX_KEY_LENGTH, OwnedKey};
pub use limits::Limits;
#[doc(hidden)]
pub(crate) use number::format_u64;
pub use number::{parse_i64, parse_u32, parse_u64, put_i64, put_u64};
#[doc(hidden)]
pub use prepared::{Prepared, PreparedStore};
pub use reply::{MetaReply, MetaStatus, Reply, Value};
pub use reply_flag::{ReplyFlag, ReplyFlags, TimeLeft};
pub use request::{Keys, MAX_VALUE_LENGTH, Request, Store, StoreVerb};
#[doc(hidden)]
pub use request::{ReplyCount, ReplySyntax};
pub use request_parse::{Rejection, RequestDecoder};
#[doc(hidden)]
pub use uri::UriKey;
#[doc(hidden)]
pub use watch::{WatchDecoder, WatchEvent, WatchLine, WatchStreams};
