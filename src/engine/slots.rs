//! The table of a client's locks, found by index and by key.

use super::lock_state::LockState;
use crate::proto::{Instant, LockKeys};
use core::hash::BuildHasher;
use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::vec::Vec;

/// The number of slots that are read before the mutex is unlocked for other callers.
const TURN: usize = 1024;

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// A table of locks. A lock keeps its index until its guard is gone.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// The slots whose guards are gone.
    free: Vec<usize>,
    /// The number of slots that have a lock.
    kept: usize,
    /// Chains of the slots that have a lock, by the hash of its key. Their number is a power of
    /// two.
    chains: Vec<u32>,
    seeds: [u64; 2],
    /// The number of reads of slots.
    #[cfg(test)]
    pub(super) visits: usize,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// The lock, or a former lock of this slot.
    pub(super) lock: Arc<LockState>,
    kept: bool,
    /// The instant of the next renewal; `None` while a renewal is under way, or if the slot has no
    /// lock.
    pub(super) due: Option<Instant>,
    /// The slot is in the schedule.
    pub(super) scheduled: bool,
    /// The slots that are renewed together with this one.
    pub(super) group: Option<Arc<Vec<usize>>>,
    /// The hash of its key, while the slot has a lock.
    hash: u32,
    /// The next slot in its chain.
    next: u32,
}

impl Slots {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            kept: 0,
            chains: Vec::new(),
            seeds: [random.hash_one(0), random.hash_one(1) | 1],
            #[cfg(test)]
            visits: 0,
        }
    }

    /// Returns the number of locks.
    pub(super) const fn len(&self) -> usize {
        self.kept
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Slot {
        #[cfg(test)]
        {
            self.visits += 1;
        }
        &mut self.slots[index]
    }

    /// Returns whether the slot has this lock: it may have another by now.
    pub(super) fn has(&self, index: usize, lock: &Arc<LockState>) -> bool {
        let slot = &self.slots[index];
        slot.kept && Arc::ptr_eq(&slot.lock, lock)
    }

    /// Puts a lock into a slot, to be renewed at `due`.
    #[inline]
    pub(super) fn insert(&mut self, lock: LockState, due: Instant) -> (usize, Arc<LockState>) {
        let held = &lock;
        let hash = self.hash(held.keys.lock().as_bytes());
        let index = match self.free.pop() {
            Some(index) => {
                let slot = self.get_mut(index);
                match Arc::get_mut(&mut slot.lock) {
                    Some(place) => *place = lock,
                    // Its guard is just being dropped, or an operation on it is still under way.
                    None => slot.lock = Arc::new(lock),
                }
                (slot.kept, slot.due, slot.hash) = (true, Some(due), hash);
                index
            }
            None => {
                self.slots.push(Slot {
                    lock: Arc::new(lock),
                    kept: true,
                    due: Some(due),
                    scheduled: false,
                    group: None,
                    hash,
                    next: NONE,
                });
                self.slots.len() - 1
            }
        };
        self.kept += 1;
        if self.kept > self.chains.len() {
            self.grow();
        } else {
            self.link(index);
        }
        (index, Arc::clone(&self.get_mut(index).lock))
    }

    /// Removes the lock of this slot.
    pub(super) fn remove(&mut self, index: usize) {
        self.unlink(index);
        let slot = self.get_mut(index);
        slot.kept = false;
        slot.group = None;
        self.kept -= 1;
    }

    /// Makes the slot available to the next lock.
    pub(super) fn vacate(&mut self, index: usize) {
        self.free.push(index);
    }

    /// Removes all locks, and returns them.
    pub(super) fn take_all(&mut self) -> Vec<Arc<LockState>> {
        let locks = self.all();
        for slot in &mut self.slots {
            (slot.kept, slot.due, slot.group) = (false, None, None);
            slot.scheduled = false;
        }
        self.chains.fill(NONE);
        self.kept = 0;
        locks
    }

    /// Returns all locks.
    pub(super) fn all(&self) -> Vec<Arc<LockState>> {
        let kept = self.slots.iter().filter(|slot| slot.kept);
        kept.map(|slot| Arc::clone(&slot.lock)).collect()
    }

    /// Returns some of the locks, from this index on, and the index to go on from.
    pub(super) fn some_from(&self, from: usize) -> (Vec<Arc<LockState>>, Option<usize>) {
        let slots = self.slots.iter().skip(from).take(TURN);
        let kept = slots.filter(|slot| slot.kept);
        let locks = kept.map(|slot| Arc::clone(&slot.lock)).collect();
        let next = from + TURN;
        (locks, (next < self.slots.len()).then_some(next))
    }

    /// Returns the lock with these keys, if there is one. If one that has ended is still there
    /// beside its successor, returns the successor: the one that is valid for longer.
    pub(super) fn find(&mut self, keys: &LockKeys) -> Option<Arc<LockState>> {
        let key = keys.lock().as_bytes();
        let hash = self.hash(key);
        let mut next = *self.chains.get(self.chain(hash))?;
        let mut found: Option<(Instant, Arc<LockState>)> = None;
        while next != NONE {
            let slot = self.get_mut(next as usize);
            next = slot.next;
            let held = &*slot.lock;
            if slot.hash == hash && held.keys.lock().as_bytes() == key {
                let valid_until = held.valid_until();
                if found.as_ref().is_none_or(|(until, _)| *until < valid_until) {
                    found = Some((valid_until, Arc::clone(&slot.lock)));
                }
            }
        }
        found.map(|(_, lock)| lock)
    }

    /// Returns a hash that callers cannot aim at by the choice of names: they do not know the
    /// seeds.
    fn hash(&self, key: &[u8]) -> u32 {
        let [mut hash, factor] = self.seeds;
        let mut take = |word: u64| {
            let product = u128::from(hash ^ word) * u128::from(factor);
            hash = product as u64 ^ (product >> 64) as u64;
        };
        let mut rest = key;
        while let Some((chunk, behind)) = rest.split_first_chunk() {
            take(u64::from_le_bytes(*chunk));
            rest = behind;
        }
        take(
            rest.iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
        );
        hash as u32
    }

    fn chain(&self, hash: u32) -> usize {
        hash as usize & self.chains.len().wrapping_sub(1)
    }

    /// Puts a slot at the start of its chain.
    fn link(&mut self, index: usize) {
        let hash = self.slots[index].hash;
        let chain = self.chain(hash);
        // Four thousand million locks do not fit into any memory.
        let first = core::mem::replace(&mut self.chains[chain], index as u32);
        self.get_mut(index).next = first;
    }

    fn unlink(&mut self, index: usize) {
        let Slot { hash, next, .. } = *self.get_mut(index);
        let chain = self.chain(hash);
        let mut at = self.chains[chain];
        if at as usize == index {
            self.chains[chain] = next;
            return;
        }
        while at != NONE {
            let slot = self.get_mut(at as usize);
            if slot.next as usize == index {
                slot.next = next;
                return;
            }
            at = slot.next;
        }
    }

    /// Doubles the number of chains, so that they stay short.
    fn grow(&mut self) {
        let count = self.kept.next_power_of_two().max(8);
        self.chains.clear();
        self.chains.resize(count, NONE);
        for index in 0..self.slots.len() {
            if self.slots[index].kept {
                self.link(index);
            }
        }
    }
}
