//! The longest lease in use under a prefix: an item of its own, in milliseconds.
//!
//! A server that may have forgotten locks is waited for as long as this. Each client raises it to
//! the longest lease that it may ask for, before it asks for any.

use super::failure::ServerError;
use super::items::{StoreOutcome, push_gets, push_store, read_gets, read_stored};
use super::lease::Lease;
use super::name::Namespace;
use super::server_instance::Protocol;
use crate::wire::{DecodeError, Flag, Flags, Flight, Key, Replies, Reply, Request, StoreVerb};
use crate::wire::{MetaReply, MetaStatus, parse_u64};
use core::time::Duration;

/// Number of attempts before the server counts as one that keeps no such item.
const MAX_TRIES: u8 = 4;

/// Writes a look at the longest lease.
pub(super) fn push_longest_lease(flight: &mut Flight, protocol: Protocol, key: Key<'_>) {
    match protocol {
        Protocol::Meta => flight.push_here(&Request::MetaGet {
            key,
            flags: Flags::list(&[Flag::ReturnCas, Flag::ReturnValue]),
        }),
        Protocol::Classic => push_gets(flight, key),
    }
}

/// The longest lease that the item says and its CAS unique, if there is an item.
type LongestLease = Option<(Lease, u64)>;

/// Reads the answer to [`push_longest_lease`].
pub(super) fn read_longest_lease(
    replies: &mut Replies<'_>,
    protocol: Protocol,
) -> Result<Result<LongestLease, ServerError>, DecodeError> {
    let item = match protocol {
        Protocol::Classic => match read_gets(replies)? {
            Ok(item) => item,
            Err(failure) => return Ok(Err(failure)),
        },
        Protocol::Meta => match replies.next_reply()? {
            Reply::Meta(MetaReply {
                status: MetaStatus::Value,
                flags,
                data,
            }) => Some((data, flags.cas().ok_or(DecodeError::UnexpectedReply)?)),
            Reply::Meta(MetaReply {
                status: MetaStatus::Miss,
                ..
            }) => None,
            Reply::Error(error) => return Ok(Err(ServerError::from_reply(&error))),
            _ => return Err(DecodeError::UnexpectedReply),
        },
    };
    let Some((value, cas)) = item else {
        return Ok(Ok(None));
    };
    let lease = parse_u64(value).and_then(|millis| Lease::new(Duration::from_millis(millis)).ok());
    Ok(lease.map_or(Err(ServerError::ForeignItem), |lease| {
        Ok(Some((lease, cas)))
    }))
}

/// Raises the longest lease to that of one client, where it is lower or not said.
#[derive(Debug, Clone)]
pub(super) struct RaiseLongestLease {
    own: Lease,
    /// The CAS unique of the item that says less.
    lower: Option<u64>,
    tries: u8,
}

impl RaiseLongestLease {
    /// The step due where this was found, for a client whose longest lease is `own`; nothing
    /// where the item says as much or more.
    pub(super) fn after(found: LongestLease, own: Lease) -> Option<Self> {
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

    pub(super) fn prepare(&self, namespace: &Namespace, protocol: Protocol, flight: &mut Flight) {
        let key = namespace.longest();
        let verb = self.lower.map_or(StoreVerb::Add, StoreVerb::Cas);
        let mut digits = itoa::Buffer::new();
        let value = digits.format(self.own.whole_millis()).as_bytes();
        push_store(flight, verb, key, value, 0);
        push_longest_lease(flight, protocol, key);
    }

    /// Takes in the replies. `None` asks for one more flight; otherwise the longest lease, which is
    /// no shorter than the client's own.
    pub(super) fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        protocol: Protocol,
    ) -> Result<Option<Result<Lease, ServerError>>, DecodeError> {
        let stored = read_stored(replies)?;
        let found = read_longest_lease(replies, protocol)?;
        self.tries += 1;
        if let StoreOutcome::Failed(failure) = stored {
            return Ok(Some(Err(failure)));
        }
        Ok(match found {
            Err(failure) => Some(Err(failure)),
            Ok(Some((lease, _))) if lease >= self.own => Some(Ok(lease)),
            Ok(_) if self.tries >= MAX_TRIES => Some(Err(ServerError::DropsItems)),
            Ok(lower) => {
                self.lower = lower.map(|(_, cas)| cas);
                None
            }
        })
    }
}
