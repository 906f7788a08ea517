//! What a keeper has to do: which locks to renew when, and which to give back.

use super::held::Held;
use crate::lock::{Leftover, LockKeys, LossReason, Moment};
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// The most locks that one flight renews: what is in flight stays small, and a slow answer holds
/// up few.
const BATCH: usize = 32;

/// The locks a client holds, and the work that was left for its keeper.
///
/// Locks come and go by index, without allocating once the table has its size: whoever leaves
/// leaves an allocation for the next one.
#[derive(Debug)]
pub(crate) struct Registry<L> {
    inner: Mutex<Inner<L>>,
    /// Nothing is acquired any more. Written under `inner`.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Inner<L> {
    entries: Vec<Entry<L>>,
    /// The entries whose guards are gone.
    free: Vec<usize>,
    /// How many entries keep a lock.
    kept: usize,
    jobs: VecDeque<Job<L>>,
    /// Jobs and renewals that were handed out and are not done.
    running: usize,
    /// Locks that were handed on, and of which it is not clear what became of their records.
    handed_on: usize,
    /// When the keeper looks again by itself. Not moved back when entries go: one look too many
    /// is cheaper than a wake-up per lock.
    next_look: Moment,
    /// The client is gone.
    abandoned: bool,
    /// How many groups there were.
    groups: u64,
}

#[derive(Debug)]
struct Entry<L> {
    /// The lock, or one that was here before.
    lock: Arc<L>,
    kept: bool,
    /// When to renew; `None` while a renewal is under way, or where nothing is kept.
    due: Option<Moment>,
    /// Those with the same number are renewed together; 0 is for those on their own.
    group: u64,
}

/// A lock that was taken into keeping.
#[derive(Debug)]
pub(crate) struct Kept<L> {
    pub(crate) lock: Arc<L>,
    pub(crate) index: usize,
    /// The keeper must be woken, to look earlier than it meant to.
    pub(crate) wake: bool,
}

