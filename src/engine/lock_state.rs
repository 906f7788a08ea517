//! The state of a held lock that its guard and the renewer share.

mod renewal;

use super::clock;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::events::{HoldEnd, HoldInfo, Telemetry};
use super::notify::Notify;
use super::process::Process;
use crate::proto::{Grant, Instant, Lease, LockKeys, LossReason, OwnerId, Release, ServerError};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The outcome of a release.
///
/// # Example
/// ```
/// # #[cfg(all(feature = "tokio", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::Client::connect(server.address()).await?;
/// use memlatch::ReleaseOutcome;
///
/// let guard = client.lock("invoices/42").acquire().await?;
/// match guard.release().await? {
///     ReleaseOutcome::Released => {}
///     ReleaseOutcome::AlreadyLost { reason } => println!("check what was written: {reason}"),
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "tokio", feature = "server")))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lock that was lost before its release may have been held by two"]
pub enum ReleaseOutcome {
    /// The lock was held to the end and is free now.
    Released,
    /// The lock had been lost before.
    AlreadyLost {
        /// The reason for the loss.
        reason: LossReason,
    },
}

/// The state of a lock that is held, or was.
#[derive(Debug)]
pub(crate) struct LockState {
    pub(crate) name: Arc<str>,
    pub(crate) keys: LockKeys,
    pub(crate) lease: Lease,
    pub(crate) grant: Grant,
    /// The deadline until which the lock is certain, in nanoseconds of the clock. Written under
    /// `state`; read without, because a guard reads it most often.
    valid_until: AtomicU64,
    /// The process that holds it.
    process: Process,
    /// The instant at which it expires, however often it is renewed.
    hold_deadline: Instant,
    /// The instant until which the name stays unavailable after an earlier release.
    retained_until: Option<Instant>,
    /// Records how it ended.
    telemetry: Arc<Telemetry>,
    /// The number of handoffs in a row in this process until this session.
    handoffs: AtomicU32,
    /// Notified when anything about the lock has changed.
    pub(crate) changed: Notify,
    inner: Mutex<Inner>,
}

/// An instant later than all others.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// The part of the state that changes while a lock is held.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The CAS unique of the record, as far as is known.
    pub(crate) cas: u64,
    /// The expiry that was sent to the server last.
    pub(crate) expiry: u64,
    /// The reason for the end, once it has ended.
    pub(crate) loss: Option<LossReason>,
    /// The instant of the end.
    ended: Instant,
    /// The end was reported.
    reported: bool,
    /// A renewal is under way, so the CAS unique may be about to change.
    pub(crate) renewing: bool,
    /// The outcome of a handoff to another waiter in this process.
    handoff: HandoffState,
    /// The lock ended because it reached its limit: the record still exists, and must be released.
    pub(crate) release_pending: bool,
    /// The warning of the near end was emitted, and no renewal was answered since.
    pub(crate) expiry_warned: bool,
    /// The number of finished renewals.
    pub(crate) renewals: u64,
    /// The reason why the last renewal failed.
    pub(crate) renew_error: Option<Box<RenewError>>,
}

/// The outcome of a handoff.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum HandoffState {
    /// There was no handoff, or its outcome is not known yet.
    #[default]
    Pending,
    /// It is unknown whether the record was replaced.
    Unknown,
    Resolved(ReleaseOutcome),
    /// No waiter took the lock, and its release failed.
    Failed,
}

/// The reason why a renewal failed without the loss of the lock.
#[derive(Debug)]
pub(crate) enum RenewError {
    /// The server refused.
    Rejected(ServerError),
    /// The server was not reached, or did not reply.
    Unreachable(ConnectError),
    /// There was no reply; the reason is not known.
    NoReply,
}

impl Inner {
    /// Returns whether the last renewal got no reply.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(
            self.renew_error.as_deref(),
            Some(RenewError::Unreachable(_) | RenewError::NoReply)
        )
    }
}

