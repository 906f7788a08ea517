//! Floor 2: the rules of holding.
//!
//! Who holds what until when, what to send and what a reply means. No sockets, no clock, no
//! randomness: instants and nonces are arguments. Builds without `std`.
//!
//! Each thing to be done is an [`Operation`]; `docs/wire-format.md` shows the bytes.

mod acquire;
mod acquisition;
mod attempt;
mod await_free;
mod backoff;
mod breaking;
pub mod fencing;
mod founding;
mod grant;
mod handshake;
mod identity;
mod incarnation;
mod inspect;
mod items;
mod lean_acquire;
mod lease;
mod legacy;
mod loss;
mod moment;
mod name;
mod observation;
mod operation;
mod parts;
mod proof;
mod raising;
mod read_clock;
mod record;
mod release;
mod renew;
mod requests;
mod search;
mod sentinel;
mod server_clock;
mod stamina;
mod statistics;
mod survey;
mod temporary_lru;
mod together;
mod verify;

pub use acquire::Acquire;
pub use acquisition::Acquisition;
pub use await_free::AwaitFree;
pub use backoff::Backoff;
pub use breaking::{Break, Breaking};
pub use grant::{Acquired, Grant, Leftover, Origin, Patience, Refusal, Request};
pub use handshake::Handshake;
pub use identity::Identity;
pub use incarnation::{Capabilities, Dialect, Incarnation, ServerView};
pub use inspect::{Inspect, Inspected};
pub use items::Failure;
pub use lean_acquire::LeanAcquire;
pub use lease::{Lease, LeaseError, MAX_LEASE, MIN_LEAN_LEASE, MIN_LEASE};
pub use loss::LossReason;
pub use moment::{Moment, Now};
pub use name::{
    DEFAULT_PREFIX, FoundName, LockKeys, MAX_NAME_LENGTH, MAX_PREFIX_LENGTH, NameError, Namespace,
};
pub use operation::{Interruption, Operation, Pause, Step};
pub use parts::{LockParts, PartsError};
pub use proof::{LeanToken, Proof};
pub use read_clock::ReadClock;
pub use record::{HolderRecord, Nonce, Owner, Record, is_ours};
pub use release::{Release, Released};
pub use renew::{Renew, Renewed};
pub use search::{Batch, InspectAll, Search, Searched};
pub use sentinel::{SENTINEL_EXPIRY, Sentinel, UNBORN, memory_lacking};
pub use server_clock::{ServerClock, seconds_to_live};
pub use statistics::{Flushed, GeneralStats, ItemStats, SettingStats};
pub use survey::{LARGEST_ITEM, Survey, Surveyed, Surveyor};
pub use temporary_lru::{EnableTemporaryLru, TemporaryLru};
pub use together::Together;
pub use verify::{Verified, Verify};
