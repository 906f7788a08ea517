//! The error of lock calls, and its kinds.

use super::config_error::ConfigError;
use super::config_error::MultiLockError;
use super::holder::Holder;
use crate::net::{Address, AddressError, NetCause, NetError};
use crate::proto::{LeaseError, LossReason, NameError, ServerError};
use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::string::String;

/// The reason why a lock call failed.
///
/// A lock that another client holds is no error: [`try_acquire`](crate::Lock::try_acquire) returns
/// `None`, and the other calls wait.
///
/// # Example
/// ```
/// # #[cfg(all(feature = "tokio", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::Client::connect(server.address()).await?;
/// use memlatch::ErrorKind;
/// use std::time::Duration;
///
/// let guard = client.lock("invoices/42").acquire().await?;
/// let waiting = client.lock("invoices/42");
/// let error = waiting.acquire_timeout(Duration::from_millis(10)).await.expect_err("it is held");
/// match error.kind() {
///     ErrorKind::Timeout => println!("held by {:?}", error.holder()),
///     ErrorKind::Unavailable | ErrorKind::Unknown => println!("try again later: {error}"),
///     _ => return Err(error.into()),
/// }
/// # drop(guard);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "tokio", feature = "server")))]
/// # fn main() {}
/// ```
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
    Setting(ConfigError),
    /// These locks cannot be acquired together.
    Set(MultiLockError),
    Timeout {
        waited: Duration,
        holder: Option<Holder>,
    },
    RestartGuard {
        lacking: Duration,
    },
    Unavailable(NetError),
    Unknown(NetError),
    Server(ServerError),
    Lost(LossReason),
    TooShort {
        wanted: Duration,
        remaining: Duration,
    },
    Closed,
    /// The client belongs to the process that this one was forked from.
    Forked,
}

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name, the lease, the address or a setting cannot be used. Nothing was sent.
    InvalidInput,
    /// Others held the lock for as long as the caller wanted to wait.
    Timeout,
    /// The server was restarted or flushed too short a time ago: locks from before may still be
    /// held, and the caller does not wait that long.
    RestartGuard,
    /// The server cannot be reached. The request was not sent.
    Unavailable,
    /// The request was sent and got no reply: the server may have executed it, or may execute it
    /// later. The renewer undoes in the background what the request may have stored, as far as
    /// possible; otherwise that expires with the lease.
    Unknown,
    /// The server answers but cannot serve locks as it is configured.
    UnsupportedServer,
    /// The server does not list its items, or is busy with them, so locks cannot be found without
    /// their names.
    DumpUnavailable,
    /// The server requires a user and a password, and none are set or it does not accept them.
    Authentication,
    /// The lock is not held any more, or not for as long as the caller wanted.
    Lost,
    /// The client was shut down, or the runtime of its renewer has ended, or this process was
    /// forked from the client's process.
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

    pub(crate) fn with_server(mut self, server: &Address) -> Self {
        self.0.server = Some(std::string::ToString::to_string(server));
        self
    }

    pub(crate) fn with_name(mut self, name: &str) -> Self {
        self.0.name = Some(name.into());
        self
    }

    pub(crate) const fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.0.cause {
            Cause::Name(_)
            | Cause::Lease(_)
            | Cause::Address(_)
            | Cause::Setting(_)
            | Cause::Set(_) => ErrorKind::InvalidInput,
            Cause::Timeout { .. } => ErrorKind::Timeout,
            Cause::RestartGuard { .. } => ErrorKind::RestartGuard,
            Cause::Unavailable(_) => ErrorKind::Unavailable,
            Cause::Unknown(_) => ErrorKind::Unknown,
            Cause::Server(
                ServerError::AuthenticationRequired | ServerError::AuthenticationFailed,
            ) => ErrorKind::Authentication,
            Cause::Server(ServerError::DumpRejected(_) | ServerError::DumpBusy(_)) => {
                ErrorKind::DumpUnavailable
            }
            Cause::Server(_) => ErrorKind::UnsupportedServer,
            Cause::Lost(_) | Cause::TooShort { .. } => ErrorKind::Lost,
            Cause::Closed | Cause::Forked => ErrorKind::Closed,
        }
    }

    /// Returns whether others held the lock for as long as the caller wanted to wait.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Returns whether the server could not be reached.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    /// Returns whether the fate of the request is unknown.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.kind() == ErrorKind::Unknown
    }

    /// Returns whether another attempt may succeed without a change of settings: the server cannot
    /// be reached or has not answered, and no unsuitable server answers there.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.0.cause {
            Cause::Unavailable(error) | Cause::Unknown(error) => error.cause.is_transient(),
            // The second in which a delayed flush takes effect.
            Cause::Server(failure) => *failure == ServerError::DropsItems,
            _ => false,
        }
    }

    /// Returns the error of the operating system that caused it, if any. It is part of the message.
    #[must_use]
    pub fn io_error(&self) -> Option<&std::io::Error> {
        match &self.0.cause {
            Cause::Unavailable(error) | Cause::Unknown(error) => match &error.cause {
                NetCause::Connect(error) | NetCause::Io(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the holder of the lock at the end of the wait for it, if it is known.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match &self.0.cause {
            Cause::Timeout { holder, .. } => holder.as_ref(),
            _ => None,
        }
    }

    /// Returns the time until the server has remembered everything for long enough, if the restart
    /// guard caused the error.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.0.cause {
            Cause::RestartGuard { lacking } => Some(*lacking),
            _ => None,
        }
    }

    /// Returns the reason for which the lock was lost, if that is the error.
    #[must_use]
    pub fn loss_reason(&self) -> Option<LossReason> {
        match &self.0.cause {
            Cause::Lost(reason) => Some(*reason),
            _ => None,
        }
    }

    /// Returns the address of the server that the error is about, if any.
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
            Self::RestartGuard { lacking } => write!(
                f,
                "the server may have forgotten locks that are still held: it was started or \
                 flushed only recently; a lock can be granted in \
                 {lacking:.1?}"
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
            Self::Closed => f.write_str("the client was shut down, or its renewer has ended"),
            Self::Forked => f.write_str(
                "this process was forked from the one that the client is of, and cannot share its \
                 connections; make a client after the fork",
            ),
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

/// Has the text of the message, because a program whose `main` returns the error prints it so.
impl fmt::Debug for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind())
    }
}

