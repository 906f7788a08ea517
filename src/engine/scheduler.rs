//! The work of the renewer: the locks to renew, by their due instant, and the locks to release.
//!
//! A client may hold a million locks, so no step for one lock visits all of them. The next due lock
//! is the first of an ordered set, a lock is found by the hash of its key, and the locks of a group
//! know each other. All locks are visited only for events that concern all: the client is shut
//! down, or the server was restarted.

use super::clock;
use super::events::LateRenewals;
use super::lock_state::LockState;
use super::slots::Slots;
use crate::proto::{Instant, LockKeys, LossReason, OrphanedAttempt};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// The maximum number of locks that one flight renews: flights stay small, and a slow reply delays
/// few locks.
const BATCH: usize = 32;

/// The maximum number of flights with renewals that are under way at once. With a reply after 10 ms
/// that makes 200,000 renewals per second; more would delay other requests.
const MAX_BATCHES: usize = 64;

/// The maximum number of locks of dropped guards that are released at once.
const MAX_RELEASES: usize = 256;

/// The number of new locks that may wait before they are put into the schedule.
const MAX_FRESH: usize = 64;

/// A lock whose renewal is due within this part of its lease is renewed with one that is due now.
const EARLY: u32 = 48;

/// If more is due than one flight renews, the next renewals are spread over this part of the time
/// until then.
const SPREAD: u32 = 8;

/// The allowed delay of a renewal, as a part of the lease. It is due after a third, so half of the
/// lease is over then.
const LATE: u32 = 6;

/// The locks that a client holds, and the cleanup jobs for its renewer.
///
/// Locks come and go by index, without allocating once the table has its size: a lock that is
/// removed leaves its allocation to the next one.
#[derive(Debug)]
pub(crate) struct RenewalScheduler {
    inner: Mutex<Inner>,
    /// Nothing can be acquired any more. Written under `inner`.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    slots: Slots,
    /// The locks that wait for their renewal, by the instant at which it is due: exactly those
    /// whose slot says so.
    schedule: BTreeSet<(Instant, usize)>,
    /// Locks that were added since the renewer looked last, and are not in the schedule yet. Most
    /// locks are removed before it looks.
    fresh: Vec<usize>,
    jobs: VecDeque<CleanupJob>,
    /// Number of jobs and batches that were handed out and are not done.
    running: usize,
    /// Number of flights with renewals among these.
    renewing: usize,
    /// Number of releases among these.
    releasing: usize,
    /// Number of locks that were handed off and whose outcome is unknown.
    handoffs: usize,
    /// The instant at which the renewer looks again by itself. Not moved back when locks are
    /// removed: one look too many costs less than a wake-up per lock.
    next_wakeup: Instant,
    /// All handles of the client were dropped.
    abandoned: bool,
    /// Number of batches after which other locks were due.
    crowded: u32,
    /// The last renewals began late.
    behind: bool,
}

/// A lock that was put into the scheduler.
#[derive(Debug)]
pub(crate) struct Scheduled {
    pub(crate) lock: Arc<LockState>,
    pub(crate) index: usize,
    /// The renewer must be woken, to look earlier than it planned.
    pub(crate) wake: bool,
}

/// A cleanup job: work to be done once.
#[derive(Debug)]
pub(crate) enum CleanupJob {
    /// Release a lock whose guard was dropped.
    Release(Arc<LockState>),
    /// Undo what an abandoned acquisition may have stored.
    Undo {
        name: Arc<str>,
        keys: LockKeys,
        leftover: OrphanedAttempt,
    },
}

/// Locks to be renewed by one flight.
#[derive(Debug)]
pub(crate) struct DueLocks {
    pub(crate) locks: Vec<(usize, Arc<LockState>)>,
    /// Renewals that begin late though none was tried before, if there are any.
    pub(crate) late: Option<LateRenewals>,
    /// The time by which the next renewals are due earlier, in 256ths of the [`SPREAD`] part.
    earlier: u32,
}

impl DueLocks {
    /// Returns how much earlier than usual the next renewal of a lock with this lease is due.
    pub(crate) fn earlier(&self, lease: Duration) -> Duration {
        lease / 3 / SPREAD * self.earlier / 256
    }
}

