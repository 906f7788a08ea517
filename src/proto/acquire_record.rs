//! Acquisition of a lock: attempts, waiting, and the cleanup after a failure.

mod attempt;
mod next_step;

use super::attempt::RecordAttempt;
use super::failure::ServerError;
use super::fence_repair::{FenceRepair, RepairStep};
use super::grant::{AcquireOutcome, AcquireRequest, Contended, Grant, GrantKind, OrphanedAttempt};
use super::handoff::Handoff;
use super::items::{CasOutcome, read_cas_outcome};
use super::lock_item::{LockItem, push_get_lock, push_release, read_lock};
use super::loss::LossReason;
use super::memory_probe::{MemoryReading, push_memory_probe, read_memory};
use super::operation::{Action, FlightError, Operation, Sealed};
use super::record::Nonce;
use super::retry::RetryPolicy;
use super::sentinel_init::{InitStep, SentinelInit};
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::takeover::TakeoverWatch;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;
pub(super) use next_step::runs_out;

/// Number of times in a row that the lock may turn out free after a refusal, or missing after a
/// success, before the acquisition pauses.
const IMMEDIATE_RETRIES: u8 = 3;

#[derive(Debug, Clone)]
enum Phase {
    /// Ask for the time first: the last answer is too old to build an expiry on.
    SyncClock,
    /// Try to store the record.
    Attempt,
    /// See whether the holder is still there.
    Inspect,
    /// Take back the record that has this CAS unique.
    Rollback { cas: u64, then: AfterRollback },
    /// Make a sentinel.
    InitSentinel(SentinelInit),
    /// Draw a token above this one. The client that created the counter knew the server's time less
    /// well, or its request was executed late.
    RepairFence { grant: Grant, raising: FenceRepair },
}

#[derive(Debug, Clone)]
enum AfterRollback {
    /// The server has forgotten its sentinel.
    InitSentinel,
    /// The server's memory is younger than it must be by this much.
    Wait(Duration),
    /// The same, by the sentinel alone. The server's counters, which were not read, may show more.
    ReadCounters(Duration),
    /// The answer came when the lease was over.
    Retry,
    /// Something else is wrong.
    Fail(ServerError),
}

/// Acquires a lock.
///
/// The flight is `add` of the record, a look at the lock, a fencing token and a look at the
/// sentinel. The lock is held if and only if the look finds our nonce, whatever `add` said: an
/// attempt whose answer was lost is repeated as it was and recognised. A lease counts from the
/// first time its attempt was sent.
///
/// A record that stays the same for longer than the lease it states is taken over: then `cas` with
/// its CAS unique stands in place of `add`, and all else is the same. So is the record of a holder
/// in the same process that [hands it on](Self::accept_handoff).
#[derive(Debug)]
pub struct RecordAcquire<'a> {
    request: AcquireRequest<'a>,
    first_nonce: Nonce,
    next_nonce: Nonce,
    attempt: Option<RecordAttempt>,
    phase: Phase,
    /// The record in the way.
    takeover: TakeoverWatch,
    /// The instant by which the lock is free unless its holder renews it, by the last look.
    free_by: Option<Instant>,
    /// The CAS unique of the record that the next attempt replaces, where, and how that came about.
    replace: Option<(ServerInstance, u64, GrantKind)>,
    handoff: Handoff,
    retry_policy: RetryPolicy,
    immediate_retries: u8,
    /// Since when the server has dropped whatever it stored.
    drops_items: Option<Instant>,
    /// Sentinels made since one was last seen.
    sentinel_inits: u8,
    /// The server's clock was read for the attempt to come.
    clock_synced: bool,
    /// A flight has been written and nothing heard of it yet.
    prepared: bool,
    /// Nothing is attempted any more.
    probe_only: bool,
}

