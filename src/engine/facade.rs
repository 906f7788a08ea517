//! Methods that are the same in both APIs, documentation included. Each macro stands in the `impl`
//! of the type it is named for.

/// Defines the methods that `LockGuard` has in both APIs.
macro_rules! guard_methods {
    () => {
        /// Returns the name of the lock.
        #[must_use]
        pub fn name(&self) -> &str {
            &self.inner.lock.name
        }

        /// Returns the memcached key of the lock's record, as it is sent to the server.
        #[must_use]
        pub fn key(&self) -> &[u8] {
            self.inner.lock.keys.lock().as_bytes()
        }

        /// Returns the fencing token: a number that rises with every acquisition of this name, over
        /// all clients. `None` when fencing is off for this lock.
        ///
        /// Send it with every write to the resource, and let the resource reject numbers lower than
        /// the highest it has seen. That keeps a holder which does not know that its lease is over
        /// from doing harm; nothing on the holder's side can. Fits a signed 64-bit column.
        #[must_use]
        pub fn fencing_token(&self) -> Option<u64> {
            self.inner.lock.grant.token
        }

        /// Returns how long the lock is certain without another renewal; zero once it is lost.
        #[must_use]
        pub fn remaining(&self) -> Duration {
            self.inner.remaining()
        }

        /// Returns `true` if the lock is certainly held at this instant. Sends nothing; reads the
        /// clock once.
        #[must_use]
        pub fn is_valid(&self) -> bool {
            !self.remaining().is_zero()
        }

        /// Checks that the lock is certain for at least `wanted` longer, without a renewal.
        ///
        /// # Errors
        /// The lock is lost, or less than `wanted` remains: [`kind`](LockError::kind) is
        /// [`Lost`](crate::ErrorKind::Lost).
        pub fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
            self.inner.ensure(wanted)
        }

        /// Returns the lease: how long the lock outlives a holder that dies.
        #[must_use]
        pub fn lease(&self) -> Duration {
            self.inner.lock.lease.duration()
        }

        /// Returns the holder's label in the record, see [`Lock::label`](super::Lock::label).
        #[must_use]
        pub fn label(&self) -> String {
            self.inner.lock.grant.owner.label()
        }

        /// Returns the holder as other clients see it ([`Client::holder`](super::Client::holder)) while
        /// the lock is held: the content of its own record. Sends nothing.
        ///
        /// The [`last_fencing_token`](crate::Holder::last_fencing_token) is the guard's own. A lock
        /// [without a record](super::Lock::without_record) has no data about its holder.
        #[must_use]
        pub fn holder(&self) -> Holder {
            self.inner.holder()
        }

        /// Detaches the lock, to move it to another process: it is not released, and not renewed any
        /// more, until [`attach`](Self::attach) makes a guard of the ticket.
        ///
        /// Meanwhile no process holds it, and its lease goes on: if no process attaches it by the end
        /// of the lease, the lock is free. Use the ticket once: two guards made of the same ticket
        /// would both be valid, because they are one lock to the server.
        ///
        /// The ticket is a capability: any process that has it can release the lock. Limits set with
        /// [`max_hold`](super::Lock::max_hold) and [`min_hold`](super::Lock::min_hold) belong to the
        /// handle and are not part of the ticket. The ticket of a lock that was lost before has no
        /// value, even if its record still exists: it says so, and `attach` rejects it.
        #[must_use = "without them, the lock can only run out"]
        pub fn detach(self) -> LockTicket {
            self.inner.detach()
        }
    };
}
pub(crate) use guard_methods;

