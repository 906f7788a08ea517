//! Notifications for tasks and threads alike: the state has changed, and the waiter must look
//! again.

#[cfg(feature = "blocking")]
use super::clock;
#[cfg(feature = "blocking")]
use crate::proto::Instant;
use core::fmt;
#[cfg(feature = "tokio")]
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "tokio")]
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
#[cfg(feature = "tokio")]
use std::{boxed::Box, vec::Vec};

/// The longest uninterrupted sleep. Timers stand still while the machine is suspended, leases do
/// not: after the wake-up, a waiter looks at the clock within this time.
pub(crate) const STRETCH: Duration = Duration::from_secs(1);

/// An instant further away than this stands for an unlimited wait.
#[cfg(feature = "blocking")]
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Wakes any number of waiters, tasks and threads, when the state has changed.
///
/// A waiter reads the [`generation`](Self::generation) before it checks the condition, so that it
/// misses no change between the check and the wait:
///
/// ```text
/// loop {
///     let seen = notify.generation();
///     if condition { break }
///     notify.changed(seen).await;      // or notify.block(seen, until)
/// }
/// ```
#[derive(Default)]
pub(crate) struct Notify {
    /// The number of notifications. Written under the mutex.
    generation: AtomicU64,
    waiters: Mutex<Waiters>,
    threads: Condvar,
    /// Another notifier, which is notified along with this one.
    chained: OnceLock<Arc<Self>>,
}

#[derive(Default)]
struct Waiters {
    #[cfg(feature = "tokio")]
    tasks: Tasks,
    /// The number of blocked threads. Waking none would cost a system call.
    threads: u32,
}

/// The waiting tasks, each with the number of its [`Changed`]. The first one needs no allocation: it
/// is the only one, as a rule. The others are behind a pointer: each held lock has a place for them.
#[cfg(feature = "tokio")]
#[derive(Default)]
struct Tasks {
    first: Option<(u64, Waker)>,
    #[expect(
        clippy::box_collection,
        reason = "a third of the size where there are none"
    )]
    others: Option<Box<Vec<(u64, Waker)>>>,
    last_number: u64,
}

#[cfg(feature = "tokio")]
impl Tasks {
    fn find(&mut self, number: u64) -> Option<&mut Waker> {
        let others = self.others.iter_mut().flat_map(|others| others.iter_mut());
        let mut tasks = self.first.iter_mut().chain(others);
        tasks.find_map(|(other, waker)| (*other == number).then_some(waker))
    }

    fn add(&mut self, waker: Waker) -> u64 {
        self.last_number += 1;
        let task = (self.last_number, waker);
        match &mut self.first {
            None => self.first = Some(task),
            Some(_) => self.others.get_or_insert_default().push(task),
        }
        self.last_number
    }

    /// Returns the waker, for the caller to drop once the mutex is free: its task may go with it.
    fn remove(&mut self, number: u64) -> Option<Waker> {
        let task = self.first.take_if(|(other, _)| *other == number);
        let task = task.or_else(|| {
            let others = self.others.as_mut()?;
            let place = others.iter().position(|(other, _)| *other == number)?;
            Some(others.swap_remove(place))
        });
        task.map(|(_, waker)| waker)
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Notify").field(&self.generation()).finish()
    }
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of notifications so far.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Notifies `other` whenever this one is notified, from now on. Only the first call has an
    /// effect.
    pub(crate) fn chain(&self, other: Arc<Self>) {
        let _ = self.chained.set(other);
    }

    /// Wakes all waiters.
    pub(crate) fn notify(&self) {
        if let Some(other) = self.chained.get() {
            other.notify();
        }
        #[cfg_attr(not(feature = "tokio"), expect(unused_mut, reason = "no tasks"))]
        let mut waiters = self.waiters();
        self.generation.fetch_add(1, Ordering::Release);
        let threads = waiters.threads;
        #[cfg(feature = "tokio")]
        let (first, others) = {
            let tasks = &mut waiters.tasks;
            (tasks.first.take(), tasks.others.take())
        };
        drop(waiters);
        if threads > 0 {
            self.threads.notify_all();
        }
        // Not under the mutex: a waker may poll its task at once.
        #[cfg(feature = "tokio")]
        for (_, waker) in first
            .into_iter()
            .chain(others.into_iter().flat_map(|others| *others))
        {
            waker.wake();
        }
    }

