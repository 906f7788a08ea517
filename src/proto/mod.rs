//! Layer 2: the rules of holding.
//!
//! State machines that say what to send, what a reply means and until when a lock is held. No
//! sockets, no clock, no randomness: instants and nonces are arguments. Builds without `std`.
//!
//! Each thing to be done is an [`Operation`]; `docs/wire-format.md` shows the bytes.
//!
//! # What is stable
//!
//! The documented items follow semantic versioning, and so do the bytes it writes: clients of
//! different releases share locks. A client of one's own needs [`Handshake`], [`RecordAcquire`], [`Renew`],
//! [`Verify`] and [`Release`], and a loop that sends what they prepare. Public items that are not in
//! this documentation serve the clients of this crate, its fuzz targets and its benchmarks, and may
//! change in any release.

mod acquire;
mod acquire_record;
mod acquire_recordless;
mod attempt;
mod await_free;
mod backoff;
mod batch;
mod break_lock;
mod escape;
mod failure;
mod fence;
mod fence_repair;
pub mod fencing;
mod grant;
mod handoff;
mod handshake;
mod inspect;
mod items;
mod lease;
mod list;
mod lock_item;
mod longest_lease;
mod loss;
mod memory;
mod memory_probe;
mod name;
mod operation;
mod owner_id;
mod probe;
mod record;
mod release;
mod renew;
mod requests;
mod retry;
mod sample_clock;
mod sentinel;
mod sentinel_init;
mod server_clock;
mod server_instance;
mod server_state;
mod server_stats;
mod session_id;
mod takeover;
mod temporary_lru;
mod ticket;
mod time;
mod verify;

#[doc(hidden)]
pub use acquire::Acquire;
pub use acquire_record::RecordAcquire;
#[doc(hidden)]
pub use acquire_recordless::RecordlessAcquire;
#[doc(hidden)]
pub use await_free::AwaitFree;
#[doc(hidden)]
pub use backoff::Backoff;
#[doc(hidden)]
pub use batch::Batch;
pub use break_lock::{BreakLock, BreakStatus};
pub use failure::ServerError;
pub use grant::{
    AcquireOutcome, AcquireRequest, Contended, Grant, GrantKind, OrphanedAttempt, WaitPolicy,
};
pub use handshake::Handshake;
pub use inspect::{Inspect, InspectOutcome};
pub use lease::{Lease, LeaseError, MAX_LEASE, MIN_LEASE, MIN_RECORDLESS_LEASE};
#[doc(hidden)]
pub use list::{InspectPage, KeyPage, ListLocks, ListStep};
pub use loss::LossReason;
pub use memory::Memory;
#[doc(hidden)]
pub use name::DecodedName;
pub use name::{
    DEFAULT_PREFIX, LockKeys, MAX_NAME_LENGTH, MAX_PREFIX_LENGTH, NameError, Namespace,
};
pub use operation::{Action, FlightError, Operation, SleepReason};
#[doc(hidden)]
pub use owner_id::CasOwner;
pub use owner_id::OwnerId;
#[doc(hidden)]
pub use probe::{LARGEST_ITEM, ProbeStep, ServerProbe, ServerReport};
#[doc(hidden)]
pub use record::is_ours;
pub use record::{HolderRecord, Nonce, Owner, Record};
pub use release::{Release, ReleaseStatus};
pub use renew::{Renew, RenewOutcome};
#[doc(hidden)]
pub use sample_clock::SampleClock;
#[doc(hidden)]
pub use sentinel::{
    SENTINEL_EXPIRY, Sentinel, SentinelRecord, SentinelState, complete_since, memory_lacking,
};
#[doc(hidden)]
pub use server_clock::{ServerClock, seconds_to_live};
pub use server_instance::{Capabilities, InstanceWord, Protocol, ServerInstance};
pub use server_state::ServerState;
#[doc(hidden)]
pub use server_stats::{FlushTime, GeneralStats, ItemStats, SettingStats};
pub use session_id::SessionId;
#[doc(hidden)]
pub use temporary_lru::EnableTemporaryLru;
pub use temporary_lru::TemporaryLru;
pub use ticket::{LockTicket, TicketError};
pub use time::{Instant, Now};
pub use verify::{Verify, VerifyOutcome};
