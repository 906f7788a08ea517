//! The next step of an acquisition that does not get the lock at once: a retry, a wait, a cleanup or
//! its end.

use super::{AfterRollback, IMMEDIATE_RETRIES, Phase, RecordAcquire};
use crate::proto::failure::ServerError;
use crate::proto::grant::{AcquireOutcome, Contended, GrantKind};
use crate::proto::lock_item::LockItem;
use crate::proto::loss::LossReason;
use crate::proto::operation::{Action, SleepReason};
use crate::proto::record::HolderRecord;
use crate::proto::sentinel_init::SentinelInit;
use crate::proto::server_instance::ServerInstance;
use crate::proto::server_state::ServerState;
use crate::proto::time::Instant;
use crate::wire::TimeLeft;
use core::time::Duration;

/// Number of sentinels made before the server counts as one that drops items at once.
const MAX_SENTINEL_INITS: u8 = 3;

/// For how long a server may drop what it has just stored before it counts as one that always does.
/// In the second in which a delayed flush takes effect, all do.
const DROPPED_ITEM_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which it is left alone each time.
const DROPPED_ITEM_PAUSE: Duration = Duration::from_millis(500);

impl RecordAcquire<'_> {
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
    pub(super) fn held(
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
    pub(super) fn retry(&mut self, on: ServerInstance, now: Instant) -> Action<AcquireOutcome> {
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

    pub(super) fn rollback(&mut self, cas: u64, then: AfterRollback) -> Action<AcquireOutcome> {
        self.phase = Phase::Rollback { cas, then };
        Action::Transmit
    }

    pub(super) fn fail(&mut self, failure: ServerError) -> Action<AcquireOutcome> {
        Action::Done(AcquireOutcome::Failed(failure))
    }

    /// The server drops what it has just stored: tries again for a while, with pauses.
    pub(super) fn item_dropped(&mut self, now: Instant) -> Action<AcquireOutcome> {
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

    pub(super) fn after_rollback(
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
pub(in crate::proto) fn runs_out(left: Option<TimeLeft>, now: Instant) -> Option<Instant> {
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
