//! Counters, and the answers to `stats`.

use super::admin::HIGHEST_CLASS;
use super::clock::TimeBase;
use super::engine::{Engine, client_error};
use super::item::Second;
use crate::wire::{Blame, ErrorReply, Key, Keys, Reply, parse_u32};
use alloc::format;
use alloc::string::ToString;
use bytes::BytesMut;
use core::fmt;

/// What `version` says: the release whose behaviour this is. Clients compare it, so it says no more.
pub(crate) const VERSION: &str = "1.6.45";

/// The line of `stats` that memcached does not have, by which the embedded server can be told.
const OWN_LINE: (&str, &str) = ("memlatch_version", env!("CARGO_PKG_VERSION"));

pub(crate) const HIGHEST_VERBOSITY: u64 = 3;

/// What is counted, under memcached's names.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counters {
    pub(crate) cmd_get: u64,
    pub(crate) cmd_set: u64,
    pub(crate) cmd_flush: u64,
    pub(crate) cmd_touch: u64,
    pub(crate) cmd_meta: u64,
    pub(crate) get_hits: u64,
    pub(crate) get_misses: u64,
    pub(crate) get_expired: u64,
    pub(crate) get_flushed: u64,
    pub(crate) delete_misses: u64,
    pub(crate) delete_hits: u64,
    pub(crate) incr_misses: u64,
    pub(crate) incr_hits: u64,
    pub(crate) decr_misses: u64,
    pub(crate) decr_hits: u64,
    pub(crate) cas_misses: u64,
    pub(crate) cas_hits: u64,
    pub(crate) cas_badval: u64,
    pub(crate) touch_hits: u64,
    pub(crate) touch_misses: u64,
    pub(crate) store_too_large: u64,
    pub(crate) store_no_memory: u64,
    pub(crate) auth_cmds: u64,
    pub(crate) auth_errors: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) total_items: u64,
    pub(crate) evictions: u64,
    pub(crate) reclaimed: u64,
}

impl Counters {
    pub(crate) fn got(&mut self, hit: bool) {
        self.cmd_get += 1;
        *(if hit {
            &mut self.get_hits
        } else {
            &mut self.get_misses
        }) += 1;
    }

    pub(crate) fn touched(&mut self, hit: bool) {
        self.cmd_touch += 1;
        *(if hit {
            &mut self.touch_hits
        } else {
            &mut self.touch_misses
        }) += 1;
    }

    pub(crate) fn counter_missed(&mut self, add: bool) {
        *(if add {
            &mut self.incr_misses
        } else {
            &mut self.decr_misses
        }) += 1;
    }
}

/// Writes `STAT` lines.
struct Lines<'a>(&'a mut BytesMut);

impl Lines<'_> {
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
    let mut lines = Lines(out);
    if name.is_empty() {
        general(engine, now, &mut lines);
    } else if is("reset") {
        engine.store.counters = super::stats::Counters {
            total_items: engine.store.counters.total_items,
            ..Counters::default()
        };
        return Reply::Reset.encode(out);
    } else if is("detail") {
        let word = words.next();
        let word = word.as_ref().map_or(&b"?"[..], |word| word.as_bytes());
        return detail(engine, word).encode(out);
    } else if is("settings") {
        settings(engine, &mut lines);
    } else if is("cachedump") {
        return cachedump(engine, words.next(), words.next()).encode(out);
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
            blame: Blame::Command,
            text: b"",
        })
        .encode(out);
    }
    Reply::End.encode(out);
}

/// `stats detail`: nothing is ever collected, so that a dump is always empty.
fn detail(engine: &mut Engine, word: &[u8]) -> Reply<'static> {
    match word {
        b"on" | b"off" => {
            engine.detail = word == b"on";
            Reply::Ok
        }
        b"dump" => Reply::End,
        _ => client_error("usage: stats detail on|off|dump"),
    }
}

/// `stats cachedump`: shows a class's items that have gone cold. Nothing here ever does, so that
/// there are none to show.
fn cachedump(engine: &Engine, class: Option<Key<'_>>, limit: Option<Key<'_>>) -> Reply<'static> {
    if !engine.settings.dump_enabled {
        return client_error("stats cachedump not allowed");
    }
    let (Some(class), Some(limit)) = (class, limit) else {
        return client_error("bad command line");
    };
    match (parse_u32(class.as_bytes()), parse_u32(limit.as_bytes())) {
        (Some(class), Some(_)) if class <= HIGHEST_CLASS.into() => Reply::End,
        (Some(_), Some(_)) => client_error("Illegal slab id"),
        _ => client_error("bad command line format"),
    }
}

