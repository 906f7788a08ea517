//! Floor 4, the part that both fronts share: settings, errors, the clock, and the state of a lock
//! that is held.

mod addresses;
mod asked;
mod broken;
mod calibration;
mod checks;
pub(crate) mod clock;
mod diagnosis;
mod error;
mod events;
mod held;
mod holder;
mod holding;
mod listing;
mod process;
mod queue;
mod registry;
mod renewals;
pub(crate) mod set;
mod settings;
mod site;
mod slots;
mod stats;

pub(crate) use addresses::{Comparison, Plan};
pub(crate) use asked::{Acquiring, Asked, Wish};
pub use broken::BreakOutcome;
pub(crate) use calibration::Calibration;
pub use diagnosis::{Check, Diagnosis, Verdict};
pub(crate) use diagnosis::{Peer, surveyed, to_compare};
pub(crate) use error::Cause;
pub use error::{ErrorKind, LockError};
pub(crate) use events::End;
#[cfg(feature = "tokio")]
pub(crate) use events::spanned;
pub use held::ReleaseOutcome;
pub(crate) use held::{HandedOn, Held};
pub use holder::Holder;
pub use listing::{ListedLock, Listing, MAX_LISTED};
pub(crate) use queue::{Leave, News, Place, Queues, Standing};
pub(crate) use registry::{Batch, Job, Kept, Task};
pub(crate) use renewals::Renewals;
pub use set::SetOutcome;
#[cfg(feature = "blocking")]
pub(crate) use settings::SettingError;
pub use settings::{Builder, DEFAULT_LEASE};
pub(crate) use settings::{ConnectionCount, Settings};
pub(crate) use site::{Clear, Seat, Site, Unconnected, within};
pub use stats::{Losses, Stats, Times};
