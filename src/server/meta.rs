//! The meta commands.
//!
//! Flags act and answer in the order in which they stand.

use super::base64::{self, shown_key};
use super::engine::Engine;
use super::item::{Item, Second, printed_ttl};
use super::replies::{client_error, no_room_for_it, server_error};
use super::store_request::{
    ArithmeticOutcome, Counter, Mode, StoreError, StoreOutcome, StoreRequest,
};
use super::watch_log::LogItem;
use crate::wire::{
    DebugItem, Flag, Flags, ItemMetadata, Key, MetaReply, MetaStatus, Reply, ReplyFlag, ReplyFlags,
};
use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::BytesMut;

/// The key of a request: the bytes it stands for, and how they are shown again.
struct RequestKey<'a> {
    bytes: Cow<'a, [u8]>,
    /// `true` if it came as base64.
    binary: bool,
}

impl<'a> RequestKey<'a> {
    /// `None` when the request says base64 and it is none.
    fn of(key: Key<'a>, flags: Flags<'_>) -> Option<Self> {
        let text = key.as_bytes();
        if flags.has(b'b') {
            return base64::decode(text).map(|bytes| Self {
                bytes: Cow::Owned(bytes),
                binary: true,
            });
        }
        Some(Self {
            bytes: Cow::Borrowed(text),
            binary: false,
        })
    }

    fn shown(&self, binary: bool) -> Cow<'_, [u8]> {
        shown_key(&self.bytes, binary)
    }
}

const BAD_KEY: Reply<'static> = client_error("error decoding key");

/// Shows a key, and that it is base64 where it is.
fn push_key<'a>(list: &mut Vec<ReplyFlag<'a>>, shown: &'a [u8], binary: bool) {
    list.push(ReplyFlag::Key(shown));
    if binary {
        list.push(ReplyFlag::Base64);
    }
}

/// The answer with no more in it than the opaque token and the key.
fn put_bare(out: &mut BytesMut, status: MetaStatus, name: &RequestKey<'_>, flags: Flags<'_>) {
    let shown = name.shown(name.binary);
    let mut list = Vec::new();
    for flag in flags.iter() {
        match flag {
            Flag::Opaque(token) => list.push(ReplyFlag::Opaque(token.as_bytes())),
            Flag::ReturnKey => push_key(&mut list, &shown, name.binary),
            _ => {}
        }
    }
    put(out, status, &list, b"");
}

