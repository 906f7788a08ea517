//! The options of an acquisition, the request made of them, and the outcome for the caller.

use super::acquire_recorder::AcquireRecorder;
use super::clock;
use super::config_error::ConfigError;
use super::error::{Cause, LockError};
use super::events::Telemetry;
use super::holder::Holder;
use super::lock_state::LockState;
use super::node::Node;
use super::pending_acquire::{Acquired, PendingAcquire};
use crate::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Grant, Instant, Lease, LockKeys, MAX_LEASE, NameError,
    Namespace, Owner, ServerError, WaitPolicy,
};
use core::time::Duration;
use std::sync::Arc;

/// Options of a lock handle.
#[derive(Debug, Clone)]
pub(crate) struct LockOptions {
    pub(crate) name: Arc<str>,
    /// Made once, so that later acquisitions need not make them again. The calls that would acquire
    /// the lock report a name that cannot be used.
    pub(crate) keys: Result<LockKeys, NameError>,
    pub(crate) lease: Option<Duration>,
    /// The owner, if it is not the client's own.
    pub(crate) owner: Option<Owner>,
    pub(crate) fencing: bool,
    pub(crate) without_record: bool,
    /// The maximum time for which the lock is held.
    pub(crate) max_hold: Option<Duration>,
    /// The minimum time for which its name stays unavailable.
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

    /// Checks whether this client can acquire the lock.
    pub(crate) fn validate<'a, C>(
        &'a self,
        site: &'a Node<C>,
    ) -> Result<ValidatedOptions<'a, C>, LockError> {
        site.check_process()
            .map_err(|error| error.with_name(&self.name))?;
        if site.scheduler.is_closed() {
            return Err(LockError::new(Cause::Closed).with_name(&self.name));
        }
        let keys = match &self.keys {
            Ok(keys) => keys,
            Err(error) => {
                return Err(LockError::new(Cause::Name(*error)).with_name(&self.name));
            }
        };
        let lease = match self.lease {
            Some(lease) => Lease::new(lease)
                .map_err(|error| LockError::new(Cause::Lease(error)).with_name(&self.name))?,
            None => site.config.default_lease,
        };
        let longest = site.config.max_lease;
        if lease > longest {
            let error = ConfigError::LeaseOverMax { lease, longest };
            return Err(LockError::new(Cause::Setting(error)).with_name(&self.name));
        }
        if self.without_record {
            lease
                .check_recordless()
                .map_err(|error| LockError::new(Cause::Lease(error)).with_name(&self.name))?;
        }
        if let Some(error) = self.validate_hold_limits() {
            return Err(LockError::new(Cause::Setting(error)).with_name(&self.name));
        }
        Ok(ValidatedOptions {
            node: site,
            options: self,
            keys,
            lease,
        })
    }

    /// Returns the error of limits that cannot be used.
    fn validate_hold_limits(&self) -> Option<ConfigError> {
        if self.max_hold == Some(Duration::ZERO) {
            let text =
                "max_hold is 0, so the lock would be over before it is held; it must be more";
            return Some(text.into());
        }
        let length = self.min_hold?;
        if self.without_record {
            let text = "min_hold needs a record to say it with, and a lock without a record has none; leave out \
                        one of the two";
            return Some(text.into());
        }
        (length > MAX_LEASE).then_some(ConfigError::MinHold { length })
    }

    /// Returns the lock state of a grant, to be put into the scheduler.
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

/// Options that were validated.
#[derive(Debug)]
pub(crate) struct ValidatedOptions<'a, C> {
    node: &'a Node<C>,
    options: &'a LockOptions,
    pub(crate) keys: &'a LockKeys,
    pub(crate) lease: Lease,
}

impl<C> ValidatedOptions<'_, C> {
    /// Begins to acquire at `now`.
    pub(crate) fn begin(&self, patience: WaitPolicy, now: Instant) -> PendingAcquire<'_, C> {
        let config = &self.node.config;
        let request = AcquireRequest {
            namespace: &config.namespace,
            keys: self.keys,
            owner: self.options.owner.as_ref().unwrap_or(&config.owner),
            lease: self.lease,
            fencing: self.options.fencing && !self.options.without_record,
            without_record: self.options.without_record,
            // A caller that waits for a limited time learns the holder. The others do not request
            // it.
            report_holder: matches!(patience, WaitPolicy::Until(_)),
            min_memory: if self.options.without_record {
                None
            } else {
                self.node.min_memory()
            },
            wait: patience,
            retry_timeout: self
                .node
                .retry_timeout(self.lease, patience != WaitPolicy::Try),
        };
        let name = &self.options.name;
        PendingAcquire::new(
            self.node,
            name,
            self.keys,
            Acquire::new(request, self.node.nonces.draw(now)),
            AcquireRecorder::new(&self.node.telemetry, name, patience, now),
        )
    }

    /// Returns the state of the lock after the grant.
    pub(crate) fn lock(&self, grant: Grant) -> LockState {
        let telemetry = &self.node.telemetry;
        self.options
            .hold(self.keys.clone(), self.lease, grant, telemetry)
    }

    /// Returns whether a holder in this process can hand the lock off to this waiter.
    pub(crate) fn accepts_handoff(&self) -> bool {
        !self.options.without_record
    }

    /// Converts the outcome for the caller: held, held by another, or an error.
    pub(crate) fn result(&self, acquired: AcquireOutcome) -> Result<Acquired<Grant>, LockError> {
        let cause = match acquired {
            AcquireOutcome::Granted(grant) => return Ok(Acquired::Granted(grant)),
            AcquireOutcome::Contended(refusal) => {
                let holder = refusal.holder;
                let holder = holder.map(|record| Holder::from_record(record, refusal.free_in));
                return Ok(Acquired::Contended(holder));
            }
            AcquireOutcome::Failed(ServerError::Lease(error)) => {
                return Err(LockError::new(Cause::Lease(error)).with_name(&self.options.name));
            }
            AcquireOutcome::RestartGuard {
                retry_after: lacking,
            } => Cause::RestartGuard { lacking },
            AcquireOutcome::Failed(failure) => Cause::Server(failure),
        };
        Err(self.node.error(cause).with_name(&self.options.name))
    }
}