/// The next step of the renewer.
#[derive(Debug)]
pub(crate) enum SchedulerAction {
    Job(CleanupJob),
    Renew(DueLocks),
    Sleep { until: Instant },
    Exit,
}

const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl RenewalScheduler {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                slots: Slots::new(),
                schedule: BTreeSet::new(),
                fresh: Vec::new(),
                jobs: VecDeque::new(),
                running: 0,
                renewing: 0,
                releasing: 0,
                handoffs: 0,
                next_wakeup: NEVER,
                abandoned: false,
                crowded: 0,
                behind: false,
            }),
            closed: AtomicBool::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a lock, or returns it if the client was shut down.
    pub(crate) fn insert(
        &self,
        lock: LockState,
        due: Instant,
    ) -> Result<Scheduled, Box<LockState>> {
        let mut inner = self.inner();
        if self.is_closed() {
            return Err(Box::new(lock));
        }
        let (index, lock) = inner.slots.insert(lock, due);
        inner.fresh.push(index);
        if inner.fresh.len() >= MAX_FRESH {
            inner.settle();
        }
        let wake = due < inner.next_wakeup;
        inner.next_wakeup = inner.next_wakeup.min(due);
        Ok(Scheduled { lock, index, wake })
    }

    /// Removes a lock, if it is still there: its slot may have another lock by now. Returns whether
    /// it was there.
    pub(crate) fn remove(&self, index: usize, lock: &Arc<LockState>) -> bool {
        let mut inner = self.inner();
        let kept = inner.slots.has(index, lock);
        if kept {
            inner.unschedule(index);
            inner.slots.remove(index);
        }
        kept
    }

    /// Frees a slot whose guard is gone, for the next lock.
    pub(crate) fn free_slot(&self, index: usize) {
        self.inner().slots.vacate(index);
    }

    /// Adds a cleanup job. The renewer must be woken.
    pub(crate) fn push(&self, job: CleanupJob) {
        self.inner().jobs.push_back(job);
    }

    /// Records that a handoff begins. The scheduler is not drained until that is
    /// [ended](Self::end_handoff).
    pub(crate) fn begin_handoff(&self) {
        self.inner().handoffs += 1;
    }

    /// Records that a handoff has ended: a waiter has the lock, or the renewer releases it.
    pub(crate) fn end_handoff(&self) {
        self.inner().handoffs -= 1;
    }

    /// Records that the renewal of a lock is finished; the next is due at `due`.
    pub(crate) fn reschedule(&self, index: usize, lock: &Arc<LockState>, due: Instant) {
        let mut inner = self.inner();
        // The guard may be gone, and its slot have another lock.
        if inner.slots.has(index, lock) {
            inner.schedule(index, due);
        }
    }

    /// Makes the renewal of a lock due at once, unless one is under way. The renewer must be woken.
    pub(crate) fn renew_now(&self, index: usize, lock: &Arc<LockState>) {
        let mut inner = self.inner();
        if inner.slots.has(index, lock) {
            inner.renew_now(index, clock::monotonic());
        }
    }

    /// Renews these locks together from now on: as soon as one of them is due, all are.
    pub(crate) fn group(&self, locks: impl Iterator<Item = (usize, Arc<LockState>)>) {
        let mut inner = self.inner();
        let kept = locks.filter(|(index, lock)| inner.slots.has(*index, lock));
        let members: Arc<Vec<usize>> = Arc::new(kept.map(|(index, _)| index).collect());
        for index in members.iter() {
            inner.slots.get_mut(*index).group = Some(Arc::clone(&members));
        }
    }

    /// Records that the renewals of one batch, as [`next_action`](Self::next_action) handed it out,
    /// are done.
    pub(crate) fn renewals_finished(&self) {
        let mut inner = self.inner();
        inner.running -= 1;
        inner.renewing -= 1;
    }

    /// Records that a job, as [`next_action`](Self::next_action) handed it out, is done. `release`:
    /// it was a release.
    pub(crate) fn job_finished(&self, release: bool) {
        let mut inner = self.inner();
        inner.running -= 1;
        inner.releasing -= usize::from(release);
    }

    /// Closes the scheduler: nothing can be acquired any more, all held locks end, and the renewer
    /// releases them. Returns the locks that were ended.
    pub(crate) fn close(&self) -> Vec<Arc<LockState>> {
        let mut inner = self.inner();
        self.closed.store(true, Ordering::Release);
        inner.schedule.clear();
        inner.fresh.clear();
        let locks = inner.slots.take_all();
        for lock in &locks {
            // Before the release can be sent: from then on the guard must not be valid.
            lock.end(LossReason::Released);
            inner.jobs.push_back(CleanupJob::Release(Arc::clone(lock)));
        }
        locks
    }

    /// Records that the last handle of the client was dropped.
    pub(crate) fn detach_client(&self) {
        let mut inner = self.inner();
        self.closed.store(true, Ordering::Release);
        inner.abandoned = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Returns whether nothing remains to be released.
    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner();
        inner.jobs.is_empty() && inner.running == 0 && inner.handoffs == 0
    }

    /// Returns the number of locks in the scheduler.
    pub(crate) fn len(&self) -> usize {
        self.inner().slots.len()
    }

    /// Returns the lock with these keys, if the scheduler has one.
    pub(crate) fn find(&self, keys: &LockKeys) -> Option<Arc<LockState>> {
        self.inner().slots.find(keys)
    }

    /// Visits every lock. The mutex is unlocked in between, so locks that are added or removed
    /// meanwhile may be visited or not.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&LockState)) {
        let mut from = 0;
        loop {
            let (locks, next) = self.inner().slots.some_from(from);
            locks.iter().for_each(|lock| visit(lock));
            match next {
                Some(next) => from = next,
                None => return,
            }
        }
    }

    /// Returns every lock.
    pub(crate) fn locks(&self) -> Vec<Arc<LockState>> {
        self.inner().slots.all()
    }

    /// Returns the next step of the renewer. Renewals come before jobs: a late renewal loses its
    /// lock, a late release is only late. Only so many of either are under way at once, so that
    /// neither delays the other.
    pub(crate) fn next_action(&self, now: Instant) -> SchedulerAction {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.settle();
        // If no more may be under way, the end of one wakes the renewer.
        let full = inner.renewing >= MAX_BATCHES;
        if !full {
            if let Some(batch) = inner.take_due(now) {
                inner.running += 1;
                inner.renewing += 1;
                return SchedulerAction::Renew(batch);
            }
        }
        let first = inner.schedule.first().map_or(NEVER, |(due, _)| *due);
        // The lock that the look was planned for may be gone. Keeping the plan saves locks that are
        // held only briefly a wake-up each.
        let meant = Some(inner.next_wakeup).filter(|meant| *meant > now);
        inner.next_wakeup = meant.map_or(first, |meant| meant.min(first));
        let release = matches!(inner.jobs.front(), Some(CleanupJob::Release(_)));
        if !release || inner.releasing < MAX_RELEASES {
            if let Some(job) = inner.jobs.pop_front() {
                inner.running += 1;
                inner.releasing += usize::from(release);
                return SchedulerAction::Job(job);
            }
        }
        if inner.abandoned && inner.running == 0 {
            return SchedulerAction::Exit;
        }
        let until = if full { NEVER } else { inner.next_wakeup };
        SchedulerAction::Sleep { until }
    }
}

