//! The work of a renewer in both APIs: renewals that are due together, and cleanup jobs.

use super::client::{ClientInner, Transport};
use super::clock;
use super::exchange::{ExchangeOutcome, FlightHandler, PauseMode, Timeout};
use super::lock_state::HandoffState;
use super::release::release_deadline;
use super::renewal_flight::RenewalFlight;
use super::scheduler::{CleanupJob, DueLocks};
use crate::proto::{Instant, Now, Release, ServerState};
use crate::wire::{DecodeError, Flight, Replies};

impl<T: Transport> ClientInner<T> {
    /// Renews locks that are due together with one flight, or two if a CAS unique was not the
    /// expected one.
    pub(crate) async fn renew(&self, batch: &DueLocks) {
        let node = &self.node;
        node.note_late(batch);
        let began = clock::monotonic();
        let mut renewals = RenewalFlight::begin(batch, &node.config.namespace, began);
        let limit = RenewalFlight::limit(batch, node.config.operation_timeout);
        while !renewals.is_done() {
            let now = clock::now();
            let timeout = Timeout::Wait(now.monotonic.after(limit));
            match T::exchange(self, &mut renewals, None, now, timeout, limit).await {
                Ok(ExchangeOutcome::Replied(())) => {}
                Ok(ExchangeOutcome::Skipped(())) => break,
                Err(why) => {
                    renewals.interrupted(why);
                    break;
                }
            }
        }
        for (place, (_, lock)) in batch.locks.iter().enumerate() {
            if node.renewed(batch, place, &renewals, clock::monotonic()) {
                self.notify_free(lock);
            }
            lock.changed.notify();
        }
        node.correct_deadlines(clock::monotonic());
        node.scheduler.renewals_finished();
        self.done.notify();
        node.wake.notify();
    }

    /// Runs a cleanup job. `pause` says how its pauses are spent.
    pub(crate) async fn clean_up(&self, job: &CleanupJob, pause: &mut PauseMode<'_>) {
        match job {
            CleanupJob::Release(lock) => {
                let now = clock::now();
                let deadline = release_deadline(lock.expires_by(now.monotonic), now.monotonic);
                let released = self.release_with(lock, now, deadline, pause).await;
                lock.resolve_handoff(match released {
                    Ok(outcome) => HandoffState::Resolved(outcome),
                    Err(error) => {
                        lock.emit_release_failed(&error, false);
                        HandoffState::Failed
                    }
                });
                lock.changed.notify();
            }
            CleanupJob::Undo {
                name,
                keys,
                leftover,
            } => {
                let mut release = Release::for_orphan(keys, leftover, leftover.expires_at);
                let (now, timeout) = (clock::now(), Timeout::Unlimited);
                let undone = self.drive_with(&mut release, Some(keys), now, timeout, pause);
                let undone = undone.await;
                self.node.telemetry.acquire_undone(name, &undone);
            }
        }
        let release = matches!(job, CleanupJob::Release(_));
        self.node.scheduler.job_finished(release);
        self.done.notify();
        self.node.wake.notify();
    }
}

impl FlightHandler for RenewalFlight<'_> {
    type Skipped = ();
    type Output = ();

    fn encode(&mut self, server: &ServerState, now: Now, flight: &mut Flight) -> Result<(), ()> {
        self.prepare(server, now, flight);
        if flight.is_empty() { Err(()) } else { Ok(()) }
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<(), DecodeError> {
        self.interpret(server, replies, sent, received)
    }
}
