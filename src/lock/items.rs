//! The three items of a lock on the wire, in both dialects: how each is asked for, how its
//! answer is read.
//!
//! | item | what it is |
//! |---|---|
//! | lock | the record of the holder |
//! | fence | the counter that fencing tokens come from |
//! | sentinel | the server's second and the age of its memory |

use super::incarnation::{Dialect, ServerView};
use super::memory::Stats;
use super::moment::Moment;
use super::name::{LockKeys, Namespace};
use super::requests::fence_flags;
use super::sentinel::{Sentinel, SentinelState, remembered_from};
use super::statistics::SettingStats;
use crate::wire::{Blame, DecodeError};
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
/// has passed on every server that locks are kept on ([`Failure::ClockNotSet`]). memcached puts it
/// in the place of a negative expiry as well, and proxies that refuse `-1` let it pass.
pub(super) const LONG_PAST: u64 = 2_592_001;

/// Why a server cannot serve locks, or not this one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
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
    AuthenticationRefused,
    /// An item under one of our keys is not ours: somebody else uses the prefix.
    ForeignItem,
    /// Items vanish as soon as they are stored.
    ForgottenAtOnce,
    /// The lease cannot be expressed on this server.
    Lease(super::lease::LeaseError),
    /// The server does not list its items (`-X`, or the crawler is switched off).
    DumpRefused(String),
    /// The server was busy with its items for as long as it was asked to list them.
    DumpBusy(String),
    /// The server answered with an error.
    Refused(String),
}

impl fmt::Display for Failure {
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
            Self::AuthenticationRefused => f.write_str(
                "the server does not accept the user and the password that were given; they must \
                 be a line user:password of its file (-Y)",
            ),
            Self::ForeignItem => f.write_str(
                "an item under this prefix was not stored by a lock client; choose another prefix",
            ),
            Self::ForgottenAtOnce => {
                f.write_str("the server forgets items as soon as it has stored them")
            }
            Self::Lease(error) => error.fmt(f),
            Self::DumpRefused(text) => write!(
                f,
                "the server does not list its items, so locks cannot be found without their \
                 names: {text}; it must run without -X and with its LRU crawler"
            ),
            Self::DumpBusy(text) => write!(
                f,
                "the server is busy with its items and cannot list them now: {text}; try again \
                 later"
            ),
            Self::Refused(text) => write!(f, "the server refused: {text}"),
        }
    }
}

impl core::error::Error for Failure {}

