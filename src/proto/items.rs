//! The three items of a lock on the wire, in both dialects: how each is asked for, how its
//! answer is read.
//!
//! | item | what it is |
//! |---|---|
//! | lock | the record of the holder |
//! | fence | the counter that fencing tokens come from |
//! | sentinel | the server's second and the age of its memory |

use super::memory::StatsSummary;
use super::name::{LockKeys, Namespace};
use super::requests::fence_flags;
use super::sentinel::{Sentinel, SentinelState, complete_since};
use super::server_state::{Protocol, ServerState};
use super::server_stats::SettingStats;
use super::time::Instant;
use crate::wire::{DecodeError, ErrorSource};
use crate::wire::{
    ErrorReply, Flag, Flags, Flight, Key, Keys, MetaReply, MetaStatus, Replies, Reply, Request,
    Store, StoreVerb, TimeLeft, parse_u64,
};
use alloc::string::{String, ToString};
use core::fmt;

/// How long a fence counter outlives its creation, in seconds: a day. A counter that is made
/// anew starts at the server's clock in nanoseconds, which a day later is far above whatever the
/// old one can have reached.
pub(super) const FENCE_TTL: u64 = 86_400;

/// The first second that memcached does not take for a relative time: 1970-01-31. As an expiry it
/// has passed on every server that locks are kept on ([`ServerError::ClockNotSet`]). memcached puts it
/// in the place of a negative expiry as well, and proxies that refuse `-1` let it pass.
pub(super) const LONG_PAST: u64 = 2_592_001;

/// Why a server cannot serve locks, or not this one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerError {
    /// The server has no memory for the item and does not evict (`-M`).
    OutOfMemory,
    /// The server runs without CAS (`-C`), so nothing could be released or renewed safely.
    NoCas,
    /// The server does not say its pid, uptime and time.
    NoStats,
    /// A proxy answers, with statistics of its own.
    Proxy,
    /// The addresses of the server's name lead to different servers: which ones.
    SeveralServers(String),
    /// The server's clock stands in January 1970, where memcached takes every expiry for a relative
    /// time: a record would outlive its lease by weeks.
    ClockNotSet,
    /// The server has no connection to spare.
    TooManyConnections,
    /// The server wants a user and a password (`-Y`), and none were given.
    AuthenticationRequired,
    /// The server does not accept the user and the password.
    AuthenticationFailed,
    /// An item under one of our keys is not ours: somebody else uses the prefix.
    ForeignItem,
    /// Items vanish as soon as they are stored.
    DropsItems,
    /// The lease cannot be expressed on this server.
    Lease(super::lease::LeaseError),
    /// The server does not list its items (`-X`, or the crawler is switched off).
    DumpRejected(String),
    /// The server was busy with its items for as long as it was asked to list them.
    DumpBusy(String),
    /// The server answered with an error.
    Rejected(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str(
                "the server has no memory left and does not evict (-M); give it more (-m) or free \
                 some",
            ),
            Self::NoCas => f.write_str(
                "the server runs without CAS (-C), so no lock on it could be released safely; \
                 start it without -C",
            ),
            Self::NoStats => f.write_str(
                "the server does not tell its pid, uptime and time by `stats`; locks need a \
                 memcached server, not a proxy in front of one",
            ),
            Self::Proxy => f.write_str(
                "a proxy answers (its `stats` have `proxy_` lines); locks need a direct connection \
                 to one memcached server, because restarts behind a proxy go unnoticed; set the \
                 address of that server",
            ),
            Self::SeveralServers(which) => write!(
                f,
                "the name leads to different servers, and a lock on one is not seen on the others: \
                 {which}; set the address of one of them, for all clients (several servers are not \
                 supported)"
            ),
            Self::ClockNotSet => f.write_str(
                "the server's clock stands in January 1970, where an expiry cannot be a point in \
                 time; set the clock of its machine, then restart memcached",
            ),
            Self::TooManyConnections => f.write_str(
                "the server has no connection to spare; raise its limit (-c) or close some",
            ),
            Self::AuthenticationRequired => {
                f.write_str("the server wants a user and a password (-Y), and none were given")
            }
            Self::AuthenticationFailed => f.write_str(
                "the server does not accept the user and the password that were given; they must \
                 be a line user:password of its file (-Y)",
            ),
            Self::ForeignItem => f.write_str(
                "an item under this prefix was not stored by a lock client; choose another prefix",
            ),
            Self::DropsItems => {
                f.write_str("the server forgets items as soon as it has stored them")
            }
            Self::Lease(error) => error.fmt(f),
            Self::DumpRejected(text) => write!(
                f,
                "the server does not list its items, so locks cannot be found without their \
                 names: {text}; it must run without -X and with its LRU crawler"
            ),
            Self::DumpBusy(text) => write!(
                f,
                "the server is busy with its items and cannot list them now: {text}; try again \
                 later"
            ),
            Self::Rejected(text) => write!(f, "the server refused: {text}"),
        }
    }
}

