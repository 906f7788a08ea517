//! The error of a client without a connection.

use super::error::{Cause, LockError};
use crate::net::Address;
use crate::net::{NetCause, NetError};
use crate::proto::{Handshake, ServerError};

/// The reason why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Net(NetError),
    Rejected(ServerError),
}

impl ConnectError {
    /// Returns the same error for another caller.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Net(error) => Self::Net(NetError {
                sent: error.sent,
                cause: error.cause.duplicate(),
            }),
            Self::Rejected(failure) => Self::Rejected(failure.clone()),
        }
    }

    /// Returns the meaning of a failed exchange of a handshake. Nothing of the caller's own request
    /// has been sent.
    pub(crate) fn from_handshake(handshake: &Handshake<'_>, error: NetError) -> Self {
        Self::from_exchange(handshake.is_secret(), error)
    }

    /// Returns the same for an exchange without a caller's request; `secret` if it contained a
    /// password.
    pub(crate) fn from_exchange(secret: bool, error: NetError) -> Self {
        match error.cause {
            NetCause::Unauthenticated => Self::Rejected(ServerError::AuthenticationRequired),
            cause if secret => Self::Net(NetError::unsent(cause.while_connecting().redacted())),
            cause => Self::Net(NetError::unsent(cause.while_connecting())),
        }
    }

    /// Returns the error of a client that has no connection to the server at this address.
    pub(crate) fn into_lock_error(self, server: &Address) -> LockError {
        let cause = match self {
            Self::Net(error) => Cause::Unavailable(error),
            Self::Rejected(failure) => Cause::Server(failure),
        };
        LockError::new(cause).with_server(server)
    }

    /// Returns whether a server that comes up soon may be reached: no unsuitable server has
    /// answered.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            // The second in which a delayed flush takes effect.
            Self::Rejected(failure) => *failure == ServerError::DropsItems,
            Self::Net(error) => error.cause.is_transient(),
        }
    }

    /// Returns whether an early retry would be of no use, and a load on the server.
    #[cfg(feature = "tokio")]
    pub(crate) const fn should_back_off(&self) -> bool {
        matches!(
            self,
            Self::Net(_)
                | Self::Rejected(
                    ServerError::AuthenticationRequired
                        | ServerError::AuthenticationFailed
                        | ServerError::SeveralServers(_)
                )
        )
    }
}
