//! The lock item: the record of the holder, in both protocols.

use super::failure::ServerError;
use super::fence::push_fence;
use super::items::{exptime, push_gets, push_store, read_gets};
use super::memory_probe::{push_evidence, push_memory_probe};
use super::name::{LockKeys, Namespace};
use super::server_clock::LONG_PAST;
use super::server_instance::Protocol;
use crate::wire::{
    DecodeError, Flag, Flags, Flight, MetaReply, MetaStatus, Replies, Reply, Request, Store,
    StoreVerb, TimeLeft,
};

/// The answer to a look at the lock item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockItem<'a> {
    /// The lock is free.
    Free,
    /// A client holds it.
    Held {
        value: &'a [u8],
        cas: u64,
        left: Option<TimeLeft>,
    },
}

pub(super) fn push_get_lock(flight: &mut Flight, protocol: Protocol, keys: &LockKeys) {
    match protocol {
        Protocol::Meta => flight.push_prepared(&keys.requests().inspect, []),
        Protocol::Classic => push_gets(flight, keys.lock()),
    }
}

pub(super) fn read_lock<'a>(
    replies: &mut Replies<'a>,
    protocol: Protocol,
) -> Result<Result<LockItem<'a>, ServerError>, DecodeError> {
    let item = match protocol {
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
    protocol: Protocol,
    (namespace, keys): (&Namespace, &LockKeys),
    (record, over): (&[u8], Option<u64>),
    expiry: u64,
    (seed, evidence): (Option<u64>, bool),
) {
    let requests = keys.requests();
    match over {
        None => flight.push_prepared_store(&requests.add, exptime(expiry), record),
        Some(cas) => push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry),
    }
    match (protocol, seed) {
        (Protocol::Meta, Some(seed)) => {
            flight.push_prepared(&requests.inspect_draw_read, [seed]);
            push_evidence(flight, protocol, evidence);
        }
        _ => {
            push_get_lock(flight, protocol, keys);
            if let Some(seed) = seed {
                push_fence(flight, protocol, keys, seed);
            }
            push_memory_probe(flight, protocol, namespace, evidence);
        }
    }
}

/// Writes a renewal: prolongs the record that has this CAS unique and gives it another, looks at
/// the lock and at the sentinel.
pub(super) fn push_renewal(
    flight: &mut Flight,
    protocol: Protocol,
    (namespace, keys): (&Namespace, &LockKeys),
    record: &[u8],
    cas: u64,
    expiry: u64,
) {
    match protocol {
        Protocol::Meta => flight.push_prepared(&keys.requests().renew, [cas, expiry]),
        Protocol::Classic => {
            push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry);
        }
    }
    push_get_lock(flight, protocol, keys);
    push_memory_probe(flight, protocol, namespace, false);
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
    protocol: Protocol,
    keys: &LockKeys,
    (cas, next): (u64, u64),
    expiry: u64,
) {
    flight.push(&Request::MetaDelete {
        key: keys.lock(),
        flags: Flags::list(&[
            Flag::CompareCas(cas),
            Flag::ExplicitCas(next),
            Flag::Invalidate,
            Flag::Ttl(exptime(expiry)),
        ]),
    });
    push_get_lock(flight, protocol, keys);
}

/// Writes what removes the record that has this CAS unique.
pub(super) fn push_release(flight: &mut Flight, protocol: Protocol, keys: &LockKeys, cas: u64) {
    match protocol {
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
/// protocols: the meta protocol's way to store deletes what it finds no memory to replace.
pub(super) fn push_retained_record(
    flight: &mut Flight,
    keys: &LockKeys,
    record: &[u8],
    cas: u64,
    expiry: u64,
) {
    push_store(flight, StoreVerb::Cas(cas), keys.lock(), record, expiry);
}
