//! An acquisition as users see it: from what a lock handle was told to a request, and from what
//! came of that to a result.

use super::clock;
use super::error::{Cause, LockError};
use super::events::{Account, Chronicle};
use super::held::{HandedOn, Held, ReleaseOutcome};
use super::holder::Holder;
use super::registry::Job;
use super::settings::SettingError;
use super::site::Site;
use crate::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Grant, InspectOutcome, Instant, Lease, LockKeys,
    MAX_LEASE, NameError, Namespace, Owner, ReleaseStatus, ServerError, WaitPolicy,
};
use core::time::Duration;
use std::sync::Arc;

/// What a lock handle was told.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) name: Arc<str>,
    /// Made once, so that acquiring again does not make them again. What is wrong with the name is
    /// told by whatever would acquire.
    pub(crate) keys: Result<LockKeys, NameError>,
    pub(crate) lease: Option<Duration>,
    /// Who asks, where that is not the client's own name.
    pub(crate) owner: Option<Owner>,
    pub(crate) fencing: bool,
    pub(crate) lean: bool,
    /// For how long at most it is held.
    pub(crate) max_hold: Option<Duration>,
    /// For how long at least its name stays taken.
    pub(crate) min_hold: Option<Duration>,
}

impl Wish {
    pub(crate) fn new(name: &str, namespace: &Namespace) -> Self {
        Self {
            keys: namespace.keys(name.as_bytes()),
            name: name.into(),
            lease: None,
            owner: None,
            fencing: true,
            lean: false,
            max_hold: None,
            min_hold: None,
        }
    }

    /// Checks whether it can be had of this client.
    pub(crate) fn check<'a, C, L: AsRef<Held>>(
        &'a self,
        site: &'a Site<C, L>,
    ) -> Result<Asked<'a, C, L>, LockError> {
        site.check_process()
            .map_err(|error| error.about(&self.name))?;
        if site.registry.is_closed() {
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
            None => site.settings.default_lease,
        };
        let longest = site.settings.max_lease;
        if lease > longest {
            let error = SettingError::LeaseOverMax { lease, longest };
            return Err(LockError::new(Cause::Setting(error)).about(&self.name));
        }
        if self.lean {
            lease
                .check_recordless()
                .map_err(|error| LockError::new(Cause::Lease(error)).about(&self.name))?;
        }
        if let Some(error) = self.wrong_hold() {
            return Err(LockError::new(Cause::Setting(error)).about(&self.name));
        }
        Ok(Asked {
            site,
            wish: self,
            keys,
            lease,
        })
    }

    /// What is wrong with the limits of how long it is held.
    fn wrong_hold(&self) -> Option<SettingError> {
        if self.max_hold == Some(Duration::ZERO) {
            let text =
                "max_hold is 0, so the lock would be over before it is held; it must be more";
            return Some(text.into());
        }
        let length = self.min_hold?;
        if self.lean {
            let text = "min_hold needs a record to say it with, and a lean lock has none; leave out \
                        one of the two";
            return Some(text.into());
        }
        (length > MAX_LEASE).then_some(SettingError::MinHold { length })
    }

    /// What was granted, to be taken into keeping.
    pub(crate) fn hold(
        &self,
        keys: LockKeys,
        lease: Lease,
        grant: Grant,
        chronicle: &Arc<Chronicle>,
    ) -> Held {
        let (name, chronicle) = (Arc::clone(&self.name), Arc::clone(chronicle));
        let held = Held::new(name, keys, lease, grant, chronicle).for_at_most(self.max_hold);
        match self.min_hold {
            None => held,
            some => held.for_at_least(some, clock::moment()),
        }
    }
}

/// A wish that can be had.
#[derive(Debug)]
pub(crate) struct Asked<'a, C, L> {
    site: &'a Site<C, L>,
    wish: &'a Wish,
    pub(crate) keys: &'a LockKeys,
    pub(crate) lease: Lease,
}