impl Inner {
    /// Sets the instant at which the renewal of a lock is due, in place of the former one.
    fn schedule(&mut self, index: usize, due: Instant) {
        self.unschedule(index);
        let slot = self.slots.get_mut(index);
        (slot.due, slot.scheduled) = (Some(due), true);
        self.schedule.insert((due, index));
    }

    fn unschedule(&mut self, index: usize) {
        let slot = self.slots.get_mut(index);
        let (due, scheduled) = (slot.due.take(), core::mem::take(&mut slot.scheduled));
        if let Some(due) = due.filter(|_| scheduled) {
            self.schedule.remove(&(due, index));
        }
    }

    /// Puts the new locks that are still there into the schedule.
    fn settle(&mut self) {
        for index in self.fresh.drain(..) {
            let slot = self.slots.get_mut(index);
            if let Some(due) = slot.due.filter(|_| !slot.scheduled) {
                slot.scheduled = true;
                self.schedule.insert((due, index));
            }
        }
    }

    /// Makes the renewal of a lock due at `latest` at the latest, unless one is under way.
    fn renew_now(&mut self, index: usize, latest: Instant) {
        if self
            .slots
            .get_mut(index)
            .due
            .is_some_and(|due| due > latest)
        {
            self.schedule(index, latest);
        }
    }

