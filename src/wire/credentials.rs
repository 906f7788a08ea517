//! ASCII authentication: a `set` whose value is a user and a password.

use super::key::Key;
use super::number::put_u64;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::fmt;

/// An expiry that has passed on every server whose clock was set: 1970-01-31, the first second that
/// memcached does not take for a relative time. `-1` means the same to memcached, and some proxies
/// refuse it.
const LONG_PAST: &[u8] = b" 0 2592001 ";

/// The longest user or password, in bytes. The server's own file of accounts has no longer lines.
pub const MAX_CREDENTIAL_LENGTH: usize = 256;

/// A user and a password for a server that wants them (`-Y`, 1.5.15 and later).
///
/// Neither is ever shown by `Debug`, and neither can hold anything that ends a word or a line: 1 to
/// [`MAX_CREDENTIAL_LENGTH`] bytes, none of them a space or a control byte. The user has no colon
/// in it, since the server's file has one between the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Checks both and puts them together.
    ///
    /// # Errors
    /// Says what is wrong, without showing any of it.
    pub fn new(user: &'a [u8], password: &'a [u8]) -> Result<Self, CredentialsError> {
        for part in [user, password] {
            if part.is_empty() {
                return Err(CredentialsError::Empty);
            }
            if part.len() > MAX_CREDENTIAL_LENGTH {
                return Err(CredentialsError::TooLong);
            }
            if part.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
                return Err(CredentialsError::ForbiddenByte);
            }
        }
        if user.contains(&b':') {
            return Err(CredentialsError::ForbiddenByte);
        }
        Ok(Self { user, password })
    }

    /// The user and the password in the value of the `set`, divided by the first space; `None`
    /// when there is none. What a server finds need not be what [`Credentials::new`] takes.
    #[must_use]
    pub fn from_value(value: &'a [u8]) -> Option<Self> {
        let space = memchr::memchr(b' ', value)?;
        Some(Self {
            user: &value[..space],
            password: &value[space + 1..],
        })
    }

    /// Returns `true` if they are this user and this password.
    #[must_use]
    pub fn are(&self, user: &[u8], password: &[u8]) -> bool {
        self.user == user && self.password == password
    }

    /// Appends the request. A server that requires credentials looks at neither the key nor the two
    /// numbers after it. A server that requires none stores them like any value; with an expiry
    /// that has passed, no client can read them there. If the server's clock was never set, the
    /// expiry has not passed: the key must be deleted immediately.
    pub(super) fn encode(&self, key: Key<'_>, out: &mut BytesMut) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(LONG_PAST);
        put_u64(out, (self.user.len() + 1 + self.password.len()) as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.user);
        out.extend_from_slice(b" ");
        out.extend_from_slice(self.password);
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// [`Credentials`] that are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedCredentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl OwnedCredentials {
    /// Checks both and keeps them, as [`Credentials::new`] does.
    ///
    /// # Errors
    /// Says what is wrong, without showing any of it.
    pub fn new(user: Vec<u8>, password: Vec<u8>) -> Result<Self, CredentialsError> {
        Credentials::new(&user, &password)?;
        Ok(Self { user, password })
    }

    /// The credentials.
    #[must_use]
    pub fn as_credentials(&self) -> Credentials<'_> {
        Credentials {
            user: &self.user,
            password: &self.password,
        }
    }
}

impl fmt::Debug for OwnedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_credentials().fmt(f)
    }
}

/// A reason why a user and a password cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// One of them has no bytes at all.
    Empty,
    /// One of them is over [`MAX_CREDENTIAL_LENGTH`].
    TooLong,
    /// One of them holds a space or a control byte, or the user a colon.
    ForbiddenByte,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "user or password is empty",
            Self::TooLong => "user or password is over 256 bytes",
            Self::ForbiddenByte => "user or password holds a space, a colon or a control byte",
        })
    }
}

impl core::error::Error for CredentialsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn sent_credentials_are_found_by_server() {
        let credentials = Credentials::new(b"user", b"pa:ss").expect("plain");
        let mut out = BytesMut::new();
        let key = Key::new(b"any").expect("plain");
        credentials.encode(key, &mut out);
        assert_eq!(&out[..], b"set any 0 2592001 10\r\nuser pa:ss");
        assert_eq!(Credentials::from_value(b"user pa:ss"), Some(credentials));
        assert!(credentials.are(b"user", b"pa:ss"));
        assert!(!credentials.are(b"user", b"pa"));
        assert!(!credentials.are(b"u", b"pa:ss"));
        assert_eq!(Credentials::from_value(b"userpass"), None);
    }

    #[test]
    fn debug_output_hides_secrets() {
        let credentials = Credentials::new(b"alice", b"sesame").expect("plain");
        let owned = OwnedCredentials::new(b"alice".to_vec(), b"sesame".to_vec()).expect("plain");
        assert_eq!(owned.as_credentials(), credentials);
        let shown = format!("{credentials:?} {credentials:#?} {owned:?}");
        assert!(
            !shown.contains("alice") && !shown.contains("sesame"),
            "{shown}"
        );
        assert!(shown.contains("Credentials"), "{shown}");
    }

    #[test]
    fn credentials_with_separators_are_refused() {
        let long = [b'x'; MAX_CREDENTIAL_LENGTH + 1];
        for (part, error) in [
            (&b""[..], CredentialsError::Empty),
            (&long, CredentialsError::TooLong),
            (b"a b", CredentialsError::ForbiddenByte),
            (b"a\r\nflush_all", CredentialsError::ForbiddenByte),
            (b"a\0", CredentialsError::ForbiddenByte),
            (b"a\x7f", CredentialsError::ForbiddenByte),
        ] {
            assert_eq!(Credentials::new(part, b"x"), Err(error));
            assert_eq!(Credentials::new(b"x", part), Err(error));
            assert!(!format!("{error}").is_empty());
        }
        assert!(Credentials::new(&long[1..], &long[1..]).is_ok());
        assert_eq!(
            Credentials::new(b"a:b", b"x"),
            Err(CredentialsError::ForbiddenByte)
        );
    }
}