impl LockState {
    pub(crate) fn new(
        name: Arc<str>,
        keys: LockKeys,
        lease: Lease,
        grant: Grant,
        chronicle: Arc<Telemetry>,
    ) -> Self {
        Self {
            name,
            keys,
            lease,
            valid_until: AtomicU64::new(grant.valid_until.as_nanos()),
            process: Process::current(),
            hold_deadline: NEVER,
            retained_until: None,
            telemetry: chronicle,
            handoffs: AtomicU32::new(0),
            changed: Notify::new(),
            inner: Mutex::new(Inner {
                cas: grant.cas,
                expiry: grant.expiry,
                loss: None,
                ended: NEVER,
                reported: false,
                renewing: false,
                handoff: HandoffState::Pending,
                release_pending: false,
                expiry_warned: false,
                renewals: 0,
                renew_error: None,
            }),
            grant,
        }
    }

    /// Returns the number of handoffs in a row before. Read and written under the mutex of the
    /// queues.
    pub(crate) fn handoffs(&self) -> u32 {
        self.handoffs.load(Ordering::Relaxed)
    }

    pub(crate) fn set_handoffs(&self, turns: u32) {
        self.handoffs.store(turns, Ordering::Relaxed);
    }

    /// Returns the same state with a limit: it ends this long after its request.
    pub(crate) fn for_at_most(mut self, max_hold: Option<Duration>) -> Self {
        if let Some(length) = max_hold {
            self.hold_deadline = self.grant.sent_at.after(length);
            self.valid_until
                .fetch_min(self.hold_deadline.as_nanos(), Ordering::AcqRel);
        }
        self
    }

    /// Returns the same state with a minimum: its name stays unavailable for this long from now on,
    /// even if it is released earlier.
    ///
    /// The time counts from now, not from the request: no client can have seen the lock acquired
    /// before.
    pub(crate) fn for_at_least(mut self, min_hold: Option<Duration>, now: Instant) -> Self {
        self.retained_until = min_hold.map(|length| now.after(length));
        self
    }

    /// Returns whether its name stays unavailable after a release.
    pub(crate) fn is_retained(&self, now: Instant) -> bool {
        self.retained_until.is_some_and(|until| until > now)
    }

