//! The blocking front, on `std::net`: the same locks without an async runtime.
//!
//! [`Client`], [`Lock`] and [`LockGuard`] have the verbs of the async ones at the crate root; each
//! call returns when it is over. All three can be shared between threads.
//!
//! ```no_run
//! use memlatch::blocking::Client;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), memlatch::LockError> {
//! let client = Client::connect("memcached://127.0.0.1:11211")?;
//! let guard = client
//!     .lock("invoices/42")
//!     .lease(Duration::from_secs(10))
//!     .acquire()?;
//! // … work, with `guard.ensure(…)?` before each step that needs the lock …
//! println!("{:?}", guard.release()?);
//! # Ok(())
//! # }
//! ```

mod acquire;
mod diagnose;
mod drive;
mod guard;
mod holding;
mod keeper;
mod lock;
mod others;
mod quiet;
mod set;
mod set_guard;
mod signal;

pub use guard::LockGuard;
pub use lock::Lock;
pub use set::LockSet;
pub use set_guard::LockSetGuard;

use crate::front::{
    Builder, Cause, Clear, ConnectionCount, Held, Holder, LockError, Queues, Seat, SettingError,
    Site, Stats, clock,
};
use crate::lock::Inspect;
use crate::net::blocking::Connection;
use crate::net::pool::Pool;
use core::fmt;
use core::time::Duration;
use drive::Bound;
use quiet::QuietRelease;
use signal::Signal;
use std::string::String;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A lock that is held, and who is to be told when it is over.
#[derive(Debug)]
struct HeldLock {
    held: Held,
    /// Something about it has changed.
    changed: Signal,
}

impl AsRef<Held> for HeldLock {
    fn as_ref(&self) -> &Held {
        &self.held
    }
}

/// A connection, and what may have been sent ahead on it.
type Link = Connection<QuietRelease>;

/// What the client, its guards and its keeper share.
#[derive(Debug)]
struct Core {
    site: Site<Pool<Seat<Link>>, HeldLock>,
    /// Those who wait for the same lock in this process.
    queues: Queues<HeldLock, Signal>,
    /// The keeper has something to do.
    wake: Signal,
    /// The keeper has done something.
    done: Signal,
    /// The client was shut down.
    closing: Signal,
}

/// The handle whose last drop lets the keeper end.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    /// Whether the keeper has been started.
    kept: Mutex<bool>,
}

impl Shared {
    /// Sees to it that there is a keeper. Not before the first lock that needs one: a program that
    /// takes none has no thread for it, and where it cannot take any, no code either.
    fn keep(&self) -> Result<(), LockError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !*kept {
            let core = Arc::clone(&self.core);
            thread::Builder::new()
                .name("memlatch-keeper".into())
                .spawn(move || keeper::run(&core))
                .map_err(|error| LockError::new(Cause::Setting(SettingError::Thread(error))))?;
            *kept = true;
        }
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.site.registry.abandon();
        self.core.wake.give();
    }
}

