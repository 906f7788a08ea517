//! Those who wait for the same lock in this process, in the order in which they came.
//!
//! Only the first of them asks the server, and not even that one for as long as the lock is held
//! in this process: who holds it hands it on.

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

/// How often in a row a lock is handed on before other processes get a chance.
const MAX_HANDOFFS: u32 = 64;

/// How long the first in the line then leaves the lock alone. Others who see a lock change hands
/// look at it about every millisecond.
const YIELD_DURATION: Duration = Duration::from_millis(2);

/// The lines of a client, by the key of their lock.
#[derive(Debug)]
pub(crate) struct WaitQueues {
    map: Mutex<QueueMap>,
    /// How many lines there are, for those who would find none. Written under `lines`.
    count: AtomicUsize,
}

#[derive(Debug)]
struct QueueMap {
    by_key: HashMap<Key, WaitQueue>,
    /// How many have ever joined one.
    joined: u64,
    /// What lines and places leave for later ones, so that waiting allocates nothing.
    spare_queues: Vec<VecDeque<Waiter>>,
    spare_notifiers: Vec<Arc<Notify>>,
}

/// How much is kept for later.
const SPARE: usize = 64;

/// Lines are found by the bytes of the lock's key.
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

/// A line. There is somebody in it, always.
#[derive(Debug)]
struct WaitQueue {
    /// Who holds the lock in this process, as far as is known. The lock may be lost by now.
    holder: Option<Arc<LockState>>,
    /// What a holder has handed on to the first one, who can take it.
    handoff: Option<Arc<LockState>>,
    waiting: VecDeque<Waiter>,
    /// How often in a row the lock was handed on.
    handoffs: u32,
    /// Before this, the first one leaves the lock to others.
    yield_until: Instant,
    /// Asking the server has failed. Each of them asks by himself then, or the last one would be
    /// told only after all the others.
    bypassed: bool,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    notifier: Arc<Notify>,
    /// Whether the lock can be handed on to him.
    accepts_handoff: bool,
}

/// A place in a line, to be given back by [`WaitQueues::leave`].
#[derive(Debug)]
pub(crate) struct WaiterHandle {
    number: u64,
    pub(crate) notifier: Arc<Notify>,
    /// The notifier has other users, and is not for the next waiter.
    is_shared: bool,
}

/// What somebody in a line may do.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Wait for news, and until this instant at most.
    Wait(Option<Instant>),
    /// Ask the server, not before this instant.
    Contend(Instant),
    /// Replace the record of this lock, which was handed on.
    Handoff(Arc<LockState>),
}

/// Why somebody leaves a line.
#[derive(Debug)]
pub(crate) enum Departure {
    /// With the lock, at this instant.
    Acquired(Arc<LockState>, Instant),
    /// The server does not answer, or cannot serve.
    Failed,
    /// For reasons of his own.
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

    fn lines(&self) -> MutexGuard<'_, QueueMap> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits for anything, which is what most who come and go find.
    pub(crate) fn are_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether somebody waits for this lock.
    pub(crate) fn has_waiters(&self, keys: &LockKeys) -> bool {
        !self.are_empty() && self.lines().by_key.contains_key(keys.lock().as_bytes())
    }

    /// Takes the last place in the line for a lock. `inherits` says whether the lock can be handed
    /// on to who comes, `holder` who holds it in this process.
    pub(crate) fn join(
        &self,
        keys: &LockKeys,
        inherits: bool,
        shared: Option<&Arc<Notify>>,
        holder: impl FnOnce() -> Option<Arc<LockState>>,
    ) -> WaiterHandle {
        let mut lines = self.lines();
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
                    // A line that has emptied between two holders is still the same row.
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

    /// What who has this place may do now.
    pub(crate) fn turn(&self, keys: &LockKeys, place: &WaiterHandle, now: Instant) -> Turn {
        let mut lines = self.lines();
        let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) else {
            return Turn::Contend(now);
        };
        let first = line.waiting.front();
        if first.is_none_or(|first| first.number != place.number) {
            return match line.bypassed {
                true => Turn::Contend(now),
                false => Turn::Wait(None),
            };
        }
        if let Some(estate) = line.handoff.take() {
            return Turn::Handoff(estate);
        }
        if let Some(holder) = &line.holder {
            let held = &**holder;
            // What it is over by is told to others than those who stand in line.
            if !held.remaining(now).is_zero() {
                return Turn::Wait(Some(held.valid_until()));
            }
            line.holder = None;
        }
        Turn::Contend(line.yield_until)
    }

