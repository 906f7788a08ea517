//! The keeper: one task per client that renews what is held and gives back what was dropped.

use super::drive::{Bound, Exchange};
use super::lock::release_until;
use super::{Core, HeldLock};
use crate::front::{Batch, Calibration, HandedOn, Job, Renewals, Task, clock};
use crate::net::shared::{LOOKS, Subject};
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
struct Keeping(Arc<Core>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.site.registry.abandon();
        self.0.closed.notify_waiters();
        // Nor would anybody see how long what is under way takes.
        self.0.unkept.store(true, Ordering::Release);
        self.0.site.connections.close();
    }
}

/// Does the work of the registry until the client is gone and nothing is left to be given back, or
/// until the runtime ends.
///
/// A runtime may end before it has polled this once. That is the end of the keeper as well.
pub(super) fn run(core: Arc<Core>) -> impl Future<Output = ()> + Send {
    keep(Keeping(core))
}

async fn keep(keeping: Keeping) {
    let core = &keeping.0;
    let mut tasks = JoinSet::new();
    let mut calibration = Calibration::new(clock::moment());
    let mut watch = Watch::new(core);
    loop {
        // Those that are over are of no interest any more.
        while tasks.try_join_next().is_some() {}
        if core.quiet.swap(false, Ordering::AcqRel) {
            for seat in core.site.connections.send_quiet() {
                tasks.spawn(async move { seat.connection.send_quiet().await });
            }
        }
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
        if let Some(look) = watch.look(core, now) {
            until = until.min(look);
        }
        let is_waiting = !core.queues.are_empty();
        if let Some(due) = calibration.due(&core.site, is_waiting, now) {
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
        let longest = if core.site.registry.len() == 0 {
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
    let release = matches!(job, Job::Release(_));
    match job {
        Job::Release(lock) => {
            let now = clock::now();
            let give_up = release_until(lock.held.gone_by(now.monotonic), now.monotonic);
            match core.release(&lock, now, give_up).await {
                Ok(outcome) => {
                    lock.held.settle(HandedOn::Settled(outcome));
                }
                Err(error) => {
                    lock.held.tell_unreleased(&error, false);
                    lock.held.settle(HandedOn::Failed);
                }
            }
            lock.changed.notify_waiters();
        }
        Job::Undo {
            name,
            keys,
            leftover,
        } => {
            let mut release = Release::for_orphan(&keys, &leftover, leftover.expires_at);
            let outcome = core
                .drive(&mut release, Some(&keys), clock::now(), Bound::Open)
                .await;
            core.site.chronicle.took_back(&name, &outcome);
        }
    }
    core.site.registry.job_finished(release);
    core.done.notify_waiters();
    core.wake.notify_one();
}

async fn calibrate(core: Arc<Core>) {
    let settings = &core.site.settings;
    let mut reading = SampleClock::new(&settings.namespace, settings.max_lease);
    let read = core.drive(&mut reading, None, clock::now(), Bound::Open);
    if let Ok(Ok(())) = read.await {
        core.site.correct_deadlines(clock::moment());
        core.site.tell_longest_lease();
    }
}

/// Renews locks that are due together with one flight, or two where a CAS unique was not the one
/// expected.
async fn renew(core: Arc<Core>, batch: Batch<HeldLock>) {
    let began = clock::moment();
    core.site.note_late(&batch);
    let namespace = &core.site.settings.namespace;
    let mut renewals = Renewals::begin(&batch, namespace, began);
    let limit = Renewals::limit(&batch, core.site.settings.operation_timeout);
    while !renewals.is_over() {
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
        if core.site.renewed(&batch, place, &renewals, clock::moment()) {
            core.freed(lock);
        }
        lock.changed.notify_waiters();
    }
    core.site.correct_deadlines(clock::moment());
    core.site.registry.renewals_finished();
    core.done.notify_waiters();
    core.wake.notify_one();
}

impl Exchange for Renewals<'_> {
    type Spared = ();
    type Answer = ();

    fn prepare(&mut self, view: &ServerState, now: Now, flight: &mut Flight) -> Result<(), ()> {
        self.prepare(view, now, flight);
        if flight.is_empty() { Err(()) } else { Ok(()) }
    }

    fn interpret(
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
fn release_anew(core: &Core, subject: Subject) {
    let Ok(lock) = subject.downcast::<HeldLock>() else {
        return;
    };
    lock.held.tell_quiet_failure();
    core.site.registry.push(Job::Release(lock));
    core.wake.notify_one();
}

/// Watches over what is under way, for as long as there is anything.
struct Watch {
    /// Between two looks.
    period: Duration,
    /// When to look next; `None` when nothing is watched.
    next: Option<Instant>,
}

impl Watch {
    fn new(core: &Core) -> Self {
        let period = core.site.settings.operation_timeout / LOOKS;
        Self {
            period: period.max(Duration::from_millis(1)),
            next: None,
        }
    }

    /// Looks if it is time to. Returns when the next look is due.
    fn look(&mut self, core: &Core, now: Instant) -> Option<Instant> {
        let due = match self.next {
            Some(next) => next <= now,
            None => core.watch.load(Ordering::Relaxed),
        };
        if due {
            // Before the look: whoever comes behind it tells the keeper again.
            core.watch.store(false, Ordering::Release);
            let mut undone = Vec::new();
            let busy = core.site.connections.watch(&mut undone);
            undone
                .into_iter()
                .for_each(|subject| release_anew(core, subject));
            if busy {
                core.watch.store(true, Ordering::Release);
            }
            let watched = busy || core.watch.load(Ordering::Relaxed);
            self.next = watched.then(|| now.after(self.period));
        }
        self.next
    }
}
