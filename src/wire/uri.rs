//! Keys as dumps and logs show them: whatever is not plain becomes `%` and two hex digits.

use bytes::BytesMut;
use core::fmt;

/// A key in a dump or a log, in the form that never holds a space or a line end.
#[derive(Clone, Copy)]
pub struct UriKey<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    Raw(&'a [u8]),
    /// Every `%` in it has two hex digits after it.
    Encoded(&'a [u8]),
}

impl<'a> UriKey<'a> {
    /// A key as it is stored.
    #[must_use]
    pub const fn from_raw(key: &'a [u8]) -> Self {
        Self(Repr::Raw(key))
    }

    /// A key as it is shown; `None` when a `%` has no two hex digits after it.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'%', rest) {
            let digits = rest.get(at + 1..at + 3)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            rest = &rest[at + 3..];
        }
        Some(Self(Repr::Encoded(text)))
    }

    /// The bytes of the key as it is stored.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + use<'a> {
        let (mut rest, encoded) = match self.0 {
            Repr::Raw(key) => (key, false),
            Repr::Encoded(text) => (text, true),
        };
        core::iter::from_fn(move || {
            let (byte, tail) = rest.split_first()?;
            rest = tail;
            if !encoded || *byte != b'%' {
                return Some(*byte);
            }
            let (digits, tail) = rest.split_at_checked(2)?;
            rest = tail;
            Some(16 * hex(digits[0])? + hex(digits[1])?)
        })
    }

    /// Appends the key as it is shown.
    pub fn encode(&self, out: &mut BytesMut) {
        match self.0 {
            Repr::Encoded(text) => out.extend_from_slice(text),
            Repr::Raw(key) => {
                for byte in key {
                    put(*byte, out);
                }
            }
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

fn put(byte: u8, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        out.extend_from_slice(&[byte]);
    } else {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
    }
}

impl PartialEq for UriKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for UriKey<'_> {}

impl fmt::Debug for UriKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for byte in self.bytes() {
            write!(f, "{}", byte.escape_ascii())?;
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    #[test]
    fn every_byte_survives_round_trip() {
        let key: Vec<u8> = (0..=u8::MAX).collect();
        let raw = UriKey::from_raw(&key);
        let mut shown = BytesMut::new();
        raw.encode(&mut shown);
        assert!(shown.iter().all(u8::is_ascii_graphic));
        let parsed = UriKey::parse(&shown).expect("well formed");
        assert_eq!(parsed.bytes().collect::<Vec<_>>(), key);
        assert_eq!(parsed, raw);
        let mut again = BytesMut::new();
        parsed.encode(&mut again);
        assert_eq!(again, shown);
    }

    #[test]
    fn uri_encoding_matches_memcached() {
        let mut shown = BytesMut::new();
        UriKey::from_raw(b"lk%25 \x01\xc3~").encode(&mut shown);
        assert_eq!(&shown[..], b"lk%2525%20%01%C3~");
        let key = UriKey::parse(b"a%0ab%0D").expect("well formed");
        assert_eq!(format!("{key:?}"), r#""a\nb\r""#);
    }

    #[test]
    fn shown_keys_compare_by_bytes() {
        let key = UriKey::from_raw(b"a b%20");
        assert_eq!(UriKey::parse(b"%61%20b%2520"), Some(key));
        for other in [&b"a%20b%20"[..], b"a%20b", b"a%20b%2520c", b"A%20b%2520"] {
            let other = UriKey::parse(other).expect("well formed");
            assert_ne!(other, key);
        }
    }

    #[test]
    fn stray_percent_sign_is_refused() {
        for text in [&b"%"[..], b"a%2", b"%4", b"%g0", b"%0g", b"%41%"] {
            assert_eq!(UriKey::parse(text), None, "{}", text.escape_ascii());
        }
    }
}