impl core::error::Error for ServerError {}

impl ServerError {
    /// What an error line means.
    pub(super) fn from_reply(error: &ErrorReply<'_>) -> Self {
        if error.is_out_of_memory() {
            Self::OutOfMemory
        } else if error.is_too_many_connections() {
            Self::TooManyConnections
        } else if error.is_unauthenticated() {
            Self::AuthenticationRequired
        } else if error.is_authentication_failure() {
            Self::AuthenticationFailed
        } else {
            Self::Rejected(error.to_string())
        }
    }
}

/// The answer to a look at the lock item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockItem<'a> {
    /// Nobody holds the lock.
    Free,
    /// Somebody does.
    Held {
        value: &'a [u8],
        cas: u64,
        left: Option<TimeLeft>,
    },
}

pub(super) fn push_get_lock(flight: &mut Flight, dialect: Protocol, keys: &LockKeys) {
    match dialect {
        Protocol::Meta => flight.push_prepared(&keys.requests().inspect, []),
        Protocol::Classic => push_gets(flight, keys.lock()),
    }
}

pub(super) fn read_lock<'a>(
    replies: &mut Replies<'a>,
    dialect: Protocol,
) -> Result<Result<LockItem<'a>, ServerError>, DecodeError> {
    let item = match dialect {
        Protocol::Meta => match replies.next_reply()? {
            Reply::Meta(MetaReply {
                status: MetaStatus::Value,
                flags,
                data,
            }) => LockItem::Held {
                value: data,
                cas: flags.cas().ok_or(DecodeError::UnexpectedReply)?,
                left: flags.ttl(),
            },
            Reply::Meta(MetaReply {
                status: MetaStatus::Miss,
                ..
            }) => LockItem::Free,
            Reply::Error(error) => return Ok(Err(ServerError::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Protocol::Classic => match read_gets(replies)? {
            Ok(Some((value, cas))) => LockItem::Held {
                value,
                cas,
                left: None,
            },
            Ok(None) => LockItem::Free,
            Err(failure) => return Ok(Err(failure)),
        },
    };
    Ok(match item {
        LockItem::Held { cas: 0, .. } => Err(ServerError::NoCas),
        item => Ok(item),
    })
}

/// Writes an attempt to acquire: stores the record where there is none, or in place of the one with
/// this CAS unique, looks at the lock, draws a fencing token if there is a seed for its counter, and
/// looks at the sentinel.
pub(super) fn push_attempt(
    flight: &mut Flight,
    dialect: Protocol,
    (namespace, keys): (&Namespace, &LockKeys),
    (record, over): (&[u8], Option<u64>),
    expiry: u64,
    (seed, evidence): (Option<u64>, bool),
) {
    #[cfg(seeded_bugs)]
    let expiry = crate::seeded::Bug::RelativeExpiry.choose(
        super::record::HolderRecord::parse(record).map_or(0, |record| record.lease.as_secs() + 3),
        expiry,
    );
    #[cfg(seeded_bugs)]
    let seed = crate::seeded::Bug::TokenFromOne.choose(seed.map(|_| 1), seed);
    #[cfg(seeded_bugs)]
    if crate::seeded::Bug::SentinelBeforeAcquire.planted() {
        push_memory_probe(flight, dialect, namespace, false);
    }
    let requests = keys.requests();
    match over {
        None => flight.push_prepared_store(&requests.add, exptime(expiry), record),
        Some(cas) => push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry),
    }
    match (dialect, seed) {
        (Protocol::Meta, Some(seed)) => {
            flight.push_prepared(&requests.inspect_draw_read, [seed]);
            push_evidence(flight, dialect, evidence);
        }
        _ => {
            push_get_lock(flight, dialect, keys);
            if let Some(seed) = seed {
                push_fence(flight, dialect, keys, seed);
            }
            push_memory_probe(flight, dialect, namespace, evidence);
        }
    }
}

/// What came of a classic storage request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreOutcome {
    Stored,
    NotStored,
    Failed(ServerError),
}

