//! The sentinel: one item per prefix that tells the server's second and how long the server has
//! remembered everything.
//!
//! Its value is the server second of its birth; its expiry is a constant far away, so that the
//! seconds left give the server's present second. When it is absent, the server was restarted or
//! flushed or evicted it, and may have forgotten locks whose holders still believe in them.

use super::lease::Lease;
use super::server_clock::ceil_seconds;
use crate::wire::{MetaReply, MetaStatus, TimeLeft, parse_u64};
use core::time::Duration;

/// The expiry of every sentinel: the last day of 2037, before memcached's 32-bit times end.
pub const SENTINEL_EXPIRY: u64 = 2_145_916_800;

/// What a look at the sentinel told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentinel {
    /// There is none.
    Absent,
    /// There is one.
    Present {
        /// The server's second, if the reply says.
        second: Option<u64>,
        /// The server's second when the sentinel was made.
        born: u64,
    },
    /// There is one, and nobody has said yet when it was born.
    Unborn,
    /// The item is no sentinel: somebody else uses the key.
    Foreign,
}

/// The value of a sentinel whose founder has yet to say when it was born.
pub const UNBORN: &[u8] = b"unborn";

impl Sentinel {
    /// Reads the reply to `mg <sentinel> t v`.
    #[must_use]
    pub fn from_meta(reply: &MetaReply<'_>) -> Self {
        match reply.status {
            MetaStatus::Miss => Self::Absent,
            MetaStatus::Value => match (Self::from_value(reply.data), reply.flags.ttl()) {
                (Self::Present { born, .. }, Some(TimeLeft::Seconds(left))) => Self::Present {
                    second: SENTINEL_EXPIRY.checked_sub(u64::from(left)),
                    born,
                },
                (Self::Unborn, _) => Self::Unborn,
                _ => Self::Foreign,
            },
            _ => Self::Foreign,
        }
    }

    /// Reads the value alone, which does not tell the present second.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Self {
        // Later layouts may put more words behind the first.
        let word = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        match parse_u64(word) {
            Some(born) => Self::Present { second: None, born },
            None if word == UNBORN => Self::Unborn,
            None => Self::Foreign,
        }
    }
}

/// For how long a server must still be left alone, whose second is `second` and whose memory
/// reaches back to `born`, before a lock may be granted on it; nothing when it is old enough.
#[must_use]
pub fn memory_lacking(second: u64, born: u64, longest: Lease) -> Duration {
    let needed = ceil_seconds(longest.memory_needed());
    Duration::from_secs(born.saturating_add(needed).saturating_sub(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ReplyFlag, ReplyFlags};

    fn reply<'a>(left: &'a [ReplyFlag<'a>], data: &'a [u8]) -> MetaReply<'a> {
        MetaReply {
            status: MetaStatus::Value,
            flags: ReplyFlags::list(left),
            data,
        }
    }

    #[test]
    fn the_second_follows_from_the_seconds_left() {
        let left = [ReplyFlag::Ttl(350_579_471)];
        assert_eq!(
            Sentinel::from_meta(&reply(&left, b"1795337300")),
            Sentinel::Present {
                second: Some(1_795_337_329),
                born: 1_795_337_300
            }
        );
    }

    #[test]
    fn another_item_is_not_taken_for_one() {
        for (flag, data) in [
            (ReplyFlag::Ttl(-1), &b"1"[..]),
            (ReplyFlag::Ttl(10), b"hello"),
            (ReplyFlag::Ttl(10), b""),
        ] {
            assert_eq!(
                Sentinel::from_meta(&reply(&[flag], data)),
                Sentinel::Foreign
            );
        }
        assert_eq!(
            Sentinel::from_value(b"17 later words"),
            Sentinel::Present {
                second: None,
                born: 17
            }
        );
    }

    #[test]
    fn a_young_memory_is_waited_for() {
        let lease = |secs| Lease::new(Duration::from_secs(secs)).expect("in range");
        assert_eq!(memory_lacking(100, 100, lease(10)), Duration::from_secs(11));
        assert_eq!(memory_lacking(110, 100, lease(10)), Duration::from_secs(1));
        assert_eq!(memory_lacking(111, 100, lease(10)), Duration::ZERO);
        assert_eq!(memory_lacking(99, 100, lease(1)), Duration::from_secs(3));
        assert_eq!(memory_lacking(u64::MAX, 100, lease(1)), Duration::ZERO);
        assert!(memory_lacking(100, u64::MAX, lease(1)) > Duration::from_secs(1 << 60));
    }
}
