//! Where the locks of a client are: by index, and by key.

use super::lock_state::LockState;
use crate::proto::{Instant, LockKeys};
use core::hash::BuildHasher;
use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::vec::Vec;

/// How many slots are looked at before others get their turn.
const TURN: usize = 1024;

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// A table of locks. A lock keeps its index for as long as its guard is there.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// The slots whose guards are gone.
    free: Vec<usize>,
    /// How many slots keep a lock.
    kept: usize,
    /// Chains of the slots that keep a lock, by the hash of its key. A power of two of them.
    chains: Vec<u32>,
    seeds: [u64; 2],
    /// How often a slot was looked at.
    #[cfg(test)]
    pub(super) visits: usize,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// The lock, or one that was here before.
    pub(super) lock: Arc<LockState>,
    kept: bool,
    /// When to renew; `None` while a renewal is under way, or where nothing is kept.
    pub(super) due: Option<Instant>,
    /// It is in the schedule.
    pub(super) scheduled: bool,
    /// Those that are renewed together with it.
    pub(super) group: Option<Arc<Vec<usize>>>,
    /// Of its key, while it is kept.
    hash: u32,
    /// The next one in its chain.
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

    /// How many locks are kept.
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

    /// Whether this lock is kept here: the slot may have another by now.
    pub(super) fn has(&self, index: usize, lock: &Arc<LockState>) -> bool {
        let slot = &self.slots[index];
        slot.kept && Arc::ptr_eq(&slot.lock, lock)
    }

    /// Keeps a lock, to be renewed then.
    #[inline]
    pub(super) fn insert(&mut self, lock: LockState, due: Instant) -> (usize, Arc<LockState>) {
        let held = &lock;
        let hash = self.hash(held.keys.lock().as_bytes());
        let index = match self.free.pop() {
            Some(index) => {
                let slot = self.get_mut(index);
                match Arc::get_mut(&mut slot.lock) {
                    Some(place) => *place = lock,
                    // Its guard is just going, or something of it is still under way.
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

    /// Ends the keeping of the lock that is here.
    pub(super) fn remove(&mut self, index: usize) {
        self.unlink(index);
        let slot = self.get_mut(index);
        slot.kept = false;
        slot.group = None;
        self.kept -= 1;
    }

    /// The slot is for the next lock.
    pub(super) fn vacate(&mut self, index: usize) {
        self.free.push(index);
    }

    /// Ends the keeping of all locks, and returns them.
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

    /// All locks that are kept.
    pub(super) fn all(&self) -> Vec<Arc<LockState>> {
        let kept = self.slots.iter().filter(|slot| slot.kept);
        kept.map(|slot| Arc::clone(&slot.lock)).collect()
    }

    /// Some of the locks that are kept, from this index on, and where to go on.
    pub(super) fn some_from(&self, from: usize) -> (Vec<Arc<LockState>>, Option<usize>) {
        let slots = self.slots.iter().skip(from).take(TURN);
        let kept = slots.filter(|slot| slot.kept);
        let locks = kept.map(|slot| Arc::clone(&slot.lock)).collect();
        let next = from + TURN;
        (locks, (next < self.slots.len()).then_some(next))
    }

    /// The lock with these keys, if one is kept. Where one that is over is still kept beside its
    /// successor, it is the successor: the one that is valid for longer.
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

    /// A hash that cannot be aimed at by those who choose the names: they do not know the seeds.
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

    /// Makes twice as many chains: they stay short.
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