/// Reads the answer to `add` or `cas`.
pub(super) fn read_stored(replies: &mut Replies<'_>) -> Result<StoreOutcome, DecodeError> {
    Ok(match replies.next_reply()? {
        Reply::Stored => StoreOutcome::Stored,
        Reply::NotStored | Reply::Exists | Reply::NotFound => StoreOutcome::NotStored,
        Reply::Error(error) => StoreOutcome::Failed(ServerError::from_reply(&error)),
        _ => return Err(DecodeError::UnexpectedReply),
    })
}

/// Writes a renewal: prolongs the record that has this CAS unique and gives it another, looks at
/// the lock and at the sentinel.
pub(super) fn push_renewal(
    flight: &mut Flight,
    dialect: Protocol,
    (namespace, keys): (&Namespace, &LockKeys),
    record: &[u8],
    cas: u64,
    expiry: u64,
) {
    #[cfg(seeded_bugs)]
    if dialect == Protocol::Meta && crate::seeded::Bug::RenewalKeepsCas.planted() {
        push_recordless_renewal(flight, dialect, keys, (cas, cas), expiry);
        return push_memory_probe(flight, dialect, namespace, false);
    }
    #[cfg(seeded_bugs)]
    if dialect == Protocol::Meta && crate::seeded::Bug::BlindRenewal.planted() {
        flight.push(&Request::MetaDelete {
            key: keys.lock(),
            flags: Flags::list(&[Flag::Invalidate, Flag::Ttl(exptime(expiry))]),
        });
        push_get_lock(flight, dialect, keys);
        return push_memory_probe(flight, dialect, namespace, false);
    }
    match dialect {
        Protocol::Meta => flight.push_prepared(&keys.requests().renew, [cas, expiry]),
        Protocol::Classic => {
            push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry);
        }
    }
    push_get_lock(flight, dialect, keys);
    push_memory_probe(flight, dialect, namespace, false);
}

/// Writes an attempt to acquire without a record: makes an empty item with this CAS unique where
/// there is none, and says which CAS unique it has and for how long it stays.
pub(super) fn push_recordless_attempt(flight: &mut Flight, keys: &LockKeys, cas: u64, expiry: u64) {
    flight.push_prepared(&keys.requests().recordless, [expiry, cas]);
}

/// Reads the answer to [`push_recordless_attempt`]: the CAS unique, and the time that is left.
pub(super) fn read_recordless_attempt(
    replies: &mut Replies<'_>,
) -> Result<Result<(u64, Option<TimeLeft>), ServerError>, DecodeError> {
    Ok(match replies.next_reply()? {
        Reply::Meta(MetaReply {
            status: MetaStatus::Done,
            flags,
            ..
        }) => match flags.cas().ok_or(DecodeError::UnexpectedReply)? {
            0 => Err(ServerError::NoCas),
            cas => Ok((cas, flags.ttl())),
        },
        // The server made no item, and says no more about why.
        Reply::Meta(MetaReply {
            status: MetaStatus::Miss,
            ..
        }) => Err(ServerError::OutOfMemory),
        Reply::Error(error) => Err(ServerError::from_reply(&error)),
        _ => return Err(DecodeError::UnexpectedReply),
    })
}

/// Writes the renewal of a lock without a record: gives the item that has the first CAS unique the
/// second one and this expiry, and looks at the lock.
pub(super) fn push_recordless_renewal(
    flight: &mut Flight,
    dialect: Protocol,
    keys: &LockKeys,
    (cas, next): (u64, u64),
    expiry: u64,
) {
    #[cfg(seeded_bugs)]
    let next = crate::seeded::Bug::RenewalKeepsCas.choose(cas, next);
    flight.push(&Request::MetaDelete {
        key: keys.lock(),
        flags: Flags::list(&[
            Flag::CompareCas(cas),
            Flag::ExplicitCas(next),
            Flag::Invalidate,
            Flag::Ttl(exptime(expiry)),
        ]),
    });
    push_get_lock(flight, dialect, keys);
}

