//! Floor 4, the part that both fronts share: settings, errors, the clock, and the state of a lock
//! that is held.

mod acquire;
mod addresses;
mod admin;
mod break_lock;
mod checks;
pub(crate) mod client;
pub(crate) mod clock;
mod clock_sync;
mod config;
mod diagnosis;
mod error;
mod events;
pub(crate) mod guard;
mod holder;
mod list;
mod lock_state;
pub(crate) mod multi_lock;
mod node;
pub(crate) mod notify;
mod options;
mod process;
mod renew_batch;
mod renewer;
mod scheduler;
mod slots;
mod stats;
pub(crate) mod transport;
mod wait_queue;

pub(crate) use addresses::{Comparison, Plan};
pub use break_lock::BreakOutcome;
pub(crate) use clock_sync::ClockSync;
#[cfg(feature = "blocking")]
pub(crate) use config::ConfigError;
pub use config::{ClientBuilder, DEFAULT_LEASE};
pub(crate) use config::{Config, ConnectionLimits};
pub use diagnosis::{Check, Diagnosis, Severity};
pub(crate) use diagnosis::{Peer, surveyed, to_compare};
pub(crate) use error::Cause;
pub use error::{ErrorKind, LockError};
pub use holder::Holder;
pub use list::{LockEntry, LockList, MAX_LISTED};
pub(crate) use lock_state::LockState;
pub use lock_state::ReleaseOutcome;
pub use multi_lock::MultiReleaseOutcome;
pub(crate) use node::{Clear, ConnectError, NodeConnection};
pub(crate) use options::LockOptions;
#[cfg(feature = "blocking")]
pub(crate) use scheduler::CleanupJob;
pub(crate) use scheduler::SchedulerAction;
pub use stats::{ClientStats, DurationStats, LossCounts};
