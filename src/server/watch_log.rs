//! The log that watchers receive.

use super::item::{Item, Second};
use super::store_request::{Mode, StoreOutcome};
use crate::wire::{UriKey, WatchEvent, WatchStreams};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bytes::BytesMut;
use core::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most watchers of a server.
const WATCHERS: usize = 20;

/// Bytes kept for a watcher that does not read.
const BACKLOG: usize = 256 * 1024;

/// The lines for one watcher.
#[derive(Debug, Default)]
pub(crate) struct LogBuffer(Mutex<LogLines>);

#[derive(Debug, Default)]
struct LogLines {
    bytes: BytesMut,
    /// Number of lines that there was no room for.
    skipped: u64,
}

impl LogBuffer {
    fn lines(&self) -> MutexGuard<'_, LogLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines written since the last call.
    pub(crate) fn take(&self) -> BytesMut {
        let mut lines = self.lines();
        let mut bytes = core::mem::take(&mut lines.bytes);
        if lines.skipped > 0 {
            let _ = writeln!(bytes, "skipped={}", lines.skipped);
            lines.skipped = 0;
        }
        bytes
    }
}

/// Writes to all watchers; costs nothing while there are none.
#[derive(Debug, Default)]
pub(crate) struct WatchLog {
    watchers: Vec<(WatchStreams, Weak<LogBuffer>)>,
    /// The number of the last event.
    gid: u64,
    /// The connection that asks for what is being done.
    pub(crate) connection: u64,
}

impl WatchLog {
    /// One more watcher, for as long as it keeps its log, unless there are too many.
    pub(crate) fn watch(&mut self, streams: WatchStreams) -> Option<Arc<LogBuffer>> {
        self.watchers.retain(|(_, log)| log.strong_count() > 0);
        if self.watchers.len() >= WATCHERS {
            return None;
        }
        let log = Arc::new(LogBuffer::default());
        self.watchers.push((streams, Arc::downgrade(&log)));
        Some(log)
    }

    fn is_watched(&self, stream: WatchStreams) -> bool {
        let mut watchers = self.watchers.iter();
        watchers.any(|(streams, log)| streams.contains(stream) && log.strong_count() > 0)
    }

    fn put(&mut self, stream: WatchStreams, kind: &str, key: &[u8], fields: &str) {
        self.gid += 1;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut shown = BytesMut::from(&b"key="[..]);
        UriKey::from_raw(key).encode(&mut shown);
        shown.extend_from_slice(fields.as_bytes());
        let mut line = BytesMut::new();
        WatchEvent {
            seconds: now.as_secs(),
            micros: now.subsec_micros(),
            gid: self.gid,
            kind: kind.as_bytes(),
            fields: &shown,
        }
        .encode(&mut line);
        for (streams, log) in &self.watchers {
            let Some(log) = log.upgrade().filter(|_| streams.contains(stream)) else {
                continue;
            };
            let mut lines = log.lines();
            if lines.bytes.len() + line.len() > BACKLOG {
                lines.skipped += 1;
            } else {
                lines.bytes.extend_from_slice(&line);
            }
        }
    }

    /// `delete` or `md` has removed an item with so long a value.
    pub(crate) fn deleted(&mut self, key: &[u8], command: &str, class: u8, size: usize) {
        if self.is_watched(WatchStreams::DELETIONS) {
            let fields = alloc::format!(" cmd={command} clsid={class} size={size}");
            self.put(WatchStreams::DELETIONS, "deleted", key, &fields);
        }
    }

    /// Something was to be stored.
    pub(crate) fn stored(&mut self, key: &[u8], mode: Mode, outcome: StoreOutcome, of: LogItem) {
        let (status, size) = match outcome {
            StoreOutcome::Yes { length, .. } => ("stored", length),
            StoreOutcome::No => ("not_stored", of.size),
            StoreOutcome::Exists => ("exists", of.size),
            StoreOutcome::NotFound => ("not_found", of.size),
        };
        self.store_line(key, mode, status, LogItem { size, ..of });
    }

