//! From a request to the handler that carries it out.

use super::engine::Engine;
use super::item::Second;
use super::replies::{client_error, declined};
use super::{admin, classic, meta, stats};
use crate::wire::{
    AdminErrorReason, ErrorReply, ErrorSource, Rejection, Reply, Request, SlabsCommand,
    WatchStreams,
};
use bytes::BytesMut;

/// The next step of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionAction {
    Continue,
    Close,
    /// The connection becomes a log, if there are not too many.
    Watch(WatchStreams),
    /// The whole server ends.
    Shutdown,
}

/// Does what `request` asks for and appends the answer.
pub(super) fn execute(
    engine: &mut Engine,
    request: &Request<'_>,
    now: Second,
    out: &mut BytesMut,
) -> ConnectionAction {
    match *request {
        Request::Get { with_cas, keys } => classic::get(engine, with_cas, None, keys, now, out),
        Request::GetAndTouch {
            with_cas,
            exptime,
            keys,
        } => classic::get(engine, with_cas, Some(exptime), keys, now, out),
        Request::Store(store) => {
            let reply = classic::store(engine, &store, now);
            put(&reply, store.noreply, out);
        }
        Request::Delete { key, noreply } => {
            put(&classic::delete(engine, key, now), noreply, out);
        }
        Request::Arithmetic {
            add,
            key,
            delta,
            noreply,
        } => put(
            &classic::arithmetic(engine, add, key, delta, now),
            noreply,
            out,
        ),
        Request::Touch {
            key,
            exptime,
            noreply,
        } => put(&classic::touch(engine, key, exptime, now), noreply, out),
        Request::MetaGet { key, flags } => meta::get(engine, key, flags, now, out),
        Request::MetaSet { key, flags, value } => {
            meta::set(engine, key, flags, value, now, out);
        }
        Request::MetaDelete { key, flags } => meta::delete(engine, key, flags, now, out),
        Request::MetaArithmetic { key, flags } => {
            meta::arithmetic(engine, key, flags, now, out);
        }
        Request::MetaNoop => Reply::Noop.encode(out),
        Request::MetaDebug { key, .. } => meta::debug(engine, key, now, out),
        Request::Version => Reply::Version(stats::VERSION.as_bytes()).encode(out),
        Request::Verbosity { level, noreply } => {
            engine.verbosity = level.min(stats::HIGHEST_VERBOSITY);
            put(&Reply::Ok, noreply, out);
        }
        Request::FlushAll { delay, noreply } => {
            let reply = classic::flush_all(engine, delay.unwrap_or(0), now);
            put(&reply, noreply, out);
        }
        Request::Stats { group } => stats::answer(engine, group, now, out),
        Request::CacheMemlimit { megabytes, noreply } => {
            put(&admin::cache_memlimit(engine, megabytes), noreply, out);
        }
        Request::Lru { command, noreply } => put(&admin::lru(engine, command), noreply, out),
        Request::LruCrawler(command) => admin::lru_crawler(engine, command, now, out),
        Request::Slabs(command) => {
            let noreply = matches!(command, SlabsCommand::Automove { noreply: true, .. });
            put(&admin::slabs(command), noreply, out);
        }
        Request::RefreshCerts => {
            declined(AdminErrorReason::NoCertificates, "TLS not enabled").encode(out);
        }
        Request::Watch(_) if !engine.settings.watch_enabled => {
            client_error("watch commands not allowed").encode(out);
        }
        Request::Watch(streams) => return ConnectionAction::Watch(streams),
        // Only clients have it; what arrives of it is a `set`.
        Request::Authenticate { .. } => {}
        Request::Quit => return ConnectionAction::Close,
        Request::Shutdown { .. } if engine.settings.shutdown_command => {
            return ConnectionAction::Shutdown;
        }
        Request::Shutdown { .. } => NO_SHUTDOWN.encode(out),
    }
    ConnectionAction::Continue
}

/// Answers what was not executed. Behind a value that was too large the old item goes too.
pub(super) fn refuse(engine: &mut Engine, refusal: &Rejection<'_>, out: &mut BytesMut) {
    match refusal.oversized {
        Some(Request::Store(store)) => classic::refuse_oversized(engine, &store),
        Some(Request::MetaSet { key, flags, .. }) => meta::refuse_oversized(engine, key, flags),
        _ => {}
    }
    match refusal.reply {
        // The server asks whether `shutdown` is allowed before it looks at the mode.
        Some(reply)
            if reply.text == b"invalid shutdown mode" && !engine.settings.shutdown_command =>
        {
            NO_SHUTDOWN.encode(out);
        }
        Some(reply) => Reply::Error(reply).encode(out),
        None => {}
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
