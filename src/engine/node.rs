//! One server, as one client sees it.

use super::addresses::Addresses;
use super::clock::{self, Nonces};
use super::config::Config;
use super::config_error::ConfigError;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::events::Telemetry;
use super::lock_state::LockState;
use super::notify::Notify;
use super::process::Process;
use super::scheduler::RenewalScheduler;
use super::stats::ClientStats;
use crate::net::{NetCause, NetError};
use crate::proto::{
    Instant, Lease, LockKeys, LossReason, ServerError, ServerInstance, ServerState, SleepReason,
};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// The time for which a new client retries a server that drops the items it stores.
const DROPPED_ITEM_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that answered within this time is used again without checking that it is still
/// open: the check costs a system call each time. No supervisor restarts a server faster (systemd
/// waits 100 ms), and no server closes an idle connection so soon. If it was closed nevertheless,
/// the operation is reported as failed or unknown.
const RECENTLY_USED: Duration = Duration::from_millis(10);

/// A connection and the server instance it leads to.
#[derive(Debug)]
pub(crate) struct NodeConnection<C> {
    pub(crate) connection: C,
    pub(crate) instance: ServerInstance,
    /// When it last answered or was found open, in nanoseconds of the clock.
    answered: AtomicU64,
}

impl<C> NodeConnection<C> {
    pub(crate) const fn new(connection: C, incarnation: ServerInstance) -> Self {
        Self {
            connection,
            instance: incarnation,
            answered: AtomicU64::new(0),
        }
    }

    /// Records that a reply came on it, or that it was found open.
    pub(crate) fn answered(&self, now: Instant) {
        self.answered.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Returns whether that was a moment ago.
    pub(crate) fn was_recently_used(&self, now: Instant) -> bool {
        let answered = Instant::from_nanos(self.answered.load(Ordering::Relaxed));
        now.since(answered) < RECENTLY_USED
    }
}

/// Connections that can be closed or discarded all at once, because they lead to a server that is
/// gone.
pub(crate) trait Clear {
    fn clear(&self);
}

/// One server: settings, the connections `C`, the state of the server, and the locks `L` held
/// there.
#[derive(Debug)]
pub(crate) struct Node<C> {
    pub(crate) config: Config,
    pub(crate) nonces: Nonces,
    process: Process,
    pub(crate) addresses: Addresses,
    pub(crate) connections: C,
    pub(crate) scheduler: RenewalScheduler,
    /// Notified when the scheduler has work for the renewer.
    pub(crate) wake: Notify,
    pub(crate) telemetry: Arc<Telemetry>,
    server: Mutex<Option<ServerState>>,
    made: Instant,
    /// The longest lease of other clients that was reported, in nanoseconds.
    longest_told: AtomicU64,
    corrected: Mutex<ClockCorrections>,
}

impl<C: Clear> Node<C> {
    /// Applies the result of a handshake. Returns the locks that are lost by it, because the server
    /// is another instance than before; the caller notifies their waiters.
    #[must_use]
    pub(crate) fn update_server(&self, fresh: ServerState) -> Vec<Arc<LockState>> {
        let incarnation = fresh.instance;
        let mut slot = self.server_slot();
        let restarted = match slot.as_mut() {
            Some(view) => {
                let before = view.instance;
                let restarted = view.update(fresh);
                if restarted {
                    self.telemetry.server_restarted(before, incarnation);
                }
                restarted
            }
            None => {
                *slot = Some(fresh);
                false
            }
        };
        drop(slot);
        self.report_longest_lease();
        if !restarted {
            return Vec::new();
        }
        self.connections.clear();
        let mut lost = self.scheduler.locks();
        lost.retain(|lock| {
            let held = &**lock;
            // If only the instance word differs, the next renewal finds out whether the lock is
            // still there.
            !held.grant.instance.is_same_process(&incarnation)
                && held.end(LossReason::ServerRestarted)
        });
        lost
    }
}

/// The pause of a client that is being built before it tries an unreachable server again.
const SERVER_PAUSE: Duration = Duration::from_millis(100);

impl<C> Node<C> {
    /// Returns until when the first connection is tried, from now on; `None` is one attempt.
    pub(crate) fn tries_until(&self) -> Option<Instant> {
        let wait = self.config.server_wait;
        (!wait.is_zero()).then(|| clock::monotonic().after(wait))
    }

