//! Floor 2: the rules of holding.
//!
//! Who holds what until when, what to send and what a reply means. No sockets, no clock, no
//! randomness: instants and nonces are arguments. Builds without `std`.
//!
//! Each thing to be done is an [`Operation`]; `docs/wire-format.md` shows the bytes.
//!
//! # What is stable
//!
//! What is documented here follows semantic versioning, and so do the bytes it writes: clients of
//! different releases share locks. A client of one's own needs [`Handshake`], [`Acquire`], [`Renew`],
//! [`Verify`] and [`Release`], and a loop that sends what they prepare. Public items that are not in
//! this documentation serve the clients of this crate, its fuzz targets and its benchmarks, and may
//! change in any release.

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
mod longest;
mod loss;
mod memory;
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
#[doc(hidden)]
pub use acquisition::Acquisition;
#[doc(hidden)]
pub use await_free::AwaitFree;
#[doc(hidden)]
pub use backoff::Backoff;
pub use breaking::{Break, Breaking};
pub use grant::{Acquired, Grant, Leftover, Origin, Patience, Refusal, Request};
pub use handshake::Handshake;
pub use identity::Identity;
pub use incarnation::{Capabilities, Dialect, Incarnation, ServerView};
pub use inspect::{Inspect, Inspected};
pub use items::Failure;
#[doc(hidden)]
pub use lean_acquire::LeanAcquire;
pub use lease::{Lease, LeaseError, MAX_LEASE, MIN_LEAN_LEASE, MIN_LEASE};
pub use loss::LossReason;
pub use memory::Memory;
pub use moment::{Moment, Now};
#[doc(hidden)]
pub use name::FoundName;
pub use name::{
    DEFAULT_PREFIX, LockKeys, MAX_NAME_LENGTH, MAX_PREFIX_LENGTH, NameError, Namespace,
};
pub use operation::{Interruption, Operation, Pause, Step};
pub use parts::{LockParts, PartsError};
#[doc(hidden)]
pub use proof::LeanToken;
pub use proof::Proof;
#[doc(hidden)]
pub use read_clock::ReadClock;
#[doc(hidden)]
pub use record::is_ours;
pub use record::{HolderRecord, Nonce, Owner, Record};
pub use release::{Release, Released};
pub use renew::{Renew, Renewed};
#[doc(hidden)]
pub use search::{Batch, InspectAll, Search, Searched};
pub use sentinel::Instance;
#[doc(hidden)]
pub use sentinel::{
    SENTINEL_EXPIRY, Sentinel, SentinelRecord, SentinelState, memory_lacking, remembered_from,
};
#[doc(hidden)]
pub use server_clock::{ServerClock, seconds_to_live};
#[doc(hidden)]
pub use statistics::{Flushed, GeneralStats, ItemStats, SettingStats};
#[doc(hidden)]
pub use survey::{LARGEST_ITEM, Survey, Surveyed, Surveyor};
#[doc(hidden)]
pub use temporary_lru::EnableTemporaryLru;
pub use temporary_lru::TemporaryLru;
#[doc(hidden)]
pub use together::Together;
pub use verify::{Verified, Verify};
