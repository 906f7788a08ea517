//! The locks of several names, not held.

use super::guard::LockGuard;
use super::multi_lock_guard::{MultiLockGuard, give_back, operation_timeout};
use super::{Client, Lock};
use crate::engine::multi_lock::{RestartBackoff, check, names, server_responded, sort_by_key};
use crate::engine::{Cause, Holder, LockError, clock};
use crate::proto::{Instant, WaitPolicy};
use core::fmt;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// The locks of several names, to be held together: a handle that knows how to acquire them.
///
/// Made by [`Client::lock_all`]. They are taken one behind the other, a round trip each if nobody
/// has them, and always in the same order: that of the bytes of their memcached keys, whatever
/// order they were named in. So sets never wait for each other in a circle: who waits for a lock
/// holds only such as come before it, in an order that is the same for every client. That holds
/// among sets; a program that acquires one more lock while it holds a set is on its own.
///
/// While one is waited for, those that were taken already are held and renewed. If one of these is
/// lost meanwhile, the others are given back within about a second, and it starts over. What was
/// taken is given back whenever it comes to nothing: what is held is all of them or none.
///
/// # Example
/// ```no_run
/// # fn example(client: memlatch::blocking::Client) -> Result<(), memlatch::LockError> {
/// use memlatch::MultiReleaseOutcome;
/// use std::time::Duration;
///
/// // Two transfers between the same accounts, in opposite directions, do not block each other
/// // for ever.
/// let accounts = client.lock_all(["account/17", "account/4"]);
/// let guard = accounts.acquire_timeout(Duration::from_secs(5))?;
/// guard.ensure(Duration::from_secs(1))?;
/// // … book it, with the fencing tokens of both …
/// let tokens = (guard.fencing_token("account/17"), guard.fencing_token("account/4"));
/// # println!("{tokens:?}");
/// match guard.release()? {
///     MultiReleaseOutcome::Released => {}
///     MultiReleaseOutcome::AlreadyLost { lost } => eprintln!("check what was booked: lost {lost:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MultiLock {
    /// In the order in which they are taken.
    locks: Vec<Lock>,
}

impl fmt::Debug for MultiLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.locks).finish()
    }
}

impl Client {
    /// The locks of these names, to be held together: a cheap handle. Nothing is sent, and names
    /// that cannot be used are reported by the first call that would send something.
    ///
    /// 1 to [`MultiLock::MAX_NAMES`] names, each once: a name given twice is refused, because locks
    /// are not reentrant.
    #[must_use]
    pub fn lock_all<I>(&self, names: I) -> MultiLock
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        MultiLock::new(self, names)
    }
}

/// Which of them was not to be had, and who held it, if that is known.
type Refusal = (Arc<str>, Option<Holder>);

/// One run through all of them.
enum AcquireRound {
    Taken(MultiLockGuard),
    /// One is held by another.
    Refused(Refusal),
    /// One that was taken was lost before all were.
    Lost(LockError),
}

impl MultiLock {
    /// The most names that a set can have.
    pub const MAX_NAMES: usize = crate::engine::multi_lock::MAX_NAMES;

    fn new<I>(client: &Client, given: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut locks: Vec<_> = names(given).map(|name| client.lock(name)).collect();
        sort_by_key(&mut locks, |lock| &lock.options);
        Self { locks }
    }

    fn each(mut self, change: impl Fn(Lock) -> Lock) -> Self {
        self.locks = self.locks.into_iter().map(change).collect();
        self
    }