    #[cfg(feature = "tokio")]
    /// Returns a future that completes once there was a notification after `seen`.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) fn changed(&self, seen: u64) -> Changed<'_> {
        Changed {
            notify: self,
            seen,
            number: None,
        }
    }

    #[cfg(feature = "blocking")]
    /// Blocks the thread until there was a notification after `seen`, or until `until`, or less:
    /// the caller checks again.
    pub(crate) fn block(&self, seen: u64, until: Option<Instant>) {
        let length = until.map(|until| until.since(clock::monotonic()));
        if length.is_some_and(|length| length.is_zero()) {
            return;
        }
        let mut waiters = self.waiters();
        if self.generation() != seen {
            return;
        }
        waiters.threads += 1;
        let mut waiters = match length.filter(|length| *length <= NEVER) {
            Some(length) => {
                let woken = self.threads.wait_timeout(waiters, length.min(STRETCH));
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let woken = self.threads.wait(waiters);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
        };
        waiters.threads -= 1;
    }
}

#[cfg(feature = "tokio")]
/// The future of [`Notify::changed`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Changed<'a> {
    notify: &'a Notify,
    seen: u64,
    /// The number under which a waker is registered, if there is one.
    number: Option<u64>,
}

#[cfg(feature = "tokio")]
impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        if notify.generation() != self.seen {
            return Poll::Ready(());
        }
        let mut waiters = notify.waiters();
        if notify.generation() != self.seen {
            return Poll::Ready(());
        }
        let tasks = &mut waiters.tasks;
        match self.number.and_then(|number| tasks.find(number)) {
            Some(waker) => {
                let old = core::mem::replace(waker, cx.waker().clone());
                drop(waiters);
                drop(old);
            }
            None => self.number = Some(tasks.add(cx.waker().clone())),
        }
        Poll::Pending
    }
}

#[cfg(feature = "tokio")]
impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.notify.waiters().tasks.remove(number);
            drop(waker);
        }
    }
}

#[cfg(all(test, feature = "tokio", feature = "blocking"))]
mod tests {
    use super::*;
    use core::pin::pin;
    use core::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(changed: Pin<&mut Changed<'_>>, woken: &Arc<Counting>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(woken));
        changed.poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn change_before_wait_is_not_missed() {
        let notify = Notify::new();
        let seen = notify.generation();
        notify.notify();
        let began = clock::monotonic();
        notify.block(seen, None);
        notify.block(notify.generation(), Some(began));
        assert!(clock::monotonic().since(began) < LONG);
        let woken = Arc::default();
        assert!(poll(pin!(notify.changed(seen)), &woken).is_ready());
    }

    #[test]
    fn all_threads_are_woken() {
        let notify = Notify::new();
        let seen = notify.generation();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while notify.generation() == seen {
                        notify.block(seen, None);
                    }
                });
            }
            notify.notify();
        });
    }

    #[test]
    fn blocked_wait_ends_in_time() {
        let notify = Notify::new();
        let until = clock::monotonic().after(Duration::from_millis(20));
        while clock::monotonic() < until {
            notify.block(notify.generation(), Some(until));
        }
    }

    #[test]
    fn all_tasks_are_woken_once() {
        let notify = Notify::new();
        let seen = notify.generation();
        let (first, second) = (Arc::default(), Arc::default());
        let mut one = pin!(notify.changed(seen));
        let mut other = pin!(notify.changed(seen));
        assert!(poll(one.as_mut(), &first).is_pending());
        assert!(poll(one.as_mut(), &first).is_pending(), "polled again");
        assert!(poll(other.as_mut(), &second).is_pending());
        notify.notify();
        notify.notify();
        assert_eq!(first.0.load(Ordering::Relaxed), 1);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        assert!(poll(one, &first).is_ready());
        assert!(poll(other, &second).is_ready());
    }

    #[test]
    fn dropped_wait_leaves_no_waker() {
        let notify = Notify::new();
        let woken = Arc::default();
        {
            let mut changed = pin!(notify.changed(notify.generation()));
            assert!(poll(changed.as_mut(), &woken).is_pending());
        }
        assert!(notify.waiters().tasks.first.is_none());
        notify.notify();
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn chained_notify_is_notified_too() {
        let (notify, chained) = (Notify::new(), Arc::new(Notify::new()));
        notify.chain(Arc::clone(&chained));
        notify.notify();
        assert_eq!(chained.generation(), 1);
    }
}
