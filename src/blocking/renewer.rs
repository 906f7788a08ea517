//! The keeper: one thread per client that renews what is held and takes back what was abandoned.

use super::guard::release_until;
use super::transport::{Timeout, sleep};
use super::{ClientInner, HeldLock};
use crate::engine::{
    CleanupJob, ClockSync, ConnectError, HandoffState, LockError, RenewBatch, RenewalBatch,
    SchedulerAction, clock,
};
use crate::net::{NetCause, NetError};
use crate::proto::{Instant, Operation, Release, SampleClock};
use core::time::Duration;
use std::collections::VecDeque;

/// Does the work of the registry until the client is gone and nothing is left to be given back.
pub(super) fn run(core: &ClientInner) {
    let mut keeper = Renewer {
        core,
        jobs: VecDeque::new(),
    };
    let mut calibration = ClockSync::new(clock::monotonic());
    loop {
        let seen = core.wake.generation();
        let now = clock::monotonic();
        let mut until = match core.node.scheduler.next_action(now) {
            SchedulerAction::Exit => return,
            SchedulerAction::Renew(batch) => {
                keeper.renew(&batch);
                continue;
            }
            SchedulerAction::Job(job) => {
                keeper.jobs.push_back(job);
                now
            }
            SchedulerAction::Sleep { until } => until,
        };
        if let Some(job) = keeper.jobs.pop_front() {
            keeper.run_cleanup(&job);
            continue;
        }
        let is_waiting = !core.queues.are_empty();
        if let Some(due) = calibration.due(&core.node, is_waiting, now) {
            if due <= now {
                calibration.begin(now);
                keeper.sync_clock();
                continue;
            }
            until = until.min(due);
        }
        core.wake.wait(seen, until);
    }
}

struct Renewer<'a> {
    core: &'a ClientInner,
    /// What came while another job was under way.
    jobs: VecDeque<CleanupJob<HeldLock>>,
}

impl Renewer<'_> {
    /// Spends the pause of a job: renews what becomes due. A lock that is late is lost, a job that
    /// is late is only late.
    fn keep_until(&mut self, until: Instant) {
        loop {
            let seen = self.core.wake.generation();
            let now = clock::monotonic();
            if now >= until {
                return;
            }
            match self.core.node.scheduler.next_action(now) {
                SchedulerAction::Renew(batch) => self.renew(&batch),
                SchedulerAction::Job(job) => self.jobs.push_back(job),
                SchedulerAction::Sleep { until: due } => self.core.wake.wait(seen, until.min(due)),
                // Not before the job is done.
                SchedulerAction::Exit => return,
            }
        }
    }

    fn run_cleanup(&mut self, job: &CleanupJob<HeldLock>) {
        match job {
            CleanupJob::Release(lock) => {
                let now = clock::monotonic();
                let give_up = release_until(lock.held.gone_by(now), now);
                // Nobody else renews, so none is under way.
                let cas = lock.held.state().cas;
                let span = self.core.node.telemetry.release_span(&lock.held.name);
                let _entered = span.enter();
                let mut release = lock.held.release_operation(cas, give_up);
                let released = self.drive(&mut release);
                match released.and_then(|released| self.core.node.released(released)) {
                    Ok(outcome) => {
                        lock.held.emit_released(outcome);
                        self.core.node.schedule_orphan_check(&lock.held);
                        lock.held.resolve_handoff(HandoffState::Resolved(outcome));
                    }
                    Err(error) => {
                        lock.held.emit_release_failed(&error, false);
                        lock.held.resolve_handoff(HandoffState::Failed);
                    }
                }
                self.core.notify_free(lock);
                lock.changed.notify();
            }
            CleanupJob::Undo {
                name,
                keys,
                leftover,
            } => {
                let mut release = Release::for_orphan(keys, leftover, leftover.expires_at);
                let outcome = self.drive(&mut release);
                self.core.node.telemetry.acquire_undone(name, &outcome);
            }
        }
        let release = matches!(job, CleanupJob::Release(_));
        self.core.node.scheduler.job_finished(release);
        self.core.done.notify();
    }

    fn drive<O: Operation>(&mut self, operation: &mut O) -> Result<O::Outcome, LockError> {
        let core = self.core;
        core.drive(operation, clock::now(), Timeout::Unlimited, |until| {
            self.keep_until(until);
            Ok(())
        })
    }

    fn sync_clock(&self) {
        let settings = &self.core.node.config;
        let mut reading = SampleClock::new(&settings.namespace, settings.max_lease);
        if let Ok(Ok(())) = self
            .core
            .drive(&mut reading, clock::now(), Timeout::Unlimited, sleep)
        {
            self.core.node.correct_deadlines(clock::monotonic());
            self.core.node.report_longest_lease();
        }
    }

    /// Renews locks that are due together with one flight, or two where a CAS unique was not the
    /// one expected.
    fn renew(&self, batch: &RenewalBatch<HeldLock>) {
        let site = &self.core.node;
        site.note_late(batch);
        let mut renewals = RenewBatch::begin(batch, &site.config.namespace, clock::monotonic());
        let limit = RenewBatch::limit(batch, site.config.operation_timeout);
        while !renewals.is_expired() {
            match self.exchange(&mut renewals, limit) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    renewals.interrupted(why);
                    break;
                }
            }
        }
        for (place, (_, lock)) in batch.locks.iter().enumerate() {
            if site.renewed(batch, place, &renewals, clock::monotonic()) {
                self.core.notify_free(lock);
            }
            lock.changed.notify();
        }
        site.correct_deadlines(clock::monotonic());
        site.scheduler.renewals_finished();
        self.core.done.notify();
    }

    /// One flight for all renewals. Returns whether there may be another.
    fn exchange(
        &self,
        renewals: &mut RenewBatch<'_>,
        limit: Duration,
    ) -> Result<bool, ConnectError> {
        let site = &self.core.node;
        let mut now = clock::now();
        let until = now.monotonic.after(limit);
        let mut checkout = self.core.connect(Timeout::Wait(until), &mut now)?;
        let seat = checkout.seat().map_err(ConnectError::Net)?;
        let incarnation = seat.instance;
        let flight = seat.connection.next_flight();
        site.with_server(incarnation, |view| renewals.prepare(view, now, flight));
        if flight.is_empty() {
            return Ok(renewals.is_expired());
        }
        let elapsed = || clock::monotonic().since(now.monotonic);
        let exchanged = seat.connection.exchange(limit, elapsed);
        let mut replies = exchanged.map_err(ConnectError::Net)?;
        let received = clock::monotonic();
        let interpreted = site.with_server(incarnation, |view| {
            renewals.interpret(view, &mut replies, now.monotonic, received)
        });
        match interpreted {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => {
                // Whatever it was, the next bytes are not to be trusted either.
                checkout.close();
                let cause = NetCause::unexpected(error);
                Err(ConnectError::Net(NetError::sent(cause)))
            }
            None => Err(ConnectError::Net(NetError::sent(NetCause::Closed))),
        }
    }
}
