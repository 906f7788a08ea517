//! The waiters for the same lock in this process, in the order of their arrival.
//!
//! Only the first of them contends at the server, and not while the lock is held in this process:
//! the holder hands it off.

use super::lock_state::LockState;
use super::notify::Notify;
use crate::proto::{Instant, LockKeys};
use core::borrow::Borrow;
use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// The maximum number of handoffs in a row, before other processes get a chance.
const MAX_HANDOFFS: u32 = 64;

/// The time for which the first waiter then leaves the lock alone. Contenders that see a lock
/// change hands look at it about every millisecond.
const YIELD_DURATION: Duration = Duration::from_millis(2);

/// The wait queues of a client, by the key of their lock.
#[derive(Debug)]
pub(crate) struct WaitQueues {
    map: Mutex<QueueMap>,
    /// The number of queues, for callers that would find none. Written under `map`.
    count: AtomicUsize,
}

#[derive(Debug)]
struct QueueMap {
    by_key: HashMap<Key, WaitQueue>,
    /// The number of waiters that have ever joined a queue.
    joined: u64,
    /// Allocations of earlier queues and waiters, so that waiting allocates nothing.
    spare_queues: Vec<VecDeque<Waiter>>,
    spare_notifiers: Vec<Arc<Notify>>,
}

/// The maximum number of each that is kept.
const SPARE: usize = 64;

/// Finds the queues by the bytes of the lock's key.
#[derive(Debug)]
struct Key(LockKeys);

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.0.lock().as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<[u8]>::borrow(self) == Borrow::<[u8]>::borrow(other)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(state);
    }
}

/// A queue. It has at least one waiter.
#[derive(Debug)]
struct WaitQueue {
    /// The holder of the lock in this process, as far as is known. It may have lost the lock by
    /// now.
    holder: Option<Arc<LockState>>,
    /// A lock that its holder handed off to the first waiter, which can take it over.
    handoff: Option<Arc<LockState>>,
    waiting: VecDeque<Waiter>,
    /// The number of handoffs of the lock in a row.
    handoffs: u32,
    /// Before this, the first waiter leaves the lock to other processes.
    yield_until: Instant,
    /// A request to the server has failed. Each waiter contends by itself then; otherwise the last
    /// one would learn of the failure only after all the others.
    bypassed: bool,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    notifier: Arc<Notify>,
    /// The lock can be handed off to this waiter.
    accepts_handoff: bool,
}

/// A waiter's entry in a queue, to be returned by [`WaitQueues::leave`].
#[derive(Debug)]
pub(crate) struct WaiterHandle {
    number: u64,
    pub(crate) notifier: Arc<Notify>,
    /// The notifier has other users, and is not for the next waiter.
    is_shared: bool,
}

/// The next step of a waiter.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Wait for a notification, and until this instant at most.
    Wait(Option<Instant>),
    /// Contend at the server, not before this instant.
    Contend(Instant),
    /// Take over this lock's record from its releasing holder.
    Handoff(Arc<LockState>),
}

/// The reason for which a waiter leaves its queue.
#[derive(Debug)]
pub(crate) enum Departure {
    /// It acquired the lock, at this instant.
    Acquired(Arc<LockState>, Instant),
    /// The server does not reply, or cannot serve.
    Failed,
    /// Its caller ended the wait.
    GaveUp,
}

impl WaitQueue {
    fn notify_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.notifier.notify();
        }
    }
}

impl WaitQueues {
    pub(crate) fn new() -> Self {
        Self {
            map: Mutex::new(QueueMap {
                by_key: HashMap::new(),
                joined: 0,
                spare_queues: Vec::new(),
                spare_notifiers: Vec::new(),
            }),
            count: AtomicUsize::new(0),
        }
    }

    fn map(&self) -> MutexGuard<'_, QueueMap> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether there is no waiter at all, the usual case.
    pub(crate) fn are_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Returns whether this lock has a waiter.
    pub(crate) fn has_waiters(&self, keys: &LockKeys) -> bool {
        !self.are_empty() && self.map().by_key.contains_key(keys.lock().as_bytes())
    }