    /// How long each of the locks outlives a holder that dies, see [`Lock::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.each(|lock| lock.lease(lease))
    }

    /// For how long at most each of the locks is held, see [`Lock::max_hold`]. It counts for each
    /// from when it was asked for, so the set is over with the lock that was taken first. Where the
    /// wait for the others takes longer than this, it starts over.
    #[must_use]
    pub fn max_hold(self, limit: Duration) -> Self {
        self.each(|lock| lock.max_hold(limit))
    }

    /// What the holder is called in all records, see [`Lock::label`].
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        let label = label.into();
        self.each(|lock| lock.label(label.as_str()))
    }

    /// Whether each of the locks has a fencing token, see [`Lock::fencing`].
    #[must_use]
    pub fn fencing(self, on: bool) -> Self {
        self.each(|lock| lock.fencing(on))
    }

    /// The names, in the order in which the locks are taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.locks.iter().map(Lock::name)
    }

    /// Acquires all of the locks, waiting for as long as others hold one of them. A
    /// [shutdown](Client::shutdown) of the client ends the wait.
    ///
    /// # Errors
    /// As [`Lock::acquire`], with the name of the lock that it is about; also where no name, too
    /// many or one twice are given.
    pub fn acquire(&self) -> Result<MultiLockGuard, LockError> {
        match self.run(WaitPolicy::Forever)? {
            Ok(guard) => Ok(guard),
            // Does not happen: who waits for ever is never refused.
            Err((name, holder)) => Err(self.timeout(&name, clock::monotonic(), holder)),
        }
    }

    /// Acquires all of the locks if nobody holds any: `None` if somebody does, or if others in this
    /// process wait for one already. Those that were taken until then are released before it
    /// returns.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire) and [`Lock::try_acquire`]. [`Lost`](crate::ErrorKind::Lost)
    /// where one that was taken was lost before the others were.
    pub fn try_acquire(&self) -> Result<Option<MultiLockGuard>, LockError> {
        Ok(self.run(WaitPolicy::Try)?.ok())
    }

    /// Acquires all of the locks, waiting at most `limit` for others, and one round trip more for
    /// each lock that is not taken by then.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`is_timeout`](LockError::is_timeout) when others held one of
    /// the locks all the time: the error names that one and its holder. Those that were taken until
    /// then are released before it returns, for which it waits at most the operation timeout; then
    /// the keeper goes on. [`Lost`](crate::ErrorKind::Lost) where one that was taken was lost and
    /// there was no time to start over.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<MultiLockGuard, LockError> {
        let began = clock::monotonic();
        match self.run(WaitPolicy::Until(began.after(limit)))? {
            Ok(guard) => Ok(guard),
            Err((name, holder)) => Err(self.timeout(&name, began, holder)),
        }
    }

    fn timeout(&self, name: &str, began: Instant, holder: Option<Holder>) -> LockError {
        match self.locks.first() {
            Some(lock) => lock.core().node.timeout(name, began, holder),
            // Does not happen: a set without locks was refused.
            None => LockError::new(Cause::Closed),
        }
    }

    fn run(&self, patience: WaitPolicy) -> Result<Result<MultiLockGuard, Refusal>, LockError> {
        // Before anything is sent: a set is not begun that cannot be had.
        check(&self.locks, |lock| &lock.options)?;
        for lock in &self.locks {
            lock.options.validate(&lock.core().node)?;
        }
        let mut starts = RestartBackoff::new(patience);
        loop {
            match self.round(patience)? {
                AcquireRound::Taken(guard) => return Ok(Ok(guard)),
                AcquireRound::Refused(refusal) => return Ok(Err(refusal)),
                AcquireRound::Lost(error) => {
                    let now = clock::monotonic();
                    let Some(at) = starts.next(now) else {
                        return Err(error);
                    };
                    std::thread::sleep(at.since(now));
                }
            }
        }
    }

    /// Takes one lock behind the other. What was taken is given back unless it was all.
    fn round(&self, patience: WaitPolicy) -> Result<AcquireRound, LockError> {
        let mut taken = AcquiredLocks {
            guards: Vec::with_capacity(self.locks.len()),
            patient: true,
        };
        for lock in &self.locks {
            let acquired = lock.run(patience, clock::now(), &taken.guards);
            let (guard, refused) = match acquired {
                Ok(Ok(guard)) => (Some(guard), None),
                Ok(Err(holder)) => (None, Some(holder)),
                Err(error) => {
                    taken.patient = server_responded(&error);
                    return Err(error);
                }
            };
            taken.guards.extend(guard);
            // A loss counts first: it may be why the rest was not to be had.
            if let Some(error) = taken.lost() {
                return Ok(AcquireRound::Lost(error));
            }
            if let Some(holder) = refused {
                return Ok(AcquireRound::Refused((
                    Arc::clone(&lock.options.name),
                    holder,
                )));
            }
        }
        Ok(AcquireRound::Taken(MultiLockGuard::new(
            taken.into_guards(),
        )))
    }
}

/// Those that were taken until now. Dropping it gives them back.
struct AcquiredLocks {
    guards: Vec<LockGuard>,
    /// Whether the answers are waited for.
    patient: bool,
}

impl Drop for AcquiredLocks {
    fn drop(&mut self) {
        let guards = core::mem::take(&mut self.guards);
        if let Some(limit) = operation_timeout(&guards) {
            give_back(guards, if self.patient { limit } else { Duration::ZERO });
        }
    }
}

impl AcquiredLocks {
    /// The error of the first that is lost.
    fn lost(&self) -> Option<LockError> {
        let now = clock::monotonic();
        let mut guards = self.guards.iter();
        guards.find_map(|guard| guard.held().check_held(now).err())
    }

    fn into_guards(mut self) -> Vec<LockGuard> {
        core::mem::take(&mut self.guards)
    }
}
