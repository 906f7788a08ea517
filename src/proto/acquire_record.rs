//! Acquisition of a lock: attempts, waiting, and the cleanup after a failure.

use super::attempt::RecordAttempt;
use super::failure::ServerError;
use super::fence::read_fence;
use super::fence_repair::{FenceRepair, RepairStep, TokenBound};
use super::grant::{AcquireOutcome, AcquireRequest, Contended, Grant, GrantKind, OrphanedAttempt};
use super::handoff::Handoff;
use super::items::{CasOutcome, StoreOutcome, read_cas_outcome, read_stored};
use super::lock_item::{LockItem, push_get_lock, push_release, read_lock};
use super::loss::LossReason;
use super::memory_probe::{MemoryReading, push_memory_probe, read_memory};
use super::operation::{Action, FlightError, Operation, Sealed, SleepReason};
use super::record::{HolderRecord, Nonce, is_ours, nonce_of};
use super::retry::RetryPolicy;
use super::sentinel_init::{InitStep, SentinelInit};
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::takeover::TakeoverWatch;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies, TimeLeft};
use core::time::Duration;

/// Number of times in a row that the lock may turn out free after a refusal, or missing after a
/// success, before the acquisition pauses.
const IMMEDIATE_RETRIES: u8 = 3;

/// Number of sentinels made before the server counts as one that drops items at once.
const MAX_SENTINEL_INITS: u8 = 3;

/// For how long a server may drop what it has just stored before it counts as one that always does.
/// In the second in which a delayed flush takes effect, all do.
const DROPPED_ITEM_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which it is left alone each time.
const DROPPED_ITEM_PAUSE: Duration = Duration::from_millis(500);

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
    /// Draw a token above this one: the counter was created by a client whose estimate of the time
    /// was less exact.
    RepairFence { grant: Grant, raising: FenceRepair },
}

#[derive(Debug, Clone)]
enum AfterRollback {
    /// The server has forgotten its sentinel.
    InitSentinel,
    /// The server's memory is younger than it must be by this much.
    Wait(Duration),
    /// So says the sentinel. The counters, which were not asked for, may show more.
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

    /// Returns `true` if a record is that of an attempt of this acquisition, the last one or one
    /// before.
    fn is_earlier(&self, value: &[u8]) -> bool {
        if self.first_nonce.next() == self.next_nonce {
            // There was only one: to compare takes less than to read.
            return is_ours(value, self.first_nonce);
        }
        nonce_of(value).is_some_and(|nonce| nonce.is_between(self.first_nonce, self.next_nonce))
    }

    fn contended(&self, item: LockItem<'_>) -> Contended {
        match item {
            LockItem::Held { value, left, .. } => Contended {
                holder: if self.request.report_holder {
                    HolderRecord::parse(value)
                } else {
                    None
                },
                free_in: left,
            },
            LockItem::Free => Contended::UNKNOWN,
        }
    }

    /// Another client holds it, on this server instance.
    fn held(
        &mut self,
        on: ServerInstance,
        item: LockItem<'_>,
        now: Instant,
    ) -> Action<AcquireOutcome> {
        let LockItem::Held { value, cas, left } = item else {
            return self.retry(on, now);
        };
        if self.handoff.replaces(value, cas) && self.immediate_retries < IMMEDIATE_RETRIES {
            // Renewed meanwhile.
            self.immediate_retries += 1;
            self.replace = Some((on, cas, GrantKind::Handoff));
            self.phase = Phase::Attempt;
            return Action::Transmit;
        }
        self.handoff.resolve(on, Err(LossReason::TakenOver));
        self.takeover.observe_held(on, value, cas, now);
        self.free_by = earlier(self.takeover.takeover_at(), runs_out(left, now));
        self.clock_synced = false;
        if self.retry_policy.is_expired(now) {
            return Action::Done(AcquireOutcome::Contended(self.contended(item)));
        }
        self.immediate_retries = 0;
        self.phase = Phase::Inspect;
        let (lease, ripe) = (self.takeover.lease(), self.takeover.takeover_at());
        let holder = self.takeover.holder();
        self.retry_policy.wait(holder, lease, left, ripe, now)
    }