/// Something to be done once.
#[derive(Debug)]
pub(crate) enum Job<L> {
    /// Give back a lock whose guard was dropped.
    Release(Arc<L>),
    /// Take back what an abandoned acquisition may have left.
    Undo {
        name: Arc<str>,
        keys: LockKeys,
        leftover: Leftover,
    },
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Task<L> {
    Job(Job<L>),
    Renew(Vec<(usize, Arc<L>)>),
    Sleep { until: Moment },
    Exit,
}

const NEVER: Moment = Moment::from_nanos(u64::MAX);

impl<L: AsRef<Held>> Registry<L> {
    pub(crate) const fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: Vec::new(),
                free: Vec::new(),
                kept: 0,
                jobs: VecDeque::new(),
                running: 0,
                handed_on: 0,
                next_look: NEVER,
                abandoned: false,
                groups: 0,
            }),
            closed: AtomicBool::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<L>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lock into keeping, or gives it back when the client was shut down.
    pub(crate) fn insert(&self, lock: L, due: Moment) -> Result<Kept<L>, L> {
        let mut inner = self.inner();
        if self.is_closed() {
            return Err(lock);
        }
        inner.kept += 1;
        let due = Some(due);
        let (index, lock) = match inner.free.pop() {
            Some(index) => {
                let entry = &mut inner.entries[index];
                match Arc::get_mut(&mut entry.lock) {
                    Some(place) => *place = lock,
                    // Its guard is just going, or something of it is still under way.
                    None => entry.lock = Arc::new(lock),
                }
                entry.kept = true;
                entry.due = due;
                entry.group = 0;
                (index, Arc::clone(&entry.lock))
            }
            None => {
                let lock = Arc::new(lock);
                inner.entries.push(Entry {
                    lock: Arc::clone(&lock),
                    kept: true,
                    due,
                    group: 0,
                });
                (inner.entries.len() - 1, lock)
            }
        };
        let next_look = inner.next_look;
        inner.next_look = due.map_or(next_look, |due| next_look.min(due));
        let wake = inner.next_look < next_look;
        Ok(Kept { lock, index, wake })
    }

    /// Ends the keeping of a lock, if it is still kept: the place may have another by now. Returns
    /// whether it was.
    pub(crate) fn remove(&self, index: usize, lock: &Arc<L>) -> bool {
        let mut inner = self.inner();
        let entry = &mut inner.entries[index];
        let kept = entry.kept && Arc::ptr_eq(&entry.lock, lock);
        if kept {
            entry.kept = false;
            entry.due = None;
            inner.kept -= 1;
        }
        kept
    }

    /// The guard of the lock that was put here is gone: the entry is for the next one.
    pub(crate) fn vacate(&self, index: usize) {
        self.inner().free.push(index);
    }

    /// Leaves work for the keeper, which must be woken.
    pub(crate) fn push(&self, job: Job<L>) {
        self.inner().jobs.push_back(job);
    }

    /// A lock is handed on within the process. Not drained until that is [settled](Self::settled).
    pub(crate) fn hands_on(&self) {
        self.inner().handed_on += 1;
    }

    /// What was handed on is another's now, or the keeper's to release.
    pub(crate) fn settled(&self) {
        self.inner().handed_on -= 1;
    }

    /// The renewal of a lock is over; the next is due then.
    pub(crate) fn reschedule(&self, index: usize, lock: &Arc<L>, due: Moment) {
        let mut inner = self.inner();
        // The guard may be gone, and its place taken by another lock.
        let entry = &mut inner.entries[index];
        if entry.kept && Arc::ptr_eq(&entry.lock, lock) {
            entry.due = Some(due);
        }
    }

    /// Makes the renewal of a lock due at once, unless one is under way. The keeper must be woken.
    pub(crate) fn hasten(&self, index: usize, lock: &Arc<L>) {
        let mut inner = self.inner();
        let entry = &mut inner.entries[index];
        if entry.kept && Arc::ptr_eq(&entry.lock, lock) && entry.due.is_some() {
            entry.due = Some(Moment::from_nanos(0));
        }
    }

    /// From now on these locks are renewed together: as soon as one of them is due, all are.
    pub(crate) fn group<'a>(&self, locks: impl Iterator<Item = (usize, &'a Arc<L>)>)
    where
        L: 'a,
    {
        let mut inner = self.inner();
        inner.groups += 1;
        let group = inner.groups;
        for (index, lock) in locks {
            let entry = &mut inner.entries[index];
            if entry.kept && Arc::ptr_eq(&entry.lock, lock) {
                entry.group = group;
            }
        }
    }

    /// A task that [`next`](Self::next) handed out is done.
    pub(crate) fn finished(&self) {
        self.inner().running -= 1;
    }

    /// Stops acquiring, ends everything that is held, and leaves it to the keeper to give that
    /// back. Returns the locks that were ended.
    pub(crate) fn close(&self) -> Vec<Arc<L>> {
        let mut inner = self.inner();
        self.closed.store(true, Ordering::Release);
        inner.kept = 0;
        let mut locks = Vec::new();
        for entry in &mut inner.entries {
            if core::mem::take(&mut entry.kept) {
                entry.due = None;
                locks.push(Arc::clone(&entry.lock));
            }
        }
        for lock in &locks {
            // Before the release can be sent: whoever holds the guard must not believe in it.
            lock.as_ref().as_ref().end(LossReason::Released);
            inner.jobs.push_back(Job::Release(Arc::clone(lock)));
        }
        locks
    }

    /// The last handle to the client is gone.
    pub(crate) fn abandon(&self) {
        let mut inner = self.inner();
        self.closed.store(true, Ordering::Release);
        inner.abandoned = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether nothing is left to be given back.
    pub(crate) fn is_drained(&self) -> bool {
        let inner = self.inner();
        inner.jobs.is_empty() && inner.running == 0 && inner.handed_on == 0
    }

    /// Whether no lock is in keeping.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_empty(&self) -> bool {
        self.inner().kept == 0
    }

    /// The lock with these keys, if one is in keeping.
    pub(crate) fn find(&self, keys: &LockKeys) -> Option<Arc<L>> {
        let inner = self.inner();
        let mut kept = inner.entries.iter().filter(|entry| entry.kept);
        let found = kept.find(|entry| {
            let held: &Held = (*entry.lock).as_ref();
            held.keys == *keys
        });
        found.map(|entry| Arc::clone(&entry.lock))
    }

    /// How many locks are held.
    pub(crate) fn held(&self, now: Moment) -> usize {
        let inner = self.inner();
        let kept = inner.entries.iter().filter(|entry| entry.kept);
        let held = kept.filter(|entry| {
            let held: &Held = (*entry.lock).as_ref();
            !held.remaining(now).is_zero()
        });
        held.count()
    }

    /// Every lock in keeping.
    pub(crate) fn locks(&self) -> Vec<Arc<L>> {
        let inner = self.inner();
        inner
            .entries
            .iter()
            .filter(|entry| entry.kept)
            .map(|entry| Arc::clone(&entry.lock))
            .collect()
    }

    /// What the keeper does now. Renewals come before jobs: a lock that is late is lost, a
    /// release that is late is only late.
    pub(crate) fn next(&self, now: Moment) -> Task<L> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.hasten_groups(now);
        let mut batch = Vec::new();
        let mut next_look = NEVER;
        for (index, entry) in inner.entries.iter_mut().enumerate() {
            let Some(due) = entry.due else {
                continue;
            };
            if due <= now && batch.len() < BATCH {
                entry.due = None;
                batch.push((index, Arc::clone(&entry.lock)));
            } else {
                next_look = next_look.min(due);
            }
        }
        // What was meant to be looked at may be gone. To go on looking then spares those who come
        // and go at once a wake-up each.
        let meant = Some(inner.next_look).filter(|meant| *meant > now);
        let next_look = meant.map_or(next_look, |meant| meant.min(next_look));
        inner.next_look = next_look;
        if !batch.is_empty() {
            inner.running += 1;
            return Task::Renew(batch);
        }
        if let Some(job) = inner.jobs.pop_front() {
            inner.running += 1;
            return Task::Job(job);
        }
        if inner.abandoned && inner.running == 0 {
            return Task::Exit;
        }
        Task::Sleep { until: next_look }
    }
}

impl<L: AsRef<Held>> Inner<L> {
    /// Makes those due that are renewed together with one that is. A lock that lasts for as long as
    /// it may has nothing to be renewed.
    fn hasten_groups(&mut self, now: Moment) {
        if self.groups == 0 {
            return;
        }
        let renewable = |lock: &Arc<L>| {
            let held: &Held = (**lock).as_ref();
            !held.is_final()
        };
        let mut due = Vec::new();
        for entry in &self.entries {
            let is_due = entry.due.is_some_and(|due| due <= now);
            if is_due && entry.group > 0 && renewable(&entry.lock) && !due.contains(&entry.group) {
                due.push(entry.group);
            }
        }
        for entry in &mut self.entries {
            if due.contains(&entry.group) && renewable(&entry.lock) {
                entry.due = entry.due.map(|meant| meant.min(now));
            }
        }
    }
}
