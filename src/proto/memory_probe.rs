//! The sentinel item, and the counters read with it: the server's second and the age of its
//! memory.

use super::failure::ServerError;
use super::items::{push_gets, read_gets};
use super::name::Namespace;
use super::sentinel::{Sentinel, SentinelState, complete_since};
use super::server_instance::Protocol;
use super::server_state::ServerState;
use super::server_stats::{SettingStats, StatsSummary, push_group, push_stats};
use super::time::Instant;
use crate::wire::{DecodeError, Flag, Flags, Flight, Key, Replies, Reply, Request};

/// Writes a look at the sentinel; with `evidence`, the counters behind it that show what the server
/// may have dropped.
pub(super) fn push_memory_probe(
    flight: &mut Flight,
    protocol: Protocol,
    namespace: &Namespace,
    evidence: bool,
) {
    match protocol {
        Protocol::Meta => flight.push_prepared(namespace.read_sentinel(), []),
        Protocol::Classic => push_gets(flight, namespace.sentinel()),
    }
    push_evidence(flight, protocol, evidence);
}

/// Writes what follows the look at the sentinel.
pub(super) fn push_evidence(flight: &mut Flight, protocol: Protocol, evidence: bool) {
    // The classic protocol has no other way to ask for the time.
    if evidence || protocol == Protocol::Classic {
        push_stats(flight);
    }
    if evidence {
        push_group(flight, b"settings");
    }
}

/// Writes a look at the sentinel that also returns its CAS unique.
pub(super) fn push_sentinel_with_cas(flight: &mut Flight, protocol: Protocol, key: Key<'_>) {
    match protocol {
        Protocol::Meta => flight.push_here(&Request::MetaGet {
            key,
            flags: Flags::list(&[
                Flag::NoBump,
                Flag::ReturnCas,
                Flag::ReturnTtl,
                Flag::ReturnLastAccess,
                Flag::ReturnValue,
            ]),
        }),
        Protocol::Classic => push_gets(flight, key),
    }
}

/// Reads the answer to [`push_sentinel_with_cas`]: what was found, and its CAS unique.
pub(super) fn read_sentinel_with_cas(
    replies: &mut Replies<'_>,
    protocol: Protocol,
) -> Result<Result<(Sentinel, u64), ServerError>, DecodeError> {
    let found = match protocol {
        Protocol::Meta => match replies.next_reply()? {
            Reply::Meta(meta) => (Sentinel::from_meta(&meta), meta.flags.cas()),
            Reply::Error(error) => return Ok(Err(ServerError::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Protocol::Classic => match read_gets(replies)? {
            Ok(Some((value, cas))) => (Sentinel::from_value(value), Some(cas)),
            Ok(None) => (Sentinel::Absent, None),
            Err(failure) => return Ok(Err(failure)),
        },
    };
    Ok(match found {
        (Sentinel::Absent, _) => Ok((Sentinel::Absent, 0)),
        (_, Some(0)) => Err(ServerError::NoCas),
        (sentinel, Some(cas)) => Ok((sentinel, cas)),
        (_, None) => return Err(DecodeError::UnexpectedReply),
    })
}

/// The result of a look at a server's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemoryReading {
    /// Nothing was dropped from the server's second `from` on, at its second `second`.
    CompleteSince {
        from: u64,
        second: u64,
        /// Fencing tokens from before are below this many seconds in nanoseconds.
        floor: u64,
    },
    /// There is no sentinel, or one without a creation time, or one of a different server instance.
    NoSentinel,
    /// The flush horizon must be read as well.
    Ambiguous,
}

/// Reads the reply to [`push_memory_probe`], sent at `sent`, and notes what it says about the
/// server.
pub(super) fn read_memory(
    replies: &mut Replies<'_>,
    server: &mut ServerState,
    evidence: bool,
    sent: Instant,
    received: Instant,
) -> Result<Result<MemoryReading, ServerError>, DecodeError> {
    let protocol = server.capabilities.protocol;
    let mut sentinel = match protocol {
        Protocol::Meta => match replies.next_reply()? {
            Reply::Meta(meta) => Ok(Sentinel::from_meta_as(&meta, &mut server.sentinel)),
            Reply::Error(error) => Err(ServerError::from_reply(&error)),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Protocol::Classic => read_gets(replies)?
            .map(|item| item.map_or(Sentinel::Absent, |(value, _)| Sentinel::from_value(value))),
    };
    let stats = if evidence || protocol == Protocol::Classic {
        StatsSummary::read(replies)?.ok()
    } else {
        None
    };
    let settings = if evidence {
        SettingStats::read(replies)?
    } else {
        None
    };
    if let (Ok(Sentinel::Present { second, .. }), Protocol::Classic) = (&mut sentinel, protocol) {
        *second = stats.map(|stats| stats.time);
    }
    let second = match sentinel {
        Ok(Sentinel::Present { second, .. }) => second,
        _ => stats.map(|stats| stats.time),
    };
    if let Some(second) = second {
        server.clock.observe(second, sent, received);
    }
    let sentinel = match sentinel {
        Ok(sentinel) => sentinel,
        Err(failure) => return Ok(Err(failure)),
    };
    let counted = stats.and_then(|stats| {
        let from = server
            .memory
            .counters_read(&stats, settings.as_ref(), false);
        from.map(|from| (from, stats.time))
    });
    Ok(remembered(server, &sentinel, stats, counted))
}

/// The result of a look at a server's memory, by the sentinel that was found, and `counted`: from
/// when on the counters show it, and when.
pub(super) fn remembered(
    server: &mut ServerState,
    sentinel: &Sentinel,
    stats: Option<StatsSummary>,
    counted: Option<(u64, u64)>,
) -> Result<MemoryReading, ServerError> {
    let (record, second, idle) = match *sentinel {
        Sentinel::Absent => {
            server.memory.sentinel_missing();
            return Ok(MemoryReading::NoSentinel);
        }
        Sentinel::Foreign => return Err(ServerError::ForeignItem),
        Sentinel::Present {
            record,
            second,
            idle,
        } => (record, second.ok_or(ServerError::NoStats)?, idle),
    };
    if record.state == SentinelState::New || !server.instance.is_same_process(&record.instance) {
        server.memory.sentinel_missing();
        return Ok(MemoryReading::NoSentinel);
    }
    server.rename(record.instance.word);
    let shown = match (server.capabilities.protocol, stats) {
        (Protocol::Meta, _) => Some(complete_since(record.created_at, second, idle.unwrap_or(0))),
        // A plain read may have saved it from a flush, and its reply does not show that.
        (Protocol::Classic, Some(stats)) => {
            let unflushed = server.memory.unflushed_from(&stats);
            unflushed.map(|from| from.max(record.created_at))
        }
        (Protocol::Classic, None) => return Err(ServerError::NoStats),
    };
    let Some(shown) = shown else {
        server.memory.sentinel_missing();
        return Ok(MemoryReading::Ambiguous);
    };
    let from = server.memory.sentinel_seen(shown, second);
    let from = counted.map_or(from, |(counted, _)| counted.min(from));
    Ok(MemoryReading::CompleteSince {
        from,
        second: counted.map_or(second, |(_, at)| at.max(second)),
        // Not ahead of the server's clock, where that is not waited for: a counter that is made
        // anew soon would begin below.
        floor: from.max(record.created_at.min(second)),
    })
}