    /// Joins the queue for a lock at its end. `accepts_handoff` says whether the lock can be handed off to
    /// the new waiter, `holder` is its holder in this process.
    pub(crate) fn join(
        &self,
        keys: &LockKeys,
        accepts_handoff: bool,
        shared: Option<&Arc<Notify>>,
        holder: impl FnOnce() -> Option<Arc<LockState>>,
    ) -> WaiterHandle {
        let mut map = self.map();
        let map = &mut *map;
        map.joined += 1;
        let number = map.joined;
        let notifier = match shared {
            Some(shared) => Arc::clone(shared),
            None => map.spare_notifiers.pop().unwrap_or_default(),
        };
        let waiter = Waiter {
            number,
            notifier: Arc::clone(&notifier),
            accepts_handoff,
        };
        match map.by_key.get_mut(keys.lock().as_bytes()) {
            Some(queue) => queue.waiting.push_back(waiter),
            None => {
                let mut waiting = map.spare_queues.pop().unwrap_or_default();
                waiting.push_back(waiter);
                let holder = holder();
                let queue = WaitQueue {
                    // A queue that was empty between two holders continues the same row.
                    handoffs: holder.as_ref().map_or(0, |lock| lock.handoffs()),
                    holder,
                    handoff: None,
                    waiting,
                    yield_until: Instant::from_nanos(0),
                    bypassed: false,
                };
                map.by_key.insert(Key(keys.clone()), queue);
                self.count.store(map.by_key.len(), Ordering::Release);
            }
        }
        WaiterHandle {
            number,
            notifier,
            is_shared: shared.is_some(),
        }
    }

    /// Returns the next step of this waiter.
    pub(crate) fn turn(&self, keys: &LockKeys, handle: &WaiterHandle, now: Instant) -> Turn {
        let mut map = self.map();
        let Some(queue) = map.by_key.get_mut(keys.lock().as_bytes()) else {
            return Turn::Contend(now);
        };
        let first = queue.waiting.front();
        if first.is_none_or(|first| first.number != handle.number) {
            return if queue.bypassed {
                Turn::Contend(now)
            } else {
                Turn::Wait(None)
            };
        }
        if let Some(lock) = queue.handoff.take() {
            return Turn::Handoff(lock);
        }
        if let Some(holder) = &queue.holder {
            let held = &**holder;
            // The end of a held lock does not always notify the waiters of the queue, so the
            // deadline is read here.
            if !held.remaining(now).is_zero() {
                return Turn::Wait(Some(held.valid_until()));
            }
            queue.holder = None;
        }
        Turn::Contend(queue.yield_until)
    }

    /// Removes a waiter from its queue. Returns the lock that was handed off to a waiter which does
    /// not take it, if the next one cannot take it or there is none: the caller releases it.
    pub(crate) fn leave(
        &self,
        keys: &LockKeys,
        handle: WaiterHandle,
        how: Departure,
    ) -> Option<Arc<LockState>> {
        let key = keys.lock().as_bytes();
        let mut map = self.map();
        if !handle.is_shared && map.spare_notifiers.len() < SPARE {
            // It may get one more notification that was meant for the former waiter, and looks
            // again then.
            map.spare_notifiers.push(handle.notifier);
        }
        let queue = map.by_key.get_mut(key)?;
        let index = queue.waiting.iter();
        let index = index.take_while(|waiter| waiter.number < handle.number);
        let index = index.count();
        queue.waiting.remove(index);
        match how {
            Departure::Acquired(lock, now) => {
                // The server replies again.
                queue.bypassed = false;
                let held = &*lock;
                held.set_handoffs(queue.handoffs);
                if held.remaining(now).is_zero() {
                    // It was lost before it got here, and its end notified the waiter that leaves.
                    // The next waiter would learn of it only from the guard.
                    queue.notify_first();
                } else {
                    queue.holder = Some(lock);
                }
            }
            Departure::Failed => {
                queue.bypassed = true;
                queue
                    .waiting
                    .iter()
                    .for_each(|waiter| waiter.notifier.notify());
            }
            Departure::GaveUp if index == 0 => queue.notify_first(),
            Departure::GaveUp => {}
        }
        if let Some(first) = queue.waiting.front() {
            return queue.handoff.take_if(|_| !first.accepts_handoff);
        }
        let queue = map.by_key.remove(key)?;
        self.count.store(map.by_key.len(), Ordering::Release);
        if map.spare_queues.len() < SPARE {
            map.spare_queues.push(queue.waiting);
        }
        queue.handoff
    }

