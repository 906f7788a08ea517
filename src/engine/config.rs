//! What a client is told when it is built.

use super::config_error::ConfigError;
use super::error::{Cause, LockError};
use super::events;
use crate::net::Address;
use crate::net::connect::ConnectOptions;
#[cfg(feature = "tls")]
use crate::net::tls::{Tls, TlsOptions};
use crate::proto::{
    DEFAULT_PREFIX, Handshake, Lease, MAX_LEASE, Namespace, Nonce, Owner, Protocol, ServerProbe,
};
use crate::wire::{CredentialsError, OwnedCredentials};
use core::marker::PhantomData;
use core::net::IpAddr;
use core::time::Duration;
use std::borrow::ToOwned;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

/// The lease of locks that name none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections a front makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    pub(crate) default: usize,
    pub(crate) max: usize,
}

/// Builds a client: `Client::builder()…build()`.
///
/// `F` is the client that comes of it, the async [`Client`](crate::Client) or the blocking one.
///
/// # Example
/// ```
/// # #[cfg(all(feature = "tokio", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// use std::time::Duration;
///
/// # let address = server.address();
/// let client = memlatch::Client::builder()
///     .server(address)
///     .prefix("billing:")
///     .label("invoice-writer")
///     .default_lease(Duration::from_secs(5))
///     .max_lease(Duration::from_secs(30))
///     .wait_for_server(Duration::from_secs(10))
///     .build()
///     .await?;
/// let guard = client.lock("invoices/42").acquire().await?;
/// assert_eq!(guard.label(), "invoice-writer");
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "tokio", feature = "server")))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder<F> {
    servers: Vec<String>,
    prefix: String,
    label: String,
    default_lease: Duration,
    max_lease: Option<Duration>,
    restart_guard: bool,
    connections: Option<usize>,
    connect_timeout: Duration,
    server_wait: Duration,
    operation_timeout: Duration,
    protocol: Option<Protocol>,
    credentials: Option<Result<OwnedCredentials, CredentialsError>>,
    #[cfg(feature = "tls")]
    tls: TlsOptions,
    #[cfg(test)]
    names: Option<crate::net::connect::Names>,
    front: PhantomData<fn() -> F>,
}

