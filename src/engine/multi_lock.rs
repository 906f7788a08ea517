//! Multi-locks: the order of acquisition, the maximum number of locks, and when to start over.

use super::acquire::Beside;
use super::client::{ClientHandle, ClientInner, Transport};
use super::clock;
use super::config_error::{MAX_NAMES, MultiLockError};
use super::error::{Cause, LockError};
use super::exchange::{Timeout, run};
use super::guard::Guard;
use super::holder::Holder;
use super::lock_state::ReleaseOutcome;
use super::notify::Notify;
use super::options::LockOptions;
use super::pending_acquire::Acquired;
use super::release::{EndedLock, RELEASE_LIMIT};
use crate::proto::{Backoff, Batch, Instant, LossReason, Now, Verify, WaitPolicy};
use core::time::Duration;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// The outcome of a release of several locks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lock that was lost before its release may have been held by two"]
pub enum MultiReleaseOutcome {
    /// All locks were held to the end and are free now.
    Released,
    /// Some locks had been lost before; the others are free now.
    AlreadyLost {
        /// Their names and the reasons, in the order of acquisition.
        lost: Vec<(String, LossReason)>,
    },
}

/// Takes names from a list, no more than are needed to see that there are too many.
pub(crate) fn names<I>(names: I) -> impl Iterator<Item = String>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    names
        .into_iter()
        .take(MAX_NAMES + 1)
        .map(|name| name.as_ref().into())
}

/// Sorts locks into the order of acquisition: that of the bytes of their keys, which is the same
/// for every client, whatever order the names were given in. So no two acquisitions wait for each
/// other in a circle: a waiter for a key holds only locks with lower keys.
pub(crate) fn sort_by_key(locks: &mut [LockOptions]) {
    // Names that cannot be used come first, so that the acquisition finds them before it sends
    // anything.
    locks.sort_by(|a, b| key(a).cmp(&key(b)));
}

fn key(options: &LockOptions) -> Option<&[u8]> {
    let keys = options.keys.as_ref().ok()?;
    Some(keys.lock().as_bytes())
}

/// Checks that sorted locks can be acquired together.
fn check(locks: &[LockOptions]) -> Result<(), LockError> {
    let error = |error| LockError::new(Cause::Set(error));
    if locks.is_empty() {
        return Err(error(MultiLockError::Empty));
    }
    if locks.len() > MAX_NAMES {
        return Err(error(MultiLockError::TooMany));
    }
    for two in locks.windows(2) {
        let (first, second) = (&two[0], &two[1]);
        if key(first).is_some() && key(first) == key(second) {
            return Err(error(MultiLockError::Twice).with_name(&second.name));
        }
    }
    Ok(())
}

/// The pause between the loss of an acquired lock and the next start: the first one, and the
/// longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(640));

/// The starts of an acquisition of several locks.
#[derive(Debug)]
pub(crate) struct RestartBackoff {
    patience: WaitPolicy,
    failed: u32,
}

impl RestartBackoff {
    pub(crate) const fn new(patience: WaitPolicy) -> Self {
        Self {
            patience,
            failed: 0,
        }
    }

    /// Returns when to start over after a lock was lost while the others were acquired, if there is
    /// time.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let (first, longest) = PAUSES;
        let pause = Backoff::doubling(first, longest, self.failed);
        self.failed += 1;
        let at = now.after(pause);
        match self.patience {
            WaitPolicy::Try => None,
            WaitPolicy::Until(end) => Some(at).filter(|at| *at < end),
            WaitPolicy::Forever => Some(at),
        }
    }
}

/// Combines the outcomes of several releases, in the order of acquisition: the first error, or the
/// outcome of all.
pub(crate) fn outcome(
    released: impl IntoIterator<Item = (Arc<str>, Result<ReleaseOutcome, LockError>)>,
) -> Result<MultiReleaseOutcome, LockError> {
    let mut lost = Vec::new();
    for (name, outcome) in released {
        match outcome? {
            ReleaseOutcome::Released => {}
            ReleaseOutcome::AlreadyLost { reason } => lost.push((String::from(&*name), reason)),
        }
    }
    Ok(if lost.is_empty() {
        MultiReleaseOutcome::Released
    } else {
        MultiReleaseOutcome::AlreadyLost { lost }
    })
}