fn put(out: &mut BytesMut, status: MetaStatus, flags: &[ReplyFlag<'_>], data: &[u8]) {
    Reply::Meta(MetaReply {
        status,
        flags: ReplyFlags::list(flags),
        data,
    })
    .encode(out);
}

fn explicit_cas(flags: Flags<'_>) -> Option<u64> {
    flags.iter().find_map(|flag| match flag {
        Flag::ExplicitCas(cas) => Some(cas),
        _ => None,
    })
}

fn compared_cas(flags: Flags<'_>) -> Option<u64> {
    flags.iter().find_map(|flag| match flag {
        Flag::CompareCas(cas) => Some(cas),
        _ => None,
    })
}

/// `mg`.
pub(super) fn get(
    engine: &mut Engine,
    key: Key<'_>,
    flags: Flags<'_>,
    now: Second,
    out: &mut BytesMut,
) {
    let Some(name) = RequestKey::of(key, flags) else {
        return BAD_KEY.encode(out);
    };
    let key = &name.bytes[..];
    let base = engine.clock.base();
    let touching = flags.has(b'T');
    let store = &mut engine.store;
    let mut created = false;
    if store.get(key, now).is_none() {
        // Its expiry is set later, so that it counts as immortal when room is made.
        let room = if flags.has(b'N') {
            store.cache.make_room(key, 0, 0, 0, now).ok()
        } else {
            None
        };
        let Some(room) = room else {
            if touching {
                store.counters.touched(false);
            } else {
                store.counters.got(false);
            }
            if !flags.has(b'q') {
                put_bare(out, MetaStatus::Miss, &name, flags);
            }
            return;
        };
        created = true;
        let stub = Item {
            cas: explicit_cas(flags).unwrap_or_else(|| store.next_cas()),
            ..Item::default()
        };
        store.link(key, stub, room, now);
    }
    // Whatever became of it: one that was just created may be dead already, by a delayed flush.
    let Some(item) = store.cache.find_mut(key) else {
        return;
    };
    let shown = name.shown(item.binary_key);
    let mut list = Vec::new();
    let mut won = false;
    for flag in flags.iter() {
        match flag {
            Flag::Ttl(exptime) => item.exptime = base.deadline(exptime, now),
            Flag::Vivify(exptime) if created => {
                item.exptime = base.deadline(exptime, now);
                won = true;
            }
            Flag::Recache(seconds) => {
                let soon = item.exptime != 0 && item.exptime < base.deadline(seconds, now);
                won |= soon && !created && !item.token_sent;
            }
            Flag::ReturnSize => list.push(ReplyFlag::Size(item.value.len() as u64)),
            Flag::ReturnTtl => list.push(ReplyFlag::Ttl(item.printed_ttl(now))),
            Flag::ReturnCas => list.push(ReplyFlag::Cas(item.cas)),
            Flag::ReturnClientFlags => list.push(ReplyFlag::ClientFlags(item.client_flags)),
            Flag::ReturnLastAccess => {
                list.push(ReplyFlag::LastAccess(now.saturating_sub(item.time)));
            }
            Flag::ReturnHit => list.push(ReplyFlag::Hit(item.fetched)),
            Flag::Opaque(token) => list.push(ReplyFlag::Opaque(token.as_bytes())),
            Flag::ReturnKey => push_key(&mut list, &shown, item.binary_key),
            _ => {}
        }
    }
    if item.token_sent {
        list.push(ReplyFlag::WonBefore);
    }
    if item.stale {
        list.push(ReplyFlag::Stale);
        won |= !item.token_sent;
    }
    if won {
        list.push(ReplyFlag::Won);
        item.token_sent = true;
    }
    // A caller that names the CAS unique it has seen does not need the value again.
    let unchanged = compared_cas(flags) == Some(item.cas);
    if flags.has(b'v') && !unchanged {
        put(out, MetaStatus::Value, &list, &item.value);
    } else {
        put(out, MetaStatus::Done, &list, b"");
    }
    if touching {
        store.counters.touched(true);
    } else {
        store.counters.got(true);
    }
    if !flags.has(b'u') {
        store.cache.bump(key, now);
    }
}

/// `ms`.
pub(super) fn set(
    engine: &mut Engine,
    key: Key<'_>,
    flags: Flags<'_>,
    value: &[u8],
    now: Second,
    out: &mut BytesMut,
) {
    let Some(name) = RequestKey::of(key, flags) else {
        return BAD_KEY.encode(out);
    };
    let key = &name.bytes[..];
    let base = engine.clock.base();
    let (mut ttl, mut vivify, mut client_flags) = (0, None, 0);
    for flag in flags.iter() {
        match flag {
            Flag::Ttl(exptime) => ttl = base.deadline(exptime, now),
            Flag::Vivify(exptime) => vivify = Some(base.deadline(exptime, now)),
            Flag::ClientFlags(number) => client_flags = number,
            _ => {}
        }
    }
    let append = |make: fn(bool) -> Mode| (make(vivify.is_some()), vivify.unwrap_or(ttl));
    let (mode, exptime) = match flags.mode_letter() {
        Some(b'E') => (Mode::Add, ttl),
        Some(b'A') => append(|vivify| Mode::Append { vivify }),
        Some(b'P') => append(|vivify| Mode::Prepend { vivify }),
        Some(b'R') => (Mode::Replace, ttl),
        _ => (Mode::Set, ttl),
    };
    let compare = compared_cas(flags);
    let mode = match mode {
        Mode::Set | Mode::Replace if compare.is_some() => Mode::Cas,
        mode => mode,
    };
    let store = &mut engine.store;
    let room = match store.make_room(key, value.len(), client_flags, exptime, now) {
        Ok(room) => room,
        Err(no_room) => {
            // Whatever the mode and the CAS unique: also the item that was not to be replaced.
            store.cache.remove(key);
            store.cache.journal.refused(key, mode, no_room.status());
            return no_room_for_it(no_room).encode(out);
        }
    };
    let order = StoreRequest {
        mode,
        key,
        value,
        client_flags,
        exptime,
        compare: compare.unwrap_or(0),
        cas: explicit_cas(flags)
            .filter(|cas| *cas != 0)
            .unwrap_or_else(|| store.next_cas()),
        stale_ok: flags.has(b'I'),
        binary_key: name.binary,
    };
    let (status, cas, length) = match store.store(&order, room, now) {
        StoreOutcome::Yes { cas, length } => (MetaStatus::Done, cas, length),
        StoreOutcome::No => (MetaStatus::NotStored, 0, value.len()),
        StoreOutcome::Exists => (MetaStatus::Exists, 0, value.len()),
        StoreOutcome::NotFound => (MetaStatus::NotFound, 0, value.len()),
    };
    if status == MetaStatus::Done && flags.has(b'q') {
        return;
    }
    let shown = name.shown(name.binary);
    let mut list = Vec::new();
    for flag in flags.iter() {
        match flag {
            Flag::Opaque(token) => list.push(ReplyFlag::Opaque(token.as_bytes())),
            Flag::ReturnKey => push_key(&mut list, &shown, name.binary),
            Flag::ReturnCas => list.push(ReplyFlag::Cas(cas)),
            Flag::ReturnSize => list.push(ReplyFlag::Size(length as u64)),
            _ => {}
        }
    }
    put(out, status, &list, b"");
}

/// Updates the store after a value that was too large to be read.
pub(super) fn refuse_oversized(engine: &mut Engine, key: Key<'_>, flags: Flags<'_>) {
    engine.store.counters.store_too_large += 1;
    if let Some(name) = RequestKey::of(key, flags) {
        let status = StoreError::TooLarge.status();
        let cache = &mut engine.store.cache;
        cache.journal.refused(&name.bytes, Mode::Set, status);
        cache.remove(&name.bytes);
    }
}

/// `md`.
pub(super) fn delete(
    engine: &mut Engine,
    key: Key<'_>,
    flags: Flags<'_>,
    now: Second,
    out: &mut BytesMut,
) {
    let Some(name) = RequestKey::of(key, flags) else {
        return BAD_KEY.encode(out);
    };
    let key = &name.bytes[..];
    let base = engine.clock.base();
    let store = &mut engine.store;
    let Some(cas) = store.get(key, now).map(|item| item.cas) else {
        store.counters.delete_misses += 1;
        return put_bare(out, MetaStatus::NotFound, &name, flags);
    };
    if compared_cas(flags).is_some_and(|compare| compare != cas) {
        store.counters.delete_misses += 1;
        return put_bare(out, MetaStatus::Exists, &name, flags);
    }
    let (mut ttl, mut client_flags) = (None, 0);
    for flag in flags.iter() {
        match flag {
            Flag::Ttl(exptime) => ttl = Some(base.deadline(exptime, now)),
            Flag::ClientFlags(number) => client_flags = number,
            _ => {}
        }
    }
    if flags.has(b'x') {
        // Without `T` the empty item is immortal, whatever the old one was.
        let exptime = ttl.unwrap_or(0);
        let Ok(room) = store.cache.make_room(key, 0, client_flags, exptime, now) else {
            return server_error("out of memory").encode(out);
        };
        let empty = Item {
            client_flags,
            exptime,
            cas: explicit_cas(flags).unwrap_or(cas),
            ..Item::default()
        };
        let stub = LogItem {
            ttl: LogItem::printed_ttl(exptime, now),
            class: room.class(),
            size: 0,
        };
        store.link(key, empty, room, now);
        let outcome = StoreOutcome::Yes { cas, length: 0 };
        store.cache.journal.stored(key, Mode::Set, outcome, stub);
    }
    if flags.has(b'I') {
        let cas = explicit_cas(flags).unwrap_or_else(|| store.next_cas());
        store.set_cas(key, cas);
        if let Some(item) = store.cache.find_mut(key) {
            item.exptime = ttl.unwrap_or(item.exptime);
            item.stale = true;
            item.token_sent = false;
        }
    } else {
        store.counters.delete_hits += 1;
        let cache = &mut store.cache;
        if let Some((class, size)) = cache.find(key).map(|item| (item.class, item.value.len())) {
            cache.journal.deleted(key, "md", class, size);
        }
        if !flags.has(b'x') {
            cache.remove(key);
        }
    }
    if !flags.has(b'q') {
        put_bare(out, MetaStatus::Done, &name, flags);
    }
}

/// `ma`.
pub(super) fn arithmetic(
    engine: &mut Engine,
    key: Key<'_>,
    flags: Flags<'_>,
    now: Second,
    out: &mut BytesMut,
) {
    let Some(name) = RequestKey::of(key, flags) else {
        return client_error("invalid or duplicate flag").encode(out);
    };
    let key = &name.bytes[..];
    let (mut delta, mut initial, mut compare) = (1, 0, 0);
    for flag in flags.iter() {
        match flag {
            Flag::Delta(number) => delta = number,
            Flag::Initial(number) => initial = number,
            Flag::CompareCas(cas) => compare = cas,
            _ => {}
        }
    }
    let add = !matches!(flags.mode_letter(), Some(b'D' | b'-'));
    let store = &mut engine.store;
    let (counted, created) = match store.delta(key, add, delta, compare, now) {
        ArithmeticOutcome::Done(mut counted) => {
            if let Some(cas) = explicit_cas(flags).filter(|_| store.cache.limits.cas) {
                counted.cas = cas;
                // An item that grew has been replaced by now, and memcached marks the removed one.
                if !counted.replaced {
                    store.set_cas(key, cas);
                }
            }
            (counted, false)
        }
        ArithmeticOutcome::NotFound if flags.has(b'N') => {
            let text = initial.to_string().into_bytes();
            let Ok(room) = store.cache.make_room(key, text.len(), 0, 0, now) else {
                return server_error("Out of memory allocating new item").encode(out);
            };
            let cas = explicit_cas(flags).unwrap_or_else(|| store.next_cas());
            let counter = Item {
                value: text,
                cas,
                ..Item::default()
            };
            let length = counter.value.len();
            let stub = LogItem {
                ttl: 0,
                class: room.class(),
                size: length,
            };
            store.link(key, counter, room, now);
            let outcome = StoreOutcome::Yes { cas, length };
            store.cache.journal.stored(key, Mode::Add, outcome, stub);
            let counted = Counter {
                number: initial,
                cas: if store.cache.limits.cas { cas } else { 0 },
                exptime: 0,
                replaced: false,
            };
            (counted, true)
        }
        ArithmeticOutcome::NotFound => {
            store.counters.counter_missed(add);
            return put_bare(out, MetaStatus::NotFound, &name, flags);
        }
        ArithmeticOutcome::OtherCas => return put_bare(out, MetaStatus::Exists, &name, flags),
        ArithmeticOutcome::NotNumeric => {
            return client_error("cannot increment or decrement non-numeric value").encode(out);
        }
        ArithmeticOutcome::OutOfMemory => return server_error("out of memory").encode(out),
    };
    put_counted(engine, &name, flags, counted, created, now, out);
}

/// Applies the expiries of `ma` where they stand and answers.
fn put_counted(
    engine: &mut Engine,
    name: &RequestKey<'_>,
    flags: Flags<'_>,
    counted: Counter,
    created: bool,
    now: Second,
    out: &mut BytesMut,
) {
    let base = engine.clock.base();
    let shown = name.shown(name.binary);
    let mut exptime = counted.exptime;
    let mut list = Vec::new();
    for flag in flags.iter() {
        match flag {
            Flag::ReturnCas => list.push(ReplyFlag::Cas(counted.cas)),
            Flag::ReturnTtl => list.push(ReplyFlag::Ttl(printed_ttl(exptime, now))),
            Flag::Ttl(seconds) => exptime = base.deadline(seconds, now),
            Flag::Vivify(seconds) if created => exptime = base.deadline(seconds, now),
            Flag::Opaque(token) => list.push(ReplyFlag::Opaque(token.as_bytes())),
            Flag::ReturnKey => push_key(&mut list, &shown, name.binary),
            _ => {}
        }
    }
    if !counted.replaced {
        if let Some(item) = engine.store.cache.find_mut(&name.bytes) {
            item.exptime = exptime;
        }
    }
    if flags.has(b'q') {
        return;
    }
    if flags.has(b'v') {
        let text = counted.number.to_string();
        put(out, MetaStatus::Value, &list, text.as_bytes());
    } else {
        put(out, MetaStatus::Done, &list, b"");
    }
}

/// `me`. 1.6.45 takes the key as it stands even where `b` says that it is base64.
pub(super) fn debug(engine: &mut Engine, key: Key<'_>, now: Second, out: &mut BytesMut) {
    let store = &mut engine.store;
    store.counters.cmd_meta += 1;
    let key = key.as_bytes();
    let Some(item) = store.get(key, now) else {
        return put(out, MetaStatus::Miss, &[], b"");
    };
    let mut line = BytesMut::new();
    DebugItem {
        key: &shown_key(key, item.binary_key),
        facts: ItemMetadata {
            exp: match item.exptime {
                0 => -1,
                exptime => i64::from(exptime) - i64::from(now),
            },
            last_access: u64::from(now.saturating_sub(item.time)),
            cas: item.cas,
            fetched: item.fetched,
            class: item.class.into(),
            size: item.size as u64,
        },
        more: b"",
    }
    .encode(&mut line);
    Reply::Debug(&line).encode(out);
}
