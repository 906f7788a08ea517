//! The keeper: one task per client that renews what is held and gives back what was dropped.

use super::lock::release_until;
use super::transport::{FlightHandler, Timeout};
use super::{ClientInner, HeldLock};
use crate::engine::{
    CleanupJob, ClockSync, HandoffState, RenewBatch, RenewalBatch, SchedulerAction, clock,
};
use crate::net::shared::{LOOKS, ReplyObserver};
use crate::proto::{Instant, Now, Release, SampleClock, ServerState};
use crate::wire::{DecodeError, Flight, Replies};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;
use tokio::task::JoinSet;

/// When the keeper has gone, nothing can be acquired any more: nobody would renew it.
struct RenewerGuard(Arc<ClientInner>);

impl Drop for RenewerGuard {
    fn drop(&mut self) {
        self.0.node.scheduler.detach_client();
        self.0.closed.notify_waiters();
        // Nor would anybody see how long what is under way takes.
        self.0.unkept.store(true, Ordering::Release);
        self.0.node.connections.close();
    }
}

/// Does the work of the registry until the client is gone and nothing is left to be given back, or
/// until the runtime ends.
///
/// A runtime may end before it has polled this once. That is the end of the keeper as well.
pub(super) fn run(core: Arc<ClientInner>) -> impl Future<Output = ()> + Send {
    keep(RenewerGuard(core))
}

