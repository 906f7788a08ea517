//! Keys, validated once.

use alloc::boxed::Box;
use core::fmt;

/// The longest key memcached takes, in bytes (`KEY_MAX_LENGTH` in memcached's `memcached.h`).
pub const MAX_KEY_LENGTH: usize = 250;

/// A key that can be written into any request without changing what the request means.
///
/// 1 to [`MAX_KEY_LENGTH`] bytes, none of them a space, a control byte or DEL, and not the word
/// `noreply` (which some servers take for the option of that name). The server itself is more
/// lenient; what it takes beyond this has no use for a lock and has carried injected commands in
/// other clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key<'a>(&'a [u8]);

impl<'a> Key<'a> {
    /// Checks `bytes` and wraps them.
    ///
    /// # Errors
    /// Says which rule is broken, see [`KeyError`].
    pub const fn new(bytes: &'a [u8]) -> Result<Self, KeyError> {
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > MAX_KEY_LENGTH {
            return Err(KeyError::TooLong {
                length: bytes.len(),
            });
        }
        let mut rest = bytes;
        while let [byte, behind @ ..] = rest {
            if *byte <= b' ' || *byte == 0x7f {
                return Err(KeyError::ForbiddenByte {
                    byte: *byte,
                    at: bytes.len() - rest.len(),
                });
            }
            rest = behind;
        }
        if matches!(bytes, b"noreply") {
            return Err(KeyError::Reserved);
        }
        Ok(Self(bytes))
    }

    /// A key as a server finds it in a request it received: anything between two spaces.
    ///
    /// Only for the parsing side; encoding one of these returns the bytes that were read.
    pub(crate) const fn from_wire(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes as they go over the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> OwnedKey {
        OwnedKey(self.0.into())
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A [`Key`] that owns its bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnedKey(Box<[u8]>);

impl OwnedKey {
    /// Checks `bytes` as [`Key::new`] does, and keeps them.
    ///
    /// # Errors
    /// Says which rule is broken, see [`KeyError`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        Key::new(&bytes)?;
        Ok(Self(bytes))
    }

    /// The borrowed key.
    #[must_use]
    pub fn as_key(&self) -> Key<'_> {
        Key(&self.0)
    }
}

impl fmt::Debug for OwnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_key().fmt(f)
    }
}

impl fmt::Display for OwnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_key(), f)
    }
}

/// A reason why bytes are not a [`Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// No bytes at all.
    Empty,
    /// More than [`MAX_KEY_LENGTH`] bytes.
    TooLong {
        /// The number of bytes given.
        length: usize,
    },
    /// A space, a control byte or DEL.
    ForbiddenByte {
        /// The byte.
        byte: u8,
        /// Its position, counted from 0.
        at: usize,
    },
    /// The word `noreply`.
    Reserved,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key is empty; it needs 1 to 250 bytes"),
            Self::TooLong { length } => {
                write!(
                    f,
                    "the key has {length} bytes; memcached takes at most {MAX_KEY_LENGTH}"
                )
            }
            Self::ForbiddenByte { byte, at } => {
                write!(
                    f,
                    "byte {at} of the key is 0x{byte:02x}; spaces and control bytes are not allowed"
                )
            }
            Self::Reserved => {
                f.write_str("`noreply` cannot be a key: some servers read it as an option")
            }
        }
    }
}

impl core::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn plain_keys_are_accepted() {
        for good in [
            &b"a"[..],
            b"app:lock/1",
            &[b'x'; 250],
            "sch\u{f6}n".as_bytes(),
            b"noreply2",
        ] {
            assert_eq!(Key::new(good).map(Key::as_bytes), Ok(good));
        }
    }

    #[test]
    fn keys_with_separators_are_refused() {
        assert_eq!(Key::new(b""), Err(KeyError::Empty));
        assert_eq!(
            Key::new(&[b'x'; 251]),
            Err(KeyError::TooLong { length: 251 })
        );
        assert_eq!(Key::new(b"noreply"), Err(KeyError::Reserved));
        for byte in (0..=b' ').chain([0x7f]) {
            let key = [b'a', byte, b'b'];
            assert_eq!(Key::new(&key), Err(KeyError::ForbiddenByte { byte, at: 1 }));
        }
    }

    #[test]
    fn shown_keys_are_harmless_to_terminals() {
        let key = Key::new("sch\u{f6}n".as_bytes()).expect("plain");
        assert_eq!(format!("{key}"), r"sch\xc3\xb6n");
        assert_eq!(format!("{key:?}"), r#""sch\xc3\xb6n""#);
        let owned = key.to_owned();
        assert_eq!(owned.as_key(), key);
        assert_eq!(format!("{owned} {owned:?}"), format!("{key} {key:?}"));
    }

    #[test]
    fn refused_key_names_the_reason() {
        let words = |bytes| match Key::new(bytes) {
            Ok(key) => panic!("{key:?}"),
            Err(error) => format!("{error}"),
        };
        assert!(words(b"").contains("empty"));
        assert!(words(&[b'x'; 251]).contains("251"));
        assert!(words(b"a\nb").contains("0x0a"));
        assert!(words(b"noreply").contains("noreply"));
    }
}
