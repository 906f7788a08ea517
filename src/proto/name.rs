//! From the name of a lock to the keys it uses.

use super::escape::{escape, hex, unescape};
use super::requests::{LockRequests, read_sentinel};
use crate::wire::{Key, KeyError, MAX_KEY_LENGTH, OwnedKey, Prepared};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

/// The longest name, in bytes. Longer ones are a mistake of the caller's (a document where its
/// identifier was meant), so they are refused and not hashed.
pub const MAX_NAME_LENGTH: usize = 1024;

/// The longest prefix, in bytes.
pub const MAX_PREFIX_LENGTH: usize = 100;

/// The prefix where none is given.
pub const DEFAULT_PREFIX: &str = "memlatch:";

const LOCK: &[u8] = b"lock:";
const FENCE: &[u8] = b"fence:";

/// All locks under one prefix. They share a sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    prefix: String,
    sentinel: OwnedKey,
    read_sentinel: Prepared<0>,
    longest: OwnedKey,
    probe: OwnedKey,
}

impl Namespace {
    /// The namespace with this prefix.
    ///
    /// # Errors
    /// The prefix is longer than [`MAX_PREFIX_LENGTH`], holds a space or a control byte, or contains
    /// `lock:` or `fence:`.
    pub fn new(prefix: &str) -> Result<Self, NameError> {
        if prefix.len() > MAX_PREFIX_LENGTH {
            return Err(NameError::PrefixTooLong {
                length: prefix.len(),
            });
        }
        for part in ["lock:", "fence:"] {
            if let Some(at) = prefix.find(part) {
                return Err(NameError::PrefixReserved { part, at });
            }
        }
        let sentinel = join(&[prefix.as_bytes(), b"sentinel"])?;
        Ok(Self {
            prefix: prefix.into(),
            read_sentinel: read_sentinel(sentinel.as_key()),
            sentinel,
            longest: join(&[prefix.as_bytes(), b"longest"])?,
            probe: join(&[prefix.as_bytes(), b"probe"])?,
        })
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of the item that shows the age of the server's memory.
    #[must_use]
    pub fn sentinel(&self) -> Key<'_> {
        self.sentinel.as_key()
    }

    /// The look at the sentinel.
    pub(super) const fn read_sentinel(&self) -> &Prepared<0> {
        &self.read_sentinel
    }

    /// The key of the item that says the longest lease in use.
    #[must_use]
    pub fn longest(&self) -> Key<'_> {
        self.longest.as_key()
    }

    /// A key under which nothing is ever stored.
    #[must_use]
    pub fn probe(&self) -> Key<'_> {
        self.probe.as_key()
    }

    /// The keys of the lock called `name`.
    ///
    /// Plain names stand in the key as they are. Bytes outside the visible ASCII characters, `%`
    /// anywhere and `#` at the start are written as `%XX`. What is then longer than the key may
    /// be is replaced by `#` and the SHA-256 of the name in lower-case hex. Different names never
    /// share a key (but for a collision of SHA-256).
    ///
    /// # Errors
    /// The name is empty, longer than [`MAX_NAME_LENGTH`], or holds a control byte.
    pub fn keys(&self, name: &[u8]) -> Result<LockKeys, NameError> {
        self.keys_of_encoded(&self.encode(name)?)
    }

    /// The part of its keys that stands for a name.
    fn encode(&self, name: &[u8]) -> Result<Vec<u8>, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME_LENGTH {
            return Err(NameError::TooLong { length: name.len() });
        }
        if let Some(at) = name.iter().position(u8::is_ascii_control) {
            return Err(NameError::ControlByte { byte: name[at], at });
        }
        let mut encoded = escape(name);
        if self.prefix.len() + FENCE.len() + encoded.len() > MAX_KEY_LENGTH {
            encoded.clear();
            encoded.push(b'#');
            for byte in Sha256::digest(name) {
                encoded.extend_from_slice(&hex(byte, b"0123456789abcdef"));
            }
        }
        Ok(encoded)
    }

    /// The keys of the lock whose name is written like this in them.
    pub(super) fn keys_of_encoded(&self, encoded: &[u8]) -> Result<LockKeys, NameError> {
        let prefix = self.prefix.as_bytes();
        let lock = join(&[prefix, LOCK, encoded])?;
        let fence = join(&[prefix, FENCE, encoded])?;
        let requests = LockRequests::new(lock.as_key(), fence.as_key(), self.sentinel());
        Ok(LockKeys(Arc::new(KeySet {
            lock,
            fence,
            requests,
        })))
    }

    /// Returns `true` if a key starts as that of a lock does.
    pub(super) fn is_lock_key(&self, key: impl Iterator<Item = u8>) -> bool {
        let start = self.prefix.bytes().chain(LOCK.iter().copied());
        let length = self.prefix.len() + LOCK.len();
        start.eq(key.take(length))
    }

    /// The part of a lock's key that stands for its name.
    pub(super) fn encoded_name<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(LOCK)
    }
}

/// The name of a lock, read back from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedName {
    /// The name.
    Plain(Vec<u8>),
    /// `#` and the SHA-256 of the name in hex: the name is too long to stand in a key.
    Hashed(Vec<u8>),
}

impl DecodedName {
    /// Decodes a part of a key; `None` where no name is written like this.
    pub(super) fn decode(namespace: &Namespace, encoded: &[u8]) -> Option<Self> {
        if let Some(hash) = encoded.strip_prefix(b"#") {
            let is_hash = hash.len() == 64 && hash.iter().all(|b| b"0123456789abcdef".contains(b));
            return is_hash.then(|| Self::Hashed(encoded.into()));
        }
        let name = unescape(encoded);
        let again = namespace.encode(&name).ok()?;
        (again == encoded).then_some(Self::Plain(name))
    }