/// Defines the methods that `Lock` has in both APIs.
macro_rules! lock_options {
    () => {
        /// Returns the name.
        #[must_use]
        pub fn name(&self) -> &str {
            &self.options.name
        }

        /// Sets the lease: how long the lock outlives a holder that dies (default: the client's
        /// default lease, 10 s unless set otherwise). While the holder lives, its renewer renews
        /// the lock every third of the lease.
        ///
        /// From 100 ms to 30 days; the first call that would acquire the lock reports any other
        /// value. A waiter takes the lock over as soon as it has seen the record unchanged for the
        /// lease and 2 % of it. A contender that comes later and does not wait finds the lock held
        /// for up to 5 s more, because memcached counts whole seconds.
        #[must_use]
        pub fn lease(mut self, lease: Duration) -> Self {
            self.options.lease = Some(lease);
            self
        }

        /// Limits how long the lock is held (default: no limit): however often it is renewed, it
        /// expires this long after its request was sent. A protection against programs that hang
        /// while they hold the lock.
        ///
        /// The guard never [remains](LockGuard::remaining) valid beyond that. At that instant
        /// [`lost`](LockGuard::lost) returns [`MaxHold`](crate::LossReason::MaxHold), and the
        /// renewer releases the lock, so that contenders need not wait for the end of its lease.
        ///
        /// The limit may be shorter than the lease. Every call that would acquire the lock rejects
        /// 0.
        #[must_use]
        pub fn max_hold(mut self, limit: Duration) -> Self {
            self.options.max_hold = Some(limit);
            self
        }

        /// Keeps the name unavailable for at least this long, even if the lock is released earlier
        /// (default: not at all). For jobs that every machine starts at the same time of day: a job
        /// that ends before another machine's clock reaches that time is not run twice. Choose more
        /// than the clocks differ by.
        ///
        /// The time counts from the acquisition. After an earlier release, drop or quiet release,
        /// the guard has ended as usual. A record left at the server keeps the name unavailable for
        /// the rest of the time, and expires by itself: at most 5 s later, because memcached counts
        /// whole seconds (and 1 % later if the time is minutes). If the holder dies, only the
        /// [lease](Self::lease) remains. A server that is restarted or flushed forgets the record.
        ///
        /// At most 30 days, and not together with [`without_record`](Self::without_record): every
        /// call that would acquire the lock rejects either. The release needs a little of the
        /// server's memory for the record, and fails if there is none (`-M`).
        #[must_use]
        pub fn min_hold(mut self, length: Duration) -> Self {
            self.options.min_hold = Some(length);
            self
        }

        /// Sets the holder's label in the record, for people to read (default: the client's label).
        /// At most 64 bytes are kept.
        #[must_use]
        pub fn label(mut self, label: impl Into<String>) -> Self {
            let config = &self.shared.inner.node.config;
            self.options.owner = Some(config.owner_labelled(&label.into()));
            self
        }

        /// Sets whether each acquisition draws a fencing token (default: yes). A token costs no
        /// round trip, one line in each direction.
        #[must_use]
        pub fn fencing(mut self, on: bool) -> Self {
            self.options.fencing = on;
            self
        }

        /// Acquires the lock without a record of the holder, without a fencing token and without
        /// the restart guard: the fewest bytes and requests that a lock can have. It takes one line
        /// in each direction to acquire it and one to release it.
        ///
        /// It excludes ordinary holders of the same name, and they exclude it. The limits are:
        ///
        /// - [`fencing_token`](LockGuard::fencing_token) is `None`, so the resource cannot
        ///   distinguish a late holder from its successor;
        /// - on a server that was restarted or flushed, two clients can hold it until the first
        ///   one's next renewal, or the end of its lease;
        /// - other clients see that the lock is held, but not by which client;
        /// - the server's `temporary_ttl` does not protect it from eviction, only free memory or
        ///   `-M` does: memcached decides when it creates an item, and this item is created without
        ///   an expiry.
        ///
        /// The lease must be at least 2 s. Servers before memcached 1.6.27 do not support it; there
        /// the lock has a record, and everything else is the same.
        #[must_use]
        pub fn without_record(mut self) -> Self {
            self.options.without_record = true;
            self
        }
    };
}
pub(crate) use lock_options;

