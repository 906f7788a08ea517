//! The renewer: one task per client that renews the held locks and releases the dropped ones.

use super::pool::ConnectionPool;
use crate::engine::client::ClientInner;
use crate::engine::exchange::PauseMode;
use crate::engine::{ClockSync, LockState, SchedulerAction, clock};
use crate::net::shared::{LOOKS, ReplyObserver};
use crate::proto::Instant;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;
use tokio::task::JoinSet;

type Client = ClientInner<ConnectionPool>;

/// Closes the scheduler when the renewer ends: nothing can be acquired any more, because no task
/// would renew it.
struct RenewerGuard(Arc<Client>);

impl Drop for RenewerGuard {
    fn drop(&mut self) {
        self.0.node.scheduler.detach_client();
        self.0.notify_closed();
        // Nor would any task watch how long the outstanding flights take.
        self.0
            .node
            .connections
            .unwatched
            .store(true, Ordering::Release);
        self.0.node.connections.close();
    }
}

/// Does the work of the scheduler until the client is dropped and nothing remains to be released,
/// or until the runtime ends.
///
/// A runtime may end before it has polled this once. That ends the renewer as well.
pub(super) fn run(core: Arc<Client>) -> impl Future<Output = ()> + Send {
    keep(RenewerGuard(core))
}

async fn keep(keeping: RenewerGuard) {
    let core = &keeping.0;
    let mut tasks = JoinSet::new();
    let mut clock_sync = ClockSync::new(clock::monotonic());
    let mut watch = TimeoutWatch::new(core);
    loop {
        // Read before the scheduler is, so that no notification is missed.
        let seen = core.node.wake.generation();
        // Finished tasks are not needed any more.
        while tasks.try_join_next().is_some() {}
        if core.node.connections.quiet.swap(false, Ordering::AcqRel) {
            for seat in core.node.connections.send_quiet() {
                tasks.spawn(async move { seat.connection.send_quiet().await });
            }
        }
        let now = clock::monotonic();
        let mut until = match core.node.scheduler.next_action(now) {
            SchedulerAction::Exit => return,
            SchedulerAction::Job(job) => {
                let core = Arc::clone(core);
                tasks.spawn(async move { core.clean_up(&job, &mut PauseMode::Sleep).await });
                continue;
            }
            SchedulerAction::Renew(batch) => {
                let core = Arc::clone(core);
                tasks.spawn(async move { core.renew(&batch).await });
                continue;
            }
            SchedulerAction::Sleep { until } => until,
        };
        if let Some(look) = watch.look(core, now) {
            until = until.min(look);
        }
        if let Some(due) = clock_sync.due(&core.node, !core.queues.are_empty(), now) {
            if due <= now {
                clock_sync.begin(now);
                let core = Arc::clone(core);
                tasks.spawn(async move { core.sync_clock().await });
                continue;
            }
            until = until.min(due);
        }
        let mut woken = pin!(core.node.wake.changed(seen));
        // The timer stands still while the machine is suspended, leases do not. A year replaces an
        // unlimited wait, which the timer does not have.
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

/// Schedules the release again after a quiet release that was refused or not answered.
fn retry_release(core: &Client, subject: ReplyObserver) {
    let Ok(lock) = subject.downcast::<LockState>() else {
        return;
    };
    lock.emit_quiet_failure();
    core.schedule_release(&lock);
}

/// Watches the outstanding flights, as long as there are any.
struct TimeoutWatch {
    /// The time between two checks.
    period: Duration,
    /// The instant of the next check; `None` when nothing is watched.
    next: Option<Instant>,
}

impl TimeoutWatch {
    fn new(core: &Client) -> Self {
        let period = core.node.config.operation_timeout / LOOKS;
        Self {
            period: period.max(Duration::from_millis(1)),
            next: None,
        }
    }

    /// Checks the flights if a check is due. Returns when the next one is due.
    fn look(&mut self, core: &Client, now: Instant) -> Option<Instant> {
        let due = match self.next {
            Some(next) => next <= now,
            None => core.node.connections.watch.load(Ordering::Relaxed),
        };
        if due {
            // Before the check: a caller that begins a flight after it notifies the renewer again.
            core.node.connections.watch.store(false, Ordering::Release);
            let mut undone = Vec::new();
            let busy = core.node.connections.watch(&mut undone);
            undone
                .into_iter()
                .for_each(|subject| retry_release(core, subject));
            if busy {
                core.node.connections.watch.store(true, Ordering::Release);
            }
            let watched = busy || core.node.connections.watch.load(Ordering::Relaxed);
            self.next = watched.then(|| now.after(self.period));
        }
        self.next
    }
}