    /// The bytes of the name, or what stands for it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Plain(name) | Self::Hashed(name) => name,
        }
    }
}

/// As text, with what is no UTF-8 replaced.
impl fmt::Display for DecodedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The keys that one lock uses, and the requests about them written beforehand. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockKeys(Arc<KeySet>);

#[derive(Debug, PartialEq, Eq)]
struct KeySet {
    lock: OwnedKey,
    fence: OwnedKey,
    requests: LockRequests,
}

impl LockKeys {
    /// The key of the record that names the holder of the lock.
    #[must_use]
    pub fn lock(&self) -> Key<'_> {
        self.0.lock.as_key()
    }

    /// The key of the counter that fencing tokens come from.
    #[must_use]
    pub fn fence(&self) -> Key<'_> {
        self.0.fence.as_key()
    }

    pub(super) fn requests(&self) -> &LockRequests {
        &self.0.requests
    }
}

fn join(parts: &[&[u8]]) -> Result<OwnedKey, NameError> {
    OwnedKey::new(parts.concat()).map_err(NameError::Prefix)
}

/// A reason why a name or a prefix cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no bytes.
    Empty,
    /// The name is longer than [`MAX_NAME_LENGTH`].
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The name holds a control byte, such as CR or LF.
    ControlByte {
        /// The byte.
        byte: u8,
        /// Its position, counted from 0.
        at: usize,
    },
    /// The prefix is longer than [`MAX_PREFIX_LENGTH`].
    PrefixTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The prefix contains what stands behind other prefixes, so that its keys could be those of
    /// another one's locks.
    PrefixReserved {
        /// The part that it contains.
        part: &'static str,
        /// Its position, counted from 0.
        at: usize,
    },
    /// The prefix cannot stand in a key.
    Prefix(KeyError),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "the lock name is empty; it needs 1 to {MAX_NAME_LENGTH} bytes"
            ),
            Self::TooLong { length } => write!(
                f,
                "the lock name has {length} bytes; at most {MAX_NAME_LENGTH} are allowed"
            ),
            Self::ControlByte { byte, at } => write!(
                f,
                "byte {at} of the lock name is 0x{byte:02x}; control characters (such as CR and \
                 LF) are not allowed"
            ),
            Self::PrefixTooLong { length } => write!(
                f,
                "the prefix has {length} bytes; at most {MAX_PREFIX_LENGTH} are allowed"
            ),
            Self::PrefixReserved { part, at } => write!(
                f,
                "the prefix contains `{part}` at byte {at}, so its items could be those of locks \
                 under a shorter prefix; choose one without `lock:` and `fence:`"
            ),
            Self::Prefix(error) => write!(f, "the prefix cannot be used: {error}"),
        }
    }
}

impl core::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &[u8]) -> String {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let keys = namespace.keys(name).expect("a usable name");
        String::from_utf8_lossy(keys.lock().as_bytes()).into_owned()
    }

    #[test]
    fn plain_names_are_not_escaped() {
        assert_eq!(key(b"invoices/42"), "p:lock:invoices/42");
        assert_eq!(key(b"a#b"), "p:lock:a#b");
    }

    #[test]
    fn escaped_names_never_collide() {
        assert_eq!(key(b"a b"), "p:lock:a%20b");
        assert_eq!(key(b"a%20b"), "p:lock:a%2520b");
        assert_eq!(key("\u{fc}".as_bytes()), "p:lock:%C3%BC");
        let long = [b'x'; 300];
        let hashed = key(&long);
        // The digest is that of `printf 'x%.0s' $(seq 300) | sha256sum`.
        assert_eq!(
            hashed,
            "p:lock:#0d4e2ca9e9cbced7a7a5380eb29e1a3783b9b6d0db72de36a1051038e1c1fbc7"
        );
        let plain_twin = hashed.strip_prefix("p:lock:").expect("the prefix");
        assert_ne!(key(plain_twin.as_bytes()), hashed);
    }

    #[test]
    fn longest_fitting_name_is_not_hashed() {
        let room = MAX_KEY_LENGTH - 2 - FENCE.len();
        assert!(!key(&[b'x'].repeat(room)).contains('#'));
        assert!(key(&[b'x'].repeat(room + 1)).contains('#'));
    }

    #[test]
    fn bad_names_have_distinct_errors() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        assert_eq!(namespace.keys(b""), Err(NameError::Empty));
        assert_eq!(
            namespace.keys(&[b'x'; 10_240]),
            Err(NameError::TooLong { length: 10_240 })
        );
        assert_eq!(
            namespace.keys(b"x\r\ndelete victim"),
            Err(NameError::ControlByte { byte: b'\r', at: 1 })
        );
        assert!(matches!(Namespace::new("a b"), Err(NameError::Prefix(_))));
        let long = "p".repeat(101);
        assert_eq!(
            Namespace::new(&long),
            Err(NameError::PrefixTooLong { length: 101 })
        );
        // `memlatch:lock:sentinel` would be a lock of the one and the sentinel of the other.
        for (prefix, part, at) in [("memlatch:lock:", "lock:", 9), ("fence:x", "fence:", 0)] {
            assert_eq!(
                Namespace::new(prefix),
                Err(NameError::PrefixReserved { part, at })
            );
        }
        assert!(Namespace::new("locks:").is_ok());
    }
}