    /// Returns the pause before the first connection is tried again; the error if it is not tried.
    pub(crate) fn pause_before_retry(
        &self,
        why: ConnectError,
        until: Option<Instant>,
    ) -> Result<Duration, LockError> {
        let now = clock::monotonic();
        let until = match why {
            // The server drops everything in the second in which a delayed flush takes effect.
            ConnectError::Rejected(ServerError::DropsItems) => {
                let passes = self.made.after(DROPPED_ITEM_TIMEOUT);
                Some(until.map_or(passes, |until| until.max(passes)))
            }
            _ => until,
        };
        match until {
            Some(until) if why.is_transient() && now < until => {
                Ok(SERVER_PAUSE.min(until.since(now)))
            }
            _ => Err(self.connect_error(why)),
        }
    }

    pub(crate) fn new(settings: Config, connections: C) -> Result<Self, LockError> {
        let nonces = Nonces::new()
            .map_err(|error| LockError::new(Cause::Setting(ConfigError::Random(error))))?;
        Ok(Self {
            nonces,
            process: Process::current(),
            addresses: Addresses::default(),
            connections,
            scheduler: RenewalScheduler::new(),
            wake: Notify::new(),
            telemetry: Arc::new(Telemetry::new(&settings.address)),
            server: Mutex::new(None),
            longest_told: AtomicU64::new(0),
            made: clock::monotonic(),
            corrected: Mutex::default(),
            config: settings,
        })
    }

    /// Checks that this is the client's process.
    ///
    /// # Errors
    /// This process was forked from the client's process. The check comes before any mutex is
    /// locked: another thread may have held it at the fork, and does not exist here to unlock it.
    pub(crate) fn check_process(&self) -> Result<(), LockError> {
        if self.process.was_forked() {
            return Err(self.error(Cause::Forked));
        }
        Ok(())
    }

    /// Returns the counts of this client, and its present state.
    pub(crate) fn stats(&self) -> ClientStats {
        let now = clock::monotonic();
        let mut held = 0;
        self.scheduler.visit(|lock| {
            held += u64::from(!lock.remaining(now).is_zero());
        });
        self.telemetry.stats(held)
    }

    fn server_slot(&self) -> MutexGuard<'_, Option<ServerState>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a function with the state of the server, if it is about this instance.
    pub(crate) fn with_server<T>(
        &self,
        incarnation: ServerInstance,
        work: impl FnOnce(&mut ServerState) -> T,
    ) -> Option<T> {
        let mut slot = self.server_slot();
        let view = slot.as_mut()?;
        view.is_instance(incarnation).then(|| work(view))
    }

    /// Returns whether the known server is another instance than this one.
    pub(crate) fn was_restarted(&self, incarnation: ServerInstance) -> bool {
        let view = self.server_slot();
        view.as_ref()
            .is_some_and(|view| view.instance != incarnation)
    }

    /// Returns the keys of a name, or the error of a name that cannot be used.
    pub(crate) fn keys(&self, name: &str) -> Result<LockKeys, LockError> {
        let keys = self.config.namespace.keys(name.as_bytes());
        keys.map_err(|error| LockError::new(Cause::Name(error)).with_name(name))
    }

    pub(crate) fn error(&self, cause: Cause) -> LockError {
        LockError::new(cause).with_server(&self.config.address)
    }

    /// Returns the error of an operation that was given up without a reply.
    pub(crate) fn no_reply_error(&self, unknown: bool, failure: Option<NetError>) -> LockError {
        let failure = failure.unwrap_or(NetError::unsent(NetCause::Timeout(
            self.config.operation_timeout,
        )));
        self.error(if unknown {
            Cause::Unknown(failure)
        } else {
            Cause::Unavailable(failure)
        })
    }