impl<'a> RecordAcquire<'a> {
    /// An acquisition whose first attempt bears `nonce`, the next one the nonce after it, and so
    /// on.
    #[must_use]
    pub const fn new(request: AcquireRequest<'a>, nonce: Nonce) -> Self {
        Self {
            retry_policy: RetryPolicy::new(&request, nonce.seed()),
            request,
            first_nonce: nonce,
            next_nonce: nonce,
            attempt: None,
            phase: Phase::Attempt,
            takeover: TakeoverWatch::new(),
            free_by: None,
            replace: None,
            handoff: Handoff::None,
            immediate_retries: 0,
            drops_items: None,
            sentinel_inits: 0,
            clock_synced: false,
            prepared: false,
            probe_only: false,
        }
    }

    /// The attempt that the caller should undo if it gives up now: the attempt that was sent and
    /// not answered, or was granted and not yet undone.
    #[must_use]
    pub fn orphan(&self) -> Option<OrphanedAttempt> {
        self.attempt.as_ref()?.orphan(&self.request)
    }

    /// Accepts the lock from a holder in the same process: the next flight replaces its record,
    /// which has this CAS unique as far as is known. Must be called while no flight is outstanding.
    ///
    /// [`take_handoff_result`](Self::take_handoff_result) returns the outcome to the holder. If the
    /// acquisition is abandoned before that, the record may still exist, and must be released.
    pub fn accept_handoff(&mut self, grant: &Grant, cas: u64) {
        self.handoff = Handoff::pending(grant);
        self.replace = Some((grant.instance, cas, GrantKind::Handoff));
        self.immediate_retries = 0;
        self.phase = Phase::Attempt;
    }

    /// Limits the next flight to a look at the holder, because the caller's wait limit ends and
    /// other waiters have precedence. The outcome is a refusal even if the lock is free. Must be
    /// called while no flight is outstanding, and not after
    /// [`accept_handoff`](Self::accept_handoff).
    pub fn probe_only(&mut self) {
        if self.orphan().is_none() {
            self.probe_only = true;
            self.phase = Phase::Inspect;
        }
    }

    /// The instant by which the existing lock is free, unless its holder renews or releases it: as
    /// of the last look at it, if that showed it.
    #[must_use]
    pub const fn free_by(&self) -> Option<Instant> {
        self.free_by
    }

    /// The outcome of a handoff, once it is known: `Ok` if the record was still that of the
    /// releasing holder. Returned once.
    pub fn take_handoff_result(&mut self) -> Option<Result<(), LossReason>> {
        self.handoff.take_result()
    }
}

impl Sealed for RecordAcquire<'_> {}

