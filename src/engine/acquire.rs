//! An acquisition as users see it: from what a lock handle was told to a request, and from what
//! came of that to a result.

use super::clock;
use super::config::ConfigError;
use super::error::{Cause, LockError};
use super::events::{AcquireRecorder, Telemetry};
use super::holder::Holder;
use super::lock_state::{HandoffState, LockState, ReleaseOutcome};
use super::node::Node;
use super::scheduler::CleanupJob;
use crate::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Grant, InspectOutcome, Instant, Lease, LockKeys,
    MAX_LEASE, NameError, Namespace, Owner, ReleaseStatus, ServerError, WaitPolicy,
};
use core::time::Duration;
use std::sync::Arc;

/// What a lock handle was told.
#[derive(Debug, Clone)]
pub(crate) struct LockOptions {
    pub(crate) name: Arc<str>,
    /// Made once, so that acquiring again does not make them again. What is wrong with the name is
    /// told by whatever would acquire.
    pub(crate) keys: Result<LockKeys, NameError>,
    pub(crate) lease: Option<Duration>,
    /// Who asks, where that is not the client's own name.
    pub(crate) owner: Option<Owner>,
    pub(crate) fencing: bool,
    pub(crate) without_record: bool,
    /// For how long at most it is held.
    pub(crate) max_hold: Option<Duration>,
    /// For how long at least its name stays taken.
    pub(crate) min_hold: Option<Duration>,
}

impl LockOptions {
    pub(crate) fn new(name: &str, namespace: &Namespace) -> Self {
        Self {
            keys: namespace.keys(name.as_bytes()),
            name: name.into(),
            lease: None,
            owner: None,
            fencing: true,
            without_record: false,
            max_hold: None,
            min_hold: None,
        }
    }

    /// Checks whether it can be had of this client.
    pub(crate) fn validate<'a, C, L: AsRef<LockState>>(
        &'a self,
        site: &'a Node<C, L>,
    ) -> Result<ValidatedOptions<'a, C, L>, LockError> {
        site.check_process()
            .map_err(|error| error.about(&self.name))?;
        if site.scheduler.is_closed() {
            return Err(LockError::new(Cause::Closed).about(&self.name));
        }
        let keys = match &self.keys {
            Ok(keys) => keys,
            Err(error) => {
                return Err(LockError::new(Cause::Name(*error)).about(&self.name));
            }
        };
        let lease = match self.lease {
            Some(lease) => Lease::new(lease)
                .map_err(|error| LockError::new(Cause::Lease(error)).about(&self.name))?,
            None => site.config.default_lease,
        };
        let longest = site.config.max_lease;
        if lease > longest {
            let error = ConfigError::LeaseOverMax { lease, longest };
            return Err(LockError::new(Cause::Setting(error)).about(&self.name));
        }
        if self.without_record {
            lease
                .check_recordless()
                .map_err(|error| LockError::new(Cause::Lease(error)).about(&self.name))?;
        }
        if let Some(error) = self.validate_hold_limits() {
            return Err(LockError::new(Cause::Setting(error)).about(&self.name));
        }
        Ok(ValidatedOptions {
            node: site,
            options: self,
            keys,
            lease,
        })
    }

    /// What is wrong with the limits of how long it is held.
    fn validate_hold_limits(&self) -> Option<ConfigError> {
        if self.max_hold == Some(Duration::ZERO) {
            let text =
                "max_hold is 0, so the lock would be over before it is held; it must be more";
            return Some(text.into());
        }
        let length = self.min_hold?;
        if self.without_record {
            let text = "min_hold needs a record to say it with, and a lean lock has none; leave out \
                        one of the two";
            return Some(text.into());
        }
        (length > MAX_LEASE).then_some(ConfigError::MinHold { length })
    }

    /// What was granted, to be taken into keeping.
    pub(crate) fn hold(
        &self,
        keys: LockKeys,
        lease: Lease,
        grant: Grant,
        chronicle: &Arc<Telemetry>,
    ) -> LockState {
        let (name, chronicle) = (Arc::clone(&self.name), Arc::clone(chronicle));
        let held = LockState::new(name, keys, lease, grant, chronicle).for_at_most(self.max_hold);
        match self.min_hold {
            None => held,
            some => held.for_at_least(some, clock::monotonic()),
        }
    }
}

/// A wish that can be had.
#[derive(Debug)]
pub(crate) struct ValidatedOptions<'a, C, L> {
    node: &'a Node<C, L>,
    options: &'a LockOptions,
    pub(crate) keys: &'a LockKeys,
    pub(crate) lease: Lease,
}

