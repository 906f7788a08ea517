//! The renewals of a batch, as one flight.

use super::connect_error::ConnectError;
use super::lock_state::LockState;
use super::node::Node;
use super::scheduler::{CleanupJob, DueLocks};
use crate::proto::{Action, Instant, Namespace, Now, Operation, Renew, RenewOutcome, ServerState};
use crate::wire::{DecodeError, Flight, Replies};
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;

/// The pause before a failed renewal is tried again is at least this long for each lock that the
/// client holds, within limits.
const RETRY: Duration = Duration::from_micros(5);

/// Renewals under way. The transport decides how they are sent.
#[derive(Debug)]
pub(crate) struct RenewalFlight<'a> {
    pending: Vec<PendingRenewal<'a>>,
    /// The outcome of each finished renewal, by its index in the batch.
    outcomes: Vec<Option<RenewOutcome>>,
    /// The reason why the others have no reply.
    error: Option<ConnectError>,
}

#[derive(Debug)]
struct PendingRenewal<'a> {
    place: usize,
    held: &'a LockState,
    renew: Renew<'a>,
}

impl<'a> RenewalFlight<'a> {
    /// Begins the renewals of those locks of `batch` that are still held.
    pub(crate) fn begin(batch: &'a DueLocks, namespace: &'a Namespace, now: Instant) -> Self {
        let locks = &batch.locks;
        let begun = locks.iter().enumerate().filter_map(|(place, (_, lock))| {
            let held = lock.as_ref();
            let cas = held.begin_renewal(now)?;
            let renew = Renew::new(namespace, &held.keys, &held.grant, held.lease, cas);
            Some(PendingRenewal { place, held, renew })
        });
        Self {
            pending: begun.collect(),
            outcomes: locks.iter().map(|_| None).collect(),
            error: None,
        }
    }

    /// Returns the time limit of the exchange: the rest must suffice for another try.
    pub(crate) fn limit(batch: &DueLocks, operation_timeout: Duration) -> Duration {
        let leases = batch.locks.iter().map(|(_, lock)| {
            let held = &**lock;
            held.lease.duration() / 3
        });
        leases
            .min()
            .unwrap_or(operation_timeout)
            .min(operation_timeout)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes one flight for all of the locks that are still held.
    pub(crate) fn prepare(&mut self, server: &ServerState, now: Now, flight: &mut Flight) {
        let over = &mut self.outcomes;
        self.pending.retain_mut(|pending| {
            // It may have ended while there was no connection. No client must wait for a lease that
            // began after the end.
            if pending.held.loss(now.monotonic).is_some() {
                return false;
            }
            match pending.renew.poll_transmit(server, now, flight) {
                Ok(()) => true,
                Err(renewed) => {
                    over[pending.place] = Some(renewed);
                    false
                }
            }
        });
    }

    /// Applies the replies to that flight.
    pub(crate) fn interpret(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<(), DecodeError> {
        let mut rest = Vec::new();
        for mut pending in self.pending.drain(..) {
            match pending
                .renew
                .handle_replies(server, replies, sent, received)?
            {
                Action::Done(renewed) => self.outcomes[pending.place] = Some(renewed),
                Action::Transmit | Action::Sleep { .. } => rest.push(pending),
                Action::Fail { .. } => {}
            }
        }
        self.pending = rest;
        Ok(())
    }

    /// Records that the unfinished renewals got no reply, for this reason.
    pub(crate) fn interrupted(&mut self, why: ConnectError) {
        self.error = Some(why);
    }

    /// Returns the outcome of the renewal at this index of the batch; an error is no reply.
    fn outcome(&self, place: usize) -> Result<&RenewOutcome, Option<&ConnectError>> {
        self.outcomes[place].as_ref().ok_or(self.error.as_ref())
    }
}

impl<C> Node<C> {
    /// Removes a lock that has ended. If the scheduler must release it, that becomes a job, and the
    /// renewer must be woken. Returns whether the lock was there, and whether there is such a job.
    pub(crate) fn unschedule(&self, index: usize, lock: &Arc<LockState>) -> (bool, bool) {
        let kept = self.scheduler.remove(index, lock);
        let owed = kept && lock.as_ref().take_pending_release();
        if owed {
            self.scheduler.push(CleanupJob::Release(Arc::clone(lock)));
        }
        (kept, owed)
    }

    /// Counts and reports the renewals that begin late.
    pub(crate) fn note_late(&self, batch: &DueLocks) {
        if let Some(late) = batch.late {
            self.telemetry.renewals_late(late, self.scheduler.len());
        }
    }

    /// Applies the outcome of the renewal at this index of a batch, and schedules the next one.
    /// Returns whether the lock has ended.
    pub(crate) fn renewed(
        &self,
        batch: &DueLocks,
        place: usize,
        renewals: &RenewalFlight<'_>,
        now: Instant,
    ) -> bool {
        let (index, lock) = &batch.locks[place];
        let (index, outcome) = (*index, renewals.outcome(place));
        let held = &**lock;
        let silence = outcome.err().flatten();
        let outcome = outcome.ok();
        held.end_renewal(outcome, silence);
        if held.loss(now).is_some() {
            self.unschedule(index, lock);
            return true;
        }
        let due = match outcome {
            Some(RenewOutcome::Renewed { sent, .. }) => {
                held.due_earlier(*sent, batch.earlier(held.lease.duration()))
            }
            _ => {
                if held.take_expiry_warning(now) {
                    let unanswered = held.state().is_unanswered();
                    let remaining = held.remaining(now);
                    self.telemetry
                        .lease_expiring(held.info(), remaining, unanswered);
                }
                // Soon, but not so often that the retries keep a server in trouble busy, or this
                // client if it holds many locks.
                let lease = held.lease.duration();
                let pause = (lease / 10).min(Duration::from_millis(500));
                let many = self.scheduler.len().try_into().unwrap_or(u32::MAX);
                let pause = pause.max(RETRY.saturating_mul(many).min(lease / 6));
                now.after(pause.min(held.remaining(now)))
            }
        };
        self.scheduler.reschedule(index, lock, due);
        // Incremented last: a caller that found a renewal under way waits for this number to rise.
        held.state().renewals += 1;
        false
    }
}
