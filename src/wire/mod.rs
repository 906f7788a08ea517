//! Floor 1: the bytes of memcached's two text protocols.
//!
//! Requests and replies as types, written and read without allocating. Knows nothing of locks,
//! sockets or time, and builds without `std`.

mod admin;
mod admin_parse;
mod credentials;
mod dump;
mod error;
mod flag;
mod flags;
mod flight;
mod framing;
#[cfg(test)]
mod injection;
mod item_facts;
mod key;
mod lines;
mod meta_parse;
mod number;
mod prepared;
mod reply;
mod reply_flag;
mod request;
mod request_parse;
mod token;
mod uri;
mod watch;

pub use admin::{
    Automove, ClassIds, CrawlerCommand, Decimal, LruCommand, LruMode, SlabClasses, SlabsCommand,
};
pub use credentials::{Credentials, CredentialsError, MAX_CREDENTIAL_LENGTH, OwnedCredentials};
pub use dump::{DumpLine, DumpedItem, DumpedKey, MetadumpDecoder, MgdumpDecoder};
pub use error::DecodeError;
pub use flag::{Flag, FlagError, MAX_OPAQUE_LENGTH, Mode, Opaque};
pub use flags::{Flags, MAX_FLAGS};
pub use flight::Flight;
pub use framing::{FlightDecoder, Limits, Replies, ReplyDecoder};
pub use item_facts::{DebugItem, ItemFacts};
pub use key::{Key, KeyError, MAX_KEY_LENGTH, OwnedKey};
pub use number::{parse_i64, parse_u32, parse_u64, put_i64, put_u64};
pub use prepared::{Prepared, PreparedStore};
pub use reply::{Blame, DeclineReason, Declined, ErrorReply, MetaReply, MetaStatus, Reply, Value};
pub use reply_flag::{ReplyFlag, ReplyFlags, TimeLeft};
pub use request::{Grammar, Keys, MAX_VALUE_LENGTH, Request, Shape, Store, StoreVerb};
pub use request_parse::{Refusal, RequestDecoder};
pub use uri::UriKey;
pub use watch::{WatchDecoder, WatchEvent, WatchLine, WatchStreams};
