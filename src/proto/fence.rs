//! The fence item: the counter that fencing tokens come from.

use super::failure::ServerError;
use super::items::{StoreOutcome, exptime, push_gets, read_gets, read_stored};
use super::name::LockKeys;
use super::requests::{FENCE_TTL, fence_flags};
use super::server_instance::Protocol;
use crate::wire::{
    DecodeError, ErrorSource, Flags, Flight, MetaReply, MetaStatus, Replies, Reply, Request, Store,
    StoreVerb, TimeLeft, parse_u64,
};

/// Writes what draws a fencing token, from a counter that starts at `seed` when there is none.
pub(super) fn push_fence(flight: &mut Flight, protocol: Protocol, keys: &LockKeys, seed: u64) {
    match protocol {
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
    /// The time for which the server still keeps the counter. The classic protocol does not report
    /// it.
    pub(super) left: Option<TimeLeft>,
}

/// Reads the answer to [`push_fence`].
pub(super) fn read_fence(
    replies: &mut Replies<'_>,
    protocol: Protocol,
) -> Result<Result<DrawnToken, ServerError>, DecodeError> {
    if protocol == Protocol::Classic {
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
        // Missing in the second of the two requests of the classic protocol.
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