impl<F> ClientBuilder<F> {
    /// The addresses that every name leads to.
    #[cfg(test)]
    pub(crate) fn names(mut self, names: &crate::net::connect::Names) -> Self {
        self.names = Some(std::sync::Arc::clone(names));
        self
    }

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
            server_wait: Duration::ZERO,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            protocol: None,
            credentials: None,
            #[cfg(feature = "tls")]
            tls: TlsOptions::default(),
            #[cfg(test)]
            names: None,
            front: PhantomData,
        }
    }

    /// The server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the feature
    /// `tls`), `unix:///path`, or `host:port`.
    ///
    /// With `memcacheds://`, nothing ever goes out unencrypted, and the server must have a
    /// certificate for the host that is named here, by one of the authorities that the system
    /// trusts or of those in a [CA file](Self::tls_ca_file). TLS 1.2 and 1.3 are spoken.
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

    /// The longest lease that this client takes (default: the default lease). A lock with a longer
    /// one is refused.
    ///
    /// The longest lease in use under a prefix is what the restart guard waits for. It stands at the
    /// server: each client raises it to its own when it connects, and reads it then and about every half
    /// minute while it holds locks or waits for some. So give all clients of a prefix the same: those
    /// who have not learnt of a longer one wait for as long as they know of.
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
    /// its next renewal tells it; only the fencing token then keeps them apart, and not even that
    /// behind two restarts within a few seconds, for the tokens of the second run may begin where
    /// those of the first did. With it, the first caller on a fresh server waits once.
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

    /// For how long `build` goes on trying to reach a server that is not up yet (default: not at all,
    /// one attempt). It tries about every 100 ms, each time for up to the
    /// [connect timeout](Self::connect_timeout).
    ///
    /// A server that answers and is of no use is an error at once: one that refuses the password, shows a
    /// certificate that cannot be trusted, or is no memcached. Once a client is built, this plays no
    /// part; [`acquire`](crate::Lock::acquire) says for how long it bears with a server that does not
    /// answer.
    #[must_use]
    pub fn wait_for_server(mut self, limit: Duration) -> Self {
        self.server_wait = limit;
        self
    }

    /// How long one exchange with the server may take (default 1 s). When it is over, the fate
    /// of the request is unknown. The async client keeps to it within an eighth.
    #[must_use]
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// Speaks this protocol whatever the server knows. For servers behind a proxy that passes
    /// classic commands only; others are asked what they know.
    #[must_use]
    pub fn dialect(mut self, dialect: Protocol) -> Self {
        self.protocol = Some(dialect);
        self
    }

    /// The user and the password for a server that wants them (`-Y`, memcached 1.5.15 and later).
    /// They are sent first on every connection. Each has 1 to 256 bytes, none of them a space or a
    /// control byte; the user has no colon in it.
    ///
    /// Neither is ever part of an error, of `Debug` or of what is logged. On the wire they are
    /// readable to whoever listens, unless the connection is by TLS; that is logged as a warning where
    /// the server is not on this machine. A server that wants none is
    /// sent them as well, as a value that has expired already, which nobody can read.
    ///
    /// A server that does not accept them, or wants some where none are given, is told by
    /// [`ErrorKind::Authentication`](crate::ErrorKind::Authentication).
    #[must_use]
    pub fn auth(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        let (user, password) = (user.into(), password.into());
        self.credentials = Some(OwnedCredentials::new(
            user.into_bytes(),
            password.into_bytes(),
        ));
        self
    }

    /// The authorities (CAs) that the server's certificate may come from, as a file in PEM. They
    /// stand in place of those that the operating system trusts.
    ///
    /// Like all files that are named here, it is read once, when the client is built. This and
    /// the other settings for TLS are refused for a server that is not at `memcacheds://`.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca_file = Some(file.into());
        self
    }

    /// The certificate by which this client shows who it is, and its private key, as files in
    /// PEM. For servers that want one (`-o ssl_verify_mode`).
    ///
    /// The first file holds the certificate, and behind it those that lead to the authority that
    /// the server trusts. The key must not be encrypted.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls_client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// The DNS name or IP address that the server's certificate must be for, where that is not
    /// the host that is connected to: in a tunnel, or by an address without a name.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// How TLS is spoken with this server, if it is.
    #[cfg(feature = "tls")]
    fn tls(&self, address: &Address) -> Result<Option<Tls>, LockError> {
        let setting = |error| LockError::new(Cause::Setting(error));
        match address {
            Address::Tls { host, .. } => Tls::new(&self.tls, host)
                .map(Some)
                .map_err(|why| setting(ConfigError::Tls(why))),
            _ if self.tls == TlsOptions::default() => Ok(None),
            plain => Err(setting(ConfigError::TlsWithout(plain.clone()))),
        }
    }

    pub(crate) fn validate(self, connections: ConnectionLimits) -> Result<Config, LockError> {
        let setting = |error: ConfigError| LockError::new(Cause::Setting(error));
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
                return Err(setting(ConfigError::Servers(many.len())));
            }
        };
        let lease = |lease| Lease::new(lease).map_err(|e| LockError::new(Cause::Lease(e)));
        #[cfg(seeded_bugs)]
        let lease = |wished: Duration| {
            lease(crate::seeded::Bug::LongLeaseAccepted.choose(wished.min(MAX_LEASE), wished))
        };
        let default_lease = lease(self.default_lease)?;
        let max_lease = match self.max_lease {
            Some(longest) => lease(longest)?,
            None => default_lease,
        };
        if max_lease < default_lease {
            return Err(setting(ConfigError::MaxLease {
                longest: max_lease,
                default: default_lease,
            }));
        }
        for (name, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
        ] {
            if limit.is_zero() || limit > MAX_LEASE {
                return Err(setting(ConfigError::Limit { name, limit }));
            }
        }
        let count = self.connections.unwrap_or(connections.default);
        if count == 0 || count > connections.max {
            let most = connections.max;
            return Err(setting(ConfigError::Connections { count, most }));
        }
        let dialing = ConnectOptions::new(self.operation_timeout, self.default_lease);
        #[cfg(feature = "tls")]
        let dialing = ConnectOptions {
            tls: self.tls(&address)?,
            ..dialing
        };
        #[cfg(test)]
        let dialing = ConnectOptions {
            names: self.names,
            ..dialing
        };
        let credentials = self.credentials.transpose();
        let credentials = credentials.map_err(|error| setting(ConfigError::Credentials(error)))?;
        if let (Address::Tcp { host, .. }, Some(_)) = (&address, &credentials) {
            if !is_here(host) {
                events::plaintext_password(&address);
            }
        }
        let namespace =
            Namespace::new(&self.prefix).map_err(|error| LockError::new(Cause::Name(error)))?;
        Ok(Config {
            address,
            connect_options: dialing,
            namespace,
            owner: Owner::new(&host_name(), std::process::id(), &self.label),
            default_lease,
            max_lease,
            restart_guard: self.restart_guard,
            connections: count,
            connect_timeout: self.connect_timeout,
            server_wait: self.server_wait,
            operation_timeout: self.operation_timeout,
            protocol: self.protocol,
            credentials,
        })
    }
}