/// The message is complete, so there is no source: a program that prints a chain of errors would
/// repeat it.
impl core::error::Error for LockError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{NetCause, PipelineError, SubmitError};
    use crate::proto::fencing::StaleToken;
    use crate::proto::{LockTicket, MAX_NAME_LENGTH, Namespace, TicketError};
    use crate::wire::{CredentialsError, DecodeError, FlagError, KeyError};
    use core::error::Error;
    use std::format;
    use std::io;
    use std::string::ToString;
    use std::vec;
    use std::vec::Vec;

    /// Returns the texts of a chain, each as anyhow prints it.
    fn chain(error: &dyn Error) -> Vec<String> {
        let all = core::iter::successors(Some(error), |error| (*error).source());
        all.map(ToString::to_string).collect()
    }

    fn failures() -> Vec<ServerError> {
        let lease = crate::proto::Lease::new(Duration::ZERO).expect_err("too short");
        vec![
            ServerError::OutOfMemory,
            ServerError::NoCas,
            ServerError::NoStats,
            ServerError::Proxy,
            ServerError::TooManyConnections,
            ServerError::AuthenticationRequired,
            ServerError::AuthenticationFailed,
            ServerError::ForeignItem,
            ServerError::DropsItems,
            ServerError::Lease(lease),
            ServerError::DumpRejected("text".into()),
            ServerError::DumpBusy("text".into()),
            ServerError::Rejected("text".into()),
        ]
    }

    fn net_causes() -> Vec<NetCause> {
        let io = || io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        let nested = || io::Error::other(LockError::new(Cause::Closed));
        vec![
            NetCause::Connect(io()),
            NetCause::Connect(nested()),
            NetCause::NoAddress,
            NetCause::Io(io()),
            NetCause::Closed,
            NetCause::Timeout(Duration::from_secs(1)),
            NetCause::Decode {
                error: DecodeError::UnknownReply,
                start: "?".into(),
            },
            NetCause::TooMuch,
            NetCause::TooManyConnections,
            NetCause::Unauthenticated,
        ]
    }

    /// Returns one error of each kind.
    fn all() -> Vec<Box<dyn Error>> {
        let namespace = Namespace::new("p:").expect("plain");
        let name = namespace.keys(b"").expect_err("empty");
        let prefix = Namespace::new("a b").expect_err("a space");
        let lease = crate::proto::Lease::new(Duration::ZERO).expect_err("too short");
        let address = "x://y".parse::<Address>().expect_err("no scheme of ours");
        let credentials = CredentialsError::Empty;
        let causes = vec![
            Cause::Name(name),
            Cause::Name(prefix),
            Cause::Lease(lease),
            Cause::Address(address.clone()),
            Cause::Setting(ConfigError::Credentials(credentials)),
            Cause::Set(MultiLockError::Twice),
            Cause::Timeout {
                waited: Duration::ZERO,
                holder: None,
            },
            Cause::RestartGuard {
                lacking: Duration::ZERO,
            },
            Cause::Lost(LossReason::Expired),
            Cause::TooShort {
                wanted: Duration::ZERO,
                remaining: Duration::ZERO,
            },
            Cause::Closed,
        ];
        let nets = || net_causes().into_iter().map(NetError::unsent);
        let causes = causes
            .into_iter()
            .chain(nets().map(Cause::Unavailable))
            .chain(nets().map(Cause::Unknown))
            .chain(failures().into_iter().map(Cause::Server));
        let mut errors: Vec<Box<dyn Error>> = Vec::new();
        for cause in causes {
            errors.push(Box::new(LockError::new(cause).with_name("name")));
        }
        errors.extend(nets().map(|error| Box::new(error) as Box<dyn Error>));
        errors.extend(failures().into_iter().map(|failure| Box::new(failure) as _));
        for parts in [
            "",
            "p1 a",
            &format!(
                "p1 p: {} - - - - - - - - - - -",
                "n".repeat(MAX_NAME_LENGTH + 1)
            ),
        ] {
            errors.push(Box::new(
                parts.parse::<LockTicket>().expect_err("not parts"),
            ));
        }
        errors.push(Box::new(TicketError::Name(name)));
        errors.push(Box::new(TicketError::Lease(lease)));
        errors.push(Box::new(name));
        errors.push(Box::new(lease));
        errors.push(Box::new(address));
        errors.push(Box::new(credentials));
        errors.push(Box::new(KeyError::Empty));
        errors.push(Box::new(FlagError::Unknown));
        errors.push(Box::new(DecodeError::UnknownReply));
        errors.push(Box::new(PipelineError::Decode(DecodeError::UnknownReply)));
        errors.push(Box::new(SubmitError::Full));
        errors.push(Box::new(StaleToken {
            token: 1,
            highest: 2,
        }));
        errors
    }

    #[test]
    fn error_chains_repeat_nothing() {
        for error in all() {
            let texts = chain(&*error);
            for (place, text) in texts.iter().enumerate() {
                assert!(!text.is_empty(), "{texts:?}");
                let said = texts[..place].iter().any(|before| before.contains(text));
                assert!(!said, "said twice: {texts:?}");
            }
        }
    }

    /// A new error must be added to the test above.
    #[test]
    fn every_error_type_is_tested() {
        const TESTED: &[&str] = &[
            "AddressError",
            "CredentialsError",
            "DecodeError",
            "FlagError",
            "KeyError",
            "LeaseError",
            "LockError",
            "NameError",
            "NetError",
            "PipelineError",
            "ServerError",
            "StaleToken",
            "SubmitError",
            "TicketError",
            // In src/net/tls/error.rs.
            "TlsError",
        ];
        fn search(folder: &std::path::Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    search(&path, found);
                } else {
                    let text = std::fs::read_to_string(path).expect("text");
                    let impls = text.lines().filter(|line| line.starts_with("impl"));
                    let names =
                        impls.filter_map(|line| line.split_once("Error for ")?.1.split(' ').next());
                    found.extend(names.map(|name| name.trim_end_matches('{').into()));
                }
            }
        }
        let mut found = Vec::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        search(source.as_ref(), &mut found);
        found.sort();
        assert_eq!(found, TESTED);
    }
}
