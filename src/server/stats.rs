//! Counters, and the answers to `stats`.

use super::clock::TimeBase;
use super::counters::Counters;
use super::engine::Engine;
use super::item::Second;
use super::replies::client_error;
use super::slabs::HIGHEST_CLASS;
use crate::wire::{ErrorReply, ErrorSource, Key, Keys, Reply, parse_u32};
use alloc::format;
use alloc::string::ToString;
use bytes::BytesMut;
use core::fmt;

/// The reply to `version`: the release whose behaviour this is. Clients compare it, so it says no
/// more.
pub(crate) const VERSION: &str = "1.6.45";

/// The line of `stats` that memcached does not have, by which the embedded server can be
/// recognised.
const OWN_LINE: (&str, &str) = ("memlatch_version", env!("CARGO_PKG_VERSION"));

pub(crate) const HIGHEST_VERBOSITY: u64 = 3;

/// Writes `STAT` lines.
struct StatLines<'a>(&'a mut BytesMut);

impl StatLines<'_> {
    fn put(&mut self, name: &str, value: impl fmt::Display) {
        Reply::Stat {
            name: name.as_bytes(),
            value: value.to_string().as_bytes(),
        }
        .encode(self.0);
    }

    fn yes_no(&mut self, name: &str, value: bool) {
        self.put(name, if value { "yes" } else { "no" });
    }
}

/// Answers `stats` with these words behind it.
pub(super) fn answer(engine: &mut Engine, group: Keys<'_>, now: Second, out: &mut BytesMut) {
    let mut words = group.iter();
    let name = words.next();
    let name = name.as_ref().map_or(&b""[..], |name| name.as_bytes());
    // Most names may be cut short; the server compares no further than the word goes.
    let is = |full: &str| full.as_bytes().starts_with(name);
    let mut lines = StatLines(out);
    if name.is_empty() {
        general(engine, now, &mut lines);
    } else if is("reset") {
        engine.store.counters = Counters::default();
        engine.store.cache.reset_counters();
        engine.registry.reset_counters();
        engine.detail.clear();
        return Reply::Reset.encode(out);
    } else if is("detail") {
        let word = words.next();
        let word = word.as_ref().map_or(&b"?"[..], |word| word.as_bytes());
        return detail(engine, word, out);
    } else if is("settings") {
        settings(engine, &mut lines);
    } else if is("cachedump") {
        return cachedump(engine, words.next(), words.next(), out);
    } else if is("conns") {
        connections(engine, &mut lines);
    } else if name == b"items" {
        items(engine, now, &mut lines);
    } else if name == b"slabs" {
        slabs(engine, &mut lines);
    } else if name == b"sizes" {
        lines.put("sizes_status", "disabled");
    } else {
        return Reply::Error(ErrorReply {
            source: ErrorSource::Command,
            text: b"",
        })
        .encode(out);
    }
    Reply::End.encode(out);
}

/// `stats detail`. The word may be cut short as well.
fn detail(engine: &mut Engine, word: &[u8], out: &mut BytesMut) {
    let is = |full: &str| full.as_bytes().starts_with(word);
    let reply = if !engine.settings.dump_enabled {
        client_error("stats detail not allowed")
    } else if is("on") || is("off") {
        engine.detail.enabled = is("on");
        Reply::Ok
    } else if is("dump") {
        engine.detail.dump(out);
        Reply::End
    } else {
        client_error("usage: stats detail on|off|dump")
    };
    reply.encode(out);
}

/// The most that `stats cachedump` shows.
const CACHEDUMP: usize = 2 * 1024 * 1024;

/// `stats cachedump`: shows items of a class that have gone cold.
fn cachedump(engine: &Engine, class: Option<Key<'_>>, limit: Option<Key<'_>>, out: &mut BytesMut) {
    if !engine.settings.dump_enabled {
        return client_error("stats cachedump not allowed").encode(out);
    }
    let (Some(class), Some(limit)) = (class, limit) else {
        return client_error("bad command line").encode(out);
    };
    let numbers = (parse_u32(class.as_bytes()), parse_u32(limit.as_bytes()));
    let (Some(class), Some(limit)) = numbers else {
        return client_error("bad command line format").encode(out);
    };
    let Some(class) = u8::try_from(class)
        .ok()
        .filter(|class| *class <= HIGHEST_CLASS)
    else {
        return client_error("Illegal slab id").encode(out);
    };
    let limit = match limit {
        0 => usize::MAX,
        limit => limit as usize,
    };
    let base = engine.clock.base();
    let begin = out.len();
    let items = engine.store.cache.cold(class);
    for (key, item) in items.filter(|(_, item)| !item.binary_key).take(limit) {
        // It is copied as text.
        let end = memchr::memchr(0, key).unwrap_or(key.len());
        let expiry = match item.exptime {
            0 => 0,
            exptime => base.unix(exptime),
        };
        let rest = format!(" [{} b; {expiry} s]\r\n", item.value.len());
        if out.len() - begin + "ITEM ".len() + end + rest.len() + "END\r\n".len() >= CACHEDUMP {
            break;
        }
        out.extend_from_slice(b"ITEM ");
        out.extend_from_slice(&key[..end]);
        out.extend_from_slice(rest.as_bytes());
    }
    Reply::End.encode(out);
}

