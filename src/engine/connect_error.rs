//! Why there is no connection.

use super::error::{Cause, LockError};
use crate::net::Address;
use crate::net::{NetCause, NetError};
use crate::proto::{Handshake, ServerError};

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Net(NetError),
    Rejected(ServerError),
}

impl ConnectError {
    /// The same for somebody else.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Net(error) => Self::Net(NetError {
                sent: error.sent,
                cause: error.cause.again(),
            }),
            Self::Rejected(failure) => Self::Rejected(failure.clone()),
        }
    }

    /// What a failed exchange of a handshake means. Of the caller's own request, nothing has been
    /// sent.
    pub(crate) fn greeting(handshake: &Handshake<'_>, error: NetError) -> Self {
        Self::asking(handshake.is_secret(), error)
    }

    /// The same for any exchange that is nobody's request; `secret` if a password was in it.
    pub(crate) fn asking(secret: bool, error: NetError) -> Self {
        match error.cause {
            NetCause::Unauthenticated => Self::Rejected(ServerError::AuthenticationRequired),
            cause if secret => Self::Net(NetError::unsent(cause.at_first().redacted())),
            cause => Self::Net(NetError::unsent(cause.at_first())),
        }
    }

    /// The error of a client that finds no connection to the server at this address.
    pub(crate) fn at(self, server: &Address) -> LockError {
        let cause = match self {
            Self::Net(error) => Cause::Unavailable(error),
            Self::Rejected(failure) => Cause::Server(failure),
        };
        LockError::new(cause).at(server)
    }

    /// Whether a server that comes up soon may be reached all the same: nothing has answered that is of
    /// no use.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            // In the second in which a delayed flush takes effect.
            Self::Rejected(failure) => *failure == ServerError::DropsItems,
            Self::Net(error) => error.cause.may_pass(),
        }
    }

    /// Whether trying again soon is of no use, and a burden to the server.
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
