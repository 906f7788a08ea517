//! The keeper: one task per client that renews what is held and gives back what was dropped.

use super::lock::release_until;
use super::{Core, HeldLock};
use crate::front::{Calibration, Job, Renewals, Task, clock};
use crate::lock::{ReadClock, Release};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;
use tokio::task::JoinSet;

/// When the keeper has gone, nothing can be acquired any more: nobody would renew it.
struct Keeping(Arc<Core>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.site.registry.abandon();
        self.0.closed.notify_waiters();
    }
}

/// Does the work of the registry until the client is gone and nothing is left to be given back, or
/// until the runtime ends.
pub(super) async fn run(core: Arc<Core>) {
    let keeping = Keeping(core);
    let core = &keeping.0;
    let mut tasks = JoinSet::new();
    let mut calibration = Calibration::new();
    loop {
        let now = clock::moment();
        let mut until = match core.site.registry.next(now) {
            Task::Exit => return,
            Task::Job(job) => {
                tasks.spawn(do_job(Arc::clone(core), job));
                continue;
            }
            Task::Renew(batch) => {
                tasks.spawn(renew(Arc::clone(core), batch));
                continue;
            }
            Task::Sleep { until } => until,
        };
        if let Some(due) = calibration.due(&core.site, now) {
            if due <= now {
                calibration.begin(now);
                tasks.spawn(calibrate(Arc::clone(core)));
                continue;
            }
            until = until.min(due);
        }
        let mut woken = pin!(core.wake.notified());
        // The timer stands still while the machine is suspended, leases do not. A year stands for
        // ever, which the timer cannot do.
        let longest = if core.site.registry.is_empty() {
            Duration::from_secs(31_536_000)
        } else {
            Duration::from_secs(1)
        };
        let length = until.since(now).min(longest);
        let mut timer = pin!(tokio::time::sleep(length));
        poll_fn(|cx| {
            let joined = matches!(tasks.poll_join_next(cx), Poll::Ready(Some(_)));
            let woken = woken.as_mut().poll(cx).is_ready();
            if joined || woken || timer.as_mut().poll(cx).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

async fn do_job(core: Arc<Core>, job: Job<HeldLock>) {
    match job {
        Job::Release(lock) => {
            let give_up = release_until(lock.held.lease.valid_until(clock::moment()));
            match core.release(&lock, give_up).await {
                Ok(outcome) => tracing::debug!(name = %lock.held.name, ?outcome, "released"),
                Err(error) => tracing::warn!(%error, "a dropped lock could not be given back"),
            }
        }
        Job::Undo {
            name,
            keys,
            leftover,
        } => {
            let mut release = Release::of_leftover(&keys, &leftover, leftover.moot_after);
            match core.drive(&mut release, Some(&keys), None).await {
                Ok(outcome) => tracing::debug!(%name, ?outcome, "took back an acquisition"),
                Err(error) => {
                    tracing::warn!(%name, %error, "an acquisition could not be taken back");
                }
            }
        }
    }
    core.site.registry.finished();
    core.done.notify_waiters();
    core.wake.notify_one();
}

async fn calibrate(core: Arc<Core>) {
    let namespace = &core.site.settings.namespace;
    if let Ok(Ok(())) = core.drive(&mut ReadClock::new(namespace), None, None).await {
        core.site.correct_deadlines(clock::moment());
    }
}

/// Renews locks that are due together with one flight, or two where a CAS unique was not the one
/// expected.
async fn renew(core: Arc<Core>, batch: Vec<(usize, Arc<HeldLock>)>) {
    let began = clock::moment();
    let namespace = &core.site.settings.namespace;
    let mut renewals = Renewals::begin(&batch, namespace, began);
    let limit = Renewals::limit(&batch, core.site.settings.operation_timeout);
    while !renewals.is_over() {
        if !exchange(&core, &mut renewals, limit).await {
            break;
        }
    }
    for (place, (index, lock)) in batch.iter().enumerate() {
        let outcome = renewals.outcomes().iter().find(|(over, _)| *over == place);
        let outcome = outcome.map(|(_, renewed)| renewed);
        core.site.renewed(*index, lock, outcome, clock::moment());
        lock.changed.notify_waiters();
    }
    core.site.correct_deadlines(clock::moment());
    core.site.registry.finished();
    core.done.notify_waiters();
    core.wake.notify_one();
}

/// One flight for all renewals. Returns whether it was answered.
async fn exchange(core: &Core, renewals: &mut Renewals<'_>, limit: Duration) -> bool {
    let until = clock::moment().after(limit);
    let Ok(seat) = core.connect(None, Some(until)).await else {
        return false;
    };
    let mut now = clock::now();
    let begun = seat.connection.begin(limit, |flight| {
        now = clock::now();
        core.site.with_view(seat.incarnation, |view| {
            renewals.prepare(view, now, flight);
        });
        if flight.is_empty() { Err(()) } else { Ok(()) }
    });
    let flight = match begun.await {
        Ok(Ok(flight)) => flight,
        Ok(Err(())) => return renewals.is_over(),
        Err(_) => return false,
    };
    let interpreted = flight.replies(limit, |replies| {
        let received = clock::moment();
        let interpreted = core.site.with_view(seat.incarnation, |view| {
            renewals.interpret(view, replies, now.moment, received)
        });
        interpreted.transpose()
    });
    matches!(interpreted.await, Ok(Some(())))
}
