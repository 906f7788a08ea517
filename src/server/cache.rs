//! The items in their queues: which of them make way, and which outlive a flush.
//!
//! As in memcached 1.6.45: each class of chunks has a queue of hot, warm, cold and temporary items.
//! New items are hot. Reads mark an item; it is moved later, by [`Cache::maintain`], which stands
//! for the LRU maintainer thread. That one wakes up between a millisecond and a second after
//! something has happened; this one when the second changes. The crawler never runs by itself, so
//! that an expired item stays in its queue until something finds it.

mod counters;
mod lru;

use super::clock::FIRST_SECOND;
use super::item::{Item, Queue, Second, size_of_item};
use super::settings::StoreLimits;
use super::slabs::{CLASSES, Slabs};
use super::store_request::StoreError;
use super::watch_log::WatchLog;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub(crate) use counters::ClassCounters;
use std::collections::HashMap;

/// Number of attempts to find room.
const ATTEMPTS: usize = 10;

/// The most reads of cold items that wait for the maintainer.
const PENDING: usize = 8192;

/// Without segments an item that was moved up is left where it is for so many seconds.
const UPDATE_INTERVAL: Second = 60;

/// Bytes that a large item needs in front of each of its chunks.
const CHUNK_OVERHEAD: usize = 48;

type SlotIndex = usize;

#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    item: Item,
    /// Towards the young end.
    prev: Option<SlotIndex>,
    /// Towards the old end.
    next: Option<SlotIndex>,
    /// Tells an item from those that have had its place.
    serial: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct List {
    young: Option<SlotIndex>,
    old: Option<SlotIndex>,
    length: usize,
    bytes: usize,
}

/// Memory for an item that is not in the cache yet. It goes back with [`Cache::free`].
#[derive(Debug)]
#[must_use = "memory that is neither used nor given back is lost"]
pub(crate) struct Room {
    class: u8,
    queue: Queue,
    size: usize,
    /// The classes of the chunks, that of the header first. Only one for an ordinary item.
    chunks: Vec<u8>,
}

impl Room {
    pub(crate) fn class(&self) -> u8 {
        self.class
    }
}

#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) limits: StoreLimits,
    pub(crate) journal: WatchLog,
    pub(crate) slabs: Slabs,
    /// Items whose `time` is at most this second are dead from it on. 0 for none.
    pub(crate) oldest_live: Second,
    slots: Vec<Option<Slot>>,
    vacant: Vec<SlotIndex>,
    index: HashMap<Box<[u8]>, SlotIndex>,
    lists: Vec<List>,
    counters: Vec<ClassCounters>,
    /// Cold items that were read and are to become warm.
    pending: Vec<(SlotIndex, u64)>,
    serial: u64,
    /// The sum of the sizes of all items.
    bytes: usize,
    /// Up to where queues were maintained.
    maintained: Second,
}

impl Cache {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self {
            journal: WatchLog::default(),
            slabs: Slabs::new(limits.memory, limits.item),
            limits,
            oldest_live: 0,
            slots: Vec::new(),
            vacant: Vec::new(),
            index: HashMap::new(),
            lists: alloc::vec![List::default(); 4 * CLASSES],
            counters: alloc::vec![ClassCounters::default(); CLASSES],
            pending: Vec::new(),
            serial: 0,
            bytes: 0,
            maintained: FIRST_SECOND,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&self, place: SlotIndex) -> &Slot {
        self.slots[place]
            .as_ref()
            .expect("places in queues are in use")
    }

    fn slot_mut(&mut self, place: SlotIndex) -> &mut Slot {
        self.slots[place]
            .as_mut()
            .expect("places in queues are in use")
    }

    fn item(&self, place: SlotIndex) -> &Item {
        &self.slot(place).item
    }

    fn count(&mut self, class: u8) -> &mut ClassCounters {
        &mut self.counters[usize::from(class)]
    }

