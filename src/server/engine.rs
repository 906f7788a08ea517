//! What one incarnation of the server is: its items, its clock, its numbers.

use super::builder::{LruSettings, ServerConfig};
use super::clock::Clock;
use super::connections::Connections;
use super::detail::Detail;
use super::item::Second;
use super::store::{Store, StoreLimits};
use super::{admin, classic, meta, stats};
use crate::wire::{
    AdminErrorReason, ErrorReply, ErrorSource, Rejection, Reply, Request, SlabsCommand,
    WatchStreams,
};
use alloc::sync::Arc;
use bytes::BytesMut;
use core::sync::atomic::{AtomicU32, Ordering};

/// Incarnations in this process. Real servers differ in their pid, so ours have to as well.
static INCARNATIONS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub(crate) struct Engine {
    /// How many incarnations there were before this one.
    pub(crate) generation: u64,
    pub(crate) settings: Arc<ServerConfig>,
    pub(crate) registry: Arc<Connections>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    /// The process id shown in `stats`: that of this process for its first server.
    pub(crate) pid: u32,
    pub(crate) verbosity: u64,
    pub(crate) detail: Detail,
    /// Whether the crawler runs.
    pub(crate) crawler: bool,
}

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionAction {
    Continue,
    Close,
    /// The connection becomes a log, if there are not too many.
    Watch(WatchStreams),
    /// The whole server ends.
    Shutdown,
}

impl Engine {
    pub(crate) fn new(
        settings: Arc<ServerConfig>,
        registry: Arc<Connections>,
        previous: Option<&Self>,
    ) -> Self {
        let clock = match previous {
            Some(previous) => previous.clock.restart(),
            None => Clock::start(settings.clock),
        };
        let store = Store::new(StoreLimits {
            memory: settings.memory_limit,
            item: settings.max_item_size,
            evictions: settings.evictions,
            cas: settings.cas,
            temporary_ttl: settings.temporary_ttl,
            lru: LruSettings::DEFAULT,
        });
        Self {
            generation: previous.map_or(0, |previous| previous.generation + 1),
            settings,
            registry,
            store,
            clock,
            pid: std::process::id().wrapping_add(INCARNATIONS.fetch_add(1, Ordering::Relaxed)),
            verbosity: 0,
            detail: Detail::default(),
            crawler: true,
        }
    }

    /// The second it is, with the queues as they are by then.
    pub(crate) fn begin(&mut self) -> Second {
        let now = self.clock.now();
        self.store.cache.maintain(now);
        now
    }

    /// The second at which an item given this expiry is dead.
    pub(crate) fn deadline(&self, exptime: i64, now: Second) -> Second {
        self.clock.base().deadline(exptime, now)
    }

    /// Does what `request` asks for and appends the answer.
    pub(crate) fn execute(
        &mut self,
        request: &Request<'_>,
        now: Second,
        out: &mut BytesMut,
    ) -> ConnectionAction {
        match *request {
            Request::Get { with_cas, keys } => classic::get(self, with_cas, None, keys, now, out),
            Request::GetAndTouch {
                with_cas,
                exptime,
                keys,
            } => classic::get(self, with_cas, Some(exptime), keys, now, out),
            Request::Store(store) => {
                let reply = classic::store(self, &store, now);
                put(&reply, store.noreply, out);
            }
            Request::Delete { key, noreply } => {
                put(&classic::delete(self, key, now), noreply, out);
            }
            Request::Arithmetic {
                add,
                key,
                delta,
                noreply,
            } => put(
                &classic::arithmetic(self, add, key, delta, now),
                noreply,
                out,
            ),
            Request::Touch {
                key,
                exptime,
                noreply,
            } => put(&classic::touch(self, key, exptime, now), noreply, out),
            Request::MetaGet { key, flags } => meta::get(self, key, flags, now, out),
            Request::MetaSet { key, flags, value } => {
                meta::set(self, key, flags, value, now, out);
            }
            Request::MetaDelete { key, flags } => meta::delete(self, key, flags, now, out),
            Request::MetaArithmetic { key, flags } => {
                meta::arithmetic(self, key, flags, now, out);
            }
            Request::MetaNoop => Reply::Noop.encode(out),
            Request::MetaDebug { key, .. } => meta::debug(self, key, now, out),
            Request::Version => Reply::Version(stats::VERSION.as_bytes()).encode(out),
            Request::Verbosity { level, noreply } => {
                self.verbosity = level.min(stats::HIGHEST_VERBOSITY);
                put(&Reply::Ok, noreply, out);
            }
            Request::FlushAll { delay, noreply } => {
                let reply = classic::flush_all(self, delay.unwrap_or(0), now);
                put(&reply, noreply, out);
            }
            Request::Stats { group } => stats::answer(self, group, now, out),
            Request::CacheMemlimit { megabytes, noreply } => {
                put(&admin::cache_memlimit(self, megabytes), noreply, out);
            }
            Request::Lru { command, noreply } => put(&admin::lru(self, command), noreply, out),
            Request::LruCrawler(command) => admin::lru_crawler(self, command, now, out),
            Request::Slabs(command) => {
                let noreply = matches!(command, SlabsCommand::Automove { noreply: true, .. });
                put(&admin::slabs(command), noreply, out);
            }
            Request::RefreshCerts => {
                admin::declined(AdminErrorReason::NoCertificates, "TLS not enabled").encode(out);
            }
            Request::Watch(_) if !self.settings.watch_enabled => {
                client_error("watch commands not allowed").encode(out);
            }
            Request::Watch(streams) => return ConnectionAction::Watch(streams),
            // Only clients have it; what arrives of it is a `set`.
            Request::Authenticate { .. } => {}
            Request::Quit => return ConnectionAction::Close,
            Request::Shutdown { .. } if self.settings.shutdown_command => {
                return ConnectionAction::Shutdown;
            }
            Request::Shutdown { .. } => NO_SHUTDOWN.encode(out),
        }
        ConnectionAction::Continue
    }

    /// Answers what was not executed. Behind a value that was too large the old item goes too.
    pub(crate) fn refuse(&mut self, refusal: &Rejection<'_>, out: &mut BytesMut) {
        match refusal.oversized {
            Some(Request::Store(store)) => classic::refuse_oversized(self, &store),
            Some(Request::MetaSet { key, flags, .. }) => meta::refuse_oversized(self, key, flags),
            _ => {}
        }
        match refusal.reply {
            // The server asks whether `shutdown` is allowed before it looks at the mode.
            Some(reply)
                if reply.text == b"invalid shutdown mode" && !self.settings.shutdown_command =>
            {
                NO_SHUTDOWN.encode(out);
            }
            Some(reply) => Reply::Error(reply).encode(out),
            None => {}
        }
    }
}

const NO_SHUTDOWN: Reply<'static> = Reply::Error(ErrorReply {
    source: ErrorSource::Server,
    text: b": shutdown not enabled",
});

fn put(reply: &Reply<'_>, noreply: bool, out: &mut BytesMut) {
    if !noreply {
        reply.encode(out);
    }
}

pub(crate) const fn error(text: &'static str) -> Reply<'static> {
    Reply::Error(ErrorReply {
        source: ErrorSource::Command,
        text: text.as_bytes(),
    })
}

pub(crate) const fn client_error(text: &'static str) -> Reply<'static> {
    Reply::Error(ErrorReply {
        source: ErrorSource::Client,
        text: text.as_bytes(),
    })
}

pub(crate) const fn server_error(text: &'static str) -> Reply<'static> {
    Reply::Error(ErrorReply {
        source: ErrorSource::Server,
        text: text.as_bytes(),
    })
}
