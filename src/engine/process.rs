//! Telling a process from one that was forked from it.

/// The process in which this was made.
///
/// What a client holds is of no use in a forked process: both would read replies from the same
/// connections, and the threads that renew locks are not there.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// A number that a fork handler changes in the new process: looking at it is no system call.
    /// `None` where the system has no room for the handler.
    #[cfg(unix)]
    guard: Option<forkguard::Guard>,
}

impl Process {
    pub(crate) fn current() -> Self {
        Self {
            #[cfg(unix)]
            guard: forkguard::Guard::try_new().ok(),
        }
    }

    /// Whether this runs in a process that was forked from that one.
    #[cfg(unix)]
    pub(crate) fn was_forked(&self) -> bool {
        // A check changes the guard, so it is made on a copy: a number.
        let copy = self.guard.clone();
        copy.is_some_and(|mut guard| guard.detected_fork())
    }

    /// There is no fork here.
    #[cfg(not(unix))]
    pub(crate) const fn was_forked(&self) -> bool {
        false
    }
}
