//! A lock that is held: what its guard and its keeper share.

use super::clock;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::events::{HoldEnd, HoldInfo, Telemetry};
use super::notify::Notify;
use super::process::Process;
use crate::proto::{
    Grant, Instant, Lease, LockKeys, LossReason, OwnerId, Release, RenewOutcome, ServerError,
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a release found.
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
    /// The lock was ours to the end and is free now.
    Released,
    /// It had been lost before.
    AlreadyLost {
        /// How.
        reason: LossReason,
    },
}

/// A lock that is held, or was.
#[derive(Debug)]
pub(crate) struct LockState {
    pub(crate) name: Arc<str>,
    pub(crate) keys: LockKeys,
    pub(crate) lease: Lease,
    pub(crate) grant: Grant,
    /// Until when it is certain, in nanoseconds of the clock. Written under `state`; read
    /// without, because that is what a guard asks most often.
    valid_until: AtomicU64,
    /// In which it is held.
    process: Process,
    /// The instant at which it is over, however often it is renewed.
    hold_deadline: Instant,
    /// Until when the name stays taken behind an earlier release.
    retained_until: Option<Instant>,
    /// Who is told how it ended.
    telemetry: Arc<Telemetry>,
    /// How often in a row the lock was handed on in this process until it was held like this.
    turns: AtomicU32,
    /// Notified when anything about the lock has changed.
    pub(crate) changed: Notify,
    inner: Mutex<Inner>,
}

/// Later than everything.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// What changes while a lock is held.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The CAS unique that the record has, as far as is known.
    pub(crate) cas: u64,
    /// The expiry that the server was told last.
    pub(crate) expiry: u64,
    /// Why it is over.
    pub(crate) loss: Option<LossReason>,
    /// When it was over.
    ended: Instant,
    /// How it ended was told.
    reported: bool,
    /// A renewal is under way, so the CAS unique may be about to change.
    pub(crate) renewing: bool,
    /// The last renewal was not answered.
    pub(crate) renewal_unanswered: bool,
    /// What became of it when it was handed on to another in this process.
    handoff: HandoffState,
    /// It is over because it was held for as long as it may be: the record is still there, and is
    /// to be released.
    pub(crate) release_pending: bool,
    /// It was told that the end is near, and no renewal was answered since.
    pub(crate) expiry_warned: bool,
    /// How many renewals are over.
    pub(crate) renewals: u64,
    /// Why the last one came to nothing.
    pub(crate) renew_error: Option<Box<RenewError>>,
}

/// What became of a lock that its holder has handed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum HandoffState {
    /// It was not, or nobody has heard of it yet.
    #[default]
    Pending,
    /// Nobody knows whether its record was replaced.
    Unknown,
    Resolved(ReleaseOutcome),
    /// Releasing it, because nobody wanted it, has failed.
    Failed,
}