/// What a client was told, checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) address: Address,
    pub(crate) connect_options: ConnectOptions,
    pub(crate) namespace: Namespace,
    pub(crate) owner: Owner,
    pub(crate) default_lease: Lease,
    pub(crate) max_lease: Lease,
    pub(crate) restart_guard: bool,
    pub(crate) connections: usize,
    pub(crate) connect_timeout: Duration,
    /// How long the first connection may be waited for.
    pub(crate) server_wait: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) credentials: Option<OwnedCredentials>,
}

impl Config {
    /// The first exchange on a new connection.
    ///
    /// The nonce must be drawn for this one.
    pub(crate) fn handshake(&self, nonce: Nonce) -> Handshake<'_> {
        let credentials = self.credentials.as_ref();
        Handshake::new(&self.namespace, self.max_lease, self.protocol, nonce)
            .authenticate(credentials.map(OwnedCredentials::as_credentials))
    }

    /// What asks the server about itself.
    pub(crate) fn probe(&self) -> ServerProbe<'_> {
        let credentials = self.credentials.as_ref();
        ServerProbe::new(
            &self.namespace,
            credentials.map(OwnedCredentials::as_credentials),
        )
    }

    /// Whether what is sent to the server stays on this machine.
    pub(crate) fn is_local(&self) -> bool {
        match &self.address {
            Address::Tcp { host, .. } | Address::Tls { host, .. } => is_here(host),
            Address::Unix(_) => true,
        }
    }

    pub(crate) fn owner_labelled(&self, label: &str) -> Owner {
        Owner::new(&host_name(), std::process::id(), label)
    }
}

/// Whether what is sent there stays on this machine.
fn is_here(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
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

    fn builder() -> ClientBuilder<()> {
        ClientBuilder::new().server("localhost")
    }

    const MANY: ConnectionLimits = ConnectionLimits { default: 1, max: 4 };

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let second = Duration::from_secs(1);
        for (builder, part) in [
            (ClientBuilder::new(), "no server is named"),
            (builder().server("b"), "2 servers"),
            (ClientBuilder::new().server("x://y"), "no server address"),
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
            (builder().auth("user", "pass word"), "spaces"),
            (builder().auth("us:er", "password"), "colon"),
            (builder().auth("user", ""), "empty"),
        ] {
            let error = builder.validate(MANY).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(builder().validate(MANY).is_ok());
    }

    #[test]
    fn this_machine_has_several_names() {
        for (host, here) in [
            ("localhost", true),
            ("127.0.0.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("cache.example", false),
        ] {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