/// Defines the methods that `MultiLockGuard` has in both APIs.
macro_rules! multi_lock_guard_methods {
    () => {
        /// Returns the names of the locks, in the order of their acquisition.
        pub fn names(&self) -> impl Iterator<Item = &str> {
            self.guards.iter().map(LockGuard::name)
        }

        /// Returns the guards of the locks, in the order of their acquisition.
        pub fn guards(&self) -> &[LockGuard] {
            &self.guards
        }

        /// Returns the guard of the lock of this name, if the multi-lock has one.
        #[must_use]
        pub fn get(&self, name: &str) -> Option<&LockGuard> {
            self.guards.iter().find(|guard| guard.name() == name)
        }

        /// Splits the multi-lock into single guards, in the order of their acquisition, so that a
        /// caller can release some of the locks earlier than others.
        #[must_use = "the locks are released as soon as their guards are dropped"]
        pub fn into_guards(mut self) -> Vec<LockGuard> {
            core::mem::take(&mut self.guards)
        }

        /// Returns the fencing token of the lock of this name, see [`LockGuard::fencing_token`].
        /// `None` also if the multi-lock has no lock of this name.
        #[must_use]
        pub fn fencing_token(&self, name: &str) -> Option<u64> {
            self.get(name)?.fencing_token()
        }

        /// Returns how long all of the locks are certain without another renewal; zero once one is
        /// lost.
        #[must_use]
        pub fn remaining(&self) -> Duration {
            let remaining = self.guards.iter().map(LockGuard::remaining);
            remaining.min().unwrap_or_default()
        }

        /// Returns `true` if all of the locks are certainly held at this instant. Sends nothing.
        #[must_use]
        pub fn is_valid(&self) -> bool {
            self.guards.iter().all(LockGuard::is_valid)
        }

        /// Checks that all of the locks are certain for at least `wanted` longer, without a
        /// renewal.
        ///
        /// # Errors
        /// One of the locks is lost, or less than `wanted` remains of it; the error names it.
        /// [`kind`](LockError::kind) is [`Lost`](crate::ErrorKind::Lost).
        pub fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
            self.guards
                .iter()
                .try_for_each(|guard| guard.ensure(wanted))
        }
    };
}
pub(crate) use multi_lock_guard_methods;

/// Defines the methods that `Client` has in both APIs.
macro_rules! client_methods {
    () => {
        /// Returns a builder with the default settings.
        #[must_use]
        pub fn builder() -> ClientBuilder<Self> {
            ClientBuilder::new()
        }

        /// Returns the lock of this name: a cheap handle. Sends nothing; the first call that would
        /// send something reports a name that cannot be used.
        ///
        /// Names have 1 to 1024 bytes and no control characters.
        #[must_use]
        pub fn lock(&self, name: impl Into<String>) -> Lock {
            Lock::new(Arc::clone(&self.shared), &name.into())
        }

        /// Returns counts of what has happened to this client since it was built, and its present
        /// state. Sends nothing.
        ///
        /// All handles of one client, and their locks, share these counts.
        #[must_use]
        pub fn stats(&self) -> ClientStats {
            self.inner().node.stats()
        }

        /// Returns the address of the server.
        #[must_use]
        pub fn server(&self) -> String {
            self.inner().node.config.address.to_string()
        }
    };
}
pub(crate) use client_methods;