    /// Takes the due locks out of the schedule, as many as one flight renews, and with them the
    /// locks that are due soon: locks that are due one after another then share a flight.
    fn take_due(&mut self, now: Instant) -> Option<DueLocks> {
        let mut locks = Vec::new();
        let (mut early, mut late) = (Duration::MAX, None);
        while let Some((due, index)) = self.schedule.first().copied() {
            let until = if locks.is_empty() {
                now
            } else {
                now.after(early)
            };
            if due > until || locks.len() == BATCH {
                break;
            }
            let slot = self.slots.get_mut(index);
            let held = &*slot.lock;
            // A lock that lasts as long as its limit allows has no renewal before its end.
            if held.is_final() && due > now {
                break;
            }
            let lease = held.lease.duration();
            early = early.min(lease / EARLY);
            let by = now.since(due);
            if by > lease / LATE && !held.is_final() && !held.remaining(now).is_zero() {
                let late = late.get_or_insert(LateRenewals {
                    count: 0,
                    longest: by,
                    first: !self.behind,
                });
                late.count += 1;
            }
            self.schedule.pop_first();
            (slot.due, slot.scheduled) = (None, false);
            locks.push((index, Arc::clone(&slot.lock)));
            if let Some(group) = slot.group.clone() {
                self.hasten_group(&group, due.min(now));
            }
        }
        if locks.is_empty() {
            return None;
        }
        // The first lock is the one that has waited longest.
        self.behind = late.is_some();
        // Steps of the golden section: they are spread evenly for any number of them.
        let crowded = self.schedule.first().is_some_and(|(due, _)| *due <= now);
        let mut earlier = 0;
        if crowded {
            self.crowded = self.crowded.wrapping_add(0x9e37_79b9);
            earlier = (self.crowded >> 24) + 1;
        }
        Some(DueLocks {
            locks,
            late,
            earlier,
        })
    }

