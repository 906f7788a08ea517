//! The items, under memcached's rules.
//!
//! No clock and no socket: every call is told the second it happens in.

use super::clock::TimeBase;
use super::item::{Item, Second, size_of_item};
use super::journal::{Journal, Stub};
use super::stats::Counters;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use std::collections::HashMap;

/// The limits a store keeps to.
#[derive(Debug, Clone)]
pub(crate) struct StoreLimits {
    pub(crate) memory: usize,
    pub(crate) item: usize,
    pub(crate) evictions: bool,
    pub(crate) cas: bool,
    /// Items with at most this many seconds to live when they are stored are never evicted.
    pub(crate) temporary_ttl: Option<Second>,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) limits: StoreLimits,
    pub(crate) counters: Counters,
    pub(crate) journal: Journal,
    items: HashMap<Box<[u8]>, Item>,
    /// The keys of all items that may be evicted, by [`Item::last_use`].
    recency: BTreeMap<u64, Box<[u8]>>,
    uses: u64,
    /// The sum of [`Item::size`].
    bytes: usize,
    /// The last CAS unique given out. One counter for all keys.
    last_cas: u64,
    /// Items last stored or read up to this second die when it comes.
    oldest_live: Second,
}

/// When a value is stored, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Set,
    Add,
    Replace,
    Append { vivify: bool },
    Prepend { vivify: bool },
    Cas,
}

/// A value to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) mode: Mode,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) client_flags: u32,
    /// As [`TimeBase::deadline`] gives it.
    pub(crate) exptime: Second,
    /// The CAS unique the item has to have; 0 for any.
    pub(crate) compare: u64,
    /// The CAS unique the item gets.
    pub(crate) cas: u64,
    /// Whether a lower `compare` stores nonetheless and leaves the item stale.
    pub(crate) stale_ok: bool,
    pub(crate) binary_key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The CAS unique and the length of the item's value.
    Yes {
        cas: u64,
        length: usize,
    },
    No,
    Exists,
    NotFound,
}

/// Why there is no room for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    TooLarge,
    OutOfMemory,
}

impl NoRoom {
    /// As watchers are told.
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::OutOfMemory => "no_memory",
        }
    }
}

/// What became of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delta {
    Done(Counted),
    NotFound,
    NotNumeric,
    OtherCas,
    OutOfMemory,
}

/// A counter that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    pub(crate) cas: u64,
    pub(crate) exptime: Second,
    /// Whether the text grew, so that memcached put a new item in the place of the one it goes on
    /// to change.
    pub(crate) replaced: bool,
}

