//! Detects that a process was forked from another one.

/// The process in which this value was made.
///
/// The state of a client is of no use in a forked process: both would read replies from the same
/// connections, and the threads that renew locks do not exist there.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// A number that a fork handler changes in the new process: reading it needs no system call.
    /// `None` if the system has no room for the handler.
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

    /// Returns whether the calling process was forked from that one.
    #[cfg(unix)]
    pub(crate) fn was_forked(&self) -> bool {
        // A check changes the guard, so it uses a copy: a number.
        let copy = self.guard.clone();
        copy.is_some_and(|mut guard| guard.detected_fork())
    }

    /// Returns `false`: there is no fork here.
    #[cfg(not(unix))]
    pub(crate) const fn was_forked(&self) -> bool {
        false
    }
}