/// Returns whether an acquisition that ended with this error leaves a server that replies.
pub(crate) fn server_responded(error: &LockError) -> bool {
    !error.is_unavailable() && !error.is_unknown()
}

/// Locks that were acquired together, and the notifier of their waiters.
#[derive(Debug)]
pub(crate) struct AcquiredLocks<T: Transport> {
    pub(crate) guards: Vec<Guard<T>>,
    /// Notified when any of the locks changes.
    pub(crate) changed: Arc<Notify>,
}

/// The name of a lock that another client holds, and its holder.
type ContendedLock = (Arc<str>, Option<Holder>);

/// The end of an acquisition of several locks without an error.
enum MultiAcquired<T: Transport> {
    Granted(AcquiredLocks<T>),
    Contended(ContendedLock),
}

/// The end of one attempt to acquire all locks.
enum AcquireRound<T: Transport> {
    Ended(MultiAcquired<T>),
    /// A lock was lost before the last one was acquired.
    Lost(LockError),
}

impl<T: Transport> ClientHandle<T> {
    /// Acquires all of these locks, waiting for as long as others hold one.
    pub(crate) async fn acquire_all(
        self: &Arc<Self>,
        locks: &[LockOptions],
    ) -> Result<AcquiredLocks<T>, LockError> {
        self.acquire_all_or_time_out(locks, WaitPolicy::Forever, clock::monotonic())
            .await
    }

    /// Acquires all of these locks if no other holds one.
    pub(crate) async fn try_acquire_all(
        self: &Arc<Self>,
        locks: &[LockOptions],
    ) -> Result<Option<AcquiredLocks<T>>, LockError> {
        Ok(match self.acquire_together(locks, WaitPolicy::Try).await? {
            MultiAcquired::Granted(acquired) => Some(acquired),
            MultiAcquired::Contended(_) => None,
        })
    }

    /// Acquires all of these locks, waiting at most `limit` for others.
    pub(crate) async fn acquire_all_timeout(
        self: &Arc<Self>,
        locks: &[LockOptions],
        limit: Duration,
    ) -> Result<AcquiredLocks<T>, LockError> {
        let began = clock::monotonic();
        self.acquire_all_or_time_out(locks, WaitPolicy::Until(began.after(limit)), began)
            .await
    }

    async fn acquire_all_or_time_out(
        self: &Arc<Self>,
        locks: &[LockOptions],
        wait: WaitPolicy,
        began: Instant,
    ) -> Result<AcquiredLocks<T>, LockError> {
        match self.acquire_together(locks, wait).await? {
            MultiAcquired::Granted(acquired) => Ok(acquired),
            MultiAcquired::Contended((name, holder)) => {
                Err(self.inner.node.timeout(&name, began, holder))
            }
        }
    }

    async fn acquire_together(
        self: &Arc<Self>,
        locks: &[LockOptions],
        wait: WaitPolicy,
    ) -> Result<MultiAcquired<T>, LockError> {
        // Before anything is sent: no lock is acquired if not all can be.
        check(locks)?;
        for lock in locks {
            lock.validate(&self.inner.node)?;
        }
        let mut backoff = RestartBackoff::new(wait);
        loop {
            match self.acquire_round(locks, wait).await? {
                AcquireRound::Ended(acquired) => return Ok(acquired),
                AcquireRound::Lost(error) => match backoff.next(clock::monotonic()) {
                    Some(at) => T::sleep(at).await,
                    None => return Err(error),
                },
            }
        }
    }