impl<C, L: AsRef<LockState>> ValidatedOptions<'_, C, L> {
    /// Begins to acquire at `now`. `wake` tells the keeper that there is work for it.
    pub(crate) fn begin<W: Fn()>(
        &self,
        patience: WaitPolicy,
        now: Instant,
        wake: W,
    ) -> PendingAcquire<'_, C, L, W> {
        let settings = &self.node.config;
        let request = AcquireRequest {
            namespace: &settings.namespace,
            keys: self.keys,
            owner: self.options.owner.as_ref().unwrap_or(&settings.owner),
            lease: self.lease,
            fencing: self.options.fencing && !self.options.without_record,
            without_record: self.options.without_record,
            // Who waits for a while is told who was in the way. The others do not ask.
            report_holder: matches!(patience, WaitPolicy::Until(_)),
            min_memory: match self.options.without_record {
                true => None,
                false => self.node.memory_needed(),
            },
            wait: patience,
            retry_timeout: self.node.tolerance(self.lease, patience != WaitPolicy::Try),
        };
        PendingAcquire {
            node: self.node,
            name: &self.options.name,
            keys: self.keys,
            acquire: Acquire::new(request, self.node.nonces.draw(now)),
            recorder: AcquireRecorder::new(&self.node.telemetry, &self.options.name, patience, now),
            handoff: None,
            wake,
        }
    }

    /// Whether a holder in this process can hand the lock on to who asks.
    pub(crate) fn accepts_handoff(&self) -> bool {
        !self.options.without_record
    }

    /// What came of it, to the user: held, held by another, or an error.
    pub(crate) fn result(
        &self,
        acquired: AcquireOutcome,
    ) -> Result<Result<Grant, Option<Holder>>, LockError> {
        let cause = match acquired {
            AcquireOutcome::Granted(grant) => return Ok(Ok(grant)),
            AcquireOutcome::Contended(refusal) => {
                let holder = refusal.holder;
                return Ok(Err(
                    holder.map(|record| Holder::from_record(record, refusal.free_in))
                ));
            }
            AcquireOutcome::Failed(ServerError::Lease(error)) => {
                return Err(LockError::new(Cause::Lease(error)).about(&self.options.name));
            }
            AcquireOutcome::RestartGuard {
                retry_after: lacking,
            } => Cause::RestartGuard { lacking },
            AcquireOutcome::Failed(failure) => Cause::Server(failure),
        };
        Err(self.node.error(cause).about(&self.options.name))
    }
}

/// An acquisition that may be abandoned at any point. Whatever it may have left at the server by
/// then is handed to the keeper.
#[derive(Debug)]
pub(crate) struct PendingAcquire<'a, C, L: AsRef<LockState>, W: Fn()> {
    node: &'a Node<C, L>,
    name: &'a Arc<str>,
    keys: &'a LockKeys,
    pub(crate) acquire: Acquire<'a>,
    pub(crate) recorder: AcquireRecorder<'a>,
    /// What was handed on, until it is clear what became of it.
    handoff: Option<Arc<L>>,
    wake: W,
}

impl<C, L: AsRef<LockState>, W: Fn()> PendingAcquire<'_, C, L, W> {
    /// The lock was handed on by its holder.
    pub(crate) fn accept_handoff(&mut self, lock: Arc<L>) {
        let held: &LockState = (*lock).as_ref();
        let cas = held.state().cas;
        self.acquire.accept_handoff(&held.grant, cas);
        self.handoff = Some(lock);
    }

    /// The one that was handed on, when it has become clear what became of it: its holder is to be
    /// told then.
    pub(crate) fn finish(&mut self) -> Option<Arc<L>> {
        self.handoff.as_ref()?;
        let how = self.acquire.take_handoff_result()?;
        let lock = self.handoff.take()?;
        let held: &LockState = (*lock).as_ref();
        held.resolve_handoff(HandoffState::Resolved(match how {
            Ok(()) => ReleaseOutcome::Released,
            Err(reason) => ReleaseOutcome::AlreadyLost { reason },
        }));
        self.node.scheduler.end_handoff();
        Some(lock)
    }
}

impl<C, L: AsRef<LockState>, W: Fn()> Drop for PendingAcquire<'_, C, L, W> {
    fn drop(&mut self) {
        let leftover = self.acquire.orphan();
        let left = leftover.is_some() || self.handoff.is_some();
        if let Some(lock) = self.handoff.take() {
            if leftover.is_some() {
                let held: &LockState = (*lock).as_ref();
                held.resolve_handoff(HandoffState::Unknown);
            }
            self.node.release_handoff(lock);
        }
        if let Some(leftover) = leftover {
            self.node.scheduler.push(CleanupJob::Undo {
                name: Arc::clone(self.name),
                keys: self.keys.clone(),
                leftover,
            });
        }
        if left {
            (self.wake)();
        }
    }
}

impl<C, L: AsRef<LockState>> Node<C, L> {
    /// A lock was handed on, and nobody takes it: leaves its release to the keeper, which must be
    /// woken then.
    pub(crate) fn release_handoff(&self, lock: Arc<L>) {
        self.scheduler.push(CleanupJob::Release(lock));
        self.scheduler.end_handoff();
    }

    /// A lock was released. Leaves it to the keeper, which must be woken then, to look for what a
    /// request that was not answered may bring back.
    pub(crate) fn schedule_orphan_check(&self, held: &LockState) -> bool {
        if held.stays(clock::monotonic()) {
            // What stands there is to stay, and keeps a late request out.
            return false;
        }
        let Some(leftover) = held.grant.orphan() else {
            return false;
        };
        self.scheduler.push(CleanupJob::Undo {
            name: Arc::clone(&held.name),
            keys: held.keys.clone(),
            leftover,
        });
        true
    }

    /// What came of a release, to the user.
    pub(crate) fn released(&self, released: ReleaseStatus) -> Result<ReleaseOutcome, LockError> {
        match released {
            ReleaseStatus::Released => Ok(ReleaseOutcome::Released),
            ReleaseStatus::AlreadyLost(reason) => Ok(ReleaseOutcome::AlreadyLost { reason }),
            ReleaseStatus::Failed(failure) => Err(self.error(Cause::Server(failure))),
        }
    }

    /// The error of a wait that began at `began` and in which `holder` was seen last.
    pub(crate) fn timeout(&self, name: &str, began: Instant, holder: Option<Holder>) -> LockError {
        let waited = clock::monotonic().since(began);
        self.error(Cause::Timeout { waited, holder }).about(name)
    }

    /// What an inspection found, to the user.
    pub(crate) fn inspected(&self, inspected: InspectOutcome) -> Result<Option<Holder>, LockError> {
        match inspected {
            InspectOutcome::Failed(failure) => Err(self.error(Cause::Server(failure))),
            seen => Ok(Holder::from_inspected(seen)),
        }
    }
}
