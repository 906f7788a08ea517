//! The items, under memcached's rules.
//!
//! No clock and no socket: the second of each call is an argument.

use super::cache::{Cache, Room};
use super::clock::TimeBase;
use super::counters::Counters;
use super::item::{Item, Second};
use super::settings::StoreLimits;
use super::store_request::{
    ArithmeticOutcome, Counter, Mode, StoreError, StoreOutcome, StoreRequest,
};
use super::watch_log::LogItem;
use alloc::string::ToString;
use alloc::vec::Vec;

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) cache: Cache,
    pub(crate) counters: Counters,
    /// The last CAS unique given out. One counter for all keys.
    last_cas: u64,
}

impl Store {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self {
            cache: Cache::new(limits),
            counters: Counters::default(),
            // The first item gets 2, as on 1.6.38 and later.
            last_cas: 1,
        }
    }

    /// The next CAS unique. Taken by requests that go on to fail, too.
    pub(crate) fn next_cas(&mut self) -> u64 {
        self.last_cas = self.last_cas.wrapping_add(1);
        self.last_cas
    }

    /// The item as long as it lives. Reading it this way does not count as a use.
    pub(crate) fn get(&mut self, key: &[u8], now: Second) -> Option<&mut Item> {
        let item = self.cache.find(key)?;
        let flushed = self.cache.is_flushed(item, now);
        if flushed || item.is_expired(now) {
            if flushed {
                self.counters.get_flushed += 1;
            } else {
                self.counters.get_expired += 1;
            }
            self.cache.remove(key);
            return None;
        }
        self.cache.find_mut(key)
    }

    /// Makes room for an item before anything is known about what it replaces, as memcached does.
    pub(crate) fn make_room(
        &mut self,
        key: &[u8],
        length: usize,
        client_flags: u32,
        exptime: Second,
        now: Second,
    ) -> Result<Room, StoreError> {
        let room = self
            .cache
            .make_room(key, length, client_flags, exptime, now);
        match room {
            Err(StoreError::TooLarge) => self.counters.store_too_large += 1,
            Err(StoreError::OutOfMemory) => self.counters.store_no_memory += 1,
            Ok(_) => {}
        }
        room
    }

    /// Puts an item under its key.
    pub(crate) fn link(&mut self, key: &[u8], item: Item, room: Room, now: Second) {
        self.counters.total_items += 1;
        self.cache.link(key, item, room, now);
    }

    /// Stores a value for which [`Self::make_room`] has made room.
    pub(crate) fn store(
        &mut self,
        order: &StoreRequest<'_>,
        room: Room,
        now: Second,
    ) -> StoreOutcome {
        let class = room.class();
        let stored = self.try_store(order, room, now);
        // `append` keeps the expiry that there was.
        let linked = match stored {
            StoreOutcome::Yes { .. } => self.cache.find(order.key),
            _ => None,
        };
        let stub = LogItem {
            ttl: LogItem::printed_ttl(linked.map_or(order.exptime, |item| item.exptime), now),
            size: order.value.len(),
            class: linked.map_or(class, |item| item.class),
        };
        let journal = &mut self.cache.journal;
        journal.stored(order.key, order.mode, stored, stub);
        stored
    }

    fn try_store(&mut self, order: &StoreRequest<'_>, room: Room, now: Second) -> StoreOutcome {
        self.counters.cmd_set += 1;
        let cas_enabled = self.cache.limits.cas;
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
            let stored = match order.mode {
                Mode::Set
                | Mode::Add
                | Mode::Append { vivify: true }
                | Mode::Prepend { vivify: true } => {
                    item.value.extend_from_slice(order.value);
                    return self.linked(order.key, item, room, now);
                }
                Mode::Cas => {
                    self.counters.cas_misses += 1;
                    StoreOutcome::NotFound
                }
                _ => StoreOutcome::No,
            };
            self.cache.free(room);
            return stored;
        };
        let matches = compare == old.cas;
        let refused = match order.mode {
            Mode::Set | Mode::Replace => None,
            Mode::Add => Some(StoreOutcome::No),
            Mode::Cas if compare != 0 && matches => None,
            Mode::Cas if compare != 0 && order.stale_ok && compare < old.cas => {
                item.exptime = old.exptime;
                item.stale = true;
                item.token_sent = old.token_sent;
                None
            }
            Mode::Cas => Some(StoreOutcome::Exists),
            Mode::Append { .. } | Mode::Prepend { .. } => {
                (compare != 0 && !matches).then_some(StoreOutcome::Exists)
            }
        };
        match (order.mode, refused) {
            (Mode::Append { .. } | Mode::Prepend { .. }, None) => {
                item.client_flags = old.client_flags;
                item.exptime = old.exptime;
                item.binary_key = false;
                let parts = match order.mode {
                    Mode::Append { .. } => [&old.value[..], order.value],
                    _ => [order.value, &old.value[..]],
                };
                item.value = parts.concat();
                let (length, flags, exptime) = (item.value.len(), item.client_flags, item.exptime);
                let both = self.cache.make_room(order.key, length, flags, exptime, now);
                // Until then memory for the added part is taken as well.
                self.cache.free(room);
                return match both {
                    Ok(room) => self.linked(order.key, item, room, now),
                    Err(_) => StoreOutcome::No,
                };
            }
            (Mode::Add, _) => self.cache.touch_time(order.key, now),
            (Mode::Cas, None) => self.counters.cas_hits += 1,
            (Mode::Cas, Some(_)) => self.counters.cas_badval += 1,
            _ => {}
        }
        if let Some(refused) = refused {
            self.cache.free(room);
            return refused;
        }
        item.value.extend_from_slice(order.value);
        self.linked(order.key, item, room, now)
    }

    fn linked(&mut self, key: &[u8], item: Item, room: Room, now: Second) -> StoreOutcome {
        let (cas, length) = (item.cas, item.value.len());
        self.link(key, item, room, now);
        let cas = if self.cache.limits.cas { cas } else { 0 };
        StoreOutcome::Yes { cas, length }
    }

    /// Adds to or subtracts from a counter. A `compare` of 0 fits any CAS unique.
    pub(crate) fn delta(
        &mut self,
        key: &[u8],
        add: bool,
        delta: u64,
        compare: u64,
        now: Second,
    ) -> ArithmeticOutcome {
        let Some(item) = self.get(key, now) else {
            return ArithmeticOutcome::NotFound;
        };
        if item.value.is_empty() {
            return ArithmeticOutcome::NotNumeric;
        }
        if compare != 0 && item.cas != compare {
            return ArithmeticOutcome::OtherCas;
        }
        let Some(old) = number_in(&item.value) else {
            return ArithmeticOutcome::NotNumeric;
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
            let (length, flags) = (new.value.len(), new.client_flags);
            let Ok(room) = self.cache.make_room(key, length, flags, exptime, now) else {
                return ArithmeticOutcome::OutOfMemory;
            };
            let cas = self.next_cas();
            self.link(key, Item { cas, ..new }, room, now);
            cas
        } else {
            let width = item.value.len();
            item.value.clear();
            item.value.extend_from_slice(text.as_bytes());
            item.value.resize(width, b' ');
            let cas = self.next_cas();
            self.set_cas(key, cas);
            self.cache.touch_time(key, now);
            cas
        };
        if add {
            self.counters.incr_hits += 1;
        } else {
            self.counters.decr_hits += 1;
        }
        ArithmeticOutcome::Done(Counter {
            number,
            cas: if self.cache.limits.cas { cas } else { 0 },
            exptime,
            replaced,
        })
    }

    /// Gives an item a CAS unique, where the server has any.
    pub(crate) fn set_cas(&mut self, key: &[u8], cas: u64) {
        if !self.cache.limits.cas {
            return;
        }
        if let Some(item) = self.cache.find_mut(key) {
            item.cas = cas;
        }
    }

    /// `flush_all`, now or with a delay, or up to a second that may lie in the past. Items that
    /// `is_locked` names are passed over.
    pub(crate) fn flush(
        &mut self,
        exptime: i64,
        base: TimeBase,
        now: Second,
        is_locked: impl Fn(&[u8]) -> bool,
    ) {
        // A time before the start becomes 0, which undoes all flushes so far.
        let oldest_live = match exptime {
            1.. => base.deadline(exptime, now) - 1,
            _ => now - 1,
        };
        self.cache.flush(oldest_live, is_locked);
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
    use super::super::settings::LruSettings;
    use super::*;
    use alloc::vec;

    const NOW: Second = 100;

    fn limits() -> StoreLimits {
        StoreLimits {
            memory: 1 << 20,
            item: 1 << 16,
            evictions: true,
            cas: true,
            temporary_ttl: None,
            lru: LruSettings::DEFAULT,
        }
    }

    fn order<'a>(
        store: &mut Store,
        mode: Mode,
        key: &'a [u8],
        value: &'a [u8],
    ) -> StoreRequest<'a> {
        StoreRequest {
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

    fn carry_out(store: &mut Store, order: &StoreRequest<'_>, now: Second) -> StoreOutcome {
        let (key, length) = (order.key, order.value.len());
        match store.make_room(key, length, order.client_flags, order.exptime, now) {
            Ok(room) => store.store(order, room, now),
            Err(_) => StoreOutcome::No,
        }
    }

    fn put_at(
        store: &mut Store,
        mode: Mode,
        key: &[u8],
        value: &[u8],
        now: Second,
    ) -> StoreOutcome {
        store.cache.maintain(now);
        let order = order(store, mode, key, value);
        carry_out(store, &order, now)
    }

    fn put(store: &mut Store, mode: Mode, key: &[u8], value: &[u8]) -> StoreOutcome {
        put_at(store, mode, key, value, NOW)
    }

    fn value(store: &mut Store, key: &[u8]) -> Option<Vec<u8>> {
        store.get(key, NOW).map(|item| item.value.clone())
    }

    fn lives(store: &mut Store, key: &[u8], now: Second) -> bool {
        store.get(key, now).is_some()
    }

    #[test]
    fn failed_stores_use_cas_uniques() {
        let mut store = Store::new(limits());
        assert_eq!(
            put(&mut store, Mode::Add, b"a", b"x"),
            StoreOutcome::Yes { cas: 2, length: 1 }
        );
        assert_eq!(put(&mut store, Mode::Add, b"a", b"y"), StoreOutcome::No);
        assert_eq!(
            put(&mut store, Mode::Set, b"a", b"zz"),
            StoreOutcome::Yes { cas: 4, length: 2 }
        );
    }

    #[test]
    fn cas_replaces_only_the_seen_item() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"a", b"x");
        let mut swap = order(&mut store, Mode::Cas, b"a", b"y");
        for (compare, stored) in [(99, StoreOutcome::Exists), (0, StoreOutcome::Exists)] {
            swap.compare = compare;
            assert_eq!(carry_out(&mut store, &swap, NOW), stored);
        }
        swap.compare = 2;
        let stored = carry_out(&mut store, &swap, NOW);
        assert_eq!(stored, StoreOutcome::Yes { cas: 3, length: 1 });
        swap.key = b"b";
        assert_eq!(carry_out(&mut store, &swap, NOW), StoreOutcome::NotFound);
        swap.key = b"a";
        swap.compare = 2;
        swap.stale_ok = true;
        let stored = carry_out(&mut store, &swap, NOW);
        assert!(matches!(stored, StoreOutcome::Yes { .. }));
        assert!(store.get(b"a", NOW).is_some_and(|item| item.stale));
    }

    #[test]
    fn expired_item_gives_way_at_once() {
        let mut store = Store::new(limits());
        let mut short = order(&mut store, Mode::Add, b"a", b"x");
        short.exptime = NOW + 2;
        for (now, is_stored) in [(NOW, true), (NOW + 1, false), (NOW + 2, true)] {
            let stored = carry_out(&mut store, &short, now);
            assert_eq!(
                matches!(stored, StoreOutcome::Yes { .. }),
                is_stored,
                "{now}"
            );
        }
    }

    #[test]
    fn counters_wrap_and_keep_width() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"n", b"18446744073709551615");
        let number = |delta| match delta {
            ArithmeticOutcome::Done(counted) => (counted.number, counted.replaced),
            other => panic!("{other:?}"),
        };
        assert_eq!(number(store.delta(b"n", true, 1, 0, NOW)), (0, false));
        assert_eq!(value(&mut store, b"n").map(|value| value.len()), Some(20));
        put(&mut store, Mode::Set, b"n", b"9");
        assert_eq!(number(store.delta(b"n", true, 1, 0, NOW)), (10, true));
        assert_eq!(number(store.delta(b"n", false, 11, 0, NOW)), (0, false));
        assert_eq!(value(&mut store, b"n"), Some(b"0 ".to_vec()));
        assert_eq!(
            store.delta(b"n", true, 1, 99, NOW),
            ArithmeticOutcome::OtherCas
        );
        assert_eq!(
            store.delta(b"none", true, 1, 0, NOW),
            ArithmeticOutcome::NotFound
        );
        put(&mut store, Mode::Set, b"n", b"");
        assert_eq!(
            store.delta(b"n", true, 1, 0, NOW),
            ArithmeticOutcome::NotNumeric
        );
    }

    /// One page of 96-byte chunks: ten of them.
    fn small() -> StoreLimits {
        StoreLimits {
            memory: 960,
            ..limits()
        }
    }

    const KEYS: [&[u8]; 10] = [
        b"k0", b"k1", b"k2", b"k3", b"k4", b"k5", b"k6", b"k7", b"k8", b"k9",
    ];

    #[test]
    fn oldest_cold_item_is_evicted() {
        let mut store = Store::new(small());
        for key in KEYS {
            put(&mut store, Mode::Set, key, b"eight by");
        }
        store.cache.bump(b"k0", NOW);
        store.cache.bump(b"k0", NOW);
        // A refused store gives its chunk back.
        assert_eq!(
            put(&mut store, Mode::Replace, b"none", b"eight by"),
            StoreOutcome::No
        );
        for new in [b"x0", b"x1", b"x2"] {
            put(&mut store, Mode::Set, new, b"eight by");
        }
        let left: Vec<bool> = KEYS.map(|key| store.cache.find(key).is_some()).to_vec();
        let expected = [
            true, false, false, false, true, true, true, true, true, true,
        ];
        assert_eq!(left, expected);
        assert_eq!(store.cache.totals().evicted, 3);
        for key in KEYS {
            store.cache.remove(key);
        }
        for new in [b"x0", b"x1", b"x2"] {
            store.cache.remove(new);
        }
        let (_, class) = store.cache.slabs.iter().next().expect("a class");
        assert_eq!(class.free_chunks, class.chunks_per_page * class.pages);
        assert_eq!(store.cache.bytes(), 0);
    }

    #[test]
    fn memory_fills_without_evictions() {
        let mut store = Store::new(StoreLimits {
            evictions: false,
            ..small()
        });
        let mut short = order(&mut store, Mode::Set, b"a", b"x");
        short.exptime = NOW + 1;
        carry_out(&mut store, &short, NOW);
        for key in &KEYS[..9] {
            put(&mut store, Mode::Set, key, b"x");
        }
        let mut room = |now| store.make_room(b"c", 1, 0, 0, now).map(|_| ());
        assert_eq!(room(NOW), Err(StoreError::OutOfMemory));
        // A walk finds what has been dead for a second.
        assert_eq!(room(NOW + 1), Err(StoreError::OutOfMemory));
        assert_eq!(room(NOW + 2), Ok(()));
        let large = store.make_room(b"c", 1 << 16, 0, 0, NOW).map(|_| ());
        assert_eq!(large, Err(StoreError::TooLarge));
    }

    #[test]
    fn temporary_items_are_evicted_last() {
        let mut store = Store::new(StoreLimits {
            temporary_ttl: Some(60),
            ..small()
        });
        let mut lock = order(&mut store, Mode::Add, b"lk", b"eight by");
        lock.exptime = NOW + 60;
        carry_out(&mut store, &lock, NOW);
        for round in 0..3 {
            for key in KEYS {
                put_at(&mut store, Mode::Set, key, b"eight by", NOW + round);
            }
        }
        assert!(value(&mut store, b"lk").is_some());
        assert!(store.cache.totals().evicted >= 2);
    }

    #[test]
    fn large_items_return_all_chunks() {
        let mut store = Store::new(StoreLimits {
            memory: 4 << 20,
            item: 1 << 20,
            ..limits()
        });
        let value = vec![b'x'; 700_000];
        for _ in 0..20 {
            let stored = put(&mut store, Mode::Set, b"a", &value);
            assert!(matches!(stored, StoreOutcome::Yes { .. }));
        }
        store.cache.remove(b"a");
        for (number, class) in store.cache.slabs.iter() {
            assert_eq!(
                class.free_chunks,
                class.chunks_per_page * class.pages,
                "{number}"
            );
        }
    }

    const BASE_START: u64 = 1_795_337_329;

    fn flush(store: &mut Store, exptime: i64, now: Second) {
        store.cache.maintain(now);
        store.flush(exptime, TimeBase::started_at(BASE_START), now, |_| false);
    }

    fn read(store: &mut Store, key: &[u8], times: u32, now: Second) {
        store.cache.maintain(now);
        for _ in 0..times {
            assert!(lives(store, key, now));
            store.cache.bump(key, now);
        }
    }

    #[test]
    fn flush_spares_newer_items() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"a", b"x");
        flush(&mut store, 0, NOW);
        assert_eq!(value(&mut store, b"a"), None);
        // Stored in the same second, but after the flush.
        put(&mut store, Mode::Set, b"a", b"x");
        assert!(value(&mut store, b"a").is_some());
        flush(&mut store, 5, NOW);
        assert!(lives(&mut store, b"a", NOW + 3));
        assert!(!lives(&mut store, b"a", NOW + 4));
        assert_eq!(store.counters.get_flushed, 1);
        put_at(&mut store, Mode::Set, b"a", b"x", NOW + 5);
        assert!(lives(&mut store, b"a", NOW + 6));
    }

    /// A sentinel can outlive the locks that it stands for.
    #[test]
    fn item_read_at_flush_survives_it() {
        let mut store = Store::new(limits());
        for key in [&b"older"[..], b"read", b"old"] {
            put(&mut store, Mode::Set, key, b"x");
        }
        // No time for the maintainer: all in one second, like the flush.
        store.cache.find_mut(b"old").expect("an item").time = NOW - 5;
        read(&mut store, b"read", 2, NOW);
        store.flush(0, TimeBase::started_at(BASE_START), NOW, |_| false);
        assert!(lives(&mut store, b"read", NOW));
        assert!(!lives(&mut store, b"old", NOW));
    }

    #[test]
    fn locked_item_survives_wherever_it_stands() {
        let mut store = Store::new(limits());
        for key in [&b"a"[..], b"b", b"c"] {
            put(&mut store, Mode::Set, key, b"x");
        }
        let is_locked = |key: &[u8]| key == b"c";
        store.flush(0, TimeBase::started_at(BASE_START), NOW, is_locked);
        assert!(lives(&mut store, b"c", NOW));
        assert!(!lives(&mut store, b"a", NOW) && !lives(&mut store, b"b", NOW));
    }

    #[test]
    fn flush_before_start_undoes_the_last() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"a", b"x");
        flush(&mut store, 0, NOW + 5);
        flush(&mut store, 2_592_001, NOW + 5);
        assert_eq!(store.cache.oldest_live, 0);
        assert!(lives(&mut store, b"a", NOW + 5));
    }

    #[test]
    fn flush_to_past_second_takes_everything() {
        let mut store = Store::new(limits());
        put(&mut store, Mode::Set, b"a", b"x");
        put_at(&mut store, Mode::Set, b"b", b"x", NOW + 5);
        let unix = TimeBase::started_at(BASE_START).unix(NOW + 3);
        flush(&mut store, unix.try_into().expect("small"), NOW + 9);
        assert!(!lives(&mut store, b"a", NOW + 9));
        assert!(!lives(&mut store, b"b", NOW + 9));
    }

    #[test]
    fn read_item_keeps_time_until_moved() {
        let mut store = Store::new(limits());
        for key in &KEYS[..8] {
            put(&mut store, Mode::Set, key, b"x");
        }
        put_at(&mut store, Mode::Set, b"k8", b"x", NOW + 10);
        put_at(&mut store, Mode::Set, b"k9", b"x", NOW + 10);
        let time = |store: &Store, key: &[u8]| store.cache.find(key).map(|item| item.time);
        // Hot: marked with the second read, and from then on left alone.
        read(&mut store, b"k9", 1, NOW + 11);
        assert_eq!(time(&store, b"k9"), Some(NOW + 10));
        read(&mut store, b"k9", 1, NOW + 12);
        assert_eq!(time(&store, b"k9"), Some(NOW + 12));
        store.cache.bump(b"k9", NOW + 13);
        assert_eq!(time(&store, b"k9"), Some(NOW + 12));
        // Warm since: marked anew.
        read(&mut store, b"k9", 1, NOW + 14);
        assert_eq!(time(&store, b"k9"), Some(NOW + 14));
        // Cold: moved by the next look of the maintainer, with the time of that.
        read(&mut store, b"k0", 2, NOW + 15);
        assert_eq!(time(&store, b"k0"), Some(NOW));
        store.cache.maintain(NOW + 16);
        assert_eq!(time(&store, b"k0"), Some(NOW + 16));
    }
}