    /// Acquires the locks in order. If the next lock cannot be acquired, the acquired ones are
    /// released.
    ///
    /// # Cancel safety
    /// Dropping the future releases the acquired locks.
    async fn acquire_round(
        self: &Arc<Self>,
        locks: &[LockOptions],
        wait: WaitPolicy,
    ) -> Result<AcquireRound<T>, LockError> {
        let changed = Arc::new(Notify::new());
        let mut acquired = AcquiredLocks {
            guards: Vec::with_capacity(locks.len()),
            changed,
        };
        for lock in locks {
            let beside = Some(Beside {
                guards: &acquired.guards,
                changed: &acquired.changed,
            });
            let beside = beside.filter(|beside| !beside.guards.is_empty());
            let result = self.acquire_beside(lock, wait, clock::now(), beside).await;
            let contended = match result {
                Ok(Acquired::Granted(guard)) => {
                    guard.lock.changed.chain(Arc::clone(&acquired.changed));
                    acquired.guards.push(guard);
                    None
                }
                Ok(Acquired::Contended(holder)) => Some(holder),
                Err(error) => {
                    // A server that does not reply would not reply to the releases either.
                    if server_responded(&error) {
                        self.release_acquired(acquired).await;
                    }
                    return Err(error);
                }
            };
            // A loss comes first: it may be the reason why the next lock was not acquired.
            let mut guards = acquired.guards.iter();
            if let Some(error) = guards.find_map(|guard| guard.check_held().err()) {
                self.release_acquired(acquired).await;
                return Ok(AcquireRound::Lost(error));
            }
            if let Some(holder) = contended {
                self.release_acquired(acquired).await;
                let contended = MultiAcquired::Contended((Arc::clone(&lock.name), holder));
                return Ok(AcquireRound::Ended(contended));
            }
        }
        let guards = acquired.guards.iter();
        let scheduler = &self.inner.node.scheduler;
        scheduler.group(guards.map(|guard| (guard.index, Arc::clone(&guard.lock))));
        Ok(AcquireRound::Ended(MultiAcquired::Granted(acquired)))
    }

    /// Releases the locks, for at most an operation timeout. The renewer does the rest.
    async fn release_acquired(&self, acquired: AcquiredLocks<T>) {
        let limit = self.inner.node.config.operation_timeout;
        // The outcomes were reported.
        drop(release_all(acquired.guards, limit).await);
    }
}

/// The outcome of the release of one lock, with its name.
type Release = (Arc<str>, Result<ReleaseOutcome, LockError>);

/// Releases locks together within `limit`, the last one first. The outcomes are in the order of the
/// guards.
///
/// # Cancel safety
/// Dropping the future leaves the releases to the renewer.
pub(crate) async fn release_all<T: Transport>(
    mut guards: Vec<Guard<T>>,
    limit: Duration,
) -> Vec<Release> {
    let Some(handle) = guards.first().map(|guard| Arc::clone(&guard.handle)) else {
        return Vec::new();
    };
    let now = clock::now();
    let limit = now.monotonic.after(limit);
    let backwards = guards.iter_mut().rev();
    let ended: Vec<_> = backwards
        .map(|guard| guard.begin_release(now.monotonic, limit))
        .collect();
    let mut released = handle.inner.release_batch(&ended, now).await;
    guards.iter_mut().for_each(Guard::set_released);
    released.reverse();
    released
}

/// Releases the locks of a multi-lock guard, waiting as long as the release of one lock may.
///
/// # Cancel safety
/// As for [`release_all`].
pub(crate) async fn release_together<T: Transport>(guards: Vec<Guard<T>>) -> Vec<Release> {
    let Some(guard) = guards.first() else {
        return Vec::new();
    };
    let limit = guard.client().node.config.operation_timeout;
    release_all(guards, RELEASE_LIMIT.max(limit)).await
}

/// Releases the locks of a multi-lock guard that is dropped, the last one first.
pub(crate) fn release_dropped<T: Transport>(mut guards: Vec<Guard<T>>) {
    if !T::BLOCKS {
        while guards.pop().is_some() {}
        return;
    }
    if let Some(guard) = guards.first() {
        let limit = guard.client().node.config.operation_timeout;
        // The outcomes were reported.
        drop(run(release_all(guards, limit)));
    }
}