impl Operation for RecordAcquire<'_> {
    type Outcome = AcquireOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), AcquireOutcome> {
        let protocol = server.capabilities.protocol;
        let keys = self.request.keys;
        self.prepared = true;
        if matches!(self.phase, Phase::Inspect) && !self.probe_only {
            if let Some(cas) = self.takeover.takeover_cas(server.instance, now.monotonic) {
                self.replace = Some((server.instance, cas, GrantKind::Takeover));
                self.phase = Phase::Attempt;
            }
        }
        let stale = server.clock.is_stale(now.monotonic) && !self.clock_synced;
        if matches!(self.phase, Phase::Attempt) && stale {
            self.phase = Phase::SyncClock;
        }
        match &mut self.phase {
            Phase::SyncClock => {
                push_memory_probe(flight, protocol, self.request.namespace, false);
            }
            Phase::Attempt => {
                self.begin_attempt(server, now)
                    .map_err(AcquireOutcome::Failed)?;
                if let Some(attempt) = &mut self.attempt {
                    attempt.push(&self.request, server, now.monotonic, flight);
                }
            }
            Phase::Inspect => push_get_lock(flight, protocol, keys),
            Phase::Rollback { cas, .. } => {
                let granted = self.attempt.as_ref().map(|attempt| attempt.instance);
                if granted.is_some_and(|granted| server.is_instance(granted)) {
                    push_release(flight, protocol, keys, *cas);
                } else {
                    // The record died with the server that had it. A look stands in for the
                    // release, and what follows the undo is decided on the new server.
                    self.close_attempt();
                    self.phase = Phase::Inspect;
                    push_get_lock(flight, protocol, keys);
                }
            }
            Phase::InitSentinel(founding) => {
                founding.prepare(self.request.namespace, server, now.monotonic, flight);
            }
            Phase::RepairFence { grant, raising } if server.is_instance(grant.instance) => {
                raising.prepare(protocol, keys, flight);
            }
            Phase::RepairFence { .. } => {
                self.close_attempt();
                self.phase = Phase::Inspect;
                push_get_lock(flight, protocol, keys);
            }
        }
        Ok(())
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<AcquireOutcome>, DecodeError> {
        let protocol = server.capabilities.protocol;
        let step = match &mut self.phase {
            Phase::SyncClock => match read_memory(replies, server, false, sent, received)? {
                Ok(MemoryReading::CompleteSince { .. } | MemoryReading::Ambiguous) => {
                    self.sentinel_inits = 0;
                    // Once: a clock that runs backwards never becomes fresh, and what is known of
                    // it makes for a later expiry.
                    self.clock_synced = true;
                    self.phase = Phase::Attempt;
                    Action::Transmit
                }
                Ok(MemoryReading::NoSentinel) => {
                    self.after_rollback(server, AfterRollback::InitSentinel, received)
                }
                Err(failure) => self.fail(failure),
            },
            Phase::Attempt => self.handle_attempt(server, replies, sent, received)?,
            Phase::Inspect => match read_lock(replies, protocol)? {
                Err(failure) => self.fail(failure),
                Ok(LockItem::Free) if self.probe_only => {
                    Action::Done(AcquireOutcome::Contended(Contended::UNKNOWN))
                }
                Ok(LockItem::Free) => {
                    self.takeover.observe_free();
                    self.phase = Phase::Attempt;
                    Action::Transmit
                }
                Ok(item) => self.inspected(server, item, received),
            },
            Phase::Rollback { then, .. } => {
                let then = then.clone();
                match read_cas_outcome(replies)? {
                    // Without memory even the classic release fails; the record then runs out.
                    CasOutcome::Failed(failure) => self.fail(failure),
                    CasOutcome::Done | CasOutcome::Mismatch | CasOutcome::NotFound => {
                        self.close_attempt();
                        self.after_rollback(server, then, received)
                    }
                }
            }
            Phase::RepairFence { grant, raising } => match raising.interpret(replies, protocol)? {
                RepairStep::Retry => Action::Transmit,
                // Others have drawn a token between each look and its replacement.
                RepairStep::Failed(ServerError::DropsItems)
                    if !self.retry_policy.is_expired(received) =>
                {
                    let cas = grant.cas;
                    self.rollback(cas, AfterRollback::Retry)
                }
                RepairStep::Failed(failure) => {
                    let cas = grant.cas;
                    self.rollback(cas, AfterRollback::Fail(failure))
                }
                RepairStep::Token(token) => {
                    let mut grant = grant.clone();
                    grant.token = Some(token);
                    self.grant(grant, None, received)
                }
            },
            Phase::InitSentinel(founding) => {
                match founding.interpret(replies, server, sent, received)? {
                    InitStep::Retry => Action::Transmit,
                    InitStep::Failed(ServerError::DropsItems) => self.item_dropped(received),
                    InitStep::Failed(failure) => self.fail(failure),
                    InitStep::Done => {
                        self.phase = Phase::Attempt;
                        Action::Transmit
                    }
                }
            }
        };
        self.prepared = false;
        let unknown = self.orphan().is_some();
        Ok(self.retry_policy.replied(step, received, unknown))
    }

    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<AcquireOutcome> {
        let now = now.monotonic;
        let prepared = core::mem::take(&mut self.prepared);
        match (&mut self.phase, how) {
            (Phase::Attempt, FlightError::NotSent) if prepared => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.not_sent();
                }
            }
            (Phase::Attempt, FlightError::NoReply) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.no_reply();
                }
            }
            // The next flight may go to a different server instance, which the handshake
            // identifies.
            (Phase::InitSentinel(_), _) => self.phase = Phase::Attempt,
            // It is not known whether the counter was raised; the next attempt finds that this
            // client holds the lock.
            (Phase::RepairFence { .. }, _) => self.phase = Phase::Attempt,
            _ => {}
        }
        let unknown = self.orphan().is_some();
        self.retry_policy.no_reply(now, unknown)
    }
}
