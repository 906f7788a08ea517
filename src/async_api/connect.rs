//! Connecting, and what a client does besides handing out locks.

use super::pool::ConnectionPool;
use super::transport::Timeout;
use super::{Client, ClientHandle, ClientInner, Lock, renewer};
use crate::engine::{
    Cause, Clear, ClientBuilder, ClientStats, ConnectionLimits, Holder, LockError, Node,
    WaitQueues, clock,
};
use crate::proto::Inspect;
use core::sync::atomic::AtomicBool;
use core::time::Duration;
use std::string::{String, ToString};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep;

impl Client {
    /// Connects to a server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the
    /// feature `tls`), `unix:///path`, or `host:port`.
    ///
    /// # Errors
    /// The address cannot be used, the server cannot be reached within a second, or it is no
    /// memcached server that locks can be kept on.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build().await
    }

    /// Makes a client without connecting, see [`ClientBuilder::build_lazy`].
    ///
    /// # Errors
    /// The address cannot be used, or there is no tokio runtime.
    pub fn connect_lazy(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build_lazy()
    }

    /// Starts to describe a client.
    #[must_use]
    pub fn builder() -> ClientBuilder<Self> {
        ClientBuilder::new()
    }

    /// The lock of this name: a cheap handle. Nothing is sent, and a name that cannot be used is
    /// reported by the first call that would send something.
    ///
    /// Names have 1 to 1024 bytes and no control characters.
    #[must_use]
    pub fn lock(&self, name: impl Into<String>) -> Lock {
        Lock::new(Arc::clone(&self.shared), &name.into())
    }

    /// Who holds the lock of this name; `None` when nobody does.
    ///
    /// The answer may be out of date when it arrives. Never decide by it what only a held lock
    /// allows.
    ///
    /// # Errors
    /// The name cannot be used, or the server does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing at the server.
    pub async fn holder(&self, name: impl AsRef<str>) -> Result<Option<Holder>, LockError> {
        let name = name.as_ref();
        let about = |error: LockError| error.about(name);
        let core = self.core();
        let keys = core.node.keys(name)?;
        let inspected = core
            .drive(
                &mut Inspect::new(&keys),
                Some(&keys),
                clock::now(),
                Timeout::Unlimited,
            )
            .await;
        core.node
            .inspected(inspected.map_err(about)?)
            .map_err(about)
    }

    /// Gives back every lock that is still held or whose guard was dropped, and waits for that up
    /// to `limit`. Guards that are still around learn that their lock was
    /// [released](crate::LossReason::Released); later acquisitions fail.
    ///
    /// Returns whether everything was given back. What was not runs out with its lease.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the keeper from giving back what is left.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        let core = self.core();
        for lock in core.node.scheduler.close() {
            lock.changed.notify_waiters();
        }
        core.closed.notify_waiters();
        core.wake.notify_one();
        let drained = async {
            loop {
                let done = core.done.notified();
                if core.node.scheduler.is_idle() {
                    return;
                }
                done.await;
            }
        };
        core.node.connections.send_quiet();
        let in_time = tokio::time::timeout(limit, drained).await.is_ok();
        core.node.connections.clear();
        in_time
    }

    /// How many [quiet releases](crate::LockGuard::release_quietly) were refused or not answered so far.
    /// Each was followed by a release that is waited for, in the background.
    #[must_use]
    pub fn quiet_failures(&self) -> u64 {
        self.core().node.telemetry.quiet_failures()
    }

    /// How often what has happened to this client since it was built, and what is the case now.
    /// Asks nobody.
    ///
    /// All handles of one client, and their locks, count together.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.core().node.stats()
    }

    /// The address of the server.
    #[must_use]
    pub fn server(&self) -> String {
        self.core().node.config.address.to_string()
    }

    fn start(core: Arc<ClientInner>, runtime: &Handle) -> Self {
        runtime.spawn(renewer::run(Arc::clone(&core)));
        Self {
            shared: Arc::new(ClientHandle { core }),
        }
    }

    pub(super) fn core(&self) -> &Arc<ClientInner> {
        &self.shared.core
    }
}

/// On one connection the requests of all callers travel together.
pub(super) const COUNT: ConnectionLimits = ConnectionLimits { default: 1, max: 4 };

/// The runtime that this is called on.
pub(super) fn runtime() -> Result<Handle, LockError> {
    Handle::try_current().map_err(|_| {
        LockError::new(Cause::Setting(
            "the async client must be built within a tokio runtime".into(),
        ))
    })
}

impl ClientBuilder<Client> {
    /// Connects to the server and starts the keeper task.
    ///
    /// # Errors
    /// A setting cannot be used, there is no tokio runtime with I/O and time, the server cannot
    /// be reached (within [`wait_for_server`](Self::wait_for_server), if that was set), or it is no
    /// memcached server that locks can be kept on.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn build(self) -> Result<Client, LockError> {
        let (core, runtime) = self.core()?;
        let until = core.node.tries_until();
        while let Err(why) = core.connect(core.node.connections.slot(None), until).await {
            sleep(core.node.pause_before_retry(why, until)?).await;
        }
        Ok(Client::start(core, &runtime))
    }

    /// Makes the client and starts the keeper task, without connecting: the first call that asks the
    /// server does. For programs that must start while the server is down.
    ///
    /// Until the server is there, calls fail or wait as they do while a server is away later:
    /// [`acquire`](crate::Lock::acquire) bears with it for the lease (at least 5 s),
    /// [`try_acquire`](crate::Lock::try_acquire) and the others fail with
    /// [`Unavailable`](crate::ErrorKind::Unavailable). What makes the server unsuitable is found by the
    /// first call, too.
    ///
    /// # Errors
    /// A setting cannot be used, or there is no tokio runtime with I/O and time.
    pub fn build_lazy(self) -> Result<Client, LockError> {
        let (core, runtime) = self.core()?;
        Ok(Client::start(core, &runtime))
    }

    fn core(self) -> Result<(Arc<ClientInner>, Handle), LockError> {
        let settings = self.validate(COUNT)?;
        let runtime = runtime()?;
        let connections = ConnectionPool::new(settings.connections);
        let core = Arc::new(ClientInner {
            node: Node::new(settings, connections)?,
            queues: WaitQueues::new(),
            wake: Notify::new(),
            done: Notify::new(),
            closed: Notify::new(),
            watch: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
        });
        Ok((core, runtime))
    }
}