impl Failure {
    /// What an error line means.
    pub(super) fn from_reply(error: &ErrorReply<'_>) -> Self {
        if error.is_out_of_memory() {
            Self::OutOfMemory
        } else if error.is_too_many_connections() {
            Self::TooManyConnections
        } else if error.is_unauthenticated() {
            Self::AuthenticationRequired
        } else if error.is_authentication_failure() {
            Self::AuthenticationRefused
        } else {
            Self::Refused(error.to_string())
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

pub(super) fn push_read_lock(flight: &mut Flight, dialect: Dialect, keys: &LockKeys) {
    match dialect {
        Dialect::Meta => flight.push_prepared(&keys.requests().look, []),
        Dialect::Classic => push_gets(flight, keys.lock()),
    }
}

pub(super) fn read_lock<'a>(
    replies: &mut Replies<'a>,
    dialect: Dialect,
) -> Result<Result<LockItem<'a>, Failure>, DecodeError> {
    let item = match dialect {
        Dialect::Meta => match replies.next_reply()? {
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
            Reply::Error(error) => return Ok(Err(Failure::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Dialect::Classic => match read_gets(replies)? {
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
        LockItem::Held { cas: 0, .. } => Err(Failure::NoCas),
        item => Ok(item),
    })
}

/// Writes an attempt to acquire: stores the record where there is none, or in place of the one with
/// this CAS unique, looks at the lock, draws a fencing token if there is a seed for its counter, and
/// looks at the sentinel.
pub(super) fn push_attempt(
    flight: &mut Flight,
    dialect: Dialect,
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
        push_look_at_memory(flight, dialect, namespace, false);
    }
    let requests = keys.requests();
    match over {
        None => flight.push_prepared_store(&requests.add, exptime(expiry), record),
        Some(cas) => push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry),
    }
    match (dialect, seed) {
        (Dialect::Meta, Some(seed)) => {
            flight.push_prepared(&requests.look_draw_read, [seed]);
            push_evidence(flight, dialect, evidence);
        }
        _ => {
            push_read_lock(flight, dialect, keys);
            if let Some(seed) = seed {
                push_fence(flight, dialect, keys, seed);
            }
            push_look_at_memory(flight, dialect, namespace, evidence);
        }
    }
}

/// What came of a classic storage request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    Yes,
    No,
    Failed(Failure),
}

/// Reads the answer to `add` or `cas`.
pub(super) fn read_stored(replies: &mut Replies<'_>) -> Result<Stored, DecodeError> {
    Ok(match replies.next_reply()? {
        Reply::Stored => Stored::Yes,
        Reply::NotStored | Reply::Exists | Reply::NotFound => Stored::No,
        Reply::Error(error) => Stored::Failed(Failure::from_reply(&error)),
        _ => return Err(DecodeError::UnexpectedReply),
    })
}

/// Writes a renewal: prolongs the record that has this CAS unique and gives it another, looks at
/// the lock and at the sentinel.
pub(super) fn push_renewal(
    flight: &mut Flight,
    dialect: Dialect,
    (namespace, keys): (&Namespace, &LockKeys),
    record: &[u8],
    cas: u64,
    expiry: u64,
) {
    #[cfg(seeded_bugs)]
    if dialect == Dialect::Meta && crate::seeded::Bug::RenewalKeepsCas.planted() {
        push_lean_renewal(flight, dialect, keys, (cas, cas), expiry);
        return push_look_at_memory(flight, dialect, namespace, false);
    }
    #[cfg(seeded_bugs)]
    if dialect == Dialect::Meta && crate::seeded::Bug::BlindRenewal.planted() {
        flight.push(&Request::MetaDelete {
            key: keys.lock(),
            flags: Flags::list(&[Flag::Invalidate, Flag::Ttl(exptime(expiry))]),
        });
        push_read_lock(flight, dialect, keys);
        return push_look_at_memory(flight, dialect, namespace, false);
    }
    match dialect {
        Dialect::Meta => flight.push_prepared(&keys.requests().renew, [cas, expiry]),
        Dialect::Classic => {
            push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry);
        }
    }
    push_read_lock(flight, dialect, keys);
    push_look_at_memory(flight, dialect, namespace, false);
}

/// Writes an attempt to acquire without a record: makes an empty item with this CAS unique where
/// there is none, and says which CAS unique it has and for how long it stays.
pub(super) fn push_lean_attempt(flight: &mut Flight, keys: &LockKeys, cas: u64, expiry: u64) {
    flight.push_prepared(&keys.requests().lean, [expiry, cas]);
}

/// Reads the answer to [`push_lean_attempt`]: the CAS unique, and the time that is left.
pub(super) fn read_lean_attempt(
    replies: &mut Replies<'_>,
) -> Result<Result<(u64, Option<TimeLeft>), Failure>, DecodeError> {
    Ok(match replies.next_reply()? {
        Reply::Meta(MetaReply {
            status: MetaStatus::Done,
            flags,
            ..
        }) => match flags.cas().ok_or(DecodeError::UnexpectedReply)? {
            0 => Err(Failure::NoCas),
            cas => Ok((cas, flags.ttl())),
        },
        // The server made no item, and says no more about why.
        Reply::Meta(MetaReply {
            status: MetaStatus::Miss,
            ..
        }) => Err(Failure::OutOfMemory),
        Reply::Error(error) => Err(Failure::from_reply(&error)),
        _ => return Err(DecodeError::UnexpectedReply),
    })
}

/// Writes the renewal of a lock without a record: gives the item that has the first CAS unique the
/// second one and this expiry, and looks at the lock.
pub(super) fn push_lean_renewal(
    flight: &mut Flight,
    dialect: Dialect,
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
    push_read_lock(flight, dialect, keys);
}