/// Writes what removes the record that has this CAS unique.
pub(super) fn push_release(flight: &mut Flight, dialect: Protocol, keys: &LockKeys, cas: u64) {
    #[cfg(seeded_bugs)]
    if dialect == Protocol::Meta && crate::seeded::Bug::BlindRelease.planted() {
        return flight.push(&Request::MetaDelete {
            key: keys.lock(),
            flags: Flags::list(&[]),
        });
    }
    match dialect {
        Protocol::Meta => flight.push_prepared(&keys.requests().release, [cas]),
        Protocol::Classic => flight.push_here(&Request::Store(Store {
            verb: StoreVerb::Cas(cas),
            key: keys.lock(),
            client_flags: 0,
            exptime: exptime(LONG_PAST),
            value: b"",
            noreply: false,
        })),
    }
}

/// Writes what puts another record in place of the one that has this CAS unique. The same in both
/// dialects: the meta protocol's way to store deletes what it finds no memory to replace.
pub(super) fn push_retained_record(
    flight: &mut Flight,
    keys: &LockKeys,
    record: &[u8],
    cas: u64,
    expiry: u64,
) {
    push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry);
}

/// What came of a request that names a CAS unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CasOutcome {
    /// It was the item's, and the request was carried out.
    Done,
    /// The item has another.
    Mismatch,
    /// There is no such item.
    NotFound,
    /// The server did not do it.
    Failed(ServerError),
}

/// Reads the answer to a renewal or a release.
pub(super) fn read_cas_outcome(replies: &mut Replies<'_>) -> Result<CasOutcome, DecodeError> {
    Ok(match replies.next_reply()? {
        Reply::Stored => CasOutcome::Done,
        Reply::Exists => CasOutcome::Mismatch,
        Reply::NotFound => CasOutcome::NotFound,
        Reply::Meta(meta) => match meta.status {
            MetaStatus::Done => CasOutcome::Done,
            MetaStatus::Exists => CasOutcome::Mismatch,
            MetaStatus::NotFound => CasOutcome::NotFound,
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Reply::Error(error) => CasOutcome::Failed(ServerError::from_reply(&error)),
        _ => return Err(DecodeError::UnexpectedReply),
    })
}

/// Writes what draws a fencing token, from a counter that starts at `seed` when there is none.
pub(super) fn push_fence(flight: &mut Flight, dialect: Protocol, keys: &LockKeys, seed: u64) {
    match dialect {
        Protocol::Meta => flight.push_here(&Request::MetaArithmetic {
            key: keys.fence(),
            flags: Flags::list(&fence_flags(seed)),
        }),
        Protocol::Classic => {
            let fence = keys.fence();
            flight.push_here(&Request::Store(Store {
                verb: StoreVerb::Add,
                key: fence,
                client_flags: 0,
                exptime: exptime(FENCE_TTL),
                value: itoa::Buffer::new().format(seed).as_bytes(),
                noreply: false,
            }));
            flight.push_here(&Request::Arithmetic {
                add: true,
                key: fence,
                delta: 1,
                noreply: false,
            });
        }
    }
}

/// A fencing token that was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DrawnToken {
    pub(super) token: u64,
    /// For how much longer the server keeps the counter. The classic dialect does not tell.
    pub(super) left: Option<TimeLeft>,
}

/// Reads the answer to [`push_fence`].
pub(super) fn read_fence(
    replies: &mut Replies<'_>,
    dialect: Protocol,
) -> Result<Result<DrawnToken, ServerError>, DecodeError> {
    if dialect == Protocol::Classic {
        if let StoreOutcome::Failed(failure) = read_stored(replies)? {
            replies.next_reply()?;
            return Ok(Err(failure));
        }
    }
    let mut left = None;
    let token = match replies.next_reply()? {
        Reply::Number(token) => Some(token),
        Reply::Meta(MetaReply {
            status: MetaStatus::Value,
            flags,
            data,
        }) => {
            left = flags.ttl();
            parse_u64(data.trim_ascii_end())
        }
        // Vanished between the two requests of the classic dialect.
        Reply::NotFound => return Ok(Err(ServerError::DropsItems)),
        Reply::Error(error) if error.source == ErrorSource::Client => None,
        Reply::Error(error) => return Ok(Err(ServerError::from_reply(&error))),
        _ => return Err(DecodeError::UnexpectedReply),
    };
    // A token must fit the signed 64-bit columns it is compared in.
    Ok(token
        .filter(|token| i64::try_from(*token).is_ok())
        .map(|token| DrawnToken { token, left })
        .ok_or(ServerError::ForeignItem))
}

