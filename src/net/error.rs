//! Errors of an exchange.

use crate::wire::{DecodeError, Limits, Reply, ReplyDecoder};
use core::fmt;
use core::time::Duration;
use std::io;
use std::string::{String, ToString};

/// The error of a flight without replies.
#[derive(Debug)]
pub struct NetError {
    /// True if bytes of the flight may have reached the server.
    pub sent: bool,
    /// The cause of the error.
    pub cause: NetCause,
}

/// The cause for which a connection or an exchange failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetCause {
    /// The server could not be connected to.
    Connect(io::Error),
    /// The name has no addresses.
    NoAddress,
    /// Reading or writing failed.
    Io(io::Error),
    /// The server closed the connection.
    Closed,
    /// The server closed the connection before it had replied to the first requests.
    ClosedAtOnce,
    /// It took longer than this.
    Timeout(Duration),
    /// The server sent something that is no reply to what was asked.
    Decode {
        /// The error of the decoder.
        error: DecodeError,
        /// The start of the reply, escaped.
        start: String,
    },
    /// The server sent more than was asked for.
    TooMuch,
    /// The server has no connection to spare.
    TooManyConnections,
    /// The server requires a user and a password before it does anything.
    Unauthenticated,
}

/// The number of bytes of an unexpected reply that are shown.
const SHOWN: usize = 60;

impl NetCause {
    /// Copies the error for another caller.
    #[cfg(any(feature = "tokio", feature = "blocking"))]
    pub(crate) fn duplicate(&self) -> Self {
        let io = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        match self {
            Self::Connect(error) => Self::Connect(io(error)),
            Self::NoAddress => Self::NoAddress,
            Self::Io(error) => Self::Io(io(error)),
            Self::Closed => Self::Closed,
            Self::ClosedAtOnce => Self::ClosedAtOnce,
            Self::Timeout(limit) => Self::Timeout(*limit),
            Self::Decode { error, start } => Self::Decode {
                error: *error,
                start: start.clone(),
            },
            Self::TooMuch => Self::TooMuch,
            Self::TooManyConnections => Self::TooManyConnections,
            Self::Unauthenticated => Self::Unauthenticated,
        }
    }

    /// Returns whether another attempt may succeed without a change of the settings.
    #[cfg(any(feature = "tokio", feature = "blocking"))]
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Decode { .. } | Self::TooMuch | Self::Unauthenticated => false,
            // The errors with which TLS, the file system and the system call report a wrong
            // setting.
            Self::Connect(error) | Self::Io(error) => !matches!(
                error.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::PermissionDenied
            ),
            _ => true,
        }
    }

    /// Returns the cause for an unexpected reply that starts with these bytes.
    pub(crate) fn strange(error: DecodeError, answer: &[u8]) -> Self {
        Self::final_error(answer).unwrap_or_else(|| {
            let start = &answer[..answer.len().min(SHOWN)];
            Self::Decode {
                error,
                start: start.escape_ascii().to_string(),
            }
        })
    }

    /// Returns the error that a server sends for all requests together, requested or not.
    pub(crate) fn final_error(answer: &[u8]) -> Option<Self> {
        match ReplyDecoder::new(Limits::LOCK).decode(answer) {
            Ok(Some((Reply::Error(error), _))) if error.is_too_many_connections() => {
                Some(Self::TooManyConnections)
            }
            Ok(Some((Reply::Error(error), _))) if error.is_unauthenticated() => {
                Some(Self::Unauthenticated)
            }
            _ => None,
        }
    }

    /// The same for an exchange that comes before all others.
    pub(crate) fn while_connecting(self) -> Self {
        let closed = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            )
        };
        match self {
            Self::Closed => Self::ClosedAtOnce,
            Self::Io(error) if closed(&error) => Self::ClosedAtOnce,
            other => other,
        }
    }

    /// The same without anything that the other side may have echoed.
    pub(crate) fn redacted(self) -> Self {
        match self {
            Self::Decode { error, .. } => Self::Decode {
                error,
                start: "(not shown: a password was sent)".to_string(),
            },
            other => other,
        }
    }

    /// A reply that is sound in itself, to another question.
    pub(crate) fn unexpected(error: DecodeError) -> Self {
        Self::Decode {
            error,
            start: "a reply of another kind than asked for".to_string(),
        }
    }
}

impl NetError {
    pub(crate) const fn unsent(cause: NetCause) -> Self {
        Self { sent: false, cause }
    }

    pub(crate) const fn sent(cause: NetCause) -> Self {
        Self { sent: true, cause }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            NetCause::Connect(error) => write!(f, "cannot connect: {error}"),
            NetCause::NoAddress => f.write_str("the host name has no addresses"),
            NetCause::Io(error) => write!(f, "the connection failed: {error}"),
            NetCause::Closed => f.write_str("the server closed the connection"),
            NetCause::ClosedAtOnce => f.write_str(
                "the server closed the connection at the first questions; is it memcached, does it \
                 speak the text protocol (not `-B binary`), and is it no proxy, such as twemproxy?",
            ),
            NetCause::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            NetCause::Decode { error, start } => write!(
                f,
                "not an answer of memcached's: {error}; it starts with \"{start}\""
            ),
            NetCause::TooMuch => f.write_str("the server sent more than was asked for"),
            NetCause::TooManyConnections => f.write_str(
                "the server has no connection to spare; raise its limit (-c) or close some",
            ),
            NetCause::Unauthenticated => {
                f.write_str("the server wants a user and a password (-Y) first")
            }
        }
    }
}

/// The message contains that of the cause, so the cause is not also returned as the source.
impl core::error::Error for NetError {}