    /// There was no room for what was to be stored.
    pub(crate) fn refused(&mut self, key: &[u8], mode: Mode, status: &str) {
        self.store_line(key, mode, status, LogItem::default());
    }

    fn store_line(&mut self, key: &[u8], mode: Mode, status: &str, of: LogItem) {
        if !self.is_watched(WatchStreams::MUTATIONS) {
            return;
        }
        let command = match mode {
            Mode::Set => "set",
            Mode::Add => "add",
            Mode::Replace => "replace",
            Mode::Append { .. } => "append",
            Mode::Prepend { .. } => "prepend",
            Mode::Cas => "cas",
        };
        let mut fields = String::new();
        let _ = write!(
            fields,
            " status={status} cmd={command} ttl={} clsid={} cfd={} size={}",
            of.ttl, of.class, self.connection, of.size
        );
        self.put(WatchStreams::MUTATIONS, "item_store", key, &fields);
    }

    /// An item made way for another.
    pub(crate) fn evicted(&mut self, key: &[u8], item: &Item, now: Second) {
        if !self.is_watched(WatchStreams::EVICTIONS) {
            return;
        }
        let fetched = if item.fetched { "yes" } else { "no" };
        let ttl = match item.exptime {
            0 => -1,
            exptime => i64::from(exptime) - i64::from(now),
        };
        let mut fields = String::new();
        let _ = write!(
            fields,
            " fetch={fetched} ttl={ttl} la={} clsid={} size={}",
            now.saturating_sub(item.time),
            item.class,
            item.value.len()
        );
        self.put(WatchStreams::EVICTIONS, "eviction", key, &fields);
    }
}

/// The fields of a line about a stored item.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LogItem {
    /// Printed without a sign, as the server does.
    pub(crate) ttl: u32,
    pub(crate) class: u8,
    pub(crate) size: usize,
}

impl LogItem {
    pub(crate) const fn printed_ttl(exptime: Second, now: Second) -> u32 {
        match exptime {
            0 => 0,
            exptime => exptime.wrapping_sub(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watcher_gets_requested_new_lines_only() {
        let mut journal = WatchLog::default();
        journal.deleted(b"early", "md", 1, 1);
        let deletions = journal.watch(WatchStreams::DELETIONS).expect("a place");
        let mutations = journal.watch(WatchStreams::MUTATIONS).expect("a place");
        journal.deleted(b"a b", "delete", 1, 3);
        journal.refused(b"c", Mode::Cas, "no_memory");
        let text = |log: &LogBuffer| String::from_utf8(log.take().to_vec()).expect("plain");
        let line = text(&deletions);
        assert!(line.ends_with(" gid=1 type=deleted key=a%20b cmd=delete clsid=1 size=3\n"));
        let line = text(&mutations);
        let end = " key=c status=no_memory cmd=cas ttl=0 clsid=0 cfd=0 size=0\n";
        assert!(line.ends_with(end), "{line}");
        assert_eq!(text(&mutations), "");
    }

    #[test]
    fn leaving_watcher_makes_room() {
        let mut journal = WatchLog::default();
        let mut logs: Vec<_> = (0..WATCHERS)
            .map(|_| journal.watch(WatchStreams::FETCHERS).expect("a place"))
            .collect();
        assert!(journal.watch(WatchStreams::FETCHERS).is_none());
        logs.pop();
        assert!(journal.watch(WatchStreams::FETCHERS).is_some());
    }

    #[test]
    fn slow_watcher_learns_skipped_count() {
        let mut journal = WatchLog::default();
        let log = journal.watch(WatchStreams::DELETIONS).expect("a place");
        for _ in 0..BACKLOG / 64 {
            journal.deleted(&[b'x'; 64], "md", 1, 1);
        }
        let bytes = log.take();
        assert!(bytes.len() <= BACKLOG + 32);
        let last = bytes.rsplit(|byte| *byte == b'\n').nth(1).expect("a line");
        assert!(last.starts_with(b"skipped="), "{}", last.escape_ascii());
    }
}
