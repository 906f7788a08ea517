//! The lock of one name, not held.

use super::Connections;
use super::guard::LockGuard;
use crate::engine::client::ClientHandle;
use crate::engine::transport::run;
use crate::engine::{LockError, LockOptions};
use core::fmt;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;

/// The lock of one name: a handle that knows how to acquire it.
///
/// Made by [`Client::lock`](super::Client::lock); cheap to clone and to keep. Two handles of one
/// name are contenders like any others.
///
/// # Not reentrant
///
/// A thread that acquires a lock it holds already waits for itself. A lock that let it in again would
/// have to know by something else than its guard who asks: a thread is no holder, for work moves from
/// one to another, and the counter of how often it was taken would be one more thing that a loss, an
/// error or a cancelled future can leave wrong. So the guard is the proof of holding: a function that
/// needs the lock takes the guard, and asks it before each step; where several go on together, they
/// share it.
///
/// ```no_run
/// use memlatch::blocking::LockGuard;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// fn book(held: &LockGuard, amount: u64) -> Result<(), memlatch::LockError> {
///     // Called by whoever holds the lock, and never by anybody else.
///     held.ensure(Duration::from_secs(1))?;
///     // … with `held.fencing_token()`
///     # let _ = amount;
///     Ok(())
/// }
///
/// # fn main() -> Result<(), memlatch::LockError> {
/// # let client = memlatch::blocking::Client::connect("memcached://127.0.0.1:11211")?;
/// let held = Arc::new(client.lock("invoices/42").acquire()?);
/// book(&held, 1)?;
/// let shared = Arc::clone(&held);
/// let other = std::thread::spawn(move || book(&shared, 2));
/// other.join().expect("no panic")?;
/// // The last one gives it back.
/// if let Some(held) = Arc::into_inner(held) {
///     let _ = held.release()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    shared: Arc<ClientHandle<Connections>>,
    pub(super) options: LockOptions,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.options.name)
            .field("lease", &self.options.lease)
            .field("fencing", &self.options.fencing)
            .field("lean", &self.options.without_record)
            .finish_non_exhaustive()
    }
}

impl Lock {
    pub(super) fn new(shared: Arc<ClientHandle<Connections>>, name: &str) -> Self {
        let wish = LockOptions::new(name, &shared.inner.node.config.namespace);
        Self {
            shared,
            options: wish,
        }
    }

