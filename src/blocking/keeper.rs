//! The keeper: one thread per client that renews what is held and takes back what was abandoned.

use super::drive::{Bound, sleep};
use super::guard::release_until;
use super::{Core, HeldLock};
use crate::front::{
    Batch, Calibration, HandedOn, Job, LockError, Renewals, Task, Unconnected, clock,
};
use crate::net::{NetCause, NetError};
use crate::proto::{Instant, Operation, Release, SampleClock};
use core::time::Duration;
use std::collections::VecDeque;

/// Does the work of the registry until the client is gone and nothing is left to be given back.
pub(super) fn run(core: &Core) {
    let mut keeper = Keeper {
        core,
        jobs: VecDeque::new(),
    };
    let mut calibration = Calibration::new(clock::moment());
    loop {
        let seen = core.wake.seen();
        let now = clock::moment();
        let mut until = match core.site.registry.next(now) {
            Task::Exit => return,
            Task::Renew(batch) => {
                keeper.renew(&batch);
                continue;
            }
            Task::Job(job) => {
                keeper.jobs.push_back(job);
                now
            }
            Task::Sleep { until } => until,
        };
        if let Some(job) = keeper.jobs.pop_front() {
            keeper.do_job(&job);
            continue;
        }
        let is_waiting = !core.queues.are_empty();
        if let Some(due) = calibration.due(&core.site, is_waiting, now) {
            if due <= now {
                calibration.begin(now);
                keeper.calibrate();
                continue;
            }
            until = until.min(due);
        }
        core.wake.wait(seen, until);
    }
}

struct Keeper<'a> {
    core: &'a Core,
    /// What came while another job was under way.
    jobs: VecDeque<Job<HeldLock>>,
}

impl Keeper<'_> {
    /// Spends the pause of a job: renews what becomes due. A lock that is late is lost, a job that
    /// is late is only late.
    fn keep_until(&mut self, until: Instant) {
        loop {
            let seen = self.core.wake.seen();
            let now = clock::moment();
            if now >= until {
                return;
            }
            match self.core.site.registry.next(now) {
                Task::Renew(batch) => self.renew(&batch),
                Task::Job(job) => self.jobs.push_back(job),
                Task::Sleep { until: due } => self.core.wake.wait(seen, until.min(due)),
                // Not before the job is done.
                Task::Exit => return,
            }
        }
    }

    fn do_job(&mut self, job: &Job<HeldLock>) {
        match job {
            Job::Release(lock) => {
                let now = clock::moment();
                let give_up = release_until(lock.held.gone_by(now), now);
                // Nobody else renews, so none is under way.
                let cas = lock.held.state().cas;
                let span = self.core.site.chronicle.release_span(&lock.held.name);
                let _entered = span.enter();
                let mut release = lock.held.releasing(cas, give_up);
                let released = self.drive(&mut release);
                match released.and_then(|released| self.core.site.released(released)) {
                    Ok(outcome) => {
                        lock.held.tell_released(outcome);
                        self.core.site.await_echo(&lock.held);
                        lock.held.settle(HandedOn::Settled(outcome));
                    }
                    Err(error) => {
                        lock.held.tell_unreleased(&error, false);
                        lock.held.settle(HandedOn::Failed);
                    }
                }
                self.core.freed(lock);
                lock.changed.give();
            }
            Job::Undo {
                name,
                keys,
                leftover,
            } => {
                let mut release = Release::for_orphan(keys, leftover, leftover.expires_at);
                let outcome = self.drive(&mut release);
                self.core.site.chronicle.took_back(name, &outcome);
            }
        }
        let release = matches!(job, Job::Release(_));
        self.core.site.registry.job_finished(release);
        self.core.done.give();
    }

    fn drive<O: Operation>(&mut self, operation: &mut O) -> Result<O::Outcome, LockError> {
        let core = self.core;
        core.drive(operation, clock::now(), Bound::Open, |until| {
            self.keep_until(until);
            Ok(())
        })
    }

    fn calibrate(&self) {
        let settings = &self.core.site.settings;
        let mut reading = SampleClock::new(&settings.namespace, settings.max_lease);
        if let Ok(Ok(())) = self
            .core
            .drive(&mut reading, clock::now(), Bound::Open, sleep)
        {
            self.core.site.correct_deadlines(clock::moment());
            self.core.site.tell_longest_lease();
        }
    }

    /// Renews locks that are due together with one flight, or two where a CAS unique was not the
    /// one expected.
    fn renew(&self, batch: &Batch<HeldLock>) {
        let site = &self.core.site;
        site.note_late(batch);
        let mut renewals = Renewals::begin(batch, &site.settings.namespace, clock::moment());
        let limit = Renewals::limit(batch, site.settings.operation_timeout);
        while !renewals.is_over() {
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
            if site.renewed(batch, place, &renewals, clock::moment()) {
                self.core.freed(lock);
            }
            lock.changed.give();
        }
        site.correct_deadlines(clock::moment());
        site.registry.renewals_finished();
        self.core.done.give();
    }

    /// One flight for all renewals. Returns whether there may be another.
    fn exchange(&self, renewals: &mut Renewals<'_>, limit: Duration) -> Result<bool, Unconnected> {
        let site = &self.core.site;
        let mut now = clock::now();
        let until = now.monotonic.after(limit);
        let mut checkout = self.core.connect(Bound::Patience(until), &mut now)?;
        let seat = checkout.seat().map_err(Unconnected::Net)?;
        let incarnation = seat.incarnation;
        let flight = seat.connection.next_flight();
        site.with_view(incarnation, |view| renewals.prepare(view, now, flight));
        if flight.is_empty() {
            return Ok(renewals.is_over());
        }
        let elapsed = || clock::moment().since(now.monotonic);
        let exchanged = seat.connection.exchange(limit, elapsed);
        let mut replies = exchanged.map_err(Unconnected::Net)?;
        let received = clock::moment();
        let interpreted = site.with_view(incarnation, |view| {
            renewals.interpret(view, &mut replies, now.monotonic, received)
        });
        match interpreted {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => {
                // Whatever it was, the next bytes are not to be trusted either.
                checkout.close();
                let cause = NetCause::unexpected(error);
                Err(Unconnected::Net(NetError::sent(cause)))
            }
            None => Err(Unconnected::Net(NetError::sent(NetCause::Closed))),
        }
    }
}
