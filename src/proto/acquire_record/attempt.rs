//! The attempt to store the record, and what its replies mean.

use super::{AfterRollback, IMMEDIATE_RETRIES, Phase, RecordAcquire};
use crate::proto::attempt::RecordAttempt;
use crate::proto::failure::ServerError;
use crate::proto::fence::read_fence;
use crate::proto::fence_repair::{FenceRepair, TokenBound};
use crate::proto::grant::{AcquireOutcome, Grant};
use crate::proto::items::{StoreOutcome, read_stored};
use crate::proto::lock_item::{LockItem, read_lock};
use crate::proto::memory_probe::{MemoryReading, read_memory};
use crate::proto::operation::Action;
use crate::proto::record::{is_ours, nonce_of};
use crate::proto::server_instance::ServerInstance;
use crate::proto::server_state::ServerState;
use crate::proto::time::{Instant, Now};
use crate::wire::{DecodeError, Replies};

impl RecordAcquire<'_> {
    /// Returns `true` if a record is that of an attempt of this acquisition, the last one or one
    /// before.
    fn is_earlier(&self, value: &[u8]) -> bool {
        if self.first_nonce.next() == self.next_nonce {
            // There was only one: to compare takes less than to read.
            return is_ours(value, self.first_nonce);
        }
        nonce_of(value).is_some_and(|nonce| nonce.is_between(self.first_nonce, self.next_nonce))
    }

    /// The attempt is settled: its record is not at the server.
    pub(super) fn close_attempt(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.outstanding = false;
        }
    }

    /// Sees to it that there is an attempt to be sent: the one that is open, or a new one.
    pub(super) fn begin_attempt(
        &mut self,
        server: &ServerState,
        now: Now,
    ) -> Result<(), ServerError> {
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

    pub(super) fn handle_attempt(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<AcquireOutcome>, DecodeError> {
        let protocol = server.capabilities.protocol;
        let stored = read_stored(replies)?;
        let item = read_lock(replies, protocol)?;
        let token = if self.request.fencing {
            read_fence(replies, protocol)?.map(Some)
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
            _ => return Ok(self.not_granted(on, item, stored, received)),
        };
        let mut grant = attempt.grant(&self.request, cas);
        self.handoff.resolve(on, Ok(()));
        if let Some(kept) = server.clock.retained_until(grant.expiry, received) {
            grant.valid_until = grant.valid_until.min(kept);
        }
        if let Some(then) = self.check_memory(server, &memory, evidence) {
            return Ok(self.rollback(cas, then));
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

    /// The look after the attempt has not found its record.
    fn not_granted(
        &mut self,
        on: ServerInstance,
        item: LockItem<'_>,
        stored: StoreOutcome,
        now: Instant,
    ) -> Action<AcquireOutcome> {
        self.close_attempt();
        match (item, stored) {
            (LockItem::Held { value, cas, .. }, _) if self.is_earlier(value) => {
                self.handoff.resolve(on, Ok(()));
                self.rollback(cas, AfterRollback::Retry)
            }
            (LockItem::Held { .. }, _) => self.held(on, item, now),
            (LockItem::Free, StoreOutcome::NotStored) => self.retry(on, now),
            (LockItem::Free, StoreOutcome::Failed(failure)) => self.fail(failure),
            (LockItem::Free, StoreOutcome::Stored)
                if self.immediate_retries >= IMMEDIATE_RETRIES =>
            {
                self.item_dropped(now)
            }
            (LockItem::Free, StoreOutcome::Stored) => {
                self.immediate_retries += 1;
                Action::Transmit
            }
        }
    }

    /// The reason to take the record back, if the server may have forgotten locks that are still
    /// held.
    fn check_memory(
        &self,
        server: &ServerState,
        memory: &Result<MemoryReading, ServerError>,
        evidence: bool,
    ) -> Option<AfterRollback> {
        let longest = self.request.min_memory?.max(self.request.lease);
        let lacking = match memory {
            Err(failure) => return Some(AfterRollback::Fail(failure.clone())),
            Ok(MemoryReading::NoSentinel) => return Some(AfterRollback::InitSentinel),
            // Asked again, with the flush horizon.
            Ok(MemoryReading::Ambiguous) => {
                return Some(AfterRollback::ReadCounters(longest.min_memory()));
            }
            Ok(MemoryReading::CompleteSince { from, second, .. }) => {
                server.memory.lacking(*second, *from, longest)
            }
        };
        if lacking.is_zero() {
            return None;
        }
        // Others may have bumped the sentinel.
        Some(if evidence {
            AfterRollback::Wait(lacking)
        } else {
            AfterRollback::ReadCounters(lacking)
        })
    }

    /// Handles the success of the attempt; for the lock to be held, the token must be above those
    /// from before, and the lease must not have expired.
    pub(super) fn grant(
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
    pub(super) fn inspected(
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
}