    /// The lock was free after all: tries again, at once a few times and then with pauses.
    fn retry(&mut self, on: ServerInstance, now: Instant) -> Action<AcquireOutcome> {
        self.handoff.resolve(on, Err(LossReason::Missing));
        self.takeover.observe_free();
        self.phase = Phase::Attempt;
        self.immediate_retries += 1;
        if self.immediate_retries <= IMMEDIATE_RETRIES {
            return Action::Transmit;
        }
        self.immediate_retries = 0;
        self.clock_synced = false;
        if self.retry_policy.is_expired(now) {
            return Action::Done(AcquireOutcome::Contended(Contended::UNKNOWN));
        }
        self.retry_policy.wait(0, None, None, None, now)
    }

    /// The attempt is settled: its record is not at the server.
    fn close_attempt(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.outstanding = false;
        }
    }

    fn rollback(&mut self, cas: u64, then: AfterRollback) -> Action<AcquireOutcome> {
        self.phase = Phase::Rollback { cas, then };
        Action::Transmit
    }

    fn fail(&mut self, failure: ServerError) -> Action<AcquireOutcome> {
        Action::Done(AcquireOutcome::Failed(failure))
    }

    /// The server drops what it has just stored: tries again for a while, with pauses.
    fn item_dropped(&mut self, now: Instant) -> Action<AcquireOutcome> {
        self.immediate_retries = 0;
        self.sentinel_inits = 0;
        let since = *self.drops_items.get_or_insert(now);
        if self.retry_policy.is_expired(now) || now.since(since) > DROPPED_ITEM_TIMEOUT {
            return self.fail(ServerError::DropsItems);
        }
        self.phase = Phase::Attempt;
        self.retry_policy
            .pause(now, DROPPED_ITEM_PAUSE, SleepReason::RestartGuard)
    }

    fn wait_for_restart_guard(
        &mut self,
        lacking: Duration,
        now: Instant,
    ) -> Action<AcquireOutcome> {
        self.phase = Phase::Attempt;
        let until = now.after(lacking);
        if self
            .retry_policy
            .deadline(now)
            .is_some_and(|end| end < until)
        {
            return Action::Done(AcquireOutcome::RestartGuard {
                retry_after: lacking,
            });
        }
        Action::Sleep {
            until,
            why: SleepReason::RestartGuard,
        }
    }

    /// Sees to it that there is an attempt to be sent: the one that is open, or a new one.
    fn begin_attempt(&mut self, server: &ServerState, now: Now) -> Result<(), ServerError> {
        let replace = self.replace.take();
        let repeat = self.attempt.as_ref().is_some_and(|attempt| {
            attempt.outstanding && attempt.is_alive(&self.request, server, now.monotonic)
        });
        if !repeat {
            let over = replace.filter(|(on, ..)| server.is_instance(*on));
            let over = over.map(|(_, cas, origin)| (cas, origin));
            let nonce = self.next_nonce;
            let attempt = RecordAttempt::new(nonce, over, &self.request, server, now)?;
            self.next_nonce = nonce.next();
            self.attempt = Some(attempt);
        }
        Ok(())
    }

    fn handle_attempt(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<AcquireOutcome>, DecodeError> {
        let dialect = server.capabilities.protocol;
        let stored = read_stored(replies)?;
        let item = read_lock(replies, dialect)?;
        let token = if self.request.fencing {
            read_fence(replies, dialect)?.map(Some)
        } else {
            Ok(None)
        };
        let evidence = self
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.evidence);
        let memory = read_memory(replies, server, evidence, sent, received)?;
        let Some(attempt) = &self.attempt else {
            return Err(DecodeError::UnexpectedReply);
        };
        if matches!(item, Ok(LockItem::Held { .. })) {
            self.drops_items = None;
        }
        if matches!(memory, Ok(MemoryReading::CompleteSince { .. })) {
            // In a long wait the server may be flushed any number of times.
            self.sentinel_inits = 0;
        }
        let item = match item {
            Ok(item) => item,
            Err(failure) => return Ok(self.fail(failure)),
        };
        let on = attempt.instance;
        let cas = match item {
            LockItem::Held { value, cas, .. } if attempt.is_on(value) => cas,
            _ => {
                self.close_attempt();
                return Ok(match (item, stored) {
                    (LockItem::Held { value, cas, .. }, _) if self.is_earlier(value) => {
                        self.handoff.resolve(on, Ok(()));
                        self.rollback(cas, AfterRollback::Retry)
                    }
                    (LockItem::Held { .. }, _) => self.held(on, item, received),
                    (LockItem::Free, StoreOutcome::NotStored) => self.retry(on, received),
                    (LockItem::Free, StoreOutcome::Failed(failure)) => self.fail(failure),
                    (LockItem::Free, StoreOutcome::Stored)
                        if self.immediate_retries >= IMMEDIATE_RETRIES =>
                    {
                        self.item_dropped(received)
                    }
                    (LockItem::Free, StoreOutcome::Stored) => {
                        self.immediate_retries += 1;
                        Action::Transmit
                    }
                });
            }
        };
        let mut grant = attempt.grant(&self.request, cas);
        self.handoff.resolve(on, Ok(()));
        if let Some(kept) = server.clock.retained_until(grant.expiry, received) {
            grant.valid_until = grant.valid_until.min(kept);
        }
        if let Some(longest) = self.request.min_memory {
            let lacking = match memory {
                Err(failure) => return Ok(self.rollback(cas, AfterRollback::Fail(failure))),
                Ok(MemoryReading::NoSentinel) => {
                    return Ok(self.rollback(cas, AfterRollback::InitSentinel));
                }
                // Asked again, with the flush horizon.
                Ok(MemoryReading::Ambiguous) => {
                    let lacking = longest.max(self.request.lease).min_memory();
                    return Ok(self.rollback(cas, AfterRollback::ReadCounters(lacking)));
                }
                Ok(MemoryReading::CompleteSince { from, second, .. }) => {
                    let longest = longest.max(self.request.lease);
                    server.memory.lacking(second, from, longest)
                }
            };
            if !lacking.is_zero() {
                // Others may have bumped the sentinel.
                let then = if evidence {
                    AfterRollback::Wait(lacking)
                } else {
                    AfterRollback::ReadCounters(lacking)
                };
                return Ok(self.rollback(cas, then));
            }
        }
        let drawn = match token {
            Ok(drawn) => drawn,
            Err(failure) => return Ok(self.rollback(cas, AfterRollback::Fail(failure))),
        };
        grant.token = drawn.map(|drawn| drawn.token);
        // Counters from before the server's memory began count nanoseconds of its clock up to
        // then at most. One that was made since counts from more, unless its maker knew the
        // clock less well, or made it late.
        let bound = drawn.map(|drawn| match memory {
            Ok(MemoryReading::CompleteSince { floor, second, .. }) => {
                TokenBound::of(drawn, floor, second)
            }
            _ => TokenBound::of(
                drawn,
                0,
                server.clock.seconds_lower_bound(received).unwrap_or(0),
            ),
        });
        Ok(self.grant(grant, bound, received))
    }

    /// Handles the success of the attempt; for the lock to be held, the token must be above those
    /// from before, and the lease must not have expired.
    fn grant(
        &mut self,
        grant: Grant,
        bound: Option<TokenBound>,
        now: Instant,
    ) -> Action<AcquireOutcome> {
        if now >= grant.valid_until {
            return self.rollback(grant.cas, AfterRollback::Retry);
        }
        if let Some(bound) = bound.filter(|bound| bound.is_missed_by(grant.token)) {
            let raising = FenceRepair::new(bound);
            self.phase = Phase::RepairFence { grant, raising };
            return Action::Transmit;
        }
        self.close_attempt();
        Action::Done(AcquireOutcome::Granted(grant))
    }

    /// The record that a look has found. If our own record, then by a request that was carried out
    /// late.
    fn inspected(
        &mut self,
        server: &ServerState,
        item: LockItem<'_>,
        now: Instant,
    ) -> Action<AcquireOutcome> {
        let on = server.instance;
        let LockItem::Held { value, cas, .. } = item else {
            return self.retry(on, now);
        };
        if self.takeover.is(on, cas) {
            // Not held by this client the last time either.
            return self.held(on, item, now);
        }
        if let Some(attempt) = &mut self.attempt {
            if attempt.is_on(value) && attempt.is_alive(&self.request, server, now) {
                attempt.outstanding = true;
                self.phase = Phase::Attempt;
                return Action::Transmit;
            }
        }
        let granted = self.attempt.as_ref().map(|attempt| attempt.instance);
        if self.is_earlier(value) && granted.is_some_and(|granted| server.is_instance(granted)) {
            self.handoff.resolve(on, Ok(()));
            return self.rollback(cas, AfterRollback::Retry);
        }
        self.held(on, item, now)
    }

    fn after_rollback(
        &mut self,
        server: &ServerState,
        then: AfterRollback,
        now: Instant,
    ) -> Action<AcquireOutcome> {
        let on = server.instance;
        match then {
            AfterRollback::InitSentinel if self.sentinel_inits >= MAX_SENTINEL_INITS => {
                self.item_dropped(now)
            }
            AfterRollback::InitSentinel => {
                self.sentinel_inits += 1;
                // On the connection by which the server is known: it is the run with this name.
                self.phase = Phase::InitSentinel(SentinelInit::new(on.word));
                Action::Transmit
            }
            AfterRollback::ReadCounters(_) if self.immediate_retries < IMMEDIATE_RETRIES => {
                self.immediate_retries += 1;
                self.phase = Phase::Attempt;
                Action::Transmit
            }
            AfterRollback::Wait(lacking) | AfterRollback::ReadCounters(lacking) => {
                self.wait_for_restart_guard(lacking, now)
            }
            AfterRollback::Retry if self.retry_policy.is_expired(now) => {
                Action::Fail { unknown: false }
            }
            AfterRollback::Retry => self.retry(on, now),
            AfterRollback::Fail(failure) => self.fail(failure),
        }
    }
}