    /// Hands a lock, which was ended, off to the first waiter, if that can take it and it is not
    /// the turn of other processes. If this returns `false`, the caller releases the lock and then
    /// calls [`notify_free`](Self::notify_free).
    pub(crate) fn hand_off(&self, keys: &LockKeys, lock: &Arc<LockState>, now: Instant) -> bool {
        if self.are_empty() {
            return false;
        }
        let mut map = self.map();
        let Some(queue) = map.by_key.get_mut(keys.lock().as_bytes()) else {
            return false;
        };
        if queue.handoffs >= MAX_HANDOFFS {
            queue.handoffs = 0;
            queue.yield_until = now.after(YIELD_DURATION);
            return false;
        }
        if queue.handoff.is_some()
            || !queue
                .waiting
                .front()
                .is_some_and(|first| first.accepts_handoff)
        {
            return false;
        }
        queue.handoffs += 1;
        queue.holder = None;
        queue.handoff = Some(Arc::clone(lock));
        queue.notify_first();
        true
    }

    /// Records that a lock was released or lost, so that no caller in this process holds it.
    pub(crate) fn notify_free(&self, keys: &LockKeys) {
        if self.are_empty() {
            return;
        }
        let mut map = self.map();
        if let Some(queue) = map.by_key.get_mut(keys.lock().as_bytes()) {
            queue.holder = None;
            queue.handoffs = 0;
            queue.notify_first();
        }
    }

