//! ASCII authentication: a `set` whose value is a user and a password.

use super::number::put_u64;
use bytes::BytesMut;
use core::fmt;

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

    /// Whether they are this user and this password.
    #[must_use]
    pub fn are(&self, user: &[u8], password: &[u8]) -> bool {
        self.user == user && self.password == password
    }

    /// Appends the request. The server looks at neither the key nor the two numbers behind it.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"set auth 0 0 ");
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

/// Why a user and a password cannot be sent.
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
    fn what_is_sent_is_what_the_server_finds() {
        let credentials = Credentials::new(b"user", b"pa:ss").expect("plain");
        let mut out = BytesMut::new();
        credentials.encode(&mut out);
        assert_eq!(&out[..], b"set auth 0 0 10\r\nuser pa:ss");
        assert_eq!(Credentials::from_value(b"user pa:ss"), Some(credentials));
        assert!(credentials.are(b"user", b"pa:ss"));
        assert!(!credentials.are(b"user", b"pa"));
        assert!(!credentials.are(b"u", b"pa:ss"));
        assert_eq!(Credentials::from_value(b"userpass"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::new(b"alice", b"sesame").expect("plain");
        let shown = format!("{credentials:?} {credentials:#?}");
        assert!(
            !shown.contains("alice") && !shown.contains("sesame"),
            "{shown}"
        );
        assert!(shown.contains("Credentials"), "{shown}");
    }

    #[test]
    fn refuses_what_could_become_something_else() {
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
