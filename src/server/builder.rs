//! Settings and start of a server.

use super::Server;
use super::clock::ClockStart;
use super::connections::Connections;
use super::item::Second;
use super::listener;
use super::settings::ServerConfig;
use super::shared::Shared;
use super::stream::Listener;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

/// The time for which a server appears to have run when it starts: longer than any lease can be (30
/// days).
const DEFAULT_UPTIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Settings for a [`Server`]; each names the option of `memcached` that it stands for.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct ServerBuilder {
    settings: ServerConfig,
    listen: SocketAddr,
    unix_socket: Option<PathBuf>,
    allow_remote: bool,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: ServerConfig {
                memory_limit: 64 * 1024 * 1024,
                evictions: true,
                cas: true,
                flush_enabled: true,
                shutdown_command: false,
                watch_enabled: true,
                dump_enabled: true,
                max_connections: 1024,
                max_item_size: 1024 * 1024,
                temporary_ttl: None,
                idle_timeout: None,
                auth: Vec::new(),
                clock: ClockStart {
                    age: DEFAULT_UPTIME,
                    ticks: true,
                },
            },
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            unix_socket: None,
            allow_remote: false,
        }
    }

    /// Listens on this address (`-l`, `-p`). Port 0, the default, takes a free one.
    ///
    /// Only loopback addresses are accepted unless [`allow_remote`](Self::allow_remote) is set.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// Listens on a Unix socket at `path` and on no port (`-s`).
    ///
    /// A socket that a server left behind there is replaced; one that is in use is not. The file
    /// is removed when the server is dropped.
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl AsRef<Path>) -> Self {
        self.unix_socket = Some(path.as_ref().to_path_buf());
        self
    }

    /// Lets [`listen`](Self::listen) take addresses that other machines can reach.
    ///
    /// This server is made for tests. Nothing in it has been hardened against strangers.
    pub fn allow_remote(mut self, allow: bool) -> Self {
        self.allow_remote = allow;
        self
    }

    /// Sets the number of bytes that all items may take together (`-m`, there in MiB). 64 MiB by
    /// default.
    ///
    /// As in memcached memory is in pages of 1 MiB, each for items of about one size, and every
    /// size gets one page whatever the limit. Below 1 MiB the pages are as small as the limit.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.settings.memory_limit = bytes;
        self
    }

    /// Sets whether old items make way for new ones when memory is short. `false` is `-M`: the new
    /// item is refused.
    pub fn evictions(mut self, evictions: bool) -> Self {
        self.settings.evictions = evictions;
        self
    }

    /// Sets whether items have CAS uniques. `false` is `-C`; locks are impossible then.
    pub fn cas(mut self, cas: bool) -> Self {
        self.settings.cas = cas;
        self
    }

    /// Sets whether `flush_all` is obeyed. `false` is `-F`.
    pub fn flush_enabled(mut self, enabled: bool) -> Self {
        self.settings.flush_enabled = enabled;
        self
    }

    /// Sets whether `shutdown` is obeyed (`-A`). Not by default.
    pub fn shutdown_command(mut self, enabled: bool) -> Self {
        self.settings.shutdown_command = enabled;
        self
    }

    /// Sets whether `watch` is obeyed. `false` is `-W`.
    pub fn watch_enabled(mut self, enabled: bool) -> Self {
        self.settings.watch_enabled = enabled;
        self
    }

    /// Sets whether `lru_crawler metadump`, `mgdump` and `stats cachedump` are obeyed. `false` is
    /// `-X`.
    pub fn dump_enabled(mut self, enabled: bool) -> Self {
        self.settings.dump_enabled = enabled;
        self
    }

    /// Sets the number of connections that are served at once (`-c`). 1024 by default; each has a
    /// thread.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections;
        self
    }

    /// The most memory one item may take, key and header included (`-I`). 1 MiB by default.
    pub fn max_item_size(mut self, bytes: usize) -> Self {
        self.settings.max_item_size = bytes;
        self
    }

    /// Never evicts items that are stored with at most this much time to live
    /// (`-o temporary_ttl`). As in memcached this holds for items that were stored, not for those
    /// that `mg` or `ma` created on a miss.
    pub fn temporary_ttl(mut self, ttl: Duration) -> Self {
        self.settings.temporary_ttl = Some(Second::try_from(ttl.as_secs()).unwrap_or(Second::MAX));
        self
    }

    /// Ends connections on a port that ask for nothing for longer than this
    /// (`-o idle_timeout`), within a second. Watchers are exempt, and so are Unix sockets. Zero,
    /// the default, is for ever.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.idle_timeout = Some(limit).filter(|limit| !limit.is_zero());
        self
    }

    /// Serves only clients that authenticate with one of these pairs of user and password (`-Y`).
    pub fn auth<U: Into<String>, P: Into<String>>(
        mut self,
        accounts: impl IntoIterator<Item = (U, P)>,
    ) -> Self {
        let accounts = accounts.into_iter();
        self.settings.auth = accounts
            .map(|(user, password)| (user.into(), password.into()))
            .collect();
        self
    }

    /// Sets the time for which the server appears to have run when it starts. 365 days by default,
    /// which is longer than any lease.
    ///
    /// A server that was started, or was restarted, less than a lease ago may have forgotten a
    /// lock that its holder still counts on. So clients wait before they grant a first lock on
    /// it. In a test nothing was forgotten, and the default spares the wait. With
    /// `Duration::ZERO` the server is what a memcached is in the second of its start.
    /// [`Server::restart`] always leaves a server that was just started.
    pub fn uptime(mut self, uptime: Duration) -> Self {
        self.settings.clock.age = uptime;
        self
    }

    /// Stops the server's clock: only [`Server::advance_clock`] moves it.
    ///
    /// For tests that need to know the second in which each request is carried out.
    pub fn manual_clock(mut self) -> Self {
        self.settings.clock.ticks = false;
        self
    }

    #[cfg(feature = "__fuzzing")]
    pub(super) fn into_settings(self) -> ServerConfig {
        self.settings
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When the address is not this machine's alone and that was not asked for, or cannot be
    /// listened on, or no thread can be made.
    pub fn start(self) -> io::Result<Server> {
        let (listener, registry, url) = match self.unix_socket.as_deref() {
            Some(path) => listen_unix(path)?,
            None => listen_tcp(self.listen, self.allow_remote)?,
        };
        let registry = Arc::new(registry);
        let shared = Arc::new(Shared::new(Arc::new(self.settings), registry));
        let theirs = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("memlatch-accept".into())
            .spawn(move || listener::run(&theirs, &listener))?;
        Ok(Server {
            shared,
            acceptor: Some(acceptor),
            url,
        })
    }
}

fn listen_tcp(addr: SocketAddr, allow_remote: bool) -> io::Result<(Listener, Connections, String)> {
    if !addr.ip().is_loopback() && !allow_remote {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{addr} is reachable from other machines and the embedded server is made for \
                 tests; allow_remote(true) permits it"
            ),
        ));
    }
    let listener = TcpListener::bind(addr)?;
    let addr = listener.local_addr()?;
    let url = format!("memcached://{addr}");
    Ok((
        Listener::Tcp(listener),
        Connections::new(Some(addr), None),
        url,
    ))
}

#[cfg(unix)]
fn listen_unix(path: &Path) -> io::Result<(Listener, Connections, String)> {
    let text = path.to_str().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of the socket is not UTF-8",
        )
    })?;
    // The socket file of a killed server still exists and refuses every connection.
    let refused = UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if refused {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let url = format!("unix://{text}");
    let registry = Connections::new(None, Some(text.into()));
    Ok((Listener::Unix(listener), registry, url))
}

#[cfg(not(unix))]
fn listen_unix(_: &Path) -> io::Result<(Listener, Connections, String)> {
    Err(io::ErrorKind::Unsupported.into())
}