/// When an item is gone whose time was this at that instant. The server counts whole seconds.
pub(super) fn runs_out(left: Option<TimeLeft>, now: Instant) -> Option<Instant> {
    match left? {
        TimeLeft::Seconds(left) => Some(now.after(Duration::from_secs(u64::from(left) + 1))),
        TimeLeft::Expired => Some(now),
        TimeLeft::Never => None,
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
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
        let dialect = server.capabilities.protocol;
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
                push_memory_probe(flight, dialect, self.request.namespace, false);
            }
            Phase::Attempt => {
                self.begin_attempt(server, now)
                    .map_err(AcquireOutcome::Failed)?;
                if let Some(attempt) = &mut self.attempt {
                    attempt.push(&self.request, server, now.monotonic, flight);
                }
            }
            Phase::Inspect => push_get_lock(flight, dialect, keys),
            Phase::Rollback { cas, .. } => {
                let granted = self.attempt.as_ref().map(|attempt| attempt.instance);
                if granted.is_some_and(|granted| server.is_instance(granted)) {
                    push_release(flight, dialect, keys, *cas);
                } else {
                    // The record died with the server that had it. A look stands in for the
                    // release, and what follows the undo is decided on the new server.
                    self.close_attempt();
                    self.phase = Phase::Inspect;
                    push_get_lock(flight, dialect, keys);
                }
            }
            Phase::InitSentinel(founding) => {
                founding.prepare(self.request.namespace, server, now.monotonic, flight);
            }
            Phase::RepairFence { grant, raising } if server.is_instance(grant.instance) => {
                raising.prepare(dialect, keys, flight);
            }
            Phase::RepairFence { .. } => {
                self.close_attempt();
                self.phase = Phase::Inspect;
                push_get_lock(flight, dialect, keys);
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
        let dialect = server.capabilities.protocol;
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
            Phase::Inspect => match read_lock(replies, dialect)? {
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
            Phase::RepairFence { grant, raising } => match raising.interpret(replies, dialect)? {
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
