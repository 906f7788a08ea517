//! The old ends of the queues: eviction, and the work of the LRU maintainer.

use super::{Cache, Slot, SlotIndex, list_of};
use crate::server::item::{Queue, Second};
use crate::server::settings::LruSettings;

/// Number of items at the end of a queue that are looked at.
const TRIES: usize = 5;

/// Number of moves that the maintainer makes in one class without a pause.
const MOVES: usize = 500;

/// Number of idle seconds that are made up for.
const CATCH_UP: Second = 60;

impl Cache {
    /// Evicts this item. Says whether there was one.
    pub(crate) fn evict(&mut self, key: &[u8], now: Second) -> bool {
        let Some(place) = self.index.get(key).copied() else {
            return false;
        };
        self.evict_place(place, now);
        true
    }

    fn evict_place(&mut self, place: SlotIndex, now: Second) {
        let slot = self.slots[place].as_ref().expect("it is in a queue");
        self.journal.evicted(&slot.key, &slot.item, now);
        let item = self.unlink(place);
        let counters = self.count(item.class);
        counters.evicted += 1;
        counters.evicted_time = now.saturating_sub(item.time);
        counters.evicted_nonzero += u64::from(item.exptime != 0);
        counters.evicted_unfetched += u64::from(!item.fetched);
        counters.evicted_active += u64::from(item.active);
    }

    /// Looks at the old end of a queue (`lru_pull_tail`). Returns how many items were moved,
    /// found dead or evicted.
    pub(super) fn pull(
        &mut self,
        class: u8,
        queue: Queue,
        total_bytes: usize,
        evict: bool,
        max_age: Second,
        now: Second,
    ) -> usize {
        let id = list_of(class, queue);
        let LruSettings {
            hot_percent,
            warm_percent,
            segmented,
            ..
        } = self.limits.lru;
        let mut found = 0;
        let mut next = self.lists[id].old;
        for _ in 0..TRIES {
            let Some(place) = next else {
                break;
            };
            next = self.slot(place).prev;
            let item = self.item(place);
            if self.is_reclaimable(item, now) {
                let unfetched = u64::from(!item.fetched);
                self.unlink(place);
                self.count(class).reclaimed += 1;
                self.count(class).expired_unfetched += unfetched;
                found += 1;
                continue;
            }
            let (active, age) = (item.active, now.saturating_sub(item.time));
            match queue {
                Queue::Hot | Queue::Warm if active => {
                    self.slot_mut(place).item.active = false;
                    self.move_to(place, Queue::Warm);
                    found += 1;
                    if queue == Queue::Warm {
                        self.count(class).moves_within_lru += 1;
                        continue;
                    }
                    self.count(class).moves_to_warm += 1;
                }
                Queue::Hot | Queue::Warm => {
                    let hot = total_bytes * hot_percent / 100;
                    let limit = match queue {
                        Queue::Hot if hot > 0 => hot,
                        _ => total_bytes * warm_percent / 100,
                    };
                    if self.lists[id].bytes > limit || age > max_age {
                        self.move_to(place, Queue::Cold);
                        self.count(class).moves_to_cold += 1;
                        found += 1;
                    }
                }
                Queue::Cold if evict => {
                    if self.limits.evictions {
                        self.evict_place(place, now);
                        found += 1;
                    }
                }
                Queue::Cold if active && segmented => {
                    self.slot_mut(place).item.active = false;
                    self.move_to(place, Queue::Warm);
                    self.count(class).moves_to_warm += 1;
                    found += 1;
                }
                Queue::Cold | Queue::Temporary => {}
            }
            break;
        }
        found
    }

    /// Moves the items of a class between its queues (`lru_maintainer_juggle`).
    fn juggle(&mut self, class: u8, now: Second) -> bool {
        let mut moved = false;
        if self.limits.temporary_ttl.is_some() {
            for _ in 0..MOVES {
                if self.pull(class, Queue::Temporary, 0, false, 0, now) == 0 {
                    break;
                }
                moved = true;
            }
        }
        let (mut total_bytes, mut hot_age, mut warm_age) = (0, 0, 0);
        if self.limits.lru.segmented {
            let cold = self.lists[list_of(class, Queue::Cold)].old;
            let cold_age = cold.map_or(0, |place| now.saturating_sub(self.item(place).time));
            hot_age = (f64::from(cold_age) * self.limits.lru.hot_factor) as Second;
            warm_age = (f64::from(cold_age) * self.limits.lru.warm_factor) as Second;
            for queue in [Queue::Hot, Queue::Warm, Queue::Cold] {
                total_bytes += self.lists[list_of(class, queue)].bytes;
            }
        }
        for _ in 0..MOVES {
            let mut more = self.pull(class, Queue::Hot, total_bytes, false, hot_age, now) > 0
                || self.pull(class, Queue::Warm, total_bytes, false, warm_age, now) > 0;
            if self.limits.lru.segmented {
                more |= self.pull(class, Queue::Cold, total_bytes, false, 0, now) > 0;
            }
            if !more {
                break;
            }
            moved = true;
        }
        moved
    }

    /// Does what the LRU maintainer thread has done by the time a second begins.
    pub(crate) fn maintain(&mut self, now: Second) {
        if now <= self.maintained {
            return;
        }
        let begin = (self.maintained + 1).max(now.saturating_sub(CATCH_UP));
        self.maintained = now;
        for second in begin..=now {
            if self.index.is_empty() {
                return;
            }
            self.settle(second);
        }
    }

    /// Moves items between queues until there is none left to move.
    pub(crate) fn settle(&mut self, now: Second) {
        while self.maintain_once(now) {}
    }

    fn maintain_once(&mut self, now: Second) -> bool {
        let mut moved = false;
        for class in 1..=self.slabs.largest_class() {
            moved |= self.juggle(class, now);
        }
        for (place, serial) in core::mem::take(&mut self.pending) {
            let is_same = |slot: &Slot| slot.serial == serial;
            if self.slots[place].as_ref().is_some_and(is_same) {
                self.update(place, now);
                moved = true;
            }
        }
        moved
    }
}
