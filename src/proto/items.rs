//! Requests about one item and their replies, in both protocols.

use super::failure::ServerError;
use super::name::Namespace;
use crate::wire::{
    DecodeError, Flight, Key, Keys, MetaStatus, Replies, Reply, Request, Store, StoreVerb,
};

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

/// An expiry as a request has it. Expiries were checked against the server's 32 bits when they were made.
pub(super) fn exptime(expiry: u64) -> i64 {
    i64::try_from(expiry).unwrap_or(i64::MAX)
}

/// The outcome of a classic storage request.
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

/// The outcome of a request that names a CAS unique.
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