fn general(engine: &Engine, now: Second, lines: &mut Lines<'_>) {
    let counters = &engine.store.counters;
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
    lines.put("limit_maxbytes", engine.store.limits.memory);
    lines.put("accepting_conns", 1);
    lines.put("listen_disabled_num", 0);
    // Each connection has its own; what matters to a reader is that there is more than one.
    lines.put("threads", registry.open().max(1));
    lines.put("slabs_moved", 0);
    lines.put("bytes", engine.store.bytes());
    lines.put("curr_items", engine.store.len());
    lines.put("total_items", counters.total_items);
    lines.put("evictions", counters.evictions);
    lines.put("reclaimed", counters.reclaimed);
    let (name, value) = OWN_LINE;
    lines.put(name, value);
}

fn settings(engine: &Engine, lines: &mut Lines<'_>) {
    let settings = &engine.settings;
    let port = engine.registry.socket_addr().map_or(0, |addr| addr.port());
    lines.put("maxbytes", engine.store.limits.memory);
    lines.put("maxconns", settings.max_connections);
    lines.put("tcpport", port);
    lines.put("udpport", 0);
    match engine.registry.socket_addr() {
        Some(addr) => lines.put("inter", addr.ip()),
        None => lines.put("inter", "NULL"),
    }
    lines.put("verbosity", engine.verbosity);
    // In memcached's clock, which is a minute ahead of its uptime.
    lines.put("oldest", engine.store.oldest_live());
    lines.put("evictions", if settings.evictions { "on" } else { "off" });
    lines.put(
        "domain_socket",
        engine.registry.socket_path().unwrap_or("NULL"),
    );
    lines.yes_no("shutdown_command", settings.shutdown_command);
    lines.yes_no("detail_enabled", engine.detail);
    lines.yes_no("cas_enabled", settings.cas);
    lines.yes_no("auth_enabled_sasl", false);
    lines.yes_no("auth_enabled_ascii", !settings.auth.is_empty());
    lines.put("item_size_max", settings.max_item_size);
    lines.yes_no("maxconns_fast", true);
    lines.yes_no("flush_enabled", settings.flush_enabled);
    let temporary_ttl = engine.store.limits.temporary_ttl;
    lines.yes_no("temp_lru", temporary_ttl.is_some());
    lines.put("temporary_ttl", temporary_ttl.unwrap_or(61));
    lines.put("idle_timeout", 0);
    lines.yes_no("track_sizes", false);
    lines.yes_no("ssl_enabled", false);
    lines.yes_no("proxy_enabled", false);
    lines.put("memory_file", "(null)");
    lines.put("client_flags_size", 4);
}

fn items(engine: &Engine, now: Second, lines: &mut Lines<'_>) {
    let counters = &engine.store.counters;
    let number = engine.store.len();
    if number == 0 {
        return;
    }
    let oldest = engine.store.items().map(|item| item.time).min();
    let temporary = engine.store.items().filter(|item| item.temporary).count();
    let mut put = |name: &str, value: u64| lines.put(&format!("items:1:{name}"), value);
    put("number", number as u64);
    if engine.store.limits.temporary_ttl.is_some() {
        put("number_temp", temporary as u64);
    }
    put("age", u64::from(now.saturating_sub(oldest.unwrap_or(now))));
    put("mem_requested", engine.store.bytes() as u64);
    put("evicted", counters.evictions);
    put("outofmemory", counters.store_no_memory);
    put("reclaimed", counters.reclaimed);
}

/// There are no slabs; one class stands for all memory.
fn slabs(engine: &Engine, lines: &mut Lines<'_>) {
    let used = engine.store.len();
    if used > 0 {
        lines.put("1:total_pages", 1);
        lines.put("1:used_chunks", used);
    }
    lines.put("active_slabs", usize::from(used > 0));
    lines.put("total_malloced", engine.store.bytes());
}

fn connections(engine: &Engine, lines: &mut Lines<'_>) {
    for (number, peer) in engine.registry.peers() {
        lines.put(&format!("{number}:addr"), peer);
        lines.put(&format!("{number}:state"), "conn_read");
    }
}