    /// Notifies all waiters.
    pub(crate) fn notify_all(&self) {
        for queue in self.map().by_key.values() {
            queue
                .waiting
                .iter()
                .for_each(|waiter| waiter.notifier.notify());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lock_state::tests::{at, held};
    use super::*;
    use crate::proto::LossReason;
    use core::cell::Cell;

    /// A waiter, and the notifications of it that the test has seen.
    struct TestWaiter {
        handle: WaiterHandle,
        seen: Cell<u64>,
    }

    impl TestWaiter {
        /// Returns whether it was notified since the last call.
        fn take(&self) -> bool {
            let now = self.handle.notifier.generation();
            self.seen.replace(now) != now
        }
    }

    fn join(queues: &WaitQueues, keys: &LockKeys, accepts_handoff: bool) -> TestWaiter {
        let handle = queues.join(keys, accepts_handoff, None, || None);
        let seen = Cell::new(handle.notifier.generation());
        TestWaiter { handle, seen }
    }

    fn lock() -> Arc<LockState> {
        Arc::new(held())
    }

    /// A queue of two; `second_inherits` says whether the second waiter can take a lock that is
    /// handed off.
    fn line_of_two(second_inherits: bool) -> (WaitQueues, LockKeys, [TestWaiter; 2]) {
        let (queues, keys) = (WaitQueues::new(), held().keys);
        let first = join(&queues, &keys, true);
        let second = join(&queues, &keys, second_inherits);
        assert!(matches!(
            queues.turn(&keys, &first.handle, at(1)),
            Turn::Contend(_)
        ));
        assert!(matches!(
            queues.turn(&keys, &second.handle, at(1)),
            Turn::Wait(None)
        ));
        (queues, keys, [first, second])
    }

    /// Between the grant and the leaving of the queue, the lock may be lost: another server
    /// instance is there, or the deadline has passed.
    #[test]
    fn loss_while_leaving_wakes_next() {
        for noticed in [true, false] {
            let (queues, keys, [first, second]) = line_of_two(true);
            let lock = lock();
            let now = if noticed {
                lock.end(LossReason::ServerRestarted);
                // Notifies the waiter that leaves.
                queues.notify_free(&keys);
                assert!(!second.take());
                at(2)
            } else {
                lock.valid_until()
            };
            let unwanted = queues.leave(&keys, first.handle, Departure::Acquired(lock, now));
            assert!(unwanted.is_none());
            assert!(second.take(), "noticed: {noticed}");
            let standing = queues.turn(&keys, &second.handle, now);
            assert!(matches!(standing, Turn::Contend(_)), "{standing:?}");
        }
    }

    #[test]
    fn held_lock_lets_waiter_sleep() {
        let (queues, keys, [first, second]) = line_of_two(true);
        let lock = lock();
        let until = lock.valid_until();
        queues.leave(
            &keys,
            first.handle,
            Departure::Acquired(Arc::clone(&lock), at(2)),
        );
        assert!(!second.take());
        let standing = queues.turn(&keys, &second.handle, at(2));
        assert!(matches!(standing, Turn::Wait(Some(end)) if end == until));
        // Lost after that: the end of the lock notifies the next waiter.
        lock.end(LossReason::ServerRestarted);
        queues.notify_free(&keys);
        assert!(second.take());
        let standing = queues.turn(&keys, &second.handle, at(2));
        assert!(matches!(standing, Turn::Contend(_)), "{standing:?}");
    }

    /// A lock with a record cannot be handed off as one without a record.
    #[test]
    fn unusable_handoff_is_released() {
        for accepts_handoff in [true, false] {
            let (queues, keys, [first, second]) = line_of_two(accepts_handoff);
            let lock = lock();
            assert!(queues.hand_off(&keys, &lock, at(2)));
            assert!(first.take());
            let unwanted = queues.leave(&keys, first.handle, Departure::GaveUp);
            assert_eq!(unwanted.is_some(), !accepts_handoff);
            assert!(second.take());
            let standing = queues.turn(&keys, &second.handle, at(2));
            assert_eq!(matches!(standing, Turn::Handoff(_)), accepts_handoff);
            assert_eq!(matches!(standing, Turn::Contend(_)), !accepts_handoff);
        }
    }

    /// Of two waiters that pause and contend in turn, none waits each time the other has just
    /// acquired the lock.
    #[test]
    fn emptied_queue_keeps_handoff_count() {
        let (queues, keys) = (WaitQueues::new(), held().keys);
        let mut holder = lock();
        for _ in 0..MAX_HANDOFFS {
            let now = Arc::clone(&holder);
            let handle = queues.join(&keys, true, None, || Some(now));
            assert!(queues.hand_off(&keys, &holder, at(2)));
            holder = lock();
            queues.leave(
                &keys,
                handle,
                Departure::Acquired(Arc::clone(&holder), at(2)),
            );
            assert!(queues.are_empty());
        }
        let now = Arc::clone(&holder);
        let handle = queues.join(&keys, true, None, || Some(now));
        assert!(!queues.hand_off(&keys, &holder, at(2)));
        queues.notify_free(&keys);
        let standing = queues.turn(&keys, &handle, at(2));
        assert!(matches!(standing, Turn::Contend(from) if from == at(2).after(YIELD_DURATION)));
        // Then the next row of handoffs begins.
        let next = lock();
        queues.leave(&keys, handle, Departure::Acquired(Arc::clone(&next), at(5)));
        assert_eq!(next.handoffs(), 0);
    }

    #[test]
    fn queue_reforms_when_server_answers() {
        let (queues, keys, [first, second]) = line_of_two(true);
        let third = join(&queues, &keys, true);
        queues.leave(&keys, first.handle, Departure::Failed);
        assert!(second.take() && third.take());
        let standing = queues.turn(&keys, &third.handle, at(1));
        assert!(matches!(standing, Turn::Contend(_)), "{standing:?}");
        let fourth = join(&queues, &keys, true);
        queues.leave(&keys, third.handle, Departure::Acquired(lock(), at(1)));
        let standing = queues.turn(&keys, &fourth.handle, at(1));
        assert!(matches!(standing, Turn::Wait(None)), "{standing:?}");
        let standing = queues.turn(&keys, &second.handle, at(1));
        assert!(matches!(standing, Turn::Wait(Some(_))), "{standing:?}");
    }
}