async fn keep(keeping: RenewerGuard) {
    let core = &keeping.0;
    let mut tasks = JoinSet::new();
    let mut calibration = ClockSync::new(clock::monotonic());
    let mut watch = TimeoutWatch::new(core);
    loop {
        // Those that are over are of no interest any more.
        while tasks.try_join_next().is_some() {}
        if core.quiet.swap(false, Ordering::AcqRel) {
            for seat in core.node.connections.send_quiet() {
                tasks.spawn(async move { seat.connection.send_quiet().await });
            }
        }
        let now = clock::monotonic();
        let mut until = match core.node.scheduler.next_action(now) {
            SchedulerAction::Exit => return,
            SchedulerAction::Job(job) => {
                tasks.spawn(run_cleanup(Arc::clone(core), job));
                continue;
            }
            SchedulerAction::Renew(batch) => {
                tasks.spawn(renew(Arc::clone(core), batch));
                continue;
            }
            SchedulerAction::Sleep { until } => until,
        };
        if let Some(look) = watch.look(core, now) {
            until = until.min(look);
        }
        let is_waiting = !core.queues.are_empty();
        if let Some(due) = calibration.due(&core.node, is_waiting, now) {
            if due <= now {
                calibration.begin(now);
                tasks.spawn(sync_clock(Arc::clone(core)));
                continue;
            }
            until = until.min(due);
        }
        let mut woken = pin!(core.wake.notified());
        // The timer stands still while the machine is suspended, leases do not. A year stands for
        // ever, which the timer cannot do.
        let longest = if core.node.scheduler.len() == 0 {
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

async fn run_cleanup(core: Arc<ClientInner>, job: CleanupJob<HeldLock>) {
    let release = matches!(job, CleanupJob::Release(_));
    match job {
        CleanupJob::Release(lock) => {
            let now = clock::now();
            let give_up = release_until(lock.held.gone_by(now.monotonic), now.monotonic);
            match core.release(&lock, now, give_up).await {
                Ok(outcome) => {
                    lock.held.resolve_handoff(HandoffState::Resolved(outcome));
                }
                Err(error) => {
                    lock.held.emit_release_failed(&error, false);
                    lock.held.resolve_handoff(HandoffState::Failed);
                }
            }
            lock.changed.notify_waiters();
        }
        CleanupJob::Undo {
            name,
            keys,
            leftover,
        } => {
            let mut release = Release::for_orphan(&keys, &leftover, leftover.expires_at);
            let outcome = core
                .drive(&mut release, Some(&keys), clock::now(), Timeout::Unlimited)
                .await;
            core.node.telemetry.acquire_undone(&name, &outcome);
        }
    }
    core.node.scheduler.job_finished(release);
    core.done.notify_waiters();
    core.wake.notify_one();
}

async fn sync_clock(core: Arc<ClientInner>) {
    let settings = &core.node.config;
    let mut reading = SampleClock::new(&settings.namespace, settings.max_lease);
    let read = core.drive(&mut reading, None, clock::now(), Timeout::Unlimited);
    if let Ok(Ok(())) = read.await {
        core.node.correct_deadlines(clock::monotonic());
        core.node.report_longest_lease();
    }
}

/// Renews locks that are due together with one flight, or two where a CAS unique was not the one
/// expected.
async fn renew(core: Arc<ClientInner>, batch: RenewalBatch<HeldLock>) {
    let began = clock::monotonic();
    core.node.note_late(&batch);
    let namespace = &core.node.config.namespace;
    let mut renewals = RenewBatch::begin(&batch, namespace, began);
    let limit = RenewBatch::limit(&batch, core.node.config.operation_timeout);
    while !renewals.is_expired() {
        let now = clock::now();
        let until = now.monotonic.after(limit);
        let exchanged = core.exchange(&mut renewals, None, now, Some(until), limit);
        match exchanged.await {
            Ok(Ok(())) => {}
            Ok(Err(())) => break,
            Err(why) => {
                renewals.interrupted(why);
                break;
            }
        }
    }
    for (place, (_, lock)) in batch.locks.iter().enumerate() {
        if core
            .node
            .renewed(&batch, place, &renewals, clock::monotonic())
        {
            core.notify_free(lock);
        }
        lock.changed.notify_waiters();
    }
    core.node.correct_deadlines(clock::monotonic());
    core.node.scheduler.renewals_finished();
    core.done.notify_waiters();
    core.wake.notify_one();
}

impl FlightHandler for RenewBatch<'_> {
    type Skipped = ();
    type Output = ();

    fn encode(&mut self, view: &ServerState, now: Now, flight: &mut Flight) -> Result<(), ()> {
        self.prepare(view, now, flight);
        if flight.is_empty() { Err(()) } else { Ok(()) }
    }

    fn handle_replies(
        &mut self,
        view: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<(), DecodeError> {
        self.interpret(view, replies, sent, received)
    }
}

/// A release that nobody waited for was refused or not answered.
fn retry_release(core: &ClientInner, subject: ReplyObserver) {
    let Ok(lock) = subject.downcast::<HeldLock>() else {
        return;
    };
    lock.held.emit_quiet_failure();
    core.node.scheduler.push(CleanupJob::Release(lock));
    core.wake.notify_one();
}

/// Watches over what is under way, for as long as there is anything.
struct TimeoutWatch {
    /// Between two looks.
    period: Duration,
    /// When to look next; `None` when nothing is watched.
    next: Option<Instant>,
}

impl TimeoutWatch {
    fn new(core: &ClientInner) -> Self {
        let period = core.node.config.operation_timeout / LOOKS;
        Self {
            period: period.max(Duration::from_millis(1)),
            next: None,
        }
    }

    /// Looks if it is time to. Returns when the next look is due.
    fn look(&mut self, core: &ClientInner, now: Instant) -> Option<Instant> {
        let due = match self.next {
            Some(next) => next <= now,
            None => core.watch.load(Ordering::Relaxed),
        };
        if due {
            // Before the look: whoever comes behind it tells the keeper again.
            core.watch.store(false, Ordering::Release);
            let mut undone = Vec::new();
            let busy = core.node.connections.watch(&mut undone);
            undone
                .into_iter()
                .for_each(|subject| retry_release(core, subject));
            if busy {
                core.watch.store(true, Ordering::Release);
            }
            let watched = busy || core.watch.load(Ordering::Relaxed);
            self.next = watched.then(|| now.after(self.period));
        }
        self.next
    }
}
