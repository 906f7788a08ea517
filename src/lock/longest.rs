//! The longest lease in use under a prefix: an item of its own, in milliseconds.
//!
//! A server that may have forgotten locks is waited for as long as this. Each client raises it to
//! the longest lease that it may ask for, before it asks for any.

use super::incarnation::Dialect;
use super::items::{Failure, Stored, push_gets, push_store, read_gets, read_stored};
use super::lease::Lease;
use super::name::Namespace;
use crate::wire::{DecodeError, Flag, Flags, Flight, Key, Replies, Reply, Request, StoreVerb};
use crate::wire::{MetaReply, MetaStatus, parse_u64};
use core::time::Duration;

/// How often it is tried before the server counts as one that keeps no such item.
const TRIES: u8 = 4;

/// Writes a look at the longest lease.
pub(super) fn push_longest(flight: &mut Flight, dialect: Dialect, key: Key<'_>) {
    match dialect {
        Dialect::Meta => flight.push_here(&Request::MetaGet {
            key,
            flags: Flags::list(&[Flag::ReturnCas, Flag::ReturnValue]),
        }),
        Dialect::Classic => push_gets(flight, key),
    }
}

/// The longest lease that the item says and its CAS unique, if there is an item.
type Longest = Option<(Lease, u64)>;

/// Reads the answer to [`push_longest`].
pub(super) fn read_longest(
    replies: &mut Replies<'_>,
    dialect: Dialect,
) -> Result<Result<Longest, Failure>, DecodeError> {
    let item = match dialect {
        Dialect::Classic => match read_gets(replies)? {
            Ok(item) => item,
            Err(failure) => return Ok(Err(failure)),
        },
        Dialect::Meta => match replies.next_reply()? {
            Reply::Meta(MetaReply {
                status: MetaStatus::Value,
                flags,
                data,
            }) => Some((data, flags.cas().ok_or(DecodeError::UnexpectedReply)?)),
            Reply::Meta(MetaReply {
                status: MetaStatus::Miss,
                ..
            }) => None,
            Reply::Error(error) => return Ok(Err(Failure::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        },
    };
    let Some((value, cas)) = item else {
        return Ok(Ok(None));
    };
    let lease = parse_u64(value).and_then(|millis| Lease::new(Duration::from_millis(millis)).ok());
    Ok(lease.map_or(Err(Failure::ForeignItem), |lease| Ok(Some((lease, cas)))))
}

/// Raises the longest lease to that of one client, where it is lower or not said.
#[derive(Debug, Clone)]
pub(super) struct RaiseLongest {
    own: Lease,
    /// The CAS unique of the item that says less.
    lower: Option<u64>,
    tries: u8,
}

impl RaiseLongest {
    /// What is to be done where this was found, by a client whose longest lease is `own`; nothing
    /// where the item says as much or more.
    pub(super) fn after(found: Longest, own: Lease) -> Option<Self> {
        let lower = match found {
            Some((lease, _)) if lease >= own => return None,
            other => other.map(|(_, cas)| cas),
        };
        Some(Self {
            own,
            lower,
            tries: 0,
        })
    }

    pub(super) fn prepare(&self, namespace: &Namespace, dialect: Dialect, flight: &mut Flight) {
        let key = namespace.longest();
        let verb = self.lower.map_or(StoreVerb::Add, StoreVerb::Cas);
        let mut digits = itoa::Buffer::new();
        let value = digits.format(self.own.whole_millis()).as_bytes();
        push_store(flight, verb, key, value, 0);
        push_longest(flight, dialect, key);
    }

    /// Takes in the replies. `None` asks for one more flight; otherwise the longest lease, which is
    /// no shorter than the client's own.
    pub(super) fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        dialect: Dialect,
    ) -> Result<Option<Result<Lease, Failure>>, DecodeError> {
        let stored = read_stored(replies)?;
        let found = read_longest(replies, dialect)?;
        self.tries += 1;
        if let Stored::Failed(failure) = stored {
            return Ok(Some(Err(failure)));
        }
        Ok(match found {
            Err(failure) => Some(Err(failure)),
            Ok(Some((lease, _))) if lease >= self.own => Some(Ok(lease)),
            Ok(_) if self.tries >= TRIES => Some(Err(Failure::ForgottenAtOnce)),
            Ok(lower) => {
                self.lower = lower.map(|(_, cas)| cas);
                None
            }
        })
    }
}
