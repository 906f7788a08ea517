//! The errors of settings and names that a client cannot use.

#[cfg(feature = "tls")]
use crate::net::Address;
use crate::proto::{Lease, MAX_LEASE};
use crate::wire::CredentialsError;
use core::fmt;
use core::time::Duration;
use std::string::String;

/// The reason why a client cannot be built. Its text is made only when it is printed: a program
/// that never prints it has no code for that.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Text(&'static str),
    Servers(usize),
    MaxLease {
        longest: Lease,
        default: Lease,
    },
    Limit {
        name: &'static str,
        limit: Duration,
    },
    Connections {
        count: usize,
        most: usize,
    },
    /// The ticket of a lock has another prefix than the client.
    Prefix {
        parts: String,
        client: String,
    },
    /// A lock's lease is longer than the longest lease of its client.
    LeaseOverMax {
        lease: Lease,
        longest: Lease,
    },
    /// `min_hold` is longer than any lease.
    MinHold {
        length: Duration,
    },
    Credentials(CredentialsError),
    /// A TLS setting cannot be used.
    #[cfg(feature = "tls")]
    Tls(String),
    /// There are TLS settings, and the address is without TLS.
    #[cfg(feature = "tls")]
    TlsWithout(Address),
    /// The system has no random numbers.
    Random(getrandom::Error),
    /// The system has no thread left.
    #[cfg(feature = "blocking")]
    Thread(std::io::Error),
}

impl From<&'static str> for ConfigError {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Servers(count) => {
                write!(f, "{count} servers are named; one is supported")
            }
            Self::MaxLease { longest, default } => write!(
                f,
                "the longest lease ({:?}) is shorter than the default lease ({:?})",
                longest.duration(),
                default.duration()
            ),
            Self::Limit { name, limit } => write!(
                f,
                "{name} is {limit:?}; it must be more than 0 and at most 30 days"
            ),
            Self::Connections { count, most } => {
                write!(f, "connections is {count}; it must be from 1 to {most}")
            }
            Self::Prefix { parts, client } => write!(
                f,
                "the lock is held under the prefix `{parts}`, and this client has `{client}`; build \
                 one with the same prefix"
            ),
            Self::LeaseOverMax { lease, longest } => write!(
                f,
                "the lease of {:?} is longer than the longest one of this client ({:?}); build all \
                 clients of the prefix with max_lease({:?}) or more",
                lease.duration(),
                longest.duration(),
                lease.duration()
            ),
            Self::MinHold { length } => write!(
                f,
                "min_hold is {} s; it must be at most 30 days ({} s), as leases must",
                length.as_secs(),
                MAX_LEASE.as_secs()
            ),
            Self::Credentials(error) => write!(
                f,
                "{error}; each must have 1 to 256 bytes, without spaces and control bytes, and the \
                 user without a colon"
            ),
            #[cfg(feature = "tls")]
            Self::Tls(why) => f.write_str(why),
            #[cfg(feature = "tls")]
            Self::TlsWithout(plain) => write!(
                f,
                "there are config for TLS, but `{plain}` is spoken to without; write \
                 memcacheds://host:port, or leave them out"
            ),
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
            #[cfg(feature = "blocking")]
            Self::Thread(error) => {
                write!(f, "the thread of the renewer cannot be started: {error}")
            }
        }
    }
}

/// The maximum number of locks in a multi-lock. They are acquired one after another, with at least
/// a round trip each; a program that needs more should use one lock for all of them.
pub(crate) const MAX_NAMES: usize = 64;

/// The reason why locks cannot be acquired together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MultiLockError {
    Empty,
    TooMany,
    /// A name occurs twice.
    Twice,
}

impl fmt::Display for MultiLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "no lock is named of those to be taken together; name 1 to {MAX_NAMES}"
            ),
            Self::TooMany => write!(
                f,
                "too many locks are named to be taken together; at most {MAX_NAMES} are allowed"
            ),
            Self::Twice => f.write_str(
                "named twice among the locks to be taken together; name it once, because a lock \
                 that is held already would be waited for",
            ),
        }
    }
}