/// Writes a look at the fence counter that leaves it as it is.
pub(super) fn push_read_fence(flight: &mut Flight, keys: &LockKeys) {
    push_gets(flight, keys.fence());
}

/// Reads the answer to [`push_read_fence`]: the last token drawn, if there is a counter.
pub(super) fn read_last_token(
    replies: &mut Replies<'_>,
) -> Result<Result<Option<u64>, ServerError>, DecodeError> {
    let item = read_gets(replies)?;
    Ok(item.map(|item| item.and_then(|(value, _)| parse_u64(value.trim_ascii_end()))))
}

/// Writes a look at the sentinel; with `evidence`, the counters behind it that show what the server
/// may have dropped.
pub(super) fn push_memory_probe(
    flight: &mut Flight,
    dialect: Protocol,
    namespace: &Namespace,
    evidence: bool,
) {
    match dialect {
        Protocol::Meta => flight.push_prepared(namespace.read_sentinel(), []),
        Protocol::Classic => push_gets(flight, namespace.sentinel()),
    }
    push_evidence(flight, dialect, evidence);
}

/// Writes what follows the look at the sentinel.
fn push_evidence(flight: &mut Flight, dialect: Protocol, evidence: bool) {
    // The classic protocol has no other way to ask for the time.
    if evidence || dialect == Protocol::Classic {
        push_stats(flight);
    }
    if evidence {
        push_group(flight, b"settings");
    }
}

