//! Floor 4, the part that both fronts share: settings, errors, the clock, and the state of a lock
//! that is held.

mod acquire;
mod addresses;
mod break_lock;
mod checks;
pub(crate) mod clock;
mod clock_sync;
mod config;
mod diagnosis;
mod error;
mod events;
mod holder;
mod holding;
mod list;
mod lock_state;
pub(crate) mod multi_lock;
mod node;
mod process;
mod renew_batch;
mod scheduler;
mod slots;
mod stats;
mod wait_queue;

pub(crate) use acquire::{LockOptions, PendingAcquire, ValidatedOptions};
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
pub(crate) use events::HoldEnd;
#[cfg(feature = "tokio")]
pub(crate) use events::in_span;
pub use holder::Holder;
pub use list::{LockEntry, LockList, MAX_LISTED};
pub use lock_state::ReleaseOutcome;
pub(crate) use lock_state::{HandoffState, LockState};
pub use multi_lock::MultiReleaseOutcome;
pub(crate) use node::{Clear, ConnectError, Node, NodeConnection, clamp_timeout};
pub(crate) use renew_batch::RenewBatch;
pub(crate) use scheduler::{CleanupJob, RenewalBatch, Scheduled, SchedulerAction};
pub use stats::{ClientStats, DurationStats, LossCounts};
pub(crate) use wait_queue::{Departure, Notifier, Turn, WaitQueues, WaiterHandle};
