//! Requests that are sent again and again, written once but for the numbers in them.

use super::number::{put_i64, put_u64};
use super::request::{Request, Store, StoreVerb};
use super::request_encode::{put_block, put_verb};
use bytes::{Bytes, BytesMut};

/// Requests of the meta protocol, without values, whose text is kept with gaps for the numbers of
/// some of their flags.
///
/// [`Flight::push_prepared`](super::Flight::push_prepared) fills them in. Whatever the numbers
/// are, they stay the requests that they were made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared<const GAPS: usize> {
    text: Bytes,
    /// The places of the numbers. Ascending, each <= text. Small, because each held lock has some.
    gaps: [u16; GAPS],
    /// The number of requests. Each has one reply.
    requests: u16,
}

impl<const GAPS: usize> Prepared<GAPS> {
    /// Writes `requests` and leaves out the numbers after the flags with these letters, in the
    /// order in which they stand.
    ///
    /// The text is taken from `room`, so that several made in one room share its memory.
    ///
    /// `None` where there is no such flag or it has no number, for what is not `mg`, `md` or `ma`, or
    /// has `q`, and for more than 65,535 bytes.
    #[must_use]
    pub fn new(requests: &[Request<'_>], letters: [u8; GAPS], room: &mut BytesMut) -> Option<Self> {
        room.clear();
        let gaps = Self::write(requests, letters, room)?;
        Some(Self {
            text: room.split().freeze(),
            gaps,
            requests: requests.len().try_into().ok()?,
        })
    }

    /// Writes the requests without the numbers, and returns the positions of these.
    fn write(
        requests: &[Request<'_>],
        letters: [u8; GAPS],
        text: &mut BytesMut,
    ) -> Option<[u16; GAPS]> {
        let mut open = letters.iter().peekable();
        let mut gaps = [0; GAPS];
        let mut next_gap = gaps.iter_mut();
        for request in requests {
            let (verb, key, flags) = match request {
                Request::MetaGet { key, flags } => (b"mg ", key, flags),
                Request::MetaDelete { key, flags } => (b"md ", key, flags),
                Request::MetaArithmetic { key, flags } => (b"ma ", key, flags),
                _ => return None,
            };
            if flags.are_quiet() {
                return None;
            }
            put_verb(text, verb, *key);
            for flag in flags.iter() {
                let start = text.len();
                flag.encode(text);
                if open.next_if(|letter| **letter == flag.letter()).is_some() {
                    // A space and the letter stay.
                    let number = start + 2;
                    if !is_number(&text[number..]) {
                        return None;
                    }
                    text.truncate(number);
                    *next_gap.next()? = number.try_into().ok()?;
                }
            }
            text.extend_from_slice(b"\r\n");
        }
        open.next().is_none().then_some(gaps)
    }

    /// Appends the requests, with these numbers in the gaps.
    #[inline]
    pub fn encode(&self, numbers: [u64; GAPS], out: &mut BytesMut) {
        let mut written = 0;
        for (gap, number) in self.gaps.into_iter().zip(numbers) {
            let gap = usize::from(gap);
            out.extend_from_slice(&self.text[written..gap]);
            put_u64(out, number);
            written = gap;
        }
        out.extend_from_slice(&self.text[written..]);
    }

    /// The number of requests. Each has one reply.
    #[must_use]
    pub const fn requests(&self) -> usize {
        self.requests as usize
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// A classic storage request about one key, whose text up to the expiry is kept.
///
/// [`Flight::push_prepared_store`](super::Flight::push_prepared_store) adds expiry and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedStore(Bytes);

impl PreparedStore {
    /// Writes the start of `store`; its expiry and value are left open.
    ///
    /// The text is taken from `room`, so that several made in one room share its memory.
    ///
    /// `None` for `cas`, which has another number after the length, and with `noreply`.
    #[must_use]
    pub fn new(store: &Store<'_>, room: &mut BytesMut) -> Option<Self> {
        if matches!(store.verb, StoreVerb::Cas(_)) || store.noreply {
            return None;
        }
        room.clear();
        store.encode_start(room);
        Some(Self(room.split().freeze()))
    }

    /// Appends the request, with this expiry and value. It has one reply.
    ///
    /// # Panics
    /// When the value is over [`MAX_VALUE_LENGTH`](super::MAX_VALUE_LENGTH).
    #[inline]
    pub fn encode(&self, exptime: i64, value: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(&self.0);
        put_i64(out, exptime);
        put_block(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::flag::{Flag, Mode, Opaque};
    use super::super::flags::Flags;
    use super::super::flight::Flight;
    use super::super::key::Key;
    use super::super::request::ReplyCount;
    use super::*;
    use alloc::vec::Vec;

    /// Looks like a line with a flag in it.
    const KEY: &[u8] = b"C1:T2";

    fn key() -> Key<'static> {
        Key::new(KEY).expect("a plain key")
    }

    fn delete<'a>(flags: &'a [Flag<'a>]) -> Request<'a> {
        Request::MetaDelete {
            key: key(),
            flags: Flags::list(flags),
        }
    }

    fn store(verb: StoreVerb) -> Store<'static> {
        Store {
            verb,
            key: key(),
            client_flags: 7,
            exptime: 0,
            value: b"",
            noreply: false,
        }
    }

    #[test]
    fn prepared_request_equals_the_original() {
        let renew = |cas, expiry| {
            [
                Flag::CompareCas(cas),
                Flag::Invalidate,
                Flag::Ttl(expiry as i64),
                Flag::ReturnTtl,
            ]
        };
        let noted = [Flag::Delta(5), Flag::ReturnValue];
        let noted = Request::MetaArithmetic {
            key: key(),
            flags: Flags::list(&noted),
        };
        let look = [Flag::ReturnCas];
        let look = Request::MetaGet {
            key: key(),
            flags: Flags::list(&look),
        };
        let room = &mut BytesMut::new();
        let made_with = renew(3, 20);
        let made = [look, delete(&made_with), noted];
        let prepared = Prepared::new(&made, [b'C', b'T', b'D'], room).expect("they are there");
        for (cas, expiry, delta) in [(0, 0, 0), (1, 22, 333), (u64::MAX, 1_795_337_329, 1 << 32)] {
            let flags = renew(cas, expiry);
            let delta_flags = [Flag::Delta(delta), Flag::ReturnValue];
            let arithmetic = Request::MetaArithmetic {
                key: key(),
                flags: Flags::list(&delta_flags),
            };
            let mut plain = Flight::new();
            [look, delete(&flags), arithmetic]
                .iter()
                .for_each(|request| plain.push(request));
            let mut flight = Flight::new();
            flight.push_prepared(&prepared, [cas, expiry, delta]);
            assert_eq!(flight.bytes(), plain.bytes());
            assert_eq!(flight.shapes(), plain.shapes());
            assert_eq!(flight.asked(), plain.asked());
            assert!(flight.is_answerable());
        }
    }

    #[test]
    fn prepared_requests_share_a_buffer() {
        let room = &mut BytesMut::with_capacity(200);
        let first = Prepared::new(&[delete(&[Flag::CompareCas(1)])], [b'C'], room);
        let failed = Prepared::new(&[delete(&[Flag::CompareCas(1)])], [b'T'], room);
        assert_eq!(failed, None);
        let second = PreparedStore::new(&store(StoreVerb::Add), room).expect("an `add`");
        let third = Prepared::new(
            &[Request::MetaGet {
                key: key(),
                flags: Flags::list(&[]),
            }],
            [],
            room,
        );
        let mut flight = Flight::new();
        flight.push_prepared(&first.expect("a CAS unique"), [8]);
        flight.push_prepared_store(&second, 9, b"v");
        flight.push_prepared(&third.expect("nothing is open"), []);
        assert_eq!(
            flight.bytes(),
            b"md C1:T2 C8\r\nadd C1:T2 7 9 1\r\nv\r\nmg C1:T2\r\n"
        );
        assert_eq!(flight.shapes(), [ReplyCount::One; 3]);
    }

    #[test]
    fn value_length_is_announced_correctly() {
        for verb in [
            StoreVerb::Set,
            StoreVerb::Add,
            StoreVerb::Replace,
            StoreVerb::Append,
            StoreVerb::Prepend,
        ] {
            let prepared = PreparedStore::new(&store(verb), &mut BytesMut::new());
            let prepared = prepared.expect("a storage request with an answer");
            for length in [0, 1, 9, 10, 11, 82, 99, 100, 255, 256, 300] {
                let value: Vec<u8> = (0..length).map(|n| n as u8).collect();
                for exptime in [-1, 0, 1_795_337_329] {
                    let request = Request::Store(Store {
                        exptime,
                        value: &value,
                        ..store(verb)
                    });
                    let (mut plain, mut flight) = (Flight::new(), Flight::new());
                    plain.push(&request);
                    flight.push_prepared_store(&prepared, exptime, &value);
                    assert_eq!(flight.bytes(), plain.bytes());
                    assert_eq!(flight.shapes(), plain.shapes());
                    assert_eq!(flight.asked(), flight.bytes().len());
                }
            }
        }
    }

    #[test]
    fn unpreparable_requests_are_refused() {
        let room = &mut BytesMut::new();
        let opaque = Opaque::new(b"12").expect("a plain token");
        for (request, letters) in [
            // Quiet, with a value, or of another protocol.
            (delete(&[Flag::Quiet, Flag::CompareCas(1)]), [b'C']),
            (
                Request::MetaSet {
                    key: key(),
                    flags: Flags::list(&[Flag::CompareCas(1)]),
                    value: b"",
                },
                [b'C'],
            ),
            (Request::MetaNoop, [b'C']),
            (Request::Version, [b'C']),
            // No such flag, none with a number, or one that is no plain number.
            (delete(&[Flag::ReturnKey]), [b'C']),
            (delete(&[Flag::ReturnKey]), [b'k']),
            (delete(&[Flag::Mode(Mode::Add)]), [b'M']),
            (delete(&[Flag::Ttl(-1)]), [b'T']),
        ] {
            assert_eq!(
                Prepared::new(&[request], letters, room),
                None,
                "{request:?}"
            );
        }
        // In another order than they stand in.
        let both = [Flag::CompareCas(1), Flag::Ttl(2)];
        assert!(Prepared::new(&[delete(&both)], [b'C', b'T'], room).is_some());
        assert_eq!(Prepared::new(&[delete(&both)], [b'T', b'C'], room), None);
        // A token of digits is as good as a number.
        assert!(Prepared::new(&[delete(&[Flag::Opaque(opaque)])], [b'O'], room).is_some());
        assert_eq!(PreparedStore::new(&store(StoreVerb::Cas(1)), room), None);
        let silent = Store {
            noreply: true,
            ..store(StoreVerb::Add)
        };
        assert_eq!(PreparedStore::new(&silent, room), None);
    }

    /// Behind a request with `q`, whatever is pushed is answered before the `mn`.
    #[test]
    fn prepared_replies_wait_for_noop() {
        let room = &mut BytesMut::new();
        let prepared = Prepared::new(&[delete(&[])], [], room).expect("nothing is open");
        let add = PreparedStore::new(&store(StoreVerb::Add), room).expect("an `add`");
        let mut flight = Flight::new();
        flight.push(&delete(&[Flag::Quiet]));
        flight.push_prepared(&prepared, []);
        flight.push_prepared_store(&add, 0, b"");
        assert_eq!((flight.shapes(), flight.asked()), (&[][..], 0));
        assert!(!flight.is_answerable());
        flight.push(&Request::MetaNoop);
        assert_eq!(flight.shapes(), [ReplyCount::UntilNoop]);
        assert_eq!(flight.asked(), flight.bytes().len());
    }
}