/// Implements the traits of `LockGuard`.
macro_rules! impl_lock_guard {
    ($transport:ty) => {
        impl From<Guard<$transport>> for LockGuard {
            fn from(inner: Guard<$transport>) -> Self {
                Self { inner }
            }
        }

        impl fmt::Debug for LockGuard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("LockGuard")
                    .field("name", &self.name())
                    .field("fencing_token", &self.fencing_token())
                    .field("remaining", &self.remaining())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use impl_lock_guard;

/// Implements `Debug` for `Lock`.
macro_rules! impl_lock {
    () => {
        impl fmt::Debug for Lock {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Lock")
                    .field("name", &self.options.name)
                    .field("lease", &self.options.lease)
                    .field("fencing", &self.options.fencing)
                    .field("without_record", &self.options.without_record)
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use impl_lock;

/// Implements the traits of `MultiLockGuard`, and what its methods have in common.
macro_rules! impl_multi_lock_guard {
    ($transport:ty) => {
        impl fmt::Debug for MultiLockGuard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(&self.guards).finish()
            }
        }

        impl Drop for MultiLockGuard {
            fn drop(&mut self) {
                let guards = self.guards.drain(..).map(|guard| guard.inner);
                release_dropped(guards.collect());
            }
        }

        impl From<AcquiredLocks<$transport>> for MultiLockGuard {
            fn from(acquired: AcquiredLocks<$transport>) -> Self {
                let guards = acquired.guards.into_iter().map(LockGuard::from);
                Self {
                    guards: guards.collect(),
                    changed: acquired.changed,
                }
            }
        }

        impl MultiLockGuard {
            fn inner(&self) -> Vec<&Guard<$transport>> {
                self.guards.iter().map(|guard| &guard.inner).collect()
            }

            fn check_held(&self) -> Result<(), LockError> {
                let mut guards = self.guards.iter();
                guards.try_for_each(|guard| guard.inner.check_held())
            }

            async fn lost_until(&self, until: Option<Instant>) -> Option<(&str, LossReason)> {
                self.wait_until(until, |guard, now| {
                    let lock = &guard.inner.lock;
                    lock.loss(now).ok_or_else(|| lock.valid_until())
                })
                .await
            }

            async fn expiring_until(
                &self,
                margin: Duration,
                until: Option<Instant>,
            ) -> Option<(&str, Duration)> {
                self.wait_until(until, |guard, now| guard.inner.lock.expiring(margin, now))
                    .await
            }

            /// Waits until `look` finds something in one of the guards.
            async fn wait_until<V>(
                &self,
                until: Option<Instant>,
                look: impl Fn(&LockGuard, Instant) -> Result<V, Instant>,
            ) -> Option<(&str, V)> {
                let found = wait_any::<$transport, _, _>(&self.guards, &self.changed, until, look);
                let (index, found) = found.await?;
                Some((self.guards[index].name(), found))
            }
        }
    };
}
pub(crate) use impl_multi_lock_guard;

/// Implements the parts of `MultiLock` that wait for nothing.
macro_rules! impl_multi_lock {
    () => {
        impl fmt::Debug for MultiLock {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.names()).finish()
            }
        }

        impl Client {
            /// Returns the locks of these names, to be held together: a cheap handle. Sends nothing; the
            /// first call that would send something reports names that cannot be used.
            ///
            /// 1 to [`MultiLock::MAX_NAMES`] names, each once: a name that occurs twice is rejected,
            /// because locks are not reentrant.
            #[must_use]
            pub fn lock_all<I>(&self, names: I) -> MultiLock
            where
                I: IntoIterator,
                I::Item: AsRef<str>,
            {
                MultiLock::new(self, names)
            }
        }

        impl MultiLock {
            /// The maximum number of names in a multi-lock.
            pub const MAX_NAMES: usize = crate::engine::MAX_NAMES;

            fn new<I>(client: &Client, given: I) -> Self
            where
                I: IntoIterator,
                I::Item: AsRef<str>,
            {
                let mut locks: Vec<_> =
                    names(given).map(|name| client.lock(name).options).collect();
                sort_by_key(&mut locks);
                Self {
                    shared: Arc::clone(&client.shared),
                    locks,
                }
            }

            fn each(mut self, change: impl Fn(&mut LockOptions)) -> Self {
                self.locks.iter_mut().for_each(change);
                self
            }

            /// Sets how long each of the locks outlives a holder that dies, see
            /// [`Lock::lease`](super::Lock::lease).
            #[must_use]
            pub fn lease(self, lease: Duration) -> Self {
                self.each(|lock| lock.lease = Some(lease))
            }

            /// Limits how long each of the locks is held, see [`Lock::max_hold`](super::Lock::max_hold).
            /// The time of each lock counts from its own request, so the multi-lock ends with the lock that
            /// was acquired first. If the wait for the others takes longer than this, the acquisition
            /// starts over.
            #[must_use]
            pub fn max_hold(self, limit: Duration) -> Self {
                self.each(|lock| lock.max_hold = Some(limit))
            }

            /// Sets the holder's label in all records, see [`Lock::label`](super::Lock::label).
            #[must_use]
            pub fn label(self, label: impl Into<String>) -> Self {
                let owner = self.shared.inner.node.config.owner_labelled(&label.into());
                self.each(|lock| lock.owner = Some(owner.clone()))
            }

            /// Sets whether each of the locks has a fencing token, see
            /// [`Lock::fencing`](super::Lock::fencing).
            #[must_use]
            pub fn fencing(self, on: bool) -> Self {
                self.each(|lock| lock.fencing = on)
            }

            /// Returns the names, in the order of their acquisition.
            pub fn names(&self) -> impl Iterator<Item = &str> {
                self.locks.iter().map(|lock| &*lock.name)
            }
        }
    };
}
pub(crate) use impl_multi_lock;