/// Why a renewal came to nothing, though the lock was not lost by it.
#[derive(Debug)]
pub(crate) enum RenewError {
    /// The server did not do it.
    Rejected(ServerError),
    /// The server was not reached, or did not answer.
    Unreachable(ConnectError),
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
            turns: AtomicU32::new(0),
            changed: Notify::new(),
            inner: Mutex::new(Inner {
                cas: grant.cas,
                expiry: grant.expiry,
                loss: None,
                ended: NEVER,
                reported: false,
                renewing: false,
                renewal_unanswered: false,
                handoff: HandoffState::Pending,
                release_pending: false,
                expiry_warned: false,
                renewals: 0,
                renew_error: None,
            }),
            grant,
        }
    }

    /// How often in a row the lock was handed on before. Read and written under the lock of the lines.
    pub(crate) fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(crate) fn set_turns(&self, turns: u32) {
        self.turns.store(turns, Ordering::Relaxed);
    }

    /// The same, to be over so long after it was asked for.
    pub(crate) fn for_at_most(mut self, max_hold: Option<Duration>) -> Self {
        if let Some(length) = max_hold {
            self.hold_deadline = self.grant.sent_at.after(length);
            self.valid_until
                .fetch_min(self.hold_deadline.as_nanos(), Ordering::AcqRel);
        }
        self
    }

    /// The same, whose name stays taken for so long from now on, though it is released earlier.
    ///
    /// Not from when it was asked for: nobody can have seen it acquired before it was.
    pub(crate) fn for_at_least(mut self, min_hold: Option<Duration>, now: Instant) -> Self {
        self.retained_until = min_hold.map(|length| now.after(length));
        self
    }

    /// Whether its name stays taken behind a release.
    pub(crate) fn stays(&self, now: Instant) -> bool {
        self.retained_until.is_some_and(|until| until > now)
    }

    /// Its release, with this CAS unique, to be tried until `deadline`.
    pub(crate) fn release_operation(&self, cas: u64, give_up: Instant) -> Release<'_> {
        let mut release = Release::new(&self.keys, &self.grant, cas, give_up);
        if self.begin_handoff() == HandoffState::Unknown {
            release = release.after_unanswered_request();
        }
        match self.retained_until {
            Some(until) => release.retaining_until(&self.grant, until),
            None => release,
        }
    }

    /// When to renew what was asked for at `sent`; or when it is over, where a renewal would not
    /// make that any later.
    pub(crate) fn due(&self, sent: Instant) -> Instant {
        self.due_earlier(sent, Duration::ZERO)
    }

    /// The same, so much earlier where it is to be renewed.
    pub(crate) fn due_earlier(&self, sent: Instant, earlier: Duration) -> Instant {
        if self.is_final() {
            return self.hold_deadline;
        }
        let due = self.lease.renew_at(sent);
        sent.after(due.since(sent).saturating_sub(earlier))
    }

    /// When its record is gone by itself, by what is known of it now that it is over.
    pub(crate) fn gone_by(&self, now: Instant) -> Instant {
        let ended = self.state().ended.min(now);
        self.lease.valid_until(ended)
    }

    /// Whether it lasts for as long as it may: there is nothing to be gained by a renewal.
    pub(crate) fn is_final(&self) -> bool {
        self.valid_until() == self.hold_deadline
    }

    /// Whether it was left to its keeping to release it. Says it once.
    pub(crate) fn take_pending_release(&self) -> bool {
        core::mem::take(&mut self.state().release_pending)
    }

    /// What events say of it.
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

    /// The instant from which on it is not certain any more.
    pub(crate) fn valid_until(&self) -> Instant {
        Instant::from_nanos(self.valid_until.load(Ordering::Acquire))
    }

    /// How long it is still certain; nothing when it is over, and in a forked process.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        if self.process.was_forked() {
            return Duration::ZERO;
        }
        self.valid_until().since(now)
    }

    /// Why it is over, if it is. Finds out by itself that the time has run out.
    pub(crate) fn loss(&self, now: Instant) -> Option<LossReason> {
        let (over, found) = {
            let mut state = self.state();
            let found = self.check_time(&mut state, now);
            (state.loss, found)
        };
        self.emit_lost(found);
        over
    }

    /// Finds out whether the time has run out, or this is a forked process. Returns the reason when it just has, which is to be
    /// told to [`emit_lost`](Self::emit_lost) once the state is not locked any more.
    #[must_use]
    fn check_time(&self, state: &mut Inner, now: Instant) -> Option<LossReason> {
        let valid_until = self.valid_until();
        if state.loss.is_none() && self.process.was_forked() {
            self.end_locked(state, LossReason::Forked, now);
            return Some(LossReason::Forked);
        }
        if state.loss.is_none() && now >= valid_until {
            state.release_pending = self.is_final();
            // A renewal that is under way at the end was not answered in time either.
            let reason = if !state.release_pending && (state.renewal_unanswered || state.renewing) {
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
        Err(LockError::new(cause).about(&self.name))
    }

    /// Gives it up, unless it is over already: then why.
    pub(crate) fn give_up(&self, now: Instant) -> Option<LossReason> {
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

    /// Ends it, unless it is over already. Returns whether this call did it.
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

    /// Begins a renewal: the CAS unique to name, or nothing when the lock is over.
    ///
    /// A guard that ends the lock first is never renewed behind its back; one that ends it later
    /// waits for [`Inner::renewing`] before it releases.
    pub(crate) fn begin_renewal(&self, now: Instant) -> Option<u64> {
        let (cas, found) = {
            let mut state = self.state();
            let found = self.check_time(&mut state, now);
            #[cfg(seeded_bugs)]
            if crate::seeded::Bug::RenewalAfterRelease.planted() {
                state.loss = None;
            }
            let begins = state.loss.is_none() && !state.renewing;
            state.renewing |= begins;
            (begins.then_some(state.cas), found)
        };
        self.emit_lost(found);
        cas
    }

    /// Takes in what came of the renewal; `None` is no answer, for the reason `silence` if that is
    /// known.
    pub(crate) fn end_renewal(
        &self,
        renewed: Option<&RenewOutcome>,
        silence: Option<&ConnectError>,
    ) {
        let mut state = self.state();
        // Where it was over already, no renewal was begun.
        let begun = core::mem::take(&mut state.renewing);
        state.renewal_unanswered = renewed.is_none();
        state.renew_error = match (renewed, silence) {
            (Some(RenewOutcome::Failed(failure)), _) => Some(RenewError::Rejected(failure.clone())),
            (None, Some(silence)) => Some(RenewError::Unreachable(silence.again())),
            _ => None,
        }
        .map(Box::new);
        let lost = match renewed {
            Some(RenewOutcome::Renewed {
                cas,
                expiry,
                valid_until,
                ..
            }) => {
                // Also when the guard has ended it meanwhile: its release needs to know.
                state.cas = *cas;
                state.expiry = *expiry;
                state.expiry_warned = false;
                if state.loss.is_none() {
                    let valid_until = self.hold_deadline.min(*valid_until);
                    self.valid_until
                        .store(valid_until.as_nanos(), Ordering::Release);
                }
                None
            }
            Some(RenewOutcome::Lost(reason)) if state.loss.is_none() => {
                self.end_locked(&mut state, *reason, clock::monotonic());
                Some(*reason)
            }
            Some(RenewOutcome::Lost(_) | RenewOutcome::Failed(_)) | None => None,
        };
        drop(state);
        if begun {
            self.telemetry.renewal(self.info(), renewed, silence);
        }
        self.emit_lost(lost);
    }

    fn emit_lost(&self, lost: Option<LossReason>) {
        if let Some(reason) = lost.filter(|reason| *reason != LossReason::Released) {
            self.tell(HoldEnd::Lost(reason));
        }
    }

    /// Tells how it ended, unless that was told before.
    pub(crate) fn tell(&self, how: HoldEnd) {
        if let Some(nanos) = self.take_unreported() {
            self.telemetry.ended(self.info(), how, nanos);
        }
    }

    /// For how many nanoseconds it was held, unless that was told before. Nobody else tells it then.
    pub(crate) fn take_unreported(&self) -> Option<u64> {
        let mut state = self.state();
        let first = !core::mem::replace(&mut state.reported, true);
        let (sent, ended) = (self.grant.sent_at.as_nanos(), state.ended.as_nanos());
        first.then(|| ended.saturating_sub(sent))
    }

    /// Tells what its release has found.
    pub(crate) fn emit_released(&self, outcome: ReleaseOutcome) {
        self.tell(match outcome {
            ReleaseOutcome::Released => HoldEnd::Released,
            ReleaseOutcome::AlreadyLost { reason } => HoldEnd::Lost(reason),
        });
    }

    /// Tells that it could not be given back, and whether that is tried again.
    pub(crate) fn emit_release_failed(&self, error: &LockError, later: bool) {
        self.telemetry.release_failed(self.info(), error, later);
        if !later {
            self.tell(HoldEnd::ReleaseFailed);
        }
    }

    /// Tells that a quiet release came to nothing.
    pub(crate) fn emit_quiet_failure(&self) {
        self.telemetry.quiet_release_failed(self.info());
    }

    /// Whether the lock can be handed on, once it is ended: there is a record to be replaced, which
    /// nobody wants to stay, and no request that may still bring it back.
    pub(crate) fn can_hand_off(&self, now: Instant) -> bool {
        let stays = self.retained_until.is_some_and(|until| now < until);
        matches!(self.grant.owner_id, OwnerId::Nonce(_)) && !self.grant.may_be_replayed && !stays
    }

    /// What became of the lock when it was handed on.
    pub(crate) fn begin_handoff(&self) -> HandoffState {
        self.state().handoff
    }

    /// Takes in what became of it.
    pub(crate) fn resolve_handoff(&self, how: HandoffState) {
        self.state().handoff = how;
        // Of what the keeper released that was told before.
        match how {
            HandoffState::Resolved(ReleaseOutcome::Released) => self.tell(HoldEnd::HandedOff),
            HandoffState::Resolved(ReleaseOutcome::AlreadyLost { reason }) => {
                self.tell(HoldEnd::Lost(reason));
            }
            HandoffState::Pending | HandoffState::Unknown | HandoffState::Failed => {}
        }
    }

    /// Whether it is to be told now that the end is near: the last renewal came to nothing, and less
    /// than half of the lease remains. Says so once, until a renewal is answered again.
    pub(crate) fn take_expiry_warning(&self, now: Instant) -> bool {
        let mut state = self.state();
        let near = self.remaining(now) < self.lease.duration() / 2;
        let failing = state.renewal_unanswered || state.renew_error.is_some();
        let first = failing && near && state.loss.is_none() && !state.expiry_warned;
        state.expiry_warned |= first;
        first
    }

    /// Takes in that the server keeps the record only until `kept`.
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
    use crate::proto::{GrantKind, InstanceWord, Namespace, Nonce, Owner, OwnerId, ServerInstance};

    const LEASE: Duration = Duration::from_secs(9);

    pub(in super::super) fn at(seconds: u64) -> Instant {
        Instant::from_nanos(0).after(Duration::from_secs(seconds))
    }

    /// Acquired at 0.
    pub(in crate::engine) fn held() -> LockState {
        acquired("L", LEASE, at(0))
    }

    /// A lock that was asked for at `sent`.
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
    fn no_renewal_begins_once_the_lock_is_given_back() {
        let held = held();
        assert_eq!(held.begin_renewal(at(3)), Some(5));
        // One at a time: the CAS unique is about to change.
        assert_eq!(held.begin_renewal(at(3)), None);
        held.end_renewal(Some(&renewed(6, at(3))), None);
        assert_eq!(held.valid_until(), at(12));

        assert_eq!(held.give_up(at(4)), None);
        assert_eq!(held.begin_renewal(at(5)), None);
        assert_eq!(held.remaining(at(5)), Duration::ZERO);
        assert_eq!(held.loss(at(5)), Some(LossReason::Released));
    }

    #[test]
    fn a_renewal_under_way_at_the_release_tells_its_cas_unique_and_prolongs_nothing() {
        let held = held();
        assert_eq!(held.begin_renewal(at(3)), Some(5));
        assert_eq!(held.give_up(at(4)), None);
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
    fn no_renewal_begins_when_the_time_has_run_out() {
        let held = held();
        assert_eq!(held.begin_renewal(at(9)), None);
        assert_eq!(held.loss(at(9)), Some(LossReason::Expired));
        assert_eq!(held.give_up(at(10)), Some(LossReason::Expired));
    }
}
