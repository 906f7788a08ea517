//! The requests of a lock, written beforehand.

use crate::wire::{Flag, Flags, Key, Prepared, PreparedStore, Request, Store, StoreVerb};
use bytes::BytesMut;

/// The lifetime of a fence counter from its creation, in seconds: a day. A counter that is made
/// anew starts at the server's clock in nanoseconds, which a day later is far above whatever the
/// old one can have reached.
pub(super) const FENCE_TTL: u64 = 86_400;

/// The requests about one lock that are the same each time but for numbers and the record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockRequests {
    /// Stores the record where there is none.
    pub(super) add: PreparedStore,
    /// Looks at the lock.
    pub(super) inspect: Prepared<0>,
    /// The requests that mostly follow `add`: looks at the lock, draws a token and looks at the
    /// sentinel. Open: the seed of a new counter.
    pub(super) inspect_draw_read: Prepared<1>,
    /// Makes an item without a record where there is none. Open: the expiry, the CAS unique.
    pub(super) recordless: Prepared<2>,
    /// Open: the CAS unique.
    pub(super) release: Prepared<1>,
    /// Sets the expiry. Open: the CAS unique, the expiry.
    pub(super) renew: Prepared<2>,
}

impl LockRequests {
    pub(super) fn new(lock: Key<'_>, fence: Key<'_>, sentinel: Key<'_>) -> Self {
        const LOOK: &[Flag<'static>] = &[Flag::ReturnTtl, Flag::ReturnCas, Flag::ReturnValue];
        const LEAN: &[Flag<'static>] = &[
            Flag::Vivify(0),
            Flag::ExplicitCas(0),
            Flag::ReturnTtl,
            Flag::ReturnCas,
        ];
        const RELEASE: &[Flag<'static>] = &[Flag::CompareCas(0)];
        // The flag `E` could keep the CAS unique. Then a renewal that is carried out late, behind a
        // later one, would still name the right one, and set the expiry back.
        const RENEW: &[Flag<'static>] = &[Flag::CompareCas(0), Flag::Invalidate, Flag::Ttl(0)];
        let add = Store {
            verb: StoreVerb::Add,
            key: lock,
            client_flags: 0,
            exptime: 0,
            value: b"",
            noreply: false,
        };
        let look = Request::MetaGet {
            key: lock,
            flags: Flags::list(LOOK),
        };
        let recordless = Request::MetaGet {
            key: lock,
            flags: Flags::list(LEAN),
        };
        let delete = |flags| Request::MetaDelete {
            key: lock,
            flags: Flags::list(flags),
        };
        let draw = Request::MetaArithmetic {
            key: fence,
            flags: Flags::list(&FENCE),
        };
        let read = Request::MetaGet {
            key: sentinel,
            flags: Flags::list(READ),
        };
        // Each key stands in it twice or more, with some 15 bytes around it.
        let keys = lock.as_bytes().len().max(fence.as_bytes().len()) + sentinel.as_bytes().len();
        let mut room = BytesMut::with_capacity(7 * (keys + 16));
        let room = &mut room;
        Self {
            add: PreparedStore::new(&add, room).expect("an `add` with an answer"),
            inspect: prepared(&[look], [], room),
            inspect_draw_read: prepared(&[look, draw, read], [b'J'], room),
            recordless: prepared(&[recordless], [b'N', b'E'], room),
            release: prepared(&[delete(RELEASE)], [b'C'], room),
            renew: prepared(&[delete(RENEW)], [b'C', b'T'], room),
        }
    }
}

/// The flags of the look at the sentinel. Without `u` it would count as an access, and an item that
/// was accessed in the second of a flush outlives it (memcached 1.6.25 and later).
const READ: &[Flag<'static>] = &[
    Flag::NoBump,
    Flag::ReturnTtl,
    Flag::ReturnLastAccess,
    Flag::ReturnValue,
];

/// The flags of the request that draws a fencing token, with this seed for a new counter. The
/// remaining time shows when the counter was created: drawing from it does not prolong it.
pub(super) const fn fence_flags(seed: u64) -> [Flag<'static>; 5] {
    [
        Flag::Vivify(FENCE_TTL as i64),
        Flag::Initial(seed),
        Flag::Delta(1),
        Flag::ReturnTtl,
        Flag::ReturnValue,
    ]
}

const FENCE: [Flag<'static>; 5] = fence_flags(0);

/// The look at the sentinel.
pub(super) fn read_sentinel(sentinel: Key<'_>) -> Prepared<0> {
    let read = Request::MetaGet {
        key: sentinel,
        flags: Flags::list(READ),
    };
    prepared(&[read], [], &mut BytesMut::new())
}

fn prepared<const GAPS: usize>(
    requests: &[Request<'_>],
    letters: [u8; GAPS],
    room: &mut BytesMut,
) -> Prepared<GAPS> {
    Prepared::new(requests, letters, room).expect("meta requests with these flags")
}