/// Writes a look at the sentinel that tells its CAS unique as well.
pub(super) fn push_sentinel_with_cas(flight: &mut Flight, dialect: Protocol, key: Key<'_>) {
    match dialect {
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
    dialect: Protocol,
) -> Result<Result<(Sentinel, u64), ServerError>, DecodeError> {
    let found = match dialect {
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

/// What a look at a server's memory has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemoryReading {
    /// Nothing was dropped from the server's second `from` on, at its second `second`.
    CompleteSince {
        from: u64,
        second: u64,
        /// Fencing tokens from before are below this many seconds in nanoseconds.
        floor: u64,
    },
    /// There is no sentinel, or one without a birth, or one of another run of the server.
    NoSentinel,
    /// The flush horizon must be read as well.
    Ambiguous,
}

/// Reads the answer to [`push_memory_probe`], sent at `sent`, and notes what it tells of the
/// server.
pub(super) fn read_memory(
    replies: &mut Replies<'_>,
    server: &mut ServerState,
    evidence: bool,
    sent: Instant,
    received: Instant,
) -> Result<Result<MemoryReading, ServerError>, DecodeError> {
    let dialect = server.capabilities.protocol;
    let mut sentinel = match dialect {
        Protocol::Meta => match replies.next_reply()? {
            Reply::Meta(meta) => Ok(Sentinel::from_meta_as(&meta, &mut server.sentinel)),
            Reply::Error(error) => Err(ServerError::from_reply(&error)),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Protocol::Classic => read_gets(replies)?
            .map(|item| item.map_or(Sentinel::Absent, |(value, _)| Sentinel::from_value(value))),
    };
    let stats = match evidence || dialect == Protocol::Classic {
        true => StatsSummary::read(replies)?.ok(),
        false => None,
    };
    let settings = match evidence {
        true => SettingStats::read(replies)?,
        false => None,
    };
    if let (Ok(Sentinel::Present { second, .. }), Protocol::Classic) = (&mut sentinel, dialect) {
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

/// What a look at a server's memory has shown, by the sentinel that was found, and `counted`: from
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
        #[cfg(seeded_bugs)]
        (Protocol::Meta, _) if crate::seeded::Bug::BirthAlone.planted() => Some(record.created_at),
        (Protocol::Meta, _) => Some(complete_since(record.created_at, second, idle.unwrap_or(0))),
        // A plain read may have saved it from a flush, and it does not tell.
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

pub(super) fn push_gets(flight: &mut Flight, key: Key<'_>) {
    flight.push_here(&Request::Get {
        with_cas: true,
        keys: Keys::list(&[key]),
    });
}

/// The value and CAS unique that `gets` of one key found.
type GetsOutcome<'a> = Result<Option<(&'a [u8], u64)>, ServerError>;

pub(super) fn read_gets<'a>(replies: &mut Replies<'a>) -> Result<GetsOutcome<'a>, DecodeError> {
    let mut found = None;
    loop {
        match replies.next_reply()? {
            Reply::Value(value) if found.is_none() => {
                let cas = value.cas.ok_or(DecodeError::UnexpectedReply)?;
                found = Some((value.data, cas));
            }
            Reply::End => return Ok(Ok(found)),
            Reply::Error(error) => return Ok(Err(ServerError::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        }
    }
}

pub(super) fn push_store(
    flight: &mut Flight,
    verb: StoreVerb,
    key: Key<'_>,
    value: &[u8],
    expiry: u64,
) {
    flight.push_here(&Request::Store(Store {
        verb,
        key,
        client_flags: 0,
        exptime: exptime(expiry),
        value,
        noreply: false,
    }));
}

/// Expiries were checked against the server's 32 bits when they were made.
fn exptime(expiry: u64) -> i64 {
    i64::try_from(expiry).unwrap_or(i64::MAX)
}

pub(super) fn push_stats(flight: &mut Flight) {
    flight.push_here(&Request::Stats {
        group: Keys::list(&[]),
    });
}

/// Asks for a group of statistics.
pub(super) fn push_group(flight: &mut Flight, group: &'static [u8]) {
    if let Ok(group) = Key::new(group) {
        flight.push(&Request::Stats {
            group: Keys::list(&[group]),
        });
    }
}

/// How the names of a proxy's own statistics begin, of memcached's proxy and of mcrouter. A server
/// has none of them.
pub(super) const PROXY_STATS: &[u8] = b"proxy_";

/// Writes what removes a password that a server without accounts has stored. On most of them it has
/// expired already; where the clock stands in January 1970 it has not.
pub(super) fn push_delete_password(flight: &mut Flight, namespace: &Namespace) {
    flight.push_here(&Request::Delete {
        key: namespace.probe(),
        noreply: false,
    });
}

/// Reads the answer to [`push_delete_password`]: nothing depends on it.
pub(super) fn read_delete_password(replies: &mut Replies<'_>) -> Result<(), DecodeError> {
    match replies.next_reply()? {
        Reply::Deleted | Reply::NotFound | Reply::Error(_) => Ok(()),
        _ => Err(DecodeError::UnexpectedReply),
    }
}

impl StatsSummary {
    /// Reads the answer to `stats`. A failure when what is wanted is not in it, or when it is about
    /// a proxy and not about the server that keeps the items.
    pub(super) fn read(
        replies: &mut Replies<'_>,
    ) -> Result<Result<Self, ServerError>, DecodeError> {
        let mut is_proxy = false;
        let (mut pid, mut uptime, mut time) = (None, None, None);
        let (mut flushes, mut evictions, mut moves) = (None, None, Some(0));
        loop {
            match replies.next_reply()? {
                Reply::Stat { name, value } => {
                    let wanted = match name {
                        b"pid" => &mut pid,
                        b"uptime" => &mut uptime,
                        b"time" => &mut time,
                        b"cmd_flush" => &mut flushes,
                        b"evictions" => &mut evictions,
                        b"slabs_moved" => &mut moves,
                        _ => {
                            is_proxy |= name.starts_with(PROXY_STATS);
                            continue;
                        }
                    };
                    *wanted = parse_u64(value);
                }
                Reply::End => break,
                Reply::Error(_) | Reply::Ok | Reply::Reset => return Ok(Err(ServerError::NoStats)),
                _ => return Err(DecodeError::UnexpectedReply),
            }
        }
        // Times are 32 bits wide; what says otherwise is no memcached server.
        let time = time.filter(|time| u32::try_from(*time).is_ok());
        Ok(match (pid, uptime, time) {
            (Some(_), Some(_), Some(..=LONG_PAST)) => Err(ServerError::ClockNotSet),
            _ if is_proxy => Err(ServerError::Proxy),
            (Some(pid), Some(uptime), Some(time)) if uptime <= time => Ok(Self {
                pid,
                uptime,
                time,
                flushes,
                keeps_items: (evictions, moves) == (Some(0), Some(0)),
            }),
            _ => Err(ServerError::NoStats),
        })
    }
}
