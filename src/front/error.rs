//! What can go wrong, as users see it.

use super::holder::Holder;
use super::set::SetError;
use super::settings::SettingError;
use crate::lock::{Failure, LeaseError, LossReason, NameError};
use crate::net::{Address, AddressError, NetError};
use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::string::String;

/// Why a lock call did not do what it was asked for.
///
/// That somebody else holds the lock is no error: [`try_acquire`](crate::Lock::try_acquire)
/// answers `None`, and the others wait.
pub struct LockError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    cause: Cause,
    name: Option<String>,
    server: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Cause {
    Name(NameError),
    Lease(LeaseError),
    Address(AddressError),
    Setting(SettingError),
    /// These locks cannot be taken together.
    Set(SetError),
    Timeout {
        waited: Duration,
        holder: Option<Holder>,
    },
    YoungMemory {
        lacking: Duration,
    },
    Unavailable(NetError),
    Unknown(NetError),
    Server(Failure),
    Lost(LossReason),
    TooShort {
        wanted: Duration,
        remaining: Duration,
    },
    Closed,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name, the lease, the address or a setting cannot be used. Nothing was sent.
    InvalidInput,
    /// Others held the lock for as long as the caller wanted to wait.
    Timeout,
    /// The server was restarted or flushed too short a time ago: locks from before may still be
    /// believed in, and the caller does not want to wait that long.
    YoungMemory,
    /// The server cannot be reached. The request was not sent.
    Unavailable,
    /// The request was sent and not answered: it may have been carried out, now or later. What
    /// it may have left is taken back in the background as far as possible, and runs out with
    /// the lease otherwise.
    Unknown,
    /// The server answers but cannot serve locks as it is.
    Unsuitable,
    /// The server does not list its items, or is busy with them, so that locks cannot be found
    /// without their names.
    Unlisted,
    /// The server wants a user and a password, and none were given or it does not accept those
    /// that were.
    Authentication,
    /// The lock is not held any more, or not for as long as was asked for.
    Lost,
    /// The client was shut down, or the runtime has ended on which its keeper lived.
    Closed,
}

impl LockError {
    pub(crate) fn new(cause: Cause) -> Self {
        Self(Box::new(Inner {
            cause,
            name: None,
            server: None,
        }))
    }

    pub(crate) fn at(mut self, server: &Address) -> Self {
        self.0.server = Some(std::string::ToString::to_string(server));
        self
    }

    pub(crate) fn about(mut self, name: &str) -> Self {
        self.0.name = Some(name.into());
        self
    }

    pub(crate) const fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.0.cause {
            Cause::Name(_)
            | Cause::Lease(_)
            | Cause::Address(_)
            | Cause::Setting(_)
            | Cause::Set(_) => ErrorKind::InvalidInput,
            Cause::Timeout { .. } => ErrorKind::Timeout,
            Cause::YoungMemory { .. } => ErrorKind::YoungMemory,
            Cause::Unavailable(_) => ErrorKind::Unavailable,
            Cause::Unknown(_) => ErrorKind::Unknown,
            Cause::Server(Failure::AuthenticationRequired | Failure::AuthenticationRefused) => {
                ErrorKind::Authentication
            }
            Cause::Server(Failure::DumpRefused(_) | Failure::DumpBusy(_)) => ErrorKind::Unlisted,
            Cause::Server(_) => ErrorKind::Unsuitable,
            Cause::Lost(_) | Cause::TooShort { .. } => ErrorKind::Lost,
            Cause::Closed => ErrorKind::Closed,
        }
    }

    /// Whether others held the lock for as long as the caller wanted to wait.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Whether the server could not be reached.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// Whether it is unknown what became of the request.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.kind() == ErrorKind::Unknown
    }

    /// Who held the lock when the wait for it ended, if that is known.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match &self.0.cause {
            Cause::Timeout { holder, .. } => holder.as_ref(),
            _ => None,
        }
    }

    /// How long it takes until the server has remembered everything for long enough, where that
    /// is what is wrong.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.0.cause {
            Cause::YoungMemory { lacking } => Some(*lacking),
            _ => None,
        }
    }

    /// The server that it happened with, if any.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.0.server.as_deref()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Lease(error) => error.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::Setting(error) => error.fmt(f),
            Self::Set(error) => error.fmt(f),
            Self::Timeout { waited, holder } => {
                write!(f, "still held by another after {waited:.1?}")?;
                match holder {
                    Some(holder) => write!(f, " ({holder})"),
                    None => Ok(()),
                }
            }
            Self::YoungMemory { lacking } => write!(
                f,
                "the server was started or flushed only recently, and a lock from before may \
                 still be believed in; it can be granted in {lacking:.1?} (wait longer, or switch \
                 the restart guard off)"
            ),
            Self::Unavailable(error) => write!(f, "the server is unavailable: {error}"),
            Self::Unknown(error) => {
                write!(f, "the request was sent, and its fate is unknown: {error}")
            }
            Self::Server(failure) => failure.fmt(f),
            Self::Lost(reason) => write!(f, "the lock is not held any more: {reason}"),
            Self::TooShort { wanted, remaining } => write!(
                f,
                "the lock is certain for another {remaining:.1?} only, not for {wanted:.1?}"
            ),
            Self::Closed => f.write_str("the client was shut down, or its keeper has ended"),
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.0.name {
            write!(f, "lock `{}`: ", name.escape_debug())?;
        }
        self.0.cause.fmt(f)?;
        if let Some(server) = &self.0.server {
            write!(f, " [{server}]")?;
        }
        Ok(())
    }
}

/// Reads like the message, because that is what a program shows whose `main` returns it.
impl fmt::Debug for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind())
    }
}

impl core::error::Error for LockError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Name(error) => Some(error),
            Cause::Lease(error) => Some(error),
            Cause::Address(error) => Some(error),
            Cause::Unavailable(error) | Cause::Unknown(error) => Some(error),
            Cause::Server(error) => Some(error),
            _ => None,
        }
    }
}