impl Store {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            counters: Counters::default(),
            journal: Journal::default(),
            items: HashMap::new(),
            recency: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            // The first item gets 2, as on 1.6.38 and later.
            last_cas: 1,
            oldest_live: 0,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &Item)> {
        self.items.iter().map(|(key, item)| (&key[..], item))
    }

    pub(crate) fn oldest_live(&self) -> Second {
        self.oldest_live
    }

    /// The next CAS unique. Taken by requests that go on to fail, too.
    pub(crate) fn next_cas(&mut self) -> u64 {
        self.last_cas = self.last_cas.wrapping_add(1);
        self.last_cas
    }

    /// The item as long as it lives. Reading it this way does not count as a use.
    pub(crate) fn get(&mut self, key: &[u8], now: Second) -> Option<&mut Item> {
        let item = self.items.get(key)?;
        let flushed =
            self.oldest_live != 0 && self.oldest_live <= now && item.time <= self.oldest_live;
        if flushed || item.is_expired(now) {
            if flushed {
                self.counters.get_flushed += 1;
            } else {
                self.counters.get_expired += 1;
            }
            self.remove(key);
            return None;
        }
        self.items.get_mut(key)
    }

    /// Counts a use of the item.
    pub(crate) fn bump(&mut self, key: &[u8], now: Second) {
        self.uses += 1;
        let Some(item) = self.items.get_mut(key) else {
            return;
        };
        // The first read after a store leaves the time of the store, as memcached does.
        if item.fetched {
            item.time = now;
        }
        item.fetched = true;
        if let Some(key) = self.recency.remove(&item.last_use) {
            item.last_use = self.uses;
            self.recency.insert(self.uses, key);
        }
    }

    /// Takes the item away, dead or alive.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Item> {
        let item = self.items.remove(key)?;
        self.recency.remove(&item.last_use);
        self.bytes -= item.size(key);
        Some(item)
    }

    /// Makes room for an item before anything is known about what it replaces, as memcached does.
    pub(crate) fn make_room(
        &mut self,
        key: &[u8],
        length: usize,
        client_flags: u32,
        now: Second,
    ) -> Result<(), NoRoom> {
        let size = size_of_item(key, length, client_flags, self.limits.cas);
        if size > self.limits.item {
            self.counters.store_too_large += 1;
            return Err(NoRoom::TooLarge);
        }
        if self.bytes + size > self.limits.memory {
            self.reclaim(now);
        }
        while self.bytes + size > self.limits.memory {
            let oldest = self.recency.first_key_value().map(|(_, key)| key.clone());
            let Some(oldest) = oldest.filter(|_| self.limits.evictions) else {
                self.counters.store_no_memory += 1;
                return Err(NoRoom::OutOfMemory);
            };
            self.evict(&oldest, now);
        }
        Ok(())
    }

    /// Takes the item away to make room. Says whether there was one.
    pub(crate) fn evict(&mut self, key: &[u8], now: Second) -> bool {
        let Some(item) = self.remove(key) else {
            return false;
        };
        self.journal.evicted(key, &item, now);
        self.counters.evictions += 1;
        true
    }

    /// Frees what is dead. Looked for only when memory is short or somebody asks, since it looks at
    /// everything.
    pub(crate) fn reclaim(&mut self, now: Second) {
        let dead: Vec<Box<[u8]>> = self
            .items
            .iter()
            .filter(|(_, item)| item.is_expired(now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in dead {
            self.remove(&key);
            self.counters.reclaimed += 1;
        }
    }

    /// Puts an item under its key, for which there is room already. `exptime_then` is the expiry
    /// that memcached knows when it decides about eviction.
    pub(crate) fn link(&mut self, key: &[u8], mut item: Item, exptime_then: Second, now: Second) {
        self.remove(key);
        self.uses += 1;
        item.time = now;
        item.last_use = self.uses;
        if !self.limits.cas {
            item.cas = 0;
        }
        item.temporary = self
            .limits
            .temporary_ttl
            .is_some_and(|ttl| exptime_then != 0 && exptime_then.saturating_sub(now) <= ttl);
        self.bytes += item.size(key);
        self.counters.total_items += 1;
        if !item.temporary {
            self.recency.insert(self.uses, key.into());
        }
        self.items.insert(key.into(), item);
    }

    /// Stores a value for which [`Self::make_room`] has made room.
    pub(crate) fn store(&mut self, order: &Order<'_>, now: Second) -> Stored {
        let stored = self.try_store(order, now);
        // `append` keeps the expiry that there was.
        let linked = match stored {
            Stored::Yes { .. } => self.items.get(order.key),
            _ => None,
        };
        let exptime = linked.map_or(order.exptime, |item| item.exptime);
        let stub = Stub::new(exptime, now, order.value.len());
        self.journal.stored(order.key, order.mode, stored, stub);
        stored
    }

    fn try_store(&mut self, order: &Order<'_>, now: Second) -> Stored {
        self.counters.cmd_set += 1;
        let cas_enabled = self.limits.cas;
        let compare = if cas_enabled { order.compare } else { 0 };
        let mut item = Item {
            value: Vec::new(),
            client_flags: order.client_flags,
            exptime: order.exptime,
            cas: order.cas,
            binary_key: order.binary_key,
            ..Item::default()
        };
        let Some(old) = self.get(order.key, now) else {
            match order.mode {
                Mode::Set
                | Mode::Add
                | Mode::Append { vivify: true }
                | Mode::Prepend { vivify: true } => {
                    item.value.extend_from_slice(order.value);
                    return self.linked(order.key, item, now);
                }
                Mode::Cas => {
                    self.counters.cas_misses += 1;
                    return Stored::NotFound;
                }
                _ => return Stored::No,
            }
        };
        let matches = compare == old.cas;
        match order.mode {
            Mode::Add => {
                self.bump_unread(order.key);
                return Stored::No;
            }
            Mode::Cas if compare != 0 && matches => {
                item.value.extend_from_slice(order.value);
                self.counters.cas_hits += 1;
            }
            Mode::Cas if compare != 0 && order.stale_ok && compare < old.cas => {
                item.exptime = old.exptime;
                item.stale = true;
                item.token_sent = old.token_sent;
                item.value.extend_from_slice(order.value);
            }
            Mode::Cas => {
                self.counters.cas_badval += 1;
                return Stored::Exists;
            }
            Mode::Append { .. } | Mode::Prepend { .. } if compare != 0 && !matches => {
                return Stored::Exists;
            }
            Mode::Append { .. } | Mode::Prepend { .. } => {
                item.client_flags = old.client_flags;
                item.exptime = old.exptime;
                item.binary_key = false;
                let parts = match order.mode {
                    Mode::Append { .. } => [&old.value[..], order.value],
                    _ => [order.value, &old.value[..]],
                };
                item.value = parts.concat();
                let length = item.value.len();
                if self
                    .make_room(order.key, length, item.client_flags, now)
                    .is_err()
                {
                    return Stored::No;
                }
            }
            Mode::Set | Mode::Replace => item.value.extend_from_slice(order.value),
        }
        self.linked(order.key, item, now)
    }

    fn linked(&mut self, key: &[u8], item: Item, now: Second) -> Stored {
        let (cas, length, exptime) = (item.cas, item.value.len(), item.exptime);
        self.link(key, item, exptime, now);
        let cas = if self.limits.cas { cas } else { 0 };
        Stored::Yes { cas, length }
    }

    /// Moves the item to the young end without marking it as read.
    fn bump_unread(&mut self, key: &[u8]) {
        self.uses += 1;
        if let Some(item) = self.items.get_mut(key) {
            if let Some(key) = self.recency.remove(&item.last_use) {
                item.last_use = self.uses;
                self.recency.insert(self.uses, key);
            }
        }
    }

    /// Adds to or subtracts from a counter. A `compare` of 0 fits any CAS unique.
    pub(crate) fn delta(
        &mut self,
        key: &[u8],
        add: bool,
        delta: u64,
        compare: u64,
        now: Second,
    ) -> Delta {
        let Some(item) = self.get(key, now) else {
            return Delta::NotFound;
        };
        if item.value.is_empty() {
            return Delta::NotNumeric;
        }
        if compare != 0 && item.cas != compare {
            return Delta::OtherCas;
        }
        let Some(old) = number_in(&item.value) else {
            return Delta::NotNumeric;
        };
        let number = if add {
            old.wrapping_add(delta)
        } else {
            old.saturating_sub(delta)
        };
        let text = number.to_string();
        let exptime = item.exptime;
        let replaced = text.len() > item.value.len();
        let cas = if replaced {
            let new = Item {
                value: text.into_bytes(),
                client_flags: item.client_flags,
                exptime,
                ..Item::default()
            };
            if self
                .make_room(key, new.value.len(), new.client_flags, now)
                .is_err()
            {
                return Delta::OutOfMemory;
            }
            let cas = self.next_cas();
            self.link(key, Item { cas, ..new }, exptime, now);
            cas
        } else {
            let width = item.value.len();
            item.value.clear();
            item.value.extend_from_slice(text.as_bytes());
            item.value.resize(width, b' ');
            let cas = self.next_cas();
            self.set_cas(key, cas);
            self.bump_unread(key);
            cas
        };
        if add {
            self.counters.incr_hits += 1;
        } else {
            self.counters.decr_hits += 1;
        }
        Delta::Done(Counted {
            number,
            cas: if self.limits.cas { cas } else { 0 },
            exptime,
            replaced,
        })
    }

    /// Gives an item a CAS unique, where the server has any.
    pub(crate) fn set_cas(&mut self, key: &[u8], cas: u64) {
        if !self.limits.cas {
            return;
        }
        if let Some(item) = self.items.get_mut(key) {
            self.bytes -= item.size(key);
            item.cas = cas;
            self.bytes += item.size(key);
        }
    }

    /// `flush_all`, now or with a delay.
    pub(crate) fn flush(&mut self, delay: i64, base: TimeBase, now: Second) {
        if delay > 0 {
            self.oldest_live = base.deadline(delay, now).saturating_sub(1);
        }
        if delay <= 0 || self.oldest_live <= now {
            self.items.clear();
            self.recency.clear();
            self.bytes = 0;
            self.oldest_live = now.saturating_sub(1);
        }
    }
}

/// The number that a value starts with, read as `strtoull` does: spaces around it do not matter.
fn number_in(value: &[u8]) -> Option<u64> {
    let text = value.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    crate::wire::parse_u64(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const NOW: Second = 10;

    fn limits() -> StoreLimits {
        StoreLimits {
            memory: 1 << 20,
            item: 1 << 16,
            evictions: true,
            cas: true,
            temporary_ttl: None,
        }
    }

    fn order<'a>(store: &mut Store, mode: Mode, key: &'a [u8], value: &'a [u8]) -> Order<'a> {
        Order {
            mode,
            key,
            value,
            client_flags: 0,
            exptime: 0,
            compare: 0,
            cas: store.next_cas(),
            stale_ok: false,
            binary_key: false,
        }
    }

    fn put(store: &mut Store, mode: Mode, key: &[u8], value: &[u8]) -> Stored {
        let order = order(store, mode, key, value);
        store
            .make_room(key, value.len(), 0, NOW)
            .map_or(Stored::No, |()| store.store(&order, NOW))
    }

    fn value(store: &mut Store, key: &[u8]) -> Option<Vec<u8>> {
        store.get(key, NOW).map(|item| item.value.clone())
    }

    #[test]
    fn the_first_cas_unique_is_two_and_failures_use_them_up() {
        let mut store = Store::new(limits());
        assert_eq!(
            put(&mut store, Mode::Add, b"a", b"x"),
            Stored::Yes { cas: 2, length: 1 }
        );
        assert_eq!(put(&mut store, Mode::Add, b"a", b"y"), Stored::No);
        assert_eq!(
            put(&mut store, Mode::Set, b"a", b"zz"),
            Stored::Yes { cas: 4, length: 2 }
        );
    }

    #[test]
    fn cas_stores_only_over_what_was_seen() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"a", b"x");
        let mut swap = order(&mut store, Mode::Cas, b"a", b"y");
        for (compare, stored) in [(99, Stored::Exists), (0, Stored::Exists)] {
            swap.compare = compare;
            assert_eq!(store.store(&swap, NOW), stored);
        }
        swap.compare = 2;
        assert_eq!(store.store(&swap, NOW), Stored::Yes { cas: 3, length: 1 });
        swap.key = b"b";
        assert_eq!(store.store(&swap, NOW), Stored::NotFound);
        swap.key = b"a";
        swap.compare = 2;
        swap.stale_ok = true;
        assert!(matches!(store.store(&swap, NOW), Stored::Yes { .. }));
        assert!(store.get(b"a", NOW).is_some_and(|item| item.stale));
    }

    #[test]
    fn an_expired_item_makes_way_in_its_second() {
        let mut store = Store::new(limits());
        let mut short = order(&mut store, Mode::Add, b"a", b"x");
        short.exptime = NOW + 2;
        assert!(matches!(store.store(&short, NOW), Stored::Yes { .. }));
        assert_eq!(store.store(&short, NOW + 1), Stored::No);
        assert!(matches!(store.store(&short, NOW + 2), Stored::Yes { .. }));
    }

    #[test]
    fn counters_wrap_stop_and_keep_their_width() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"n", b"18446744073709551615");
        let number = |delta| match delta {
            Delta::Done(counted) => (counted.number, counted.replaced),
            other => panic!("{other:?}"),
        };
        assert_eq!(number(store.delta(b"n", true, 1, 0, NOW)), (0, false));
        assert_eq!(value(&mut store, b"n").map(|value| value.len()), Some(20));
        put(&mut store, Mode::Set, b"n", b"9");
        assert_eq!(number(store.delta(b"n", true, 1, 0, NOW)), (10, true));
        assert_eq!(number(store.delta(b"n", false, 11, 0, NOW)), (0, false));
        assert_eq!(value(&mut store, b"n"), Some(b"0 ".to_vec()));
        assert_eq!(store.delta(b"n", true, 1, 99, NOW), Delta::OtherCas);
        assert_eq!(store.delta(b"none", true, 1, 0, NOW), Delta::NotFound);
        put(&mut store, Mode::Set, b"n", b"");
        assert_eq!(store.delta(b"n", true, 1, 0, NOW), Delta::NotNumeric);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_sum_stays_right() {
        let mut store = Store::new(StoreLimits {
            memory: 10 * size_of_item(b"k0", 8, 0, true),
            ..limits()
        });
        let keys: Vec<Vec<u8>> = (0..10u8).map(|n| vec![b'k', b'0' + n]).collect();
        for key in &keys {
            put(&mut store, Mode::Set, key, b"eight by");
        }
        store.bump(b"k0", NOW);
        put(&mut store, Mode::Set, b"kx", b"eight by");
        assert!(value(&mut store, b"k0").is_some());
        assert_eq!(value(&mut store, b"k1"), None);
        assert_eq!(store.counters.evictions, 1);
        let sum: usize = store.items.iter().map(|(key, item)| item.size(key)).sum();
        assert_eq!(store.bytes(), sum);
        assert_eq!(store.recency.len(), store.len());
    }

    #[test]
    fn without_evictions_memory_runs_out_until_something_dies() {
        let mut store = Store::new(StoreLimits {
            memory: 2 * size_of_item(b"a", 1, 0, true),
            evictions: false,
            ..limits()
        });
        let mut short = order(&mut store, Mode::Set, b"a", b"x");
        short.exptime = NOW + 1;
        store.store(&short, NOW);
        put(&mut store, Mode::Set, b"b", b"x");
        assert_eq!(store.make_room(b"c", 1, 0, NOW), Err(NoRoom::OutOfMemory));
        assert_eq!(store.make_room(b"c", 1, 0, NOW + 1), Ok(()));
        assert_eq!(
            store.make_room(b"c", 1 << 16, 0, NOW),
            Err(NoRoom::TooLarge)
        );
    }

    #[test]
    fn temporary_items_outlive_the_rest() {
        let mut store = Store::new(StoreLimits {
            memory: 3 * size_of_item(b"k0", 8, 0, true),
            temporary_ttl: Some(60),
            ..limits()
        });
        let mut lock = order(&mut store, Mode::Add, b"lk", b"eight by");
        lock.exptime = NOW + 60;
        store.store(&lock, NOW);
        for key in [b"k0", b"k1", b"k2", b"k3"] {
            put(&mut store, Mode::Set, key, b"eight by");
        }
        assert!(value(&mut store, b"lk").is_some());
        assert_eq!(store.counters.evictions, 2);
    }

    #[test]
    fn a_flush_takes_everything_and_a_delayed_one_what_is_older() {
        let base = TimeBase::started_at(1_795_337_329);
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"a", b"x");
        store.flush(0, base, NOW);
        assert_eq!(value(&mut store, b"a"), None);
        // Stored in the same second, but after the flush.
        put(&mut store, Mode::Set, b"a", b"x");
        assert!(value(&mut store, b"a").is_some());
        store.flush(5, base, NOW);
        assert!(store.get(b"a", NOW + 3).is_some());
        assert!(store.get(b"a", NOW + 4).is_none());
        let late = order(&mut store, Mode::Set, b"a", b"x");
        store.store(&late, NOW + 5);
        assert!(store.get(b"a", NOW + 6).is_some());
    }
}
