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
    /// The number of queues, for callers that would find none. Written under `lines`.
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
    Cancelled,
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

    /// Joins the queue for a lock at its end. `inherits` says whether the lock can be handed off to
    /// the new waiter, `holder` is its holder in this process.
    pub(crate) fn join(
        &self,
        keys: &LockKeys,
        inherits: bool,
        shared: Option<&Arc<Notify>>,
        holder: impl FnOnce() -> Option<Arc<LockState>>,
    ) -> WaiterHandle {
        let mut lines = self.map();
        let lines = &mut *lines;
        lines.joined += 1;
        let number = lines.joined;
        let news = match shared {
            Some(shared) => Arc::clone(shared),
            None => lines.spare_notifiers.pop().unwrap_or_default(),
        };
        let waiter = Waiter {
            number,
            notifier: Arc::clone(&news),
            accepts_handoff: inherits,
        };
        match lines.by_key.get_mut(keys.lock().as_bytes()) {
            Some(line) => line.waiting.push_back(waiter),
            None => {
                let mut waiting = lines.spare_queues.pop().unwrap_or_default();
                waiting.push_back(waiter);
                let holder = holder();
                let line = WaitQueue {
                    // A queue that was empty between two holders continues the same row.
                    handoffs: holder.as_ref().map_or(0, |lock| lock.turns()),
                    holder,
                    handoff: None,
                    waiting,
                    yield_until: Instant::from_nanos(0),
                    bypassed: false,
                };
                lines.by_key.insert(Key(keys.clone()), line);
                self.count.store(lines.by_key.len(), Ordering::Release);
            }
        }
        WaiterHandle {
            number,
            notifier: news,
            is_shared: shared.is_some(),
        }
    }

    /// Returns the next step of this waiter.
    pub(crate) fn turn(&self, keys: &LockKeys, place: &WaiterHandle, now: Instant) -> Turn {
        let mut lines = self.map();
        let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) else {
            return Turn::Contend(now);
        };
        let first = line.waiting.front();
        if first.is_none_or(|first| first.number != place.number) {
            return if line.bypassed {
                Turn::Contend(now)
            } else {
                Turn::Wait(None)
            };
        }
        if let Some(estate) = line.handoff.take() {
            return Turn::Handoff(estate);
        }
        if let Some(holder) = &line.holder {
            let held = &**holder;
            // The end of a held lock does not always notify the waiters of the queue, so the
            // deadline is read here.
            if !held.remaining(now).is_zero() {
                return Turn::Wait(Some(held.valid_until()));
            }
            line.holder = None;
        }
        Turn::Contend(line.yield_until)
    }

    /// Removes a waiter from its queue. Returns the lock that was handed off to a waiter which does
    /// not take it, if the next one cannot take it or there is none: the caller releases it.
    pub(crate) fn leave(
        &self,
        keys: &LockKeys,
        place: WaiterHandle,
        how: Departure,
    ) -> Option<Arc<LockState>> {
        let key = keys.lock().as_bytes();
        let mut lines = self.map();
        if !place.is_shared && lines.spare_notifiers.len() < SPARE {
            // It may get one more notification that was meant for the former waiter, and looks
            // again then.
            lines.spare_notifiers.push(place.notifier);
        }
        let line = lines.by_key.get_mut(key)?;
        let index = line.waiting.iter();
        let index = index.take_while(|waiter| waiter.number < place.number);
        let index = index.count();
        line.waiting.remove(index);
        match how {
            Departure::Acquired(lock, now) => {
                // The server replies again.
                line.bypassed = false;
                let held = &*lock;
                held.set_handoffs(line.handoffs);
                if held.remaining(now).is_zero() {
                    // It was lost before it got here, and its end notified the waiter that leaves.
                    // The next waiter would learn of it only from the guard.
                    line.notify_first();
                } else {
                    line.holder = Some(lock);
                }
            }
            Departure::Failed => {
                line.bypassed = true;
                line.waiting
                    .iter()
                    .for_each(|waiter| waiter.notifier.notify());
            }
            Departure::Cancelled if index == 0 => line.notify_first(),
            Departure::Cancelled => {}
        }
        if let Some(first) = line.waiting.front() {
            return line.handoff.take_if(|_| !first.accepts_handoff);
        }
        let line = lines.by_key.remove(key)?;
        self.count.store(lines.by_key.len(), Ordering::Release);
        if lines.spare_queues.len() < SPARE {
            lines.spare_queues.push(line.waiting);
        }
        line.handoff
    }

    /// Hands a lock, which was ended, off to the first waiter, if that can take it and it is not
    /// the turn of other processes. If this returns `false`, the caller releases the lock and then
    /// calls [`notify_free`](Self::notify_free).
    pub(crate) fn hand_off(&self, keys: &LockKeys, lock: &Arc<LockState>, now: Instant) -> bool {
        if self.are_empty() {
            return false;
        }
        let mut lines = self.map();
        let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) else {
            return false;
        };
        if line.handoffs >= MAX_HANDOFFS {
            line.handoffs = 0;
            line.yield_until = now.after(YIELD_DURATION);
            return false;
        }
        if line.handoff.is_some()
            || !line
                .waiting
                .front()
                .is_some_and(|first| first.accepts_handoff)
        {
            return false;
        }
        line.handoffs += 1;
        line.holder = None;
        line.handoff = Some(Arc::clone(lock));
        line.notify_first();
        true
    }

    /// Records that a lock was released or lost, so that no caller in this process holds it.
    pub(crate) fn notify_free(&self, keys: &LockKeys) {
        if self.are_empty() {
            return;
        }
        let mut lines = self.map();
        if let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) {
            line.holder = None;
            line.handoffs = 0;
            line.notify_first();
        }
    }

    /// Notifies all waiters.
    pub(crate) fn notify_all(&self) {
        for line in self.map().by_key.values() {
            line.waiting
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
        for inherits in [true, false] {
            let (queues, keys, [first, second]) = line_of_two(inherits);
            let lock = lock();
            assert!(queues.hand_off(&keys, &lock, at(2)));
            assert!(first.take());
            let unwanted = queues.leave(&keys, first.handle, Departure::Cancelled);
            assert_eq!(unwanted.is_some(), !inherits);
            assert!(second.take());
            let standing = queues.turn(&keys, &second.handle, at(2));
            assert_eq!(matches!(standing, Turn::Handoff(_)), inherits);
            assert_eq!(matches!(standing, Turn::Contend(_)), !inherits);
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
            let place = queues.join(&keys, true, None, || Some(now));
            assert!(queues.hand_off(&keys, &holder, at(2)));
            holder = lock();
            queues.leave(
                &keys,
                place,
                Departure::Acquired(Arc::clone(&holder), at(2)),
            );
            assert!(queues.are_empty());
        }
        let now = Arc::clone(&holder);
        let place = queues.join(&keys, true, None, || Some(now));
        assert!(!queues.hand_off(&keys, &holder, at(2)));
        queues.notify_free(&keys);
        let standing = queues.turn(&keys, &place, at(2));
        assert!(matches!(standing, Turn::Contend(from) if from == at(2).after(YIELD_DURATION)));
        // Then the next row of handoffs begins.
        let next = lock();
        queues.leave(&keys, place, Departure::Acquired(Arc::clone(&next), at(5)));
        assert_eq!(next.turns(), 0);
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