    /// Returns the operation that releases it with this CAS unique, tried until `give_up`.
    pub(crate) fn release_operation(&self, cas: u64, give_up: Instant) -> Release<'_> {
        let mut release = Release::new(&self.keys, &self.grant, cas, give_up);
        if self.handoff_state() == HandoffState::Unknown {
            release = release.after_unanswered_request();
        }
        match self.retained_until {
            Some(until) => release.retaining_until(&self.grant, until),
            None => release,
        }
    }

    /// Returns by when the record of the lock, which has ended, expires by itself, as far as is
    /// known.
    pub(crate) fn expires_by(&self, now: Instant) -> Instant {
        let ended = self.state().ended.min(now);
        self.lease.valid_until(ended)
    }

    /// Returns whether it lasts as long as its limit allows: a renewal would gain nothing.
    pub(crate) fn is_final(&self) -> bool {
        self.valid_until() == self.hold_deadline
    }

    /// Returns whether the scheduler must release it. Returns `true` only once.
    pub(crate) fn take_pending_release(&self) -> bool {
        core::mem::take(&mut self.state().release_pending)
    }

    /// Returns the data of it for events.
    pub(crate) fn info(&self) -> HoldInfo<'_> {
        HoldInfo {
            name: &self.name,
            token: self.grant.token,
            kind: self.grant.kind,
            valid_until: self.valid_until(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the instant from which on it is not certain any more.
    pub(crate) fn valid_until(&self) -> Instant {
        Instant::from_nanos(self.valid_until.load(Ordering::Acquire))
    }

    /// Returns how long it is still certain; zero when it has ended, and in a forked process.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        if self.process.was_forked() {
            return Duration::ZERO;
        }
        self.valid_until().since(now)
    }

    /// Returns the reason for the end, if it has ended. Also checks the deadline.
    pub(crate) fn loss(&self, now: Instant) -> Option<LossReason> {
        let (over, found) = {
            let mut state = self.state();
            let found = self.check_time(&mut state, now);
            (state.loss, found)
        };
        self.emit_lost(found);
        over
    }

    /// Checks whether the deadline has passed, or this is a forked process. Returns the reason if
    /// the lock ends by this call; the caller passes it to [`emit_lost`](Self::emit_lost) after the
    /// state is unlocked.
    #[must_use]
    fn check_time(&self, state: &mut Inner, now: Instant) -> Option<LossReason> {
        let valid_until = self.valid_until();
        if state.loss.is_none() && self.process.was_forked() {
            self.end_locked(state, LossReason::Forked, now);
            return Some(LossReason::Forked);
        }
        if state.loss.is_none() && now >= valid_until {
            state.release_pending = self.is_final();
            // A renewal that is under way at the end got no reply in time either.
            let reason = if state.release_pending {
                LossReason::MaxHold
            } else if state.renewing || state.is_unanswered() {
                LossReason::Unreachable
            } else {
                LossReason::Expired
            };
            self.end_locked(state, reason, valid_until);
            return Some(reason);
        }
        None
    }

    /// Checks that it is certain for at least `wanted` longer.
    pub(crate) fn ensure(&self, wanted: Duration, now: Instant) -> Result<(), LockError> {
        let remaining = self.remaining(now);
        if !remaining.is_zero() && remaining >= wanted {
            return Ok(());
        }
        let cause = match self.loss(now) {
            Some(reason) => Cause::Lost(reason),
            None => Cause::TooShort { wanted, remaining },
        };
        Err(LockError::new(cause).with_name(&self.name))
    }

    /// Ends it by a release. If it had ended before, returns the reason.
    pub(crate) fn end_by_release(&self, now: Instant) -> Option<LossReason> {
        let (over, found) = {
            let mut state = self.state();
            let found = self.check_time(&mut state, now);
            let over = state.loss;
            if over.is_none() {
                self.end_locked(&mut state, LossReason::Released, now);
            }
            (over, found)
        };
        self.emit_lost(found);
        over
    }

    /// Ends it, unless it has ended already. Returns whether this call did it.
    pub(crate) fn end(&self, reason: LossReason) -> bool {
        let first = {
            let mut state = self.state();
            let first = state.loss.is_none();
            if first {
                self.end_locked(&mut state, reason, clock::monotonic());
            }
            first
        };
        self.emit_lost(Some(reason).filter(|_| first));
        first
    }

    fn end_locked(&self, state: &mut Inner, reason: LossReason, now: Instant) {
        state.loss = Some(reason);
        state.ended = now;
        self.valid_until.store(0, Ordering::Release);
    }

    fn emit_lost(&self, lost: Option<LossReason>) {
        if let Some(reason) = lost.filter(|reason| *reason != LossReason::Released) {
            self.emit_end(HoldEnd::Lost(reason));
        }
    }

    /// Reports how it ended, unless that was reported before.
    pub(crate) fn emit_end(&self, how: HoldEnd) {
        if let Some(nanos) = self.take_unreported() {
            self.telemetry.ended(self.info(), how, nanos);
        }
    }

    /// Returns for how many nanoseconds it was held, unless the end was reported before. Marks the
    /// end as reported.
    pub(crate) fn take_unreported(&self) -> Option<u64> {
        let mut state = self.state();
        let first = !core::mem::replace(&mut state.reported, true);
        let (sent, ended) = (self.grant.sent_at.as_nanos(), state.ended.as_nanos());
        first.then(|| ended.saturating_sub(sent))
    }

    /// Records the outcome of its release.
    pub(crate) fn emit_released(&self, outcome: ReleaseOutcome) {
        self.emit_end(match outcome {
            ReleaseOutcome::Released => HoldEnd::Released,
            ReleaseOutcome::AlreadyLost { reason } => HoldEnd::Lost(reason),
        });
    }

    /// Records a failed release. `later`: the renewer tries again.
    pub(crate) fn emit_release_failed(&self, error: &LockError, later: bool) {
        self.telemetry.release_failed(self.info(), error, later);
        if !later {
            self.emit_end(HoldEnd::ReleaseFailed);
        }
    }

    /// Records a failed quiet release.
    pub(crate) fn emit_quiet_failure(&self) {
        self.telemetry.quiet_release_failed(self.info());
    }

    /// Returns whether the lock can be handed off once it is ended: it has a record to be replaced,
    /// which need not be retained, and no outstanding request can store it again.
    pub(crate) fn can_hand_off(&self, now: Instant) -> bool {
        let stays = self.retained_until.is_some_and(|until| now < until);
        matches!(self.grant.owner_id, OwnerId::Nonce(_)) && !self.grant.may_be_replayed && !stays
    }

    /// Returns the outcome of the handoff.
    pub(crate) fn handoff_state(&self) -> HandoffState {
        self.state().handoff
    }

    /// Stores the outcome of the handoff.
    pub(crate) fn resolve_handoff(&self, how: HandoffState) {
        self.state().handoff = how;
        // The release by the renewer was reported before.
        match how {
            HandoffState::Resolved(ReleaseOutcome::Released) => self.emit_end(HoldEnd::HandedOff),
            HandoffState::Resolved(ReleaseOutcome::AlreadyLost { reason }) => {
                self.emit_end(HoldEnd::Lost(reason));
            }
            HandoffState::Pending | HandoffState::Unknown | HandoffState::Failed => {}
        }
    }

    /// Shortens the deadline: the server keeps the record only until `kept`.
    pub(crate) fn shorten(&self, kept: Instant) {
        let state = self.state();
        if state.loss.is_none() {
            self.valid_until
                .fetch_min(kept.as_nanos(), Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::proto::{
        GrantKind, InstanceWord, Namespace, Nonce, Owner, OwnerId, RenewOutcome, ServerInstance,
    };

    const LEASE: Duration = Duration::from_secs(9);

    pub(in super::super) fn at(seconds: u64) -> Instant {
        Instant::from_nanos(0).after(Duration::from_secs(seconds))
    }

    /// Returns a lock that was acquired at 0.
    pub(in crate::engine) fn held() -> LockState {
        acquired("L", LEASE, at(0))
    }

    /// Returns a lock that was requested at `sent`.
    pub(in crate::engine) fn acquired(name: &str, lease: Duration, sent: Instant) -> LockState {
        let lease = Lease::new(lease).expect("in range");
        let grant = Grant {
            instance: ServerInstance {
                pid: 7,
                started: 1,
                word: InstanceWord::from_bits(1),
            },
            owner_id: OwnerId::Nonce(Nonce::from_random([7; 16])),
            owner: Owner::new("host", 7, "label"),
            lease,
            acquired_at: 1,
            cas: 5,
            token: Some(1),
            expiry: 13,
            sent_at: sent,
            may_be_replayed: false,
            valid_until: lease.valid_until(sent),
            kind: GrantKind::Free,
        };
        let namespace = Namespace::new("p:").expect("plain");
        let keys = namespace.keys(name.as_bytes()).expect("plain");
        let server = "127.0.0.1:11211".parse().expect("an address");
        let chronicle = Arc::new(Telemetry::new(&server));
        LockState::new(name.into(), keys, lease, grant, chronicle)
    }

    fn renewed(cas: u64, sent: Instant) -> RenewOutcome {
        RenewOutcome::Renewed {
            cas,
            expiry: 16,
            sent,
            valid_until: sent.after(LEASE),
        }
    }

    #[test]
    fn released_lock_is_not_renewed() {
        let held = held();
        assert_eq!(held.begin_renewal(at(3)), Some(5));
        // One renewal at a time: the CAS unique is about to change.
        assert_eq!(held.begin_renewal(at(3)), None);
        held.end_renewal(Some(&renewed(6, at(3))), None);
        assert_eq!(held.valid_until(), at(12));

        assert_eq!(held.end_by_release(at(4)), None);
        assert_eq!(held.begin_renewal(at(5)), None);
        assert_eq!(held.remaining(at(5)), Duration::ZERO);
        assert_eq!(held.loss(at(5)), Some(LossReason::Released));
    }

    #[test]
    fn late_renewal_reports_cas_unique_only() {
        let held = held();
        assert_eq!(held.begin_renewal(at(3)), Some(5));
        assert_eq!(held.end_by_release(at(4)), None);
        assert!(
            held.state().renewing,
            "the release has something to wait for"
        );
        held.end_renewal(Some(&renewed(6, at(3))), None);
        assert_eq!(held.state().cas, 6);
        assert_eq!(held.remaining(at(4)), Duration::ZERO);
        assert_eq!(held.begin_renewal(at(5)), None);
    }

    #[test]
    fn expired_lock_is_not_renewed() {
        let held = held();
        assert_eq!(held.begin_renewal(at(9)), None);
        assert_eq!(held.loss(at(9)), Some(LossReason::Expired));
        assert_eq!(held.end_by_release(at(10)), Some(LossReason::Expired));
    }
}
