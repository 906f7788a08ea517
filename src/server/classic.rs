//! The classic commands.

use super::engine::Engine;
use super::item::Second;
use super::replies::{client_error, no_room_for_it, server_error};
use super::store_request::{ArithmeticOutcome, Mode, StoreError, StoreOutcome, StoreRequest};
use crate::wire::{self, Key, Keys, Reply, StoreVerb, Value};
use bytes::BytesMut;

/// `get`, `gets`, and with a new expiry `gat` and `gats`.
pub(super) fn get(
    engine: &mut Engine,
    with_cas: bool,
    touch: Option<i64>,
    keys: Keys<'_>,
    now: Second,
    out: &mut BytesMut,
) {
    let exptime = touch.map(|exptime| engine.deadline(exptime, now));
    for key in keys.iter() {
        let store = &mut engine.store;
        let key = key.as_bytes();
        let found = store.get(key, now).map(|item| {
            if let Some(exptime) = exptime {
                item.exptime = exptime;
            }
            let value = Value {
                key,
                client_flags: item.client_flags,
                cas: with_cas.then_some(item.cas),
                data: &item.value,
            };
            Reply::Value(value).encode(out);
        });
        let hit = found.is_some();
        if hit {
            store.cache.bump(key, now);
        }
        engine.detail.got(key, hit);
        if touch.is_some() {
            store.counters.touched(hit);
        } else {
            store.counters.got(hit);
        }
    }
    Reply::End.encode(out);
}

/// The mode of a verb, and the CAS unique that it names.
const fn mode_of(verb: StoreVerb) -> (Mode, u64) {
    match verb {
        StoreVerb::Add => (Mode::Add, 0),
        StoreVerb::Replace => (Mode::Replace, 0),
        StoreVerb::Append => (Mode::Append { vivify: false }, 0),
        StoreVerb::Prepend => (Mode::Prepend { vivify: false }, 0),
        StoreVerb::Cas(unique) => (Mode::Cas, unique),
        StoreVerb::Set => (Mode::Set, 0),
    }
}

pub(super) fn store(engine: &mut Engine, request: &wire::Store<'_>, now: Second) -> Reply<'static> {
    let (mode, compare) = mode_of(request.verb);
    let key = request.key.as_bytes();
    let exptime = engine.deadline(request.exptime, now);
    engine.detail.stored(key);
    let store = &mut engine.store;
    let flags = request.client_flags;
    let room = match store.make_room(key, request.value.len(), flags, exptime, now) {
        Ok(room) => room,
        Err(no_room) => {
            // Stale data must not survive a failed `set`; the other verbs leave the old item.
            if mode == Mode::Set {
                store.cache.remove(key);
            }
            store.cache.journal.refused(key, mode, no_room.status());
            return no_room_for_it(no_room);
        }
    };
    let order = StoreRequest {
        mode,
        key,
        value: request.value,
        client_flags: request.client_flags,
        exptime,
        compare,
        cas: store.next_cas(),
        stale_ok: false,
        binary_key: false,
    };
    match store.store(&order, room, now) {
        StoreOutcome::Yes { .. } => Reply::Stored,
        StoreOutcome::No => Reply::NotStored,
        StoreOutcome::Exists => Reply::Exists,
        StoreOutcome::NotFound => Reply::NotFound,
    }
}

/// Updates the store after a value that was too large to be read.
pub(super) fn refuse_oversized(engine: &mut Engine, request: &wire::Store<'_>) {
    let (mode, _) = mode_of(request.verb);
    let key = request.key.as_bytes();
    engine.detail.stored(key);
    let store = &mut engine.store;
    store.counters.store_too_large += 1;
    let journal = &mut store.cache.journal;
    journal.refused(key, mode, StoreError::TooLarge.status());
    if request.verb == StoreVerb::Set {
        store.cache.remove(key);
    }
}

pub(super) fn delete(engine: &mut Engine, key: Key<'_>, now: Second) -> Reply<'static> {
    let key = key.as_bytes();
    engine.detail.deleted(key);
    let store = &mut engine.store;
    let Some((class, size)) = store
        .get(key, now)
        .map(|item| (item.class, item.value.len()))
    else {
        store.counters.delete_misses += 1;
        return Reply::NotFound;
    };
    let cache = &mut store.cache;
    cache.journal.deleted(key, "delete", class, size);
    cache.remove(key);
    store.counters.delete_hits += 1;
    Reply::Deleted
}

pub(super) fn arithmetic(
    engine: &mut Engine,
    add: bool,
    key: Key<'_>,
    delta: u64,
    now: Second,
) -> Reply<'static> {
    let store = &mut engine.store;
    match store.delta(key.as_bytes(), add, delta, 0, now) {
        ArithmeticOutcome::Done(counted) => Reply::Number(counted.number),
        ArithmeticOutcome::NotFound => {
            store.counters.counter_missed(add);
            Reply::NotFound
        }
        ArithmeticOutcome::NotNumeric => {
            client_error("cannot increment or decrement non-numeric value")
        }
        // The request names no CAS unique, so none can differ.
        ArithmeticOutcome::OtherCas => Reply::Exists,
        ArithmeticOutcome::OutOfMemory => server_error("out of memory"),
    }
}

pub(super) fn touch(
    engine: &mut Engine,
    key: Key<'_>,
    exptime: i64,
    now: Second,
) -> Reply<'static> {
    let exptime = engine.deadline(exptime, now);
    let store = &mut engine.store;
    let key = key.as_bytes();
    let touched = store.get(key, now).map(|item| item.exptime = exptime);
    store.counters.touched(touched.is_some());
    if touched.is_none() {
        return Reply::NotFound;
    }
    store.cache.bump(key, now);
    Reply::Touched
}

pub(super) fn flush_all(engine: &mut Engine, delay: i64, now: Second) -> Reply<'static> {
    engine.store.counters.cmd_flush += 1;
    if !engine.settings.flush_enabled {
        return client_error("flush_all not allowed");
    }
    let base = engine.clock.base();
    engine.store.flush(delay, base, now, |_| false);
    Reply::Ok
}