/// Waits until `look` returns a value for one of these guards, and until `until` at the latest. The
/// error of `look` is the instant of its next look.
pub(crate) async fn wait_any<T: Transport, G, V>(
    guards: &[G],
    changed: &Notify,
    until: Option<Instant>,
    look: impl Fn(&G, Instant) -> Result<V, Instant>,
) -> Option<(usize, V)> {
    loop {
        let seen = changed.generation();
        let now = clock::monotonic();
        let mut next = until;
        for (index, guard) in guards.iter().enumerate() {
            match look(guard, now) {
                Ok(found) => return Some((index, found)),
                Err(again) => next = Some(next.map_or(again, |next| next.min(again))),
            }
        }
        if until.is_some_and(|until| now >= until) {
            return None;
        }
        T::wait(changed, seen, next).await;
    }
}

/// Renews all of these locks; returns the first error, in their order, if there is one.
pub(crate) async fn renew_all<T: Transport>(guards: &[&Guard<T>]) -> Result<(), LockError> {
    // All renewals are requested before the first is waited for.
    let requested: Vec<_> = guards.iter().map(|guard| guard.request_renewal()).collect();
    let mut first = Ok(());
    for (guard, requested) in guards.iter().zip(requested) {
        let renewed = match requested {
            Ok(requested) => guard.renewed(requested).await.map(drop),
            Err(error) => Err(error),
        };
        first = first.and(renewed);
    }
    first
}

/// Asks the server in one flight whether all of these locks are still held.
pub(crate) async fn verify_all<T: Transport>(guards: &[&Guard<T>]) -> Result<(), LockError> {
    let Some(first) = guards.first() else {
        return Ok(());
    };
    let now = clock::now();
    for guard in guards {
        guard.lock.check_held(now.monotonic)?;
    }
    let looks = guards.iter().map(|guard| &guard.lock);
    let mut looks = Batch::new(looks.map(|lock| Verify::new(&lock.keys, &lock.grant)));
    let keys = Some(&first.lock.keys);
    let driven = first
        .client()
        .drive(&mut looks, keys, now, Timeout::Unlimited);
    let mut silence = driven.await.err();
    let mut verified = Ok(());
    for (guard, outcome) in guards.iter().zip(looks.outcomes()) {
        let result = match outcome {
            Some(outcome) => guard.verified(outcome),
            None => silence
                .take()
                .map_or(Ok(()), |error| Err(error.with_name(&guard.lock.name))),
        };
        verified = verified.and(result);
    }
    verified
}