    /// Gives a place back. Returns what was handed on to a waiter that does not want it, where the
    /// next one cannot take it or there is none: it is to be released.
    pub(crate) fn leave(
        &self,
        keys: &LockKeys,
        place: WaiterHandle,
        how: Departure,
    ) -> Option<Arc<LockState>> {
        let key = keys.lock().as_bytes();
        let mut lines = self.lines();
        if !place.is_shared && lines.spare_notifiers.len() < SPARE {
            // It may be told once more what was meant for the one before, and looks again then.
            lines.spare_notifiers.push(place.notifier);
        }
        let line = lines.by_key.get_mut(key)?;
        let index = line.waiting.iter();
        let index = index.take_while(|waiter| waiter.number < place.number);
        let index = index.count();
        line.waiting.remove(index);
        match how {
            Departure::Acquired(lock, now) => {
                // The server answers again.
                line.bypassed = false;
                let held = &*lock;
                held.set_turns(line.handoffs);
                if held.remaining(now).is_zero() {
                    // It was lost before it got here, and who noticed that has told the one who
                    // leaves. The next one would hear of it only from the guard.
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

    /// Hands a lock, which was ended, on to the first in the line, if there is one who can take it
    /// and it is not time for other processes. Where this returns `false` the lock is to be
    /// released, and [`freed`](Self::freed) to be called after that.
    pub(crate) fn hand_off(&self, keys: &LockKeys, lock: &Arc<LockState>, now: Instant) -> bool {
        if self.are_empty() {
            return false;
        }
        let mut lines = self.lines();
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

    /// A lock was released, or lost: nobody in this process holds it.
    pub(crate) fn notify_free(&self, keys: &LockKeys) {
        if self.are_empty() {
            return;
        }
        let mut lines = self.lines();
        if let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) {
            line.holder = None;
            line.handoffs = 0;
            line.notify_first();
        }
    }

    /// Tells everybody who waits.
    pub(crate) fn notify_all(&self) {
        for line in self.lines().by_key.values() {
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

    /// A waiter, and which of its notifications the test has seen.
    struct TestWaiter {
        handle: WaiterHandle,
        seen: Cell<u64>,
    }

    impl TestWaiter {
        /// Whether it was notified since this was last asked.
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

    /// A line of two; `second_inherits` says whether the second one can take what is handed on.
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

    /// Between the grant and the leaving of the line, the lock may be lost: the server was another
    /// run, or the deadline has passed.
    #[test]
    fn losing_the_lock_on_the_way_out_wakes_the_next() {
        for noticed in [true, false] {
            let (queues, keys, [first, second]) = line_of_two(true);
            let lock = lock();
            let now = if noticed {
                lock.end(LossReason::ServerRestarted);
                // Tells the one who is leaving.
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
    fn a_lock_that_is_held_lets_the_next_sleep_until_it_is_freed() {
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
        // Lost behind that: whoever notices tells the next one.
        lock.end(LossReason::ServerRestarted);
        queues.notify_free(&keys);
        assert!(second.take());
        let standing = queues.turn(&keys, &second.handle, at(2));
        assert!(matches!(standing, Turn::Contend(_)), "{standing:?}");
    }

    /// A lean lock cannot be made of one with a record.
    #[test]
    fn what_the_next_cannot_take_is_to_be_released() {
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

    /// Of two that take turns with a rest, none waits whenever the other has just got the lock.
    #[test]
    fn a_line_that_empties_between_counts_on() {
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
        // Then the next row begins.
        let next = lock();
        queues.leave(&keys, place, Departure::Acquired(Arc::clone(&next), at(5)));
        assert_eq!(next.turns(), 0);
    }

    #[test]
    fn a_line_closes_up_again_when_the_server_answers() {
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
