//! Encodes requests.

use super::admin::SlabsCommand;
use super::flag::Flag;
use super::flags::Flags;
use super::key::Key;
use super::number::{put_i64, put_u64};
use super::request::{Keys, MAX_VALUE_LENGTH, Request, Store, StoreVerb};
use bytes::BytesMut;

impl Request<'_> {
    /// Appends the bytes of the request.
    ///
    /// # Panics
    /// When a value is over [`MAX_VALUE_LENGTH`].
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_here(out);
    }

    /// As [`encode`](Self::encode), compiled into the caller: where that knows which request it
    /// is, nothing is left but the code for this one. Numbers with fractions, for one, which no
    /// lock sends, are as much code as half of the others.
    #[expect(clippy::inline_always, reason = "that is what it is for")]
    #[inline(always)]
    pub(super) fn encode_here(&self, out: &mut BytesMut) {
        match self {
            Self::Get { with_cas, keys } => {
                out.extend_from_slice(if *with_cas { b"gets" } else { b"get" });
                put_keys(out, keys);
            }
            Self::GetAndTouch {
                with_cas,
                exptime,
                keys,
            } => {
                out.extend_from_slice(if *with_cas { b"gats " } else { b"gat " });
                put_i64(out, *exptime);
                put_keys(out, keys);
            }
            Self::Store(store) => return store.encode(out),
            Self::Delete { key, noreply } => {
                put_verb(out, b"delete ", *key);
                // A key of that name in the last place is parsed as the option. Only the parsing
                // side can have such a key.
                if !*noreply && key.as_bytes() == b"noreply" {
                    out.extend_from_slice(b" 0");
                }
                put_noreply(out, *noreply);
            }
            Self::Arithmetic {
                add,
                key,
                delta,
                noreply,
            } => {
                put_verb(out, if *add { b"incr " } else { b"decr " }, *key);
                out.extend_from_slice(b" ");
                put_u64(out, *delta);
                put_noreply(out, *noreply);
            }
            Self::Touch {
                key,
                exptime,
                noreply,
            } => {
                put_verb(out, b"touch ", *key);
                out.extend_from_slice(b" ");
                put_i64(out, *exptime);
                put_noreply(out, *noreply);
            }
            Self::MetaGet { key, flags } => put_meta(out, b"mg ", *key, flags),
            Self::MetaDelete { key, flags } => put_meta(out, b"md ", *key, flags),
            Self::MetaArithmetic { key, flags } => put_meta(out, b"ma ", *key, flags),
            Self::MetaSet { key, flags, value } => {
                put_verb(out, b"ms ", *key);
                put_length(out, value);
                flags.encode(out);
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(value);
            }
            Self::MetaNoop => out.extend_from_slice(b"mn"),
            Self::MetaDebug { key, base64 } => {
                put_verb(out, b"me ", *key);
                if *base64 {
                    Flag::Base64.encode(out);
                }
            }
            Self::Version => out.extend_from_slice(b"version"),
            Self::Verbosity { level, noreply } => {
                out.extend_from_slice(b"verbosity ");
                put_u64(out, *level);
                put_noreply(out, *noreply);
            }
            Self::FlushAll { delay, noreply } => {
                out.extend_from_slice(b"flush_all");
                if let Some(delay) = delay {
                    out.extend_from_slice(b" ");
                    put_i64(out, *delay);
                }
                put_noreply(out, *noreply);
            }
            Self::Stats { group } => {
                out.extend_from_slice(b"stats");
                put_keys(out, group);
            }
            Self::Quit => out.extend_from_slice(b"quit"),
            Self::Shutdown { graceful } => {
                out.extend_from_slice(if *graceful {
                    b"shutdown graceful"
                } else {
                    b"shutdown"
                });
            }
            Self::CacheMemlimit { megabytes, noreply } => {
                out.extend_from_slice(b"cache_memlimit ");
                put_u64(out, u64::from(*megabytes));
                put_noreply(out, *noreply);
            }
            Self::Lru { command, noreply } => {
                command.encode(out);
                put_noreply(out, *noreply);
            }
            Self::LruCrawler(command) => command.encode(out),
            Self::Slabs(command) => {
                command.encode(out);
                let noreply = matches!(command, SlabsCommand::Automove { noreply: true, .. });
                put_noreply(out, noreply);
            }
            Self::Watch(streams) => {
                out.extend_from_slice(b"watch");
                streams.encode(out);
            }
            Self::RefreshCerts => out.extend_from_slice(b"refresh_certs"),
            Self::Authenticate { key, credentials } => credentials.encode(*key, out),
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Store<'_> {
    /// The part in front of the expiry.
    pub(super) fn encode_start(&self, out: &mut BytesMut) {
        let verb: &[u8] = match self.verb {
            StoreVerb::Set => b"set ",
            StoreVerb::Add => b"add ",
            StoreVerb::Replace => b"replace ",
            StoreVerb::Append => b"append ",
            StoreVerb::Prepend => b"prepend ",
            StoreVerb::Cas(_) => b"cas ",
        };
        put_verb(out, verb, self.key);
        out.extend_from_slice(b" ");
        put_u64(out, u64::from(self.client_flags));
        out.extend_from_slice(b" ");
    }

    fn encode(&self, out: &mut BytesMut) {
        self.encode_start(out);
        put_i64(out, self.exptime);
        if !matches!(self.verb, StoreVerb::Cas(_)) && !self.noreply {
            return put_block(out, self.value);
        }
        put_length(out, self.value);
        if let StoreVerb::Cas(unique) = self.verb {
            out.extend_from_slice(b" ");
            put_u64(out, unique);
        }
        put_noreply(out, self.noreply);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// `verb` has its space after it.
#[inline]
pub(super) fn put_verb(out: &mut BytesMut, verb: &[u8], key: Key<'_>) {
    out.extend_from_slice(verb);
    out.extend_from_slice(key.as_bytes());
}

#[inline]
fn put_meta(out: &mut BytesMut, verb: &[u8], key: Key<'_>, flags: &Flags<'_>) {
    put_verb(out, verb, key);
    flags.encode(out);
}

fn put_keys(out: &mut BytesMut, keys: &Keys<'_>) {
    for key in keys.iter() {
        out.extend_from_slice(b" ");
        out.extend_from_slice(key.as_bytes());
    }
}

/// The length of a value, the end of the line, and the value.
#[inline]
pub(super) fn put_block(out: &mut BytesMut, value: &[u8]) {
    match u8::try_from(value.len()) {
        // At once: records mostly have two digits of bytes.
        Ok(length @ 10..=99) => {
            let (tens, ones) = (b'0' + length / 10, b'0' + length % 10);
            out.extend_from_slice(&[b' ', tens, ones, b'\r', b'\n']);
        }
        _ => {
            put_length(out, value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn put_length(out: &mut BytesMut, value: &[u8]) {
    assert!(
        value.len() <= MAX_VALUE_LENGTH,
        "a value longer than any server reads"
    );
    out.extend_from_slice(b" ");
    put_u64(out, value.len() as u64);
}

fn put_noreply(out: &mut BytesMut, noreply: bool) {
    if noreply {
        out.extend_from_slice(b" noreply");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(request: &Request<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        out
    }

    fn key(name: &str) -> Key<'_> {
        Key::new(name.as_bytes()).expect("a plain key")
    }

    #[test]
    fn lock_requests_match_the_protocol() {
        let add = Store {
            verb: StoreVerb::Add,
            key: key("L"),
            client_flags: 0,
            exptime: 1_795_337_339,
            value: b"nonce",
            noreply: false,
        };
        assert_eq!(
            &bytes(&Request::Store(add))[..],
            b"add L 0 1795337339 5\r\nnonce\r\n"
        );
        let cas = Store {
            verb: StoreVerb::Cas(7),
            value: b"",
            exptime: 2_592_001,
            ..add
        };
        assert_eq!(
            &bytes(&Request::Store(cas))[..],
            b"cas L 0 2592001 0 7\r\n\r\n"
        );
        let read = Request::MetaGet {
            key: key("L"),
            flags: Flags::list(&[Flag::ReturnTtl, Flag::ReturnCas, Flag::ReturnValue]),
        };
        assert_eq!(&bytes(&read)[..], b"mg L t c v\r\n");
        let fence = Request::MetaArithmetic {
            key: key("F"),
            flags: Flags::list(&[
                Flag::Vivify(86_400),
                Flag::Initial(1_795_337_329_000_000_000),
                Flag::Delta(1),
                Flag::ReturnTtl,
                Flag::ReturnValue,
            ]),
        };
        assert_eq!(
            &bytes(&fence)[..],
            b"ma F N86400 J1795337329000000000 D1 t v\r\n"
        );
        let release = Request::MetaDelete {
            key: key("L"),
            flags: Flags::list(&[Flag::CompareCas(3)]),
        };
        assert_eq!(&bytes(&release)[..], b"md L C3\r\n");
    }

    #[test]
    fn classic_requests_match_the_protocol() {
        let both = [key("a"), key("b")];
        let (list, one) = (Keys::list(&both), Keys::list(&both[..1]));
        let counter = |add, noreply| Request::Arithmetic {
            add,
            key: key("n"),
            delta: 1,
            noreply,
        };
        let delete = |name, noreply| Request::Delete {
            key: Key::from_wire(name),
            noreply,
        };
        let touch = |noreply| Request::Touch {
            key: key("L"),
            exptime: 30,
            noreply,
        };
        let gets = |with_cas, keys| Request::Get { with_cas, keys };
        let touched = |with_cas| Request::GetAndTouch {
            with_cas,
            exptime: -1,
            keys: list,
        };
        for (request, line) in [
            (gets(false, list), "get a b\r\n"),
            (gets(true, one), "gets a\r\n"),
            (touched(false), "gat -1 a b\r\n"),
            (touched(true), "gats -1 a b\r\n"),
            (delete(b"L", false), "delete L\r\n"),
            (delete(b"L", true), "delete L noreply\r\n"),
            // In the last place it would be taken for the option.
            (delete(b"noreply", false), "delete noreply 0\r\n"),
            (counter(true, false), "incr n 1\r\n"),
            (counter(false, true), "decr n 1 noreply\r\n"),
            (touch(false), "touch L 30\r\n"),
            (touch(true), "touch L 30 noreply\r\n"),
        ] {
            assert_eq!(bytes(&request), line);
        }
    }
}
