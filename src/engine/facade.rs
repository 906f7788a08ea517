//! The methods that are the same in both APIs, documents included. Each macro stands in the `impl` of
//! the type that it is named for.

/// The methods of a `LockGuard` that differ in no API.
macro_rules! guard_methods {
    () => {
        /// The name of the lock.
        #[must_use]
        pub fn name(&self) -> &str {
            &self.inner.lock.name
        }

        /// The memcached key of the lock's record, as it stands on the wire.
        #[must_use]
        pub fn key(&self) -> &[u8] {
            self.inner.lock.keys.lock().as_bytes()
        }

        /// The fencing token: a number that rises with every acquisition of this name, over all
        /// clients. `None` when fencing is off for this lock.
        ///
        /// Send it with every write to the resource, and let the resource refuse numbers lower than
        /// the highest it has seen. That keeps a holder which does not know that its time is over from
        /// doing harm; nothing on the holder's side can. Fits a signed 64-bit column.
        #[must_use]
        pub fn fencing_token(&self) -> Option<u64> {
            self.inner.lock.grant.token
        }

        /// How long the lock is certain without another renewal; nothing once it is lost.
        #[must_use]
        pub fn remaining(&self) -> Duration {
            self.inner.remaining()
        }

        /// Whether the lock is held for sure at this instant. Asks nobody; costs a look at the clock.
        #[must_use]
        pub fn is_valid(&self) -> bool {
            !self.remaining().is_zero()
        }

        /// Checks that the lock is certain for at least `wanted` longer, without a renewal.
        ///
        /// # Errors
        /// It is lost, or nearer to its end than that. [`kind`](LockError::kind) is
        /// [`Lost`](crate::ErrorKind::Lost).
        pub fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
            self.inner.ensure(wanted)
        }

        /// The lease: how long the lock outlives a holder that dies.
        #[must_use]
        pub fn lease(&self) -> Duration {
            self.inner.lock.lease.duration()
        }
    };
}
pub(crate) use guard_methods;

/// The methods of a `Lock` that differ in no API.
macro_rules! lock_options {
    () => {
        /// The name.
        #[must_use]
        pub fn name(&self) -> &str {
            &self.options.name
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
    };
}
pub(crate) use lock_options;

/// The methods of a `MultiLockGuard` that differ in no API.
macro_rules! multi_lock_guard_methods {
    () => {
        /// The names of the locks, in the order in which they were taken.
        pub fn names(&self) -> impl Iterator<Item = &str> {
            self.guards.iter().map(LockGuard::name)
        }

        /// The guards of the locks, in the order in which they were taken.
        pub fn guards(&self) -> &[LockGuard] {
            &self.guards
        }

        /// The guard of the lock of this name, if it is one of these.
        #[must_use]
        pub fn get(&self, name: &str) -> Option<&LockGuard> {
            self.guards.iter().find(|guard| guard.name() == name)
        }

        /// Makes single guards of it, in the order in which the locks were taken: for who is done with
        /// some of them earlier than with others.
        #[must_use = "the locks are given back as soon as their guards are dropped"]
        pub fn into_guards(mut self) -> Vec<LockGuard> {
            core::mem::take(&mut self.guards)
        }

        /// The fencing token of the lock of this name, see [`LockGuard::fencing_token`]. `None` also
        /// where the name is none of these.
        #[must_use]
        pub fn fencing_token(&self, name: &str) -> Option<u64> {
            self.get(name)?.fencing_token()
        }

        /// How long all of the locks are certain without another renewal; nothing once one is lost.
        #[must_use]
        pub fn remaining(&self) -> Duration {
            let remaining = self.guards.iter().map(LockGuard::remaining);
            remaining.min().unwrap_or_default()
        }

        /// Whether all of the locks are held for sure at this instant. Asks nobody.
        #[must_use]
        pub fn is_valid(&self) -> bool {
            self.guards.iter().all(LockGuard::is_valid)
        }

        /// Checks that all of the locks are certain for at least `wanted` longer, without a renewal.
        ///
        /// # Errors
        /// One is lost, or nearer to its end than that: the error names it. [`kind`](LockError::kind)
        /// is [`Lost`](crate::ErrorKind::Lost).
        pub fn ensure(&self, wanted: Duration) -> Result<(), LockError> {
            self.guards
                .iter()
                .try_for_each(|guard| guard.ensure(wanted))
        }
    };
}
pub(crate) use multi_lock_guard_methods;

/// The methods of a `Client` that differ in no API.
macro_rules! client_methods {
    () => {
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

        /// How often what has happened to this client since it was built, and what is the case now.
        /// Asks nobody.
        ///
        /// All handles of one client, and their locks, count together.
        #[must_use]
        pub fn stats(&self) -> ClientStats {
            self.inner().node.stats()
        }

        /// The address of the server.
        #[must_use]
        pub fn server(&self) -> String {
            self.inner().node.config.address.to_string()
        }
    };
}
pub(crate) use client_methods;
