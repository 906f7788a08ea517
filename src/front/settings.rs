//! What a client is told when it is built.

use super::error::{Cause, LockError};
use crate::lock::{DEFAULT_PREFIX, Dialect, Lease, MAX_LEASE, Namespace, Owner};
use crate::net::Address;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

/// The lease of locks that name none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections a front makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionCount {
    pub(crate) usual: usize,
    pub(crate) most: usize,
}

/// Builds a client: `Client::builder()…build()`.
///
/// `F` is the client that comes of it, the async [`Client`](crate::Client) or the blocking one.
#[derive(Debug, Clone)]
pub struct Builder<F> {
    servers: Vec<String>,
    prefix: String,
    label: String,
    default_lease: Duration,
    max_lease: Option<Duration>,
    restart_guard: bool,
    connections: Option<usize>,
    connect_timeout: Duration,
    operation_timeout: Duration,
    dialect: Option<Dialect>,
    front: PhantomData<fn() -> F>,
}

impl<F> Builder<F> {
    pub(crate) fn new() -> Self {
        Self {
            servers: Vec::new(),
            prefix: DEFAULT_PREFIX.to_owned(),
            label: String::new(),
            default_lease: DEFAULT_LEASE,
            max_lease: None,
            restart_guard: true,
            connections: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            dialect: None,
            front: PhantomData,
        }
    }

    /// The server: `memcached://host:port`, `unix:///path`, or `host:port`.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.servers.push(address.into());
        self
    }

    /// What the keys of all locks start with (default `memlatch:`, at most 100 visible ASCII
    /// bytes). Clients with different prefixes do not see each other's locks.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What this client calls itself in the records of its locks, for people who ask who holds
    /// one. At most 64 bytes are kept.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The lease of locks that name none (default 10 s, from 100 ms to 30 days).
    #[must_use]
    pub fn default_lease(mut self, lease: Duration) -> Self {
        self.default_lease = lease;
        self
    }

    /// The longest lease that any client takes under this prefix (default: the default lease).
    ///
    /// It is what the restart guard waits for, so give all clients of a prefix the same: a client
    /// that does not know of another's longer lease does not wait for its end.
    #[must_use]
    pub fn max_lease(mut self, lease: Duration) -> Self {
        self.max_lease = Some(lease);
        self
    }

    /// Whether a server that was just started or flushed is left alone for the longest lease
    /// (default yes).
    ///
    /// Such a server has forgotten who holds what, while the holders still believe in their
    /// locks. Without the guard, two may hold the same lock until the first one's lease ends or
    /// its next renewal tells it; only the fencing token then keeps them apart. With it, the first
    /// caller on a fresh server waits once.
    #[must_use]
    pub fn restart_guard(mut self, on: bool) -> Self {
        self.restart_guard = on;
        self
    }

    /// How many connections there are to a server.
    ///
    /// The async client shares them between all callers: 1 to 4, 1 by default, on which the requests
    /// of all travel together. With more, those about one lock still travel behind each other. The
    /// blocking client uses one for each call at a time and keeps so many idle ones for the next
    /// calls: 1 to 64, 4 by default.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = Some(count);
        self
    }

    /// How long connecting may take (default 1 s).
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long one exchange with the server may take (default 1 s). When it is over, the fate
    /// of the request is unknown.
    #[must_use]
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// Speaks this protocol whatever the server knows. For servers behind a proxy that passes
    /// classic commands only; others are asked what they know.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    pub(crate) fn validate(self, connections: ConnectionCount) -> Result<Settings, LockError> {
        let setting = |error: SettingError| LockError::new(Cause::Setting(error));
        let address = match &self.servers[..] {
            [one] => one
                .parse::<Address>()
                .map_err(|error| LockError::new(Cause::Address(error)))?,
            [] => {
                return Err(setting(
                    "no server is named; call `server(\"memcached://host:port\")`".into(),
                ));
            }
            many => {
                return Err(setting(SettingError::Servers(many.len())));
            }
        };
        let lease = |lease| Lease::new(lease).map_err(|e| LockError::new(Cause::Lease(e)));
        let default_lease = lease(self.default_lease)?;
        let max_lease = match self.max_lease {
            Some(longest) => lease(longest)?,
            None => default_lease,
        };
        if max_lease < default_lease {
            return Err(setting(SettingError::MaxLease {
                longest: max_lease,
                default: default_lease,
            }));
        }
        for (name, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
        ] {
            if limit.is_zero() || limit > MAX_LEASE {
                return Err(setting(SettingError::Limit { name, limit }));
            }
        }
        let count = self.connections.unwrap_or(connections.usual);
        if count == 0 || count > connections.most {
            let most = connections.most;
            return Err(setting(SettingError::Connections { count, most }));
        }
        let namespace =
            Namespace::new(&self.prefix).map_err(|error| LockError::new(Cause::Name(error)))?;
        Ok(Settings {
            address,
            namespace,
            owner: Owner::new(&host_name(), std::process::id(), &self.label),
            default_lease,
            max_lease,
            restart_guard: self.restart_guard,
            connections: count,
            connect_timeout: self.connect_timeout,
            operation_timeout: self.operation_timeout,
            dialect: self.dialect,
        })
    }
}

/// What a client cannot be built with. Put into words when somebody reads it, and not before: a
/// program that never does has no code for it.
#[derive(Debug)]
pub(crate) enum SettingError {
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
    /// The system gives no random numbers.
    Random(getrandom::Error),
    /// The system has no thread to spare.
    #[cfg(feature = "blocking")]
    Thread(std::io::Error),
}

impl From<&'static str> for SettingError {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl fmt::Display for SettingError {
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
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
            #[cfg(feature = "blocking")]
            Self::Thread(error) => write!(f, "the keeper thread cannot be started: {error}"),
        }
    }
}

/// What a client was told, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) namespace: Namespace,
    pub(crate) owner: Owner,
    pub(crate) default_lease: Lease,
    pub(crate) max_lease: Lease,
    pub(crate) restart_guard: bool,
    pub(crate) connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) dialect: Option<Dialect>,
}

impl Settings {
    pub(crate) fn owner_labelled(&self, label: &str) -> Owner {
        Owner::new(&host_name(), std::process::id(), label)
    }
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn builder() -> Builder<()> {
        Builder::new().server("localhost")
    }

    const MANY: ConnectionCount = ConnectionCount { usual: 1, most: 4 };

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let second = Duration::from_secs(1);
        for (builder, part) in [
            (Builder::new(), "no server is named"),
            (builder().server("b"), "2 servers"),
            (Builder::new().server("x://y"), "no server address"),
            (builder().default_lease(Duration::ZERO), "too short"),
            (builder().max_lease(second), "shorter than the default"),
            (builder().max_lease(MAX_LEASE * 2), "too long"),
            (builder().connections(0), "from 1 to 4"),
            (builder().connections(5), "from 1 to 4"),
            (
                builder().operation_timeout(Duration::ZERO),
                "operation_timeout",
            ),
            (builder().connect_timeout(Duration::MAX), "connect_timeout"),
            (builder().prefix("a b"), "prefix"),
        ] {
            let error = builder.validate(MANY).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(builder().validate(MANY).is_ok());
    }
}