fn general(engine: &Engine, now: Second, lines: &mut StatLines<'_>) {
    let counters = &engine.store.counters;
    let cache = &engine.store.cache;
    let registry = &engine.registry;
    lines.put("pid", engine.pid);
    lines.put("uptime", TimeBase::uptime(now));
    lines.put("time", engine.clock.base().unix(now));
    lines.put("version", VERSION);
    lines.put("pointer_size", usize::BITS);
    lines.put("max_connections", engine.settings.max_connections);
    lines.put("curr_connections", registry.open());
    lines.put("total_connections", registry.total());
    lines.put("rejected_connections", registry.rejected());
    for (name, value) in [
        ("cmd_get", counters.cmd_get),
        ("cmd_set", counters.cmd_set),
        ("cmd_flush", counters.cmd_flush),
        ("cmd_touch", counters.cmd_touch),
        ("cmd_meta", counters.cmd_meta),
        ("get_hits", counters.get_hits),
        ("get_misses", counters.get_misses),
        ("get_expired", counters.get_expired),
        ("get_flushed", counters.get_flushed),
        ("delete_misses", counters.delete_misses),
        ("delete_hits", counters.delete_hits),
        ("incr_misses", counters.incr_misses),
        ("incr_hits", counters.incr_hits),
        ("decr_misses", counters.decr_misses),
        ("decr_hits", counters.decr_hits),
        ("cas_misses", counters.cas_misses),
        ("cas_hits", counters.cas_hits),
        ("cas_badval", counters.cas_badval),
        ("touch_hits", counters.touch_hits),
        ("touch_misses", counters.touch_misses),
        ("store_too_large", counters.store_too_large),
        ("store_no_memory", counters.store_no_memory),
        ("auth_cmds", counters.auth_cmds),
        ("auth_errors", counters.auth_errors),
        ("bytes_read", counters.bytes_read),
        ("bytes_written", counters.bytes_written),
    ] {
        lines.put(name, value);
    }
    if engine.settings.idle_timeout.is_some() {
        lines.put("idle_kicks", counters.idle_kicks);
    }
    lines.put("limit_maxbytes", cache.limits.memory);
    lines.put("accepting_conns", 1);
    lines.put("listen_disabled_num", 0);
    // Each connection has its own; what matters to a reader is that there is more than one.
    lines.put("threads", registry.open().max(1));
    lines.put("slabs_moved", 0);
    lines.put("bytes", cache.bytes());
    lines.put("curr_items", cache.len());
    lines.put("total_items", counters.total_items);
    let totals = cache.totals();
    for (name, value) in [
        ("expired_unfetched", totals.expired_unfetched),
        ("evicted_unfetched", totals.evicted_unfetched),
        ("evicted_active", totals.evicted_active),
        ("evictions", totals.evicted),
        ("reclaimed", totals.reclaimed),
        ("moves_to_cold", totals.moves_to_cold),
        ("moves_to_warm", totals.moves_to_warm),
        ("moves_within_lru", totals.moves_within_lru),
        ("direct_reclaims", totals.direct_reclaims),
    ] {
        lines.put(name, value);
    }
    let (name, value) = OWN_LINE;
    lines.put(name, value);
}

