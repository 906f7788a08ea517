//! The rules by which a command is ended with its lock.

use clap::ValueEnum;
use core::time::Duration;
use tokio::time::Instant;

/// The time that a command may take to end after SIGTERM when the lock is lost.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// The time before the end of a lease that is not being renewed at which the command is asked to
/// end, at most.
const WARNING: Duration = Duration::from_secs(2);

/// What happens to the command when the lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnLost {
    Term,
    Kill,
    Ignore,
}

/// What happens to processes that the command leaves running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Leftovers {
    Wait,
    End,
    Leave,
}

/// The rules for one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) lease: Duration,
    pub(super) on_lost: OnLost,
    pub(super) leftovers: Leftovers,
    /// The time that processes left by the command may take to end.
    pub(super) grace: Duration,
    /// When the lock has been held for as long as it may be, and how long that is.
    pub(super) limit: Option<(Instant, Duration)>,
}

impl Rules {
    /// The time that the command may take to end when its lease is not renewed.
    fn warning(&self) -> Duration {
        (self.lease / 4).min(WARNING)
    }

    /// The time that the command may take to end when this process is killed or stopped.
    pub(super) fn unattended_grace(&self) -> Duration {
        match self.on_lost {
            OnLost::Ignore => self.warning(),
            OnLost::Term | OnLost::Kill => self.margin(),
        }
    }

    /// The time before the end of the lease at which the command is ended.
    pub(super) fn margin(&self) -> Duration {
        let warning = self.warning();
        match self.on_lost {
            OnLost::Term => warning,
            // SIGKILL needs less time than a polite end, which leaves more for a last renewal.
            OnLost::Kill => warning / 4,
            OnLost::Ignore => Duration::ZERO,
        }
    }
}
