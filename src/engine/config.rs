//! The settings of a client.

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

/// The lease of locks that set none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of connections of an API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    pub(crate) default: usize,
    pub(crate) max: usize,
}

/// Builds a client: `Client::builder()…build()`.
///
/// `F` is the client that it builds, the async [`Client`](crate::Client) or the blocking one.
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
    /// The addresses that every host name resolves to.
    #[cfg(all(test, feature = "server"))]
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

    /// Sets the server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the feature
    /// `tls`), `unix:///path`, or `host:port`.
    ///
    /// With `memcacheds://`, the client never sends anything unencrypted. The server must have a
    /// certificate for the host named here, issued by an authority that the system trusts or by one
    /// in a [CA file](Self::tls_ca_file). The client supports TLS 1.2 and 1.3.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.servers.push(address.into());
        self
    }

    /// Sets the prefix of the keys of all locks (default `memlatch:`, at most 100 visible ASCII
    /// bytes). Clients with different prefixes do not see each other's locks.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the client's label in the records of its locks, for people who look up the holder. At
    /// most 64 bytes are kept.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the lease of locks that set none (default 10 s, from 100 ms to 30 days).
    #[must_use]
    pub fn default_lease(mut self, lease: Duration) -> Self {
        self.default_lease = lease;
        self
    }

    /// Sets the longest lease of this client (default: the default lease). A lock with a longer one
    /// is rejected.
    ///
    /// The restart guard waits for the longest lease in use under a prefix. The server stores it:
    /// each client raises it to its own when it connects, and reads it then and about every half
    /// minute while it holds or waits for locks. So give all clients of a prefix the same value: a
    /// client that has not read a longer one yet waits only for the one it knows.
    #[must_use]
    pub fn max_lease(mut self, lease: Duration) -> Self {
        self.max_lease = Some(lease);
        self
    }

    /// Sets whether the client leaves a server that was just started or flushed alone for the
    /// longest lease (default: yes).
    ///
    /// Such a server has forgotten the holders, while the holders still treat their locks as valid.
    /// Without the guard, two clients may hold the same lock until the first one's lease ends or
    /// its next renewal reports the loss. Only the fencing token then keeps them apart, and not
    /// even that after two restarts within a few seconds, because the tokens of the second instance
    /// may begin where those of the first did. With the guard, the first caller on a fresh server
    /// waits once.
    #[must_use]
    pub fn restart_guard(mut self, on: bool) -> Self {
        self.restart_guard = on;
        self
    }

    /// Sets the number of connections to the server.
    ///
    /// The async client shares them between all callers: 1 to 4, 1 by default, on which the
    /// requests of all travel together. With more, the requests about one lock still travel one
    /// after another on the same connection. The blocking client uses one for each call at a time
    /// and keeps this many idle ones for the next calls: 1 to 64, 4 by default.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = Some(count);
        self
    }

    /// Sets the time limit for connecting (default 1 s).
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets how long `build` goes on trying to reach a server that is not up yet (default: not at
    /// all, one attempt). It tries about every 100 ms, each time for up to the [connect
    /// timeout](Self::connect_timeout).
    ///
    /// A server that answers but is unsuitable is an error at once: it rejects the password, has a
    /// certificate that cannot be trusted, or is no memcached. This setting has no effect after the
    /// client is built; see [`acquire`](crate::Lock::acquire) for how long that call retries a
    /// server that does not answer.
    #[must_use]
    pub fn wait_for_server(mut self, limit: Duration) -> Self {
        self.server_wait = limit;
        self
    }

    /// Sets the time limit for one exchange with the server (default 1 s). After it, the fate of
    /// the request is unknown. The async client is exact to an eighth of it.
    #[must_use]
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// Uses this protocol, whatever the server supports. For servers behind a proxy that passes
    /// classic commands only; without this setting, the client asks the server.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Sets the user and the password for a server that requires them (`-Y`, memcached 1.5.15 and
    /// later). The client sends them first on every connection. Each has 1 to 256 bytes, without
    /// spaces and control bytes; the user has no colon in it.
    ///
    /// Neither is ever part of an error, of `Debug` or of the log. On the network they are readable
    /// unless the connection uses TLS; the client logs that as a warning if the server is not on
    /// this machine. A server that requires none receives them as well, as a value that has expired
    /// already, which no client can read.
    ///
    /// If a server does not accept them, or requires them and none are set, the error is
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

    /// Sets the authorities (CAs) that may have issued the server's certificate, as a file in PEM.
    /// They replace those that the operating system trusts.
    ///
    /// Like all files that are named here, it is read once, when the client is built. This and the
    /// other TLS settings are rejected for a server that is not at `memcacheds://`.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca_file = Some(file.into());
        self
    }

    /// Sets the certificate that identifies this client, and its private key, as files in PEM. For
    /// servers that require one (`-o ssl_verify_mode`).
    ///
    /// The first file holds the certificate, followed by those that lead to the authority that the
    /// server trusts. The key must not be encrypted.
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

    /// Sets the DNS name or IP address that the server's certificate must be for, if that is not
    /// the host of the address: in a tunnel, or with an address without a name.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// Returns the TLS settings for this server, if it uses TLS.
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

/// The checked settings of a client.
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
    /// The time limit of the wait for the first connection.
    pub(crate) server_wait: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) credentials: Option<OwnedCredentials>,
}

impl Config {
    /// Returns the first exchange on a new connection.
    ///
    /// The nonce must be drawn for this handshake.
    pub(crate) fn handshake(&self, nonce: Nonce) -> Handshake<'_> {
        let credentials = self.credentials.as_ref();
        Handshake::new(&self.namespace, self.max_lease, self.protocol, nonce)
            .authenticate(credentials.map(OwnedCredentials::as_credentials))
    }

    /// Returns the operation that reads the server's report.
    pub(crate) fn probe(&self) -> ServerProbe<'_> {
        let credentials = self.credentials.as_ref();
        ServerProbe::new(
            &self.namespace,
            credentials.map(OwnedCredentials::as_credentials),
        )
    }

    /// Returns whether everything sent to the server stays on this machine.
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

/// Returns whether everything sent to this host stays on this machine.
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
    fn unusable_settings_are_named() {
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
    fn loopback_names_are_recognized() {
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