    /// The item, dead or alive.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Item> {
        self.index.get(key).map(|place| self.item(*place))
    }

    /// The item, dead or alive.
    pub(crate) fn find_mut(&mut self, key: &[u8]) -> Option<&mut Item> {
        let place = *self.index.get(key)?;
        Some(&mut self.slot_mut(place).item)
    }

    pub(crate) fn is_flushed(&self, item: &Item, now: Second) -> bool {
        item.time <= self.oldest_live && self.oldest_live <= now
    }

    /// Returns `true` if a walk through the queues takes the item for dead. It is more patient than
    /// a read.
    fn is_reclaimable(&self, item: &Item, now: Second) -> bool {
        (item.exptime != 0 && item.exptime < now) || self.is_flushed(item, now)
    }

    fn link_young(&mut self, place: SlotIndex) {
        let (id, size) = (self.item(place).list(), self.item(place).size);
        let next = self.lists[id].young;
        let slot = self.slot_mut(place);
        (slot.prev, slot.next) = (None, next);
        match next {
            Some(next) => self.slot_mut(next).prev = Some(place),
            None => self.lists[id].old = Some(place),
        }
        let list = &mut self.lists[id];
        list.young = Some(place);
        list.length += 1;
        list.bytes += size;
    }

    fn unlink_from_list(&mut self, place: SlotIndex) {
        let slot = self.slot(place);
        let (prev, next) = (slot.prev, slot.next);
        let (id, size) = (slot.item.list(), slot.item.size);
        match prev {
            Some(prev) => self.slot_mut(prev).next = next,
            None => self.lists[id].young = next,
        }
        match next {
            Some(next) => self.slot_mut(next).prev = prev,
            None => self.lists[id].old = prev,
        }
        let list = &mut self.lists[id];
        list.length -= 1;
        list.bytes -= size;
    }

    fn move_to(&mut self, place: SlotIndex, queue: Queue) {
        self.unlink_from_list(place);
        self.slot_mut(place).item.queue = queue;
        self.link_young(place);
    }

    fn unlink(&mut self, place: SlotIndex) -> Item {
        self.unlink_from_list(place);
        let slot = self.slots[place].take().expect("it was in a queue");
        self.vacant.push(place);
        self.index.remove(&slot.key);
        self.bytes -= slot.item.size;
        for class in &slot.item.chunks {
            self.slabs.give_back(*class);
        }
        slot.item
    }

    /// Takes the item away, dead or alive.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Item> {
        let place = *self.index.get(key)?;
        Some(self.unlink(place))
    }

    /// Gets memory for an item, from other items where there is none left.
    pub(crate) fn make_room(
        &mut self,
        key: &[u8],
        length: usize,
        client_flags: u32,
        exptime: Second,
        now: Second,
    ) -> Result<Room, StoreError> {
        let size = size_of_item(key, length, client_flags, self.limits.cas);
        let class = self.slabs.class_of(size).ok_or(StoreError::TooLarge)?;
        let largest_chunk = self.slabs.largest_chunk();
        let mut chunks = Vec::with_capacity(1);
        let first = if size <= largest_chunk {
            class
        } else {
            let header = size - length - 2 + CHUNK_OVERHEAD;
            self.slabs.class_of(header).unwrap_or(class)
        };
        let mut enough = self.pull_chunk(first, now, &mut chunks);
        if !enough {
            self.count(class).outofmemory += 1;
        }
        let mut left = if size <= largest_chunk { 0 } else { length + 2 };
        while enough && left > 0 {
            let mut wanted = (left + CHUNK_OVERHEAD).min(largest_chunk);
            let class = self.slabs.class_of(wanted).unwrap_or(class);
            enough = self.pull_chunk(class, now, &mut chunks);
            if !enough && wanted < largest_chunk {
                wanted = largest_chunk;
                let class = self.slabs.largest_class();
                enough = self.pull_chunk(class, now, &mut chunks);
            }
            left = left.saturating_sub(wanted.saturating_sub(CHUNK_OVERHEAD).max(1));
        }
        let is_short = |ttl: &Second| exptime.wrapping_sub(now) <= *ttl;
        let queue = if self.limits.temporary_ttl.as_ref().is_some_and(is_short) {
            Queue::Temporary
        } else if self.limits.lru.segmented {
            Queue::Hot
        } else {
            Queue::Cold
        };
        let room = Room {
            class,
            queue,
            size,
            chunks,
        };
        if enough {
            return Ok(room);
        }
        self.free(room);
        Err(StoreError::OutOfMemory)
    }

    /// Gives back memory that was not needed.
    pub(crate) fn free(&mut self, room: Room) {
        for class in room.chunks {
            self.slabs.give_back(class);
        }
    }

    fn pull_chunk(&mut self, class: u8, now: Second, chunks: &mut Vec<u8>) -> bool {
        for attempt in 0..ATTEMPTS {
            if !self.limits.lru.segmented {
                self.pull(class, Queue::Cold, 0, false, 0, now);
            }
            if self.slabs.take(class, self.limits.memory) {
                self.count(class).direct_reclaims += attempt as u64;
                chunks.push(class);
                return true;
            }
            if self.pull(class, Queue::Cold, 0, true, 0, now) == 0 {
                if !self.limits.lru.segmented {
                    break;
                }
                self.pull(class, Queue::Hot, 0, false, 0, now);
            }
        }
        self.count(class).direct_reclaims += ATTEMPTS as u64;
        false
    }

    /// Puts an item under its key. What was there is gone.
    pub(crate) fn link(&mut self, key: &[u8], mut item: Item, room: Room, now: Second) {
        self.remove(key);
        item.time = now;
        item.class = room.class;
        item.queue = room.queue;
        item.size = room.size;
        item.chunks = room.chunks;
        if !self.limits.cas {
            item.cas = 0;
        }
        self.serial += 1;
        self.bytes += item.size;
        let slot = Slot {
            key: key.into(),
            item,
            prev: None,
            next: None,
            serial: self.serial,
        };
        let place = self.vacant.pop().unwrap_or(self.slots.len());
        if place == self.slots.len() {
            self.slots.push(Some(slot));
        } else {
            self.slots[place] = Some(slot);
        }
        self.index.insert(key.into(), place);
        self.link_young(place);
    }

    /// Counts a read of the item (`do_item_bump`).
    pub(crate) fn bump(&mut self, key: &[u8], now: Second) {
        let Some(place) = self.index.get(key).copied() else {
            return;
        };
        if !self.limits.lru.segmented {
            self.slot_mut(place).item.fetched = true;
            return self.update(place, now);
        }
        let has_room = self.pending.len() < PENDING;
        let slot = self.slot_mut(place);
        let serial = slot.serial;
        let item = &mut slot.item;
        if item.active {
            // It is marked already, and keeps its time until it is moved.
            return;
        }
        if !item.fetched {
            item.fetched = true;
        } else if item.queue != Queue::Cold {
            item.active = true;
            item.time = now;
        } else if has_room {
            item.active = true;
            self.pending.push((place, serial));
        }
    }

    /// Counts a change of the item in its place, or a refused `add` (`do_item_update`).
    pub(crate) fn touch_time(&mut self, key: &[u8], now: Second) {
        if let Some(place) = self.index.get(key).copied() {
            self.update(place, now);
        }
    }

    fn update(&mut self, place: SlotIndex, now: Second) {
        let segmented = self.limits.lru.segmented;
        let item = &mut self.slot_mut(place).item;
        if segmented {
            item.time = now;
            if item.queue == Queue::Cold && item.active {
                item.active = false;
                let class = item.class;
                self.move_to(place, Queue::Warm);
                self.count(class).moves_to_warm += 1;
            }
        } else if item.time < now.saturating_sub(UPDATE_INTERVAL) {
            item.time = now;
            let queue = item.queue;
            self.move_to(place, queue);
        }
    }

    /// Sets the second up to which items are dead, and walks the queues (`item_flush_expired`):
    /// each from its young end to the first item that is older. The items after that one are
    /// removed only when a later request finds them, which is too late for one whose `time` was
    /// raised since. Items that `is_locked` names are skipped.
    pub(crate) fn flush(&mut self, oldest_live: Second, is_locked: impl Fn(&[u8]) -> bool) {
        self.oldest_live = oldest_live;
        if oldest_live == 0 {
            return;
        }
        for id in 0..self.lists.len() {
            let mut next = self.lists[id].young;
            while let Some(place) = next {
                let slot = self.slot(place);
                next = slot.next;
                if is_locked(&slot.key) {
                    continue;
                }
                if slot.item.time < oldest_live {
                    break;
                }
                self.unlink(place);
            }
        }
    }

    /// Frees the dead items in these classes, as the crawler does on request.
    pub(crate) fn reclaim(&mut self, now: Second, is_crawled: impl Fn(u8) -> bool) {
        for place in 0..self.slots.len() {
            let Some(slot) = &self.slots[place] else {
                continue;
            };
            if is_crawled(slot.item.class) && self.is_reclaimable(&slot.item, now) {
                self.unlink(place);
            }
        }
    }

    /// The items that are not dead, in the order of the crawler: one of each queue in turn,
    /// from the old ends.
    pub(crate) fn crawl(&self, now: Second) -> Vec<(&[u8], &Item)> {
        let mut next: Vec<_> = self.lists.iter().map(|list| list.old).collect();
        let mut items = Vec::with_capacity(self.len());
        let mut more = true;
        while more {
            more = false;
            for place in &mut next {
                let Some(slot) = place.map(|place| self.slot(place)) else {
                    continue;
                };
                *place = slot.prev;
                more = true;
                if !self.is_reclaimable(&slot.item, now) {
                    items.push((&slot.key[..], &slot.item));
                }
            }
        }
        items
    }

    /// The cold items of a class, dead or alive, the young end first.
    pub(crate) fn cold(&self, class: u8) -> impl Iterator<Item = (&[u8], &Item)> {
        let mut next = self.lists[list_of(class, Queue::Cold)].young;
        core::iter::from_fn(move || {
            let slot = self.slot(next?);
            next = slot.next;
            Some((&slot.key[..], &slot.item))
        })
    }
}

fn list_of(class: u8, queue: Queue) -> usize {
    queue as usize * CLASSES + usize::from(class)
}

impl Item {
    fn list(&self) -> usize {
        list_of(self.class, self.queue)
    }
}