fn settings(engine: &Engine, lines: &mut StatLines<'_>) {
    let settings = &engine.settings;
    let port = engine.registry.socket_addr().map_or(0, |addr| addr.port());
    let limits = &engine.store.cache.limits;
    lines.put("maxbytes", limits.memory);
    lines.put("maxconns", settings.max_connections);
    lines.put("tcpport", port);
    lines.put("udpport", 0);
    match engine.registry.socket_addr() {
        Some(addr) => lines.put("inter", addr.ip()),
        None => lines.put("inter", "NULL"),
    }
    lines.put("verbosity", engine.verbosity);
    // In memcached's clock, which is a minute ahead of its uptime.
    lines.put("oldest", engine.store.cache.oldest_live);
    lines.put("evictions", if settings.evictions { "on" } else { "off" });
    lines.put(
        "domain_socket",
        engine.registry.socket_path().unwrap_or("NULL"),
    );
    lines.yes_no("shutdown_command", settings.shutdown_command);
    lines.yes_no("detail_enabled", engine.detail.enabled);
    lines.yes_no("cas_enabled", settings.cas);
    lines.yes_no("auth_enabled_sasl", false);
    lines.yes_no("auth_enabled_ascii", !settings.auth.is_empty());
    lines.put("item_size_max", settings.max_item_size);
    lines.yes_no("maxconns_fast", true);
    lines.yes_no("flush_enabled", settings.flush_enabled);
    lines.yes_no("dump_enabled", settings.dump_enabled);
    lines.yes_no("lru_segmented", limits.lru.segmented);
    lines.put("hot_lru_pct", limits.lru.hot_percent);
    lines.put("warm_lru_pct", limits.lru.warm_percent);
    lines.put("hot_max_factor", format!("{:.2}", limits.lru.hot_factor));
    lines.put("warm_max_factor", format!("{:.2}", limits.lru.warm_factor));
    let temporary_ttl = limits.temporary_ttl;
    lines.yes_no("temp_lru", temporary_ttl.is_some());
    lines.put("temporary_ttl", temporary_ttl.unwrap_or(61));
    let idle_timeout = settings.idle_timeout.map_or(0, |limit| limit.as_secs());
    lines.put("idle_timeout", idle_timeout);
    lines.yes_no("track_sizes", false);
    lines.yes_no("ssl_enabled", false);
    lines.yes_no("proxy_enabled", false);
    lines.put("memory_file", "(null)");
    lines.put("client_flags_size", 4);
}

fn items(engine: &Engine, now: Second, lines: &mut StatLines<'_>) {
    let cache = &engine.store.cache;
    for (class, _) in cache.slabs.iter() {
        let summary = cache.summary(class, now);
        let [hot, warm, cold, temporary] = summary.lengths.map(|length| length as u64);
        let [age_hot, age_warm, age_cold, _] = summary.ages.map(u64::from);
        let counters = cache.class_counters(class);
        let number = hot + warm + cold + temporary;
        if number == 0 {
            continue;
        }
        let mut put = |name: &str, value: u64| lines.put(&format!("items:{class}:{name}"), value);
        put("number", number);
        put("number_hot", hot);
        put("number_warm", warm);
        put("number_cold", cold);
        if cache.limits.temporary_ttl.is_some() {
            put("number_temp", temporary);
        }
        put("age_hot", age_hot);
        put("age_warm", age_warm);
        put("age", age_cold);
        put("mem_requested", summary.bytes as u64);
        put("evicted", counters.evicted);
        put("evicted_nonzero", counters.evicted_nonzero);
        put("evicted_time", counters.evicted_time.into());
        put("outofmemory", counters.outofmemory);
        put("reclaimed", counters.reclaimed);
        put("expired_unfetched", counters.expired_unfetched);
        put("evicted_unfetched", counters.evicted_unfetched);
        put("evicted_active", counters.evicted_active);
        put("moves_to_cold", counters.moves_to_cold);
        put("moves_to_warm", counters.moves_to_warm);
        put("moves_within_lru", counters.moves_within_lru);
        put("direct_reclaims", counters.direct_reclaims);
    }
}

fn slabs(engine: &Engine, lines: &mut StatLines<'_>) {
    let slabs = &engine.store.cache.slabs;
    let mut active = 0;
    for (number, class) in slabs.iter().filter(|(_, class)| class.pages > 0) {
        active += 1;
        let chunks = class.pages * class.chunks_per_page;
        let mut put = |name: &str, value: usize| lines.put(&format!("{number}:{name}"), value);
        put("chunk_size", class.chunk_size);
        put("chunks_per_page", class.chunks_per_page);
        put("total_pages", class.pages);
        put("total_chunks", chunks);
        put("used_chunks", chunks - class.free_chunks);
        put("free_chunks", class.free_chunks);
        put("free_chunks_end", 0);
    }
    lines.put("active_slabs", active);
    lines.put("total_malloced", slabs.allocated);
}

fn connections(engine: &Engine, lines: &mut StatLines<'_>) {
    for (number, peer) in engine.registry.peers() {
        lines.put(&format!("{number}:addr"), peer);
        lines.put(&format!("{number}:state"), "conn_read");
    }
}