    /// Makes all locks of a group due at `due` that can be renewed, because one of them is.
    fn hasten_group(&mut self, group: &Arc<Vec<usize>>, due: Instant) {
        for index in group.iter() {
            let slot = self.slots.get_mut(*index);
            // Other locks have left the group, or this slot.
            let member = slot
                .group
                .as_ref()
                .is_some_and(|own| Arc::ptr_eq(own, group));
            let held = &*slot.lock;
            if member && !held.is_final() {
                self.renew_now(*index, due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lock_state::tests::acquired;
    use super::*;
    use core::iter;
    use std::format;

    const LEASE: Duration = Duration::from_secs(9);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Returns a lock that was acquired at `sent`, and is valid for nine seconds.
    fn lock(name: usize, sent: Instant) -> LockState {
        acquired(&format!("{name}"), LEASE, sent)
    }

    /// Adds a lock that is due a third of its lease later.
    fn keep(scheduler: &RenewalScheduler, name: usize, sent: Instant) -> Scheduled {
        let lock = lock(name, sent);
        let due = lock.due(sent);
        scheduler.insert(lock, due).expect("not closed")
    }

    /// Returns the indexes of the locks to be renewed; empty if none is due.
    fn batch(scheduler: &RenewalScheduler, now: Instant) -> Vec<usize> {
        match scheduler.next_action(now) {
            SchedulerAction::Renew(batch) => batch.locks.iter().map(|(index, _)| *index).collect(),
            _ => Vec::new(),
        }
    }

    fn sleeps_until(scheduler: &RenewalScheduler, now: Instant) -> Instant {
        match scheduler.next_action(now) {
            SchedulerAction::Sleep { until } => until,
            other => panic!("{other:?}"),
        }
    }

    /// Renews batches, which takes no time, and returns their number.
    fn renew(scheduler: &RenewalScheduler, now: Instant) -> usize {
        let mut renewed = 0;
        while let SchedulerAction::Renew(batch) = scheduler.next_action(now) {
            for (index, lock) in &batch.locks {
                let due = lock.due_earlier(now, batch.earlier(LEASE));
                scheduler.reschedule(*index, lock, due);
            }
            renewed += batch.locks.len();
            scheduler.renewals_finished();
        }
        renewed
    }

    #[test]
    fn due_locks_come_oldest_first() {
        let scheduler = RenewalScheduler::new();
        let kept: Vec<_> = [200, 0, 500, 1000]
            .map(|sent| keep(&scheduler, sent as usize, at(sent)))
            .into();
        assert!(kept[0].wake && kept[1].wake, "the first to be due wakes");
        assert!(!kept[2].wake && !kept[3].wake);
        assert_eq!(sleeps_until(&scheduler, at(0)), at(3000));
        // The third one is due 300 ms later than the first: too late for the same flight.
        assert_eq!(batch(&scheduler, at(3200)), [1, 0]);
        assert_eq!(sleeps_until(&scheduler, at(3200)), at(3500));
        scheduler.reschedule(0, &kept[0].lock, at(3400));
        assert_eq!(batch(&scheduler, at(3500)), [0, 2]);
    }

    #[test]
    fn nearly_due_locks_join_the_batch() {
        let scheduler = RenewalScheduler::new();
        for number in 0..80 {
            keep(&scheduler, number, at(number as u64));
        }
        let last = keep(&scheduler, 80, at(110));
        assert_eq!(batch(&scheduler, at(2999)), []);
        assert_eq!(batch(&scheduler, at(3000)), Vec::from_iter(0..BATCH));
        assert_eq!(batch(&scheduler, at(3000)), [], "the others are not due");
        // A lock with a short lease does not wait for others, nor others for it.
        let short = acquired("short", Duration::from_millis(300), at(3000));
        let due = short.due(at(3000));
        scheduler.insert(short, due).expect("not closed");
        assert_eq!(batch(&scheduler, at(3032)).len(), BATCH);
        // The locks that are due 6 ms later are taken, those that are due 10 ms later are not.
        let expected: Vec<_> = (2 * BATCH..80).chain([81]).collect();
        assert_eq!(batch(&scheduler, at(3100)), expected);
        assert_eq!(batch(&scheduler, at(3110)), [last.index]);
    }

    #[test]
    fn stale_indexes_change_nothing() {
        let scheduler = RenewalScheduler::new();
        let old = keep(&scheduler, 0, at(0));
        assert!(scheduler.remove(old.index, &old.lock));
        assert!(!scheduler.remove(old.index, &old.lock), "once only");
        scheduler.free_slot(old.index);
        let new = keep(&scheduler, 1, at(1000));
        assert_eq!(new.index, old.index);
        scheduler.reschedule(old.index, &old.lock, at(1));
        scheduler.renew_now(old.index, &old.lock);
        scheduler.group(iter::once((old.index, Arc::clone(&old.lock))));
        assert!(!scheduler.remove(old.index, &old.lock));
        assert_eq!(batch(&scheduler, at(3999)), []);
        assert_eq!(batch(&scheduler, at(4000)), [0]);
        scheduler.remove(new.index, &new.lock);
        scheduler.reschedule(new.index, &new.lock, at(5000));
        assert_eq!(batch(&scheduler, at(9000)), []);
        assert!(scheduler.inner().schedule.is_empty());
    }

    #[test]
    fn running_renewal_is_not_hastened() {
        let scheduler = RenewalScheduler::new();
        let kept = keep(&scheduler, 0, at(0));
        assert_eq!(batch(&scheduler, at(3000)), [0]);
        scheduler.renew_now(0, &kept.lock);
        assert_eq!(batch(&scheduler, at(3000)), []);
        let later = clock::monotonic().after(LEASE);
        scheduler.reschedule(0, &kept.lock, later);
        assert_eq!(batch(&scheduler, clock::monotonic()), []);
        scheduler.renew_now(0, &kept.lock);
        assert_eq!(batch(&scheduler, clock::monotonic()), [0]);
    }

    #[test]
    fn groups_are_due_together() {
        let scheduler = RenewalScheduler::new();
        let kept: Vec<_> = (0..80)
            .map(|n| keep(&scheduler, n, at(n as u64 * 500)))
            .collect();
        let group = |from: usize, to: usize| {
            scheduler.group(
                kept[from..to]
                    .iter()
                    .map(|kept| (kept.index, Arc::clone(&kept.lock))),
            );
        };
        group(2, 5);
        group(8, 80);
        assert_eq!(batch(&scheduler, at(3500)), [0, 1]);
        assert_eq!(batch(&scheduler, at(4000)), [2, 3, 4]);
        // One lock was removed, and another is in its slot.
        scheduler.remove(9, &kept[9].lock);
        scheduler.free_slot(9);
        let other = keep(&scheduler, 200, at(60_000));
        assert_eq!(other.index, 9);
        assert_eq!(batch(&scheduler, at(6500)), [5, 6, 7]);
        let first = batch(&scheduler, at(7000));
        assert_eq!((first.len(), first[0]), (BATCH, 8));
        let (second, third) = (batch(&scheduler, at(7000)), batch(&scheduler, at(7000)));
        assert_eq!(first.len() + second.len() + third.len(), 71);
        assert!(!first.contains(&9) && !second.contains(&9) && !third.contains(&9));
        assert_eq!(batch(&scheduler, at(62_999)), []);
        assert_eq!(batch(&scheduler, at(63_000)), [9]);
    }

    #[test]
    fn final_lock_waits_for_its_end() {
        let scheduler = RenewalScheduler::new();
        let kept = keep(&scheduler, 0, at(0));
        let last = acquired("last", LEASE, at(0)).for_at_most(Some(LEASE / 3 + LEASE / 90));
        assert!(last.is_final());
        let due = last.due(at(0));
        let last = scheduler.insert(last, due).expect("not closed");
        scheduler.group([(0, Arc::clone(&kept.lock)), (1, Arc::clone(&last.lock))].into_iter());
        assert_eq!(due, at(3100));
        assert_eq!(batch(&scheduler, at(3000)), [0], "not before its end");
        assert_eq!(batch(&scheduler, at(3100)), [1]);
    }

    #[test]
    fn locks_are_found_by_their_keys() {
        let scheduler = RenewalScheduler::new();
        let kept: Vec<_> = (0..1000).map(|n| keep(&scheduler, n, at(0))).collect();
        let keys = |name: usize| lock(name, at(0)).keys;
        for name in [0, 1, 7, 8, 511, 512, 999] {
            let found = scheduler.find(&keys(name)).expect("it is kept");
            assert!(Arc::ptr_eq(&found, &kept[name].lock));
        }
        assert!(scheduler.find(&keys(1000)).is_none());
        for kept in &kept[..999] {
            scheduler.remove(kept.index, &kept.lock);
        }
        assert!(scheduler.find(&keys(998)).is_none());
        assert!(scheduler.find(&keys(999)).is_some());
        // A lost lock that is still there does not hide the one that was acquired after it.
        let new = keep(&scheduler, 999, at(60_000));
        assert!(Arc::ptr_eq(
            &scheduler.find(&keys(999)).expect("kept"),
            &new.lock
        ));
        scheduler.close();
        assert!(scheduler.find(&keys(999)).is_none());
        assert_eq!(scheduler.len(), 0);
    }

    #[test]
    fn late_renewals_are_reported_once() {
        let scheduler = RenewalScheduler::new();
        let kept: Vec<_> = (0..70).map(|n| keep(&scheduler, n, at(0))).collect();
        let late = |now| match scheduler.next_action(now) {
            SchedulerAction::Renew(batch) => batch.late,
            other => panic!("{other:?}"),
        };
        // A third of the lease, and another sixth.
        assert_eq!(late(at(4500)), None);
        let longest = Duration::from_millis(1501);
        let count = BATCH as u64;
        let first = LateRenewals {
            count,
            longest,
            first: true,
        };
        assert_eq!(late(at(4501)), Some(first));
        let rest = LateRenewals {
            count: 6,
            first: false,
            ..first
        };
        assert_eq!(late(at(4501)), Some(rest));
        scheduler.reschedule(0, &kept[0].lock, at(5000));
        assert_eq!(late(at(5000)), None);
        scheduler.reschedule(0, &kept[0].lock, at(6000));
        assert!(late(at(8000)).is_some_and(|late| late.first), "once more");
        // A lost lock is not late any more.
        scheduler.reschedule(0, &kept[0].lock, at(7000));
        assert_eq!(late(at(9000)), None);
    }

    #[test]
    fn simultaneous_renewals_spread_out() {
        let scheduler = RenewalScheduler::new();
        let count = 64 * BATCH;
        for number in 0..count {
            keep(&scheduler, number, at(0));
        }
        // All are due at the same instant, and renewed at the same instant.
        assert_eq!(renew(&scheduler, at(3000)), count);
        let third = 3000 / SPREAD as u64;
        let mut most = 0;
        for step in 0..16 {
            let now = at(6000 - third + third * step / 15);
            most = most.max(renew(&scheduler, now));
        }
        assert!(most <= count / 8, "{most} of {count} at once");
    }

    #[test]
    fn neither_renewals_nor_releases_starve() {
        let scheduler = RenewalScheduler::new();
        let many = MAX_BATCHES * BATCH * 2;
        let kept: Vec<_> = (0..many).map(|n| keep(&scheduler, n, at(0))).collect();
        let dropped = || CleanupJob::Release(Arc::clone(&kept[0].lock));
        for _ in 0..MAX_RELEASES * 2 {
            scheduler.push(dropped());
        }
        scheduler.push(CleanupJob::Undo {
            name: "undo".into(),
            keys: kept[0].lock.keys.clone(),
            leftover: OrphanedAttempt {
                instance: kept[0].lock.grant.instance,
                owner_id: kept[0].lock.grant.owner_id,
                expires_at: at(0),
            },
        });
        let (mut renewals, mut releases) = (0, 0);
        loop {
            match scheduler.next_action(at(3000)) {
                SchedulerAction::Renew(_) => renewals += 1,
                SchedulerAction::Job(_) => releases += 1,
                SchedulerAction::Sleep { until } => {
                    assert_eq!(until, NEVER, "the end of one wakes the renewer");
                    break;
                }
                SchedulerAction::Exit => panic!("there is work"),
            }
        }
        assert_eq!((renewals, releases), (MAX_BATCHES, MAX_RELEASES));
        scheduler.renewals_finished();
        assert!(matches!(
            scheduler.next_action(at(3000)),
            SchedulerAction::Renew(_)
        ));
        scheduler.job_finished(true);
        assert!(matches!(
            scheduler.next_action(at(3000)),
            SchedulerAction::Job(CleanupJob::Release(_))
        ));
        assert!(!scheduler.is_idle());
    }

    /// The cost of one lock does not depend on the number of others: as many slots are read with
    /// 100 locks as with 30,000.
    #[test]
    fn work_per_lock_is_constant() {
        let visits =
            |scheduler: &RenewalScheduler| core::mem::take(&mut scheduler.inner().slots.visits);
        let work = |count: usize| {
            let scheduler = RenewalScheduler::new();
            let kept: Vec<_> = (0..count)
                .map(|n| keep(&scheduler, n, at(n as u64)))
                .collect();
            scheduler.group(
                kept[..3]
                    .iter()
                    .map(|kept| (kept.index, Arc::clone(&kept.lock))),
            );
            let room = count.next_power_of_two() - count;
            assert!(room > 0, "the table does not grow now");
            let (mut least, mut total) = ([usize::MAX; 6], 0);
            for turn in 0..100 {
                let name = count + turn;
                visits(&scheduler);
                let new = keep(&scheduler, name, at(1_000_000));
                let inserted = visits(&scheduler);
                scheduler.find(&new.lock.keys).expect("it is kept");
                let found = visits(&scheduler);
                scheduler.renew_now(new.index, &new.lock);
                scheduler.reschedule(new.index, &new.lock, at(2_000_000));
                let rescheduled = visits(&scheduler);
                scheduler.remove(new.index, &new.lock);
                scheduler.free_slot(new.index);
                let removed = visits(&scheduler);
                assert_eq!(batch(&scheduler, at(0)), []);
                let slept = visits(&scheduler);
                let now = at(3000);
                let renewed = batch(&scheduler, now);
                let taken = visits(&scheduler);
                for index in &renewed {
                    scheduler.reschedule(*index, &kept[*index].lock, at(3000));
                }
                scheduler.renewals_finished();
                visits(&scheduler);
                // Each lock of a batch, and the members of its group.
                assert!(
                    taken <= renewed.len() * 4 + 16,
                    "{taken} for {}",
                    renewed.len()
                );
                let all = [inserted, found, rescheduled, removed, slept, taken];
                least = core::array::from_fn(|place| least[place].min(all[place]));
                total += inserted + found + rescheduled + removed + slept;
            }
            // Chains are short.
            assert!(total <= 100 * 24, "{total}");
            least
        };
        let (few, many) = (work(100), work(30_000));
        assert_eq!(few, many);
    }
}
