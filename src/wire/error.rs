//! Errors of the decoders.

use core::fmt;

/// A reason why bytes from the peer could not be understood.
///
/// Small and `Copy`, so that the decoder never allocates to complain. After any of these the
/// position in the stream is lost: close the connection and treat whatever is in flight as
/// *unknown*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A line is longer than [`Limits::line`](super::Limits::line) allows.
    LineTooLong,
    /// A value is longer than [`Limits::value`](super::Limits::value) allows.
    ValueTooLong,
    /// The line is none that a memcached server sends.
    UnknownReply,
    /// The line starts like a known reply but its fields are wrong.
    MalformedReply,
    /// The value is not followed by CR LF where its length says it ends.
    UnterminatedValue,
    /// A reply arrived of a kind that the request it answers cannot have.
    UnexpectedReply,
}

impl DecodeError {
    /// The complaint as a short phrase.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LineTooLong => "a line is longer than the limit",
            Self::ValueTooLong => "a value is longer than the limit",
            Self::UnknownReply => "the line is not a memcached reply",
            Self::MalformedReply => "a reply has malformed fields",
            Self::UnterminatedValue => "a value does not end where its length says",
            Self::UnexpectedReply => "the reply does not fit the request",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_error_has_its_own_text() {
        let mut all = [
            DecodeError::LineTooLong,
            DecodeError::ValueTooLong,
            DecodeError::UnknownReply,
            DecodeError::MalformedReply,
            DecodeError::UnterminatedValue,
            DecodeError::UnexpectedReply,
        ]
        .map(|error| error.to_string());
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(all.iter().all(|words| !words.is_empty()));
    }
}