impl<C, L: AsRef<Held>> Asked<'_, C, L> {
    /// Begins to acquire at `now`. `wake` tells the keeper that there is work for it.
    pub(crate) fn begin<W: Fn()>(
        &self,
        patience: WaitPolicy,
        now: Instant,
        wake: W,
    ) -> Acquiring<'_, C, L, W> {
        let settings = &self.site.settings;
        let request = AcquireRequest {
            namespace: &settings.namespace,
            keys: self.keys,
            owner: self.wish.owner.as_ref().unwrap_or(&settings.owner),
            lease: self.lease,
            fencing: self.wish.fencing && !self.wish.lean,
            without_record: self.wish.lean,
            // Who waits for a while is told who was in the way. The others do not ask.
            report_holder: matches!(patience, WaitPolicy::Until(_)),
            min_memory: match self.wish.lean {
                true => None,
                false => self.site.memory_needed(),
            },
            wait: patience,
            retry_timeout: self.site.tolerance(self.lease, patience != WaitPolicy::Try),
        };
        Acquiring {
            site: self.site,
            name: &self.wish.name,
            keys: self.keys,
            acquire: Acquire::new(request, self.site.nonces.draw(now)),
            account: Account::new(&self.site.chronicle, &self.wish.name, patience, now),
            legacy: None,
            wake,
        }
    }

    /// Whether a holder in this process can hand the lock on to who asks.
    pub(crate) fn inherits(&self) -> bool {
        !self.wish.lean
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
                return Err(LockError::new(Cause::Lease(error)).about(&self.wish.name));
            }
            AcquireOutcome::RestartGuard {
                retry_after: lacking,
            } => Cause::YoungMemory { lacking },
            AcquireOutcome::Failed(failure) => Cause::Server(failure),
        };
        Err(self.site.error(cause).about(&self.wish.name))
    }
}

/// An acquisition that may be abandoned at any point. Whatever it may have left at the server by
/// then is handed to the keeper.
#[derive(Debug)]
pub(crate) struct Acquiring<'a, C, L: AsRef<Held>, W: Fn()> {
    site: &'a Site<C, L>,
    name: &'a Arc<str>,
    keys: &'a LockKeys,
    pub(crate) acquire: Acquire<'a>,
    pub(crate) account: Account<'a>,
    /// What was handed on, until it is clear what became of it.
    legacy: Option<Arc<L>>,
    wake: W,
}

impl<C, L: AsRef<Held>, W: Fn()> Acquiring<'_, C, L, W> {
    /// The lock was handed on by its holder.
    pub(crate) fn inherit(&mut self, lock: Arc<L>) {
        let held: &Held = (*lock).as_ref();
        let cas = held.state().cas;
        self.acquire.accept_handoff(&held.grant, cas);
        self.legacy = Some(lock);
    }

    /// The one that was handed on, when it has become clear what became of it: its holder is to be
    /// told then.
    pub(crate) fn settle(&mut self) -> Option<Arc<L>> {
        self.legacy.as_ref()?;
        let how = self.acquire.take_handoff_result()?;
        let lock = self.legacy.take()?;
        let held: &Held = (*lock).as_ref();
        held.settle(HandedOn::Settled(match how {
            Ok(()) => ReleaseOutcome::Released,
            Err(reason) => ReleaseOutcome::AlreadyLost { reason },
        }));
        self.site.registry.settled();
        Some(lock)
    }
}

impl<C, L: AsRef<Held>, W: Fn()> Drop for Acquiring<'_, C, L, W> {
    fn drop(&mut self) {
        let leftover = self.acquire.orphan();
        let left = leftover.is_some() || self.legacy.is_some();
        if let Some(lock) = self.legacy.take() {
            if leftover.is_some() {
                let held: &Held = (*lock).as_ref();
                held.settle(HandedOn::Unclear);
            }
            self.site.release_legacy(lock);
        }
        if let Some(leftover) = leftover {
            self.site.registry.push(Job::Undo {
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

impl<C, L: AsRef<Held>> Site<C, L> {
    /// A lock was handed on, and nobody takes it: leaves its release to the keeper, which must be
    /// woken then.
    pub(crate) fn release_legacy(&self, lock: Arc<L>) {
        self.registry.push(Job::Release(lock));
        self.registry.settled();
    }

    /// A lock was released. Leaves it to the keeper, which must be woken then, to look for what a
    /// request that was not answered may bring back.
    pub(crate) fn await_echo(&self, held: &Held) -> bool {
        if held.stays(clock::moment()) {
            // What stands there is to stay, and keeps a late request out.
            return false;
        }
        let Some(leftover) = held.grant.orphan() else {
            return false;
        };
        self.registry.push(Job::Undo {
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
        let waited = clock::moment().since(began);
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
