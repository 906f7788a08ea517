//! One item, and when it is dead.

use alloc::vec::Vec;

/// A second of the server's clock. The incarnation starts in second
/// [`FIRST_SECOND`](super::clock::FIRST_SECOND), so that 0 is free to mean "never".
pub(crate) type Second = u32;

/// Bytes that an item needs beside its key, its value and their terminators.
const OVERHEAD: usize = 48;

#[derive(Debug, Clone, Default)]
pub(crate) struct Item {
    pub(crate) value: Vec<u8>,
    pub(crate) client_flags: u32,
    /// The second from which on the item is dead; 0 is never.
    pub(crate) exptime: Second,
    /// When it was stored, or read in a way that counts: see [`Cache::bump`].
    ///
    /// [`Cache::bump`]: super::cache::Cache::bump
    pub(crate) time: Second,
    /// 0 for all items of a server without CAS.
    pub(crate) cas: u64,
    /// `true` if it was read since it was stored.
    pub(crate) fetched: bool,
    /// `true` if `md` with `I`, or `ms` with a lower CAS unique and `I`, marked it.
    pub(crate) stale: bool,
    /// `true` if a client has received `W`.
    pub(crate) token_sent: bool,
    /// `true` if the key came as base64, and is shown as such.
    pub(crate) binary_key: bool,
    /// `true` if it was read again since it was last moved. Only such a read sets `time`.
    pub(crate) active: bool,
    pub(crate) class: u8,
    pub(crate) queue: Queue,
    /// The memory the item is charged for.
    pub(crate) size: usize,
    /// The classes of its chunks, that of the header first.
    pub(crate) chunks: Vec<u8>,
}

/// The queues of a class of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Queue {
    #[default]
    Hot,
    Warm,
    Cold,
    /// Items whose time to live was short when they were stored. They are never evicted.
    Temporary,
}

impl Queue {
    pub(crate) const ALL: [Self; 4] = [Self::Hot, Self::Warm, Self::Cold, Self::Temporary];
}

impl Item {
    pub(crate) fn is_expired(&self, now: Second) -> bool {
        self.exptime != 0 && self.exptime <= now
    }

    /// The number behind `t`: memcached subtracts without sign, so a time that has passed is
    /// printed as a number close to 2^32.
    pub(crate) fn printed_ttl(&self, now: Second) -> i64 {
        printed_ttl(self.exptime, now)
    }
}

pub(crate) fn printed_ttl(exptime: Second, now: Second) -> i64 {
    match exptime {
        0 => -1,
        exptime => i64::from(exptime.wrapping_sub(now)),
    }
}

/// memcached's own sum: header, CAS unique, client flags when there are any, and key and value
/// with their terminators. It takes a chunk of the smallest class that is large enough.
pub(crate) fn size_of_item(key: &[u8], value: usize, client_flags: u32, cas: bool) -> usize {
    let cas = if cas { size_of::<u64>() } else { 0 };
    let flags = if client_flags == 0 {
        0
    } else {
        size_of::<u32>()
    };
    OVERHEAD + cas + flags + key.len() + 1 + value + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_size_matches_me_reply() {
        assert_eq!(size_of_item(b"a", 1, 0, true), 61);
    }

    #[test]
    fn item_dies_in_its_expiry_second() {
        let item = Item {
            exptime: 12,
            ..Item::default()
        };
        assert!(!item.is_expired(11));
        assert!(item.is_expired(12));
        assert!(!Item::default().is_expired(u32::MAX));
        assert_eq!(item.printed_ttl(10), 2);
        assert_eq!(item.printed_ttl(13), 4_294_967_295);
        assert_eq!(Item::default().printed_ttl(10), -1);
    }
}
