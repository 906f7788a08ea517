//! The client, written once for both APIs: settings, errors, the clock, waiting, acquisition,
//! renewal and release.

mod acquire;
mod acquire_recorder;
mod addresses;
mod admin;
mod break_lock;
mod check;
mod checks;
pub(crate) mod client;
pub(crate) mod clock;
mod clock_sync;
mod config;
mod config_error;
pub(crate) mod connect;
mod connect_error;
mod diagnosis;
mod error;
mod events;
pub(crate) mod exchange;
pub(crate) mod facade;
pub(crate) mod guard;
mod holder;
mod list;
mod lock_state;
pub(crate) mod multi_lock;
mod node;
pub(crate) mod notify;
mod options;
mod pending_acquire;
mod process;
mod release;
mod renewal_flight;
mod renewer;
mod scheduler;
mod slots;
mod stats;
mod wait_queue;

pub use break_lock::BreakOutcome;
pub use check::{Check, Severity};
pub(crate) use clock_sync::ClockSync;
pub use config::{ClientBuilder, DEFAULT_LEASE};
pub(crate) use config::{Config, ConnectionLimits};
#[cfg(feature = "blocking")]
pub(crate) use config_error::ConfigError;
pub(crate) use config_error::MAX_NAMES;
pub(crate) use connect_error::ConnectError;
pub use diagnosis::Diagnosis;
pub(crate) use error::Cause;
pub use error::{ErrorKind, LockError};
pub use holder::Holder;
pub use list::{LockEntry, LockList, MAX_LISTED};
pub(crate) use lock_state::LockState;
pub use lock_state::ReleaseOutcome;
pub use multi_lock::MultiReleaseOutcome;
pub(crate) use node::{Clear, NodeConnection};
pub(crate) use options::LockOptions;
#[cfg(feature = "blocking")]
pub(crate) use scheduler::CleanupJob;
pub(crate) use scheduler::SchedulerAction;
pub use stats::{ClientStats, DurationStats, LossCounts};