/// Writes what removes the record that has this CAS unique.
pub(super) fn push_release(flight: &mut Flight, dialect: Dialect, keys: &LockKeys, cas: u64) {
    #[cfg(seeded_bugs)]
    if dialect == Dialect::Meta && crate::seeded::Bug::BlindRelease.planted() {
        return flight.push(&Request::MetaDelete {
            key: keys.lock(),
            flags: Flags::list(&[]),
        });
    }
    match dialect {
        Dialect::Meta => flight.push_prepared(&keys.requests().release, [cas]),
        Dialect::Classic => flight.push_here(&Request::Store(Store {
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
pub(super) fn push_rest(
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
pub(super) enum Compared {
    /// It was the item's, and the request was carried out.
    Done,
    /// The item has another.
    Other,
    /// There is no such item.
    Missing,
    /// The server did not do it.
    Failed(Failure),
}

/// Reads the answer to a renewal or a release.
pub(super) fn read_compared(replies: &mut Replies<'_>) -> Result<Compared, DecodeError> {
    Ok(match replies.next_reply()? {
        Reply::Stored => Compared::Done,
        Reply::Exists => Compared::Other,
        Reply::NotFound => Compared::Missing,
        Reply::Meta(meta) => match meta.status {
            MetaStatus::Done => Compared::Done,
            MetaStatus::Exists => Compared::Other,
            MetaStatus::NotFound => Compared::Missing,
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Reply::Error(error) => Compared::Failed(Failure::from_reply(&error)),
        _ => return Err(DecodeError::UnexpectedReply),
    })
}

/// Writes what draws a fencing token, from a counter that starts at `seed` when there is none.
pub(super) fn push_fence(flight: &mut Flight, dialect: Dialect, keys: &LockKeys, seed: u64) {
    match dialect {
        Dialect::Meta => flight.push_here(&Request::MetaArithmetic {
            key: keys.fence(),
            flags: Flags::list(&fence_flags(seed)),
        }),
        Dialect::Classic => {
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
    dialect: Dialect,
) -> Result<Result<DrawnToken, Failure>, DecodeError> {
    if dialect == Dialect::Classic {
        if let Stored::Failed(failure) = read_stored(replies)? {
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
        Reply::NotFound => return Ok(Err(Failure::ForgottenAtOnce)),
        Reply::Error(error) if error.blame == Blame::Client => None,
        Reply::Error(error) => return Ok(Err(Failure::from_reply(&error))),
        _ => return Err(DecodeError::UnexpectedReply),
    };
    // A token must fit the signed 64-bit columns it is compared in.
    Ok(token
        .filter(|token| i64::try_from(*token).is_ok())
        .map(|token| DrawnToken { token, left })
        .ok_or(Failure::ForeignItem))
}

/// Writes a look at the fence counter that leaves it as it is.
pub(super) fn push_read_fence(flight: &mut Flight, keys: &LockKeys) {
    push_gets(flight, keys.fence());
}

/// Reads the answer to [`push_read_fence`]: the last token drawn, if there is a counter.
pub(super) fn read_last_token(
    replies: &mut Replies<'_>,
) -> Result<Result<Option<u64>, Failure>, DecodeError> {
    let item = read_gets(replies)?;
    Ok(item.map(|item| item.and_then(|(value, _)| parse_u64(value.trim_ascii_end()))))
}

/// Writes a look at the sentinel; with `evidence`, the counters behind it that show what the server
/// may have dropped.
pub(super) fn push_look_at_memory(
    flight: &mut Flight,
    dialect: Dialect,
    namespace: &Namespace,
    evidence: bool,
) {
    match dialect {
        Dialect::Meta => flight.push_prepared(namespace.read_sentinel(), []),
        Dialect::Classic => push_gets(flight, namespace.sentinel()),
    }
    push_evidence(flight, dialect, evidence);
}

/// Writes what follows the look at the sentinel.
fn push_evidence(flight: &mut Flight, dialect: Dialect, evidence: bool) {
    // The classic protocol has no other way to ask for the time.
    if evidence || dialect == Dialect::Classic {
        push_stats(flight);
    }
    if evidence {
        push_group(flight, b"settings");
    }
}

/// Writes a look at the sentinel that tells its CAS unique as well.
pub(super) fn push_sentinel_with_cas(flight: &mut Flight, dialect: Dialect, key: Key<'_>) {
    match dialect {
        Dialect::Meta => flight.push_here(&Request::MetaGet {
            key,
            flags: Flags::list(&[
                Flag::NoBump,
                Flag::ReturnCas,
                Flag::ReturnTtl,
                Flag::ReturnLastAccess,
                Flag::ReturnValue,
            ]),
        }),
        Dialect::Classic => push_gets(flight, key),
    }
}

/// Reads the answer to [`push_sentinel_with_cas`]: what was found, and its CAS unique.
pub(super) fn read_sentinel_with_cas(
    replies: &mut Replies<'_>,
    dialect: Dialect,
) -> Result<Result<(Sentinel, u64), Failure>, DecodeError> {
    let found = match dialect {
        Dialect::Meta => match replies.next_reply()? {
            Reply::Meta(meta) => (Sentinel::from_meta(&meta), meta.flags.cas()),
            Reply::Error(error) => return Ok(Err(Failure::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Dialect::Classic => match read_gets(replies)? {
            Ok(Some((value, cas))) => (Sentinel::from_value(value), Some(cas)),
            Ok(None) => (Sentinel::Absent, None),
            Err(failure) => return Ok(Err(failure)),
        },
    };
    Ok(match found {
        (Sentinel::Absent, _) => Ok((Sentinel::Absent, 0)),
        (_, Some(0)) => Err(Failure::NoCas),
        (sentinel, Some(cas)) => Ok((sentinel, cas)),
        (_, None) => return Err(DecodeError::UnexpectedReply),
    })
}

/// What a look at a server's memory has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remembered {
    /// Nothing was dropped from the server's second `from` on, at its second `second`.
    From {
        from: u64,
        second: u64,
        /// Fencing tokens from before are below this many seconds in nanoseconds.
        floor: u64,
    },
    /// There is no sentinel, or one without a birth, or one of another run of the server.
    Unfounded,
    /// The flush horizon must be read as well.
    Unclear,
}

/// Reads the answer to [`push_look_at_memory`], sent at `sent`, and notes what it tells of the
/// server.
pub(super) fn read_memory(
    replies: &mut Replies<'_>,
    server: &mut ServerView,
    evidence: bool,
    sent: Moment,
    received: Moment,
) -> Result<Result<Remembered, Failure>, DecodeError> {
    let dialect = server.capabilities.dialect;
    let mut sentinel = match dialect {
        Dialect::Meta => match replies.next_reply()? {
            Reply::Meta(meta) => Ok(Sentinel::from_meta_as(&meta, &mut server.sentinel)),
            Reply::Error(error) => Err(Failure::from_reply(&error)),
            _ => return Err(DecodeError::UnexpectedReply),
        },
        Dialect::Classic => read_gets(replies)?
            .map(|item| item.map_or(Sentinel::Absent, |(value, _)| Sentinel::from_value(value))),
    };
    let stats = match evidence || dialect == Dialect::Classic {
        true => Stats::read(replies)?.ok(),
        false => None,
    };
    let settings = match evidence {
        true => SettingStats::read(replies)?,
        false => None,
    };
    if let (Ok(Sentinel::Present { second, .. }), Dialect::Classic) = (&mut sentinel, dialect) {
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
    server: &mut ServerView,
    sentinel: &Sentinel,
    stats: Option<Stats>,
    counted: Option<(u64, u64)>,
) -> Result<Remembered, Failure> {
    let (record, second, idle) = match *sentinel {
        Sentinel::Absent => {
            server.memory.sentinel_missing();
            return Ok(Remembered::Unfounded);
        }
        Sentinel::Foreign => return Err(Failure::ForeignItem),
        Sentinel::Present {
            record,
            second,
            idle,
        } => (record, second.ok_or(Failure::NoStats)?, idle),
    };
    if record.state == SentinelState::New || !server.incarnation.is_like(&record.run) {
        server.memory.sentinel_missing();
        return Ok(Remembered::Unfounded);
    }
    server.rename(record.run.instance);
    let shown = match (server.capabilities.dialect, stats) {
        #[cfg(seeded_bugs)]
        (Dialect::Meta, _) if crate::seeded::Bug::BirthAlone.planted() => Some(record.birth),
        (Dialect::Meta, _) => Some(remembered_from(record.birth, second, idle.unwrap_or(0))),
        // A plain read may have saved it from a flush, and it does not tell.
        (Dialect::Classic, Some(stats)) => {
            let unflushed = server.memory.unflushed_from(&stats);
            unflushed.map(|from| from.max(record.birth))
        }
        (Dialect::Classic, None) => return Err(Failure::NoStats),
    };
    let Some(shown) = shown else {
        server.memory.sentinel_missing();
        return Ok(Remembered::Unclear);
    };
    let from = server.memory.sentinel_seen(shown, second);
    let from = counted.map_or(from, |(counted, _)| counted.min(from));
    Ok(Remembered::From {
        from,
        second: counted.map_or(second, |(_, at)| at.max(second)),
        // Not ahead of the server's clock, where that is not waited for: a counter that is made
        // anew soon would begin below.
        floor: from.max(record.birth.min(second)),
    })
}

pub(super) fn push_gets(flight: &mut Flight, key: Key<'_>) {
    flight.push_here(&Request::Get {
        with_cas: true,
        keys: Keys::list(&[key]),
    });
}

/// The value and CAS unique that `gets` of one key found.
type Gotten<'a> = Result<Option<(&'a [u8], u64)>, Failure>;

pub(super) fn read_gets<'a>(replies: &mut Replies<'a>) -> Result<Gotten<'a>, DecodeError> {
    let mut found = None;
    loop {
        match replies.next_reply()? {
            Reply::Value(value) if found.is_none() => {
                let cas = value.cas.ok_or(DecodeError::UnexpectedReply)?;
                found = Some((value.data, cas));
            }
            Reply::End => return Ok(Ok(found)),
            Reply::Error(error) => return Ok(Err(Failure::from_reply(&error))),
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
pub(super) fn push_forget_password(flight: &mut Flight, namespace: &Namespace) {
    flight.push_here(&Request::Delete {
        key: namespace.probe(),
        noreply: false,
    });
}

/// Reads the answer to [`push_forget_password`]: nothing depends on it.
pub(super) fn read_forget_password(replies: &mut Replies<'_>) -> Result<(), DecodeError> {
    match replies.next_reply()? {
        Reply::Deleted | Reply::NotFound | Reply::Error(_) => Ok(()),
        _ => Err(DecodeError::UnexpectedReply),
    }
}

impl Stats {
    /// Reads the answer to `stats`. A failure when what is wanted is not in it, or when it is about
    /// a proxy and not about the server that keeps the items.
    pub(super) fn read(replies: &mut Replies<'_>) -> Result<Result<Self, Failure>, DecodeError> {
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
                Reply::Error(_) | Reply::Ok | Reply::Reset => return Ok(Err(Failure::NoStats)),
                _ => return Err(DecodeError::UnexpectedReply),
            }
        }
        // Times are 32 bits wide; what says otherwise is no memcached server.
        let time = time.filter(|time| u32::try_from(*time).is_ok());
        Ok(match (pid, uptime, time) {
            (Some(_), Some(_), Some(..=LONG_PAST)) => Err(Failure::ClockNotSet),
            _ if is_proxy => Err(Failure::Proxy),
            (Some(pid), Some(uptime), Some(time)) if uptime <= time => Ok(Self {
                pid,
                uptime,
                time,
                flushes,
                keeps_items: (evictions, moves) == (Some(0), Some(0)),
            }),
            _ => Err(Failure::NoStats),
        })
    }
}