    /// How long the lock outlives a holder that dies (default: the client's, 10 s unless told
    /// otherwise). While the holder lives, its keeper renews the lease every third of it.
    ///
    /// From 100 ms to 30 days; anything else is reported by the first call that would acquire.
    /// Who waits takes the lock over as soon as it has seen the record unchanged for this long, and
    /// 2 % of it; who comes later and does not wait finds it taken for up to 5 s more, because
    /// memcached counts whole seconds.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = Some(lease);
        self
    }

    /// For how long at most the lock is held (default: for ever): however often it is renewed, it
    /// is over so long after the request for it was sent. Against programs that hang and hold it all
    /// the while.
    ///
    /// No guard [remains](LockGuard::remaining) valid beyond that. At that instant
    /// [`lost`](LockGuard::lost) says [`Expired`](crate::LossReason::Expired), and the keeper releases the
    /// lock, so that others need not wait for the end of its lease.
    ///
    /// It may be shorter than the lease. 0 is refused by whatever would acquire.
    #[must_use]
    pub fn max_hold(mut self, limit: Duration) -> Self {
        self.options.max_hold = Some(limit);
        self
    }

    /// For how long the name stays taken at least, though the lock is released earlier (default: not
    /// at all): for jobs that every machine starts at the same time of day, so that one which is
    /// done before another machine's clock gets there is not done twice. Choose more than the clocks
    /// differ by.
    ///
    /// It counts from when the lock is acquired. On a release, a drop or a quiet release before that,
    /// the holder is done with the lock as always; what is left at the server says for how much
    /// longer the name is taken, and goes by itself: at the latest 5 s after that, because memcached
    /// counts whole seconds (later by 1 % of minutes). Of a holder that dies, only the
    /// [lease](Self::lease) stays. A server that is restarted or flushed forgets it.
    ///
    /// At most 30 days, and not together with [`lean`](Self::without_record): either is refused by whatever
    /// would acquire. A release needs a little memory of the server for it, and fails where there is
    /// none (`-M`).
    #[must_use]
    pub fn min_hold(mut self, length: Duration) -> Self {
        self.options.min_hold = Some(length);
        self
    }

    /// What the holder is called in the record, for people (default: the client's label). At most
    /// 64 bytes are kept.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        let settings = &self.shared.inner.node.config;
        self.options.owner = Some(settings.owner_labelled(&label.into()));
        self
    }

    /// Whether a fencing token is drawn with each acquisition (default yes). It costs no round
    /// trip, a line each way.
    #[must_use]
    pub fn fencing(mut self, on: bool) -> Self {
        self.options.fencing = on;
        self
    }

    /// Without a record of the holder, without a fencing token and without the restart guard: the
    /// least that a lock can be, for those to whom the last microsecond counts. One line each way
    /// to acquire it and one to release it.
    ///
    /// It excludes ordinary holders of the same name, and they it. What it gives up:
    ///
    /// - [`fencing_token`](LockGuard::fencing_token) is `None`, so a holder that is late cannot be
    ///   told from the one after it;
    /// - on a server that was restarted or flushed, two can hold it until the first one's next
    ///   renewal, or the end of its lease;
    /// - nobody can see who holds it, only that somebody does;
    /// - the server's `temporary_ttl` does not protect it from eviction, only room or `-M` does:
    ///   memcached decides at the creation of an item, and this kind is created without an expiry.
    ///
    /// The lease must be at least 2 s. Servers before memcached 1.6.27 cannot do it; there the lock
    /// is held with a record, everything else being the same.
    #[must_use]
    pub fn without_record(mut self) -> Self {
        self.options.without_record = true;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Acquires the lock, waiting for as long as others hold it. A
    /// [shutdown](super::Client::shutdown) of the client ends the wait.
    ///
    /// # Errors
    /// The name or the lease cannot be used, the client was shut down, the system has no thread to
    /// spare for the keeper, or the server does not answer for longer than the lease (at least
    /// 5 s). [`is_unknown`](LockError::is_unknown)
    /// tells that a request was sent whose fate is not known; the keeper takes back what it may
    /// have left.
    pub fn acquire(&self) -> Result<LockGuard, LockError> {
        let acquired = self.shared.acquire(&self.options);
        run(acquired).map(LockGuard::from)
    }

    /// Acquires the lock if nobody holds it: `None` if somebody does, or if others in this process
    /// wait for it already. Where the server is silent, it takes up to two operation timeouts, and
    /// the time to connect.
    ///
    /// A server that does not answer is given up after about two operation timeouts (of 1 s,
    /// unless told otherwise).
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and at once when the server was started or flushed too
    /// recently ([`ErrorKind::RestartGuard`](crate::ErrorKind::RestartGuard)).
    pub fn try_acquire(&self) -> Result<Option<LockGuard>, LockError> {
        let acquired = self.shared.try_acquire(&self.options);
        Ok(run(acquired)?.map(LockGuard::from))
    }

    /// Acquires the lock, waiting at most `limit` for others, and one round trip more. However slowly
    /// the server answers, it ends within `limit` and one
    /// [operation timeout](crate::ClientBuilder::operation_timeout), and the time to look up a
    /// host name.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`is_timeout`](LockError::is_timeout) when others held the
    /// lock all the time.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<LockGuard, LockError> {
        let acquired = self.shared.acquire_timeout(&self.options, limit);
        run(acquired).map(LockGuard::from)
    }
}