impl<T: Transport> ClientInner<T> {
    /// Releases ended locks in one flight.
    async fn release_batch(&self, ended: &[EndedLock], mut now: Now) -> Vec<Release> {
        let mut batch = Vec::new();
        for (place, one) in ended.iter().enumerate() {
            if one.known.is_some() || one.handed_off || now.monotonic >= one.deadline {
                continue;
            }
            if let Some(cas) = self.settled_cas(&one.lock, &mut now, one.deadline).await {
                batch.push((place, cas));
            }
        }
        let requests = batch.iter().map(|(place, cas)| {
            let one = &ended[*place];
            one.lock.release_operation(*cas, one.deadline)
        });
        let mut requests = Batch::new(requests);
        let latest = ended.iter().map(|one| one.deadline).max();
        let timeout = latest.map_or(Timeout::Unlimited, Timeout::Deadline);
        let mut silence = None;
        if let Some((place, _)) = batch.first() {
            let keys = Some(&ended[*place].lock.keys);
            let driven = self.drive(&mut requests, keys, clock::now(), timeout);
            silence = driven.await.err();
        }
        let mut replies: Vec<_> = ended.iter().map(|_| None).collect();
        for ((place, _), reply) in batch.iter().zip(requests.outcomes()) {
            replies[*place] = Some(reply);
        }
        let mut results = Vec::with_capacity(ended.len());
        for (one, reply) in ended.iter().zip(replies) {
            let lock = &one.lock;
            let result = match (one.known, reply) {
                (Some(known), _) => Ok(known),
                (None, _) if one.handed_off => self.handoff_outcome(lock, one.deadline).await,
                // A renewal is under way, or there was no time at all.
                (None, None) => Err(self.node.no_reply_error(false, None)),
                (None, Some(reply)) => {
                    self.notify_free(lock);
                    match reply {
                        Some(released) => self.released(lock, released),
                        None => Err(silence
                            .take()
                            .unwrap_or_else(|| self.node.no_reply_error(true, None))),
                    }
                }
            };
            let result = result.map_err(|error| error.with_name(&lock.name));
            if let Some(error) = result.as_ref().err().filter(|_| !one.handed_off) {
                self.release_failed(lock, error);
            }
            results.push((Arc::clone(&lock.name), result));
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Namespace;
    use std::format;
    use std::string::ToString;

    fn in_order(given: &[&str]) -> Vec<LockOptions> {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut wishes: Vec<_> = names(given.iter().copied())
            .map(|name| LockOptions::new(&name, &namespace))
            .collect();
        sort_by_key(&mut wishes);
        wishes
    }

    fn order(given: &[&str]) -> Vec<String> {
        let wishes = in_order(given);
        wishes
            .iter()
            .map(|options| options.name.to_string())
            .collect()
    }

    fn wrong(given: &[&str]) -> Option<String> {
        let checked = check(&in_order(given));
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn locks_are_ordered_by_key() {
        // Escaped characters start with `%` in the key.
        let expected = ["\u{fc}", "A", "a", "a/1", "b"];
        assert_eq!(order(&expected), expected);
        let mut backwards = expected;
        backwards.reverse();
        assert_eq!(order(&backwards), expected);
    }

    #[test]
    fn bad_lock_sets_are_refused() {
        assert_eq!(wrong(&["a", "b"]), None);
        let text = wrong(&[]).expect("nothing is named");
        assert!(text.contains("1 to 64"), "{text}");
        let text = wrong(&["b", "a", "c", "b"]).expect("named twice");
        assert!(text.starts_with("lock `b`: named twice"), "{text}");
        let many: Vec<_> = (0..65).map(|number| format!("{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(wrong(&many[..64]), None);
        let text = wrong(&many).expect("too many");
        assert!(text.contains("at most 64"), "{text}");
        // A name's own check reports that it cannot be used.
        assert_eq!(wrong(&["", "", "a"]), None);
    }

    #[test]
    fn endless_name_list_is_cut() {
        assert_eq!(names(core::iter::repeat("a")).count(), MAX_NAMES + 1);
    }

    #[test]
    fn restarts_back_off_until_deadline() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert_eq!(RestartBackoff::new(WaitPolicy::Try).next(at(0)), None);
        let mut starts = RestartBackoff::new(WaitPolicy::Until(at(100)));
        assert_eq!(starts.next(at(0)), Some(at(10)));
        assert_eq!(starts.next(at(50)), Some(at(70)));
        assert_eq!(starts.next(at(70)), None);
        let mut starts = RestartBackoff::new(WaitPolicy::Forever);
        let last = (0..100).map(|_| starts.next(at(0))).last();
        assert_eq!(last, Some(Some(at(640))));
    }

    #[test]
    fn first_error_and_all_losses_reported() {
        let reason = LossReason::Missing;
        let lost = || Ok(ReleaseOutcome::AlreadyLost { reason });
        let released = || Ok(ReleaseOutcome::Released);
        let failed = || Err(LockError::new(Cause::Closed).with_name("c"));
        let all = |results: [Result<ReleaseOutcome, LockError>; 3]| {
            outcome(["a", "b", "c"].map(Arc::from).into_iter().zip(results))
        };
        let found = all([released(), released(), released()]);
        assert_eq!(found.expect("no error"), MultiReleaseOutcome::Released);
        let found = all([lost(), released(), lost()]).expect("no error");
        let names = [("a".into(), reason), ("c".into(), reason)];
        let lost_two = MultiReleaseOutcome::AlreadyLost { lost: names.into() };
        assert_eq!(found, lost_two);
        let error = all([lost(), released(), failed()]).expect_err("one failed");
        assert!(error.to_string().starts_with("lock `c`"), "{error}");
    }
}