/// A client of one memcached server: the place where locks come from.
///
/// Cheap to clone; all clones share connections and one keeper thread (`memlatch-keeper`), which
/// renews the locks that are held and takes back what failed acquisitions may have left. The
/// thread begins with the first acquisition and ends when the last clone, [`Lock`] and [`LockGuard`] are gone and nothing is left to be
/// given back.
///
/// # Example
/// ```no_run
/// # fn main() -> Result<(), memlatch::LockError> {
/// use std::time::Duration;
///
/// let client = memlatch::blocking::Client::connect("memcached://127.0.0.1:11211")?;
/// let lock = client.lock("invoices/42").lease(Duration::from_secs(10));
/// let guard = lock.acquire()?;
/// // … work, for as long as `guard.is_valid()` …
/// println!("{:?}", guard.release()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.core().site.settings.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the
    /// feature `tls`), `unix:///path`, or `host:port`.
    ///
    /// # Errors
    /// The address cannot be used, the server cannot be reached within a second (looking up a
    /// host name may take longer), or it is no memcached server that locks can be kept on.
    pub fn connect(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build()
    }

    /// Makes a client without connecting, see [`Builder::build_lazy`].
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn connect_lazy(address: impl Into<String>) -> Result<Self, LockError> {
        Self::builder().server(address).build_lazy()
    }

    /// Starts to describe a client.
    #[must_use]
    pub fn builder() -> Builder<Self> {
        Builder::new()
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
    pub fn holder(&self, name: impl AsRef<str>) -> Result<Option<Holder>, LockError> {
        let name = name.as_ref();
        let about = |error: LockError| error.about(name);
        let core = self.core();
        let keys = core.site.keys(name)?;
        let inspected = core.drive(
            &mut Inspect::new(&keys),
            clock::now(),
            Bound::Open,
            drive::sleep,
        );
        core.site
            .inspected(inspected.map_err(about)?)
            .map_err(about)
    }

    /// Gives back every lock that is still held, and waits for that up to `limit`. Guards that are
    /// still around learn that their lock was [released](crate::LossReason::Released);
    /// acquisitions that wait for others, and later ones, fail with
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// Returns whether everything was given back, [quiet releases](LockGuard::release_quietly)
    /// included. What was not runs out with its lease, unless the keeper still reaches the server
    /// before.
    pub fn shutdown(&self, limit: Duration) -> bool {
        let core = self.core();
        let until = clock::moment().after(limit);
        for lock in core.site.registry.close() {
            lock.changed.give();
        }
        core.closing.give();
        core.queues.tell_all();
        core.wake.give();
        core.settle_quiet(until);
        let drained = loop {
            let seen = core.done.seen();
            if core.site.registry.is_drained() {
                break true;
            }
            if clock::moment() >= until {
                break false;
            }
            core.done.wait(seen, until);
        };
        core.site.connections.clear();
        drained
    }

    /// How many [quiet releases](LockGuard::release_quietly) were refused or not answered, as far
    /// as is known by now. Each is followed by a release that is waited for, in the background.
    #[must_use]
    pub fn quiet_failures(&self) -> u64 {
        self.core().site.chronicle.quiet_failures()
    }

    /// How often what has happened to this client since it was built, and what is the case now.
    /// Asks nobody.
    ///
    /// All handles of one client, and their locks, count together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core().site.stats()
    }

    /// The address of the server.
    #[must_use]
    pub fn server(&self) -> String {
        std::string::ToString::to_string(&self.core().site.settings.address)
    }

    fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }
}

/// How many idle connections are kept.
const COUNT: ConnectionCount = ConnectionCount { usual: 4, most: 64 };

impl Builder<Client> {
    /// Connects to the server.
    ///
    /// # Errors
    /// A setting cannot be used, the server cannot be reached (within
    /// [`wait_for_server`](Self::wait_for_server), if that was set), or it is no memcached server that
    /// locks can be kept on.
    pub fn build(self) -> Result<Client, LockError> {
        let client = self.build_lazy()?;
        let core = client.core();
        let until = core.site.tries_until();
        let bound = until.map_or(Bound::Open, Bound::Patience);
        loop {
            match core.open(bound) {
                Ok(checkout) => break drop(checkout),
                Err(why) => thread::sleep(core.site.pause_before_retry(why, until)?),
            }
        }
        Ok(client)
    }

    /// Makes the client without connecting: the first call that asks the server does. For programs
    /// that must start while the server is down.
    ///
    /// Until the server is there, calls fail or wait as they do while a server is away later:
    /// [`acquire`](Lock::acquire) bears with it for the lease (at least 5 s),
    /// [`try_acquire`](Lock::try_acquire) and the others fail with
    /// [`Unavailable`](crate::ErrorKind::Unavailable). What makes the server unsuitable is found by the
    /// first call, too.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn build_lazy(self) -> Result<Client, LockError> {
        let settings = self.validate(COUNT)?;
        let connections = Pool::new(settings.connections);
        let core = Arc::new(Core {
            site: Site::new(settings, connections)?,
            queues: Queues::new(),
            wake: Signal::default(),
            done: Signal::default(),
            closing: Signal::default(),
        });
        Ok(Client {
            shared: Arc::new(Shared {
                core,
                kept: Mutex::new(false),
            }),
        })
    }
}