    /// Returns the error of a client that has no connection.
    pub(crate) fn connect_error(&self, why: ConnectError) -> LockError {
        why.into_lock_error(&self.config.address)
    }

    /// Logs why an operation pauses, if that is unusual.
    pub(crate) fn report_pause(&self, why: SleepReason, length: Duration) {
        if why == SleepReason::RestartGuard {
            self.telemetry.restart_guard_wait(length);
        }
    }

    /// Returns the lease for which the server must have remembered everything before a lock is
    /// granted, if it must.
    pub(crate) fn min_memory(&self) -> Option<Lease> {
        self.config.restart_guard.then_some(self.config.max_lease)
    }

    /// Returns the longest lease in use under the prefix, as far as is known.
    pub(crate) fn longest_lease(&self) -> Lease {
        let own = self.config.max_lease;
        let view = self.server_slot();
        let known = view.as_ref().and_then(|view| view.memory.longest_lease());
        known.map_or(own, |known| known.max(own))
    }

    /// Reports, once, that other clients use a longer lease than this one knew of.
    pub(crate) fn report_longest_lease(&self) {
        let own = self.config.max_lease;
        let seen = self.server_slot().as_ref().and_then(|view| {
            let longest = view.memory.longest_lease();
            longest.filter(|longest| *longest > own)
        });
        let Some(seen) = seen.map(Lease::duration) else {
            return;
        };
        let nanos = u64::try_from(seen.as_nanos()).unwrap_or(u64::MAX);
        if self.longest_told.fetch_max(nanos, Ordering::Relaxed) < nanos {
            self.telemetry.longer_lease(own.duration(), seen);
        }
    }

    /// Returns how long an operation that may wait goes on trying to reach the server.
    pub(crate) fn retry_timeout(&self, lease: Lease, waits: bool) -> Duration {
        if waits {
            lease.duration().max(Duration::from_secs(5))
        } else {
            self.config.operation_timeout
        }
    }

    /// Returns whether the server's clock must be seen ticking, for the first time or again.
    pub(crate) fn needs_clock_sync(&self, now: Instant) -> bool {
        self.server_slot()
            .as_ref()
            .is_some_and(|view| !view.clock.is_synchronized(now))
    }

    /// Shortens the deadlines of the held locks, if a reading of the server's clock has shown that
    /// the server keeps them for less time than requested. The client calls it after readings, as
    /// often as it likes: it visits all locks only after such a reading.
    pub(crate) fn correct_deadlines(&self, now: Instant) {
        let corrections = self
            .server_slot()
            .as_ref()
            .map(|view| (view.instance, view.clock.corrections()));
        if !self.corrected().is_behind(corrections, now) {
            return;
        }
        self.scheduler.visit(|lock| {
            let held = lock;
            let expiry = held.state().expiry;
            let kept = self
                .with_server(held.grant.instance, |view| {
                    view.clock.retained_until(expiry, now)
                })
                .flatten();
            if let Some(kept) = kept.filter(|kept| *kept < held.valid_until()) {
                held.shorten(kept);
            }
        });
    }

    fn corrected(&self) -> MutexGuard<'_, ClockCorrections> {
        self.corrected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time after which all locks are visited again: a lock whose deadline was computed before a
/// correction may be added to the scheduler a moment after it.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// The corrections of the server's clock that were applied to the held locks.
#[derive(Debug, Default)]
struct ClockCorrections {
    /// The server instance, and the number of corrections.
    corrections: Option<(ServerInstance, u64)>,
    again: Option<Instant>,
}

impl ClockCorrections {
    /// Returns whether to visit all locks now, with so many corrections made.
    fn is_behind(&mut self, corrections: Option<(ServerInstance, u64)>, now: Instant) -> bool {
        let new = corrections != self.corrections;
        let again = self.again.is_some_and(|again| again <= now);
        if new {
            self.corrections = corrections;
            self.again = Some(now.after(SECOND_LOOK));
        } else if again {
            self.again = None;
        }
        new || again
    }
}
